"""The Supabase client, as we make it: with our HTTP client, and loaded without what no request of ours needs."""

from __future__ import annotations

import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import httpx

from shared.database.failures import speaks_for_itself

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pydantic import SecretStr


@contextmanager
def _not_there(module: str) -> Iterator[None]:
    """Let imports find that an optional module is missing, if nobody has loaded it yet."""
    if module in sys.modules:
        yield
        return
    sys.modules[module] = None  # type: ignore[assignment]  # what the import system takes for missing
    try:
        yield
    finally:
        del sys.modules[module]


# The client loads its auth part, that loads PyJWT, and that loads cryptography if it is there, to verify sessions of
# users. There are none here: a service key is no session. A fifteenth of a cold start.
with _not_there("cryptography"):
    from supabase import AsyncClient, AsyncClientOptions, PostgrestAPIError

__all__ = ["PostgrestAPIError", "stop_at_the_gateway", "supabase_client"]


async def stop_at_the_gateway(response: httpx.Response) -> None:
    """Raise for whatever is no answer of the database's own: the Supabase client forgets the status of a JSON error."""
    if not response.is_success and not speaks_for_itself(await response.aread()):
        # Not raise_for_status: it lets a redirect without an address through.
        raise httpx.HTTPStatusError("not the database's answer", request=response.request, response=response)


def supabase_client(url: str, key: SecretStr, http: httpx.AsyncClient) -> AsyncClient:
    """The Supabase client over our HTTP client: without its 120 s time-out, and a gateway's answers told apart."""
    http.event_hooks = {"response": [stop_at_the_gateway]}
    options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
    return AsyncClient(url, key.get_secret_value(), options)

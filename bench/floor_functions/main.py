"""Floors under the same framework: an empty function that imports the Supabase client, and the raw calls of an event."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING

import supabase
from functions_framework import aio

if TYPE_CHECKING:
    import aiohttp
    from starlette.requests import Request

_KEY = os.environ.get("SUPABASE_SERVICE_ROLE_KEY", "")
_PROVIDER = os.environ.get("WAPI_BASE_URL", "")
_RPC = f"{os.environ.get('SUPABASE_URL', '')}/rest/v1/rpc/"
_HEADERS = {"apikey": _KEY, "Authorization": f"Bearer {_KEY}", "Content-Type": "application/json"}
_sessions: list[aiohttp.ClientSession] = []


@aio.http
async def empty(_request: Request) -> str:
    """Answer, and nothing else."""
    return supabase.__name__


@aio.http
async def raw_event(request: Request) -> str:
    """Hand the body on to one SQL function that inserts the rows that we insert."""
    if request.url.path == "/health":
        return "ok"
    await _rpc("bench_insert_event", await request.body())
    return "ok"


@aio.http
async def raw_disconnection(request: Request) -> str:
    """The calls of a disconnection that the provider denies: keep it, ask about status and device, keep the answer."""
    if request.url.path == "/health":
        return "ok"
    body = await request.body()
    await _rpc("bench_insert_event", body)
    line = json.loads(body)["instanceId"]
    for call in ("status-instance", "device"):
        async with _session().get(
            f"{_PROVIDER}/instance/{call}",
            params={"instanceId": line},
            headers={"Authorization": f"Bearer bench-token-{int(line[-6:])}"},
        ) as answer:
            answer.raise_for_status()
            await answer.json()
    await _rpc("bench_settle_event", body)
    return "ok"


def _session() -> aiohttp.ClientSession:
    if not _sessions:
        import aiohttp  # noqa: PLC0415 - the empty function is measured without it

        _sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    return _sessions[0]


async def _rpc(name: str, body: bytes) -> None:
    async with _session().post(_RPC + name, headers=_HEADERS, data=body) as answer:
        answer.raise_for_status()
        await answer.read()

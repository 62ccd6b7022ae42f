"""Floors under the same framework: an empty function that imports the Supabase client, and one raw RPC an event."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import supabase
from functions_framework import aio

if TYPE_CHECKING:
    import aiohttp
    from starlette.requests import Request

_KEY = os.environ.get("SUPABASE_SERVICE_ROLE_KEY", "")
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
    if not _sessions:
        import aiohttp  # noqa: PLC0415 - the empty function is measured without it

        _sessions.append(aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)))
    async with _sessions[0].post(_RPC + "bench_insert_event", headers=_HEADERS, data=await request.body()) as answer:
        answer.raise_for_status()
        return await answer.text()

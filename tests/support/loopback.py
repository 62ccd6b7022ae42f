"""HTTP to the servers of a test. One client for all: to make one reads every authority of the web, for nothing.

No connection is kept: servers are killed and started on the same port, and one that has waited long enough for its next
request hangs up, on a busy machine just when that is sent. The server is asked to hang up: where the pool does it, one thread may
close what another reads.
"""

from __future__ import annotations

import ssl
from typing import Any, Final

import httpx
from waiting import GENEROUS_SECONDS

_NO_AUTHORITIES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
_NONE_KEPT: Final = httpx.Limits(max_connections=None, max_keepalive_connections=0)


def a_client(**how: Any) -> httpx.Client:
    """A client of one's own."""
    usual = {
        "trust_env": False,
        "verify": _NO_AUTHORITIES,
        "timeout": GENEROUS_SECONDS,
        "limits": _NONE_KEPT,
        "headers": {"Connection": "close"},
    }
    return httpx.Client(**usual | how)


http: Final = a_client()
"""Threads may share it."""

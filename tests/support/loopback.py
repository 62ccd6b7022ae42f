"""HTTP to the servers of a test. One client for all: to make one reads every authority of the web, for nothing."""

from __future__ import annotations

import ssl
from typing import Any, Final

import httpx
from waiting import GENEROUS_SECONDS

_NO_AUTHORITIES: Final = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)


def a_client(**how: Any) -> httpx.Client:
    """A client of one's own, for whoever holds connections."""
    return httpx.Client(**{"trust_env": False, "verify": _NO_AUTHORITIES, "timeout": GENEROUS_SECONDS} | how)


http: Final = a_client(limits=httpx.Limits(max_connections=None, max_keepalive_connections=0))
"""Threads may share it. No connection is kept: servers are killed and started on the same port."""

"""Serves an ASGI application on loopback, in a thread and an event loop of its own."""

from __future__ import annotations

import socket
import threading
import time
from typing import TYPE_CHECKING, Any

import uvicorn
from uvicorn.protocols.http.h11_impl import H11Protocol

from dev.processes import LOOPBACK, StackError

if TYPE_CHECKING:
    import asyncio

    from starlette.types import ASGIApp

START_SECONDS = 60
KEEP_ALIVE_SECONDS = 75
"""Longer than any client's pool keeps a connection, as real gateways do: none is closed under its user."""


class AbortableProtocol(H11Protocol):
    """Lets the application reach the connection, to reset it: ``scope["state"]["transport"]``."""

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Keep the connection where the application finds it."""
        super().connection_made(transport)
        self.app_state = {**self.app_state, "transport": transport}


def bound_socket(port: int) -> socket.socket:
    """A loopback socket that listens already; port 0 takes a free one. Nobody can take the port in between."""
    # The protocol is named because asyncio sets TCP_NODELAY only then; without it answers wait 40 ms.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((LOOPBACK, port))
        listener.listen(2048)
    except OSError:
        listener.close()
        raise
    return listener


def config_of(app: ASGIApp, **differently: Any) -> uvicorn.Config:  # noqa: ANN401 - uvicorn's own arguments
    """What our servers have in common: quiet, no websockets, what never ends is cut off when the server ends."""
    return uvicorn.Config(
        app,
        **{
            "access_log": False,
            "lifespan": "on",
            "log_config": None,
            "log_level": "critical",
            "server_header": False,
            "timeout_graceful_shutdown": 0,
            "timeout_keep_alive": KEEP_ALIVE_SECONDS,
            "ws": "none",
            **differently,
        },
    )


class ThreadServer:
    """A server in a thread. Its port is known, and taken, before it starts.

    Args:
        config: From ``config_of``.
        name: Of the thread, and in errors.
        port: 0 takes a free one.

    Attributes:
        port: Where it answers.
        url: ``http://127.0.0.1:<port>``, no slash at the end.
    """

    def __init__(self, config: uvicorn.Config, name: str, port: int = 0) -> None:
        self._name = name
        self._socket = bound_socket(port)
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name=name, daemon=True
        )
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://{LOOPBACK}:{self.port}"

    def start(self) -> None:
        """Start serving.

        Raises:
            StackError: It did not come up.
        """
        self._thread.start()
        deadline = time.monotonic() + START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise StackError(f"{self._name} did not start")
            time.sleep(0.005)

    def stop(self) -> None:
        """Stop serving. Once more is no harm."""
        self._server.should_exit = True
        if self._thread.is_alive():
            self._thread.join(START_SECONDS)
        self._socket.close()

"""``python -m dev.simulator``: serve until interrupted. One line of JSON tells where, once it listens."""

import argparse
import asyncio
import contextlib
import json
import socket

import uvicorn

from dev.serving import AbortableProtocol, bound_socket, config_of
from dev.simulator.app import SimulatorApp
from dev.simulator.provider import DEFAULT_WAPI_SEND_KEY, Provider
from dev.simulator.server import Addresses


class _AnnouncedServer(uvicorn.Server):
    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        await super().startup(sockets=sockets)
        port = (sockets or [])[0].getsockname()[1]
        print(json.dumps(vars(Addresses(port))), flush=True)


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(prog="python -m dev.simulator", description="Plays the provider W-API.")
    parser.add_argument("--port", type=int, default=0, help="loopback port; 0 takes a free one")
    parser.add_argument("--latency-ms", type=float, default=0, help="milliseconds before any answer")
    parser.add_argument("--wapi-send-key", default=DEFAULT_WAPI_SEND_KEY, help="key of the edge function")
    parser.add_argument("--webhook-url", default=None, help="where events go by default")
    told = parser.parse_args()
    provider = Provider(latency_ms=told.latency_ms, wapi_send_key=told.wapi_send_key, webhook_url=told.webhook_url)
    server = _AnnouncedServer(config_of(SimulatorApp(provider), http=AbortableProtocol))
    # uvicorn shuts down on the interrupt, then raises it again.
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(server.serve(sockets=[bound_socket(told.port)]))


if __name__ == "__main__":
    main()

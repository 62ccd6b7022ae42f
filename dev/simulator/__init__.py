"""Plays the provider W-API and the platform's ``wapi-send`` over real HTTP, with everything they do wrong.

    with Simulator.start(latency_ms=5) as simulator:
        simulator.add_lines([{"external_id": "LITE-AB12CD-EF34GH", "token": "made-up"}])
        simulator.set_line("LITE-AB12CD-EF34GH", session="ghost", restart="works")
        ...  # point the product at simulator.wapi_url
        assert simulator.calls()["restart"] == 1

On its own: ``python -m dev.simulator --port 0``. As a plain ASGI application: :class:`SimulatorApp`.
"""

from dev.simulator.app import SimulatorApp
from dev.simulator.events import EventKind
from dev.simulator.faults import Fault
from dev.simulator.lines import Call, RestartBehaviour, Session, WebhookKind
from dev.simulator.server import Simulator

__all__ = [
    "Call",
    "EventKind",
    "Fault",
    "RestartBehaviour",
    "Session",
    "Simulator",
    "SimulatorApp",
    "WebhookKind",
]

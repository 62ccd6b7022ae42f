"""The simulator as an ASGI application: the provider under ``/v1``, ``wapi-send``, the control side under ``/_sim``.

Pure ASGI where benches ask by the thousand; only the control side goes through Starlette.
"""

import asyncio
import time
from urllib.parse import parse_qs

from pydantic import ValidationError
from starlette.types import Receive, Scope, Send

from dev.simulator import wapi_send
from dev.simulator.control import ELSEWHERE_PATH, control_routes
from dev.simulator.faults import Answer, Asked, Fault, cannot_answer, error_answer
from dev.simulator.lines import Call, Session
from dev.simulator.provider import PROVIDER_ROUTES, Provider, session_of
from dev.simulator.simulation import Simulation
from dev.simulator.wire import client_left, play_fault, read_body, send_answer

WAPI_SEND_PATH = "/functions/v1/wapi-send"

_ID_QUERY = b"instanceId="


def _external_id_of(query: bytes) -> str:
    if query.startswith(_ID_QUERY) and not any(mark in query for mark in (b"&", b"%", b"+")):
        return query[len(_ID_QUERY) :].decode("latin-1")
    return parse_qs(query.decode("latin-1")).get("instanceId", [""])[0]


def _bearer_of(scope: Scope) -> str:
    for name, value in scope["headers"]:
        if name == b"authorization":
            scheme, _, token = bytes(value).decode("latin-1").partition(" ")
            return token if scheme.lower() == "bearer" else ""
    return ""


def _asked(scope: Scope, external_id: str, provider: Provider) -> Asked:
    host, port = scope.get("server") or ("127.0.0.1", 80)
    elsewhere = f"http://{host}:{port}{ELSEWHERE_PATH}"
    return Asked(scope["method"], scope["path"], external_id, elsewhere, provider.retry_after_seconds)


class SimulatorApp:
    """The ASGI application around one :class:`~dev.simulator.simulation.Simulation`."""

    def __init__(self, provider: Provider | None = None) -> None:
        self.simulation = Simulation(provider)
        self._control = control_routes(self.simulation)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or live through the server's lifespan."""
        if scope["type"] == "lifespan":
            await self._live(receive, send)
            return
        if scope["type"] != "http":
            return
        method, path = scope["method"], scope["path"]
        call = PROVIDER_ROUTES.get((method, path))
        if call is not None:
            await self._play_provider(call, scope, receive, send)
        elif path == WAPI_SEND_PATH and method == "POST":
            await self._play_wapi_send(scope, receive, send)
        elif path.startswith("/_sim/"):
            await self._control(scope, receive, send)
        else:
            await send_answer(send, cannot_answer(method, path))

    async def _live(self, receive: Receive, send: Send) -> None:
        while (await receive())["type"] != "lifespan.shutdown":
            await send({"type": "lifespan.startup.complete"})
        await self.simulation.aclose()
        await send({"type": "lifespan.shutdown.complete"})

    async def _play_provider(self, call: Call, scope: Scope, receive: Receive, send: Send) -> None:
        external_id = _external_id_of(scope["query_string"])
        ledger = self.simulation.ledger
        ledger.count(external_id, call)
        ledger.enter()
        try:
            if call is Call.RESTART:
                with self.simulation.recorded_restart(external_id, "provider"):
                    await self._answer_provider(call, external_id, scope, receive, send)
            else:
                await self._answer_provider(call, external_id, scope, receive, send)
        finally:
            ledger.leave()

    async def _answer_provider(self, call: Call, external_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        simulation = self.simulation
        refusal = simulation.ledger.refusal(simulation.provider, time.monotonic())
        if refusal is not None:
            await send_answer(send, refusal)
            return
        if scope["method"] == "PUT":
            with simulation.ledger.put(simulation.provider) as refusal:
                if refusal is not None:
                    await send_answer(send, refusal)
                    return
                await self._answer_asked(call, external_id, scope, receive, send)
        else:
            await self._answer_asked(call, external_id, scope, receive, send)

    async def _answer_asked(self, call: Call, external_id: str, scope: Scope, receive: Receive, send: Send) -> None:
        simulation = self.simulation
        body = scope["query_string"] if scope["method"] == "GET" else await read_body(receive)
        if await self._stopped_by_fault(call, external_id, scope, receive, send):
            return
        if not external_id:
            answer: Answer | None = error_answer(400, "instanceId is required")
        else:
            answer = simulation.answer(call, external_id, _bearer_of(scope), body)
        if answer is None:
            await client_left(receive)
        else:
            await send_answer(send, answer)

    async def _stopped_by_fault(self, call: Call, external_id: str, scope: Scope, receive: Receive, send: Send) -> bool:
        """Let the latency pass and play the fault of this call; say whether that was all of it."""
        simulation = self.simulation
        latency_ms = simulation.latency_ms(external_id)
        if latency_ms:
            await asyncio.sleep(latency_ms / 1000)
        fault = simulation.take_fault(external_id, call)
        if fault is None:
            return False
        if fault is Fault.TIMEOUT:
            return await client_left(receive, simulation.provider.timeout_seconds)
        await play_fault(fault, _asked(scope, external_id, simulation.provider), scope, receive, send)
        return True

    async def _play_wapi_send(self, scope: Scope, receive: Receive, send: Send) -> None:
        body = await read_body(receive)
        if _bearer_of(scope) != self.simulation.provider.wapi_send_key:
            await send_answer(send, wapi_send.key_refused_answer())
            return
        try:
            order = wapi_send.Order.model_validate_json(body)
        except ValidationError as error:
            await send_answer(send, error_answer(400, str(error)))
            return
        self.simulation.ledger.count(order.instance_id, f"{Call.WAPI_SEND}:{order.action}")
        if order.action is wapi_send.Action.RESTART_INSTANCE:
            with self.simulation.recorded_restart(order.instance_id, "wapi-send"):
                await self._answer_wapi_send(order, scope, receive, send)
        else:
            await self._answer_wapi_send(order, scope, receive, send)

    async def _answer_wapi_send(self, order: wapi_send.Order, scope: Scope, receive: Receive, send: Send) -> None:
        if await self._stopped_by_fault(Call.WAPI_SEND, order.instance_id, scope, receive, send):
            return
        if order.action is wapi_send.Action.RESTART_INSTANCE:
            await send_answer(send, self._restart_instance(order))
        else:
            await send_answer(send, self._get_status(order))

    def _get_status(self, order: wapi_send.Order) -> Answer:
        simulation = self.simulation
        # Whatever the provider does to the function, its caller only ever sees this one shape.
        if simulation.take_fault(order.instance_id, Call.STATUS_INSTANCE) is not None:
            return wapi_send.unreachable_status_answer(simulation.provider.wapi_send_error_type)
        line = simulation.lines.get(order.instance_id)
        return wapi_send.get_status_answer(line, self._session_behind(order))

    def _session_behind(self, order: wapi_send.Order) -> Session:
        line = self.simulation.lines.get(order.instance_id)
        if line is None:
            return Session.NOT_FOUND
        return wapi_send.session_behind(line, order.instance_token, session_of(line, self.simulation.provider))

    def _restart_instance(self, order: wapi_send.Order) -> Answer:
        simulation = self.simulation
        fault = simulation.take_fault(order.instance_id, Call.RESTART)
        if fault is not None:
            return wapi_send.restart_failed_answer(f"the provider could not be reached: {fault}")
        line = simulation.lines.get(order.instance_id)
        reason = wapi_send.refusal_reason_of(self._session_behind(order))
        if line is None or reason is not None:
            return wapi_send.restart_failed_answer(reason or "instance_not_found")
        after = session_of(simulation.restart(line).line, simulation.provider)
        return wapi_send.restart_instance_answer(line.restart, after)

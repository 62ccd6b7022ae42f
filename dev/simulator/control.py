"""The control side under ``/_sim``: JSON in, JSON out, 400 naming what is wrong with the input."""

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Self

from pydantic import BaseModel, ConfigDict, Field, JsonValue, TypeAdapter, ValidationError, model_validator
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route
from starlette.types import ASGIApp

from dev.simulator.events import EventKind
from dev.simulator.lines import Line, changed
from dev.simulator.provider import Provider
from dev.simulator.simulation import Simulation

ELSEWHERE_PATH = "/_sim/elsewhere"

_LINES = TypeAdapter(list[Line])


class EmitOrder(BaseModel):
    """What to post to a line's webhook: exactly one of ``kind``, ``event`` and ``raw``.

    Attributes:
        kind: An event that the simulator makes up.
        fields: Fields of that event told otherwise.
        event: Any JSON, posted by the webhook of its ``event`` name.
        raw: Posted as it is, well-formed or not.
        url: Posted there instead of the registered URL.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    kind: EventKind | None = None
    fields: dict[str, JsonValue] = Field(default_factory=dict)
    event: JsonValue = None
    raw: str | None = None
    url: str = ""

    @model_validator(mode="after")
    def _tells_one_thing(self) -> Self:
        if len({"kind", "event", "raw"} & self.model_fields_set) != 1:
            raise ValueError("tell exactly one of kind, event and raw")
        return self


class BulkChange(BaseModel):
    """One change of behaviour for many lines."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    external_ids: list[str]
    behaviour: dict[str, JsonValue]


def _wrong(error: ValidationError) -> str:
    """Name every wrong field, what it should be and what it was."""
    complaints = []
    for found in error.errors(include_url=False):
        field = ".".join(str(part) for part in found["loc"]) or "body"
        shown = "" if isinstance(found["input"], dict | list) else f" (it was {found['input']!r})"
        complaints.append(f"{field}: {found['msg']}{shown}")
    return "; ".join(complaints)


async def _content(request: Request) -> JsonValue:
    try:
        content: JsonValue = json.loads(await request.body())
    except ValueError as error:
        raise HTTPException(400, f"body: not JSON: {error}") from error
    return content


async def _object(request: Request) -> dict[str, JsonValue]:
    content = await _content(request)
    if not isinstance(content, dict):
        raise HTTPException(400, "body: a JSON object is wanted")
    return content


def _shown(line: Line) -> dict[str, JsonValue]:
    shown: dict[str, JsonValue] = line.model_dump(mode="json")
    return shown


class _Control:
    """The handlers, one a route."""

    def __init__(self, simulation: Simulation) -> None:
        self._simulation = simulation
        self._elsewhere = {"hits": 0, "with_authorization": 0}

    async def summary(self, _request: Request) -> JSONResponse:
        return JSONResponse({"lines": len(self._simulation.lines), **self._simulation.ledger.summary()})

    async def put_lines(self, request: Request) -> JSONResponse:
        lines = _LINES.validate_python(await _content(request))
        self._simulation.put_lines(lines)
        return JSONResponse({"lines": len(lines)}, status_code=201)

    async def show_lines(self, _request: Request) -> JSONResponse:
        return JSONResponse([self._counted(line) for line in self._simulation.lines.values()])

    async def show_line(self, request: Request) -> JSONResponse:
        return JSONResponse(self._counted(self._line(str(request.path_params["external_id"]))))

    async def change_line(self, request: Request) -> JSONResponse:
        line = self._line(str(request.path_params["external_id"]))
        return JSONResponse(_shown(self._changed([line], await _object(request))[0]))

    async def change_lines(self, request: Request) -> JSONResponse:
        order = BulkChange.model_validate(await _object(request))
        lines = self._changed([self._line(external_id) for external_id in order.external_ids], order.behaviour)
        return JSONResponse({"lines": len(lines)})

    async def scan_qr(self, request: Request) -> JSONResponse:
        line = self._line(str(request.path_params["external_id"]))
        return JSONResponse(asdict(await self._simulation.scan_qr(line)))

    async def emit(self, request: Request) -> JSONResponse:
        line = self._line(str(request.path_params["external_id"]))
        order = EmitOrder.model_validate(await _object(request))
        event: JsonValue = order.event
        if order.kind is not None:
            event = self._simulation.make_event(line, order.kind) | order.fields
        delivery = await self._simulation.post_event(line, event, raw=order.raw, url=order.url)
        return JSONResponse(asdict(delivery))

    async def show_provider(self, _request: Request) -> JSONResponse:
        return JSONResponse(self._simulation.provider.model_dump(mode="json"))

    async def change_provider(self, request: Request) -> JSONResponse:
        told = {**self._simulation.provider.model_dump(), **await _object(request)}
        self._simulation.provider = Provider.model_validate(told)
        return await self.show_provider(request)

    async def show_calls(self, request: Request) -> JSONResponse:
        return JSONResponse(self._simulation.ledger.calls(request.query_params.get("externalId")))

    async def forget_calls(self, _request: Request) -> JSONResponse:
        self._simulation.ledger.forget_calls()
        return JSONResponse({})

    async def show_restarts(self, _request: Request) -> JSONResponse:
        return JSONResponse(self._simulation.ledger.restarts())

    async def show_deliveries(self, request: Request) -> JSONResponse:
        return JSONResponse(self._simulation.poster.deliveries(request.query_params.get("externalId")))

    async def reset(self, _request: Request) -> JSONResponse:
        self._simulation.reset()
        self._elsewhere = {"hits": 0, "with_authorization": 0}
        return JSONResponse({})

    async def elsewhere(self, request: Request) -> JSONResponse:
        """Where the fault ``redirect`` leads: it says connected, and counts who followed with a token."""
        if request.query_params.get("count") != "no":
            self._elsewhere["hits"] += 1
            self._elsewhere["with_authorization"] += "authorization" in request.headers
        return JSONResponse({"connected": True, **self._elsewhere})

    def _counted(self, line: Line) -> dict[str, JsonValue]:
        return {**_shown(line), "calls": {**self._simulation.ledger.calls(line.external_id)}}

    def _line(self, external_id: str) -> Line:
        line = self._simulation.lines.get(external_id)
        if line is None:
            raise HTTPException(404, f"no line has the external id {external_id!r}")
        return line

    def _changed(self, lines: list[Line], behaviour: dict[str, JsonValue]) -> list[Line]:
        if "external_id" in behaviour:
            raise HTTPException(400, "external_id: a line keeps its external id")
        # All of them are checked before any is changed.
        after = [changed(line, behaviour) for line in lines]
        for line in after:
            self._simulation.change_line(line, session_told="session" in behaviour)
        return after


async def _tell_http(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, HTTPException):
        raise error
    return JSONResponse({"error": error.detail}, status_code=error.status_code)


async def _tell_validation(_request: Request, error: Exception) -> JSONResponse:
    if not isinstance(error, ValidationError):
        raise error
    return JSONResponse({"error": _wrong(error)}, status_code=400)


def control_routes(simulation: Simulation) -> ASGIApp:
    """The control side of a simulation as an ASGI application."""
    control = _Control(simulation)

    def route(method: str, path: str, handler: Callable[[Request], Awaitable[JSONResponse]]) -> Route:
        return Route(path, handler, methods=[method])

    line = "/_sim/lines/{external_id}"
    return Starlette(
        routes=[
            route("GET", "/_sim/summary", control.summary),
            route("POST", "/_sim/lines", control.put_lines),
            route("GET", "/_sim/lines", control.show_lines),
            route("PATCH", "/_sim/lines", control.change_lines),
            route("GET", line, control.show_line),
            route("PATCH", line, control.change_line),
            route("POST", f"{line}/scan-qr", control.scan_qr),
            route("POST", f"{line}/emit", control.emit),
            route("GET", "/_sim/provider", control.show_provider),
            route("PATCH", "/_sim/provider", control.change_provider),
            route("GET", "/_sim/calls", control.show_calls),
            route("DELETE", "/_sim/calls", control.forget_calls),
            route("GET", "/_sim/restarts", control.show_restarts),
            route("GET", "/_sim/deliveries", control.show_deliveries),
            route("POST", "/_sim/reset", control.reset),
            route("GET", ELSEWHERE_PATH, control.elsewhere),
        ],
        exception_handlers={HTTPException: _tell_http, ValidationError: _tell_validation},
    )

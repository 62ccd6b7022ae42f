"""What W-API's client makes of every answer, good or bad: one row a fault, one column a call."""

from __future__ import annotations

import asyncio
import logging
import re
import socket
import ssl
import traceback
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import httpx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import SecretStr

from shared.core.look import Look, RestartAnswer
from shared.core.model import Observation, SuspectLine
from shared.providers.answer import MAX_ANSWER_BYTES, HttpAnswer, read_retry_after
from shared.providers.exchange import ExchangeFailedError, bearer, exchange
from shared.providers.wapi.answers import DeviceView, read_device, read_restart, read_status
from shared.providers.wapi.client import WapiClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine

    from pytest_httpx import HTTPXMock

ALIVE, CLAIMED = Observation.ALIVE, Observation.CLAIMED
DISCONNECTED, GHOST = Observation.DISCONNECTED, Observation.GHOST
NOT_FOUND, UNKNOWN = Observation.NOT_FOUND, Observation.UNKNOWN
TOKEN_REFUSED = Observation.REFUSED
ACCEPTED, UNCLEAR = RestartAnswer.ACCEPTED, RestartAnswer.UNCLEAR
RESTART_REFUSED = RestartAnswer.REFUSED

BASE = "https://provider.test/v1"
TOKEN = "made-up-token-of-the-line"
PHONE = "5511900000001"
LINE = SuspectLine(id=UUID(int=1), external_id="LITE-AB12CD-EF34GH", token=SecretStr(TOKEN), last_event_at=None)

LONG = timedelta(seconds=30)
"""More than anything takes that ends by itself."""
TEN_SECONDS = timedelta(seconds=10)

Reply = dict[str, Any]
T = TypeVar("T")


def reply(status: int = 200, **body: Any) -> Reply:
    """Build an answer: one of ``json``, ``text``, ``html`` and ``content``, and ``headers``."""
    return {"status_code": status, **body}


def page(status: int, title: str) -> Reply:
    return reply(status, html=f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>")


def complaint(status: int, message: object = "Something went wrong", **more: object) -> Reply:
    """Build the provider's own error shape, which also comes with status 200."""
    return reply(status, json={"error": True, "message": message, **more})


def cannot_get(call: str) -> Reply:
    return reply(404, html=f"<!DOCTYPE html><html><body><pre>Cannot GET /v1/instance/{call}</pre></body></html>")


def says_connected() -> Reply:
    return reply(json={"instanceId": LINE.external_id, "connected": True})


def says_disconnected() -> Reply:
    return reply(json={"instanceId": LINE.external_id, "connected": False})


def shows_phone() -> Reply:
    return reply(json={"connectedPhone": PHONE, "lid": "1@lid", "name": "Line", "platform": "android"})


@dataclass(frozen=True)
class Row:
    """A fault, and what each call makes of it.

    Attributes:
        fault: Its name, a sentence.
        played: An answer, or what the transport raises.
        status: The look, when ``status-instance`` meets it.
        device: The look, when ``device`` meets it after a status that says connected.
        restart: When ``restart`` meets it.
        throttled: The look asks to be called less.
        drifted: The look calls for a human.
    """

    fault: str
    played: Reply | Exception = field(repr=False)
    status: Observation = UNKNOWN
    device: Observation = CLAIMED
    restart: RestartAnswer = UNCLEAR
    throttled: bool = False
    drifted: bool = False


TRANSPORT_FAULTS = [
    Row("the connection takes too long", httpx.ConnectTimeout("connect")),
    Row("the answer takes too long", httpx.ReadTimeout("read")),
    Row("the request takes too long to send", httpx.WriteTimeout("write")),
    Row("no connection of the pool gets free", httpx.PoolTimeout("pool")),
    Row("the name does not resolve", httpx.ConnectError("[Errno -2] Name or service not known")),
    Row("the connection is refused", httpx.ConnectError("[Errno 111] Connection refused")),
    Row("the certificate is not trusted", httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")),
    Row("the connection is reset while reading", httpx.ReadError("[Errno 104] Connection reset by peer")),
    Row("the connection is reset while writing", httpx.WriteError("[Errno 32] Broken pipe")),
    Row("the server closes without an answer", httpx.RemoteProtocolError("Server disconnected")),
    Row("a body that says gzip and is not", httpx.DecodingError("Error -3 while decompressing data")),
    Row("a proxy on the way fails", httpx.ProxyError("502 Bad Gateway")),
    Row("a reset comes through as the system's own error", ConnectionResetError(104, "Connection reset by peer")),
    Row("a failed handshake comes through as ssl's own error", ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]")),
    Row("a failed look-up comes through as the system's own error", socket.gaierror(-2, "Name or service not known")),
]

MATRIX = [
    *TRANSPORT_FAULTS,
    # A status that is not 200.
    Row("400 in JSON", complaint(400, "Bad request"), restart=RESTART_REFUSED),
    Row("400 as a page", page(400, "400 Bad Request"), restart=RESTART_REFUSED),
    Row("401 in JSON", complaint(401, "Unauthorized"), TOKEN_REFUSED, GHOST, RESTART_REFUSED),
    Row("401 with an empty body", reply(401), TOKEN_REFUSED, GHOST, RESTART_REFUSED),
    Row("401 as a page is a gateway's", page(401, "401 Authorization Required"), restart=RESTART_REFUSED),
    Row("403 in JSON", complaint(403, "Forbidden"), TOKEN_REFUSED, CLAIMED, RESTART_REFUSED),
    Row("403 with an empty body", reply(403), TOKEN_REFUSED, CLAIMED, RESTART_REFUSED),
    Row("403 as a page is a firewall's", page(403, "403 Forbidden"), restart=RESTART_REFUSED),
    Row("403 as a page without a tag", reply(403, html="Request blocked"), restart=RESTART_REFUSED),
    Row(
        "403 as a page that calls itself JSON",
        reply(403, content=b"\n<html>blocked</html>", headers={"content-type": "application/json"}),
        restart=RESTART_REFUSED,
    ),
    Row("404 in JSON", complaint(404, "Instance not found"), NOT_FOUND, CLAIMED, RESTART_REFUSED),
    Row("404 with an empty body", reply(404), NOT_FOUND),
    Row("404 Cannot GET as a page: the route is gone", cannot_get("any"), drifted=True),
    Row(
        "404 Cannot GET in JSON: the route is gone all the same",
        reply(404, json={"statusCode": 404, "message": "Cannot GET /v1/instance/any", "error": "Not Found"}),
        restart=RESTART_REFUSED,
        drifted=True,
    ),
    Row("405", reply(405, text="Method Not Allowed")),
    Row("408", reply(408, text="Request Timeout")),
    Row("410", reply(410, text="Gone")),
    Row("429 without Retry-After", reply(429, text="Too many requests"), throttled=True),
    Row(
        "429 with Retry-After",
        reply(429, text="Too many requests", headers={"retry-after": "30"}),
        throttled=True,
    ),
    Row("429 as a page", page(429, "429 Too Many Requests"), throttled=True),
    Row("500 as text", reply(500, text="Internal Server Error")),
    Row("500 in JSON", reply(500, json={"statusCode": 500, "message": "Internal server error"})),
    Row("500 that says it is disconnected", reply(500, json={"connected": False})),
    Row("502 as a page", page(502, "502 Bad Gateway")),
    Row("503", reply(503, text="Service Unavailable")),
    Row("504 as a page", page(504, "504 Gateway Time-out")),
    Row("301", reply(301, headers={"location": f"{BASE}/elsewhere"})),
    Row("302", reply(302, headers={"location": "https://elsewhere.test/"})),
    Row("307", reply(307, headers={"location": "https://elsewhere.test/"})),
    Row("302 to nowhere", reply(302, headers={"location": "http://["})),
    Row("204", reply(204)),
    # A 200 that does not say.
    Row("200 as a page", page(200, "Welcome")),
    Row("200 with an empty body", reply(200)),
    Row("an empty object", reply(json={}), restart=ACCEPTED),
    Row("error:true", complaint(200, "x"), restart=RESTART_REFUSED),
    Row("error:true with an object for a message", complaint(200, {"code": "E1"}), restart=RESTART_REFUSED),
    Row("error:true and connected:false", complaint(200, "x", connected=False), restart=RESTART_REFUSED),
    Row(
        "error:true with an object for a message and connected:false",
        complaint(200, {"code": "E1"}, connected=False),
        restart=RESTART_REFUSED,
    ),
    Row("error:true and connected:true", complaint(200, "x", connected=True), restart=RESTART_REFUSED),
    Row('connected:"true"', reply(json={"connected": "true"}), restart=ACCEPTED),
    Row('connected:"false"', reply(json={"connected": "false"}), restart=ACCEPTED),
    Row("connected:1", reply(json={"connected": 1}), restart=ACCEPTED),
    Row("connected:0", reply(json={"connected": 0}), restart=ACCEPTED),
    Row("connected:null", reply(json={"connected": None}), restart=ACCEPTED),
    Row("connected:{}", reply(json={"connected": {}}), restart=ACCEPTED),
    Row("the field is renamed", reply(json={"isConnected": False, "status": "disconnected"}), restart=ACCEPTED),
    Row("the field is one level deeper", reply(json={"instance": {"connected": False}}), restart=ACCEPTED),
    Row("a JSON array", reply(json=[{"connected": False}])),
    Row("a JSON string", reply(json="disconnected")),
    Row("the JSON word false", reply(json=False)),
    Row("the JSON word null", reply(json=None, content=b"null")),
    Row("JSON cut off", reply(content=b'{"instanceId":"LITE-AB12CD-EF34GH","connected":fal')),
    Row("JSON with something behind it", reply(content=b'{"connected":false}{"connected":false}')),
    Row("bytes that are no text", reply(content=b'{"connected":false,"name":"\xff\xfe\xfa"}')),
    Row("a number too long to read", reply(content=b'{"connected":false,"n":' + b"9" * 10_000 + b"}")),
    Row("10 MB of JSON that say connected:false", reply(content=b" " * 10_000_000 + b'{"connected":false}')),
    Row("10 MB behind an error status", reply(404, content=b'{"error":true}' + b" " * 10_000_000)),
    Row("JSON 40,000 levels deep", reply(content=b"[" * 40_000 + b"]" * 40_000)),
]


def rows(table: list[Row]) -> list[Any]:
    return [pytest.param(row, id=row.fault) for row in table]


@pytest.fixture(scope="module")
def http() -> httpx.AsyncClient:
    """One for all tests: making one reads a hundred certificates, and none of its connections is ever opened."""
    return httpx.AsyncClient()


@pytest.fixture
def wapi(http: httpx.AsyncClient) -> WapiClient:
    return WapiClient(http, BASE)


def play(httpx_mock: HTTPXMock, call: str, played: Reply | Exception) -> None:
    url = re.compile(rf"^{re.escape(BASE)}/instance/{call}\?")
    if isinstance(played, Exception):
        httpx_mock.add_exception(played, url=url)
    else:
        httpx_mock.add_response(url=url, **played)


def asked(httpx_mock: HTTPXMock) -> list[str]:
    """Tell the calls that were asked, in order; one to another host by its whole address."""
    urls = [str(request.url.copy_with(query=None)) for request in httpx_mock.get_requests()]
    return [url.removeprefix(f"{BASE}/instance/") for url in urls]


def line_with(**fields: Any) -> SuspectLine:
    return LINE.model_copy(update=fields)


class DrippingBody(httpx.AsyncByteStream):
    """A byte of white space every 50 ms, which is the beginning of any JSON, for ever."""

    def __init__(self) -> None:
        self.closed = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        while True:
            yield b" "
            await asyncio.sleep(0.05)

    async def aclose(self) -> None:
        self.closed = True


class CountedBody(httpx.AsyncByteStream):
    """10 MB in pieces; counts what was taken of it."""

    def __init__(self) -> None:
        self.taken = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for _ in range(10_000):
            self.taken += 1_000
            yield b" " * 1_000


async def never_answer(_request: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets was set")


# Good answers


async def test_a_line_that_is_connected_and_shows_its_phone_is_alive(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    play(httpx_mock, "status-instance", says_connected())
    play(httpx_mock, "device", shows_phone())

    look = await wapi.look(LINE, within=LONG)

    assert look == Look(ALIVE, "connected_phone", phone=PHONE)
    assert asked(httpx_mock) == ["status-instance", "device"]


async def test_a_line_that_says_it_is_disconnected_is_so_and_its_device_is_not_asked(
    wapi: WapiClient, httpx_mock: HTTPXMock
) -> None:
    play(httpx_mock, "status-instance", says_disconnected())

    look = await wapi.look(LINE, within=LONG)

    assert (look.observation, look.throttled, look.drifted) == (DISCONNECTED, False, False)
    assert asked(httpx_mock) == ["status-instance"]


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"error": False, "connected": False}, id="beside error:false"),
        pytest.param({"connected": False, "something": {"new": [1]}}, id="beside fields that nobody knows"),
    ],
)
async def test_a_negative_answer_counts(wapi: WapiClient, httpx_mock: HTTPXMock, answer: dict[str, Any]) -> None:
    play(httpx_mock, "status-instance", reply(json=answer))
    assert (await wapi.look(LINE, within=LONG)).observation is DISCONNECTED


@pytest.mark.parametrize(
    ("device", "observation"),
    [
        pytest.param({"connectedPhone": PHONE}, ALIVE, id="a phone alone is life"),
        pytest.param(
            {"connectedPhone": PHONE, "name": "Line", "platform": "", "lid": None}, ALIVE, id="a phone is life"
        ),
        pytest.param({"name": "Line"}, GHOST, id="a name without a phone is a ghost"),
        pytest.param({"platform": "android"}, GHOST, id="a platform without a phone is a ghost"),
        pytest.param({"lid": "1@lid"}, GHOST, id="a hidden identity without a phone is a ghost"),
        pytest.param({"connectedPhone": None, "name": "Line"}, GHOST, id="a phone that is null is none"),
        pytest.param({"connectedPhone": "", "name": "Line"}, GHOST, id="a phone that is empty is none"),
        pytest.param({"name": "", "platform": ""}, GHOST, id="an empty name is still the answer of a device"),
        pytest.param({"connectedPhone": "null", "name": "Line"}, GHOST, id="a word for nothing is no phone"),
        pytest.param({"connectedPhone": " undefined ", "lid": None}, GHOST, id="another word for nothing is no phone"),
        pytest.param(
            {"name": "AxiosError", "message": "timeout of 10000ms exceeded", "code": "ECONNABORTED"},
            CLAIMED,
            id="an error of the server's own call is no device",
        ),
        pytest.param({"name": "Error", "message": "timeout"}, CLAIMED, id="nor is an error that has only a message"),
        pytest.param(
            {"error": "timeout", "connectedPhone": None, "name": None}, CLAIMED, id="nor one with the device's own keys"
        ),
        pytest.param({"name": "Line", "statusCode": "502"}, CLAIMED, id="nor one with a status"),
        *(
            pytest.param({"connectedPhone": phone, "name": "Line"}, CLAIMED, id=f"{phone!r} is no phone, nor nothing")
            for phone in (True, "N/A", 1234567, "55******1234", "Not connected since 2026-11-29", ["5511900000001"])
        ),
        *(
            pytest.param({"connectedPhone": phone, "name": "Line"}, GHOST, id=f"{phone!r} is nothing")
            for phone in ({}, [], 0, "-", "00000000000")
        ),
        pytest.param(
            {"error": False, "message": "ok", "name": "Line", "connectedPhone": ""},
            GHOST,
            id="the provider's envelope around a ghost",
        ),
        pytest.param({"name": "Line", "message": None, "connectedPhone": None}, GHOST, id="no message at all"),
        pytest.param({"connectedPhone": "+55 (11) 9****-4321 12"}, ALIVE, id="a masked phone is one"),
        pytest.param({"connectedPhone": "5511900000001:12@s.whatsapp.net"}, ALIVE, id="a phone with its address"),
        pytest.param({"connectedPhone": ""}, CLAIMED, id="an empty phone alone is not the answer of a device"),
        pytest.param({"deviceName": "Line", "number": PHONE}, CLAIMED, id="fields with other names say nothing"),
        pytest.param({"error": True, "name": "Line"}, CLAIMED, id="an error that names the line says nothing"),
        pytest.param({"error": True, "message": {"name": "Line"}}, CLAIMED, id="an error with an object says nothing"),
    ],
)
async def test_a_device_contradicts_a_status_that_says_connected_only_by_showing_no_phone(
    wapi: WapiClient, httpx_mock: HTTPXMock, device: dict[str, Any], observation: Observation
) -> None:
    play(httpx_mock, "status-instance", says_connected())
    play(httpx_mock, "device", reply(json=device))
    assert (await wapi.look(LINE, within=LONG)).observation is observation


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"error": False, "message": "Instance restarted successfully"}, id="the provider's own words"),
        pytest.param({"success": True}, id="other words"),
    ],
)
async def test_a_restart_that_the_provider_takes_on_is_accepted(
    wapi: WapiClient, httpx_mock: HTTPXMock, answer: dict[str, Any]
) -> None:
    play(httpx_mock, "restart", reply(json=answer))
    assert await wapi.restart(LINE, within=LONG) is ACCEPTED


# The matrix


@pytest.mark.parametrize("row", rows(MATRIX))
async def test_a_status_that_fails_is_looked_through(wapi: WapiClient, httpx_mock: HTTPXMock, row: Row) -> None:
    play(httpx_mock, "status-instance", row.played)

    look = await wapi.look(LINE, within=LONG)

    assert (look.observation, look.throttled, look.drifted) == (row.status, row.throttled, row.drifted)
    assert asked(httpx_mock) == ["status-instance"]


@pytest.mark.parametrize("row", rows(MATRIX))
async def test_a_device_that_fails_does_not_kill_a_line_that_says_connected(
    wapi: WapiClient, httpx_mock: HTTPXMock, row: Row
) -> None:
    play(httpx_mock, "status-instance", says_connected())
    play(httpx_mock, "device", row.played)

    look = await wapi.look(LINE, within=LONG)

    assert look.observation is row.device
    assert asked(httpx_mock) == ["status-instance", "device"]


@pytest.mark.parametrize("row", rows(MATRIX))
async def test_a_restart_that_fails_is_sent_once(wapi: WapiClient, httpx_mock: HTTPXMock, row: Row) -> None:
    play(httpx_mock, "restart", row.played)

    assert await wapi.restart(LINE, within=LONG) is row.restart
    assert asked(httpx_mock) == ["restart"]


async def test_a_device_that_answers_429_asks_to_be_called_less(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    play(httpx_mock, "status-instance", says_connected())
    play(httpx_mock, "device", reply(429, text="Too many requests"))

    look = await wapi.look(LINE, within=LONG)

    assert (look.observation, look.throttled) == (CLAIMED, True)


# Asked to wait


@pytest.mark.parametrize("row", rows(MATRIX))
async def test_of_all_faults_only_a_429_is_worth_another_look(
    wapi: WapiClient, httpx_mock: HTTPXMock, row: Row
) -> None:
    play(httpx_mock, "status-instance", row.played)
    look = await wapi.look(LINE, within=LONG)
    assert look.asked_to_wait is row.throttled


DATE = "Wed, 21 Oct 2026 07:28:00 GMT"


@pytest.mark.parametrize(
    ("told", "date", "wait"),
    [
        pytest.param("30", "", 30, id="seconds"),
        pytest.param(" 30 ", DATE, 30, id="seconds between blanks"),
        pytest.param("30\x1f", DATE, 30, id="seconds before what only strip() takes for a blank"),
        pytest.param("Wed, 21 Oct 2026 07:29:30 GMT", DATE, 90, id="a date, measured from the answer's own"),
        pytest.param("Wednesday, 21-Oct-26 07:29:30 GMT", DATE, 90, id="a date in the older spelling"),
        pytest.param("Wed, 21 Oct 2026 07:29:30 GMT", "", None, id="a date without one to measure from"),
        pytest.param("Wed, 21 Oct 2026 07:27:00 GMT", DATE, None, id="a date that has passed"),
        pytest.param("Wed, 21 Oct 2026 07:29:30", DATE, None, id="a date of nowhere"),
        pytest.param("0", DATE, None, id="no time at all"),
        pytest.param("-5", DATE, None, id="less than none"),
        pytest.param("soon", DATE, None, id="a word"),
        pytest.param("Mon, 01 Jan 99999999999999999999 00:00:00 GMT", DATE, None, id="a year that no calendar has"),
        pytest.param("1.5", DATE, None, id="a fraction, which is none of its forms"),
        pytest.param("9" * 400, DATE, None, id="a number without end"),
        pytest.param("٣٠", DATE, None, id="digits of another script"),
        pytest.param("", DATE, None, id="nothing"),
    ],
)
def test_a_retry_after_is_seconds_or_a_date(told: str, date: str, wait: int | None) -> None:
    assert read_retry_after(told, date) == (None if wait is None else timedelta(seconds=wait))


@given(told=st.text(max_size=40), date=st.text(max_size=40))
@settings(deadline=None)
def test_no_retry_after_makes_the_reader_fail(told: str, date: str) -> None:
    wait = read_retry_after(told, date)
    assert wait is None or wait > timedelta(0)


class Gate:
    """A pacer that lets so many requests pass, and remembers what it was told."""

    def __init__(self, passes: int) -> None:
        self._passes = passes
        self.round = 7
        self.told: list[tuple[UUID, timedelta | None, int]] = []

    async def ready(self) -> bool:
        self._passes -= 1
        return self._passes >= 0

    def refused(self, line: UUID, wait: timedelta | None, *, began_in: int) -> None:
        self.told.append((line, wait, began_in))


async def test_a_look_that_may_not_ask_asks_nothing(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    look = await wapi.paced_by(Gate(0)).look(LINE, within=LONG)
    assert (look.observation, look.throttled, look.asked_to_wait) == (UNKNOWN, True, True)
    assert asked(httpx_mock) == []


async def test_the_device_waits_for_leave_of_its_own(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    play(httpx_mock, "status-instance", says_connected())
    look = await wapi.paced_by(Gate(1)).look(LINE, within=LONG)
    assert look.observation is CLAIMED
    assert asked(httpx_mock) == ["status-instance"]


@pytest.mark.parametrize(
    ("played", "wait"),
    [
        pytest.param({"status_code": 429, "headers": {"retry-after": "30"}}, 30, id="429 with a time"),
        pytest.param({"status_code": 429}, None, id="429 without"),
        pytest.param({"status_code": 503, "headers": {"retry-after": "30"}}, 30, id="503 with a time"),
    ],
)
@pytest.mark.parametrize("call", ["status-instance", "device", "restart"])
async def test_whatever_call_is_refused_the_pacer_hears_of_it(
    wapi: WapiClient, httpx_mock: HTTPXMock, call: str, played: Reply, wait: int | None
) -> None:
    gate = Gate(5)
    play(httpx_mock, call, played)
    if call == "device":
        play(httpx_mock, "status-instance", says_connected())
    if call == "restart":
        assert await wapi.paced_by(gate).restart(LINE, within=LONG) is UNCLEAR
    else:
        assert (await wapi.paced_by(gate).look(LINE, within=LONG)).asked_to_wait
    assert gate.told == [(LINE.id, None if wait is None else timedelta(seconds=wait), 7)]


async def test_a_restart_waits_for_nothing_because_its_claim_is_made(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    play(httpx_mock, "restart", reply(json={"error": False}))
    assert await wapi.paced_by(Gate(0)).restart(LINE, within=LONG) is ACCEPTED


async def test_a_503_without_a_time_is_no_request_to_wait(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    gate = Gate(5)
    play(httpx_mock, "status-instance", reply(503, text="Service Unavailable"))
    assert not (await wapi.paced_by(gate).look(LINE, within=LONG)).asked_to_wait
    assert gate.told == []


async def test_a_device_route_that_is_gone_calls_for_a_human(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    play(httpx_mock, "status-instance", says_connected())
    play(httpx_mock, "device", cannot_get("device"))

    look = await wapi.look(LINE, within=LONG)

    assert (look.observation, look.drifted) == (CLAIMED, True)


@pytest.mark.parametrize(
    ("status", "read_as"),
    [
        (200, RESTART_REFUSED),
        (409, RESTART_REFUSED),
        *((status, RestartAnswer.UNCLEAR) for status in (408, 429, 500, 502, 503)),
    ],
)
async def test_error_true_refuses_a_restart_unless_it_may_have_happened_behind_the_answer(
    wapi: WapiClient, httpx_mock: HTTPXMock, status: int, read_as: RestartAnswer
) -> None:
    play(httpx_mock, "restart", complaint(status, "Could not restart the instance"))
    assert await wapi.restart(LINE, within=LONG) is read_as


_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
_words = st.sampled_from([True, False, None, "true", "false", 0, 1])
_objects = st.fixed_dictionaries({}, optional={"connected": _words, "error": _words, "name": _json, "other": _json})
_answers = st.builds(
    HttpAnswer,
    status=st.sampled_from([200, 201, 204, 301, 302, 400, 401, 403, 404, 408, 418, 429, 500, 502, 503, 504]),
    content_type=st.sampled_from(["application/json", "text/html", "text/plain", ""]),
    body=st.binary(max_size=40) | (_objects | _json).map(lambda value: httpx.Response(200, json=value).content),
)


@settings(deadline=None)
@given(_answers)
def test_no_answer_at_all_condemns_a_line_but_a_well_formed_negative_one(answer: HttpAnswer) -> None:
    found = answer.json_object() or {}
    match read_status(answer).observation:
        case Observation.DISCONNECTED:
            assert (answer.status, found["connected"]) == (200, False)
            assert isinstance(found["connected"], bool)
            assert found.get("error") is not True
        case Observation.NOT_FOUND:
            assert answer.status == 404
        case Observation.REFUSED:
            assert answer.status in (401, 403)
            assert not answer.is_html
        case Observation.GHOST | Observation.ALIVE:
            pytest.fail("a status alone proves neither life nor a ghost")
        case Observation.CLAIMED:
            assert (answer.status, found["connected"]) == (200, True)
        case Observation.UNKNOWN:
            pass


@settings(deadline=None)
@given(_answers)
def test_no_answer_at_all_is_a_logged_out_device_or_an_accepted_restart_but_one_that_says_so(
    answer: HttpAnswer,
) -> None:
    if read_device(answer) is DeviceView.LOGGED_OUT:
        assert answer.status == 401
    if read_restart(answer) is ACCEPTED:
        assert answer.status == 200
        assert answer.json_object() is not None


# What is sent


async def test_each_call_of_a_look_bears_the_token_in_its_header_and_the_id_in_its_query(
    wapi: WapiClient, httpx_mock: HTTPXMock
) -> None:
    play(httpx_mock, "status-instance", says_connected())
    play(httpx_mock, "device", shows_phone())

    await wapi.look(LINE, within=LONG)

    status, device = httpx_mock.get_requests()
    assert str(status.url) == "https://provider.test/v1/instance/status-instance?instanceId=LITE-AB12CD-EF34GH"
    assert str(device.url) == "https://provider.test/v1/instance/device?instanceId=LITE-AB12CD-EF34GH"
    for request in (status, device):
        assert request.method == "GET"
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        assert request.headers["accept-encoding"] == "identity"  # a small body cannot unpack into a huge one
        assert request.content == b""
        assert TOKEN not in str(request.url)


async def test_a_restart_bears_the_token_in_its_header_and_the_id_in_its_query(
    wapi: WapiClient, httpx_mock: HTTPXMock
) -> None:
    play(httpx_mock, "restart", reply(json={"error": False}))

    await wapi.restart(LINE, within=LONG)

    [request] = httpx_mock.get_requests()
    assert request.method == "GET"
    assert str(request.url) == "https://provider.test/v1/instance/restart?instanceId=LITE-AB12CD-EF34GH"
    assert request.headers["authorization"] == f"Bearer {TOKEN}"


async def test_a_base_url_may_end_with_a_slash(http: httpx.AsyncClient, httpx_mock: HTTPXMock) -> None:
    play(httpx_mock, "restart", reply(json={"error": False}))
    assert await WapiClient(http, f"{BASE}/").restart(LINE, within=LONG) is ACCEPTED


async def test_an_id_with_signs_of_its_own_stays_one_parameter(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    play(httpx_mock, "status-instance", says_disconnected())

    await wapi.look(line_with(external_id="LITE&token=x#ü/../é"), within=LONG)

    [request] = httpx_mock.get_requests()
    assert request.url.path == "/v1/instance/status-instance"
    assert request.url.params.multi_items() == [("instanceId", "LITE&token=x#ü/../é")]


@pytest.mark.parametrize("status", [301, 302, 307, 308])
async def test_no_redirect_is_followed_even_by_a_client_that_would(httpx_mock: HTTPXMock, status: int) -> None:
    redirect = reply(status, headers={"location": "https://elsewhere.test/"})
    play(httpx_mock, "status-instance", redirect)
    play(httpx_mock, "restart", redirect)
    async with httpx.AsyncClient(follow_redirects=True) as follower:
        wapi = WapiClient(follower, BASE)
        look, restart = await wapi.look(LINE, within=LONG), await wapi.restart(LINE, within=LONG)

    assert (look.observation, restart) == (UNKNOWN, UNCLEAR)
    assert asked(httpx_mock) == ["status-instance", "restart"]


# How long and how much


class InstantLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next thing that is due. Nothing here waits for a network."""

    def __init__(self) -> None:
        super().__init__()
        self._now = 0.0
        poll = self._selector.select

        def jump(seconds: float | None) -> Any:
            if seconds is None:
                raise RuntimeError("it waits for something that never comes, without a limit")
            self._now += seconds
            return poll(0)

        self._selector.select = jump

    def time(self) -> float:
        return self._now


def timed(question: Callable[[], Coroutine[Any, Any, T]]) -> tuple[T, float]:
    """Ask, and tell the answer and the seconds that passed on the loop's clock."""
    with asyncio.Runner(loop_factory=InstantLoop) as runner:
        return runner.run(question()), runner.get_loop().time()


def test_a_status_that_never_comes_ends_with_the_look(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_callback(never_answer)

    look, seconds = timed(lambda: wapi.look(LINE, within=TEN_SECONDS))

    assert (look.observation, look.cause) == (UNKNOWN, "timeout")
    assert seconds == pytest.approx(10, abs=0.1)
    assert asked(httpx_mock) == ["status-instance"]


def test_a_device_that_never_comes_ends_with_the_look_and_proves_nothing(
    wapi: WapiClient, httpx_mock: HTTPXMock
) -> None:
    play(httpx_mock, "status-instance", says_connected())
    httpx_mock.add_callback(never_answer)

    look, seconds = timed(lambda: wapi.look(LINE, within=TEN_SECONDS))

    assert look.observation is CLAIMED
    assert seconds == pytest.approx(10, abs=0.1)
    assert asked(httpx_mock) == ["status-instance", "device"]


def test_the_limit_of_a_look_is_for_both_calls_together(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    async def answer_late(_request: httpx.Request) -> httpx.Response:
        await asyncio.sleep(6)
        return httpx.Response(200, json={"connected": True})

    httpx_mock.add_callback(answer_late, url=re.compile(".*/status-instance"))
    httpx_mock.add_callback(never_answer, url=re.compile(".*/device"))

    look, seconds = timed(lambda: wapi.look(LINE, within=TEN_SECONDS))

    assert look.observation is CLAIMED
    assert seconds == pytest.approx(10, abs=0.1)


def test_a_restart_that_is_never_answered_ends_with_its_limit(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_callback(never_answer)

    restart, seconds = timed(lambda: wapi.restart(LINE, within=TEN_SECONDS))

    assert restart is UNCLEAR
    assert seconds == pytest.approx(10, abs=0.1)
    assert asked(httpx_mock) == ["restart"]


def test_a_body_that_drips_for_ever_is_let_go_with_the_look(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    body = DrippingBody()
    httpx_mock.add_response(stream=body)

    look, seconds = timed(lambda: wapi.look(LINE, within=TEN_SECONDS))

    assert (look.observation, look.cause) == (UNKNOWN, "timeout")
    assert seconds == pytest.approx(10, abs=0.1)
    assert body.closed


async def test_a_body_too_large_is_not_read_to_its_end(wapi: WapiClient, httpx_mock: HTTPXMock) -> None:
    body = CountedBody()
    httpx_mock.add_response(stream=body)

    look = await wapi.look(LINE, within=LONG)

    assert (look.observation, look.cause) == (UNKNOWN, "too_large")
    assert body.taken <= MAX_ANSWER_BYTES + 1_000


@pytest.mark.parametrize(
    ("length", "observation"),
    [
        pytest.param(MAX_ANSWER_BYTES, DISCONNECTED, id="the longest answer is read"),
        pytest.param(MAX_ANSWER_BYTES + 1, UNKNOWN, id="one byte more is not the provider speaking"),
    ],
)
async def test_an_answer_has_a_longest_length(
    wapi: WapiClient, httpx_mock: HTTPXMock, length: int, observation: Observation
) -> None:
    play(httpx_mock, "status-instance", reply(content=b'{"connected":false}'.rjust(length)))
    assert (await wapi.look(LINE, within=LONG)).observation is observation


# Secrets


@pytest.mark.parametrize("row", rows(TRANSPORT_FAULTS))
async def test_the_token_is_in_no_error_and_in_no_log(
    http: httpx.AsyncClient, httpx_mock: HTTPXMock, caplog: pytest.LogCaptureFixture, row: Row
) -> None:
    caplog.set_level(logging.DEBUG)
    play(httpx_mock, "device", row.played)
    request = http.build_request("GET", f"{BASE}/instance/device?instanceId=x", headers=bearer(TOKEN))

    with pytest.raises(ExchangeFailedError) as caught:
        await exchange(http, request, within=LONG)

    error: BaseException | None = caught.value
    told = [caplog.text, "".join(traceback.format_exception(caught.value))]
    while error is not None:
        told += [str(error), repr(error), repr(getattr(error, "request", None))]
        error = error.__cause__ or error.__context__
    assert TOKEN not in "\n".join(told)


@pytest.mark.parametrize(
    "played",
    [
        pytest.param(complaint(200, f"the token {TOKEN} is wrong"), id="an error echoes it"),
        pytest.param(complaint(401, f"the token {TOKEN} is wrong"), id="a refusal echoes it"),
        pytest.param(page(502, TOKEN), id="a page echoes it"),
        pytest.param(reply(json={"connected": TOKEN}), id="a field echoes it"),
        pytest.param(reply(302, headers={"location": f"https://elsewhere.test/{TOKEN}"}), id="a redirect echoes it"),
        pytest.param(httpx.LocalProtocolError(f"Illegal header value b'Bearer {TOKEN}'"), id="the transport echoes it"),
    ],
)
async def test_a_token_that_an_answer_echoes_goes_no_further(
    wapi: WapiClient, httpx_mock: HTTPXMock, caplog: pytest.LogCaptureFixture, played: Reply | Exception
) -> None:
    caplog.set_level(logging.DEBUG)
    play(httpx_mock, "status-instance", played)

    look = await wapi.look(LINE, within=LONG)

    assert look.observation in (UNKNOWN, TOKEN_REFUSED)
    assert TOKEN not in f"{look!r} {caplog.text}"


@pytest.mark.httpx_mock(can_send_already_matched_responses=True, assert_all_responses_were_requested=False)
async def test_a_token_that_no_header_can_hold_raises_nothing_and_concludes_nothing(
    wapi: WapiClient, httpx_mock: HTTPXMock
) -> None:
    httpx_mock.add_response(status_code=500)
    pasted = line_with(token=SecretStr("tokén"))

    look = await wapi.look(pasted, within=LONG)

    assert look.observation is UNKNOWN
    assert await wapi.restart(pasted, within=LONG) is UNCLEAR


@pytest.mark.parametrize("token", [None, SecretStr("")], ids=["no token", "an empty token"])
async def test_a_line_without_a_token_is_judged_by_the_provider(
    wapi: WapiClient, httpx_mock: HTTPXMock, token: SecretStr | None
) -> None:
    play(httpx_mock, "status-instance", complaint(401, "Unauthorized"))
    assert (await wapi.look(line_with(token=token), within=LONG)).observation is TOKEN_REFUSED

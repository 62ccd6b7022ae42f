"""What the client of ``wapi-send`` makes of its answers: HTTP 200 to everything, only the body tells."""

from __future__ import annotations

import asyncio
import json
import logging
import ssl
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from shared.core.look import RestartAnswer
from shared.core.model import Observation, SuspectLine
from shared.providers.answer import HttpAnswer
from shared.providers.wapi.client import WapiClient
from shared.providers.wapi.send import RestartsThroughSend, WapiSendClient, read_get_status

if TYPE_CHECKING:
    from pytest_httpx import HTTPXMock

ALIVE, DISCONNECTED, GHOST = Observation.ALIVE, Observation.DISCONNECTED, Observation.GHOST
NOT_FOUND, TOKEN_REFUSED, UNKNOWN = Observation.NOT_FOUND, Observation.REFUSED, Observation.UNKNOWN
ACCEPTED, RESTART_REFUSED, UNCLEAR = RestartAnswer.ACCEPTED, RestartAnswer.REFUSED, RestartAnswer.UNCLEAR

URL = "https://platform.test/functions/v1/wapi-send"
KEY = "made-up-service-key"
TOKEN = "made-up-token-of-the-line"
LINE = SuspectLine(id=UUID(int=1), external_id="LITE-AB12CD-EF34GH", token=SecretStr(TOKEN), last_event_at=None)
LONG = timedelta(seconds=30)
"""More than anything takes that ends by itself."""

STATUSES = {
    "connected": ALIVE,
    "disconnected": DISCONNECTED,
    "degraded": GHOST,
    "instance_not_found": NOT_FOUND,
    "unauthorized": TOKEN_REFUSED,
}

Reply = dict[str, Any]


def reply(status: int = 200, **body: Any) -> Reply:
    """Build an answer: one of ``json``, ``text``, ``html`` and ``content``, and ``headers``."""
    return {"status_code": status, **body}


def page(status: int, title: str) -> Reply:
    return reply(status, html=f"<html><head><title>{title}</title></head><body><h1>{title}</h1></body></html>")


def status_of(word: object, **more: object) -> Reply:
    """Build an answer of ``get-status``."""
    return reply(json={"status": word, "connected": word == "connected", "phoneNumber": None, **more})


@dataclass(frozen=True)
class Row:
    """A fault of the function or of what stands before it; the look that meets it never concludes anything.

    Attributes:
        fault: Its name, a sentence.
        played: An answer, or what the transport raises.
        restart: When ``restart-instance`` meets it.
        throttled: The look asks to be called less.
        drifted: The look calls for a human.
    """

    fault: str
    played: Reply | Exception = field(repr=False)
    restart: RestartAnswer = UNCLEAR
    throttled: bool = False
    drifted: bool = False


MATRIX = [
    Row("the connection takes too long", httpx.ConnectTimeout("connect")),
    Row("the answer takes too long", httpx.ReadTimeout("read")),
    Row("no connection of the pool gets free", httpx.PoolTimeout("pool")),
    Row("the name does not resolve", httpx.ConnectError("[Errno -2] Name or service not known")),
    Row("the certificate is not trusted", httpx.ConnectError("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed")),
    Row("the connection is reset", httpx.ReadError("[Errno 104] Connection reset by peer")),
    Row("the server closes without an answer", httpx.RemoteProtocolError("Server disconnected")),
    Row("a reset comes through as the system's own error", ConnectionResetError(104, "Connection reset by peer")),
    Row("a failed handshake comes through as ssl's own error", ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER]")),
    # A status that is not 200 is the platform's gateway speaking, and about our key, not about the line.
    Row("400", reply(400, json={"message": "bad request"}), RESTART_REFUSED),
    Row("401 refuses our key", reply(401, json={"code": 401, "message": "Invalid JWT"}), RESTART_REFUSED),
    Row("401 that says unauthorized", reply(401, json={"status": "unauthorized"}), RESTART_REFUSED),
    Row("403 refuses our key", reply(403, json={"message": "Forbidden"}), RESTART_REFUSED),
    Row("403 as a page", page(403, "403 Forbidden"), RESTART_REFUSED),
    Row("404 in JSON: no such function", reply(404, json={"code": "NOT_FOUND"}), RESTART_REFUSED, drifted=True),
    Row("404 as a page", page(404, "404 Not Found"), drifted=True),
    Row("404 with an empty body", reply(404), drifted=True),
    Row("408", reply(408, text="Request Timeout")),
    Row("429 without Retry-After", reply(429, text="Too many requests"), throttled=True),
    Row("429 with Retry-After", reply(429, text="Too many", headers={"retry-after": "30"}), throttled=True),
    Row("500", reply(500, text="Internal Server Error")),
    Row("500 that says disconnected", reply(500, json={"status": "disconnected", "connected": False})),
    Row("502 as a page", page(502, "502 Bad Gateway")),
    Row("503: the function did not boot", reply(503, json={"code": "BOOT_ERROR"})),
    Row("504 as a page", page(504, "504 Gateway Time-out")),
    Row("546: the function ran out of its limits", reply(546, json={"code": "WORKER_LIMIT"})),
    Row("302", reply(302, headers={"location": "https://elsewhere.test/"})),
    Row("307", reply(307, headers={"location": "https://elsewhere.test/"})),
    # A 200 that does not say.
    Row("200 as a page", page(200, "Welcome")),
    Row("200 with an empty body", reply(200)),
    Row("an empty object", reply(json={}), ACCEPTED),
    Row("a JSON array", reply(json=[{"status": "disconnected"}])),
    Row("a JSON string", reply(json="disconnected")),
    Row("JSON cut off", reply(content=b'{"status":"disconnected","connected":fal')),
    Row("JSON 40,000 levels deep", reply(content=b"[" * 40_000 + b"]" * 40_000)),
    Row("10 MB that say disconnected", reply(content=b" " * 10_000_000 + b'{"status":"disconnected"}')),
    Row("error:true", reply(json={"error": True, "message": "x"}), RESTART_REFUSED),
    Row("error:true with an object", reply(json={"error": True, "message": {"code": "E1"}}), RESTART_REFUSED),
]


def rows(table: list[Row]) -> list[Any]:
    return [pytest.param(row, id=row.fault) for row in table]


@pytest.fixture(scope="module")
def http() -> httpx.AsyncClient:
    """One for all tests: making one reads a hundred certificates, and none of its connections is ever opened."""
    return httpx.AsyncClient()


@pytest.fixture
def wapi_send(http: httpx.AsyncClient) -> WapiSendClient:
    return WapiSendClient(http, URL, SecretStr(KEY))


def play(httpx_mock: HTTPXMock, played: Reply | Exception) -> None:
    if isinstance(played, Exception):
        httpx_mock.add_exception(played, url=URL)
    else:
        httpx_mock.add_response(url=URL, **played)


def asked(httpx_mock: HTTPXMock) -> list[str]:
    """Tell the actions that were asked, in order."""
    return [json.loads(request.content)["action"] for request in httpx_mock.get_requests()]


async def never_answer(_request: httpx.Request) -> httpx.Response:
    await asyncio.Event().wait()
    raise AssertionError("an event that nobody sets was set")


# Looks


@pytest.mark.parametrize(("word", "observation"), [pytest.param(*pair, id=pair[0]) for pair in STATUSES.items()])
async def test_each_status_that_the_function_knows_is_one_observation(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock, word: str, observation: Observation
) -> None:
    play(httpx_mock, status_of(word))

    look = await wapi_send.look(LINE, within=LONG)

    assert (look.observation, look.throttled, look.drifted) == (observation, False, False)
    assert asked(httpx_mock) == ["get-status"]


@pytest.mark.parametrize("word", STATUSES)
@pytest.mark.parametrize(
    "error_type",
    [
        "timeout",
        "TIMEOUT",
        "time-out",
        "request_timeout",
        "timed_out",
        "ETIMEDOUT",
        "gateway",
        "bad_gateway",
        "gateway_timeout",
        "GatewayError",
    ],
)
async def test_a_status_that_comes_with_a_time_out_or_a_gateway_concludes_nothing(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock, word: str, error_type: str
) -> None:
    play(httpx_mock, status_of(word, error="the provider could not be asked", errorType=error_type))
    assert (await wapi_send.look(LINE, within=LONG)).observation is UNKNOWN


@pytest.mark.parametrize("word", STATUSES)
@pytest.mark.parametrize("error_type", ["rate_limit", "RateLimited", "too_many_requests", "throttled", "http_429"])
async def test_a_status_that_comes_with_a_rate_limit_is_our_own_haste(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock, word: str, error_type: str
) -> None:
    play(httpx_mock, status_of(word, error="too fast", errorType=error_type))
    look = await wapi_send.look(LINE, within=LONG)
    assert (look.observation, look.throttled, look.asked_to_wait) == (UNKNOWN, True, True)


class Gate:
    """A pacer that lets everything or nothing pass, and remembers what it was told."""

    def __init__(self, *, is_open: bool) -> None:
        self._is_open = is_open
        self.round = 7
        self.told: list[tuple[UUID, timedelta | None, int]] = []

    async def ready(self) -> bool:
        return self._is_open

    def refused(self, line: UUID, wait: timedelta | None, *, began_in: int) -> None:
        self.told.append((line, wait, began_in))


async def test_a_look_that_may_not_ask_asks_nothing(wapi_send: WapiSendClient, httpx_mock: HTTPXMock) -> None:
    look = await wapi_send.paced_by(Gate(is_open=False)).look(LINE, within=LONG)
    assert (look.observation, look.throttled, look.asked_to_wait) == (UNKNOWN, True, True)
    assert asked(httpx_mock) == []


@pytest.mark.parametrize("action", ["look", "restart"])
async def test_the_pacer_hears_of_every_refusal(wapi_send: WapiSendClient, httpx_mock: HTTPXMock, action: str) -> None:
    gate = Gate(is_open=True)
    play(httpx_mock, reply(429, text="Too many", headers={"retry-after": "30"}))
    await getattr(wapi_send.paced_by(gate), action)(LINE, within=LONG)
    assert gate.told == [(LINE.id, timedelta(seconds=30), 7)]


DIRECT_STATUS: Final = "https://wapi.test/v1/instance/status-instance?instanceId=LITE-AB12CD-EF34GH"


AGREES: Final = {"instance_not_found": "NOT_FOUND", "unauthorized": "UNAUTHORIZED"}


@pytest.mark.parametrize("word", STATUSES)
@pytest.mark.parametrize("error_type", ["session_closed", "NOT_FOUND", "not_found", "UNAUTHORIZED", "TIMEOUT", "x"])
async def test_a_status_that_comes_with_an_error_type_stands_only_if_both_say_the_same(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock, word: str, error_type: str
) -> None:
    """Not a list of words that contradict: whatever was not met yet contradicts, too."""
    play(httpx_mock, status_of(word, error="it is so", errorType=error_type))
    agrees = error_type.upper() == AGREES.get(word)
    assert (await wapi_send.look(LINE, within=LONG)).observation is (STATUSES[word] if agrees else UNKNOWN)


@pytest.mark.parametrize(("word", "observation"), [pytest.param(*pair, id=pair[0]) for pair in STATUSES.items()])
@pytest.mark.parametrize("error_type", [None, "", " "])
async def test_a_status_alone_stands_and_one_with_an_error_does_not(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock, word: str, observation: Observation, error_type: str | None
) -> None:
    play(httpx_mock, status_of(word, errorType=error_type))
    assert (await wapi_send.look(LINE, within=LONG)).observation is observation
    play(httpx_mock, status_of(word, error="something", errorType=error_type))
    assert (await wapi_send.look(LINE, within=LONG)).observation is UNKNOWN
    play(httpx_mock, status_of(word, success=False))
    assert (await wapi_send.look(LINE, within=LONG)).observation is UNKNOWN


@pytest.mark.parametrize(
    ("word", "connected"),
    [("connected", False), ("disconnected", True), ("instance_not_found", True), ("unauthorized", True)],
)
async def test_a_status_that_its_own_flag_contradicts_is_doubt(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock, word: str, *, connected: bool
) -> None:
    play(httpx_mock, reply(json={"status": word, "connected": connected}))
    assert (await wapi_send.look(LINE, within=LONG)).observation is UNKNOWN


@pytest.mark.parametrize(
    ("status", "told", "cause"),
    [
        (200, {"status": "connected"}, "send_connected"),
        (200, {"status": "instance_not_found"}, "send_instance_not_found"),
        (200, {"status": "connecting"}, "status_unknown"),
        (200, {"status": "connected", "errorType": "rate_limit"}, "rate_limited"),
        (200, {"status": "disconnected", "errorType": "timeout"}, "could_not_ask"),
        (200, {"status": "disconnected", "connected": True}, "send_contradicts_itself"),
        (200, [], "unreadable"),
        (502, {}, "http_502"),
    ],
    ids=str,
)
def test_a_look_has_the_word_for_the_log(status: int, told: object, cause: str) -> None:
    assert read_get_status(HttpAnswer(status, "application/json", json.dumps(told).encode())).cause == cause


async def test_a_line_that_is_not_connected_shows_no_number(wapi_send: WapiSendClient, httpx_mock: HTTPXMock) -> None:
    play(httpx_mock, status_of("degraded", phoneNumber="5511900000001"))
    assert (await wapi_send.look(LINE, within=LONG)).phone is None


async def test_the_number_that_a_connected_line_shows_comes_with_the_look(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock
) -> None:
    play(httpx_mock, status_of("connected", phoneNumber="5511900000001:12@s.whatsapp.net"))
    assert (await wapi_send.look(LINE, within=LONG)).phone == "5511900000001"


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"status": "unknown", "connected": False}, id="unknown"),
        pytest.param({"status": "error", "connected": False, "error": "x"}, id="error"),
        pytest.param({"status": "connecting", "connected": False}, id="connecting"),
        pytest.param({"status": "close", "connected": False}, id="another provider's word"),
        pytest.param({"status": "not_disconnected", "connected": False}, id="a word that holds a known one"),
        pytest.param({"status": "", "connected": False}, id="an empty word"),
        pytest.param({"status": None, "connected": False}, id="null"),
        pytest.param({"status": False, "connected": False}, id="false"),
        pytest.param({"status": 404}, id="a number"),
        pytest.param({"status": ["disconnected"]}, id="a list"),
        pytest.param({"status": {"disconnected": True}}, id="an object"),
        pytest.param({"connected": False}, id="no status beside connected:false"),
        pytest.param({"state": "disconnected", "connected": False}, id="the field is renamed"),
        pytest.param({"success": False, "error": "instance_not_found"}, id="an error in its place"),
        pytest.param({"data": {"status": "disconnected"}}, id="the field is one level deeper"),
    ],
)
async def test_a_status_that_nobody_knows_concludes_nothing(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock, answer: dict[str, Any]
) -> None:
    play(httpx_mock, reply(json=answer))
    assert (await wapi_send.look(LINE, within=LONG)).observation is UNKNOWN


@pytest.mark.parametrize("row", rows(MATRIX))
async def test_a_look_that_fails_concludes_nothing(wapi_send: WapiSendClient, httpx_mock: HTTPXMock, row: Row) -> None:
    play(httpx_mock, row.played)

    look = await wapi_send.look(LINE, within=LONG)

    assert (look.observation, look.throttled, look.drifted) == (UNKNOWN, row.throttled, row.drifted)
    assert asked(httpx_mock) == ["get-status"]


async def test_a_look_that_is_never_answered_ends_with_its_limit(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock
) -> None:
    httpx_mock.add_callback(never_answer, is_reusable=True)
    began = asyncio.get_running_loop().time()

    look = await wapi_send.look(LINE, within=timedelta(seconds=0.1))
    restart = await wapi_send.restart(LINE, within=timedelta(seconds=0.1))

    assert (look.observation, look.cause, restart) == (UNKNOWN, "timeout", UNCLEAR)
    assert asyncio.get_running_loop().time() - began < 5


# Restarts


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"success": False, "restarted": False, "reason": "timeout"}, id="the function's own words"),
        pytest.param({"success": False}, id="nothing but success:false"),
        pytest.param({"success": False, "restarted": True, "connected": True}, id="beside good news"),
        pytest.param({"success": False, "error": "Could not restart the instance"}, id="beside an error"),
    ],
)
async def test_http_200_with_success_false_is_a_refused_restart(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock, answer: dict[str, Any]
) -> None:
    """Regression: dead lines stayed green for ever, restarted every 30 min, nobody told.

    The function answers HTTP 200 to a restart that failed, and only the HTTP status was tested.
    """
    play(httpx_mock, reply(200, json=answer))
    assert await wapi_send.restart(LINE, within=LONG) is RESTART_REFUSED


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param({"success": True, "restarted": True, "connected": True}, id="back at once"),
        pytest.param({"success": True, "restarted": True, "connected": False}, id="not back yet: the looks decide"),
        pytest.param({"success": True, "error": None}, id="no error"),
    ],
)
async def test_http_200_with_success_true_is_an_accepted_restart(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock, answer: dict[str, Any]
) -> None:
    play(httpx_mock, reply(json=answer))
    assert await wapi_send.restart(LINE, within=LONG) is ACCEPTED


@pytest.mark.parametrize("row", rows(MATRIX))
async def test_a_restart_that_fails_is_sent_once(wapi_send: WapiSendClient, httpx_mock: HTTPXMock, row: Row) -> None:
    play(httpx_mock, row.played)

    assert await wapi_send.restart(LINE, within=LONG) is row.restart
    assert asked(httpx_mock) == ["restart-instance"]


# What is sent


async def test_the_key_goes_into_the_headers_and_the_line_into_the_body(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock
) -> None:
    play(httpx_mock, status_of("connected"))
    play(httpx_mock, reply(json={"success": True}))

    await wapi_send.look(LINE, within=LONG)
    await wapi_send.restart(LINE, within=LONG)

    requests = httpx_mock.get_requests()
    assert [json.loads(request.content) for request in requests] == [
        {"action": "get-status", "instanceId": LINE.external_id, "instanceToken": TOKEN},
        {"action": "restart-instance", "instanceId": LINE.external_id, "instanceToken": TOKEN},
    ]
    for request in requests:
        assert (request.method, str(request.url)) == ("POST", URL)
        assert request.headers["authorization"] == f"Bearer {KEY}"
        assert request.headers["apikey"] == KEY
        assert request.headers["content-type"] == "application/json"
        assert TOKEN not in str(request.headers.raw)
        assert KEY not in request.content.decode()


@pytest.mark.parametrize(
    ("token", "sent"),
    [
        pytest.param(None, "", id="no token"),
        pytest.param(SecretStr("tokén\n"), "tokén", id="a token that no header can hold, with a line break behind it"),
    ],
)
async def test_a_token_is_sent_without_the_white_space_around_it(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock, token: SecretStr | None, sent: str
) -> None:
    play(httpx_mock, status_of("unauthorized"))

    look = await wapi_send.look(LINE.model_copy(update={"token": token}), within=LONG)

    assert look.observation is TOKEN_REFUSED
    [request] = httpx_mock.get_requests()
    assert json.loads(request.content)["instanceToken"] == sent


async def test_no_redirect_takes_the_key_elsewhere_even_with_a_client_that_would(httpx_mock: HTTPXMock) -> None:
    redirect = reply(307, headers={"location": "https://elsewhere.test/"})
    play(httpx_mock, redirect)
    play(httpx_mock, redirect)
    async with httpx.AsyncClient(follow_redirects=True) as follower:
        wapi_send = WapiSendClient(follower, URL, SecretStr(KEY))
        look, restart = await wapi_send.look(LINE, within=LONG), await wapi_send.restart(LINE, within=LONG)

    assert (look.observation, restart) == (UNKNOWN, UNCLEAR)
    assert {str(request.url) for request in httpx_mock.get_requests()} == {URL}


@pytest.mark.parametrize(
    "played",
    [
        pytest.param(reply(json={"status": TOKEN, "error": KEY, "errorType": TOKEN}), id="the function echoes them"),
        pytest.param(reply(401, json={"message": f"{KEY} is no key"}), id="the gateway echoes the key"),
        pytest.param(httpx.LocalProtocolError(f"Illegal header value b'Bearer {KEY}'"), id="the transport echoes it"),
    ],
)
async def test_neither_key_nor_token_goes_into_a_look_or_a_log(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock, caplog: pytest.LogCaptureFixture, played: Reply | Exception
) -> None:
    caplog.set_level(logging.DEBUG)
    play(httpx_mock, played)

    told = f"{await wapi_send.look(LINE, within=LONG)!r} {wapi_send!r} {caplog.text}"

    assert TOKEN not in told
    assert KEY not in told


async def test_restarts_alone_may_go_through_the_function_while_looks_ask_directly(
    wapi_send: WapiSendClient, httpx_mock: HTTPXMock
) -> None:
    play(httpx_mock, reply(json={"success": False, "restarted": False}))
    httpx_mock.add_response(url=DIRECT_STATUS, json={"connected": False})
    async with httpx.AsyncClient() as http:
        both = RestartsThroughSend(WapiClient(http, "https://wapi.test/v1"), wapi_send).paced_by(Gate(is_open=True))
        assert (await both.look(LINE, within=LONG)).observation is Observation.DISCONNECTED
        assert await both.restart(LINE, within=LONG) is RestartAnswer.REFUSED
    assert [request.url.host for request in httpx_mock.get_requests()] == ["wapi.test", "platform.test"]


async def test_both_ways_have_one_pace(wapi_send: WapiSendClient, httpx_mock: HTTPXMock) -> None:
    play(httpx_mock, reply(429))
    gate = Gate(is_open=False)
    async with httpx.AsyncClient() as http:
        both = RestartsThroughSend(WapiClient(http, "https://wapi.test/v1"), wapi_send).paced_by(gate)
        assert (await both.look(LINE, within=LONG)).cause == "not_asked"
        await both.restart(LINE, within=LONG)
    assert gate.told == [(LINE.id, None, 7)]

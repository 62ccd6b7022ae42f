"""The clients over the real pool of connections and real sockets: what only a wire can do to them."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import gzip
import logging
import socket
import struct
import zlib
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar
from uuid import UUID

import httpx
import pytest
import pytest_asyncio
from pydantic import SecretStr

from dev.simulator import Fault, Simulator
from shared.core.look import RestartAnswer
from shared.core.model import Observation, SuspectLine
from shared.providers.exchange import pooled_http
from shared.providers.wapi.client import WapiClient
from shared.providers.wapi.send import WapiSendClient

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator

pytestmark = pytest.mark.asyncio(loop_scope="module")

ALIVE, CLAIMED, GHOST, UNKNOWN = Observation.ALIVE, Observation.CLAIMED, Observation.GHOST, Observation.UNKNOWN
ACCEPTED, RESTART_REFUSED, UNCLEAR = RestartAnswer.ACCEPTED, RestartAnswer.REFUSED, RestartAnswer.UNCLEAR

TOKEN = "made-up-token-of-the-line"
KEY = "made-up-service-key"
LINE = SuspectLine(id=UUID(int=1), external_id="LITE-AB12CD-EF34GH", token=SecretStr(TOKEN), last_event_at=None)

ENDLESS = frozenset({Fault.TIMEOUT, Fault.HANG, Fault.DRIP})
"""Only the limit of the look ends these; every other fault ends by itself."""
ENDING = [fault for fault in Fault if fault not in ENDLESS]
SHORT = timedelta(seconds=0.3)
LONG = timedelta(seconds=30)
FAR_AWAY_SECONDS = 5.0

# What a line that is alive looks like when `status-instance` meets a fault: each of these is a well-formed negative
# answer, and any other fault is one from which nothing is concluded.
NEGATIVE_STATUSES = {
    Fault.NOT_CONNECTED: Observation.DISCONNECTED,
    Fault.UNAUTHORIZED_401_JSON: Observation.REFUSED,
    Fault.FORBIDDEN_403_JSON: Observation.REFUSED,
    Fault.NOT_FOUND_404_JSON: Observation.NOT_FOUND,
    Fault.NOT_FOUND_404_HTML_OTHER: Observation.NOT_FOUND,
}
NEGATIVE_DEVICES = {Fault.UNAUTHORIZED_401_JSON: GHOST}
CLEAR_RESTARTS = {
    Fault.BAD_REQUEST_400: RESTART_REFUSED,
    Fault.UNAUTHORIZED_401_JSON: RESTART_REFUSED,
    Fault.UNAUTHORIZED_401_HTML: RESTART_REFUSED,
    Fault.FORBIDDEN_403_JSON: RESTART_REFUSED,
    Fault.NOT_FOUND_404_JSON: RESTART_REFUSED,
    Fault.OK_200_ERROR_TRUE: RESTART_REFUSED,
    Fault.OK_200_ERROR_OBJECT_MESSAGE: RESTART_REFUSED,
    # An object without a complaint.
    Fault.OK_200_EMPTY_OBJECT: ACCEPTED,
    Fault.CONNECTED_STRING: ACCEPTED,
    Fault.CONNECTED_NULL: ACCEPTED,
    Fault.NOT_CONNECTED: ACCEPTED,
    Fault.FIELD_RENAMED: ACCEPTED,
}

T = TypeVar("T")


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator.start(wapi_send_key=KEY) as started:
        yield started


@pytest.fixture
def sim(running: Simulator) -> Simulator:
    """A provider with one line, which is alive."""
    running.reset()
    running.add_lines([{"external_id": LINE.external_id, "token": TOKEN}])
    return running


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def http() -> AsyncIterator[httpx.AsyncClient]:
    """One for all tests, as it is one for a process: no fault may spoil it for the next call."""
    async with pooled_http(httpx.Timeout(None)) as client:
        yield client


@pytest.fixture
def wapi(http: httpx.AsyncClient, sim: Simulator) -> WapiClient:
    return WapiClient(http, sim.wapi_url)


@pytest.fixture
def wapi_send(http: httpx.AsyncClient, sim: Simulator) -> WapiSendClient:
    return WapiSendClient(http, sim.wapi_send_url, SecretStr(KEY))


def limit_for(fault: Fault) -> timedelta:
    """Tell a limit: short for what never ends, and for the rest one that a slow machine keeps."""
    return SHORT if fault in ENDLESS else LONG


async def soon(question: Awaitable[T]) -> T:
    """Ask; it must not take anywhere near its long limit."""
    began = asyncio.get_running_loop().time()
    answer = await question
    assert asyncio.get_running_loop().time() - began < FAR_AWAY_SECONDS
    return answer


# Every fault that the simulator knows


@pytest.mark.parametrize("fault", ENDING)
async def test_a_status_is_never_death_but_by_a_well_formed_negative_answer(
    wapi: WapiClient, sim: Simulator, fault: Fault
) -> None:
    sim.set_line(LINE.external_id, faults={"status-instance": fault})

    look = await soon(wapi.look(LINE, within=LONG))

    assert look.observation is NEGATIVE_STATUSES.get(fault, UNKNOWN)
    assert look.throttled is (fault in (Fault.TOO_MANY_REQUESTS_429, Fault.TOO_MANY_REQUESTS_429_RETRY_AFTER))
    assert look.drifted is (fault is Fault.NOT_FOUND_404_CANNOT_GET)
    assert sim.redirects_followed()["hits"] == 0
    assert "device" not in sim.calls()


@pytest.mark.parametrize("fault", ENDING)
async def test_a_device_that_fails_does_not_kill_a_line_that_says_connected(
    wapi: WapiClient, sim: Simulator, fault: Fault
) -> None:
    sim.set_line(LINE.external_id, faults={"device": fault})

    look = await soon(wapi.look(LINE, within=LONG))

    assert look.observation is NEGATIVE_DEVICES.get(fault, CLAIMED)
    assert sim.redirects_followed()["hits"] == 0


@pytest.mark.parametrize("fault", ENDING)
async def test_a_restart_that_fails_is_sent_once(wapi: WapiClient, sim: Simulator, fault: Fault) -> None:
    sim.set_line(LINE.external_id, faults={"restart": fault})

    assert await soon(wapi.restart(LINE, within=LONG)) is CLEAR_RESTARTS.get(fault, UNCLEAR)
    assert sim.calls() == {"restart": 1}
    assert sim.redirects_followed()["hits"] == 0


@pytest.mark.parametrize("fault", ENDING)
async def test_no_fault_of_the_edge_function_is_death_or_sends_a_restart_twice(
    wapi_send: WapiSendClient, sim: Simulator, fault: Fault
) -> None:
    sim.set_line(LINE.external_id, faults={"wapi-send": fault})

    look, restart = await soon(asyncio.gather(wapi_send.look(LINE, within=LONG), wapi_send.restart(LINE, within=LONG)))

    # The field that one fault renames to `status` is the one that this function has.
    assert look.observation is (ALIVE if fault is Fault.FIELD_RENAMED else UNKNOWN)
    assert restart is CLEAR_RESTARTS.get(fault, UNCLEAR)
    assert sim.calls() == {"wapi-send:get-status": 1, "wapi-send:restart-instance": 1}
    assert sim.redirects_followed()["hits"] == 0


async def test_what_never_ends_ends_with_its_limit_and_concludes_nothing(
    wapi: WapiClient, wapi_send: WapiSendClient, sim: Simulator
) -> None:
    """Every call that may meet it, all at once: each waits for its whole limit."""

    def line(call: str, fault: Fault) -> SuspectLine:
        external_id = f"{call}-{fault}"
        sim.add_lines([{"external_id": external_id, "token": TOKEN, "faults": {call: fault}}])
        return LINE.model_copy(update={"external_id": external_id})

    async def all_of(call: str, ask: Callable[[SuspectLine], Awaitable[T]]) -> list[T]:
        return await asyncio.gather(*(ask(line(call, fault)) for fault in ENDLESS))

    looks, devices, restarts, looks_through, restarts_through = await soon(
        asyncio.gather(
            all_of("status-instance", lambda line: wapi.look(line, within=SHORT)),
            # Within this the status must have answered.
            all_of("device", lambda line: wapi.look(line, within=SHORT * 2)),
            all_of("restart", lambda line: wapi.restart(line, within=SHORT)),
            all_of("wapi-send", lambda line: wapi_send.look(line, within=SHORT)),
            all_of("wapi-send", lambda line: wapi_send.restart(line, within=SHORT)),
        )
    )

    assert {(look.observation, look.throttled, look.drifted) for look in looks} == {(UNKNOWN, False, False)}
    assert {look.observation for look in devices} == {CLAIMED}
    assert {look.observation for look in looks_through} == {UNKNOWN}
    assert {*restarts, *restarts_through} == {UNCLEAR}
    assert sim.calls() == {
        "status-instance": 2 * len(ENDLESS),
        "device": len(ENDLESS),
        "restart": len(ENDLESS),
        "wapi-send:get-status": len(ENDLESS),
        "wapi-send:restart-instance": len(ENDLESS),
    }


@pytest.mark.parametrize("error_type", ["timeout", "gateway"])
async def test_nothing_is_concluded_when_the_edge_function_could_not_ask(
    wapi_send: WapiSendClient, sim: Simulator, error_type: str
) -> None:
    sim.set_provider(down="504_html", wapi_send_error_type=error_type)
    assert (await soon(wapi_send.look(LINE, within=LONG))).observation is UNKNOWN


@pytest.mark.parametrize(
    ("session", "observation"),
    [
        ("alive", Observation.ALIVE),
        ("disconnected", Observation.DISCONNECTED),
        ("ghost", Observation.GHOST),
        ("ghost_401", Observation.GHOST),
        ("not_found", Observation.NOT_FOUND),
        ("token_refused", Observation.REFUSED),
        ("token_refused_403", Observation.REFUSED),
    ],
)
async def test_both_ways_to_the_provider_see_the_same_line(
    wapi: WapiClient, wapi_send: WapiSendClient, sim: Simulator, session: str, observation: Observation
) -> None:
    sim.set_line(LINE.external_id, session=session)

    looks = [await soon(way.look(LINE, within=LONG)) for way in (wapi, wapi_send)]

    assert [look.observation for look in looks] == [observation, observation]


async def test_a_look_has_no_side_effects(wapi: WapiClient, sim: Simulator) -> None:
    for _ in range(3):
        assert (await soon(wapi.look(LINE, within=LONG))).observation is ALIVE
    assert sim.calls() == {"status-instance": 3, "device": 3}


# A server that is not there, or not what it should be


def _closed_port(_sim: Simulator) -> str:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        return f"http://127.0.0.1:{bound.getsockname()[1]}/v1"


UNREACHABLE = [
    pytest.param(_closed_port, id="nobody listens"),
    pytest.param(lambda _sim: "http://no-such-host.invalid/v1", id="the name does not resolve"),
    pytest.param(lambda sim: sim.wapi_url.replace("http:", "https:"), id="the port speaks no TLS"),
]


@pytest.mark.parametrize("address", UNREACHABLE)
async def test_a_provider_that_cannot_be_reached_is_no_dead_line(
    http: httpx.AsyncClient, sim: Simulator, address: Any
) -> None:
    url = address(sim)
    wapi, wapi_send = WapiClient(http, url), WapiSendClient(http, url, SecretStr(KEY))

    assert (await soon(wapi.look(LINE, within=LONG))).observation is UNKNOWN
    assert await soon(wapi.restart(LINE, within=LONG)) is UNCLEAR
    assert (await soon(wapi_send.look(LINE, within=LONG))).observation is UNKNOWN
    assert await soon(wapi_send.restart(LINE, within=LONG)) is UNCLEAR


@pytest.mark.parametrize("address", UNREACHABLE)
async def test_a_provider_that_cannot_be_reached_is_not_called_slow(
    http: httpx.AsyncClient, sim: Simulator, address: Any
) -> None:
    look = await soon(WapiClient(http, address(sim)).look(LINE, within=LONG))
    assert look.cause != "timeout"


async def test_a_connection_that_is_reset_is_not_called_slow(wapi: WapiClient, sim: Simulator) -> None:
    sim.set_line(LINE.external_id, faults={"status-instance": "reset"})
    assert (await soon(wapi.look(LINE, within=LONG))).cause != "timeout"


async def test_a_time_out_of_the_connection_itself_is_called_one(sim: Simulator) -> None:
    sim.set_line(LINE.external_id, faults={"status-instance": "hang"})
    async with pooled_http(httpx.Timeout(SHORT.total_seconds())) as client:
        look = await soon(WapiClient(client, sim.wapi_url).look(LINE, within=LONG))
    assert (look.observation, look.cause) == (UNKNOWN, "timeout")


# Raw bytes


@dataclass
class RawServer:
    """Answers every request with the same bytes.

    Attributes:
        reply: Sent after the head of a request.
        closes: Closes then; else it waits for the client to go.
        resets: Closes with a reset and not with an orderly end.
        heads: Of the requests that came, the body left out.
        url: Where it listens.
    """

    reply: bytes
    closes: bool = True
    resets: bool = False
    heads: list[str] = field(default_factory=list)
    url: str = ""
    _writers: list[asyncio.StreamWriter] = field(default_factory=list)

    async def answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                self.heads.append((await reader.readuntil(b"\r\n\r\n")).decode())
                writer.write(self.reply)
                await writer.drain()
                if self.resets:
                    linger_on_for_no_time = struct.pack("ii", 1, 0)
                    writer.get_extra_info("socket").setsockopt(
                        socket.SOL_SOCKET, socket.SO_LINGER, linger_on_for_no_time
                    )
                    writer.transport.abort()
                if self.closes:
                    break
        writer.close()

    def hang_up(self) -> None:
        for writer in self._writers:
            writer.close()


@asynccontextmanager
async def listening(server: RawServer) -> AsyncIterator[RawServer]:
    listener = await asyncio.start_server(server.answer, "127.0.0.1", 0)
    server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}/v1"
    try:
        yield server
    finally:
        listener.close()
        server.hang_up()


def ok(body: bytes, *headers: bytes) -> bytes:
    """Build an answer, byte by byte; no length is told unless a header does."""
    return b"\r\n".join([b"HTTP/1.1 200 OK", b"content-type: application/json", *headers, b"", body])


DOWN = b'{"connected":false}'
BROKEN = [
    pytest.param(b"", id="it closes without a word"),
    pytest.param(b"SSH-2.0-OpenSSH_9.6\r\n", id="it speaks another protocol"),
    pytest.param(b"HTTP/1.1 200 OK\r\ncontent-type: appl", id="it closes within the head"),
    pytest.param(ok(DOWN, b"content-length: 100"), id="a whole JSON is only the beginning of the body"),
    pytest.param(ok(DOWN[:-5], b"content-length: 19"), id="it closes within the body"),
    pytest.param(
        ok(b"13\r\n" + DOWN + b"\r\n", b"transfer-encoding: chunked"), id="the last chunk never comes"
    ),
    pytest.param(ok(b"soon\r\n" + DOWN, b"transfer-encoding: chunked"), id="the size of a chunk is no number"),
    pytest.param(ok(DOWN, b"content-length: nineteen"), id="the length is no number"),
    pytest.param(ok(DOWN, b"content-length: 19", b"content-encoding: gzip"), id="it says gzip and is not"),
    pytest.param(ok(DOWN, b"x-long: " + b"x" * 1_000_000), id="a head of one megabyte"),
    pytest.param(
        ok(gzip.compress(b" " * 10_000_000 + DOWN), b"content-encoding: gzip"), id="a small body unpacks to 10 MB"
    ),
    pytest.param(ok(gzip.compress(DOWN)[:-5], b"content-encoding: gzip"), id="the packed body is cut off"),
    pytest.param(ok(gzip.compress(gzip.compress(DOWN)), b"content-encoding: gzip, gzip"), id="it is packed twice"),
]  # fmt: skip


@pytest.mark.parametrize("reply", BROKEN)
async def test_a_broken_transfer_concludes_nothing(http: httpx.AsyncClient, reply: bytes) -> None:
    async with listening(RawServer(reply)) as server:
        look = await soon(WapiClient(http, server.url).look(LINE, within=LONG))
    assert look.observation is UNKNOWN
    assert look.cause != "timeout"


async def test_a_reset_within_the_body_concludes_nothing_and_is_not_called_slow(http: httpx.AsyncClient) -> None:
    async with listening(RawServer(ok(DOWN, b"content-length: 100"), resets=True)) as server:
        look = await soon(WapiClient(http, server.url).look(LINE, within=LONG))
    assert look.observation is UNKNOWN
    assert look.cause != "timeout"


@pytest.mark.parametrize(
    "encoding", [b"gzip", b"X-GZip", b"deflate", b"raw deflate", b"identity", b"utf-8", b"none", b"gzip, identity"]
)
async def test_a_body_that_is_packed_once_is_read_although_we_asked_for_none(
    http: httpx.AsyncClient, encoding: bytes
) -> None:
    packer = zlib.compressobj(wbits=-15)
    bodies = {b"deflate": zlib.compress(DOWN), b"raw deflate": packer.compress(DOWN) + packer.flush()}
    bodies |= dict.fromkeys((b"identity", b"utf-8", b"none"), DOWN)
    told = b"content-encoding: " + encoding.removeprefix(b"raw ")
    async with listening(RawServer(ok(bodies.get(encoding, gzip.compress(DOWN)), told))) as server:
        look = await soon(WapiClient(http, server.url).look(LINE, within=LONG))
    assert look.observation is Observation.DISCONNECTED


async def test_a_retry_after_of_another_age_is_none(http: httpx.AsyncClient) -> None:
    told = b"retry-after: Mon, 01 Jan 99999999999999999999 00:00:00 GMT"
    reply = b"\r\n".join([b"HTTP/1.1 429 Too Many", told, b"date: Mon, 01 Jan 2026 00:00:00 GMT", b"", b""])
    async with listening(RawServer(reply)) as server:
        assert (await soon(WapiClient(http, server.url).look(LINE, within=LONG))).asked_to_wait
        assert await soon(WapiClient(http, server.url).restart(LINE, within=LONG)) is UNCLEAR


@pytest.mark.parametrize("reply", BROKEN)
async def test_a_restart_with_a_broken_answer_is_sent_once(http: httpx.AsyncClient, reply: bytes) -> None:
    async with listening(RawServer(reply)) as server:
        restart = await soon(WapiClient(http, server.url).restart(LINE, within=LONG))
    assert restart is UNCLEAR
    assert len(server.heads) == 1


@pytest.mark.parametrize(
    "reply",
    [
        pytest.param(b"", id="before a word"),
        pytest.param(b"HTTP/1.1 200 OK\r\nx-slow: ", id="within the head"),
        pytest.param(ok(DOWN, b"content-length: 100"), id="within the body"),
        pytest.param(ok(DOWN), id="before the end of a body of unknown length"),
        pytest.param(b"HTTP/1.1 100 Continue\r\n\r\n", id="after telling to go on"),
    ],
)
async def test_a_server_that_falls_silent_ends_with_the_look(http: httpx.AsyncClient, reply: bytes) -> None:
    async with listening(RawServer(reply, closes=False)) as server:
        look = await soon(WapiClient(http, server.url).look(LINE, within=SHORT / 3))
    assert (look.observation, look.cause) == (UNKNOWN, "timeout")


async def test_no_cookie_makes_lines_share_a_session_at_the_provider() -> None:
    reply = ok(DOWN, b"content-length: 19", b"set-cookie: session=of-the-first-line; Path=/")
    async with pooled_http(httpx.Timeout(None)) as client, listening(RawServer(reply, closes=False)) as server:
        wapi = WapiClient(client, server.url)
        await soon(wapi.look(LINE, within=LONG))
        await soon(wapi.look(LINE.model_copy(update={"external_id": "OTHER"}), within=LONG))
    assert len(server.heads) == 2
    assert not [head for head in server.heads if "of-the-first-line" in head]


# Secrets, and what is left behind


@pytest.mark.parametrize(
    "token",
    [
        pytest.param("tok\nen", id="a line end within it"),
        pytest.param("tok\r\nx-injected: 1", id="a whole header was pasted with it"),
        pytest.param("tok\x00en", id="a zero byte"),
        pytest.param("tokén", id="a letter that is not ASCII"),
    ],
)
async def test_a_token_that_no_header_can_hold_raises_nothing_and_concludes_nothing(
    http: httpx.AsyncClient, token: str
) -> None:
    pasted = LINE.model_copy(update={"token": SecretStr(token)})
    async with listening(RawServer(b"HTTP/1.1 500 Oops\r\ncontent-length: 0\r\n\r\n")) as server:
        wapi = WapiClient(http, server.url)
        assert (await soon(wapi.look(pasted, within=LONG))).observation is UNKNOWN
        assert await soon(wapi.restart(pasted, within=LONG)) is UNCLEAR
    assert not [head for head in server.heads if "\r\nx-injected" in head]


async def test_white_space_that_was_pasted_with_a_token_is_no_part_of_it(wapi: WapiClient) -> None:
    pasted = LINE.model_copy(update={"token": SecretStr(f" {TOKEN}\r\n")})
    assert (await soon(wapi.look(pasted, within=LONG))).observation is ALIVE


async def test_the_token_is_in_no_log_whatever_the_fault(
    wapi: WapiClient, sim: Simulator, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    for fault in Fault:
        if fault not in ENDLESS:
            sim.set_line(LINE.external_id, faults={"status-instance": fault})
            look = await soon(wapi.look(LINE, within=LONG))
            assert TOKEN not in repr(look)
    assert TOKEN not in caplog.text


async def test_nothing_is_left_open_whatever_the_fault(sim: Simulator, recwarn: pytest.WarningsRecorder) -> None:
    gc.collect()  # what others left behind is theirs
    recwarn.clear()
    lines = {fault: LINE.model_copy(update={"external_id": f"LINE-{fault}"}) for fault in Fault}
    sim.add_lines(
        {"external_id": line.external_id, "token": TOKEN, "faults": {"status-instance": fault}}
        for fault, line in lines.items()
    )

    async def look_at_all() -> None:
        async with pooled_http(httpx.Timeout(None)) as client:
            wapi = WapiClient(client, sim.wapi_url)
            await soon(asyncio.gather(*(wapi.look(line, within=limit_for(fault)) for fault, line in lines.items())))

    await look_at_all()
    gc.collect()  # a session, an answer or a socket that is lost while open warns of it
    assert [str(warning.message) for warning in recwarn if warning.category is ResourceWarning] == []
    async with asyncio.timeout(FAR_AWAY_SECONDS):
        while sim.summary()["in_flight"]:  # noqa: ASYNC110 - it ends in the simulator's thread, once its clients went
            await asyncio.sleep(0.01)


async def test_a_hundred_looks_at_once_all_end(wapi: WapiClient, sim: Simulator) -> None:
    looks = await soon(asyncio.gather(*(wapi.look(LINE, within=LONG) for _ in range(100))))
    assert {look.observation for look in looks} == {ALIVE}

"""The simulator plays the provider's contract over real HTTP, and its faults on the wire."""

import json
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from loopback import a_client, http
from waiting import GENEROUS_SECONDS, until

from dev.simulator import Fault, RestartBehaviour, Session, Simulator, SimulatorApp
from dev.simulator.ledger import Ledger
from dev.simulator.provider import Provider

LINE = "LITE-AB12CD-EF34GH"
OTHER = "AB12CD-EF34GH-IJ56KL"
TOKEN = "made-up-token"
KEY = "made-up-key"
WEBHOOKS = ("connected", "disconnected", "delivery", "received", "message-status", "chat-presence")


class Receiver(ThreadingHTTPServer):
    """A webhook receiver that keeps what it got and answers with `status`."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Receive)
        self.got: list[tuple[str, Any]] = []
        self.status = 200
        self.url = f"http://127.0.0.1:{self.server_address[1]}/hook?secret=made-up"

    def events(self) -> list[str]:
        return [event["event"] for _, event in self.got]


class _Receive(BaseHTTPRequestHandler):
    server: Receiver

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["content-length"])).decode()
        self.server.got.append((self.path, json.loads(body) if body.startswith("{") else body))
        self.send_response(self.server.status)
        self.end_headers()
        self.wfile.write(b"taken")

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture(scope="module")
def running() -> Iterator[Simulator]:
    with Simulator.start(wapi_send_key=KEY) as started:
        yield started


@pytest.fixture
def sim(running: Simulator) -> Simulator:
    running.reset()
    running.add_lines([{"external_id": LINE, "token": TOKEN}, {"external_id": OTHER, "token": TOKEN}])
    return running


@pytest.fixture(scope="module")
def client() -> Iterator[httpx.Client]:
    with a_client() as opened:
        yield opened


@pytest.fixture
def ask(sim: Simulator, client: httpx.Client) -> Callable[..., httpx.Response]:
    def get(path: str, line: str = LINE, token: str = TOKEN, **more: Any) -> httpx.Response:
        method, params = more.pop("method", "GET"), {"instanceId": line, **more.pop("params", {})}
        bearer = {"authorization": f"Bearer {token}"}
        return client.request(method, sim.wapi_url + path, params=params, headers=bearer, **more)

    return get


@pytest.fixture
def wapi_send(sim: Simulator, client: httpx.Client) -> Callable[..., httpx.Response]:
    def post(action: str, key: str = KEY, token: str = TOKEN) -> httpx.Response:
        body = {"action": action, "instanceId": LINE, "instanceToken": token}
        return client.post(sim.wapi_send_url, json=body, headers={"authorization": f"Bearer {key}"})

    return post


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with Receiver() as started:
        thread = threading.Thread(target=started.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        yield started
        started.shutdown()
        thread.join()


@pytest.mark.parametrize(
    ("session", "status", "device"),
    [
        pytest.param("alive", (200, True), (200, "5511900000001"), id="alive"),
        pytest.param("ghost", (200, True), (200, None), id="a ghost says connected and knows no phone"),
        pytest.param("ghost_401", (200, True), (401, None), id="a ghost that WhatsApp logged out"),
        pytest.param("disconnected", (200, False), (200, None), id="disconnected"),
        pytest.param("not_found", (404, None), (404, None), id="not found"),
        pytest.param("token_refused", (401, None), (401, None), id="token refused"),
        pytest.param("token_refused_403", (403, None), (403, None), id="token refused with 403"),
    ],
)
def test_each_session_shows_in_status_and_device(
    sim: Simulator, ask: Any, session: str, status: tuple[int, Any], device: tuple[int, Any]
) -> None:
    sim.set_line(LINE, session=session)
    seen, probed = ask("/instance/status-instance"), ask("/instance/device")
    assert (seen.status_code, seen.json().get("connected")) == status
    assert (probed.status_code, probed.json().get("connectedPhone")) == device


def test_a_wrong_token_an_unknown_line_and_an_unknown_route_are_told_apart(ask: Any) -> None:
    assert ask("/instance/status-instance", token="wrong").status_code == 401
    unknown = ask("/instance/status-instance", line="LITE-NOBODY")
    assert (unknown.status_code, unknown.json()) == (404, {"error": True, "message": "Instance not found"})
    route = ask("/instance/status")
    assert (route.status_code, route.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "<pre>Cannot GET /v1/instance/status</pre>" in route.text


@pytest.mark.parametrize(
    ("restart", "expected", "revived"),
    [
        pytest.param("works", (200, '"error":false'), True, id="works"),
        pytest.param("refused", (200, '"error":true'), False, id="refused with 200"),
        pytest.param("refused_400", (400, '"error":true'), False, id="refused with 400"),
        pytest.param("accepted_no_effect", (200, '"error":false'), False, id="accepted is not recovered"),
        pytest.param("empty_200", (200, ""), True, id="an empty 200"),
        pytest.param("non_json_200", (200, "OK"), True, id="a 200 that is no JSON"),
        pytest.param("http_500", (500, '"error":true'), False, id="500"),
    ],
)
def test_each_restart_answers_and_acts(
    sim: Simulator, ask: Any, restart: str, expected: tuple[int, str], revived: bool
) -> None:
    status, body = expected
    sim.set_line(LINE, session="ghost", restart=restart)
    answer = ask("/instance/restart")
    assert answer.status_code == status
    assert body in answer.text
    assert bool(answer.text) == bool(body)
    assert sim.line(LINE)["session"] == ("alive" if revived else "ghost")


def test_a_restart_that_hangs_can_take_effect_although_nobody_is_told(sim: Simulator, ask: Any) -> None:
    sim.set_line(LINE, session="ghost", restart="hang", restart_takes_effect=True)
    with pytest.raises(httpx.ReadTimeout):
        ask("/instance/restart", timeout=0.1)
    assert sim.line(LINE)["session"] == "alive"


def test_a_restart_can_take_its_time_and_posts_both_events_in_order(
    sim: Simulator, ask: Any, receiver: Receiver
) -> None:
    sim.set_line(
        LINE, restart="comes_back_after_seconds", comes_back_after_seconds=3600, restart_events=True,
        webhook_url=receiver.url, session="ghost",
    )  # fmt: skip
    assert ask("/instance/restart").json()["error"] is False
    assert ask("/instance/status-instance").json()["connected"] is False
    until(lambda: receiver.events() == ["webhookDisconnected"])
    sim.set_line(LINE, comes_back_after_seconds=0.05)
    ask("/instance/restart")
    until(lambda: len(receiver.got) == 3)
    assert receiver.events() == ["webhookDisconnected", "webhookDisconnected", "webhookConnected"]
    assert receiver.got[2][1]["moment"] >= receiver.got[1][1]["moment"]
    assert ask("/instance/device").json()["connectedPhone"] == "5511900000001"


def test_a_session_told_meanwhile_ends_the_wait_of_a_restart(sim: Simulator, ask: Any) -> None:
    sim.set_lines([LINE, OTHER], restart="comes_back_after_seconds", comes_back_after_seconds=0.1)
    ask("/instance/restart")
    sim.set_line(LINE, session="ghost")
    ask("/instance/restart", line=OTHER)  # its wait began later: when it is over, the first would be
    until(lambda: sim.line(OTHER)["session"] == "alive")
    assert sim.line(LINE)["session"] == "ghost"


def test_restarts_are_kept_with_their_times_and_how_many_ran_at_once(sim: Simulator, ask: Any) -> None:
    sim.set_provider(latency_ms=100)
    before = time.monotonic()
    with ThreadPoolExecutor(2) as pool:
        assert all(answer.is_success for answer in pool.map(lambda line: ask("/instance/restart", line), [LINE, OTHER]))
    kept = sim.restarts()
    assert kept["max_in_flight"] == 2
    assert {record["external_id"] for record in kept["restarts"]} == {LINE, OTHER}
    for record in kept["restarts"]:
        assert before <= record["started_at"] <= record["ended_at"] - 0.09  # a loop's timers may come a little early


def test_every_call_is_counted_by_line_and_name(sim: Simulator, ask: Any) -> None:
    ask("/instance/device")
    ask("/instance/device", token="wrong")
    ask("/instance/status-instance", line=OTHER)
    ask("/instance/status-instance", line="nobody")
    assert sim.calls(LINE) == {"device": 2}
    assert sim.calls("nobody") == {"status-instance": 1}
    assert sim.calls() == {"device": 2, "status-instance": 2}
    sim.forget_calls()
    assert sim.calls() == {}


def test_a_qr_code_asked_of_a_live_session_drops_it(sim: Simulator, ask: Any) -> None:
    assert ask("/instance/qr-code", params={"image": "disable"}).json() == {"connected": True}
    assert ask("/instance/status-instance").json()["connected"] is False
    assert ask("/instance/qr-code", params={"image": "disable"}).json()["qrcode"].startswith("data:image/png;base64,")
    assert sim.calls(LINE)["qr-code"] == 2


def test_a_message_is_queued_even_on_a_dead_session(sim: Simulator, ask: Any) -> None:
    sim.set_line(LINE, session="ghost")
    sent = ask("/message/send-text", method="POST", json={"phone": "5511900000002", "message": "Oi"})
    assert (sent.status_code, set(sent.json())) == (200, {"instanceId", "messageId", "insertedId"})
    assert ask("/message/send-text", method="POST", json={"phone": "5511900000002"}).status_code == 400


def test_registered_webhooks_are_shown_and_end_a_mute_spell(sim: Simulator, ask: Any, receiver: Receiver) -> None:
    sim.set_line(LINE, webhook_url=receiver.url, webhooks_mute=True)
    assert sim.emit(LINE, "received")["status"] is None
    for kind in WEBHOOKS:
        url = f"{receiver.url}&kind={kind}"
        assert ask(f"/webhook/update-webhook-{kind}", method="PUT", json={"value": url}).json()["error"] is False
    shown = ask("/instance/fetch-instance").json()
    assert shown["webhookStatusUrl"].endswith("kind=message-status")
    assert shown["token"] == TOKEN
    assert sim.emit(LINE, "status")["status"] == 200
    assert [path for path, _ in receiver.got] == ["/hook?secret=made-up&kind=message-status"]
    assert ask("/webhook/update-webhook-received", method="PUT", json={"url": "x"}).status_code == 400


def test_built_in_events_have_the_shape_of_the_contract(sim: Simulator, receiver: Receiver) -> None:
    sim.set_line(LINE, webhook_url=receiver.url)
    for kind in ("disconnected", "connected", "received", "status", "delivery", "presence"):
        assert sim.emit(LINE, kind, fields={"moment": 1790000000})["body"] == "taken"
    events = [event for _, event in receiver.got]
    gone = {"event": "webhookDisconnected", "instanceId": LINE, "disconnected": True, "moment": 1790000000}
    assert events[0] == gone
    assert receiver.events()[1:] == [
        "webhookConnected", "webhookReceived", "webhookStatus", "webhookDelivery", "webhookChatPresence",
    ]  # fmt: skip
    assert all(event["instanceId"] == LINE for event in events)
    assert len({event["messageId"] for event in events[2:5]}) == 3


def test_any_event_can_be_emitted_and_the_receivers_answer_is_told(sim: Simulator, receiver: Receiver) -> None:
    sim.set_provider(webhook_url=receiver.url)
    receiver.status = 503
    assert sim.emit(LINE, event={"event": "messages.upsert", "odd": None})["status"] == 503
    sim.emit(LINE, raw="not JSON")
    assert [body for _, body in receiver.got] == [{"event": "messages.upsert", "odd": None}, "not JSON"]
    assert [kept["status"] for kept in sim.deliveries(LINE)] == [503, 503]
    assert all("secret" not in kept["url"] for kept in sim.deliveries())


def test_a_webhook_that_nobody_receives_is_recorded_not_raised(sim: Simulator) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        closed = taken.getsockname()[1]
    lost = sim.emit(LINE, "received", url=f"http://127.0.0.1:{closed}/hook")
    assert (lost["status"], lost["error"].partition(":")[0]) == (None, "ConnectError")
    assert sim.deliveries() == [lost]


def test_a_person_who_scans_the_qr_code_brings_the_line_back(sim: Simulator, receiver: Receiver) -> None:
    sim.set_line(LINE, session="disconnected", webhook_url=receiver.url)
    assert sim.scan_qr(LINE)["status"] == 200
    assert receiver.events() == ["webhookConnected"]
    assert sim.line(LINE)["session"] == "alive"


HTML, JSON, TEXT = "text/html", "application/json", "text/plain"

MATRIX = {
    "400": (400, JSON, r'"error":true'),
    "401_json": (401, JSON, r'"error":true'),
    "401_html": (401, HTML, r"<html>"),
    "403_json": (403, JSON, r'"error":true'),
    "404_html_cannot_get": (404, HTML, r"<pre>Cannot GET /v1/instance/device</pre>"),
    "404_json": (404, JSON, r'"message":"Instance not found"'),
    "404_html_other": (404, HTML, r"<h1>404 Not Found"),
    "408": (408, JSON, r'"error":true'),
    "429": (429, JSON, r'"error":true'),
    "429_retry_after": (429, JSON, r'"error":true'),
    "500": (500, JSON, r'"error":true'),
    "502_html": (502, HTML, r"502 Bad Gateway"),
    "503": (503, TEXT, r"Service Unavailable"),
    "504_html": (504, HTML, r"504 Gateway"),
    "200_html": (200, HTML, r"<html>"),
    "200_empty": (200, JSON, r"^$"),
    "200_empty_object": (200, JSON, r"^{}$"),
    "200_error_true": (200, JSON, r'^{"error":true,"message":"'),
    "200_error_object_message": (200, JSON, r'^{"error":true,"message":{'),
    "connected_string": (200, JSON, r'"connected":"true"}$'),
    "field_renamed": (200, JSON, r'"status":"connected"}$'),
    "connected_null": (200, JSON, r'"connected":null}$'),
    "not_connected": (200, JSON, r'"connected":false}$'),
    "redirect": (302, TEXT, r"^Found$"),
    "truncated_json": (200, JSON, r'"connected":tr$'),
    "json_array": (200, JSON, r"^\[{.*}\]$"),
    "huge": (200, JSON, r'"connected":true}$'),
    "timeout": (200, JSON, r'"connectedPhone":"5511900000001"'),
}


def test_the_matrix_is_whole() -> None:
    assert {fault.value for fault in Fault} == set(MATRIX) | {"hang", "reset", "drip"}


@pytest.mark.parametrize("fault", MATRIX)
def test_each_fault_is_played_as_it_is_named_once_then_the_line_behaves(sim: Simulator, ask: Any, fault: str) -> None:
    status, kind, body = MATRIX[fault]
    sim.set_provider(timeout_seconds=0.05, retry_after_seconds=7)
    sim.set_line(LINE, faults={"device": {"fault": fault, "times": 1}})
    answer = ask("/instance/device")
    assert (answer.status_code, answer.headers["content-type"].partition(";")[0]) == (status, kind)
    assert re.search(body, answer.text[-2000:])
    assert answer.headers.get("retry-after") == ("7" if fault == "429_retry_after" else None)
    assert (len(answer.content) > 10_000_000) == (fault == "huge")
    assert fault != "timeout" or answer.elapsed.total_seconds() >= 0.05
    assert ask("/instance/device").json()["connectedPhone"] == "5511900000001"


def test_a_fault_lasts_for_as_many_calls_as_it_was_told(sim: Simulator, ask: Any) -> None:
    sim.set_line(LINE, faults={"status-instance": {"fault": "500", "times": 2}, "device": "503"})
    assert [ask("/instance/status-instance").status_code for _ in range(3)] == [500, 500, 200]
    assert [ask("/instance/device").status_code for _ in range(3)] == [503] * 3


def test_a_reset_is_a_reset_on_the_wire(sim: Simulator, ask: Any) -> None:
    sim.set_line(LINE, faults={"status-instance": "reset"})
    with pytest.raises(httpx.ReadError):
        ask("/instance/status-instance")
    with socket.create_connection(("127.0.0.1", httpx.URL(sim.url).port)) as raw:
        raw.sendall(f"GET /v1/instance/status-instance?instanceId={LINE} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        with pytest.raises(ConnectionResetError):
            raw.recv(1)
    until(lambda: sim.summary()["in_flight"] == 0)


def test_a_drip_never_ends_and_a_hang_never_begins(sim: Simulator, ask: Any) -> None:
    sim.set_line(LINE, faults={"device": "drip", "status-instance": "hang"})
    with http.stream("GET", f"{sim.wapi_url}/instance/device", params={"instanceId": LINE}) as dripping:
        drops = dripping.iter_raw()
        began = time.monotonic()
        assert [next(drops) for _ in range(4)] == [b" "] * 4
        assert time.monotonic() - began > 0.1
    with pytest.raises(httpx.ReadTimeout):
        ask("/instance/status-instance", timeout=0.1)
    until(lambda: sim.summary()["in_flight"] == 0)


def test_a_followed_redirect_says_connected_and_is_caught(sim: Simulator, ask: Any) -> None:
    sim.set_line(LINE, session="disconnected", faults={"status-instance": "redirect"})
    assert ask("/instance/status-instance").is_redirect
    assert sim.redirects_followed()["hits"] == 0
    assert ask("/instance/status-instance", follow_redirects=True).json()["connected"] is True
    assert sim.redirects_followed()["hits"] == 1


def test_the_provider_as_a_whole_can_be_down(sim: Simulator, ask: Any) -> None:
    sim.set_provider(down="404_html_cannot_get")
    assert "Cannot GET /v1/instance/restart" in ask("/instance/restart", line=OTHER).text
    sim.set_provider(down=None, everyone_disconnected=True)
    assert ask("/instance/status-instance").json()["connected"] is False
    assert "connectedPhone" not in ask("/instance/device").json()
    sim.set_provider(everyone_disconnected=False)
    assert ask("/instance/status-instance").json()["connected"] is True


def test_more_calls_in_a_second_than_the_limit_get_429(sim: Simulator, ask: Any) -> None:
    sim.set_provider(max_requests_per_second=1, tells_retry_after=True, retry_after_seconds=9)
    codes = []

    def refused() -> bool:
        """Whether two calls fell into one second: on a busy machine not every two do."""
        answers = [ask("/instance/status-instance") for _ in range(2)]
        codes.extend(answer.status_code for answer in answers)
        return [(answer.status_code, answer.headers.get("retry-after")) for answer in answers] == [
            (200, None),
            (429, "9"),
        ]

    until(refused)
    assert sim.summary()["rate_limited"] == codes.count(429)


def test_more_calls_at_once_than_the_limit_get_429_without_retry_after(sim: Simulator, ask: Any) -> None:
    sim.set_provider(max_concurrent_requests=1)
    sim.set_line(OTHER, faults={"device": "drip"})
    with http.stream("GET", f"{sim.wapi_url}/instance/device", params={"instanceId": OTHER}):
        refused = [ask("/instance/status-instance") for _ in range(2)]
    until(lambda: sim.summary()["in_flight"] == 0)

    assert [(answer.status_code, answer.headers.get("retry-after")) for answer in refused] == [(429, None)] * 2
    assert ask("/instance/status-instance").status_code == 200


def test_a_line_can_be_slow_by_itself(sim: Simulator, ask: Any) -> None:
    sim.set_line(LINE, latency_ms=250)
    assert ask("/instance/status-instance").elapsed.total_seconds() >= 0.25
    sim.set_line(LINE, latency_ms=10 * 60_000)
    assert ask("/instance/status-instance", line=OTHER, timeout=GENEROUS_SECONDS).is_success


@pytest.mark.parametrize(
    ("session", "status", "phone"),
    [
        ("alive", "connected", "5511900000001"),
        ("ghost", "degraded", None),
        ("ghost_401", "degraded", None),
        ("disconnected", "disconnected", None),
        ("not_found", "instance_not_found", None),
        ("token_refused", "unauthorized", None),
    ],
)
def test_wapi_send_names_each_session(
    sim: Simulator, wapi_send: Any, session: str, status: str, phone: str | None
) -> None:
    sim.set_line(LINE, session=session)
    answer = wapi_send("get-status")
    expected = {"status": status, "connected": status == "connected", "phoneNumber": phone}
    assert (answer.status_code, answer.json()) == (200, expected)
    assert sim.calls(LINE) == {"wapi-send:get-status": 1}


@pytest.mark.parametrize(
    ("behaviour", "expected"),
    [
        ({"restart": "works"}, {"success": True, "restarted": True, "connected": True}),
        ({"restart": "accepted_no_effect"}, {"success": True, "restarted": True, "connected": False}),
        ({"restart": "refused"}, {"success": False, "restarted": False, "reason": "Could not restart the instance"}),
        ({"session": "not_found"}, {"success": False, "restarted": False, "reason": "instance_not_found"}),
    ],
)
def test_wapi_send_answers_a_restart_with_200_whatever_happened(
    sim: Simulator, wapi_send: Any, behaviour: dict[str, str], expected: dict[str, Any]
) -> None:
    sim.set_line(LINE, **{"session": "ghost", **behaviour})
    answer = wapi_send("restart-instance")
    assert (answer.status_code, answer.json()) == (200, expected)
    assert [record["via"] for record in sim.restarts()["restarts"]] == ["wapi-send"]


def test_wapi_send_hides_an_outage_of_the_provider_in_its_error_type(sim: Simulator, wapi_send: Any) -> None:
    sim.set_provider(down="hang", wapi_send_error_type="gateway")
    seen = wapi_send("get-status").json()
    assert (seen["status"], seen["connected"], seen["errorType"]) == ("disconnected", False, "gateway")
    assert wapi_send("restart-instance").json()["success"] is False


def test_wapi_send_refuses_a_wrong_key_and_an_unknown_action(sim: Simulator, wapi_send: Any) -> None:
    assert wapi_send("get-status", key="wrong").status_code == 401
    assert wapi_send("dance").status_code == 400
    assert wapi_send("get-status", token="wrong").json()["status"] == "unauthorized"
    sim.set_line(LINE, faults={"wapi-send": "502_html"})
    assert wapi_send("get-status").status_code == 502


@pytest.mark.parametrize(
    ("tell", "complaint"),
    [
        (lambda sim: sim.set_line(LINE, session="zombie"), r"session: .*'alive', 'ghost'.*zombie"),
        (lambda sim: sim.set_line(LINE, colour="red"), r"colour: .*not permitted"),
        (lambda sim: sim.set_line(LINE, faults={"dance": "500"}), r"faults\.dance.*status-instance"),
        (lambda sim: sim.set_line(LINE, faults={"device": "501"}), r"faults\.device\.fault: .*501"),
        (lambda sim: sim.set_line(LINE, restart="comes_back_after_seconds"), r"needs the field"),
        (lambda sim: sim.set_line("nobody", session="ghost"), r"no line has the external id 'nobody'"),
        (lambda sim: sim.set_lines([LINE], external_id="x"), r"keeps its external id"),
        (lambda sim: sim.set_provider(down="sideways"), r"down: .*sideways"),
        (lambda sim: sim.add_lines([{"external_id": "x"}]), r"0\.token: Field required"),
        (lambda sim: sim.emit(LINE, "dance"), r"kind: .*'disconnected'.*dance"),
        (lambda sim: sim.emit(LINE), r"exactly one of kind, event and raw"),
    ],
)
def test_bad_control_input_is_refused_by_name(sim: Simulator, tell: Any, complaint: str) -> None:
    with pytest.raises(ValueError, match=complaint):
        tell(sim)
    assert sim.line(LINE)["session"] == "alive"


def test_a_reset_forgets_everything_but_how_it_was_started(sim: Simulator, ask: Any, wapi_send: Any) -> None:
    sim.set_provider(down="500", wapi_send_key="another")
    ask("/instance/restart")
    sim.reset()
    assert (sim.calls(), sim.restarts()["restarts"], sim.summary()["lines"]) == ({}, [], 0)
    assert ask("/instance/status-instance").status_code == 404
    assert wapi_send("get-status").json()["status"] == "instance_not_found"


def test_stopping_does_not_wait_for_hangs_and_drips() -> None:
    with ThreadPoolExecutor(2) as pool, Simulator.start() as own:
        own.add_lines([{"external_id": LINE, "token": TOKEN, "faults": {"device": "hang", "status-instance": "drip"}}])
        urls = [f"{own.wapi_url}/instance/{call}?instanceId={LINE}" for call in ("device", "status-instance")]
        for url in urls:
            pool.submit(httpx.get, url, trust_env=False, timeout=None)
        until(lambda: own.summary()["in_flight"] == 2)
        began = time.monotonic()
        own.stop()
        assert time.monotonic() - began < GENEROUS_SECONDS
        with pytest.raises(httpx.ConnectError):
            http.get(own.url)


def test_the_command_line_tells_where_it_listens_and_ends_when_told() -> None:
    command = [sys.executable, "-m", "dev.simulator", "--port", "0", "--wapi-send-key", KEY]
    root = Path(__file__).parents[2]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=root) as process:
        assert process.stdout is not None
        told = json.loads(process.stdout.readline())
        assert set(told) == {"url", "wapi_url", "wapi_send_url"}
        assert http.post(told["wapi_send_url"]).status_code == 401
        process.terminate()
        process.wait(GENEROUS_SECONDS)


async def test_it_is_also_a_plain_asgi_application() -> None:
    transport = httpx.ASGITransport(app=SimulatorApp())
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        await client.post("/_sim/lines", json=[{"external_id": LINE, "token": TOKEN, "session": Session.GHOST}])
        headers = {"authorization": f"Bearer {TOKEN}"}
        seen = await client.get(f"/v1/instance/status-instance?instanceId={LINE}", headers=headers)
        assert seen.json() == {"instanceId": LINE, "connected": True}


def test_every_name_of_a_behaviour_is_accepted(sim: Simulator) -> None:
    for session in Session:
        sim.set_line(LINE, session=session)
    for restart in RestartBehaviour:
        sim.set_line(LINE, restart=restart, comes_back_after_seconds=1)


def test_its_log_shows_what_was_delivered_newest_first_in_pages_and_in_lower_case(
    sim: Simulator, ask: Any, receiver: Receiver
) -> None:
    sim.set_provider(webhook_url=receiver.url)
    for number in range(3):
        sim.emit(LINE, "received", fields={"messageId": f"M{number}"})
    receiver.status = 401
    sim.emit(LINE, "received", fields={"messageId": "M3"})

    def page(number: int) -> Any:
        return ask("/webhook/fetch-webhook-logs", params={"perPage": 2, "page": number}).json()

    first = page(1)
    assert [entry["messageid"] for entry in first["logs"]] == ["M2", "M1"]
    assert (first["total"], first["logs"][0]["msgcontent"]) == (3, {"conversation": "Oi, tem data em maio?"})
    assert [len(page(number)["logs"]) for number in (2, 3)] == [1, 0]
    assert ask("/webhook/fetch-webhook-logs", line=OTHER).json()["logs"] == []
    sim.set_provider(log_form="bare", log_holds_undelivered=True)
    assert [entry["messageid"] for entry in page(1)] == ["M3", "M2"]


def test_a_line_that_answers_sends_tells_echo_and_ack_under_the_id_of_the_answer(
    sim: Simulator, ask: Any, receiver: Receiver
) -> None:
    sim.set_line(LINE, webhook_url=receiver.url, answers_sends=True)
    sent = ask("/message/send-text", method="POST", json={"phone": "5511900000001", "message": "Oi"}).json()
    until(lambda: len(receiver.got) == 2)
    assert receiver.events() == ["webhookDelivery", "webhookStatus"]
    assert {(event["messageId"], event["chat"]["id"]) for _, event in receiver.got} == {
        (sent["messageId"], "5511900000001")
    }


def test_payment_is_told_in_one_of_three_forms(sim: Simulator, ask: Any) -> None:
    sim.set_line(LINE, payment_status="overdue", expires="2026-12-07")
    told = {}
    for form in ("flat", "wrapped", "unknown"):
        sim.set_line(LINE, payment_form=form)
        told[form] = ask("/payment/status").json()
    assert (told["flat"]["paymentStatus"], told["flat"]["expires"]) == ("overdue", "2026-12-07")
    assert told["wrapped"]["data"] == {"plan": "LITE", "status": "overdue", "dueDate": "2026-12-07"}
    assert "overdue" not in str(told["unknown"])


def test_a_restart_may_lose_the_webhooks_and_a_put_may_do_nothing(sim: Simulator, ask: Any) -> None:
    def put(url: str) -> Any:
        return ask("/webhook/update-webhook-received", method="PUT", json={"value": url}).json()

    sim.set_line(LINE, restart_loses_webhooks=True)
    put("https://hook.example/?key=k")
    assert ask("/instance/fetch-instance").json()["webhookReceivedUrl"] == "https://hook.example/?key=k"
    ask("/instance/restart")
    assert ask("/instance/fetch-instance").json()["webhookReceivedUrl"] == ""
    sim.set_line(LINE, webhooks_without_effect=True, fetch_leaves_out_empty=True)
    assert put("https://hook.example/?key=k")["error"] is False
    assert "webhookReceivedUrl" not in ask("/instance/fetch-instance").json()


def test_a_put_beside_too_many_others_is_refused() -> None:
    ledger, provider = Ledger(), Provider(max_concurrent_puts=1)
    with ledger.put(provider) as first:
        with ledger.put(provider) as second:
            assert (first, second and second.status) == (None, 429)
        with ledger.put(Provider()) as without_a_limit:
            assert without_a_limit is None
    with ledger.put(provider) as after:
        assert after is None

"""``--contract`` on the real stack: what differs is named, no value is shown, and ``--send`` leaves the address right."""

from __future__ import annotations

import io
import json
import signal
import stat
import sys
import threading
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest
from doctoring import Doctor, healthy
from pydantic import SecretStr
from waiting import until
from world import SECRET, Line, World

from dev.simulator.provider import key_of
from ops.common.interrupted import Interrupted
from ops.doctor.contract.command import ContractError, Order, run
from ops.doctor.contract.sending import TURNED, Waits
from ops.doctor.settings import DoctorSettings
from shared.core.registration import Target

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

KINDS = ["disconnected", "connected", "received", "delivery", "message-status"]
NO_TIME = timedelta(0)
QUICK = Waits(
    path=timedelta(seconds=60),
    wrong=NO_TIME,
    late=NO_TIME,
    poll=timedelta(seconds=0.02),
    put_back=(NO_TIME,) * 4,
)


@pytest.fixture
def doctor(world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Doctor:
    return Doctor(world, monkeypatch, capsys)


class Contract:
    """A line whose webhooks point to us, and walks over it."""

    def __init__(self, doctor: Doctor, world: World, folder: Path) -> None:
        self.world = world
        self.folder = folder
        [self.line] = healthy(world, 1)
        self.url = f"{doctor.function_url}/?key={key_of(self.line.external_id, SECRET)}"
        self.target = Target(doctor.function_url, (SecretStr(SECRET),))
        world.simulator.set_provider(webhook_url=None)
        world.behave(self.line, webhooks=dict.fromkeys(KINDS, self.url), answers_sends=True)
        self.said: list[str] = []

    def walk(
        self, *, send: bool = False, sure: bool = True, waits: Waits = QUICK, say: Callable[[str], object] | None = None
    ) -> tuple[int, dict[str, Any]]:
        settings = DoctorSettings(
            supabase_url=self.world.stack.supabase_url,
            supabase_service_role_key=SecretStr(self.world.stack.service_role_key),
            wapi_base_url=self.world.simulator.wapi_url,
            look_timeout_seconds=2,
        )
        order = Order(str(self.line.id), send=send, sure=sure, folder=self.folder, waits=waits)
        code = run(settings, self.target, order, say=say or self.said.append)
        newest = max(self.folder.glob("*.json"), key=lambda path: path.stat().st_mtime_ns)
        return code, json.loads(newest.read_text("utf-8"))

    def differences(self, said: dict[str, Any]) -> dict[str, list[str]]:
        return {
            call["call"]: [each["what"] for each in call["differences"]]
            for call in said["calls"]
            if call["differences"]
        }

    @property
    def webhooks(self) -> Any:
        return self.world.simulator.line(self.line.external_id)["webhooks"]

    def values(self) -> list[str]:
        """What may stand in no report."""
        line = self.line
        return [
            line.phone,
            line.phone[-8:],
            line.token,
            line.external_id,
            SECRET,
            self.url,
            "3EB0AA",
            "Ana",
            "Oi, tem data",
        ]


@pytest.fixture
def contract(doctor: Doctor, world: World, tmp_path: Path) -> Contract:
    return Contract(doctor, world, tmp_path)


def test_a_walk_asks_once_changes_nothing_and_shows_no_value(contract: Contract, doctor: Doctor) -> None:
    world, line = contract.world, contract.line
    for _ in range(25):
        world.simulator.emit(line.external_id, "received")
    rows = world.sql("select * from public.wapi_instances")
    world.simulator.forget_calls()

    code, out, err = doctor.run("--contract", line.external_id, "--out", str(contract.folder))

    written = sorted(contract.folder.iterdir())
    assert [path.suffix for path in written] == [".json", ".txt"]
    assert [stat.S_IMODE(path.stat().st_mode) for path in written] == [0o600, 0o600]
    said = json.loads(written[0].read_text("utf-8"))
    assert (code, said["relied_differences"], said["plan"]) == (0, 0, "LITE"), out
    assert written[1].read_text("utf-8") == out
    assert str(line.id) in out
    everything = out + err + written[0].read_text("utf-8")
    assert [value for value in contract.values() if value in everything] == []
    assert (said["log"]["at"], said["log"]["per_page"], said["log"]["second_page"]) == ("logs", [20, 5, 0], "follows")
    assert said["log"]["events"] == {"webhookReceived": 25}
    calls = {call: number for call, number in world.simulator.calls().items() if number}
    assert calls.keys() <= {
        "status-instance",
        "device",
        "fetch-instance",
        "fetch-webhook-logs",
        "payment-status",
    }
    assert (calls["device"], calls["fetch-instance"], calls["fetch-webhook-logs"]) == (1, 1, 3)
    assert world.sql("select * from public.wapi_instances") == rows
    assert doctor.run("--json", "--contract", str(line.id), "--out", str(contract.folder))[1].startswith("{")


def test_what_differs_is_named_call_by_call(contract: Contract) -> None:
    world, line = contract.world, contract.line
    world.simulator.set_provider(log_form="bare")
    for faults, found in (
        ({"status-instance": "connected_string"}, {"status-instance": ["connected is text: boolean, and not boolean"]}),
        ({"status-instance": "404_html_cannot_get"}, {"status-instance": ["HTTP 404, and not 200"]}),
        ({"device": "200_html", "fetch-instance": "json_array"}, {
            "device": ["an HTML page, and not a JSON object"], "fetch-instance": ["a JSON list, and not a JSON object"],
        }),
        ({"device": "200_error_object_message"}, {"device": ['HTTP 200 with "error": true']}),
        ({"fetch-instance": "200_empty_object"}, {"fetch-instance": [f"no webhook{kind}Url" for kind in (
            "Connected", "Disconnected", "Received", "Delivery", "Status")]}),
    ):  # fmt: skip
        # A fault of status-instance is met by the calls with a made-up token and line only if it lasts.
        world.behave(line, faults={call: {"fault": fault, "times": 1} for call, fault in faults.items()})
        code, said = contract.walk()
        differing = contract.differences(said)
        differing.pop("payment/status", None)
        assert (code, differing) == (1, found)
        assert said["log"]["at"] == "(answer)"


def test_a_call_that_is_throttled_is_asked_again_and_one_that_hangs_is_said(contract: Contract) -> None:
    world, line = contract.world, contract.line
    world.simulator.set_provider(retry_after_seconds=0)
    world.behave(line, faults={"device": {"fault": "429_retry_after", "times": 1}, "fetch-webhook-logs": "reset"})
    code, said = contract.walk()
    by_name = {call["call"]: call for call in said["calls"]}
    assert (code, said["calls_without_answer"], said["log"]) == (2, 1, None)
    assert (by_name["device"]["asked_to_wait"], by_name["device"]["status"]) == (1, 200)
    assert by_name["fetch-webhook-logs"]["no_answer"]


@pytest.mark.parametrize("holds", [True, False], ids=["the log holds it", "the log does not"])
def test_sending_proves_the_path_and_says_whether_the_log_holds_what_was_refused(
    contract: Contract, holds: bool
) -> None:
    world = contract.world
    world.simulator.set_provider(log_holds_undelivered=holds)

    def refused() -> list[str]:
        kept: list[Any] = world.simulator.deliveries(contract.line.external_id)
        return [each["event"] for each in kept if each["status"] == 401]

    def say(text: str) -> None:
        contract.said.append(text)
        if text.startswith("sent; our address"):  # its two minutes are as long as that
            until(lambda: len(refused()) == 2)

    code, said = contract.walk(send=True, say=say)

    assert code == 0, said
    path = said["path"]
    assert (path["is_proven"], path["named_by"], path["stored"]) == (True, "messageId", "delivered")
    assert path["events"] == ["webhookDelivery", "webhookStatus"]
    assert said["undelivered"] == {"in_log": holds, "came_late": False, "cause": None}
    assert said["done"] == "2 messages went to the line's own number; the right address was put back"
    assert contract.webhooks == dict.fromkeys(KINDS, contract.url)
    assert refused() == ["webhookDelivery", "webhookStatus"]
    everything = "".join(path.read_text("utf-8") for path in contract.folder.iterdir()) + str(contract.said)
    assert [value for value in contract.values() if value in everything] == []


def test_a_message_that_comes_back_nowhere_is_no_proof_and_changes_no_address(contract: Contract) -> None:
    contract.world.behave(contract.line, answers_sends=False)
    code, said = contract.walk(send=True, waits=Waits(path=NO_TIME, poll=NO_TIME))
    assert (code, said["path"]["is_proven"], said["path"]["cause"]) == (1, False, "no event of it came")
    assert said["undelivered"]["in_log"] is None
    assert "update-webhook-delivery" not in contract.world.simulator.calls(contract.line.external_id)


def test_a_send_without_an_answer_is_not_repeated(contract: Contract) -> None:
    contract.world.behave(contract.line, faults={"send-text": "reset"})
    code, said = contract.walk(send=True)
    assert (code, said["path"]["sent"]) == (1, False)
    assert "whether it was sent is not known" in said["path"]["cause"]
    assert contract.world.simulator.calls(contract.line.external_id)["send-text"] == 1


@pytest.mark.parametrize(
    "faults",
    [
        pytest.param(
            {"update-webhook-message-status": {"fault": "reset", "times": 1}}, id="a call in the middle has no answer"
        ),
        pytest.param(
            {"update-webhook-delivery": {"fault": "hang", "times": 1}}, id="a call hangs, and may have had its effect"
        ),
        pytest.param({"send-text": {"fault": "reset", "times": 2}}, id="the message has no answer"),
    ],
)
def test_the_address_is_put_back_whatever_call_fails(contract: Contract, faults: dict[str, object]) -> None:
    world = contract.world

    def say(text: str) -> None:
        contract.said.append(text)
        if text.startswith("sent; waiting"):
            world.behave(contract.line, faults=faults)

    code, said = contract.walk(send=True, say=say)
    assert code in (0, 2), said
    assert said["undelivered"]["in_log"] is None
    assert contract.webhooks == dict.fromkeys(KINDS, contract.url)
    assert "the right address was put back" in said["done"]


def test_the_address_is_put_back_after_an_error_that_nobody_expected(contract: Contract) -> None:
    def say(text: str) -> None:
        if text.startswith("sent; our address"):
            assert {kind for kind, url in contract.webhooks.items() if url != contract.url} == set(TURNED)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        contract.walk(send=True, say=say)
    assert contract.webhooks == dict.fromkeys(KINDS, contract.url)


class _Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(("typed", "messages"), [("path\n", 1), ("no\n", 0), ("", 0)])
def test_it_asks_once_and_does_what_was_typed(
    contract: Contract, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], typed: str, messages: int
) -> None:
    monkeypatch.setattr(sys, "stdin", _Terminal(typed))
    code, said = contract.walk(send=True, sure=False)
    assert capsys.readouterr().err.count("--send will") == 1
    calls = contract.world.simulator.calls(contract.line.external_id)
    assert (calls.get("send-text", 0), calls.get("update-webhook-delivery", 0)) == (messages, 0)
    assert (code, said["undelivered"]) == (0 if messages else 2, None)
    assert said["not_sent"] == (None if messages else "you did not say yes")


def test_an_address_that_cannot_be_put_back_is_said_loudly(contract: Contract) -> None:
    world = contract.world

    def say(text: str) -> None:
        if text.startswith("sent; our address"):
            world.behave(
                contract.line, faults=dict.fromkeys((f"update-webhook-{kind}" for kind in TURNED), "200_error_true")
            )

    code, said = contract.walk(send=True, say=say)
    assert code == 1
    assert "could NOT be put back" in said["done"]
    assert "--fix-webhooks" in said["done"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_whoever_ends_it_leaves_the_right_address(contract: Contract, number: signal.Signals) -> None:
    def end() -> None:
        until(lambda: any(said.startswith("sent; our address") for said in contract.said))
        signal.pthread_kill(threading.main_thread().ident or 0, number)  # as a terminal does

    def say(text: str) -> None:
        contract.said.append(text)
        if text.startswith("sent; our address"):
            contract.world.behave(contract.line, faults={"update-webhook-delivery": {"fault": "reset", "times": 1}})
        if "not back yet" in text:
            signal.raise_signal(number)  # an impatient second time

    waits = Waits(QUICK.path, timedelta(hours=1), NO_TIME, QUICK.poll, QUICK.put_back)
    before = signal.signal(signal.SIGTERM, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    killer = threading.Thread(target=end)
    killer.start()
    try:
        with pytest.raises(Interrupted) as interrupted:
            contract.walk(send=True, waits=waits, say=say)
    finally:
        killer.join()
        signal.signal(signal.SIGTERM, before)
    assert str(interrupted.value) == "2 messages went to the line's own number; the right address was put back"
    assert [said for said in contract.said if "not back yet" in said]
    assert contract.webhooks == dict.fromkeys(KINDS, contract.url)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_call_that_is_under_way_has_its_effect_before_the_address_is_put_back(contract: Contract) -> None:
    """The provider takes 300 ms for whatever is asked first; what is cut off would have its effect after the right address."""
    world, line = contract.world, contract.line
    asked: list[int] = []

    def end() -> None:
        until(lambda: asked)
        until(lambda: world.simulator.calls(line.external_id).get("update-webhook-message-status", 0) > 0)
        world.behave(line, latency_ms=0)
        signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)

    def say(text: str) -> None:
        if text.startswith("sent; waiting"):
            world.behave(line, latency_ms=300)
            asked.append(1)

    killer = threading.Thread(target=end)
    killer.start()
    try:
        with pytest.raises(Interrupted) as interrupted:
            contract.walk(send=True, say=say)
    finally:
        killer.join()
    until(lambda: world.simulator.summary()["in_flight"] == 0)
    assert "the right address was put back" in str(interrupted.value)
    assert contract.webhooks == dict.fromkeys(KINDS, contract.url)


def test_before_the_address_is_changed_a_sweep_is_asked_to_set_it_right(contract: Contract) -> None:
    """So that a SIGKILL costs the line's messages of some minutes, and not of the six hours until its turn."""
    asked: list[dict[str, Any]] = []

    def say(text: str) -> None:
        if text.startswith("sent; our address"):
            asked.extend(
                contract.world.sql(
                    "select requested_at is not null and requested_at = next_try_at as is_asked, next_try_at - now() as within"
                    " from public.instance_registrations where instance_id = %s",
                    contract.line.id,
                )
            )
            assert set(contract.webhooks.values()) != {contract.url}

    waits = Waits(QUICK.path, NO_TIME, NO_TIME, QUICK.poll, (*QUICK.put_back, timedelta(minutes=3)))
    assert contract.walk(send=True, waits=waits, say=say)[0] == 0
    [row] = asked
    assert row["is_asked"]
    assert timedelta(minutes=2) < row["within"] < timedelta(minutes=3)

    contract.said.clear()
    contract.world.sql("alter function public.request_registration rename to request_registration_away")
    try:
        _, said = contract.walk(send=True)
    finally:
        contract.world.sql("alter function public.request_registration_away rename to request_registration")
    assert "no sweep could be asked" in said["undelivered"]["cause"]
    assert not [told for told in contract.said if told.startswith("sent; our address")]


def test_nothing_is_sent_where_nothing_can_be_followed_or_nobody_can_be_asked(
    contract: Contract, doctor: Doctor
) -> None:
    world, line = contract.world, contract.line
    with pytest.raises(ContractError, match="asks before it sends"):
        contract.walk(send=True, sure=False)  # no terminal here
    world.behave(line, webhooks=dict.fromkeys(KINDS, "https://old.example/hook"))
    code, said = contract.walk(send=True)
    assert (code, said["not_sent"]) == (
        2,
        "the line's webhooks do not point to us: run the doctor with --fix-webhooks first",
    )
    world.behave(line, webhooks=dict.fromkeys(KINDS, contract.url), session="ghost")
    assert contract.walk(send=True)[1]["not_sent"].startswith("the line is not connected")
    contract.target = Target(contract.target.url, (SecretStr("a-secret-that-is-not-deployed"),))
    assert contract.walk(send=True)[1]["not_sent"].startswith("wapi_webhook does not take")
    assert "send-text" not in world.simulator.calls(line.external_id)
    assert doctor.run("--contract", "LITE-NOBODY-000000") == (
        2, "", "no line of W-API has this id: --contract takes our uuid or the external id\n",
    )  # fmt: skip
    with pytest.raises(SystemExit, match="2"):
        doctor.run("--send")


def test_an_answer_full_of_phones_and_tokens_shows_none(contract: Contract) -> None:
    """Keys and values that are phones, tokens, names: through every call that a line can be made to answer so."""
    line: Line = contract.line
    hostile = {
        line.phone: line.token,
        line.token: {line.external_id: [line.phone]},
        f"{line.phone}@s.whatsapp.net": "Ana",
    }
    for _ in range(3):
        contract.world.simulator.emit(
            line.external_id, event={"event": "webhookReceived", "instanceId": line.external_id, **hostile}
        )
    _, said = contract.walk()
    everything = "".join(path.read_text("utf-8") for path in contract.folder.iterdir())
    assert said["log"]["per_page"] == [3, 0]
    assert "the oldest: not told" in everything
    assert "logs[].<a word that may be a value>" in everything
    assert [value for value in contract.values() if value.lower() in everything.lower()] == []

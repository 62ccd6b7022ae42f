"""wapi_webhook through the served function, the real PostgREST and the simulator: the connection events."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import httpx
import psycopg
import pytest
from composites import EVIDENCE, POLICY, SIGHTING, arguments
from loopback import http
from served import FunctionServer
from waiting import until
from world import OLD_SECRET, SECRET, webhook_environment

if TYPE_CHECKING:
    from world import Line, World

MINUTE = timedelta(minutes=1)


def inbox(world: World) -> list[dict[str, Any]]:
    return world.sql("select * from public.wapi_webhook_events order by id")


def down(world: World, line: Line) -> None:
    """The session is gone, and its event has arrived."""
    world.behave(line, session="disconnected")
    assert world.event(world.disconnection(line)) == "disconnected"


@pytest.mark.parametrize("name", ["webhookDisconnected", "disconnection"])
def test_a_disconnection_marks_the_line_and_rings_the_bell_at_once(world: World, name: str) -> None:
    line = world.line(world.company(users=2), "Jardins", session="disconnected")

    assert world.event(world.disconnection(line) | {"event": name}) == "disconnected"

    row = world.row(line)
    assert (row["status"], row["status_reason"]) == ("disconnected", "disconnect_event")
    assert len(world.outages(line)) == 1
    bells = world.bells(line)
    assert [bell["message"] for bell in bells] == [
        "WhatsApp da unidade Jardins perdeu conexão. Reconecte via QR Code em Configurações."
    ] * 2
    assert {bell["data"]["reason"] for bell in bells} == {"disconnect_event"}
    assert world.audit(line) == ["outage_opened", "status_changed"]


def test_a_disconnect_event_never_marks_the_line_connected(world: World) -> None:
    """Regression: a disconnect event first marked the line connected (any webhook counted as life)."""
    line = world.line(world.company(users=1), status="disconnected", session="disconnected")

    world.event(world.disconnection(line))

    row = world.row(line)
    assert (row["status"], row["last_event_at"], row["last_alive_at"]) == ("disconnected", None, None)


def test_the_same_disconnection_again_rings_no_second_bell(world: World) -> None:
    """Regression: the bell rang again and again (no transition test, no unique key)."""
    line = world.line(world.company(users=1), session="disconnected")
    event = world.disconnection(line)

    assert world.event(event) == "disconnected"
    assert world.event(event) == "duplicate"
    assert world.event(event | {"moment": event["moment"] + 1}) == "already_disconnected"

    assert len(world.bells(line)) == 1
    assert len(world.outages(line)) == 1


def test_a_disconnection_that_one_look_denies_marks_nothing_and_is_recorded(world: World) -> None:
    line = world.line(world.company(users=1), session="alive")

    assert world.event(world.disconnection(line)) == "denied"

    assert world.status(line) == "connected"
    assert world.bells() == []
    assert world.audit(line) == ["disconnection_denied"]
    assert world.outages(line) == []


@pytest.mark.parametrize("fault", ["500", "hang", "404_html_cannot_get", "429"])
def test_a_blind_look_believes_the_disconnection(world: World, fault: str) -> None:
    line = world.line(world.company(users=1))
    world.behave(line, faults={"status-instance": fault})

    assert world.event(world.disconnection(line)) == "disconnected"
    assert len(world.bells(line)) == 1


def test_a_blind_look_among_six_disconnections_only_degrades(world: World) -> None:
    company = world.company(users=1)
    lines = world.lines(company, 7)
    world.simulator.set_provider(down="500")

    outcomes = [world.event(world.disconnection(line)) for line in lines]

    assert outcomes == ["disconnected"] * 5 + ["degraded"] * 2
    assert [world.status(line) for line in lines] == ["disconnected"] * 5 + ["degraded"] * 2
    assert len(world.bells()) == 5
    assert all(len(world.outages(line)) == 1 for line in lines)


def test_six_disconnections_more_than_two_minutes_apart_are_no_mass(world: World) -> None:
    company = world.company(users=1)
    for line in world.lines(company, 5):
        world.behave(line, session="disconnected")
        world.event(world.disconnection(line))
    world.pass_time(2 * MINUTE + timedelta(seconds=1))
    late = world.line(company)
    world.behave(late, faults={"status-instance": "500"})

    assert world.event(world.disconnection(late)) == "disconnected"


@pytest.mark.parametrize(
    ("column", "expected"),
    [
        ("connected_at", "stale"),
        ("last_event_at", "stale"),
        ("last_alive_at", "stale"),
        ("updated_at", "disconnected"),
        ("created_at", "disconnected"),
        ("last_health_check", "disconnected"),
    ],
)
def test_a_disconnection_older_than_a_sign_of_life_has_no_effect(world: World, column: str, expected: str) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.set(line, f"{column} = now()")

    assert world.event(world.disconnection(line, moment=time.time() - 62)) == expected


def test_a_disconnection_at_most_a_minute_older_than_a_sign_of_life_is_believed(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.set(line, "last_alive_at = now()")

    assert world.event(world.disconnection(line, moment=time.time() - 50)) == "disconnected"


def test_a_disconnection_late_by_an_hour_does_not_take_a_live_line_down(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.set(line, "last_alive_at = now() - interval '4 minutes'")

    assert world.event(world.disconnection(line, moment=time.time() - 3600)) == "stale"
    assert world.status(line) == "connected"
    assert world.audit(line) == ["disconnection_ignored"]


@pytest.mark.parametrize("moment", [None, 4102444800], ids=["no moment", "a moment far ahead"])
def test_an_unusable_moment_counts_as_the_time_of_arrival(world: World, moment: int | None) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.set(line, "last_alive_at = now() - interval '1 minute'")

    assert world.event(world.disconnection(line) | {"moment": moment}) == "disconnected"
    [outage] = world.outages(line)
    assert abs((outage["started_at"] - outage["opened_at"]).total_seconds()) < 5


def test_two_disconnections_without_a_moment_are_two_facts_and_one_bell(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    event = world.disconnection(line)
    del event["moment"]

    assert [world.event(event), world.event(event)] == ["disconnected", "already_disconnected"]
    assert len(inbox(world)) == 2
    assert len(world.bells(line)) == 1


def test_a_disconnection_shortly_after_our_own_restart_is_recorded_and_not_acted_on(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.set(line, "last_restart_at = now() - interval '20 seconds'")
    assert world.event(world.disconnection(line)) == "own_restart"
    assert world.status(line) == "connected"

    world.set(line, "last_restart_at = now() - interval '61 seconds'")
    assert world.event(world.disconnection(line, fields=1)) == "disconnected"


@pytest.mark.parametrize("name", ["webhookConnected", "connection"])
def test_a_connection_restores_the_line_and_tells_who_had_been_told(world: World, name: str) -> None:
    line = world.line(world.company(users=2), "Jardins")
    down(world, line)
    world.pass_time(timedelta(hours=2, minutes=5))
    world.set(line, "phone_number = null")

    assert world.event(world.connection(line) | {"event": name}) == "restored"

    row = world.row(line)
    assert (row["status"], row["phone_number"], row["bad_since"]) == ("connected", line.phone, None)
    assert row["connected_at"] is not None
    assert row["last_event_at"] is not None
    assert [outage["closed_as"] for outage in world.outages(line)] == ["event"]
    assert [bell["message"] for bell in world.bells(line, kind="instance_reconnected")] == [
        "WhatsApp da unidade Jardins voltou a funcionar depois de 2 h 5 min."
    ] * 2


def test_a_connection_of_a_live_line_moves_neither_status_nor_connected_at(world: World) -> None:
    line = world.line(world.company(users=1))
    world.set(line, "connected_at = now() - interval '3 days'")
    before = world.row(line)

    assert world.event(world.connection(line)) == "alive"

    after = world.row(line)
    assert (after["status"], after["connected_at"]) == ("connected", before["connected_at"])
    assert after["last_event_at"] is not None
    assert world.bells() == []


def test_a_connection_without_a_valid_phone_is_no_sign_of_life_and_overwrites_no_number(world: World) -> None:
    line = world.line(world.company(users=1))
    down(world, line)

    for phone in (None, "", "abc", "123"):
        assert world.event(world.connection(line) | {"connectedPhone": phone}) == "no_phone"

    row = world.row(line)
    assert (row["status"], row["phone_number"]) == ("disconnected", line.phone)


def test_another_phone_is_stored_and_recorded(world: World) -> None:
    line = world.line(world.company())

    world.event(world.connection(line) | {"connectedPhone": "5511977777777"})

    assert world.row(line)["phone_number"] == "5511977777777"
    [event] = world.sql("select details from public.instance_events where kind = 'phone_changed'")
    event["details"].pop("event_id")
    assert event["details"] == {"from_last4": line.phone[-4:], "to_last4": "7777", "cause": "connection"}


def test_a_connection_from_before_the_outage_proves_no_life(world: World) -> None:
    line = world.line(world.company(users=1))
    down(world, line)
    began = world.outages(line)[0]["life_counts_from"].timestamp()

    assert world.event(world.connection(line, moment=began - 1)) == "stale"
    assert world.status(line) == "disconnected"
    assert world.event(world.connection(line, moment=began)) == "restored"


def test_an_outage_that_a_look_opened_counts_life_from_five_seconds_before(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.behave(line, restart="refused")
    world.sweep()
    opened = world.outages(line)[0]["opened_at"].timestamp()

    assert world.event(world.connection(line, moment=opened - 7)) == "stale"
    assert world.event(world.connection(line, moment=opened - 3)) == "restored"


@pytest.mark.parametrize(
    "event",
    [
        pytest.param({"event": "message"}, id="another API's name of a message"),
        pytest.param({"event": "message-status", "status": "READ"}, id="another API's name of an ack"),
        pytest.param({"event": "webhookChatPresence"}, id="presence"),
        pytest.param({"event": "WebhookDisconnected", "disconnected": True}, id="another spelling"),
        pytest.param({"disconnected": True}, id="no event at all"),
        pytest.param({"event": "webhookDisconnected", "disconnected": False}, id="a disconnection that denies itself"),
    ],
)
def test_every_other_event_is_kept_raw_and_changes_no_status(world: World, event: dict[str, Any]) -> None:
    line = world.line(world.company(users=1), session="disconnected")

    assert world.event(event | {"instanceId": line.external_id, "moment": int(time.time())}) == "kept"

    assert world.status(line) == "connected"
    [kept] = inbox(world)
    assert (kept["instance_id"], kept["outcome"], kept["event"]) == (line.id, "kept", event.get("event"))
    assert httpx.Response(200, text=kept["body"]).json()["instanceId"] == line.external_id
    assert kept["processed_at"] is not None


def test_an_event_for_an_unknown_line_is_kept_and_answered(world: World) -> None:
    assert (
        world.event({"event": "webhookDisconnected", "instanceId": "LITE-NOBODY", "disconnected": True})
        == "unknown_instance"
    )
    assert world.event({"event": "webhookConnected", "connected": True}) == "unknown_instance"
    assert [kept["instance_id"] for kept in inbox(world)] == [None, None]


def test_a_paused_line_is_not_touched_by_its_events(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected", is_active=False)

    assert world.event(world.disconnection(line)) == "paused"
    assert world.event(world.connection(line)) == "paused"
    assert world.bells() == []
    assert {kept["instance_id"] for kept in inbox(world)} == {line.id}


def test_of_two_rows_with_one_external_id_the_active_one_is_meant(world: World) -> None:
    company = world.company(users=1)
    paused = world.line(company, status="disconnected", is_active=False)
    active = world.line(company, instance_id=paused.external_id, at_provider=False)
    world.behave(paused, session="disconnected")

    world.event(world.disconnection(paused))

    assert (world.status(active), world.outages(paused)) == ("disconnected", [])


def test_a_line_that_is_down_before_the_event_gets_its_outage_and_bell(world: World) -> None:
    line = world.line(world.company(users=1), status="instance_not_found", session="disconnected")

    assert world.event(world.disconnection(line)) == "disconnected"
    assert len(world.bells(line)) == 1


@pytest.mark.parametrize("key", [None, "", "wrong", "a-secret-of-the-webhook-", "ã-secret-of-the-webhook-1"])
def test_a_wrong_or_missing_key_is_401_and_leaves_nothing(world: World, key: str | None) -> None:
    line = world.line(world.company(users=1), session="disconnected")

    answer = world.post(world.disconnection(line), key=key)

    assert answer.status_code == 401
    assert inbox(world) == []
    assert world.status(line) == "connected"


def test_every_secret_in_rotation_opens(world: World) -> None:
    assert world.post({"event": "x"}, key=OLD_SECRET).status_code == 200


@pytest.mark.parametrize(
    "body",
    [b"", b"not json", b"[]", b'"text"', b"{", b"\xff\xfe", b'{"a": NaN}', b"[" * 100_000, b'{"a":' * 5000 + b"1" + b"}" * 4999],
    ids=lambda body: f"{body[:12]!r}",
)  # fmt: skip
def test_a_body_that_is_no_json_object_is_400_and_says_why(world: World, body: bytes) -> None:
    answer = world.post(None, content=body)

    assert answer.status_code == 400
    assert "the body is" in answer.json()["error"]
    assert [row["kind"] for row in inbox(world)] == ["rejected"] * bool(body)


def test_what_is_nested_too_deeply_to_be_read_is_kept(world: World) -> None:
    body = b'{"a":' * 5000 + b"1" + b"}" * 5000
    assert world.post(None, content=body).json() == {"outcome": "unknown_instance"}
    assert [row["body"] for row in inbox(world)] == [body.decode()]


def test_a_body_over_one_mebibyte_is_413(world: World) -> None:
    fits = b'{"a":"' + b"x" * (1024 * 1024 - 8) + b'"}'
    assert world.post(None, content=fits).status_code == 200
    assert world.post(None, content=fits + b" ").status_code == 413

    def streamed() -> Any:
        for _ in range(20):
            yield b" " * 100_000

    assert world.post(None, content=streamed()).status_code == 413


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH"])
def test_other_methods_are_405(world: World, method: str) -> None:
    answer = http.request(method, world._served("wapi_webhook").url)
    assert (answer.status_code, answer.headers["allow"]) == (405, "POST, GET, HEAD")


def test_a_get_says_what_the_address_is_and_health_answers(world: World) -> None:
    url = world._served("wapi_webhook").url
    answer = http.get(f"{url}/?key={SECRET}")
    assert (answer.status_code, "This is wapi_webhook" in answer.text, SECRET in answer.text) == (200, True, False)
    assert http.get(f"{url}/health").json() == {"status": "ok"}


def test_text_that_a_database_cannot_hold_harms_nothing(world: World) -> None:
    body = rb'{"event": "webhookDisconnected", "instanceId": "LITE\u0000X", "note": "\ud800 \u0000"}'
    assert world.post(None, content=body).json() == {"outcome": "unknown_instance"}
    [kept] = inbox(world)
    assert kept["body"] == body.decode()


def test_an_event_that_was_cut_off_before_its_effect_gets_it_when_it_comes_again(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    event = world.disconnection(line)
    assert world.event(event) == "disconnected"
    # As if the process had died between keeping the event and settling it.
    world.sql("update public.wapi_webhook_events set processed_at = null, outcome = 'look'")
    world.sql("delete from public.instance_outages")
    world.sql("delete from public.notifications")
    world.set(line, "status = 'connected', bad_since = null")

    assert world.event(event) == "disconnected"
    assert len(world.bells(line)) == 1


def test_the_round_trips_of_an_event_are_one_and_of_a_disconnection_two(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    counted = world.stack.postgrest_requests
    world.event({"event": "warm"})

    counted.reset()
    world.event(world.connection(line))
    world.event({"event": "webhookReceived", "instanceId": line.external_id})
    assert counted.total == 2

    counted.reset()
    world.event(world.disconnection(line, moment=time.time() + 61))
    assert counted.total == 2


def test_twenty_copies_of_one_disconnection_at_once_ring_one_bell_a_user(world: World) -> None:
    line = world.line(world.company(users=3), session="disconnected")
    event = world.disconnection(line)
    with ThreadPoolExecutor(20) as threads:
        outcomes = list(threads.map(world.event, [event] * 20))

    assert outcomes.count("disconnected") == 1
    assert set(outcomes) <= {"disconnected", "duplicate"}
    assert len(world.bells(line)) == 3
    assert len(world.outages(line)) == 1


def test_events_of_the_simulators_own_restart_disturb_nobody(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    hook = f"{world._served('wapi_webhook').url}/?key={OLD_SECRET}"
    world.simulator.set_provider(webhook_url=hook)
    world.behave(line, restart_events=True)

    answer = world.sweep()

    assert (answer["recovered"], answer["notified"]) == (1, 0)
    assert world.status(line) == "connected"
    assert world.bells() == []


def test_without_confirmation_a_disconnection_is_believed_unseen(world: World) -> None:
    line = world.line(world.company(users=1), session="alive")
    settings = webhook_environment(world.stack, world.simulator) | {"CONFIRM_DISCONNECT_EVENTS": "false"}
    with FunctionServer("wapi_webhook", settings) as server:
        answer = http.post(server.url, params={"key": OLD_SECRET}, json=world.disconnection(line))

    assert answer.json() == {"outcome": "disconnected"}
    assert world.simulator.calls(line.external_id) == {}
    assert len(world.bells(line)) == 1


def test_through_wapi_send_the_look_that_confirms_goes_there_too(world: World) -> None:
    line = world.line(world.company(users=1), session="alive")
    settings = webhook_environment(world.stack, world.simulator) | {"WAPI_SEND_URL": world.simulator.wapi_send_url}
    with FunctionServer("wapi_webhook", settings) as server:
        answer = http.post(server.url, params={"key": OLD_SECRET}, json=world.disconnection(line))

    assert answer.json() == {"outcome": "denied"}
    assert world.simulator.calls(line.external_id) == {"wapi-send:get-status": 1}


def test_a_sign_of_life_while_a_sweep_is_at_the_line_stops_its_verdict(world: World, sweeping: dict[str, Any]) -> None:
    """Regression: kept to the minute, the event was not stored, and the line was marked although it had just spoken."""
    line, claimed = sweeping["line"], sweeping["claimed"]
    world.set(line, "last_event_at = now() - interval '40 seconds'")

    assert world.event(world.connection(line)) == "alive"

    just_before = str(world.sql("select now() - interval '2 seconds' as at")[0]["at"])
    verdict = world.database.execute(
        f"select public.apply_verdict({SIGHTING}, 'disconnected', 'disconnected', '{{}}', true, {EVIDENCE}, {POLICY}) as verdict",
        arguments(claimed, "DISCONNECTED", looked_at=just_before),
    ).fetchall()[0]["verdict"]
    assert verdict["applied"] is False
    row = world.row(line)
    assert (row["status"], row["health_lease_until"]) == ("connected", None)


@pytest.fixture
def sweeping(world: World) -> dict[str, Any]:
    """A line that a sweep has just claimed."""
    line = world.line(world.company(users=1))
    claimed = world.sql("select public.claim_instances(now(), '60 seconds', 1) as claimed")[0]["claimed"]
    return {"line": line, "claimed": claimed["instances"][0]}


def test_an_old_connection_undoes_nothing_that_is_newer(world: World) -> None:
    line = world.line(world.company(), status="disconnected")
    world.set(line, "connected_at = now() - interval '1 day', last_alive_at = now() - interval '10 minutes'")
    assert world.event(world.connection(line, moment=time.time() - 3 * 86400)) == "stale"
    assert world.status(line) == "disconnected"

    alive = world.line(world.company())
    assert world.event(world.connection(alive) | {"connectedPhone": "5511911111111"}) == "alive"
    old = world.connection(alive, moment=time.time() - 50) | {"connectedPhone": "5511922222222"}
    assert world.event(old) == "alive"
    assert world.row(alive)["phone_number"] == "5511911111111"


def test_a_moment_of_long_ago_opens_no_outage_of_long_ago(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    assert world.event(world.disconnection(line, moment=1000)) == "disconnected"
    [outage] = world.outages(line)
    assert (outage["opened_at"] - outage["started_at"]).total_seconds() <= 3601


def test_an_untold_outage_and_a_status_of_the_platform_are_no_reason_to_ignore_an_event(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.set(line, "last_restart_at = now() - interval '5 minutes'")
    world.sweep()
    world.set(line, "status = 'disconnected'")

    assert world.event(world.disconnection(line)) == "disconnected"
    assert len(world.bells(line)) == 1


def test_an_event_of_an_unknown_or_paused_line_finds_its_row_by_an_index(world: World) -> None:
    world.sql(
        "insert into public.wapi_instances (user_id, company_id, instance_id, instance_token, is_active)"
        " select gen_random_uuid(), %s, 'LITE-' || n, 't', n %% 10 > 0 from generate_series(1, 5000) n",
        world.company(),
    )
    world.sql("analyze public.wapi_instances")
    for condition in ("is_active is not false", "is_active is false"):
        plan = world.sql(
            f"explain select * from public.wapi_instances where btrim(instance_id) = 'LITE-77' and btrim(instance_id) <> ''"
            f" and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi' and {condition}"
        )
        assert "Seq Scan" not in " ".join(row["QUERY PLAN"] for row in plan)


def test_a_chat_that_a_screen_holds_costs_the_lines_other_chats_nothing(world: World) -> None:
    """Section 8: one row locked by a screen. Its own messages wait or come again; nobody waits with them."""
    line = world.line(world.company(users=1))
    held, others = "5511944440000", [f"551194444000{n}" for n in range(1, 5)]
    for chat in (held, *others):
        assert world.event(world.message(line, chat=chat, messageId=f"FIRST{chat}")) == "stored"
    world.set(line, "last_event_at = now() - interval '5 minutes'")  # so that messages have the line's row to write
    with ThreadPoolExecutor(4) as pool:
        with psycopg.connect(world.stack.database_url) as screen:
            screen.execute("select from public.wapi_conversations where contact_phone = %s for update", (held,))
            waiting = [pool.submit(world.post, world.message(line, chat=held, messageId=f"HELD{n}")) for n in range(4)]
            taken = [world.event(world.message(line, chat=chat, messageId=f"OTHER{chat}")) for chat in others]
            looked_into = world.event(world.disconnection(line))
        codes = {each.result().status_code for each in waiting}

    assert taken == ["stored"] * len(others)
    assert looked_into == "denied"
    assert codes <= {200, 503}  # each waits 8 s at most, and the screen took as long as the others did


def test_a_message_that_waits_for_its_chat_does_not_hold_its_line(world: World) -> None:
    line = world.line(world.company(users=1))
    chat = "5511944440000"
    assert world.event(world.message(line, chat=chat, messageId="FIRST")) == "stored"
    world.set(line, "last_event_at = now() - interval '5 minutes'")
    with (
        ThreadPoolExecutor(1) as pool,
        psycopg.connect(world.stack.database_url) as screen,
        psycopg.connect(world.stack.database_url, autocommit=True) as another,
    ):
        screen.execute("select from public.wapi_conversations where contact_phone = %s for update", (chat,))
        waiting = pool.submit(world.post, world.message(line, chat=chat, messageId="HELD"))
        until(lambda: another.execute("select from pg_locks where not granted").fetchone() is not None)
        free = another.execute("select from public.wapi_instances where id = %s for update skip locked", (line.id,))
        assert free.rowcount == 1
        screen.rollback()
        assert waiting.result().status_code == 200


def test_events_older_than_later_life_lock_no_line(world: World) -> None:
    line = world.line(world.company(users=1))
    world.set(line, "last_alive_at = now(), last_event_at = now() - interval '3 hours'")
    with psycopg.connect(world.stack.database_url) as screen:
        screen.execute("select from public.wapi_instances where id = %s for no key update", (line.id,))
        late = [
            world.message(line, messageId=f"LATE{minutes}", moment=int(time.time()) - 60 * minutes)
            for minutes in (10, 9, 8)
        ]
        assert [world.event(each) for each in late] == ["stored"] * 3

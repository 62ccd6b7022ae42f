"""Why travels with what: from a notice, one query finds the answer that caused it; from a log line, its look and run."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from world import Line, World

WHY = """
select e.kind, e.source, e.reason, e.run_id, e.details
from public.notices n join public.instance_events e on e.id = n.event_id
where n.notification_id = %s
"""


def why(world: World, bell: dict[str, Any]) -> dict[str, Any]:
    [found] = world.sql(WHY, bell["id"])
    return found


@pytest.mark.parametrize(
    ("session", "observation", "cause"),
    [
        pytest.param("disconnected", "DISCONNECTED", "not_connected", id="it said that it is not connected"),
        pytest.param("ghost", "GHOST", "connected_no_phone", id="its device shows no phone"),
        pytest.param("ghost_401", "GHOST", "connected_logged_out", id="its device is logged out"),
        pytest.param("not_found", "NOT_FOUND", "http_404", id="the provider does not know it"),
        pytest.param("token_refused", "REFUSED", "http_401", id="the provider refuses its token"),
    ],
)
def test_the_notice_of_a_sweep_leads_to_the_answer_behind_it(
    world: World, session: str, observation: str, cause: str
) -> None:
    line = world.line(world.company(users=2), session=session)
    world.behave(line, restart="refused")
    answer = world.sweep()

    for bell in world.bells(line):
        found = why(world, bell)
        assert (found["kind"], found["source"], found["reason"]) == ("status_changed", "sweep", observation.lower())
        assert (found["details"]["observation"], found["details"]["cause"]) == (observation, cause)
        assert str(found["run_id"]) == answer["run_id"]
        assert found["details"]["told"] == 2
    logged = [
        fact for fact in world.facts("follow_up_check", "instance.disconnected") if fact["run"] == answer["run_id"]
    ]
    assert [(fact["observation"], fact["cause_word"]) for fact in logged] == [(observation, cause)]


@pytest.mark.parametrize(
    ("fault", "observation", "cause"),
    [
        pytest.param(None, "DISCONNECTED", "not_connected", id="confirmed"),
        pytest.param("504_html", "UNKNOWN", "http_504", id="the look was blind"),
    ],
)
def test_the_notice_of_an_event_leads_to_the_event_and_to_the_look(
    world: World, fault: str | None, observation: str, cause: str
) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    if fault:
        world.behave(line, faults={"status-instance": fault})
    assert world.event(world.disconnection(line)) == "disconnected"

    [bell] = world.bells(line)
    found = why(world, bell)
    assert (found["source"], found["reason"], found["run_id"]) == ("webhook", "disconnect_event", None)
    assert (found["details"]["observation"], found["details"]["cause"]) == (observation, cause)
    [event] = world.sql(
        "select event, kind from public.wapi_webhook_events where id = %s", found["details"]["event_id"]
    )
    assert event == {"event": "webhookDisconnected", "kind": "disconnection"}


def back(world: World, line: Line) -> dict[str, Any]:
    [bell] = world.bells(line, kind="instance_reconnected")
    return why(world, bell)


def test_the_notice_that_it_is_back_leads_to_the_look_the_restart_or_the_event(world: World) -> None:
    company = world.company(users=1)
    by_look, by_event = world.lines(company, 2, session="disconnected")
    for line in (by_look, by_event):
        world.behave(line, restart="refused")
    world.sweep()

    world.behave(by_look, session="alive")
    world.sweep()
    found = back(world, by_look)
    assert (found["source"], found["reason"]) == ("sweep", "alive")
    assert (found["details"]["observation"], found["details"]["cause"]) == ("ALIVE", "connected_phone")

    assert world.event(world.connection(by_event)) == "restored"
    found = back(world, by_event)
    assert (found["source"], found["reason"], found["details"]["cause"]) == ("webhook", "event", "connection")
    assert world.sql("select 1 from public.wapi_webhook_events where id = %s", found["details"]["event_id"])


def test_a_restart_says_in_audit_and_log_what_it_was_claimed_on(world: World) -> None:
    line = world.line(world.company(users=1), session="ghost")
    answer = world.sweep()

    [requested] = world.sql("select run_id, details from public.instance_events where kind = 'restart_requested'")
    assert str(requested["run_id"]) == answer["run_id"]
    assert (requested["details"]["observation"], requested["details"]["cause"]) == ("GHOST", "connected_no_phone")
    [logged] = [
        fact for fact in world.facts("follow_up_check", "restart.requested") if fact["instance"] == str(line.id)
    ]
    assert (logged["observation"], logged["cause_word"], logged["run"]) == (
        "GHOST",
        "connected_no_phone",
        answer["run_id"],
    )


# The query that docs/operate.md shows

OPERATE = (Path(__file__).parents[2] / "docs" / "operate.md").read_text("utf-8")
QUERY = re.search(r"```sql\n(.+?)```", OPERATE, re.DOTALL)


def told_by_the_docs(world: World, notification: object) -> dict[str, object]:
    assert QUERY
    [row] = world.sql(QUERY[1].replace("'…'", "%s"), notification)
    return row


def test_one_query_finds_the_event_that_rang_a_bell(world: World) -> None:
    line = world.line(world.company(users=1))
    world.behave(line, session="disconnected")
    assert world.event(world.disconnection(line)) == "disconnected"

    [bell] = world.bells()
    found = told_by_the_docs(world, bell["id"])
    assert (found["kind"], found["reason"], found["observation"]) == ("down", "disconnect_event", "DISCONNECTED")
    assert found["event"] == "webhookDisconnected"
    assert found["body"]


def test_one_query_finds_the_look_that_rang_a_bell(world: World) -> None:
    line = world.line(world.company(users=1))
    world.sweep()
    world.behave(line, session="disconnected", restart="refused")
    world.pass_time(timedelta(minutes=5))
    world.sweep()

    [bell] = world.bells()
    found = told_by_the_docs(world, bell["id"])
    assert (found["kind"], found["observation"], found["cause"]) == ("down", "DISCONNECTED", "not_connected")
    assert found["sweep"]
    assert found["event"] is None

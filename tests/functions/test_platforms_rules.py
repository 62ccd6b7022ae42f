"""What a platform has of its own on its tables (triggers, rules, rows that break them) costs at most the row it is about."""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from world import World

MINUTE = timedelta(minutes=1)
THEIR_LOG = (
    # As many write them: no search_path of its own, and a table without its schema.
    "create table public.their_log (what text, at timestamptz default now());"
    " create function public.log_it() returns trigger language plpgsql as"
    " $$ begin insert into their_log (what) values (tg_table_name); return new; end $$;"
)
LOGGED = ("wapi_instances", "notifications", "wapi_conversations", "wapi_messages")
FORGET_THEIR_LOG = "drop function public.log_it() cascade; drop table public.their_log"


@contextmanager
def ruled_by(world: World, rule: str, undo: str) -> Iterator[None]:
    world.sql(rule)
    try:
        yield
    finally:
        world.sql(undo)


def test_triggers_of_the_platform_find_their_own_tables_while_we_write_theirs(world: World) -> None:
    """A function's search_path holds for the triggers that its writing fires."""
    company = world.company(users=1)
    healthy, dead = world.line(company), world.line(company, session="disconnected")
    world.behave(dead, restart="refused")
    triggers = [
        f"create trigger log_it after insert or update on public.{table} for each row execute function public.log_it();"
        for table in LOGGED
    ]
    with ruled_by(world, THEIR_LOG + "".join(triggers), FORGET_THEIR_LOG):
        assert world.event(world.message(healthy)) == "stored"
        for _ in range(3):
            report = world.sweep()
            world.pass_time(31 * MINUTE)
        logged = {row["what"] for row in world.sql("select what from public.their_log")}

    assert report["errors"] == 0
    assert world.status(dead) == "disconnected"
    assert len(world.bells(dead)) == 1
    assert logged == set(LOGGED)


def test_a_row_that_breaks_a_rule_of_the_platform_costs_no_other_line_its_sweep(world: World) -> None:
    """Invariant 9. A rule that was added later need not hold for old rows: any update of one is refused."""
    others = world.lines(world.company(users=1), 40)
    name = "Uma unidade com um nome longo"
    broken = world.line(world.company(users=1), name)
    lives_again = world.line(world.company(users=1), name, status="disconnected")
    dead = world.line(world.company(users=1), session="disconnected")
    world.behave(dead, restart="refused")
    with ruled_by(
        world,
        "alter table public.wapi_instances add constraint short_name check (length(unit) < 20) not valid",
        "alter table public.wapi_instances drop constraint short_name",
    ):
        report = world.sweep()
        kept = world.event(world.message(lives_again))

    assert (report["alive"], report["errors"], report["failed"]) == (42, 2, 1)
    assert len(world.bells(dead)) == 1
    assert all(world.row(line)["last_health_check"] is not None for line in others)
    named = world.facts("follow_up_check", "instance.failed")[-2:]
    assert {fact["instance"] for fact in named} == {str(broken.id), str(lives_again.id)}
    assert all("23514" in json.dumps(fact) for fact in named)
    assert kept == "stored"  # its message is theirs to read, whatever becomes of the sign of life
    assert world.facts("wapi_webhook", "life.not_written")[-1]["code"] == "23514"


def test_where_no_row_can_be_written_the_sweep_fails_and_acts_all_the_same(world: World) -> None:
    world.lines(world.company(users=1), 40)
    dead = world.line(world.company(users=1), session="disconnected")
    with ruled_by(
        world,
        "create function public.no_look() returns trigger language plpgsql as $$ begin"
        " if new.last_health_check is distinct from old.last_health_check and new.status = 'connected'"
        " then raise exception 'no'; end if; return new; end $$;"
        " create trigger no_look before update on public.wapi_instances for each row execute function public.no_look()",
        "drop function public.no_look() cascade",
    ):
        answer = world.post_sweep()

    assert answer.status_code == 500
    assert world.restarts(dead) == 1


def test_a_trigger_that_leaves_a_row_as_it_is_stops_no_restart(world: World) -> None:
    dead = world.line(world.company(users=1), session="disconnected")
    with ruled_by(
        world,
        "create function public.only_status() returns trigger language plpgsql as $$ begin"
        " return case when new.status is distinct from old.status then new end; end $$;"
        " create trigger only_status before update on public.wapi_instances for each row execute function public.only_status()",
        "drop function public.only_status() cascade",
    ):
        assert world.sweep()["recovered"] == 1
    assert world.restarts(dead) == 1


def test_a_rule_against_our_word_for_doubt_costs_no_other_line_anything(world: World) -> None:
    silent, others = world.line(world.company(users=1)), world.lines(world.company(users=1), 3)
    world.behave(silent, faults={"status-instance": "500"})
    world.sweep()
    world.pass_time(61 * MINUTE)
    dead = world.line(world.company(users=1), session="disconnected")
    world.behave(dead, restart="refused")
    with ruled_by(
        world,
        "alter table public.wapi_instances add constraint words check (status in ('connected', 'disconnected'))",
        "alter table public.wapi_instances drop constraint words",
    ):
        report = world.sweep()

    assert (report["alive"], report["failed"]) == (len(others), 1)
    assert len(world.bells(dead)) == 1


@pytest.mark.parametrize("told_by", ["a look", "an event"])
def test_a_number_that_another_row_holds_keeps_no_line_down(world: World, told_by: str) -> None:
    company = world.company(users=1)
    line, other = world.line(company, status="disconnected"), world.line(company)
    world.behave(line, phone=other.phone)
    with ruled_by(
        world,
        "alter table public.wapi_instances add constraint one_phone unique (phone_number)",
        "alter table public.wapi_instances drop constraint one_phone",
    ):
        if told_by == "an event":
            assert world.event(world.connection(line, connectedPhone=other.phone)) == "restored"
        assert world.sweep()["errors"] == 0

    assert world.status(line) == "connected"
    assert world.row(line)["phone_number"] != other.phone


def test_a_notice_that_a_trigger_swallows_is_not_told(world: World) -> None:
    """Told is who got a row."""
    line = world.line(world.company(users=2))
    world.behave(line, session="disconnected")
    with ruled_by(
        world,
        "create function public.hush() returns trigger language plpgsql as $$ begin return null; end $$;"
        " create trigger hush before insert on public.notifications for each row execute function public.hush()",
        "drop function public.hush() cascade",
    ):
        assert world.event(world.disconnection(line)) == "disconnected"
    assert world.bells(line) == []
    assert {row["sqlstate"] for row in world.sql("select sqlstate from public.notices")} == {"WR001"}

    world.pass_time(6 * MINUTE)
    world.sweep()
    assert len(world.bells(line)) == 2

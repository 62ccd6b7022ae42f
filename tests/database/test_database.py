"""What the SQL promises by itself: the bell's publication, the words of a downtime, retention, unique bells."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

import psycopg
import pytest
from composites import POLICY, POLICY_ROW
from psycopg.types.json import Jsonb
from waiting import until

from dev.stack import Stack
from shared.core.notices import TEXTS

if TYPE_CHECKING:
    from pathlib import Path

    from world import World


def test_inserting_a_notice_is_seen_by_a_reader_of_the_realtime_publication(world: World) -> None:
    line = world.line(world.company(users=1), "Jardins", session="disconnected")
    world.behave(line, restart="refused")
    world.sql("select pg_create_logical_replication_slot('bell', 'pgoutput')")

    def inserts() -> list[bytes]:
        changes = world.sql(
            "select data from pg_logical_slot_peek_binary_changes("
            "'bell', null, null, 'proto_version', '1', 'publication_names', 'supabase_realtime')"
        )
        return [bytes(change["data"]) for change in changes if bytes(change["data"])[:1] == b"I"]

    try:
        world.sweep()
        until(lambda: len(inserts()) == 1)  # the local stack commits asynchronously
        assert "perdeu conexão".encode() in inserts()[0]
    finally:
        world.sql("select pg_drop_replication_slot('bell')")


@pytest.mark.parametrize(
    ("down", "words"),
    [
        (timedelta(seconds=0), "menos de 1 min"),
        (timedelta(seconds=59.9), "menos de 1 min"),
        (timedelta(seconds=60), "1 min"),
        (timedelta(minutes=42, seconds=59), "42 min"),
        (timedelta(minutes=60), "1 h"),
        (timedelta(hours=2, minutes=5), "2 h 5 min"),
        (timedelta(hours=23, minutes=59), "23 h 59 min"),
        (timedelta(hours=24), "1 dia"),
        (timedelta(hours=47), "1 dia"),
        (timedelta(days=3, hours=5), "3 dias"),
        (timedelta(seconds=-4), "menos de 1 min"),
    ],
    ids=str,
)
def test_how_long_a_line_was_down_in_words(world: World, down: timedelta, words: str) -> None:
    [row] = world.sql("select public.render_downtime(%s, %s) as words", down, Jsonb(TEXTS["downtime"]))
    assert row["words"] == words


def test_a_unit_named_like_a_placeholder_is_only_a_name(world: World) -> None:
    line = world.line(world.company(users=1), "{downtime} {unit}'; drop table x; --", session="disconnected")
    world.behave(line, restart="refused")
    world.sweep()
    world.behave(line, session="alive")
    world.sweep()

    assert [bell["message"] for bell in world.bells(line)] == [
        "WhatsApp da unidade {downtime} {unit}'; drop table x; -- perdeu conexão. Reconecte via QR Code em Configurações.",
        "WhatsApp da unidade {downtime} {unit}'; drop table x; -- voltou a funcionar depois de menos de 1 min.",
    ]


def test_the_database_itself_refuses_a_second_open_outage_and_a_second_bell(world: World) -> None:
    company = world.company(users=1)
    line = world.line(company, session="disconnected")
    world.behave(line, restart="refused")
    world.sweep()

    for copy in (
        "insert into public.instance_outages (instance_id, started_at, life_counts_from, opened_by, reason) select instance_id, now(), now(), 'sweep', 'x' from public.instance_outages",
        "insert into public.notices (occasion, kind, user_id, instance_id, text, since, state, told_at) select occasion, kind, user_id, instance_id, text, since, 'refused', now() from public.notices",
    ):
        with pytest.raises(psycopg.errors.UniqueViolation):
            world.sql(copy)


def test_everybody_elses_notices_may_repeat(world: World) -> None:
    user = world.user(world.company())
    for _ in range(2):
        world.sql("insert into public.notifications (user_id, type, title) values (%s, 'x', 'x')", user)


def test_a_sweep_purges_what_is_past_its_retention_and_nothing_else(world: World) -> None:
    line = world.line(world.company())
    events = "insert into public.wapi_webhook_events (event_key, kind, body, received_at, processed_at) values (%s, 'other', '{}', now() - %s::interval, %s)"
    world.sql(events, "fresh", "47 hours", "now")
    world.sql(events, "body past 48 h", "49 hours", "now")
    world.sql(events, "not processed", "13 days", None)
    world.sql(events, "past 14 days", "15 days", None)
    world.sql(
        "insert into public.health_check_runs (started_at) values (now() - interval '29 days'), (now() - interval '31 days')"
    )
    for days in (89, 91):
        world.sql(
            "insert into public.instance_events (at, instance_id, kind, source) values (now() - %s * interval '1 day', %s, 'phone_changed', 'webhook')",
            days, line.id,
        )  # fmt: skip
    world.sql(
        "insert into public.instance_outages (instance_id, started_at, life_counts_from, opened_by, reason, closed_at, closed_as)"
        " values (%s, now() - interval '5 years', now(), 'sweep', 'x', now(), 'alive')",
        line.id,
    )

    world.sweep()

    kept = world.sql("select event_key, body from public.wapi_webhook_events order by id")
    assert [(row["event_key"], row["body"]) for row in kept] == [
        ("fresh", "{}"), ("body past 48 h", None), ("not processed", "{}"),
    ]  # fmt: skip
    assert len(world.sql("select * from public.health_check_runs where started_at < now() - interval '1 day'")) == 1
    assert len(world.sql("select * from public.instance_events where kind = 'phone_changed'")) == 1
    assert len(world.outages(line)) == 1


PLATFORM = """
create table public.companies (id uuid primary key default gen_random_uuid(), name text not null, slug text unique not null);
create table public.user_companies (id uuid primary key default gen_random_uuid(), user_id uuid not null,
  company_id uuid not null references public.companies (id), role text, is_default boolean, unique (user_id, company_id));
create table public.wapi_instances (id uuid primary key default gen_random_uuid(), user_id uuid not null, instance_id text,
  instance_token text, status text default 'disconnected', phone_number text, connected_at timestamptz,
  unit text check (unit in ('Jardins', 'Moema')), company_id uuid not null, messages_count int, credits_available int,
  addon_valid_until timestamptz, created_at timestamptz default now(), updated_at timestamptz default now(), unique (user_id, unit));
create table public.notifications (id uuid primary key default gen_random_uuid(), user_id uuid not null, company_id uuid,
  type text, title text not null, message text, data jsonb, read boolean default false, created_at timestamptz default now());
alter table public.wapi_instances enable row level security;
create policy "members see" on public.wapi_instances for select using (true);
alter publication supabase_realtime add table public.notifications;
insert into public.companies (id, name, slug) values ('c0000000-0000-4000-8000-0000000000aa', 'Antiga', 'antiga');
insert into public.wapi_instances (user_id, instance_id, instance_token, status, unit, company_id, created_at) values
  (gen_random_uuid(), 'LITE-1', 't', 'connected', 'Jardins', 'c0000000-0000-4000-8000-0000000000aa', now() - interval '2 days'),
  (gen_random_uuid(), 'LITE-1', 't', 'disconnected', 'Moema', 'c0000000-0000-4000-8000-0000000000aa', now()),
  (gen_random_uuid(), 'LITE-2', 't', 'unauthorized', null, 'c0000000-0000-4000-8000-0000000000aa', now()),
  (gen_random_uuid(), 'LITE-3', 't', null, null, 'c0000000-0000-4000-8000-0000000000aa', now()),
  (gen_random_uuid(), null, null, 'instance_not_found', null, 'c0000000-0000-4000-8000-0000000000aa', now());
"""


def test_the_migrations_run_on_a_platform_with_live_rows_and_twice_is_a_no_op(tmp_path: Path) -> None:
    (tmp_path / "20200101000000_platform.sql").write_text(PLATFORM)
    with Stack.start(seed=False, migrations=tmp_path) as stack:
        stack.apply_migrations()
        with psycopg.connect(stack.database_url, autocommit=True) as connection:
            rows = "select instance_id, status, status_reason, is_active from public.wapi_instances order by instance_id, status"
            after = connection.execute(rows).fetchall()
            assert after == [
                ("LITE-1", "connected", None, True),
                ("LITE-1", "disconnected", "duplicate_external_id", False),
                ("LITE-2", "disconnected", "unauthorized", True),
                ("LITE-3", "disconnected", "null", True),
                (None, "disconnected", "instance_not_found", True),
            ]
            policies = connection.execute(
                "select policyname from pg_policies where tablename = 'wapi_instances'"
            ).fetchall()
            assert policies == [("members see",)]
            secured = connection.execute("select relrowsecurity from pg_class where relname = 'companies'").fetchone()
            assert secured == (False,)  # the platform's own table keeps what it had

            connection.execute("truncate supabase_migrations.schema_migrations")
            (tmp_path / "20200101000000_platform.sql").write_text("select 1;")
            stack.apply_migrations()
            assert connection.execute(rows).fetchall() == after


def test_ringing_the_bells_of_one_outage_twice_rings_nobody_twice(world: World) -> None:
    line = world.line(world.company(users=2), session="disconnected")
    world.behave(line, restart="refused")
    world.sweep()
    rung = world.database.execute(
        f"select public.notify_users(public.outage_occasion(o), 'disconnected', %(texts)s, 'x', null, {POLICY}) as notified"
        " from public.instance_outages o where instance_id = %(line)s",
        {"texts": Jsonb(TEXTS), "line": line.id, "policy": POLICY_ROW},
    ).fetchall()
    assert [row["notified"]["told"] for row in rung] == [0]
    assert len(world.bells(line)) == 2

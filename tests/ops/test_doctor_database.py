"""What the doctor finds in Postgres itself, on a database of its own."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import httpx
import psycopg
import pytest
from doctoring import VARIABLES
from psycopg.rows import dict_row
from pydantic import SecretStr

from dev.migrations import migrations_in
from dev.stack import MIGRATIONS, Stack
from ops.common.postgres import read_address
from ops.common.rest import KeyRefused, Rest
from ops.doctor.catalog import read_catalog
from ops.doctor.checks import rivals, schema
from ops.doctor.cli import main
from ops.doctor.facts import NoticeRow
from ops.doctor.moments import OddMoments, read_moments
from shared.errors import StoreError, StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from pytest_httpx import HTTPXMock

    from ops.doctor.findings import Finding

FILES = {migration.version: migration.file.name for migration in migrations_in(MIGRATIONS)}
Database = psycopg.Connection[tuple[object, ...]]


@pytest.fixture(scope="module")
def own_stack() -> Iterator[Stack]:
    with Stack.start(seed=False) as running:
        yield running


@pytest.fixture
def own(own_stack: Stack) -> Iterator[Database]:
    with psycopg.connect(own_stack.database_url, autocommit=True) as connection:
        yield connection


async def findings(stack: Stack) -> dict[str, Finding]:
    catalog = await read_catalog(read_address(stack.database_url))
    found = [*schema.check_catalog(catalog, FILES), *rivals.check_cron_jobs(catalog.cron_jobs or ())]
    return {finding.check: finding for finding in found}


async def test_the_projects_own_schema_is_fine(own_stack: Stack) -> None:
    assert set(await findings(own_stack)) == {"database.fine"}


def test_a_migration_that_was_never_applied_is_named() -> None:
    version = max(FILES)
    (found,) = schema.check_history(FILES.keys() - {version}, FILES)
    assert (found.check, [each.name for each in found.concerns]) == ("migrations.not_recorded", [FILES[version]])
    assert schema.check_history(FILES.keys(), FILES) == []


async def test_a_push_of_ours_among_the_platforms_versions_is_told_with_what_takes_it_out(
    own_stack: Stack, own: Database
) -> None:
    own.execute("insert into supabase_migrations.schema_migrations (version) values ('20240101000000')")
    with own.transaction(force_rollback=True):
        finding = (await findings(own_stack))["migrations.in_cli_history"]
        own.execute(finding.do.partition(" and never")[0].encode())
        left = own.execute("select version from supabase_migrations.schema_migrations").fetchall()
    own.execute("delete from supabase_migrations.schema_migrations where version = '20240101000000'")
    assert left == [("20240101000000",)]


async def test_its_own_words_close_a_token_that_browsers_can_read(own_stack: Stack, own: Database) -> None:
    own.execute('alter table public.wapi_instances add column "Odd ""name" text')
    own.execute("grant select on public.wapi_instances to authenticated")
    finding = (await findings(own_stack))["rights.token_readable"]
    assert finding.what.startswith("authenticated can read")
    own.execute(finding.do.partition(" (first")[0].encode())
    assert "rights.token_readable" not in await findings(own_stack)
    own.execute("set role authenticated")
    own.execute("select id, unit, status from public.wapi_instances")
    with pytest.raises(psycopg.errors.InsufficientPrivilege):
        own.execute("select instance_token from public.wapi_instances")
    own.execute("reset role")


async def test_a_right_without_a_policy_opens_no_token(own_stack: Stack, own: Database) -> None:
    own.execute("grant select on public.wapi_instances to anon")
    try:
        assert "rights.token_readable" not in await findings(own_stack)
        own.execute("create policy everybody on public.wapi_instances for select using (true)")
        assert (await findings(own_stack))["rights.token_readable"].what.startswith("anon can read")
    finally:
        own.execute("drop policy if exists everybody on public.wapi_instances")
        own.execute("revoke select on public.wapi_instances from anon")


async def test_a_table_without_row_level_security_is_told_with_its_fix(own_stack: Stack, own: Database) -> None:
    own.execute("alter table public.notifications disable row level security")
    (subject,) = (await findings(own_stack))["rights.rls_off"].concerns
    assert subject.name == "notifications"
    own.execute(subject.detail.encode())
    assert "rights.rls_off" not in await findings(own_stack)


async def test_a_function_that_browsers_may_call_is_told(own_stack: Stack, own: Database) -> None:
    own.execute("grant execute on function public.begin_sweep(timestamptz) to anon")
    try:
        assert [each.name for each in (await findings(own_stack))["rights.function_exposed"].concerns] == [
            "begin_sweep"
        ]
    finally:
        own.execute("revoke execute on function public.begin_sweep(timestamptz) from anon")


async def test_a_missing_index_is_told_with_the_line_that_builds_it(own_stack: Stack, own: Database) -> None:
    own.execute("drop index public.messages_by_message_id")
    finding = (await findings(own_stack))["index.messages_by_id"]
    own.execute(finding.do.removeprefix("outside of a transaction: ").encode())
    assert "index.messages_by_id" not in await findings(own_stack)


async def test_an_index_whose_building_was_cut_off_counts_for_nothing(own_stack: Stack, own: Database) -> None:
    own.execute(
        "update pg_catalog.pg_index set indisvalid = false where indexrelid = 'public.messages_by_message_id'::regclass"
    )
    try:
        found = await findings(own_stack)
    finally:
        own.execute(
            "update pg_catalog.pg_index set indisvalid = true where indexrelid = 'public.messages_by_message_id'::regclass"
        )
    assert {"index.broken", "index.messages_by_id"} <= set(found)


async def test_a_unique_index_that_is_gone_is_a_problem(own_stack: Stack, own: Database) -> None:
    own.execute("alter index public.one_open_outage_per_instance rename to something_else")
    try:
        found = (await findings(own_stack))["index.unique_missing"]
    finally:
        own.execute("alter index public.something_else rename to one_open_outage_per_instance")
    assert [each.name for each in found.concerns] == ["one_open_outage_per_instance"]


async def test_bells_that_realtime_does_not_publish_are_told(own_stack: Stack, own: Database) -> None:
    own.execute("alter publication supabase_realtime drop table public.notifications")
    finding = (await findings(own_stack))["realtime.off"]
    own.execute(finding.do.encode())
    assert "realtime.off" not in await findings(own_stack)


async def test_cron_jobs_that_look_like_a_checker_are_told_and_their_commands_are_not(
    own_stack: Stack, own: Database
) -> None:
    own.execute("create schema cron")
    try:
        own.execute("create table cron.job (jobid bigint, jobname text, schedule text, command text, active boolean)")
        own.execute(
            "create function public.look_after_lines() returns void language sql as $$ select 'https://api.w-api.app/v1/instance/status-instance'::text $$"
        )
        own.execute("create function public.count_leads() returns void language sql as $$ select 1 $$")
        jobs = [
            (
                "instances",
                "*/5 * * * *",
                "select net.http_post('https://x.example/functions/v1/wapi-health-check', 'Bearer made-up-service-key')",
                True,
            ),
            (None, "* * * * *", "select public.look_after_lines()", True),
            ("leads", "0 3 * * *", "select public.count_leads()", True),
            ("off", "* * * * *", "select 'status-instance'", False),
        ]
        for number, job in enumerate(jobs):
            own.execute("insert into cron.job values (%s, %s, %s, %s, %s)", [number, *job])
        finding = (await findings(own_stack))["rival.cron_job"]
    finally:
        own.execute("drop schema cron cascade")
        own.execute("drop function if exists public.look_after_lines, public.count_leads")
    assert [each.name for each in finding.concerns] == ["instances", "job 1"]
    assert "status-instance" in finding.concerns[1].detail
    assert "made-up" not in repr(finding)


async def test_an_empty_project_lacks_migrations_and_nothing_else() -> None:
    empty = schema.Catalog(None, frozenset(), False, (), (), (), (), (), True, ())
    assert schema.check_catalog(empty, FILES) == []


ODD = """
alter table public.companies add column trial_ends_at timestamptz, add column founded date;
insert into public.companies (name, created_at, trial_ends_at, founded) values
  ('fine', now() - interval '1 day', now() + interval '30 days', '1987-05-01'),
  ('ahead', now() + interval '1 hour', null, null), ('a little ahead', now() + interval '1 minute', null, null),
  ('endless', 'infinity', 'infinity', '0044-03-15 BC');
insert into public.wapi_instances (id, user_id, company_id, instance_id)
  select '00000000-0000-4000-8000-00000000000a', gen_random_uuid(), id, 'LITE-AB12CD-EF34GH' from public.companies where name = 'fine';
insert into public.wapi_conversations (id, instance_id, remote_jid, contact_phone, last_message_at)
  values ('00000000-0000-4000-8000-00000000000b', '00000000-0000-4000-8000-00000000000a', '1@lid', '', '12026-01-01');
insert into public.wapi_messages (conversation_id, "timestamp")
  select '00000000-0000-4000-8000-00000000000b', at::timestamptz from unnest(array['-infinity', '2999-01-01', '2026-01-01']) at;
"""


async def test_moments_that_cannot_be_are_found_in_the_platforms_tables(own_stack: Stack, own: Database) -> None:
    async with await psycopg.AsyncConnection.connect(own_stack.database_url, row_factory=dict_row) as connection:
        await connection.execute(ODD.encode())
        odd, unread = await read_moments(connection)
        assert ({f"{each.table}.{each.column}": each.rows for each in odd}, unread) == (
            {
                "companies.created_at": 2,
                "companies.trial_ends_at": 1,
                "companies.founded": 1,
                "wapi_conversations.last_message_at": 1,
                "wapi_messages.timestamp": 2,
            },
            [],
        )
        for each in odd:
            counted = f"select count(*) as rows from ({each.shown_by.rstrip(chr(59))}) as shown"
            assert await (await connection.execute(counted.encode())).fetchall() == [{"rows": each.rows}]

        # Of big tables a column with an index of its own is looked into, any other is named with its query.
        await connection.execute("create index on public.wapi_messages (timestamp)")
        odd, unread = await read_moments(connection, big_bytes=-1)
        assert {f"{each.table}.{each.column}": each.rows for each in odd} == {"wapi_messages.timestamp": 2}
        left = {f"{each.table}.{each.column}": each.why for each in unread}
        assert left["companies.created_at"] == "the table is big and the column has no index"
        assert "wapi_messages.timestamp" not in left

        # A table that somebody has locked costs the others nothing.
        await connection.rollback()
        with own.transaction():
            own.execute("lock table public.companies")
            odd, unread = await read_moments(connection, within=timedelta(milliseconds=20))
        assert (odd, {each.table for each in unread}) == ([], {"companies"})
        assert {each.why for each in unread} == {"it took more than 0.02 s"}
    catalog = await read_catalog(read_address(own_stack.database_url))
    assert (catalog.odd_moments, catalog.unread_moments) == ((), ())
    found = schema.check_catalog(
        replace(catalog, odd_moments=(OddMoments("companies", "created_at", 2, "select …"),)), FILES
    )
    assert [(each.check, each.concerns[0].detail) for each in found] == [("database.odd_moments", "2 rows: select …")]


async def test_the_transaction_could_not_write_if_it_wanted_to(own_stack: Stack, own: Database) -> None:
    """A view with a side effect stands for whatever a catalogue could hide."""
    own.execute("create schema cron")
    own.execute(
        "create function public.write_something() returns bigint language sql as $$ insert into public.companies (name) values ('x') returning 1::bigint $$"
    )
    own.execute(
        "create view cron.job as select public.write_something() as jobid, 'a' as jobname, 'b' as schedule, 'c' as command, true as active"
    )
    try:
        with pytest.raises(Exception, match="25006"):
            await findings(own_stack)
    finally:
        own.execute("drop schema cron cascade")
        own.execute("drop function public.write_something")


async def test_an_address_that_answers_nobody_is_unavailable_and_shows_nothing() -> None:
    with pytest.raises(StoreUnavailable) as caught:
        await read_catalog(read_address("postgresql://somebody:pass-word@127.0.0.1:1/x"))
    assert "pass-word" not in str(caught.value)
    assert "somebody" not in str(caught.value)
    assert "the port: nobody answers at 127.0.0.1:1" in str(caught.value)


@pytest.fixture
def hooks(own_stack: Stack, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("SUPABASE_URL", own_stack.supabase_url)
    monkeypatch.setenv("SUPABASE_SERVICE_ROLE_KEY", own_stack.service_role_key)
    monkeypatch.setenv("WAPI_BASE_URL", "http://127.0.0.1:9/v1")


def test_what_the_functions_need_and_the_database_lacks_is_named_and_the_rest_waits(
    own_stack: Stack, own: Database, hooks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    own.execute("alter table public.instance_health rename column bad_since to bad_from")
    own.execute("alter function public.list_relay_backlog(integer, timestamptz) rename to list_something")
    own.execute("alter table public.relay_turns rename to turns")
    own_stack.reload_schema()
    try:
        code = main(["--json"])
    finally:
        own.execute("alter table public.instance_health rename column bad_from to bad_since")
        own.execute("alter function public.list_something(integer, timestamptz) rename to list_relay_backlog")
        own.execute("alter table public.turns rename to relay_turns")
        own_stack.reload_schema()
    said = json.loads(capsys.readouterr().out)
    (finding,) = [each for each in said["findings"] if each["check"] == "migrations.missing"]
    assert code == 1
    assert [each["name"] for each in finding["concerns"]] == [
        "instance_health.bad_since",
        "list_relay_backlog()",
        "relay_turns",
    ]
    assert "lines, sweeps and events" in [each["what"] for each in said["unchecked"]]


def test_a_check_whose_column_a_platform_lacks_says_so_and_the_others_go_on(
    own_stack: Stack, own: Database, hooks: None, capsys: pytest.CaptureFixture[str]
) -> None:
    own.execute("alter table public.user_companies rename column id to membership_id")
    own.execute("alter table public.notifications rename column data to payload")
    own.execute("alter table public.companies rename column name to label")
    own_stack.reload_schema()
    try:
        code = main(["--json"])
    finally:
        own.execute("alter table public.user_companies rename column membership_id to id")
        own.execute("alter table public.notifications rename column payload to data")
        own.execute("alter table public.companies rename column label to name")
        own_stack.reload_schema()
    said = json.loads(capsys.readouterr().out)
    failed = {each["what"]: each["why"] for each in said["unchecked"] if each["failed"]}
    assert failed == {
        "the companies' names": "could not be read: companies: 42703",
        "who has users": "could not be read: user_companies: 42703",
        "bells of others": "could not be read: notifications: 42703",
    }
    assert code == 1
    assert {"migrations.there", "line.statuses", "sweep.never", "event.all_settled"} <= {
        each["check"] for each in said["findings"]
    }


async def test_tables_are_asked_one_by_one_where_the_project_hides_its_description(own_stack: Stack) -> None:
    async with httpx.AsyncClient(trust_env=False) as http:
        rest = Rest(http, own_stack.supabase_url, SecretStr(own_stack.service_role_key))
        assert not await rest.lacks("relay_turns", ())
        assert not await rest.lacks("instance_health", ("last_event_at",))
        assert await rest.lacks("notifications", ("outage_id",))
        assert await rest.lacks("no_such_table", ())


async def test_a_hidden_description_is_none(httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(status_code=404, json={"code": "PGRST126", "message": "Root endpoint metadata is disabled"})
    async with httpx.AsyncClient() as http:
        assert await Rest(http, "https://x.example", SecretStr("sb_secret_0123456789")).interface() is None


@pytest.mark.parametrize(
    ("status", "body", "kind", "code"),
    [
        pytest.param(400, {"code": "42703"}, StoreRefused, "42703", id="the database's own word"),
        pytest.param(404, {"code": "PGRST205"}, StoreRefused, "PGRST205", id="PostgREST's own word"),
        pytest.param(400, {"code": ""}, StoreUnavailable, "HTTP 400 Bad Request", id="no word of the database"),
        pytest.param(404, {"message": "no Route matched"}, StoreUnavailable, "HTTP 404 Not Found", id="a gateway"),
        pytest.param(503, {"code": "PGRST002"}, StoreUnavailable, "PGRST002", id="not ready"),
        pytest.param(429, {"code": "x"}, StoreUnavailable, "x", id="too many"),
        pytest.param(
            402,
            {"message": "x"},
            StoreUnavailable,
            "HTTP 402: payment required, the subscription or the project's quota has ended",
            id="not paid",
        ),
        pytest.param(
            401, {"message": "Invalid API key"}, KeyRefused, "HTTP 401: the key or token is refused", id="a wrong key"
        ),
        pytest.param(403, {"code": "42501"}, KeyRefused, "42501", id="a key of another role"),
        pytest.param(200, {"a": "page"}, StoreUnavailable, "not an answer", id="no rows"),
        pytest.param(200, [{"id": "x"}], StoreRefused, "unexpected value in id", id="other rows"),
    ],
)
async def test_an_answer_that_is_no_table_is_sorted_by_what_to_do_next(
    httpx_mock: HTTPXMock, status: int, body: object, kind: type[StoreError], code: str
) -> None:
    httpx_mock.add_response(status_code=status, json=body)
    async with httpx.AsyncClient() as http:
        with pytest.raises(kind) as raised:
            await Rest(http, "https://x.example", SecretStr("sb_secret_0123456789")).rows(NoticeRow)
    assert (type(raised.value), raised.value.code) == (kind, code)


async def test_the_time_is_supabases_and_not_the_operators(httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(json=[], headers={"date": "Thu, 26 Nov 2026 12:00:00 GMT"})
    async with httpx.AsyncClient() as http:
        rest = Rest(http, "https://x.example", SecretStr("sb_secret_0123456789"))
        await rest.reach()
        assert rest.now() == datetime(2026, 11, 26, 12, tzinfo=UTC)


async def test_cron_jobs_that_may_not_be_read_are_not_taken_for_none(own_stack: Stack, own: Database) -> None:
    own.execute("create schema cron")
    own.execute("create table cron.job (jobid bigint, jobname text, schedule text, command text, active boolean)")
    own.execute("create role reader login password 'only-reads'")
    try:
        url = re.sub(r"//[^@]*@", "//reader:only-reads@", own_stack.database_url)
        assert (await read_catalog(read_address(url))).cron_jobs is None
    finally:
        own.execute("drop schema cron cascade")
        own.execute("drop role reader")

"""The migrations on a living platform (living_platform.sql): what changes, what stays, what is locked, what works then."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
import time
from contextlib import ExitStack
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID

import psycopg
import pytest
from psycopg import sql
from psycopg.rows import dict_row
from served import FunctionServer
from supabase import Client, create_client
from world import Line, World, check_environment, webhook_environment

from dev.processes import StackError
from dev.simulator import Simulator
from dev.stack import MIGRATIONS, PROJECT, Stack
from dev.types import supabase_cli
from ops.migrate.effects import Section, obstacles, read_effects
from ops.migrate.files import MigrationError, migrations_in
from ops.migrate.history import BusyError, alone, apply, pending
from ops.migrate.rules import STATUSES
from shared.core.model import Status
from shared.core.notices import NoticeType

if TYPE_CHECKING:
    from collections.abc import Iterator

    from ops.migrate.effects import Effect

PLATFORM = Path(__file__).parents[1] / "support" / "living_platform.sql"
PLATFORM_FILES = {
    # A history of its own, older and newer than ours.
    "20240101000000_platform.sql": PLATFORM.read_text("utf-8"),
    "20991231000000_later.sql": "comment on table public.companies is 'Clientes.';\n",
}
FILES = sorted(MIGRATIONS.glob("*.sql"))
[CLEANING] = MIGRATIONS.glob("*_duplicate_messages.sql")
TABLES = ("companies", "user_companies", "wapi_instances", "notifications", "wapi_conversations", "wapi_messages")
NEW_COLUMNS = {
    "wapi_instances": {
        "last_health_check": None, "auto_recovery_attempts": 0, "is_active": True, "status_reason": None,
    },
}  # fmt: skip

# Everything that a platform may have set up in its schema, as (kind, name, definition).
CATALOGUE = """
select 'table', c.relname, concat_ws(' ', c.relowner::regrole, c.relacl, c.relrowsecurity, c.relforcerowsecurity,
    c.relreplident, c.reloptions, pg_get_viewdef(c.oid))
  from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'v')
union all select 'column', c.relname || '.' || a.attname, concat_ws(' ', format_type(a.atttypid, a.atttypmod), a.attnotnull,
    pg_get_expr(d.adbin, d.adrelid), a.attacl, col_description(c.oid, a.attnum))
  from pg_attribute a join pg_class c on c.oid = a.attrelid left join pg_attrdef d on d.adrelid = c.oid and d.adnum = a.attnum
  where c.relnamespace = 'public'::regnamespace and c.relkind = 'r' and a.attnum > 0 and not a.attisdropped
union all select 'index', t.relname || '.' || c.relname, concat_ws(' ', pg_get_indexdef(c.oid), i.indisvalid)
  from pg_index i join pg_class c on c.oid = i.indexrelid join pg_class t on t.oid = i.indrelid
  where c.relnamespace = 'public'::regnamespace
union all select 'constraint', c.relname || '.' || k.conname, concat_ws(' ', pg_get_constraintdef(k.oid), k.convalidated)
  from pg_constraint k join pg_class c on c.oid = k.conrelid where k.connamespace = 'public'::regnamespace and k.contype <> 'n'
union all select 'policy', tablename || '.' || policyname, concat_ws(' ', permissive, roles, cmd, qual, with_check)
  from pg_policies where schemaname = 'public'
union all select 'trigger', c.relname || '.' || t.tgname, concat_ws(' ', pg_get_triggerdef(t.oid), t.tgenabled)
  from pg_trigger t join pg_class c on c.oid = t.tgrelid where c.relnamespace = 'public'::regnamespace and not t.tgisinternal
union all select 'function', p.oid::regprocedure::text, concat_ws(' ', md5(pg_get_functiondef(p.oid)), p.proowner::regrole, p.proacl)
  from pg_proc p where p.pronamespace = 'public'::regnamespace
union all select 'publication', b.pubname || '.' || r.prrelid::regclass, concat_ws(' ', b.pubinsert, b.pubupdate, r.prattrs,
    pg_get_expr(r.prqual, r.prrelid))
  from pg_publication_rel r join pg_publication b on b.oid = r.prpubid
"""
Fact = tuple[str, str, str]
Row = dict[str, Any]


def known(name: str) -> UUID:
    """The platform's identifier of something: ``known("line jardins")``."""
    return UUID(hashlib.md5(name.encode()).hexdigest())


def catalogue(connection: psycopg.Connection[Any]) -> set[Fact]:
    return set(connection.cursor(row_factory=psycopg.rows.tuple_row).execute(CATALOGUE))  # type: ignore[arg-type]


def files_on_disk(connection: psycopg.Connection[Any]) -> dict[str, int]:
    """Where each table and index of the platform is stored: a rewrite moves it."""
    found = connection.execute(
        "select c.oid::regclass::text as name, pg_relation_filenode(c.oid) as node from pg_class c"
        " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'i')"
        " or c.oid in (select reltoastrelid from pg_class where relnamespace = 'public'::regnamespace)"
    )
    return {row["name"]: row["node"] for row in found}


def rows_of(connection: psycopg.Connection[Any], table: str) -> Row:
    """A checksum of a table's rows, of where each lies and who wrote it: an update that changes nothing shows."""
    query = (
        "select count(*), md5(string_agg(md5(concat(t.xmin, t.ctid, t)), '' order by t.ctid)) as rows from public.{} t"
    )
    [found] = connection.execute(sql.SQL(query).format(sql.Identifier(table))).fetchall()
    return found


def differences(connection: psycopg.Connection[Any], table: str) -> dict[UUID, tuple[Row | None, Row | None]]:
    """Rows that are not what they were, new columns left aside: what each was and what it is."""
    query = sql.SQL(
        "select coalesce(was.id, now.id) as id, to_jsonb(was) as was, to_jsonb(now) - %s::text[] as now"
        " from before.{0} was full join public.{0} now using (id) where to_jsonb(was) is distinct from to_jsonb(now) - %s::text[]"
    ).format(sql.Identifier(table))
    added = list(NEW_COLUMNS.get(table, {}))
    return {row["id"]: (row["was"], row["now"]) for row in connection.execute(query, (added, added))}


def connect(url: str) -> psycopg.Connection[Row]:
    return psycopg.connect(url, autocommit=True, row_factory=dict_row)


class Platform:
    """The stack with the platform on it, migrated; and as many fresh copies of the platform as a test wants to spoil.

    Attributes:
        folder: The migrations of the platform's own repository.
        foretold: What the dry run said before the migrations.
        by_the_dry_run: Everything that was there before it and after it.
    """

    def __init__(self, stack: Stack, folder: Path) -> None:
        self.stack = stack
        self.folder = folder
        self.foretold: list[Effect] = []
        self.by_the_dry_run: list[Any] = []
        self._copies = 0

    def url(self, database: str) -> str:
        return self.stack.database_url.removesuffix("postgres") + database

    def keep(self, database: str, *, template: str) -> str:
        with connect(self.url("template1")) as connection:
            connection.execute(
                sql.SQL("create database {} template {}").format(sql.Identifier(database), sql.Identifier(template))
            )
        return self.url(database)

    def copy(self, template: str = "living") -> str:
        """A copy of the platform as it was before the migrations, or of another database that was kept."""
        self._copies += 1
        return self.keep(f"copy_{self._copies}", template=template)


def everything(connection: psycopg.Connection[Any], *, but: str = "") -> tuple[Any, ...]:
    """Whatever a statement could have changed, but the rows of one table."""
    found = connection.execute("select tablename as name from pg_tables where schemaname = 'public'")
    rows = {row["name"]: rows_of(connection, row["name"]) for row in found if row["name"] != but}
    return catalogue(connection), files_on_disk(connection), rows, cli_rows(connection)


def cli_rows(connection: psycopg.Connection[Any]) -> list[Row]:
    return connection.execute(
        "select version, md5(m::text) as row from supabase_migrations.schema_migrations m order by version"
    ).fetchall()


def migrate(url: str) -> list[str]:
    """Apply what is missing, as deploy/migrate does; return the names of the files."""
    with psycopg.connect(url, autocommit=True) as connection:
        todo = pending(connection, migrations_in(MIGRATIONS))
        for each in todo:
            apply(connection, each.migration)
    return [each.migration.file.name for each in todo]


def foretell(url: str) -> list[Effect]:
    with psycopg.connect(url, autocommit=True) as connection:
        return read_effects(connection, migrations_in(MIGRATIONS))


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    folder = tmp_path_factory.mktemp("platform")
    with Stack.start(seed=False, migrations=folder) as stack:
        stack.stop_postgrest()  # a database that is copied has no guests
        platform = Platform(stack, folder)
        platform.keep("fresh", template="postgres")
        for name, text in PLATFORM_FILES.items():
            (folder / name).write_text(text, "utf-8")
        stack.apply_migrations(folder)
        with connect(stack.database_url) as connection:
            connection.execute("create schema before")
            for table in TABLES:
                name = sql.Identifier(table)
                connection.execute(sql.SQL("create table before.{0} as table public.{0}").format(name))
                connection.execute(sql.SQL("alter table before.{} add primary key (id)").format(name))
            connection.execute("create table before.catalogue as " + CATALOGUE)  # type: ignore[arg-type]
        platform.keep("living", template="postgres")
        with connect(stack.database_url) as connection:
            platform.by_the_dry_run.append(everything(connection, but="wapi_messages"))  # seconds each time
            platform.foretold = foretell(stack.database_url)
            platform.by_the_dry_run.append(everything(connection, but="wapi_messages"))
        assert migrate(stack.database_url) == [file.name for file in FILES]
        platform.keep("adopted", template="postgres")
        stack.start_postgrest()
        yield platform


@pytest.fixture
def adopted(platform: Platform) -> Iterator[psycopg.Connection[Row]]:
    """The platform with the migrations just applied; tests only look at it."""
    with connect(platform.url("adopted")) as connection:
        yield connection


@pytest.fixture(scope="module")
def living(platform: Platform) -> Iterator[psycopg.Connection[Any]]:
    """The platform before the migrations; a test takes back what it changes."""
    with psycopg.connect(platform.copy(), autocommit=True) as connection:
        yield connection


# What changes


WORDS_THAT_STAY = ("connected", "degraded", "disconnected", "connecting", "qr_pending")


def expected_lines(before: list[Row]) -> dict[UUID, Row]:
    """What the header of instances says, worked out here: the columns that change, of each line that changes."""
    before = [line for line in before if line["provider"] in ("wapi", "W-API")]
    changed: dict[UUID, Row] = {}
    for line in before:
        if line["status"] not in WORDS_THAT_STAY:
            changed[line["id"]] = {"status": "disconnected", "status_reason": line["status"] or "null"}
    for external_id in {line["instance_id"].strip() for line in before if line["instance_id"]} - {""}:
        rivals = [line for line in before if (line["instance_id"] or "").strip() == external_id]
        age = datetime.min.replace(tzinfo=UTC)
        rivals.sort(key=lambda line: (line["status"] == "connected", line["created_at"] or age), reverse=True)
        for line in rivals[1:]:
            changed.setdefault(line["id"], {}).update(is_active=False, status_reason="duplicate_external_id")
    return changed


def expected_copies(connection: psycopg.Connection[Any]) -> dict[UUID, UUID]:
    """What the header of duplicate_messages says, worked out here: of each copy the row that keeps their id."""
    same: dict[tuple[UUID, str], list[tuple[datetime, datetime, UUID]]] = {}
    unknown = datetime.max.replace(tzinfo=UTC)
    messages = connection.cursor(row_factory=psycopg.rows.tuple_row).execute(
        'select id, conversation_id, message_id, "timestamp", created_at from before.wapi_messages'
    )
    for message, conversation, provider_id, moment, created_at in messages:
        if conversation and provider_id:
            age = (moment or unknown, created_at or unknown, message)
            same.setdefault((conversation, provider_id), []).append(age)
    return {copy: min(ages)[2] for ages in same.values() for *_, copy in ages if copy != min(ages)[2]}


def with_duplicate_of(metadata: Any, kept: UUID) -> Row:
    if not isinstance(metadata, dict):
        metadata = {} if metadata is None else {"original": metadata}
    return metadata | {"duplicate_of": str(kept)}


def test_every_line_is_what_it_was_but_for_raw_statuses_and_doubled_external_ids(
    adopted: psycopg.Connection[Row],
) -> None:
    expected = expected_lines(adopted.execute("select * from before.wapi_instances").fetchall())
    assert len(expected) > 8
    now = {row["id"]: row for row in adopted.execute("select * from public.wapi_instances")}

    changed = differences(adopted, "wapi_instances")
    told_in_new_columns = {line for line in expected if "status" not in expected[line]}  # paused, its word stands
    assert changed.keys() | told_in_new_columns == expected.keys()
    for line, (was, is_now) in changed.items():
        assert was is not None
        assert is_now is not None
        touched = {"updated_at": is_now["updated_at"]}  # the platform's own trigger
        assert is_now == was | touched | {key: word for key, word in expected[line].items() if key == "status"}
    for line, row in now.items():
        fresh = NEW_COLUMNS["wapi_instances"] | expected.get(line, {})
        assert {column: row[column] for column in NEW_COLUMNS["wapi_instances"]} == {
            column: fresh[column] for column in NEW_COLUMNS["wapi_instances"]
        }
    twins = [now[known(f"line {name}")] for name in ("twin", "newer twin")]
    assert [(row["status"], row["is_active"]) for row in twins] == [("connected", True), ("disconnected", False)]
    copies = [now[known(f"line {name}")]["is_active"] for name in ("old copy", "newest copy", "ageless copy")]
    assert copies == [False, True, False]


def test_every_message_is_what_it_was_but_for_copies(adopted: psycopg.Connection[Row]) -> None:
    expected = expected_copies(adopted)
    assert len(expected) > 5000

    changed = differences(adopted, "wapi_messages")
    assert changed.keys() == expected.keys()
    for message, (was, now) in changed.items():
        assert was is not None
        assert now is not None
        assert now == was | {
            "message_id": None,
            "metadata": with_duplicate_of(was["metadata"], expected[message]),
            "updated_at": now["updated_at"],  # the platform's own trigger
        }


@pytest.mark.parametrize("table", ["companies", "user_companies", "notifications", "wapi_conversations"])
def test_every_other_row_is_what_it_was(adopted: psycopg.Connection[Row], table: str) -> None:
    assert differences(adopted, table) == {}
    for column, value in NEW_COLUMNS.get(table, {}).items():
        assert adopted.execute(f"select distinct {column} as value from public.{table}").fetchall() == [
            {"value": value}
        ]


def test_a_quote_finds_one_message_and_it_is_the_oldest(adopted: psycopg.Connection[Row]) -> None:
    quotes = (
        "select q.id, array_agg(o.id) as found from public.wapi_messages q"
        " join {0}.wapi_messages o on o.conversation_id = q.conversation_id and o.message_id = q.quoted_message_id group by q.id"
    )
    before = {row["id"]: row["found"] for row in adopted.execute(quotes.format("before"))}
    after = {row["id"]: row["found"] for row in adopted.execute(quotes.format("public"))}
    assert max(map(len, before.values())) == 3
    assert after.keys() == before.keys()
    kept = {
        row["id"]: row["kept"]
        for row in adopted.execute(
            "select id, (metadata ->> 'duplicate_of')::uuid as kept from public.wapi_messages where metadata ? 'duplicate_of'"
        )
    }
    for quote, [found] in after.items():
        assert {kept.get(message, message) for message in before[quote]} == {found}


def test_the_index_that_forbids_copies_can_be_built_then(platform: Platform) -> None:
    with connect(platform.url("adopted")) as connection, connection.transaction(force_rollback=True):
        connection.execute(
            "create unique index on public.wapi_messages (conversation_id, message_id) where message_id <> ''"
        )


# What stays


def test_what_the_platform_has_set_up_is_untouched_and_what_is_added_to_its_tables_is_known(
    adopted: psycopg.Connection[Row],
) -> None:
    tuples = adopted.cursor(row_factory=psycopg.rows.tuple_row)
    before: set[Fact] = set(tuples.execute("select * from before.catalogue"))
    after = catalogue(adopted)
    assert len(before) > 80
    assert before <= after
    added = {(kind, name) for kind, name, _ in after - before if name.split(".")[0] in TABLES}
    columns = {("column", f"{table}.{column}") for table, added in NEW_COLUMNS.items() for column in added}
    assert added - columns == {
        ("index", "wapi_instances.one_active_instance_per_external_id"),
        ("index", "wapi_instances.paused_instances_by_external_id"),
        ("index", "wapi_instances.active_instances_by_last_health_check"),
        ("index", "wapi_instances.unwatched_instances"),
        ("trigger", "wapi_instances.close_outage_when_paused"),
    }
    assert columns <= added
    assert "publication" not in {kind for kind, *_ in after - before}


def test_a_publication_of_all_tables_stops_no_update_of_ours(adopted: psycopg.Connection[Row]) -> None:
    """Somebody may publish every table: an update then needs a key by which its row is told."""
    keyless = adopted.execute(
        "select c.relname from pg_class c where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p')"
        " and c.relreplident = 'd' and not exists (select from pg_index i where i.indrelid = c.oid and i.indisprimary)"
    ).fetchall()
    assert keyless == []
    [published] = adopted.execute(
        "select count(*) as n from pg_publication_tables where pubname = 'everything'"
    ).fetchall()
    assert published["n"] > 15


def test_no_table_or_index_of_the_platform_is_rewritten(platform: Platform) -> None:
    with connect(platform.url("adopted")) as adopted, connect(platform.copy()) as living:
        before, after = files_on_disk(living), files_on_disk(adopted)
    assert len(before) > 15
    assert before.items() <= after.items()


def test_twice_is_a_no_op(platform: Platform) -> None:
    database = platform.keep("twice", template="adopted")
    with connect(database) as connection:
        before = everything(connection)
        assert migrate(database) == []
        for file in FILES:
            with connection.transaction():
                connection.execute(file.read_bytes())
        assert everything(connection) == before


# Locks

BLOCKERS = {
    # What somebody holds for long while the file comes, and what he would wait for.
    "instances": "select count(*) from public.wapi_instances",
    "records": "update public.wapi_instances set bot_prompt = bot_prompt where unit = 'Jardins'",
    "outages": "update public.wapi_instances set bot_prompt = bot_prompt where unit = 'Jardins'",
    "duplicate_messages": "update public.wapi_messages set content = content where id = md5('message 5')::uuid",
}
KEPT_OUT = {
    # Of the platform's tables; no file but these keeps anybody out of any.
    "instances": {"wapi_instances": "everybody"},
    "records": {"wapi_instances": "writers"},
    "outages": {"wapi_instances": "writers"},
}
HELD = """
select c.relname, case when bool_or(l.mode = 'AccessExclusiveLock') then 'everybody' else 'writers' end as out
from pg_locks l join pg_class c on c.oid = l.relation
where l.pid = pg_backend_pid() and l.database = (select oid from pg_database where datname = current_database())
  and c.oid = any (%s::regclass[]) and l.mode not in ('AccessShareLock', 'RowShareLock', 'RowExclusiveLock')
group by c.relname
"""


def topic(file: Path) -> str:
    return file.stem.split("_", 1)[1]


@pytest.mark.parametrize("file", FILES, ids=topic)
def test_each_file_says_first_how_long_it_waits_for_a_lock(file: Path) -> None:
    statements = re.sub(r"--.*", "", file.read_text("utf-8")).strip()
    waits = re.match(r"set local lock_timeout = '(\d)s';", statements)
    assert waits
    assert int(waits[1]) <= 5


def test_a_file_takes_no_lock_that_it_need_not_and_gives_up_rather_than_queue_behind_a_long_transaction(
    platform: Platform,
) -> None:
    database = platform.copy()
    with connect(database) as connection, psycopg.connect(database) as somebody:
        for file in FILES:
            blocker, text = BLOCKERS.get(topic(file)), file.read_text("utf-8")
            if blocker:
                before = catalogue(connection), rows_of(connection, "wapi_instances")
                somebody.execute(blocker)  # type: ignore[arg-type]
                impatient = text.replace("set local lock_timeout = '5s'", "set local lock_timeout = '50ms'")
                with pytest.raises(psycopg.errors.LockNotAvailable), connection.transaction():
                    connection.execute(impatient.encode())
                somebody.rollback()
                assert (catalogue(connection), rows_of(connection, "wapi_instances")) == before, topic(file)
            with connection.transaction():
                connection.execute(text.encode())
                tables = [f"public.{table}" for table in TABLES]
                kept_out = {row["relname"]: row["out"] for row in connection.execute(HELD, (tables,))}
            assert kept_out == KEPT_OUT.get(topic(file), {}), topic(file)


def test_while_copies_are_cleaned_up_everybody_reads_and_writes_messages_and_only_copies_wait(
    platform: Platform,
) -> None:
    database = platform.copy()
    copies = "select id from public.wapi_messages where metadata ? 'duplicate_of'"
    with connect(database) as connection, psycopg.connect(database) as somebody:
        for file in FILES[: FILES.index(CLEANING)]:
            with connection.transaction():
                connection.execute(file.read_bytes())
        with connection.transaction():
            connection.execute(CLEANING.read_bytes())
            gave_up_their_id = {row["id"] for row in connection.execute(copies)}

            somebody.execute("set lock_timeout = '1ms'")  # nothing of what follows waits at all
            seen = {row[0] for row in somebody.execute("select id from public.wapi_messages")}
            free = {row[0] for row in somebody.execute("select id from public.wapi_messages for update skip locked")}
            assert seen - free == gave_up_their_id
            somebody.execute(
                "insert into public.wapi_messages (conversation_id, message_id, content)"
                " select conversation_id, 'new', 'Oi' from public.wapi_messages where message_id <> '' limit 1"
            )
            somebody.execute("update public.wapi_conversations set unread_count = unread_count + 1")
            somebody.commit()
            with pytest.raises(psycopg.errors.LockNotAvailable):
                somebody.execute("update public.wapi_messages set content = '' where id = %s", (min(gave_up_their_id),))
            somebody.rollback()
    assert len(gave_up_their_id) > 5000


# Copies, one rule at a time

HER, HIM = known("conversation 1"), known("conversation 2")
LOW, MIDDLE, HIGH = (UUID(int=number) for number in (1, 2, 3))
DAY_1, DAY_2 = "2026-01-01", "2026-01-02"


@pytest.fixture
def messages(adopted: psycopg.Connection[Row]) -> Iterator[psycopg.Connection[Row]]:
    """The migrated platform without any message, until the test ends."""
    with adopted.transaction(force_rollback=True):
        adopted.execute("truncate public.wapi_messages")
        yield adopted


def write(connection: psycopg.Connection[Row], **columns: Any) -> UUID:
    row = {
        "conversation_id": HER,
        "message_id": "3EB0",
        "timestamp": DAY_1,
        "created_at": DAY_1,
        "metadata": None,
    } | columns
    names = sql.SQL(", ").join(map(sql.Identifier, row))
    marks = sql.SQL(", ").join([sql.Placeholder()] * len(row))
    connection.execute(
        sql.SQL("insert into public.wapi_messages ({}) values ({})").format(names, marks), list(row.values())
    )
    return row["id"]


def cleaned(connection: psycopg.Connection[Row]) -> dict[UUID, Row]:
    connection.execute(CLEANING.read_bytes())
    return {row["id"]: row for row in connection.execute("select * from public.wapi_messages")}


@pytest.mark.parametrize(
    ("oldest", "copy"),
    [
        pytest.param(
            {"timestamp": DAY_1, "id": HIGH}, {"timestamp": DAY_2, "id": LOW}, id="the earlier moment is the oldest"
        ),
        pytest.param(
            {"timestamp": DAY_2, "id": HIGH}, {"timestamp": None, "id": LOW}, id="no moment is later than any"
        ),
        pytest.param(
            {"created_at": DAY_1, "id": HIGH},
            {"created_at": DAY_2, "id": LOW},
            id="of one moment the row written first",
        ),
        pytest.param(
            {"timestamp": None, "created_at": DAY_1, "id": HIGH},
            {"timestamp": None, "created_at": None, "id": LOW},
            id="nobody knows the moments, one is known to be written",
        ),
        pytest.param({"id": LOW}, {"id": HIGH}, id="of twins the smaller id"),
    ],
)
def test_the_oldest_of_copies_keeps_its_message_id(messages: psycopg.Connection[Row], oldest: Row, copy: Row) -> None:
    for row in (copy, oldest):
        write(messages, **row)
    after = cleaned(messages)
    assert (after[oldest["id"]]["message_id"], after[oldest["id"]]["metadata"]) == ("3EB0", None)
    assert after[copy["id"]]["message_id"] is None
    assert after[copy["id"]]["metadata"] == {"duplicate_of": str(oldest["id"])}


@pytest.mark.parametrize(
    ("metadata", "kept"),
    [
        pytest.param(None, {}, id="none"),
        pytest.param("null", {}, id="a JSON null"),
        pytest.param("{}", {}, id="an empty object"),
        pytest.param('{"bot": [1, null]}', {"bot": [1, None]}, id="an object"),
        pytest.param('[1, {"a": null}]', {"original": [1, {"a": None}]}, id="a list"),
        pytest.param('"ok"', {"original": "ok"}, id="a word"),
        pytest.param("false", {"original": False}, id="a boolean"),
    ],
)
def test_a_copy_keeps_its_metadata_whatever_they_are(
    messages: psycopg.Connection[Row], metadata: str | None, kept: Row
) -> None:
    write(messages, id=LOW)
    write(messages, id=HIGH, metadata=metadata)
    assert cleaned(messages)[HIGH]["metadata"] == kept | {"duplicate_of": str(LOW)}


@pytest.mark.parametrize(
    ("one", "other"),
    [
        pytest.param({}, {"conversation_id": HIM}, id="in two conversations"),
        pytest.param({"conversation_id": None}, {"conversation_id": None}, id="without a conversation"),
        pytest.param({"message_id": None}, {"message_id": None}, id="without an id"),
        pytest.param({"message_id": ""}, {"message_id": ""}, id="with an empty id"),
        pytest.param({}, {"message_id": "3eb0"}, id="with another id"),
    ],
)
def test_what_is_no_copy_stays_as_it_is(messages: psycopg.Connection[Row], one: Row, other: Row) -> None:
    write(messages, id=LOW, **one)
    write(messages, id=HIGH, **other)
    before = rows_of(messages, "wapi_messages")
    cleaned(messages)
    assert rows_of(messages, "wapi_messages") == before


@pytest.mark.parametrize(
    "index",
    [
        "unique index on public.wapi_messages (conversation_id, message_id)",
        "unique index on public.wapi_messages (message_id, conversation_id) include (status)",
        "unique index on public.wapi_messages (conversation_id, message_id) where message_id is not null",
        "unique index on public.wapi_messages (conversation_id, message_id) where message_id <> ''",
        "unique index on public.wapi_messages (message_id)",
    ],
)
def test_where_an_index_forbids_copies_the_table_is_not_even_read(
    messages: psycopg.Connection[Row], index: str
) -> None:
    messages.execute("create " + index)  # type: ignore[arg-type]
    reads = "select seq_scan, idx_scan from pg_stat_xact_user_tables where relid = 'public.wapi_messages'::regclass"
    before = messages.execute(reads).fetchone()
    messages.execute(CLEANING.read_bytes())
    assert messages.execute(reads).fetchone() == before


@pytest.mark.parametrize(
    "index",
    [
        "index on public.wapi_messages (conversation_id, message_id)",
        "unique index on public.wapi_messages (conversation_id, message_id, status)",
        "unique index on public.wapi_messages (conversation_id, (message_id || id))",
        "unique index on public.wapi_messages (conversation_id, message_id) where status = 'read'",
        "unique index on public.wapi_messages (id) include (conversation_id, message_id)",
    ],
)
def test_an_index_that_lets_copies_in_changes_nothing(messages: psycopg.Connection[Row], index: str) -> None:
    messages.execute("create " + index)  # type: ignore[arg-type]
    write(messages, id=LOW, status="sent")
    write(messages, id=HIGH, status="read")
    assert cleaned(messages)[HIGH]["message_id"] is None


def test_an_older_platform_without_metadata_created_at_and_providers_is_adopted_too(platform: Platform) -> None:
    database = platform.copy()
    foretold = {effect.what for effect in foretell(database)}
    with connect(database) as connection:
        connection.execute("drop view public.inbox")
        connection.execute("delete from public.wapi_instances where provider in ('zapi', 'evolution')")
        connection.execute("alter table public.wapi_instances drop column provider, drop column client_token")
        connection.execute("alter table public.wapi_messages drop column metadata, drop column created_at")
        assert foretold - {effect.what for effect in foretell(database)} == {OTHERS}
        for file in FILES:
            with connection.transaction():
                connection.execute(file.read_bytes())
        [found] = connection.execute(
            "select count(*) as copies, count(*) filter (where c.metadata = jsonb_build_object('duplicate_of', o.id)) as told"
            " from public.wapi_messages c join before.wapi_messages w using (id) join public.wapi_messages o"
            " on o.conversation_id = w.conversation_id and o.message_id = w.message_id and o.id <> c.id where c.message_id is null"
        ).fetchall()
        assert found["copies"] == found["told"] > 5000


def test_rows_of_other_providers_are_left_as_they_are(adopted: psycopg.Connection[Row]) -> None:
    """A platform of today keeps Z-API's and Evolution's lines in the same table, with ids and words of their own."""
    rows = adopted.execute(
        "select provider, status, status_reason, is_active from public.wapi_instances where btrim(instance_id) = 'SAME'"
        ' order by provider collate "C", status nulls first'
    ).fetchall()
    assert [tuple(row.values()) for row in rows] == [
        ("W-API", "connected", None, True),
        ("evolution", "close", None, True),
        ("wapi", "qr_pending", "duplicate_external_id", False),
        ("zapi", None, None, True),
        ("zapi", "open", None, True),
    ]


# What the dry run foretells

RENAMED = "status becomes disconnected"
PAUSED = "lines are paused"
COPIES = re.compile(r"(\d+) messages lose their message_id")
OTHERS = "rows of other providers are neither changed nor watched"


def told(effects: list[Effect], words: str) -> Effect:
    [found] = [effect for effect in effects if words in effect.what]
    return found


def test_a_dry_run_changes_nothing(platform: Platform) -> None:
    before, after = platform.by_the_dry_run
    assert before == after


def test_what_the_dry_run_foretold_is_what_then_happened(platform: Platform, adopted: psycopg.Connection[Row]) -> None:
    expected = expected_lines(adopted.execute("select * from before.wapi_instances").fetchall())
    names = {
        row["id"]: f"{row['unit'] or '(no unit)'}, {row['name']} ({row['external_id']})"
        for row in adopted.execute(
            "select i.id, i.unit, c.name, case when btrim(i.instance_id) ~ '^LITE' then btrim(i.instance_id)"
            " when btrim(i.instance_id) <> '' then '…' || right(btrim(i.instance_id), 4) else 'without external id' end as external_id"
            " from public.wapi_instances i join public.companies c on c.id = i.company_id"
        )
    }
    renamed, paused = told(platform.foretold, RENAMED), told(platform.foretold, PAUSED)
    assert sorted(renamed.concerns) == sorted(names[line] for line in expected if "status" in expected[line])
    assert "2 unauthorized" in renamed.what
    assert sorted(paused.concerns) == sorted(
        f"{names[line]}, row {line}" for line in expected if "is_active" in expected[line]
    )
    [copies] = [found for effect in platform.foretold if (found := COPIES.match(effect.what))]
    [happened] = adopted.execute("select count(*) as n from public.wapi_messages where metadata ? 'duplicate_of'")
    assert int(copies[1]) == happened["n"]


@pytest.mark.parametrize(
    ("words", "section", "concerns"),
    [
        pytest.param(OTHERS, Section.STAYS, ("zapi: 2 rows", "evolution: 1 row"), id="other providers"),
        pytest.param("Realtime publishes notifications, wapi_instances, wapi_messages", Section.STAYS, (), id="what Realtime publishes"),
        pytest.param("Realtime publishes wapi_instances, of which", Section.LOOK, (), id="a published table that every sweep writes"),
        pytest.param("rows of two companies have one external id", Section.LOOK, ("Pinheiros, bela (LITE-AB12CD-000003)", "Santana, vazia (LITE-AB12CD-000003)"), id="an id in two companies"),
        pytest.param("moments are impossible", Section.LOOK, ("(no unit), bela (LITE-AB12CD-000008): connected_at = 2999-01-01T00:00:00+00:00",), id="a moment ahead by centuries"),
        pytest.param("do not look like W-API's", Section.LOOK, ("(no unit), alegria (…SAME)", "(no unit), alegria (…SAME)"), id="an id without its form"),
        pytest.param("triggers on notifications", Section.LOOK, ("count_notifications calls count_notification",), id="a trigger on the bell"),
        pytest.param("2 users of 2 companies in user_companies are gone", Section.LOOK, (), id="users that are gone"),
    ],
)  # fmt: skip
def test_the_dry_run_tells(platform: Platform, words: str, section: Section, concerns: tuple[str, ...]) -> None:
    effect = told(platform.foretold, words)
    assert (effect.section, effect.concerns) == (section, concerns)


@pytest.mark.parametrize(
    ("change", "words", "concerns"),
    [
        pytest.param("add constraint few check (type not like '%disconnected')", "the check few on notifications refuses these bells", {"instance_disconnected", "instance_still_disconnected"}, id="a check that refuses one type"),
        pytest.param("add constraint late check (created_at > '2030-01-01') not valid", "the check late on notifications refuses these bells", set(NoticeType), id="a check that refuses all"),
        pytest.param("add column priority int not null", "columns must be filled and have no default", {"priority"}, id="a column that must be filled"),
        pytest.param("add constraint once unique (user_id, type) deferrable", "unique indexes on notifications may refuse a second bell", {"once"}, id="a unique index"),
        pytest.param("drop constraint known_type, alter column type type public.bell using 'new_lead'", "does not know words of ours", set(NoticeType), id="a type of its own"),
    ],
)  # fmt: skip
def test_the_dry_run_tells_what_would_refuse_our_bells(
    platform: Platform, living: psycopg.Connection[Any], change: str, words: str, concerns: set[str]
) -> None:
    with living.transaction(force_rollback=True):
        living.execute("create type public.bell as enum ('new_lead')")
        living.execute("truncate public.notifications")
        living.execute(f"alter table public.notifications {change}")  # type: ignore[arg-type]
        effect = told(read_effects(living, ()), words)
    assert effect.section is Section.LOOK
    assert {*effect.concerns} == concerns


def test_the_dry_run_knows_our_words_for_a_status() -> None:
    assert set(STATUSES) == set(Status)


@pytest.mark.parametrize(
    ("table", "change", "words", "concerns"),
    [
        pytest.param("wapi_instances", "add constraint two check (status in ('connected', 'disconnected')) not valid", "the check two on wapi_instances refuses these statuses", {"degraded"}, id="no word for doubt"),
        pytest.param("wapi_instances", "add column note text not null default ''", None, set(), id="a column with a default, in a table whose rows we only change"),
        pytest.param("wapi_messages", "add column channel text not null", "wapi_messages refuses all messages", {"channel"}, id="a column of messages that must be filled"),
        pytest.param("wapi_messages", "add constraint words check (status in ('sent', 'received', 'delivered', 'read')) not valid", "the check words on wapi_messages refuses these messages", {"error"}, id="no word for what failed"),
        pytest.param("wapi_conversations", "alter column contact_name set not null", "wapi_conversations refuses all conversations", {"contact_name"}, id="a name that must be there"),
        pytest.param("wapi_conversations", "add constraint phones check (remote_jid ~ '^[0-9]+@s.whatsapp.net$') not valid", "the check phones on wapi_conversations refuses these conversations", {"…0001@lid", "…0001@g.us"}, id="phones alone"),
    ],
)  # fmt: skip
def test_the_dry_run_tells_what_would_refuse_messages_and_statuses(
    living: psycopg.Connection[Any], table: str, change: str, words: str | None, concerns: set[str]
) -> None:
    with living.transaction(force_rollback=True):
        living.execute("truncate public.wapi_messages, public.wapi_conversations cascade")
        living.execute(f"alter table public.{table} {change}")  # type: ignore[arg-type]
        refused = [
            each for each in read_effects(living, ()) if f" on {table} " in each.what or table + " refuses" in each.what
        ]
    if words is None:
        assert refused == []
    else:
        [effect] = refused
        assert words in effect.what
        assert (effect.section, {*effect.concerns}) == (Section.LOOK, concerns)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        pytest.param("alter table public.wapi_instances drop column phone_number", "lack columns", id="a missing column"),
        pytest.param("create table public.notices (id int)", "other tables stand under names that ours need", id="a table of another with a name of ours"),
        pytest.param("alter table public.wapi_conversations drop constraint wapi_conversations_instance_id_remote_jid_key", "has no unique (instance_id, remote_jid)", id="a chat that may be there twice"),
        pytest.param("set local role authenticated", "does not own tables", id="a user who does not own them"),
        pytest.param("alter table public.companies rename to of_old; create view public.companies as select * from public.of_old", "views stand where tables must be", id="a view"),
    ],
)  # fmt: skip
def test_what_would_stop_the_migrations_is_told_before_anything_is_applied(
    living: psycopg.Connection[Any], change: str, words: str
) -> None:
    files = migrations_in(MIGRATIONS)
    with living.transaction(force_rollback=True):
        living.execute(change)  # type: ignore[arg-type]
        assert words in next(effect.what for effect in obstacles(living, files))
        assert {effect.section for effect in read_effects(living, files)} == {Section.STOPS}


def test_an_unpublished_bell_is_added_and_a_missing_publication_told(living: psycopg.Connection[Any]) -> None:
    with living.transaction(force_rollback=True):
        living.execute("alter publication supabase_realtime drop table public.notifications")
        assert told(read_effects(living, ()), "notifications is added").section is Section.CHANGES
        living.execute("alter publication supabase_realtime add table public.notifications where (type = 'new_lead')")
        assert told(read_effects(living, ()), "not publish every insert").section is Section.LOOK
        living.execute("drop publication supabase_realtime")
        assert told(read_effects(living, ()), "there is no publication").section is Section.LOOK


# What works then


@pytest.fixture(scope="module")
def world(platform: Platform) -> Iterator[World]:
    """Both functions on the adopted platform, and a provider at which most lines live."""
    stack = platform.stack
    with ExitStack() as parts:
        simulator = parts.enter_context(Simulator.start(wapi_send_key=stack.service_role_key))
        connection = parts.enter_context(connect(stack.database_url))
        servers = {
            "follow_up_check": parts.enter_context(
                FunctionServer("follow_up_check", check_environment(stack, simulator))
            ),
            "wapi_webhook": parts.enter_context(FunctionServer("wapi_webhook", webhook_environment(stack, simulator))),
        }
        sessions = {"santana": "disconnected", "not found": "disconnected", "newest copy": "ghost"}
        for name in (
            "jardins",
            "moema",
            "pinheiros",
            "santana",
            "refused",
            "not found",
            "shouting",
            "twin",
            "newest copy",
        ):
            line = line_of(connection, name)
            simulator.add_lines(
                [{
                    "external_id": line.external_id, "token": line.token, "phone": line.phone,
                    "session": sessions.get(name, "alive"), "restart": "refused",
                }]
            )  # fmt: skip
        yield World(stack, simulator, connection, servers.__getitem__)


def line_of(connection: psycopg.Connection[Row], name: str) -> Line:
    [row] = connection.execute("select * from public.wapi_instances where id = %s", (known(f"line {name}"),)).fetchall()
    return Line(row["id"], row["instance_id"], row["instance_token"], row["phone_number"])


def signed_in(platform: Platform, name: str) -> Client:
    client = create_client(platform.stack.supabase_url, platform.stack.anon_key)
    client.postgrest.auth(platform.stack.user_token(known(f"user {name}")))
    return client


def test_the_first_sweep_finds_every_dirty_status_and_rings_no_bell_for_what_was_down_before(world: World) -> None:
    bells = len(world.bells())
    assert world.sweep()["checked"] == 10
    lines = {
        name: world.row(line_of(world.database, name))
        for name in (
            "jardins",
            "pinheiros",
            "santana",
            "refused",
            "not found",
            "without word",
            "shouting",
            "newest copy",
        )
    }
    assert {name: row["status"] for name, row in lines.items()} == {
        "jardins": "connected", "pinheiros": "connected", "refused": "connected", "shouting": "connected",
        "santana": "disconnected", "not found": "disconnected", "without word": "disconnected", "newest copy": "disconnected",
    }  # fmt: skip
    assert all(row["last_health_check"] for row in lines.values())
    opened = world.sql(
        "select instance_id, opened_by, told_at from public.instance_outages where opened_by <> 'webhook'"
    )
    down = ("santana", "not found", "without word", "newest copy")
    assert {row["instance_id"] for row in opened} == {lines[name]["id"] for name in down}
    assert {(row["opened_by"], row["told_at"]) for row in opened} == {("adoption", None)}
    assert len(world.bells()) == bells
    paused = world.row(line_of(world.database, "newer twin"))
    assert (paused["last_health_check"], paused["is_active"]) == (None, False)


def test_an_event_for_a_doubled_external_id_goes_to_the_active_row(world: World) -> None:
    active, paused = (line_of(world.database, name) for name in ("twin", "newer twin"))
    before = world.row(paused)
    world.behave(active, session="disconnected")
    assert world.event(world.disconnection(active)) == "disconnected"
    assert world.status(active) == "disconnected"
    assert world.row(paused) == before
    assert {bell["user_id"] for bell in world.bells(active)} == {known("user ana"), known("user bia")}
    assert world.bells(paused) == []


def test_an_ack_finds_the_one_row_that_kept_the_id_whatever_its_metadata_were(world: World) -> None:
    [oldest] = world.sql("select * from public.wapi_messages where id = %s", known("message 96012"))
    assert (oldest["status"], oldest["metadata"]) == ("pending", "ok")
    copies = "select id, metadata from public.wapi_messages where metadata ->> 'duplicate_of' = %s"
    before = world.sql(copies, str(oldest["id"]))
    assert len(before) == 2

    for status in ("DELIVERY", "READ"):
        outcome = world.event({
            "event": "webhookStatus", "instanceId": "LITE-AB12CD-000001", "messageId": oldest["message_id"], "status": status,
            "fromMe": False, "moment": int(time.time()), "chat": {"id": "5511900000012"}, "isGroup": False,
        })  # fmt: skip
        assert outcome == "applied"
    [row] = world.sql("select status, metadata from public.wapi_messages where id = %s", oldest["id"])
    assert (row["status"], row["metadata"]["original"], row["metadata"]["acks"]["best"]) == ("read", "ok", "read")
    assert world.sql(copies, str(oldest["id"])) == before


def test_a_message_is_the_last_one_of_a_conversation_that_holds_messages_without_a_moment(world: World) -> None:
    moment = int(time.time())
    outcome = world.event({
        "event": "webhookReceived", "instanceId": "LITE-AB12CD-000001", "isGroup": False, "messageId": "3EB0NEW", "fromMe": False,
        "chat": {"id": "5511900000028"}, "sender": {"id": "5511900000028"}, "moment": moment, "msgContent": {"conversation": "Tem data?"},
    })  # fmt: skip
    assert outcome == "stored"
    [row] = world.sql("select * from public.wapi_conversations where id = %s", known("conversation 28"))
    assert (row["last_message_content"], row["last_message_at"]) == ("Tem data?", datetime.fromtimestamp(moment, UTC))


def test_the_platforms_screens_read_whole_rows_and_write_as_before(platform: Platform) -> None:
    ana, caio = signed_in(platform, "ana"), signed_in(platform, "caio")
    with connect(platform.stack.database_url) as connection:
        count = "select count(*) as n from public.wapi_instances where company_id = any (%s)"
        for client, companies in ((ana, ["alegria", "bela"]), (caio, ["bela"])):
            [lines] = connection.execute(count, ([known(f"company {name}") for name in companies],)).fetchall()
            rows = client.table("wapi_instances").select("*").execute().data
            assert len(rows) == lines["n"]
            assert {"instance_token", "bot_prompt", "status", *NEW_COLUMNS["wapi_instances"]} <= rows[0].keys()
    assert len(ana.table("wapi_messages").select("*").limit(50).execute().data) == 50
    assert len(ana.table("wapi_conversations").select("*").limit(50).execute().data) == 50
    bell = ana.table("notifications").select("*").order("created_at", desc=True).limit(50).execute().data
    assert {row["user_id"] for row in bell} == {str(known("user ana"))}

    assert ana.table("notifications").update({"read": True}).eq("id", bell[-1]["id"]).execute().data[0]["read"]
    line = ana.table("wapi_instances").update({"bot_prompt": "Oi"}).eq("id", str(known("line moema"))).execute().data
    assert line[0]["bot_prompt"] == "Oi"
    message = {"conversation_id": str(HER), "content": "Oi", "company_id": str(known("company alegria"))}
    assert ana.table("wapi_messages").insert(message).execute().data[0]["metadata"] is None


# Members who may update whole rows

FUTURE = "9999-01-01"


@pytest.mark.parametrize(
    "written",
    [
        {"last_health_check": "infinity"},
        {"last_health_check": FUTURE},
        {"last_health_check": "-infinity"},
        {"last_health_check": "0044-03-15 BC"},
        {"connected_at": "infinity"},
        {"connected_at": FUTURE},
        {"connected_at": "-infinity"},
        {"auto_recovery_attempts": 2_147_483_647},
        {"auto_recovery_attempts": -2_000_000_000},
        {"auto_recovery_attempts": None},
        {"status": "connected", "status_reason": "mine"},
        {"status": "ALL IS WELL"},
        {"is_active": None},
        {"provider": "W-API"},
        {"instance_id": "  LITE-AB12CD-000004 "},
        {"updated_at": FUTURE, "created_at": FUTURE, "phone_number": "", "unit": None},
    ],
    ids=str,
)
def test_nothing_that_a_member_writes_resets_a_restarts_clock_stops_a_sweep_or_hides_a_line(
    platform: Platform, world: World, written: Row
) -> None:
    """Adopted platforms let members update whole rows of their company's lines."""
    world.sql(
        "update public.wapi_instances set instance_id = 'LITE-AB12CD-000004', connected_at = '2026-01-01', provider = 'wapi',"
        " company_id = %s, status = 'connected', is_active = true, auto_recovery_attempts = 0,"
        " last_health_check = now() - interval '5 minutes' where id = %s",
        known("company vazia"), known("line santana"),
    )  # fmt: skip
    line = line_of(world.database, "santana")
    world.behave(line, session="disconnected", restart="refused")
    for table in ("instance_outages", "instance_events", "notices"):
        world.sql(f"delete from public.{table} where instance_id = %s", line.id)
    world.sql(
        "update public.user_companies set company_id = %s where user_id = %s",
        known("company vazia"),
        known("user caio"),
    )
    world.set(line, "last_restart_at = now() - interval '10 minutes', degraded_since = null, bad_since = null")
    restarts, others = world.restarts(line), world.sql("select count(*) as n from public.wapi_instances")[0]["n"]

    rows = signed_in(platform, "caio").table("wapi_instances")
    assert len(rows.update(written).eq("id", str(line.id)).execute().data) == 1
    answer = world.sweep()

    assert answer["errors"] == 0
    assert answer["checked"] >= 10
    assert others > 10
    assert world.restarts(line) == restarts  # ten minutes are no thirty
    assert world.outages(line) != []  # but it is known to be dead
    world.pass_time(timedelta(minutes=20))
    world.set(line, "last_health_check = null")
    rows = signed_in(platform, "caio").table("wapi_instances")
    rows.update({name: value for name, value in written.items() if name != "status"}).eq("id", str(line.id)).execute()
    world.sweep()
    assert world.restarts(line) == restarts + 1


def test_a_line_that_a_member_deletes_and_makes_anew_keeps_its_restarts_clock(platform: Platform, world: World) -> None:
    line = line_of(world.database, "not found")
    world.behave(line, session="disconnected", restart="refused")
    world.set(line, "is_active = true, status = 'connected', last_restart_at = now() - interval '10 minutes'")
    before = world.restarts(line)
    [row] = world.sql("select to_jsonb(i) - 'id' as row from public.wapi_instances i where id = %s", line.id)
    rows = signed_in(platform, "ana").table("wapi_instances")

    assert len(rows.delete().eq("id", str(line.id)).execute().data) == 1
    rows = signed_in(platform, "ana").table("wapi_instances")
    [made] = rows.insert(row["row"] | {"last_health_check": "2026-01-01T00:00:00Z"}).execute().data
    world.sweep()
    world.sweep()

    assert made["id"] != str(line.id)
    assert world.restarts(line) == before
    [again] = world.sql("select status from public.wapi_instances where id = %s", made["id"])
    assert again["status"] == "degraded"  # dead, and restarted too lately


# The Supabase CLI, as an operator runs it

HOSTED_ROLE = """
do $$
declare
  v_name text;
begin
  create role hosted login bypassrls createrole password 'made-up';
  execute format('grant create on database %I to hosted', current_database());
  alter schema public owner to hosted;
  alter publication supabase_realtime owner to hosted;
  for v_name in select c.oid::regclass from pg_class c where c.relnamespace in ('public'::regnamespace, 'supabase_migrations'::regnamespace)
    and c.relkind in ('r', 'v') loop
    execute format('alter table %s owner to hosted', v_name);
  end loop;
  for v_name in select p.oid::regprocedure from pg_proc p where p.pronamespace = 'public'::regnamespace loop
    execute format('alter function %s owner to hosted', v_name);
  end loop;
  alter schema supabase_migrations owner to hosted;
  grant usage on schema auth to hosted;
end
$$;
"""


@pytest.fixture(scope="module")
def cli() -> str:
    try:
        return supabase_cli()
    except StackError as error:
        pytest.skip(str(error))


class Repository:
    """A folder with migrations of its own and the Supabase CLI in it: the platform's, or ours as a stranger clones it."""

    def __init__(self, cli: str, folder: Path, migrations: Path) -> None:
        self._cli = cli
        self._folder = folder
        self.migrations = folder / "supabase" / "migrations"
        shutil.copytree(migrations, self.migrations)
        shutil.copy(PROJECT / "supabase" / "config.toml", folder / "supabase")

    def run(self, url: str, *command: str) -> tuple[int, str]:
        done = subprocess.run(
            [self._cli, *command, f"--workdir={self._folder}", f"--remote={url}", "--yes"],
            env={"PATH": os.environ["PATH"], "HOME": str(self._folder), "DO_NOT_TRACK": "1"},
            capture_output=True, text=True, check=False, timeout=120,
        )  # fmt: skip
        return done.returncode, done.stdout + done.stderr

    def push(self, url: str, *arguments: str) -> list[str]:
        """`supabase db push`; the files that it applied."""
        status, said = self.run(url, "db", "push", *arguments)
        assert status == 0, said
        return re.findall(r"Applying migration (\S+\.sql)", said)


def deploy_migrate(url: str, *arguments: str) -> tuple[int, str]:
    """The script, as an operator runs it."""
    done = subprocess.run(
        [PROJECT / "deploy" / "migrate", *arguments],
        env={"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "DATABASE_URL": url, "PYTHON": sys.executable},
        capture_output=True, text=True, check=False, timeout=300,
    )  # fmt: skip
    assert "made-up" not in done.stdout + done.stderr  # the password
    return done.returncode, done.stdout + done.stderr


def test_an_operator_who_is_no_superuser_adopts_a_platform_that_pushes_migrations_of_its_own(
    platform: Platform, cli: str, tmp_path: Path
) -> None:
    """Design, section 9: refused by the CLI; its advice empties that history."""
    database = platform.copy()
    url = re.sub(r"//postgres:[^@]+@", "//hosted:made-up@", database)
    theirs = Repository(cli, tmp_path, platform.folder)
    with connect(database) as connection:
        connection.execute(HOSTED_ROLE)
        before, history = catalogue(connection), cli_rows(connection)

        status, said = deploy_migrate(url, "--dry-run")
        assert (status, re.findall(r"\d{14}_\w+\.sql", said)) == (0, [file.name for file in FILES]), said
        assert catalogue(connection) == before
        status, said = deploy_migrate(url)
        assert (status, re.findall(r"applied (\S+)", said)) == (0, [file.name for file in FILES]), said
        assert before < catalogue(connection)
        assert cli_rows(connection) == history

        (theirs.migrations / "20991231000001_next.sql").write_text("create table public.next_of_theirs (id int);\n")
        assert theirs.push(url) == ["20991231000001_next.sql"]
        status, said = deploy_migrate(url)
        assert (status, "nothing to apply" in said) == (0, True), said


def test_a_former_push_of_ours_is_taken_over_and_what_it_left_in_the_clis_history_is_told(
    platform: Platform, cli: str, tmp_path: Path
) -> None:
    database = platform.copy("fresh")
    shop = tmp_path / "shop"
    shop.mkdir()
    versions = ["20240101000000", "20991231000000"]
    for version in versions:
        (shop / f"{version}_shop.sql").write_text(f"create table public.shop_{version} (id int);\n")
    ours = Repository(cli, tmp_path / "ours", MIGRATIONS)
    theirs = Repository(cli, tmp_path / "theirs", shop)
    theirs.push(database)
    assert ours.run(database, "migration", "fetch")[0] == 0  # what the CLI wants before it pushes beside other versions
    assert ours.push(database, "--include-all") == [file.name for file in FILES]
    assert theirs.run(database, "db", "push")[0] != 0

    status, said = deploy_migrate(database)
    assert (status, "nothing to apply" in said) == (0, True), said
    with connect(database) as connection:
        connection.execute(said[said.index("delete from supabase_migrations") :].encode())
        assert [row["version"] for row in cli_rows(connection)] == versions
    assert theirs.push(database) == []
    assert deploy_migrate(database)[1].count("delete from") == 0


def test_a_migrated_fresh_project_may_still_be_pushed_to(platform: Platform, cli: str, tmp_path: Path) -> None:
    """The other order, pushed and then migrated, is that of the former push above."""
    database = platform.copy("fresh")
    files = [file.name for file in FILES]

    assert migrate(database) == files
    assert Repository(cli, tmp_path, MIGRATIONS).push(database) == files
    assert migrate(database) == []


def test_a_file_whose_text_has_changed_is_applied_again_and_one_of_unknown_text_is_not(platform: Platform) -> None:
    with (
        psycopg.connect(platform.url("adopted"), autocommit=True) as connection,
        connection.transaction(force_rollback=True),
    ):
        first, second = migrations_in(MIGRATIONS)[:2]
        connection.execute("update public.recovery_migrations set checksum = 'old' where version = %s", [first.version])
        connection.execute("update public.recovery_migrations set checksum = null where version = %s", [second.version])
        found = pending(connection, migrations_in(MIGRATIONS))
    assert [(each.migration, each.changed) for each in found] == [(first, True)]


def test_the_sql_editor_leaves_the_same_history(platform: Platform) -> None:
    """It sends a file as one simple query; many people on hosted builders have no password and no other way."""
    url = platform.copy("fresh")
    with connect(url) as connection:
        for file in FILES:
            connection.execute(file.read_bytes())
    assert migrate(url) == []


@pytest.mark.parametrize(
    ("text", "why"),
    [
        pytest.param("set local lock_timeout = '1ms'; lock public.companies;", "somebody else holds a lock.*run this again", id="a lock"),
        pytest.param("create table public.half (id int); select 1 / 0;", "SQLSTATE 22012: division by zero", id="an error"),
        pytest.param("create table public.half (id int);", "does not record itself", id="a file that leaves no trace"),
    ],
)  # fmt: skip
def test_a_file_that_fails_leaves_nothing_and_says_why(
    platform: Platform, adopted: psycopg.Connection[Row], tmp_path: Path, text: str, why: str
) -> None:
    file = tmp_path / "20991231000000_fails.sql"
    file.write_text(text)
    with psycopg.connect(platform.url("adopted")) as somebody:
        somebody.execute("lock public.companies in row exclusive mode")
        with pytest.raises(MigrationError, match=why):
            apply(adopted, *migrations_in(tmp_path))
    assert adopted.execute("select to_regclass('public.half') as half").fetchall() == [{"half": None}]


def test_two_at_once_do_not_meet(platform: Platform) -> None:
    url = platform.url("fresh")
    with psycopg.connect(url, autocommit=True) as one, psycopg.connect(url, autocommit=True) as other:
        with alone(one), pytest.raises(BusyError), alone(other):
            pass
        with alone(other):
            pass


def test_a_platform_that_lacks_a_table_hears_that_it_is_made(living: psycopg.Connection[Any]) -> None:
    with living.transaction(force_rollback=True):
        living.execute("drop table public.companies, public.user_companies cascade")
        effects = read_effects(living, migrations_in(MIGRATIONS))
    assert set(told(effects, "are not there and are made").concerns) == {"companies", "user_companies"}
    assert all(", (unknown company) (" in line for line in told(effects, PAUSED).concerns)


def test_a_platform_that_has_none_of_its_tables_is_a_fresh_project(platform: Platform) -> None:
    assert "a fresh project" in foretell(platform.url("fresh"))[0].what

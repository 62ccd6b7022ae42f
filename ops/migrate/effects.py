"""What the migrations would do to this very database, read from it in one read-only transaction.

``tests/database/test_adoption.py`` holds each prediction against what then happens.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any, Final

from psycopg import sql
from psycopg.rows import dict_row

from ops.common.shown import counted, shown, shown_external_id
from ops.migrate import queries, rules
from shared.providers.wapi.names import has_form

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import psycopg

    from ops.migrate.files import Migration

    Row = dict[str, Any]

REQUIRED: Final = {
    "companies": ("id", "name"),
    "user_companies": ("user_id", "company_id"),
    "wapi_instances": (
        "id", "instance_id", "instance_token", "status", "phone_number", "connected_at", "unit", "company_id",
        "created_at",
    ),
    "notifications": ("id", "user_id", "company_id", "type", "title", "message", "data", "created_at"),
    "wapi_conversations": (
        "id", "instance_id", "remote_jid", "contact_name", "contact_phone", "contact_picture", "last_message_at",
        "last_message_content", "last_message_from_me", "unread_count", "lead_id", "company_id", "bot_enabled",
    ),
    "wapi_messages": (
        "id", "conversation_id", "message_id", "from_me", "message_type", "content", "media_url", "media_key",
        "media_direct_path", "status", "timestamp", "company_id", "quoted_message_id",
    ),
}  # fmt: skip
"""What a platform's own tables must have; what else is needed the migrations add."""
WORDS_THAT_STAY: Final = (
    *rules.STATUSES,
    "connecting", "qr", "qr_code", "qr_pending", "pairing", "scan_qr", "awaiting_qr", "starting", "initializing",
)  # fmt: skip
_CREATED: Final = re.compile(r"^create table if not exists public\.(\w+)", re.MULTILINE)


class Section(StrEnum):
    """Where an effect is shown."""

    STOPS = "would stop the migrations"
    CHANGES = "changes"
    STAYS = "stays as it is"
    LOOK = "works, but look at it first"


@dataclass(frozen=True, slots=True)
class Effect:
    """One thing that would happen, or stand in the way.

    Attributes:
        section: See ``Section``.
        what: One plain sentence.
        concerns: What it is about, each fit to be shown.
    """

    section: Section
    what: str
    concerns: tuple[str, ...] = ()


def read_effects(connection: psycopg.Connection[Any], files: Collection[Migration]) -> list[Effect]:
    """What applying the files would do.

    Args:
        connection: Outside of a transaction.
        files: Those that are to be applied.
    """
    with connection.transaction(force_rollback=True), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("set transaction read only")
        cursor.execute("set local statement_timeout = '10min'")
        there = {row["name"]: row for row in cursor.execute(queries.TABLES, (list(REQUIRED),))}
        effects = [*_obstacles(cursor, there, files)]
        if any(effect.section is Section.STOPS for effect in effects):
            return effects
        if "wapi_instances" in there:
            company = sql.SQL(queries.COMPANY if "companies" in there else queries.NO_COMPANY)
            lines = cursor.execute(sql.SQL(queries.LINES).format(company=company)).fetchall()
            effects += _of_lines(lines, {file.name for file in files})
        if "wapi_messages" in there and any(file.name == "duplicate_messages" for file in files):
            effects += _of_messages(cursor)
        refusals = rules.refusals(cursor, there=there.keys())
        effects += [Effect(Section.LOOK, what, concerns) for what, concerns in refusals]
        effects += _of_realtime(cursor)
        return effects


def obstacles(connection: psycopg.Connection[Any], files: Collection[Migration]) -> list[Effect]:
    """Of these the ones that would stop the migrations, which are asked for before anything is applied."""
    with connection.transaction(force_rollback=True), connection.cursor(row_factory=dict_row) as cursor:
        cursor.execute("set transaction read only")
        there = {row["name"]: row for row in cursor.execute(queries.TABLES, (list(REQUIRED),))}
        return [effect for effect in _obstacles(cursor, there, files) if effect.section is Section.STOPS]


def _obstacles(cursor: psycopg.Cursor[Row], there: dict[str, Row], files: Collection[Migration]) -> Iterator[Effect]:
    if not files:
        return
    if not there:
        yield Effect(Section.CHANGES, "none of the platform's tables is there: a fresh project, all tables are made")
    else:
        made = [name for name in REQUIRED if name not in there]
        if made:
            yield Effect(Section.CHANGES, "tables of the platform are not there and are made", tuple(made))
    yield from _unless_empty(
        Section.STOPS,
        "tables of the platform lack columns that the functions need",
        (
            f"{name}: {', '.join(missing)}"
            for name, row in there.items()
            if (missing := [column for column in REQUIRED[name] if column not in row["columns"]])
        ),
    )
    yield from _unless_empty(
        Section.STOPS,
        "views stand where tables must be",
        (name for name, row in there.items() if not row["is_table"]),
    )
    yield from _unless_empty(
        Section.STOPS,
        "this user does not own tables that the migrations alter: connect as their owner",
        (name for name, row in there.items() if name in ("wapi_instances", "wapi_messages") and not row["is_mine"]),
    )
    if "wapi_conversations" in there and not cursor.execute(queries.UNIQUE_CHAT).fetchall():
        yield Effect(Section.STOPS, "wapi_conversations has no unique (instance_id, remote_jid), which a chat needs")
    ours = {name for file in files for name in _CREATED.findall(file.file.read_text("utf-8"))} - REQUIRED.keys()
    # Ours say in a comment what they are for.
    rows = cursor.execute(queries.FOREIGN_RELATIONS, (sorted(ours),)).fetchall()
    yield from _unless_empty(
        Section.STOPS, "other tables stand under names that ours need: rename them", (row["name"] for row in rows)
    )


def _of_lines(lines: Sequence[Row], files: Collection[str]) -> Iterator[Effect]:
    ours = [line for line in lines if line["ours"]]
    if "instances" in files:
        renamed = [line for line in ours if line["status"] not in WORDS_THAT_STAY]
        words = Counter("null" if line["status"] is None else shown(line["status"], longest=30) for line in renamed)
        told = ", ".join(f"{number} {word}" for word, number in words.most_common())
        yield from _unless_empty(
            Section.CHANGES,
            f"status becomes disconnected, the old word goes to status_reason: {told}",
            (_line(line) for line in renamed),
        )
        yield from _unless_empty(
            Section.CHANGES,
            "lines are paused (is_active = false): another active row has their external id",
            # With its row: twins may have one unit and one company.
            (f"{_line(line)}, row {line['id']}" for line in ours if line["place"] is not None and line["place"] > 1),
        )
    others = Counter(shown(line["provider"] or "(no name)", longest=30) for line in lines if not line["ours"])
    yield from _unless_empty(
        Section.STAYS,
        "rows of other providers are neither changed nor watched",
        (f"{provider}: {counted(number, 'row')}" for provider, number in others.most_common()),
    )
    yield from _unless_empty(
        Section.LOOK,
        "external ids do not look like W-API's: another provider's row needs its name in `provider` before",
        (_line(line) for line in ours if line["active"] and line["external_id"] and not has_form(line["external_id"])),
    )
    companies: dict[str, set[str]] = {}
    for line in ours:
        if line["external_id"]:
            companies.setdefault(line["external_id"], set()).add(str(line["company_id"]))
    yield from _unless_empty(
        Section.LOOK,
        "rows of two companies have one external id: its events belong to the one that is really its owner's",
        (_line(line) for line in ours if len(companies.get(line["external_id"], ())) > 1),
    )
    yield from _unless_empty(
        Section.LOOK,
        "moments are impossible (infinite, far off, or ahead of the clock) and count as unknown",
        (f"{_line(line)}: {', '.join(line['odd_moments'])}" for line in ours if line["odd_moments"]),
    )


def _of_messages(cursor: psycopg.Cursor[Row]) -> Iterator[Effect]:
    [found] = cursor.execute(queries.COPIES).fetchall()
    if found["copies"]:
        yield Effect(
            Section.CHANGES,
            f"{counted(found['copies'], 'message')} lose their message_id (metadata.duplicate_of names the oldest of "
            "the copies, which keeps it)",
        )


def _of_realtime(cursor: psycopg.Cursor[Row]) -> Iterator[Effect]:
    publications = cursor.execute(queries.REALTIME).fetchall()
    if not publications:
        yield Effect(Section.LOOK, "there is no publication supabase_realtime: bells ring only when a page is loaded")
        return
    [publication] = publications
    tables = {row["name"]: row for row in cursor.execute(queries.REALTIME_TABLES)}
    bell = tables.get("notifications")
    if bell is None:
        yield Effect(Section.CHANGES, "notifications is added to the publication supabase_realtime")
    elif not publication["inserts"] or bell["filtered"] or bell["columns_left_out"]:
        yield Effect(Section.LOOK, "supabase_realtime does not publish every insert into notifications, or not whole")
    shown_tables = ", ".join(shown(name) for name in sorted(tables)) or "nothing"
    yield Effect(
        Section.STAYS, f"Realtime publishes {'every table: ' if publication['everything'] else ''}{shown_tables}"
    )
    if "wapi_instances" in tables:
        yield Effect(
            Section.LOOK,
            "Realtime publishes wapi_instances, of which a sweep writes each row once: all subscribers are checked",
        )
    if publication["everything"]:
        yield Effect(Section.LOOK, "Realtime publishes every table: those that sweeps and events write as well")


def _unless_empty(section: Section, what: str, concerns: Iterator[str]) -> Iterator[Effect]:
    found = tuple(concerns)
    if found:
        yield Effect(section, what, found)


def _line(line: Row) -> str:
    unit = shown(line["unit"]) if (line["unit"] or "").strip() else "(no unit)"
    return f"{unit}, {shown(line['company'] or '(unknown company)')} ({shown_external_id(line['external_id'])})"

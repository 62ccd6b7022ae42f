"""What the platform's ``notifications`` would refuse of our bells: asked of its own rules, without writing a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from ops.common.shown import counted, shown
from ops.migrate import queries
from shared.core.notices import NoticeType

if TYPE_CHECKING:
    from collections.abc import Iterator

    Refusal = tuple[str, tuple[str, ...]]

FILLED: Final = ("id", "user_id", "company_id", "type", "title", "message", "data", "created_at")
"""The columns that a bell of ours fills; all others have the table's default."""
_SOMEBODY: Final = str(UUID(int=1))
_TRY_CHECK: Final = """
    select ({}) is not false as passes
    from (select (jsonb_populate_record(null::public.notifications, %s)).*) as notifications
"""
_TRY_TYPE: Final = "select (jsonb_populate_record(null::public.notifications, %s)).type is not null as passes"


def refusals(cursor: psycopg.Cursor[dict[str, Any]], *, has_members: bool) -> Iterator[Refusal]:
    """What would be refused, and what may be: a sentence, and what it is about.

    Args:
        cursor: Within a transaction.
        has_members: Whether the tables are there that say who belongs where.
    """
    must = [row["name"] for row in cursor.execute(queries.COLUMNS_THAT_MUST_BE_FILLED, (list(FILLED),))]
    if must:
        yield "notifications refuses every bell: columns must be filled and have no default", _names(must)
    if refused := _refused_by_type(cursor):
        yield "the type of notifications.type does not know words of ours: these bells are refused", _names(refused)
    for check in cursor.execute(queries.CHECKS).fetchall():
        refused = _refused_by(cursor, check["expression"])
        if refused:
            what = f"the check {shown(check['name'])} on notifications refuses these bells"
            yield what, _names(refused)
    if triggers := cursor.execute(queries.INSERT_TRIGGERS).fetchall():
        told = tuple(f"{shown(row['name'])} calls {shown(row['function'])}" for row in triggers)
        yield "triggers on notifications see every bell, and may change or refuse it", told
    if unique := [row["name"] for row in cursor.execute(queries.UNIQUE_INDEXES)]:
        yield "unique indexes on notifications may refuse a second bell", _names(unique)
    if has_members and cursor.execute(queries.USERS_ARE_REFERENCED).fetchone() is not None:
        [gone] = cursor.execute(queries.USERS_THAT_ARE_GONE).fetchall()
        if gone["users"]:
            users, companies = counted(gone["users"], "user"), counted(gone["companies"], "company")
            yield f"{users} of {companies} in user_companies are gone from auth.users: their bells are refused", ()


def _bell(kind: NoticeType) -> Jsonb:
    return Jsonb(
        {
            "id": _SOMEBODY, "user_id": _SOMEBODY, "company_id": _SOMEBODY, "type": kind, "title": "WhatsApp",
            "message": "WhatsApp", "data": {"instance_id": _SOMEBODY}, "created_at": "2026-01-01T00:00:00Z",
        }
    )  # fmt: skip


def _refused_by_type(cursor: psycopg.Cursor[dict[str, Any]]) -> list[str]:
    return [kind for kind in NoticeType if not _answers(cursor, sql.SQL(_TRY_TYPE), kind)]


def _refused_by(cursor: psycopg.Cursor[dict[str, Any]], expression: str) -> list[str]:
    # The expression is the catalogue's own text of the platform's own check.
    query = sql.SQL(_TRY_CHECK).format(sql.SQL(expression.replace("%", "%%")))
    return [kind for kind in NoticeType if not _answers(cursor, query, kind)]


def _answers(cursor: psycopg.Cursor[dict[str, Any]], query: sql.SQL | sql.Composed, kind: NoticeType) -> bool:
    """Whether a bell of this type gets through; an error is a refusal as well."""
    try:
        with cursor.connection.transaction():
            [row] = cursor.execute(query, (_bell(kind),)).fetchall()
    except psycopg.Error:
        return False
    return row["passes"] is True


def _names(words: list[str]) -> tuple[str, ...]:
    return tuple(shown(word) for word in words)

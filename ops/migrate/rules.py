"""What the platform's own tables would refuse of what we write: asked of their own rules, without writing a row."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

import psycopg
from psycopg import sql
from psycopg.types.json import Jsonb

from ops.common.shown import counted, shown
from ops.migrate import queries
from shared.core.notices import NoticeType

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

    Refusal = tuple[str, tuple[str, ...]]

STATUSES: Final = ("connected", "degraded", "disconnected")
"""Of ``shared.core.model.Status``, which needs more than migrating may."""
_SOMEBODY: Final = str(UUID(int=1))


@dataclass(frozen=True, slots=True)
class Written:
    """Rows of ours in a table of the platform's.

    Attributes:
        table: Whose rules are asked.
        things: What a row is, in the plural.
        row: A row as we write it; all other columns have the table's default. Where we make none, what we change.
        column: In which we write words of ours.
        words: These.
        inserts: Whether we make rows.
    """

    table: str
    things: str
    row: Mapping[str, object]
    column: str
    words: Collection[str]
    inserts: bool = True


WRITTEN: Final = (
    Written(
        "notifications",
        "bells",
        {
            "id": _SOMEBODY, "user_id": _SOMEBODY, "company_id": _SOMEBODY, "type": "", "title": "WhatsApp",
            "message": "WhatsApp", "data": {"instance_id": _SOMEBODY}, "created_at": "2026-01-01T00:00:00Z",
        },
        "type",
        tuple(NoticeType),
    ),
    Written(
        "wapi_instances", "statuses", {"status": "", "phone_number": "5511900000001"}, "status", STATUSES,
        inserts=False,
    ),
    Written(
        "wapi_conversations",
        "conversations",
        {
            "instance_id": _SOMEBODY, "remote_jid": "", "contact_phone": "5511900000001", "company_id": _SOMEBODY,
            "unread_count": 0,
        },
        "remote_jid",
        ("5511900000001@s.whatsapp.net", "100000000000001@lid", "120363000000000001@g.us"),
    ),
    Written(
        "wapi_messages",
        "messages",
        {
            "conversation_id": _SOMEBODY, "message_id": "3EB0", "from_me": True, "message_type": "text",
            "content": "Oi", "media_url": None, "media_key": None, "media_direct_path": None, "status": "",
            "timestamp": "2026-01-01T00:00:00Z", "company_id": _SOMEBODY, "metadata": {}, "quoted_message_id": None,
        },
        "status",
        ("received", "sent", "delivered", "read", "error"),
    ),
)  # fmt: skip
_TRY_CHECK: Final = (
    "select ({}) is not false as passes from (select (jsonb_populate_record(null::public.{}, %s)).*) as {}"
)
_TRY_TYPE: Final = "select (jsonb_populate_record(null::public.{}, %s)).{} is not null as passes"


def refusals(cursor: psycopg.Cursor[dict[str, Any]], *, there: Collection[str]) -> Iterator[Refusal]:
    """What would be refused, and what may be: a sentence, and what it is about.

    Args:
        cursor: Within a transaction.
        there: The platform's tables that it has.
    """
    for written in WRITTEN:
        if written.table in there:
            yield from _refusals_of(cursor, written)
    if "notifications" in there:
        yield from _what_may_refuse_bells(cursor, has_members={"user_companies", "wapi_instances"} <= {*there})


def _refusals_of(cursor: psycopg.Cursor[dict[str, Any]], written: Written) -> Iterator[Refusal]:
    table, things = written.table, written.things
    if written.inserts:
        given = (f"public.{table}", [column for column, value in written.row.items() if value is not None])
        if must := [row["name"] for row in cursor.execute(queries.COLUMNS_THAT_MUST_BE_FILLED, given)]:
            yield f"{table} refuses all {things}: columns must be filled and have no default", _names(must)
    of_table, column = sql.Identifier(table), sql.Identifier(written.column)
    query = sql.SQL(_TRY_TYPE).format(of_table, column)
    if refused := _refused(cursor, query, written):
        what = f"the type of {table}.{written.column} does not know words of ours: these {things} are refused"
        yield what, _names(refused)
    for check in cursor.execute(queries.CHECKS, (f"public.{table}",)).fetchall():
        # The expression is the catalogue's own text of the platform's own check.
        expression = sql.SQL(check["expression"].replace("%", "%%"))
        if refused := _refused(cursor, sql.SQL(_TRY_CHECK).format(expression, of_table, of_table), written):
            yield f"the check {shown(check['name'])} on {table} refuses these {things}", _names(refused)


def _what_may_refuse_bells(cursor: psycopg.Cursor[dict[str, Any]], *, has_members: bool) -> Iterator[Refusal]:
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


def _refused(cursor: psycopg.Cursor[dict[str, Any]], query: sql.Composed, written: Written) -> list[str]:
    return [word for word in written.words if not _passes(cursor, query, Jsonb({**written.row, written.column: word}))]


def _passes(cursor: psycopg.Cursor[dict[str, Any]], query: sql.Composed, row: Jsonb) -> bool:
    """Whether a row gets through; an error is a refusal as well."""
    try:
        with cursor.connection.transaction():
            [answer] = cursor.execute(query, (row,)).fetchall()
    except psycopg.Error:
        return False
    return answer["passes"] is True


def _names(words: list[str]) -> tuple[str, ...]:
    return tuple(shown(word) for word in words)

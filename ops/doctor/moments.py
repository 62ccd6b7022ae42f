"""Moments that cannot be, in the platform's tables: one by one, in a read-only transaction, and never at a big price.

A small table is read through. In a big one only a column with an index of its own is looked into, at both of its ends;
any other is named with the query for a quiet hour.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg import sql

if TYPE_CHECKING:
    from collections.abc import Iterable

TABLES: Final = ("companies", "user_companies", "wapi_conversations", "wapi_messages")
"""Of ``wapi_instances`` each sweep says so itself (``instance_health.odd_moments``)."""
PAST: Final = frozenset(
    (
        *("created_at", "updated_at", "inserted_at", "joined_at", "timestamp", "last_message_at"),
        *("sent_at", "delivered_at", "read_at", "received_at"),
    )
)
"""Columns of what has happened; any other may well lie ahead, as the end of a trial does."""
AHEAD: Final = timedelta(minutes=5)
"""Screens write a browser's clock: a little ahead of ours is no wonder."""
BIG_BYTES: Final = 128 * 1024 * 1024
MOST_COUNTED: Final = 1000
_WITHIN: Final = timedelta(seconds=5)

# Pages as the last vacuum counted them: to measure a table is to wait for whoever has locked it.
_COLUMNS: Final = """
    select c.relname as table, a.attname as column,
      c.relpages::bigint * current_setting('block_size')::bigint as bytes,
      has_column_privilege(c.oid, a.attnum, 'select') as readable,
      exists (
        select from pg_catalog.pg_index i join pg_catalog.pg_class x on x.oid = i.indexrelid
        join pg_catalog.pg_am m on m.oid = x.relam
        where i.indrelid = c.oid and i.indisvalid and i.indpred is null and i.indkey[0] = a.attnum
          and m.amname = 'btree'
      ) as indexed
    from pg_catalog.pg_class c join pg_catalog.pg_attribute a on a.attrelid = c.oid
    where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p') and c.relname = any (%s)
      and a.attnum > 0 and not a.attisdropped
      and a.atttypid in ('timestamptz'::regtype, 'timestamp'::regtype, 'date'::regtype)
    order by c.relname, a.attnum
"""


@dataclass(frozen=True, slots=True)
class OddMoments:
    """Rows of one column that hold a moment that cannot be.

    Attributes:
        table: Of schema public.
        column: As it is called.
        rows: How many; ``MOST_COUNTED`` are no more counted.
        shown_by: A query that shows them.
    """

    table: str
    column: str
    rows: int
    shown_by: str


@dataclass(frozen=True, slots=True)
class UnreadMoments:
    """A column that was not looked into.

    Attributes:
        table: Of schema public.
        column: As it is called.
        why: In words.
        shown_by: A query for a quiet hour.
    """

    table: str
    column: str
    why: str
    shown_by: str


async def read_moments(
    connection: psycopg.AsyncConnection[dict[str, Any]], *, big_bytes: int = BIG_BYTES, within: timedelta = _WITHIN
) -> tuple[list[OddMoments], list[UnreadMoments]]:
    """Look into every column of a moment.

    Args:
        connection: In a transaction, which survives what fails here.
        big_bytes: From where on a table is big.
        within: For each end of each column, locks of others included.
    """
    odd: list[OddMoments] = []
    unread: list[UnreadMoments] = []
    columns = await (await connection.execute(_COLUMNS, [list(TABLES)])).fetchall()
    for found in columns:
        table, column = str(found["table"]), str(found["column"])
        ends = _ends(column)
        query = _shown(connection, table, column, ends)
        why = None
        if not found["readable"]:
            why = "the user of DATABASE_URL may not read it"
        elif int(found["bytes"]) > big_bytes and not found["indexed"]:
            why = "the table is big and the column has no index"
        else:
            try:
                async with connection.transaction():
                    rows = await _count(connection, table, ends, within)
            except psycopg.errors.QueryCanceled:
                why = f"it took more than {within.total_seconds():g} s"
            else:
                odd += [OddMoments(table, column, rows, query)] if rows else []
        unread += [UnreadMoments(table, column, why, query)] if why else []
    return odd, unread


def _ends(column: str) -> tuple[sql.Composable, ...]:
    """What lies beyond both ends of what can be: infinities and years before Christ or after 9999, and the future."""
    last: sql.Composable = sql.SQL("'9999-12-31'")
    if column in PAST:
        last = sql.SQL("now() + make_interval(secs => {})").format(sql.Literal(int(AHEAD.total_seconds())))
    name = sql.Identifier(column)
    return sql.SQL("{} < '0001-01-01'").format(name), sql.SQL("{} > {}").format(name, last)


async def _count(
    connection: psycopg.AsyncConnection[dict[str, Any]], table: str, ends: Iterable[sql.Composable], within: timedelta
) -> int:
    """One query for each end: an index is read from there on, and no further than it has to be."""
    milliseconds = sql.Literal(round(within.total_seconds() * 1000))
    await connection.execute(sql.SQL("set local statement_timeout = {}").format(milliseconds))
    number = 0
    for end in ends:
        query = sql.SQL("select count(*) as number from (select from public.{} where {} limit {}) odd").format(
            sql.Identifier(table), end, sql.Literal(MOST_COUNTED)
        )
        [row] = await (await connection.execute(query)).fetchall()
        number += int(row["number"])
    return min(number, MOST_COUNTED)


def _shown(
    connection: psycopg.AsyncConnection[dict[str, Any]], table: str, column: str, ends: tuple[sql.Composable, ...]
) -> str:
    query = sql.SQL("select id, {} from public.{} where {};").format(
        sql.Identifier(column), sql.Identifier(table), sql.SQL(" or ").join(ends)
    )
    return query.as_string(connection)

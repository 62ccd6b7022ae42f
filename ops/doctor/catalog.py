"""Postgres itself, for what PostgREST cannot show. One read-only transaction."""

from __future__ import annotations

import asyncio
import re
from typing import TYPE_CHECKING, Any

import psycopg
from psycopg.rows import dict_row

from ops.common.postgres import CONNECT_SECONDS, why_unreachable
from ops.doctor.checks.rivals import CronJob
from ops.doctor.checks.schema import CALLED_FUNCTIONS, OUR_TABLES, PLATFORM_TABLES, Catalog
from ops.doctor.moments import read_moments
from shared.errors import StoreRefused, StoreUnavailable

if TYPE_CHECKING:
    from ops.common.postgres import DatabaseAddress

_INDEXES = """
    select c.relname as name, i.indisvalid as valid, i.indpred is null as whole, t.relname as table,
      pg_get_indexdef(i.indexrelid, 1, false) as first_column
    from pg_catalog.pg_index i
    join pg_catalog.pg_class c on c.oid = i.indexrelid
    join pg_catalog.pg_class t on t.oid = i.indrelid
    where t.relnamespace = 'public'::regnamespace
"""
# A row level policy is what lets a role see rows at all where row level security is on.
_KEY_READERS = """
    select r.rolname as name
    from pg_catalog.pg_roles r, pg_catalog.pg_class t
    where r.rolname in ('anon', 'authenticated') and t.oid = to_regclass('public.wapi_instances')
      and has_column_privilege(r.oid, t.oid, 'instance_token', 'select')
      and (not t.relrowsecurity or exists (
        select from pg_catalog.pg_policy p
        where p.polrelid = t.oid and p.polcmd in ('r', '*') and (p.polroles = '{0}' or r.oid = any (p.polroles))))
    order by 1
"""
_OPEN_TABLES = """
    select t.relname as name
    from pg_catalog.pg_class t
    where t.relnamespace = 'public'::regnamespace and t.relkind in ('r', 'p') and t.relname = any (%s)
      and not t.relrowsecurity
      and exists (
        select from pg_catalog.pg_roles r
        where r.rolname in ('anon', 'authenticated') and has_any_column_privilege(r.oid, t.oid, 'select'))
    order by 1
"""
_EXPOSED_FUNCTIONS = """
    select distinct p.proname as name
    from pg_catalog.pg_proc p, pg_catalog.pg_roles r
    where p.pronamespace = 'public'::regnamespace and p.proname = any (%s)
      and r.rolname in ('anon', 'authenticated') and has_function_privilege(r.oid, p.oid, 'execute')
    order by 1
"""
_REALTIME = """
    select exists (
      select from pg_catalog.pg_publication_tables
      where pubname = 'supabase_realtime' and schemaname = 'public' and tablename = 'notifications') as published
"""
_COLUMNS = """
    select attname as name from pg_catalog.pg_attribute
    where attrelid = to_regclass('public.wapi_instances') and attnum > 0 and not attisdropped order by attnum
"""
_MAY_READ = """
    select has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') as may
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = %s and c.relname = %s
"""
# What a job calls may be hidden in a function: their bodies are read as well.
_CRON_JOBS = """
    select coalesce(j.jobname, 'job ' || j.jobid) as name, j.schedule, j.command || ' ' || coalesce((
      select string_agg(p.prosrc, ' ') from pg_catalog.pg_proc p
      join pg_catalog.pg_namespace n on n.oid = p.pronamespace
      where n.nspname not in ('pg_catalog', 'information_schema', 'cron', 'net', 'extensions')
        and length(p.proname) > 3 and strpos(j.command, p.proname) > 0), '') as words
    from cron.job j where j.active order by j.jobid
"""
_SIGNS = re.compile(
    r"w-?api|whats-?app|health[-_ ]?check|status-instance|get-status|restart-instance|instance/restart|check-instances"
    r"|auto[-_]?(?:recovery|reconnect)",
    re.IGNORECASE,
)


async def read_catalog(address: DatabaseAddress) -> Catalog:
    """Read it.

    Raises:
        StoreUnavailable: Nobody answers there, or not to this user; its code says which of name, port, TLS or password.
        StoreRefused: A query was refused; its code is a SQLSTATE.
    """
    try:
        connection = await psycopg.AsyncConnection.connect(
            address.conninfo, connect_timeout=CONNECT_SECONDS, row_factory=dict_row, prepare_threshold=None
        )
    except psycopg.Error as error:
        # Its text names users.
        why = await asyncio.to_thread(why_unreachable, address, error)
        raise StoreUnavailable("DATABASE_URL", why) from None
    try:
        async with connection:
            await connection.set_read_only(True)
            await connection.execute("set local statement_timeout = '15s'")
            return await _read(connection)
    except psycopg.Error as error:
        raise StoreRefused("DATABASE_URL", error.sqlstate or type(error).__name__) from None


async def _read(connection: psycopg.AsyncConnection[dict[str, Any]]) -> Catalog:
    async def rows(query: str, *arguments: object) -> list[dict[str, Any]]:
        return await (await connection.execute(query, arguments)).fetchall()

    async def names(query: str, *arguments: object) -> tuple[str, ...]:
        return tuple(str(row["name"]) for row in await rows(query, *arguments))

    async def may_read(schema: str, table: str) -> bool | None:
        """None = there is no such table."""
        found = await rows(_MAY_READ, schema, table)
        return bool(found[0]["may"]) if found else None

    indexes = await rows(_INDEXES)
    instance_columns = await names(_COLUMNS)
    cli_versions: frozenset[str] = frozenset()
    if await may_read("supabase_migrations", "schema_migrations"):
        cli_versions = frozenset(await names("select version as name from supabase_migrations.schema_migrations"))
    cron_jobs: list[dict[str, Any]] | None = []
    readable = await may_read("cron", "job")
    if readable is not None:
        cron_jobs = await rows(_CRON_JOBS) if readable else None
    odd, unread = await read_moments(connection)
    return Catalog(
        cli_versions=cli_versions,
        valid_indexes=frozenset(str(each["name"]) for each in indexes if each["valid"]),
        messages_by_id=any(
            each["valid"]
            and each["whole"]
            and each["table"] == "wapi_messages"
            and each["first_column"] == "message_id"
            for each in indexes
        ),
        broken_indexes=tuple(str(each["name"]) for each in indexes if not each["valid"]),
        token_readers=await names(_KEY_READERS) if "instance_token" in instance_columns else (),
        instance_columns=instance_columns,
        open_tables=await names(_OPEN_TABLES, [*PLATFORM_TABLES, *OUR_TABLES]),
        exposed_functions=await names(_EXPOSED_FUNCTIONS, list(CALLED_FUNCTIONS)),
        realtime=bool((await rows(_REALTIME))[0]["published"]),
        cron_jobs=None if cron_jobs is None else tuple(_suspicious(cron_jobs)),
        odd_moments=tuple(odd),
        unread_moments=tuple(unread),
    )


def _suspicious(jobs: list[dict[str, Any]]) -> list[CronJob]:
    """Those that mention a line or its provider; the command itself may hold a key and goes no further."""
    found = []
    for job in jobs:
        mentions = {sign.lower() for sign in _SIGNS.findall(f"{job['name']} {job['words']}")}
        if mentions:
            found.append(CronJob(str(job["name"]), str(job["schedule"]), tuple(sorted(mentions))))
    return found

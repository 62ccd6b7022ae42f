"""The history of our own: which files a database has had, and applying those that it lacks.

The Supabase CLI's history (``supabase_migrations.schema_migrations``) belongs to the repository that pushes with it,
and refuses what that folder does not hold. Ours is ``public.recovery_migrations``. Each file records itself in it, so a
push or the SQL editor leaves the same history as ``deploy/migrate``.
"""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ops.migrate.files import MigrationError, execute_file, named_after
from shared.errors import LineRecoveryError

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Sequence

    import psycopg

    from ops.migrate.files import Migration

TABLE: Final = "recovery_migrations"
_LOCK: Final = "hashtextextended('public.recovery_migrations', 0)"
_LOCK_NOT_AVAILABLE: Final = "55P03"
_CLI_HISTORY: Final = """
    select version, to_jsonb(m) ->> 'name' as name from supabase_migrations.schema_migrations m order by version
"""
_MAY_READ_CLI_HISTORY: Final = """
    select has_schema_privilege(n.oid, 'usage') and has_table_privilege(c.oid, 'select') as may
    from pg_catalog.pg_class c join pg_catalog.pg_namespace n on n.oid = c.relnamespace
    where n.nspname = 'supabase_migrations' and c.relname = 'schema_migrations'
"""


class BusyError(LineRecoveryError):
    """Somebody else migrates this database now."""


@dataclass(frozen=True, slots=True)
class Pending:
    """A file that a database lacks.

    Attributes:
        migration: The file.
        changed: It was applied before, with another text.
    """

    migration: Migration
    changed: bool = False


@dataclass(frozen=True, slots=True)
class CliHistory:
    """What the Supabase CLI remembers.

    Attributes:
        ours: Versions of this folder.
        foreign: How many others, which belong to the platform.
    """

    ours: tuple[str, ...] = ()
    foreign: int = 0


def pending(connection: psycopg.Connection[Any], migrations: Sequence[Migration]) -> list[Pending]:
    """The files that the database has not had, or had with another text. Each may run twice, so the rest follows."""
    exists = connection.execute("select to_regclass('public.recovery_migrations') is not null").fetchone()
    if exists != (True,):
        return [Pending(migration) for migration in migrations]
    had = dict(connection.execute("select version, checksum from public.recovery_migrations").fetchall())
    found = []
    for migration in migrations:
        if migration.version not in had:
            found.append(Pending(migration))
        elif had[migration.version] not in (None, migration.checksum):
            found.append(Pending(migration, changed=True))
    return found


def apply(connection: psycopg.Connection[Any], migration: Migration) -> None:
    """Execute one file and note its text, whole or not at all.

    Raises:
        MigrationError: The database objected; nothing of the file is left.
    """
    try:
        with named_after(migration.file), connection.transaction():
            execute_file(connection, migration.file)
            noted = connection.execute(
                "update public.recovery_migrations set checksum = %s, applied_at = now() where version = %s",
                (migration.checksum, migration.version),
            )
            _must_be_one(noted.rowcount, migration)
    except MigrationError as error:
        if error.sqlstate == _LOCK_NOT_AVAILABLE:
            why = "somebody else holds a lock that it needs; nothing of it was changed, run this again"
            raise MigrationError(migration.file, why, sqlstate=error.sqlstate) from error
        raise
    connection.execute("reset all")  # the search_path of one file is not the next one's business


def _must_be_one(rows: int, migration: Migration) -> None:
    if rows != 1:
        raise MigrationError(migration.file, "does not record itself in public.recovery_migrations")


@contextmanager
def alone(connection: psycopg.Connection[Any]) -> Iterator[None]:
    """Nobody else migrates the database meanwhile.

    Raises:
        BusyError: Somebody does.
    """
    if connection.execute(f"select pg_try_advisory_lock({_LOCK})").fetchone() != (True,):
        raise BusyError("somebody else migrates this database now; run this again")
    try:
        yield
    finally:
        if not connection.closed:
            connection.execute(f"select pg_advisory_unlock({_LOCK})")


def cli_history(connection: psycopg.Connection[Any], migrations: Collection[Migration]) -> CliHistory:
    """What the Supabase CLI remembers of this folder and of others; it is only read."""
    if connection.execute(_MAY_READ_CLI_HISTORY).fetchone() != (True,):
        return CliHistory()
    names = {migration.version: migration.name for migration in migrations}
    rows = connection.execute(_CLI_HISTORY).fetchall()
    ours = tuple(version for version, name in rows if version in names and name in (None, names[version]))
    return CliHistory(ours, len(rows) - len(ours))

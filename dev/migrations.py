"""Applies migrations as ``supabase db push`` does: in order of file name, each file whole or not at all, each once."""

from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING

import psycopg
from psycopg.pq import TransactionStatus

from dev.processes import StackError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

FILE_NAME = re.compile(r"(?P<version>[0-9]+)_(?P<name>.+)\.sql")
HISTORY = """
    create schema if not exists supabase_migrations;
    create table if not exists supabase_migrations.schema_migrations (
      version text primary key,
      statements text[],
      name text
    );
"""
RECORD = "insert into supabase_migrations.schema_migrations (version, statements, name) values (%s, %s, %s)"


class MigrationError(StackError):
    """A file failed and left nothing behind; those before it stay applied.

    Attributes:
        file: The file that failed.
        sqlstate: PostgreSQL's five characters, None if it was not the database that objected.
    """

    def __init__(self, file: Path, message: str, *, sqlstate: str | None = None) -> None:
        super().__init__(f"{file.name}: {f'SQLSTATE {sqlstate}: ' if sqlstate else ''}{message}")
        self.file = file
        self.sqlstate = sqlstate


@dataclass(frozen=True, order=True)
class Migration:
    """One file; its version is the digits before the first underscore."""

    version: str
    name: str
    file: Path


def migrations_in(folder: Path) -> list[Migration]:
    """Return the folder's migrations in the order in which they are applied.

    Raises:
        StackError: There is no such folder.
        MigrationError: A file is not named ``<digits>_<name>.sql``, or two files bear the same version.
    """
    if not folder.is_dir():
        raise StackError(f"there is no folder of migrations at {folder}")
    migrations: dict[str, Migration] = {}
    for file in sorted(folder.glob("*.sql")):
        named = FILE_NAME.fullmatch(file.name)
        if named is None:
            raise MigrationError(file, "a migration is named <digits>_<name>.sql; the Supabase CLI would skip this one")
        version = named["version"]
        if version in migrations:
            raise MigrationError(file, f"bears the same version as {migrations[version].file.name}")
        migrations[version] = Migration(version, named["name"], file)
    return list(migrations.values())


def apply_migrations(database_url: str, folder: Path) -> list[str]:
    """Apply what is not yet recorded; return the names of the files that were.

    Raises:
        MigrationError: A file failed: its name, the SQLSTATE, the message and the line.
    """
    applied = []
    with psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(HISTORY)
        recorded = {row[0] for row in connection.execute("select version from supabase_migrations.schema_migrations")}
        for migration in migrations_in(folder):
            if migration.version not in recorded:
                _apply(connection, migration)
                applied.append(migration.file.name)
    return applied


def execute_file(connection: psycopg.Connection, file: Path) -> str:
    """Execute a file of SQL in the connection's transaction; return its text.

    Raises:
        MigrationError: The database objected, or the file ended the transaction itself.
    """
    text = file.read_text("utf-8")
    with _named_after(file, text):
        connection.execute(text.encode())
    if connection.info.transaction_status != TransactionStatus.INTRANS:
        raise MigrationError(file, "ends the transaction that it runs in (commit or rollback): it cannot be undone")
    return text


def seed(database_url: str, file: Path) -> None:
    """Execute a file of example rows, whole or not at all.

    Raises:
        MigrationError: The database objected.
    """
    with _named_after(file), psycopg.connect(database_url) as connection:
        execute_file(connection, file)


def _apply(connection: psycopg.Connection, migration: Migration) -> None:
    with _named_after(migration.file), connection.transaction():  # deferred constraints object at the commit
        text = execute_file(connection, migration.file)
        connection.execute(RECORD, (migration.version, [text], migration.name))
    connection.execute("reset all")  # the search_path of one file is not the next one's business


@contextmanager
def _named_after(file: Path, text: str | None = None) -> Iterator[None]:
    """Turn what the database says into a MigrationError; with the line, if it speaks of ``text``."""
    try:
        yield
    except psycopg.Error as error:
        raise MigrationError(file, _explanation(error, text), sqlstate=error.sqlstate) from error


def _explanation(error: psycopg.Error, text: str | None) -> str:
    said = error.diag
    parts = [said.message_primary or str(error)]
    if text is not None and said.statement_position:
        parts.append(f"line {text.count(chr(10), 0, int(said.statement_position) - 1) + 1}")
    parts += [
        f"{label}: {part}" for label, part in (("detail", said.message_detail), ("hint", said.message_hint)) if part
    ]
    if said.context:
        parts.append(said.context)
    return "; ".join(parts)

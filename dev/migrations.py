"""Applies migrations as ``supabase db push`` does: in order of file name, each file whole or not at all, each once.

The local stack has the Supabase CLI's history, as a project has one that is always pushed to. A real project is
migrated by ``ops.migrate``, which leaves that history alone.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

import psycopg

from dev.processes import StackError
from ops.migrate import files

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_HISTORY: Final = """
    create schema if not exists supabase_migrations;
    create table if not exists supabase_migrations.schema_migrations (
      version text primary key,
      statements text[],
      name text
    );
"""
_RECORD: Final = "insert into supabase_migrations.schema_migrations (version, statements, name) values (%s, %s, %s)"


class MigrationError(StackError):
    """A file failed and left nothing behind; those before it stay applied.

    Attributes:
        file: The file that failed.
        sqlstate: PostgreSQL's five characters, None if it was not the database that objected.
    """

    def __init__(self, error: files.MigrationError) -> None:
        super().__init__(str(error))
        self.file = error.file
        self.sqlstate = error.sqlstate


def migrations_in(folder: Path) -> list[files.Migration]:
    """Return the folder's migrations in the order in which they are applied.

    Raises:
        MigrationError: See ``ops.migrate.files.migrations_in``.
    """
    with _of_the_stack():
        return files.migrations_in(folder)


def apply_migrations(database_url: str, folder: Path) -> list[str]:
    """Apply what is not yet recorded; return the names of the files that were.

    Raises:
        MigrationError: A file failed: its name, the SQLSTATE, the message and the line.
    """
    applied = []
    with _of_the_stack(), psycopg.connect(database_url, autocommit=True) as connection:
        connection.execute(_HISTORY)
        recorded = {row[0] for row in connection.execute("select version from supabase_migrations.schema_migrations")}
        for migration in files.migrations_in(folder):
            if migration.version not in recorded:
                _apply(connection, migration)
                applied.append(migration.file.name)
    return applied


def execute_file(connection: psycopg.Connection, file: Path) -> None:
    """Execute a file of SQL in the connection's transaction.

    Raises:
        MigrationError: The database objected, or the file ended the transaction itself.
    """
    with _of_the_stack():
        files.execute_file(connection, file)


def seed(database_url: str, file: Path) -> None:
    """Execute a file of example rows, whole or not at all.

    Raises:
        MigrationError: The database objected.
    """
    with _of_the_stack(), files.named_after(file), psycopg.connect(database_url) as connection:
        files.execute_file(connection, file)


def _apply(connection: psycopg.Connection, migration: files.Migration) -> None:
    with files.named_after(migration.file), connection.transaction():  # deferred constraints object at the commit
        text = files.execute_file(connection, migration.file)
        connection.execute(_RECORD, (migration.version, [text], migration.name))
    connection.execute("reset all")  # the search_path of one file is not the next one's business


@contextmanager
def _of_the_stack() -> Iterator[None]:
    """Whoever runs a stack knows its errors alone."""
    try:
        yield
    except files.MigrationError as error:
        raise MigrationError(error) from error

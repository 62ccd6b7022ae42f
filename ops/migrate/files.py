"""The files of migrations: which there are, and executing one whole or not at all."""

from __future__ import annotations

import hashlib
import re
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import psycopg
from psycopg.pq import TransactionStatus

from shared.errors import LineRecoveryError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

_FILE_NAME: Final = re.compile(r"(?P<version>[0-9]+)_(?P<name>.+)\.sql")


class MigrationError(LineRecoveryError):
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

    @property
    def checksum(self) -> str:
        """The sha256 of the file, whatever line ends it was checked out with."""
        return hashlib.sha256(self.file.read_bytes().replace(b"\r\n", b"\n")).hexdigest()


def migrations_in(folder: Path) -> list[Migration]:
    """Return the folder's migrations in the order in which they are applied.

    Raises:
        MigrationError: There is no such folder, a file is not named ``<digits>_<name>.sql``, or two files bear the same
            version.
    """
    if not folder.is_dir():
        raise MigrationError(folder, f"there is no folder of migrations at {folder}")
    migrations: dict[str, Migration] = {}
    for file in sorted(folder.glob("*.sql")):
        named = _FILE_NAME.fullmatch(file.name)
        if named is None:
            raise MigrationError(file, "a migration is named <digits>_<name>.sql; the Supabase CLI would skip this one")
        version = named["version"]
        if version in migrations:
            raise MigrationError(file, f"bears the same version as {migrations[version].file.name}")
        migrations[version] = Migration(version, named["name"], file)
    return list(migrations.values())


def execute_file(connection: psycopg.Connection[Any], file: Path) -> str:
    """Execute a file of SQL in the connection's transaction; return its text.

    Raises:
        MigrationError: The database objected, or the file ended the transaction itself.
    """
    text = file.read_text("utf-8")
    with named_after(file, text):
        connection.execute(text.encode())
    if connection.info.transaction_status != TransactionStatus.INTRANS:
        raise MigrationError(file, "ends the transaction that it runs in (commit or rollback): it cannot be undone")
    return text


@contextmanager
def named_after(file: Path, text: str | None = None) -> Iterator[None]:
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

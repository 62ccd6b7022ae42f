"""The command line of the migrations."""

from __future__ import annotations

import argparse
import os
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import psycopg

from ops.common.postgres import connect, read_address
from ops.common.shown import counted, one_line
from ops.migrate.effects import Section, obstacles, read_effects
from ops.migrate.files import migrations_in
from ops.migrate.history import alone, apply, cli_history, pending
from shared.errors import LineRecoveryError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from ops.migrate.effects import Effect
    from ops.migrate.files import Migration
    from ops.migrate.history import Pending

MIGRATIONS: Final = Path(__file__).resolve().parents[2] / "supabase" / "migrations"
SHOWN_CONCERNS: Final = 20
_FAILED, _WRONG = 1, 2
_SKIPPED: Final = "skipping"
"""So end the notices of ``if exists`` and ``if not exists``, which say nothing to anybody."""

DESCRIPTION: Final = """\
Applies the migrations that a project's database does not have yet, each file whole or not at all. Twice is a no-op.

Environment: DATABASE_URL=postgresql://user:password@host:5432/postgres. For Supabase take the session pooler's address
(Connect, Session pooler); a direct one has no IPv4, and port 6543 cannot be used.

The history is a table of its own, public.recovery_migrations. The Supabase CLI's history is left alone, so a platform's
own `supabase db push` goes on as before. Without a database password: paste the files of supabase/migrations into the
SQL editor, one after another; they record themselves.

Exit code: 0 = done; 1 = a file failed, or something stands in the way; 2 = wrong usage or address, no connection."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = argparse.ArgumentParser(
        prog="deploy/migrate", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--dry-run", action="store_true", help="say what would happen to this database; change nothing")
    told = parser.parse_args(arguments)
    try:
        return _run(os.environ.get("DATABASE_URL", ""), dry_run=told.dry_run)
    except KeyboardInterrupt:
        _complain("interrupted; files that were named as applied are, no other")
        return 130


def _run(url: str, *, dry_run: bool) -> int:
    try:
        address = read_address(url)
        connection = connect(address)
    except LineRecoveryError as error:
        _complain(f"DATABASE_URL: {error}")
        return _WRONG
    with connection:
        print(f"# the database {address}")
        if address.dropped:
            print(f"# left out of DATABASE_URL, for other drivers only: {', '.join(address.dropped)}")
        try:
            migrations = migrations_in(MIGRATIONS)
            if dry_run:
                return _show(connection, migrations)
            with alone(connection):
                return _apply(connection, migrations)
        except LineRecoveryError as error:
            _complain(str(error))
        except psycopg.Error as error:
            _complain(f"the database objects: SQLSTATE {error.sqlstate or type(error).__name__}")
        return _FAILED


def _show(connection: psycopg.Connection[Any], migrations: Sequence[Migration]) -> int:
    todo = pending(connection, migrations)
    effects = read_effects(connection, [each.migration for each in todo])
    if todo:
        print(f"\n{counted(len(todo), 'file')} to apply:")
        _print_files(todo)
    else:
        print("\nup to date: every file was applied")
    for section in Section:
        chosen = [effect for effect in effects if effect.section is section]
        if chosen:
            print(f"\n{section}:")
            _print_effects(chosen)
    _tell_of_cli_history(connection, migrations)
    print("\n# a dry run: nothing was changed")
    return _FAILED if any(effect.section is Section.STOPS for effect in effects) else 0


def _apply(connection: psycopg.Connection[Any], migrations: Sequence[Migration]) -> int:
    todo = pending(connection, migrations)
    in_the_way = obstacles(connection, [each.migration for each in todo])
    if in_the_way:
        print(f"\n{Section.STOPS}; nothing was changed:")
        _print_effects(in_the_way)
        return _FAILED
    connection.add_notice_handler(_notice)
    for each in todo:
        began = time.monotonic()
        apply(connection, each.migration)
        print(f"applied {each.migration.file.name} ({time.monotonic() - began:.1f} s)", flush=True)
    if todo:
        connection.execute("notify pgrst, 'reload schema'")
    print("up to date" if todo else "up to date: nothing to apply")
    _tell_of_cli_history(connection, migrations)
    return 0


def _tell_of_cli_history(connection: psycopg.Connection[Any], migrations: Sequence[Migration]) -> None:
    """A push of ours among a platform's own versions makes the platform's next push fail."""
    history = cli_history(connection, migrations)
    if history.ours and history.foreign:
        versions = ", ".join(f"'{version}'" for version in history.ours)
        print(
            "\n# The Supabase CLI's history holds versions of ours beside the platform's own, so the platform's own\n"
            "# `supabase db push` refuses. This takes ours out and nothing else (never `migration repair` versions of\n"
            "# the platform's: its next push would replay them):\n"
            f"delete from supabase_migrations.schema_migrations where version in ({versions});"
        )


def _print_files(todo: Sequence[Pending]) -> None:
    for each in todo:
        again = "  (again: its text has changed since)" if each.changed else ""
        print(f"  {each.migration.file.name}{again}")


def _print_effects(effects: Sequence[Effect]) -> None:
    for effect in effects:
        number = f" ({len(effect.concerns)})" if effect.concerns else ""
        print(f"  · {effect.what}{number}")
        for concern in effect.concerns[:SHOWN_CONCERNS]:
            print(f"      - {concern}")
        if len(effect.concerns) > SHOWN_CONCERNS:
            print(f"      … and {len(effect.concerns) - SHOWN_CONCERNS} more")


def _notice(said: psycopg.errors.Diagnostic) -> None:
    words = one_line(said.message_primary or "")
    if not words.endswith(_SKIPPED):
        print(f"  {words}")


def _complain(why: str) -> None:
    print(f"migrate: {why}", file=sys.stderr)

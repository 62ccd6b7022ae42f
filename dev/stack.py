"""The local stack: PostgreSQL, PostgREST and the gateway's part of Supabase, without Docker.

``python -m dev.stack`` runs it in the foreground; tests and tools use ``with Stack.start() as stack``.
"""

from __future__ import annotations

import argparse
import atexit
import secrets
import signal
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn, Self

import psycopg
from psycopg import sql

from dev import facts
from dev import migrations as files
from dev.gateway import Gateway
from dev.postgres import Postgres, unprivileged_account
from dev.postgrest import Postgrest
from dev.processes import Children, StackError, tail
from dev.run_folder import StackFolder, clear_dead_folders

if TYPE_CHECKING:
    from types import FrameType, TracebackType
    from uuid import UUID

    from dev.functions import FunctionServer
    from dev.gateway import PostgrestRequests

PROJECT = Path(__file__).resolve().parent.parent
MIGRATIONS = PROJECT / "supabase" / "migrations"
SEED = PROJECT / "supabase" / "seed.sql"
STUB = Path(__file__).with_name("supabase_stub.sql")
LOOK_AT_CHILDREN_SECONDS = 0.5
STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stack:
    """A running stack; ``close`` (or leaving the ``with`` block) leaves no process and no folder behind.

    Attributes:
        folder: Its temporary folder: logs, configuration, the cluster.
        jwt_secret: What every token is signed with (HS256).
        anon_key: Token of the role ``anon``.
        service_role_key: Token of the role ``service_role``.
        secret_key: New-style key (``sb_secret_…``), which the gateway exchanges for the service role's token.
        supabase_url: Base URL for the Supabase client.
        postgrest_requests: Counts what reached PostgREST: ``total``, ``by_path["rpc/claim_instances"]``, ``reset()``.
    """

    def __init__(self) -> None:
        self.jwt_secret = secrets.token_urlsafe(32)
        self.anon_key = facts.role_key("anon", self.jwt_secret)
        self.service_role_key = facts.role_key("service_role", self.jwt_secret)
        self.secret_key = f"sb_secret_{secrets.token_urlsafe(24)}"
        account = unprivileged_account()
        clear_dead_folders(account)
        self._undo = ExitStack()
        atexit.register(self.close)  # a Ctrl-C between our start and the caller's `with`
        folder = StackFolder(account)
        self._undo.callback(folder.remove)
        self.folder = folder.path
        children = Children()
        self._undo.callback(children.close)
        self._postgres = Postgres(self.folder, children, account)
        self._postgrest = Postgrest(
            self.folder, children, jwt_secret=self.jwt_secret, service_role_key=self.service_role_key
        )
        self._gateway = Gateway(secret_key=self.secret_key, service_role_key=self.service_role_key)
        self._undo.callback(self._gateway.stop)
        self.supabase_url = self._gateway.url

    @classmethod
    def start(cls, *, seed: bool = True, migrations: Path = MIGRATIONS, seed_file: Path = SEED) -> Self:
        """Start a stack of its own, some two seconds; several can run at once.

        Args:
            seed: Whether to load the example rows.
            migrations: The folder of migrations to apply.
            seed_file: The example rows.

        Raises:
            MigrationError: A migration or the seed failed: file, SQLSTATE, message.
            StackError: A part is missing or did not come up; the message holds the end of its log.
        """
        files.migrations_in(migrations)  # a wrong folder or name is known before anything is started
        stack = cls()
        try:
            stack._start(migrations, seed_file if seed else None)
        except BaseException:
            stack.close()
            raise
        return stack

    def _start(self, migrations: Path, seed_file: Path | None) -> None:
        self._postgres.create()
        self._postgres.start()
        self._postgrest.database_url = self._postgres.url_for("authenticator", self._look_like_supabase())
        self.apply_migrations(migrations)
        if seed_file:
            files.seed(self.database_url, seed_file)
        self.start_postgrest()
        self._gateway.start()

    def _look_like_supabase(self) -> str:
        """Create what a project holds before its first migration; return the authenticator's password."""
        password = secrets.token_urlsafe(18)
        with psycopg.connect(self.database_url) as connection:
            files.execute_file(connection, STUB)
            connection.execute(sql.SQL("alter role authenticator password {}").format(password))
        return password

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Stop everything and remove the folder; a second call does nothing."""
        self._undo.close()
        atexit.unregister(self.close)

    @property
    def database_url(self) -> str:
        """PostgreSQL's own address, as the superuser ``postgres``."""
        return self._postgres.url

    @property
    def postgrest_requests(self) -> PostgrestRequests:
        """The gateway's counter of requests forwarded to PostgREST."""
        return self._gateway.requests

    @property
    def facts(self) -> dict[str, str]:
        """What somebody else needs in order to use this stack; holds secrets."""
        return {
            "supabase_url": self.supabase_url,
            "anon_key": self.anon_key,
            "service_role_key": self.service_role_key,
            "secret_key": self.secret_key,
            "jwt_secret": self.jwt_secret,
            "database_url": self.database_url,
        }

    def user_token(self, user_id: UUID) -> str:
        """Return what a user's browser would hold after a login: role ``authenticated``, valid for a day."""
        return facts.user_token(user_id, self.jwt_secret)

    def apply_migrations(self, folder: Path = MIGRATIONS) -> list[str]:
        """Apply what is not yet recorded, and have a running PostgREST see it; return the names of the files.

        Raises:
            MigrationError: A file failed and left nothing behind.
        """
        applied = files.apply_migrations(self.database_url, folder)
        if applied and self._postgrest.is_running:
            self.reload_schema()
        return applied

    def reload_schema(self) -> None:
        """Have a running PostgREST see what has changed in the schema.

        It reads the schema by itself as well, twice at each start: a table of this very call tells which of its
        readings came after the change.
        """
        marker = f"schema_of_{secrets.token_hex(8)}"
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute(sql.SQL("create table public.{} ()").format(sql.Identifier(marker)))
            try:
                connection.execute("notify pgrst, 'reload schema'")
                self._postgrest.wait_until_it_knows(marker)
            finally:
                connection.execute(sql.SQL("drop table public.{}").format(sql.Identifier(marker)))

    def stop_postgrest(self) -> None:
        """Take PostgREST away: the gateway answers 503 until it is started again."""
        self._postgrest.stop()

    def start_postgrest(self) -> None:
        """Bring PostgREST back, on the same port; does nothing when it runs."""
        self._postgrest.start()
        self._gateway.postgrest_port = self._postgrest.port

    def stop_postgres(self) -> None:
        """Take the database away: connections are cut; PostgREST stays and answers 503."""
        self._postgres.stop()

    def crash_postgres(self) -> None:
        """Let the database die in the middle of whatever it does; what it had not written to its log is lost."""
        self._postgres.crash()

    def keep_what_is_committed(self) -> None:
        """From now on a commit that was answered outlives a crash, as in production; by default nothing here does."""
        with psycopg.connect(self.database_url, autocommit=True) as connection:
            connection.execute("alter system set synchronous_commit = on")
            connection.execute("select pg_reload_conf()")

    def start_postgres(self) -> None:
        """Bring the database back, on the same port, and wait until PostgREST has found it (if PostgREST runs)."""
        self._postgres.start()
        self._postgrest.wait_until_it_answers()

    def restart_postgres(self) -> None:
        """Cut every connection to the database and bring it back."""
        self.stop_postgres()
        self.start_postgres()

    def watch(self, *functions: FunctionServer) -> NoReturn:
        """Wait for a part, or for one of these functions, to end by itself.

        Raises:
            StackError: One has ended; with the end of its log.
        """
        while True:
            for name, part in (("PostgreSQL", self._postgres), ("PostgREST", self._postgrest)):
                if part.has_died:
                    raise StackError(f"{name} has ended by itself; the end of its log:\n{tail(part.log)}")
            if any(function.has_died for function in functions):
                raise StackError("a function has ended by itself; what it said stands above")
            time.sleep(LOOK_AT_CHILDREN_SECONDS)


def main(arguments: list[str] | None = None) -> int:
    """Run a stack in the foreground, or sign a token for the one that runs; return the exit status."""
    parser = argparse.ArgumentParser(prog="python -m dev.stack", description=__doc__.split("\n", 1)[0])
    parser.add_argument("--no-seed", action="store_true", help="leave out the example rows")
    parser.add_argument("--user-token", metavar="EMAIL_OR_UUID", help="print a token of a user of the running stack")
    chosen = parser.parse_args(arguments)
    try:
        if chosen.user_token:
            print(_token_of(chosen.user_token))
        else:
            _serve(seed=not chosen.no_seed)
    except StackError as error:
        print(f"stack: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("stack: stopped, nothing is left behind")
    return 0


def _serve(*, seed: bool) -> NoReturn:
    """Run until Ctrl-C, SIGTERM, a closed terminal, or the end of a part."""
    for number in STOP_SIGNALS:
        signal.signal(number, _interrupt)
    file = facts.facts_file()
    facts.remove_if_stale(file)
    with Stack.start(seed=seed) as stack:
        file = facts.write(stack.facts, file)
        try:
            print(
                f"URL               {stack.supabase_url}\n"
                f"anon key          {stack.anon_key}\n"
                f"service role key  {stack.service_role_key}\n"
                f"secret key        {stack.secret_key}\n"
                f"database          {stack.database_url}\n"
                f"All of it is in {file}; Ctrl-C stops the stack.",
                flush=True,
            )
            stack.watch()
        finally:
            facts.remove_if_ours(stack.facts, file)


def _interrupt(_number: int, _frame: FrameType | None) -> NoReturn:
    for number in STOP_SIGNALS:
        signal.signal(number, signal.SIG_IGN)  # an impatient second Ctrl-C must not stop the cleaning
    raise KeyboardInterrupt


def _token_of(email_or_id: str) -> str:
    """Sign a token for a user of the running stack.

    Raises:
        StackError: No stack is running, or it knows no such user.
    """
    running = facts.read(facts.facts_file())
    try:
        with psycopg.connect(running["database_url"], connect_timeout=5) as connection:
            found = connection.execute(
                "select id from auth.users where email = %(it)s or id::text = lower(%(it)s)", {"it": email_or_id}
            ).fetchone()
            known = connection.execute(
                "select coalesce(string_agg(email, ', ' order by email), 'none') from auth.users"
            )
            emails = known.fetchone()
    except psycopg.OperationalError as error:
        raise StackError(f"the stack of {facts.facts_file()} does not answer: {error}") from error
    if found is None:
        raise StackError(f"no user {email_or_id}; there are: {emails[0] if emails else 'none'}")
    user_id: UUID = found[0]
    return facts.user_token(user_id, running["jwt_secret"])


if __name__ == "__main__":
    sys.exit(main())

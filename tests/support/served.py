"""Functions as ``dev.functions`` serves them, but started as forks of a process that has imported what they import.

The suite starts some hundred servers; without this more than a second of processor time would go into each.
``functions-framework``'s own command runs in each fork, and imports the functions there.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Final

from waiting import GENEROUS_SECONDS

from dev import functions
from dev.functions import PROJECT
from dev.processes import death_signal

if TYPE_CHECKING:
    from collections.abc import Mapping
    from multiprocessing.process import BaseProcess

_FORKS: Final = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(
    [
        "functions_framework._cli",
        "functions_framework.aio",
        "functions_framework._http.asgi",
        "functions_framework._http.gunicorn",
        "uvicorn.workers",
        "uvicorn.loops.auto",
        "uvicorn.protocols.http.auto",
        "uvicorn.lifespan.on",
        "pydantic_settings",
        "supabase",
        "httpx_aiohttp",
        "cryptography.fernet",
        # Of our own code what reads no setting when it is imported; what is served as an upload imports it all anew.
        *sorted(
            ".".join(path.relative_to(PROJECT).with_suffix("").parts)
            for path in (PROJECT / "shared").rglob("*.py")
            if path.stem != "__init__"
        ),
    ]
)
NO_AUTHORITIES: Final = {"SSL_CERT_DIR": os.devnull}
"""Nobody here speaks TLS to the web, and to read all its authorities takes 20 ms for each client that is made."""
_ONE_AT_A_TIME: Final = threading.Lock()


class _Fork:
    """As much of ``subprocess.Popen`` as a server needs."""

    def __init__(self, process: BaseProcess) -> None:
        self.process = process
        assert process.pid
        self.pid: int = process.pid

    def poll(self) -> int | None:
        return self.process.exitcode

    @property
    def returncode(self) -> int | None:
        return self.process.exitcode


class FunctionServer(functions.FunctionServer):
    """A served function; leaving the ``with`` block ends it."""

    def launch(self, arguments: list[str], environment: Mapping[str, str], log: Path | None) -> _Fork:
        assert log
        process = _FORKS.Process(
            target=_serve, args=(arguments, {**NO_AUTHORITIES, **environment}, str(log)), daemon=True
        )
        with _ONE_AT_A_TIME:
            process.start()
        return _Fork(process)

    def end(self) -> None:
        self._process.process.terminate()
        self._process.process.join(GENEROUS_SECONDS)
        if self._process.poll() is None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.process.join()


def _serve(arguments: list[str], environment: dict[str, str], log: str) -> None:
    """Become what ``functions-framework`` would be as a process of its own."""
    arm = death_signal(signal.SIGTERM)
    if arm:
        arm()
    os.setsid()
    output = os.open(log, os.O_WRONLY | os.O_APPEND)
    os.dup2(os.open(os.devnull, os.O_RDONLY), 0)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.stdout.reconfigure(write_through=True)
    os.environ.clear()
    os.environ.update(environment)
    os.chdir(PROJECT)
    sys.argv = ["functions-framework", *arguments]
    sys.path[:] = [path for path in sys.path if Path(path).resolve() not in (PROJECT, Path(__file__).parent)]

    from functions_framework._cli import _cli  # noqa: PLC0415 - its parent has it already

    _cli()

"""Child processes of the local stack: started from one thread, ended in order, never left behind."""

from __future__ import annotations

import contextlib
import ctypes
import os
import secrets
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

LOOPBACK = "127.0.0.1"
ADDRESS_IN_USE = "address already in use"

Process = subprocess.Popen[bytes]


class StackError(Exception):
    """The local stack cannot do what was asked; the message says what to look at."""


class AddressInUseError(StackError):
    """Somebody took the port between our look and our child's bind: try another."""


@dataclass(frozen=True)
class Account:
    """The unprivileged account that runs PostgreSQL when we are root."""

    uid: int
    gid: int


def death_signal(number: signal.Signals) -> Callable[[], None] | None:
    """Return what a child calls before exec so that the kernel signals it when its parent is gone (Linux only)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl  # looked up before the fork: the child must not import or allocate much
    set_parent_death_signal = 1  # PR_SET_PDEATHSIG
    argument = int(number)

    def arm() -> None:
        prctl(set_parent_death_signal, argument, 0, 0, 0)

    return arm


def environment() -> Mapping[str, str]:
    """Return our environment without PG* and PGRST_*, which would override what the stack configures."""
    return {name: text for name, text in os.environ.items() if not name.startswith("PG")}


class Children:
    """Starts children from one thread of its own and remembers them until they have ended.

    Why a thread: the kernel's parent-death signal means the death of the *thread* that forked, so a child started from
    somebody's short-lived worker would die with that worker. And a Ctrl-C, which Python raises in the main thread,
    cannot come between a fork and our knowing of the child.
    """

    def __init__(self) -> None:
        self._orders: SimpleQueue[tuple[Future[Process | None], Callable[[], Process | None]]] = SimpleQueue()
        self._alive: list[Process] = []
        threading.Thread(target=self._serve, name="stack-children", daemon=True).start()

    def _serve(self) -> None:
        while True:
            answer, order = self._orders.get()
            try:
                child = order()
            except BaseException as error:  # noqa: BLE001  it is raised where the answer is awaited
                answer.set_exception(error)
                continue
            answer.set_result(child)
            if child is None:
                return

    def _order(self, order: Callable[[], Process | None]) -> Process | None:
        answer: Future[Process | None] = Future()
        self._orders.put((answer, order))
        return answer.result()

    def start(
        self,
        command: Sequence[str | Path],
        *,
        log: Path | None,
        folder: Path,
        account: Account | None = None,
        variables: Mapping[str, str] | None = None,
        on_our_death: signal.Signals = signal.SIGKILL,
    ) -> Process:
        """Start a child in its own session, its output appended to ``log``.

        Args:
            command: The program and its arguments.
            log: Where its output goes; created readable by us alone. None is where ours goes.
            folder: Its working directory; ``account`` must be able to enter it.
            account: Whom to run as; None is ourselves.
            variables: Its whole environment; None is ``environment()``.
            on_our_death: What the kernel sends it when we are gone (Linux).

        Raises:
            OSError: The program cannot be executed.
        """
        arm = death_signal(on_our_death)

        def order() -> Process:
            output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600) if log else None
            try:
                child = subprocess.Popen(
                    command,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    cwd=folder,
                    env=environment() if variables is None else variables,
                    user=account.uid if account else None,
                    group=account.gid if account else None,
                    extra_groups=[] if account else None,
                    start_new_session=True,  # a terminal's Ctrl-C is for us: we stop the children in order
                    preexec_fn=arm,  # noqa: PLW1509  one system call; after setuid, which would clear the setting
                )
            finally:
                if output is not None:
                    os.close(output)
            self._alive.append(child)
            return child

        child = self._order(order)
        assert child is not None  # noqa: S101  for the type checker: only close() orders nothing
        return child

    def stop(self, child: Process, *, with_signal: signal.Signals, patience_seconds: float = 10) -> None:
        """Signal a child and wait until it and its group have ended; kill the group when patience ends.

        The group matters for initdb: the server that it was running tidies up shared memory after it, in the folder
        that we are about to remove.
        """
        if child.poll() is None:
            child.send_signal(with_signal)
        deadline = time.monotonic() + patience_seconds
        while child.poll() is None or _group_is_alive(child.pid):
            if time.monotonic() > deadline:
                with contextlib.suppress(ProcessLookupError):
                    os.killpg(child.pid, signal.SIGKILL)
                child.wait()
                break
            time.sleep(0.005)
        if child in self._alive:
            self._alive.remove(child)

    def close(self) -> None:
        """End every child that is still alive, last started first, and the thread that started them."""
        self._order(lambda: None)  # whatever was being started is known after this
        for child in reversed(self._alive.copy()):
            self.stop(child, with_signal=signal.SIGQUIT)


def _group_is_alive(group: int) -> bool:
    try:
        os.killpg(group, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # macOS, for a group of which only the unreaped leader is left
        return False
    return True


def free_port() -> int:
    """Return a loopback TCP port that nobody listened on a moment ago.

    It lies below the range from which systems take the local ports of outgoing connections: a server that is stopped
    and started again finds its port free.
    """
    for _ in range(200):
        port = 20_000 + secrets.randbelow(12_000)
        with socket.socket() as probe, contextlib.suppress(OSError):
            probe.bind((LOOPBACK, port))
            return port
    raise StackError("found no free port between 20000 and 32000 on the loopback interface")


def on_port(port: int, start: Callable[[int], None], *, seconds: float) -> int:
    """Call ``start`` with a port until nobody else holds it; return the port.

    Args:
        port: The port to insist on, as a server that is started again must; 0 takes a free one, and another one when
            somebody was faster.
        start: Starts a server there, or raises AddressInUseError.
        seconds: How long to go on trying.

    Raises:
        AddressInUseError: Somebody held the port all that time.
    """
    deadline = time.monotonic() + seconds
    while True:
        chosen = port or free_port()
        try:
            start(chosen)
        except AddressInUseError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
        else:
            return chosen


def tail(log: Path, lines: int = 15) -> str:
    """Return the end of a log, indented for an error message."""
    text = log.read_text("utf-8", "replace") if log.exists() else ""
    return "\n".join(f"    {line}" for line in text.splitlines()[-lines:]) or "    (its log is empty)"


def wait_until_ready(child: Process, *, name: str, log: Path, is_ready: Callable[[], bool], seconds: float) -> None:
    """Poll until a child serves.

    Raises:
        AddressInUseError: It ended because its port was taken.
        StackError: It ended for another reason, or was not ready in time; with the end of its log.
    """
    start_of_log = log.stat().st_size  # what a former run wrote there is not this child's reason
    deadline = time.monotonic() + seconds
    while True:
        ready = is_ready()
        if child.poll() is not None:  # looked at after is_ready: somebody else may have answered on that port
            written = log.read_bytes()[start_of_log:].decode("utf-8", "replace")
            message = f"{name} ended with status {child.returncode}; the end of its log:\n{tail(log)}"
            raise AddressInUseError(message) if ADDRESS_IN_USE in written.lower() else StackError(message)
        if ready:
            return
        if time.monotonic() > deadline:
            raise StackError(f"{name} was not ready after {seconds:.0f} s; the end of its log:\n{tail(log)}")
        time.sleep(0.01)


def command_of(pid: int) -> str:
    """Return the command line of a process, empty when there is none."""
    if sys.platform == "linux":  # slim images have no ps
        try:
            return Path(f"/proc/{pid}/cmdline").read_bytes().replace(b"\0", b" ").decode("utf-8", "replace")
        except OSError:
            return ""
    seen = subprocess.run(["ps", "-ww", "-p", str(pid), "-o", "command="], capture_output=True, text=True, check=False)
    return seen.stdout.strip()


def stop_leftover(pid: int, *, mentions: Path, patience_seconds: float = 5) -> None:
    """End a process of a dead run, but only if its command line mentions that run's folder: numbers are reused."""
    deadline = time.monotonic() + patience_seconds
    number = signal.SIGQUIT
    while str(mentions) in command_of(pid):
        try:
            os.kill(pid, number)
        except ProcessLookupError:
            return
        if time.monotonic() > deadline:
            number = signal.SIGKILL
        time.sleep(0.02)

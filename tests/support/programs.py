"""Programs that a test puts into PATH in place of real ones. The test's own process does their work.

A shell takes a tenth of the processor time that a Python takes to start, and the scripts of deploy/ call gcloud some
thousand times.
"""

from __future__ import annotations

import itertools
import shlex
import shutil
import socketserver
import threading
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

_CLIENT: Final = r"""#!{bash}
exec 3<> /dev/tcp/127.0.0.1/{port}
input=
case " $* " in *" --data-file=- "*) IFS= read -r -d '' input ;; esac
{{ printf '%s\0' {number} "$#" "$@" "$input"; export -p; printf '\0'; }} >&3
IFS= read -r -d '' answer <&3
eval "${{answer:?nobody answers}}"
"""


@dataclass(frozen=True)
class Call:
    words: list[str]
    stdin: str
    """Only of a call with ``--data-file=-``: others inherit one that is not theirs."""
    environment: str
    """As ``export -p`` shows it."""


class Refused(Exception):  # noqa: N818 - what it says is what a program says
    """Ends a program with status 1."""


_WORK: Final[dict[int, Callable[[Call], str]]] = {}
_NUMBERS: Final = itertools.count()


def program(path: Path, work: Callable[[Call], str]) -> None:
    """Write a program that prints what ``work`` returns, or says what it was ``Refused`` for."""
    number = next(_NUMBERS)
    _WORK[number] = work
    path.write_text(_CLIENT.format(bash=shutil.which("bash"), port=_port(), number=number), "utf-8")
    path.chmod(0o755)


class _OneCall(socketserver.StreamRequestHandler):
    def handle(self) -> None:
        number, count = int(self._read()), int(self._read())
        call = Call([self._read() for _ in range(count)], self._read(), self._read())
        try:
            answer = f"printf %s {shlex.quote(_WORK[number](call))}"
        except Refused as refused:
            answer = f"printf '%s\\n' {shlex.quote(str(refused))} >&2; exit 1"
        self.wfile.write(answer.encode() + b"\0")

    def _read(self) -> str:
        """The next word, which a zero ends."""
        return b"".join(iter(lambda: self.rfile.read(1), b"\0")).decode()


@cache
def _port() -> int:
    server = socketserver.TCPServer(("127.0.0.1", 0), _OneCall)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return int(server.server_address[1])

"""Ctrl-C, SIGTERM and a closed terminal: one line that says what was done, and exit code 130; never a traceback.

Imports next to nothing: it is there before whatever takes a second to load.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

EXIT: Final = 130
_SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Interrupted(KeyboardInterrupt):
    """Somebody ended the command, which knows what was done until then; that is its text."""


def run(name: str, command: Callable[[], int], *, cleans_up: bool = False) -> int:
    """Run a command to its end or to its interruption, which reaches it as a KeyboardInterrupt.

    Args:
        name: What the line begins with.
        command: Answers its exit code. It may raise ``Interrupted`` to say what was done.
        cleans_up: It ends what it has started: an impatient second signal is ignored.
    """

    def interrupt(_number: int, _frame: object) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    # asyncio takes the place of this very handler, to cancel what runs.
    signal.signal(signal.SIGINT, interrupt if cleans_up else signal.default_int_handler)
    for number in _SIGNALS[1:]:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    try:
        return command()
    except Interrupted as done:
        return _say(f"{name}: interrupted: {done}")
    except KeyboardInterrupt:
        return _say(f"{name}: interrupted: nothing was changed")
    except BrokenPipeError:  # `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still to be flushed has nowhere to go
        return EXIT


@contextmanager
def held() -> Iterator[None]:
    """Let nothing interrupt what must be done to its end; only for what has bounds of its own."""
    if threading.current_thread() is not threading.main_thread():  # signals reach that one alone
        yield
        return
    before = {number: signal.signal(number, signal.SIG_IGN) for number in _SIGNALS}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _say(line: str) -> int:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # the terminal is gone
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stderr.fileno())
    return EXIT

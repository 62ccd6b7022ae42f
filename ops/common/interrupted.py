"""Ctrl-C, SIGTERM and a closed terminal: one line that says what was done, and exit code 130; never a traceback.

Imports next to nothing: it is there before whatever takes a second to load.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import threading
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType
    from typing import TextIO

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
        _ignore_all()
        raise KeyboardInterrupt

    # Of a socket that was being connected when the signal came asyncio logs a traceback; what fails is raised anyway.
    logging.getLogger("asyncio").setLevel(logging.CRITICAL)
    # asyncio takes the place of this very handler, to cancel what runs.
    signal.signal(signal.SIGINT, interrupt if cleans_up else signal.default_int_handler)
    for number in _SIGNALS[1:]:
        if signal.getsignal(number) is not signal.SIG_IGN:  # as nohup wants it
            signal.signal(number, lambda _number, _frame: signal.raise_signal(signal.SIGINT))
    on_a_terminal = sys.stdout.isatty()
    try:
        return command()
    except Interrupted as done:
        return _say(f"{name}: interrupted: {done}")
    except KeyboardInterrupt:
        return _say(f"{name}: interrupted: nothing was changed")
    except BrokenPipeError:  # `| head`
        _forget(sys.stdout)
        return EXIT
    except OSError:
        if not on_a_terminal or sys.stdout.isatty():
            raise
        # It is closed before its signal comes: whoever writes between the two learns it so.
        return _say(f"{name}: interrupted: the terminal is gone")


@contextmanager
def held() -> Iterator[None]:
    """Let nothing interrupt what must be done to its end; only for what has bounds of its own."""
    with _as_before():
        if _is_in_reach():
            _ignore_all()
        yield


@contextmanager
def once() -> Iterator[None]:
    """The first signal interrupts as ever; what comes after it finds nobody, since the way out is a clean-up."""
    with _as_before():
        if _is_in_reach() and callable(heard := signal.getsignal(signal.SIGINT)):

            def first(number: int, frame: FrameType | None) -> None:
                _ignore_all()
                heard(number, frame)

            signal.signal(signal.SIGINT, first)
        yield


@contextmanager
def _as_before() -> Iterator[None]:
    before = {number: signal.getsignal(number) for number in _SIGNALS}
    try:
        yield
    finally:
        if _is_in_reach():
            for number, handler in before.items():
                signal.signal(number, handler)


def _ignore_all() -> None:
    for number in _SIGNALS:
        signal.signal(number, signal.SIG_IGN)


def _is_in_reach() -> bool:
    """Signals reach the main thread alone, and no other may say what they do."""
    return threading.current_thread() is threading.main_thread()


def _say(line: str) -> int:
    try:
        print(line, file=sys.stderr, flush=True)
    except OSError:  # the terminal is gone
        _forget(sys.stderr)
    try:
        sys.stdout.flush()
    except OSError:
        _forget(sys.stdout)
    return EXIT


def _forget(stream: TextIO) -> None:
    """What is still to be flushed has nowhere to go: Python would end with another code for it."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())

"""How long a test waits, in one place. No test knows how fast the machine is: only what hangs takes as long as this."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

GENEROUS_SECONDS: Final = 60.0


def until(is_so: Callable[[], object]) -> None:
    """Wait for something that another process or thread does."""
    deadline = time.monotonic() + GENEROUS_SECONDS
    while not is_so():
        assert time.monotonic() < deadline, "it did not come about"
        time.sleep(0.01)

"""When a line that is down is restarted next, as the sweep's policy has it. Pure."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from shared.core.policy import Policy

if TYPE_CHECKING:
    from datetime import datetime

_POLICY: Final = Policy()
_A_DAY: Final = timedelta(days=1)
FREQUENT: Final = sum(wait < _A_DAY for wait in _POLICY.outage_restart_waits)
"""So many restarts of an outage come within hours; after them there is little hope."""


def next_restart_at(restarts: int, last: datetime | None) -> datetime | None:
    """The earliest time of the next one; None = at the next sweep.

    Args:
        restarts: Of this outage so far.
        last: The line's last one, in any outage.
    """
    if last is None:
        return None
    waits = _POLICY.outage_restart_waits
    return last + max(waits[min(restarts, len(waits) - 1)], _POLICY.restart_cooldown)

"""What a sweep did, in counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from shared.core.model import Observation

if TYPE_CHECKING:
    from uuid import UUID

OUTCOMES = (
    "restarted",
    "recovered",
    "failed",
    "unverified",
    "skipped",
    "restored",
    "disconnected",
    "held",
    "notified",
    "errors",
)
"""restarted: requests sent; held: kept back by the brake; notified: bells rung; errors: lines given up this time."""


@dataclass
class Report:
    """Counted while the sweep runs; ``left``, ``took`` and who helped are known at its end."""

    run_id: UUID
    observations: Counter[Observation] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    braked: bool = False
    left: int = 0
    took: timedelta = timedelta(0)
    helpers_asked: int = 0
    helpers_answered: int = 0

    @property
    def checked(self) -> int:
        """Lines looked at, each once."""
        return self.observations.total()

    def as_answer(self) -> dict[str, object]:
        """The function's JSON."""
        seen = self.observations
        return {
            "run_id": str(self.run_id),
            "checked": self.checked,
            "alive": seen[Observation.ALIVE],
            "dead": sum(seen[each] for each in Observation if each.is_dead),
            "refused": seen[Observation.REFUSED],
            "unknown": seen[Observation.UNKNOWN],
            **{outcome: self.outcomes[outcome] for outcome in OUTCOMES},
            "braked": self.braked,
            "left": self.left,
            "took_ms": round(self.took.total_seconds() * 1000),
            "helpers_asked": self.helpers_asked,
            "helpers_answered": self.helpers_answered,
        }

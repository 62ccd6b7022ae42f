"""What a sweep did, in counts."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING

from shared.core.model import Observation

if TYPE_CHECKING:
    from uuid import UUID


class Outcome(StrEnum):
    """What a sweep counts beside what it found: the keys of ``health_check_runs.outcomes``."""

    RESTARTED = "restarted"
    """Requests sent."""
    RECOVERED = "recovered"
    FAILED = "failed"
    UNVERIFIED = "unverified"
    SKIPPED = "skipped"
    """Dead, but restarted too lately."""
    RESTORED = "restored"
    DISCONNECTED = "disconnected"
    HELD = "held"
    """Kept back by the brake."""
    NOTIFIED = "notified"
    """Users told."""
    DRIFTED = "drifted"
    """Looks that the provider answered as if it had changed its contract."""
    ERRORS = "errors"
    """Lines given up this time."""


@dataclass
class Report:
    """Counted while the sweep runs; ``left``, ``took`` and who helped are known at its end.

    Attributes:
        run_id: Of the sweep's row in ``health_check_runs``.
        observations: Lines by what was found, each once.
        outcomes: What was done.
        looked_at_up: Lines looked at that were up.
        recorded: Looks written that changed no status.
        given_back: Lines claimed and not finished: owed a restart, or not looked at.
        braked: Whether the brake came on.
        left: Due lines that nobody has looked at or holds.
        unwatched: Lines of ours that cannot be asked about: no external id, or no token.
        took: The sweep as a whole.
        helpers_asked: Sweeps that were asked to help.
        helpers_answered: Those that said in time that they had.
    """

    run_id: UUID
    observations: Counter[Observation] = field(default_factory=Counter)
    outcomes: Counter[Outcome] = field(default_factory=Counter)
    looked_at_up: int = 0
    recorded: int = 0
    given_back: int = 0
    braked: bool = False
    left: int = 0
    unwatched: int = 0
    took: timedelta = timedelta(0)
    helpers_asked: int = 0
    helpers_answered: int = 0

    def correct(self, before: Observation | None, after: Observation | None) -> None:
        """Count a line that was looked at again by what both looks found together."""
        if before is not None:
            self.observations[before] -= 1
        if after is not None:
            self.observations[after] += 1
        self.observations = +self.observations  # without what nobody was found to be

    @property
    def device_answered(self) -> bool:
        """Whether the deep probe told anything of any line: a phone, or that there is none."""
        return bool(self.observations[Observation.ALIVE] or self.observations[Observation.GHOST])

    def others_answer(self, observation: Observation) -> bool:
        """Whether, of a line of which this was found, another line told what this one does not."""
        if observation is Observation.CLAIMED:
            return self.device_answered
        return any(n for found, n in self.observations.items() if found is not Observation.UNKNOWN)

    @property
    def checked(self) -> int:
        """Lines looked at, each once."""
        return self.observations.total()

    def as_answer(self) -> dict[str, object]:
        """The function's JSON."""
        found = self.observations
        return {
            "run_id": str(self.run_id),
            "checked": self.checked,
            "alive": found[Observation.ALIVE],
            "claimed": found[Observation.CLAIMED],
            "dead": sum(found[each] for each in Observation if each.is_dead),
            "refused": found[Observation.REFUSED],
            "unknown": found[Observation.UNKNOWN],
            **{outcome.value: self.outcomes[outcome] for outcome in Outcome},
            "braked": self.braked,
            "left": self.left,
            "unwatched": self.unwatched,
            "took_ms": round(self.took.total_seconds() * 1000),
            "helpers_asked": self.helpers_asked,
            "helpers_answered": self.helpers_answered,
        }

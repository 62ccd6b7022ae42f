"""What every part of one sweep shares."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

from shared import logs
from shared.sweep.report import Outcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime
    from uuid import UUID

    from shared.core.policy import Limits, Policy
    from shared.database.clock import DatabaseClock
    from shared.database.store import Store
    from shared.errors import StoreError
    from shared.providers.limiter import Limiter
    from shared.providers.port import Line, Provider
    from shared.sweep.report import Report


@dataclass(frozen=True, slots=True)
class SweepContext:
    """One sweep's collaborators.

    Attributes:
        store: Where decisions become true.
        provider: Whom to ask, paced by ``limiter``.
        limiter: Gives the places among the looks, and knows when the provider wants to be left alone.
        policy: The numbers of the decisions.
        limits: Time and concurrency.
        clock: The database's.
        began: When the sweep began, on the database's clock.
        deadline: The end of the budget, on the loop's clock.
        report: Counts what is done.
        asleep: Companies whose lines are left alone.
        device_is_gone: The deep probe has answered for no line for long: claims are believed.
        failures: Of the database: the sweep claims nothing more, ends what is under way, and fails with the first.
        refusals: Of whole batches' looks: the sweep goes on, and fails with the first if it could write no look at all.
    """

    store: Store
    provider: Provider
    limiter: Limiter
    policy: Policy
    limits: Limits
    clock: DatabaseClock
    began: datetime
    deadline: float
    report: Report
    asleep: Sequence[UUID]
    device_is_gone: bool = False
    failures: list[StoreError] = field(default_factory=list)
    refusals: list[StoreError] = field(default_factory=list)

    @property
    def time_left(self) -> timedelta:
        """Of the budget; negative once it is over."""
        return timedelta(seconds=self.deadline - asyncio.get_running_loop().time())

    def count_error(self, fact: str, line: Line, error: Exception) -> None:
        """Log what broke one line's sweep. Its lease runs out and the next sweep takes it."""
        self.report.outcomes[Outcome.ERRORS] += 1
        logs.error(fact, cause=error, instance=line.id)

    def give_up_recording(self, count: int, error: StoreError) -> None:
        """Log that the database refuses the looks of so many more lines; their leases run out."""
        self.report.outcomes[Outcome.ERRORS] += count
        self.refusals.append(error)
        logs.error("looks.not_recorded", cause=error, count=count)

    def raise_failure(self) -> None:
        """Fail the sweep with what has failed it, if something has.

        Raises:
            StoreError: The first.
        """
        if self.failures:
            raise self.failures[0]
        if self.refusals and not self.report.recorded:
            raise self.refusals[0]

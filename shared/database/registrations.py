"""The table of what the provider keeps of each line: claimed, and recorded with what came of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final
from uuid import UUID

from pydantic import AwareDatetime, SecretStr

from shared.core.model import Row
from shared.core.notices import TEXTS
from shared.core.registration import Visit, WebhookState
from shared.core.subscription import Ending, is_news
from shared.database.composites import interval, policy_row

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.core.notices import NoticeText
    from shared.core.policy import Policy
    from shared.core.subscription import Subscription
    from shared.database.rpc import Rpc

_LEASE: Final = timedelta(minutes=3)
"""Longer than the chore and the recording of its end take together."""
_MOST_LINES: Final = 2_000
"""So many, eight at once, are read in the chore's time: fleets of 140,000 lines come round in six hours."""
LINES_A_PAGE: Final = 10_000
"""In one claim; the next one goes on behind it: a fleet of 140,000 lines comes round in an hour and a quarter."""
_LONGEST_TRANSACTION: Final = timedelta(seconds=30)


class RegisteredLine(Row):
    """A line that is due, leased to this sweep. ``ending_*`` is what was told last of its subscription."""

    id: UUID
    external_id: str
    token: SecretStr | None
    unit: str | None
    lease: AwareDatetime
    requested_at: AwareDatetime | None
    found: WebhookState | None
    tries: int
    asks_payment: bool
    payment_word: str | None
    ending_at: AwareDatetime | None
    ending_days: int | None
    last_event_at: AwareDatetime | None = None

    @property
    def told(self) -> Ending | None:
        """The stage of its subscription's end that was told last."""
        if self.ending_at is None or self.ending_days is None:
            return None
        return Ending(self.ending_at, self.ending_days)


class DueRegistrations(Row):
    """Lines in the order of their urgency; ``now`` is the database's clock."""

    now: AwareDatetime
    lines: list[RegisteredLine]


class RegistrationsRecorded(Row):
    """What began (True) or ended (False) for the fleet with these visits; None is no change."""

    recorded: int
    told: int
    failing: bool | None = None
    own_address_failing: bool | None = None


@dataclass(frozen=True, slots=True)
class Visited:
    """A line and what came of its visit.

    Attributes:
        line: As claimed.
        outcome: In one word.
        found: The worst that was read; None where nothing was.
        cause: Why it could not be read or set.
        subscription: What was told of it; None where nobody asked, or nobody answered.
        ending: The stage of its end.
        text: Which text tells the line's users of it; None where nobody is to be told.
    """

    line: RegisteredLine
    outcome: Visit
    found: WebhookState | None = None
    cause: str | None = None
    subscription: Subscription | None = None
    ending: Ending | None = None
    text: NoticeText | None = None


class RegistrationStore:
    """What the housekeeping of registrations asks of the database; part of ``Store``.

    Args:
        rpc: The store's own.
        policy: The numbers.
    """

    def __init__(self, rpc: Rpc, policy: Policy) -> None:
        self._rpc = rpc
        self._policy = policy

    async def request(self, instance: UUID) -> bool:
        """Ask the next housekeeping to set a suspected line's registration again, whatever it finds.

        Returns:
            False when that was done or asked for lately. After a try in vain it is done when its wait is over.
        """
        arguments = {"p_instance": str(instance), "p_pause": interval(self._policy.registration_waits[0])}
        return await self._rpc.call("request_registration", arguments) is True

    async def claim(self, run: UUID, *, registers: bool, lines_a_page: int = LINES_A_PAGE) -> DueRegistrations:
        """Lease the lines that are due.

        Args:
            run: The sweep's, whose looks bound them.
            registers: False asks about subscriptions alone, once a day.
            lines_a_page: So much of the fleet is searched for lines that came, went or became others.
        """
        policy = self._policy
        arguments = {
            "p_run": str(run),
            "p_registers": registers,
            "p_every": interval(self._every(registers=registers)),
            "p_payment_every": interval(policy.payment_every),
            "p_lease": interval(_LEASE),
            "p_share": policy.registration_share,
            "p_at_least": policy.registration_lines,
            "p_most": _MOST_LINES,
            "p_page": lines_a_page,
            "p_slack": interval(_LONGEST_TRANSACTION),
        }
        return await self._rpc.ask(DueRegistrations, "claim_registrations", arguments)

    async def record(
        self, visits: Sequence[Visited], *, registers: bool, own_address: bool | None, refusal: str | None = None
    ) -> RegistrationsRecorded:
        """Write what came of visits, and give the leases back.

        Args:
            visits: Those whose lease is over meanwhile are passed over.
            registers: As claimed.
            own_address: Whether our own address took the key; None if it was not asked.
            refusal: Why it did not.
        """
        policy = self._policy
        arguments = {
            "p_visits": [_visit_row(each) for each in visits],
            "p_own_address": own_address,
            "p_refusal": refusal,
            "p_every": interval(self._every(registers=registers)),
            "p_waits": [interval(wait) for wait in policy.registration_waits],
            "p_failing_after": interval(policy.registration_failing_after),
            "p_texts": TEXTS,
            "p_policy": policy_row(policy),
        }
        return await self._rpc.ask(RegistrationsRecorded, "record_registrations", arguments)

    def _every(self, *, registers: bool) -> timedelta:
        return self._policy.registration_every if registers else timedelta(days=1)


def _visit_row(visited: Visited) -> dict[str, Any]:
    """The SQL type ``registration_visit``."""
    subscription, ending = visited.subscription, visited.ending
    return {
        "instance_id": str(visited.line.id),
        "lease": visited.line.lease.isoformat(),
        "requested_at": visited.line.requested_at.isoformat() if visited.line.requested_at else None,
        "outcome": visited.outcome,
        "found": visited.found,
        "cause": visited.cause,
        "payment": subscription.payment if subscription else None,
        "payment_word": subscription.unread or subscription.word if subscription else None,
        "ends_at": subscription.ends_at.isoformat() if subscription and subscription.ends_at else None,
        "asked_payment": subscription is not None,
        "ending_at": ending.due_at.isoformat() if ending else None,
        "ending_days": ending.days if ending else None,
        "ending_is_news": is_news(ending, visited.line.told),
        "ending_text": visited.text,
    }

"""Registration: read where the provider posts the events of lines, and set it again where that is wrong.

A round belongs to one sweep. Some lines are read at once; they are set one after another, each is read back, and
nothing is set before our own address has taken the very key. Who is asked to wait ends the round.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from shared import logs
from shared.core.registration import (
    Registration,
    Unanswered,
    Visit,
    WebhookState,
    judge_setting,
    kinds_to_set,
    worst_of,
)
from shared.core.subscription import Subscription
from shared.database.registrations import Visited
from shared.receiving.subscriptions import tell_operator, with_subscription

if TYPE_CHECKING:
    from collections.abc import Awaitable, Iterator
    from datetime import datetime
    from uuid import UUID

    from shared.core.policy import Policy
    from shared.core.registration import WebhookKind
    from shared.database.registrations import RegisteredLine
    from shared.database.store import Store
    from shared.providers.own_address import OwnAddress
    from shared.providers.port import Registrar

_AT_ONCE: Final = 8

_Told = TypeVar("_Told", Registration | Unanswered, Subscription | Unanswered)


@dataclass(frozen=True, slots=True)
class Registrations:
    """Whom the rounds ask, and what they may do.

    Attributes:
        registrar: The provider.
        own: Our own address, with the keys that belong there; None sets nothing and reads subscriptions alone.
        policy: The numbers.
        within: For one call.
        take_over: Set also what points to a foreign host.
        tell_venues: Tell users of a line's subscription.
    """

    registrar: Registrar
    own: OwnAddress | None
    policy: Policy
    within: timedelta
    take_over: bool = False
    tell_venues: bool = False

    async def keep(self, store: Store, *, run: UUID, deadline: float) -> None:
        """Do one round.

        Args:
            store: Hands out the lines that are due, and keeps what came of them.
            run: The sweep's.
            deadline: On the loop's clock: no call to the provider goes beyond it.

        Raises:
            StoreError: What was not recorded is due again when its lease is over.
        """
        due = await store.registrations.claim(run, registers=self.own is not None)
        if due.lines:
            await _Round(self, store, deadline, due.now).go(due.lines)


class _Round:
    def __init__(self, how: Registrations, store: Store, deadline: float, now: datetime) -> None:
        self._how = how
        self._store = store
        self._deadline = deadline
        self._now = now
        self._clock = asyncio.get_running_loop().time
        self._ended = False
        self._own_address: bool | None = None
        self._refusal: str | None = None
        self._outcomes: Counter[Visit] = Counter()

    @property
    def _is_over(self) -> bool:
        return self._ended or self._clock() >= self._deadline

    async def go(self, lines: list[RegisteredLine]) -> None:
        for line in lines:
            logs.name_line(line.id, unit=line.unit, external_id=line.external_id)
        read: dict[UUID, tuple[Visited, Registration | None]] = {}
        waiting = iter(lines)
        await asyncio.gather(*(self._read_some(waiting, read) for _ in range(min(_AT_ONCE, len(lines)))))
        wrong: list[tuple[Visited, tuple[WebhookKind, ...]]] = []
        done: list[Visited] = []
        for line in lines:
            visited, registration = read.get(line.id, (Visited(line, Visit.LEFT), None))
            kinds = self._kinds_to_set(line, registration)
            if kinds and registration is not None:
                wrong.append((visited, kinds))
            else:
                done.append(visited)
        for number, (visited, kinds) in enumerate(wrong):
            if number == self._how.policy.registration_sets or self._is_over or await self._is_refused(visited.line):
                done += [replace(each, outcome=Visit.LEFT) for each, _ in wrong[number:]]
                break
            # At once: whoever dies now has lost the knowledge of one line.
            await self._record([await self._set(visited, kinds)])
        if done:
            await self._record(done)
        if self._ended:
            logs.warning("registration.throttled", left=self._outcomes[Visit.LEFT])
        logs.info("registrations.read", **{outcome.value: self._outcomes[outcome] for outcome in Visit})

    # Reading

    async def _read_some(
        self, waiting: Iterator[RegisteredLine], read: dict[UUID, tuple[Visited, Registration | None]]
    ) -> None:
        for line in waiting:
            if self._is_over:
                return
            read[line.id] = await self._read(line)

    async def _read(self, line: RegisteredLine) -> tuple[Visited, Registration | None]:
        """Ask about payment, if that is due, and about the registration: the one may tell of the other."""
        own, registrar = self._how.own, self._how.registrar
        subscription: Subscription | None = None
        told: Registration | Unanswered = Unanswered("not_asked")
        if line.asks_payment:
            payment = await self._ask(registrar.subscription(line, within=self._time))
            if isinstance(payment, Subscription):
                subscription = payment
            else:
                told = payment
        if not self._ended and (own is not None or subscription is None):
            told = await self._ask(registrar.registration(line, within=self._time))
        registration = told if isinstance(told, Registration) else None
        if registration is not None and line.asks_payment and subscription is None:
            subscription = registration.subscription
        if isinstance(told, Unanswered) and (own is not None or subscription is None):
            visited = Visited(line, Visit.UNREAD, cause=told.cause)
        elif registration is not None and own is not None:
            visited = Visited(line, Visit.KEPT, found=worst_of(registration, own.target, line.external_id))
        else:
            visited = Visited(line, Visit.KEPT)
        if subscription is not None:
            how = self._how
            visited = with_subscription(
                visited, subscription, policy=how.policy, tell_venues=how.tell_venues, now=self._now
            )
        return visited, registration

    @property
    def _time(self) -> timedelta:
        return min(self._how.within, timedelta(seconds=max(self._deadline - self._clock(), 0.001)))

    async def _ask(self, asking: Awaitable[_Told]) -> _Told:
        told = await asking
        if isinstance(told, Unanswered) and told.asked_to_wait:
            self._ended = True
        return told

    # Setting

    def _kinds_to_set(self, line: RegisteredLine, registration: Registration | None) -> tuple[WebhookKind, ...]:
        if registration is None or self._how.own is None:
            return ()
        return kinds_to_set(
            registration,
            self._how.own.target,
            line.external_id,
            is_suspected=line.requested_at is not None,
            was_untold=line.found is WebhookState.UNTOLD,
            take_over=self._how.take_over,
        )

    async def _is_refused(self, line: RegisteredLine) -> bool:
        """Ask our own address once a round, with the key that would be set first; anything but yes sets nothing."""
        if self._own_address is None and self._how.own is not None:
            try:
                async with asyncio.timeout_at(self._deadline):
                    self._refusal = await self._how.own.refusal(line.external_id)
            except TimeoutError:
                self._refusal = "timeout"
            self._own_address = self._refusal is None
        return self._own_address is not True

    async def _set(self, visited: Visited, kinds: tuple[WebhookKind, ...]) -> Visited:
        line, own = visited.line, self._how.own
        assert own is not None, "nothing is to be set"  # noqa: S101 - for the type checker
        url = own.target.url_for(line.external_id)
        try:
            async with asyncio.timeout_at(self._deadline):
                done = await self._how.registrar.set_webhooks(line, kinds, url, within=self._time)
        except TimeoutError:
            return replace(visited, outcome=Visit.NOT_SET, cause="no_time")
        if any(isinstance(each, Unanswered) and each.asked_to_wait for each in (done.failed, done.found)):
            self._ended = True
        outcome, cause = judge_setting(
            kinds, done, own.target, line.external_id, is_suspected=line.requested_at is not None
        )
        if outcome is Visit.SET:
            logs.info("registration.set", instance=line.id, found=visited.found, kinds=list(kinds))
        elif outcome is Visit.NOT_SET and not line.tries:
            logs.warning("registration.not_set", instance=line.id, found=visited.found, cause_word=cause)
        found = visited.found
        if isinstance(done.found, Registration):
            found = worst_of(done.found, own.target, line.external_id)
        return replace(visited, outcome=outcome, cause=cause, found=found)

    # What came of it

    async def _record(self, visits: list[Visited]) -> None:
        recorded = await self._store.registrations.record(
            visits, registers=self._how.own is not None, own_address=self._own_address, refusal=self._refusal
        )
        for visited in visits:
            self._outcomes[visited.outcome] += 1
            _tell_news(visited)
        match recorded.own_address_failing:
            case True:
                logs.error("registration.own_address", cause_word=self._refusal)
            case False:
                logs.warning("registration.own_address_answers")
            case None:
                pass
        match recorded.failing:
            case True:
                logs.error("registration.failing", hours=_hours(self._how.policy.registration_failing_after))
            case False:
                logs.warning("registration.works_again")
            case None:
                pass


def _tell_news(visited: Visited) -> None:
    line = visited.line
    if visited.found is WebhookState.FOREIGN and line.found is not WebhookState.FOREIGN:
        logs.warning("registration.foreign", instance=line.id)
    if visited.outcome is Visit.UNREAD and not line.tries:
        logs.warning("registration.unread", instance=line.id, cause_word=visited.cause)
    tell_operator(visited)


def _hours(length: timedelta) -> int:
    return round(length.total_seconds() / 3600)

"""Registration: read where the provider posts the events of lines, and set it again where that is wrong.

A round belongs to one sweep. Some lines are read at once; they are set one after another, each is read back, and
nothing is set before our own address has taken the very key. Who is asked to wait ends the round.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

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
    from collections.abc import Awaitable, Callable, Sequence
    from datetime import datetime
    from uuid import UUID

    from shared.core.policy import Policy
    from shared.core.registration import WebhookKind
    from shared.database.registrations import RegisteredLine
    from shared.database.store import Store
    from shared.providers.own_address import OwnAddress
    from shared.providers.port import Registrar

_AT_ONCE: Final = 8


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


@dataclass(frozen=True, slots=True)
class _Read:
    """A line so far; ``registration``: where the provider posts its events, if it told."""

    visited: Visited
    registration: Registration | None = None


class _Round:
    def __init__(self, how: Registrations, store: Store, deadline: float, now: datetime) -> None:
        self._how = how
        self._store = store
        self._deadline = deadline
        self._now = now
        self._clock = asyncio.get_running_loop().time
        self._ended = False
        self._payments_ended = False
        self._own_address: bool | None = None
        self._refusal: str | None = None
        self._outcomes: Counter[Visit] = Counter()

    @property
    def _is_over(self) -> bool:
        return self._ended or self._clock() >= self._deadline

    async def go(self, lines: list[RegisteredLine]) -> None:
        """Read where events go, set what is wrong, and ask about payment last: it may keep nobody from being heard."""
        for line in lines:
            logs.name_line(line.id, unit=line.unit, external_id=line.external_id)
        read: dict[UUID, _Read] = {}
        await self._some_at_once(lines, read, self._read)
        wrong: list[tuple[_Read, tuple[WebhookKind, ...]]] = []
        done: list[Visited] = [Visited(line, Visit.LEFT) for line in lines if line.id not in read]
        for found in read.values():
            kinds = self._kinds_to_set(found.visited.line, found.registration)
            if kinds:
                wrong.append((found, kinds))
        for number, (found, kinds) in enumerate(wrong):
            line = found.visited.line
            if number == self._how.policy.registration_sets or self._is_over or await self._is_refused(line):
                for each, _ in wrong[number:]:
                    read[each.visited.line.id] = replace(each, visited=replace(each.visited, outcome=Visit.LEFT))
                break
            del read[line.id]
            visited = await self._set(found.visited, kinds)
            # At once: whoever dies now has lost the knowledge of one line.
            await self._record([(await self._with_payment(replace(found, visited=visited))).visited])
        paid: dict[UUID, _Read] = {}
        others = [each.visited.line for each in read.values()]
        await self._some_at_once(others, paid, lambda line: self._with_payment(read[line.id]))
        done += [each.visited for each in (read | paid).values()]
        if done:
            await self._record(done)
        if self._ended:
            logs.warning("registration.throttled", left=self._outcomes[Visit.LEFT])
        elif self._payments_ended:
            logs.warning("subscription.throttled")
        logs.info("registrations.read", **{outcome.value: self._outcomes[outcome] for outcome in Visit})

    # Reading

    async def _some_at_once(
        self,
        lines: Sequence[RegisteredLine],
        found: dict[UUID, _Read],
        ask: Callable[[RegisteredLine], Awaitable[_Read]],
    ) -> None:
        waiting = iter(lines)

        async def ask_some() -> None:
            for line in waiting:
                if self._is_over:
                    return
                found[line.id] = await ask(line)

        await asyncio.gather(*(ask_some() for _ in range(min(_AT_ONCE, len(lines)))))

    async def _read(self, line: RegisteredLine) -> _Read:
        """Ask where the line's events go, if we have an address."""
        own = self._how.own
        if own is None:
            return _Read(Visited(line, Visit.LEFT if line.asks_payment else Visit.KEPT))
        told = await self._ask(self._how.registrar.registration(line, within=self._time))
        if isinstance(told, Unanswered):
            return _Read(Visited(line, Visit.UNREAD, cause=told.cause))
        return _Read(Visited(line, Visit.KEPT, found=worst_of(told, own.target, line.external_id)), told)

    async def _with_payment(self, read: _Read) -> _Read:
        """Ask about payment, if that is due; what does not answer in a known form is told by the registration."""
        how, line, registration = self._how, read.visited.line, read.registration
        if not line.asks_payment or self._is_over:
            return read
        subscription: Subscription | None = None
        if not self._payments_ended:
            told = await how.registrar.subscription(line, within=self._time)
            if isinstance(told, Subscription):
                subscription = told
            else:  # one route that is throttled says nothing of the others: they say it themselves
                self._payments_ended |= told.asked_to_wait
        if subscription is None and how.own is None:
            asked = await self._ask(how.registrar.registration(line, within=self._time))
            if isinstance(asked, Unanswered):
                return replace(read, visited=replace(read.visited, outcome=Visit.UNREAD, cause=asked.cause))
            registration = asked
        if subscription is None and registration is not None:
            subscription = registration.subscription
        if subscription is None:
            return read
        visited = read.visited if how.own is not None else replace(read.visited, outcome=Visit.KEPT)
        visited = with_subscription(
            visited, subscription, policy=how.policy, tell_venues=how.tell_venues, now=self._now
        )
        return replace(read, visited=visited)

    @property
    def _time(self) -> timedelta:
        return min(self._how.within, timedelta(seconds=max(self._deadline - self._clock(), 0.001)))

    async def _ask(self, asking: Awaitable[Registration | Unanswered]) -> Registration | Unanswered:
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

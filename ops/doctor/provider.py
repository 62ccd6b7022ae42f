"""What the provider says of each line, and setting its webhooks: few at once, and patient where it asks to wait."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, TypeVar

from ops.doctor.facts import Asked
from shared.core.look import Look, unknown
from shared.core.model import Observation
from shared.core.registration import Registration, SettingWebhooks, Unanswered

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta
    from uuid import UUID

    from ops.doctor.facts import LineRow
    from shared.core.registration import WebhookKind
    from shared.providers.limiter import Limiter
    from shared.providers.wapi.client import WapiClient

AT_ONCE: Final = 8
_SILENT: Final = 2 * AT_ONCE
"""So many lines in vain and none that was answered: the provider is away, and asking the rest would take hours."""
_CONDEMNING: Final = (Observation.REFUSED, Observation.NOT_FOUND)

_Said = TypeVar("_Said", Look, Registration | Unanswered)


@dataclass(slots=True)
class _Tally:
    answered: int = 0
    silent: int = 0

    @property
    def is_hopeless(self) -> bool:
        return not self.answered and self.silent >= _SILENT


class Registry:
    """The provider's view of lines.

    Args:
        client: Asked for one thing at a time of a line.
        limiter: How many lines at once; it also waits where the provider asks to.
        within: For one request.
    """

    def __init__(self, client: WapiClient, limiter: Limiter, within: timedelta) -> None:
        self._client = client.paced_by(limiter)
        self._limiter = limiter
        self._within = within
        self._setting: AbstractAsyncContextManager[object] = nullcontext()

    async def ask_all(self, lines: Iterable[LineRow], *, asked: Callable[[], object]) -> Mapping[UUID, Asked]:
        """Ask about every line that can be asked.

        Args:
            lines: Those that cannot are passed over.
            asked: Called after each line.

        Returns:
            By our id. An empty ``Asked`` is a line that was not asked about, since nobody answers at all.
        """
        tally = _Tally()

        async def one(line: LineRow) -> Asked:
            async with self._limiter.slot() as report:
                if tally.is_hopeless:
                    answer = Asked()
                else:
                    answer = await self._ask(line)
                    look = answer.look or unknown("not_asked")
                    tally.answered += look.observation is not Observation.UNKNOWN
                    tally.silent += look.observation is Observation.UNKNOWN
                    report(look)
            asked()
            return answer

        chosen = [line for line in lines if line.can_be_asked]
        answers = await asyncio.gather(*(one(line) for line in chosen))
        return {line.id: answer for line, answer in zip(chosen, answers, strict=True)}

    async def registration(self, line: LineRow) -> Registration | Unanswered:
        """Ask where a line's webhooks point to."""
        return await self._patiently(line, lambda: self._client.registration(line, within=self._within))

    async def set_webhooks(self, line: LineRow, kinds: Sequence[WebhookKind], url: str) -> SettingWebhooks:
        """Set a line's webhooks, one after another; where the provider asks to wait, go on after that.

        Some lines at once, until the provider asks to wait: parallel ones met 429 at an operator's.
        """
        was_set: list[WebhookKind] = []
        async with self._limiter.slot():
            while True:
                async with self._setting:
                    done = await self._client.set_webhooks(line, kinds[len(was_set) :], url, within=self._within)
                was_set += done.kinds
                waits = done.failed is not None and done.failed.asked_to_wait
                if waits and isinstance(self._setting, nullcontext):
                    self._setting = asyncio.Lock()
                if not waits or not await self._limiter.may_ask_again(line.id):
                    break
            found = done.found if done.found is not None else await self.registration(line)
        return SettingWebhooks(was_set, done.failed, found)

    async def _ask(self, line: LineRow) -> Asked:
        look = await self._status(line)
        if look.observation in _CONDEMNING:
            look = await self._status(line)  # one word condemns nobody
        if look.observation in (*_CONDEMNING, Observation.UNKNOWN):
            return Asked(look)
        return Asked(look).registered(await self.registration(line))

    async def _status(self, line: LineRow) -> Look:
        return await self._patiently(line, lambda: self._client.status(line, within=self._within))

    async def _patiently(self, line: LineRow, ask: Callable[[], Awaitable[_Said]]) -> _Said:
        while True:
            said = await ask()
            waits = not isinstance(said, Registration) and said.asked_to_wait
            if not waits or not await self._limiter.may_ask_again(line.id):
                return said

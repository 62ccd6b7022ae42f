"""Batch events under load: up to sixteen of them, each of another line, share one transaction.

Their keeping and, where a look was needed, their settling: two batches of the same kind.

An event is sent at once and alone while fewer than four calls are under way. When four are, events gather and share
the next call. A batch never costs one event for another: if a lock takes longer than half a second, the whole batch is
retried event by event, and so is a batch that the database refuses.
"""

from __future__ import annotations

import asyncio
from collections import deque
from contextvars import Context
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shared.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shared.database.results import Intake

CALLS_AT_ONCE: Final = 4
EVENTS_A_CALL: Final = 16
"""A line's row may stay locked until the last of them is kept: some twenty milliseconds, half a second at most."""
CHARACTERS_A_CALL: Final = 256 * 1024
CALL_SECONDS: Final = 3
"""Less than an event's own patience, so that a queued event still learns how its call ended."""


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event on its way into the database.

    Attributes:
        external_id: One of each line at a time: two would wait for each other's locks.
        size: Of its body, in characters.
        row: The SQL type ``webhook_event`` or ``settlement``.
    """

    external_id: str
    size: int
    row: dict[str, Any]


@dataclass(frozen=True, slots=True, eq=False)
class _Waiting:
    arrival: Arrival
    intake: asyncio.Future[Intake]


class Batches:
    """Gathers events while calls are under way.

    Args:
        receive: Keeps all of them or none, and answers in their order.
    """

    def __init__(self, receive: Callable[[Sequence[Arrival]], Awaitable[list[Intake]]]) -> None:
        self._receive = receive
        self._waiting: deque[_Waiting] = deque()
        self._calls: dict[asyncio.Task[None], set[str]] = {}

    async def keep(self, arrival: Arrival) -> Intake:
        """Keep an event, with others if others wait as well.

        Raises:
            StoreError: As ``receive`` does.
            TimeoutError: The call took too long.
        """
        waiting = _Waiting(arrival, asyncio.get_running_loop().create_future())
        self._waiting.append(waiting)
        self._start_calls()
        return await waiting.intake

    def _start_calls(self) -> None:
        while len(self._calls) < CALLS_AT_ONCE and (batch := self._next()):
            # In a context of its own: what it logs belongs to no single request's trace.
            call = asyncio.create_task(self._keep_all(batch), context=Context())
            self._calls[call] = {each.arrival.external_id for each in batch}
            call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        del self._calls[call]
        self._start_calls()

    def _next(self) -> list[_Waiting]:
        """Take those who have waited longest, one of each line that is not under way."""
        batch: list[_Waiting] = []
        later: list[_Waiting] = []
        lines = set[str]().union(*self._calls.values())
        size = 0
        while self._waiting and len(batch) < EVENTS_A_CALL:
            each = self._waiting.popleft()
            if each.intake.done():  # its sender's patience is over
                continue
            if each.arrival.external_id in lines or (batch and size + each.arrival.size > CHARACTERS_A_CALL):
                later.append(each)
                continue
            batch.append(each)
            lines.add(each.arrival.external_id)
            size += each.arrival.size
        self._waiting.extendleft(reversed(later))
        return batch

    async def _keep_all(self, batch: list[_Waiting]) -> None:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                intakes = await self._receive([each.arrival for each in batch])
        except (StoreUnavailable, TimeoutError) as error:
            _fail(batch, error)
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to who waits
            if len(batch) == 1:
                _fail(batch, error)
            else:  # one of them is to blame, and which is not said
                await asyncio.gather(*(self._keep_all([each]) for each in batch))
        else:
            for each, intake in zip(batch, intakes, strict=True):
                if not each.intake.done():
                    each.intake.set_result(intake)
        finally:
            for each in batch:
                each.intake.cancel()  # if this task itself was ended; else nothing


def _fail(batch: list[_Waiting], error: Exception) -> None:
    for each in batch:
        if not each.intake.done():
            each.intake.set_exception(error)

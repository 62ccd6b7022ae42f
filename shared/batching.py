"""Events that arrive together are kept together: one transaction for up to sixteen of them, each of another line.

Nobody waits for company: an event that finds less than four calls under way goes at once, by itself. Only under load,
while those are under way, do events gather, and then one commit serves them all. What fails together is tried again
one by one, so no event suffers for its neighbour.
"""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shared.errors import StoreRefused

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from shared.rows import Intake

CALLS_AT_ONCE: Final = 4
EVENTS_A_CALL: Final = 16
"""A line's row may stay locked until the last of them is kept: some twenty milliseconds."""
CHARACTERS_A_CALL: Final = 256 * 1024
CALL_SECONDS: Final = 4


@dataclass(frozen=True, slots=True)
class Arrival:
    """An event on its way into the database.

    Attributes:
        line: Two of one line never share a transaction: they may wait for each other's locks.
        size: Of its body, in characters.
        arguments: As ``receive_events`` takes them.
    """

    line: str
    size: int
    arguments: dict[str, Any]


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
        self._calls: set[asyncio.Task[None]] = set()

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
            call = asyncio.create_task(self._keep_all(batch))
            self._calls.add(call)
            call.add_done_callback(self._ended)

    def _ended(self, call: asyncio.Task[None]) -> None:
        self._calls.discard(call)
        self._start_calls()

    def _next(self) -> list[_Waiting]:
        """Take those who have waited longest, one of each line."""
        batch: list[_Waiting] = []
        later: list[_Waiting] = []
        lines: set[str] = set()
        size = 0
        while self._waiting and len(batch) < EVENTS_A_CALL:
            each = self._waiting.popleft()
            if each.intake.done():  # its sender's patience is over
                continue
            if each.arrival.line in lines or (batch and size + each.arrival.size > CHARACTERS_A_CALL):
                later.append(each)
                continue
            batch.append(each)
            lines.add(each.arrival.line)
            size += each.arrival.size
        self._waiting.extendleft(reversed(later))
        return batch

    async def _keep_all(self, batch: list[_Waiting]) -> None:
        try:
            async with asyncio.timeout(CALL_SECONDS):
                intakes = await self._receive([each.arrival for each in batch])
        except StoreRefused as error:
            if len(batch) == 1:
                _fail(batch, error)
            else:  # one of them is to blame, and which is not said
                await asyncio.gather(*(self._keep_all([each]) for each in batch))
        except Exception as error:  # noqa: BLE001 - whatever it is, it belongs to who waits
            _fail(batch, error)
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

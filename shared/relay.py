"""Forwarding events, as they came, to the platform's own handler: at least once, in order per line, backlog first.

Theirs never fails ours: what cannot be forwarded stays marked in the inbox, and the sweep forwards it later.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from enum import Enum, auto
from typing import TYPE_CHECKING, Final
from urllib.parse import quote

import httpx

from shared import logs
from shared.database.turns import GIVE_UP_REFUSALS
from shared.errors import StoreError

if TYPE_CHECKING:
    from pydantic import SecretStr

    from shared.database.results import RelayEvent, RelayTurn
    from shared.database.store import Store

HEADER: Final = "X-Instance-Id"
"""Whose event it is, percent-encoded where it holds what a header may not: a body need not say so."""
IN_REQUEST: Final = timedelta(seconds=2)
_IN_SWEEP: Final = timedelta(seconds=20)
_POST: Final = timedelta(seconds=10)
_RECORD: Final = timedelta(seconds=2)
_NOT_WANTED: Final = (400, 413, 415, 422)
"""About the event; any other error is about the handler, which may be back later."""
_BREAKS_AFTER: Final = 5
_FIRST_BREAK: Final = timedelta(seconds=30)
_LONGEST_BREAK: Final = timedelta(minutes=10)
_SLOW_BREAK: Final = timedelta(minutes=5)
"""Till a sweep has tried, which has more time: an event that a request cuts off has been delivered, and comes again."""
_LINES_AT_ONCE: Final = 8
_BACKLOG_LINES: Final = 500


class _Answer(Enum):
    """What the handler made of an event."""

    TAKEN = auto()
    REFUSED = auto()
    """It is there, and does not want this event."""
    FAILED = auto()


class Relay:
    """The platform's handler, behind a circuit breaker.

    Args:
        http: Its own client.
        url: May hold a secret; it is never logged.
        with_connections: Forward connection events as well; the handler would ring its own bell.
    """

    def __init__(self, http: httpx.AsyncClient, url: SecretStr, *, with_connections: bool) -> None:
        self._http = http
        self._url = url
        self.with_connections = with_connections
        self._failures = 0
        self._break = _FIRST_BREAK
        self._broken_until = 0.0
        self._usually_takes = 0.0
        self._cut_off = 0

    @property
    def is_closed(self) -> bool:
        """Whether requests may try: not for a while after failures in a row, longer each time."""
        return asyncio.get_running_loop().time() >= self._broken_until

    async def forward(self, turn: RelayTurn, store: Store, *, within: timedelta) -> int:
        """Forward a line's waiting events for as long as there is time, and end the turn.

        Args:
            turn: The right to forward this line's events now.
            store: Where they are marked.
            within: For the forwarding; what is left stays marked. Recording it may take two seconds more.

        Returns:
            How many were forwarded.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + within.total_seconds()
        forwarded = 0
        current: RelayTurn | None = turn
        try:
            while current is not None:
                done: list[int] = []
                refused: RelayEvent | None = None
                for event in current.events:
                    if (done or forwarded) and not self._fits(deadline - clock()):
                        break
                    answer = await self._post(
                        event.body, current.external_id, deadline, in_request=within <= IN_REQUEST
                    )
                    if answer is _Answer.REFUSED:
                        refused = event
                    if answer is not _Answer.TAKEN:
                        break
                    done.append(event.id)
                forwarded += len(done)
                if refused is not None and refused.attempts + 1 >= GIVE_UP_REFUSALS:
                    logs.error("relay.refused", event_id=refused.id, attempts=refused.attempts + 1)
                all_taken = len(done) == len(current.events)
                async with asyncio.timeout(_RECORD.total_seconds()):
                    current = await store.turns.finish_relay(
                        current,
                        done,
                        refused=refused.id if refused else None,
                        more=all_taken and self._fits(deadline - clock()),
                    )
        except StoreError as error:  # the turn ends by itself, and these events come once more
            logs.warning("relay.not_recorded", operation=error.operation, code=error.code)
        except TimeoutError:
            logs.warning("relay.not_recorded", operation="finish_relay", code="timeout")
        return forwarded

    async def forward_backlog(self, store: Store, *, deadline: float) -> int:
        """Forward what requests could not, until the loop's clock says ``deadline`` or the handler fails again.

        Returns:
            How many were forwarded.

        Raises:
            StoreError: When the backlog cannot be read.
        """
        clock = asyncio.get_running_loop().time
        waiting = await store.turns.list_relay_backlog(_BACKLOG_LINES)
        slots = asyncio.Semaphore(_LINES_AT_ONCE)

        async def catch_up(external_id: str) -> int:
            forwarded = 0
            async with slots:
                while self.is_closed and clock() < deadline:
                    turn = await store.turns.claim_relay(external_id)
                    if turn is None:
                        break
                    within = min(_IN_SWEEP, timedelta(seconds=deadline - clock()))
                    done = await self.forward(turn, store, within=within)
                    forwarded += done
                    if not done:
                        break
            return forwarded

        forwarded = sum(await asyncio.gather(*(catch_up(external_id) for external_id in waiting)))
        if waiting:
            logs.info("relay.caught_up", lines=len(waiting), forwarded=forwarded)
        return forwarded

    def _fits(self, seconds_left: float) -> bool:
        """Whether a POST would end in time: one that is cut has been delivered, and is delivered again."""
        return seconds_left > max(0.2, 2 * self._usually_takes)

    async def _post(self, body: str, external_id: str, deadline: float, *, in_request: bool) -> _Answer:
        clock = asyncio.get_running_loop().time
        headers = {"Content-Type": "application/json"}
        if external_id:
            headers[HEADER] = quote(external_id)
        request = self._http.build_request(
            "POST",
            self._url.get_secret_value(),
            content=body.encode(),
            headers=headers,
        )
        began = clock()
        try:
            async with asyncio.timeout_at(min(deadline, began + _POST.total_seconds())):
                response = await self._http.send(request, stream=True, follow_redirects=False)
                await response.aclose()
        except TimeoutError:
            if in_request:
                self._leave_to_sweeps()
            return self._failed("timeout")
        except (httpx.HTTPError, OSError) as error:
            return self._failed(type(error).__name__)
        self._usually_takes = max(clock() - began, 0.9 * self._usually_takes)
        self._cut_off = 0
        if response.status_code in _NOT_WANTED:
            self._alive()
            logs.warning("relay.failed", problem=f"http_{response.status_code}", in_a_row=0)
            return _Answer.REFUSED
        if not response.is_success:
            return self._failed(f"http_{response.status_code}")
        self._alive()
        return _Answer.TAKEN

    def _leave_to_sweeps(self) -> None:
        """Let requests try no more for a while: a moment after the first event that was cut off, then longer."""
        if not self.is_closed:
            return  # cut off at the same moment as another: one sign
        self._cut_off += 1
        pause = _FIRST_BREAK if self._cut_off == 1 else _SLOW_BREAK
        self._broken_until = asyncio.get_running_loop().time() + pause.total_seconds()

    def _alive(self) -> None:
        self._failures = 0
        self._break = _FIRST_BREAK

    def _failed(self, problem: str) -> _Answer:
        self._failures += 1
        logs.warning("relay.failed", problem=problem, in_a_row=self._failures)
        if self._failures >= _BREAKS_AFTER:
            self._failures = 0
            ends = asyncio.get_running_loop().time() + self._break.total_seconds()
            self._broken_until = max(self._broken_until, ends)
            logs.error("relay.broken", seconds=self._break.total_seconds())
            self._break = min(2 * self._break, _LONGEST_BREAK)
        return _Answer.FAILED

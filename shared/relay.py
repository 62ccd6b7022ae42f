"""Forwarding events, as they came, to the platform's own handler: at least once, in order per line, backlog first.

Theirs never fails ours: what cannot be forwarded stays marked in the inbox, and the sweep forwards it later.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Final

import httpx

from shared import logs
from shared.errors import StoreError
from shared.store import TURN_SECONDS

if TYPE_CHECKING:
    from pydantic import SecretStr

    from shared.rows import RelayTurn
    from shared.store import Store

IN_REQUEST: Final = timedelta(seconds=2)
_BREAKS_AFTER: Final = 5
_BREAK: Final = timedelta(seconds=30)
_LINES_AT_ONCE: Final = 8
_BACKLOG_LINES: Final = 500


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
        self._broken_until = 0.0

    @property
    def is_closed(self) -> bool:
        """Whether requests may try: after five failures in a row not for half a minute."""
        return asyncio.get_running_loop().time() >= self._broken_until

    async def forward(self, turn: RelayTurn, store: Store, *, within: timedelta) -> int:
        """Forward a line's waiting events for as long as there is time, and end the turn.

        Args:
            turn: The right to forward this line's events now.
            store: Where they are marked.
            within: For all of it; what is left stays marked.

        Returns:
            How many were forwarded.
        """
        clock = asyncio.get_running_loop().time
        deadline = clock() + min(within.total_seconds(), TURN_SECONDS / 2)
        forwarded = 0
        current: RelayTurn | None = turn
        try:
            while current is not None:
                done: list[int] = []
                for event in current.events:
                    if not await self._post(event.body, deadline):
                        break
                    done.append(event.id)
                forwarded += len(done)
                more = len(done) == len(current.events) and clock() < deadline
                current = await store.finish_relay(current, done, more=more)
        except StoreError as error:  # the turn ends by itself, and these events come once more
            logs.warning("relay.not_recorded", operation=error.operation, code=error.code)
        return forwarded

    async def forward_backlog(self, store: Store, *, deadline: float) -> int:
        """Forward what requests could not, until the loop's clock says ``deadline`` or the handler fails again.

        Returns:
            How many were forwarded.

        Raises:
            StoreError: When the backlog cannot be read.
        """
        clock = asyncio.get_running_loop().time
        lines = await store.list_relay_backlog(_BACKLOG_LINES)
        slots = asyncio.Semaphore(_LINES_AT_ONCE)

        async def catch_up(line: str) -> int:
            forwarded = 0
            async with slots:
                while self.is_closed and clock() < deadline:
                    turn = await store.claim_relay(line)
                    if turn is None:
                        break
                    done = await self.forward(turn, store, within=timedelta(seconds=deadline - clock()))
                    forwarded += done
                    if not done:
                        break
            return forwarded

        forwarded = sum(await asyncio.gather(*(catch_up(line) for line in lines)))
        if lines:
            logs.info("relay.caught_up", lines=len(lines), forwarded=forwarded)
        return forwarded

    async def _post(self, body: str, deadline: float) -> bool:
        request = self._http.build_request(
            "POST",
            self._url.get_secret_value(),
            content=body.encode(),
            headers={"Content-Type": "application/json"},
        )
        try:
            async with asyncio.timeout_at(deadline):
                response = await self._http.send(request, stream=True, follow_redirects=False)
                await response.aclose()
            problem = None if response.is_success else f"http_{response.status_code}"
        except TimeoutError:
            problem = "timeout"
        except (httpx.HTTPError, OSError) as error:
            problem = type(error).__name__
        self._note(problem)
        return problem is None

    def _note(self, problem: str | None) -> None:
        if problem is None:
            self._failures = 0
            return
        self._failures += 1
        logs.warning("relay.failed", problem=problem, in_a_row=self._failures)
        if self._failures >= _BREAKS_AFTER:
            self._failures = 0
            self._broken_until = asyncio.get_running_loop().time() + _BREAK.total_seconds()
            logs.error("relay.broken", seconds=_BREAK.total_seconds())

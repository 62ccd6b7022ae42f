"""Whose turn it is to forward a line's events to the platform's own handler."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final

from shared.database.composites import interval
from shared.database.results import RelayTurn
from shared.database.rpc import read_list

if TYPE_CHECKING:
    from shared.database.rpc import Rpc

EVENTS_A_TURN: Final = 20
RELAY_TURN: Final = timedelta(seconds=30)
"""A turn to forward a line's events is longer than its holder may take; after a crash somebody else goes on then."""
GIVE_UP_REFUSALS: Final = 5
GIVE_UP_AFTER: Final = timedelta(minutes=10)
"""An event that the relay's handler has refused so often is given up when it is so old: others wait behind it."""


class RelayTurns:
    """A line's turn goes to one who asks, with the oldest of its events.

    Args:
        rpc: Of the service role.
    """

    def __init__(self, rpc: Rpc) -> None:
        self._rpc = rpc

    async def claim_relay(self, external_id: str) -> RelayTurn | None:
        """Take a line's turn to forward; None when somebody has it or nothing waits."""
        arguments = {"p_external_id": external_id, "p_limit": EVENTS_A_TURN, "p_turn": interval(RELAY_TURN)}
        return await self._rpc.ask_if_any(RelayTurn, "claim_relay", arguments)

    async def finish_relay(
        self, turn: RelayTurn, done: list[int], *, refused: int | None, more: bool
    ) -> RelayTurn | None:
        """Mark what was forwarded; with ``more`` go on with what waits now, else give the turn back.

        Args:
            turn: The one that ends or goes on.
            done: Events that were forwarded.
            refused: The event that the handler did not want, if one; in the end it is given up.
            more: Go on with what waits now.
        """
        arguments = {
            "p_external_id": turn.external_id,
            "p_token": str(turn.token),
            "p_done": done,
            "p_refused": refused,
            "p_give_up_refusals": GIVE_UP_REFUSALS,
            "p_give_up_after": interval(GIVE_UP_AFTER),
            "p_more": more,
            "p_limit": EVENTS_A_TURN,
            "p_turn": interval(RELAY_TURN),
        }
        return await self._rpc.ask_if_any(RelayTurn, "finish_relay", arguments)

    async def list_relay_backlog(self, limit: int) -> list[str]:
        """Lines with events that nobody is forwarding, longest waiting first."""
        external_ids = read_list("list_relay_backlog", await self._rpc.call("list_relay_backlog", {"p_limit": limit}))
        return [str(each) for each in external_ids]

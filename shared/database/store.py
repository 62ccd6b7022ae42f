"""The database, through the Supabase client: one method for each SQL function, typed in and out.

Each call is one PostgREST request and so one transaction; only what the database itself rolled back is called again.
"""

from __future__ import annotations

import asyncio
import random
from typing import TYPE_CHECKING, Any, Final, TypeVar

import httpx
from pydantic import BaseModel, ValidationError
from supabase import AsyncClient, AsyncClientOptions, PostgrestAPIError

from shared import logs
from shared.core.notices import TEXTS, preview
from shared.database.batching import Arrival, Batches
from shared.database.results import Batch, Intake, RelayTurn, RestartClaim, SweepBegun, Transition
from shared.errors import StoreRefused, StoreUnavailable
from shared.providers.wapi.messages import StoreMessage

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from uuid import UUID

    from pydantic import SecretStr

    from shared.core.model import Observation, RestartOutcome, Seen, Status
    from shared.core.notices import NoticeText
    from shared.providers.wapi.events import Event

_ROLLED_BACK: Final = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: nothing happened, the same call may be made again."""
_ATTEMPTS: Final = 4
_CALL_SECONDS: Final = 20
EVENTS_A_TURN: Final = 20
TURN_SECONDS: Final = 30
"""A turn to forward a line's events is longer than its holder may take; after a crash somebody else goes on then."""
# SQLSTATEs: connection, resources, a lock that did not come, operator, system. PostgREST: no connection, no schema
# cache, pool.
_UNAVAILABLE: Final = ("08", "53", "55P03", "57", "58", "PGRST000", "PGRST001", "PGRST002", "PGRST003")

_AWAY: Final = (429, 502, 503, 504)

_Shape = TypeVar("_Shape", bound=BaseModel)


class Store:
    """The tables, as the two use cases need them.

    Args:
        client: Its key must be the service role's.

    Raises:
        StoreUnavailable: From every method, when the database cannot be reached or is not ready.
        StoreRefused: From every method, when it answers with an error of its own.
    """

    def __init__(self, client: AsyncClient) -> None:
        self._client = client
        self._batches = Batches(self._receive_events)

    async def begin_sweep(self) -> SweepBegun:
        """Write the run row."""
        return self._read(SweepBegun, "begin_sweep", await self._call("begin_sweep", {}))

    async def claim_instances(
        self, *, due_before: datetime, lease: timedelta, limit: int, after: Batch | None
    ) -> Batch:
        """Lease the next due lines, oldest look first.

        Args:
            due_before: Lines looked at later than this are not due.
            lease: How long nobody else gets them.
            limit: At most this many, below PostgREST's 1,000.
            after: The sweep's last batch, so that no line comes twice.
        """
        arguments = {
            "p_due_before": due_before.isoformat(),
            "p_lease_seconds": lease.total_seconds(),
            "p_limit": limit,
            "p_after_check": after.after_check if after else None,
            "p_after_id": str(after.after_id) if after else None,
        }
        return self._read(Batch, "claim_instances", await self._call("claim_instances", arguments))

    async def record_looks(self, seen: list[Seen], *, finished: bool = True) -> int:
        """Write looks that change no status, and give their leases back.

        Args:
            seen: At most a batch.
            finished: False keeps ``last_health_check``: the lines are owed a restart. So does a look without a finding.

        Returns:
            How many still were ours; the others somebody else holds, paused or deleted.
        """
        looks = [
            {
                "id": str(each.instance.id),
                "lease": each.instance.lease.isoformat(),
                "raw_status": each.instance.raw_status,
                "observation": each.concluded if each.observed else None,
                "looked_at": each.looked_at.isoformat(),
                "unknown_looks": each.unknown_looks,
                "finished": finished and each.observed is not None,
            }
            for each in seen
        ]
        return _count("record_looks", await self._call("record_looks", {"p_looks": looks}))

    async def claim_restart(self, seen: Seen, *, cooldown: timedelta, lease: timedelta, run: UUID) -> RestartClaim:
        """Take the right to send one restart; without it, none may be sent."""
        arguments = _ground(seen) | {
            "p_cooldown_seconds": cooldown.total_seconds(),
            "p_lease_seconds": lease.total_seconds(),
            "p_reason": str(seen.concluded).lower(),
            "p_run": str(run),
        }
        return self._read(RestartClaim, "claim_restart", await self._call("claim_restart", arguments))

    async def apply_verdict(
        self,
        seen: Seen,
        *,
        to: Status | None,
        text: NoticeText | None = None,
        restart: RestartOutcome | None = None,
        release: bool = True,
        run: UUID,
    ) -> Transition:
        """Move a line: status, outage, audit and bells in one transaction, if its ground still holds.

        Args:
            seen: The last look and the ground it stands on.
            to: The status to move to; None leaves the row.
            text: The bell to ring if nobody was told yet.
            restart: How the restart ended, if there was one.
            release: Give the lease back: the sweep is done with the line.
            run: The sweep.
        """
        arguments = _ground(seen) | {
            "p_observation": seen.concluded,
            "p_unknown_looks": seen.unknown_looks,
            "p_to": to,
            "p_reason": str(seen.concluded).lower(),
            "p_text": text,
            "p_texts": TEXTS,
            "p_release": release,
            "p_restart": restart,
            "p_run": str(run),
        }
        return self._read(Transition, "apply_verdict", await self._call("apply_verdict", arguments))

    async def finish_sweep(
        self,
        run: UUID,
        *,
        due_before: datetime,
        checked: int,
        observations: dict[str, int],
        outcomes: dict[str, int],
        braked: bool,
        took: timedelta,
    ) -> int:
        """Complete the run row.

        Returns:
            How many due lines were left.
        """
        arguments = {
            "p_run": str(run),
            "p_due_before": due_before.isoformat(),
            "p_checked": checked,
            "p_observations": observations,
            "p_outcomes": outcomes,
            "p_braked": braked,
            "p_took_ms": round(took.total_seconds() * 1000),
        }
        return _count("finish_sweep", await self._call("finish_sweep", arguments))

    async def purge_history(self) -> None:
        """Delete what is past its retention, in a batch sized to the inflow."""
        await self._call("purge_history", {})

    async def receive_event(
        self,
        event: Event,
        *,
        restart_quiet_seconds: float,
        relay: bool = False,
        relay_now: bool = False,
        alone: bool = False,
    ) -> Intake:
        """Keep an event once and give it its effect.

        Args:
            event: Parsed.
            restart_quiet_seconds: How long after a restart a disconnection is the restart's own.
            relay: Mark it as one to forward.
            relay_now: And take the line's turn to forward, if it is free.
            alone: At once, not with others: one of them may be the trouble. And wait for locks as long as it takes.
        """
        arguments = {
            "event_key": event.key,
            "external_id": event.external_id,
            "event": event.name,
            "kind": event.kind,
            "moment": event.moment.isoformat() if event.moment else None,
            "phone": event.phone,
            "is_life": event.is_life,
            "change": _change_row(event),
            "noise": event.noise,
            "body": event.body,
            "restart_quiet_seconds": restart_quiet_seconds,
            "relay": relay,
            "relay_limit": EVENTS_A_TURN if relay_now else 0,
        }
        arrival = Arrival(event.external_id or "", len(event.body), arguments)
        if alone:
            return (await self._receive_events([arrival], hurried=False))[0]
        return await self._batches.keep(arrival)

    async def _receive_events(self, arrivals: Sequence[Arrival], *, hurried: bool = True) -> list[Intake]:
        arguments = {
            "p_events": [each.arguments for each in arrivals],
            "p_texts": TEXTS,
            "p_relay_seconds": TURN_SECONDS,
            "p_hurried": hurried,
        }
        intakes = await self._call("receive_events", arguments)
        if not isinstance(intakes, list) or len(intakes) != len(arrivals):
            raise _not_an_answer("receive_events")
        return [self._read(Intake, "receive_events", each) for each in intakes]

    async def settle_disconnection(
        self, event_id: int, *, observation: Observation, looked_at: datetime, restart_quiet_seconds: float
    ) -> Intake:
        """End a disconnection with what one look showed."""
        arguments = {
            "p_event_id": event_id,
            "p_observation": observation,
            "p_looked_at": looked_at.isoformat(),
            "p_texts": TEXTS,
            "p_restart_quiet_seconds": restart_quiet_seconds,
        }
        return self._read(Intake, "settle_disconnection", await self._call("settle_disconnection", arguments))

    async def claim_relay(self, line: str) -> RelayTurn | None:
        """Take a line's turn to forward; None when somebody has it or nothing waits."""
        arguments = {"p_line": line, "p_limit": EVENTS_A_TURN, "p_seconds": TURN_SECONDS}
        return self._turn("claim_relay", await self._call("claim_relay", arguments))

    async def finish_relay(
        self, turn: RelayTurn, done: list[int], *, refused: int | None, more: bool
    ) -> RelayTurn | None:
        """Mark what was forwarded; with ``more`` go on with what waits now, else give the turn back.

        Args:
            turn: The one that ends or goes on.
            done: Events that were forwarded.
            refused: The event that the handler did not want, if one; after ten minutes of that it is given up.
            more: Go on with what waits now.
        """
        arguments = {
            "p_line": turn.line,
            "p_token": str(turn.token),
            "p_done": done,
            "p_refused": refused,
            "p_more": more,
            "p_limit": EVENTS_A_TURN,
            "p_seconds": TURN_SECONDS,
        }
        return self._turn("finish_relay", await self._call("finish_relay", arguments))

    async def list_relay_backlog(self, limit: int) -> list[str]:
        """Lines with events that nobody is forwarding, longest waiting first."""
        lines = await self._call("list_relay_backlog", {"p_limit": limit})
        if not isinstance(lines, list):
            raise _not_an_answer("list_relay_backlog")
        return [str(line) for line in lines]

    def _turn(self, operation: str, answer: Any) -> RelayTurn | None:  # noqa: ANN401 - JSON
        return None if answer is None else self._read(RelayTurn, operation, answer)

    @staticmethod
    def _read(shape: type[_Shape], operation: str, answer: Any) -> _Shape:  # noqa: ANN401 - JSON
        if not isinstance(answer, dict):
            raise _not_an_answer(operation)
        try:
            return shape.model_validate(answer)
        except ValidationError:
            # Its text quotes rows. A shape we do not know means a migration and code that do not fit.
            raise StoreRefused(operation, "unexpected answer") from None

    async def _call(self, operation: str, arguments: dict[str, Any]) -> Any:  # noqa: ANN401 - JSON
        for attempt in range(1, _ATTEMPTS + 1):
            try:
                async with asyncio.timeout(_CALL_SECONDS):  # a dripping answer never times out by itself
                    return (await self._client.rpc(operation, arguments).execute()).data
            except PostgrestAPIError as error:
                code = error.code or "no code"
                if code in _ROLLED_BACK and attempt < _ATTEMPTS:
                    logs.warning("store.retried", operation=operation, code=code)
                    await asyncio.sleep(random.uniform(0.01, 0.05) * attempt)  # noqa: S311 - spreads retries
                    continue
                raise _translate(operation, code) from None
            except httpx.HTTPStatusError as error:
                raise StoreUnavailable(operation, str(error.response.status_code)) from None
            except (httpx.HTTPError, OSError) as error:
                raise StoreUnavailable(operation, type(error).__name__) from error
        raise AssertionError("unreachable: the last attempt returns or raises")


def _count(operation: str, answer: Any) -> int:  # noqa: ANN401 - JSON
    if isinstance(answer, bool) or not isinstance(answer, int):
        raise _not_an_answer(operation)
    return answer


def _not_an_answer(operation: str) -> StoreUnavailable:
    """A 200 with a page, with nothing: a gateway speaks, not our function."""
    return StoreUnavailable(operation, "not an answer")


def _change_row(event: Event) -> dict[str, Any] | None:
    if event.change is None:
        return None
    row = event.change.model_dump()
    if isinstance(event.change, StoreMessage):
        row["metadata"]["preview"] = preview(event.change.type, event.change.content)
    return row


def _ground(seen: Seen) -> dict[str, Any]:
    """What a transition stands on; SQL applies it only if all of it still holds."""
    return {
        "p_instance": str(seen.instance.id),
        "p_raw_status": seen.instance.raw_status,
        "p_lease": seen.instance.lease.isoformat(),
        "p_looked_at": seen.looked_at.isoformat(),
    }


def _translate(operation: str, code: str) -> StoreUnavailable | StoreRefused:
    """Sort the client's error: its code is a SQLSTATE or PostgREST's, and an HTTP status when the body was no JSON."""
    http_status = code.isdecimal() and len(code) == 3  # noqa: PLR2004 - a SQLSTATE has five characters
    if code in _ROLLED_BACK or code.startswith(_UNAVAILABLE) or (http_status and (code[0] == "5" or code == "429")):
        return StoreUnavailable(operation, code)
    return StoreRefused(operation, code)


async def _stop_at_the_gateway(response: httpx.Response) -> None:
    """Raise for a database that is away or overloaded: the Supabase client forgets the status of a JSON error."""
    if response.status_code in _AWAY:
        response.raise_for_status()


def connect(url: str, key: SecretStr, http: httpx.AsyncClient) -> Store:
    """A store over one shared HTTP client, which also replaces the Supabase client's 120 s time-out."""
    http.event_hooks = {"response": [_stop_at_the_gateway]}
    options = AsyncClientOptions(httpx_client=http, auto_refresh_token=False, persist_session=False)
    return Store(AsyncClient(url, key.get_secret_value(), options))

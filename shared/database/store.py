"""The database, through the Supabase client: one method for each SQL function, typed in and out."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Final

from shared import logs
from shared.core.model import Witness
from shared.core.notices import EVENT_TEXTS, TEXTS
from shared.database.batching import Arrival, Batches
from shared.database.client import supabase_client
from shared.database.composites import event_row, evidence_row, interval, policy_row, settlement_row, sighting_row
from shared.database.results import (
    Batch,
    CanaryClaim,
    Intake,
    LateClock,
    Notified,
    Purged,
    RestartClaim,
    Retried,
    Silence,
    SweepBegun,
    SweepEnd,
    Told,
    Transition,
    read_instance,
)
from shared.database.rpc import Rpc, not_an_answer, read_answer, read_count, read_list
from shared.database.turns import EVENTS_A_TURN, RELAY_TURN, RelayTurns
from shared.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime
    from uuid import UUID

    import httpx
    from pydantic import SecretStr
    from supabase import AsyncClient

    from shared.core.event import Event
    from shared.core.look import Look
    from shared.core.model import Evidence, Observation, RestartOutcome, Sighting, Status
    from shared.core.notices import NoticeText
    from shared.core.policy import Policy, Retention
    from shared.database.mutes import MuteStore
    from shared.database.outbox import Outbox
    from shared.database.registrations import RegistrationStore

NEWEST_MIGRATION: Final = "20261122101200"
"""The last file of supabase/migrations, which an upload does not hold."""
_NO_SUCH_TABLE: Final = ("PGRST205", "42P01")
"""PostgREST's word and, before its version 13, the database's."""
PATIENCE_FOR_LOCKS: Final = timedelta(milliseconds=500)
"""For the locks of a whole batch of events; after that each event is retried alone."""
PATIENCE_ALONE: Final = timedelta(seconds=1)
"""For the locks of one event, which comes again: it has one of its line's few turns meanwhile."""


class Store:
    """The tables, as the use cases need them.

    Args:
        client: Its key must be the service role's.
        policy: The numbers that SQL functions need.

    Attributes:
        turns: The relay's.

    Raises:
        StoreUnavailable: From every method, when the database cannot be reached or is not ready.
        StoreRefused: From every method, when it answers with an error of its own.
    """

    def __init__(self, client: AsyncClient, policy: Policy) -> None:
        self._rpc = Rpc(client)
        self.turns = RelayTurns(self._rpc)
        self._numbers = policy
        self._policy = policy_row(policy)
        self._batches = Batches(self._receive_events)
        self._settlements = Batches(self._settle_events)

    async def is_migrated(self) -> bool:
        """Whether the database has had the newest migration that this code knows."""
        try:
            return bool(await self._rpc.rows_where("recovery_migrations", "version", NEWEST_MIGRATION))
        except StoreError as error:
            if error.code in _NO_SUCH_TABLE:
                return False
            raise

    # What only the housekeeping needs is loaded when that begins.

    @cached_property
    def registrations(self) -> RegistrationStore:
        """What the provider keeps of lines."""
        from shared.database.registrations import RegistrationStore  # noqa: PLC0415

        return RegistrationStore(self._rpc, self._numbers)

    @cached_property
    def outbox(self) -> Outbox:
        """What contacts and the operator are to hear."""
        from shared.database.outbox import Outbox  # noqa: PLC0415

        return Outbox(self._rpc)

    @cached_property
    def mutes(self) -> MuteStore:
        """Lines whose events do not reach us."""
        from shared.database.mutes import MuteStore  # noqa: PLC0415

        return MuteStore(self._rpc, self._policy, event_ahead=self._numbers.event_ahead)

    # The sweep

    async def begin_sweep(self) -> SweepBegun:
        """Write the run row."""
        return await self._rpc.ask(SweepBegun, "begin_sweep", {})

    async def claim_instances(
        self, *, due_before: datetime, lease: timedelta, limit: int, after: Batch | None, asleep: Sequence[UUID] = ()
    ) -> Batch:
        """Lease the next due lines, oldest look first.

        Args:
            due_before: Lines looked at later than this are not due.
            lease: How long nobody else gets them.
            limit: At most this many, below PostgREST's 1,000.
            after: The sweep's last batch, so that no line comes twice.
            asleep: Companies whose lines are left alone.
        """
        arguments = {
            "p_due_before": due_before.isoformat(),
            "p_lease": interval(lease),
            "p_limit": limit,
            "p_after_check": after.after_check if after else None,
            "p_after_id": str(after.after_id) if after and after.after_id else None,
            "p_asleep": [str(each) for each in asleep],
        }
        answer = await self._rpc.call("claim_instances", arguments)
        if not isinstance(answer, dict) or not isinstance(rows := answer.get("instances"), list):
            raise not_an_answer("claim_instances")
        instances = [instance for row in rows if (instance := read_instance(row)) is not None]
        read = answer | {"instances": instances, "unreadable": len(rows) - len(instances)}
        return read_answer(Batch, "claim_instances", read)

    async def record_looks(self, sightings: list[Sighting], *, finished: bool = True, comes_again: bool = False) -> int:
        """Write looks that change no status, and give their leases back.

        Args:
            sightings: At most a batch.
            finished: False keeps ``last_health_check``: the lines are owed something. So does a look without a finding.
            comes_again: Whether the same looks will be brought once more if somebody holds a line: it stays leased.
                Else it is given back as it was, and the next sweep looks anew.

        Returns:
            How many still were ours; the others somebody else holds, changed, paused or deleted.
        """
        arguments = {
            "p_sightings": [sighting_row(each, finished=finished) for each in sightings],
            "p_policy": self._policy,
            "p_gives_back": not comes_again,
        }
        return read_count("record_looks", await self._rpc.call("record_looks", arguments))

    async def claim_restart(self, sighting: Sighting, *, lease: timedelta, why: Evidence) -> RestartClaim:
        """Take the right to send one restart; without it, none may be sent."""
        arguments = {
            "p_sighting": sighting_row(sighting),
            "p_lease": interval(lease),
            "p_why": evidence_row(why),
            "p_policy": self._policy,
        }
        return await self._rpc.ask(RestartClaim, "claim_restart", arguments)

    async def apply_verdict(
        self,
        sighting: Sighting,
        *,
        to: Status | None,
        text: NoticeText | None = None,
        restart: RestartOutcome | None = None,
        release: bool = True,
        finished: bool = True,
        why: Evidence,
    ) -> Transition:
        """Move a line: status, outage, audit and notices in one transaction, if the preconditions hold.

        Args:
            sighting: The last look, and the preconditions.
            to: The status to move to; None leaves the row.
            text: What users are told if nobody was told yet.
            restart: How the restart ended, if there was one.
            release: Give the lease back: the sweep is done with the line.
            finished: False keeps ``last_health_check``: the line is owed something.
            why: Goes into the audit.
        """
        arguments = {
            "p_sighting": sighting_row(sighting) | {"is_finished": finished},
            "p_to": to,
            "p_text": text,
            "p_texts": TEXTS,
            "p_release": release,
            "p_why": evidence_row(why),
            "p_policy": self._policy,
            "p_restart": restart,
        }
        transition = await self._rpc.ask(Transition, "apply_verdict", arguments)
        _log_refusal(transition, sighting.instance.id)
        return transition

    async def tell_unverified(self, sightings: list[Sighting], *, run: UUID) -> Silence:
        """Tell users of lines about which nobody could find out anything for long, but for lines silent together."""
        arguments = {
            "p_sightings": [sighting_row(each) for each in sightings],
            "p_texts": TEXTS,
            "p_run": str(run),
            "p_policy": self._policy,
        }
        silence = await self._rpc.ask(Silence, "tell_unverified", arguments)
        for line in silence.told:
            _log_refusal(line, line.instance_id)
        return silence

    async def draw_witnesses(
        self, limit: int, *, degraded_since: datetime, but_not: set[UUID], asleep: Sequence[UUID] = ()
    ) -> list[Witness]:
        """Draw lines of the fleet that are up, at random, whoever holds them.

        Args:
            limit: At most so many.
            degraded_since: A line degraded since then is up, too.
            but_not: Lines that are about to be acted on.
            asleep: Companies whose lines are left alone.
        """
        arguments = {
            "p_limit": limit,
            "p_degraded_since": degraded_since.isoformat(),
            "p_but_not": [str(each) for each in but_not],
            "p_asleep": [str(each) for each in asleep],
        }
        drawn = read_list("draw_witnesses", await self._rpc.call("draw_witnesses", arguments))
        return [read_answer(Witness, "draw_witnesses", each) for each in drawn]

    async def count_up(self, most: int, *, degraded_since: datetime, asleep: Sequence[UUID] = ()) -> int:
        """Count the fleet's lines that are up, as ``draw_witnesses`` means it.

        Args:
            most: No further than this.
            degraded_since: A line degraded since then is up, too.
            asleep: Companies whose lines are left alone.
        """
        arguments = {
            "p_most": most,
            "p_degraded_since": degraded_since.isoformat(),
            "p_asleep": [str(each) for each in asleep],
        }
        return read_count("count_up", await self._rpc.call("count_up", arguments))

    async def claim_canary(self, instance: UUID | None, *, began: datetime, lease: timedelta) -> CanaryClaim:
        """Take the right to send the fleet's one canary, or learn of another sweep's.

        Args:
            instance: Which line; None only asks.
            began: When this sweep did: a canary that recovered since frees it.
            lease: After this a canary without a result was cut off.
        """
        arguments = {
            "p_instance": str(instance) if instance else None,
            "p_began": began.isoformat(),
            "p_lease": interval(lease),
        }
        return await self._rpc.ask(CanaryClaim, "claim_canary", arguments)

    async def end_canary(self, instance: UUID, *, recovered: bool) -> None:
        """Leave a canary's result to every sweep."""
        await self._rpc.call("end_canary", {"p_instance": str(instance), "p_recovered": recovered})

    async def enter_brake(self) -> bool:
        """Note that the brake is on.

        Returns:
            Whether this was the first to note it since it was last off.
        """
        return await self._rpc.call("enter_brake", {}) is True

    async def finish_sweep(
        self,
        run: UUID,
        *,
        due_before: datetime,
        checked: int,
        observations: Mapping[Observation, int],
        outcomes: Mapping[str, int],
        braked: bool,
        looked_at_up: int,
        given_back: int,
        device_answered: bool,
        is_helper: bool,
        took: timedelta,
        after: Batch | None,
        asleep: Sequence[UUID],
    ) -> SweepEnd:
        """Complete the run row.

        Args:
            run: Of ``begin_sweep``.
            due_before: As the sweep has claimed.
            checked: Lines looked at.
            observations: Of them.
            outcomes: What was done.
            braked: The brake was on.
            looked_at_up: Lines looked at that were up: with one of them and no brake, a brake of before ends.
            given_back: Lines that it claimed and did not finish.
            device_answered: The deep probe told something of a line.
            is_helper: It shared another sweep's work: that nobody could find out anything counts once.
            took: The sweep.
            after: Its last batch: what lies behind it is left.
            asleep: Companies whose lines are left alone.
        """
        arguments = {
            "p_run": str(run),
            "p_due_before": due_before.isoformat(),
            "p_checked": checked,
            "p_observations": dict(observations),
            "p_outcomes": dict(outcomes),
            "p_braked": braked,
            "p_looked_at_up": looked_at_up,
            "p_given_back": given_back,
            "p_device_answered": device_answered,
            "p_is_helper": is_helper,
            "p_took_ms": round(took.total_seconds() * 1000),
            "p_after_check": after.after_check if after else None,
            "p_after_id": str(after.after_id) if after and after.after_id else None,
            "p_asleep": [str(each) for each in asleep],
        }
        return await self._rpc.ask(SweepEnd, "finish_sweep", arguments)

    async def purge_history(self, retention: Retention, *, limit: int, after: Purged | None = None) -> Purged | None:
        """Delete a little of what is past its retention.

        Args:
            retention: How long what is kept is kept.
            limit: Rows of each kind.
            after: The step before.

        Returns:
            None when somebody else is at it.
        """
        arguments = {
            "p_limit": limit,
            "p_bodies": interval(retention.bodies),
            "p_inbox": interval(retention.inbox),
            "p_audit": interval(retention.audit),
            "p_runs": interval(retention.runs),
            "p_bodies_from": after.bodies_until.isoformat() if after and after.bodies_until else None,
        }
        return await self._rpc.ask_if_any(Purged, "purge_history", arguments)

    async def retry_notices(self, *, limit: int) -> Retried:
        """Try again what the platform's table refused."""
        arguments = {"p_texts": TEXTS, "p_limit": limit, "p_policy": self._policy}
        return await self._rpc.ask(Retried, "retry_notices", arguments)

    async def tell_what_is_due(self, *, limit: int) -> Told:
        """Tell what waited, of so many lines: "voltou", falls that last, reminders, what the bound held back."""
        arguments = {"p_texts": TEXTS, "p_limit": limit, "p_policy": self._policy}
        told = await self._rpc.ask(Told, "tell_what_is_due", arguments)
        for line in told.lines:
            _log_refusal(line, line.instance_id)
        return told

    # Events

    async def find_late_clock(self) -> timedelta | None:
        """By how much the provider's clock is late, as disconnections show; None when it is not."""
        clock = await self._rpc.ask_if_any(LateClock, "find_late_clock", {"p_policy": self._policy})
        return timedelta(seconds=clock.late_seconds) if clock else None

    async def receive_event(
        self, event: Event, *, relay: bool = False, relay_now: bool = False, alone: bool = False
    ) -> Intake:
        """Keep an event once and give it its effect.

        Args:
            event: Parsed.
            relay: Mark it as one to forward.
            relay_now: And take the line's turn to forward, if it is free.
            alone: At once, not with others: one of them may be the trouble. And wait for locks for longer.
        """
        row = event_row(event, relay=relay, relay_limit=EVENTS_A_TURN if relay_now else 0)
        arrival = Arrival(event.external_id or "", len(event.body), row)
        if alone:
            return (await self._receive_events([arrival], patience=PATIENCE_ALONE))[0]
        return await self._batches.keep(arrival)

    async def settle_event(
        self,
        event_id: int,
        look: Look,
        *,
        external_id: str,
        looked_at: datetime,
        token_hash: str | None,
        alone: bool = False,
    ) -> Intake:
        """End an event that had to be looked into with what one look showed.

        Args:
            event_id: A disconnection, or a connection that does not say whose.
            look: What was found.
            external_id: The line's.
            looked_at: When the look began.
            token_hash: Of the token that was looked with; None when nobody looked.
            alone: As in ``receive_event``.
        """
        settling = Arrival(external_id, 0, settlement_row(event_id, look, looked_at=looked_at, token_hash=token_hash))
        if alone:
            return (await self._settle_events([settling], patience=PATIENCE_ALONE))[0]
        return await self._settlements.keep(settling)

    async def _receive_events(
        self, arrivals: Sequence[Arrival], *, patience: timedelta = PATIENCE_FOR_LOCKS
    ) -> list[Intake]:
        arguments = {"p_events": [each.row for each in arrivals], "p_relay_turn": interval(RELAY_TURN)}
        return await self._take_in("receive_events", arguments, len(arrivals), patience)

    async def _settle_events(
        self, settlings: Sequence[Arrival], *, patience: timedelta = PATIENCE_FOR_LOCKS
    ) -> list[Intake]:
        arguments = {"p_settlements": [each.row for each in settlings]}
        return await self._take_in("settle_events", arguments, len(settlings), patience)

    async def _take_in(
        self, operation: str, arguments: dict[str, Any], count: int, patience: timedelta
    ) -> list[Intake]:
        arguments |= {
            "p_texts": EVENT_TEXTS,
            "p_policy": self._policy,
            "p_patience": interval(patience),
        }
        intakes = await self._rpc.call(operation, arguments)
        if not isinstance(intakes, list) or len(intakes) != count:
            raise not_an_answer(operation)
        read = [read_answer(Intake, operation, each) for each in intakes]
        for intake in read:
            _log_refusal(intake, intake.instance_id)
        return read

    async def keep_rejected(self, key: str, body: str, reason: str, *, per_hour: int) -> bool:
        """Keep a body that is no event, for an operator to see; False when there were too many in this hour."""
        arguments = {
            "p_event_key": key,
            "p_external_id": None,
            "p_body": body,
            "p_reason": reason,
            "p_per_hour": per_hour,
        }
        return bool(await self._rpc.call("keep_rejected", arguments))


def _log_refusal(notified: Notified, instance: UUID | None) -> None:
    """Say it once: when the platform's table begins to refuse notices with this SQLSTATE."""
    if notified.refusal_begins:
        logs.error("notice.refused", instance=instance, sqlstate=notified.sqlstate, refused=notified.refused)


def connect(url: str, key: SecretStr, http: httpx.AsyncClient, policy: Policy) -> Store:
    """A store over one shared HTTP client."""
    return Store(supabase_client(url, key, http), policy)

"""What crosses to SQL in one piece: rows of its composite types, as JSON."""

from __future__ import annotations

from dataclasses import fields
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final

from shared.core.event import Message
from shared.core.previews import preview

if TYPE_CHECKING:
    from datetime import datetime

    from shared.core.event import Event
    from shared.core.look import Look
    from shared.core.model import Evidence, Sighting
    from shared.core.policy import DeliveryPolicy, Policy

POLICY_FIELDS: Final = (
    "restart_cooldown",
    "attempts_reset",
    "reopen_within",
    "event_slack",
    "event_ahead",
    "event_reach",
    "stale_after",
    "restart_quiet",
    "life_kept_each",
    "notice_waits",
    "counted_within",
    "falls_told",
    "back_after",
    "stable_after",
    "lasting_after",
    "notices_most",
    "reminder_waits",
    "reminder_each",
    "joined_seen_each",
    "tell_again_after",
    "pairing",
    "silent_after",
    "silent_together",
    "silent_share",
    "mass_within",
    "mass_lines",
    "mass_share",
    "runs_together",
    "clock_late_within",
    "clock_late_lines",
    "clock_late_slack",
)
"""Of the policy, what SQL functions need: the fields of the type ``recovery_policy``."""


def interval(length: timedelta) -> str:
    """As PostgreSQL reads one."""
    return f"{length.total_seconds()} seconds"


def policy_row(policy: Policy) -> dict[str, Any]:
    """The SQL type ``recovery_policy``: its fields are the policy's of the same names."""
    return {name: _written(getattr(policy, name)) for name in POLICY_FIELDS}


def delivery_policy_row(policy: DeliveryPolicy) -> dict[str, Any]:
    """The SQL type ``delivery_policy``: its fields are the policy's, all of them."""
    return {each.name: _written(getattr(policy, each.name)) for each in fields(policy)}


def _written(value: object) -> object:
    match value:
        case timedelta():
            return interval(value)
        case tuple():
            return [_written(each) for each in value]
        case _:
            return value


def sighting_row(sighting: Sighting, *, finished: bool = True) -> dict[str, Any]:
    """The SQL type ``sighting``: a look and the preconditions of what follows; SQL applies it only if all hold."""
    instance = sighting.instance
    return {
        "instance_id": str(instance.id),
        "external_id": instance.external_id,
        "token_hash": instance.token_hash,
        "raw_status": instance.raw_status,
        "lease": instance.lease.isoformat(),
        "last_health_check": instance.last_health_check.isoformat() if instance.last_health_check else None,
        "looked_at": sighting.looked_at.isoformat(),
        "observation": sighting.concluded if sighting.found else None,
        "cause": sighting.cause,
        "phone": sighting.new_phone,
        "unknown_looks": sighting.unknown_looks,
        "is_finished": finished and sighting.found is not None,
    }


def evidence_row(why: Evidence) -> dict[str, Any]:
    """The SQL type ``evidence``."""
    return {
        "source": why.source,
        "reason": why.reason,
        "observation": why.observation,
        "cause": why.cause,
        "event_id": why.event_id,
        "run_id": str(why.run) if why.run else None,
    }


def event_row(event: Event, *, relay: bool, relay_limit: int) -> dict[str, Any]:
    """The SQL type ``webhook_event``.

    Args:
        event: Parsed.
        relay: It is to be forwarded.
        relay_limit: With how many events to take the line's turn to forward; 0 takes none.
    """
    return {
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
        "relay": relay,
        "relay_limit": relay_limit,
    }


def settlement_row(event_id: int, look: Look, *, looked_at: datetime, token_hash: str | None) -> dict[str, Any]:
    """The SQL type ``settlement``."""
    return {
        "event_id": event_id,
        "token_hash": token_hash,
        "observation": look.observation,
        "cause": look.cause,
        "looked_at": looked_at.isoformat(),
    }


def _change_row(event: Event) -> dict[str, Any] | None:
    if event.change is None:
        return None
    row = event.change.model_dump(mode="json", exclude_none=True)
    if isinstance(event.change, Message):
        row["metadata"]["preview"] = preview(event.change)
    return row

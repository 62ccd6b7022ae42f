"""What our SQL functions take in one piece, for tests that call them without Python between."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from psycopg.types.json import Jsonb

from shared.core.notices import TEXTS
from shared.core.policy import Policy
from shared.database.composites import policy_row

if TYPE_CHECKING:
    from world import Line, World

POLICY_ROW = Jsonb(policy_row(Policy()))
POLICY = "jsonb_populate_record(null::public.recovery_policy, %(policy)s)"
SIGHTING = "jsonb_populate_record(null::public.sighting, %(sighting)s)"
EVIDENCE = "jsonb_populate_record(null::public.evidence, %(evidence)s)"


def sighting_of(claimed: dict[str, Any], observation: str, *, looked_at: str) -> Jsonb:
    """A look at a line as ``claim_instances`` answered it."""
    return Jsonb(
        {name: claimed[name] for name in ("external_id", "token_hash", "raw_status", "last_health_check")}
        | {"instance_id": claimed["id"], "lease": str(claimed["lease"]), "looked_at": looked_at}
        | {"observation": observation, "cause": "told", "unknown_looks": 0, "is_finished": True}
    )


def evidence(observation: str) -> Jsonb:
    """Why a sweep acts."""
    return Jsonb({"source": "sweep", "reason": observation.lower(), "observation": observation, "cause": "told"})


def arguments(claimed: dict[str, Any], observation: str, *, looked_at: str = "now") -> dict[str, Jsonb]:
    """Named arguments for a query that holds ``SIGHTING``, ``EVIDENCE`` or ``POLICY``."""
    return {
        "sighting": sighting_of(claimed, observation, looked_at=looked_at),
        "evidence": evidence(observation),
        "policy": POLICY_ROW,
    }


def mark_down(world: World, line: Line, *, since: timedelta = timedelta(0)) -> None:
    """A line that a sweep has marked, and whose users were told."""
    world.database.execute(
        "select public.take_instance_down(i, public.lock_health(i.id), 'disconnected', now() - %(since)s, now() - %(since)s,"
        f" 'sweep', 'disconnected', %(texts)s, {EVIDENCE}, {POLICY}) from public.wapi_instances i where id = %(line)s",
        {"since": since, "texts": Jsonb(TEXTS), "line": line.id}
        | {"evidence": evidence("DISCONNECTED"), "policy": POLICY_ROW},
    )

"""What our SQL functions take in one piece, for tests that call them without Python between."""

from __future__ import annotations

from typing import Any

from psycopg.types.json import Jsonb

from shared.core.policy import Policy
from shared.database.store import _policy_row

POLICY_ROW = Jsonb(_policy_row(Policy()))
POLICY = "jsonb_populate_record(null::public.recovery_policy, %(policy)s)"
SIGHTING = "jsonb_populate_record(null::public.sighting, %(sighting)s)"
EVIDENCE = "jsonb_populate_record(null::public.evidence, %(evidence)s)"


def sighting_of(claimed: dict[str, Any], observation: str, *, looked_at: str) -> Jsonb:
    """A look at a line as ``claim_instances`` answered it."""
    return Jsonb(
        {name: claimed[name] for name in ("external_id", "token_hash", "raw_status")}
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

"""A line that falls and comes back on a clock that the test brings, and sweeps that tell what waits."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from composites import EVIDENCE, POLICY, POLICY_ROW, evidence
from psycopg.types.json import Jsonb

from shared.core.notices import TEXTS

if TYPE_CHECKING:
    from uuid import UUID

    from world import Line, World

BEGAN = datetime(2026, 3, 2, 12, tzinfo=UTC)
MINUTE = timedelta(minutes=1)


@dataclass
class Told:
    """One line, and what its people hear of it; moments are minutes since the beginning.

    What the sweep and the webhook would find is brought: ``falls`` and ``rises`` call what they call. ``sweeps`` is the
    chore that follows each sweep.
    """

    world: World
    line: Line
    down: list[tuple[float, float]] = field(default_factory=list)

    def falls(self, at: float, *, text: str | None = "disconnected", dead_since: float | None = None) -> dict[str, Any]:
        since = at if dead_since is None else dead_since
        return self._call(
            "select public.take_instance_down(i, public.lock_health(i.id), %(to)s, %(since)s, %(since)s, 'sweep', %(text)s,"
            f" %(texts)s, {EVIDENCE}, {POLICY}, %(now)s) as answer from public.wapi_instances i where i.id = %(line)s",
            at,
            "DISCONNECTED",
            text=text,
            to="degraded" if text is None else "disconnected",
            since=moment(since),
        )

    def rises(self, at: float, *, as_: str = "alive") -> dict[str, Any]:
        return self._call(
            f"select public.bring_instance_back(i, %(now)s, %(as)s, %(texts)s, {EVIDENCE}, {POLICY}, %(now)s) as answer"
            " from public.wapi_instances i where i.id = %(line)s",
            at,
            "ALIVE",
            **{"as": as_},
        )

    def sweeps(self, at: float) -> dict[str, Any]:
        return self._call(f"select public.tell_what_is_due(%(texts)s, 100, {POLICY}, %(now)s) as answer", at, "ALIVE")

    def sweeps_until(self, begin: float, end: float, *, each: float = 5) -> None:
        while begin <= end:
            self.sweeps(begin)
            begin += each

    def _call(self, query: str, at: float, observation: str, **arguments: Any) -> dict[str, Any]:
        [row] = self.world.database.execute(
            query,
            {
                "now": moment(at), "line": self.line.id, "texts": Jsonb(TEXTS), "policy": POLICY_ROW,
                "evidence": evidence(observation), **arguments,
            },
        ).fetchall()  # fmt: skip
        return dict(row["answer"])

    def heard(self, user: UUID | None = None) -> list[tuple[float, str]]:
        """When which kinds were told, to one user or to the only one."""
        rows = self.world.sql(
            "select n.told_at, n.kind from public.notices n join public.notifications b on b.id = n.notification_id"
            " where n.instance_id = %s and (%s::uuid is null or n.user_id = %s) and n.state = 'sent' order by n.told_at, n.id",
            self.line.id, user, user,
        )  # fmt: skip
        return [(minutes(row["told_at"]), row["kind"]) for row in rows]

    def messages(self, user: UUID) -> list[str]:
        rows = self.world.sql(
            "select message from public.notifications where user_id = %s order by created_at, type", user
        )
        return [row["message"] for row in rows]


def moment(at: float) -> datetime:
    return BEGAN + at * MINUTE


def minutes(at: datetime) -> float:
    passed = (at - BEGAN) / MINUTE
    return int(passed) if passed == int(passed) else passed

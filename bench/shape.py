"""The shape of the database's work: flat at any size of the fleet, one write a healthy line, steady under a snapshot."""

from __future__ import annotations

import statistics
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Self

import psycopg
from psycopg.types.json import Jsonb

from bench.platform import STATISTICS_SECONDS
from bench.result import Result, at_most, shown
from dev.stack import Stack
from shared.core.policy import Policy
from shared.database.composites import policy_row

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import TracebackType

    from bench.platform import Platform

BATCH = 500
LINES_A_COMPANY = 10
PURGED = 500
"""Rows of each kind that one step of the purge deletes."""
SPREAD = 1.15
SETTLING_SWEEPS = 2
ROUNDS = 12
SNAPSHOT_LINES = 10_000
SNAPSHOT_SWEEPS = 100
GROWTH_UNDER_A_SNAPSHOT = 1.5
AT_EACH_END = 5
"""So many of the first sweeps are compared with so many of the last."""
MEMORY = {"shared_buffers": "3GB", "max_wal_size": "8GB", "checkpoint_timeout": "1h"}
"""The same for every size, and enough for the largest: the work is measured, not the disk."""
POLICY = policy_row(Policy())
WRITES = ("n_tup_ins", "n_tup_upd", "n_tup_hot_upd")


@dataclass
class Fleet:
    """A stack of its own with so many healthy lines, swept over one connection by its functions alone.

    Attributes:
        lines: How many.
        took: Milliseconds of each call since it was last emptied, by function; ``first claim`` apart.
    """

    lines: int
    took: dict[str, list[float]] = field(default_factory=dict)

    def __enter__(self) -> Self:
        self._undo = ExitStack()
        try:
            self._stack = self._undo.enter_context(Stack.start(seed=False))
            with psycopg.connect(self._stack.database_url, autocommit=True) as connection:
                for name, setting in MEMORY.items():
                    connection.execute(f"alter system set {name} = '{setting}'")
            self._stack.restart_postgres()
            self.database = self._undo.enter_context(self.connect())
            self._fill()
        except BaseException:
            self._undo.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._undo.close()

    def connect(self) -> psycopg.Connection:
        """One more connection."""
        return psycopg.connect(self._stack.database_url, autocommit=True)

    def _fill(self) -> None:
        """Rows as long as a platform's, a history of the fleet's size, and some sweeps of all of it."""
        companies = self.lines // LINES_A_COMPANY
        self.database.execute(
            "insert into public.companies (id, name) select gen_random_uuid(), 'Empresa ' || n from generate_series(1, %s) n",
            (companies,),
        )
        self.database.execute(
            """
            insert into public.wapi_instances
              (user_id, company_id, unit, instance_id, instance_token, status, phone_number, connected_at)
            select gen_random_uuid(), c.id, 'Unidade Centro ' || n,
              'LITE-' || upper(substr(md5(n::text), 1, 6)) || '-' || lpad(upper(to_hex(n)), 6, '0'),
              md5('token' || n) || md5(n::text), 'connected', '55119' || lpad(n::text, 8, '0'), now() - interval '30 days'
            from generate_series(1, %s) n
            join (select id, row_number() over () as r from public.companies) c on c.r = n %% %s + 1
            """,
            (self.lines, companies),
        )
        self.database.execute(
            """
            insert into public.wapi_webhook_events
              (event_key, received_at, external_id, instance_id, event, kind, moment, body, outcome, processed_at)
            select md5(id::text || n), now() - interval '6 days' * (1 - place::float8 / (2 * total)), instance_id, id,
              'webhookReceived', 'message', now(), case when place > total then repeat('{"a": "b"}', 40) end, 'applied', now()
            from (
              select i.id, i.instance_id, n, row_number() over () as place, (count(*) over ()) / 2 as total
              from public.wapi_instances i, generate_series(0, 1) n
            ) i order by place
            """
        )
        self.database.execute(
            """
            insert into public.instance_events (instance_id, external_id, company_id, unit, kind, source, at)
            select id, instance_id, company_id, unit, 'status_changed', 'sweep',
              now() - interval '80 days' * (1 - (row_number() over ())::float8 / count(*) over ())
            from public.wapi_instances
            """
        )
        self.database.execute(
            """
            insert into public.instance_outages
              (instance_id, company_id, started_at, life_counts_from, opened_by, reason, closed_at, closed_as)
            select id, company_id, now() - interval '9 days', now(), 'sweep', 'disconnected',
              case when n > 0 then now() - interval '8 days' end, case when n > 0 then 'alive' end
            from (select *, row_number() over () %% 50 as n from public.wapi_instances) i
            """.replace("%%", "%")
        )
        self.database.execute("vacuum analyze")
        for _ in range(SETTLING_SWEEPS):
            self.sweep()
        self.database.execute("vacuum analyze")

    def call(self, what: str, statement: str, *arguments: object) -> Any:  # noqa: ANN401 - JSON
        """One call of a function; notes its time."""
        began = time.perf_counter()
        row = self.database.execute(statement, arguments, prepare=True).fetchone()
        self.took.setdefault(what, []).append((time.perf_counter() - began) * 1000)
        return row[0] if row else None

    def sweep(self, *, lines: int | None = None) -> float:
        """Claim and record in batches until nothing is due, and finish; return the sum in ms.

        Args:
            lines: Only so many are due, those that were looked at longest ago; None = all.
        """
        self.took = {}
        began = self.database.execute(
            DUE_BEFORE if lines else "select clock_timestamp()", [lines] if lines else []
        ).fetchone()
        run = self.database.execute("select public.begin_sweep() ->> 'run_id'").fetchone()
        assert began is not None  # noqa: S101 - for the type checker
        assert run is not None  # noqa: S101 - for the type checker
        after: tuple[object, object] = (None, None)
        done = looked = 0
        while True:
            batch = self.call(
                "claim" if done else "first claim",
                "select public.claim_instances(%s, interval '10 minutes', 500, %s::timestamptz, %s::uuid)",
                began[0], *after,
            )  # fmt: skip
            if not batch["instances"]:
                self.took.get("claim", [0.0]).pop()  # found nothing
                break
            after = (batch["after_check"], batch["after_id"])
            found = self.call("record", RECORD, Jsonb(sightings(batch)), Jsonb(POLICY))
            if found != len(batch["instances"]):
                raise AssertionError(f"{found} of {len(batch['instances'])} looks recorded")
            done += 1
            looked += found
        finished = self.call("finish", FINISH, run[0], began[0], looked, looked, *after)
        if looked != (lines or self.lines) or finished["left"]:
            raise AssertionError(f"{looked} of {lines or self.lines} lines looked at, {finished['left']} left")
        return sum(sum(each) for each in self.took.values())

    def draw(self) -> None:
        """Draw twenty witnesses."""
        drawn = self.call("draw", "select public.draw_witnesses(20, now() - interval '30 minutes')")
        if len(drawn) != 20:  # noqa: PLR2004
            raise AssertionError(f"{len(drawn)} witnesses drawn")

    def purge(self) -> None:
        """One step of the purge, with as much to do as it takes: the oldest rows are past their time."""
        row = self.database.execute(OLDEST, (PURGED, PURGED, PURGED)).fetchone()
        assert row is not None  # noqa: S101 - for the type checker
        gone = self.call("purge", PURGE, PURGED, *row)
        if [gone["rows"][kind] for kind in ("bodies", "inbox", "audit")] != [PURGED] * 3:
            raise AssertionError(f"purged {gone}")

    def writes(self) -> dict[str, dict[str, int]]:
        """Writes so far, of the two tables that a healthy sweep writes."""
        self.database.execute("select pg_stat_force_next_flush()")
        time.sleep(STATISTICS_SECONDS)
        rows = self.database.execute(
            "select relname, n_tup_ins, n_tup_upd, n_tup_hot_upd from pg_catalog.pg_stat_user_tables"
            " where relname in ('wapi_instances', 'instance_health')"
        )
        return {row[0]: dict(zip(WRITES, row[1:], strict=True)) for row in rows}

    def wal(self) -> int:
        """Bytes of write-ahead log so far."""
        row = self.database.execute("select pg_wal_lsn_diff(pg_current_wal_insert_lsn(), '0/0')::bigint").fetchone()
        return int(row[0]) if row else 0


DUE_BEFORE = """
    select max(last_check) from (
      select coalesce(last_health_check, timestamptz '-infinity') as last_check from public.wapi_instances
      where is_active is not false and lower(replace(coalesce(provider, 'wapi'), '-', '')) = 'wapi'
      order by 1 limit %s) oldest
"""
RECORD = """
    select public.record_looks(
      array(select jsonb_populate_recordset(null::public.sighting, %s)),
      jsonb_populate_record(null::public.recovery_policy, %s), p_now => clock_timestamp())
"""
OLDEST = """
    select
      now() - (select received_at from public.wapi_webhook_events where body is not null order by received_at offset %s limit 1),
      now() - (select received_at from public.wapi_webhook_events order by received_at offset %s limit 1),
      now() - (select at from public.instance_events order by at offset %s limit 1),
      now()
"""
PURGE = "select public.purge_history(%s, %s, %s, %s, interval '30 days', p_now => %s)"
FINISH = (
    "select public.finish_sweep(p_run => %s, p_due_before => %s, p_checked => %s, p_observations => '{\"ALIVE\": 1}',"
    " p_outcomes => '{}', p_braked => false, p_looked_at_up => %s, p_given_back => 0, p_device_answered => true,"
    " p_is_helper => false, p_took_ms => 1, p_after_check => %s::timestamptz, p_after_id => %s::uuid)"
)


def sightings(batch: dict[str, Any]) -> list[dict[str, Any]]:
    """Every claimed line, found alive."""
    claimed = ("external_id", "token_hash", "raw_status", "lease", "last_health_check")
    found = {"looked_at": batch["now"], "observation": "ALIVE", "cause": "phone", "unknown_looks": 0}
    return [
        {"instance_id": line["id"], **{name: line[name] for name in claimed}, **found, "is_finished": True}
        for line in batch["instances"]
    ]


def shape(_: Platform, *, quick: bool) -> Iterator[Result]:
    """Time of each function at two sizes, writes a line, growth under an open snapshot."""
    small_lines, large_lines = (5_000, 50_000) if quick else (10_000, 1_000_000)
    with Fleet(small_lines) as small:
        with Fleet(large_lines) as large:
            yield from flatness(small, large, rounds=4 if quick else ROUNDS)
        yield from writes_a_line(small)
        if not quick:
            yield from under_a_snapshot(small, sweeps=SNAPSHOT_SWEEPS)


def flatness(small: Fleet, large: Fleet, *, rounds: int) -> Iterator[Result]:
    """Both sizes in turn, so that what else the machine does meets both."""
    names = ("first claim", "claim", "record", "finish", "draw", "purge")
    samples: dict[str, tuple[list[float], list[float]]] = {name: ([], []) for name in names}
    swept = small.lines // 2
    for _ in range(rounds):
        for fleet, side in ((small, 0), (large, 1)):
            # As after each sweep of a whole fleet: autovacuum counts what is dead against the table's size.
            fleet.database.execute("vacuum (index_cleanup on) public.wapi_instances, public.instance_health")
            fleet.sweep(lines=swept)
            tasks: tuple[Callable[[], None], ...] = (fleet.draw, fleet.draw, fleet.purge)
            for task in tasks:
                task()
            for name in names:
                samples[name][side].extend(fleet.took[name])
    for name in names:
        at_small, at_large = (statistics.median(each) for each in samples[name])
        yield at_most(
            f"database time at {large.lines:,} lines, beside {small.lines:,}",
            {"finish": "finish", "draw": "20 witnesses", "purge": f"purge of {PURGED} of each kind"}.get(name, f"{name} of {BATCH}"),
            at_large, at_small, SPREAD, unit="ms", samples=samples[name][1],
        )  # fmt: skip


def writes_a_line(fleet: Fleet) -> Iterator[Result]:
    """Row writes and log of one sweep of healthy lines."""
    group = f"writes of a healthy line and sweep, {fleet.lines:,} lines"
    fleet.database.execute("vacuum")
    fleet.sweep()
    writes, log = fleet.writes(), fleet.wal()
    fleet.sweep()
    log = fleet.wal() - log
    after = fleet.writes()
    wanted = {
        ("wapi_instances", "n_tup_upd"): 1,
        ("instance_health", "n_tup_upd"): 2,
        ("instance_health", "n_tup_hot_upd"): 2,
    }
    for (table, kind), goal in wanted.items():
        value = (after[table][kind] - writes[table][kind]) / fleet.lines
        what = f"{table}: {'HOT updates' if 'hot' in kind else 'updates'}"
        yield Result(group, what, value, "", None, value, f"= {goal}", value == goal)
    yield shown(group, "write-ahead log", log / fleet.lines, unit="bytes")


def under_a_snapshot(fleet: Fleet, *, sweeps: int) -> Iterator[Result]:
    """A backup or a report holds a snapshot: no version of a row can go until it ends."""
    with fleet.connect() as reader, reader.transaction():
        reader.execute("set transaction isolation level repeatable read")
        reader.execute("select count(*) from public.companies")
        took = [fleet.sweep() for _ in range(sweeps)]
    yield at_most(
        f"a snapshot is open for {sweeps} sweeps, {fleet.lines:,} lines",
        f"database time of the last {AT_EACH_END} sweeps, beside the first",
        statistics.median(took[-AT_EACH_END:]), statistics.median(took[:AT_EACH_END]), GROWTH_UNDER_A_SNAPSHOT,
        unit="ms", samples=took,
    )  # fmt: skip

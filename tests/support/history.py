"""What a history needs to be judged: snapshots of every table, the provider's own counts, and a clock of its own.

``world.pass_time`` moves every stored instant into the past, so instants of two snapshots are compared on the
history's clock: stored time + what has passed.
"""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any

from world import HEALTH

if TYPE_CHECKING:
    from collections.abc import Callable

    from world import World

Row = dict[str, Any]

OPEN = None
UP = ("connected", "degraded")


@dataclass(frozen=True)
class Snapshot:
    """Every row of every table of ``public`` at one instant, and what the provider says of its lines then.

    Attributes:
        now: The database's clock.
        passed: How far the history's clock was ahead of the machine's.
        tables: Rows by table; uuids are text, instants are aware datetimes.
        provider: The simulator's lines by external id: session, faults, ``calls`` counted by itself.
    """

    now: datetime
    passed: timedelta
    tables: dict[str, list[Row]]
    provider: dict[str, dict[str, Any]]

    @cached_property
    def lines(self) -> dict[str, Row]:
        """The platform's rows with our bookkeeping of them."""
        kept = {row["instance_id"]: {name: row[name] for name in HEALTH} for row in self.tables["instance_health"]}
        return {row["id"]: row | kept.get(row["id"], HEALTH) for row in self.tables["wapi_instances"]}

    @cached_property
    def outages(self) -> dict[str, Row]:
        return {row["id"]: row for row in self.tables["instance_outages"]}

    @cached_property
    def audit(self) -> list[Row]:
        return sorted(self.tables["instance_events"], key=lambda row: row["id"])

    @cached_property
    def members(self) -> set[tuple[str, str]]:
        return {(row["company_id"], row["user_id"]) for row in self.tables["user_companies"]}

    @cached_property
    def asleep(self) -> set[str]:
        """Lines of companies that are not active."""
        companies = {row["id"] for row in self.tables["companies"] if row["is_active"] is False}
        return {line for line, row in self.lines.items() if row["company_id"] in companies}

    @cached_property
    def open_outages(self) -> dict[str, Row]:
        return {row["instance_id"]: row for row in self.outages.values() if row["closed_at"] is OPEN}

    def bells(self, outage: str, kind: str) -> list[Row]:
        rows = self.tables["notifications"]
        return [row for row in rows if row["data"].get("outage_id") == outage and row["type"] == kind]

    def calls(self, external_id: str, call: str) -> int:
        return self.provider.get(external_id, {}).get("calls", {}).get(call, 0)

    def at(self, instant: datetime | None) -> datetime | None:
        """An instant of this snapshot on the history's clock."""
        return None if instant is None else instant + self.passed


@dataclass
class Step:
    """What the test knows about the step that is judged; a test that knows nothing leaves it empty.

    Lines are named by our uuid.

    Attributes:
        blind: The provider told nothing usable about them, from the first to the last moment.
        alive: They answered every question with life, all the time.
        not_alive: No answer about them was life: the blind ones among others.
        spoken: An event that may have an effect came about them.
        claimed: They said connected while their device could not answer, all the time.
        maybe_silent: Nobody could find out anything about them for so long that a sweep may tell so.
        disturbed: The platform's people wrote their rows meanwhile.
        sweeps: How many sweeps ran to their end.
        cut: A sweep was cut off.
        known_alive: Since when the row itself knew of a sign of life that came in this step.
        overruled: Since when the platform's screen had changed the status under a sweep's lease.
        paused: Since when a line was paused that was active when the step began.
        stale: Only events older than what the row knew came about them.
        is_duplicate: Nothing but an event that had been answered before.
    """

    blind: set[str] = field(default_factory=set)
    alive: set[str] = field(default_factory=set)
    not_alive: set[str] = field(default_factory=set)
    spoken: set[str] = field(default_factory=set)
    claimed: set[str] = field(default_factory=set)
    maybe_silent: set[str] = field(default_factory=set)
    disturbed: set[str] = field(default_factory=set)
    sweeps: int = 0
    cut: bool = False
    known_alive: dict[str, datetime] = field(default_factory=dict)
    overruled: dict[str, datetime] = field(default_factory=dict)
    paused: dict[str, datetime] = field(default_factory=dict)
    stale: set[str] = field(default_factory=set)
    is_duplicate: bool = False


@dataclass
class Posted:
    """An event that was posted.

    Attributes:
        body: As posted; no other event has the same.
        at: When first, on the history's clock.
        answered: How often it was answered 2xx.
        is_one: Whether the same body is the same fact (a connection event without a moment is not).
    """

    body: str
    at: datetime
    answered: int = 0
    is_one: bool = True


class History:
    """The record of one history, independent of what our code reports.

    A test makes one when its world is set up, lets things happen, and calls ``check_invariants(world, history)``; each
    call judges what has happened since the one before. What the test itself writes is taken in with ``absorb``.

    Args:
        world: Whose.
        logs: What our code has logged so far, all of it.
    """

    def __init__(self, world: World, *, logs: Callable[[], str] = str) -> None:
        self._world = world
        self._logs = logs
        self._columns = _columns(world)
        self._read = _reading(self._columns)
        self._seen_restarts: set[tuple[str, float]] = set()
        self._log_read = 0
        self.passed = timedelta(0)
        self.restarts: dict[str, list[datetime]] = {}
        self.requests: dict[str, list[datetime]] = {}
        self.secrets: set[str] = {world.stack.service_role_key, world.stack.jwt_secret}
        self.new_logs = ""
        self.posted: list[Posted] = []
        self.step = Step()
        self.member_since: dict[tuple[str, str], datetime] = {}
        self.ever_paused: set[str] = set()
        self.owners: dict[str, set[str]] = {}
        self.before = self.after = self._take()

    def pass_time(self, interval: timedelta) -> None:
        """Let time pass, on the database's clock and on this one."""
        self._note_restarts()
        self._world.pass_time(interval)
        self.passed += interval

    def absorb(self) -> None:
        """Take in what the test, the platform's people or the provider did: our code need not answer for it."""
        self.before = self.after = self._take()
        self.step = Step()

    def look(self) -> None:
        """See what the step has left behind."""
        self.after = self._take()
        self._note_restarts()
        logs = self._logs()
        self.new_logs, self._log_read = logs[self._log_read :], len(logs)

    def close_step(self) -> None:
        """Go on from here."""
        self.before = self.after
        self.step = Step()

    def looked_at(self, external_id: str) -> bool:
        """Whether the provider was asked about a line in this step."""
        return self.after.calls(external_id, "status-instance") > self.before.calls(external_id, "status-instance")

    def new_audit(self, line: str | None = None) -> list[Row]:
        """What the audit says about this step."""
        last = self.before.audit[-1]["id"] if self.before.audit else 0
        return [row for row in self.after.audit if row["id"] > last and line in (None, row["instance_id"])]

    def new_bells(self) -> list[Row]:
        """Notices of this step."""
        known = {row["id"] for row in self.before.tables["notifications"]}
        return [row for row in self.after.tables["notifications"] if row["id"] not in known]

    def _note_restarts(self) -> None:
        """Put the simulator's record of restarts on the history's clock."""
        lines = {row["instance_id"]: row["id"] for row in self._take_lines()}
        for call in self._world.simulator.restarts()["restarts"]:
            key = (call["external_id"], call["started_at"])
            if key not in self._seen_restarts:
                self._seen_restarts.add(key)
                line = lines.get(call["external_id"], call["external_id"])
                at = datetime.fromtimestamp(call["started_at"], tz=self.after.now.tzinfo) + self.passed
                self.restarts.setdefault(line, []).append(at)
                self.requests.setdefault(call["external_id"], []).append(at)

    def _take_lines(self) -> list[Row]:
        return [*self.before.lines.values(), *self.after.lines.values()]

    def _take(self) -> Snapshot:
        [row] = self._world.sql(self._read)
        tables: dict[str, list[Row]] = row["tables"]
        for table, rows in tables.items():
            for each in rows:
                for column in self._columns[table]:
                    each[column] = _moment(each[column], row["now"])
        companies = {each["id"] for each in tables["companies"] if each["is_active"] is False}
        simulator = self._world.simulator
        known = self.after.provider if hasattr(self, "after") else {}
        external_ids = {line["instance_id"] for line in tables["wapi_instances"] if line["instance_id"]} | known.keys()
        told = {line["external_id"]: line for line in simulator.lines()}
        # A line that only we know, or that is gone there, has been asked about all the same.
        provider = {each: told.get(each) or {"calls": simulator.calls(each)} for each in sorted(external_ids)}
        self.ever_paused |= {
            line["id"]
            for line in tables["wapi_instances"]
            if line["is_active"] is False or line["company_id"] in companies
        }
        for line in tables["wapi_instances"]:
            self.owners.setdefault(line["id"], set()).add(line["company_id"])
        members = {(member["company_id"], member["user_id"]) for member in tables["user_companies"]}
        self.member_since = {each: self.member_since.get(each, row["now"] + self.passed) for each in members}
        self.secrets |= {line["instance_token"] for line in tables["wapi_instances"] if line["instance_token"]}
        return Snapshot(row["now"], self.passed, tables, provider)


def _moment(told: str | None, now: datetime) -> datetime | None:
    """An instant; None also for one that cannot be, which people have written."""
    try:
        moment = datetime.fromisoformat(told or "")
    except ValueError:
        return None
    return moment if moment < now + timedelta(days=365) else None


def _columns(world: World) -> dict[str, list[str]]:
    """The tables of ``public`` with their instants, from the catalogue: a table of next year is covered."""
    rows = world.sql(
        "select t.table_name::text as name, coalesce(json_agg(c.column_name) filter (where c.data_type like 'timestamp%%'), '[]') as instants"
        " from information_schema.tables t join information_schema.columns c using (table_schema, table_name)"
        " where t.table_schema = 'public' and t.table_type = 'BASE TABLE' group by 1 order by 1"
    )
    return {row["name"]: row["instants"] for row in rows}


def _reading(tables: dict[str, list[str]]) -> str:
    parts = ", ".join(f"'{name}', (select coalesce(json_agg(x), '[]') from public.{name} x)" for name in tables)
    return f"select clock_timestamp() as now, json_build_object({parts}) as tables"


def as_text(rows: list[Row], *, without: str | None = None) -> str:
    """Rows as one text to search in."""
    return json.dumps([{key: value for key, value in row.items() if key != without} for row in rows], default=str)


def outcomes_of(last: Snapshot) -> Counter[str]:
    """What a history came to, by name, from the tables it leaves."""
    seen: Counter[str] = Counter()
    braked = {run["id"] for run in last.tables["health_check_runs"] if run["braked"]}
    seen["braked sweeps"] += len(braked)
    sent = Counter(row["run_id"] for row in last.audit if row["kind"] == "restart_requested")
    recovered = {row["run_id"] for row in last.audit if row["kind"] == "restart_recovered"}
    for run in braked & sent.keys():
        seen["a canary that recovered" if run in recovered else "a canary that did not"] += 1
    for row in last.audit:
        details, kind, change = row["details"], row["kind"], (row["from_status"], row["to_status"])
        if kind.startswith("restart_"):
            seen[kind.replace("_", " ")] += 1
            seen["restart overtaken"] += bool(details.get("overtaken"))
            seen["restart of a marked line"] += kind == "restart_requested" and details["restarts_in_outage"] > 1
            seen["fourth restart in one outage"] += details.get("restarts_in_outage") == 4
        elif kind == "status_changed":
            seen[f"{change[0] if change[0] in UP else 'disconnected'} to {change[1]}, by {row['source']}"] += 1
            seen["marked although braked"] += row["run_id"] in braked and change[1] == "disconnected"
        else:
            seen[kind.replace("_", " ")] += 1
    for outage in last.outages.values():
        told = "told" if outage["told_at"] else "silent"
        seen[f"{told} outage closed as {outage['closed_as']}"] += 1
        seen[f"a fall told as {outage['told_as']}"] += outage["told_as"] is not None
        seen["outage of before"] += outage["opened_by"] == "adoption"
    for notice in last.tables["notices"]:
        seen[f"notice {notice['kind']}"] += 1
    for bell in last.tables["notifications"]:
        seen[f"bell {bell['type']}"] += 1
        seen["bell about a refused token"] += bell["data"].get("action") == "check_token"
    for event in last.tables["wapi_webhook_events"]:
        seen[f"{event['kind']} taken as {event['outcome']}"] += 1
    return seen

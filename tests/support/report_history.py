"""Made-up histories for the report: single rows, and a month of two companies and more with everything in it."""

from __future__ import annotations

import random
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import Any
from uuid import UUID

from ops.common.rows import Company
from ops.report.history import History
from ops.report.rows import Line, LineEvent, Mute, Outage, Run

NOW = datetime(2026, 11, 26, 17, 42, 10, tzinfo=UTC)
MONTH = timedelta(days=30)
SWEEP = timedelta(minutes=5)


def uuid(number: int) -> UUID:
    return UUID(int=number)


def ago(**length: float) -> datetime:
    return NOW - timedelta(**length)


def company(number: int = 1, name: str | None = "Buffet Alegria") -> Company:
    return Company.model_validate({"id": uuid(number), "name": name})


def line(number: int = 1, **columns: Any) -> Line:
    row = {
        "id": uuid(number),
        "company_id": uuid(1),
        "external_id": f"LITE-AB12CD-{number:06d}",
        "unit": f"Unidade {number}",
        "status": "connected",
        "status_reason": None,
        "phone_number": f"55119{number:08d}",
        "is_active": True,
        "provider": "wapi",
        "created_at": ago(days=200),
        "last_health_check": ago(minutes=2),
        "last_alive_at": ago(minutes=2),
        "last_event_at": None,
    }
    return Line.model_validate(row | columns)


def outage(start: datetime, end: datetime | None = None, *, number: int = 1, id: int = 100, **columns: Any) -> Outage:  # noqa: A002
    row = {
        "id": uuid(id),
        "instance_id": uuid(number),
        "company_id": uuid(1),
        "external_id": f"LITE-AB12CD-{number:06d}",
        "unit": f"Unidade {number}",
        "started_at": start,
        "opened_at": start,
        "opened_by": "sweep",
        "reason": "disconnected",
        "restarts": 0,
        "told_at": None,
        "closed_at": end,
        "closed_as": "alive" if end else None,
    }
    return Outage.model_validate(row | columns)


def mute(since: datetime, end: datetime | None = None, *, number: int = 1, id: int = 900, **columns: Any) -> Mute:  # noqa: A002
    row = {
        "id": uuid(id),
        "instance_id": uuid(number),
        "company_id": uuid(1),
        "proof": "sends",
        "since": since,
        "suspected_at": since,
        "heard_at": end,
        "closed_at": end,
        "closed_as": "registration_lost" if end else None,
    }
    return Mute.model_validate(row | columns)


def event(at: datetime, kind: str, *, id: int, number: int = 1, **columns: Any) -> LineEvent:  # noqa: A002
    row = {
        "id": id,
        "at": at,
        "instance_id": uuid(number),
        "company_id": uuid(1),
        "external_id": None,
        "unit": None,
        "kind": kind,
        "reason": None,
        "to_status": None,
        "outage_id": None,
        "told": None,
    }
    return LineEvent.model_validate(row | columns)


def run(at: datetime, **columns: Any) -> Run:
    row = {
        "id": uuid(int(at.timestamp() * 1_000_000)),
        "started_at": at,
        "finished_at": at + timedelta(seconds=3),
        "checked": 10,
        "observations": {"ALIVE": 10},
        "outcomes": {},
        "braked": False,
        "left_due": 0,
        "took_ms": 3000,
    }
    return Run.model_validate(row | columns)


def runs(
    since: datetime = NOW - MONTH, until: datetime = NOW, *, every: timedelta = SWEEP, **columns: Any
) -> list[Run]:
    """A sweep every five minutes, the last one at the end."""
    count = (until - since) // every
    times = [until - every * back for back in range(count, -1, -1)]
    return [run(at, **columns) if columns else _plain(at) for at in times]


@cache
def _plain(at: datetime) -> Run:
    """One of thousands that differ in nothing but their time: to validate each takes seconds."""
    same = dict(run(NOW))
    return Run.model_construct(**same | {"started_at": at, "finished_at": at + (same["finished_at"] - NOW)})


@cache
def _month_of_sweeps() -> list[Run]:
    return runs()


@cache
def _day_of_sweeps() -> list[Run]:
    return runs(ago(days=1))


def day_of_history(**parts: Any) -> History:
    """The same with sweeps of one day only: for what does not ask about more, and faster."""
    return history(**{"runs": _day_of_sweeps()} | parts)


def history(**parts: Any) -> History:
    begin = NOW - MONTH
    known: dict[str, Any] = {
        "companies": {uuid(1): company()},
        "lines": [line()],
        "outages": [],
        "events": [],
        "outages_since": begin,
        "events_since": begin,
        "runs_since": begin,
    }
    return History(**known | ({} if "runs" in parts else {"runs": _month_of_sweeps()}) | parts)


VENUES = {
    "Buffet Alegria": ("Moema", "Jardins", "Tatuapé", "Santo André"),
    "Cantina Bela Paulista": ("Pinheiros", "Vila Mariana", "Perdizes"),
    "Grupo Festa & Cia": ("Campinas", "Jundiaí", "Sorocaba", "Santos", "Ribeirão Preto"),
}


class _Month:
    """A month of lines with mishaps, the same every time."""

    def __init__(self) -> None:
        self.dice = random.Random(4)
        self.lines: list[Line] = []
        self.outages: list[Outage] = []
        self.events: list[LineEvent] = []

    def fail(
        self,
        number: int,
        start: datetime,
        lasted: timedelta | None,
        *,
        restarts: tuple[str, ...] = (),
        told: int | None = None,
        **columns: Any,
    ) -> Outage:
        """An outage with its restarts, half an hour apart; ``told`` people were told after the first one."""
        opened = start + timedelta(seconds=2)
        row = outage(
            start,
            start + lasted if lasted else None,
            number=number,
            id=1000 + len(self.outages),
            **{
                "unit": self.lines[number - 1].unit,
                "company_id": self.lines[number - 1].company_id,
                "opened_at": opened,
                "restarts": len(restarts),
                "told_at": opened + timedelta(seconds=31) if told is not None else None,
            }
            | columns,
        )
        self.outages.append(row)
        for place, result in enumerate(restarts):
            at = opened + timedelta(minutes=30 * place)
            self.event(at, "restart_requested", row)
            self.event(at + timedelta(seconds=30), result, row)
        if told is not None:
            self.event(opened + timedelta(seconds=31), "status_changed", row, to_status="disconnected", told=told)
        return row

    def event(self, at: datetime, kind: str, of: Outage, **columns: Any) -> None:
        number = of.instance_id.int
        self.events.append(event(at, kind, id=len(self.events) + 1, number=number, outage_id=of.id, **columns))


@cache
def made_up_month() -> History:
    """Twelve lines of three companies: four open outages of all kinds, a paused line, a brake, a night without sweeps."""
    month = _Month()
    companies = {uuid(place): company(place, name) for place, name in enumerate(VENUES, 1)}
    number = 0
    for place, units in enumerate(VENUES.values(), 1):
        for unit in units:
            number += 1
            month.lines.append(line(number, unit=unit, company_id=uuid(place), last_event_at=ago(minutes=number)))
    failed, helped, unclear = "restart_failed", "restart_recovered", "restart_unverified"
    for _ in range(26):  # cured within the sweep, nobody was disturbed
        month.fail(
            month.dice.randint(1, number),
            ago(minutes=month.dice.randint(1500, 42000)),
            timedelta(seconds=month.dice.randint(4, 40)),
            restarts=(helped,),
            closed_as="recovered",
        )
    for _ in range(14):
        month.fail(
            month.dice.choice((2, 5, 9, 11)),
            ago(minutes=month.dice.randint(1500, 42000)),
            timedelta(minutes=month.dice.randint(12, 300)),
            restarts=(failed, helped)[: month.dice.randint(1, 2)],
            told=3,
            closed_as="event",
            opened_by=month.dice.choice(("webhook", "sweep")),
        )
    month.fail(2, ago(minutes=372), timedelta(minutes=58), restarts=(failed, helped), told=3, closed_as="recovered")
    month.fail(9, ago(minutes=900), timedelta(minutes=24), restarts=(unclear,), told=3, closed_as="event")
    month.fail(1, ago(hours=2, minutes=13), None, restarts=(failed, failed, unclear, failed), told=3)
    month.fail(6, ago(minutes=7), None, restarts=(unclear,), reason="ghost")
    month.fail(8, ago(days=9), None, opened_by="adoption", reason="not_found")
    month.fail(10, ago(days=3, hours=5), None, told=2, reason="refused")
    down = {"status": "disconnected", "last_health_check": ago(minutes=1)}
    changed = {
        1: down | {"last_alive_at": ago(hours=2, minutes=17), "last_event_at": ago(hours=2, minutes=31)},
        6: {"status": "degraded", "last_alive_at": ago(minutes=11), "last_event_at": ago(minutes=23)},
        8: down | {"last_alive_at": None, "last_event_at": None, "created_at": ago(days=80)},
        10: down | {"last_alive_at": ago(days=3, hours=5, minutes=5), "last_event_at": ago(days=3, hours=6)},
        7: {"is_active": False, "last_alive_at": ago(days=2), "last_event_at": None, "last_health_check": ago(days=2)},
        12: {"created_at": ago(days=12), "last_alive_at": ago(minutes=1), "unit": "Ribeirão Preto - Shopping"},
    }
    month.lines = [each.model_copy(update=changed.get(each.id.int, {})) for each in month.lines]
    brake = (ago(days=6, hours=3), ago(days=6, hours=2, minutes=18))
    asleep = (ago(days=17, hours=13), ago(days=17, hours=10, minutes=20))
    sweeps = []
    for each in runs(ago(days=30), ago(minutes=2)):
        if asleep[0] < each.started_at < asleep[1]:
            continue
        sweeps.append(_sweep(each, month, braked=brake[0] < each.started_at < brake[1]))
    return history(
        companies=companies,
        lines=month.lines,
        outages=month.outages,
        events=sorted(month.events, key=lambda each: each.at),
        runs=sweeps,
    )


def _sweep(bare: Run, month: _Month, *, braked: bool) -> Run:
    dead = 7 if braked else sum(
        each.started_at <= bare.started_at and not (each.closed_at and each.closed_at < bare.started_at)
        for each in month.outages
    )  # fmt: skip
    unknown = int(month.dice.random() < 0.05)
    requests = [
        each
        for each in month.events
        if each.kind == "restart_requested" and timedelta(0) <= each.at - bare.started_at < SWEEP
    ]
    took = month.dice.randint(900, 2600) + 4000 * len(requests)
    outcomes = {
        "restarted": len(requests),
        "recovered": len(requests) - len(requests) // 2,
        "failed": len(requests) // 2,
    }
    return bare.model_copy(
        update={
            "checked": 11,
            "observations": {"ALIVE": 11 - dead - unknown, "DISCONNECTED": dead, "UNKNOWN": unknown},
            "outcomes": {"held": 6} if braked else outcomes,
            "braked": braked,
            "took_ms": took,
            "finished_at": bare.started_at + timedelta(milliseconds=took),
        }
    )

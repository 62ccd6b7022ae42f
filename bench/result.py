"""What a measurement says: a value, its floor in the same run, their ratio, the goal, a verdict."""

from __future__ import annotations

import json
import os
import platform
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from rich import box
from rich.table import Table

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        group: The measurement it belongs to.
        what: What was measured.
        value: The figure, in ``unit``.
        unit: Of ``value`` and ``floor``.
        floor: The same figure without our code; None where the goal is absolute.
        ratio: What the goal speaks about: value to floor, or the value itself.
        goal: In words.
        met: The verdict; None where there is no goal.
        samples: Every single value, in the order in which they were taken.
    """

    group: str
    what: str
    value: float
    unit: str
    floor: float | None
    ratio: float
    goal: str
    met: bool | None
    samples: list[float] = field(default_factory=list)

    @property
    def name(self) -> str:
        """The same in every run."""
        return f"{self.group}: {self.what}"


def at_most(
    group: str, what: str, value: float, floor: float, limit: float, *, unit: str, samples: Sequence[float] = ()
) -> Result:
    """A figure that may be at most ``limit`` times its floor."""
    ratio = value / floor
    return Result(group, what, value, unit, floor, ratio, f"<= {limit:g}x", ratio <= limit, list(samples))


def at_least(
    group: str, what: str, value: float, floor: float, limit: float, *, unit: str, samples: Sequence[float] = ()
) -> Result:
    """A figure that must be at least ``limit`` times its floor."""
    ratio = value / floor
    return Result(group, what, value, unit, floor, ratio, f">= {limit:g}x", ratio >= limit, list(samples))


def within(group: str, what: str, value: float, limit: float, *, unit: str) -> Result:
    """A figure with an absolute goal."""
    return Result(group, what, value, unit, None, value, f"<= {limit:g} {unit}".rstrip(), value <= limit)


def shown(group: str, what: str, value: float, *, unit: str, floor: float | None = None) -> Result:
    """A figure without a goal."""
    return Result(group, what, value, unit, floor, value / floor if floor else value, "", None)


def table_of(results: Sequence[Result], before: Mapping[str, float]) -> Table:
    """The results as a terminal shows them, beside the same figures of the whole run before."""
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for title, justify in (
        ("what", "left"),
        ("value", "right"),
        ("floor", "right"),
        ("ratio", "right"),
        ("before", "right"),
        ("goal", "right"),
        ("", "left"),
    ):
        table.add_column(title, justify=justify)  # type: ignore[arg-type]  # rich's literal
    group = ""
    for each in results:
        if each.group != group:
            table.add_row(f"[bold]{each.group}[/]", end_section=False)
            group = each.group
        floor = "" if each.floor is None else f"{each.floor:,.3g} {each.unit}"
        ratio = "" if each.floor is None else f"{each.ratio:.2f}"
        verdict = "" if each.met is None else ("[green]met[/]" if each.met else "[red]missed[/]")
        was = before.get(each.name)
        last = "" if was is None else f"{was:.2f}" if each.floor is not None else _figure(was)
        table.add_row(f"  {each.what}", f"{_figure(each.value)} {each.unit}", floor, ratio, last, each.goal, verdict)
    return table


def _figure(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) or abs(value) >= 1000 else f"{value:,.3g}"  # noqa: PLR2004


def write(results: Sequence[Result], file: Path, *, quick: bool) -> None:
    """Keep the results, with the machine they were measured on."""
    document: dict[str, Any] = {**_circumstances(), "quick": quick, "results": [asdict(each) for each in results]}
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(json.dumps(document, indent=1) + "\n", "utf-8")


def remember(results: Sequence[Result], file: Path) -> None:
    """Add a whole run to the history: what each figure's goal speaks about, one line a run."""
    figures = {each.name: round(each.ratio, 3) for each in results}
    with file.open("a", encoding="utf-8") as history:
        history.write(json.dumps({**_circumstances(), "figures": figures}) + "\n")


def history_in(file: Path) -> list[dict[str, Any]]:
    """The whole runs so far, oldest first."""
    return [json.loads(line) for line in file.read_text("utf-8").splitlines()] if file.exists() else []


def _circumstances() -> dict[str, Any]:
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "machine": {"cores": os.cpu_count(), "python": platform.python_version(), "system": platform.system()},
    }

"""A report as a person reads it, and as JSON. Foreign words were made harmless before; markup is never interpreted."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import TYPE_CHECKING, Final

from rich.text import Text

from ops.common.shown import counted, shortened
from ops.doctor.findings import Severity

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import Console

    from ops.doctor.findings import Change, Finding, Report, Subject

SHOWN_CONCERNS: Final = 10
_ALIKE: Final = 3
_LONGEST: Final = 200
_MARKS: Final = {
    Severity.PROBLEM: ("✗", "bold red"),
    Severity.WARNING: ("!", "bold yellow"),
    Severity.NOTE: ("·", "cyan"),
    Severity.OK: ("✓", "green"),
}


def print_report(report: Report, console: Console, *, most: int = SHOWN_CONCERNS) -> None:
    """Print what is worst first. No line is broken: what is to be copied stays in one piece.

    Args:
        report: All of it.
        console: Where to.
        most: Lines that are shown of each finding; ``--json`` has all.
    """

    def say(*parts: str | tuple[str, str]) -> None:
        console.print(Text.assemble(*parts), soft_wrap=True)

    for severity, (mark, style) in _MARKS.items():
        for finding in report.findings:
            if finding.severity is severity:
                number = f" ({len(finding.concerns)})" if finding.concerns else ""
                say((mark, style), f" {finding.what}{number}")
                for line in _below(finding, most):
                    say(f"    {line}")
    if report.changes:
        say(("\nwould be set:" if report.dry_run else "\nset:", "bold"))
        for change in report.changes:
            say(f"  {_line(change.line)}: {_became(change)}")
    if report.unchecked:
        say(("\nnot checked:", "bold"))
        for why in dict.fromkeys(each.why for each in report.unchecked):
            say(f"  {'; '.join(each.what for each in report.unchecked if each.why == why)}")
            say(f"    → {why}")
    say((f"\n{_verdict(report)}", "bold"))


def as_json(report: Report) -> str:
    """Everything, in ASCII, so that no terminal interprets a unit's name."""
    return json.dumps(
        {
            "exit_code": report.exit_code,
            "dry_run": report.dry_run,
            "findings": [asdict(finding) | {"count": len(finding.concerns)} for finding in report.findings],
            "changes": [asdict(change) for change in report.changes],
            "unchecked": [asdict(each) for each in report.unchecked],
        },
        indent=2,
    )


def _below(finding: Finding, most: int) -> Iterator[str]:
    rows = list(_rows(finding.concerns))
    yield from (f"- {row}" for row in rows[:most])
    if len(rows) > most:
        yield f"… and {len(rows) - most} more (--json has all)"
    if finding.do:
        yield f"→ {finding.do}"


def _rows(concerns: Sequence[Subject]) -> Iterator[str]:
    """One for each; many of a company of which the same is to be said share one."""
    groups: dict[tuple[str, str], list[Subject]] = {}
    for subject in concerns:
        groups.setdefault((subject.company or str(id(subject)), subject.detail), []).append(subject)
    for (company, detail), alike in groups.items():
        said = f": {detail}" if detail else ""
        if len(alike) > _ALIKE:
            units = shortened(", ".join(subject.name for subject in alike), _LONGEST)
            yield f"{company}: {counted(len(alike), 'line')} ({units}){said}"
        else:
            yield from (f"{_line(subject)}{said}" for subject in alike)


def _line(subject: Subject) -> str:
    ids = [each for each in (subject.external_id, subject.id) if each]
    name = f"{subject.company} · {subject.name}" if subject.company else subject.name
    return f"{name} ({', '.join(ids)})" if ids else name


def _became(change: Change) -> str:
    kinds = ", ".join(change.kinds) or "nothing"
    return f"{kinds}; then it failed: {change.failed}" if change.failed else kinds


def _verdict(report: Report) -> str:
    numbers = {severity: sum(each.severity is severity for each in report.findings) for severity in Severity}
    worst = [
        counted(numbers[severity], severity) for severity in (Severity.PROBLEM, Severity.WARNING) if numbers[severity]
    ]
    if worst:
        return f"{' and '.join(worst)}: a human is needed"
    if any(each.failed for each in report.unchecked):
        return "nothing wrong was found, but not everything could be checked"
    return "all is well, as far as it was checked" if report.unchecked else "all is well"

"""What the doctor says: findings, what it could not check, what it changed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import IntEnum, StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping


class Severity(StrEnum):
    """How much a finding matters; warnings and problems need a human."""

    OK = "ok"
    NOTE = "note"
    WARNING = "warning"
    PROBLEM = "problem"

    @property
    def needs_a_human(self) -> bool:
        """Whether the exit code tells of it."""
        return self in (Severity.WARNING, Severity.PROBLEM)


class Exit(IntEnum):
    """The exit code."""

    FINE = 0
    FINDINGS = 1
    NOT_CHECKED = 2


@dataclass(frozen=True, slots=True)
class Subject:
    """What a finding is about. Every word is already fit to be shown.

    Attributes:
        name: A unit, a company, a cron job.
        external_id: The provider's id of a line.
        id: Ours.
        detail: What is particular about this one.
        company: Whose line it is; empty where that says nothing.
    """

    name: str
    external_id: str | None = None
    id: str | None = None
    detail: str = ""
    company: str = ""

    def of(self, companies: Mapping[str, str]) -> Subject:
        """The same with its company's name, by our id of the line."""
        return replace(self, company=companies.get(self.id or "", self.company))


@dataclass(frozen=True, slots=True)
class Finding:
    """One thing that is so, with all that it is about.

    Attributes:
        check: A constant name, for scripts: ``token.refused``.
        severity: See ``Severity``.
        what: What is wrong (or fine), in one plain sentence.
        do: What to do about it; empty when there is nothing to do.
        concerns: All of them; who shows them may show the first few.
    """

    check: str
    severity: Severity
    what: str
    do: str = ""
    concerns: tuple[Subject, ...] = ()

    def of(self, companies: Mapping[str, str]) -> Finding:
        """The same with the companies' names; lines by company and unit, whatever else it is about as it was."""
        named = [subject.of(companies) for subject in self.concerns]
        if named and all(subject.company for subject in named):
            named.sort(key=lambda subject: (subject.company.casefold(), subject.name.casefold(), subject.id or ""))
        return replace(self, concerns=tuple(named))


@dataclass(frozen=True, slots=True)
class Unchecked:
    """What was not checked.

    Attributes:
        what: Such as ``cron jobs``.
        why: And how to have it checked.
        failed: It was asked for and did not work, so that the run cannot count as fine.
    """

    what: str
    why: str
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Change:
    """A line whose webhook URLs were set (or would be, in a dry run).

    Attributes:
        line: Which.
        kinds: Of which webhooks, in the order in which they were set.
        failed: Why it stopped, if it did; the kinds are those that were set before.
    """

    line: Subject
    kinds: tuple[str, ...]
    failed: str | None = None

    def of(self, companies: Mapping[str, str]) -> Change:
        """The same with the company's name."""
        return replace(self, line=self.line.of(companies))


@dataclass(frozen=True, slots=True)
class Report:
    """All of it."""

    findings: tuple[Finding, ...]
    unchecked: tuple[Unchecked, ...] = ()
    changes: tuple[Change, ...] = ()
    dry_run: bool = False

    @property
    def exit_code(self) -> Exit:
        """Findings that need a human come first: they are true whatever else could not be checked."""
        if any(finding.severity.needs_a_human for finding in self.findings):
            return Exit.FINDINGS
        return Exit.NOT_CHECKED if any(each.failed for each in self.unchecked) else Exit.FINE


def unless_empty(
    concerns: Iterable[Subject], *, check: str, severity: Severity, what: str, do: str = ""
) -> list[Finding]:
    """One finding about all of them, or none."""
    found = tuple(concerns)
    return [Finding(check, severity, what, do, found)] if found else []

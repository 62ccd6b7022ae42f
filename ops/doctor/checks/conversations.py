"""Findings about conversations with one person that stay two. Pure; ids and last four digits, no name and no word."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from ops.common.shown import shown
from ops.doctor.findings import Finding, Severity, unless_empty

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from uuid import UUID

    from ops.doctor.facts import ConversationRow, Fleet
    from ops.doctor.findings import Subject

_LEFT: Final = {
    "both_of_the_platform": "the platform made both, and what it made is never merged away",
    "two_leads": "each has a lead",
}


@dataclass(frozen=True, slots=True)
class Pair:
    """Two conversations of one line with one person.

    Attributes:
        instance_id: The line.
        stays: The one that could not be merged away.
        receives: The older one, which gets new messages.
        refusal: Why: a word of ours, or the SQLSTATE with which the platform's tables refused.
    """

    instance_id: UUID
    stays: ConversationRow
    receives: ConversationRow
    refusal: str


def check_pairs(fleet: Fleet, pairs: Sequence[Pair]) -> list[Finding]:
    """Name the pairs of the chosen lines."""
    lines = {line.id: line for line in fleet.lines}

    def subjects(*, refused: bool) -> Iterator[Subject]:
        for pair in pairs:
            if pair.instance_id in lines and refused is (pair.refusal not in _LEFT):
                why = _LEFT.get(pair.refusal, f"SQLSTATE {shown(pair.refusal, longest=10)}")
                both = f"{_named(pair.stays)} beside {_named(pair.receives)}, which receives: {why}"
                yield replace(lines[pair.instance_id].subject(), detail=both)

    return [
        *unless_empty(
            subjects(refused=False),
            check="conversation.two",
            severity=Severity.NOTE,
            what="persons have two conversations of one line, and keep them: new messages go to the older",
            do="nothing, if the screens bear it; else merge them by hand, and keep the older",
        ),
        *unless_empty(
            subjects(refused=True),
            check="conversation.refused",
            severity=Severity.WARNING,
            what="conversations of one person could not become one: the platform's tables do not let go of the newer",
            do="see what rule of a table that points to wapi_conversations has this SQLSTATE; it is tried again hourly",
        ),
    ]


def _named(conversation: ConversationRow) -> str:
    digits = conversation.contact_phone
    return f"{conversation.id} (…{digits})" if digits else str(conversation.id)

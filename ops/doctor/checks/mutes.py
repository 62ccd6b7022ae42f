"""Findings about lines that live while their events do not reach us, and what such suspicions have been worth. Pure."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from ops.common.shown import shown_age
from ops.doctor.findings import Finding, Severity, Subject, unless_empty
from shared.core.mute import MuteClosing, MuteProof

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ops.doctor.facts import Fleet, MuteRow

_WORDS = {
    MuteClosing.REGISTRATION_LOST: "registration lost",
    MuteClosing.PROVIDER_DELIVERY: "provider",
    MuteClosing.INCONCLUSIVE: "inconclusive",
}
_MEANINGS = {
    MuteClosing.REGISTRATION_LOST: (
        "registration lost: events came within five minutes after it was set again, so W-API loses registrations:"
        " tell it, with the times in instance_mutes"
    ),
    MuteClosing.PROVIDER_DELIVERY: (
        "provider: they came later and against the line's habit: W-API delivered late, or the venue was closed"
    ),
    MuteClosing.INCONCLUSIVE: "inconclusive: nothing was to be expected in between, or nothing was set",
}


def check_mutes(fleet: Fleet, mutes: Sequence[MuteRow], *, now: datetime) -> list[Finding]:
    """What is suspected now, and what the suspicions of 30 days came to.

    Args:
        fleet: Its lines.
        mutes: Open suspicions, and those that were closed in the last 30 days.
        now: The instant of reading them.
    """
    lines = {line.id: line for line in fleet.lines}

    def open_ones(*proofs: MuteProof) -> Iterator[Subject]:
        for mute in mutes:
            line = lines.get(mute.instance_id)
            if mute.closed_at is None and mute.proof in proofs and line is not None:
                told = "its users were told" if mute.told_at else "nobody was told"
                repairs = "once" if mute.repairs == 1 else f"{mute.repairs} times"
                yield line.subject(
                    f"{mute.proof}, since {shown_age(now - mute.since)}, registration set again {repairs}, {told}"
                )

    findings = [
        *unless_empty(
            open_ones(MuteProof.SENDS, MuteProof.REGISTRATION),
            check="mute.proven",
            severity=Severity.PROBLEM,
            what="lines live, and their events do not reach us: what was sent has no answer of any kind",
            do="see webhook.* here; set them with --fix-webhooks; W-API's panel shows where it posts",
        ),
        *unless_empty(
            open_ones(MuteProof.HABIT),
            check="mute.suspected",
            severity=Severity.NOTE,
            what="lines live and are silent against their habit; their registration is set again, nobody is told",
            do="nothing, or ask the venue whether it is open",
        ),
    ]
    if worth := Counter(mute.closed_as for mute in mutes if mute.closed_as is not None):
        counts = ", ".join(f"{word} {worth[closing]}" for closing, word in _WORDS.items() if worth[closing])
        meant = "; ".join(meaning for closing, meaning in _MEANINGS.items() if worth[closing])
        findings.append(
            Finding(
                "mute.recorded", Severity.NOTE, f"suspicions of mute lines in 30 days: {counts}", f"it means: {meant}"
            )
        )
    return findings

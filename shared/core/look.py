"""What a provider answered, in words that belong to no vendor: a look, a restart's answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Final

from shared.core.model import Observation


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found, and why we think so.

    Attributes:
        observation: What was found.
        cause: A short constant word for logs and audit.
        throttled: The provider said that we ask too often: what we did not learn is our own haste's fault.
        drifted: The provider's contract has changed: a human must look.
        asked_to_wait: Worth another look after a while: throttled, or unavailable with a word about when to come back.
        phone: The line's own number, 10 to 15 digits, if the answer showed one.
    """

    observation: Observation
    cause: str
    throttled: bool = False
    drifted: bool = False
    asked_to_wait: bool = False
    phone: str | None = None


UNREADABLE: Final = Look(Observation.UNKNOWN, "unreadable")
NOT_ASKED: Final = Look(Observation.UNKNOWN, "not_asked", throttled=True, asked_to_wait=True)
"""The provider wants to be left alone for longer than there is time."""


def unknown(cause: str) -> Look:
    """A look that could not find out."""
    return Look(Observation.UNKNOWN, cause)


class RestartAnswer(StrEnum):
    """What the provider said to a restart. Accepted is not recovered: the looks decide."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNCLEAR = "unclear"
    """It may have happened: a time-out, a server's error, an empty answer."""

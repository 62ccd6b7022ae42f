"""Events without a message: what could not be decrypted, what linked devices do not get, missed calls. Pure.

A gateway sends ``messageStubType`` in the event or in ``msgContent``, as a word or a number of WebMessageInfo.StubType
(230 of them). Those that a venue should see are named here; the others are noise.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from shared.core.event import Noise
from shared.core.previews import MISSED_CALL, MISSED_VIDEO_CALL, NOT_YET, VIEW_ONCE
from shared.providers.wapi.envelopes import NoMessageError
from shared.providers.wapi.values import Json, enum_of, fold, is_true, list_of, name_of

UNREADABLE: Final = {
    "CIPHERTEXT": 2,
    "FUTUREPROOF": 3,
    "PAYMENT_CIPHERTEXT": 47,
    "PAYMENT_FUTUREPROOF": 48,
    "OVERSIZED": 68,
    "QUARANTINED_MESSAGE": 220,
}
MISSED_CALLS: Final = {
    "CALL_MISSED_VOICE": 40,
    "CALL_MISSED_GROUP_VOICE": 45,
    "SILENCED_UNKNOWN_CALLER_AUDIO": 169,
}
MISSED_VIDEO_CALLS: Final = {
    "CALL_MISSED_VIDEO": 41,
    "CALL_MISSED_GROUP_VIDEO": 46,
    "SILENCED_UNKNOWN_CALLER_VIDEO": 170,
}
DELETIONS: Final = {"REVOKE": 1, "ADMIN_REVOKE": 132}
NEW_SUBJECT: Final = {"GROUP_CHANGE_SUBJECT": 21}

_CALL_OUTCOMES: Final = {"MISSED": 1, "SILENCED_BY_DND": 6, "SILENCED_UNKNOWN_CALLER": 7}
"""Of a ``callLogMesssage``: nobody took it. (Three s, in every spelling.)"""


class Trace(NamedTuple):
    """A row that stands for something that cannot be read here.

    Attributes:
        text: For people.
        reason: Why.
        may_come: Whether the message itself may still come under the same id.
    """

    text: str
    reason: str
    may_come: bool


def stub_of(event: Json, content: Json) -> str | int | None:
    """The stub's word or number; 0 is none."""
    return enum_of(event.get("messagestubtype")) or enum_of(content.get("messagestubtype")) or None


def is_stub(stub: str | int | None, *groups: dict[str, int]) -> bool:
    """Whether a stub is one of some groups, by its word or its number."""
    return stub is not None and any(stub in group or stub in group.values() for group in groups)


def trace_of(event: Json, stub: str | int | None) -> Trace | None:
    """What an unreadable event leaves behind, None when it is readable or nobody need know."""
    if str(event.get("decryptfailmode")).lower() == "hide":
        raise NoMessageError(Noise.HIDDEN)
    unavailable = str(event.get("unavailabletype") or "").lower()
    if unavailable == "view_once" or is_true(fold(event.get("key")).get("isviewonce")):
        return Trace(VIEW_ONCE, "view_once", may_come=True)
    if is_stub(stub, UNREADABLE) or unavailable or is_true(event.get("isunavailable")):
        return Trace(NOT_YET, "undecryptable", may_come=True)
    return None


def missed_call_of(stub: str | int | None) -> str | None:
    """The text of a missed call, None when the stub is none."""
    if is_stub(stub, MISSED_CALLS):
        return MISSED_CALL
    return MISSED_VIDEO_CALL if is_stub(stub, MISSED_VIDEO_CALLS) else None


def missed_call_in_log(body: Json) -> str:
    """The same from a call log.

    Raises:
        NoMessageError: When somebody took the call.
    """
    outcome = enum_of(body.get("calloutcome"))
    if not is_stub(outcome, _CALL_OUTCOMES):
        raise NoMessageError(Noise.SILENT)
    return MISSED_VIDEO_CALL if is_true(body.get("isvideo")) else MISSED_CALL


def new_subject_of(event: Json, content: Json) -> str | None:
    """The group's new name, from the stub's parameters."""
    parameters = list_of(event.get("messagestubparameters")) or list_of(content.get("messagestubparameters"))
    return name_of(parameters[0]) if parameters else None

"""Which part of a message object is the message. Pure: the object, as it came -> what is inside all its envelopes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from shared.core.event import Noise
from shared.providers.wapi.fields import FIELDS, Field
from shared.providers.wapi.values import Json, enum_of, fold, is_true

if TYPE_CHECKING:
    from collections.abc import Mapping

MAX_ENVELOPES: Final = 10
"""Five to eight suffice in the field."""

_RANKS: Final[Mapping[Field | None, int]] = {
    Field.CONTENT: 0,
    Field.TRACE: 1,
    Field.ENVELOPE: 2,
    Field.EDIT: 3,
    Field.ACT: 4,
    None: 5,  # a kind that nobody knows yet
    Field.PART: 6,
    Field.STORY: 7,
    Field.CHANNEL: 8,
    Field.SILENT: 9,
}
"""Which of several fields side by side is the message."""

_NO_ROW: Final[Mapping[Field | None, Noise]] = {
    Field.PART: Noise.PART,
    Field.STORY: Noise.STORY,
    Field.CHANNEL: Noise.NEWSLETTER,
    Field.SILENT: Noise.SILENT,
}

# MessageAssociation.AssociationType by numbers, for printers of numbers; names are read by pattern.
_TWINS: Final = frozenset({5, 10, 12, 19})
_PARTS: Final = frozenset({3, 7, 11, 20})
_STORIES: Final = frozenset({4, 6, 8, 9, 13, 14, 15, 16, 17, 18})


class NoMessageError(Exception):
    """The event carries no message.

    Args:
        reason: Which kind of noise.
    """

    def __init__(self, reason: Noise) -> None:
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True, slots=True)
class Opened:
    """What is inside all envelopes.

    Attributes:
        name: The folded name of the kind.
        field: What the kind is, None when nobody knows it yet.
        value: What stands under it, as it came.
        context: ``messageContextInfo``, the inner one over the outer.
        is_view_once: It came in an envelope to be seen once.
        destination: Where another device of ours sent it, as far as that says.
    """

    name: str
    field: Field | None
    value: Any
    context: Json
    is_view_once: bool
    destination: object


def open_message(content: object) -> Opened:
    """Open envelopes until the message itself is found.

    Raises:
        NoMessageError: When there is none: nothing but noise, a twin of another message, a story.
    """
    message, context = fold(content), fold(None)
    is_view_once, destination = False, None
    for _ in range(MAX_ENVELOPES):
        if inner_context := message.get("messagecontextinfo"):
            context = {**context, **fold(inner_context)}
            _refuse_twins(context)
        name, field = _pick(message)
        value = message[name]
        is_view_once = is_view_once or name.startswith("viewonce")
        found = Opened(name, field, value, context, is_view_once, destination)
        if field in _NO_ROW:
            raise NoMessageError(_NO_ROW[field])
        if field is not Field.ENVELOPE and not (field is None and _is_envelope(value)):
            return found
        body = fold(value)
        destination = destination or body.get("destinationjid")
        inner = body.get("message")
        if not isinstance(inner, dict) or (not inner and is_view_once):
            return found
        message = fold(inner)
    return found


def _pick(message: Json) -> tuple[str, Field | None]:
    """The field that says what kind of message it is.

    Raises:
        NoMessageError: When there is none.
    """
    best: tuple[int, str, Field | None] | None = None
    for name, value in message.items():
        field = FIELDS.get(name)
        if field is Field.NOISE or isinstance(value, bool | int | float):
            continue
        # {} under a known name is a value, under an unknown one it is nothing; so is what else is empty anywhere.
        if not value and (field is None or not isinstance(value, dict)):
            continue
        if best is None or _RANKS[field] < best[0]:
            best = (_RANKS[field], name, field)
    if best is None:
        raise NoMessageError(Noise.OTHER if message else Noise.EMPTY)
    return best[1], best[2]


def _is_envelope(value: object) -> bool:
    """Whether an unknown kind holds a message and nothing else that could be one."""
    body = fold(value)
    return isinstance(body.get("message"), dict) and not any(
        isinstance(each, dict) and name not in ("message", "messagecontextinfo", "contextinfo")
        for name, each in body.items()
    )


def _refuse_twins(context: Json) -> None:
    """A better copy of the same picture, the film of a live photo, a part of another message, a story: no row."""
    kind = enum_of(fold(context.get("messageassociation")).get("associationtype"))
    if kind is None:
        return
    if kind in _TWINS or (isinstance(kind, str) and (kind.endswith("_DUAL_UPLOAD") or kind == "MOTION_PHOTO")):
        raise NoMessageError(Noise.TWIN)
    if kind in _PARTS or kind in ("EVENT_COVER_IMAGE", "MEDIA_POLL", "STICKER_ANNOTATION", "POLL_ADD_OPTION"):
        raise NoMessageError(Noise.PART)
    if kind in _STORIES or (isinstance(kind, str) and (kind.startswith("STATUS_") or kind == "VIEW_ALL_REPLIES")):
        raise NoMessageError(Noise.STORY)


def refuse_by_context(context: Json) -> None:
    """The same, by the ``contextInfo`` in the kind's own body: a twin's second mark, a story in a group.

    Raises:
        NoMessageError: When the message is no row of its own.
    """
    paired = enum_of(context.get("pairedmediatype"))
    # Parents have odd numbers, children even ones.
    if (isinstance(paired, int) and paired > 0 and paired % 2 == 0) or str(paired).endswith("_CHILD"):
        raise NoMessageError(Noise.TWIN)
    if is_true(context.get("isgroupstatus")):
        raise NoMessageError(Noise.STORY)

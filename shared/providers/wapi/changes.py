"""What acts on another message: acks, edits, deletions, reactions, pins. Pure.

A target is named by its id alone: ``fromMe``, ``remoteJid`` and ``participant`` of its key are written from the other
side's view, and are not matched on.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from shared.core.event import AckStatus, Change, Mark, Noise, Who
from shared.providers.wapi.envelopes import NoMessageError, Opened, open_message
from shared.providers.wapi.fields import Field
from shared.providers.wapi.values import Json, enum_of, fold, id_of, text_of, time_of

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.providers.wapi.contents import Content

# Acks

_ACKS: Final[dict[str, AckStatus]] = {
    "PENDING": "pending",
    "SERVER": "sent",
    "SENT": "sent",
    "SERVER_ACK": "sent",
    "RECEIVED": "delivered",
    "DEVICE": "delivered",
    "DELIVERY": "delivered",
    "DELIVERED": "delivered",
    "DELIVERY_ACK": "delivered",
    "READ": "read",
    "PLAYED": "read",
    "ERROR": "error",
    "FAILED": "error",
}
"""Words alone: numbers mean different things to different gateways (Baileys 0 is an error, WAHA's is -1)."""
_ACKS_OF_OUR_OWN: Final = frozenset(
    {"READ_SELF", "PLAYED_SELF", "SENDER", "RETRY", "INACTIVE", "PEER_MSG", "HIST_SYNC", "SERVER_ERROR"}
)
_ACKS_OF_LIFE: Final = frozenset({"DELIVERY", "READ", "PLAYED"})


def read_ack(event: Json) -> Change:
    """Read a ``webhookStatus``, folded.

    Raises:
        NoMessageError: When it names no message or a status we do not know.
    """
    message_id = id_of(event.get("messageid"))
    word = str(event.get("status")).strip().upper().replace("-", "_")
    if word in _ACKS_OF_OUR_OWN:
        raise NoMessageError(Noise.ACK_OF_OUR_OWN)
    status = _ACKS.get(word)
    if message_id is None or status is None:
        raise NoMessageError(Noise.ACK_UNREADABLE)
    return Change(do="ack", message_id=message_id, status=status)


def is_ack_of_life(event: Json) -> bool:
    """Whether an ack proves that the line's session works: somebody's phone received something."""
    return str(event.get("status")) in _ACKS_OF_LIFE


# Changes of another message


def read_change(
    opened: Opened,
    who: Who,
    message_id: str | None,
    *,
    sender_name: str | None,
    content_of: Callable[[Opened], Content],
) -> Change:
    """Read what acts on another message.

    Args:
        opened: Of an envelope of an edit, or of a control field but the log of calls.
        who: Between whom.
        message_id: The event's own.
        sender_name: For a reaction.
        content_of: Reads the content of an edit.

    Raises:
        NoMessageError: When it acts on nothing that is kept here.
    """
    body = fold(opened.value)
    if opened.field is Field.EDIT:
        return _edit_envelope(body, who, message_id, content_of)
    match opened.name:
        case "protocolmessage":
            return _protocol(body, who, content_of)
        case "reactionmessage":
            return Change(
                do="react",
                message_id=_target(body.get("key")),
                content=text_of(body.get("text")) or "",
                at=time_of(body.get("sendertimestampms")),
                event_message_id=message_id,
                sender_name=sender_name,
                who=who,
            )
        case "pininchatmessage":
            return _marked(body, who, "pinned", key="key", on=(1, "PIN_FOR_ALL"), off=(2, "UNPIN_FOR_ALL"))
        case "keepinchatmessage":
            return _marked(body, who, "kept", key="key", on=(1, "KEEP_FOR_ALL"), off=(2, "UNDO_KEEP_FOR_ALL"))
        case _:  # sealed under a secret that the event does not carry: of an edit only that it happened is known
            target = _target(body.get("targetmessagekey"))
            return Change(do="mark", message_id=target, mark="edited", is_on=True, who=who)


def _edit_envelope(
    body: Json, who: Who, message_id: str | None, content_of: Callable[[Opened], Content]
) -> Change:  # fmt: skip
    inner = body.get("message")
    opened = open_message(inner if isinstance(inner, dict) else body)
    if opened.name == "protocolmessage":
        return _protocol(fold(opened.value), who, content_of)
    # An edit without a protocol message: the event's own id is the message's.
    return _edit(opened, message_id, who, content_of, at=None)


def _protocol(body: Json, who: Who, content_of: Callable[[Opened], Content]) -> Change:
    target = id_of(fold(body.get("key")).get("id")) or id_of(fold(body.get("key")).get("messageid"))
    said = body.get("type")
    kind = enum_of(said)
    edited = body.get("editedmessage")
    if kind in (14, "MESSAGE_EDIT") or (said is None and edited):
        inner = fold(edited).get("message")
        if not isinstance(edited, dict) or not edited:
            raise NoMessageError(Noise.EDIT_UNREADABLE)
        opened = open_message(inner if isinstance(inner, dict) else edited)
        return _edit(opened, target, who, content_of, at=body.get("timestampms"))
    # A printer may leave out a type of 0. Then nothing but the key is there: no settings, no keys, no peer data.
    is_bare = said is None and not any(each for name, each in body.items() if name not in ("key", "timestampms"))
    if target is not None and (kind in (0, "REVOKE") or is_bare):
        return Change(do="delete", message_id=target, who=who)
    if kind in (11, "SHARE_PHONE_NUMBER") and who.phone and who.lid:
        return Change(do="learn", who=who)
    raise NoMessageError(Noise.PROTOCOL)


def _edit(
    opened: Opened, target: str | None, who: Who, content_of: Callable[[Opened], Content], *, at: object
) -> Change:  # fmt: skip
    if target is None or opened.field is not Field.CONTENT:
        raise NoMessageError(Noise.EDIT_UNREADABLE)
    content = content_of(opened)
    if content.type == "unsupported":
        raise NoMessageError(Noise.EDIT_UNREADABLE)
    return Change(do="edit", message_id=target, content=content.content, at=time_of(at), who=who)


def _marked(
    body: Json, who: Who, mark: Mark, *, key: str, on: tuple[int, str], off: tuple[int, str]
) -> Change:  # fmt: skip
    kind = enum_of(body.get("type")) or enum_of(body.get("keeptype"))
    if kind not in (*on, *off):
        raise NoMessageError(Noise.SILENT)
    at = time_of(body.get("sendertimestampms")) or time_of(body.get("timestampms"))
    return Change(do="mark", message_id=_target(body.get(key)), mark=mark, is_on=kind in on, at=at, who=who)


def _target(key: object) -> str:
    target = id_of(fold(key).get("id"))
    if target is None:
        raise NoMessageError(Noise.EDIT_UNREADABLE)
    return target

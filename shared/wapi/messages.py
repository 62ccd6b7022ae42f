"""What a message event says: who, what kind, which text and media. Pure: a parsed JSON object -> a change, or a reason.

``msgContent`` is WhatsApp's own message object in two spellings over time (``url``/``URL``, ``fileSha256``/
``fileSHA256``, ``stanzaId``/``stanzaID``). What is not a message (protocol noise, stories, newsletters, calls, empty
bursts) is named.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Final, TypeAlias

from pydantic import BaseModel, ConfigDict

Json: TypeAlias = Mapping[str, Any]

_PHONE = re.compile(r"[1-9][0-9]{7,14}")
_MAX_CONTACT_PHONE: Final = 13
"""LIDs have 14 or 15 digits; a sender with so many is not taken for a phone."""
_MAX_WRAPPERS: Final = 5


class _Change(BaseModel):
    model_config = ConfigDict(frozen=True)


class StoreMessage(_Change):
    """A message to store, once.

    Attributes:
        do: Always ``store``.
        message_id: The provider's.
        from_me: Sent by the line, not to it.
        group: The group's address, None in a direct chat.
        phone: The other side's number, None if the event does not give it; never a LID.
        lid: The other side's hidden identity (``…@lid``), None if the event does not give it.
        contact_name: Of the person or the group.
        contact_picture: Its address.
        type: text, image, video, audio, document, sticker, location, contact, poll, reaction or button_reply.
        content: Text or caption, None without one.
        media_url: As delivered.
        media_key: As delivered.
        media_direct_path: As delivered.
        quoted_message_id: The message that this one answers or reacts to.
        metadata: What else is worth keeping.
    """

    do: str = "store"
    message_id: str
    from_me: bool
    group: str | None
    phone: str | None
    lid: str | None
    contact_name: str | None
    contact_picture: str | None
    type: str
    content: str | None
    media_url: str | None = None
    media_key: str | None = None
    media_direct_path: str | None = None
    quoted_message_id: str | None = None
    metadata: dict[str, Any]


class ChangeMessage(_Change):
    """A change of a message that may not be there yet.

    Attributes:
        do: ``ack``, ``edit`` or ``delete``.
        message_id: Which message.
        status: Of an ack: sent, delivered, read or error.
        content: Of an edit: the new text.
    """

    do: str
    message_id: str
    status: str | None = None
    content: str | None = None


Change: TypeAlias = StoreMessage | ChangeMessage


class NoMessageError(Exception):
    """The event carries no message.

    Args:
        reason: Which kind of noise, in one constant word.
    """

    def __init__(self, reason: str) -> None:
        self.reason = reason
        super().__init__(reason)


# Acks

_ACKS: Final = {
    "PENDING": "pending",
    "SERVER": "sent",
    "SENT": "sent",
    "SERVER_ACK": "sent",
    "DELIVERY": "delivered",
    "DELIVERED": "delivered",
    "DELIVERY_ACK": "delivered",
    "READ": "read",
    "PLAYED": "read",
    "ERROR": "error",
}
_ACKS_OF_LIFE: Final = frozenset({"DELIVERY", "READ", "PLAYED"})


def read_ack(event: Json) -> ChangeMessage:
    """Read a ``webhookStatus``.

    Raises:
        NoMessageError: When it names no message or a status we do not know.
    """
    message_id = text_of(event.get("messageId"))
    status = _ACKS.get(str(event.get("status")).upper())
    if message_id is None or status is None:
        raise NoMessageError("ack_unreadable")
    return ChangeMessage(do="ack", message_id=message_id, status=status)


def is_ack_of_life(event: Json) -> bool:
    """Whether an ack proves that the line's session works: somebody's phone received something."""
    return str(event.get("status")) in _ACKS_OF_LIFE


# Messages


def read_message(event: Json) -> Change:
    """Read a ``webhookReceived`` or ``webhookDelivery``.

    Raises:
        NoMessageError: When it is none.
    """
    chat_id = text_of(_object(event.get("chat")).get("id"))
    if chat_id is None:
        raise NoMessageError("no_chat")
    if is_story(event):
        raise NoMessageError("story")
    if chat_id.endswith(("@newsletter", "@broadcast")):
        raise NoMessageError("newsletter" if chat_id.endswith("@newsletter") else "broadcast")
    content = _unwrap(_object(event.get("msgContent")))
    if change := _change_of_another(content):
        return change
    message_id = text_of(event.get("messageId"))
    if message_id is None:
        raise NoMessageError("no_message_id")
    if event.get("messageStubType") is not None or "messageStubType" in content:
        raise NoMessageError("stub")
    return _message(event, chat_id, message_id, content)


def is_story(event: Json) -> bool:
    """Whether an event is about a status story: not a message, no sign of life."""
    chat_id = _object(event.get("chat")).get("id")
    return isinstance(chat_id, str) and (chat_id == "status" or chat_id.startswith("status@"))


def _message(event: Json, chat_id: str, message_id: str, content: Json) -> StoreMessage:
    from_me = event.get("fromMe") is True
    sender, chat = _object(event.get("sender")), _object(event.get("chat"))
    is_group = chat_id.endswith("@g.us") or event.get("isGroup") is True
    kind, body = _body(content)
    read = _READERS[kind](body)
    context = _object(body.get("contextInfo")) or _object(content.get("messageContextInfo"))
    metadata = {**read.pop("metadata", {}), "provider_event": event.get("event")}
    name = text_of(sender.get("pushName")) or text_of(sender.get("verifiedBizName"))
    phone, lid = (None, None) if is_group else _other_side(chat_id, sender, from_me=from_me)
    if is_group and not from_me:
        metadata["sender_name"] = name
        metadata["sender_phone"], metadata["sender_lid"] = _person(sender)
    if is_group and not chat_id.endswith("@g.us"):
        chat_id = f"{chat_id}@g.us"
    return StoreMessage(
        message_id=message_id,
        from_me=from_me,
        group=chat_id if is_group else None,
        phone=phone,
        lid=lid,
        contact_name=text_of(chat.get("subject")) if is_group else None if from_me else name,
        contact_picture=text_of(chat.get("profilePicture"))
        or (None if from_me or is_group else text_of(sender.get("profilePicture"))),
        quoted_message_id=read.pop("quoted_message_id", None) or _either(context, "stanzaId", "stanzaID"),
        metadata={key: value for key, value in metadata.items() if value is not None},
        **read,
    )


# Who


def _other_side(chat_id: str, sender: Json, *, from_me: bool) -> tuple[str | None, str | None]:
    """The phone and the LID of the other side of a direct chat; on ``fromMe`` it is only in ``chat.id``."""
    sender_phone, sender_lid = (None, None) if from_me else _person(sender)
    if chat_id.endswith("@lid"):
        digits = chat_id.removesuffix("@lid")
        return (sender_phone if sender_phone != digits else None), chat_id
    phone = _digits(chat_id)
    if phone is None:
        raise NoMessageError("chat_unreadable")
    if sender_lid is not None and phone == sender_lid.removesuffix("@lid"):
        return sender_phone, sender_lid
    return phone, sender_lid


def _person(sender: Json) -> tuple[str | None, str | None]:
    """A sender's phone, unless it is a LID in disguise, and LID."""
    raw, lid = text_of(sender.get("id")) or "", text_of(sender.get("senderLid"))
    if raw.endswith("@lid"):
        return None, lid or raw
    if lid is not None and not lid.endswith("@lid"):
        lid = f"{lid}@lid"
    digits = _digits(raw)
    if digits is None or len(digits) > _MAX_CONTACT_PHONE or (lid and digits == lid.removesuffix("@lid")):
        return None, lid
    return digits, lid


def _digits(address: str) -> str | None:
    digits = address.removesuffix("@s.whatsapp.net").removesuffix("@c.us").removeprefix("+").partition(":")[0]
    return digits if _PHONE.fullmatch(digits) else None


# What

_WRAPPERS: Final = (
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "documentWithCaptionMessage",
    "deviceSentMessage",
    "editedMessage",
)


def _unwrap(content: Json) -> Json:
    for _ in range(_MAX_WRAPPERS):
        inner = next(
            (_object(_object(content.get(name)).get("message")) for name in _WRAPPERS if content.get(name)), None
        )
        if not inner:
            break
        content = inner
    return content


def _change_of_another(content: Json) -> ChangeMessage | None:
    """An edit or a deletion names the message it changes; every other protocol message is noise."""
    protocol = _object(content.get("protocolMessage"))
    if not protocol:
        return None
    target = text_of(_object(protocol.get("key")).get("id")) or _either(_object(protocol.get("key")), "ID", "messageId")
    kind = protocol.get("type")
    edited = _object(protocol.get("editedMessage"))
    if target is not None and (kind in (14, "14", "MESSAGE_EDIT") or (kind is None and edited)):
        try:
            name, body = _body(_unwrap(edited))
        except NoMessageError:
            raise NoMessageError("edit_unreadable") from None
        return ChangeMessage(do="edit", message_id=target, content=_READERS[name](body).get("content"))
    if target is not None and not isinstance(kind, bool) and kind in (0, "0", "REVOKE"):
        return ChangeMessage(do="delete", message_id=target)
    raise NoMessageError("protocol")


def _body(content: Json) -> tuple[str, Json]:
    """The part that says what kind of message it is, and its name."""
    if isinstance(content.get("conversation"), str) and content["conversation"]:
        return "conversation", content
    for name in _READERS:
        if name != "conversation" and isinstance(content.get(name), Mapping) and content[name]:
            return name, content[name]
    raise NoMessageError("empty" if not content else "noise")


def _text(body: Json) -> dict[str, Any]:
    return {"type": "text", "content": text_of(body.get("conversation")) or text_of(body.get("text")) or ""}


def _media(kind: str) -> Callable[[Json], dict[str, Any]]:
    def read(body: Json) -> dict[str, Any]:
        return {
            "type": kind,
            "content": text_of(body.get("caption")),
            "media_url": _either(body, "url", "URL"),
            "media_key": _either(body, "mediaKey", "MediaKey"),
            "media_direct_path": _either(body, "directPath", "DirectPath"),
            "metadata": {
                "mimetype": text_of(body.get("mimetype")),
                "file_name": _either(body, "fileName", "title"),
                "file_length": _scalar(body.get("fileLength")),
                "file_sha256": _either(body, "fileSha256", "fileSHA256"),
                "file_enc_sha256": _either(body, "fileEncSha256", "fileEncSHA256"),
                "seconds": _scalar(body.get("seconds")),
                "voice": body.get("ptt") is True or body.get("PTT") is True or None,
                "width": _scalar(body.get("width")),
                "height": _scalar(body.get("height")),
            },
        }

    return read


def _location(body: Json) -> dict[str, Any]:
    latitude, longitude = _scalar(body.get("degreesLatitude")), _scalar(body.get("degreesLongitude"))
    place = ", ".join(part for part in (text_of(body.get("name")), text_of(body.get("address"))) if part)
    return {
        "type": "location",
        "content": place or text_of(body.get("caption")) or f"{latitude}, {longitude}",
        "metadata": {"latitude": latitude, "longitude": longitude, "place": place or None},
    }


def _contact(body: Json) -> dict[str, Any]:
    cards = [each for each in _list(body.get("contacts")) if isinstance(each, Mapping)] or [body]
    names = [text_of(each.get("displayName")) for each in cards]
    return {
        "type": "contact",
        "content": text_of(body.get("displayName")) or ", ".join(name for name in names if name),
        "metadata": {"vcards": [card for each in cards if (card := text_of(each.get("vcard")))] or None},
    }


def _poll(body: Json) -> dict[str, Any]:
    options = [text_of(_object(each).get("optionName")) for each in _list(body.get("options"))]
    return {
        "type": "poll",
        "content": text_of(body.get("name")),
        "metadata": {"options": [option for option in options if option]},
    }


def _reaction(body: Json) -> dict[str, Any]:
    # An empty text takes the reaction back.
    return {
        "type": "reaction",
        "content": text_of(body.get("text")) or "",
        "quoted_message_id": _either(_object(body.get("key")), "id", "ID"),
    }


def _button(body: Json) -> dict[str, Any]:
    row = _object(body.get("singleSelectReply"))
    return {
        "type": "button_reply",
        "content": _either(body, "selectedDisplayText", "title", "selectedButtonId", "selectedId", "selectedID"),
        "metadata": {
            "button_id": _either(body, "selectedButtonId", "selectedButtonID", "selectedId", "selectedID")
            or _either(row, "selectedRowId", "selectedRowID")
        },
    }


_READERS: Final[dict[str, Callable[[Json], dict[str, Any]]]] = {
    "conversation": _text,
    "extendedTextMessage": _text,
    "imageMessage": _media("image"),
    "videoMessage": _media("video"),
    "ptvMessage": _media("video"),
    "audioMessage": _media("audio"),
    "documentMessage": _media("document"),
    "stickerMessage": _media("sticker"),
    "locationMessage": _location,
    "liveLocationMessage": _location,
    "contactMessage": _contact,
    "contactsArrayMessage": _contact,
    "pollCreationMessage": _poll,
    "pollCreationMessageV2": _poll,
    "pollCreationMessageV3": _poll,
    "reactionMessage": _reaction,
    "buttonsResponseMessage": _button,
    "listResponseMessage": _button,
    "templateButtonReplyMessage": _button,
}


# JSON


def _object(value: object) -> Json:
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _scalar(value: object) -> int | float | str | None:
    if isinstance(value, bool) or value is None:
        return None
    return value if isinstance(value, int | float) else text_of(value)


def text_of(value: object) -> str | None:
    """A non-empty text that a text column can hold: without NUL, half surrogate pairs replaced."""
    if not isinstance(value, str) or not value:
        return None
    held = value.replace("\x00", "")
    if not held.isascii():
        held = held.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return held or None


def _either(body: Json, *spellings: str) -> str | None:
    return next((found for name in spellings if (found := text_of(body.get(name)))), None)

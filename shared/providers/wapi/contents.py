"""What WhatsApp's own message object holds, by its kind. Pure: a part of an event -> the columns of a message.

It comes in two spellings over time: ``url``/``URL``, ``fileSha256``/``fileSHA256``, ``stanzaId``/``stanzaID``.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, Final, TypeAlias

from shared.core.event import Noise

Json: TypeAlias = Mapping[str, Any]

_MAX_WRAPPERS: Final = 5
_MAX_ID: Final = 200
_MAX_NUMBER: Final = 10**18


class NoMessageError(Exception):
    """The event carries no message.

    Args:
        reason: Which kind of noise.
    """

    def __init__(self, reason: Noise) -> None:
        self.reason = reason
        super().__init__(reason)


_WRAPPERS: Final = (
    "ephemeralMessage",
    "viewOnceMessage",
    "viewOnceMessageV2",
    "viewOnceMessageV2Extension",
    "documentWithCaptionMessage",
    "deviceSentMessage",
)


def unwrap(content: Json) -> Json:
    """The message inside its wrappers: vanishing, to be seen once, a document with a caption."""
    for _ in range(_MAX_WRAPPERS):
        inner = next(
            (object_of(object_of(content.get(name)).get("message")) for name in _WRAPPERS if content.get(name)), None
        )
        if not inner:
            break
        content = inner
    return content


def edit_inside(content: Json) -> Json | None:
    """What an ``editedMessage`` holds, with or without a ``message`` of its own around it; None if there is none."""
    edited = object_of(unwrap(content).get("editedMessage"))
    return (object_of(edited.get("message")) or edited) if edited else None


def body_of(content: Json) -> tuple[str, Json]:
    """The part that says what kind of message it is, and its name."""
    if isinstance(content.get("conversation"), str) and content["conversation"]:
        return "conversation", content
    for name in READERS:
        if name != "conversation" and isinstance(content.get(name), Mapping) and content[name]:
            return name, content[name]
    raise NoMessageError(Noise.OTHER if content else Noise.EMPTY)


def _text(body: Json) -> dict[str, Any]:
    return {"type": "text", "content": text_of(body.get("conversation")) or text_of(body.get("text")) or ""}


def _media(body: Json, *, kind: str) -> dict[str, Any]:
    return {
        "type": kind,
        "content": text_of(body.get("caption")),
        "media_url": either(body, "url", "URL"),
        "media_key": either(body, "mediaKey", "MediaKey"),
        "media_direct_path": either(body, "directPath", "DirectPath"),
        "metadata": {
            "mimetype": text_of(body.get("mimetype")),
            "file_name": either(body, "fileName", "title"),
            "file_length": _scalar(body.get("fileLength")),
            "file_sha256": either(body, "fileSha256", "fileSHA256"),
            "file_enc_sha256": either(body, "fileEncSha256", "fileEncSHA256"),
            "seconds": _scalar(body.get("seconds")),
            "voice": body.get("ptt") is True or body.get("PTT") is True or None,
            "width": _scalar(body.get("width")),
            "height": _scalar(body.get("height")),
        },
    }


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
    options = [text_of(object_of(each).get("optionName")) for each in _list(body.get("options"))]
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
        "quoted_message_id": id_of(either(object_of(body.get("key")), "id", "ID")),
    }


def _button(body: Json) -> dict[str, Any]:
    row = object_of(body.get("singleSelectReply"))
    return {
        "type": "button_reply",
        "content": either(body, "selectedDisplayText", "title", "selectedButtonId", "selectedId", "selectedID"),
        "metadata": {
            "button_id": either(body, "selectedButtonId", "selectedButtonID", "selectedId", "selectedID")
            or either(row, "selectedRowId", "selectedRowID")
        },
    }


READERS: Final[dict[str, Callable[[Json], dict[str, Any]]]] = {
    "conversation": _text,
    "extendedTextMessage": _text,
    "imageMessage": partial(_media, kind="image"),
    "videoMessage": partial(_media, kind="video"),
    "ptvMessage": partial(_media, kind="video"),
    "audioMessage": partial(_media, kind="audio"),
    "documentMessage": partial(_media, kind="document"),
    "stickerMessage": partial(_media, kind="sticker"),
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


def object_of(value: object) -> Json:
    """The value if it is an object, else an empty one."""
    return value if isinstance(value, Mapping) else {}


def _list(value: object) -> list[Any]:
    return value if isinstance(value, list) else []


def _scalar(value: object) -> int | float | str | None:
    """A number that JSON can hold, or a text; infinities (``1e999``) are neither."""
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, int | float):
        return value if abs(value) < _MAX_NUMBER else None  # infinities and NaN are not
    return text_of(value)


def is_true(value: object) -> bool:
    """Whether a value means yes, in any of its spellings."""
    return value is True or value in (1, "true", "True", "1")


def id_of(value: object) -> str | None:
    """An id or address: a text (or a number) of a length that an index can hold."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MAX_NUMBER:
        value = str(value)
    found = text_of(value)
    return found if found is not None and len(found) <= _MAX_ID else None


def text_of(value: object) -> str | None:
    """A non-empty text that a text column can hold: without NUL, half surrogate pairs replaced."""
    if not isinstance(value, str) or not value:
        return None
    held = value.replace("\x00", "")
    if not held.isascii():
        held = held.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return held or None


def either(body: Json, *spellings: str) -> str | None:
    """The first text under one of a key's spellings."""
    return next((found for name in spellings if (found := text_of(body.get(name)))), None)

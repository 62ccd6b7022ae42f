"""What each kind of content says: its type, text and media. Pure: the body of a kind -> the columns of a message.

Bodies come folded (see ``values``). Media fields are the same in every kind that has a file.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from shared.providers.wapi.values import (
    Json,
    bytes_of,
    first_text,
    fold,
    fold_body,
    id_of,
    is_true,
    joined,
    json_in,
    name_of,
    number_of,
    objects_of,
    shown_time,
    text_of,
    url_of,
)

if TYPE_CHECKING:
    from shared.core.event import MessageType
    from shared.core.previews import Label

_MAX_CARDS: Final = 300
_MAX_OPTIONS: Final = 100
_MAX_ANSWERS: Final = 50


@dataclass(frozen=True, slots=True)
class Content:
    """What a body says, in the columns of a message.

    Attributes:
        type: What kind of thing it is.
        content: Its text, None without one.
        label: What stands in a list of conversations instead, if it is not the type's own.
        media_url: Of its file, as delivered.
        media_key: In base64.
        media_direct_path: As delivered.
        metadata: What else is worth keeping; what is None goes.
    """

    type: MessageType
    content: str | None = None
    label: Label | None = None
    media_url: str | None = None
    media_key: str | None = None
    media_direct_path: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)


Reader: TypeAlias = Callable[[Json], Content]


# Text


def read_text(body: Json) -> Content:
    """Its text; else the link; else the headline of the ad that was clicked; else the link card's title."""
    text = text_of(body.get("text")) or text_of(body.get("matchedtext"))
    if text is None:
        ad = fold(fold(body.get("contextinfo")).get("externaladreply"))
        text = first_text(ad, "title", "body") or text_of(body.get("title"))
    metadata = {}
    if body.get("matchedtext"):
        metadata = {
            "link": url_of(body.get("matchedtext")),
            "link_title": name_of(body.get("title")),
            "link_description": name_of(body.get("description")),
        }
    return Content("text", text, metadata=metadata)


def _ai_answer(body: Json) -> Content:
    parts = [part.get("messagetext") for part in objects_of(body.get("submessages"), _MAX_CARDS)]
    return Content("text", joined(*parts), label="ai_answer")


def _music(body: Json) -> Content:
    song = fold(body.get("embeddedmusic"))
    return Content(
        "text", joined(song.get("title"), song.get("author"), body.get("songuri")), label="music",
        metadata={"url": url_of(body.get("songuri"))},
    )  # fmt: skip


# Files


def read_media(body: Json, *, kind: MessageType) -> Content:
    """A file with its caption. A document without one shows its name."""
    content = text_of(body.get("caption"))
    if kind == "document":
        content = content or name_of(body.get("filename")) or name_of(body.get("title"))
    return Content(
        kind,
        content,
        media_url=url_of(body.get("url")),
        media_key=bytes_of(body.get("mediakey")),
        media_direct_path=text_of(body.get("directpath"), 4_096),
        metadata={
            "mimetype": name_of(body.get("mimetype")),
            "file_name": name_of(body.get("filename")) or name_of(body.get("title")),
            "file_length": number_of(body.get("filelength")),
            "file_sha256": bytes_of(body.get("filesha256")),
            "file_enc_sha256": bytes_of(body.get("fileencsha256")),
            "seconds": number_of(body.get("seconds")),
            "voice": is_true(body.get("ptt")) or None,
            "width": number_of(body.get("width")),
            "height": number_of(body.get("height")),
            "view_once": is_true(body.get("viewonce")) or None,
        },
    )


def _video(body: Json) -> Content:
    content = read_media(body, kind="video")
    if not is_true(body.get("gifplayback")):
        return content
    return replace(content, label="gif", metadata=content.metadata | {"gif": True})


def _document(body: Json) -> Content:
    content = read_media(body, kind="document")
    return replace(content, metadata=content.metadata | {"pages": number_of(body.get("pagecount"))})


def _sticker(body: Json) -> Content:
    content = read_media(body, kind="sticker")
    more = {
        "animated": is_true(body.get("isanimated")) or None,
        "lottie": is_true(body.get("islottie")) or None,
        "description": name_of(body.get("accessibilitylabel")),
    }
    return replace(content, metadata=content.metadata | more)


def _sticker_pack(body: Json) -> Content:
    content = read_media(body, kind="sticker")
    title = joined(body.get("name"), body.get("publisher"))
    more = {"sticker_count": len(objects_of(body.get("stickers"), _MAX_CARDS)) or None}
    return replace(
        content, content=content.content or title, label="sticker_pack", metadata=content.metadata | more
    )  # fmt: skip


# Places and people


def _location(body: Json, *, label: Label | None = None) -> Content:
    latitude, longitude = number_of(body.get("degreeslatitude")), number_of(body.get("degreeslongitude"))
    place = ", ".join(part for part in (name_of(body.get("name")), name_of(body.get("address"))) if part)
    coordinates = None if latitude is None and longitude is None else f"{latitude or 0}, {longitude or 0}"
    return Content(
        "location",
        place or first_text(body, "caption", "comment") or coordinates,
        label="live_location" if label or is_true(body.get("islive")) else None,
        metadata={
            "latitude": latitude,
            "longitude": longitude,
            "place": place or None,
            "url": url_of(body.get("url")),
        },
    )


def _contact(body: Json) -> Content:
    return _contacts([body], body, label=None)


def _contacts_array(body: Json) -> Content:
    return _contacts(objects_of(body.get("contacts"), _MAX_CARDS), body, label="contacts")


def _contacts(cards: list[Json], body: Json, *, label: Label | None) -> Content:
    names = [name for card in cards if (name := name_of(card.get("displayname")))]
    return Content(
        "contact",
        name_of(body.get("displayname")) or text_of(", ".join(names)),
        label=label,
        metadata={"vcards": [vcard for card in cards if (vcard := text_of(card.get("vcard")))] or None},
    )


# Polls


def _poll(body: Json) -> Content:
    options = [name_of(option.get("optionname")) for option in objects_of(body.get("options"), _MAX_OPTIONS)]
    return Content(
        "poll",
        text_of(body.get("name")),
        metadata={
            "options": [option for option in options if option],
            "selectable": number_of(body.get("selectableoptionscount")),
            "ends_at": shown_time(body.get("endtime")),
        },
    )


def _poll_result(body: Json) -> Content:
    results = [
        {"option": name_of(vote.get("optionname")), "votes": number_of(vote.get("optionvotecount")) or 0}
        for vote in objects_of(body.get("pollvotes"), _MAX_OPTIONS)
    ]
    return Content("poll", text_of(body.get("name")), label="poll_result", metadata={"results": results})


# Answers to buttons


def _button_reply(body: Json) -> Content:
    button_id = id_of(body.get("selectedbuttonid")) or id_of(body.get("selectedid"))
    return Content(
        "button_reply",
        first_text(body, "selecteddisplaytext") or button_id,
        metadata={
            "button_id": button_id,
            "button_index": number_of(body.get("selectedindex")),
            "card_index": number_of(body.get("selectedcarouselcardindex")),
        },
    )


def _list_reply(body: Json) -> Content:
    row_id = id_of(fold(body.get("singleselectreply")).get("selectedrowid"))
    return Content(
        "button_reply", first_text(body, "title", "description") or row_id,
        metadata={"button_id": row_id, "description": text_of(body.get("description"))},
    )  # fmt: skip


def _flow_reply(body: Json) -> Content:
    flow = fold(body.get("nativeflowresponsemessage"))
    params = json_in(flow.get("paramsjson"))
    text = first_text(params, "display_text", "title", "description") or text_of(fold(body.get("body")).get("text"))
    button_id = id_of(params.get("id"))
    answers = {
        name_of(key) or "": name_of(value) if isinstance(value, str) else number_of(value)
        for key, value in list(params.items())[:_MAX_ANSWERS]
        if key not in ("id", "display_text", "title", "description") and not isinstance(value, dict | list)
    }
    return Content(
        "button_reply", text or button_id,
        metadata={"button_id": button_id, "flow": name_of(flow.get("name")), "answers": answers or None},
    )  # fmt: skip


CONTENTS: Final[dict[str, Reader]] = {
    "extendedtextmessage": read_text,
    "imagemessage": partial(read_media, kind="image"),
    "videomessage": _video,
    "ptvmessage": _video,
    "audiomessage": partial(read_media, kind="audio"),
    "documentmessage": _document,
    "stickermessage": _sticker,
    "stickerpackmessage": _sticker_pack,
    "locationmessage": _location,
    "livelocationmessage": partial(_location, label="live_location"),
    "contactmessage": _contact,
    "contactsarraymessage": _contacts_array,
    **{f"pollcreationmessage{version}": _poll for version in ("", "v2", "v3", "v5", "v6")},
    **{f"pollresultsnapshotmessage{version}": _poll_result for version in ("", "v3")},
    "buttonsresponsemessage": _button_reply,
    "templatebuttonreplymessage": _button_reply,
    "listresponsemessage": _list_reply,
    "interactiveresponsemessage": _flow_reply,
    "richresponsemessage": _ai_answer,
    "musicmessage": _music,
    "statusquestionanswermessage": read_text,
    "questionresponsemessage": read_text,
    "statusquotedmessage": read_text,
}
"""By folded names. What a business sends stands in ``commerce``."""

MEDIA_KINDS: Final[dict[str, MessageType]] = {
    "imagemessage": "image",
    "videomessage": "video",
    "documentmessage": "document",
    "audiomessage": "audio",
}


def header_media(*holders: Json) -> dict[str, Any]:
    """The columns of a file in the header of a message with buttons: of the first holder that has one."""
    for holder in holders:
        for name, kind in MEDIA_KINDS.items():
            if holder.get(name):
                found = read_media(fold_body(holder[name]), kind=kind)
                return {
                    "media_url": found.media_url,
                    "media_key": found.media_key,
                    "media_direct_path": found.media_direct_path,
                    "metadata": found.metadata | {"media_type": kind},
                }
    return {"metadata": {}}

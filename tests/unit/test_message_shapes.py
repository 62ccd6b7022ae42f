"""What a message event says, read without a database: whose it is, what kind, which text and media; or why it is none."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any, Literal, get_args

import pytest

from shared.core.event import Change, Message, MessageType, Who
from shared.core.previews import preview
from shared.errors import EventRejected
from shared.providers.wapi.events import MAX_BODY_BYTES, MAX_DEPTH, parse_event

PHONE = "5511900000002"
LID = "100000000000002@lid"
GROUP = "120363000000000001@g.us"
OURS = "5511900000001"


def an_event(**fields: Any) -> dict[str, Any]:
    return {
        "event": "webhookReceived", "instanceId": "LITE-AB12CD-EF34GH", "connectedPhone": OURS,
        "connectedLid": "100000000000001@lid", "isGroup": False, "messageId": "3EB0AA", "fromMe": False,
        "chat": {"id": PHONE}, "sender": {"id": PHONE, "pushName": "Ana"}, "moment": 1_790_000_000,
        "msgContent": {"conversation": "Oi"}, **fields,
    }  # fmt: skip


def read(**fields: Any) -> Message | Change | str | None:
    event = parse_event(json.dumps(an_event(**fields)).encode())
    return event.change or event.noise


def stored(**fields: Any) -> Message:
    change = read(**fields)
    assert isinstance(change, Message), change
    return change


def test_a_text_is_read_whole() -> None:
    assert stored() == Message(
        from_me=False, group=None, phone=PHONE, lid=None, message_id="3EB0AA", contact_name="Ana", contact_picture=None,
        type="text", content="Oi", metadata={"provider_event": "webhookReceived"},
    )  # fmt: skip


# What kind it is.

MEDIA = {
    "url": "https://media.example/1", "mimetype": "image/jpeg", "caption": "Salão", "mediaKey": "a2V5", "directPath": "/v/1",
    "fileSha256": "c2hh", "fileEncSha256": "ZW5j", "fileLength": "1200", "width": 640, "height": 480,
}  # fmt: skip
OTHER_SPELLING = {
    "URL": "https://media.example/1", "mimetype": "image/jpeg", "caption": "Salão", "MediaKey": "a2V5", "DirectPath": "/v/1",
    "fileSHA256": "c2hh", "fileEncSHA256": "ZW5j", "fileLength": "1200", "width": 640, "height": 480,
}  # fmt: skip
KEPT = {
    "mimetype": "image/jpeg", "file_sha256": "c2hh", "file_enc_sha256": "ZW5j", "file_length": 1200, "width": 640, "height": 480,
    "provider_event": "webhookReceived",
}  # fmt: skip


@pytest.mark.parametrize("body", [MEDIA, OTHER_SPELLING], ids=["one spelling", "the other spelling"])
@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("imageMessage", "image"),
        ("videoMessage", "video"),
        ("ptvMessage", "video"),
        ("audioMessage", "audio"),
        ("documentMessage", "document"),
        ("stickerMessage", "sticker"),
    ],
)
def test_media_are_kept_as_delivered_in_both_spellings(name: str, kind: str, body: dict[str, Any]) -> None:
    message = stored(msgContent={name: body})

    assert (message.type, message.content) == (kind, "Salão")
    assert (message.media_url, message.media_key, message.media_direct_path) == (
        "https://media.example/1",
        "a2V5",
        "/v/1",
    )
    assert message.metadata == KEPT


@pytest.mark.parametrize(
    ("content", "kind", "text", "metadata"),
    [
        pytest.param({"extendedTextMessage": {"text": "Olá"}}, "text", "Olá", {}, id="a text with a context"),
        pytest.param({"audioMessage": {"ptt": True, "seconds": 7}}, "audio", None, {"voice": True, "seconds": 7}, id="a voice message"),
        pytest.param({"audioMessage": {"PTT": True, "mimetype": "audio/ogg"}}, "audio", None, {"voice": True, "mimetype": "audio/ogg"}, id="a voice message, spelt otherwise"),
        pytest.param({"audioMessage": {"ptt": "yes", "seconds": True}}, "audio", None, {}, id="what is no number or yes is left out"),
        pytest.param({"documentMessage": {"fileName": "a.pdf", "title": "b"}}, "document", "a.pdf", {"file_name": "a.pdf"}, id="a file name"),
        pytest.param({"documentMessage": {"title": "b.pdf"}}, "document", "b.pdf", {"file_name": "b.pdf"}, id="a title when there is no file name"),
        pytest.param(
            {"documentWithCaptionMessage": {"message": {"documentMessage": {"fileName": "a.pdf", "caption": "Orçamento"}}}},
            "document", "Orçamento", {"file_name": "a.pdf"}, id="a document with a caption, nested",
        ),
        pytest.param({"viewOnceMessageV2": {"message": {"imageMessage": {"mimetype": "image/png"}}}}, "image", None, {"mimetype": "image/png", "view_once": True}, id="to be seen once"),
        pytest.param({"ephemeralMessage": {"message": {"viewOnceMessage": {"message": {"conversation": "Oi"}}}}}, "text", "Oi", {}, id="wrappers in wrappers"),
        pytest.param({"deviceSentMessage": {"message": {"conversation": "Oi"}}}, "text", "Oi", {}, id="sent from another device"),
        pytest.param({"viewOnceMessageV2Extension": {"message": {"conversation": "Oi"}}}, "text", "Oi", {}, id="another wrapper"),
        pytest.param(
            {"locationMessage": {"degreesLatitude": -23.5, "degreesLongitude": -46.6}}, "location", "-23.5, -46.6",
            {"latitude": -23.5, "longitude": -46.6}, id="a place by its numbers",
        ),
        pytest.param(
            {"locationMessage": {"degreesLatitude": -23.5, "degreesLongitude": -46.6, "name": "Salão", "address": "Rua A, 1"}}, "location",
            "Salão, Rua A, 1", {"latitude": -23.5, "longitude": -46.6, "place": "Salão, Rua A, 1"}, id="a place by its name",
        ),
        pytest.param(
            {"liveLocationMessage": {"degreesLatitude": 1, "degreesLongitude": 2, "caption": "Aqui"}}, "location", "Aqui",
            {"latitude": 1, "longitude": 2}, id="a place that moves",
        ),
        pytest.param({"contactMessage": {"displayName": "Bia", "vcard": "BEGIN:VCARD"}}, "contact", "Bia", {"vcards": ["BEGIN:VCARD"]}, id="a contact"),
        pytest.param(
            {"contactsArrayMessage": {"contacts": [{"displayName": "Bia", "vcard": "V1"}, {"displayName": "Caio", "vcard": "V2"}, 7]}},
            "contact", "Bia, Caio", {"vcards": ["V1", "V2"]}, id="several contacts",
        ),
        pytest.param(
            {"contactsArrayMessage": {"displayName": "2 contatos", "contacts": [{"displayName": "Bia"}]}},
            "contact", "2 contatos", {}, id="several contacts by the name of them all",
        ),
        pytest.param({"contactMessage": {"displayName": "Bia"}}, "contact", "Bia", {}, id="a contact without a card"),
        pytest.param({"pollCreationMessage": {"name": "Quando?", "options": [{"optionName": "Maio"}, {"optionName": "Junho"}, {}]}}, "poll", "Quando?", {"options": ["Maio", "Junho"]}, id="a poll"),
        pytest.param({"pollCreationMessageV3": {"name": "Quando?", "options": []}}, "poll", "Quando?", {"options": []}, id="a poll of another version"),
        pytest.param({"pollCreationMessageV2": {"options": "none"}}, "poll", None, {"options": []}, id="a poll without a question"),
        pytest.param(
            {"buttonsResponseMessage": {"selectedButtonId": "b1", "selectedDisplayText": "Sim"}}, "button_reply", "Sim",
            {"button_id": "b1"}, id="a button",
        ),
        pytest.param({"templateButtonReplyMessage": {"selectedID": "b2"}}, "button_reply", "b2", {"button_id": "b2"}, id="a template's button without a text"),
        pytest.param({"templateButtonReplyMessage": {"selectedId": "b3"}}, "button_reply", "b3", {"button_id": "b3"}, id="its other spelling"),
        pytest.param({"buttonsResponseMessage": {"selectedButtonID": "b4", "selectedDisplayText": "Não"}}, "button_reply", "Não", {"button_id": "b4"}, id="a button, spelt otherwise"),
        pytest.param(
            {"listResponseMessage": {"title": "Maio", "singleSelectReply": {"selectedRowId": "r1"}}}, "button_reply", "Maio",
            {"button_id": "r1"}, id="a choice from a list",
        ),
        pytest.param(
            {"listResponseMessage": {"title": "Maio", "singleSelectReply": {"selectedRowID": "r2"}}}, "button_reply", "Maio",
            {"button_id": "r2"}, id="a choice, spelt otherwise",
        ),
        pytest.param({"buttonsResponseMessage": {"selectedButtonId": "b5"}}, "button_reply", "b5", {"button_id": "b5"}, id="a button without a text"),
    ],
)  # fmt: skip
def test_each_kind_of_content_has_its_type_text_and_metadata(
    content: dict[str, Any], kind: str, text: str | None, metadata: dict[str, Any]
) -> None:
    message = stored(msgContent=content)

    assert (message.type, message.content) == (kind, text)
    assert message.metadata == {**metadata, "provider_event": "webhookReceived"}


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"extendedTextMessage": {"text": "Sim", "contextInfo": {"stanzaId": "3EB0BB"}}}, id="in the body"),
        pytest.param(
            {"extendedTextMessage": {"text": "Sim", "contextInfo": {"stanzaID": "3EB0BB"}}}, id="spelt otherwise"
        ),
        pytest.param({"conversation": "Sim", "messageContextInfo": {"stanzaId": "3EB0BB"}}, id="beside the body"),
    ],
)
def test_an_answer_quotes_its_message(content: dict[str, Any]) -> None:
    assert stored(msgContent=content).quoted_message_id == "3EB0BB"


# Whose it is.


@pytest.mark.parametrize(
    ("fields", "phone", "lid"),
    [
        pytest.param({}, PHONE, None, id="a phone"),
        pytest.param({"chat": {"id": f"{PHONE}@s.whatsapp.net"}}, PHONE, None, id="an address"),
        pytest.param({"chat": {"id": f"+{PHONE}"}}, PHONE, None, id="a plus"),
        pytest.param({"chat": {"id": f"{PHONE}@c.us"}}, PHONE, None, id="an old address"),
        pytest.param({"chat": {"id": f"{PHONE}:12@s.whatsapp.net"}}, PHONE, None, id="a device"),
        pytest.param({"chat": {"id": f"{PHONE}.0:12@s.whatsapp.net"}}, PHONE, None, id="an agent and a device"),
        pytest.param({"chat": {"id": f"{PHONE}_1:0@c.us"}}, PHONE, None, id="an agent as Baileys writes it"),
        pytest.param({"chat": {"id": f"{PHONE}@hosted"}}, PHONE, None, id="a hosted device"),
        pytest.param({"chat": {"id": LID.replace("@lid", ":3@hosted.lid")}, "sender": {}}, None, LID, id="a hosted LID"),
        pytest.param({"chat": {"id": LID.replace("@", ":7@")}, "sender": {"id": PHONE, "senderLid": LID.replace("@", ":7@")}}, PHONE, LID, id="a LID's device"),
        pytest.param({"chat": None}, PHONE, None, id="no chat at all: the sender's"),
        pytest.param({"chat": {}, "sender": {"id": LID, "phoneNumber": PHONE}}, PHONE, LID, id="no chat, and a LID that names its phone"),
        pytest.param({"chat": {"id": "1700000000@broadcast"}}, PHONE, None, id="through somebody's broadcast list"),
        pytest.param({"chat": {"id": LID}, "sender": {"id": "553188887777", "senderLid": LID}, "connectedPhone": "5531988887777"}, None, LID, id="the line itself without its ninth digit"),
        pytest.param({"fromMe": True, "chat": None, "msgContent": {"deviceSentMessage": {"destinationJid": f"{PHONE}@s.whatsapp.net", "message": {"conversation": "Oi"}}}}, PHONE, None, id="sent by another device, which says to whom"),
        pytest.param({"msgContent": {"extendedTextMessage": {"text": "x", "contextInfo": {"remoteJid": "status@broadcast"}}}}, PHONE, None, id="an answer to a story"),
        pytest.param({"chat": {"id": LID}}, PHONE, LID, id="a LID whose phone the sender tells"),
        pytest.param({"chat": {"id": LID}, "sender": {"id": LID}}, None, LID, id="a LID alone"),
        pytest.param({"chat": {"id": LID}, "sender": {"id": LID.removesuffix("@lid"), "senderLid": LID}}, None, LID, id="a LID that looks like a phone"),
        pytest.param({"chat": {"id": LID}, "sender": {"id": "55119000000021", "senderLid": LID}}, None, LID, id="fourteen digits are no phone"),
        pytest.param({"chat": {"id": "100000000000002"}}, PHONE, LID, id="a LID without its suffix"),
        pytest.param({"sender": {"id": PHONE, "senderLid": LID}}, PHONE, LID, id="a phone whose LID the sender tells"),
        pytest.param({"sender": {"id": PHONE, "senderLid": LID.removesuffix("@lid")}}, PHONE, LID, id="that LID without its suffix"),
        pytest.param({"sender": {"id": PHONE, "senderLid": "12@lid"}}, PHONE, None, id="too short for a LID"),
        pytest.param({"chat": {"id": "5511900000"}, "sender": {"id": PHONE, "senderLid": "5511900000@lid"}}, PHONE, "5511900000@lid", id="a chat by the LID's digits"),
        pytest.param({"fromMe": True}, PHONE, None, id="ours, the other side is the chat"),
        pytest.param({"fromMe": True, "chat": {"id": LID}, "sender": {"id": OURS}}, None, LID, id="ours to a LID"),
        pytest.param({"chat": {"id": LID}, "sender": {"id": OURS}}, None, LID, id="the line itself as sender tells nothing"),
        pytest.param({"chat": {"id": LID}, "sender": {"id": PHONE, "senderLid": "100000000000001@lid"}}, None, LID, id="the line's own LID as sender tells nothing"),
        pytest.param({"sender": None}, PHONE, None, id="no sender"),
        pytest.param({"fromMe": True, "chat": {"id": LID}, "sender": {"id": PHONE}}, None, LID, id="ours, whoever the sender is said to be"),
        pytest.param({"chat": {"id": f"{PHONE}@lid"}}, None, f"{PHONE}@lid", id="a LID of thirteen digits that the sender repeats"),
        pytest.param({"chat": {"id": LID}, "sender": {"id": PHONE, "senderLid": f"{PHONE}@lid"}}, None, LID, id="a sender whose id is its LID"),
        pytest.param({"isGroup": True}, PHONE, None, id="a short address is a person's, whatever is said"),
        pytest.param({"isGroup": True, "chat": {"id": LID}}, PHONE, LID, id="so is a LID"),
        pytest.param({"isGroup": True, "chat": {"id": "100000000000002"}}, PHONE, LID, id="and one of fifteen digits"),
        pytest.param({"sender": {"id": LID}}, PHONE, LID, id="a sender by its LID alone"),
        pytest.param({"chat": {"id": LID}, "sender": {"id": LID, "senderPn": PHONE}}, PHONE, LID, id="a phone by another name"),
        pytest.param({"chat": {"id": LID}, "sender": {"id": LID, "pn": PHONE}}, PHONE, LID, id="and by a third"),
        pytest.param({"sender": {"id": PHONE, "lid": LID}}, PHONE, LID, id="a LID by another name"),
        pytest.param({"chat": {"id": LID}, "sender": {"id": f"{PHONE}@s.whatsapp.net"}}, PHONE, LID, id="a sender by its address"),
        pytest.param({"sender": {"id": PHONE, "senderLid": "12345"}}, PHONE, None, id="too short for a LID without its suffix"),
        pytest.param({"senderLid": LID}, PHONE, LID, id="a LID beside the sender"),
        pytest.param({"sender": {"id": PHONE, "lid": LID}, "senderLid": "100000000000009@lid"}, PHONE, LID, id="the sender's own before it"),
        pytest.param({"chat": {"id": "1700000000@broadcast"}, "sender": {"id": f"{PHONE}@lid", "phoneNumber": PHONE}}, None, f"{PHONE}@lid", id="a LID that is called its phone as well"),
        pytest.param({"chat": {"id": LID}, "sender": {"id": "5531988887777", "senderLid": LID}, "connectedPhone": "5511988887777"}, "5531988887777", LID, id="the same digits in another area"),
        pytest.param({"chat": {"id": LID}, "sender": {"id": "0123456789"}}, None, LID, id="digits that no phone begins with"),
    ],
)  # fmt: skip
def test_the_other_side_of_a_chat_is_a_phone_a_lid_or_both(
    fields: dict[str, Any], phone: str | None, lid: str | None
) -> None:
    message = stored(**fields)

    assert (message.group, message.phone, message.lid) == (None, phone, lid)
    assert message.from_me == fields.get("fromMe", False)


@pytest.mark.parametrize(
    ("fields", "is_dialled"),
    [
        ({"fromMe": True, "fromApi": True}, True),
        ({"fromMe": True}, False),
        ({"fromMe": True, "fromApi": False}, False),
        ({"fromApi": True}, False),
    ],
    ids=["through the API", "by hand", "by hand, and said so", "by the other side"],
)
def test_what_was_sent_through_the_api_was_dialled(fields: dict[str, Any], is_dialled: bool) -> None:
    assert stored(**fields).is_dialled is is_dialled


@pytest.mark.parametrize(
    "chat",
    [
        pytest.param({"id": GROUP}, id="by its address"),
        pytest.param({"id": GROUP.removesuffix("@g.us")}, id="without its suffix"),
        pytest.param({"id": "1203630000000001"}, id="sixteen digits without a suffix"),
        pytest.param({"id": "5511900000001-1600000000@g.us"}, id="an old one"),
    ],
)
def test_in_a_group_the_sender_is_kept_with_the_message(chat: dict[str, Any]) -> None:
    message = stored(
        isGroup=True, chat={**chat, "subject": "Festa"}, sender={"id": PHONE, "senderLid": LID, "pushName": "Ana"}
    )

    assert message.group == chat["id"].removesuffix("@g.us") + "@g.us"
    assert (message.phone, message.lid, message.sender_phone, message.sender_lid) == (None, None, PHONE, LID)
    assert message.contact_name == "Festa"
    assert message.metadata == {
        "sender_name": "Ana", "sender_phone": PHONE, "sender_lid": LID, "provider_event": "webhookReceived",
    }  # fmt: skip


def test_our_own_message_in_a_group_has_no_sender() -> None:
    message = stored(
        isGroup=True, fromMe=True, chat={"id": GROUP, "subject": "Festa"}, sender={"id": OURS, "pushName": "Nós"}
    )

    assert (message.sender_phone, message.contact_name, message.metadata) == (
        None,
        "Festa",
        {"provider_event": "webhookReceived"},
    )


@pytest.mark.parametrize(
    ("fields", "name", "picture"),
    [
        pytest.param({"sender": {"id": PHONE, "verifiedBizName": "Loja"}}, "Loja", None, id="a verified business"),
        pytest.param({"sender": {"id": PHONE, "pushName": "Ana", "verifiedBizName": "Loja"}}, "Ana", None, id="the name it gave itself first"),
        pytest.param({"sender": {"id": PHONE, "profilePicture": "https://p/1"}}, None, "https://p/1", id="a sender's picture"),
        pytest.param({"chat": {"id": PHONE, "profilePicture": "https://p/2"}, "sender": {"profilePicture": "https://p/1"}}, None, "https://p/2", id="the chat's picture first"),
        pytest.param({"fromMe": True, "sender": {"id": OURS, "pushName": "Nós", "profilePicture": "https://p/3"}}, None, None, id="our own name is not the contact's"),
        pytest.param({"chat": {"id": PHONE, "subject": "Festa"}}, "Ana", None, id="a subject names groups only"),
        pytest.param({"fromMe": True, "chat": {"id": PHONE, "subject": "Festa"}}, None, None, id="also when we write"),
    ],
)  # fmt: skip
def test_a_contact_has_the_name_and_picture_of_the_other_side(
    fields: dict[str, Any], name: str | None, picture: str | None
) -> None:
    message = stored(**fields)

    assert (message.contact_name, message.contact_picture) == (name, picture)


# What is none.


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        pytest.param({"chat": {}, "isGroup": True}, "no_chat", id="no chat in a group"),
        pytest.param({"chat": {}, "fromMe": True}, "no_chat", id="no chat and sent by us"),
        pytest.param({"chat": "5511900000002", "sender": {}}, "no_chat", id="a chat that is no object, and no sender"),
        pytest.param({"chat": {"id": "status"}}, "story", id="a story"),
        pytest.param({"chat": {"id": "status@broadcast"}}, "story", id="a story by its address"),
        pytest.param({"chat": {"id": "1@newsletter"}}, "newsletter", id="a newsletter"),
        pytest.param({"chat": {"id": "1600000000@broadcast"}, "fromMe": True}, "broadcast", id="a broadcast list of our own"),
        pytest.param({"chat": {"id": "1600000000@broadcast"}, "sender": {}}, "broadcast", id="somebody's list without a sender"),
        pytest.param({"chat": {"id": "1@bot"}}, "not_a_person", id="a bot"),
        pytest.param({"chat": {"id": "13135550002"}}, "not_a_person", id="a bot as a phone"),
        pytest.param({"chat": {"id": "0@s.whatsapp.net"}}, "not_a_person", id="announcements"),
        pytest.param({"chat": {"id": "server@s.whatsapp.net"}}, "not_a_person", id="the server"),
        pytest.param({"chat": {"id": "1@msgr"}}, "not_a_person", id="another network"),
        pytest.param({"chat": {"id": "not a number"}}, "chat_unreadable", id="an address that is none"),
        pytest.param({"chat": {"id": "12@lid"}}, "chat_unreadable", id="a LID that is none"),
        pytest.param({"chat": {"id": "0123456789"}}, "chat_unreadable", id="digits that no phone begins with"),
        pytest.param({"chat": {"id": "x@g.us"}}, "chat_unreadable", id="a group that is none"),
        pytest.param({"messageId": None}, "no_message_id", id="no id"),
        pytest.param({"messageId": "x" * 201}, "no_message_id", id="an id that no index holds"),
        pytest.param({"msgContent": {}}, "empty", id="an empty burst"),
        pytest.param({"msgContent": {"protocolMessage": {"type": 5}}}, "protocol", id="protocol noise"),
        pytest.param({"msgContent": {"protocolMessage": {"type": False, "key": {"id": "3EB0BB"}}}}, "protocol", id="false is not 0"),
        pytest.param({"msgContent": {"protocolMessage": {"type": 0}}}, "protocol", id="a deletion of nothing"),
        pytest.param(
            {"msgContent": {"protocolMessage": {"type": 5, "key": {"id": "3EB0BB"}, "editedMessage": {"conversation": "x"}}}},
            "protocol", id="protocol noise that looks like an edit",
        ),
        pytest.param({"chat": {"id": "1203630000000001"}}, "chat_unreadable", id="an address too long for a phone, not said to be a group's"),
        pytest.param({"msgContent": {"protocolMessage": {"type": 14, "editedMessage": {"conversation": "x"}}}}, "edit_unreadable", id="an edit of nothing"),
        pytest.param({"msgContent": {"protocolMessage": {"type": 14, "key": {"id": "3EB0BB"}}}}, "edit_unreadable", id="an edit to nothing"),
        pytest.param({"messageId": None, "msgContent": {"editedMessage": {"conversation": "x"}}}, "edit_unreadable", id="an edit without an id"),
        pytest.param({"msgContent": {"protocolMessage": {"type": 14, "key": {"id": "3EB0BB"}, "editedMessage": "x"}}}, "edit_unreadable", id="an edit to what is no message"),
        pytest.param({"msgContent": {"protocolMessage": {"type": 14, "key": {"id": "3EB0BB"}, "editedMessage": {}}}}, "edit_unreadable", id="an edit to an empty one"),
        pytest.param({"msgContent": {"protocolMessage": {"type": 14, "key": {"id": "3EB0BB"}, "editedMessage": {"newThing": {"a": "b"}}}}}, "edit_unreadable", id="an edit to a kind that nobody knows"),
        pytest.param({"msgContent": {"protocolMessage": {"type": 14, "key": {"id": "3EB0BB"}, "editedMessage": {"extendedTextMessage": {"x": 1}}}}}, "edit_unreadable", id="an edit to a text without one"),
        pytest.param({"chat": {"id": f"{PHONE}@example.com"}}, "chat_unreadable", id="a phone at another server"),
        pytest.param({"msgContent": {"reactionMessage": {"key": {}, "text": "x"}}}, "edit_unreadable", id="a reaction to nothing"),
        pytest.param({"msgContent": {"pinInChatMessage": {"key": {"id": "3EB0BB"}, "type": 3}}}, "silent", id="a pin of another type"),
    ],
)  # fmt: skip
def test_what_is_no_message_is_named(fields: dict[str, Any], reason: str) -> None:
    assert read(**fields) == reason


# Changes of another message.


@pytest.mark.parametrize("key", ["id", "ID", "messageId"])
@pytest.mark.parametrize("kind", [0, "0", "REVOKE"])
def test_a_deletion_names_its_message_and_who_deletes(kind: object, key: str) -> None:
    change = read(msgContent={"protocolMessage": {"type": kind, "key": {key: "3EB0BB"}}})

    assert isinstance(change, Change)
    assert (change.do, change.message_id, change.content) == ("delete", "3EB0BB", None)
    assert change.who is not None
    assert (change.who.from_me, change.who.phone) == (False, PHONE)


EARLIER, EARLIER_AT = "1789999999000", datetime(2026, 9, 21, 14, 13, 19, tzinfo=UTC)
KEY = {"key": {"id": "3EB0BB"}}


def a_change(do: Literal["edit", "react", "mark", "delete", "learn"], **facts: Any) -> Change:
    return Change(
        do=do, **{"message_id": "3EB0BB", "who": Who(from_me=False, group=None, phone=PHONE, lid=None), **facts}
    )


@pytest.mark.parametrize(
    ("content", "change"),
    [
        pytest.param(
            {"reactionMessage": {**KEY, "text": "👍", "senderTimestampMs": EARLIER}},
            a_change("react", content="👍", at=EARLIER_AT, event_message_id="3EB0AA", sender_name="Ana"), id="a reaction",
        ),
        pytest.param({"pinInChatMessage": {**KEY, "type": 1}}, a_change("mark", mark="pinned", is_on=True), id="a pin"),
        pytest.param(
            {"pinInChatMessage": {**KEY, "type": "PIN_FOR_ALL", "senderTimestampMs": EARLIER, "timestampMs": "1"}},
            a_change("mark", mark="pinned", is_on=True, at=EARLIER_AT), id="a pin, by the sender's clock",
        ),
        pytest.param({"pinInChatMessage": {**KEY, "type": 2}}, a_change("mark", mark="pinned", is_on=False), id="no longer pinned"),
        pytest.param({"pinInChatMessage": {**KEY, "type": "UNPIN_FOR_ALL"}}, a_change("mark", mark="pinned", is_on=False), id="no longer, by name"),
        pytest.param({"keepInChatMessage": {**KEY, "keepType": 1}}, a_change("mark", mark="kept", is_on=True), id="kept"),
        pytest.param(
            {"keepInChatMessage": {**KEY, "keepType": "KEEP_FOR_ALL", "timestampMs": EARLIER}},
            a_change("mark", mark="kept", is_on=True, at=EARLIER_AT), id="kept, by name, with its time",
        ),
        pytest.param({"keepInChatMessage": {**KEY, "keepType": 2}}, a_change("mark", mark="kept", is_on=False), id="no longer kept"),
        pytest.param({"keepInChatMessage": {**KEY, "keepType": "UNDO_KEEP_FOR_ALL"}}, a_change("mark", mark="kept", is_on=False), id="no longer, by its name"),
        pytest.param({"secretEncryptedMessage": {"targetMessageKey": {"id": "3EB0BB"}}}, a_change("mark", mark="edited", is_on=True), id="a sealed edit"),
        pytest.param(
            {"protocolMessage": {**KEY, "type": 14, "editedMessage": {"conversation": "Novo"}, "timestampMs": EARLIER}},
            a_change("edit", content="Novo", at=EARLIER_AT), id="an edit",
        ),
        pytest.param({"protocolMessage": {**KEY, "timestampMs": EARLIER}}, a_change("delete"), id="a deletion whose type is left out"),
    ],
)  # fmt: skip
def test_a_change_says_what_is_done_to_what_by_whom_and_when(content: dict[str, Any], change: Change) -> None:
    assert read(msgContent=content) == change


@pytest.mark.parametrize("kind", [11, "SHARE_PHONE_NUMBER"])
def test_a_shared_number_tells_whose_lid_it_is(kind: object) -> None:
    who = Who(from_me=False, group=None, phone=PHONE, lid=LID)
    found = read(sender={"id": PHONE, "senderLid": LID}, msgContent={"protocolMessage": {"type": kind}})
    assert found == Change(do="learn", who=who)
    assert read(msgContent={"protocolMessage": {"type": kind}}) == "protocol"


@pytest.mark.parametrize(
    ("content", "target"),
    [
        pytest.param({"protocolMessage": {"type": 14, "key": {"id": "3EB0BB"}, "editedMessage": {"conversation": "Novo"}}}, "3EB0BB", id="by number"),
        pytest.param({"protocolMessage": {"type": "14", "key": {"id": "3EB0BB"}, "editedMessage": {"conversation": "Novo"}}}, "3EB0BB", id="by number as text"),
        pytest.param({"protocolMessage": {"type": "MESSAGE_EDIT", "key": {"ID": "3EB0BB"}, "editedMessage": {"message": {"conversation": "Novo"}}}}, "3EB0BB", id="by name, wrapped"),
        pytest.param({"protocolMessage": {"key": {"id": "3EB0BB"}, "editedMessage": {"extendedTextMessage": {"text": "Novo"}}}}, "3EB0BB", id="without a type"),
        pytest.param({"editedMessage": {"message": {"protocolMessage": {"type": 14, "key": {"id": "3EB0BB"}, "editedMessage": {"conversation": "Novo"}}}}}, "3EB0BB", id="wrapped as an edit"),
        pytest.param({"ephemeralMessage": {"message": {"protocolMessage": {"type": 14, "key": {"id": "3EB0BB"}, "editedMessage": {"conversation": "Novo"}}}}}, "3EB0BB", id="in a vanishing chat"),
        pytest.param({"editedMessage": {"message": {"conversation": "Novo"}}}, "3EB0AA", id="its own id when it names none"),
        pytest.param({"editedMessage": {"conversation": "Novo"}}, "3EB0AA", id="its own id, unwrapped"),
    ],
)  # fmt: skip
def test_an_edit_names_its_message_and_the_new_text(content: dict[str, Any], target: str) -> None:
    change = read(msgContent=content)

    assert isinstance(change, Change)
    assert (change.do, change.message_id, change.content) == ("edit", target, "Novo")
    assert change.who is not None
    assert change.who.phone == PHONE


@pytest.mark.parametrize(
    ("status", "means"),
    [
        ("PENDING", "pending"), ("SERVER", "sent"), ("SENT", "sent"), ("SERVER_ACK", "sent"), ("DELIVERY", "delivered"),
        ("DELIVERED", "delivered"), ("DELIVERY_ACK", "delivered"), ("READ", "read"), ("PLAYED", "read"), ("ERROR", "error"),
        ("read", "read"),
    ],
)  # fmt: skip
def test_an_ack_means_what_the_platform_stores(status: str, means: str) -> None:
    change = read(event="webhookStatus", status=status)

    assert change == Change(do="ack", message_id="3EB0AA", status=means)


@pytest.mark.parametrize(
    "fields", [{"status": "SEEN"}, {"status": None}, {"status": "READ", "messageId": None}], ids=str
)
def test_an_ack_that_says_nothing_is_named(fields: dict[str, Any]) -> None:
    assert read(event="webhookStatus", **fields) == "ack_unreadable"


@pytest.mark.parametrize(
    ("fields", "is_life"),
    [
        pytest.param({}, True, id="a message that came in"),
        pytest.param({"fromMe": True}, True, id="one written on the phone"),
        pytest.param({"fromMe": True, "fromApi": True}, False, id="an echo of ours"),
        pytest.param({"event": "webhookDelivery", "fromMe": True}, False, id="an echo by its name"),
        pytest.param({"chat": {"id": "status@broadcast"}}, False, id="a story"),
        pytest.param({"event": "webhookStatus", "status": "DELIVERY"}, True, id="somebody's phone received it"),
        pytest.param({"event": "webhookStatus", "status": "READ"}, True, id="somebody read it"),
        pytest.param({"event": "webhookStatus", "status": "PLAYED"}, True, id="somebody heard it"),
        pytest.param({"event": "webhookStatus", "status": "SERVER"}, False, id="the server alone took it"),
        pytest.param({"event": "webhookStatus", "status": "ERROR"}, False, id="an error"),
        pytest.param({"event": "webhookStatus", "status": "read"}, False, id="names are matched exactly"),
        pytest.param({"event": "webhookChatPresence"}, False, id="typing"),
        pytest.param({"event": "webhookConnected"}, True, id="a connection"),
        pytest.param({"event": "webhookDisconnected"}, False, id="a disconnection"),
    ],
)
def test_only_what_proves_the_session_is_a_sign_of_life(fields: dict[str, Any], is_life: bool) -> None:
    assert parse_event(json.dumps(an_event(**fields)).encode()).is_life is is_life


# Values.


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        pytest.param("a\x00b", "ab", id="a NUL goes"),
        pytest.param("a\ud800b", "a\ufffdb", id="half a surrogate pair is replaced"),
        pytest.param("😀", "😀", id="a whole one stays"),
    ],
)
def test_a_text_is_one_that_a_column_can_hold(given: str, kept: str) -> None:
    assert (stored(msgContent={"extendedTextMessage": {"text": given}}).content or "") == kept


@pytest.mark.parametrize(
    ("given", "kept"),
    [(3, 3), (1.5, 1.5), ("7", 7), ("1.5", 1.5), ({"low": -1, "high": 0, "unsigned": True}, 2**32 - 1), ({"low": 5, "high": -1}, -(2**32) + 5), ("x", None), (True, None), (10**18, None), (-(10**18), None), (10**18 - 1, 10**18 - 1), ([], None)],
    ids=str,
)  # fmt: skip
def test_a_number_is_one_that_json_can_hold(given: object, kept: object) -> None:
    assert stored(msgContent={"imageMessage": {"mimetype": "a", "width": given}}).metadata.get("width") == kept


@pytest.mark.parametrize(("given", "is_from_me"), [(True, True), (1, True), ("true", True), ("True", True), ("1", True), (False, False), ("no", False), (None, False), (2, False)], ids=str)  # fmt: skip
def test_a_yes_comes_in_several_spellings(given: object, is_from_me: bool) -> None:
    assert stored(fromMe=given).from_me is is_from_me


@pytest.mark.parametrize(
    ("given", "kept"), [(7, "7"), (1, "1"), (0, None), (True, None), ("x" * 200, "x" * 200), (10**18, None)], ids=str
)
def test_an_id_is_a_text_or_a_number_that_an_index_can_hold(given: object, kept: str | None) -> None:
    change = read(messageId=given)

    assert (change.message_id if isinstance(change, Message) else None) == kept


@pytest.mark.parametrize(
    ("unknown", "kind"),
    [
        pytest.param({"message": {"conversation": "Oi"}}, "text", id="a message alone"),
        pytest.param(
            {"message": {"conversation": "Oi"}, "messageContextInfo": {"a": {}}, "contextInfo": {"b": {}}},
            "text",
            id="and what may stand around it",
        ),
        pytest.param({"message": {"conversation": "Oi"}, "other": {}}, "unsupported", id="and another object"),
        pytest.param({"message": "Oi"}, "unsupported", id="a text under that name"),
        pytest.param({"text": "Oi"}, "unsupported", id="no message"),
    ],
)
def test_an_envelope_that_nobody_knows_holds_a_message_and_nothing_else(unknown: dict[str, Any], kind: str) -> None:
    assert stored(msgContent={"newThing": unknown}).type == kind


@pytest.mark.parametrize(
    ("paired", "noise"),
    [(1, None), (2, "twin"), (3, None), (4, "twin"), (0, None), ("HEVC_CHILD", "twin"), ("SD_PARENT", None)],
)
def test_a_better_copy_of_a_picture_is_a_twin(paired: object, noise: str | None) -> None:
    found = read(msgContent={"imageMessage": {**MEDIA, "contextInfo": {"pairedMediaType": paired}}})
    assert isinstance(found, Message) if noise is None else found == noise


def test_ten_envelopes_are_opened_and_more_leave_a_trace() -> None:
    content: dict[str, Any] = {"conversation": "Oi"}
    for _ in range(9):
        content = {"viewOnceMessage": {"message": content}}

    assert stored(msgContent=content).content == "Oi"
    assert (
        stored(msgContent={"viewOnceMessage": {"message": {"ephemeralMessage": {"message": content}}}}).type
        == "unsupported"
    )


def test_every_type_of_message_has_a_preview() -> None:
    for kind in get_args(MessageType):
        message = stored().model_copy(update={"type": kind, "content": None, "label": None})
        assert preview(message)
        assert preview(message.model_copy(update={"content": "Oi"})) == "Oi"


# Size and shape: bounds are on what is read.


@pytest.mark.parametrize(
    "content",
    [
        pytest.param({"imageMessage": {"caption": "Oi", "jpegThumbnail": {str(n): n % 256 for n in range(30_000)}}}, id="a thumbnail of 30,000 numbers"),
        pytest.param({"imageMessage": {"caption": "Oi", "jpegThumbnail": list(range(30_000))}}, id="a thumbnail as a list"),
        pytest.param({"videoMessage": {"caption": "Oi", "streamingSidecar": "A" * 400_000}}, id="a long sidecar"),
        pytest.param({"conversation": "Oi", "messageContextInfo": {str(n): [n] for n in range(20_000)}}, id="40,000 values in the noise"),
    ],
)  # fmt: skip
def test_a_message_is_read_whatever_stands_beside_what_is_read(content: dict[str, Any]) -> None:
    message = stored(msgContent=content)
    assert message.content == "Oi"
    assert len(json.dumps(message.metadata)) < 20_000


def deep(depth: int, *, closed: bool = True) -> str:
    return '{"a":' * depth + "1" + "}" * (depth if closed else 0)


@pytest.mark.parametrize("depth", [MAX_DEPTH + 10, 900, 1_100, 150_000], ids=str)
def test_what_is_nested_too_deeply_is_skipped_and_the_message_stays(depth: int) -> None:
    body = json.dumps(an_event()).replace(
        '{"conversation": "Oi"}', '{"messageContextInfo": ' + deep(depth) + ', "conversation": "Oi } {"}'
    )
    event = parse_event(body.encode())

    assert event.body == body
    assert isinstance(event.change, Message)
    assert event.change.content == "Oi } {"


@pytest.mark.parametrize("number", ["1e999", '"NaN"', '"Infinity"', "null", "true"])
def test_a_number_that_is_none_is_absent(number: str) -> None:
    body = json.dumps(an_event(msgContent={"locationMessage": {"degreesLatitude": 1, "degreesLongitude": -7}}))
    change = parse_event(body.replace("-7", number).encode()).change

    assert isinstance(change, Message)
    assert change.metadata == {"latitude": 1, "provider_event": "webhookReceived"}


def test_a_text_has_a_bounded_length() -> None:
    assert len(stored(msgContent={"conversation": "x" * 200_000}).content or "") == 65_536


# Bytes.


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("a2V5", "a2V5"), ({"0": 107, "2": 121, "1": 101}, "a2V5"), ([107, 101, 121], "a2V5"),
        ({"type": "Buffer", "data": [107, 101, 121]}, "a2V5"), ({"type": "Buffer", "data": "a2V5"}, "a2V5"),
        ("", None), ({}, None), ([], None), ([256], None), ([True], None), ({"a": 1}, None), ("no base64!", None), (7, None),
        ([1] * 65, None), ("A" * 200, None), ({"data": {"data": [1]}}, None),
    ],
    ids=str,
)  # fmt: skip
def test_a_key_is_base64_whatever_form_its_bytes_came_in(given: object, kept: str | None) -> None:
    assert stored(msgContent={"imageMessage": {"mimetype": "a", "mediaKey": given}}).media_key == kept


def test_an_address_that_is_none_is_absent() -> None:
    assert (
        stored(msgContent={"imageMessage": {"url": "https://web.whatsapp.net", "directPath": "/v"}}).media_url is None
    )


@pytest.mark.parametrize(
    ("raw", "status", "reason"),
    [
        pytest.param(b"\xff", 400, "the body is not UTF-8", id="no UTF-8"),
        pytest.param(b"{", 400, "the body is not JSON", id="no JSON"),
        pytest.param(b"[]", 400, "the body is not a JSON object", id="no object"),
        pytest.param(
            deep(150_000, closed=False).encode(),
            400,
            "the body is not JSON",
            id="too deep for the reader, and never closed",
        ),
        pytest.param(deep(150_000).encode() + b"}", 400, "the body is not JSON", id="closed once too often"),
        pytest.param(
            b"[" * 150_000 + b"]" * 150_000, 400, "the body is not a JSON object", id="too deep, and no object"
        ),
        pytest.param(
            b" " * (MAX_BODY_BYTES + 1), 413, f"the body is longer than {MAX_BODY_BYTES} bytes", id="too long"
        ),
    ],
)
def test_a_body_that_is_no_event_is_named(raw: bytes, status: int, reason: str) -> None:
    with pytest.raises(EventRejected) as rejected:
        parse_event(raw)

    assert (rejected.value.status, rejected.value.reason) == (status, reason)

"""Messages and acks: a table of events and their rows, in any order, any number of times, by phone and by LID."""

from __future__ import annotations

import itertools
import json
import random
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from kinds import KINDS
from loopback import a_client
from psycopg.types.json import Jsonb
from spellings import SPELLINGS
from world import SECRET

from shared.core.event import EventKind
from shared.core.notices import TEXTS
from shared.core.policy import Policy
from shared.database.composites import event_row, policy_row
from shared.providers.wapi.events import parse_event

if TYPE_CHECKING:
    from collections.abc import Iterable

    from world import Line, World

AT = 1_790_000_000  # no test's clock: a message's own moment
LID = "100000000000002@lid"


@dataclass(frozen=True)
class Case:
    """Events of one contact, and the rows they must end in.

    ``phone`` is the contact's; every case has its own, so that all of them can be posted to one line in any order.
    """

    name: str
    events: list[dict[str, Any]]
    conversation: dict[str, Any] | None = None
    messages: list[dict[str, Any]] = field(default_factory=list)


def received(content: dict[str, Any], *, phone: str, message_id: str, at: int = AT, **fields: Any) -> dict[str, Any]:
    return {
        "event": "webhookReceived", "instanceId": "LINE", "isGroup": False, "messageId": message_id, "fromMe": False,
        "chat": {"id": phone}, "sender": {"id": phone, "pushName": "Ana"}, "moment": at, "msgContent": content, **fields,
    }  # fmt: skip


def ack(status: str, *, message_id: str, at: int = AT + 9, **fields: Any) -> dict[str, Any]:
    return {
        "event": "webhookStatus", "instanceId": "LINE", "messageId": message_id, "status": status, "fromMe": False,
        "moment": at, "chat": {"id": "5511900000002"}, "isGroup": False, **fields,
    }  # fmt: skip


def echo(content: dict[str, Any], *, phone: str, message_id: str, at: int = AT, **fields: Any) -> dict[str, Any]:
    return received(content, phone=phone, message_id=message_id, at=at) | {
        "event": "webhookDelivery", "fromMe": True, "fromApi": True, "sender": {"id": "5511900000001", "pushName": "Loja"}, **fields,
    }  # fmt: skip


def one(
    name: str,
    number: int,
    content: dict[str, Any],
    row: dict[str, Any] | None,
    *,
    preview: str | None = None,
    **fields: Any,
) -> Case:
    """A case of one incoming message."""
    phone, message_id = f"551198{number:07d}", f"3EB0{number:016d}"
    event = received(content, phone=phone, message_id=message_id) | fields
    if row is None:
        return Case(name, [event])
    conversation = {
        "remote_jid": f"{phone}@s.whatsapp.net", "contact_phone": phone, "contact_name": "Ana", "unread_count": 1,
        "last_message_content": preview if preview is not None else row["content"], "last_message_from_me": False,
    }  # fmt: skip
    message = {"message_id": message_id, "from_me": False, "status": "received"} | row
    return Case(name, [event], conversation, [message])


def media(url: str = "url") -> dict[str, Any]:
    return {url: "https://mmg.example/f.enc", "mimetype": "x/y", "mediaKey": "a2V5", "directPath": "/v/f.enc"}


MEDIA = {"media_url": "https://mmg.example/f.enc", "media_key": "a2V5", "media_direct_path": "/v/f.enc"}

CONTENTS = [
    one("a text", 1, {"conversation": "Oi, tem data em maio?"}, {"message_type": "text", "content": "Oi, tem data em maio?"}),
    one("an extended text", 2, {"extendedTextMessage": {"text": "veja https://x.example"}}, {"message_type": "text", "content": "veja https://x.example"}),
    one("an image with a caption", 3, {"imageMessage": media() | {"caption": "o salão"}}, {"message_type": "image", "content": "o salão", **MEDIA}),
    one("an image without a caption", 4, {"imageMessage": media()}, {"message_type": "image", "content": None, **MEDIA}, preview="Imagem"),
    one("an image in the newer spelling", 5, {"imageMessage": media("URL") | {"fileSHA256": "c2hh"}}, {"message_type": "image", "content": None, **MEDIA, "metadata.file_sha256": "c2hh"}, preview="Imagem"),
    one("a video", 6, {"videoMessage": media() | {"caption": "a festa", "seconds": 12}}, {"message_type": "video", "content": "a festa", "metadata.seconds": 12, **MEDIA}),
    one("a round video", 7, {"ptvMessage": media()}, {"message_type": "video", "content": None, **MEDIA}, preview="Vídeo"),
    one("a voice message", 8, {"audioMessage": media() | {"ptt": True, "seconds": 4}}, {"message_type": "audio", "content": None, "metadata.voice": True, **MEDIA}, preview="Áudio"),
    one("a document", 9, {"documentMessage": media() | {"fileName": "contrato.pdf"}}, {"message_type": "document", "content": "contrato.pdf", "metadata.file_name": "contrato.pdf", **MEDIA}),
    one("a document with a caption", 10, {"documentWithCaptionMessage": {"message": {"documentMessage": media() | {"fileName": "c.pdf", "caption": "o contrato"}}}}, {"message_type": "document", "content": "o contrato", "metadata.file_name": "c.pdf", **MEDIA}),
    one("a sticker", 11, {"stickerMessage": media()}, {"message_type": "sticker", "content": None, **MEDIA}, preview="Figurinha"),
    one("a location", 12, {"locationMessage": {"degreesLatitude": -23.5, "degreesLongitude": -46.6}}, {"message_type": "location", "content": "-23.5, -46.6", "metadata.latitude": -23.5}),
    one("a named location", 13, {"locationMessage": {"degreesLatitude": -23.5, "degreesLongitude": -46.6, "name": "Buffet", "address": "Rua A, 1"}}, {"message_type": "location", "content": "Buffet, Rua A, 1", "metadata.longitude": -46.6}),
    one("a contact", 14, {"contactMessage": {"displayName": "Davi", "vcard": "BEGIN:VCARD"}}, {"message_type": "contact", "content": "Davi", "metadata.vcards": ["BEGIN:VCARD"]}),
    one("several contacts", 15, {"contactsArrayMessage": {"contacts": [{"displayName": "Davi", "vcard": "A"}, {"displayName": "Eva", "vcard": "B"}]}}, {"message_type": "contact", "content": "Davi, Eva", "metadata.vcards": ["A", "B"]}),
    one("a poll", 16, {"pollCreationMessageV3": {"name": "Qual dia?", "options": [{"optionName": "Sábado"}, {"optionName": "Domingo"}]}}, {"message_type": "poll", "content": "Qual dia?", "metadata.options": ["Sábado", "Domingo"]}),
    one("a quoted reply", 19, {"extendedTextMessage": {"text": "sim", "contextInfo": {"stanzaId": "3EB0QUOTED"}}}, {"message_type": "text", "content": "sim", "quoted_message_id": "3EB0QUOTED"}),
    one("a quoted reply in the newer spelling", 20, {"extendedTextMessage": {"text": "sim", "contextInfo": {"stanzaID": "3EB0QUOTED"}}}, {"message_type": "text", "content": "sim", "quoted_message_id": "3EB0QUOTED"}),
    one("an image as a reply", 21, {"imageMessage": media() | {"caption": "esta", "contextInfo": {"stanzaId": "3EB0QUOTED"}}}, {"message_type": "image", "content": "esta", "quoted_message_id": "3EB0QUOTED"}),
    one("a button reply", 22, {"buttonsResponseMessage": {"selectedButtonId": "b1", "selectedDisplayText": "Quero"}}, {"message_type": "button_reply", "content": "Quero", "metadata.button_id": "b1"}),
    one("a list reply", 23, {"listResponseMessage": {"title": "Sábado", "singleSelectReply": {"selectedRowId": "r1"}}}, {"message_type": "button_reply", "content": "Sábado", "metadata.button_id": "r1"}),
    one("a template's button", 24, {"templateButtonReplyMessage": {"selectedId": "t1", "selectedDisplayText": "Sim"}}, {"message_type": "button_reply", "content": "Sim", "metadata.button_id": "t1"}),
    one("a vanishing message", 25, {"ephemeralMessage": {"message": {"conversation": "some"}}}, {"message_type": "text", "content": "some"}),
    one("an image to be seen once", 26, {"viewOnceMessageV2": {"message": {"imageMessage": media()}}}, {"message_type": "image", "content": None}, preview="Imagem"),
    one("a text beside key distribution", 27, {"senderKeyDistributionMessage": {"groupId": "g"}, "conversation": "oi"}, {"message_type": "text", "content": "oi"}),
    one("milliseconds", 28, {"conversation": "agora"}, {"message_type": "text", "content": "agora", "timestamp": AT}, moment=AT * 1000),
    one("an address with a suffix", 29, {"conversation": "oi"}, {"message_type": "text", "content": "oi"}, chat={"id": "5511980000029@s.whatsapp.net"}),
    one("text that no column can hold", 30, {"conversation": "a\x00b\ud800"}, {"message_type": "text", "content": "ab\ufffd"}),
    one("a business name", 31, {"conversation": "oi"}, {"message_type": "text", "content": "oi"}, sender={"id": "5511980000031", "verifiedBizName": "Ana"}),
    one("protocol noise", 32, {"protocolMessage": {"type": 5, "key": {"id": "x"}}}, None),
    one("an empty burst", 33, {}, None),
    one("key distribution alone", 34, {"senderKeyDistributionMessage": {"groupId": "g"}}, None),
    one("a missed call", 35, {}, {"message_type": "text", "content": "Chamada de voz perdida"}, messageStubType=40),
    one("a stub that nobody need see", 36, {}, None, messageStubType="E2E_ENCRYPTED"),
    one("a story", 41, {"conversation": "x"}, None, chat={"id": "status@broadcast"}),
    one("a story in the short form", 37, {"conversation": "x"}, None, chat={"id": "status"}),
    one("a newsletter", 38, {"conversation": "x"}, None, chat={"id": "123@newsletter"}),
    one("a call", 39, {"call": {"callKey": "x"}}, None),
    one("a vote in a poll", 40, {"pollUpdateMessage": {"vote": {"encPayload": "x"}}}, None),
    one("a click on an ad", 42, {"extendedTextMessage": {"contextInfo": {"externalAdReply": {"title": "Buffet completo", "sourceID": "1234", "ctwaClid": "c1"}}}}, {"message_type": "text", "content": "Buffet completo", "metadata.ad": {"title": "Buffet completo", "source_id": "1234", "ctwa_clid": "c1"}}),
    one("a kind that nobody knows yet", 43, {"brandNewThingMessage": {"text": "\x00?"}}, {"message_type": "unsupported", "content": "Mensagem não suportada: abra o WhatsApp no celular.", "metadata.kind": "brandNewThingMessage", "metadata.raw": {"text": "?"}}),
    one("a direct message without a chat", 44, {"conversation": "oi"}, {"message_type": "text", "content": "oi"}, chat=None),
    one("a message through somebody's broadcast list", 45, {"conversation": "promo"}, {"message_type": "text", "content": "promo"}, chat={"id": "1700000000@broadcast"}),
    one("a hosted device", 46, {"conversation": "oi"}, {"message_type": "text", "content": "oi"}, chat={"id": "5511980000046:3@hosted"}),
    one("a better copy of a picture", 47, {"associatedChildMessage": {"message": {"imageMessage": media(), "messageContextInfo": {"messageAssociation": {"associationType": "HD_IMAGE_DUAL_UPLOAD"}}}}}, None),
    one("a thumbnail of many numbers", 48, {"imageMessage": media() | {"caption": "o salão", "jpegThumbnail": {str(n): n % 256 for n in range(30_000)}}}, {"message_type": "image", "content": "o salão", **MEDIA}),
]  # fmt: skip

CHANGES = [
    Case(
        "an edit keeps the old text",
        [
            received({"conversation": "dia 10"}, phone="5511970000001", message_id="E1"),
            received({"protocolMessage": {"type": 14, "key": {"id": "E1"}, "editedMessage": {"conversation": "dia 11"}}}, phone="5511970000001", message_id="E1b", at=AT + 5),
        ],
        {"remote_jid": "5511970000001@s.whatsapp.net", "unread_count": 1, "last_message_content": "dia 11"},
        [{"message_id": "E1", "content": "dia 11", "metadata.edited": True, "versions": ["dia 10", "dia 11"]}],
    ),
    Case(
        "two edits in a wrapper, the later one is the text",
        [
            received({"conversation": "a"}, phone="5511970000002", message_id="E2"),
            received({"editedMessage": {"message": {"protocolMessage": {"type": "MESSAGE_EDIT", "key": {"id": "E2"}, "editedMessage": {"extendedTextMessage": {"text": "b"}}}}}}, phone="5511970000002", message_id="E2b", at=AT + 5),
            received({"editedMessage": {"message": {"protocolMessage": {"type": 14, "key": {"id": "E2"}, "editedMessage": {"conversation": "c"}}}}}, phone="5511970000002", message_id="E2c", at=AT + 8),
        ],
        {"remote_jid": "5511970000002@s.whatsapp.net", "unread_count": 1, "last_message_content": "c"},
        [{"message_id": "E2", "content": "c", "versions": ["a", "b", "c"]}],
    ),
    Case(
        "a deletion marks",
        [
            received({"conversation": "ops"}, phone="5511970000003", message_id="D1"),
            received({"protocolMessage": {"type": 0, "key": {"id": "D1"}}}, phone="5511970000003", message_id="D1b", at=AT + 5),
        ],
        {"remote_jid": "5511970000003@s.whatsapp.net", "unread_count": 1},
        [{"message_id": "D1", "content": "ops", "metadata.deleted": True}],
    ),
    Case(
        "a deletion without its type marks",
        [
            received({"conversation": "ops"}, phone="5511970000020", message_id="D2"),
            received({"protocolMessage": {"key": {"ID": "D2"}}}, phone="5511970000020", message_id="D2b", at=AT + 5),
        ],
        {"remote_jid": "5511970000020@s.whatsapp.net", "unread_count": 1},
        [{"message_id": "D2", "content": "ops", "metadata.deleted": True}],
    ),
    Case(
        "a sealed edit is no message, and marks",
        [
            received({"conversation": "dia 10"}, phone="5511970000021", message_id="SE1"),
            received({"secretEncryptedMessage": {"targetMessageKey": {"ID": "SE1"}, "encPayload": "eA==", "secretEncType": 2}}, phone="5511970000021", message_id="SE2", at=AT + 5),
        ],
        {"remote_jid": "5511970000021@s.whatsapp.net", "unread_count": 1, "last_message_content": "dia 10"},
        [{"message_id": "SE1", "content": "dia 10", "metadata.edited": True}],
    ),
    Case(
        "what could not be decrypted is replaced by the message",
        [
            received({"messageStubType": "CIPHERTEXT"}, phone="5511970000022", message_id="ST1"),
            received({"imageMessage": media() | {"caption": "o salão"}}, phone="5511970000022", message_id="ST1", at=AT),
            received({"protocolMessage": {"type": 14, "key": {"id": "ST1"}, "editedMessage": {"imageMessage": {"caption": "o novo"}}}}, phone="5511970000022", message_id="ST1b", at=AT + 5),
        ],
        {"remote_jid": "5511970000022@s.whatsapp.net", "unread_count": 1, "last_message_content": "o novo"},
        [{"message_id": "ST1", "message_type": "image", "content": "o novo", "metadata.stub": None, "metadata.reason": None, "versions": ["o salão", "o novo"], **MEDIA}],
    ),
    Case(
        "what could not be decrypted leaves a trace",
        [received({"messageStubType": 2}, phone="5511970000023", message_id="ST2")],
        {"remote_jid": "5511970000023@s.whatsapp.net", "unread_count": 1, "last_message_content": "Mensagem ainda não disponível. Abra o WhatsApp no celular."},
        [{"message_id": "ST2", "message_type": "unsupported", "metadata.reason": "undecryptable"}],
    ),
    Case(
        "a reaction is changed in place, and is no message",
        [
            received({"conversation": "Fechado!"}, phone="5511970000024", message_id="RX1"),
            received({"reactionMessage": {"key": {"ID": "RX1"}, "text": "👍"}}, phone="5511970000024", message_id="RX2", at=AT + 5),
            received({"reactionMessage": {"key": {"ID": "RX1"}, "text": "❤"}}, phone="5511970000024", message_id="RX3", at=AT + 9),
            received({"reactionMessage": {"key": {"ID": "RX1"}, "text": "🎉"}}, phone="5511970000024", message_id="RX4", at=AT + 7) | {"fromMe": True},
        ],
        {"remote_jid": "5511970000024@s.whatsapp.net", "unread_count": 1, "last_message_content": "Fechado!", "last_message_from_me": False},
        [
            {"message_id": "RX1", "reactions": ["🎉", "❤"]},
            {"message_id": "RX3", "message_type": "reaction", "content": "❤", "quoted_message_id": "RX1", "from_me": False},
            {"message_id": "RX4", "message_type": "reaction", "content": "🎉", "quoted_message_id": "RX1", "from_me": True},
        ],
    ),
    Case(
        "a reaction that is taken back is gone",
        [
            received({"conversation": "Fechado!"}, phone="5511970000025", message_id="RY1"),
            received({"reactionMessage": {"key": {"ID": "RY1"}, "text": "❤"}}, phone="5511970000025", message_id="RY2", at=AT + 5),
            received({"reactionMessage": {"key": {"ID": "RY1"}, "text": ""}}, phone="5511970000025", message_id="RY3", at=AT + 9),
        ],
        {"remote_jid": "5511970000025@s.whatsapp.net", "unread_count": 1, "last_message_content": "Fechado!"},
        [{"message_id": "RY1", "reactions": []}],
    ),
    Case(
        "a reaction to what we do not have is seen all the same",
        [received({"reactionMessage": {"key": {"id": "OLD"}, "text": "❤"}}, phone="5511970000026", message_id="RZ1")],
        {"remote_jid": "5511970000026@s.whatsapp.net", "unread_count": 0, "last_message_content": None},
        [{"message_id": "RZ1", "message_type": "reaction", "content": "❤", "quoted_message_id": "OLD"}],
    ),
    Case(
        "reactions in a group are one for each person",
        [
            received({"conversation": "oi gente"}, phone="x", message_id="RG1") | {"isGroup": True, "chat": {"id": "12036300026@g.us"}, "sender": {"id": "5511970000010"}},
            *(
                received({"reactionMessage": {"key": {"id": "RG1"}, "text": emoji}}, phone="x", message_id=f"RG{at}", at=AT + at)
                | {"isGroup": True, "chat": {"id": "12036300026@g.us"}, "sender": {"id": lid, "senderLid": lid, "pushName": "Caio"}}
                for at, lid, emoji in ((2, "100000000000031@lid", "❤"), (3, "100000000000032@lid", "👍"), (4, "100000000000031@lid", "🎉"))
            ),
        ],
        {"remote_jid": "12036300026@g.us", "unread_count": 1, "last_message_content": "oi gente"},
        [{"message_id": "RG1", "reactions": ["👍", "🎉"]}, {"message_id": "RG3", "content": "👍"}, {"message_id": "RG4", "content": "🎉", "metadata.sender_name": "Caio"}],
    ),
    Case(
        "who reacts by phone, by LID and by both in a group is one person",
        [
            received({"conversation": "oi gente"}, phone="x", message_id="RP1") | {"isGroup": True, "chat": {"id": "12036300033@g.us"}, "sender": {"id": "5511970000010"}},
            *(
                received({"reactionMessage": {"key": {"id": "RP1"}, "text": emoji}}, phone="x", message_id=f"RP{at}", at=AT + at)
                | {"isGroup": True, "chat": {"id": "12036300033@g.us"}, "sender": {**ids, "pushName": "Caio"}}
                for at, emoji, ids in (
                    (2, "❤", {"id": "551170000033"}),
                    (3, "🎉", {"id": "5511970000033", "senderLid": "100000000000033@lid"}),
                    (4, "👍", {"id": "100000000000033@lid", "senderLid": "100000000000033@lid"}),
                )
            ),
        ],
        {"remote_jid": "12036300033@g.us", "unread_count": 1, "last_message_content": "oi gente"},
        [{"message_id": "RP1", "reactions": ["👍"]}, {"message_id": "RP4", "content": "👍"}],
    ),
    Case(
        "a pin is taken away again, and whoever set it",
        [
            received({"conversation": "a chave"}, phone="5511970000027", message_id="PN1"),
            received({"pinInChatMessage": {"key": {"id": "PN1"}, "type": "PIN_FOR_ALL"}}, phone="5511970000027", message_id="PN2", at=AT + 5) | {"fromMe": True},
            received({"pinInChatMessage": {"key": {"id": "PN1"}, "type": 2}}, phone="5511970000027", message_id="PN3", at=AT + 9),
        ],
        {"remote_jid": "5511970000027@s.whatsapp.net", "unread_count": 1},
        [{"message_id": "PN1", "metadata.pinned": False}],
    ),
    Case(
        "what the platform sent with buttons is in the chat, and its READ reaches it",
        [
            echo({"interactiveMessage": {"body": {"text": "Escolha"}, "InteractiveMessage": {"NativeFlowMessage": {"buttons": []}}}}, phone="5511970000028", message_id="BT1"),
            ack("READ", message_id="BT1"),
        ],
        {"remote_jid": "5511970000028@s.whatsapp.net", "unread_count": 0, "last_message_content": "Escolha"},
        [{"message_id": "BT1", "message_type": "template", "from_me": True, "status": "read"}],
    ),
    Case(
        "RECEIVED is a delivery, and PLAYED-SELF no ack of ours",
        [echo({"conversation": "x"}, phone="5511970000029", message_id="A5"), ack("RECEIVED", message_id="A5"), ack("PLAYED-SELF", message_id="A5", at=AT + 12)],
        {"remote_jid": "5511970000029@s.whatsapp.net"},
        [{"message_id": "A5", "status": "delivered"}],
    ),
    Case(
        "a group's name follows the group",
        [
            received({"conversation": str(at)}, phone="x", message_id=f"GN{at}", at=AT + at)
            | {"isGroup": True, "chat": {"id": "12036300027@g.us", "subject": subject}, "sender": {"id": "5511970000010"}}
            for at, subject in ((0, "Casamento"), (5, "Casamento Ana"), (9, "Casamento Ana e Davi"))
        ],
        {"remote_jid": "12036300027@g.us", "contact_name": "Casamento Ana e Davi", "unread_count": 3},
        [{"message_id": "GN0"}, {"message_id": "GN5"}, {"message_id": "GN9"}],
    ),
    Case(
        "an echo and its acks, READ is not undone by a late DELIVERY",
        [
            echo({"conversation": "Olá!"}, phone="5511970000004", message_id="A1"),
            ack("SERVER", message_id="A1"), ack("READ", message_id="A1", at=AT + 20), ack("DELIVERY", message_id="A1", at=AT + 10),
        ],
        {"remote_jid": "5511970000004@s.whatsapp.net", "unread_count": 0, "contact_name": None, "last_message_from_me": True},
        [{"message_id": "A1", "from_me": True, "status": "read", "content": "Olá!"}],
    ),
    Case(
        "PLAYED is stored as read",
        [echo({"audioMessage": media()}, phone="5511970000005", message_id="A2"), ack("PLAYED", message_id="A2")],
        {"remote_jid": "5511970000005@s.whatsapp.net"},
        [{"message_id": "A2", "status": "read"}],
    ),
    Case(
        "an ERROR is its own end",
        [echo({"conversation": "x"}, phone="5511970000006", message_id="A3"), ack("ERROR", message_id="A3")],
        {"remote_jid": "5511970000006@s.whatsapp.net"},
        [{"message_id": "A3", "status": "error"}],
    ),
    Case(
        "an ack of an incoming message changes nothing",
        [received({"conversation": "x"}, phone="5511970000007", message_id="A4"), ack("READ", message_id="A4")],
        {"remote_jid": "5511970000007@s.whatsapp.net", "unread_count": 1},
        [{"message_id": "A4", "status": "received"}],
    ),
    Case(
        "the last message is the latest by its moment",
        [
            received({"conversation": "primeira"}, phone="5511970000008", message_id="O1", at=AT),
            received({"conversation": "terceira"}, phone="5511970000008", message_id="O3", at=AT + 60),
            received({"conversation": "segunda"}, phone="5511970000008", message_id="O2", at=AT + 30),
        ],
        {"remote_jid": "5511970000008@s.whatsapp.net", "unread_count": 3, "last_message_content": "terceira"},
        [{"message_id": "O1"}, {"message_id": "O2"}, {"message_id": "O3"}],
    ),
    Case(
        "within one second the order is the same for every order of arrival",
        [
            received({"conversation": "a"}, phone="5511970000009", message_id="S1"),
            received({"conversation": "b"}, phone="5511970000009", message_id="S2"),
        ],
        {"remote_jid": "5511970000009@s.whatsapp.net", "unread_count": 2, "last_message_content": "b"},
        [{"message_id": "S1"}, {"message_id": "S2"}],
    ),
    Case(
        "a message in a group",
        [
            received({"conversation": "oi gente"}, phone="x", message_id="G1") | {
                "isGroup": True, "chat": {"id": "12036300000@g.us", "subject": "Casamento"},
                "sender": {"id": "5511970000010", "senderLid": "100000000000010@lid", "pushName": "Bia"},
            },
            echo({"conversation": "bem-vindos"}, phone="x", message_id="G2", at=AT + 1) | {
                "isGroup": True, "chat": {"id": "12036300000@g.us", "subject": "Casamento"},
            },
        ],
        {"remote_jid": "12036300000@g.us", "contact_phone": "", "contact_name": "Casamento", "unread_count": 1},
        [
            {"message_id": "G1", "metadata.sender_name": "Bia", "metadata.sender_phone": "5511970000010"},
            {"message_id": "G2", "from_me": True},
        ],
    ),
    Case(
        "typed on the phone itself: the other side is chat.id",
        [received({"conversation": "respondi"}, phone="5511970000011", message_id="M1") | {"fromMe": True, "sender": {"id": "5511900000001", "senderLid": "100000000000099@lid", "pushName": "Loja"}}],
        {"remote_jid": "5511970000011@s.whatsapp.net", "unread_count": 0, "contact_name": None},
        [{"message_id": "M1", "from_me": True, "status": "sent"}],
    ),
]  # fmt: skip


def by_lid(
    number: int, message_id: str, text: str, *, sender: dict[str, Any], at: int = AT, **fields: Any
) -> dict[str, Any]:
    lid = f"1000000001{number:05d}@lid"
    return received({"conversation": text}, phone="x", message_id=message_id, at=at) | {
        "chat": {"id": lid}, "sender": {"pushName": "Ana"} | sender, **fields,
    }  # fmt: skip


LIDS = [
    Case(
        "a LID whose sender gives the phone",
        [by_lid(1, "L1", "oi", sender={"id": "5511960000001", "senderLid": "100000000100001@lid"})],
        {"remote_jid": "5511960000001@s.whatsapp.net", "contact_phone": "5511960000001", "unread_count": 1},
        [{"message_id": "L1"}],
    ),
    Case(
        "a LID that looks like a phone is none",
        [received({"conversation": "oi"}, phone="x", message_id="L2") | {"chat": {"id": "5511999990002@lid"}, "sender": {"id": "5511999990002", "pushName": "Ana"}}],
        {"remote_jid": "5511999990002@lid", "contact_phone": "", "unread_count": 1},
        [{"message_id": "L2"}],
    ),
    Case(
        "a LID without a phone",
        [by_lid(3, "L3", "oi", sender={"id": "100000000100003@lid"})],
        {"remote_jid": "100000000100003@lid", "contact_phone": "", "unread_count": 1, "contact_name": "Ana"},
        [{"message_id": "L3"}],
    ),
    Case(
        "a later event gives the phone: the two become one",
        [
            by_lid(4, "L4a", "primeira", sender={"id": "100000000100004"}),
            by_lid(4, "L4b", "segunda", sender={"id": "100000000100004"}, at=AT + 10),
            by_lid(4, "L4c", "terceira", sender={"id": "5511960000004", "senderLid": "100000000100004@lid"}, at=AT + 20),
            received({"conversation": "quarta"}, phone="5511960000004", message_id="L4d", at=AT + 30),
        ],
        {"remote_jid": "5511960000004@s.whatsapp.net", "contact_phone": "5511960000004", "unread_count": 4, "last_message_content": "quarta"},
        [{"message_id": "L4a"}, {"message_id": "L4b"}, {"message_id": "L4c"}, {"message_id": "L4d"}],
    ),
    Case(
        "the same message once by phone and once by LID is one, and tells whose LID it is",
        [
            received({"conversation": "oi"}, phone="5511960000005", message_id="L5"),
            by_lid(5, "L5", "oi", sender={"id": "100000000100005@lid"}),
            by_lid(5, "L5b", "depois", sender={"id": "100000000100005@lid"}, at=AT + 5),
        ],
        {"remote_jid": "5511960000005@s.whatsapp.net", "contact_phone": "5511960000005", "unread_count": 2, "last_message_content": "depois"},
        [{"message_id": "L5"}, {"message_id": "L5b"}],
    ),
    Case(
        "an answer to a LID goes to its phone once that is known",
        [
            by_lid(6, "L6a", "oi", sender={"id": "5511960000006", "senderLid": "100000000100006@lid"}),
            echo({"conversation": "olá"}, phone="100000000100006@lid", message_id="L6b", at=AT + 5),
        ],
        {"remote_jid": "5511960000006@s.whatsapp.net", "unread_count": 1, "last_message_content": "olá", "last_message_from_me": True},
        [{"message_id": "L6a"}, {"message_id": "L6b", "from_me": True}],
    ),
    Case(
        "a phone's event that names its LID",
        [
            by_lid(7, "L7a", "oi", sender={"id": "100000000100007@lid"}),
            received({"conversation": "sou eu"}, phone="5511960000007", message_id="L7b", at=AT + 5) | {"sender": {"id": "5511960000007", "senderLid": "100000000100007@lid", "pushName": "Ana"}},
        ],
        {"remote_jid": "5511960000007@s.whatsapp.net", "unread_count": 2},
        [{"message_id": "L7a"}, {"message_id": "L7b"}],
    ),
]  # fmt: skip

NINES = [
    Case(
        "we wrote with the ninth digit, the answer comes without it: that is what one sends to",
        [
            echo({"conversation": "Olá"}, phone="5531988880001", message_id="N1a"),
            received({"conversation": "oi"}, phone="553188880001", message_id="N1b", at=AT + 5),
        ],
        {"remote_jid": "553188880001@s.whatsapp.net", "contact_phone": "553188880001", "unread_count": 1, "contact_name": "Ana"},
        [{"message_id": "N1a"}, {"message_id": "N1b"}],
    ),
    Case(
        "both forms in both directions, and a LID",
        [
            received({"conversation": "a"}, phone="5531988880002", message_id="N2a"),
            by_lid(62, "N2b", "b", sender={"id": "553188880002", "senderLid": "100000000100062@lid"}, at=AT + 5),
            echo({"conversation": "c"}, phone="5531988880002", message_id="N2c", at=AT + 9),
            by_lid(62, "N2d", "d", sender={"id": "100000000100062@lid"}, at=AT + 12),
        ],
        {"remote_jid": "553188880002@s.whatsapp.net", "unread_count": 3, "last_message_content": "d"},
        [{"message_id": "N2a"}, {"message_id": "N2b"}, {"message_id": "N2c"}, {"message_id": "N2d"}],
    ),
    Case(
        "a new number under an equal LID is the same person",
        [
            by_lid(63, "N3a", "a", sender={"id": "5511960000063", "senderLid": "100000000100063@lid"}),
            by_lid(63, "N3b", "b", sender={"id": "5511960000064", "senderLid": "100000000100063@lid"}, at=AT + 5),
        ],
        {"remote_jid": "5511960000064@s.whatsapp.net", "contact_phone": "5511960000064", "unread_count": 2},
        [{"message_id": "N3a"}, {"message_id": "N3b"}],
    ),
]  # fmt: skip

CASES = CONTENTS + CHANGES + LIDS + NINES

EVERY_KIND = [
    received(print_as(kind.message), phone=f"55119{number:08d}", message_id=f"K{number}-{place}", at=AT + place)
    for number, kind in enumerate(KINDS)
    for place, print_as in enumerate(SPELLINGS.values())
]


@pytest.fixture
def line(world: World) -> Line:
    return world.line(world.company(users=1))


def post_all(world: World, line: Line, events: Iterable[dict[str, Any]], *, threads: int = 1) -> list[int]:
    url = world._served("wapi_webhook").url
    with a_client() as client, ThreadPoolExecutor(threads) as pool:

        def post(event: dict[str, Any]) -> int:
            body = json.dumps(event | {"instanceId": line.external_id, "connectedPhone": line.phone})
            return client.post(url, params={"key": SECRET}, content=body).status_code

        return list(pool.map(post, events))


def conversations(world: World, line: Line) -> list[dict[str, Any]]:
    return world.sql("select * from public.wapi_conversations where instance_id = %s order by remote_jid", line.id)


def messages(world: World, conversation: dict[str, Any]) -> list[dict[str, Any]]:
    return world.sql(
        "select * from public.wapi_messages where conversation_id = %s order by message_id", conversation["id"]
    )


def shows(row: dict[str, Any], expected: dict[str, Any]) -> dict[str, Any]:
    """The part of a row that is expected, in the words of the expectation."""
    found: dict[str, Any] = {}
    for name in expected:
        if name == "versions":
            found[name] = [version["content"] for version in row["metadata"]["versions"]]
        elif name == "reactions":
            found[name] = [reaction["emoji"] for reaction in row["metadata"]["reactions"]]
        elif name == "timestamp":
            found[name] = int(row[name].timestamp())
        elif name.startswith("metadata."):
            found[name] = row["metadata"].get(name.removeprefix("metadata."))
        else:
            found[name] = row[name]
    return found


def tables(world: World, line: Line) -> list[Any]:
    """Everything that must be the same for every order of arrival."""
    return [
        {
            **{name: value for name, value in conversation.items() if name not in ("id", "created_at", "updated_at")},
            "messages": [
                {name: value for name, value in row.items() if name not in ("id", "conversation_id", "created_at")}
                for row in messages(world, conversation)
            ],
        }
        for conversation in conversations(world, line)
    ]


def receive_all(world: World, line: Line, events: list[dict[str, Any]]) -> set[str]:
    """What ``wapi_webhook`` does with each, in few round trips."""
    rows = [
        event_row(
            parse_event(json.dumps(event | {"instanceId": line.external_id}).encode()), relay=False, relay_limit=0
        )
        for event in events
    ]
    outcomes: set[str] = set()
    for start in range(0, len(rows), 50):
        [answer] = world.sql(
            "select public.receive_events(array(select e from jsonb_populate_recordset(null::public.webhook_event, %s) e),"
            " %s, interval '1 minute', jsonb_populate_record(null::public.recovery_policy, %s)) as answers",
            Jsonb(rows[start : start + 50]), Jsonb(TEXTS), Jsonb(policy_row(Policy())),
        )  # fmt: skip
        outcomes |= {each["outcome"] for each in answer["answers"]}
    return outcomes


def test_each_event_twice_and_in_any_order_ends_in_the_same_tables(world: World) -> None:
    """Every case, and every kind of content in every spelling."""
    events = [event for case in CASES for event in case.events] + EVERY_KIND
    assert len(CASES) >= 60
    company = world.company()
    ends = []
    for seed in (None, 1):
        line = world.line(company)
        posted = list(events)
        if seed is not None:
            posted = events * 2
            random.Random(seed).shuffle(posted)
        assert "failed" not in receive_all(world, line, posted)
        ends.append([row | {"instance_id": None} for row in tables(world, line)])
        world.sql("delete from public.wapi_instances where id = %s", line.id)

    rows = {row["message_id"]: row for conversation in ends[0] for row in conversation["messages"]}
    for number, kind in enumerate(KINDS):
        for place in range(len(SPELLINGS)):
            assert rows[f"K{number}-{place}"]["message_type"] == kind.type
    assert ends[1] == ends[0]


@pytest.mark.parametrize("name", [
    "both forms in both directions, and a LID", "a new number under an equal LID is the same person",
    "who reacts by phone, by LID and by both in a group is one person",
])  # fmt: skip
def test_what_tells_who_is_who_ends_alike_in_every_order(world: World, name: str) -> None:
    [events] = [case.events for case in CASES if case.name == name]
    company = world.company()
    ends = []
    for order in itertools.permutations(events):
        line = world.line(company)
        receive_all(world, line, list(order))
        ends.append([row | {"instance_id": None} for row in tables(world, line)])
        world.sql("delete from public.wapi_instances where id = %s", line.id)
    assert ends == ends[:1] * len(ends)


def test_a_stub_its_message_and_what_acts_on_it_end_alike_in_every_order(world: World, line: Line) -> None:
    ends = set()
    for number, order in enumerate(itertools.permutations(range(5))):
        message_id, phone = f"SO{number}", f"55119600{number:05d}"
        edit = {"type": 14, "key": {"id": message_id}, "editedMessage": {"imageMessage": {"caption": "b"}}}
        events = [
            received({"messageStubType": 2}, phone=phone, message_id=message_id),
            received({"imageMessage": {"caption": "a"}}, phone=phone, message_id=message_id),
            received({"protocolMessage": edit}, phone=phone, message_id=f"{message_id}e", at=AT + 5),
            received({"reactionMessage": {"key": {"id": message_id}, "text": "❤"}}, phone=phone, message_id=f"{message_id}r", at=AT + 6),
            received({"protocolMessage": {"key": {"id": message_id}}}, phone=phone, message_id=f"{message_id}d", at=AT + 9),
        ]  # fmt: skip
        assert "failed" not in receive_all(world, line, [events[place] for place in order])
        [row] = world.sql(
            "select message_type, content, metadata::text from public.wapi_messages where message_id = %s", message_id
        )
        ends.add(tuple(row.values()))
    assert len(ends) == 1


@pytest.mark.parametrize("threads", [1, 8])
def test_every_case_ends_in_its_rows_posted_one_by_one_and_at_once(world: World, line: Line, threads: int) -> None:
    events = [event for case in CASES for event in case.events]
    assert set(post_all(world, line, events, threads=threads)) == {200}

    found = {conversation["remote_jid"]: conversation for conversation in conversations(world, line)}
    wrong = {}
    for case in CASES:
        if case.conversation is None:
            continue
        conversation = found.pop(case.conversation["remote_jid"])
        rows = messages(world, conversation)
        seen = [shows(conversation, case.conversation)]
        seen += [shows(row, expected) for row, expected in zip(rows, case.messages, strict=True)]
        if seen != (expected := [case.conversation, *case.messages]):
            wrong[case.name] = (seen, expected)
    assert wrong == {}
    assert found == {}, "noise made a conversation"


def test_200_concurrent_posts_of_50_events_of_ten_lines_are_exactly_the_right_rows(world: World) -> None:
    lines = world.lines(world.company(), 10)
    posts = [
        received(
            {"conversation": f"mensagem {n}"}, phone=f"55119500000{line:02d}", message_id=f"C{line}-{n}", at=AT + n
        )
        | {"instanceId": lines[line].external_id, "connectedPhone": lines[line].phone}
        for line in range(10)
        for n in range(5)
    ] * 4
    random.Random(4).shuffle(posts)
    url = world._served("wapi_webhook").url
    with a_client() as client, ThreadPoolExecutor(200) as pool:
        codes = list(pool.map(lambda event: client.post(url, params={"key": SECRET}, json=event).status_code, posts))

    assert set(codes) == {200}
    for number, line in enumerate(lines):
        [conversation] = conversations(world, line)
        assert (conversation["unread_count"], conversation["last_message_content"]) == (5, "mensagem 4")
        assert [row["message_id"] for row in messages(world, conversation)] == [f"C{number}-{n}" for n in range(5)]
    assert len(world.sql("select id from public.wapi_webhook_events")) == 50


def test_the_same_message_by_phone_and_by_lid_at_once_is_one(world: World, line: Line) -> None:
    events = [event for case in LIDS for event in case.events] * 3
    random.Random(5).shuffle(events)
    assert set(post_all(world, line, events, threads=16)) == {200}

    found = conversations(world, line)
    expected = sorted(case.conversation["remote_jid"] for case in LIDS if case.conversation)
    assert [conversation["remote_jid"] for conversation in found] == expected
    unread = {case.conversation["remote_jid"]: case.conversation["unread_count"] for case in LIDS if case.conversation}
    assert {conversation["remote_jid"]: conversation["unread_count"] for conversation in found} == unread


def test_a_read_count_of_the_screen_is_not_undone(world: World, line: Line) -> None:
    post_all(world, line, [received({"conversation": "a"}, phone="5511900000003", message_id="U1")])
    world.sql("update public.wapi_conversations set unread_count = 0")
    post_all(world, line, [
        received({"conversation": "a", "again": 1}, phone="5511900000003", message_id="U1"),
        received({"conversation": "b"}, phone="5511900000003", message_id="U2"),
    ])  # fmt: skip
    assert [row["unread_count"] for row in conversations(world, line)] == [1]


def test_an_echo_of_what_the_platform_stored_itself_is_not_stored_again(world: World, line: Line) -> None:
    world.sql(
        "insert into public.wapi_conversations (id, instance_id, remote_jid, contact_phone) values"
        " ('d0000000-0000-4000-8000-000000000001', %s, '5511900000004@s.whatsapp.net', '5511900000004')", line.id,
    )  # fmt: skip
    world.sql(
        "insert into public.wapi_messages (conversation_id, message_id, from_me, content, status) values"
        " ('d0000000-0000-4000-8000-000000000001', 'P1', true, 'Olá', 'pending')"
    )
    post_all(world, line, [echo({"conversation": "Olá"}, phone="5511900000004", message_id="P1")])
    [conversation] = conversations(world, line)
    assert [row["status"] for row in messages(world, conversation)] == ["sent"]


def test_without_a_unique_index_of_the_platform_a_message_is_still_stored_once(world: World, line: Line) -> None:
    world.sql("alter table public.wapi_messages drop constraint wapi_messages_conversation_id_message_id_key")
    try:
        event = received({"conversation": "a"}, phone="5511900000003", message_id="N1")
        variants = [event | {"copy": n} for n in range(20)]
        assert set(post_all(world, line, variants, threads=20)) == {200}
        [conversation] = conversations(world, line)
        assert (conversation["unread_count"], len(messages(world, conversation))) == (1, 1)
    finally:
        world.sql("alter table public.wapi_messages add unique (conversation_id, message_id)")


def test_an_ack_is_of_its_own_line_only(world: World) -> None:
    company = world.company()
    mine, other = world.line(company), world.line(company)
    for line in (mine, other):
        post_all(world, line, [echo({"conversation": "x"}, phone="5511900000005", message_id="SAME")])
    post_all(world, mine, [ack("READ", message_id="SAME")])

    assert [row["status"] for row in messages(world, conversations(world, mine)[0])] == ["read"]
    assert [row["status"] for row in messages(world, conversations(world, other)[0])] == ["sent"]


def test_a_paused_lines_messages_are_stored_and_prove_no_life(world: World) -> None:
    line = world.line(world.company(users=1), status="disconnected", is_active=False)
    post_all(world, line, [received({"conversation": "oi"}, phone="5511900000006", message_id="X1")])
    assert [row["unread_count"] for row in conversations(world, line)] == [1]
    row = world.row(line)
    assert (row["status"], row["last_event_at"]) == ("disconnected", None)


# From reviews: each of these lost, doubled or misplaced something


def test_a_message_that_the_platforms_tables_refuse_is_kept_and_tried_again_when_it_comes_again(
    world: World, line: Line
) -> None:
    sticker = received({"stickerMessage": media()}, phone="5511900000011", message_id="R1")
    world.sql("alter table public.wapi_messages add constraint platform_media check (media_url is null)")
    try:
        assert world.event(sticker | {"instanceId": line.external_id}) == "failed"
    finally:
        world.sql("alter table public.wapi_messages drop constraint platform_media")
    [kept] = world.sql("select outcome, processed_at, body from public.wapi_webhook_events")
    assert (kept["outcome"], kept["processed_at"]) == ("failed", None)
    assert [fact["code"] for fact in world.facts("wapi_webhook", "event.not_applied")][-1] == "23514"

    assert world.event(sticker | {"instanceId": line.external_id}) == "stored"


@pytest.mark.parametrize(
    "event",
    [
        received({"audioMessage": media() | {"seconds": 1e400}}, phone="5511900000012", message_id="H1"),
        received({"locationMessage": {"degreesLatitude": 10**400, "degreesLongitude": 1}}, phone="5511900000012", message_id="H2"),
        received({"conversation": "x"}, phone="5511900000012", message_id="H" * 6000),
        received({"conversation": "x"}, phone="x", message_id="H4") | {"chat": {"id": "1" * 6000 + "@lid"}},
        received({"conversation": "x"}, phone="x", message_id="H5") | {"isGroup": True, "chat": {"id": "2" * 6000 + "@g.us"}},
        received({"conversation": "x"}, phone="5511900000012", message_id="H6") | {"sender": {"senderLid": "3" * 6000}},
        received({"conversation": "x"}, phone="x", message_id="H7") | {"chat": {"id": "@lid"}},
        received({"conversation": "x"}, phone="x", message_id="H8") | {"isGroup": True, "chat": {"id": "@g.us"}},
        ack("READ", message_id="H" * 6000),
    ],
    ids=lambda event: str(event["messageId"])[:4],
)  # fmt: skip
def test_hostile_ids_and_numbers_are_answered(world: World, line: Line, event: dict[str, Any]) -> None:
    body = json.dumps(event | {"instanceId": line.external_id}).replace("Infinity", "1e999")
    assert world.post(None, content=body.encode()).status_code == 200
    assert all(len(conversation["remote_jid"]) < 100 for conversation in conversations(world, line))


def test_what_waits_for_a_message_is_not_lost_when_the_platform_writes_that_message(world: World, line: Line) -> None:
    post_all(world, line, [ack("READ", message_id="W1")])
    post_all(world, line, [echo({"conversation": "x"}, phone="5511900000013", message_id="W0")])
    world.sql(
        "insert into public.wapi_messages (conversation_id, message_id, from_me, content, status)"
        " select id, 'W1', true, 'y', 'pending' from public.wapi_conversations"
    )
    post_all(world, line, [echo({"conversation": "y"}, phone="5511900000013", message_id="W1")])
    [conversation] = conversations(world, line)
    assert [row["status"] for row in messages(world, conversation)] == ["sent", "read"]


@pytest.mark.parametrize("from_me", ["true", 1, True])
def test_the_lines_own_phone_is_never_taken_for_a_customers(world: World, line: Line, from_me: object) -> None:
    events = [
        by_lid(number, f"OWN{number}", "oi", sender={"id": line.phone, "senderLid": "100000000100099@lid"})
        | {"fromMe": from_me}
        for number in (41, 42)
    ] + [by_lid(43, "OWN43", "oi", sender={"id": line.phone})]
    post_all(world, line, events)
    found = conversations(world, line)
    assert [conversation["contact_phone"] for conversation in found] == ["", "", ""]
    assert [conversation["remote_jid"][-9:] for conversation in found] == ["00041@lid", "00042@lid", "00043@lid"]


def test_nobody_edits_or_deletes_what_another_side_wrote(world: World, line: Line) -> None:
    victim, stranger = "5511900000014", "5511900000015"
    post_all(world, line, [
        echo({"conversation": "PIX: 123"}, phone=victim, message_id="PIX"),
        received({"conversation": "oi"}, phone=victim, message_id="HIS"),
        received({"conversation": "oi"}, phone=stranger, message_id="OWN"),
    ])  # fmt: skip
    edit = {"protocolMessage": {"type": 14, "key": {"id": "PIX"}, "editedMessage": {"conversation": "PIX: evil"}}}
    revoke = {"protocolMessage": {"type": 0, "key": {"id": "PIX"}}}
    for phone in (stranger, victim):
        post_all(world, line, [
            received(edit, phone=phone, message_id=f"A{phone}"), received(revoke, phone=phone, message_id=f"B{phone}"),
        ])  # fmt: skip
    steal = {"protocolMessage": {"type": 14, "key": {"id": "HIS"}, "editedMessage": {"conversation": "evil"}}}
    post_all(world, line, [received(steal, phone=stranger, message_id="S1")])

    rows = {row["message_id"]: row for c in conversations(world, line) for row in messages(world, c)}
    assert (rows["PIX"]["content"], rows["HIS"]["content"]) == ("PIX: 123", "oi")
    assert "deleted" not in rows["PIX"]["metadata"]


@pytest.mark.parametrize(
    "content",
    [
        {"editedMessage": {"message": {"conversation": "novo"}}},
        {"editedMessage": {"conversation": "novo"}},
        {"editedMessage": {"protocolMessage": {"type": 14, "key": {"id": "ED"}, "editedMessage": {"message": {"conversation": "novo"}}}}},
        {"protocolMessage": {"key": {"id": "ED"}, "editedMessage": {"message": {"extendedTextMessage": {"text": "novo"}}}}},
    ],
    ids=["a bare edited message", "without a wrapper", "a protocol message without a wrapper", "a message within the edit"],
)  # fmt: skip
@pytest.mark.parametrize("old", ["velho", "zz"])
def test_an_edit_is_the_text_in_every_shape_even_within_the_same_second(
    world: World, line: Line, content: dict[str, Any], old: str
) -> None:
    first = received({"conversation": old}, phone="5511900000016", message_id="ED")
    post_all(world, line, [first, received(content, phone="5511900000016", message_id="ED")])
    [conversation] = conversations(world, line)
    [row] = messages(world, conversation)
    assert (row["content"], conversation["last_message_content"], conversation["unread_count"]) == ("novo", "novo", 1)


def test_an_edited_caption_replaces_the_label_in_the_list(world: World, line: Line) -> None:
    edit = {
        "protocolMessage": {"type": 14, "key": {"id": "IM"}, "editedMessage": {"imageMessage": {"caption": "o salão"}}}
    }
    post_all(world, line, [
        received({"imageMessage": media()}, phone="5511900000017", message_id="IM"),
        received(edit, phone="5511900000017", message_id="IM2"),
    ])  # fmt: skip
    assert [conversation["last_message_content"] for conversation in conversations(world, line)] == ["o salão"]


@pytest.mark.parametrize(
    ("acks", "ends"),
    [
        ([("ERROR", 5), ("DELIVERY", 10)], "error"),
        ([("DELIVERY", 5), ("ERROR", 10)], "delivered"),
        ([("SERVER", 1), ("READ", 5), ("ERROR", 10), ("DELIVERY", 4)], "read"),
        ([("SERVER", 1), ("ERROR", 3), ("READ", 9)], "error"),
    ],
    ids=str,
)
def test_contradictory_acks_end_alike_in_every_order(
    world: World, line: Line, acks: list[tuple[str, int]], ends: str
) -> None:
    for number, order in enumerate(itertools.permutations(acks)):
        message_id = f"CA{number}"
        events = [ack(status, message_id=message_id, at=AT + at) for status, at in order]
        events.insert(
            number % (len(events) + 1), echo({"conversation": "x"}, phone="5511900000018", message_id=message_id)
        )
        post_all(world, line, events)
    [conversation] = conversations(world, line)
    assert {row["status"] for row in messages(world, conversation)} == {ends}


def test_a_group_tells_whose_lid_it_is(world: World, line: Line) -> None:
    lid = "100000000100052@lid"
    post_all(world, line, [
        by_lid(52, "GT1", "oi", sender={"id": lid}),
        received({"conversation": "oi"}, phone="x", message_id="GT2") | {
            "isGroup": True, "chat": {"id": "12036300052@g.us"}, "sender": {"id": "5511960000052", "senderLid": lid},
        },
    ])  # fmt: skip
    assert [each["remote_jid"] for each in conversations(world, line)] == [
        "12036300052@g.us",
        "5511960000052@s.whatsapp.net",
    ]


def test_an_old_event_does_not_point_a_lid_back_to_an_old_phone(world: World, line: Line) -> None:
    lid = "100000000100053@lid"
    for phone, at in (("5511960000054", AT + 100), ("5511960000053", AT)):
        post_all(world, line, [by_lid(53, f"P{phone}", "oi", sender={"id": phone, "senderLid": lid}, at=at)])
    assert world.sql("select phone from public.wapi_contact_lids where lid = %s", lid) == [{"phone": "5511960000054"}]


def test_fifteen_digits_without_a_suffix_are_a_lid_and_a_stub_type_of_zero_is_none(world: World, line: Line) -> None:
    post_all(world, line, [
        received({"conversation": "oi"}, phone="100000000000077", message_id="BL1", messageStubType=0),
        received({"conversation": "oi"}, phone="x", message_id="BL2") | {"chat": {"id": 5511960000055}},
    ])  # fmt: skip
    assert [(each["remote_jid"], each["contact_phone"]) for each in conversations(world, line)] == [
        ("100000000000077@lid", ""), ("5511960000055@s.whatsapp.net", "5511960000055"),
    ]  # fmt: skip


# Signs of life


def now(world: World) -> int:
    return int(world.sql("select extract(epoch from now())::bigint as now")[0]["now"])


@pytest.mark.parametrize(
    ("event", "alive"),
    [
        pytest.param(received({"conversation": "oi"}, phone="5511900000007", message_id="V1"), True, id="a message"),
        pytest.param(received({}, phone="5511900000007", message_id="V2"), True, id="noise from WhatsApp itself"),
        pytest.param(ack("DELIVERY", message_id="V3"), True, id="a delivery"),
        pytest.param(ack("READ", message_id="V3"), True, id="a read message"),
        pytest.param(ack("PLAYED", message_id="V3"), True, id="a played message"),
        pytest.param(ack("SERVER", message_id="V3"), False, id="an ack of the server alone"),
        pytest.param(ack("ERROR", message_id="V3"), False, id="an error"),
        pytest.param(echo({"conversation": "oi"}, phone="5511900000007", message_id="V4"), False, id="an echo"),
        pytest.param(received({"conversation": "x"}, phone="x", message_id="V5") | {"chat": {"id": "status"}}, False, id="a story"),
        pytest.param({"event": "webhookChatPresence"}, False, id="presence"),
    ],
)  # fmt: skip
def test_what_proves_life_restores_a_line_and_what_does_not_does_not(
    world: World, event: dict[str, Any], alive: bool
) -> None:
    line = world.line(world.company(users=2), session="disconnected")
    world.event(world.disconnection(line))
    post_all(world, line, [event | {"moment": now(world)}])

    row = world.row(line)
    assert row["status"] == ("connected" if alive else "disconnected")
    assert (row["last_event_at"] is not None) is alive
    assert len(world.bells(line, kind="instance_reconnected")) == (2 if alive else 0)


def test_a_message_without_a_valid_phone_or_from_before_the_outage_proves_no_life(world: World) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    world.event(world.disconnection(line))
    at = now(world)
    message = received({"conversation": "oi"}, phone="5511900000008", message_id="W1")
    world.event(message | {"instanceId": line.external_id, "moment": at})
    world.event(message | {"instanceId": line.external_id, "connectedPhone": "x", "moment": at, "messageId": "W2"})
    post_all(world, line, [message | {"moment": at - 60, "messageId": "W3"}])

    assert world.status(line) == "disconnected"
    assert len(messages(world, conversations(world, line)[0])) == 3


def test_the_last_event_is_written_at_most_once_a_minute(world: World) -> None:
    line = world.line(world.company())
    at = now(world) - 300
    kept = []
    for number, seconds in enumerate((0, 59, 60, 90, 121)):
        post_all(
            world,
            line,
            [received({"conversation": "x"}, phone="5511900000009", message_id=f"Z{number}", at=at + seconds)],
        )
        kept.append(int(world.row(line)["last_event_at"].timestamp()) - at)
    assert kept == [0, 0, 60, 60, 121]


def test_another_connected_phone_is_recorded_and_stored(world: World) -> None:
    line = world.line(world.company())
    world.event(received({"conversation": "x"}, phone="5511900000009", message_id="Q1") | {
        "instanceId": line.external_id, "connectedPhone": "5511955554444", "moment": now(world),
    })  # fmt: skip
    assert world.row(line)["phone_number"] == "5511955554444"
    assert world.audit(line) == ["phone_changed"]


def test_a_message_is_one_round_trip(world: World, line: Line) -> None:
    post_all(world, line, [{"event": "warm"}])
    world.stack.postgrest_requests.reset()
    events = [case.events[0] for case in CASES]
    post_all(world, line, events)
    assert world.stack.postgrest_requests.total == len(events)


# Hostile input

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=12), inner, max_size=5),
    max_leaves=20,
)
_CONNECTIONS = [
    {"event": "webhookDisconnected", "instanceId": "LINE", "disconnected": True, "moment": 1_900_000_000},
    {
        "event": "webhookConnected",
        "instanceId": "LINE",
        "connected": True,
        "connectedPhone": "5511900000001",
        "moment": 1_900_000_000,
    },
]
_VALID = [event for case in CASES for event in case.events] + _CONNECTIONS * 10


@st.composite
def mutated(draw: st.DrawFn) -> Any:
    """A valid event with some of its parts replaced by anything."""
    event = json.loads(json.dumps(draw(st.sampled_from(_VALID))))
    for _ in range(draw(st.integers(1, 3))):
        part = event
        while isinstance(part, dict) and part:
            name = draw(st.sampled_from(sorted(part)))
            if not isinstance(part[name], dict) or draw(st.booleans()):
                part[name] = draw(_json)
                break
            part = part[name]
    return event


@pytest.fixture
def two_lines(world: World) -> list[Line]:
    """One that is connected, one whose outage everybody has heard of."""
    company = world.company(users=1)
    lines = [world.line(company), world.line(company, session="disconnected")]
    assert world.event(world.disconnection(lines[1])) == "disconnected"
    return lines


@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    body=st.one_of(
        mutated().map(lambda event: json.dumps(event).encode()),
        _json.map(lambda each: json.dumps(each).encode()),
        st.binary(max_size=200),
    ),
    of=st.integers(0, 1),
    key=st.sampled_from([SECRET, SECRET, SECRET, "a-wrong-key-of-some-length", None]),
)
def test_whatever_is_posted_is_answered_and_changes_no_status_that_it_may_not(
    world: World, two_lines: list[Line], body: bytes, of: int, key: str | None
) -> None:
    body = body.replace(b'"LINE"', json.dumps(two_lines[of].external_id).encode())
    before = [world.status(line) for line in two_lines]

    answer = world.post(None, content=body, key=key)

    assert answer.status_code in ({401} if key != SECRET else {200, 400, 413})
    for line, status in zip(two_lines, before, strict=True):
        if world.status(line) != status:
            event = parse_event(body)
            assert event.external_id == line.external_id
            assert event.kind is EventKind.DISCONNECTION or event.is_life

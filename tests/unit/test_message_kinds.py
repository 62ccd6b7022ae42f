"""Every field of WhatsApp's message object is named, and every kind is read alike in every printer's spelling."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from kinds import FILE, KINDS, MEDIA, Kind, future
from spellings import SPELLINGS, Word, go_name

from shared.core import previews
from shared.core.event import Change, Message, Noise, Who
from shared.core.previews import preview
from shared.providers.wapi import stubs
from shared.providers.wapi.events import parse_event
from shared.providers.wapi.fields import FIELDS, Field
from shared.providers.wapi.messages import READERS
from shared.providers.wapi.values import ONEOFS

SCHEMA = json.loads((Path(__file__).parent / "message_schema.json").read_text())
PHONE = "5511911112222"


def read(content: Any, **fields: Any) -> Message | Change | str | None:
    event = {
        "event": "webhookReceived", "instanceId": "LITE-AB12CD-EF34GH", "connectedPhone": "5511900000001", "messageId": "M1",
        "fromMe": False, "chat": {"id": PHONE}, "sender": {"id": PHONE}, "moment": 1_790_000_000, "msgContent": content, **fields,
    }  # fmt: skip
    read = parse_event(json.dumps(event).encode())
    return read.change or read.noise


def stored(content: Any, **fields: Any) -> Message:
    message = read(content, **fields)
    assert isinstance(message, Message), message
    return message


# The table.


def test_every_field_of_the_newest_schema_is_classified() -> None:
    """Red = WhatsApp has a new kind. Say in ``fields`` what it is."""
    assert len(SCHEMA["fields"]) >= 110
    assert [name for name in SCHEMA["fields"] if name.lower() not in FIELDS] == []


def test_every_content_has_a_reader_and_nothing_else_has_one() -> None:
    contents = {name for name, field in FIELDS.items() if field is Field.CONTENT}
    assert contents - {"conversation"} == set(READERS)


def test_every_content_and_every_envelope_of_the_schema_has_a_case() -> None:
    def names(value: Any) -> set[str]:
        if isinstance(value, list):
            return {name for each in value for name in names(each)}
        inner = {name for each in value.values() for name in names(each)} if isinstance(value, dict) else set()
        return inner | ({name.rpartition("/")[2].lower() for name in value} if isinstance(value, dict) else set())

    covered = {name for kind in KINDS for name in names(kind.message)}
    assert {name for name, field in FIELDS.items() if field in (Field.CONTENT, Field.TRACE)} - covered == set()


def test_what_go_wraps_is_what_the_schema_calls_a_oneof() -> None:
    read_here = {"datetimeOneof", "paramOneof", "wallpaper"} ^ SCHEMA["oneofs"].keys()
    assert {name.lower() for name in read_here} == set(ONEOFS)
    for name in read_here:
        assert ONEOFS[name.lower()] == {member.lower() for member in SCHEMA["oneofs"][name]}, name


def test_the_words_and_numbers_of_stubs_are_those_of_the_schema() -> None:
    for group in (stubs.UNREADABLE, stubs.MISSED_CALLS, stubs.MISSED_VIDEO_CALLS, stubs.DELETIONS, stubs.NEW_SUBJECT):
        assert group.items() <= SCHEMA["stubs"].items()


# Each kind in each spelling.


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_kind_is_the_same_row_in_every_spelling(kind: Kind) -> None:
    for spelling, print_as in SPELLINGS.items():
        message = stored(print_as(kind.message))

        assert (message.type, message.content) == (kind.type, kind.content), spelling
        assert preview(message) == (kind.preview or kind.content), spelling
        found = {name: getattr(message, name) for name in MEDIA}
        assert found == MEDIA if kind.media else found["media_url"] is None, spelling
        assert {name: message.metadata.get(name) for name in kind.metadata} == kind.metadata, spelling


def test_go_writes_some_words_in_capitals() -> None:
    """Else the spellings above would all be one."""
    names = ["stanzaId", "url", "fileSha256", "remoteJid", "paramsJson", "ptt", "jpegThumbnail", "caption"]
    assert [go_name(name) for name in names] == [
        "stanzaID", "URL", "fileSHA256", "remoteJID", "paramsJSON", "PTT", "JPEGThumbnail", "caption",
    ]  # fmt: skip


# The property: under every name an object makes a row, acts on one, or is named noise.

ACTS: dict[str, dict[str, Any]] = {
    "protocolMessage": {"type": 0, "key": {"id": "T"}},
    "reactionMessage": {"key": {"id": "T"}, "text": "❤"},
    "pinInChatMessage": {"key": {"id": "T"}, "type": 1},
    "keepInChatMessage": {"key": {"id": "T"}, "keepType": 1},
    "secretEncryptedMessage": {"targetMessageKey": {"id": "T"}, "secretEncType": 2, "encIv": "x"},
    "callLogMesssage": {"callOutcome": 1},
    "editedMessage": {"message": {"conversation": "novo"}},
}
ROWS = {Field.CONTENT, Field.TRACE, Field.ENVELOPE}
anything = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**20), 10**20)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)
inside = st.dictionaries(
    st.sampled_from(["text", "name", "title", "body", "header", "options", "contextInfo", "key", "caption", "url", "type"]),
    anything, min_size=1, max_size=4,
).filter(lambda found: any(found.values()))  # fmt: skip


@settings(max_examples=20, deadline=None)
@given(body=inside)
@example(body={"text": "?"})
def test_an_object_under_every_name_makes_a_row_acts_on_one_or_is_named_noise(body: dict[str, Any]) -> None:
    for name in SCHEMA["fields"]:
        field = FIELDS[name.lower()]
        found = read({name: ACTS.get(name, body)})
        if field in ROWS:
            assert isinstance(found, Message), (name, found)
        elif name in ACTS:
            assert isinstance(found, Message | Change), (name, found)
        else:
            assert found in set(Noise), name
            beside = read({name: body, "conversation": "Oi"})
            assert isinstance(beside, Message), (name, beside)
            assert beside.content == "Oi"


@given(name=st.text(min_size=1, max_size=30).filter(lambda name: name.lower() not in FIELDS), body=inside)
def test_an_object_under_a_name_that_nobody_knows_is_a_row_that_keeps_it(name: str, body: dict[str, Any]) -> None:
    message = stored({name: body})

    assert message.type == "unsupported"
    assert message.content
    assert message.metadata["raw"]
    assert len(json.dumps(message.metadata)) < 20_000


@pytest.mark.parametrize(
    ("content", "noise"),
    [
        ({"albumMessage": {"expectedImageCount": 2}}, "silent"),
        ({"albumMessage": {}}, "silent"),
        ({"newThing": 1, "other": True, "nothing": None, "empty": {}, "list": []}, "noise"),
        ({"messageContextInfo": {"deviceListMetadata": {}}, "messageTimestamp": "1"}, "noise"),
        ({"pollUpdateMessage": {"vote": {"encPayload": "x"}}}, "silent"),
        ({"ephemeralMessage": {"message": {}}}, "empty"),
        ({"protocolMessage": {"type": 5, "key": {"id": "x"}}}, "protocol"),
        (future("groupStatusMessageV2", {"conversation": "x"}), "story"),
        ({"eventCoverImage": {"message": {"imageMessage": FILE}}}, "part"),
        ({"newsletterAdminProfileMessage": {"message": {"conversation": "x"}}}, "newsletter"),
        ({"extendedTextMessage": {"text": "x", "contextInfo": {"isGroupStatus": True}}}, "story"),
        ({"callLogMesssage": {"callOutcome": "CONNECTED"}}, "silent"),
    ],
    ids=str,
)  # fmt: skip
def test_what_is_no_row_is_named(content: dict[str, Any], noise: str) -> None:
    assert read(json.loads(json.dumps(content, default=str))) == noise


# Twins.


def associated(kind: object, message: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "imageMessage": message or {"mimetype": "a/b"},
        "messageContextInfo": {"messageAssociation": {"associationType": kind}},
    }


@pytest.mark.parametrize("name", SCHEMA["associations"])
def test_a_twin_is_no_second_message(name: str) -> None:
    bare = [associated(said) for said in (name, SCHEMA["associations"][name])]
    for content in (*bare, *(future("associatedChildMessage", each) for each in bare)):
        found = read(content)
        is_row = name in ("UNKNOWN", "MEDIA_ALBUM", "BOT_PLUGIN")
        assert isinstance(found, Message) is is_row, found
        assert is_row or found in ("twin", "part", "story")


@pytest.mark.parametrize(("kind", "is_row"), [("AV1_VIDEO_DUAL_UPLOAD", False), ("SOMETHING_NEWER", True), (77, True)])
def test_a_twin_that_is_newer_than_the_schema_is_known_by_its_pattern(kind: object, is_row: bool) -> None:
    assert isinstance(read(associated(kind)), Message) is is_row


@pytest.mark.parametrize("name", SCHEMA["paired_media"])
def test_a_twins_second_mark_counts_as_well(name: str) -> None:
    for said in (name, SCHEMA["paired_media"][name]):
        found = read({"videoMessage": {"mimetype": "a/b", "contextInfo": {"pairedMediaType": said}}})
        assert isinstance(found, Message) is not name.endswith("_CHILD")


# Stubs.

CLOSED = {"a": "b"}


@pytest.mark.parametrize(
    ("content", "fields", "text", "metadata"),
    [
        pytest.param({"placeholderMessage": {"type": 0}}, {}, previews.ONE_TIME_CODE, {"reason": "masked"}, id="a one-time code"),
        pytest.param({"conditionalRevealMessage": CLOSED}, {}, previews.NOT_YET, {"reason": "sealed", "stub": True}, id="sealed"),
        pytest.param({"viewOnceMessage": {}}, {}, previews.VIEW_ONCE, {"reason": "view_once", "stub": True}, id="to be seen once"),
        pytest.param({}, {"unavailableType": "view_once"}, previews.VIEW_ONCE, {"reason": "view_once", "stub": True}, id="the same, said beside it"),
        pytest.param({}, {"messageStubType": "CIPHERTEXT"}, previews.NOT_YET, {"reason": "undecryptable", "stub": True}, id="not decrypted"),
        pytest.param({"callLogMesssage": {"callOutcome": "MISSED"}}, {}, previews.MISSED_CALL, {"system": "missed_call"}, id="a call in the log"),
        pytest.param({"callLogMesssage": {"callOutcome": "MISSED", "isVideo": True}}, {}, previews.MISSED_VIDEO_CALL, {"system": "missed_call"}, id="with a picture"),
        pytest.param({}, {"messageStubType": "CALL_MISSED_VOICE"}, previews.MISSED_CALL, {"system": "missed_call"}, id="a missed call"),
        pytest.param({}, {"messageStubType": "CALL_MISSED_VIDEO"}, previews.MISSED_VIDEO_CALL, {"system": "missed_call"}, id="a missed call with a picture"),
        pytest.param({"newThing": CLOSED}, {}, previews.UNSUPPORTED, {"kind": "newThing", "raw": CLOSED}, id="a kind that nobody knows"),
        pytest.param({"ephemeralMessage": {"message": {"NewThing": CLOSED}}}, {}, previews.UNSUPPORTED, {"kind": "NewThing", "raw": CLOSED}, id="within an envelope"),
        pytest.param({"newThing": "x"}, {}, previews.UNSUPPORTED, {"kind": "newThing", "raw": "x"}, id="a text under such a name"),
        pytest.param({"conversation": CLOSED}, {}, previews.UNSUPPORTED, {"kind": "conversation", "raw": CLOSED}, id="a text that is none"),
        pytest.param({"extendedTextMessage": CLOSED}, {}, previews.UNSUPPORTED, {"kind": "extendedTextMessage", "raw": CLOSED}, id="a text without one"),
        pytest.param({"ephemeralMessage": CLOSED}, {}, previews.UNSUPPORTED, {"kind": "ephemeralMessage", "raw": CLOSED}, id="an envelope with something else"),
        pytest.param({"ephemeralMessage": "x"}, {}, previews.UNSUPPORTED, {"kind": "ephemeralMessage", "raw": "x"}, id="an envelope that is none"),
    ],
)  # fmt: skip
def test_what_cannot_be_shown_leaves_a_text_and_says_why(
    content: dict[str, Any], fields: dict[str, Any], text: str, metadata: dict[str, Any]
) -> None:
    found = stored(content, **fields)
    assert (found.content, found.metadata) == (text, metadata | {"provider_event": "webhookReceived"})


GROUP = {"chat": {"id": "120363000000000001@g.us"}, "isGroup": True}
RENAMED = {"messageStubType": "GROUP_CHANGE_SUBJECT"}


@pytest.mark.parametrize(
    ("content", "fields", "noise"),
    [
        pytest.param({"messageStubType": "GROUP_CREATE"}, {}, "stub", id="a stub within"),
        pytest.param({}, {"messageStubType": "GROUP_CREATE"}, "empty", id="a stub beside nothing"),
        pytest.param({"messageTimestamp": "1"}, {}, "noise", id="noise alone"),
        pytest.param({"messageTimestamp": "1"}, {"messageStubType": "GROUP_CREATE"}, "stub", id="noise with a stub"),
        pytest.param({}, RENAMED | {"messageStubParameters": ["Festa"]}, "empty", id="a group's name without a group"),
        pytest.param({}, RENAMED | GROUP, "empty", id="a group's name that is not said"),
        pytest.param({"ephemeralMessage": {}}, {}, "empty", id="an empty envelope"),
        pytest.param({"conversation": "Oi"}, {"messageStubType": "REVOKE", "messageId": None}, "no_message_id", id="a deletion of nothing"),
    ],
)  # fmt: skip
def test_what_leaves_nothing_says_which_kind_of_nothing(
    content: dict[str, Any], fields: dict[str, Any], noise: str
) -> None:
    assert read(content, **fields) == noise


@pytest.mark.parametrize("content", [{}, {"conversation": "Oi"}], ids=["nothing", "a text"])
def test_a_stub_deletes_its_message_whatever_stands_beside_it(content: dict[str, Any]) -> None:
    who = Who(from_me=False, group=None, phone=PHONE, lid=None)
    assert read(content, messageStubType="REVOKE") == Change(do="delete", message_id="M1", who=who)


@pytest.mark.parametrize("place", ["beside", "within"])
def test_a_stub_names_a_groups_new_subject(place: str) -> None:
    stub = {**RENAMED, "messageStubParameters": ["Festa"]}
    found = read(stub, **GROUP) if place == "within" else read({}, **GROUP, **stub)
    assert isinstance(found, Change)
    assert (found.do, found.content) == ("rename", "Festa")


@pytest.mark.parametrize(
    "content", [{"Conversation": "Oi", "conversation": ""}, {"conversation": "", "Conversation": "Oi"}]
)
def test_of_one_name_in_two_spellings_the_one_that_says_something_counts(content: dict[str, Any]) -> None:
    assert stored(content).content == "Oi"


def test_an_unreadable_message_in_a_group_renames_nothing() -> None:
    found = stored({}, **GROUP, messageStubType="CIPHERTEXT", messageStubParameters=["x"])
    assert found.metadata["reason"] == "undecryptable"


def test_the_first_of_two_contents_counts_and_what_is_empty_hides_none() -> None:
    nothing = {"newThing": {}, "empty": "", "none": None}
    file = {"url": "https://media.example/f"}
    assert stored({**nothing, "imageMessage": file, "videoMessage": file}).type == "image"
    assert stored({"videoMessage": file, "imageMessage": file}).type == "video"


def test_a_photo_of_an_ad_without_a_headline_says_the_ads_text() -> None:
    ad = {"externalAdReply": {"body": "Salões", "sourceType": "ad"}}
    assert stored({"imageMessage": {"url": "https://media.example/f", "contextInfo": ad}}).content == "Salões"


def test_a_stub_leaves_a_trace_where_a_venue_should_see_it() -> None:
    for name, number in SCHEMA["stubs"].items():
        for found in (
            read({}, messageStubType=name), read({}, messageStubType=number), read({"messageStubType": name}),
            read({"messageStubType": str(number)}),
        ):  # fmt: skip
            if name in stubs.UNREADABLE:
                assert isinstance(found, Message)
                assert (found.type, found.metadata["stub"]) == ("unsupported", True)
            elif name in stubs.MISSED_CALLS or name in stubs.MISSED_VIDEO_CALLS:
                assert isinstance(found, Message)
                assert found.metadata["system"] == "missed_call"
            elif name in stubs.DELETIONS:
                assert isinstance(found, Change)
                assert (found.do, found.message_id) == ("delete", "M1")
            else:
                assert found in ("stub", "empty", "noise"), name


def test_a_readable_message_beside_a_stub_is_the_message() -> None:
    assert stored({"conversation": "Oi", "messageStubType": "CIPHERTEXT"}).content == "Oi"


def test_a_groups_new_subject_renames_it() -> None:
    found = read({"messageStubType": 21, "messageStubParameters": ["Casamento"]}, chat={"id": "12036300000000001@g.us"})
    assert isinstance(found, Change)
    assert (found.do, found.content, found.who and found.who.group) == ("rename", "Casamento", "12036300000000001@g.us")


@pytest.mark.parametrize(
    ("fields", "reason"),
    [({"UnavailableType": "view_once"}, "view_once"), ({"IsUnavailable": True}, "undecryptable"), ({"key": {"isViewOnce": True}}, "view_once")],
    ids=str,
)  # fmt: skip
def test_what_a_gateway_says_could_not_be_read_leaves_a_trace(fields: dict[str, Any], reason: str) -> None:
    assert stored({}, **fields).metadata["reason"] == reason


def test_what_its_sender_hides_leaves_none() -> None:
    assert read({}, DecryptFailMode="hide") == "hidden"


# What acts on another message.


@pytest.mark.parametrize(
    ("message", "do", "content"),
    [
        pytest.param({"reactionMessage": {"key": {"remoteJid": "x", "id": "T", "fromMe": True}, "text": "❤"}}, "react", "❤", id="a reaction"),
        pytest.param({"reactionMessage": {"key": {"id": "T"}, "text": ""}}, "react", "", id="a reaction taken back"),
        pytest.param({"reactionMessage": {"key": {"id": "T"}}}, "react", "", id="a reaction taken back by silence"),
        pytest.param({"protocolMessage": {"key": {"id": "T"}, "type": Word("REVOKE", 0)}}, "delete", None, id="a deletion"),
        pytest.param({"protocolMessage": {"key": {"id": "T"}}}, "delete", None, id="a deletion without its type"),
        pytest.param({"protocolMessage": {"key": {"id": "T"}, "type": Word("MESSAGE_EDIT", 14), "editedMessage": {"conversation": "b"}}}, "edit", "b", id="an edit"),
        pytest.param(future("editedMessage", {"protocolMessage": {"key": {"id": "T"}, "type": Word("MESSAGE_EDIT", 14), "editedMessage": {"imageMessage": {"caption": "b"}}}}), "edit", "b", id="an edited caption"),
        pytest.param({"secretEncryptedMessage": {"targetMessageKey": {"id": "T"}, "encPayload": b"x", "encIv": b"y", "secretEncType": Word("MESSAGE_EDIT", 2)}}, "mark", None, id="a sealed edit"),
        pytest.param({"pinInChatMessage": {"key": {"id": "T"}, "type": Word("PIN_FOR_ALL", 1)}}, "mark", None, id="a pin"),
        pytest.param({"keepInChatMessage": {"key": {"id": "T"}, "keepType": Word("UNDO_KEEP_FOR_ALL", 2)}}, "mark", None, id="no longer kept"),
    ],
)  # fmt: skip
def test_what_acts_on_another_message_names_it(message: dict[str, Any], do: str, content: str | None) -> None:
    for print_as in SPELLINGS.values():
        found = read(print_as(message), sender={"id": PHONE, "pushName": "Bia"})
        assert isinstance(found, Change)
        assert (found.do, found.message_id, found.content) == (do, "T", content)
        assert found.who is not None
        assert found.who.phone == PHONE


@pytest.mark.parametrize("name", SCHEMA["protocol_types"])
def test_a_protocol_message_of_any_other_type_deletes_nothing(name: str) -> None:
    for said in (name, SCHEMA["protocol_types"][name]):
        found = read({"protocolMessage": {"type": said, "key": {"id": "T"}, "editedMessage": {"conversation": "x"}}})
        if name in ("REVOKE", "MESSAGE_EDIT"):
            assert isinstance(found, Change)
        else:
            assert found == "protocol"


def test_a_shared_phone_number_tells_whose_lid_it_is() -> None:
    found = read(
        {"protocolMessage": {"type": 11}}, chat={"id": "100000000000002@lid"}, sender={"id": PHONE, "senderLid": "100000000000002@lid"}
    )  # fmt: skip
    assert isinstance(found, Change)
    assert (found.do, found.who and found.who.phone, found.who and found.who.lid) == (
        "learn",
        PHONE,
        "100000000000002@lid",
    )


@pytest.mark.parametrize(
    ("status", "means"),
    [
        ("RECEIVED", "delivered"), ("delivery-ack", "delivered"), ("FAILED", "error"), ("device", "delivered"),
        ("PLAYED-SELF", "ack_of_our_own"), ("READ_SELF", "ack_of_our_own"), ("read-self", "ack_of_our_own"),
        ("SERVER-ERROR", "ack_of_our_own"), ("RETRY", "ack_of_our_own"), (3, "ack_unreadable"), ("4", "ack_unreadable"),
    ],
)  # fmt: skip
def test_acks_are_read_by_their_words_and_never_by_numbers(status: object, means: str) -> None:
    found = read({}, event="webhookStatus", status=status)
    assert found == (Change(do="ack", message_id="M1", status=means) if means in ("delivered", "error") else means)

"""What a webhook body says: an event, or why it is none; and nothing else, whatever comes."""

import hashlib
import json
import re
import traceback
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from shared.core.event import Event, EventKind, Noise
from shared.errors import EventRejected
from shared.providers.wapi.events import MAX_BODY_BYTES, _change, parse_event

MOMENT = 1_790_000_000
AT = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
LINE = "LITE-AB12CD-EF34GH"


def body(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


def parsed(**fields: Any) -> Event:
    return parse_event(body(**fields))


def rejection(raw: bytes) -> EventRejected:
    with pytest.raises(EventRejected) as raised:
        parse_event(raw)
    return raised.value


# Names.


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        pytest.param(
            "webhookDisconnected",
            EventKind.DISCONNECTION,
            id="the provider's disconnection (regression: it first marked the line connected)",
        ),
        pytest.param("disconnection", EventKind.DISCONNECTION, id="a disconnection by the plan's name"),
        pytest.param("webhookConnected", EventKind.CONNECTION, id="the provider's connection"),
        pytest.param("connection", EventKind.CONNECTION, id="a connection by the plan's name"),
        pytest.param("webhookStatus", EventKind.ACK, id="an ack, although its name says status"),
        pytest.param("webhookReceived", EventKind.MESSAGE, id="a message"),
        pytest.param("webhookDelivery", EventKind.MESSAGE, id="an echo"),
        pytest.param("webhookChatPresence", EventKind.OTHER, id="a presence"),
        pytest.param("webhookdisconnected", EventKind.OTHER, id="lower case"),
        pytest.param("WEBHOOKDISCONNECTED", EventKind.OTHER, id="upper case"),
        pytest.param("Disconnection", EventKind.OTHER, id="odd case"),
        pytest.param("webhookDisconnected ", EventKind.OTHER, id="a space at the end"),
        pytest.param(" webhookDisconnected", EventKind.OTHER, id="a space at the beginning"),
        pytest.param("webhookDisconnected\n", EventKind.OTHER, id="a line break at the end"),
        pytest.param("webhookDisconnectedAgain", EventKind.OTHER, id="a longer name"),
        pytest.param("disconnected", EventKind.OTHER, id="a field's name"),
        pytest.param("connected", EventKind.OTHER, id="the other field's name"),
        pytest.param("messages.upsert", EventKind.OTHER, id="somebody else's event"),
    ],
)
def test_names_are_matched_exactly(name: str, kind: EventKind) -> None:
    event = parsed(event=name, instanceId=LINE, moment=MOMENT)
    assert event.kind is kind
    assert event.name == name
    assert event.external_id == LINE


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({}, id="no name at all"),
        pytest.param({"event": None}, id="null"),
        pytest.param({"event": ""}, id="an empty name"),
        pytest.param({"event": 7}, id="a number"),
        pytest.param({"event": ["webhookDisconnected"]}, id="a list"),
        pytest.param({"event": {"webhookDisconnected": True}}, id="an object"),
        pytest.param({"event": "x" * 201}, id="a name of 201 characters"),
        pytest.param({"event": "webhook\x00Disconnected"}, id="a NUL"),
        pytest.param({"Event": "webhookDisconnected"}, id="another key"),
    ],
)
def test_an_event_without_a_usable_name_is_kept_and_does_nothing(fields: dict[str, Any]) -> None:
    event = parsed(**fields, instanceId=LINE, disconnected=True, connected=True, moment=MOMENT)
    assert event.name is None
    assert event.kind is EventKind.OTHER
    assert event.external_id == LINE


@pytest.mark.parametrize(
    ("name", "field", "kind", "denials"),
    [
        ("webhookDisconnected", "disconnected", EventKind.DISCONNECTION, (False, None, 0, "false", [], {})),
        ("disconnection", "disconnected", EventKind.DISCONNECTION, (False, None, 0, "false", [], {})),
        ("webhookConnected", "connected", EventKind.CONNECTION, (False, 0, "false", "False")),
        ("connection", "connected", EventKind.CONNECTION, (False, 0, "false", "False")),
    ],
)
def test_an_event_that_denies_itself_in_its_own_field_does_nothing(
    name: str, field: str, kind: EventKind, denials: tuple[object, ...]
) -> None:
    """The body of a connection is unconfirmed, so that only a clear no denies it."""
    assert parsed(event=name, moment=MOMENT).kind is kind
    for yes in (True, 1, "true", "True", "1"):
        assert parsed(event=name, moment=MOMENT, **{field: yes}).kind is kind
    for denial in denials:
        assert parsed(event=name, moment=MOMENT, **{field: denial}).kind is EventKind.OTHER


# Whose line.


@pytest.mark.parametrize(
    ("instance_id", "external_id"),
    [
        pytest.param(LINE, LINE, id="the provider's id"),
        pytest.param("AB12CD-EF34GH-IJ56KL", "AB12CD-EF34GH-IJ56KL", id="the provider's other shape"),
        pytest.param("linha-são-joão-📱", "linha-são-joão-📱", id="letters outside ASCII"),
        pytest.param(f"  {LINE} ", LINE, id="spaces around it, which the database takes away as well"),
        pytest.param(f"{LINE}\t", f"{LINE}\t", id="a tab, which it does not"),
        pytest.param("XAB12CD-EF34GX", "XAB12CD-EF34GX", id="a letter at both ends"),
        pytest.param("   ", None, id="nothing but spaces"),
        pytest.param("x" * 200, "x" * 200, id="200 characters"),
        pytest.param("x" * 201, None, id="201 characters"),
        pytest.param("", None, id="an empty id"),
        pytest.param(None, None, id="null"),
        pytest.param(12345, None, id="a number"),
        pytest.param([LINE], None, id="a list"),
        pytest.param(f"{LINE}\x00", None, id="a NUL, which no text column holds"),
        pytest.param("\ud800", None, id="half a surrogate pair"),
        pytest.param(f"{LINE}\udfff", None, id="the other half"),
    ],
)
def test_a_line_is_named_by_an_id_that_a_column_can_hold(instance_id: object, external_id: str | None) -> None:
    assert parsed(event="webhookReceived", instanceId=instance_id).external_id == external_id


# When.


@pytest.mark.parametrize(
    ("moment", "read_as"),
    [
        pytest.param(MOMENT, AT, id="seconds"),
        pytest.param(MOMENT * 1000, AT, id="milliseconds"),
        pytest.param(MOMENT * 1000 + 250, AT.replace(microsecond=250_000), id="milliseconds with a fraction"),
        pytest.param(MOMENT + 0.5, AT.replace(microsecond=500_000), id="seconds with a fraction"),
        pytest.param(str(MOMENT), AT, id="seconds in a string"),
        pytest.param(str(MOMENT * 1000), AT, id="milliseconds in a string"),
        pytest.param(1, datetime(1970, 1, 1, 0, 0, 1, tzinfo=UTC), id="the first second"),
        pytest.param(99_999_999_999, datetime(5138, 11, 16, 9, 46, 39, tzinfo=UTC), id="the last seconds"),
        pytest.param(100_000_000_000, datetime(1973, 3, 3, 9, 46, 40, tzinfo=UTC), id="the first milliseconds"),
        pytest.param(MOMENT * 10**6, AT, id="microseconds"),
        pytest.param(str(MOMENT * 10**9), AT, id="nanoseconds in a string"),
        pytest.param({"low": MOMENT, "high": 0, "unsigned": True}, AT, id="JavaScript's long"),
        pytest.param(
            253_402_300_799 * 10**9, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC), id="the last second there is"
        ),
        pytest.param(253_402_300_799 * 10**9 + 1, None, id="a nanosecond more"),
        pytest.param(f"000000{MOMENT}", AT, id="a string of 16 digits"),
        pytest.param(0, None, id="zero"),
        pytest.param(-1, None, id="a negative number"),
        pytest.param(-MOMENT * 1000, None, id="negative milliseconds"),
        pytest.param(f"-{MOMENT}", None, id="a negative string"),
        pytest.param(True, None, id="true"),
        pytest.param(False, None, id="false"),
        pytest.param(None, None, id="null"),
        pytest.param("", None, id="an empty string"),
        pytest.param("0", None, id="zero in a string"),
        pytest.param("2026-09-21T14:13:20Z", AT, id="a date"),
        pytest.param("2026-09-21T11:13:20-03:00", AT, id="a date of São Paulo"),
        pytest.param("0001-01-01T00:00:00Z", None, id="no date, as Go prints it"),
        pytest.param("soon", None, id="a word"),
        pytest.param(f"{MOMENT}.5", AT.replace(microsecond=500_000), id="a fraction in a string"),
        pytest.param("١٧٩٠٠٠٠٠٠٠", None, id="digits of another script"),
        pytest.param("9" * 5000, None, id="a string of five thousand digits"),
        pytest.param(10**30, None, id="a huge number"),
        pytest.param(10**400, None, id="a number too long for a float"),
        pytest.param(-(10**400), None, id="a negative number too long for a float"),
        pytest.param(1.7e308, None, id="the longest float"),
        pytest.param([MOMENT], None, id="a list"),
        pytest.param({"seconds": MOMENT}, None, id="an object"),
    ],
)
def test_a_moment_is_seconds_or_milliseconds_by_its_magnitude(moment: object, read_as: datetime | None) -> None:
    assert parsed(event="webhookReceived", moment=moment).moment == read_as


def test_a_number_that_python_does_not_read_loses_no_event() -> None:
    event = parse_event(b'{"event": "webhookReceived", "instanceId": "L", "n": ' + b"9" * 5000 + b"}")
    assert (event.kind, event.external_id) == (EventKind.MESSAGE, "L")


def test_a_string_without_end_in_a_body_that_is_too_deep_is_read_once() -> None:
    """Else each of its quotes is where it is read anew: a body of this size held an instance up for an hour."""
    with pytest.raises(EventRejected, match="not JSON"):
        parse_event(b'{"a":' + b"[" * 3000 + b'"' + b'\\"' * 500_000)


def test_a_lid_in_the_phones_place_is_no_phone() -> None:
    lid = "100000000000001"
    assert parsed(connectedPhone=lid, connectedLid=lid).phone is None
    assert parsed(connectedPhone=lid, connectedLid=f"{lid}@lid").phone is None
    assert parsed(connectedPhone="5511900000001", connectedLid=f"{lid}@lid").phone == "5511900000001"


def test_what_our_reader_fails_on_is_kept_and_named() -> None:
    class Odd(dict[str, Any]):
        def get(self, *_: object) -> Any:
            raise OverflowError

    assert _change(EventKind.ACK, Odd()) == (None, Noise.UNREADABLE)


def test_a_number_beyond_every_float_is_no_moment() -> None:
    assert parse_event(b'{"moment": 1e999}').moment is None


def test_an_event_without_a_moment_has_none() -> None:
    assert parsed(event="webhookReceived").moment is None


# The line's number.


@pytest.mark.parametrize(
    ("given_as", "phone"),
    [
        pytest.param("5511900000001", "5511900000001", id="13 digits"),
        pytest.param("551190000001", "551190000001", id="12 digits"),
        pytest.param("1234567890", "1234567890", id="10 digits are the fewest"),
        pytest.param("123456789012345", "123456789012345", id="15 digits are the most"),
        pytest.param("5511900000001@s.whatsapp.net", "5511900000001", id="an address"),
        pytest.param("+5511900000001", "5511900000001", id="a plus"),
        pytest.param(5511900000001, "5511900000001", id="a number"),
        pytest.param("5511900000001:12@s.whatsapp.net", "5511900000001", id="a device"),
        pytest.param("123456789", None, id="9 digits"),
        pytest.param("1234567890123456", None, id="16 digits"),
        pytest.param(123456789, None, id="a number of 9 digits"),
        pytest.param(10**15, None, id="a number of 16 digits"),
        pytest.param(-5511900000001, None, id="a negative number"),
        pytest.param(5511900000001.0, None, id="a fraction"),
        pytest.param(10**400, None, id="a huge number"),
        pytest.param(True, None, id="true"),
        pytest.param(None, None, id="null"),
        pytest.param("", None, id="an empty string"),
        pytest.param("100000000000001@lid", None, id="a hidden identity"),
        pytest.param("551190000000-1600000000@g.us", None, id="a group"),
        pytest.param("55 11 90000-0001", None, id="spaces and a hyphen"),
        pytest.param("++5511900000001", None, id="two pluses"),
        pytest.param("5511900000001 ", None, id="a space at the end"),
        pytest.param("5511900000001\n", None, id="a line break at the end"),
        pytest.param("٥٥١١٩٠٠٠٠٠٠٠١", None, id="digits of another script"),
        pytest.param("5511900000001\x00", None, id="a NUL"),
        pytest.param(["5511900000001"], None, id="a list"),
    ],
)
def test_a_phone_is_10_to_15_digits(given_as: object, phone: str | None) -> None:
    assert parsed(event="webhookConnected", connectedPhone=given_as).phone == phone


def test_nobody_elses_number_is_taken_for_the_lines() -> None:
    event = parsed(event="webhookReceived", sender={"id": "5511900000002"}, chat={"id": "5511900000003"})
    assert event.phone is None


# Keys.

A_MESSAGE = {
    "event": "webhookReceived",
    "instanceId": LINE,
    "moment": MOMENT,
    "chat": {"id": "1", "list": [1, {"b": 2, "a": "é"}]},
}
REVERSED = {
    "chat": {"list": [1, {"a": "é", "b": 2}], "id": "1"},
    "moment": MOMENT,
    "instanceId": LINE,
    "event": "webhookReceived",
}


@pytest.mark.parametrize(
    "other",
    [
        pytest.param(json.dumps(A_MESSAGE), id="the same bytes"),
        pytest.param(json.dumps(REVERSED), id="another order of keys"),
        pytest.param(json.dumps(A_MESSAGE, indent=3), id="another spacing"),
        pytest.param(json.dumps(A_MESSAGE, separators=(",", ":")) + "\r\n", id="no spacing"),
        pytest.param(json.dumps(A_MESSAGE, ensure_ascii=False), id="letters written out"),
    ],
)
def test_equal_bodies_have_equal_keys(other: str) -> None:
    assert parse_event(other.encode()).key == parsed(**A_MESSAGE).key


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"moment": MOMENT + 1}, id="another moment"),
        pytest.param({"moment": str(MOMENT)}, id="the same moment as a string"),
        pytest.param({"instanceId": "LITE-OTHER"}, id="another line"),
        pytest.param({"chat": {"id": "1", "list": [{"b": 2, "a": "é"}, 1]}}, id="another order in a list"),
        pytest.param({"more": None}, id="one more field"),
    ],
)
def test_different_bodies_have_different_keys(change: dict[str, Any]) -> None:
    assert parsed(**A_MESSAGE | change).key != parsed(**A_MESSAGE).key


LIMIT = 64 * 1024


@pytest.mark.parametrize(
    ("text", "known_by"),
    [
        ('{"event": "x", "a": [1, {"c": null, "b": "é"}]}', '{"a":[1,{"b":"\\u00e9","c":null}],"event":"x"}'),
        ('{"b": "' + "x" * (LIMIT - 16) + '", "a":1}', '{"a":1,"b":"' + "x" * (LIMIT - 16) + '"}'),
        ('{"b": "' + "x" * (LIMIT - 15) + '", "a":1}', '{"b": "' + "x" * (LIMIT - 15) + '", "a":1}'),
    ],
    ids=["its fields in order", "the longest of them", "the bytes of a longer one"],
)
def test_a_key_outlives_a_deployment(text: str, known_by: str) -> None:
    """What came before it may come again after it."""
    assert parse_event(text.encode()).key == hashlib.sha256(known_by.encode()).hexdigest()


@pytest.mark.parametrize("name", ["webhookDisconnected", "webhookConnected", "disconnection", "connection"])
def test_two_connection_events_without_a_moment_are_two_facts(name: str) -> None:
    for no_moment in ({}, {"moment": None}, {"moment": "soon"}):
        assert (
            parsed(event=name, instanceId=LINE, **no_moment).key != parsed(event=name, instanceId=LINE, **no_moment).key
        )


@pytest.mark.parametrize("name", ["webhookDisconnected", "webhookConnected"])
def test_a_connection_event_with_its_moment_is_one_fact_however_often_it_comes(name: str) -> None:
    assert parsed(event=name, moment=MOMENT).key == parsed(event=name, moment=MOMENT).key


def test_any_other_event_without_a_moment_is_one_fact_however_often_it_comes() -> None:
    assert parsed(event="webhookStatus", messageId="1").key == parsed(event="webhookStatus", messageId="1").key


def test_an_event_is_the_lines_whose_key_it_came_with() -> None:
    """One that names no line is that line's, and of two lines it is two events; one that names another is nobody's."""
    nameless = parsed(event="webhookReceived")
    ours = nameless.said_by(LINE)
    assert ours == replace(nameless, external_id=LINE, key=f"{nameless.key}@{LINE}")
    named = parsed(event="webhookReceived", instanceId=LINE)
    assert named.said_by(LINE) is named
    assert named.said_by("LITE-ANOTHER") is None


# Bodies.


def test_the_body_is_kept_as_it_came() -> None:
    text = '  {"event" : "webhookReceived", "é": "\\u00e9", "n": 1.50}\n'
    assert parse_event(text.encode()).body == text


@pytest.mark.parametrize(
    ("raw", "reason"),
    [
        pytest.param(b"", "not JSON", id="nothing"),
        pytest.param(b"   ", "not JSON", id="spaces"),
        pytest.param(b"event=webhookDisconnected", "not JSON", id="a form"),
        pytest.param(b"<html></html>", "not JSON", id="a page"),
        pytest.param(b'{"moment": NaN}', "not JSON", id="NaN"),
        pytest.param(b'{"moment": -Infinity}', "not JSON", id="minus Infinity"),
        pytest.param(b'{"a": [{"b": NaN}]}', "not JSON", id="NaN deep within"),
        pytest.param(b'{"event": "webhookReceived"', "not JSON", id="half an object"),
        pytest.param(b"{'event': 1}", "not JSON", id="single quotes"),
        pytest.param(b'{"event": 1}{"event": 2}', "not JSON", id="two objects"),
        pytest.param(b"\xff\xfe{}", "not UTF-8", id="bytes that are no text"),
        pytest.param('{"unit": "São João"}'.encode("latin-1"), "not UTF-8", id="Latin-1"),
        pytest.param(b'{"a": "\xed\xa0\x80"}', "not UTF-8", id="half a surrogate pair in bytes"),
        pytest.param("{}".encode("utf-16"), "not UTF-8", id="UTF-16"),
        pytest.param(b"[]", "not a JSON object", id="an array"),
        pytest.param(b'[{"event": "webhookDisconnected"}]', "not a JSON object", id="an array of events"),
        pytest.param(b"null", "not a JSON object", id="null"),
        pytest.param(b'"webhookDisconnected"', "not a JSON object", id="a string"),
        pytest.param(b"1", "not a JSON object", id="a number"),
        pytest.param(b"[" * 100_000 + b"]" * 100_000, "not a JSON object", id="100k brackets and no object"),
        pytest.param(b'{"a":' * 100_000, "not JSON", id="100k braces that never close"),
        pytest.param(
            b'{"a": ' + b"[" * 100_000 + b"]" * 100_000 + b', "moment": NaN}', "not JSON", id="NaN after 100k brackets"
        ),
    ],
)
def test_a_body_that_is_no_json_object_is_the_senders_fault(raw: bytes, reason: str) -> None:
    error = rejection(raw)
    assert error.status == 400
    assert reason in error.reason


def test_a_rejection_quotes_nothing() -> None:
    for raw in (b'{"event": secret-text', b'["secret-text"]', b'"secret-text"', b"secret-text\xff"):
        error = rejection(raw)
        assert "secret-text" not in error.reason
        assert "secret-text" not in "".join(traceback.format_exception(error))


def test_what_the_provider_nests_is_not_too_deep() -> None:
    assert parse_event(b'{"a": ' * 60 + b'{"b": [1]}' + b"}" * 60).kind is EventKind.OTHER


def test_a_byte_order_mark_is_no_part_of_a_body() -> None:
    assert parse_event(b"\xef\xbb\xbf" + b'{"event": "x"}').name == "x"


def test_a_wide_body_is_not_too_deep() -> None:
    assert parsed(msgContent={str(n): [n] for n in range(5000)}).kind is EventKind.OTHER


def test_a_body_is_at_most_one_mebibyte_long() -> None:
    around = len(b'{"a": ""}')
    fits = b'{"a": "' + b"x" * (MAX_BODY_BYTES - around) + b'"}'
    assert len(fits) == 1024 * 1024
    assert len(parse_event(fits).body) == MAX_BODY_BYTES
    assert rejection(fits + b" ").status == 413
    assert rejection(b"\xff" * (MAX_BODY_BYTES + 1)).status == 413


# Whatever comes.

letters = st.text('aeé"\\{}[]:,0019.-+eE \n\t\x00\u2028📱', max_size=12)
names = st.sampled_from(["webhookDisconnected", "webhookConnected", "webhookStatus", "connection", "\x00", "\ud83d"])
numbers = (
    st.integers() | st.integers(10**14, 10**16) | st.just(10**400) | st.floats(allow_nan=False, allow_infinity=False)
)
values = st.recursive(
    st.none() | st.booleans() | numbers | letters | names,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(letters, inner, max_size=3),
    max_leaves=8,
)
fields = st.fixed_dictionaries(
    {},
    optional={
        "event": names | values,
        "instanceId": letters | values,
        "moment": numbers | letters | values,
        "connectedPhone": st.from_regex(r"[+]?[0-9]{9,16}(@s\.whatsapp\.net)?\n?", fullmatch=True) | values,
        "disconnected": st.booleans() | values,
        "connected": st.booleans() | values,
        "msgContent": values,
    },
)


def outcome(raw: bytes) -> Event | EventRejected:
    try:
        return parse_event(raw)
    except EventRejected as rejected:
        return rejected


def check(found: Event | EventRejected) -> None:
    """What everybody downstream relies on."""
    if isinstance(found, EventRejected):
        assert found.status in (400, 413)
        return
    assert found.key.isascii()
    for text in (found.name, found.external_id):
        assert text is None or (0 < len(text) <= 200 and "\x00" not in text and text.encode())
    assert found.moment is None or found.moment.tzinfo is UTC
    assert found.phone is None or re.fullmatch(r"[0-9]{10,15}", found.phone)
    assert isinstance(json.loads(found.body, parse_int=len), dict)


@settings(deadline=None)
@given(st.binary(max_size=60) | letters.map(str.encode))
@example(b'{"moment": 1' + b"0" * 400 + b"}")
@example(b'{"moment": 1' + b"0" * 5000 + b"}")
@example(b"\xef\xbb\xbf{}")
def test_any_bytes_are_an_event_or_rejected(raw: bytes) -> None:
    check(outcome(raw))


@settings(deadline=None)
@given(values)
def test_any_json_is_an_event_or_rejected(value: object) -> None:
    found = outcome(json.dumps(value).encode())
    check(found)
    assert isinstance(found, Event) is isinstance(value, dict)


@settings(deadline=None)
@given(fields)
@example({"moment": 10**400})
@example({"connectedPhone": "5511900000001\n"})
def test_any_fields_are_an_event(found: dict[str, Any]) -> None:
    event = parse_event(json.dumps(found).encode())
    check(event)
    if event.kind is EventKind.OTHER or event.moment:
        assert parse_event(json.dumps(dict(reversed(found.items())), indent=1).encode()).key == event.key

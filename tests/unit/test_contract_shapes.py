"""Shapes of answers: what may be shown of one, what differs from what is believed, and any form of the provider's log."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ops.doctor.contract import beliefs
from ops.doctor.contract.beliefs import Form
from ops.doctor.contract.compare import Weight, differences
from ops.doctor.contract.deliveries import describe, read_page
from ops.doctor.contract.shape import Names, kind_of, shape_of, texts_in
from ops.doctor.contract.walk import Secrets

NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
AT = int(NOW.timestamp()) - 600
NAMES = Names(beliefs.KNOWN_NAMES)
PHONE = "5511987654321"
TOKEN = "qL8xVb2NfT0sJd6YwKz4"


def shown(answer: object, names: Names = NAMES) -> str:
    return json.dumps(shape_of(answer, names).kinds)


# Keys


@pytest.mark.parametrize(
    "key",
    [
        PHONE, f"+{PHONE}", f"{PHONE}@s.whatsapp.net", "100000000000001@lid", "11 98765-4321", "", " ",
        TOKEN, "9f86d081884c7d659a2feaa0c55ad015", "eyJhbGciOiJIUzI1NiJ9.e30.x", "aBcDeFgHiJkL", "xkcdqrtplmnb",
        "LITE-AB12CD-EF34GH", "3EB0AA0000000000000001", "https://hook.example/?key=k", "Ana Souza", "ana@example.com",
        "3f2504e0-4f89-11d3-9a0c-0305e82c3301", "a" * 33, "José", "tok_4929a1", "x\n5511987654321",
    ],
)  # fmt: skip
def test_a_key_that_is_a_value_is_never_shown(key: str) -> None:
    for answer in (
        {key: 1},
        {"data": {key: {"connected": True}}},
        [{"logs": [{key: []}]}],
        json.dumps({"data": {key: 1}}),
    ):
        text = shown(answer)
        assert json.dumps(key)[1:-1] not in text if key.strip() else "an empty key" in text
    assert "987654321" not in shown({key: key})


@pytest.mark.parametrize(
    "key",
    [
        "entries",
        "deliveryAttempts",
        "webhookURL",
        "isRetried",
        "next_page",
        "instanceid",
        "msgcontent",
        "fileSha256",
        "dueDate2",
    ],
)
def test_a_key_that_is_written_like_a_field_is_what_the_walk_is_for(key: str) -> None:
    assert key in shape_of({key: 1}, NAMES).kinds


def test_a_key_that_some_answer_holds_as_a_value_is_none() -> None:
    secrets = Secrets()
    secrets.add("marina", "Salao")
    assert "marina" not in shown({"marina": 1, "salao": 2}, secrets.names)


def test_what_is_shown_at_the_end_is_searched_for_every_long_value() -> None:
    secrets = Secrets()
    secrets.add(
        PHONE,
        TOKEN,
        "LITE-AB12CD-EF34GH",
        "Oi, tem data em maio?",
        "2026-11-28",
        "2026-11-28 12:00",
        "connected",
        "Ana",
    )
    for text in (f"x{PHONE}y", TOKEN.upper(), "lite-ab12cd-ef34gh", "oi, tem data em maio?"):
        assert secrets.leaked_into(text)
    assert not secrets.leaked_into("walked at 2026-11-28 12:00 UTC: connected is boolean; Ana")


def test_a_map_whose_keys_are_people_is_told_as_one() -> None:
    people = {name: {"connected": True} for name in ("maria", "joana", "pedro")}
    assert shape_of({"data": people}, NAMES).kinds["data.<any key>.connected"] == {"boolean": 3}
    assert "maria" not in shown({"data": people})
    many = {f"nome{chr(97 + number // 26)}{chr(97 + number % 26)}": number for number in range(100)}
    assert "nomeaa" not in shown(many)


@settings(max_examples=60, deadline=None)
@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=30),
        lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=20), inner, max_size=4),
        max_leaves=25,
    )
)
def test_no_value_of_any_answer_is_in_its_shape(answer: Any) -> None:
    secrets = Secrets()
    secrets.add(*texts_in(answer))
    assert not secrets.leaked_into(shown(answer, secrets.names))


def test_an_answer_without_end_is_cut() -> None:
    deep: Any = {}
    for _ in range(200):
        deep = {"data": deep, "status": [deep]}
    shape = shape_of({"data": deep}, NAMES)
    assert len(shape.kinds) <= 400
    assert shape.cut


# Kinds


@pytest.mark.parametrize(
    ("value", "name", "kind"),
    [
        (None, "", "null"), (True, "", "boolean"), ("true", "", "text: boolean"), (1.5, "", "number"), ([], "", "list: empty"),
        ({}, "", "object: empty"), ("", "", "text: empty"), ("null", "", "text: a word for nothing"),
        (PHONE, "phone", "text: 13 digits"), (int(PHONE), "phone", "integer"), (int(PHONE), "moment", "integer"),
        (AT, "moment", "integer: epoch seconds"), (AT, "total", "integer"), (AT * 1000, "created", "integer: epoch milliseconds"),
        (str(AT), "expires", "text: epoch seconds"), ("2026-11-28T10:00:00Z", "at", "text: ISO moment"),
        ("28/11/2026", "dueDate", "text: Brazilian date"), ("1@lid", "", "text: address @lid"),
        ("https://hook.example/?key=k", "", "text: url"), ('{"a": 1}', "", "text: JSON"), ("active", "", "text"),
    ],
)  # fmt: skip
def test_a_value_is_told_by_its_kind_alone(value: object, name: str, kind: str) -> None:
    assert kind_of(value, name) == kind


# Against what is believed


def compared(
    belief: beliefs.Belief, answer: object, *, connected: bool | None = True, status: int = 200
) -> dict[str, Weight]:
    form = Form.OBJECT if isinstance(answer, dict) else Form.LIST
    shape = shape_of(answer, NAMES)
    says_error = isinstance(answer, dict) and answer.get("error") is True
    found = differences(belief, status=status, form=form, says_error=says_error, shape=shape, connected=connected)
    return {each.what: each.weight for each in found}


GOOD_URLS = dict.fromkeys(beliefs.REGISTRATION.relied, "https://hook.example/?key=k")


@pytest.mark.parametrize(
    ("belief", "answer", "found"),
    [
        (beliefs.STATUS, {"instanceId": "LITE-AB12CD-EF34GH", "connected": True}, {}),
        (beliefs.STATUS, {"connected": "true"}, {"connected is text: boolean, and not boolean": Weight.RELIED}),
        (beliefs.STATUS, {"data": {"connected": True}}, {
            "no connected where we read it; it stands at data.connected": Weight.RELIED,
            "a key that nobody has told of: data (object)": Weight.NEW,
        }),
        (beliefs.STATUS, [{"connected": True}], {"a JSON list, and not a JSON object": Weight.RELIED}),
        (beliefs.STATUS, {"error": True, "message": "x"}, {'HTTP 200 with "error": true': Weight.RELIED}),
        (beliefs.DEVICE, {"connectedPhone": PHONE, "lid": "1@lid", "name": "A", "platform": "android", "isBusiness": True}, {}),
        (beliefs.DEVICE, {"name": "A"}, {"no connectedPhone": Weight.RELIED}),
        (beliefs.DEVICE, {"connectedPhone": PHONE, "battery": 80}, {"a key that nobody has told of: battery (integer)": Weight.NEW}),
        (beliefs.REGISTRATION, GOOD_URLS, {}),
        (beliefs.REGISTRATION, GOOD_URLS | {"created": AT}, {
            "created is integer: epoch seconds, and was seen as integer: epoch milliseconds": Weight.NEW,
        }),
        (beliefs.REGISTRATION, {"instance": GOOD_URLS}, {
            "it is wrapped in instance, as we can read it": Weight.NEW,
        }),
        (beliefs.REGISTRATION, {"result": {"webhookStatusUrl": ""}}, {
            **{f"no {name}": Weight.RELIED for name in GOOD_URLS if "Status" not in name},
            "no webhookStatusUrl where we read it; it stands at result.webhookStatusUrl": Weight.RELIED,
            "a key that nobody has told of: result (object)": Weight.NEW,
        }),
        (beliefs.LOG, {"entries": []}, {"a key that nobody has told of: entries (list: empty)": Weight.NEW}),
    ],
)  # fmt: skip
def test_what_is_otherwise_is_named_with_its_weight(
    belief: beliefs.Belief, answer: object, found: dict[str, Weight]
) -> None:
    assert compared(belief, answer) == found


def test_another_status_is_a_difference_and_what_nothing_relies_on_weighs_less() -> None:
    assert compared(beliefs.STATUS, {}, status=404) == {"HTTP 404, and not 200": Weight.RELIED}
    assert compared(beliefs.PAYMENT, {}, status=404) == {"HTTP 404, and not 200": Weight.NEW}
    assert compared(beliefs.WRONG_TOKEN, {"connected": False}, status=200) == {
        "HTTP 200, and not 401 or 403": Weight.RELIED
    }


def test_of_a_line_that_is_down_no_phone_is_expected() -> None:
    assert compared(beliefs.DEVICE, {"name": "A"}, connected=False) == {}


# The log


def entry(number: int, **more: object) -> dict[str, object]:
    return {
        "event": "webhookReceived",
        "instanceid": "LITE-AB12CD-EF34GH",
        "messageid": f"M{number:05d}",
        "moment": AT - 60 * number,
        **more,
    }


ENTRIES = [entry(number) for number in range(3)]


@pytest.mark.parametrize(
    ("answer", "at"),
    [
        ({"logs": ENTRIES}, "logs"), (ENTRIES, "(answer)"), ({"data": {"logs": ENTRIES}, "error": False}, "data.logs"),
        ({"logs": json.dumps(ENTRIES)}, "logs"), ([json.dumps(each) for each in ENTRIES], "(answer)"),
        ({"data": {str(number): each for number, each in enumerate(ENTRIES)}}, "data"),
        ({"tags": [], "items": ENTRIES, "pages": [{"page": 1}]}, "items"),
        ({PHONE: ENTRIES}, "<digits>"),
    ],
)  # fmt: skip
def test_the_log_is_found_wherever_it_stands(answer: object, at: str) -> None:
    page = read_page(answer, NAMES)
    assert (page.at, len(page.entries)) == (at, 3)
    assert page.holds("m00002")
    assert not page.holds("M99999")


def test_an_answer_without_a_list_has_no_log_and_an_empty_one_has() -> None:
    assert read_page({"error": False}, NAMES).at is None
    assert read_page("nonsense", NAMES).at is None
    assert read_page({"logs": []}, NAMES).at == "logs"


def test_the_log_is_described_in_counts_and_moments_to_the_minute() -> None:
    first = read_page({"logs": [entry(n, statuscode=200 + 300 * (n % 2)) for n in range(4)], "total": 6}, NAMES)
    second = read_page(
        {"logs": [entry(4, msgContent={"conversation": "segredo"}), entry(5) | {"event": "segredo"}]}, NAMES
    )
    found = describe([first, second], NAMES, asked_per_page=4, now=NOW)
    assert (found.at, found.per_page, found.second_page, found.order) == ("logs", (4, 2), "follows", "newest first")
    assert (found.newest, found.oldest) == (NOW - timedelta(minutes=10), NOW - timedelta(minutes=15))
    assert (found.lower_case, found.simple, found.body_at) == (5, 5, "the entry itself")
    assert found.events == {"webhookReceived": 5, "another": 1}
    assert found.statuses == {"statuscode 200": 2, "statuscode 500": 2}
    assert (found.totals, first.last_number) == ({"total": 6}, 2)
    assert "segredo" not in str(found)


def test_entries_around_a_body_oldest_first_and_a_page_that_is_ignored_are_told() -> None:
    wrapped = [
        {"createdAt": f"2026-11-28T1{number}:00:00Z", "payload": json.dumps({"event": "webhookStatus", "moment": 1})}
        for number in (0, 1)
    ]
    page = read_page({"data": wrapped}, NAMES)
    found = describe([page, page], NAMES, asked_per_page=20, now=NOW)
    assert (found.body_at, found.events, found.second_page) == ("payload", {"webhookStatus": 4}, "is the same again")
    assert describe([page], NAMES, asked_per_page=20, now=NOW).order == "oldest first"


def test_a_phone_where_a_moment_belongs_is_no_moment() -> None:
    page = read_page(
        {"logs": [{"moment": int(PHONE)}, {"moment": 2133334444}, {"date": PHONE}, {"moment": float(AT)}]}, NAMES
    )
    found = describe([page], NAMES, asked_per_page=20, now=NOW)
    assert (found.oldest, found.newest) == (None, None)

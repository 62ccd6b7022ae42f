"""The values of a gateway's JSON, in every form in which a printer writes them."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest

from shared.providers.wapi.values import (
    MAX_RAW_BYTES,
    MAX_TEXT,
    amount_of,
    bytes_of,
    enum_of,
    fold,
    fold_body,
    json_in,
    name_of,
    number_of,
    raw_of,
    time_of,
    url_of,
)


@pytest.mark.parametrize(
    ("written", "number"),
    [
        pytest.param("12345678901234567", 12345678901234567, id="digits that no float holds"),
        pytest.param("0." + "1" * 38, float("0." + "1" * 38), id="forty characters"),
        pytest.param("0." + "1" * 39, None, id="one more"),
        pytest.param({"low": 200, "high": 0}, 200, id="a small long"),
        pytest.param({"low": 0, "high": 1}, 2**32, id="a longer one"),
        pytest.param({"low": -1, "high": -1}, -1, id="a negative one"),
        pytest.param({"low": -1, "high": -1, "unsigned": True}, None, id="the same without a sign is too large"),
        pytest.param({"low": 5, "high": 0, "unsigned": True}, 5, id="a small one without a sign"),
        pytest.param({"low": "5", "high": 0}, None, id="half of it is a text"),
        pytest.param({"low": 5}, None, id="half of it is missing"),
    ],
)
def test_a_number_is_read_in_each_form(written: object, number: float | None) -> None:
    found = number_of(written)
    assert found == number
    assert type(found) is type(number)


@pytest.mark.parametrize(
    ("value", "offset", "amount"), [(15_000, 100, 150.0), (15_000, None, 15_000.0), (15_000, 0, 15_000.0), (None, 100, None)]
)  # fmt: skip
def test_an_amount_has_its_point(value: int | None, offset: int | None, amount: float | None) -> None:
    assert amount_of(value, offset) == amount


@pytest.mark.parametrize(
    ("told", "word"),
    [(" Sent\n", "SENT"), (4, 4), ("4", 4), ("999999999", 999_999_999), ("1000000000", "1000000000"), ("²", "²"), (" ", None), (True, None), (1.5, None)],
)  # fmt: skip
def test_a_word_of_an_enum_is_in_capitals_or_its_number(told: object, word: str | int | None) -> None:
    assert enum_of(told) == word


@pytest.mark.parametrize(
    ("value", "folded"),
    [
        pytest.param({"Title": {"HydratedTitleText": "x"}}, {"title": {"HydratedTitleText": "x"}, "hydratedtitletext": "x"}, id="what Go wraps is lifted"),
        pytest.param({"title": {"HydratedTitleText": "x"}}, {"title": {"HydratedTitleText": "x"}}, id="another printer's is not"),
        pytest.param({"Title": {"hydratedTitleText": "x"}}, {"title": {"hydratedTitleText": "x"}}, id="nor one that only looks like it"),
        pytest.param({"Title": {"Other": "x"}}, {"title": {"Other": "x"}}, id="nor another member"),
        pytest.param({"Title": {"HydratedTitleText": "x", "B": 1}}, {"title": {"HydratedTitleText": "x", "B": 1}}, id="nor one of two"),
        pytest.param({"Title": "x"}, {"title": "x"}, id="nor a text"),
        pytest.param("x", {}, id="what is no object is an empty one"),
    ],
)  # fmt: skip
def test_what_go_wraps_for_a_oneof_is_lifted(value: object, folded: dict[str, Any]) -> None:
    assert fold_body(value) == folded


@pytest.mark.parametrize("value", [{"A": "", "a": "x"}, {"a": "x", "A": ""}, {"A": "x"}])
def test_of_several_spellings_the_one_that_says_something_counts(value: dict[str, str]) -> None:
    assert fold(value) == {"a": "x"}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        ({"a": 1}, {"a": 1}),
        ('{"a": NaN, "b": Infinity}', {"a": None, "b": None}),
        ("[1]", {}),
        ("{", {}),
        (5, {}),
        ('{"a": "' + "x" * (MAX_TEXT - 9) + '"}', {"a": "x" * (MAX_TEXT - 9)}),
        ('{"a": "' + "x" * (MAX_TEXT - 8) + '"}', {}),
    ],
    ids=["an object", "no numbers", "a list", "no JSON", "no text", "as long as can be", "too long"],
)
def test_an_object_in_a_text_is_read(value: object, found: dict[str, Any]) -> None:
    assert json_in(value) == found


def test_a_name_has_the_length_of_a_line() -> None:
    assert name_of("x" * 2000) == "x" * 1000


AT = datetime(2026, 9, 21, 14, 13, 20, tzinfo=UTC)
EARLY = datetime.fromtimestamp(10**8, UTC)


@pytest.mark.parametrize(
    ("told", "moment"),
    [
        (1_790_000_000, AT), ("1790000000", AT), (1_790_000_000_000, AT), (1_790_000_000 * 10**6, AT),
        (1_790_000_000 * 10**9, AT), (str(1_790_000_000 * 10**9), AT), (10**11, EARLY), (10**14, EARLY), (10**17, EARLY),
        (10**11 - 1, datetime.fromtimestamp(10**11 - 1, UTC)), (1, datetime.fromtimestamp(1, UTC)), (10**30, None),
        (253_402_300_799 * 10**9, datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)), (253_402_300_800 * 10**9, None),
        (0, None), (-5, None), ("", None), (None, None), (True, None), ("soon", None), ({"low": 1_790_000_000, "high": 0}, AT),
        ("2026-09-21T14:13:20Z", AT), ("2026-09-21T14:13:20", AT), ("2026-09-21T11:13:20-03:00", AT),
        ("0001-01-01T00:00:00Z", None), ("1970-12-31T00:00:00Z", None), ("1971-01-01T00:00:00Z", datetime(1971, 1, 1, tzinfo=UTC)),
    ],
)  # fmt: skip
def test_a_moment_is_read_by_its_magnitude_or_as_iso(told: object, moment: datetime | None) -> None:
    assert time_of(told) == moment


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ([0, 255], "AP8="), ([255], "/w=="), ([256], None), ([-1], None), ([True], None), (["1"], None), ([], None), ([0] * 64, "A" * 86 + "=="),
        ([0] * 65, None), ({"1": 255, "0": 0}, "AP8="), ({"0": 1, "x": 1}, None), ({}, None), ({str(n): 0 for n in range(64)}, "A" * 86 + "=="),
        ({str(n): 0 for n in range(65)}, None), ({"data": [0, 255]}, "AP8="), ({"data": "AP8="}, "AP8="), ({"data": {"0": 1}}, None),
        ({"data": [0] * 65}, None), ("A" * 88, "A" * 88), ("A" * 89, None), ("", None), ("a b", None), (5, None),
    ],
)  # fmt: skip
def test_bytes_are_base64_of_a_bounded_length(told: object, kept: str | None) -> None:
    assert bytes_of(told) == kept


def test_bytes_may_be_bounded_otherwise() -> None:
    assert bytes_of([1, 2], 2) == "AQI="
    assert bytes_of([1, 2, 3], 2) is None
    assert bytes_of({"data": [1, 2, 3]}, 2) is None
    assert [bytes_of("A" * length, limit) for length, limit in ((4, 2), (5, 2), (4, 3), (5, 3), (8, 4))] == [
        "AAAA",
        None,
        "AAAA",
        None,
        "AAAAAAAA",
    ]


def test_the_address_of_no_file_is_none() -> None:
    assert [url_of(f"https://web.whatsapp.net{end}") for end in ("", "/", "/a")] == [
        None,
        None,
        "https://web.whatsapp.net/a",
    ]
    assert url_of("x" * 5000) == "x" * 4096
    assert url_of(5) is None


def as_long_as(length: int) -> list[str]:
    """A list whose JSON has so many characters."""
    texts = ["x" * 4000] * 4
    return [*texts, "x" * (length - len(json.dumps([*texts, ""])))]


def nested(depth: int) -> dict[str, Any]:
    return {"a": nested(depth - 1)} if depth else {"a": 1}


@pytest.mark.parametrize(
    ("told", "kept"),
    [
        ({"a": [1, "x", None, True, {"b": 1.5}], "c": ""}, {"a": [1, "x", None, True, {"b": 1.5}], "c": ""}),
        ({"a": float("inf"), "b": 10**20}, {"a": None, "b": None}),
        ({"x" * 2000: "y" * 5000}, {"x" * 1000: "y" * 4096}),
        ({"\x00": 1}, {"": 1}),
        ([0] * 500, [0] * 500),
        ([0] * 501, None),
        (nested(15), nested(15)),
        (["x" * 4000] * 4, ["x" * 4000] * 4),
        (["x" * 4000] * 5, {"left_out": "too long"}),
        (as_long_as(MAX_RAW_BYTES), as_long_as(MAX_RAW_BYTES)),
        (as_long_as(MAX_RAW_BYTES + 1), {"left_out": "too long"}),
    ],
    ids=[
        "small", "no numbers", "long texts", "no name", "many", "too many", "deep", "much", "too much", "the most",
        "one more",
    ],
)  # fmt: skip
def test_what_nobody_reads_is_kept_as_far_as_jsonb_holds_it(told: object, kept: object) -> None:
    assert raw_of(told) == kept


def test_what_is_nested_too_deeply_is_left_out() -> None:
    assert raw_of(nested(16)) != nested(16)
    assert str(raw_of(nested(16))).count("None") == 1


def test_what_is_listed_too_deeply_is_left_out() -> None:
    for depth in (16, 17):
        told = json.loads("[" * depth + "1" + "]" * depth)
        kept = told if depth == 16 else json.loads("[" * 16 + "null" + "]" * 16)
        assert raw_of(told) == kept

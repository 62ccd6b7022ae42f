"""The values of a gateway's JSON, in every form in which a printer writes them."""

from __future__ import annotations

from typing import Any

import pytest

from shared.providers.wapi.values import MAX_TEXT, fold, fold_body, json_in, name_of, number_of


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

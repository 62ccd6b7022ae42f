"""What a message to a contact says: an alert in words, several lines in one message."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from shared.core.alerts import AlertCause, words_of
from shared.core.delivery import Item, OutgoingMessage, Post


@pytest.mark.parametrize(
    ("cause", "details", "is_over", "words"),
    [
        pytest.param("line_down", {"unit": "Bar", "company": "A", "since": "14:35"}, False, ("A line is down for an hour", "Bar (A) is down since 14:35."), id="begins"),
        pytest.param("line_down", {"unit": "Bar", "company": "A", "since": "14:35"}, True, ("Resolved: A line is down for an hour", "Bar (A) is down since 14:35."), id="is over"),
        pytest.param("own_address", {"why": None}, False, ("Our own webhook does not answer", "Nothing is registered until it does: ?."), id="a detail is null"),
        pytest.param("own_address", {}, False, ("Our own webhook does not answer", "Nothing is registered until it does: ?."), id="a detail is missing"),
        pytest.param("of_a_later_version", {"why": "x"}, False, ("of_a_later_version", ""), id="a cause that this version does not know"),
    ],
)  # fmt: skip
def test_an_alert_has_words(cause: str, details: dict[str, object], is_over: bool, words: tuple[str, str]) -> None:
    assert words_of(cause, details, is_over=is_over) == words


@pytest.mark.parametrize("cause", AlertCause)
def test_every_cause_has_words_whatever_its_details_name(cause: AlertCause) -> None:
    title, text = words_of(cause, {}, is_over=False)
    assert title != cause
    assert text


def a_notice(title: str | None, message: str | None, kind: str = "down") -> dict[str, Any]:
    return {
        "occasion": f"outage:{message}",
        "kind": kind,
        "title": title,
        "message": message,
        "cause": None,
        "details": {},
    }


AN_ALERT = {"occasion": "alert:1", "kind": "resolved", "title": None, "message": None, "cause": "brake", "details": {}}


def a_message(*items: dict[str, Any], channel: str = "email") -> OutgoingMessage:
    return OutgoingMessage.model_validate(
        {
            "batch": 7,
            "ids": [1],
            "lease": datetime(2026, 11, 28, tzinfo=UTC),
            "contact_id": UUID(int=1),
            "channel": channel,
            "address": "dono@example.com",
            "items": items,
        }
    )


def test_one_occasion_is_told_in_its_own_words() -> None:
    assert a_message(a_notice("Caiu", "O bar caiu.")).post() == Post(
        "alert-7",
        "Caiu",
        "O bar caiu.",
        ({"occasion": "outage:O bar caiu.", "kind": "down", "cause": None, "title": "Caiu", "text": "O bar caiu."},),
    )


def test_several_lines_are_one_message() -> None:
    post = a_message(a_notice("Caiu", "O bar caiu."), a_notice("Caiu", "A loja caiu."), a_notice("Voltou", "O spa voltou.", "back")).post()  # fmt: skip
    assert (post.title, post.text) == ("Caiu / Voltou (3)", "O bar caiu.\nA loja caiu.\nO spa voltou.")
    assert [fact["kind"] for fact in post.facts] == ["down", "down", "back"]


def test_two_lines_of_one_title_are_counted() -> None:
    assert a_message(a_notice("Caiu", "O bar caiu."), a_notice("Caiu", "A loja caiu.")).post().title == "Caiu (2)"


def test_an_alert_that_is_over_says_so() -> None:
    post = a_message(AN_ALERT).post()
    assert post.title == "Resolved: The brake is on"
    assert post.facts[0]["cause"] == "brake"


def test_a_notice_without_words_is_empty() -> None:
    assert Item.model_validate(a_notice(None, None)).words == ("", "")


@pytest.mark.parametrize(
    ("channel", "key"),
    [("email", "email"), ("whatsapp", "whatsapp"), ("operator", "operator:dono@example.com")],
)
def test_a_companys_channel_fails_as_a_whole_and_each_of_the_operators_alone(channel: str, key: str) -> None:
    assert a_message(a_notice("Caiu", "x"), channel=channel).key == key

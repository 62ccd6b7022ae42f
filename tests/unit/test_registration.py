"""Which webhooks are set unasked, what counts as done, and when the end of a subscription is told."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
from pydantic import SecretStr

from shared.core.notices import SUBSCRIPTION_TEXTS, TEXTS
from shared.core.policy import Policy
from shared.core.registration import (
    Registration,
    SettingWebhooks,
    Target,
    Unanswered,
    Visit,
    WebhookKind,
    WebhookState,
    judge_setting,
    kinds_to_set,
    worst_of,
)
from shared.core.subscription import Ending, Payment, Subscription, ending_of, is_news

if TYPE_CHECKING:
    from collections.abc import Mapping

OURS = "LITE-AB12CD-EF34GH"
TARGET = Target("https://hook.example", (SecretStr("a-secret-of-the-webhook"),))
GOOD = TARGET.url_for(OURS)
FOREIGN = "https://crm.example/hook"
NEEDED = tuple(kind for kind in WebhookKind if kind.is_needed)
ALL_GOOD = dict.fromkeys(WebhookKind, GOOD)
RECEIVED, TYPING = WebhookKind.RECEIVED, WebhookKind.CHAT_PRESENCE
NOW = datetime(2026, 11, 28, 12, tzinfo=UTC)
STAGES = Policy().subscription_stages


def without(*kinds: WebhookKind) -> dict[WebhookKind, str]:
    return {kind: url for kind, url in ALL_GOOD.items() if kind not in kinds}


@pytest.mark.parametrize(
    ("urls", "how", "kinds"),
    [
        pytest.param(ALL_GOOD, {}, (), id="all is good"),
        pytest.param(ALL_GOOD, {"is_suspected": True}, NEEDED, id="all is good, and the line is suspected"),
        pytest.param(ALL_GOOD | {RECEIVED: ""}, {}, (RECEIVED,), id="one is lost"),
        pytest.param(ALL_GOOD | {TYPING: ""}, {}, (), id="typing goes nowhere"),
        pytest.param(ALL_GOOD | {TYPING: "https://hook.example/?key=x"}, {}, (TYPING,), id="typing comes with a wrong key"),
        pytest.param(ALL_GOOD | {RECEIVED: FOREIGN}, {}, (), id="a foreign host"),
        pytest.param(ALL_GOOD | {RECEIVED: FOREIGN}, {"is_suspected": True}, tuple(kind for kind in NEEDED if kind is not RECEIVED), id="a foreign host of a suspected line"),
        pytest.param(ALL_GOOD | {RECEIVED: FOREIGN}, {"take_over": True}, (RECEIVED,), id="a foreign host that may be taken over"),
        pytest.param(ALL_GOOD | {TYPING: FOREIGN}, {"take_over": True}, (), id="typing at a foreign host"),
        pytest.param(without(RECEIVED, TYPING), {}, (RECEIVED,), id="one is not named"),
        pytest.param(without(RECEIVED), {"was_untold": True}, (), id="it was not named before either"),
        pytest.param(without(RECEIVED), {"was_untold": True, "is_suspected": True}, NEEDED, id="nor that of a suspected line"),
        pytest.param({}, {}, NEEDED, id="none is named"),
    ],
)  # fmt: skip
def test_which_webhooks_are_set_unasked(
    urls: Mapping[WebhookKind, str], how: dict[str, bool], kinds: tuple[WebhookKind, ...]
) -> None:
    assert kinds_to_set(Registration(urls), TARGET, OURS, **how) == kinds


@pytest.mark.parametrize(
    ("urls", "worst"),
    [
        pytest.param(ALL_GOOD, WebhookState.GOOD, id="all is good"),
        pytest.param(without(TYPING), WebhookState.GOOD, id="typing is not named"),
        pytest.param(without(RECEIVED), WebhookState.UNTOLD, id="one is not named"),
        pytest.param(ALL_GOOD | {RECEIVED: "", TYPING: FOREIGN}, WebhookState.MISSING, id="one is lost"),
        pytest.param(ALL_GOOD | {RECEIVED: FOREIGN, TYPING: "https://hook.example/?key=x"}, WebhookState.FOREIGN, id="a foreign host"),
        pytest.param(ALL_GOOD | {TYPING: "https://hook.example/?key=x"}, WebhookState.WRONG_KEY, id="typing comes with a wrong key"),
    ],
)  # fmt: skip
def test_a_line_is_what_the_worst_of_its_webhooks_is(urls: Mapping[WebhookKind, str], worst: WebhookState) -> None:
    assert worst_of(Registration(urls), TARGET, OURS) is worst


REFUSED = Unanswered("refused")


@pytest.mark.parametrize(
    ("done", "is_suspected", "judged"),
    [
        pytest.param(SettingWebhooks(NEEDED, None, Registration(ALL_GOOD)), False, (Visit.SET, None), id="read back equal"),
        pytest.param(SettingWebhooks([], Unanswered("timeout"), Registration(ALL_GOOD)), False, (Visit.SET, None), id="no answer, and read back equal"),
        pytest.param(SettingWebhooks([], Unanswered("timeout"), Registration(ALL_GOOD)), True, (Visit.NOT_SET, "timeout"), id="no answer, and it looked good before"),
        pytest.param(SettingWebhooks(NEEDED, None, Registration(ALL_GOOD | {RECEIVED: ""})), False, (Visit.NOT_SET, "without_effect"), id="a yes without effect"),
        pytest.param(SettingWebhooks(NEEDED[:2], REFUSED, Registration(ALL_GOOD | {RECEIVED: ""})), False, (Visit.NOT_SET, "refused"), id="refused"),
        pytest.param(SettingWebhooks(NEEDED, None, Unanswered("http_500")), False, (Visit.NOT_SET, "http_500"), id="not read back"),
        pytest.param(SettingWebhooks([], Unanswered("http_429", asked_to_wait=True), None), False, (Visit.NOT_SET, "http_429"), id="asked to wait"),
        pytest.param(SettingWebhooks([], None, None), False, (Visit.NOT_SET, "not_read_back"), id="nothing is known"),
        pytest.param(SettingWebhooks(NEEDED, None, Registration(without(RECEIVED))), False, (Visit.KEPT, "not_told"), id="a yes, and it is never told"),
    ],
)  # fmt: skip
def test_done_is_what_is_read_back_equal(
    done: SettingWebhooks, is_suspected: bool, judged: tuple[Visit, str | None]
) -> None:
    assert judge_setting(NEEDED, done, TARGET, OURS, is_suspected=is_suspected) == judged


def ends(days: float, payment: Payment | None = Payment.PAID) -> Subscription:
    return Subscription(payment, "x", NOW + timedelta(days=days))


@pytest.mark.parametrize(
    ("subscription", "told", "days"),
    [
        pytest.param(ends(7.01), None, None, id="not near"),
        pytest.param(ends(7), None, 7, id="seven days"),
        pytest.param(ends(2.9), None, 3, id="found late"),
        pytest.param(ends(1), None, 1, id="a day"),
        pytest.param(ends(-0.01), None, 0, id="over"),
        pytest.param(ends(-400), None, 0, id="long over"),
        pytest.param(ends(20, Payment.LAPSED), None, 0, id="a word says so, whatever the date"),
        pytest.param(Subscription(Payment.LAPSED, "overdue"), None, 0, id="a word without a date"),
        pytest.param(Subscription(Payment.UNCLEAR, "grace"), None, None, id="a word that nobody knows"),
        pytest.param(Subscription(None, None, None, "30"), None, None, id="a date that nobody can read"),
        pytest.param(ends(2, Payment.UNCLEAR), None, 3, id="a date beside it counts"),
        pytest.param(Subscription(), Ending(NOW, 0), None, id="nothing is told any more"),
    ],
)
def test_an_end_has_four_stages(subscription: Subscription, told: Ending | None, days: int | None) -> None:
    ending = ending_of(subscription, told, stages=STAGES, now=NOW)
    assert (ending and ending.days) == days


TOLD = Ending(NOW - timedelta(days=3), 0)


@pytest.mark.parametrize(
    ("subscription", "told", "ending"),
    [
        pytest.param(ends(6), None, Ending(NOW + timedelta(days=6), 7), id="by its date"),
        pytest.param(Subscription(Payment.LAPSED, "x"), None, Ending(NOW, 0), id="a lapse is found"),
        pytest.param(ends(20, Payment.LAPSED), None, Ending(NOW, 0), id="before its date"),
        pytest.param(ends(-3, Payment.LAPSED), None, Ending(NOW - timedelta(days=3), 0), id="after its date"),
        pytest.param(ends(-2.9, Payment.LAPSED), TOLD, TOLD, id="the same lapse by another clock"),
        pytest.param(ends(-4, Payment.LAPSED), TOLD, Ending(NOW - timedelta(days=4), 0), id="a lapse before it"),
        pytest.param(ends(-3, Payment.LAPSED), Ending(NOW - timedelta(days=3), 1), Ending(NOW - timedelta(days=3), 0), id="after a stage that is none"),
    ],
)  # fmt: skip
def test_an_end_is_due_by_its_date_and_a_lapse_when_it_is_found(
    subscription: Subscription, told: Ending | None, ending: Ending
) -> None:
    assert ending_of(subscription, told, stages=STAGES, now=NOW) == ending


@pytest.mark.parametrize(
    ("subscription", "told", "news"),
    [
        pytest.param(ends(6), Ending(NOW + timedelta(days=6), 7), False, id="the same stage"),
        pytest.param(ends(6.1), Ending(NOW + timedelta(days=6), 7), False, id="the same day by another clock"),
        pytest.param(ends(3), Ending(NOW + timedelta(days=3), 7), True, id="the next stage"),
        pytest.param(ends(2), Ending(NOW + timedelta(days=2), 1), False, id="never back to one before"),
        pytest.param(ends(6), Ending(NOW - timedelta(days=24), 0), True, id="the next end"),
        pytest.param(Subscription(Payment.LAPSED, "x"), Ending(NOW - timedelta(days=3), 0), False, id="still lapsed, without a date"),
        pytest.param(ends(20, Payment.LAPSED), Ending(NOW - timedelta(days=3), 0), False, id="still lapsed, with a date ahead"),
        pytest.param(ends(40), Ending(NOW - timedelta(days=3), 0), False, id="paid"),
    ],
)  # fmt: skip
def test_each_stage_of_an_end_is_news_once(subscription: Subscription, told: Ending, news: bool) -> None:
    assert is_news(ending_of(subscription, told, stages=STAGES, now=NOW), told) is news


def test_every_stage_has_its_text() -> None:
    assert tuple(SUBSCRIPTION_TEXTS) == STAGES
    assert {TEXTS[text]["kind"] for text in SUBSCRIPTION_TEXTS.values()} == {"subscription"}  # type: ignore[index]

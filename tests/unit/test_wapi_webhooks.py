"""Where W-API posts a line's events: what its answers say of it, and setting it."""

from __future__ import annotations

import asyncio
import json
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

import httpx
import pytest
from pydantic import SecretStr

from shared.core.model import Observation, SuspectLine
from shared.core.registration import Registration, Target, Unanswered, WebhookKind, WebhookState, judge_url, wrong_kinds
from shared.core.secrets import line_key
from shared.core.subscription import Payment, Subscription
from shared.providers.answer import HttpAnswer
from shared.providers.wapi.client import WapiClient
from shared.providers.wapi.names import has_form, is_served
from shared.providers.wapi.payments import read_end, read_payment, read_word
from shared.providers.wapi.webhooks import read_registration, read_update

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pytest_httpx import HTTPXMock

NEW, OLD = SecretStr("new secret/with+signs&"), SecretStr("the-old-secret-0001")
TARGET = Target("https://hook.example", (NEW, OLD))
OURS = "LITE-AB12CD-EF34GH"
GOOD_URL = "https://hook.example/?key=LITE-AB12CD-EF34GH.9PKTBBfy7ZxrVQi1j3z3MkIzMl_YU1_U"
AN_OLD_KEY = line_key(OLD, OURS)


@pytest.mark.parametrize(
    ("url", "state"),
    [
        pytest.param(GOOD_URL, WebhookState.GOOD, id="what it sets itself"),
        pytest.param(GOOD_URL.replace("hook.example/", "HOOK.example:443").replace("-", "%2D"), WebhookState.GOOD, id="spelt otherwise"),
        pytest.param(f"  {GOOD_URL.replace('?', '?a=b&')} ", WebhookState.GOOD, id="with more"),
        pytest.param(f"https://hook.example/?key={AN_OLD_KEY}", WebhookState.OLD_KEY, id="an older key"),
        pytest.param("https://hook.example/?key=new+secret%2Fwith%2Bsigns%26", WebhookState.PLAIN_KEY, id="the plain secret"),
        pytest.param("https://hook.example/?key=the-old-secret-0001", WebhookState.PLAIN_KEY, id="an older plain secret"),
        pytest.param(f"https://hook.example/?key={line_key(NEW, 'LITE-ANOTHER')}", WebhookState.WRONG_KEY, id="another line's key"),
        pytest.param(f"{GOOD_URL}x", WebhookState.WRONG_KEY, id="a key and a little more"),
        pytest.param(f"{GOOD_URL}&key=x", WebhookState.WRONG_KEY, id="the last one counts"),
        pytest.param(f"{GOOD_URL}&key=", WebhookState.WRONG_KEY, id="an empty one as well"),
        pytest.param("https://hook.example/", WebhookState.WRONG_KEY, id="no key"),
        pytest.param(f"https://hook.example/?Key={AN_OLD_KEY}", WebhookState.WRONG_KEY, id="another name"),
        pytest.param(f"http://hook.example/?key={AN_OLD_KEY}", WebhookState.ELSEWHERE, id="not encrypted"),
        pytest.param(f"https://hook.example:8443/?key={AN_OLD_KEY}", WebhookState.ELSEWHERE, id="another port"),
        pytest.param(f"https://hook.example/other?key={AN_OLD_KEY}", WebhookState.ELSEWHERE, id="another path"),
        pytest.param(f"https://hook.example.evil.example/?key={AN_OLD_KEY}", WebhookState.FOREIGN, id="another host"),
        pytest.param("https://hook.example@evil.example/", WebhookState.FOREIGN, id="a host as user"),
        pytest.param("https://[broken", WebhookState.FOREIGN, id="no URL"),
        pytest.param("https://hook.example:notaport/", WebhookState.FOREIGN, id="no port"),
        pytest.param(GOOD_URL.removeprefix("https://"), WebhookState.ELSEWHERE, id="no scheme"),
        pytest.param("crm.example/hook", WebhookState.FOREIGN, id="another host without a scheme"),
        pytest.param("", WebhookState.MISSING, id="empty"),
        pytest.param(" ", WebhookState.MISSING, id="blank"),
        pytest.param(None, WebhookState.UNTOLD, id="not told"),
    ],
)  # fmt: skip
def test_where_a_url_points_to(url: str | None, state: WebhookState) -> None:
    assert judge_url(url, TARGET, OURS) is state


@pytest.mark.parametrize("external_id", [OURS, "a.b.c", "ã b/c?d&e=f#g", "x" * 200])
def test_the_address_that_is_set_is_good_for_its_line_alone(external_id: str) -> None:
    url = TARGET.url_for(external_id)
    assert judge_url(url, TARGET, external_id) is WebhookState.GOOD
    assert judge_url(url, TARGET, f"{external_id}x") is WebhookState.WRONG_KEY
    assert NEW.get_secret_value() not in url


@pytest.mark.parametrize(
    ("place", "state"),
    [
        ("/in", WebhookState.GOOD),
        ("/in/", WebhookState.GOOD),
        ("in", WebhookState.FOREIGN),
        ("//in", WebhookState.ELSEWHERE),
        ("/inX", WebhookState.ELSEWHERE),
        ("", WebhookState.ELSEWHERE),
    ],
)
def test_a_slash_at_the_end_is_no_other_path(place: str, state: WebhookState) -> None:
    target = Target("https://hook.example/in", (NEW, OLD))
    assert judge_url(f"https://hook.example{place}?{GOOD_URL.partition('?')[2]}", target, OURS) is state


def test_a_key_is_quoted_whole() -> None:
    assert TARGET.url_for("a/b c").startswith("https://hook.example/?key=a%2Fb%20c.")


def test_typing_may_go_anywhere_but_not_here_with_a_wrong_key() -> None:
    good = dict.fromkeys(WebhookKind, GOOD_URL)
    for url in ("", "https://other.example"):
        assert wrong_kinds(Registration(good | {WebhookKind.CHAT_PRESENCE: url}), TARGET, OURS) == {}
    here = Registration(good | {WebhookKind.CHAT_PRESENCE: "https://hook.example/?key=x"})
    assert wrong_kinds(here, TARGET, OURS) == {WebhookKind.CHAT_PRESENCE: WebhookState.WRONG_KEY}


def test_a_webhook_with_the_plain_secret_has_to_be_set() -> None:
    plain = "https://hook.example/?key=the-old-secret-0001"
    told = Registration(dict.fromkeys(WebhookKind, GOOD_URL) | {WebhookKind.RECEIVED: plain})
    assert wrong_kinds(told, TARGET, OURS) == {WebhookKind.RECEIVED: WebhookState.PLAIN_KEY}


def test_what_the_answer_does_not_tell_is_not_known_to_be_wrong() -> None:
    assert wrong_kinds(Registration({WebhookKind.CONNECTED: GOOD_URL}), TARGET, OURS) == {}


def answer(body: Any, status: int = 200) -> HttpAnswer:
    return HttpAnswer(status, "application/json", body if isinstance(body, bytes) else json.dumps(body).encode())


@pytest.mark.parametrize(
    ("told", "cause"),
    [
        pytest.param(answer({"error": True, "webhookConnectedUrl": ""}), "error_true", id="an error with 200"),
        pytest.param(answer([]), "unreadable", id="no object"),
        pytest.param(answer(b"<html>"), "unreadable", id="a page"),
        pytest.param(answer({"connected": True, "token": "t"}), "tells_no_webhooks", id="another shape"),
        pytest.param(answer({}, 403), "http_403", id="forbidden"),
    ],
)
def test_a_registration_that_cannot_be_read_says_why(told: HttpAnswer, cause: str) -> None:
    assert read_registration(told) == Unanswered(cause)


def test_a_registration_is_read_tolerantly_and_keeps_no_token() -> None:
    told = {
        "token": "a-token",
        "webhookConnectedUrl": None,
        "webhookStatusUrl": 5,
        "paymentStatus": {},
        "expires": True,
    }
    found = read_registration(answer(told))
    assert isinstance(found, Registration)
    assert found.urls == {WebhookKind.CONNECTED: ""}
    assert found.subscription == Subscription()
    assert "a-token" not in repr(found)


def test_a_line_is_read_where_it_is_wrapped_and_where_it_names_no_address() -> None:
    assert read_registration(answer({"instance": {"webhookConnectedUrl": GOOD_URL}})) == Registration(
        {WebhookKind.CONNECTED: GOOD_URL}
    )
    assert read_registration(answer({"instanceId": OURS, "connected": True})) == Registration({})


def test_a_registration_tells_of_the_subscription_in_its_own_two_fields_alone() -> None:
    told = {"instanceId": OURS, "paymentStatus": "active", "expires": "2026-12-07"}
    paid = Subscription(Payment.PAID, "active", datetime(2026, 12, 7, tzinfo=UTC), "2026-12-07")
    assert read_registration(answer(told)) == Registration({}, paid)
    others = {"instanceId": OURS, "status": "overdue", "dueDate": "2026-12-07"}
    assert read_registration(answer(others)) == Registration({}, Subscription())


@pytest.mark.parametrize(
    ("told", "urls"),
    [
        pytest.param({"webhookreceivedurl": GOOD_URL}, {WebhookKind.RECEIVED: GOOD_URL}, id="lower case"),
        pytest.param({"webhookReceivedUrl": "null"}, {WebhookKind.RECEIVED: ""}, id="a word for nothing"),
        pytest.param({"webhookReceivedUrl": " Undefined "}, {WebhookKind.RECEIVED: ""}, id="another"),
        pytest.param({"webhookReceivedUrl": {"url": GOOD_URL}}, {}, id="an object"),
        pytest.param({"webhookReceivedUrl": True}, {}, id="no text"),
    ],
)
def test_an_address_is_read_however_it_is_told(told: dict[str, Any], urls: dict[WebhookKind, str]) -> None:
    assert read_registration(answer({"instanceId": OURS, **told})) == Registration(urls)


@pytest.mark.parametrize("where", [None, "instance", "data"])
def test_an_answer_about_another_line_says_nothing_of_this_one(where: str | None) -> None:
    for named, is_ours in (("LITE-OTHER1-AAAA11", False), (OURS, True), (f" {OURS.lower()} ", True), ("4711", True)):
        told: dict[str, Any] = {"instanceId": named, "webhookReceivedUrl": GOOD_URL, "paymentStatus": "expired"}
        found = answer({where: told} if where else told)
        assert (read_payment(found, external_id=OURS) == Unanswered("another_line")) is not is_ours
        if where != "data":
            assert (read_registration(found, external_id=OURS) == Unanswered("another_line")) is not is_ours


NEXT_MONDAY = datetime(2026, 12, 7, tzinfo=UTC)


@pytest.mark.parametrize(
    ("told", "found"),
    [
        pytest.param({"instanceId": OURS, "paymentStatus": "active", "expires": 1796601600000}, Subscription(Payment.PAID, "active", NEXT_MONDAY, "1796601600000"), id="flat"),
        pytest.param({"error": False, "data": {"plan": "LITE", "status": "overdue", "dueDate": "2026-12-07"}}, Subscription(Payment.LAPSED, "overdue", NEXT_MONDAY, "2026-12-07"), id="wrapped"),
        pytest.param({"status": "ok", "data": {"dueDate": "2026-12-07"}}, Subscription(None, None, NEXT_MONDAY, "2026-12-07"), id="the request's own status"),
        pytest.param({"data": {"paymentStatus": "unpaid"}}, Subscription(Payment.LAPSED, "unpaid"), id="a word alone"),
        pytest.param({"status": "failed"}, Unanswered("unknown_form"), id="a status of something"),
        pytest.param({"status": "x-7"}, Unanswered("unknown_form"), id="a word that nobody knows, and no date"),
        pytest.param({"message": "no plan"}, Unanswered("unknown_form"), id="another form"),
        pytest.param({"error": True, "status": "active"}, Unanswered("error_true"), id="an error with 200"),
    ],
)  # fmt: skip
def test_payment_is_read_in_the_forms_that_can_be(told: dict[str, Any], found: Subscription | Unanswered) -> None:
    assert read_payment(answer(told)) == found


def test_payment_that_is_not_answered_says_why() -> None:
    assert read_payment(answer({}, 404)) == Unanswered("http_404")
    assert read_payment(answer({}, 429)) == Unanswered("http_429", asked_to_wait=True)
    assert read_payment(answer([])) == Unanswered("unreadable")


@pytest.mark.parametrize(
    ("expires", "day"),
    [
        pytest.param("1790000000", "2026-09-21", id="seconds"),
        pytest.param("1790000000000", "2026-09-21", id="milliseconds"),
        pytest.param("1790000000.0", "2026-09-21", id="a float of seconds"),
        pytest.param("2026-09-21T10:00:00.000Z", "2026-09-21", id="ISO with milliseconds"),
        pytest.param("2026-09-21", "2026-09-21", id="a date"),
        pytest.param("21/09/2026", "2026-09-21", id="a Brazilian date"),
        pytest.param("30", None, id="days, perhaps"),
        pytest.param("99/99/2026", None, id="no date"),
        pytest.param("9999999999999999", None, id="a number beyond all dates"),
        pytest.param("soon", None, id="a word"),
    ],
)
def test_an_expiry_is_read_where_it_can_be(expires: str, day: str | None) -> None:
    found = read_end(expires)
    assert (found and f"{found:%Y-%m-%d}") == day
    assert found is None or found.tzinfo is not None


@pytest.mark.parametrize(
    ("expires", "moment"),
    [
        ("1000000000", "2001-09-09T01:46:40+00:00"), ("999999999", None), ("100000000000", None),
        ("1790000000999", "2026-09-21T14:13:20+00:00"), ("2026-09-21T10:00:00-03:00", "2026-09-21T10:00:00-03:00"),
        ("1999-12-31", None), ("2000-01-01", "2000-01-01T00:00:00+00:00"), ("31/12/2200", None),
    ],
)  # fmt: skip
def test_an_expiry_is_a_moment_of_our_time(expires: str, moment: str | None) -> None:
    found = read_end(expires)
    assert (found and found.isoformat()) == moment


@pytest.mark.parametrize(
    ("status", "payment"),
    [
        ("active", Payment.PAID),
        ("Em dia", Payment.PAID),
        ("unpaid", Payment.LAPSED),
        ("payment_failed", Payment.LAPSED),
        ("cancelled", Payment.LAPSED),
        ("not_cancelled", Payment.UNCLEAR),
        ("cancel_scheduled", Payment.UNCLEAR),
        ("não vencido", Payment.UNCLEAR),
        ("desbloqueado", Payment.UNCLEAR),
        ("inactive", Payment.LAPSED),
        ("VENCIDO", Payment.LAPSED),
        ("grace", Payment.UNCLEAR),
        ("", None),
        (None, None),
    ],
)
def test_a_word_about_payment_that_nobody_knows_is_not_interpreted(status: str | None, payment: Payment | None) -> None:
    assert read_word(status) is payment


@pytest.mark.parametrize(
    ("told", "found"),
    [
        pytest.param(answer({"error": False}), None, id="a yes"),
        pytest.param(answer({}), None, id="an object that says nothing"),
        pytest.param(answer({"error": True, "message": {"x": 1}}), Unanswered("refused"), id="an error with 200"),
        pytest.param(answer({"success": False}), Unanswered("refused"), id="no success"),
        pytest.param(answer({"error": False}, 201), None, id="another yes"),
        pytest.param(answer(b"", 204), None, id="a yes without a body"),
        pytest.param(answer(b"<html>"), Unanswered("refused"), id="a page"),
        pytest.param(answer({}, 300), Unanswered("http_300"), id="a choice"),
        pytest.param(answer({}, 302), Unanswered("http_302"), id="elsewhere"),
        pytest.param(answer({}, 403), Unanswered("http_403"), id="forbidden"),
        pytest.param(answer({}, 429), Unanswered("http_429", asked_to_wait=True), id="throttled"),
        pytest.param(answer({}, 503), Unanswered("http_503"), id="away"),
    ],
)
def test_only_a_yes_is_one(told: HttpAnswer, found: Unanswered | None) -> None:
    assert read_update(told) == found


@pytest.mark.parametrize("provider", ["wapi", "W-API", None])
def test_a_row_is_w_apis_by_the_same_expression_as_in_sql(provider: str | None) -> None:
    assert is_served(provider)
    assert not is_served("zapi")
    assert has_form("LITE-AB12CD-EF34GH")
    assert not has_form("LITE-AB12CD-EF34GH\n")


# Asking and setting.

BASE = "https://provider.test/v1"
TOKEN = "made-up-token-of-the-line"
LINE = SuspectLine(id=UUID(int=1), external_id="LITE-AB12CD-EF34GH", token=SecretStr(TOKEN), last_event_at=None)
LONG = timedelta(seconds=30)
URL = "https://hook.example/?key=k"
FETCHED = f"{BASE}/instance/fetch-instance?instanceId=LITE-AB12CD-EF34GH"
GOOD = {"token": TOKEN, "webhookReceivedUrl": URL}


def put(kind: WebhookKind) -> str:
    return f"{BASE}/webhook/update-webhook-{kind}?instanceId=LITE-AB12CD-EF34GH"


@pytest.fixture
async def client() -> AsyncIterator[WapiClient]:
    async with httpx.AsyncClient() as http:
        yield WapiClient(http, BASE)


def asked(httpx_mock: HTTPXMock) -> list[str]:
    return [str(request.url.path).rpartition("/")[2] for request in httpx_mock.get_requests()]


async def test_webhooks_are_set_one_after_another_and_read_back(client: WapiClient, httpx_mock: HTTPXMock) -> None:
    running = most = 0

    async def one_at_a_time(request: httpx.Request) -> httpx.Response:
        nonlocal running, most
        running += 1
        most = max(most, running)
        await asyncio.sleep(0)
        running -= 1
        assert request.headers["authorization"] == f"Bearer {TOKEN}"
        if request.method == "PUT":
            assert json.loads(request.content) == {"value": URL}
            return httpx.Response(200, json={"error": False})
        return httpx.Response(200, json=GOOD)

    httpx_mock.add_callback(one_at_a_time, is_reusable=True)
    done = await client.set_webhooks(LINE, [*WebhookKind], URL, within=LONG)
    assert asked(httpx_mock) == [*(f"update-webhook-{kind}" for kind in WebhookKind), "fetch-instance"]
    assert (most, done.kinds, done.failed) == (1, [*WebhookKind], None)
    assert done.found == Registration({WebhookKind.RECEIVED: URL})
    assert TOKEN not in repr(done)
    assert URL not in repr(done)


async def test_the_first_that_is_refused_ends_it_and_what_there_is_is_read(
    client: WapiClient, httpx_mock: HTTPXMock
) -> None:
    httpx_mock.add_response(method="PUT", url=put(WebhookKind.CONNECTED), json={"error": False})
    httpx_mock.add_response(method="PUT", url=put(WebhookKind.RECEIVED), json={"error": True})
    httpx_mock.add_response(url=FETCHED, json={"error": True, "token": TOKEN})
    kinds = (WebhookKind.CONNECTED, WebhookKind.RECEIVED, WebhookKind.DELIVERY)
    done = await client.set_webhooks(LINE, kinds, URL, within=LONG)
    assert (done.kinds, done.failed) == ([WebhookKind.CONNECTED], Unanswered("refused"))
    assert done.found == Unanswered("error_true")


async def test_who_is_asked_to_wait_asks_nothing_more(client: WapiClient, httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(status_code=429)
    done = await client.set_webhooks(LINE, [*WebhookKind], URL, within=LONG)
    assert (done.kinds, done.failed, done.found) == ([], Unanswered("http_429", asked_to_wait=True), None)
    assert len(httpx_mock.get_requests()) == 1


async def test_no_error_leaves_the_client(client: WapiClient, httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_exception(httpx.ConnectError("x"), is_reusable=True)
    done = await client.set_webhooks(LINE, [WebhookKind.RECEIVED], URL, within=LONG)
    assert (done.failed, done.found) == (Unanswered("ConnectError"), Unanswered("ConnectError"))
    assert (await client.status(LINE, within=LONG)).cause == "ConnectError"


async def test_a_token_that_no_header_can_hold_is_not_sent(client: WapiClient, httpx_mock: HTTPXMock) -> None:
    line = LINE.model_copy(update={"token": SecretStr("tökén")})
    assert await client.registration(line, within=LONG) == Unanswered("unusable_token")
    assert httpx_mock.get_requests() == []


async def test_the_status_alone_is_one_call(client: WapiClient, httpx_mock: HTTPXMock) -> None:
    httpx_mock.add_response(json={"instanceId": LINE.external_id, "connected": True})
    assert (await client.status(LINE, within=LONG)).observation is Observation.CLAIMED
    assert asked(httpx_mock) == ["status-instance"]


class Closed:
    """A pacer that lets nothing through."""

    round = 0

    async def ready(self) -> bool:
        return False

    def refused(self, line: UUID, wait: timedelta | None, *, began_in: int) -> None: ...


async def test_nothing_is_asked_while_the_provider_wants_to_be_left_alone(
    client: WapiClient, httpx_mock: HTTPXMock
) -> None:
    paced = client.paced_by(Closed())
    not_asked = Unanswered("not_asked", asked_to_wait=True)
    assert (await paced.status(LINE, within=LONG)).asked_to_wait
    assert await paced.registration(LINE, within=LONG) == not_asked
    done = await paced.set_webhooks(LINE, [*WebhookKind], URL, within=LONG)
    assert (done.kinds, done.failed, done.found) == ([], not_asked, None)
    assert httpx_mock.get_requests() == []

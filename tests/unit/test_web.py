"""What both functions ask of a request before they act on it."""

import asyncio
import gzip
import json
import zlib
from collections.abc import AsyncIterator, Sequence
from typing import Any

import pytest
from pydantic import SecretStr
from starlette.requests import Request
from starlette.responses import Response

from shared.core.secrets import Key, knows_secret, line_key, read_key
from shared.errors import EventRejected, StoreRefused, StoreUnavailable
from shared.web import (
    READY_SECONDS,
    RETRY_AFTER_SECONDS,
    Readiness,
    answer,
    health,
    read_body,
    unavailable,
    unless_posted,
    unpacked,
)

LIMIT = 10
SECRETS = (SecretStr("0123456789abcdef"), SecretStr("fedcba9876543210"))


class Sender:
    """The other end of a request: sends chunks one by one and counts them."""

    def __init__(self, chunks: Sequence[bytes] = ()) -> None:
        self._messages = self._send(chunks)
        self.sent = 0

    async def _send(self, chunks: Sequence[bytes]) -> AsyncIterator[dict[str, Any]]:
        for chunk in chunks:
            self.sent += 1
            yield {"type": "http.request", "body": chunk, "more_body": True}
        yield {"type": "http.request", "body": b"", "more_body": False}

    async def receive(self) -> dict[str, Any]:
        return await anext(self._messages)


def a_request(
    sender: Sender | None = None, *, announced: str | None = None, method: str = "POST", path: str = "/"
) -> Request:
    headers = [] if announced is None else [(b"content-length", announced.encode())]
    scope = {
        "type": "http",
        "method": method,
        "scheme": "http",
        "server": ("127.0.0.1", 8080),
        "path": path,
        "query_string": b"key=0123456789abcdef",
        "headers": headers,
    }
    return Request(scope, (sender or Sender()).receive)


def shown(response: Response) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(bytes(response.body))
    return found


# Secrets.


@pytest.mark.parametrize(
    ("given", "known"),
    [
        pytest.param("0123456789abcdef", True, id="the first secret"),
        pytest.param("fedcba9876543210", True, id="the second, while one is rotated"),
        pytest.param(None, False, id="none at all"),
        pytest.param("", False, id="an empty one"),
        pytest.param("0123456789abcde", False, id="the beginning of one"),
        pytest.param("0123456789abcdef0", False, id="one and a little more"),
        pytest.param("0123456789ABCDEF", False, id="one in capitals"),
        pytest.param(" 0123456789abcdef", False, id="one after a space"),
        pytest.param("0123456789abcdef,fedcba9876543210", False, id="the whole variable"),
        pytest.param("senha-são-joão-📱", False, id="letters outside ASCII"),
        pytest.param("**********", False, id="what a printed secret looks like"),
    ],
)
def test_a_secret_is_known_or_it_is_not(given: str | None, *, known: bool) -> None:
    assert knows_secret(given, SECRETS) is known


def test_a_secret_may_hold_letters_outside_ascii() -> None:
    assert knows_secret("senha-são-joão-📱", [SecretStr("senha-são-joão-📱")])


def test_without_secrets_nobody_is_known() -> None:
    for given in (None, "", "0123456789abcdef"):
        assert not knows_secret(given, [])


# A key a line. The expected ones were made with `openssl dgst -sha256 -hmac 0123456789abcdef -binary | basenc --base64url`.

OF_LINE = "LITE-AB12CD-EF34GH.NmikxSb-iBo6oDhuz0XDrUqz0gagYnvX"
OF_DOTS = "a.b.VzkMl1vA2baYjYPguU96EytfnY51wncF"


@pytest.mark.parametrize(
    ("given", "key"),
    [
        pytest.param(OF_LINE, Key("LITE-AB12CD-EF34GH"), id="a line's own"),
        pytest.param(OF_DOTS, Key("a.b"), id="it splits at its last dot"),
        pytest.param(line_key(SECRETS[1], "LITE-X"), Key("LITE-X"), id="under the other secret of a rotation"),
        pytest.param(line_key(SECRETS[0], "São João/?&="), Key("São João/?&="), id="letters outside ASCII"),
        pytest.param(line_key(SECRETS[0], "\ud800"), Key("\ud800"), id="half of a surrogate pair"),
        pytest.param("\ud800", None, id="half of a pair alone"),
        pytest.param("0123456789abcdef", Key(), id="the plain secret speaks for all"),
        pytest.param(line_key(SecretStr("a secret of others"), "LITE-X"), None, id="under no secret of ours"),
        pytest.param(OF_LINE.replace("LITE-AB12CD", "LITE-XX12CD"), None, id="of another line"),
        pytest.param(OF_LINE[:-1], None, id="a character short"),
        pytest.param(OF_LINE + "=", None, id="a character more"),
        pytest.param(OF_LINE.swapcase(), None, id="in other capitals"),
        pytest.param(OF_LINE.partition(".")[2], None, id="without its line"),
        pytest.param(line_key(SECRETS[0], ""), None, id="of no line"),
        pytest.param(line_key(SECRETS[0], "")[1:], None, id="of no line, without its dot"),
        pytest.param("LITE-AB12CD-EF34GH.", None, id="an id and a dot"),
        pytest.param(".", None, id="a dot"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="none"),
    ],
)
def test_a_key_speaks_for_one_line_and_the_plain_secret_for_all(given: str | None, key: Key | None) -> None:
    assert read_key(given, SECRETS) == key
    of_lines_alone = None if key == Key() else key
    assert read_key(given, SECRETS, line_keys_only=True) == of_lines_alone


# Bodies.


@pytest.mark.parametrize(
    ("chunks", "announced"),
    [
        pytest.param([], None, id="nothing"),
        pytest.param([b"12345"], "5", id="a short body"),
        pytest.param([b"1234567890"], "10", id="a body of just the limit"),
        pytest.param([b"123", b"", b"4567", b"890"], None, id="a stream of just the limit"),
        pytest.param([b"12345"], "many", id="a length that is no number"),
        pytest.param([b"12345"], "", id="an empty length"),
        pytest.param([b"12345"], "-20", id="a negative length"),
        pytest.param([b"12345"], "3", id="a length that is too small"),
    ],
)
async def test_a_body_within_the_limit_is_read_whole(chunks: list[bytes], announced: str | None) -> None:
    assert await read_body(a_request(Sender(chunks), announced=announced), LIMIT) == b"".join(chunks)


@pytest.mark.parametrize(
    "announced",
    [
        pytest.param("11", id="one byte too many"),
        pytest.param("9" * 20, id="twenty digits, the most that the server lets through"),
    ],
)
async def test_a_body_announced_as_too_long_is_not_read_at_all(announced: str) -> None:
    sender = Sender([b"1"])
    with pytest.raises(EventRejected) as raised:
        await read_body(a_request(sender, announced=announced), LIMIT)
    assert raised.value.status == 413
    assert sender.sent == 0


@pytest.mark.parametrize(
    ("chunks", "announced", "read"),
    [
        pytest.param([b"12345678901"], None, 1, id="at once"),
        pytest.param([b"1234567890", b"1"], None, 2, id="by its last byte"),
        pytest.param([b"12345"] * 1000, None, 3, id="by a thousand chunks, of which three are read"),
        pytest.param([b"12345"] * 1000, "5", 3, id="although a short one was announced"),
    ],
)
async def test_a_stream_that_is_too_long_is_cut_where_it_passes_the_limit(
    chunks: list[bytes], announced: str | None, read: int
) -> None:
    sender = Sender(chunks)
    with pytest.raises(EventRejected) as raised:
        await read_body(a_request(sender, announced=announced), LIMIT)
    assert raised.value.status == 413
    assert sender.sent == read


async def test_a_sender_that_goes_away_is_no_fault_of_ours() -> None:
    async def receive() -> dict[str, Any]:
        return {"type": "http.disconnect"}

    with pytest.raises(EventRejected) as caught:
        await read_body(Request(a_request().scope, receive), LIMIT)
    assert caught.value.status == 400


async def test_the_limit_counts_bytes_and_not_letters() -> None:
    with pytest.raises(EventRejected):
        await read_body(a_request(Sender(["é".encode()] * 6)), LIMIT)


# Answers.


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("path", ["/health", "/health/"])
def test_health_is_answered_with_ok(method: str, path: str) -> None:
    response = health(a_request(method=method, path=path))
    assert response is not None
    assert response.status_code == 200
    assert shown(response) == {"status": "ok"}


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/"),
        ("POST", "/"),
        ("POST", "/health"),
        ("DELETE", "/health"),
        ("GET", "/healthz"),
        ("GET", "/HEALTH"),
        ("GET", "/x/health"),
        ("GET", "/health/x"),
    ],
)
def test_whatever_is_not_health_goes_on(method: str, path: str) -> None:
    assert health(a_request(method=method, path=path)) is None


class Database:
    """Says whether it is migrated, or raises, and counts how often it was asked."""

    def __init__(self, *says: bool | Exception) -> None:
        self._says = list(says)
        self.asked = 0
        self.at_once = self.most_at_once = 0

    async def is_migrated(self) -> bool:
        self.asked += 1
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        said = self._says.pop(0)
        if isinstance(said, Exception):
            raise said
        return said


@pytest.mark.parametrize(
    ("says", "status", "words"),
    [
        pytest.param(True, 200, "ready", id="reached and migrated"),
        pytest.param(False, 503, "migrations are missing", id="reached, not migrated"),
        pytest.param(StoreUnavailable("x", "ConnectError"), 503, "cannot be reached", id="away"),
        pytest.param(StoreRefused("x", "401"), 500, "refused", id="the key is refused"),
    ],
)
async def test_ready_is_who_reaches_a_migrated_database(says: bool | Exception, status: int, words: str) -> None:
    response = await Readiness(Database(says).is_migrated).answer(a_request(method="GET", path="/ready/"))
    assert response is not None
    assert response.status_code == status
    assert words in str(shown(response))


@pytest.mark.parametrize(
    ("method", "path"), [("POST", "/ready"), ("GET", "/"), ("GET", "/readyz"), ("GET", "/x/ready")]
)
async def test_whatever_does_not_ask_for_readiness_goes_on_and_asks_nobody(method: str, path: str) -> None:
    database = Database(True)
    assert await Readiness(database.is_migrated).answer(a_request(method=method, path=path)) is None
    assert database.asked == 0


async def test_however_many_ask_the_database_is_asked_once_in_a_while() -> None:
    now = [0.0]
    database = Database(True, False)
    readiness = Readiness(database.is_migrated, lambda: now[0])
    request = a_request(method="GET", path="/ready")

    answers = await asyncio.gather(*(readiness.answer(request) for _ in range(50)))
    assert ({each.status_code for each in answers if each}, database.asked, database.most_at_once) == ({200}, 1, 1)
    now[0] = READY_SECONDS
    later = await readiness.answer(request)
    assert later is not None
    assert (later.status_code, database.asked) == (503, 2)


def test_an_answer_is_json_with_its_status() -> None:
    response = answer(413, error="the body is longer than 10 bytes")
    assert response.status_code == 413
    assert response.media_type == "application/json"
    assert shown(response) == {"error": "the body is longer than 10 bytes"}


def test_only_a_post_goes_on_and_a_get_hears_what_the_address_is() -> None:
    assert unless_posted(a_request(method="POST"), "This is a test.") is None
    for method in ("GET", "HEAD"):
        said = unless_posted(a_request(method=method), "This is a test.")
        assert said is not None
        assert (said.status_code, said.media_type, bytes(said.body)) == (200, "text/plain", b"This is a test.\n")


def test_a_wrong_method_hears_which_are_right() -> None:
    response = unless_posted(a_request(method="PUT"), "This is a test.")
    assert response is not None
    assert (response.status_code, response.headers["allow"]) == (405, "POST, GET, HEAD")
    assert shown(response) == {"error": "use POST"}


def test_a_database_that_is_away_sends_the_caller_back_in_a_moment() -> None:
    response = unavailable()
    assert response.status_code == 503
    assert response.headers["retry-after"] == str(RETRY_AFTER_SECONDS)
    assert "error" in shown(response)


# Packed bodies.

PLAIN = b'{"event": "webhookReceived"}'


@pytest.mark.parametrize(
    ("packed", "encoding"),
    [
        pytest.param(gzip.compress(PLAIN), "gzip", id="gzip"),
        pytest.param(gzip.compress(PLAIN), "x-gzip", id="by its old name"),
        pytest.param(gzip.compress(PLAIN), None, id="without a header"),
        pytest.param(gzip.compress(PLAIN[:9]) + gzip.compress(PLAIN[9:]), "gzip", id="in two members"),
        pytest.param(zlib.compress(PLAIN), "deflate", id="deflate"),
        pytest.param(zlib.compress(PLAIN, wbits=-15), "Deflate", id="deflate without its head"),
        pytest.param(PLAIN, None, id="not at all"),
        pytest.param(PLAIN, "gzip", id="not at all, whatever the header says"),
    ],
)
def test_a_packed_body_is_read(packed: bytes, encoding: str | None) -> None:
    assert unpacked(packed, encoding, 100) == PLAIN


@pytest.mark.parametrize(
    ("packed", "encoding", "status"),
    [
        pytest.param(gzip.compress(b"x" * 101), "gzip", 413, id="longer than the limit"),
        pytest.param(gzip.compress(bytes(50_000_000)), "gzip", 413, id="a bomb"),
        pytest.param(gzip.compress(PLAIN)[:-9], "gzip", 400, id="cut off"),
        pytest.param(b"\x1f\x8bnonsense", "gzip", 400, id="nonsense"),
        pytest.param(gzip.compress(PLAIN) + b"more", "gzip", 400, id="something behind it"),
        pytest.param(b"x\x01nonsense", "deflate", 400, id="no deflate"),
    ],
)
def test_a_body_that_cannot_be_unpacked_is_the_senders_fault(packed: bytes, encoding: str, status: int) -> None:
    with pytest.raises(EventRejected) as rejected:
        unpacked(packed, encoding, 100)
    assert rejected.value.status == status

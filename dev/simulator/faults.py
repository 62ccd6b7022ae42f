"""Every way in which the provider, or what stands before it, has been seen to answer badly.

Pure: a fault becomes the raw answer to send. The faults that are not an answer but a behaviour of the
connection (:data:`WIRE_FAULTS`) are played by ``wire.py``. DNS and TLS faults happen before a server
is reached: they are not the simulator's.
"""

import html
import json
from enum import StrEnum
from typing import NamedTuple

JSON_TYPE = b"application/json; charset=utf-8"
HTML_TYPE = b"text/html; charset=utf-8"
TEXT_TYPE = b"text/plain; charset=utf-8"


class Fault(StrEnum):
    """The fault matrix: the names that the control side accepts."""

    TIMEOUT = "timeout"  # the right answer, after the provider's `timeout_seconds`
    HANG = "hang"  # never an answer
    RESET = "reset"  # TCP RST instead of an answer
    BAD_REQUEST_400 = "400"
    UNAUTHORIZED_401_JSON = "401_json"
    UNAUTHORIZED_401_HTML = "401_html"
    FORBIDDEN_403_JSON = "403_json"
    NOT_FOUND_404_CANNOT_GET = "404_html_cannot_get"
    NOT_FOUND_404_JSON = "404_json"
    NOT_FOUND_404_HTML_OTHER = "404_html_other"
    REQUEST_TIMEOUT_408 = "408"
    TOO_MANY_REQUESTS_429 = "429"
    TOO_MANY_REQUESTS_429_RETRY_AFTER = "429_retry_after"
    SERVER_ERROR_500 = "500"
    BAD_GATEWAY_502_HTML = "502_html"
    UNAVAILABLE_503 = "503"
    GATEWAY_TIMEOUT_504_HTML = "504_html"
    OK_200_HTML = "200_html"
    OK_200_EMPTY = "200_empty"
    OK_200_EMPTY_OBJECT = "200_empty_object"
    OK_200_ERROR_TRUE = "200_error_true"
    OK_200_ERROR_OBJECT_MESSAGE = "200_error_object_message"
    CONNECTED_STRING = "connected_string"
    FIELD_RENAMED = "field_renamed"
    CONNECTED_NULL = "connected_null"
    NOT_CONNECTED = "not_connected"  # a well-formed negative, whatever the session is
    REDIRECT = "redirect"
    DRIP = "drip"  # a byte every 50 ms, for ever
    HUGE = "huge"  # 10 MB of well-formed JSON
    TRUNCATED_JSON = "truncated_json"
    JSON_ARRAY = "json_array"


WIRE_FAULTS = frozenset({Fault.TIMEOUT, Fault.HANG, Fault.RESET, Fault.DRIP, Fault.HUGE})


class Answer(NamedTuple):
    """One whole HTTP answer, as it goes on the wire."""

    status: int
    body: bytes
    content_type: bytes = JSON_TYPE
    headers: tuple[tuple[bytes, bytes], ...] = ()


class Asked(NamedTuple):
    """What a bad answer echoes of its request.

    Attributes:
        method: Such as ``GET``.
        path: Without the query, as Express prints it.
        external_id: The line's id, empty when none was sent.
        elsewhere_url: Where the redirect leads: a loopback address.
        retry_after_seconds: Whole seconds for ``Retry-After``.
    """

    method: str
    path: str
    external_id: str
    elsewhere_url: str
    retry_after_seconds: int


def json_answer(status: int, content: object) -> Answer:
    """An answer with ``content`` as its JSON."""
    return Answer(status, json.dumps(content, separators=(",", ":")).encode())


def error_answer(status: int, message: object) -> Answer:
    """The provider's own error shape, which also comes with status 200 (the provider's contract)."""
    return json_answer(status, {"error": True, "message": message})


def cannot_answer(method: str, path: str) -> Answer:
    """Express's page for a route that does not exist: a bug of the caller, never a dead line."""
    return Answer(
        404,
        (
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n<title>Error</title>\n</head>\n'
            f"<body>\n<pre>Cannot {html.escape(method)} {html.escape(path)}</pre>\n</body>\n</html>\n"
        ).encode(),
        HTML_TYPE,
    )


def too_many_answer(retry_after_seconds: int | None) -> Answer:
    """429, with ``Retry-After`` in whole seconds or without it: the provider's contract leaves that open."""
    answer = error_answer(429, "Too many requests")
    if retry_after_seconds is None:
        return answer
    return answer._replace(headers=((b"retry-after", str(retry_after_seconds).encode()),))


def _page(status: int, title: str) -> Answer:
    """A page such as a gateway writes it."""
    return Answer(
        status,
        (
            f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
            "<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"
        ).encode(),
        HTML_TYPE,
    )


_FIXED: dict[Fault, Answer] = {
    Fault.BAD_REQUEST_400: error_answer(400, "Bad request"),
    Fault.UNAUTHORIZED_401_JSON: error_answer(401, "Unauthorized"),
    Fault.UNAUTHORIZED_401_HTML: _page(401, "401 Authorization Required"),
    Fault.FORBIDDEN_403_JSON: error_answer(403, "Forbidden"),
    Fault.NOT_FOUND_404_JSON: error_answer(404, "Instance not found"),
    Fault.NOT_FOUND_404_HTML_OTHER: _page(404, "404 Not Found"),
    Fault.REQUEST_TIMEOUT_408: error_answer(408, "Request timeout"),
    Fault.TOO_MANY_REQUESTS_429: too_many_answer(None),
    Fault.SERVER_ERROR_500: error_answer(500, "Internal server error"),
    Fault.BAD_GATEWAY_502_HTML: _page(502, "502 Bad Gateway"),
    Fault.UNAVAILABLE_503: Answer(503, b"Service Unavailable", TEXT_TYPE),
    Fault.GATEWAY_TIMEOUT_504_HTML: _page(504, "504 Gateway Time-out"),
    Fault.OK_200_HTML: _page(200, "Welcome"),
    Fault.OK_200_EMPTY: Answer(200, b""),
    Fault.OK_200_EMPTY_OBJECT: Answer(200, b"{}"),
    Fault.OK_200_ERROR_TRUE: error_answer(200, "Something went wrong"),
    Fault.OK_200_ERROR_OBJECT_MESSAGE: error_answer(200, {"code": "E_INTERNAL", "details": {"reason": "unknown"}}),
}


def answer_of(fault: Fault, asked: Asked) -> Answer:
    """The raw answer of a fault.

    Raises:
        ValueError: The fault is one of :data:`WIRE_FAULTS`, which have no answer to send whole.
    """
    fixed = _FIXED.get(fault)
    if fixed is not None:
        return fixed
    external_id = asked.external_id
    answers = {
        Fault.NOT_FOUND_404_CANNOT_GET: cannot_answer(asked.method, asked.path),
        Fault.TOO_MANY_REQUESTS_429_RETRY_AFTER: too_many_answer(asked.retry_after_seconds),
        Fault.CONNECTED_STRING: json_answer(200, {"instanceId": external_id, "connected": "true"}),
        Fault.FIELD_RENAMED: json_answer(200, {"instanceId": external_id, "status": "connected"}),
        Fault.CONNECTED_NULL: json_answer(200, {"instanceId": external_id, "connected": None}),
        Fault.NOT_CONNECTED: json_answer(200, {"instanceId": external_id, "connected": False}),
        Fault.JSON_ARRAY: json_answer(200, [{"instanceId": external_id, "connected": True}]),
        # Its Content-Length is true: what is cut is the JSON, not the transfer.
        Fault.TRUNCATED_JSON: Answer(200, b'{"instanceId":"' + external_id.encode() + b'","connected":tr'),
        Fault.REDIRECT: Answer(302, b"Found", TEXT_TYPE, ((b"location", asked.elsewhere_url.encode()),)),
    }
    if fault not in answers:
        raise ValueError(f"{fault} is a behaviour of the connection, not an answer")
    return answers[fault]

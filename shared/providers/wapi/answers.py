"""What W-API's answers mean. Pure: (HTTP status, content type, body) -> a verdict.

The provider answers errors in three shapes, and all are read: an HTTP status, HTTP 200 with ``"error": true``, and a
``text/html`` page (a wrong route, a gateway). Nothing becomes "dead" but a well-formed negative answer.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from enum import StrEnum
from http import HTTPStatus
from typing import Any

from shared.core.model import Observation

MAX_ANSWER_BYTES = 256 * 1024
"""No answer we read is longer; more is not the provider speaking."""


_SECONDS = re.compile(r"\d{1,9}", re.ASCII)


def read_retry_after(told: str, date: str) -> timedelta | None:
    """Read ``Retry-After``: seconds, or a date, which is measured from the answer's own ``Date`` and no other clock.

    Args:
        told: The header, empty when there was none.
        date: The header ``Date`` of the same answer.

    Returns:
        None when it says nothing that one could wait for.
    """
    if _SECONDS.fullmatch(told.strip()):
        wait = timedelta(seconds=int(told))
    else:
        try:
            wait = parsedate_to_datetime(told) - parsedate_to_datetime(date)
        except (TypeError, ValueError):  # TypeError: one of them names no time zone
            return None
    return wait if wait > timedelta(0) else None


@dataclass(frozen=True, slots=True)
class Answer:
    """An HTTP answer, fully read.

    Attributes:
        status: HTTP status.
        content_type: Lower case, without parameters.
        body: At most ``MAX_ANSWER_BYTES``.
        retry_after: For how long it asks to be left alone, if it says so.
    """

    status: int
    content_type: str
    body: bytes
    retry_after: timedelta | None = None

    @property
    def asks_to_wait(self) -> bool:
        """A 429, or a 503 that says when to come back."""
        if self.status == HTTPStatus.SERVICE_UNAVAILABLE:
            return self.retry_after is not None
        return self.status == HTTPStatus.TOO_MANY_REQUESTS

    @property
    def is_html(self) -> bool:
        """A page, whatever its header says."""
        return self.content_type == "text/html" or self.body.lstrip()[:1] == b"<"

    @property
    def is_cannot_get(self) -> bool:
        """Express's answer to a route that does not exist: their change or our bug, never a dead phone."""
        return self.status == HTTPStatus.NOT_FOUND and b"cannot get" in self.body[:4096].lower()

    def json_object(self) -> dict[str, Any] | None:
        """The body as a JSON object, else None."""
        try:
            parsed = json.loads(self.body)
        except (ValueError, RecursionError):
            return None
        return parsed if isinstance(parsed, dict) else None


@dataclass(frozen=True, slots=True)
class Look:
    """What one look found, and why we think so.

    Attributes:
        observation: The verdict.
        cause: A short constant word for logs and audit.
        throttled: The provider said 429: what we did not learn is our own haste's fault.
        drifted: The provider's contract has changed: a human must look.
        asked_to_wait: Worth another look after a while: throttled, or a 503 that says when to come back.
    """

    observation: Observation
    cause: str
    throttled: bool = False
    drifted: bool = False
    asked_to_wait: bool = False


UNREADABLE = Look(Observation.UNKNOWN, "unreadable")
NOT_ASKED = Look(Observation.UNKNOWN, "not_asked", throttled=True, asked_to_wait=True)
"""The provider wants to be left alone for longer than there is time."""


def unknown(cause: str) -> Look:
    """A look that could not find out."""
    return Look(Observation.UNKNOWN, cause)


class DeviceView(StrEnum):
    """What ``device`` adds to a status that says connected."""

    PHONE = "phone"
    NO_PHONE = "no_phone"
    LOGGED_OUT = "logged_out"
    CANNOT_SAY = "cannot_say"


def _error_status(answer: Answer) -> Look:
    status = answer.status
    return Look(
        Observation.UNKNOWN,
        "cannot_get" if answer.is_cannot_get else f"http_{status}",
        throttled=status == HTTPStatus.TOO_MANY_REQUESTS,
        drifted=answer.is_cannot_get,
        asked_to_wait=answer.asks_to_wait,
    )


def read_status(answer: Answer) -> Look:
    """Read ``GET /instance/status-instance``.

    ALIVE here means "says connected": ``read_device`` has the last word.
    """
    if answer.status == HTTPStatus.NOT_FOUND and not answer.is_cannot_get:
        return Look(Observation.NOT_FOUND, "http_404")
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) and not answer.is_html:
        # An HTML 403 is a gateway or a firewall speaking, not the provider judging the token.
        return Look(Observation.REFUSED, f"http_{answer.status}")
    if answer.status != HTTPStatus.OK:
        return _error_status(answer)
    found = answer.json_object()
    if found is None:
        return UNREADABLE
    if found.get("error") is True:
        return unknown("error_true")
    match found.get("connected"):
        case True:
            return Look(Observation.ALIVE, "connected")
        case False:
            return Look(Observation.DISCONNECTED, "not_connected")
        case _:
            return unknown("connected_is_no_boolean")


def read_device(answer: Answer) -> DeviceView:
    """Read ``GET /instance/device``: only a 401 or a device without a phone contradicts the status."""
    if answer.status == HTTPStatus.UNAUTHORIZED and not answer.is_html:
        return DeviceView.LOGGED_OUT
    found = answer.json_object() if answer.status == HTTPStatus.OK else None
    if found is None or found.get("error") is True:
        return DeviceView.CANNOT_SAY
    if found.get("connectedPhone"):
        return DeviceView.PHONE
    if any(key in found for key in ("name", "platform", "lid")):
        return DeviceView.NO_PHONE
    return DeviceView.CANNOT_SAY


def join_device(status: Look, answer: Answer | None) -> Look:
    """Put the status of a line that says connected and its device's answer, if one came, together."""
    if answer is None:
        return Look(Observation.ALIVE, f"{status.cause}_{DeviceView.CANNOT_SAY}")
    view = read_device(answer)
    ghost = view in (DeviceView.NO_PHONE, DeviceView.LOGGED_OUT)
    return Look(
        Observation.GHOST if ghost else Observation.ALIVE,
        f"{status.cause}_{view}",
        throttled=answer.status == HTTPStatus.TOO_MANY_REQUESTS,
        drifted=answer.is_cannot_get,
        asked_to_wait=answer.asks_to_wait,
    )


class RestartAnswer(StrEnum):
    """What the provider said to a restart. Accepted is not recovered: the looks decide."""

    ACCEPTED = "accepted"
    REFUSED = "refused"
    UNCLEAR = "unclear"


_NO_ANSWER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_REFUSING_STATUSES = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def read_restart(answer: Answer) -> RestartAnswer:
    """Read ``restart``, or ``wapi-send``'s ``restart-instance``: the body decides before an HTTP status below 500."""
    if answer.status in _NO_ANSWER or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # Whatever it says, the restart may have happened behind it.
        return RestartAnswer.UNCLEAR
    found = answer.json_object()
    if found is not None and (found.get("error") is True or found.get("success") is False):
        return RestartAnswer.REFUSED
    if answer.status in _REFUSING_STATUSES or (answer.status == HTTPStatus.NOT_FOUND and found is not None):
        return RestartAnswer.REFUSED
    if answer.status == HTTPStatus.OK and found is not None:
        return RestartAnswer.ACCEPTED
    return RestartAnswer.UNCLEAR

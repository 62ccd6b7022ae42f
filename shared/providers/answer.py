"""An HTTP answer of any provider, fully read. Pure."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from datetime import timedelta
from email.utils import parsedate_to_datetime
from http import HTTPStatus
from typing import Any

MAX_ANSWER_BYTES = 256 * 1024
"""The provider's own answers are shorter; a longer body is not read."""


_SECONDS = re.compile(r"\d{1,9}", re.ASCII)


def read_retry_after(told: str, date: str) -> timedelta | None:
    """Read ``Retry-After``: seconds, or a date, which is measured from the answer's own ``Date`` and no other clock.

    Args:
        told: The header, empty when there was none.
        date: The header ``Date`` of the same answer.

    Returns:
        None when it says nothing that one could wait for.
    """
    if _SECONDS.fullmatch(seconds := told.strip()):  # strip() knows more blanks than int() does
        wait = timedelta(seconds=int(seconds))
    else:
        try:
            wait = parsedate_to_datetime(told) - parsedate_to_datetime(date)
        except (TypeError, ValueError, OverflowError):  # TypeError: one of them names no time zone
            return None
    return wait if wait > timedelta(0) else None


@dataclass(frozen=True, slots=True)
class HttpAnswer:
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

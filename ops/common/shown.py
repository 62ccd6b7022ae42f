"""How foreign words, numbers and ages are shown: units, statuses and ids may hold anything. Pure."""

from __future__ import annotations

import re
import unicodedata
from http import HTTPStatus
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

if TYPE_CHECKING:
    from datetime import timedelta

LONGEST = 60

_MEANINGS = {
    401: "the key or token is refused",
    402: "payment required, the subscription or the project's quota has ended",
    403: "not allowed with this key or token",
    429: "too many requests",
}
_EXTERNAL_ID = re.compile(r"[A-Z0-9]{2,10}(-[A-Z0-9]{2,10}){1,4}", re.ASCII)
_LONG_NUMBER = re.compile(
    r"(?P<moment>\b(?:19|20)\d\d-[01]\d-[0-3]\d"
    r"(?:[T ][0-2]\d:[0-5]\d(?::[0-5]\d(?:\.\d{1,6})?)?(?:Z|[+-]\d\d(?::?\d\d)?)?)?\b)"
    r"|\+?\d(?:[\s().-]{0,2}\d){7,}"
)
_LAST_DIGITS = 4


def one_line(text: str, *, instead: str = "\N{REPLACEMENT CHARACTER}", keep: str = "") -> str:
    """Foreign text on one line, with no character that controls a terminal or turns the direction of what follows.

    Args:
        text: Whatever somebody wrote.
        instead: Stands where such a character was.
        keep: Those that stay.
    """
    return " ".join("".join(_harmless(character, instead, keep) for character in text).split())


def shortened(text: str, longest: int) -> str:
    """No more than ``longest`` characters, the last of them … where something is missing."""
    return text if len(text) <= longest else f"{text[: longest - 1]}…"


def shown(text: object, *, longest: int = LONGEST) -> str:
    """A foreign word on one line: no control or direction characters, no long number, no more than ``longest``."""
    return shortened(_LONG_NUMBER.sub(_last_digits, one_line(str(text))), longest)


def shown_external_id(external_id: str | None) -> str:
    """The provider's id; of anything that does not look like one (a token in the wrong column) only the end."""
    if not external_id:
        return "without external id"
    if _EXTERNAL_ID.fullmatch(external_id):
        return external_id
    return f"…{shown(external_id)[-_LAST_DIGITS:]}"


def shown_host(url: str) -> str:
    """Where a URL leads, without its path and query, which may hold a key."""
    try:
        host = urlsplit(url.strip()).hostname
    except ValueError:
        host = None
    return shown(host) if host else "something that is no URL"


def cause_in_words(cause: str) -> str:
    """Why something could not be asked, as the code has it, with the name of an HTTP status."""
    number = cause.removeprefix("http_")
    if cause == number or not number.isdecimal():
        return cause
    return status_in_words(int(number))


def status_in_words(status: int) -> str:
    """An HTTP status with what it usually means to an operator."""
    if status in _MEANINGS:
        return f"HTTP {status}: {_MEANINGS[status]}"
    try:
        return f"HTTP {status} {HTTPStatus(status).phrase}"
    except ValueError:
        return f"HTTP {status}"


def counted(number: int, noun: str) -> str:
    """Such as ``1 line`` and ``3 lines``."""
    if number == 1:
        return f"1 {noun}"
    return f"{number} {noun[:-1]}ies" if noun.endswith("y") else f"{number} {noun}s"


def shown_age(age: timedelta) -> str:
    """Such as ``42 min``, ``2 h 5 min``, ``3 days``."""
    minutes = max(0, round(age.total_seconds() / 60))
    if minutes < 60:  # noqa: PLR2004 - an hour
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:  # noqa: PLR2004 - two days
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    return f"{hours // 24} days"


def _harmless(character: str, instead: str, keep: str) -> str:
    if character.isspace():
        return " "
    return instead if unicodedata.category(character)[0] == "C" and character not in keep else character


def _last_digits(number: re.Match[str]) -> str:
    if moment := number["moment"]:
        return str(moment)
    digits = [digit for digit in number[0] if digit.isdigit()]
    return "…" + "".join(digits[-_LAST_DIGITS:])

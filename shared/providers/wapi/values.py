"""The values of a gateway's JSON, in every form in which a printer writes them. Pure.

Four printers make four JSONs of one message: protobufjs (``url``, numbers as text, enums as names), Go's protojson
(``URL``), Go's encoding/json (enums as numbers, oneofs wrapped: ``{"Response": {"SelectedDisplayText": …}}``) and
JavaScript objects (``{low, high}``, ``{"0": 1}``). Nothing here asks which one it is. All names differ by capitals
alone, so that objects are looked up by lower-case names: see ``fold``.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

Json: TypeAlias = Mapping[str, Any]

MAX_TEXT: Final = 65_536
"""The longest text that WhatsApp sends."""
MAX_NAME: Final = 1_000
MAX_KEY_BYTES: Final = 64
"""Media keys and hashes have 32."""
MAX_RAW_BYTES: Final = 16_384
_MAX_ID: Final = 200
_MAX_RAW_DEPTH: Final = 16
_MAX_RAW_ENTRIES: Final = 500
_MAX_NUMBER: Final = 10**18
_LAST_SECOND: Final = 253_402_300_799
_EMPTY: Final[Json] = {}
_BASE64: Final = re.compile(r"[A-Za-z0-9+/_-]+={0,2}")
_DIGITS: Final = re.compile(r"-?[0-9]{1,20}")

ONEOFS: Final[Mapping[str, frozenset[str]]] = {
    wrapper: frozenset(members.split())
    for wrapper, members in {
        "button": "quickreplybutton urlbutton callbutton",
        "format": "fourrowtemplate hydratedfourrowtemplate interactivemessagetemplate",
        "header": "text documentmessage imagemessage videomessage locationmessage",
        "hydratedbutton": "quickreplybutton urlbutton callbutton",
        "interactivemessage": "shopstorefrontmessage collectionmessage nativeflowmessage carouselmessage",
        "interactiveresponsemessage": "nativeflowresponsemessage",
        "media": (
            "documentmessage imagemessage jpegthumbnail videomessage locationmessage productmessage audiomessage"
        ),
        "response": "selecteddisplaytext",
        "title": (
            "documentmessage highlystructuredmessage hydratedtitletext imagemessage videomessage locationmessage"
        ),
    }.items()
}
"""Oneofs of WhatsApp's schema that wrap what we read: Go's encoding/json prints each as an object of one member."""


# Objects


def fold(value: object) -> Json:
    """An object by the lower-case names of its keys; anything else is an empty one."""
    if not isinstance(value, dict) or not value:
        return _EMPTY
    folded = {key.lower(): each for key, each in value.items()}
    if len(folded) == len(value):
        return folded
    for key, each in value.items():  # one name in several spellings: the one that says something
        if each:
            folded[key.lower()] = each
    return folded


def fold_body(value: object) -> Json:
    """``fold`` for the inside of a kind of message: what Go wraps for a oneof is lifted."""
    folded = fold(value)
    if not isinstance(value, dict):
        return folded
    for key, each in value.items():
        members = ONEOFS.get(key.lower()) if key[:1].isupper() else None
        if members is None or not isinstance(each, dict) or len(each) != 1:
            continue
        (member, inner), *_ = each.items()
        if member[:1].isupper() and member.lower() in members:
            folded = {**folded, member.lower(): inner}
    return folded


def objects_of(value: object, limit: int) -> list[Json]:
    """The objects of a list, folded, at most so many."""
    return [fold_body(each) for each in list_of(value)[:limit] if isinstance(each, dict)]


def list_of(value: object) -> Sequence[Any]:
    """The value if it is a list, else an empty one."""
    return value if isinstance(value, list) else ()


def json_in(value: object) -> Json:
    """The object in a text of JSON (``paramsJson``), not folded: its keys are somebody's own."""
    if isinstance(value, dict):
        return value
    if not isinstance(value, str) or len(value) > MAX_TEXT:
        return _EMPTY
    try:
        found = json.loads(value, parse_constant=lambda _: None)
    except (ValueError, RecursionError):
        return _EMPTY
    return found if isinstance(found, dict) else _EMPTY


# Texts


def text_of(value: object, limit: int = MAX_TEXT) -> str | None:
    """A non-empty text that a text column can hold: without NUL, half surrogate pairs replaced, of a bounded length."""
    if not isinstance(value, str) or not value:
        return None
    held = value[:limit].replace("\x00", "")
    if not held.isascii():
        held = held.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return held or None


def name_of(value: object) -> str | None:
    """A text of one line's length: names, file names, types of media."""
    return text_of(value, MAX_NAME)


def id_of(value: object) -> str | None:
    """An id or address: a text (or a number) of a length that an index can hold."""
    if isinstance(value, int) and not isinstance(value, bool) and 0 < value < _MAX_NUMBER:
        value = str(value)
    found = text_of(value)
    return found if found is not None and len(found) <= _MAX_ID else None


def first_text(body: Json, *names: str) -> str | None:
    """The first text under one of several folded names."""
    return next((found for name in names if (found := text_of(body.get(name)))), None)


def joined(*parts: object) -> str | None:
    """The texts among some values, one a line."""
    return text_of("\n".join(found for part in parts if (found := text_of(part))))


def url_of(value: object) -> str | None:
    """An address of a file. ``https://web.whatsapp.net`` alone is none (Baileys, pull request 1560)."""
    found = text_of(value, 4_096)
    return None if found is None or found.rstrip("/") == "https://web.whatsapp.net" else found


# Numbers


def number_of(value: object) -> int | float | None:
    """A number in any form (a number, its digits, ``{low, high, unsigned}``) that JSON can hold, else None."""
    if isinstance(value, str):
        value = int(value) if _DIGITS.fullmatch(value) else _decimal(value)
    elif isinstance(value, dict):
        value = _long(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return value if abs(value) < _MAX_NUMBER else None  # infinities and NaN are not


def _decimal(value: str) -> float | None:
    try:
        return float(value) if len(value) <= 40 and value.isascii() else None  # noqa: PLR2004 - no number of WhatsApp's is longer
    except ValueError:
        return None


def _long(value: Json) -> int | None:
    low, high = value.get("low"), value.get("high")
    if not isinstance(low, int) or not isinstance(high, int):
        return None
    number = (high % 2**32) * 2**32 + low % 2**32
    return number if is_true(value.get("unsigned")) or number < 2**63 else number - 2**64


def amount_of(value: object, offset: object) -> float | None:
    """An amount of money that is written without its point: ``{value: 15000, offset: 100}``."""
    amount, divisor = number_of(value), number_of(offset)
    return None if amount is None else amount / (divisor or 1)


def enum_of(value: object) -> str | int | None:
    """A word of an enum, in capitals, or its number; None when it is not said."""
    if isinstance(value, str):
        word = value.strip()
        return int(word) if word.isascii() and word.isdecimal() and len(word) < 10 else word.upper() or None  # noqa: PLR2004
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def is_true(value: object) -> bool:
    """Whether a value means yes, in any of its spellings."""
    return value is True or value in (1, "true", "True", "1")


def time_of(value: object) -> datetime | None:
    """A moment: seconds, milliseconds, micro- or nanoseconds by their magnitude, or an ISO text; 0 is none."""
    number = number_of(value)
    if number is None and isinstance(value, str) and not _DIGITS.fullmatch(value):
        return _iso(value)
    if number is None and isinstance(value, str | int) and not isinstance(value, bool):
        number = int(value)  # nanoseconds are longer than other numbers may be
    if number is None or not 0 < number <= _LAST_SECOND * 10**9:
        return None
    for magnitude, divisor in ((10**17, 10**9), (10**14, 10**6), (10**11, 10**3)):
        if number >= magnitude:
            number = number / divisor
            break
    return datetime.fromtimestamp(number, UTC) if number <= _LAST_SECOND else None


def _iso(value: str) -> datetime | None:
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    found = found if found.tzinfo else found.replace(tzinfo=UTC)
    return found if found.year > 1970 else None  # noqa: PLR2004 - Go prints no time as the year 1


def shown_time(value: object) -> str | None:
    """A moment as ISO text, for metadata."""
    found = time_of(value)
    return found.isoformat() if found else None


# Bytes


def bytes_of(value: object, limit: int = MAX_KEY_BYTES) -> str | None:
    """Bytes as base64, from any of five forms; None when they are none, or more than ``limit``.

    The forms: base64, ``{"type": "Buffer", "data": [1, 2]}``, the same with base64, ``{"0": 1, "1": 2}``, ``[1, 2]``.
    """
    if isinstance(value, dict):
        if "data" in value:
            return bytes_of(value["data"], limit) if not isinstance(value["data"], dict) else None
        if len(value) > limit or not all(key.isascii() and key.isdecimal() for key in value):
            return None
        value = [value[key] for key in sorted(value, key=int)]
    if isinstance(value, str):
        return value if value and len(value) <= (limit + 2) // 3 * 4 and _BASE64.fullmatch(value) else None
    if not isinstance(value, list) or not 0 < len(value) <= limit:
        return None
    if not all(isinstance(each, int) and not isinstance(each, bool) and 0 <= each <= 255 for each in value):  # noqa: PLR2004
        return None
    return base64.b64encode(bytes(value)).decode()


# What nobody reads


def raw_of(value: object) -> Any:  # noqa: ANN401 - JSON
    """A part of an event as jsonb can hold it, for people to look at; what is too long or too deep is left out."""
    held = _raw(value, _MAX_RAW_DEPTH)
    return held if len(json.dumps(held, ensure_ascii=False)) <= MAX_RAW_BYTES else {"left_out": "too long"}


def _raw(value: object, depth: int) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict | list):
        if depth == 0 or len(value) > _MAX_RAW_ENTRIES:
            return None
        if isinstance(value, list):
            return [_raw(each, depth - 1) for each in value]
        return {text_of(key, MAX_NAME) or "": _raw(each, depth - 1) for key, each in value.items()}
    if isinstance(value, str):
        return text_of(value, 4_096) or ""
    if isinstance(value, bool) or value is None:
        return value
    return number_of(value)

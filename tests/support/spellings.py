"""One message, as four printers write it.

A canonical message says what a printer must know: ``bytes``, ``Long`` (a 64 bit number), ``Word`` (of an enum), and keys
like ``header/text``: a member of a oneof.
"""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable

_GO_CAPITALS = {
    word: word.upper() for word in ("Id", "Jid", "Url", "Sha256", "Json", "Ms", "Ts", "Ptt", "Iv", "Jpeg")
} | {"Ids": "IDs"}
_WORDS = re.compile(r"[A-Z]?[a-z]+[0-9]*|[A-Z0-9]+")


class Long(int):
    """A number of 64 bits."""


@dataclass(frozen=True)
class Word:
    """A word of an enum, and its number."""

    name: str
    number: int


def go_name(name: str) -> str:
    """As Go writes a name: ``stanzaId`` -> ``stanzaID``, ``url`` -> ``URL``."""
    words = _WORDS.findall(name)
    spelt = [_GO_CAPITALS.get(word[:1].upper() + word[1:], word) for word in words]
    return "".join(spelt) if "".join(words) == name else name


def protobufjs(value: Any) -> Any:
    return _walk(value, name=str, long=str, word=lambda word: word.name, data=_base64, wrap=False)


def protojson(value: Any) -> Any:
    return _walk(value, name=go_name, long=str, word=lambda word: word.name, data=_base64, wrap=False)


def encoding_json(value: Any) -> Any:
    return _walk(value, name=go_name, long=int, word=lambda word: word.number, data=_base64, wrap=True)


def javascript(value: Any) -> Any:
    return _walk(
        value, name=str, word=lambda word: word.number, wrap=False,
        long=lambda number: {"low": (number % 2**32) - (2**32 if number % 2**32 >= 2**31 else 0), "high": number >> 32, "unsigned": True},
        data=lambda data: {str(place): byte for place, byte in reversed(list(enumerate(data)))},
    ) | {"unsetMessage": None}  # fmt: skip


def lower_case(value: Any) -> Any:
    """As the log of deliveries prints: every key in lower case."""
    return _walk(value, name=str.lower, long=str, word=lambda word: word.name, data=_base64, wrap=False)


def buffers(value: Any) -> Any:
    return _walk(
        value, name=str, long=int, word=lambda word: str(word.number), wrap=False,
        data=lambda data: {"type": "Buffer", "data": list(data)},
    )  # fmt: skip


SPELLINGS: dict[str, Callable[[Any], Any]] = {
    "protobufjs": protobufjs,
    "protojson": protojson,
    "encoding_json": encoding_json,
    "javascript": javascript,
    "lower_case": lower_case,
    "buffers": buffers,
}


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode()


def _walk(
    value: Any,
    *,
    name: Callable[[str], str],
    long: Callable[[int], Any],
    word: Callable[[Word], Any],
    data: Callable[[bytes], Any],
    wrap: bool,
) -> Any:
    def walk(each: Any) -> Any:
        match each:
            case dict():
                return {key: printed for inner, one in each.items() for key, printed in member(inner, one)}
            case list():
                return [walk(one) for one in each]
            case bytes():
                return data(each)
            case Long():
                return long(int(each))
            case Word():
                return word(each)
            case _:
                return each

    def member(key: str, each: Any) -> list[tuple[str, Any]]:
        oneof, slash, inner = key.rpartition("/")
        if slash and wrap:
            capital = go_name(inner)
            return [(oneof[:1].upper() + oneof[1:], {capital[:1].upper() + capital[1:]: walk(each)})]
        return [(name(inner), walk(each))]

    return walk(value)

"""An answer reduced to its shape: names of keys, kinds of values, how many. Pure, and no value leaves it.

A key may itself be a value (a phone as the key of a map, a token): a key is shown where it is one that we know, or
where it is written like a field's name and nothing else speaks against it; else only what it looks like.
"""

from __future__ import annotations

import json
import re
from collections import Counter, deque
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from shared.providers.wapi.fields import FIELDS

if TYPE_CHECKING:
    from collections.abc import Collection, Iterator, Mapping

ROOT: Final = "(answer)"
_DEEPEST: Final = 12
_MOST_PATHS: Final = 400
_MOST_KEYS: Final = 80
"""More keys than an object of fields has: it is a map."""
_LONGEST_NAME: Final = 32
_LONGEST_WORD: Final = 14
_MOST_DIGITS: Final = 2
_SHORT_WORD: Final = 4

_WORDS: Final = re.compile(r"[A-Z]{2,5}(?![a-z])|[A-Z]?[a-z]+|[0-9]+")
_NAME: Final = re.compile(r"_?[a-z][A-Za-z0-9]*(?:[_-][A-Za-z0-9]+)*", re.ASCII)
_VOWELS: Final = frozenset("aeiouy")
_CONSONANTS_IN_A_ROW: Final = re.compile(r"[bcdfghjklmnpqrstvwxz]{5}")
_MOMENT_NAME: Final = re.compile(
    r"moment|creat|updat|time|date|sent|receiv|deliver|expire|due|(?:_a|A)t$|^at$", re.IGNORECASE
)

_ADDRESS: Final = re.compile(
    r"\S+@(lid|s\.whatsapp\.net|c\.us|g\.us|newsletter|broadcast|hosted|hosted\.lid)", re.ASCII
)
_ISO: Final = re.compile(r"\d{4}-\d{2}-\d{2}(?:[T ]\d{2}:\d{2}.*)?", re.ASCII)
_BRAZILIAN: Final = re.compile(r"\d{2}/\d{2}/\d{4}(?:\D.*)?", re.ASCII)
_DIGITS: Final = re.compile(r"\+?\d{1,20}", re.ASCII)
_NOTHING: Final = frozenset({"null", "undefined", "none", "nan"})
_EARLIEST: Final = 1_420_070_400
_LATEST: Final = 2_208_988_800
"""From 2015 to 2039: an epoch that a gateway of today may name."""
_A_THOUSAND: Final = 1000


@dataclass(slots=True)
class Shape:
    """What an answer looks like.

    Attributes:
        kinds: By path, how often each kind of value stands there. A path is made of names that may be shown.
        cut: So many values lay beyond what was looked at.
    """

    kinds: dict[str, Counter[str]] = field(default_factory=dict)
    cut: int = 0


@dataclass(frozen=True, slots=True)
class Names:
    """Which keys may be shown.

    Attributes:
        known: Lower-case names that somebody has written down.
        hidden: Lower-case words that are values: the line's own, and every text of the answers.
    """

    known: frozenset[str]
    hidden: Collection[str] = ()

    def shown(self, key: str) -> str:
        """The key, or what it looks like."""
        lower = key.lower()
        if lower in self.known or lower in FIELDS:
            return key
        if lower in self.hidden or not _is_like_a_name(key):
            return f"<{_look_of(key)}>"
        return key

    def knows(self, key: str) -> bool:
        """Whether somebody has written it down."""
        return key.lower() in self.known or key.lower() in FIELDS


def _is_like_a_name(key: str) -> bool:
    if len(key) > _LONGEST_NAME or not _NAME.fullmatch(key):
        return False
    if sum(letter.isdigit() for letter in key) > _MOST_DIGITS:
        return False
    words = _WORDS.findall(key)
    if "".join(words) != re.sub(r"[_-]", "", key):
        return False  # single capitals: letters at random
    return all(_is_like_a_word(word.lower()) for word in words)


def _is_like_a_word(word: str) -> bool:
    if word.isdigit() or len(word) <= _SHORT_WORD:
        return True
    # Keys in lower case have their words run together: longer than a word, and still to be pronounced.
    longest = 2 * _LONGEST_WORD
    return len(word) <= longest and bool(_VOWELS & set(word)) and not _CONSONANTS_IN_A_ROW.search(word)


def _look_of(key: str) -> str:
    if _DIGITS.fullmatch(key):
        return "digits"
    if _ADDRESS.fullmatch(key):
        return "an address"
    return "an empty key" if not key.strip() else "a word that may be a value"


def shape_of(answer: object, names: Names) -> Shape:
    """Reduce parsed JSON to its shape."""
    shape = Shape()
    waiting: deque[tuple[str, str, object, int]] = deque([(ROOT, "", answer, 0)])
    while waiting:
        path, name, value, depth = waiting.popleft()
        if depth > _DEEPEST or (path not in shape.kinds and len(shape.kinds) >= _MOST_PATHS):
            shape.cut += 1
            continue
        shape.kinds.setdefault(path, Counter())[kind_of(value, name)] += 1
        inner = json_in(value) if isinstance(value, str) else value
        if isinstance(inner, list):
            waiting += ((f"{path}[]", name, item, depth + 1) for item in inner)
        elif isinstance(inner, dict):
            is_map = _is_map(inner, names)
            for key, item in inner.items():
                step = "<any key>" if is_map else names.shown(key)
                below = step if path == ROOT else f"{path}.{step}"
                waiting.append((below, "" if is_map else key, item, depth + 1))
    return shape


def _is_map(value: Mapping[str, object], names: Names) -> bool:
    """Whether the keys are values: many, or several that nobody knows, over objects which are all made alike."""
    if any(names.knows(key) for key in value):
        return False
    if len(value) > _MOST_KEYS:
        return True
    items = list(value.values())
    alike = len(items) > 1 and all(isinstance(item, dict | list) for item in items)
    return alike and len({frozenset(item) if isinstance(item, dict) else "list" for item in items}) == 1


def kind_of(value: object, name: str = "") -> str:
    """What a value is, in a constant word; ``text: url`` is a special case of ``text``.

    Args:
        value: Parsed JSON.
        name: Its key: only what is named like a moment is taken for one.
    """
    match value:
        case None:
            return "null"
        case bool():
            return "boolean"
        case int():
            return _number_kind(value, name)
        case float():
            return "number"
        case str():
            return _text_kind(value, name)
        case list():
            return "list" if value else "list: empty"
        case _:
            return "object" if value else "object: empty"


def _number_kind(value: int, name: str) -> str:
    if _MOMENT_NAME.search(name):
        if _EARLIEST <= value < _LATEST:
            return "integer: epoch seconds"
        if _EARLIEST * _A_THOUSAND <= value < _LATEST * _A_THOUSAND:
            return "integer: epoch milliseconds"
    return "integer"


def _text_kind(value: str, name: str) -> str:
    text = value.strip()
    if not text:
        return "text: empty"
    if text.lower() in _NOTHING:
        return "text: a word for nothing"
    if text.lower() in ("true", "false"):
        return "text: boolean"
    if text.lower().startswith(("http://", "https://")):
        return "text: url"
    if text.lower().startswith("data:"):
        return "text: data url"
    if found := _ADDRESS.fullmatch(text):
        return f"text: address @{found[1]}"
    if _DIGITS.fullmatch(text):
        number = _number_kind(int(text), name)
        return f"text: {number.partition(': ')[2]}" if ": " in number else f"text: {len(text.lstrip('+'))} digits"
    if _ISO.fullmatch(text):
        return "text: ISO moment"
    if _BRAZILIAN.fullmatch(text):
        return "text: Brazilian date"
    return "text: JSON" if json_in(text) is not None else "text"


def json_in(text: str) -> object | None:
    """The object or list that a text holds as JSON."""
    if text.strip()[:1] not in ("{", "["):
        return None
    try:
        found = json.loads(text)
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict | list) else None


def moment_of(value: object, name: str, now: datetime) -> datetime | None:
    """A moment of the last months; whatever else a value may be is none.

    To be shown to the minute and no further: a number that is no moment (a landline has ten digits, as epoch seconds
    have) falls into this span by chance alone, and its last digits are gone then.
    """
    if isinstance(value, str) and _DIGITS.fullmatch(value.strip()):
        value = int(value.strip().lstrip("+"))
    moment = None
    if isinstance(value, int) and not isinstance(value, bool):
        kind = _number_kind(value, name)
        if kind == "integer":
            return None
        moment = datetime.fromtimestamp(value / (_A_THOUSAND if "milli" in kind else 1), UTC)
    elif isinstance(value, str) and _ISO.fullmatch(value.strip()) and _MOMENT_NAME.search(name):
        try:
            moment = datetime.fromisoformat(value.strip())
        except ValueError:
            return None
        moment = moment.replace(tzinfo=moment.tzinfo or UTC).astimezone(UTC)
    if moment is None or not now - timedelta(days=120) < moment < now + timedelta(days=1):
        return None
    return moment


def texts_in(value: object) -> Iterator[str]:
    """Every text and number of an answer: what may not be shown. Bounded by the answer's own size."""
    waiting: list[Any] = [value]
    while waiting:
        item = waiting.pop()
        if isinstance(item, dict):
            waiting += item.values()
        elif isinstance(item, list):
            waiting += item
        elif isinstance(item, str):
            yield item
            if (inner := json_in(item)) is not None:
                waiting.append(inner)
        elif isinstance(item, int) and not isinstance(item, bool):
            yield str(item)

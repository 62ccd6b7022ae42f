"""The provider's own log of webhook deliveries, read whatever its form is, and said what was found. Pure."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import pairwise
from typing import TYPE_CHECKING, Any, Final

from ops.doctor.contract.beliefs import EVENT_NAMES
from ops.doctor.contract.shape import ROOT, json_in, moment_of, texts_in

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from datetime import datetime

    from ops.doctor.contract.shape import Names

_DEEPEST: Final = 5
_EVENTS: Final = {name.lower(): name for name in EVENT_NAMES}
_TOTALS: Final = frozenset(
    (
        *("total", "count", "totalcount", "total_count", "totalpages", "total_pages", "pages"),
        *("lastpage", "last_page", "page", "perpage", "per_page"),
    )
)
_MOST_TOTAL: Final = 10_000_000
"""A larger number is no count."""
_STATUS_NAMES: Final = ("status", "code", "http")
_FIRST_STATUS, _LAST_STATUS = 100, 599
_MOMENTS_FIRST: Final = ("moment", "createdat", "created_at", "created", "timestamp", "date", "time")

Entry = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Page:
    """One answer of the log.

    Attributes:
        at: The path of the list; None = there is none.
        entries: Its objects.
        totals: What the answer says of the whole, by key.
    """

    at: str | None = None
    entries: Sequence[Entry] = ()
    totals: dict[str, int] = field(default_factory=dict)

    @property
    def last_number(self) -> int:
        """The number of the last page, by what the answer says of the whole; 0 = it does not say."""
        told = {name.lower().replace("_", ""): number for name, number in self.totals.items()}
        for name in ("totalpages", "lastpage", "pages"):
            if name in told:
                return told[name]
        total = next((told[name] for name in ("total", "totalcount", "count") if name in told), 0)
        return -(-total // len(self.entries)) if self.entries else 0

    def holds(self, message_id: str) -> bool:
        """Whether an entry is about a message: its id stands somewhere in it, whatever the key and its case."""
        wanted = message_id.lower()
        return any(wanted in text.lower() for entry in self.entries for text in texts_in(entry))


def read_page(answer: object, names: Names) -> Page:
    """Find the entries: the longest list of objects, wherever it stands, also in a text or as a map of objects."""
    best: tuple[str, list[Entry]] | None = None
    totals: dict[str, int] = {}
    for path, value in _walk(answer, ROOT, names, 0):
        if isinstance(value, dict):
            for key, number in value.items():
                is_count = isinstance(number, int) and not isinstance(number, bool) and 0 <= number < _MOST_TOTAL
                if key.lower() in _TOTALS and is_count:
                    totals.setdefault(names.shown(key), number)
        entries = _entries(value)
        if entries is not None and (best is None or len(entries) > len(best[1])):
            best = path, entries
    return Page(best[0], best[1], totals) if best else Page(totals=totals)


def _walk(value: object, path: str, names: Names, depth: int) -> Iterator[tuple[str, object]]:
    """The answer's objects and lists, those above first; what an entry holds is its own affair."""
    if isinstance(value, str):
        value = json_in(value)
    if not isinstance(value, dict | list) or depth > _DEEPEST:
        return
    yield path, value
    if isinstance(value, dict):
        for key, item in value.items():
            step = names.shown(key)
            yield from _walk(item, step if path == ROOT else f"{path}.{step}", names, depth + 1)


def _entries(value: object) -> list[Entry] | None:
    if isinstance(value, list):
        items = value
    elif isinstance(value, dict) and len(value) > 1 and all(isinstance(item, dict) for item in value.values()):
        items = list(value.values())
    else:
        return None
    found = [item if isinstance(item, dict) else json_in(item) if isinstance(item, str) else None for item in items]
    entries = [item for item in found if isinstance(item, dict)]
    return entries if len(entries) == len(items) else None


@dataclass(frozen=True, slots=True)
class LogFound:
    """What the log was like: counts, moments of entries, and no value.

    Attributes:
        at: The path of the list of the first page.
        per_page: Entries of each page that was asked for.
        asked_per_page: How many were asked for.
        second_page: ``follows``, ``is the same again``, ``is empty``, or why it is not known.
        totals: See ``Page``.
        order: ``newest first``, ``oldest first``, ``mixed`` or ``unknown``.
        oldest: Of the pages that were read, to the minute.
        newest: The same.
        lower_case: Entries whose keys are all in lower case.
        simple: Entries without an object or a list in them.
        body_at: Where the delivered body stands: in the entry itself, or under this key.
        events: Entries by the name of their event, whatever its case; ``another`` is none that we know.
        statuses: HTTP statuses that entries name, by key and number.
    """

    at: str | None
    per_page: tuple[int, ...]
    asked_per_page: int
    second_page: str
    totals: dict[str, int]
    order: str
    oldest: datetime | None
    newest: datetime | None
    lower_case: int
    simple: int
    body_at: str
    events: dict[str, int]
    statuses: dict[str, int]

    @property
    def entries(self) -> int:
        """How many were read."""
        return sum(self.per_page)


def describe(pages: Sequence[Page], names: Names, *, asked_per_page: int, now: datetime) -> LogFound:
    """Say what pages were like.

    Args:
        pages: In the order of asking; the first two are pages 1 and 2.
        names: Which keys may be shown.
        asked_per_page: How many entries were asked for.
        now: Moments far from it are none.
    """
    entries = [entry for page in pages for entry in page.entries]
    moments = [moment for entry in entries if (moment := _moment(entry, now)) is not None]
    bodies = [_body(entry) for entry in entries]
    places = Counter(place for place, _ in bodies)
    return LogFound(
        at=pages[0].at if pages else None,
        per_page=tuple(len(page.entries) for page in pages),
        asked_per_page=asked_per_page,
        second_page=_second(pages),
        totals=pages[0].totals if pages else {},
        order=_order(moments),
        oldest=_to_the_minute(min(moments, default=None)),
        newest=_to_the_minute(max(moments, default=None)),
        lower_case=sum(all(key == key.lower() for key in entry) for entry in entries),
        simple=sum(not any(isinstance(item, dict | list) for item in entry.values()) for entry in entries),
        body_at="unknown" if not places else _place_shown(places.most_common(1)[0][0], names),
        events=dict(Counter(_event(body) for _, body in bodies).most_common()),
        statuses=dict(Counter(status for entry in entries for status in _statuses(entry, names)).most_common(20)),
    )


def _place_shown(place: str, names: Names) -> str:
    return "the entry itself" if place == ROOT else names.shown(place)


def _body(entry: Entry) -> tuple[str, Entry]:
    """Where in an entry the delivered body stands: what names an event."""
    if any(key.lower() == "event" for key in entry):
        return ROOT, entry
    for key, item in entry.items():
        inner = json_in(item) if isinstance(item, str) else item
        if isinstance(inner, dict) and any(name.lower() == "event" for name in inner):
            return key, inner
    return ROOT, entry


def _event(body: Entry) -> str:
    told = next((item for key, item in body.items() if key.lower() == "event"), None)
    return _EVENTS.get(told.lower(), "another") if isinstance(told, str) else "none named"


def _statuses(entry: Entry, names: Names) -> Iterator[str]:
    for key, item in entry.items():
        if any(word in key.lower() for word in _STATUS_NAMES):
            number = int(item) if isinstance(item, str) and item.isascii() and item.isdecimal() else item
            if isinstance(number, int) and not isinstance(number, bool) and _FIRST_STATUS <= number <= _LAST_STATUS:
                yield f"{names.shown(key)} {number}"


def _moment(entry: Entry, now: datetime) -> datetime | None:
    """When an entry was written: by the names that speak of it, those of the entry before those of the body in it."""
    for where in (entry, _body(entry)[1]):
        by_name = {key.lower(): (item, key) for key, item in where.items()}
        for name in (*_MOMENTS_FIRST, *by_name):
            if name in by_name and (moment := moment_of(*by_name[name], now)) is not None:
                return moment
    return None


def _to_the_minute(moment: datetime | None) -> datetime | None:
    return moment and moment.replace(second=0, microsecond=0)


def _second(pages: Sequence[Page]) -> str:
    if len(pages) < 2:  # noqa: PLR2004
        return "was not read"
    first, second = pages[0].entries, pages[1].entries
    if not second:
        return "is empty"
    if list(second) == list(first):
        return "is the same again"
    return "overlaps the first" if any(entry in first for entry in second) else "follows"


def _order(moments: Sequence[datetime]) -> str:
    steps = [later - earlier for earlier, later in pairwise(moments) if later != earlier]
    if not steps:
        return "unknown"
    if all(step.total_seconds() < 0 for step in steps):
        return "newest first"
    return "oldest first" if all(step.total_seconds() > 0 for step in steps) else "mixed"

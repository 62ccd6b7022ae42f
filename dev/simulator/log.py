"""The provider's own log of webhook deliveries, as far as anybody has described it.

An entry is the body as it was delivered, flat, with its keys in lower case. The list's name, its order and whether it
holds what was not delivered are unknown: the provider's settings say which of them is played. Pure.
"""

from collections import deque
from enum import StrEnum
from urllib.parse import parse_qs

from pydantic import JsonValue

from dev.simulator.faults import Answer, json_answer

KEPT_ENTRIES = 1_000
PER_PAGE = 20


class LogForm(StrEnum):
    """Where the entries stand."""

    LOGS = "logs"
    DATA = "data"
    BARE = "bare"  # the answer is the list


def in_lower_case(value: JsonValue) -> JsonValue:
    """The same with every key in lower case."""
    if isinstance(value, dict):
        return {key.lower(): in_lower_case(item) for key, item in value.items()}
    return [in_lower_case(item) for item in value] if isinstance(value, list) else value


class DeliveryLog:
    """The last events of all lines, newest first."""

    def __init__(self) -> None:
        self._entries: deque[tuple[str, bool, JsonValue]] = deque(maxlen=KEPT_ENTRIES)

    def keep(self, external_id: str, event: JsonValue, *, delivered: bool) -> None:
        """Remember an event and whether it was delivered."""
        self._entries.appendleft((external_id, delivered, event))

    def forget(self) -> None:
        """Forget all."""
        self._entries.clear()

    def answer(self, external_id: str, query: str, *, form: LogForm, undelivered: bool) -> Answer:
        """A page.

        Args:
            external_id: Whose.
            query: With ``perPage`` and ``page``, which begins at 1.
            form: Where the entries stand.
            undelivered: Whether it holds those that were not.
        """
        told = parse_qs(query)
        size, page = _number(told, "perPage", PER_PAGE), _number(told, "page", 1)
        entries = [
            in_lower_case(event)
            for whose, delivered, event in self._entries
            if whose == external_id and (delivered or undelivered)
        ]
        shown = entries[(page - 1) * size : page * size]
        return json_answer(200, shown if form is LogForm.BARE else {form: shown, "total": len(entries), "page": page})


def _number(told: dict[str, list[str]], name: str, default: int) -> int:
    text = told.get(name, [""])[0]
    return max(1, int(text)) if text.isascii() and text.isdecimal() else default

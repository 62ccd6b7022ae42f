"""Events that could not be kept: written to the log, encrypted, so that an operator can deliver them again.

The provider may not send an event twice, and a log outlives a database that is away. Without a key only the event's
size and key are logged: a message's text has no business in a log.

``cryptography`` is loaded when something is sealed or read: a webhook whose database answers starts without it.
"""

# ruff: noqa: PLC0415

from __future__ import annotations

import json
import zlib
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

from shared import logs
from shared.errors import EventRejected, UndeliveredUnreadable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator

    from cryptography.fernet import Fernet
    from pydantic import SecretStr

    from shared.core.event import Event

FACT: Final = "event.undelivered"
PART_BYTES: Final = 180_000
"""A log entry holds at most 256 KB."""
_MOST_PARTS: Final = 1000


def log_undelivered(event: Event, key: SecretStr | None) -> None:
    """Write an event to the log in numbered parts of at most ``PART_BYTES``, encrypted under ``key``."""
    facts: dict[str, Any] = {
        "event_key": event.key,
        "size": len(event.body.encode()),
        "received_at": datetime.now(UTC).isoformat(),
    }
    if key is None:
        logs.error(FACT, **facts)
        return
    from cryptography.fernet import Fernet

    # Beside the body the line that its key named: the body need not say whose it is.
    told = json.dumps({"external_id": event.external_id, "body": event.body})
    sealed = Fernet(key.get_secret_value()).encrypt(zlib.compress(told.encode())).decode()
    parts = [sealed[start : start + PART_BYTES] for start in range(0, len(sealed), PART_BYTES)]
    for number, part in enumerate(parts, start=1):
        logs.error(FACT, **facts, part=number, parts=len(parts), sealed=part)


@dataclass(frozen=True, slots=True)
class Undelivered:
    """An event read back from the log.

    Attributes:
        event_key: Of the log lines.
        event: None when it cannot be read; ``problem`` says why.
        problem: What is wrong, without quoting it.
    """

    event_key: str
    event: Event | None
    problem: str = ""


def read_undelivered(log: str, key: SecretStr, *, parse: Callable[[bytes], Event]) -> Iterator[Undelivered]:
    """Find the undelivered events in an export of the log, each once, in their order.

    Args:
        log: Lines as printed, entries with a ``jsonPayload`` line by line, or a JSON array of such entries.
        key: ``EVENT_LOG_KEY`` at the time.
        parse: The vendor's reader of events.

    Raises:
        UndeliveredUnreadable: When the export is none of these, or the key is no Fernet key.
    """
    from cryptography.fernet import Fernet

    try:
        fernet = Fernet(key.get_secret_value())
    except ValueError:
        raise UndeliveredUnreadable("EVENT_LOG_KEY is no Fernet key") from None
    sealings: dict[tuple[str, str], dict[int, dict[str, Any]]] = {}
    for line in _facts(log):
        if line.get("message") == FACT and isinstance(line.get("event_key"), str):
            # One event may have been sealed more than once, each time differently.
            sealing = sealings.setdefault((str(line.get("received_at")), line["event_key"]), {})
            sealing[_number_of_parts(line.get("part")) or 0] = line
    read: dict[str, Undelivered] = {}
    for (_, event_key), parts in sorted(sealings.items()):  # an export may be newest first
        if event_key not in read or read[event_key].event is None:
            read[event_key] = _unseal(event_key, parts, fernet, parse)
    yield from read.values()


def _facts(log: str) -> Iterable[dict[str, Any]]:
    try:
        entries = json.loads(log) if log.lstrip().startswith("[") else _entries_of_lines(log)
    except (ValueError, RecursionError):
        raise UndeliveredUnreadable("the file holds neither log lines nor a JSON array of log entries") from None
    for entry in entries:
        payload = entry.get("jsonPayload", entry) if isinstance(entry, dict) else {}
        if isinstance(payload, dict):
            yield payload


def _entries_of_lines(log: str) -> list[Any]:
    """What stands in lines of JSON. A line that is cut off costs no other line anything.

    Raises:
        ValueError: None of them can be read.
    """
    entries: list[Any] = []
    cut: list[Any] = []
    for number, line in enumerate(log.splitlines(), start=1):
        if not line.lstrip().startswith("{"):
            continue
        try:
            entries.append(json.loads(line))
        except (ValueError, RecursionError):
            # Said of those that may have held an event: under a name of its own, for theirs is cut off as well.
            cut.append({"message": FACT, "event_key": f"line {number}", "parts": 0} if FACT in line else {})
    if cut and not entries:
        raise ValueError
    return entries + cut


def _number_of_parts(told: object) -> int | None:
    return told if isinstance(told, int) and not isinstance(told, bool) and 0 < told <= _MOST_PARTS else None


def _unseal(
    event_key: str, parts: dict[int, dict[str, Any]], fernet: Fernet, parse: Callable[[bytes], Event]
) -> Undelivered:
    from cryptography.fernet import InvalidToken

    first = next(iter(parts.values()))
    if first.get("parts") is None:
        return Undelivered(event_key, None, "it was logged without its body: EVENT_LOG_KEY was not set")
    wanted = _number_of_parts(first["parts"])
    if wanted is None:
        return Undelivered(event_key, None, "it is cut off, or no log entry of ours")
    missing = [number for number in range(1, wanted + 1) if number not in parts]
    if missing:
        return Undelivered(event_key, None, f"part {missing[0]} of {wanted} is not in the file")
    try:
        sealed = "".join(parts[number]["sealed"] for number in range(1, wanted + 1))
        told = json.loads(zlib.decompress(fernet.decrypt(sealed)))
        arrived = datetime.fromisoformat(first["received_at"])
        event = as_it_came(event_key, told["external_id"], told["body"], arrived, parse=parse)
    except (InvalidToken, zlib.error, EventRejected, ValueError, KeyError, TypeError, AttributeError):
        return Undelivered(event_key, None, "it cannot be decrypted with this EVENT_LOG_KEY")
    return Undelivered(event_key, event)


def as_it_came(
    event_key: str, external_id: str | None, body: str, arrived: datetime, *, parse: Callable[[bytes], Event]
) -> Event:
    """An event that came before, to be delivered once more.

    Args:
        event_key: The one it had, so that it is the same event.
        external_id: Whose it was, which its body need not say.
        body: Of then.
        arrived: What counts where it has no moment.
        parse: The vendor's reader of events.

    Raises:
        EventRejected: The body is no event.
    """
    event = parse(body.encode())
    return replace(event, key=event_key, external_id=external_id, moment=event.moment or arrived)

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
            sealing[line.get("part") or 0] = line
    read: dict[str, Undelivered] = {}
    for (_, event_key), parts in sorted(sealings.items()):  # an export may be newest first
        if event_key not in read or read[event_key].event is None:
            read[event_key] = _unseal(event_key, parts, fernet, parse)
    yield from read.values()


def _facts(log: str) -> Iterable[dict[str, Any]]:
    try:
        entries = json.loads(log) if log.lstrip().startswith("[") else [json.loads(line) for line in _json_lines(log)]
    except ValueError:
        raise UndeliveredUnreadable("the file holds neither log lines nor a JSON array of log entries") from None
    for entry in entries:
        payload = entry.get("jsonPayload", entry) if isinstance(entry, dict) else {}
        if isinstance(payload, dict):
            yield payload


def _json_lines(log: str) -> Iterable[str]:
    return (line for line in log.splitlines() if line.lstrip().startswith("{"))


def _unseal(
    event_key: str, parts: dict[int, dict[str, Any]], fernet: Fernet, parse: Callable[[bytes], Event]
) -> Undelivered:
    from cryptography.fernet import InvalidToken

    first = next(iter(parts.values()))
    wanted = first.get("parts")
    if wanted is None:
        return Undelivered(event_key, None, "it was logged without its body: EVENT_LOG_KEY was not set")
    missing = [number for number in range(1, wanted + 1) if number not in parts]
    if missing:
        return Undelivered(event_key, None, f"part {missing[0]} of {wanted} is not in the file")
    try:
        sealed = "".join(parts[number]["sealed"] for number in range(1, wanted + 1))
        told = json.loads(zlib.decompress(fernet.decrypt(sealed)))
        event = parse(told["body"].encode())
        arrived = datetime.fromisoformat(first["received_at"])
    except (InvalidToken, zlib.error, EventRejected, ValueError, KeyError, TypeError):
        return Undelivered(event_key, None, "it cannot be decrypted with this EVENT_LOG_KEY")
    # The key it had, so that a second replay is a duplicate; and without a moment its arrival was what counted.
    return Undelivered(
        event_key,
        replace(event, key=event_key, external_id=told["external_id"], moment=event.moment or arrived),
    )

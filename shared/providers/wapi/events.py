"""What W-API's webhook events say. Pure: bytes -> an event, or EventRejected.

Events come flat, in camelCase, unsigned; they are lost, doubled and disordered. Names are matched exactly:
``webhookStatus`` is an ack although its name says "status". What is not known is kept and never guessed at.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from datetime import UTC, datetime
from typing import Any, Final

from shared.core.event import CONNECTION_KINDS, Change, Event, EventKind, Message, Noise
from shared.errors import EventRejected
from shared.providers.wapi.contents import NoMessageError
from shared.providers.wapi.messages import is_ack_of_life, is_echo, is_story, read_ack, read_message

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 64
MAX_VALUES: Final = 20_000
_MAX_NAME: Final = 200
_MILLISECONDS_FROM: Final = 100_000_000_000
"""As seconds this is the year 5138, as milliseconds 1973: the magnitude tells the unit."""
_LAST_SECOND: Final = 253_402_300_799

_PHONE = re.compile(r"[0-9]{10,15}")


_NAMES: Final = {
    "webhookDisconnected": EventKind.DISCONNECTION,
    "disconnection": EventKind.DISCONNECTION,
    "webhookConnected": EventKind.CONNECTION,
    "connection": EventKind.CONNECTION,
    "webhookReceived": EventKind.MESSAGE,
    "webhookDelivery": EventKind.MESSAGE,
    "webhookStatus": EventKind.ACK,
}


def parse_event(body: bytes) -> Event:
    """Read the body of a webhook call.

    Raises:
        EventRejected: With 400 when the body is no JSON object, with 413 when it is too long.
    """
    if len(body) > MAX_BODY_BYTES:
        raise EventRejected(413, f"the body is longer than {MAX_BODY_BYTES} bytes")
    try:
        text = body.decode("utf-8")
        found = json.loads(text, parse_constant=_refuse_constant)
    except UnicodeDecodeError:
        raise EventRejected(400, "the body is not UTF-8") from None
    except RecursionError:
        raise EventRejected(400, "the body is nested too deeply") from None
    except ValueError:
        raise EventRejected(400, "the body is not JSON") from None
    if not isinstance(found, dict):
        raise EventRejected(400, "the body is not a JSON object")
    _check_size(found)

    name = _text(found.get("event"))
    kind = _kind(name, found)
    moment = _moment(found.get("moment"))
    change, noise = _change(kind, found)
    key = hashlib.sha256(json.dumps(found, sort_keys=True, separators=(",", ":")).encode()).hexdigest()
    if kind in CONNECTION_KINDS and moment is None:
        # Two of these are two facts: nothing in them says otherwise. Their effect is idempotent by transition.
        key = f"{key}:{secrets.token_hex(8)}"
    return Event(
        key=key,
        name=name,
        kind=kind,
        external_id=_text(found.get("instanceId")),
        moment=moment,
        phone=_phone(found.get("connectedPhone")),
        is_life=_is_life(kind, name, found),
        change=change,
        noise=noise,
        body=text,
    )


def _change(kind: EventKind, found: dict[str, Any]) -> tuple[Message | Change | None, Noise | None]:
    try:
        match kind:
            case EventKind.MESSAGE:
                return read_message(found), None
            case EventKind.ACK:
                return read_ack(found), None
            case EventKind.DISCONNECTION | EventKind.CONNECTION | EventKind.OTHER:
                return None, None
    except NoMessageError as noise:
        return None, noise.reason


def _is_life(kind: EventKind, name: str | None, found: dict[str, Any]) -> bool:
    """Never echoes, presence, stories or disconnections."""
    match kind:
        case EventKind.CONNECTION:
            return True
        case EventKind.MESSAGE:
            return name == "webhookReceived" and not is_echo(found) and not is_story(found)
        case EventKind.ACK:
            return is_ack_of_life(found)
        case EventKind.DISCONNECTION | EventKind.OTHER:
            return False


def _kind(name: str | None, found: dict[str, Any]) -> EventKind:
    kind = _NAMES.get(name or "", EventKind.OTHER)
    # An event that denies itself is none we know. A disconnection's body is certain, a connection's is not.
    if kind is EventKind.DISCONNECTION and found.get("disconnected", True) is not True:
        return EventKind.OTHER
    if kind is EventKind.CONNECTION and str(found.get("connected", True)).lower() in ("false", "0"):
        return EventKind.OTHER
    return kind


def _refuse_constant(name: str) -> None:
    raise ValueError(name)


def _check_size(found: dict[str, Any]) -> None:
    """Bound the depth and the number of values of an event."""
    values = 0
    level: list[object] = [found]
    for _ in range(MAX_DEPTH):
        below: list[object] = []
        for each in level:
            if isinstance(each, dict):
                below.extend(each.values())
            elif isinstance(each, list):
                below.extend(each)
        if not below:
            return
        values += len(below)
        if values > MAX_VALUES:
            raise EventRejected(400, "the body has too many fields")
        level = below
    raise EventRejected(400, "the body is nested too deeply")


def _text(value: object) -> str | None:
    """A name or id that a text column can hold: no NUL, no half of a surrogate pair."""
    if not isinstance(value, str) or not value or len(value) > _MAX_NAME or "\x00" in value:
        return None
    return value if value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value) else None


def _moment(value: object) -> datetime | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) <= 15:  # noqa: PLR2004
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value <= _LAST_SECOND * 1000:
        return None
    seconds = value / 1000 if value >= _MILLISECONDS_FROM else value
    return datetime.fromtimestamp(seconds, UTC) if seconds <= _LAST_SECOND else None


def _phone(value: object) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool):
        value = str(value) if 0 < value < 10**15 else None
    if not isinstance(value, str):
        return None
    digits = value.removesuffix("@s.whatsapp.net").removeprefix("+")
    return digits if _PHONE.fullmatch(digits) else None

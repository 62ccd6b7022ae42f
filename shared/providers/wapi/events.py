"""What W-API's webhook events say. Pure: bytes -> an event, or EventRejected.

Events come flat, in camelCase, unsigned; they are lost, doubled and disordered. Names are matched exactly:
``webhookStatus`` is an ack although its name says "status". What is not known is kept and never guessed at. Nothing
about a body's size or shape loses an event: bounds are on what is read, never on what is kept.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
from typing import Final

from shared.core.event import CONNECTION_KINDS, Change, Event, EventKind, Message, Noise
from shared.errors import EventRejected
from shared.providers.wapi.addresses import is_of_story
from shared.providers.wapi.changes import is_ack_of_life, read_ack
from shared.providers.wapi.envelopes import NoMessageError
from shared.providers.wapi.messages import is_echo, read_message
from shared.providers.wapi.values import Json, fold, is_true, time_of

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_DEPTH: Final = 64
"""What lies deeper is not read in a body that is too deep for the reader."""
_KEYED_BY_FIELDS: Final = 64 * 1024
"""Longer bodies are known again by their bytes: to sort their fields would hold up everybody else."""
_MAX_NAME: Final = 200
_MOST_DIGITS: Final = 100

_PHONE: Final = re.compile(r"\+?([0-9]{10,15})(?:[._][0-9]{1,4})?(?::[0-9]{1,4})?(?:@s\.whatsapp\.net)?", re.ASCII)
"""A device suffix is no part of a number."""


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
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise EventRejected(400, "the body is not UTF-8") from None
    found, key = _read(text)
    name = _text(found.get("event"))
    kind = _kind(name, found)
    event = found
    if kind in (EventKind.MESSAGE, EventKind.ACK):
        folded = fold(found)
        event = {**folded, "chat": fold(folded.get("chat")), "sender": fold(folded.get("sender"))}
    moment = time_of(found.get("moment"))
    change, noise = _change(kind, event)
    if kind in CONNECTION_KINDS and moment is None:
        # Two of these are two facts: nothing in them says otherwise. Their effect is idempotent by transition.
        key = f"{key}:{secrets.token_hex(8)}"
    return Event(
        key=key,
        name=name,
        kind=kind,
        external_id=_external_id(found.get("instanceId")),
        moment=moment,
        phone=_own_phone(found),
        is_life=_is_life(kind, name, event),
        change=change,
        noise=noise,
        body=text,
    )


def _read(text: str) -> tuple[Json, str]:
    """The object in a body, and the key by which it is known again.

    Raises:
        EventRejected: With 400 when there is none.
    """
    try:
        try:
            found = json.loads(text, parse_constant=_refuse_constant)
            key = text if len(text) > _KEYED_BY_FIELDS else json.dumps(found, sort_keys=True, separators=(",", ":"))
        except RecursionError:
            found, key = json.loads(_pruned(text), parse_constant=_refuse_constant, parse_int=_int), text
        except ValueError:  # no JSON, or a number of more digits than Python reads
            found, key = json.loads(text, parse_constant=_refuse_constant, parse_int=_int), text
    except (ValueError, RecursionError):
        raise EventRejected(400, "the body is not JSON") from None
    if not isinstance(found, dict):
        raise EventRejected(400, "the body is not a JSON object")
    return found, hashlib.sha256(key.encode()).hexdigest()


def _refuse_constant(_name: str) -> None:
    raise ValueError  # NaN and the infinities are no JSON


def _int(digits: str) -> int | None:
    return int(digits) if len(digits) <= _MOST_DIGITS else None


# A string without an end is taken to the last byte at once: read anew from each of its quotes, it would hold all up.
_TOKENS: Final = re.compile(r'"(?:[^"\\]|\\.)*"?|[\[\]{}]', re.DOTALL)
_CLOSED_BY: Final = {"{": "}", "[": "]"}


def _pruned(text: str) -> str:
    """A JSON text without what lies deeper than ``MAX_DEPTH``.

    Raises:
        ValueError: When its brackets do not match.
    """
    kept: list[str] = []
    open_brackets: list[str] = []
    since = 0
    for token in _TOKENS.finditer(text):
        mark = token[0]
        if mark in _CLOSED_BY:
            open_brackets.append(_CLOSED_BY[mark])
            if len(open_brackets) == MAX_DEPTH + 1:
                kept.append(text[since : token.start()])
        elif mark in _CLOSED_BY.values():
            if not open_brackets or open_brackets.pop() != mark:
                raise ValueError  # one too many
            if len(open_brackets) == MAX_DEPTH:
                kept.append("null")
                since = token.end()
    if open_brackets:
        raise ValueError  # one is missing
    return "".join([*kept, text[since:]])


def _change(kind: EventKind, found: Json) -> tuple[Message | Change | None, Noise | None]:
    try:
        match kind:
            case EventKind.MESSAGE:
                return read_message(found), None
            case EventKind.ACK:
                return read_ack(found), None
            case EventKind.DISCONNECTION | EventKind.CONNECTION | EventKind.OTHER | EventKind.REJECTED:
                return None, None
    except NoMessageError as noise:
        return None, noise.reason
    except Exception:  # noqa: BLE001 - a fault of our reader costs no event: it is kept, and the intake says so
        return None, Noise.UNREADABLE


def _is_life(kind: EventKind, name: str | None, found: Json) -> bool:
    """Never echoes, presence, stories or disconnections."""
    match kind:
        case EventKind.CONNECTION:
            return True
        case EventKind.MESSAGE:
            return name == "webhookReceived" and not is_echo(found) and not is_of_story(found)
        case EventKind.ACK:
            return is_ack_of_life(found)
        case EventKind.DISCONNECTION | EventKind.OTHER | EventKind.REJECTED:
            return False


def _kind(name: str | None, found: Json) -> EventKind:
    kind = _NAMES.get(name or "", EventKind.OTHER)
    # An event that denies itself is none we know. A disconnection's body is certain, a connection's is not.
    if kind is EventKind.DISCONNECTION and not is_true(found.get("disconnected", True)):
        return EventKind.OTHER
    if kind is EventKind.CONNECTION and str(found.get("connected")).lower() in ("false", "0"):
        return EventKind.OTHER
    return kind


def _text(value: object) -> str | None:
    """A name or id that a text column can hold: no NUL, no half of a surrogate pair."""
    if not isinstance(value, str) or not value or len(value) > _MAX_NAME or "\x00" in value:
        return None
    return value if value.isascii() or not any("\ud800" <= char <= "\udfff" for char in value) else None


def _external_id(value: object) -> str | None:
    found = _text(value)
    return (found.strip(" ") or None) if found else None  # as btrim does


def _own_phone(found: Json) -> str | None:
    phone, lid = _digits(found.get("connectedPhone")), str(found.get("connectedLid")).partition("@")[0]
    return None if phone == _digits(lid) else phone  # a LID in the phone's place is no phone


def _digits(value: object) -> str | None:
    digits = _PHONE.fullmatch(str(value)) if isinstance(value, str | int) else None
    return digits[1] if digits else None

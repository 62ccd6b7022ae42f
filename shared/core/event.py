"""What a webhook event says, in words that belong to no vendor: the event, its message, the change it makes."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from enum import StrEnum
from typing import Any, Final, Literal, TypeAlias

from pydantic import BaseModel, ConfigDict

from shared.core.previews import Label


class EventKind(StrEnum):
    """What an event can do here: the column ``wapi_webhook_events.kind``."""

    DISCONNECTION = "disconnection"
    CONNECTION = "connection"
    MESSAGE = "message"
    ACK = "ack"
    OTHER = "other"
    REJECTED = "rejected"
    """No event: a body that is no JSON object, kept for an operator to see."""


CONNECTION_KINDS: Final = (EventKind.DISCONNECTION, EventKind.CONNECTION)


class Noise(StrEnum):
    """Why a message event holds no message."""

    ACK_UNREADABLE = "ack_unreadable"
    """It names no message, or a status that we do not know."""
    ACK_OF_OUR_OWN = "ack_of_our_own"
    """The line's owner read or played something on another device, or a device asks for something again."""
    BROADCAST = "broadcast"
    """To a broadcast list of our own: it belongs to nobody alone."""
    CHAT_UNREADABLE = "chat_unreadable"
    EDIT_UNREADABLE = "edit_unreadable"
    EMPTY = "empty"
    HIDDEN = "hidden"
    """It could not be decrypted, and its sender says that nobody need know."""
    NEWSLETTER = "newsletter"
    NO_CHAT = "no_chat"
    NO_MESSAGE_ID = "no_message_id"
    NOT_A_PERSON = "not_a_person"
    """Announcements of WhatsApp, its own bots, calls, other networks."""
    OTHER = "noise"
    """Only fields that are named as noise."""
    PART = "part"
    """A picture of another message: of an event, of an option in a poll."""
    PROTOCOL = "protocol"
    SILENT = "silent"
    """A signal that leaves nothing to see, or one that nobody but its own phone can open."""
    STORY = "story"
    STUB = "stub"
    TWIN = "twin"
    """The same picture again in better quality, or the film of a live photo."""
    UNREADABLE = "unreadable"
    """Our reader failed on it: a fault of ours. Its body is in the inbox."""


class EventOutcome(StrEnum):
    """What became of an event that is no noise: the column ``wapi_webhook_events.outcome``."""

    LOOK = "look"
    """A disconnection, or a connection that does not say whose: one look decides. The event is kept, and not done."""
    LOOK_AGAIN = "look_again"
    """The same, of an event that came before: only the inbox says so, until the look is over."""
    FAILED = "failed"
    """The platform's tables refuse the message. The event is kept, and not done."""

    DUPLICATE = "duplicate"
    UNKNOWN_INSTANCE = "unknown_instance"
    PAUSED = "paused"
    STALE = "stale"
    """Older than the last sign of life."""
    OVERTAKEN = "overtaken"
    """While we looked a newer fact came, or the row became another line's."""
    ALREADY_DISCONNECTED = "already_disconnected"
    LEFT_ALONE = "left_alone"
    """Somebody is pairing the line, nobody ever has, or its company is not active: it has no effect."""
    OWN_RESTART = "own_restart"
    """Our own restart may have sent it; whoever restarted decides."""
    DENIED = "denied"
    """One look said ALIVE."""
    DISCONNECTED = "disconnected"
    DEGRADED = "degraded"
    """One of many at once: the sweep decides."""
    LEFT_TO_SWEEP = "left_to_sweep"
    """The same, of a line that is down already."""
    ALIVE = "alive"
    NO_PHONE = "no_phone"
    """A sign of life that does not say whose."""
    RESTORED = "restored"

    KEPT = "kept"
    """Neither a message nor about the connection."""
    STORED = "stored"
    ALREADY_STORED = "already_stored"
    APPLIED = "applied"
    NOT_NEWER = "not_newer"
    WAITING = "waiting"
    """For the message that it changes."""
    NOT_THEIRS = "not_theirs"
    """An edit or deletion by somebody who is not the message's own side."""


MessageType: TypeAlias = Literal[
    "text", "image", "video", "audio", "document", "sticker", "location", "contact", "poll", "reaction", "button_reply",
    "template", "list", "order", "product", "payment", "event", "invite", "unsupported",
]  # fmt: skip
"""The column ``wapi_messages.message_type``, as we write it."""
AckStatus: TypeAlias = Literal["pending", "sent", "delivered", "read", "error"]
Mark: TypeAlias = Literal["edited", "pinned", "kept"]
"""What a message can be marked as in its ``metadata``, beside the deletion."""


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, defer_build=True)


class Who(_Frozen):
    """Between whom a message is.

    Attributes:
        from_me: Sent by the line, not to it.
        group: The group's address, None in a direct chat.
        phone: The other side's number in a direct chat, None if the event does not give it; never a LID.
        lid: The other side's hidden identity (``…@lid``), None if the event does not give it.
        sender_phone: Who wrote in a group, None if it is not said or was the line.
        sender_lid: The same one's hidden identity.
        is_dialled: The address is what was dialled through the API, not what WhatsApp wrote.
    """

    from_me: bool
    group: str | None
    phone: str | None
    lid: str | None
    sender_phone: str | None = None
    sender_lid: str | None = None
    is_dialled: bool = False


class Message(Who):
    """A message to store, once.

    Attributes:
        do: Always ``store``.
        message_id: The provider's.
        contact_name: Of the person or the group.
        contact_picture: Its address.
        type: What kind of thing it is.
        label: What a list of conversations calls it when it has no text, None for the type's own.
        content: Text or caption, None without one.
        media_url: As delivered.
        media_key: In base64.
        media_direct_path: As delivered.
        quoted_message_id: The message that this one answers.
        metadata: What else is worth keeping. ``stub`` says that the message itself may still come under this id.
    """

    do: Literal["store"] = "store"
    message_id: str
    contact_name: str | None
    contact_picture: str | None
    type: MessageType
    label: Label | None = None
    content: str | None
    media_url: str | None = None
    media_key: str | None = None
    media_direct_path: str | None = None
    quoted_message_id: str | None = None
    metadata: dict[str, Any]


class Change(_Frozen):
    """A change of a message that may not be there yet, or of what is known about somebody.

    Attributes:
        do: What to do; ``learn`` (whose LID it is) and ``rename`` (a group) change no message.
        message_id: Which message, None where it is none.
        status: Of an ack.
        content: Of an edit: the new text. Of a reaction: the emoji, empty when it is taken back. Of a group: its name.
        mark: Of a mark: which one.
        is_on: Of a mark: whether it is set or taken away.
        at: When the sender did it, by its own clock, None if it does not say: the event's moment counts.
        event_message_id: Of a reaction: its own id.
        sender_name: Of a reaction: who reacted.
        who: Between whom; of an edit or deletion: only the message's own side may change it.
    """

    do: Literal["ack", "edit", "delete", "react", "mark", "learn", "rename"]
    message_id: str | None = None
    status: AckStatus | None = None
    content: str | None = None
    mark: Mark | None = None
    is_on: bool | None = None
    at: datetime | None = None
    event_message_id: str | None = None
    sender_name: str | None = None
    who: Who | None = None


@dataclass(frozen=True, slots=True)
class Event:
    """An event, read as far as this project needs it.

    Attributes:
        key: Equal for equal bodies, whatever their spacing and key order.
        name: The provider's name of it, None without one.
        kind: What it can do.
        external_id: The provider's id of the line, trimmed, None without a usable one.
        moment: When it happened, by the provider's clock, None without a usable one.
        phone: The line's own number, 10 to 15 digits, None without a valid one.
        is_life: Whether it proves that the line's session works, with a phone and a moment that fit.
        change: The message it brings or changes, None without one.
        noise: Why a message event holds no message.
        body: The JSON text as it came.
    """

    key: str
    name: str | None
    kind: EventKind
    external_id: str | None
    moment: datetime | None
    phone: str | None
    is_life: bool
    change: Message | Change | None
    noise: Noise | None
    body: str

    def said_by(self, external_id: str) -> Event | None:
        """The event as that line's own, whose key it came with; None when it names another line."""
        if self.external_id is None:
            # Equal bodies of two lines are two events.
            return replace(self, external_id=external_id, key=f"{self.key}@{external_id}")
        return self if self.external_id == external_id else None

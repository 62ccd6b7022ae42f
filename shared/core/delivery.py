"""Messages for further channels, as values: what is claimed, what is sent, what a channel answers. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import Annotated, Any, Final, Literal
from uuid import UUID

from pydantic import AwareDatetime, Field, SecretStr

from shared.core.alerts import words_of
from shared.core.model import Row
from shared.core.notices import title_of_several

EMAIL: Final = "email"
WHATSAPP: Final = "whatsapp"
OPERATOR: Final = "operator"
_ASKED_TO_WAIT: Final = "http_429"


class SendResult(StrEnum):
    """How a try to send ended: ``p_result`` of ``finish_delivery``."""

    SENT = "sent"
    """The channel said yes."""
    REFUSED = "refused"
    """It said no, or was not reached: nobody has the message."""
    UNCLEAR = "unclear"
    """Its answer was not heard: somebody may have the message."""
    NOT_TRIED = "not_tried"
    """There was no time, or the channel has just failed."""


@dataclass(frozen=True, slots=True)
class SendAnswer:
    """What came of a try.

    Attributes:
        result: How it ended.
        cause: A constant word, when it was not sent; never a part of an address or an answer.
        message_id: The channel's own, if it gives one.
    """

    result: SendResult
    cause: str | None = None
    message_id: str | None = None

    @property
    def ends_round(self) -> bool:
        """Whether the channel is to be left alone for now: it was not heard, or asks to wait."""
        return self.result is SendResult.UNCLEAR or self.cause == _ASKED_TO_WAIT


@dataclass(frozen=True, slots=True)
class Post:
    """A message as a channel takes it.

    Attributes:
        id: The same for every try of the same message.
        title: One line.
        text: Lines.
        facts: The same for machines.
    """

    id: str
    title: str
    text: str
    facts: tuple[dict[str, Any], ...] = ()


class SendingLine(Row):
    """The platform's line that sends alerts; as much of a line as a provider must know."""

    id: UUID
    external_id: str
    token: SecretStr
    last_event_at: AwareDatetime | None = None


class Item(Row):
    """One occasion of a message: a notice's title and text, or an alert's cause and details."""

    occasion: str
    kind: str
    title: str | None
    message: str | None
    cause: str | None
    details: dict[str, Any]

    @property
    def words(self) -> tuple[str, str]:
        """Title and text."""
        if self.cause is not None:
            return words_of(self.cause, self.details, is_over=self.kind == "resolved")
        return self.title or "", self.message or ""


class OutgoingMessage(Row):
    """What is due for one contact, leased: one message, whatever number of lines it is about."""

    batch: int
    ids: list[int]
    lease: AwareDatetime
    contact_id: UUID
    channel: Literal["email", "whatsapp", "operator"]
    address: SecretStr
    items: Annotated[list[Item], Field(min_length=1)]

    @property
    def key(self) -> str:
        """What fails together: a company's channel as a whole, each of the operator's alone."""
        return f"{OPERATOR}:{self.address.get_secret_value()}" if self.channel == OPERATOR else self.channel

    def post(self) -> Post:
        """As a channel takes it."""
        told = [(item, *item.words) for item in self.items]
        titles = list(dict.fromkeys(title for _, title, _ in told))
        title = titles[0] if len(told) == 1 else title_of_several(titles, len(told))
        facts = tuple(
            {"occasion": item.occasion, "kind": item.kind, "cause": item.cause, "title": title, "text": text}
            for item, title, text in told
        )
        return Post(f"alert-{self.batch}", title, "\n".join(text for _, _, text in told), facts)


class ClaimedMessages(Row):
    """``dead``: channels that begin to count as dead; ``line``: who sends what goes by WhatsApp, if it may.

    ``more``: contacts are left that nobody has looked at.
    """

    messages: list[OutgoingMessage]
    more: bool = False
    line: SendingLine | None = None
    dead: list[str]
    given_up: int
    cancelled: int

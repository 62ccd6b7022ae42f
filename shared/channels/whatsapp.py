"""A text by WhatsApp from the platform's own line. What the provider calls sent is queued: acks tell the rest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import timedelta

    from pydantic import SecretStr

    from shared.core.delivery import Post, SendAnswer, SendingLine


class Texter(Protocol):
    """A provider that can send a text."""

    async def send_text(self, line: SendingLine, phone: SecretStr, text: str, *, within: timedelta) -> SendAnswer:
        """Queue one text, once; never raises."""


class WhatsAppChannel:
    """The line that the claim has found fit to send, for this claim alone."""

    def __init__(self, texter: Texter, line: SendingLine) -> None:
        self._texter = texter
        self._line = line

    async def send(self, address: SecretStr, post: Post, *, within: timedelta) -> SendAnswer:
        """Send title and text as one; see ``Channel``."""
        return await self._texter.send_text(self._line, address, text_of(post), within=within)


def text_of(post: Post) -> str:
    """A message as WhatsApp shows it, its title in bold."""
    return f"*{post.title}*\n{post.text}"

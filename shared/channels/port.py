"""What a channel must be able to do."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from datetime import timedelta

    from pydantic import SecretStr

    from shared.core.delivery import Post, SendAnswer


class Channel(Protocol):
    """Sends messages. It never raises what its other side does, and neither logs nor answers an address."""

    async def send(self, address: SecretStr, post: Post, *, within: timedelta) -> SendAnswer:
        """Send one message, once.

        Called with a lease on the message. Only what its other side has said is SENT; what was surely not taken is
        REFUSED, and everything else is UNCLEAR.

        Args:
            address: To whom; a channel with one receiver of its own looks at no address.
            post: What.
            within: For everything, from the connection to the answer.
        """

"""The port: what a gateway must be able to do for us, when each method is called, and what it may not do.

A provider is asked about a line and told to restart it; it answers in the words of ``core.look`` and never raises. It
finds its server and its credentials itself: a hosted vendor has one address for all lines, a self-hosted gateway one
address and key for each of its servers. What asks one server shares one pacer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime, timedelta
    from typing import Self
    from uuid import UUID

    from pydantic import SecretStr

    from shared.core.look import Look, RestartAnswer
    from shared.core.registration import Registration, SettingWebhooks, Unanswered, WebhookKind
    from shared.core.subscription import Subscription


class Line(Protocol):
    """What a provider is told of a line."""

    @property
    def id(self) -> UUID:
        """Ours; a provider never sends it anywhere."""

    @property
    def external_id(self) -> str:
        """The provider's id, trimmed."""

    @property
    def token(self) -> SecretStr | None:
        """The line's own token: goes into a request's headers or body, and nowhere else."""

    @property
    def last_event_at(self) -> datetime | None:
        """When the line last sent a sign of life."""


class Pacer(Protocol):
    """Knows when a server wants to be left alone."""

    @property
    def round(self) -> int:
        """Read before a request is sent, and handed to ``refused`` if it is refused."""

    async def ready(self) -> bool:
        """Called before each look's request: wait until the server may be asked; False if that is too late."""

    def refused(self, line: UUID, wait: timedelta | None, *, began_in: int) -> None:
        """Called when the server has asked to wait.

        Args:
            line: About which line it was asked.
            wait: For how long, None if it did not say.
            began_in: ``round`` when the request was sent.
        """


class Unpaced:
    """For a single look, which has no time to wait."""

    round = 0

    async def ready(self) -> bool:
        """Let it go at once."""
        return True

    def refused(self, line: UUID, wait: timedelta | None, *, began_in: int) -> None:
        """Nobody asks again."""


class Provider(Protocol):
    """A gateway. Every method answers within its time and none raises: what went wrong is UNKNOWN or UNCLEAR."""

    def paced_by(self, pacer: Pacer) -> Self:
        """The same provider, asked only when ``pacer`` says so. Called once a sweep, before anything is asked."""

    async def look(self, line: Line, *, within: timedelta) -> Look:
        """Ask about a line once.

        Called for every due line in every sweep, for a disconnection event, and after a restart. It may have no effect
        on the line: no connect verb, no QR code, nothing that a session could notice.

        Args:
            line: About which line.
            within: For all requests of the look together, pauses aside.
        """

    async def restart(self, line: Line, *, within: timedelta) -> RestartAnswer:
        """Ask for a restart, once.

        Called only with a claim in the database that allows it, which is older than the request: it may not wait for a
        pause, and nothing below it may send the request a second time.
        """


class Registrar(Protocol):
    """What a provider keeps of a line beside its session; an ability of its own. Nothing here raises either.

    Called by the housekeeping, some lines at once and one call after another of each line, and by the doctor. An answer
    that asks to wait ends the round: nothing is asked of anybody until the next one.
    """

    async def registration(self, line: Line, *, within: timedelta) -> Registration | Unanswered:
        """Ask where the line's events are posted. Without effect on the line; the answer's token stays unread."""

    async def set_webhooks(
        self, line: Line, kinds: Sequence[WebhookKind], url: str, *, within: timedelta
    ) -> SettingWebhooks:
        """Have events of these kinds posted to ``url``, one call after another, and read back what there is then.

        Called once our own address has taken the key in ``url``. It may be repeated, and disturbs no session.

        Args:
            line: Whose.
            kinds: Which, in this order; the first that fails ends it.
            url: With the line's key.
            within: For each call.
        """

    async def subscription(self, line: Line, *, within: timedelta) -> Subscription | Unanswered:
        """Ask until when the line is paid for. Called once a day; a form that is not known is no answer."""

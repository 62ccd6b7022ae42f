"""Mail and everything else that apprise knows. apprise is imported when something is due, and says nothing in our log.

apprise answers yes or no and works in a thread: what takes too long is left to itself, and nobody hears its answer. Its
reference: https://github.com/caronc/apprise/wiki, "Development_API". Each channel has threads of its own: a server that
drips words for ever keeps those, and no other channel's.
"""

from __future__ import annotations

import asyncio
import logging
import threading
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from shared.core.delivery import SendAnswer, SendResult

if TYPE_CHECKING:
    from datetime import timedelta
    from types import ModuleType

    from pydantic import SecretStr

    from shared.core.delivery import Post

_THREADS: Final = 16
"""Of one channel, those included that a server keeps for ever."""
MAIL_SCHEMES: Final = ("mailto", "mailtos")
_CHATTY: Final = ("apprise", "requests", "requests_oauthlib", "oauthlib", "urllib3", "charset_normalizer")


class AppriseChannel:
    """An address of apprise's own form, such as ``tgram://…`` or ``mailtos://user:password@host?from=…``.

    Args:
        url: With its secrets.
        to_contacts: It is a mail server's, and whom it writes to is each message's own address.
    """

    def __init__(self, url: SecretStr, *, to_contacts: bool = False) -> None:
        self._url = url
        self._to_contacts = to_contacts
        self._places = threading.Semaphore(_THREADS)

    async def send(self, address: SecretStr, post: Post, *, within: timedelta) -> SendAnswer:
        """Send in a thread, whose sockets give up at about the same time; see ``Channel``."""
        if not self._places.acquire(blocking=False):
            return SendAnswer(SendResult.NOT_TRIED, "threads_hang")
        seconds = within.total_seconds()
        loop = asyncio.get_running_loop()
        answered: asyncio.Future[SendAnswer] = loop.create_future()

        def work() -> None:
            try:
                came: SendAnswer | Exception = self._send(address, post, seconds)
            except Exception as error:  # noqa: BLE001 - raised where somebody waits
                came = error
            finally:
                self._places.release()
            with suppress(RuntimeError):  # the loop has ended
                loop.call_soon_threadsafe(_answer, answered, came)

        threading.Thread(target=work, name="apprise", daemon=True).start()
        try:
            async with asyncio.timeout(seconds):
                return await answered
        except TimeoutError:
            return SendAnswer(SendResult.UNCLEAR, "timeout")

    def _send(self, address: SecretStr, post: Post, seconds: float) -> SendAnswer:
        apprise = _quiet_apprise()
        parts = apprise.plugins.url_to_dict(self._url.get_secret_value(), secure_logging=True)
        if not isinstance(parts, dict):
            return SendAnswer(SendResult.REFUSED, "unusable_url")
        if self._to_contacts:
            parts |= {"targets": [address.get_secret_value()], "cc": None, "bcc": None}
        # Where a service takes no more in one message (Telegram 4,096 characters) there are several.
        service = apprise.Apprise.instantiate(
            parts | {"cto": seconds, "rto": seconds, "retry": 0, "overflow": apprise.OverflowMode.SPLIT}
        )
        if service is None:
            return SendAnswer(SendResult.REFUSED, "unusable_url")
        if self._to_contacts and [str(each[-1]).lower() for each in service.targets] != [
            address.get_secret_value().lower()
        ]:
            # It cuts off what it does not understand, and would write to somebody else.
            return SendAnswer(SendResult.REFUSED, "unusable_address")
        # The plugin's own wait between messages is for floods, which we do not send.
        service.request_rate_per_sec = 0
        said_yes = service.notify(
            title=post.title, body=post.text, notify_type=apprise.NotifyType.INFO, body_format=apprise.NotifyFormat.TEXT
        )
        if said_yes:
            return SendAnswer(SendResult.SENT)
        # Of several targets one no is a no of all to it: some may have got it.
        return (
            SendAnswer(SendResult.UNCLEAR, "in_part") if len(service) > 1 else SendAnswer(SendResult.REFUSED, "refused")
        )


def _answer(answered: asyncio.Future[SendAnswer], came: SendAnswer | Exception) -> None:
    if answered.done():
        return  # nobody waits any more
    if isinstance(came, Exception):
        answered.set_exception(came)
    else:
        answered.set_result(came)


def _quiet_apprise() -> ModuleType:
    """Import apprise, which costs half a second and megabytes, without a word of it or below it in any log."""
    _silence()  # it speaks while it is imported
    import apprise  # noqa: PLC0415 - see above

    _silence()
    return apprise


def _silence() -> None:
    for name in _CHATTY:
        logger = logging.getLogger(name)
        logger.setLevel(logging.CRITICAL + 1)
        logger.propagate = False

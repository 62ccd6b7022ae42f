"""``--send``: one message to the line's own number, followed to the database; then one that our address refuses.

The second answers whether the provider's log holds what was not delivered. While it lasts the three webhooks of
messages point to our own address with a key that opens nothing: no stranger gets an event, and whoever finds it so
(``--fix-webhooks``) knows it for ours and sets it right. What was there before is put back whatever happens; whoever
kills this has a sweep do it, which was asked before.
"""

from __future__ import annotations

import asyncio
import re
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Any, Final, TypeVar

from ops.common import interrupted
from ops.common.rows import Row
from ops.common.shown import counted
from ops.doctor.contract import beliefs
from ops.doctor.contract.walk import log_pages
from shared.core.event import EventKind
from shared.core.registration import Registration, Unanswered, WebhookKind
from shared.errors import StoreError
from shared.providers.wapi.names import read_own_phone
from shared.providers.wapi.webhooks import read_update, update_call

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
    from datetime import datetime

    from ops.common.rest import Rest
    from ops.doctor.contract.deliveries import Page
    from ops.doctor.contract.walk import Answered, Asker, Walked
    from shared.core.registration import Target
    from shared.providers.wapi.client import WapiClient

TEXT: Final = "Mensagem de teste do sistema: esta linha envia e recebe. Não é preciso fazer nada."
"""What the venue sees in the chat with itself."""
TURNED: Final = (WebhookKind.DELIVERY, WebhookKind.MESSAGE_STATUS, WebhookKind.RECEIVED)
"""Those of messages: a disconnection is heard all the while."""
_WRONG_KEY: Final = "contract-walk"
_MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9_.:-]{6,64}")
_IDS: Final = ("messageId", "insertedId")
_Told = TypeVar("_Told")


@dataclass(frozen=True, slots=True)
class Waits:
    """How long what is waited for.

    Attributes:
        path: For echo and ack to come through.
        wrong: How long our address refuses.
        late: After it is right again, for what comes a second time.
        poll: Between two questions.
        put_back: Before each try to put the address back.
    """

    path: timedelta = timedelta(seconds=90)
    wrong: timedelta = timedelta(minutes=2)
    late: timedelta = timedelta(seconds=30)
    poll: timedelta = timedelta(seconds=1)
    put_back: tuple[timedelta, ...] = tuple(timedelta(seconds=each) for each in (0, 1, 3, 10, 20, 30, 60, 60))


class _Arrived(Row):
    """An event that came in, without its body."""

    table = "wapi_webhook_events"

    id: int
    event: str | None
    kind: str
    outcome: str | None


class _Stored(Row):
    """A message, without its content."""

    table = "wapi_messages"

    id: Any
    status: str | None
    from_me: bool | None


@dataclass(frozen=True, slots=True)
class PathFound:
    """How far a message came.

    Attributes:
        sent: Whether the provider took it.
        echo: Seconds until its echo was in our inbox; None = it did not come.
        ack: The same of its first ack.
        events: By name: what came for it.
        named_by: Which key of the answer of send-text names it in the events.
        stored: Its status in ``wapi_messages``; None = no such row.
        cause: Why it could not be followed.
        message_id: Its id in our inbox; never shown.
    """

    sent: bool
    echo: float | None = None
    ack: float | None = None
    events: tuple[str, ...] = ()
    named_by: str | None = None
    stored: str | None = None
    cause: str | None = None
    message_id: str | None = field(default=None, repr=False)

    @property
    def is_proven(self) -> bool:
        """The whole path: out, back as an echo and as an ack, and into the table that the platform shows."""
        return self.echo is not None and self.ack is not None and self.stored not in (None, "error")


@dataclass(frozen=True, slots=True)
class RefusedFound:
    """What became of a message whose events our address refused.

    Attributes:
        in_log: Whether the provider's log holds an event of it; None = that was not learnt.
        came_late: Whether one came by itself once the address was right again.
        cause: Why nothing was learnt.
    """

    in_log: bool | None = None
    came_late: bool = False
    cause: str | None = None


@dataclass(slots=True)
class Turned:
    """What was done so far: known at every moment, whatever ends the walk.

    Attributes:
        kinds: The webhooks that point to the wrong key now.
        was_turned: Whether any ever did.
        messages: How many may have been sent.
    """

    kinds: list[WebhookKind] = field(default_factory=list)
    was_turned: bool = False
    messages: int = 0

    @property
    def says(self) -> str:
        """For whoever ended it."""
        if self.kinds:
            return (
                f"the webhooks {', '.join(self.kinds)} of this line could NOT be put back and refuse its events: "
                "run the doctor with --fix-webhooks and --line now"
            )
        sent = f"{counted(self.messages, 'message')} went to the line's own number; " if self.messages else ""
        return f"{sent}the right address was put back" if self.was_turned else f"{sent}nothing was changed"


@dataclass(frozen=True, slots=True)
class Sender:
    """Sends and follows.

    Args:
        asker: Asks the provider about the line.
        client: Sets its webhooks.
        rest: Our tables.
        target: Where webhooks must point to.
        registration: Where they did before.
        phone: The line's own number.
        within: For one call.
        waits: See there.
        turned: See there.
        say: Tells the operator what goes on.
    """

    asker: Asker
    client: WapiClient
    rest: Rest
    target: Target
    registration: Registration
    phone: str
    within: timedelta
    waits: Waits
    turned: Turned
    say: Callable[[str], object]

    async def prove_path(self) -> tuple[Answered, PathFound]:
        """Send one message and wait until its echo and its ack are in the database."""
        since = self.rest.now()
        answered, ids, cause = await self._send()
        if not ids:
            return answered, PathFound(sent=False, cause=cause)
        self.say(f"sent; waiting for echo and ack, at most {self.waits.path.total_seconds():.0f} s")
        clock = asyncio.get_running_loop().time
        began = clock()
        echo = ack = named_by = None
        arrived: list[_Arrived] = []
        async for _ in self._until(self.waits.path):
            for key, message_id in ids.items():
                if found := await self._arrived(message_id, since):
                    arrived, named_by = found, key
                    break
            kinds = {event.kind for event in arrived}
            echo = clock() - began if echo is None and EventKind.MESSAGE in kinds else echo
            ack = clock() - began if ack is None and EventKind.ACK in kinds else ack
            if echo is not None and ack is not None:
                break
        message_id = ids[named_by or next(iter(ids))]
        stored = await self.rest.rows(_Stored, ("message_id", f"eq.{message_id}"), most=1)
        names = tuple(sorted({_known_event(event.event) for event in arrived}))
        return answered, PathFound(
            sent=True,
            echo=_rounded(echo),
            ack=_rounded(ack),
            events=names,
            named_by=named_by,
            stored=_known_status(stored[0].status) if stored else None,
            cause=None if arrived else "no event of it came",
            message_id=message_id,
        )

    async def ask_log(self, delivered: str) -> tuple[list[Answered], RefusedFound]:
        """Let our address refuse one message's events, put it right, and look for them in the provider's log.

        Args:
            delivered: The id of a message whose events came through: where the log does not show that one either, its
                silence about the other says nothing.
        """
        since = self.rest.now()
        answers: list[Answered] = []
        try:
            await self._ask_sweeps()
        except StoreError as error:
            return answers, RefusedFound(cause=f"no sweep could be asked to put the address right after it: {error}")
        async with self._refusing(answers) as failed:
            if failed:
                return answers, RefusedFound(cause=f"the address could not be changed: {failed}")
            answered, ids, cause = await self._send()
            answers.append(answered)
            if ids:
                self.say(f"sent; our address refuses its events for {self.waits.wrong.total_seconds():.0f} s")
                await asyncio.sleep(self.waits.wrong.total_seconds())
        if self.turned.kinds:
            return answers, RefusedFound(cause="the right address could not be put back")
        if not ids:
            return answers, RefusedFound(cause=cause)
        if await self._any_arrived(ids, since):
            return answers, RefusedFound(cause="its events came in all the same: the new address had no effect yet")
        late = False
        async for _ in self._until(self.waits.late):
            late = await self._any_arrived(ids, since)
            if late:
                break
        asked, pages = await log_pages(self.asker)
        answers += asked
        return answers, _read_silence(pages, ids, delivered, late=late)

    async def _send(self) -> tuple[Answered, dict[str, str], str | None]:
        """Send the message, once whatever comes of it; answer its ids by the keys that hold them."""
        self.turned.messages += 1
        answered, _, parsed = await self.asker.ask(beliefs.SEND, body={"phone": self.phone, "message": TEXT}, once=True)
        found = parsed if isinstance(parsed, dict) else {}
        if answered.status is None:
            return answered, {}, f"send-text gave no answer ({answered.cause}); whether it was sent is not known"
        if answered.status not in beliefs.SEND.statuses or found.get("error") is True:
            return answered, {}, f"send-text refused (HTTP {answered.status})"
        ids: dict[str, str] = {}
        for key in _IDS:
            told = found.get(key)
            if isinstance(told, str) and _MESSAGE_ID.fullmatch(told) and told not in ids.values():
                ids[key] = told
        return answered, ids, None if ids else "send-text names no message that could be followed"

    async def _arrived(self, message_id: str, since: datetime) -> list[_Arrived]:
        return await self.rest.rows(
            _Arrived,
            ("received_at", f"gte.{(since - timedelta(minutes=1)).isoformat()}"),
            ("external_id", f"eq.{self.asker.line.external_id}"),
            ("body", f'like.*"{message_id}"*'),
            most=50,
        )

    async def _any_arrived(self, ids: Mapping[str, str], since: datetime) -> bool:
        return any([await self._arrived(message_id, since) for message_id in ids.values()])

    async def _until(self, limit: timedelta) -> AsyncIterator[None]:
        clock = asyncio.get_running_loop().time
        end = clock() + limit.total_seconds()
        while True:
            yield
            if clock() >= end:
                return
            await asyncio.sleep(self.waits.poll.total_seconds())

    async def _ask_sweeps(self) -> None:
        """Have the line's registration set again, whatever it is, by the first sweep after all this should be over."""
        over_at = self.rest.now() + sum(self.waits.put_back, self.waits.wrong)
        arguments = {"p_instance": str(self.asker.line.id), "p_pause": "0 seconds", "p_now": over_at.isoformat()}
        await self.rest.call("request_registration", arguments)

    @asynccontextmanager
    async def _refusing(self, answers: list[Answered]) -> AsyncIterator[str | None]:
        """Our address refuses while this lasts; yields why it could not be made so."""
        with interrupted.once():
            try:
                yield await self._turn(answers)
            finally:
                with interrupted.held():
                    await self._put_back()

    async def _turn(self, answers: list[Answered]) -> str | None:
        wrong = f"{self.target.url}/?key={_WRONG_KEY}"
        self.turned.was_turned = True
        for kind in TURNED:
            self.turned.kinds.append(kind)  # before it is sent: a call without an answer may have had its effect
            call = self.asker.ask(beliefs.UPDATE, path=update_call(kind), body={"value": wrong})
            answered, answer, _ = await _to_its_end(call)
            answers.append(answered)
            failed = read_update(answer) if answer is not None else Unanswered(answered.cause or "")
            if failed is not None:
                return failed.cause
        return None

    async def _put_back(self) -> None:
        right = self.registration.urls
        for wait in self.waits.put_back:
            await asyncio.sleep(wait.total_seconds())
            found: Registration | Unanswered | None = None
            for url in {right[kind] for kind in self.turned.kinds}:
                kinds = [kind for kind in self.turned.kinds if right[kind] == url]
                found = (await self.client.set_webhooks(self.asker.line, kinds, url, within=self.within)).found
            if isinstance(found, Registration):
                self.turned.kinds[:] = [kind for kind in self.turned.kinds if found.urls.get(kind) != right[kind]]
            if not self.turned.kinds:
                return
            self.say("the right address is not back yet; trying again")


async def _to_its_end(call: Coroutine[Any, Any, _Told]) -> _Told:
    """Wait for a call's end even if somebody ends us: else it could have its effect after what puts it right."""
    task = asyncio.ensure_future(call)
    try:
        return await asyncio.shield(task)
    except asyncio.CancelledError:
        await asyncio.wait((task,))
        raise


def _read_silence(pages: list[Page], ids: Mapping[str, str], delivered: str, *, late: bool) -> RefusedFound:
    if not pages:
        return RefusedFound(came_late=late, cause="the log could not be read")
    if any(page.holds(message_id) for page in pages for message_id in ids.values()):
        return RefusedFound(in_log=True, came_late=late)
    if not any(page.holds(delivered) for page in pages):
        return RefusedFound(came_late=late, cause="the pages that were read do not show the delivered message either")
    return RefusedFound(in_log=False, came_late=late)


def why_not(
    walked: Walked, target: Target | None, *, takes_key: bool, wrong: Mapping[WebhookKind, object] | None
) -> str | None:
    """Why nothing can be proved by sending; None = it can.

    Args:
        walked: What was seen.
        target: Where webhooks must point to; None = nobody said.
        takes_key: Whether the function at that address takes the line's key.
        wrong: The webhooks that do not point there; None = not known.
    """
    if target is None:
        return "WEBHOOK_URL and WAPI_WEBHOOK_SECRETS are missing: nothing would be followed"
    if not takes_key:
        return "wapi_webhook does not take the line's key: deploy it first (make doctor says more)"
    if walked.registration is None or wrong is None:
        return "where the line's webhooks point to could not be read"
    if any(kind in wrong or not walked.registration.urls.get(kind) for kind in TURNED):
        return "the line's webhooks do not point to us: run the doctor with --fix-webhooks first"
    if own_number(walked) is None:
        return "the line is not connected, or device does not show its number"
    return None


def own_number(walked: Walked) -> str | None:
    """The line's own number."""
    return read_own_phone((walked.device or {}).get("connectedPhone"))


def _known_event(name: str | None) -> str:
    return name if name in beliefs.EVENT_NAMES else "another name"


def _known_status(status: str | None) -> str:
    return status if status in ("pending", "sent", "delivered", "read", "received", "error") else "another status"


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 1)

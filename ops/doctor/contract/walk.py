"""The walk: every call that we use and that changes nothing, one after another, each answer reduced to its shape."""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from pydantic import SecretStr

from ops.common.shown import counted
from ops.doctor.contract import beliefs
from ops.doctor.contract.beliefs import Belief, Form
from ops.doctor.contract.compare import Difference, differences
from ops.doctor.contract.deliveries import LogFound, Page, describe, read_page
from ops.doctor.contract.shape import Names, Shape, kind_of, shape_of, texts_in
from shared.core.registration import Registration
from shared.core.subscription import Subscription
from shared.providers.answer import HttpAnswer
from shared.providers.wapi.answers import read_device, read_sent, read_status
from shared.providers.wapi.names import has_form
from shared.providers.wapi.payments import read_payment
from shared.providers.wapi.webhooks import read_registration

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from ops.doctor.facts import LineRow
    from shared.providers.limiter import Limiter
    from shared.providers.wapi.client import WapiClient

PAGES: Final = 4
"""Of the log: two calls more than to learn whether there are pages, and no more than a minute allows."""
_NOBODYS_TOKEN: Final = "a-token-that-nobody-has"  # noqa: S105 - it opens nothing
_NOBODYS_LINE: Final = "LITE-NOBODY-NOBODY"
_MEDIA: Final = ("application/json", "text/html", "text/plain", "image/png")
_SHORTEST_SECRET: Final = 16
_DIGITS_OF_A_PHONE: Final = 8


@dataclass(frozen=True, slots=True)
class Answered:
    """What came of one call.

    Attributes:
        belief: About it.
        status: HTTP's; None when there was no answer.
        cause: Why there was none, in one constant word.
        media: The type of its content, if it is one that we know.
        form: Of the body.
        took_ms: Until the last byte, without waits.
        waited: How often the provider asked to wait.
        shape: Of the body.
        read_as: What our own reader makes of it.
        differences: Between it and what is believed.
    """

    belief: Belief
    status: int | None
    cause: str | None
    media: str
    form: Form | None
    took_ms: int
    waited: int
    shape: Shape
    read_as: str
    differences: tuple[Difference, ...]


@dataclass(slots=True)
class Secrets:
    """Every text that came from the provider or belongs to the line: held in memory, so that none of it is shown."""

    texts: set[str] = field(default_factory=set)

    def add(self, *texts: str | None) -> None:
        """Remember some."""
        self.texts.update(text.strip() for text in texts if text and text.strip())

    @property
    def names(self) -> Names:
        """Which keys may be shown."""
        return Names(beliefs.KNOWN_NAMES, frozenset(text.lower() for text in self.texts))

    def leaked_into(self, text: str) -> bool:
        """Whether a text shows one of them that is long enough to be told from a word of ours."""
        lower = text.lower()
        return any(_is_telling(secret) and secret.lower() in lower for secret in self.texts)


def _is_telling(secret: str) -> bool:
    if kind_of(secret) in ("text: ISO moment", "text: Brazilian date"):
        return False  # what is told to the minute may stand in an answer as well
    if " " in secret:
        return len(secret) >= _SHORTEST_SECRET
    if sum(letter.isdigit() for letter in secret) >= _DIGITS_OF_A_PHONE:
        return True
    return len(secret) >= _SHORTEST_SECRET and any(letter.isdigit() for letter in secret)


class Asker:
    """Asks the provider about one line, a call at a time, and waits where it asks to wait.

    Args:
        client: The provider.
        limiter: Knows when it wants to be left alone.
        line: About which.
        within: For one request.
        secrets: What may not be shown; grows with each answer.
    """

    def __init__(
        self, client: WapiClient, limiter: Limiter, line: LineRow, within: timedelta, secrets: Secrets
    ) -> None:
        self._client = client.paced_by(limiter)
        self._limiter = limiter
        self._within = within
        self.line = line
        self.secrets = secrets
        self.secrets.add(line.external_id, line.token.get_secret_value() if line.token else None, line.unit)
        self.connected: bool | None = None

    async def ask(
        self,
        belief: Belief,
        *,
        path: str | None = None,
        line: LineRow | None = None,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, str] | None = None,
        once: bool = False,
    ) -> tuple[Answered, HttpAnswer | None, Any]:
        """Make one call.

        Args:
            belief: About it.
            path: Another one than the belief's.
            line: As whom; the line itself if nothing is said.
            query: Instead of the belief's.
            body: Sent as JSON.
            once: Not even repeated where the provider asks to wait: it may have done what was asked.

        Returns:
            What may be shown of it; the answer; its JSON.
        """
        asked_as, waited = line or self.line, 0
        clock = asyncio.get_running_loop().time
        while True:
            await self._limiter.ready()
            began = clock()
            answer = await self._client.answer(
                belief.method,
                path or belief.path,
                asked_as,
                within=self._within,
                query=query or belief.query,
                body=body,
            )
            took_ms = round((clock() - began) * 1000)
            waits = isinstance(answer, HttpAnswer) and answer.asks_to_wait and not once
            if not waits or not await self._limiter.may_ask_again(asked_as.id):
                break
            waited += 1
        if not isinstance(answer, HttpAnswer):
            nothing = Answered(belief, None, answer.cause, "", None, took_ms, waited, Shape(), "no answer", ())
            return nothing, None, None
        form, parsed = _parsed(answer)
        self.secrets.add(*texts_in(parsed))
        shape = shape_of(parsed, self.secrets.names) if parsed is not None else Shape()
        says_error = answer.status == HTTPStatus.OK and isinstance(parsed, dict) and parsed.get("error") is True
        found = differences(
            belief, status=answer.status, form=form, says_error=says_error, shape=shape, connected=self.connected
        )
        media = (
            answer.content_type if answer.content_type in _MEDIA else "another type" if answer.content_type else "none"
        )
        read_as = _read_as(belief, answer, asked_as)
        return (
            Answered(belief, answer.status, None, media, form, took_ms, waited, shape, read_as, tuple(found)),
            answer,
            parsed,
        )


def _parsed(answer: HttpAnswer) -> tuple[Form, Any]:
    if not answer.body.strip():
        return Form.EMPTY, None
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        return (Form.HTML if answer.is_html else Form.OTHER), None
    return (Form.OBJECT if isinstance(found, dict) else Form.LIST if isinstance(found, list) else Form.JSON), found


def _read_as(belief: Belief, answer: HttpAnswer, line: LineRow) -> str:
    """What our own readers make of it, in their own constant words."""
    match belief:
        case beliefs.STATUS | beliefs.WRONG_TOKEN | beliefs.UNKNOWN_LINE | beliefs.NO_ROUTE:
            look = read_status(answer, external_id=line.external_id)
            return f"{look.observation} ({look.cause})"
        case beliefs.DEVICE:
            return str(read_device(answer))
        case beliefs.REGISTRATION:
            found = read_registration(answer, external_id=line.external_id)
            if not isinstance(found, Registration):
                return found.cause
            return f"{counted(len(found.urls), 'webhook')}; {_subscription(found.subscription)}"
        case beliefs.SEND:
            sent = read_sent(answer)
            return f"{sent.result} ({sent.cause})" if sent.cause else str(sent.result)
        case beliefs.PAYMENT:
            paid = read_payment(answer, external_id=line.external_id)
            return _subscription(paid) if isinstance(paid, Subscription) else paid.cause
        case _:
            return ""


def _subscription(told: Subscription) -> str:
    end = "readable" if told.ends_at else "told, and not readable" if told.ends else "not told"
    return f"payment: {told.payment or 'not told'}, its end: {end}"


@dataclass(frozen=True, slots=True)
class Walked:
    """The whole walk.

    Attributes:
        at: When it began.
        plan: What the external id looks like.
        answers: In the order of asking.
        log: What the provider's log was like; None = it could not be read.
        registration: For whoever sends; holds addresses with keys and is never shown.
        device: The same; holds the line's number.
    """

    at: datetime
    plan: str
    answers: tuple[Answered, ...]
    log: LogFound | None
    registration: Registration | None = field(default=None, repr=False)
    device: Mapping[str, Any] | None = field(default=None, repr=False)


async def walk(asker: Asker, *, now: datetime) -> Walked:
    """Ask everything that changes nothing."""
    line = asker.line
    answers: list[Answered] = []
    registration, device, log = None, None, None
    for belief in beliefs.READ_ONLY:
        as_whom = None
        match belief:
            case beliefs.WRONG_TOKEN:
                as_whom = line.model_copy(update={"instance_token": SecretStr(_NOBODYS_TOKEN)})
            case beliefs.UNKNOWN_LINE:
                as_whom = line.model_copy(update={"external_id": _NOBODYS_LINE})
            case beliefs.LOG:
                found, log = await read_log(asker, now=now)
                answers += found
                continue
            case _:
                pass
        answered, answer, parsed = await asker.ask(belief, line=as_whom)
        answers.append(answered)
        if belief is beliefs.STATUS and isinstance(parsed, dict) and isinstance(parsed.get("connected"), bool):
            asker.connected = parsed["connected"]
        if belief is beliefs.DEVICE and isinstance(parsed, dict):
            device = parsed
        if belief is beliefs.REGISTRATION and answer is not None:
            told = read_registration(answer, external_id=line.external_id)
            registration = told if isinstance(told, Registration) else None
    return Walked(now, _plan_of(line.external_id), tuple(answers), log, registration, device)


async def read_log(asker: Asker, *, now: datetime) -> tuple[list[Answered], LogFound | None]:
    """Read the first pages of the log."""
    answers, pages = await log_pages(asker)
    found = describe(pages, asker.secrets.names, asked_per_page=beliefs.PER_PAGE, now=now) if pages else None
    return answers, found


async def log_pages(asker: Asker) -> tuple[list[Answered], list[Page]]:
    """The first pages of the log, until one brings nothing new; then the last one, if it says which that is."""
    answers: list[Answered] = []
    pages: list[Page] = []
    numbers = list(range(1, PAGES + 1))
    for number in numbers:
        answered, _, parsed = await asker.ask(beliefs.LOG, query={**beliefs.LOG.query, "page": str(number)})
        answers.append(answered)
        page = read_page(parsed, asker.secrets.names)
        if answered.status != HTTPStatus.OK or page.at is None:
            break
        pages.append(page)
        if not page.entries or (number > 1 and list(page.entries) == list(pages[-2].entries)):
            break
        if number == PAGES and (last := page.last_number) > PAGES:
            numbers.append(last)
    return answers, pages


def _plan_of(external_id: str) -> str:
    if not has_form(external_id):
        return "none that we know: its id has another form"
    return "LITE" if external_id.startswith("LITE-") else "PRO"

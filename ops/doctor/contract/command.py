"""``--contract LINE``, from the row of the line to the two files."""

from __future__ import annotations

import asyncio
import os
import sys
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

import httpx

from ops.common.interrupted import Interrupted
from ops.common.rest import Rest
from ops.doctor.contract.report import Told, as_json, as_text
from ops.doctor.contract.sending import RefusedFound, Sender, Turned, Waits, own_number, why_not
from ops.doctor.contract.walk import Asker, Secrets, walk
from ops.doctor.facts import LineRow
from ops.doctor.findings import Exit
from ops.doctor.function import probe
from shared.core.registration import wrong_kinds
from shared.errors import LineRecoveryError
from shared.providers.exchange import pooled_http
from shared.providers.limiter import Limiter
from shared.providers.wapi.client import WapiClient

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from ops.doctor.contract.walk import Answered
    from ops.doctor.settings import DoctorSettings
    from shared.core.registration import Target

QUESTION: Final = """\
--send will, for this one line:
  1. send one message to the line's own number (it stands in the chat with itself) and wait for echo and ack;
  2. let our own address refuse this line's message events for two minutes, send a second message, put the right
     address back, and look whether the provider's log holds what was refused.
Messages that come in during these two minutes may be lost to the platform (they are on the phone). Take a quiet line.
Type yes for both, path for the first alone, anything else for none: """
_REFUSED: Final = "--send asks before it sends: run it in a terminal, or with --yes"


class ContractError(LineRecoveryError):
    """The walk cannot be made; the text says why."""


@dataclass(frozen=True, slots=True)
class Order:
    """What the operator asked for.

    Attributes:
        line: Our id or the external one.
        send: Prove the path by sending.
        sure: Do not ask.
        folder: Where the two files go.
        as_json: Print JSON.
        waits: See there.
    """

    line: str
    send: bool
    sure: bool
    folder: Path
    as_json: bool = False
    waits: Waits = field(default_factory=Waits)


def run(settings: DoctorSettings, target: Target | None, order: Order, *, say: Callable[[str], object]) -> int:
    """Walk, print and write; returns the exit code.

    Args:
        settings: Whom to ask.
        target: Where webhooks must point to; None = nobody said.
        order: What was asked for.
        say: Tells the operator what goes on.

    Raises:
        ContractError: See there.
        StoreError: The line cannot be read.
        Interrupted: Somebody ended it; whatever was changed is put back before.
    """
    if order.send and not order.sure and not sys.stdin.isatty():
        raise ContractError(_REFUSED)
    turned, secrets = Turned(), Secrets()
    try:
        told = _walk_and_send(settings, target, order, Done(turned, secrets, say))
    except KeyboardInterrupt:
        raise Interrupted(turned.says) from None
    texts = {"json": as_json(told) + "\n", "txt": as_text(told)}
    if any(secrets.leaked_into(text) for text in texts.values()):
        raise ContractError("the report would have shown a value, so nothing is shown or written: please report this")
    print(texts["json" if order.as_json else "txt"], end="")
    name = f"contract-{told.walked.at:%Y%m%d-%H%M%S}"
    written = [_write(order.folder / f"{name}.{kind}", text) for kind, text in texts.items()]
    say(f"written: {' and '.join(str(path) for path in written)}")
    if told.breaks or turned.kinds or (told.path is not None and not told.path.is_proven):
        return Exit.FINDINGS
    return Exit.NOT_CHECKED if told.silent or told.not_sent else Exit.FINE


@dataclass(frozen=True, slots=True)
class Done:
    """What goes through both parts.

    Attributes:
        turned: See there.
        secrets: See there.
        say: Tells the operator what goes on.
    """

    turned: Turned
    secrets: Secrets
    say: Callable[[str], object]


@dataclass(frozen=True, slots=True)
class _Ready:
    """The line as the walk left it, and what sending needs.

    Attributes:
        line: Its row.
        told: The walk.
        takes_key: Whether our function takes the line's key.
    """

    line: LineRow
    told: Told
    takes_key: bool


def _walk_and_send(settings: DoctorSettings, target: Target | None, order: Order, done: Done) -> Told:
    ready = asyncio.run(_walk(settings, target, order, done))
    walked = ready.told.walked
    if not order.send:
        return ready.told
    wrong = None
    if target is not None and walked.registration is not None:
        wrong = wrong_kinds(walked.registration, target, ready.line.external_id)
    why = why_not(walked, target, takes_key=ready.takes_key, wrong=wrong)
    phone = own_number(walked)
    if why or target is None or walked.registration is None or phone is None:
        return replace(ready.told, not_sent=why)
    # Outside of any loop: there a Ctrl-C would wait for the end of the line.
    wish = "yes" if order.sure else _ask()
    if wish not in ("yes", "path"):
        return replace(ready.told, not_sent="you did not say yes")

    async def send() -> Told:
        async with pooled_http(httpx.Timeout(None)) as http:
            client = WapiClient(http, settings.wapi_base_url)
            sender = Sender(
                asker=Asker(client, Limiter(1), ready.line, settings.look_timeout, done.secrets),
                client=client,
                rest=Rest(http, settings.supabase_url, settings.supabase_service_role_key),
                target=target,
                registration=registration,
                phone=phone,
                within=settings.look_timeout,
                waits=order.waits,
                turned=done.turned,
                say=done.say,
            )
            return await _send(ready.told, sender, both=wish == "yes")

    registration = walked.registration
    return asyncio.run(send())


async def _walk(settings: DoctorSettings, target: Target | None, order: Order, done: Done) -> _Ready:
    async with pooled_http(httpx.Timeout(None)) as http:
        rest = Rest(http, settings.supabase_url, settings.supabase_service_role_key)
        line = _the_line(await rest.rows(LineRow), order.line)
        client = WapiClient(http, settings.wapi_base_url)
        asker = Asker(client, Limiter(1), line, settings.look_timeout, done.secrets)
        done.say("asking the provider about one line; nothing is changed")
        walked = await walk(asker, now=datetime.now(UTC))
        takes_key = order.send and target is not None and (await probe(http, target, line.external_id)).takes_the_first
        return _Ready(line, Told(line.id, walked), takes_key)


async def _send(told: Told, sender: Sender, *, both: bool) -> Told:
    answered, path = await sender.prove_path()
    sent: list[Answered] = [answered]
    refused = None
    if both and not path.events:
        refused = RefusedFound(cause="nothing of the first message came, so a refused one would be told from none")
    elif both and path.message_id is not None:
        answers, refused = await sender.ask_log(path.message_id)
        sent += answers
    return replace(told, sent=tuple(sent), path=path, refused=refused, done=sender.turned.says)


def _ask() -> str:
    print(QUESTION, end="", file=sys.stderr, flush=True)
    return sys.stdin.readline().strip().lower()


def _the_line(lines: list[LineRow], wanted: str) -> LineRow:
    wanted = wanted.strip()
    found = [line for line in lines if line.is_ours and wanted in (str(line.id), line.external_id)]
    if not wanted or not found:
        raise ContractError("no line of W-API has this id: --contract takes our uuid or the external id")
    if len(found) > 1:
        raise ContractError("several rows have this external id: name one by our uuid")
    [line] = found
    if line.token is None or not line.external_id:
        raise ContractError("this line has no token or no external id: nothing can be asked about it")
    return line


def _write(path: Path, text: str) -> Path:
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as file:
            file.write(text)
    except OSError as error:
        raise ContractError(f"the report could not be written: {type(error).__name__}") from error
    return path

"""``python -m ops.replay FILE``: delivers the events of ``event.undelivered`` log lines again.

``python -m ops.replay --failed`` those of the inbox that the platform's own tables refused, once their rule is mended.
Reads the same settings as wapi_webhook (without its secrets) and for a file ``EVENT_LOG_KEY``, from the environment or
.env. Idempotent: an event is kept once.
"""

from __future__ import annotations

import argparse
import asyncio
import codecs
import logging
import sys
from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Final

import httpx
from pydantic import AwareDatetime

from ops.common.env_file import env_file
from ops.common.interrupted import Interrupted
from ops.common.rest import Rest
from ops.common.rows import Row
from ops.common.shown import counted, one_line, shown_external_id
from shared.clients import Clients
from shared.core.event import EventOutcome, Noise
from shared.errors import EventRejected, LineRecoveryError, StoreError
from shared.providers.wapi.events import parse_event
from shared.relay import IN_REQUEST
from shared.settings import IntakeSettings, load_settings
from shared.webhook.dead_letters import FACT, Undelivered, as_it_came, read_undelivered
from shared.webhook.intake import deliver

if TYPE_CHECKING:
    from collections.abc import Sequence

    from pydantic import SecretStr

    from shared.database.results import Intake

DELIVERED, FAILED = 0, 1
_WORDS: Final = {
    EventOutcome.LOOK: "kept; a look will decide about the line",
    EventOutcome.LOOK_AGAIN: "kept; a look will decide about the line",
    EventOutcome.FAILED: "kept, but the platform's tables refuse its message",
    EventOutcome.DUPLICATE: "was here already",
    EventOutcome.UNKNOWN_INSTANCE: "kept; no line has its id",
    EventOutcome.PAUSED: "kept; the line is paused",
    EventOutcome.STALE: "kept; the line has given a sign of life since",
    EventOutcome.OVERTAKEN: "kept; the line has given a sign of life since",
    EventOutcome.ALREADY_DISCONNECTED: "kept; the line was marked already",
    EventOutcome.LEFT_ALONE: "kept; the line is being paired, never was, or its company is not active",
    EventOutcome.OWN_RESTART: "kept; a restart of ours had sent it",
    EventOutcome.DENIED: "kept; a look found the line alive",
    EventOutcome.DISCONNECTED: "the line is marked as disconnected, its people are notified",
    EventOutcome.DEGRADED: "the line is degraded, the next sweep decides",
    EventOutcome.LEFT_TO_SWEEP: "kept; the next sweep decides about the line",
    EventOutcome.ALIVE: "a sign of life",
    EventOutcome.NO_PHONE: "kept; it does not say whose phone",
    EventOutcome.RESTORED: "the line is connected again",
    EventOutcome.KEPT: "kept",
    EventOutcome.STORED: "its message is stored",
    EventOutcome.ALREADY_STORED: "its message was stored already",
    EventOutcome.APPLIED: "its change of a message is done",
    EventOutcome.NOT_NEWER: "kept; the message knew better",
    EventOutcome.WAITING: "kept until its message comes",
    EventOutcome.NOT_THEIRS: "kept; only the message's own side may change it",
}


def in_words(outcome: str) -> str:
    """What became of an event."""
    if outcome in _WORDS:
        return _WORDS[EventOutcome(outcome)]
    if outcome == Noise.UNREADABLE:
        return "kept; our reader fails on it"
    return "kept; there is no message in it" if outcome in {*Noise} else f"kept ({one_line(outcome)})"


class Replay:
    """Delivers events one by one, and counts.

    Args:
        settings: The function's own.
    """

    def __init__(self, settings: IntakeSettings) -> None:
        self._settings = settings
        self._delivered: Counter[str] = Counter()
        self._failed = 0
        self._found = 0

    async def run(self, found: list[Undelivered]) -> int:
        """Deliver events, and say what became of each.

        Returns:
            The exit code.
        """
        self._found = len(found)
        clients = Clients(self._settings)
        try:
            for undelivered in found:
                await self._one(undelivered, clients)
        finally:
            await clients.aclose()
        print(self._summary())
        return FAILED if self._failed else DELIVERED

    async def _one(self, undelivered: Undelivered, clients: Clients) -> None:
        name = one_line(undelivered.event_key[:12])  # of a file that anybody may have written
        if undelivered.event is None:
            self._failed += 1
            print(f"{name}  not delivered: {undelivered.problem}")
            return
        line = shown_external_id(undelivered.event.external_id)
        try:
            intake = await deliver(
                undelivered.event, clients.store, lambda: clients.provider, settings=self._settings, relay=clients.relay
            )
        except StoreError as error:
            self._failed += 1
            print(f"{name}  {line}  not delivered: {error}")
            return
        if clients.relay is not None and intake.relay is not None:
            await clients.relay.forward(intake.relay, clients.store, within=IN_REQUEST)
        self._delivered[in_words(intake.outcome)] += 1
        print(f"{name}  {line}  {_said(intake)}")

    def _summary(self) -> str:
        parts = ", ".join(f"{words} ({number})" for words, number in self._delivered.most_common())
        delivered = f"{counted(self._delivered.total(), 'event')} delivered" + (f": {parts}" if parts else "")
        return f"{delivered}; {self._failed or 'none'} not delivered"

    def so_far(self) -> str:
        """What was done when somebody ended it."""
        done = f"{self._delivered.total() + self._failed} of {counted(self._found, 'event')}"
        return f"{done} were tried; run it again, no event has its effect twice"


def _said(intake: Intake) -> str:
    words = in_words(intake.outcome)
    if intake.outcome is EventOutcome.FAILED and intake.code:
        words += f" ({intake.code})"
    return f"{words}; but its company has no users" if intake.told == 0 else words


class FailedEvent(Row):
    """An event of the inbox that is kept and not done."""

    table = "wapi_webhook_events"

    id: int
    event_key: str
    external_id: str | None
    body: str
    received_at: AwareDatetime


async def _failed(settings: IntakeSettings) -> list[Undelivered]:
    """What the platform's own tables refused, oldest first."""
    async with httpx.AsyncClient(trust_env=False) as http:
        rest = Rest(http, settings.supabase_url, settings.supabase_service_role_key)
        rows = await rest.rows(FailedEvent, ("outcome", f"eq.{EventOutcome.FAILED}"), ("body", "not.is.null"))
    return [_again(row) for row in rows]


def _again(row: FailedEvent) -> Undelivered:
    try:
        event = as_it_came(row.event_key, row.external_id, row.body, row.received_at, parse=parse_event)
    except EventRejected as rejected:
        return Undelivered(row.event_key, None, rejected.reason)
    return Undelivered(row.event_key, event)


def _undelivered(file: Path, key: SecretStr | None) -> list[Undelivered]:
    if key is None:
        raise LineRecoveryError("settings: EVENT_LOG_KEY is missing")
    found = list(read_undelivered(_text_in(file.read_bytes()), key, parse=parse_event))
    if not found:
        raise LineRecoveryError(
            f'{file}: no undelivered event is in it. Looked for JSON log entries with "message": "{FACT}", as'
            " the function prints them or as `gcloud logging read --format=json` writes them (its [] means: none)"
        )
    return found


def _text_in(read: bytes) -> str:
    """A file's text: UTF-8, or what PowerShell writes."""
    is_wide = read.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    return read.decode("utf-16" if is_wide else "utf-8-sig", "replace")


def _replay(file: Path | None) -> int:
    settings = load_settings(IntakeSettings, env_file=env_file())
    replay = Replay(settings)

    async def run() -> int:
        if file is not None:
            return await replay.run(_undelivered(file, settings.event_log_key))
        if found := await _failed(settings):
            return await replay.run(found)
        print("no event of the inbox has failed, of those whose body is still kept")
        return DELIVERED

    try:
        return asyncio.run(run())
    except KeyboardInterrupt:
        raise Interrupted(replay.so_far()) from None


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 when every event was delivered, 1 otherwise.
    """
    parser = argparse.ArgumentParser(prog="python -m ops.replay", description=__doc__)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument(
        "file",
        type=Path,
        nargs="?",
        help="an export of the log: lines as printed, or `gcloud logging read --format=json`",
    )
    what.add_argument(
        "--failed",
        action="store_true",
        help="the inbox's events that the platform's own tables refused (outcome failed)",
    )
    file: Path | None = parser.parse_args(arguments).file
    logging.getLogger("line_recovery").addHandler(logging.NullHandler())  # each outcome is said here in words
    try:
        return _replay(file)
    except OSError as error:
        print(f"{file}: {error.strerror}", file=sys.stderr)
    except LineRecoveryError as error:
        print(error, file=sys.stderr)
    return FAILED

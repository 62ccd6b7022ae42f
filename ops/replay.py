"""``python -m ops.replay FILE``: delivers the events of ``event.undelivered`` log lines again.

Reads the same environment as wapi_webhook (without its secrets) and ``EVENT_LOG_KEY``.
Idempotent: an event is kept once.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
from pathlib import Path

from ops.common.shown import one_line
from shared.clients import Clients
from shared.errors import LineRecoveryError, StoreError
from shared.providers.wapi.events import parse_event
from shared.relay import IN_REQUEST
from shared.settings import IntakeSettings, load_settings
from shared.webhook.dead_letters import read_undelivered
from shared.webhook.intake import deliver


async def replay(log: str, settings: IntakeSettings) -> int:
    """Deliver what a log export holds and say what became of each event.

    Returns:
        How many could not be delivered.
    """
    if settings.event_log_key is None:
        raise LineRecoveryError("settings: EVENT_LOG_KEY is missing")
    clients = Clients(settings)
    delivered = failed = 0
    for undelivered in read_undelivered(log, settings.event_log_key, parse=parse_event):
        short = one_line(undelivered.event_key[:12])  # of a file that anybody may have written
        if undelivered.event is None:
            failed += 1
            print(f"{short}  not delivered: {undelivered.problem}")
            continue
        try:
            intake = await deliver(
                undelivered.event, clients.store, lambda: clients.provider, settings=settings, relay=clients.relay
            )
        except StoreError as error:
            failed += 1
            print(f"{short}  not delivered: {error}")
        else:
            if clients.relay is not None and intake.relay is not None:
                await clients.relay.forward(intake.relay, clients.store, within=IN_REQUEST)
            delivered += 1
            print(f"{short}  {intake.outcome}")
    print(f"{delivered} delivered, {failed} not")
    return failed


def main(arguments: list[str] | None = None) -> int:
    """Run the command.

    Returns:
        0 when every event was delivered, 1 otherwise.
    """
    parser = argparse.ArgumentParser(prog="python -m ops.replay", description=__doc__)
    parser.add_argument(
        "file", type=Path, help="an export of the log: lines as printed, or `gcloud logging read --format=json`"
    )
    file: Path = parser.parse_args(arguments).file
    try:
        return 1 if asyncio.run(replay(file.read_text("utf-8"), load_settings(IntakeSettings))) else 0
    except OSError as error:
        print(f"{file}: {error.strerror}", file=sys.stderr)
    except LineRecoveryError as error:
        print(error, file=sys.stderr)
    return 1


if __name__ == "__main__":
    sys.exit(main())

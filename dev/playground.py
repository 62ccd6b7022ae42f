"""A platform to try by hand: local stack, simulator and both functions in the foreground, and what to paste elsewhere.

Everything is on loopback. Of ``.env`` only numbers are read (waits, concurrency): no address and no key, so that
nothing here can reach a real project.
"""

from __future__ import annotations

import secrets
import shlex
import sys
from contextlib import ExitStack
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import psycopg
from psycopg.rows import dict_row
from rich.console import Console
from rich.text import Text

from dev.functions import FunctionServer
from dev.processes import StackError
from dev.simulator import Simulator
from dev.stack import PROJECT, Stack
from ops.common.env_file import env_file, values_of
from shared.errors import SettingsError
from shared.settings import SweepSettings, WebhookSettings

if TYPE_CHECKING:
    from collections.abc import Mapping

FASTER: Final = {
    "CHECK_INTERVAL_SECONDS": "0",
    "GHOST_CONFIRM_SECONDS": "1",
    "RESTART_VERIFY_SECONDS": "5",
    "LOOK_TIMEOUT_SECONDS": "2",
}
"""Waits that nobody wants to sit through; nothing else differs from production."""
PAGE: Final = ".local/play.html"
_VICTIM: Final = "Moema"
_NOT_A_NUMBER_ALONE: Final = {"SWEEP_FANOUT", "WAPI_WEBHOOK_LINE_KEYS_ONLY"}
"""One needs an address; with the other the plain secret of the commands to paste opens nothing."""
NUMBERS: Final = {
    name.upper()
    for name, field in {**SweepSettings.model_fields, **WebhookSettings.model_fields}.items()
    if field.annotation in (int, float, bool)
} - _NOT_A_NUMBER_ALONE
"""The settings that name no address and hold no secret."""


def settings_for(stack: Stack, simulator: Simulator) -> dict[str, str]:
    """What both functions need on a local stack, with shortened waits."""
    return {
        "SUPABASE_URL": stack.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": stack.service_role_key,
        "WAPI_BASE_URL": simulator.wapi_url,
        "LOG_EXECUTION_ID": "false",
        **FASTER,
    }


def tuning_of(values: Mapping[str, str]) -> dict[str, str]:
    """The numbers among the settings of a file."""
    return {name: text for name, text in values.items() if name in NUMBERS and text}


def add_lines(simulator: Simulator, database_url: str) -> dict[str, str]:
    """Tell the simulator of the lines in the database; answer their external ids by unit."""
    with psycopg.connect(database_url, row_factory=dict_row) as connection:
        rows = connection.execute("select * from public.wapi_instances order by unit").fetchall()
    simulator.add_lines(
        {"external_id": row["instance_id"], "token": row["instance_token"], "phone": row["phone_number"]}
        for row in rows
    )
    return {row["unit"]: row["instance_id"] for row in rows}


@dataclass(frozen=True)
class Place:
    """Where everything answers.

    Attributes:
        supabase: The stack's gateway.
        key: Of the service role.
        simulator: The provider's base, with its control side.
        check: follow_up_check.
        hook: wapi_webhook.
        secret: Its key.
        line: The external id of the line that is killed.
    """

    supabase: str
    key: str
    simulator: str
    check: str
    hook: str
    secret: str
    line: str

    def addresses(self) -> list[tuple[str, str]]:
        """Name and address."""
        return [
            ("Supabase", self.supabase),
            ("W-API, simulated", self.simulator),
            ("follow_up_check", self.check),
            ("wapi_webhook", self.hook),
        ]

    def lines_to_paste(self) -> list[tuple[str, str]]:
        """What each does, and the command, whole."""
        line = f"{self.simulator}/_sim/lines/{self.line}"
        message = (
            '{"event":"webhookReceived","instanceId":"' + self.line + '","connectedPhone":"5511900000002","moment":'
            "'$(date +%s)',"
            '"messageId":"M\'$(date +%s)\'","fromMe":false,"chat":{"id":"5511940000001"},"sender":{"pushName":"Ana"},'
            '"msgContent":{"conversation":"Oi, tem data em maio?"}}'
        )
        bell = f"{self.supabase}/rest/v1/notifications?select=created_at,message&order=created_at.desc&limit=3"
        project = f"SUPABASE_URL={self.supabase} SUPABASE_SERVICE_ROLE_KEY={self.key}"
        return [
            (
                f"kill {_VICTIM} (its restart will be refused)",
                f'{_CURL} -X PATCH {line} -d \'{{"session":"disconnected","restart":"refused"}}\'',
            ),
            ("sweep, as Cloud Scheduler does every five minutes", f"{_CURL} -X POST {self.check}"),
            ("see the bell", f"{_CURL} '{bell}' -H 'apikey: {self.key}' -H 'Accept: text/csv'"),
            (f"post a message to {_VICTIM}, as W-API does", f"{_CURL} '{self.hook}/?key={self.secret}' -d '{message}'"),
            (
                "scan the QR code: it is back, and who heard that it was down hears that",
                f"{_CURL} -X POST {line}/scan-qr",
            ),
            ("write the report", f"{project} {shlex.quote(sys.executable)} -m ops.report --out {PAGE}"),
        ]


_CURL: Final = "curl -s -w '\\n'"


def show(place: Place, console: Console) -> None:
    """Print what to do; commands are never broken, so that they can be copied."""
    console.print("\n[bold]Everything runs, on this machine alone.[/]\n")
    for name, address in place.addresses():
        console.print(f"  {name:<18} {address}")
    console.print("\n[bold]Paste these into another terminal, in this folder, in any order:[/]")
    for number, (what, command) in enumerate(place.lines_to_paste(), 1):
        console.print(f"\n[cyan]{number}. {what}[/]")
        console.print(Text(command), soft_wrap=True)
    console.print("\n[dim]What the functions log comes below. Ctrl-C ends all of it.[/]\n")


def play(console: Console) -> None:
    """Start everything and wait for Ctrl-C or for the end of a part.

    Raises:
        StackError: A part is missing, did not start, or has ended by itself.
        SettingsError: ENV_FILE names nothing.
    """
    tuning = tuning_of(values_of(env_file()))
    (PROJECT / PAGE).parent.mkdir(exist_ok=True)
    secret = f"play-{secrets.token_hex(12)}"
    with ExitStack() as resources:
        console.print("[dim]Starting PostgreSQL, PostgREST, the W-API simulator and both functions …[/]")
        stack = resources.enter_context(Stack.start(seed=True))
        simulator = resources.enter_context(Simulator.start(wapi_send_key=stack.service_role_key))
        settings = settings_for(stack, simulator) | tuning
        check = resources.enter_context(FunctionServer("follow_up_check", settings, aloud=True))
        hook = resources.enter_context(
            FunctionServer("wapi_webhook", settings | {"WAPI_WEBHOOK_SECRETS": secret}, aloud=True)
        )
        simulator.set_provider(webhook_url=f"{hook.url}/", webhook_secret=secret)
        lines = add_lines(simulator, stack.database_url)
        if tuning:
            console.print(
                f"[dim]From {env_file().name}: {', '.join(f'{name}={tuning[name]}' for name in sorted(tuning))}[/]"
            )
        show(
            Place(stack.supabase_url, stack.secret_key, simulator.url, check.url, hook.url, secret, lines[_VICTIM]),
            console,
        )
        stack.watch(check, hook)


def main() -> int:
    """Run it; return the exit status. Ctrl-C is how one leaves, so it is 0."""
    try:
        play(Console(highlight=False))
    except KeyboardInterrupt:
        print("play: stopped, nothing is left behind", flush=True)
    except (StackError, SettingsError) as error:
        print(f"play: {error}", file=sys.stderr)
        return 1
    return 0

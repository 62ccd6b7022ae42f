"""The story of ``make demo``, with production's code, server and SQL, on a local stack.

Each step says what is done to the lines, runs the function that would notice, and then asks the database what is true
now and who read what. It ends with the report of all that, and with 0 only if the database says what the story says.
"""

from __future__ import annotations

import json
import time
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx
import psycopg
from psycopg.rows import dict_row
from pydantic import SecretStr
from rich import box
from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dev.functions import FunctionServer
from dev.playground import add_lines, settings_for
from dev.processes import StackError
from dev.simulator import Simulator
from dev.stack import PROJECT, Stack
from ops.report.cli import report
from shared.errors import LineRecoveryError
from shared.settings import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

ALERT_LINE: Final = "LITE-AB12CD-PLATFM"
PLATFORM: Final = """
insert into public.companies (id, name) values ('c0000000-0000-4000-8000-000000000009', 'A plataforma');
insert into public.wapi_instances
  (user_id, company_id, unit, instance_id, instance_token, status, phone_number, connected_at)
values ('a0000000-0000-4000-8000-000000000001', 'c0000000-0000-4000-8000-000000000009', 'Plataforma',
  'LITE-AB12CD-PLATFM', 'token-platform', 'connected', '5511900000009', '2026-01-05T12:00:00Z');
insert into public.alert_contacts (company_id, channel, address, quiet_from, quiet_until)
select company_id, 'whatsapp', '5511988887777', null, null from public.wapi_instances where unit = 'Moema'
"""
"""The platform's own line, and a contact of the company that Moema belongs to."""
SECRET = "demo-webhook-secret-0001"  # noqa: S105 - the demo's own, on loopback, for half a minute
_COLOURS = {"connected": "green", "degraded": "yellow", "disconnected": "red"}
_INDENT: Final = "   "
PAGE: Final = Path(".local") / "demo.html"
NEXT: Final = (
    (str(PAGE), "the report of what just happened: open it in a browser"),
    ("make play", "the same stack, for your own hands"),
    ("docs/adopt.md", "how a platform that runs takes it over"),
)
_WORDS: Final = {
    "checked": "{} looked at",
    "alive": "{} alive",
    "restarted": "{} restarted",
    "recovered": "{} back",
    "failed": "{} not back",
    "notified": "{} users notified",
    "unknown": "{} could not be asked",
    "braked": "the brake is on",
}
"""The counts of an answer; those that are 0 or false go without saying."""


@dataclass
class Expected:
    """What the database must say after a step.

    Attributes:
        statuses: By unit; every other line must be as it was.
        bells: New notices in all, by type.
        answer: Fields of the function's answer.
        messages: New messages to contacts by WhatsApp.
    """

    statuses: dict[str, str] = field(default_factory=dict)
    bells: dict[str, int] = field(default_factory=dict)
    answer: dict[str, object] = field(default_factory=dict)
    messages: int = 0


class Story:
    """Plays steps and checks each of them against the database."""

    def __init__(self, console: Console, resources: ExitStack) -> None:
        self._console = console
        self._steps = 0
        self._wrong: list[str] = []
        stack = resources.enter_context(Stack.start(seed=True))
        self.simulator = resources.enter_context(Simulator.start(wapi_send_key=stack.service_role_key))
        self._database = resources.enter_context(
            psycopg.connect(stack.database_url, autocommit=True, row_factory=dict_row)
        )
        self._store = StoreSettings(
            supabase_url=stack.supabase_url, supabase_service_role_key=SecretStr(stack.service_role_key)
        )
        self._database.execute(PLATFORM)
        settings = settings_for(stack, self.simulator) | {"ALERT_INSTANCE_ID": ALERT_LINE}
        self._check = resources.enter_context(FunctionServer("follow_up_check", settings))
        self._hook = resources.enter_context(
            FunctionServer("wapi_webhook", settings | {"WAPI_WEBHOOK_SECRETS": SECRET})
        )
        self.simulator.set_provider(webhook_url=f"{self._hook.url}/", webhook_secret=SECRET)
        self.lines = add_lines(self.simulator, stack.database_url)
        self._statuses = self._status_by_unit()
        self._told = self._notices()
        self._messages = self._sent_by_whatsapp()
        self._restarts = self._restarts_by_unit()

    def _rows(self) -> list[dict[str, Any]]:
        return self._database.execute("select * from public.wapi_instances order by unit").fetchall()

    def _status_by_unit(self) -> dict[str, str]:
        return {row["unit"]: row["status"] for row in self._rows()}

    def _restarts_by_unit(self) -> dict[str, int]:
        return {unit: self.simulator.calls(line).get("restart", 0) for unit, line in self.lines.items()}

    def _notices(self) -> list[dict[str, Any]]:
        return self._database.execute(
            "select n.id, n.type, n.message, initcap(split_part(u.email, '@', 1)) as name"
            " from public.notifications n join auth.users u on u.id = n.user_id order by n.created_at, u.email"
        ).fetchall()

    def _sent_by_whatsapp(self) -> list[dict[str, Any]]:
        return self._database.execute(
            "select m.id, right(c.contact_phone, 4) as ends_in, m.content from public.wapi_messages m"
            " join public.wapi_conversations c on c.id = m.conversation_id"
            " where m.metadata ->> 'source' = 'system_alert' order by m.timestamp"
        ).fetchall()

    def leave_unread(self, wait: timedelta) -> None:
        """Shorten the wait for what is due when nobody has read the bell."""
        self._database.execute("update public.notice_deliveries set due_at = due_at - %s", [wait])

    def sweep(self) -> dict[str, object]:
        """Do what Cloud Scheduler does every five minutes."""
        answer: dict[str, object] = httpx.post(self._check.url, timeout=60, trust_env=False).raise_for_status().json()
        return answer

    def outcome(self, delivery: Mapping[str, Any]) -> dict[str, object]:
        """What wapi_webhook answered to an event that the provider posted."""
        told: dict[str, object] = json.loads(delivery["body"])
        return {"status": delivery["status"], **told}

    def step(self, title: str, happened: str, answer: Mapping[str, object], expected: Expected) -> None:
        """Show a step and check it."""
        self._steps += 1
        told_before = {notice["id"] for notice in self._told}
        before, self._statuses, self._told = self._statuses, self._status_by_unit(), self._notices()
        bells = [notice for notice in self._told if notice["id"] not in told_before]
        sent_before, self._messages = len(self._messages), self._sent_by_whatsapp()
        messages = self._messages[sent_before:]
        self._console.print(f"\n[bold cyan]{self._steps}. {title}[/]")
        self._indented(f"[dim]{escape(happened)}[/]\n")
        self._indented(self._table(before))
        for line in bells_in_words(bells, self._console.width):
            self._console.print(Text(line), soft_wrap=True)
        for message in messages:
            self._indented(f"[bold]The phone that ends in {message['ends_in']} gets, by WhatsApp:[/]")
            self._indented(Text(f"{message['content']}\n"))
        self._check_step(expected, before, bells, len(messages), answer)

    def _indented(self, what: str | Text | Table) -> None:
        self._console.print(Padding(what, (0, 0, 0, len(_INDENT))))

    def _table(self, before: dict[str, str]) -> Table:
        """The lines to which something happened; in the first step all are as they were."""
        table = Table(box=box.SIMPLE, pad_edge=False, show_edge=False, show_header=False)
        restarts_before, self._restarts = self._restarts, self._restarts_by_unit()
        others: dict[str, int] = {}
        for unit, status in self._statuses.items():
            restarted = self._restarts[unit] - restarts_before[unit]
            if not restarted and before[unit] == status:
                others[status] = others.get(status, 0) + 1
                continue
            shown = f"[{_COLOURS[status]}]{status}[/]"
            if before[unit] != status:
                shown = f"[dim]{before[unit]} →[/] {shown}"
            table.add_row(unit, shown, "restarted" if restarted else "")
        unchanged = ", ".join(f"{count} {status}" for status, count in others.items())
        table.add_row(f"[dim]{'the others' if table.rows else 'all lines'}[/]", f"[dim]{unchanged}[/]", "")
        return table

    def _check_step(
        self,
        expected: Expected,
        before: dict[str, str],
        bells: list[dict[str, Any]],
        messages: int,
        answer: Mapping[str, object],
    ) -> None:
        rung: dict[str, int] = {}
        for bell in bells:
            rung[bell["type"]] = rung.get(bell["type"], 0) + 1
        facts = [
            ("statuses", self._statuses, before | expected.statuses),
            ("bells", rung, expected.bells),
            ("messages", messages, expected.messages),
            *((name, answer.get(name), wanted) for name, wanted in expected.answer.items()),
        ]
        wrong = [
            f"step {self._steps}: {name}: {found!r}, not {wanted!r}" for name, found, wanted in facts if found != wanted
        ]
        self._wrong += wrong
        verdict = "[bold red]✗ the database says otherwise[/]" if wrong else "[green]✓ the database says so[/]"
        self._indented(f"[dim]{escape(answer_in_words(answer, tuple(expected.answer)))}[/]\n{verdict}")
        for each in wrong:
            self._console.print(f"   [bold red]{escape(each)}[/]")

    def end(self) -> int:
        """Say how it went.

        Returns:
            The process's exit status.
        """
        if self._wrong:
            self._console.print(f"\n[bold red]{len(self._wrong)} of these facts are not in the database.[/]")
            return 1
        self._console.print(f"\n[bold green]All {self._steps} steps are what the database says.[/]")
        return self._write_report()

    def _write_report(self) -> int:
        """Write the page about what just happened, as an operator would."""
        (PROJECT / PAGE).parent.mkdir(exist_ok=True)
        try:
            report(PROJECT / PAGE, None, self._store)
        except LineRecoveryError as error:
            self._console.print(f"[bold red]The report could not be written:[/] {escape(str(error))}")
            return 1
        self._console.print("\nNext:")
        for what, why in NEXT:
            self._console.print(f"  [bold]{what:<18}[/] {why}")
        return 0


def answer_in_words(answer: Mapping[str, object], names: tuple[str, ...]) -> str:
    """What a function answered, as far as a step is about it."""
    if "outcome" in answer:
        return f"wapi_webhook: {str(answer['outcome']).replace('_', ' ')}"
    counts = [_WORDS[name].format(answer[name]) for name in names if answer.get(name)]
    return f"follow_up_check: {', '.join(counts)}"


def bells_in_words(bells: list[dict[str, Any]], width: int) -> Iterator[str]:
    """Who reads what: each text on a line of its own, or, where it does not fit, each of its sentences."""
    if not bells:
        yield f"{_INDENT}Nobody is disturbed."
    readers: dict[str, list[str]] = {}
    for bell in bells:
        readers.setdefault(bell["message"], []).append(bell["name"])
    for text, names in readers.items():
        yield f"{_INDENT}{', '.join(names)} {'reads' if len(names) == 1 else 'read'}:"
        whole = f"{_INDENT}“{text}”"
        if len(whole) <= width:
            yield whole
        else:
            yield whole.replace(". ", f".\n{_INDENT} ")
    yield ""


def tell(story: Story) -> int:
    """Play the story."""
    simulator, lines = story.simulator, story.lines
    story.step(
        "All lines are healthy", "follow_up_check looks at each of them", story.sweep(),
        Expected(answer={"checked": 7, "alive": 7, "restarted": 0, "braked": False}),
    )  # fmt: skip

    simulator.set_line(lines["Jardins"], session="ghost")
    story.step(
        "Jardins dies silently",
        "the provider says connected, the phone is gone; a restart cures it, nobody is disturbed",
        story.sweep(),
        Expected(answer={"checked": 7, "alive": 6, "restarted": 1, "recovered": 1}),
    )  # fmt: skip

    simulator.set_line(lines["Moema"], session="disconnected", restart="refused")
    story.step(
        "Moema dies and its restart is refused", "marked, and every user of its company hears the bell", story.sweep(),
        Expected({"Moema": "disconnected"}, {"instance_disconnected": 3}, {"restarted": 1, "failed": 1, "notified": 3}),
    )  # fmt: skip

    story.leave_unread(timedelta(minutes=15))
    story.step(
        "Nobody reads the bell for a quarter of an hour",
        "the manager's phone gets a message, from the platform's own line",
        story.sweep(),
        Expected(messages=1, answer={"checked": 7, "alive": 6}),
    )

    simulator.set_line(lines["Santana"], session="disconnected")
    event = {
        "event": "webhookDisconnected",
        "instanceId": lines["Santana"],
        "disconnected": True,
        "moment": int(time.time()),
    }
    story.step(
        "W-API posts a disconnection of Santana", "no need to wait for the next sweep",
        story.outcome(simulator.emit(lines["Santana"], event=event)),
        Expected({"Santana": "disconnected"}, {"instance_disconnected": 2}, {"outcome": "disconnected"}),
    )  # fmt: skip
    story.step(
        "The same event comes again", "nobody hears it twice",
        story.outcome(simulator.emit(lines["Santana"], event=event)),
        Expected(answer={"status": 200, "outcome": "duplicate"}),
    )  # fmt: skip

    story.step(
        "Somebody scans the QR code in Santana", "W-API posts a connection; who had been told hears that it is back",
        story.outcome(simulator.scan_qr(lines["Santana"])),
        Expected({"Santana": "connected"}, {"instance_reconnected": 2}, {"outcome": "restored"}),
    )  # fmt: skip

    simulator.set_provider(down="504_html")
    story.step(
        "The provider goes down for everybody",
        "that is not seven dead phones: the brake holds, no bell rings",
        story.sweep(),
        Expected(answer={"checked": 7, "unknown": 7, "braked": True, "restarted": 0, "notified": 0}),
    )  # fmt: skip
    return story.end()


def main() -> int:
    """Run the demo.

    Returns:
        0 only if what it shows is what the database says.
    """
    console = Console(highlight=False, width=min(Console().width, 120))
    began = time.monotonic()
    try:
        with ExitStack() as resources:
            console.print("[dim]Starting PostgreSQL, PostgREST, the W-API simulator and both functions …[/]")
            story = Story(console, resources)
            status = tell(story)
            console.print(f"[dim]{time.monotonic() - began:.0f} s; waits are shortened, nothing else is.[/]")
            return status
    except (StackError, httpx.HTTPError) as error:
        console.print(f"[bold red]The demo could not run:[/] {escape(str(error))}")
        return 1

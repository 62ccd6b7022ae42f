"""What the doctor's tests speak: a run of the command, and what it said."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from world import OLD_SECRET, SECRET

from ops.doctor.cli import main

if TYPE_CHECKING:
    import pytest
    from world import World

VARIABLES = (
    "SUPABASE_URL", "SUPABASE_SERVICE_ROLE_KEY", "WAPI_BASE_URL", "WEBHOOK_URL", "WAPI_WEBHOOK_SECRETS", "DATABASE_URL",
    "GOOGLE_CLOUD_PROJECT", "WAPI_SEND_URL", "LOOK_TIMEOUT_SECONDS", "EVENT_RELAY_URL",
)  # fmt: skip


@dataclass(frozen=True)
class Examined:
    """What a run of the doctor said."""

    code: int
    said: dict[str, Any]
    text: str

    def finding(self, check: str) -> dict[str, Any]:
        found = [each for each in self.said["findings"] if each["check"] == check]
        assert found, f"{check} is not among {self.checks}"
        return found[0]

    @property
    def checks(self) -> set[str]:
        return {each["check"] for each in self.said["findings"]}

    @property
    def wrong(self) -> set[str]:
        """What needs a human."""
        return {each["check"] for each in self.said["findings"] if each["severity"] in ("warning", "problem")}

    def ids(self, check: str) -> set[str]:
        return {each["id"] for each in self.finding(check)["concerns"]}


class Doctor:
    """Runs the command in this process, with an environment of its own."""

    def __init__(self, world: World, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
        self.world = world
        self._monkeypatch = monkeypatch
        self._capsys = capsys
        self.function_url = world._served("wapi_webhook").url
        world.simulator.set_provider(webhook_url=f"{self.function_url}/", webhook_secret=SECRET)
        self.environment: dict[str, str | None] = {
            "SUPABASE_URL": world.stack.supabase_url,
            "SUPABASE_SERVICE_ROLE_KEY": world.stack.service_role_key,
            "WAPI_BASE_URL": world.simulator.wapi_url,
            "WEBHOOK_URL": self.function_url,
            "WAPI_WEBHOOK_SECRETS": f"{SECRET},{OLD_SECRET}",
            "DATABASE_URL": world.stack.database_url,
            "LOOK_TIMEOUT_SECONDS": "2",
        }

    def run(self, *arguments: str, **environment: str | None) -> tuple[int, str, str]:
        for name in VARIABLES:
            value = (self.environment | environment).get(name)
            if value is None:
                self._monkeypatch.delenv(name, raising=False)
            else:
                self._monkeypatch.setenv(name, value)
        self._capsys.readouterr()
        code = main(list(arguments))
        out, err = self._capsys.readouterr()
        return code, out, err

    def examine(self, *arguments: str, **environment: str | None) -> Examined:
        code, out, err = self.run("--json", *arguments, **environment)
        assert err == ""
        return Examined(code, json.loads(out), out)


def swept(world: World, *, ago: timedelta = timedelta(minutes=2), ended: bool = True, **columns: object) -> None:
    """A sweep ran, as health_check_runs tells it."""
    row = {"braked": False, "left_due": 0} | columns
    world.sql(
        "insert into public.health_check_runs (started_at, finished_at, braked, left_due)"
        " values (now() - %s, case when %s then now() - %s end, %s, %s)",
        ago, ended, ago, row["braked"], row["left_due"],
    )  # fmt: skip


def healthy(world: World, count: int = 3) -> list[Any]:
    company = world.company(users=1)
    swept(world)
    lines = world.lines(company, count)
    world.sql("update public.instance_registrations set read_at = now(), found = 'good'")
    return lines

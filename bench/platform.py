"""The stack, a simulator in a process of its own, and fleets of any size on both."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from contextlib import ExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Any, LiteralString, Self

import httpx
import psutil
import psycopg

from dev.functions import FunctionServer
from dev.stack import Stack

if TYPE_CHECKING:
    from collections.abc import Mapping
    from types import TracebackType

PROJECT = Path(__file__).resolve().parent.parent
SECRET = "bench-webhook-secret-0001"  # noqa: S105 - the bench's own, on loopback
LINES_A_REQUEST = 5000
STATISTICS_SECONDS = 1.5
"""PostgreSQL's backends hand their counts in at most once a second."""


def external_id(number: int) -> str:
    """The provider's id of the bench's n-th line."""
    return f"LITE-BENCH0-{number:06d}"


def token(number: int) -> str:
    """Its token."""
    return f"bench-token-{number}"


def phone(number: int) -> str:
    """Its phone."""
    return f"55119{number:08d}"


class Platform:
    """A stack and a simulator; fleets are made anew with ``fleet``."""

    def __init__(self) -> None:
        self._undo = ExitStack()
        try:
            self.stack = self._undo.enter_context(Stack.start(seed=False))
            self.database = self._undo.enter_context(psycopg.connect(self.stack.database_url, autocommit=True))
            self._simulator = subprocess.Popen(
                [sys.executable, "-m", "dev.simulator"], cwd=PROJECT, stdout=subprocess.PIPE, stdin=subprocess.DEVNULL
            )
            self._undo.callback(self._stop_simulator)
            assert self._simulator.stdout is not None  # noqa: S101 - for the type checker
            self.addresses: dict[str, str] = json.loads(self._simulator.stdout.readline())
        except BaseException:
            self._undo.close()
            raise
        self._control = httpx.Client(base_url=f"{self.addresses['url']}/_sim", timeout=120, trust_env=False)

    def _stop_simulator(self) -> None:
        self._simulator.terminate()
        self._simulator.wait(10)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._control.close()
        self._undo.close()

    def _tell(self, method: str, path: str, content: object = None) -> Any:  # noqa: ANN401 - JSON
        return self._control.request(method, path, json=content).raise_for_status().json()

    def fleet(self, count: int, *, latency_ms: float) -> None:
        """An empty platform with ``count`` healthy connected lines, last looked at five minutes ago."""
        self.database.execute(
            "truncate public.companies, public.instance_registrations, auth.users, public.instance_outages, public.instance_events,"
            " public.health_check_runs, public.wapi_webhook_events, public.relay_turns,"
            " public.restart_claims, public.provider_state, public.notices cascade"
        )
        self.database.execute(
            """
            with company as (insert into public.companies (id, name) values (gen_random_uuid(), 'Bench') returning id)
            insert into public.wapi_instances
              (user_id, company_id, unit, instance_id, instance_token, status, phone_number, connected_at, last_health_check)
            select gen_random_uuid(), company.id, 'Unidade ' || n, 'LITE-BENCH0-' || lpad(n::text, 6, '0'),
              'bench-token-' || n, 'connected', '55119' || lpad(n::text, 8, '0'), now() - interval '1 day',
              now() - interval '5 minutes'
            from company, generate_series(0, %s - 1) n
            """,
            (count,),
        )
        # What the provider keeps of lines was read lately: nothing of it is due in the sweeps that are measured.
        self.database.execute(
            "insert into public.instance_registrations (instance_id, external_id, next_try_at, claimed_at, subscription_read_at)"
            " select id, instance_id, now() + interval '6 hours', now(), now() from public.wapi_instances"
        )
        self.database.execute("vacuum analyze public.wapi_instances, public.instance_registrations")
        self._tell("POST", "/reset")
        self._tell("PATCH", "/provider", {"latency_ms": latency_ms})
        for first in range(0, count, LINES_A_REQUEST):
            numbers = range(first, min(first + LINES_A_REQUEST, count))
            lines = [{"external_id": external_id(n), "token": token(n), "phone": phone(n)} for n in numbers]
            self._tell("POST", "/lines", lines)

    def set_lines(self, numbers: range, **behaviour: object) -> None:
        """Tell some lines' behaviour at the provider."""
        self._tell("PATCH", "/lines", {"external_ids": [external_id(n) for n in numbers], "behaviour": behaviour})

    def calls(self) -> dict[str, int]:
        """The provider's own count of calls."""
        counted: dict[str, int] = self._tell("GET", "/calls")
        return counted

    def forget_calls(self) -> None:
        """Count calls anew."""
        self._tell("DELETE", "/calls")

    def environment(self, **settings: object) -> dict[str, str]:
        """Production's settings, and these."""
        return {
            "SUPABASE_URL": self.stack.supabase_url,
            "SUPABASE_SERVICE_ROLE_KEY": self.stack.service_role_key,
            "WAPI_BASE_URL": self.addresses["wapi_url"],
            "WAPI_WEBHOOK_SECRETS": SECRET,
            "CHECK_INTERVAL_SECONDS": "0",
            "LOG_EXECUTION_ID": "false",
            **{name: str(value) for name, value in settings.items()},
        }

    def function(
        self, target: str, environment: Mapping[str, str] | None = None, *, source: Path | None = None
    ) -> FunctionServer:
        """Start a function as production does."""
        return FunctionServer(target, environment or self.environment(), source=source)

    def row_writes(self) -> int:
        """How often rows of ``wapi_instances`` have been updated so far.

        A connection of PostgreSQL hands its counts on when it likes, at the latest when it ends: so they are ended.
        """
        self.stack.stop_postgrest()
        self.stack.start_postgrest()
        time.sleep(STATISTICS_SECONDS)
        return self.number(
            "select n_tup_upd from pg_catalog.pg_stat_user_tables where schemaname = 'public' and relname = 'wapi_instances'"
        )

    def number(self, query: LiteralString, arguments: Mapping[str, object] | None = None) -> int:
        """The one number that a query answers; 0 when it answers nothing."""
        found = self.database.execute(query, arguments).fetchone()
        return int(found[0]) if found else 0


def sweep(server: FunctionServer) -> tuple[float, dict[str, Any]]:
    """Run one sweep; answer its wall seconds, as its caller waits, and its counts."""
    with httpx.Client(timeout=1200, trust_env=False) as caller:  # it reads the certificates of the world, for 25 ms
        began = time.perf_counter()
        answer = caller.post(server.url).raise_for_status()
        return time.perf_counter() - began, answer.json()


def cpu_seconds(pid: int) -> float:
    """What a process and its children have worked."""
    processes = [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]
    return float(sum(times.user + times.system for times in (process.cpu_times() for process in processes)))


def memory_mb(pid: int, *, peak: bool) -> float:
    """Resident megabytes of a process and its children: now, or the sum of their highest marks."""
    total_kb = 0
    for process in [psutil.Process(pid), *psutil.Process(pid).children(recursive=True)]:
        status = Path(f"/proc/{process.pid}/status").read_text("ascii", "replace")
        field = "VmHWM:" if peak else "VmRSS:"
        total_kb += int(status.partition(field)[2].split()[0])
    return total_kb / 1024

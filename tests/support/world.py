"""What the end-to-end tests speak: companies, users, lines, sweeps, events, bells."""

from __future__ import annotations

import itertools
import re
import time
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

from loopback import http

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    import httpx
    import psycopg
    from served import FunctionServer

    from dev.simulator import Simulator
    from dev.stack import Stack

SECRET = "a-secret-of-the-webhook-1"
MANY_ROWS = 500
OLD_SECRET = "an-older-secret-in-rotation"

HEALTH = {
    "last_alive_at": None, "last_event_at": None, "degraded_since": None, "bad_since": None, "unknown_since": None,
    "unknown_looks": 0, "unverified_since": None, "silence_said": None, "pairing_since": None, "unwatched_since": None,
    "health_lease_until": None, "last_restart_at": None, "tell_at": None,
}  # fmt: skip
"""Our bookkeeping of a line that has no row in ``instance_health``."""
_SHIFTED = {
    "wapi_instances": ("last_health_check", "connected_at"),
    "instance_health": tuple(column for column in HEALTH if column != "unknown_looks"),
    "restart_claims": ("last_restart_at",),
    "provider_state": (
        "braked_since", "canary_sent_at", "canary_ended_at", "device_silent_since", "registrations_failing_since",
        "own_address_failing_since",
    ),
    "instance_registrations": (
        "read_at", "next_try_at", "tried_at", "set_at", "failing_since", "requested_at", "claimed_at", "lease_until",
        "subscription_read_at",
    ),
    "notices": ("since", "told_at", "next_try_at"),
    "instance_outages": ("started_at", "opened_at", "life_counts_from", "told_at", "answered_at", "closed_at"),
    "instance_events": ("at",),
    "wapi_webhook_events": ("received_at", "moment", "processed_at"),
    "health_check_runs": ("started_at", "finished_at"),
    "notifications": ("created_at",),
    "relay_turns": ("until", "taken_at"),
    "alert_contacts": ("starts_at", "quiet_from", "quiet_until"),
    "notice_deliveries": (
        "created_at", "due_at", "give_up_at", "lease_until", "first_tried_at", "sent_at", "acked_at",
    ),
    "operator_alerts": ("raised_at", "resolved_at"),
    "alert_channels": ("failing_since", "last_yes_at"),
    "instance_habits": ("counted_from", "heard_quarter", "look_at", "probe_at"),
    "instance_mutes": (
        "silent_since", "since", "suspected_at", "first_repaired_at", "repaired_at", "canary_at", "told_at", "heard_at",
        "closed_at",
    ),
}  # fmt: skip


def check_environment(stack: Stack, simulator: Simulator) -> dict[str, str]:
    """Production's settings, but for waits that a test need not wait."""
    return {
        "SUPABASE_URL": stack.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": stack.service_role_key,
        "WAPI_BASE_URL": simulator.wapi_url,
        "CHECK_INTERVAL_SECONDS": "0",
        "GHOST_CONFIRM_SECONDS": "0.02",
        "RESTART_VERIFY_SECONDS": "0.2",
        "LOOK_TIMEOUT_SECONDS": "2",
        "LOG_EXECUTION_ID": "false",
    }


def webhook_environment(stack: Stack, simulator: Simulator) -> dict[str, str]:
    """Production's settings on the local stack."""
    return {
        "SUPABASE_URL": stack.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": stack.service_role_key,
        "WAPI_BASE_URL": simulator.wapi_url,
        "WAPI_WEBHOOK_SECRETS": f"{SECRET}, {OLD_SECRET}",
        "LOOK_TIMEOUT_SECONDS": "2",
        "LOG_EXECUTION_ID": "false",
    }


_EMPTY = f"""
do $$
declare
  tables text[] := array(
    select format('%I.%I', schemaname, tablename) from pg_tables
     where schemaname = 'public' and tablename <> 'recovery_migrations' or (schemaname, tablename) = ('auth', 'users'));
  one text; deleted bigint; most bigint := 0;
begin
  perform set_config('session_replication_role', 'replica', false);  -- neither foreign keys nor triggers: in any order
  foreach one in array tables loop
    execute 'delete from ' || one;
    get diagnostics deleted = row_count;
    most := greatest(most, deleted);
    commit;  -- waits for nobody who waits for another table
  end loop;
  if most > {MANY_ROWS} then  -- what is deleted stays in the way of scans
    execute 'truncate ' || array_to_string(tables, ', ');
  end if;
  perform set_config('session_replication_role', 'origin', false);
end $$
"""


def empty(database: psycopg.Connection[Any]) -> None:
    """Empty every table. To delete a few rows takes a millisecond, to truncate thirteen tables eighty."""
    database.execute(_EMPTY)


@dataclass(frozen=True)
class Line:
    """A line in both worlds: our row and the provider's."""

    id: UUID
    external_id: str
    token: str
    phone: str


class World:
    """An empty platform, and hands to move it."""

    def __init__(
        self,
        stack: Stack,
        simulator: Simulator,
        database: psycopg.Connection[dict[str, Any]],
        served: Callable[[str], FunctionServer],
    ) -> None:
        self.stack = stack
        self.simulator = simulator
        self.database = database
        self._served = served
        self._numbers = itertools.count(1)

    # The platform

    def sql(self, query: str, *arguments: object) -> list[dict[str, Any]]:
        cursor = self.database.execute(query, arguments)
        return cursor.fetchall() if cursor.description else []

    def company(self, name: str = "Buffet Alegria", *, users: int = 0) -> UUID:
        company = uuid4()
        self.sql("insert into public.companies (id, name) values (%s, %s)", company, name)
        for _ in range(users):
            self.user(company)
        return company

    def user(self, *companies: UUID) -> UUID:
        user = uuid4()
        self.sql("insert into auth.users (id, email) values (%s, %s)", user, f"{user}@example.com")
        for company in companies:
            self.sql("insert into public.user_companies (user_id, company_id) values (%s, %s)", user, company)
        return user

    def line(
        self,
        company: UUID,
        unit: str | None = None,
        *,
        status: str | None = "connected",
        seen_before: bool = True,
        session: str = "alive",
        at_provider: bool = True,
        **columns: object,
    ) -> Line:
        """A line whose row says ``status`` and whose session at the provider is ``session``."""
        number = next(self._numbers)
        line = Line(uuid4(), f"LITE-AB12CD-{number:06d}", f"token-of-line-{number}", f"55119{number:08d}")
        row = {
            "id": line.id,
            "user_id": uuid4(),
            "company_id": company,
            "unit": unit or f"Unidade {number}",
            "instance_id": line.external_id,
            "instance_token": line.token,
            "status": status,
            "phone_number": line.phone,
            **{name: value for name, value in columns.items() if name not in HEALTH},
        }
        names = ", ".join(row)
        marks = ", ".join(["%s"] * len(row))
        self.sql(f"insert into public.wapi_instances ({names}) values ({marks})", *row.values())
        for name in columns.keys() & HEALTH.keys():
            self.set(line, f"{name} = %s", columns[name])
        if seen_before:
            self.set(line, "last_health_check = now() - interval '5 minutes'")
        self.read_registrations(line)
        if at_provider:
            self.simulator.add_lines(
                [{"external_id": line.external_id, "token": line.token, "phone": line.phone, "session": session}]
            )
        return line

    def lines(self, company: UUID, count: int, **how: Any) -> list[Line]:
        return [self.line(company, **how) for _ in range(count)]

    def read_registrations(self, *lines: Line) -> None:
        """Registrations and subscriptions were read just now, of all lines if none is named: nobody asks about them."""
        self.sql(
            "insert into public.instance_registrations (instance_id, external_id, next_try_at, claimed_at, subscription_read_at)"
            " select id, btrim(instance_id), now() + interval '6 hours', now(), now() from public.wapi_instances"
            " where btrim(instance_id) <> '' and (%s or id = any (%s))",
            not lines, [line.id for line in lines],
        )  # fmt: skip

    def set(self, line: Line, assignments: str, *arguments: object) -> None:
        """Write columns of a line: the platform's row, or our bookkeeping of it, whichever has them."""
        given = list(arguments)
        for assignment in re.split(r",\s*(?=[a-z_]+ = )", assignments):
            used = [given.pop(0) for _ in range(assignment.count("%s"))]
            column = assignment.partition(" = ")[0].strip()
            if column not in HEALTH:
                self.sql(f"update public.wapi_instances set {assignment} where id = %s", *used, line.id)
                continue
            self.sql("insert into public.instance_health (instance_id) values (%s) on conflict do nothing", line.id)
            self.sql(f"update public.instance_health set {assignment} where instance_id = %s", *used, line.id)
            if column == "last_restart_at":
                self.sql("delete from public.restart_claims where external_id = %s", line.external_id)
                self.sql(
                    "insert into public.restart_claims select 'wapi', %s, last_restart_at from public.instance_health"
                    " where instance_id = %s and last_restart_at is not null",
                    line.external_id, line.id,
                )  # fmt: skip

    def behave(self, line: Line, **behaviour: object) -> None:
        self.simulator.set_line(line.external_id, **behaviour)

    def pass_time(self, interval: timedelta) -> None:
        """Let time pass: every instant in every table moves into the past."""
        for table, columns in _SHIFTED.items():
            moves = ", ".join(f"{column} = {column} - %(by)s" for column in columns)
            self.database.execute(f"update public.{table} set {moves}", {"by": interval})
        self.database.execute(  # whose key holds the moment
            "update public.notices set occasion = 'unverified:' || instance_id || ':' || floor(extract(epoch from since))"
            " where occasion like 'unverified:%'"
        )

    # What happens

    def sweep(self, *, through_wapi_send: bool = False) -> dict[str, Any]:
        name = "follow_up_check_through_wapi_send" if through_wapi_send else "follow_up_check"
        answer = self.post_sweep(name)
        assert answer.status_code == 200, answer.text
        return answer.json()

    def post_sweep(self, name: str = "follow_up_check") -> httpx.Response:
        return http.post(self._served(name).url)

    def post(self, event: Any, *, key: str | None = SECRET, **request: Any) -> httpx.Response:
        params = {"key": key} if key is not None else {}
        if event is not None:
            request["json"] = event
        return http.post(self._served("wapi_webhook").url, params=params, **request)

    def event(self, event: dict[str, Any]) -> str:
        """Post an event that must be taken; answer what became of it."""
        answer = self.post(event)
        assert answer.status_code == 200, answer.text
        return answer.json()["outcome"]

    def disconnection(self, line: Line, *, moment: float | None = None, **fields: object) -> dict[str, Any]:
        at = int(time.time() if moment is None else moment)
        return {
            "event": "webhookDisconnected", "instanceId": line.external_id, "disconnected": True, "moment": at, **fields,
        }  # fmt: skip

    def connection(self, line: Line, *, moment: float | None = None, **fields: object) -> dict[str, Any]:
        at = int(time.time() if moment is None else moment)
        return {
            "event": "webhookConnected", "instanceId": line.external_id, "connected": True,
            "connectedPhone": line.phone, "moment": at, **fields,
        }  # fmt: skip

    def message(self, line: Line, *, chat: str = "5511944440001", **fields: object) -> dict[str, Any]:
        return self.connection(line) | {
            "event": "webhookReceived", "messageId": "M1", "chat": {"id": chat}, "fromMe": False, "isGroup": False,
            "sender": {"id": chat, "pushName": "Ana"}, "msgContent": {"conversation": "Oi"}, **fields,
        }  # fmt: skip

    # What came of it

    def row(self, line: Line) -> dict[str, Any]:
        """The platform's row of a line, and our bookkeeping of it."""
        health = self.sql("select * from public.instance_health where instance_id = %s", line.id)
        kept = {name: health[0][name] for name in HEALTH} if health else HEALTH
        return self.sql("select * from public.wapi_instances where id = %s", line.id)[0] | kept

    def status(self, line: Line) -> str | None:
        return self.row(line)["status"]

    def outages(self, line: Line) -> list[dict[str, Any]]:
        return self.sql("select * from public.instance_outages where instance_id = %s order by opened_at", line.id)

    def bells(
        self, line: Line | None = None, *, user: UUID | None = None, kind: str | None = None
    ) -> list[dict[str, Any]]:
        return self.sql(
            "select * from public.notifications where (%s::text is null or data ->> 'instance_id' = %s)"
            " and (%s::uuid is null or user_id = %s) and (%s::text is null or type = %s) order by created_at, user_id",
            *(str(line.id) if line else None,) * 2, user, user, kind, kind,
        )  # fmt: skip

    def audit(self, line: Line) -> list[str]:
        rows = self.sql("select kind from public.instance_events where instance_id = %s order by id", line.id)
        return [row["kind"] for row in rows]

    def restarts(self, line: Line) -> int:
        return self.simulator.calls(line.external_id).get("restart", 0)

    def facts(self, function: str, name: str) -> list[dict[str, Any]]:
        """Log lines of a served function, of the whole run."""
        return [fact for fact in self._served(function).facts() if fact["message"] == name]

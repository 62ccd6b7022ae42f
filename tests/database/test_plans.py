"""Every statement of every SQL function finds its rows by an index, on a platform that has grown.

auto_explain tells the plan of each statement, also of those inside functions, while the real sweep and the real intake
run against the database.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb

from shared.core.look import Look, RestartAnswer
from shared.core.model import Observation
from shared.core.policy import Limits, MutePolicy, Policy, Retention
from shared.core.registration import Visit, WebhookState
from shared.database.composites import event_row, policy_row
from shared.database.registrations import Visited
from shared.database.store import Store
from shared.providers.wapi.events import parse_event
from shared.receiving.mutes import watch_mutes
from shared.sweep.run import run_sweep
from shared.webhook.intake import deliver

if TYPE_CHECKING:
    from collections.abc import Iterator

    from world import World

    from shared.providers.port import Line

LINES, CHATS, MESSAGES, EVENTS, NOTICES = 10_000, 10_000, 50_000, 25_000, 25_000
GROWS = {
    "wapi_instances", "wapi_conversations", "wapi_messages", "wapi_webhook_events", "wapi_contact_lids", "notifications",
    "instance_outages", "instance_events", "user_companies", "companies", "instance_health", "restart_claims", "notices",
    "instance_habits", "instance_mutes", "instance_registrations",
}  # fmt: skip


_SCALARS = (
    "text",
    "integer",
    "bigint",
    "boolean",
    "uuid",
    "interval",
    "double precision",
    "timestamp with time zone",
    "bigint[]",
    "uuid[]",
    "interval[]",
    "text[]",
    "timestamp with time zone[]",
)


def _written(name: str, kind: str) -> str:
    """An argument as PostgREST hands it over: composites are read from JSON."""
    if kind == "jsonb" or kind in _SCALARS:
        return f"%({name})s::{kind}"
    if kind.endswith("[]"):
        return f"(select array_agg(r order by o) from jsonb_array_elements(%({name})s) with ordinality e(j, o), jsonb_populate_record(null::{kind[:-2]}, j) r)"
    return f"jsonb_populate_record(null::{kind}, %({name})s)"


@dataclass
class Plans:
    """A connection that answers the Supabase client's ``rpc`` and keeps the plan of every statement it ran."""

    connection: psycopg.Connection[dict[str, Any]]
    scans: set[tuple[str, str, str]] = field(default_factory=set)
    sorts: set[str] = field(default_factory=set)
    called: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self.connection.execute("load 'auto_explain'")
        # PostgreSQL's own, which makes scans look cheap; hosted projects have 1.1.
        self.connection.execute("set random_page_cost = 4")
        for setting, value in {
            "auto_explain.log_min_duration": "0", "auto_explain.log_nested_statements": "on", "auto_explain.log_format": "json",
            "auto_explain.log_level": "notice", "client_min_messages": "notice",
        }.items():  # fmt: skip
            self.connection.execute(f"set {setting} = '{value}'")
        self.connection.add_notice_handler(self._keep)

    def _keep(self, notice: psycopg.errors.Diagnostic) -> None:
        said = notice.message_primary or ""
        if "plan:" in said:
            told = json.loads(said.partition("plan:")[2])
            self._walk(told["Plan"], " ".join(told["Query Text"].split()))

    def _walk(self, node: dict[str, Any], statement: str) -> None:
        if node.get("Node Type") == "Seq Scan":
            self.scans.add((node["Relation Name"], node.get("Filter", "no filter"), statement[:200]))
        if node.get("Node Type") == "Sort":
            self.sorts.add(statement)
        for child in node.get("Plans", []):
            self._walk(child, statement)

    def rpc(self, name: str, arguments: dict[str, Any]) -> Any:
        async def execute() -> SimpleNamespace:
            return SimpleNamespace(data=self.call(name, arguments))

        return SimpleNamespace(execute=execute)

    def call(self, name: str, arguments: dict[str, Any]) -> Any:
        self.called.add(name)
        types = self._types_of(name)
        given = ", ".join(f"{each} => {_written(each, types[each])}" for each in arguments)
        values = {
            each: Jsonb(value) if types[each] not in _SCALARS and value is not None else value
            for each, value in arguments.items()
        }
        row = self.connection.execute(f"select public.{name}({given}) as answer", values).fetchone()
        assert row is not None
        return row["answer"]

    def _types_of(self, name: str) -> dict[str, str]:
        row = self.connection.execute(
            "select array_agg(n order by o) as names, array_agg(format_type(t, null) order by o) as types from pg_proc p,"
            " unnest(p.proargnames, p.proargtypes::oid[]) with ordinality as a(n, t, o)"
            " where p.proname = %s and p.pronamespace = 'public'::regnamespace and t is not null",
            (name,),
        ).fetchone()
        assert row is not None
        return dict(zip(row["names"], row["types"], strict=True))


class Answers:
    """A provider that says what was told of each line, and whose restarts change nothing."""

    def __init__(self, told: dict[str, Observation]) -> None:
        self._told = told

    def paced_by(self, _: object) -> Answers:
        return self

    async def look(self, line: Line, *, within: timedelta) -> Look:  # noqa: ARG002 - the protocol's
        return Look(self._told.get(line.external_id, Observation.ALIVE), "told")

    async def restart(self, line: Line, *, within: timedelta) -> RestartAnswer:  # noqa: ARG002 - see above
        return RestartAnswer.ACCEPTED


@pytest.fixture
def grown(world: World) -> Iterator[Plans]:
    """A platform with years of history, and a connection that explains."""
    world.sql(
        "insert into public.companies (id, name) select gen_random_uuid(), 'E ' || n from generate_series(1, 500) n"
    )
    world.sql(
        "insert into auth.users (id, email) select gen_random_uuid(), n || '@example.com' from generate_series(1, 2000) n"
    )
    world.sql(
        """
        insert into public.user_companies (user_id, company_id)
        select u.id, c.id from (select id, row_number() over () as r from auth.users) u
        join (select id, row_number() over () as r from public.companies) c on c.r = u.r %% 500 + 1
        """
    )
    world.sql(
        """
        insert into public.wapi_instances (user_id, company_id, unit, instance_id, instance_token, status, last_health_check)
        select gen_random_uuid(), c.id, 'U ' || n, 'LITE-' || n, 't', 'connected', now() - (n <= 600)::int * interval '10 minutes'
        from generate_series(1, %s) n
        join (select id, row_number() over () as r from public.companies) c on c.r = n %% 500 + 1
        """,
        LINES,
    )
    world.sql(
        """
        insert into public.wapi_conversations (instance_id, remote_jid, contact_phone, company_id)
        select i.id, '5511' || lpad(n::text, 9, '0') || '@s.whatsapp.net', '5511' || lpad(n::text, 9, '0'), i.company_id
        from generate_series(1, %s) n join public.wapi_instances i on i.instance_id = 'LITE-' || (n %% %s + 1)
        """,
        CHATS,
        LINES,
    )
    world.sql(
        """
        insert into public.wapi_messages (conversation_id, message_id, from_me, content, "timestamp", company_id)
        select c.id, 'M' || n, n %% 2 = 0, 'Oi', now() - n * interval '1 minute', c.company_id
        from generate_series(1, %s) n join (select *, row_number() over () as r from public.wapi_conversations) c on c.r = n %% %s + 1
        """,
        MESSAGES,
        CHATS,
    )
    world.sql(
        """
        insert into public.wapi_webhook_events
          (event_key, received_at, external_id, instance_id, event, kind, moment, body, outcome, processed_at)
        select md5(n::text), now() - n * interval '50 seconds', 'LITE-' || n, i.id, 'webhookDisconnected',
          case n %% 100 when 0 then 'disconnection' else 'ack' end, now(), case when n < 8000 then repeat('x', 300) end,
          'applied', now()
        from generate_series(1, %s) n left join public.wapi_instances i on i.instance_id = 'LITE-' || n
        order by md5(n::text)  -- where many rows have come and gone, neighbours in time are none on the disk
        """,
        EVENTS,
    )
    world.sql(
        """
        insert into public.notifications (user_id, company_id, type, title)
        select u.id, null, 'other', 'x' from generate_series(1, %s) n
        join (select id, row_number() over () as r from auth.users) u on u.r = n %% 2000 + 1
        """,
        NOTICES,
    )
    world.sql(
        """
        insert into public.instance_outages
          (instance_id, company_id, started_at, life_counts_from, opened_by, reason, closed_at, closed_as)
        select id, company_id, now() - interval '9 days', now(), 'sweep', 'x', now() - interval '8 days', 'alive'
        from public.wapi_instances, generate_series(1, 3)
        """
    )
    world.sql(
        """
        insert into public.instance_events (instance_id, company_id, kind, source, at)
        select id, company_id, 'status_changed', 'sweep', now() - n * interval '1 day' from public.wapi_instances, generate_series(1, 3) n
        """
    )
    world.sql(
        "insert into public.wapi_contact_lids select id, '1000000' || n || '@lid', '5511' || n from public.wapi_instances, generate_series(1, 4) n"
    )
    world.sql(
        "insert into public.instance_health (instance_id, last_alive_at, last_event_at) select id, now() - interval '1 hour', now() - interval '1 hour' from public.wapi_instances"
    )
    world.sql(
        "insert into public.restart_claims select 'wapi', instance_id, now() - interval '1 day' from public.wapi_instances"
    )
    world.sql(
        """
        insert into public.notices (occasion, kind, user_id, company_id, instance_id, text, since, state, told_at, notification_id)
        select 'outage:' || gen_random_uuid(), 'down', u.id, null, i.id, 'disconnected', now(), 'sent', now(), gen_random_uuid()
        from (select id, row_number() over () as r from public.wapi_instances) i
        join (select id, row_number() over () as r from auth.users) u on u.r = i.r %% 2000 + 1
        """
    )
    world.sql(
        """
        insert into public.instance_habits (instance_id, counted_from, heard, heard_quarter)
        select id, date_trunc('hour', now() - interval '10 weeks'), decode(repeat('27', 168), 'hex'), now() - interval '1 hour'
        from public.wapi_instances
        """
    )
    world.sql(
        """
        insert into public.instance_mutes (instance_id, company_id, proof, silent_since, since, suspected_at, repairs, closed_at, closed_as)
        select id, company_id, 'habit', now() - interval '9 days', now() - interval '9 days', now() - interval '9 days', 1,
          now() - interval '8 days', 'inconclusive'
        from public.wapi_instances, generate_series(1, 3)
        """
    )
    world.sql(
        """
        insert into public.instance_registrations (instance_id, external_id, next_try_at, claimed_at, found, set_at)
        select id, instance_id, now() + random() * interval '6 hours' - interval '5 minutes', now() - interval '1 hour', 'good',
          case when random() < 0.1 then now() - interval '9 days' end
        from public.wapi_instances
        """
    )
    world.sql("analyze")
    with psycopg.connect(world.stack.database_url, autocommit=True, row_factory=dict_row) as connection:
        yield Plans(connection)


def falls(world: World) -> None:
    """A line that has held, one whose fall lasts, one down for a day: something is due about each."""
    for line, told_as, started, closed in ((800, "unstable", 3, 2), (801, "damped", 1, None), (802, "down", 25, None)):
        world.sql(
            """
            with moments as (
              select now() - %s * interval '1 hour' as started_at, now() - %s * interval '1 hour' as closed_at
            ), fall as (
              insert into public.instance_outages
                (instance_id, company_id, started_at, life_counts_from, opened_by, reason, told_at, told_as, told_text,
                 closed_at, closed_as)
              select i.id, i.company_id, m.started_at, now(), 'sweep', 'x', m.started_at, %s, 'disconnected',
                m.closed_at, case when m.closed_at is not null then 'alive' end
              from public.wapi_instances i, moments m where i.instance_id = %s
              returning *
            ), heard as (
              insert into public.notices (occasion, kind, user_id, company_id, instance_id, text, outage_id, since, state, told_at)
              select 'outage:' || f.id, 'down', m.user_id, f.company_id, f.instance_id, 'disconnected', f.id, f.started_at,
                'sent', f.told_at
              from fall f join public.user_companies m on m.company_id = f.company_id
            )
            update public.instance_health h set tell_at = now() from fall f where h.instance_id = f.instance_id
            """,
            started, closed, told_as, f"LITE-{line}",
        )  # fmt: skip


def an_event(line: int, **fields: Any) -> bytes:
    common = {
        "instanceId": f"LITE-{line}",
        "connectedPhone": "5511900000001",
        "moment": 1_790_000_000,
        "isGroup": False,
    }
    return json.dumps({**common, **fields}).encode()


async def every_step_of_the_mutes(world: World, store: Store) -> None:
    """Lines silent by habit, one of them with unanswered sends; then one is heard, one told, and one proven."""
    world.sql(
        "update public.instance_health h set last_alive_at = now(), last_event_at = now() - interval '26 hours', bad_since = null"
        " from public.wapi_instances i where i.id = h.instance_id and i.instance_id in ('LITE-2000', 'LITE-2001', 'LITE-2002')"
    )
    for line in (2000, 2001):
        if line == 2001:
            await watch_mutes(store.mutes, rule=MutePolicy(), deadline=math.inf)
        world.sql(
            "with c as (insert into public.wapi_conversations (instance_id, remote_jid, contact_phone, last_message_from_me, last_message_at)"
            " select i.id, 'new-' || n, n::text, true, now() - interval '31 minutes'"
            " from public.wapi_instances i, generate_series(1, 3) n where i.instance_id = %s returning id)"
            ' insert into public.wapi_messages (conversation_id, message_id, from_me, status, content, "timestamp")'
            " select id, 'S' || id, true, 'sent', 'Oi', now() - interval '31 minutes' from c",
            f"LITE-{line}",
        )
    world.sql("update public.instance_mutes set repaired_at = now() - interval '1 hour' where closed_at is null")
    world.sql(
        "update public.instance_health h set last_event_at = now() from public.wapi_instances i"
        " where i.id = h.instance_id and i.instance_id = 'LITE-2002'"
    )
    await watch_mutes(store.mutes, rule=MutePolicy(), deadline=math.inf)


async def every_step_of_the_registrations(store: Store) -> None:
    """Lines whose turn it is, one that somebody suspects, one that was restarted; a part of the fleet is walked."""
    run = (await store.begin_sweep()).run_id
    due = await store.registrations.claim(run, registers=True, lines_a_page=200)
    assert len(due.lines) > 1
    first, *others = due.lines
    visits = [Visited(first, Visit.NOT_SET, WebhookState.MISSING, "without_effect")]
    visits += [Visited(line, Visit.KEPT, WebhookState.GOOD) for line in others]
    await store.registrations.record(visits, registers=True, own_address=True)


async def test_no_statement_reads_a_table_that_grows_from_end_to_end(world: World, grown: Plans) -> None:
    store = Store(grown, Policy())  # type: ignore[arg-type]
    world.sql(
        "update public.wapi_instances set status = 'disconnected' where instance_id in ('LITE-20', 'LITE-21', 'LITE-700')"
    )
    told = {f"LITE-{n}": Observation.DISCONNECTED for n in range(1, 4)} | {
        "LITE-5": Observation.REFUSED,
        "LITE-6": Observation.UNKNOWN,
    }
    limits = Limits(
        check_interval=timedelta(seconds=150), budget=timedelta(seconds=240), look_timeout=timedelta(seconds=2),
        ghost_confirm=timedelta(0), restart_verify=timedelta(0), look_concurrency=64, restart_concurrency=8,
    )  # fmt: skip

    await run_sweep(store, Answers(told), policy=Policy(), limits=limits)

    now = int(world.sql("select extract(epoch from now()) as t")[0]["t"])
    person = {
        "chat": {"id": "5511900000077"},
        "sender": {"id": "5511900000077", "senderLid": "100000000000077@lid", "pushName": "Ana"},
    }
    text = {"msgContent": {"conversation": "Oi"}}
    settings: Any = SimpleNamespace(policy=Policy(), confirm_disconnect_events=True, look_timeout=timedelta(seconds=2))
    for body in (
        an_event(100, event="webhookReceived", messageId="N1", moment=now, fromMe=False, **person, **text),
        an_event(100, event="webhookReceived", messageId="N2", moment=now, fromMe=False, chat={"id": "100000000000077@lid"}, **text),
        an_event(100, event="webhookDelivery", messageId="N3", moment=now, fromMe=True, chat={"id": "5511900000077"}, **text),
        an_event(100, event="webhookStatus", messageId="N3", moment=now, fromMe=True, status="READ", chat={"id": "5511900000077"}),
        an_event(100, event="webhookStatus", messageId="N9", moment=now, fromMe=True, status="READ", chat={"id": "5511900000077"}),
        an_event(100, event="webhookReceived", messageId="N4", moment=now, fromMe=False, **person,
                 msgContent={"protocolMessage": {"type": 14, "key": {"id": "N1"}, "editedMessage": {"conversation": "Olá"}}}),
        an_event(1, event="webhookDisconnected", disconnected=True, moment=now),
        an_event(101, event="webhookDisconnected", disconnected=True, moment=now),
        an_event(102, event="webhookDisconnected", disconnected=True, moment=now - 4000),
        an_event(20, event="webhookConnected", connected=True, moment=now + 1),
        an_event(700, event="webhookConnected", connected=True, connectedPhone=None, moment=now + 1),
        an_event(99_999, event="webhookConnected", connected=True, moment=now),
    ):  # fmt: skip
        await deliver(
            parse_event(body),
            store,
            lambda: Answers({"LITE-101": Observation.DISCONNECTED}),
            settings=settings,
            relay=None,
        )
    event = parse_event(
        an_event(102, event="webhookReceived", messageId="R1", moment=now, fromMe=False, **person, **text)
    )
    turn = (await store.receive_event(event, relay=True, relay_now=True)).relay
    assert turn is not None
    await store.turns.finish_relay(turn, [turn.events[0].id], refused=None, more=True)
    await store.turns.list_relay_backlog(20)
    await store.turns.claim_relay("LITE-102")
    await store.purge_history(Retention(), limit=5_000)
    await store.enter_brake()
    await store.retry_notices(limit=500)
    falls(world)
    told = await store.tell_what_is_due(limit=500)
    assert sum(bool(line.told) for line in told.lines) >= 3
    await store.find_late_clock()
    grown.call("draw_witnesses", {"p_limit": 20, "p_degraded_since": None})
    assert await store.count_up(30, degraded_since=datetime.now(UTC)) == 30
    await every_step_of_the_mutes(world, store)
    await every_step_of_the_registrations(store)

    wanted = {
        "begin_sweep", "claim_instances", "record_looks", "claim_restart", "apply_verdict", "finish_sweep", "purge_history",
        "receive_events", "settle_events", "enter_brake", "draw_witnesses", "retry_notices", "tell_what_is_due", "find_late_clock", "claim_relay", "finish_relay", "list_relay_backlog", "count_up",
        "review_silence", "find_heard", "note_silences", "open_mutes", "prove_mutes", "repair_mutes",
        "close_mutes", "tell_mute", "claim_registrations", "record_registrations",
    }  # fmt: skip
    assert grown.called == wanted
    scans = {scan for scan in grown.scans if scan[0] in GROWS}
    # Once a sweep, because no index of ours is on that table: which companies are not active. And where lines are owed
    # restarts, until as many lines are found that are up as the answer needs.
    scanned = {scan[2] for scan in scans if not scan[2].startswith("select count(*)::integer from (")}
    assert scanned <= {"select array_agg(id) from public.companies where is_active is false"}
    # A step of the purge ends where it has enough, however much is due.
    assert [statement for statement in grown.sorts if "order by received_at limit p_limit" in statement] == []


def lines_of_a_new_fleet(world: World, count: int) -> None:
    world.sql(
        "insert into public.wapi_instances (user_id, company_id, unit, instance_id, instance_token, status)"
        " select gen_random_uuid(), %s, 'U ' || n, 'LITE-' || n, 't', 'connected' from generate_series(1, %s) n",
        world.company(),
        count,
    )


@pytest.mark.parametrize("forbidden", [True, False])
def test_the_first_claims_of_a_fleet_without_statistics_read_no_table_whole(world: World, forbidden: bool) -> None:
    lines_of_a_new_fleet(world, 300)
    with psycopg.connect(world.stack.database_url, autocommit=True, row_factory=dict_row) as connection:
        plans = Plans(connection)
        with connection.transaction(force_rollback=True):
            # As new, whatever other tests have left in its statistics.
            connection.execute("truncate public.instance_health")
            if not forbidden:  # the test can see what it looks for
                connection.execute("alter function public.claim_instances reset enable_seqscan")
            due = {"p_due_before": "infinity", "p_lease": "5 minutes", "p_limit": 100}
            claimed = [len(plans.call("claim_instances", due)["instances"]) for _ in range(2)]

    assert claimed == [100, 100]
    assert bool({scan[0] for scan in plans.scans} & {"instance_health", "wapi_instances"}) is not forbidden


@pytest.mark.parametrize("forbidden", [True, False])
def test_no_plan_of_a_small_fleet_reads_a_grown_one_whole_for_events(world: World, forbidden: bool) -> None:
    lines_of_a_new_fleet(world, 3_000)

    def events(moment: int) -> list[dict[str, Any]]:
        bodies = [
            {
                "event": "webhookConnected",
                "instanceId": f"LITE-{n}",
                "connectedPhone": "5511988887777",
                "moment": moment,
            }
            for n in range(1, 17)
        ]
        return [event_row(parse_event(json.dumps(each).encode()), relay=False, relay_limit=0) for each in bodies]

    with psycopg.connect(world.stack.database_url, autocommit=True, row_factory=dict_row) as connection:
        plans = Plans(connection)
        given = {"p_texts": {}, "p_relay_turn": "30 seconds", "p_policy": policy_row(Policy())}
        with connection.transaction(force_rollback=True):
            connection.execute("truncate public.instance_health")
            if not forbidden:  # the test can see what it looks for
                connection.execute("alter function public.receive_events reset enable_seqscan")
            for moment in range(10):  # a session keeps the plan of its sixth call
                plans.call("receive_events", {"p_events": events(moment), **given})
            connection.execute(
                "insert into public.instance_health (instance_id) select id from public.wapi_instances on conflict do nothing"
            )
            plans.scans.clear()
            kept = plans.call("receive_events", {"p_events": events(20), **given})

    assert len(kept) == 16
    assert ("instance_health" in {scan[0] for scan in plans.scans}) is not forbidden

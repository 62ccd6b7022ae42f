"""Who may read and run what: walked over the catalogue, so that next year's table is covered, and tried as each role."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from postgrest.exceptions import APIError
from postgrest.types import ReturnMethod
from supabase import Client, create_client

if TYPE_CHECKING:
    from uuid import UUID

    from world import World

TABLES = (
    "companies", "user_companies", "wapi_instances", "notifications", "wapi_conversations", "wapi_messages",
    "instance_outages", "instance_events", "health_check_runs", "wapi_webhook_events", "wapi_contact_lids", "relay_turns",
    "instance_health", "restart_claims", "provider_state", "notices", "recovery_migrations", "instance_registrations",
    "conversation_bookkeeping", "message_reactions", "alert_contacts", "notice_deliveries", "operator_alerts",
    "alert_channels",
    "instance_habits", "instance_mutes",
)  # fmt: skip


def as_user(world: World, user: UUID) -> Client:
    client = create_client(world.stack.supabase_url, world.stack.anon_key)
    client.postgrest.auth(world.stack.user_token(user))
    return client


OPEN_TABLES = (
    "select c.oid::regclass::text as name from pg_class c where relnamespace = 'public'::regnamespace"
    " and relkind in ('r', 'p') and not relrowsecurity"
)
OPEN_VIEWS = (
    # A view reads with its owner's rights, past every policy, unless told otherwise.
    "select c.oid::regclass::text as name from pg_class c where relnamespace = 'public'::regnamespace"
    " and (relkind in ('m', 'f') or relkind = 'v' and not coalesce('security_invoker=true' = any (reloptions), false))"
)
LOOSE_FUNCTIONS = (
    "select p.oid::regprocedure::text as name from pg_proc p"
    " where pronamespace = 'public'::regnamespace and ("
    " has_function_privilege('anon', p.oid, 'execute') or has_function_privilege('authenticated', p.oid, 'execute')"
    " or not (prorettype = 'trigger'::regtype or has_function_privilege('service_role', p.oid, 'execute'))"
    " or exists (select from aclexplode(proacl) as a where a.grantee = 0)"
    # The platform's triggers find their own tables while we write theirs; everything else finds what it names in full.
    " or not coalesce(proconfig, '{}') @> array[case"
    " when not prosecdef and (proname = 'move_references' or prosrc ~* '(insert into|update|delete from) public\\.(wapi_instances|notifications|wapi_messages|wapi_conversations)\\M')"
    " then 'search_path=public, extensions, pg_temp' else 'search_path=\"\"' end]"
    # Nothing else is set but how the planner may go about it.
    " or exists (select from unnest(proconfig) as s where split_part(s, '=', 1)"
    " not in ('search_path', 'plan_cache_mode', 'enable_bitmapscan', 'enable_seqscan'))"
    " or obj_description(p.oid, 'pg_proc') is null"
    " or prosecdef and obj_description(p.oid, 'pg_proc') not like '%%security definer:%%')"
)
LOOSE_POLICIES = (
    # Of roles that anybody can take, for everybody's rows, or with conditions that let a row go where it may not be read.
    "select tablename || '.' || policyname as name from pg_policies where schemaname = 'public'"
    " and (roles && array['public', 'anon']::name[] or coalesce(qual, 'true') = 'true' and cmd <> 'INSERT'"
    " or cmd in ('INSERT', 'UPDATE', 'ALL') and coalesce(with_check, 'true') = 'true'"
    " or coalesce(qual, with_check) not like '%%auth.uid()%%')"
)
RIGHTS_OF_ANYBODY = (
    "select c.oid::regclass || ' ' || a.privilege_type as name from pg_class c, aclexplode(c.relacl) as a"
    " where c.relnamespace = 'public'::regnamespace and c.relkind in ('r', 'p', 'v', 'm', 'f')"
    " and a.grantee in (0, 'anon'::regrole::oid)"
    " union all"
    " select attrelid::regclass || '.' || attname || ' ' || a.privilege_type from pg_attribute, aclexplode(attacl) as a"
    " where attrelid in (select oid from pg_class where relnamespace = 'public'::regnamespace)"
    " and a.grantee in (0, 'anon'::regrole::oid)"
)
LOOSE_SEQUENCES = (
    "select c.oid::regclass::text as name from pg_class c, unnest(array['anon', 'authenticated']) as who"
    " where relkind = 'S' and relnamespace = 'public'::regnamespace"
    " and (has_sequence_privilege(who, c.oid, 'usage') or has_sequence_privilege(who, c.oid, 'update'))"
)
OTHER_SCHEMAS = (
    "select nspname as name from pg_namespace where nspname !~ '^pg_' and nspname not in"
    " ('public', 'auth', 'extensions', 'information_schema', 'supabase_migrations')"
)
LOOSE_TRIGGERS = (
    # A function of somebody else's, or one that was made in another schema, would run with our tables' rows.
    "select tgname::text as name from pg_trigger t join pg_proc p on p.oid = t.tgfoid join pg_class c on c.oid = t.tgrelid"
    " where not tgisinternal and c.relnamespace = 'public'::regnamespace and p.pronamespace <> 'public'::regnamespace"
    " union all select evtname::text from pg_event_trigger"
)
RULES = {
    "every table has row level security": OPEN_TABLES,
    "every view asks its reader's rights": OPEN_VIEWS,
    "every function is the service role's alone, described, with the search_path of its kind, a definer with its reason": LOOSE_FUNCTIONS,
    "every policy is for signed-in users and asks who they are": LOOSE_POLICIES,
    "anon and public have no right on anything": RIGHTS_OF_ANYBODY,
    "triggers call functions of ours": LOOSE_TRIGGERS,
    "there is no schema that this walk does not see": OTHER_SCHEMAS,
    "no sequence is anybody's but the service role's": LOOSE_SEQUENCES,
}


def names(world: World, query: str) -> list[str]:
    return [row["name"] for row in world.sql(query)]


@pytest.mark.parametrize("rule", RULES)
def test_over_the_whole_catalogue(world: World, rule: str) -> None:
    assert names(world, RULES[rule]) == []
    assert len(names(world, "select oid::text as name from pg_proc where pronamespace = 'public'::regnamespace")) > 10


@pytest.mark.parametrize(
    ("query", "careless", "caught"),
    [
        (OPEN_TABLES, "create table public.next_year (id int)", "next_year"),
        (OPEN_VIEWS, "create view public.everything as select * from public.companies", "everything"),
        (OPEN_VIEWS, "create materialized view public.kept as select 1 as one", "kept"),
        (LOOSE_FUNCTIONS, "create function public.f() returns int language sql set search_path = '' as 'select 1'; comment on function public.f is 'Open to all.'", "f()"),
        (LOOSE_FUNCTIONS, "create function public.f() returns int language sql as 'select 1'; comment on function public.f is 'x'; revoke execute on function public.f from public, anon, authenticated; grant execute on function public.f to service_role", "f()"),
        (LOOSE_FUNCTIONS, "create function public.f() returns int language sql set search_path = '' as 'select 1'; revoke execute on function public.f from public, anon, authenticated", "f()"),
        (LOOSE_FUNCTIONS, "create function public.f() returns int language sql security definer set search_path = '' as 'select 1'; comment on function public.f is 'x'; revoke execute on function public.f from public, anon, authenticated", "f()"),
        (LOOSE_FUNCTIONS, "create function public.f() returns void language sql set search_path = '' as 'update public.wapi_instances set unit = unit'; comment on function public.f is 'x'; revoke execute on function public.f from public, anon, authenticated; grant execute on function public.f to service_role", "f()"),
        (LOOSE_FUNCTIONS, "create function public.f() returns int language sql set search_path = public, extensions, pg_temp as 'select 1'; comment on function public.f is 'x'; revoke execute on function public.f from public, anon, authenticated; grant execute on function public.f to service_role", "f()"),
        (LOOSE_FUNCTIONS, "grant execute on function public.begin_sweep(timestamptz) to authenticated", "begin_sweep(timestamp with time zone)"),
        (LOOSE_POLICIES, "create policy all_see on public.companies for select to authenticated using (true)", "companies.all_see"),
        (LOOSE_POLICIES, "create policy any_see on public.companies for select using (id = auth.uid())", "companies.any_see"),
        (LOOSE_POLICIES, "create policy gives_away on public.notifications for update to authenticated using (user_id = auth.uid()) with check (true)", "notifications.gives_away"),
        (RIGHTS_OF_ANYBODY, "grant select on public.instance_outages to anon", "instance_outages SELECT"),
        (RIGHTS_OF_ANYBODY, "grant select (unit) on public.wapi_instances to public", "wapi_instances.unit SELECT"),
        (RIGHTS_OF_ANYBODY, "create table public.next_year (id int)", "next_year SELECT"),
        (LOOSE_SEQUENCES, "create sequence public.numbers", "numbers"),
        (OTHER_SCHEMAS, "create schema private", "private"),
        (LOOSE_TRIGGERS, "create function extensions.t() returns trigger language plpgsql as 'begin return new;end'; create trigger t before insert on public.companies for each row execute function extensions.t()", "t"),
    ],
)  # fmt: skip
def test_what_somebody_forgets_next_year_is_caught(world: World, query: str, careless: str, caught: str) -> None:
    world.sql("begin")
    try:
        for statement in careless.split("; "):
            world.sql(statement)
        assert caught in names(world, query)
    finally:
        world.sql("rollback")


def test_our_tables_are_there(world: World) -> None:
    found = world.sql("select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'")
    assert {row["relname"] for row in found} == set(TABLES)


def test_the_one_function_that_runs_with_its_owners_rights_is_a_trigger(world: World) -> None:
    definers = world.sql(
        "select proname, prorettype = 'trigger'::regtype as is_trigger from pg_proc"
        " where pronamespace = 'public'::regnamespace and prosecdef"
    )
    assert definers == [{"proname": "close_outage_of_paused_instance", "is_trigger": True}]


def test_members_cannot_read_tokens_and_write_nothing_but_what_their_screens_need(world: World) -> None:
    assert world.sql(
        "select has_column_privilege('authenticated', 'public.wapi_instances', 'instance_token', 'select') as may"
    ) == [{"may": False}]
    rights = world.sql(
        "select table_name, privilege_type from information_schema.role_table_grants"
        " where table_schema = 'public' and grantee = 'authenticated' and privilege_type <> 'SELECT'"
    )
    assert {(row["table_name"], row["privilege_type"]) for row in rights} == {("notifications", "DELETE")}
    columns = world.sql(
        "select table_name, column_name from information_schema.column_privileges"
        " where table_schema = 'public' and grantee = 'authenticated' and privilege_type = 'UPDATE'"
    )
    assert {(row["table_name"], row["column_name"]) for row in columns} == {
        ("notifications", "read"),
        ("wapi_conversations", "unread_count"),
        ("wapi_conversations", "bot_enabled"),
        ("wapi_conversations", "lead_id"),
    }


def test_a_user_reads_exactly_their_notices_and_their_companies_outages_and_events(world: World) -> None:
    mine, other = world.company("Minha"), world.company("Outra")
    me, colleague, stranger = world.user(mine), world.user(mine), world.user(other)
    lines = [world.line(mine, "Jardins", session="disconnected"), world.line(other, "Moema", session="disconnected")]
    for line in lines:
        world.behave(line, restart="refused")
    world.sweep()

    client = as_user(world, me)
    notices = client.table("notifications").select("*").execute().data
    assert {(notice["user_id"], notice["data"]["instance_name"]) for notice in notices} == {(str(me), "Jardins")}
    outages = client.table("instance_outages").select("unit").execute().data
    assert outages == [{"unit": "Jardins"}]
    events = client.table("instance_events").select("unit").execute().data
    assert {event["unit"] for event in events} == {"Jardins"}
    seen = client.table("wapi_instances").select("id, unit, status, last_health_check, status_reason").execute().data
    assert [row["unit"] for row in seen] == ["Jardins"]
    assert as_user(world, stranger).table("notifications").select("user_id").execute().data == [
        {"user_id": str(stranger)}
    ]
    assert colleague != me

    client.table("notifications").update({"read": True}).eq("user_id", str(me)).execute()
    assert [row["read"] for row in world.sql("select read from public.notifications where user_id = %s", me)] == [True]


def refused(call: Any) -> str:
    with pytest.raises(APIError) as caught:
        call.execute()
    return caught.value.code or ""


def test_a_user_reads_no_token_no_run_and_no_inbox(world: World) -> None:
    company = world.company()
    client = as_user(world, world.user(company))
    world.line(company)

    assert refused(client.table("wapi_instances").select("instance_token")) == "42501"
    assert refused(client.table("wapi_instances").select("*")) == "42501"
    assert refused(client.table("health_check_runs").select("*")) == "42501"
    assert refused(client.table("wapi_webhook_events").select("*")) == "42501"
    assert (
        refused(client.table("wapi_instances").update({"status": "connected"}).eq("company_id", str(company)))
        == "42501"
    )
    assert (
        refused(client.table("notifications").insert({"user_id": str(company), "type": "x", "title": "x"})) == "42501"
    )


@pytest.mark.parametrize("table", TABLES)
def test_anon_reads_nothing(world: World, table: str) -> None:
    anon = create_client(world.stack.supabase_url, world.stack.anon_key)
    assert refused(anon.table(table).select("*")) == "42501"


@pytest.mark.parametrize(
    "function", ["begin_sweep", "purge_history", "claim_instances", "receive_event", "notify_users"]
)
def test_neither_anon_nor_a_user_runs_our_functions(world: World, function: str) -> None:
    arguments = {"claim_instances": {"p_due_before": "2026-01-01", "p_lease": "1 second", "p_limit": 1}}.get(
        function, {}
    )
    user = as_user(world, world.user(world.company()))
    anon = create_client(world.stack.supabase_url, world.stack.anon_key)
    for client in (anon, user):
        # PGRST202: not even found by that name and those arguments.
        assert refused(client.rpc(function, arguments)) in ("42501", "PGRST202")
    assert world.sql("select * from public.health_check_runs") == []


def test_a_user_who_pauses_a_line_of_a_platform_that_lets_them_closes_its_outage(world: World) -> None:
    company = world.company()
    user = world.user(company)
    line = world.line(company, session="disconnected")
    world.behave(line, restart="refused")
    world.sweep()
    world.sql("grant update (is_active) on public.wapi_instances to authenticated")
    world.sql("create policy platform_pauses on public.wapi_instances for update to authenticated using (true)")
    try:
        lines = as_user(world, user).table("wapi_instances")
        lines.update({"is_active": False}, returning=ReturnMethod.minimal).eq("id", str(line.id)).execute()
    finally:
        world.sql("drop policy platform_pauses on public.wapi_instances")
        world.sql("revoke update (is_active) on public.wapi_instances from authenticated")

    assert [outage["closed_as"] for outage in world.outages(line)] == ["paused"]

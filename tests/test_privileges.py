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
)  # fmt: skip


def as_user(world: World, user: UUID) -> Client:
    client = create_client(world.stack.supabase_url, world.stack.anon_key)
    client.postgrest.auth(world.stack.user_token(user))
    return client


def test_row_level_security_is_on_for_every_table(world: World) -> None:
    without = world.sql(
        "select relname from pg_class where relnamespace = 'public'::regnamespace and relkind in ('r', 'p')"
        " and not relrowsecurity"
    )
    assert without == []


def test_our_tables_are_there(world: World) -> None:
    found = world.sql("select relname from pg_class where relnamespace = 'public'::regnamespace and relkind = 'r'")
    assert {row["relname"] for row in found} == set(TABLES)


def test_every_function_is_the_service_roles_alone(world: World) -> None:
    functions = world.sql(
        "select p.oid::regprocedure::text as name, p.prosecdef, p.proconfig, p.prorettype = 'trigger'::regtype as is_trigger,"
        " obj_description(p.oid) as comment,"
        " has_function_privilege('anon', p.oid, 'execute') as anon,"
        " has_function_privilege('authenticated', p.oid, 'execute') as authenticated,"
        " has_function_privilege('service_role', p.oid, 'execute') as service"
        " from pg_proc p where pronamespace = 'public'::regnamespace"
    )
    assert len(functions) > 10
    for function in functions:
        assert (function["anon"], function["authenticated"]) == (False, False), function["name"]
        assert function["service"] or function["is_trigger"], function["name"]
        assert function["proconfig"] == ['search_path=""'], function["name"]
        assert function["comment"], function["name"]
        if function["prosecdef"]:
            assert "security definer" in function["comment"], function["name"]


def test_anon_has_no_right_on_any_table(world: World) -> None:
    rights = world.sql(
        "select table_name, privilege_type from information_schema.role_table_grants"
        " where table_schema = 'public' and grantee in ('anon', 'PUBLIC')"
    )
    assert rights == []


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
    arguments = {"claim_instances": {"p_due_before": "2026-01-01", "p_lease_seconds": 1, "p_limit": 1}}.get(
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

"""GET /ready: what the smoke test of a deployment asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
from loopback import http
from pydantic import SecretStr

from shared.clients import Clients
from shared.database.store import NEWEST_MIGRATION
from shared.errors import StoreRefused
from shared.settings import SweepSettings

if TYPE_CHECKING:
    from wire import OnTheWire
    from world import World


@pytest.mark.parametrize("function", ["follow_up_check", "wapi_webhook"])
def test_both_functions_say_that_they_reach_a_migrated_database(world: World, function: str) -> None:
    answer = http.get(f"{world._served(function).url}/ready")
    assert (answer.status_code, answer.json()) == (200, {"status": "ready"})


async def test_a_database_without_the_newest_migration_is_not_migrated(world: World, ours: OnTheWire) -> None:
    assert await ours.store.is_migrated()
    [row] = world.sql("delete from public.recovery_migrations where version = %s returning *", NEWEST_MIGRATION)
    try:
        assert not await ours.store.is_migrated()
    finally:
        world.sql(
            "insert into public.recovery_migrations (version, applied_at) values (%s, %s)",
            row["version"],
            row["applied_at"],
        )


async def test_a_database_that_was_never_migrated_is_not_migrated(world: World, ours: OnTheWire) -> None:
    world.sql("alter table public.recovery_migrations rename to somewhere_else")
    try:
        assert not await ours.store.is_migrated()
    finally:
        world.sql("alter table public.somewhere_else rename to recovery_migrations")


async def test_another_roles_key_is_refused(world: World) -> None:
    settings = SweepSettings(
        supabase_url=world.stack.supabase_url, supabase_service_role_key=SecretStr(world.stack.anon_key), wapi_base_url="http://127.0.0.1:9/v1",
    )  # fmt: skip
    clients = Clients(settings)
    with pytest.raises(StoreRefused):
        await clients.store.is_migrated()
    await clients.aclose()

"""The committed row types against the schema that the migrations make."""

from __future__ import annotations

import importlib.util
import sys
from typing import TYPE_CHECKING, Any

import pytest
from loopback import http

from dev.types import PYTHON, TYPESCRIPT, row_types

if TYPE_CHECKING:
    from pathlib import Path

    from world import World

    from dev.stack import Stack


@pytest.fixture(scope="module")
def row_shapes() -> Any:
    """The committed file as a module: it is for the platform's code, nothing of ours imports it."""
    spec = importlib.util.spec_from_file_location("row_shapes", PYTHON)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generated(stack: Stack) -> dict[Path, str]:
    return row_types(stack.database_url)


@pytest.mark.parametrize("path", [PYTHON, TYPESCRIPT], ids=lambda path: path.name)
def test_the_committed_row_types_are_those_of_the_migrated_schema(path: Path, generated: dict[Path, str]) -> None:
    assert path.read_text("utf-8") == generated[path], "run `make types`"


def test_the_row_types_read_what_postgrest_answers(world: World, row_shapes: Any) -> None:
    """Rows of a real sweep and event, over the wire."""
    company = world.company(users=1)
    line = world.line(company, session="disconnected")
    world.event(world.disconnection(line))
    world.sweep()
    shapes: dict[str, Any] = {
        "companies": row_shapes.PublicCompanies,
        "user_companies": row_shapes.PublicUserCompanies,
        "wapi_instances": row_shapes.PublicWapiInstances,
        "instance_outages": row_shapes.PublicInstanceOutages,
        "instance_events": row_shapes.PublicInstanceEvents,
        "health_check_runs": row_shapes.PublicHealthCheckRuns,
        "wapi_webhook_events": row_shapes.PublicWapiWebhookEvents,
        "notifications": row_shapes.PublicNotifications,
    }
    for table, shape in shapes.items():
        answer = http.get(
            f"{world.stack.supabase_url}/rest/v1/{table}",
            headers={"apikey": world.stack.service_role_key, "Authorization": f"Bearer {world.stack.service_role_key}"},
        )
        rows = answer.json()
        assert rows, table
        for row in rows:
            assert shape.model_validate(row).model_dump().keys() == row.keys()

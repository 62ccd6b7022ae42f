"""Rotation, cleanup and migrations."""

from __future__ import annotations

import re
import subprocess
import sys
from typing import TYPE_CHECKING
from urllib.parse import quote, urlsplit

import psycopg
import pytest
import yaml
from cloud import DEPLOY, PLACE, PROJECT, SECRETS, SETTINGS, FakeCloud
from psycopg import sql

if TYPE_CHECKING:
    from dev.stack import Stack

OLD = SECRETS["WAPI_WEBHOOK_SECRETS"]
NEW = "a-new-secret-of-the-webhook"


def webhook_secrets(cloud: FakeCloud) -> list[tuple[str, bool]]:
    return [(each["value"], each["enabled"]) for each in cloud.state["secrets"]["wapi-webhook-secrets"]["versions"]]


def test_a_rotation_accepts_both_secrets_until_every_address_has_moved(ready: FakeCloud) -> None:
    done = ready.run("rotate", **SETTINGS, NEW_WEBHOOK_SECRET=NEW)
    assert done.status == 0, done.err
    lines = ready.asked
    served = [line.split("wapi-webhook-secrets:")[1][0] for line in lines if line.startswith("run deploy wapi-webhook")]

    assert webhook_secrets(ready) == [(OLD, False), (f"{NEW},{OLD}", False), (NEW, True)]
    assert served == ["2", "3"]
    assert ready.doctor == [f"-m ops.doctor --fix-webhooks|https://wapi-webhook-abc.a.run.app|{NEW}"]
    assert [line for line in lines if "versions disable" in line] == lines[-2:]
    for service in ("wapi-webhook", "follow-up-check"):  # whose pinned version is disabled does not start
        assert ready.state["services"][service]["tags"].keys() == {"candidate"}


def test_in_a_rotation_the_webhook_serves_the_new_secret_before_the_sweep_learns_it(ready: FakeCloud) -> None:
    before = len(ready.asked)
    assert ready.run("rotate", "begin", **SETTINGS, NEW_WEBHOOK_SECRET=NEW).status == 0
    promoted = [line.split()[3] for line in ready.asked[before:] if line.startswith("run services update-traffic")]

    assert promoted == ["wapi-webhook", "follow-up-check"]
    for service in promoted:
        assert "WAPI_WEBHOOK_SECRETS=wapi-webhook-secrets:2" in ready.deployment(service)["--set-secrets"]


def test_a_rotation_shows_no_secret(ready: FakeCloud) -> None:
    done = ready.run("rotate", **SETTINGS, NEW_WEBHOOK_SECRET=NEW)

    for secret in (OLD, NEW):
        assert secret not in done.out + done.err + " ".join(ready.asked)


def test_a_rotation_stops_before_the_old_secret_goes_when_an_address_did_not_move(ready: FakeCloud) -> None:
    (ready.folder / "ill").touch()
    stopped = ready.run("rotate", **SETTINGS, NEW_WEBHOOK_SECRET=NEW)
    held = webhook_secrets(ready)
    (ready.folder / "ill").unlink()
    again = ready.run("rotate", **SETTINGS, NEW_WEBHOOK_SECRET="another-secret-that-is-not-needed")

    assert (stopped.status, again.status) == (2, 0)
    assert held == [(OLD, True), (f"{NEW},{OLD}", True)]
    assert webhook_secrets(ready)[-1] == (NEW, True)


@pytest.mark.parametrize("new", ["short", "with,a-comma-in-the-midst", "with a space in the midst"])
def test_a_new_secret_that_the_function_would_not_take_is_refused(ready: FakeCloud, new: str) -> None:
    done = ready.run("rotate", **SETTINGS, NEW_WEBHOOK_SECRET=new)

    assert done.status == 2
    assert webhook_secrets(ready) == [(OLD, True)]


def test_cleanup_asks_first(ready: FakeCloud) -> None:
    before = ready.state
    done = ready.run("cleanup", **PLACE, stdin="yes\n")

    assert done.status == 2
    assert "nothing was deleted" in done.err
    assert "secrets: wapi-webhook-secrets" in done.out
    assert ready.state == before


@pytest.mark.parametrize(("arguments", "typed"), [((), "my-project\n"), (("--yes",), "")])
def test_cleanup_leaves_nothing_of_ours(ready: FakeCloud, arguments: tuple[str, ...], typed: str) -> None:
    done = ready.run("cleanup", *arguments, **PLACE, stdin=typed)
    assert done.status == 0, done.err
    left = ready.state
    again = ready.run("cleanup", "--yes", **PLACE)

    for kind in ("secrets", "accounts", "services", "jobs", "exclusions"):
        assert left[kind] == {}
    assert not [who for on, _, who in left["bindings"] if on == PLACE["PROJECT"]]
    assert again.status == 0, again.err


def test_cleanup_leaves_what_is_not_ours(ready: FakeCloud) -> None:
    ready.add("secrets", "database-password", {"ours": False, "versions": []})
    ready.add("accounts", "somebody@my-project.iam.gserviceaccount.com", {"ours": False})
    ready.add("services", "shop", {"ours": True, "traffic": {}, "tags": {}})
    ready.add("exclusions", "noise-of-others", "name=noise-of-others")
    done = ready.run("cleanup", "--yes", **PLACE)

    assert done.status == 0, done.err
    assert {kind: [*ready.state[kind]] for kind in ("secrets", "accounts", "services", "exclusions")} == {
        "secrets": ["database-password"], "accounts": ["somebody@my-project.iam.gserviceaccount.com"],
        "services": ["shop"], "exclusions": ["noise-of-others"],
    }  # fmt: skip
    assert "somebody-elses" not in " ".join(ready.asked)


def test_cleanup_finds_the_dashboard_by_its_title() -> None:
    title = yaml.safe_load((DEPLOY / "monitoring" / "dashboard.yaml").read_text("utf-8"))["displayName"]

    assert f'displayName="{title}"' in (DEPLOY / "cleanup").read_text("utf-8")


def test_a_cleanup_that_cannot_see_everything_deletes_nothing(ready: FakeCloud) -> None:
    before = ready.state
    ready.fail("secrets list")
    done = ready.run("cleanup", "--yes", **PLACE)

    assert done.status != 0
    assert ready.state == before


@pytest.mark.parametrize(
    ("address", "why"),
    [
        pytest.param("db.example.com", "must look like", id="a host alone"),
        pytest.param("u:p@h", "must look like", id="no scheme"),
        pytest.param("postgresql://u:hidden@pool.example.com:6543/d", "port 6543 is the transaction pooler", id="the transaction pooler"),
        pytest.param("postgresql://u:hidden@127.0.0.1:1/d?pgbouncer=true", "the port: nobody answers at 127.0.0.1:1", id="nobody there"),
    ],
)  # fmt: skip
def test_an_address_that_cannot_work_is_refused_without_showing_it(cloud: FakeCloud, address: str, why: str) -> None:
    done = cloud.run("migrate", DATABASE_URL=address, PYTHON=sys.executable)

    assert done.status == 2
    assert why in done.err
    assert address not in done.out + done.err
    assert "hidden" not in done.out + done.err


def test_migrations_apply_once_with_a_password(cloud: FakeCloud, stack: Stack) -> None:
    parts = urlsplit(stack.database_url)
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute("drop role if exists migrator")
        connection.execute(
            sql.SQL("create role migrator login superuser password {}").format(sql.Literal("p@ss:w%rd/ü"))
        )
        done = [
            cloud.run(
                "migrate",
                PYTHON=sys.executable,
                DATABASE_URL=f"postgresql://migrator:{password}@{parts.hostname}:{parts.port}{parts.path}?pgbouncer=true",
            )
            for password in (
                quote("p@ss:w%rd/ü", safe=""),
                "p@ss:w%rd/ü",
            )  # escaped as it should be, and as people paste it
        ]
        connection.execute("drop role migrator")

    for each in done:
        assert each.status == 0, each.out + each.err
        assert "up to date: nothing to apply" in each.out
        assert "p@ss" not in each.out + each.err


def test_what_migrating_needs_is_pinned_alone_and_is_all_it_imports() -> None:
    """An operator's machine and the pipeline have Python and no project."""
    script = "import sys; others = {*sys.modules}; import ops.migrate.cli; print(*({*sys.modules} - others))"
    done = subprocess.run(
        [sys.executable, "-c", script],
        cwd=PROJECT, capture_output=True, text=True, timeout=60, check=True,
    )  # fmt: skip
    pinned = re.findall(r"^([\w-]+)", (DEPLOY / "requirements.txt").read_text("utf-8"), re.MULTILINE)

    imported = {name.partition(".")[0] for name in done.stdout.split()}
    foreign = {name for name in imported if name not in sys.stdlib_module_names and not name.startswith("_")}
    assert foreign - {"ops", "shared", "cython_runtime"} <= {name.replace("-", "_") for name in pinned}


def test_the_pipeline_migrates_with_the_same_script() -> None:
    steps = {
        step["id"]: step["script"] for step in yaml.safe_load((PROJECT / "cloudbuild.yaml").read_text("utf-8"))["steps"]
    }

    assert [*steps] == ["check", "migrate", "release", "smoke", "promote"]
    assert "deploy/migrate" in steps["migrate"]
    assert all(f"deploy/deploy {name}" in steps[name] for name in ("release", "smoke", "promote"))

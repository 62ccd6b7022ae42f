import json
import os
import signal
import stat
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx
import psutil
import psycopg
import pytest
from loopback import http
from postgrest.exceptions import APIError
from supabase import Client, create_client
from waiting import GENEROUS_SECONDS, until

from dev import facts as facts_file
from dev.migrations import MigrationError
from dev.processes import Children, StackError
from dev.run_folder import StackFolder, clear_dead_folders
from dev.stack import Stack

PROJECT = Path(__file__).parents[2]
ANA = UUID("a0000000-0000-4000-8000-000000000001")
BRUNO = UUID("a0000000-0000-4000-8000-000000000002")

NOTES = """
create table public.notes (id int primary key, owner uuid, body text);
alter table public.notes enable row level security;
create policy own_notes on public.notes for select to authenticated using (owner = (select auth.uid()));
"""
WHO = """
create function public.who() returns jsonb language sql stable
as $$ select jsonb_build_object('role', auth.role(), 'uid', auth.uid(), 'current', current_user) $$;
"""


def write(folder: Path, **files: str) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / f"{name.removeprefix('v')}.sql").write_text(text, "utf-8")
    return folder


def processes_of(folder: Path) -> list[int]:
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "status"]):
        command = " ".join(process.info["cmdline"] or ())
        if str(folder) in command and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process.info["pid"])
    return found


def ask(database_url: str, query: str) -> Any:
    with psycopg.connect(database_url) as connection:
        row = connection.execute(query.encode()).fetchone()
    return row[0] if row else None


def folder_of(facts: dict[str, str]) -> Path:
    return Path(ask(facts["database_url"], "show data_directory")).parent.parent


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    migrations = write(tmp_path_factory.mktemp("stack") / "migrations", v1_notes=NOTES, v2_who=WHO)
    with Stack.start(seed=False, migrations=migrations) as running:
        service = create_client(running.supabase_url, running.service_role_key)
        rows = [
            {"id": 1, "owner": str(ANA), "body": "Tatuapé, 50% + 'vírgula', (a & b)"},
            {"id": 2, "owner": str(BRUNO), "body": "Moema"},
        ]
        service.table("notes").insert(rows).execute()
        yield running


@pytest.fixture
def service(stack: Stack) -> Client:
    return create_client(stack.supabase_url, stack.service_role_key)


def test_what_the_supabase_client_writes_it_reads_back_to_the_letter(stack: Stack, service: Client) -> None:
    body = "Tatuapé, 50% + 'vírgula', (a & b)"
    rows = service.table("notes").select("id", count="exact").eq("body", body).execute()
    assert (rows.data, rows.count) == ([{"id": 1}], 1)
    assert ask(stack.database_url, "select body from public.notes where id = 1") == body


def test_the_service_role_passes_row_level_security_and_anonymous_does_not(stack: Stack, service: Client) -> None:
    assert len(service.table("notes").select("id").execute().data) == 2
    anonymous = create_client(stack.supabase_url, stack.anon_key)
    assert anonymous.table("notes").select("id").execute().data == []


def test_a_user_token_reads_as_that_user(stack: Stack) -> None:
    client = create_client(stack.supabase_url, stack.anon_key)
    client.postgrest.auth(stack.user_token(ANA))
    assert client.table("notes").select("id").execute().data == [{"id": 1}]
    assert client.rpc("who").execute().data == {"role": "authenticated", "uid": str(ANA), "current": "authenticated"}


def test_a_secret_key_acts_as_the_service_role(stack: Stack) -> None:
    assert stack.secret_key.startswith("sb_secret_")
    client = create_client(stack.supabase_url, stack.secret_key)
    assert client.rpc("who").execute().data["current"] == "service_role"


def test_an_api_key_alone_is_enough_and_a_user_token_goes_before_a_secret_key(stack: Stack) -> None:
    url = f"{stack.supabase_url}/rest/v1/rpc/who"
    assert http.post(url, headers={"apikey": stack.service_role_key}).json()["current"] == "service_role"
    as_user = {"apikey": stack.secret_key, "Authorization": f"Bearer {stack.user_token(BRUNO)}"}
    assert http.post(url, headers=as_user).json()["uid"] == str(BRUNO)


@pytest.mark.parametrize(
    ("path", "headers", "status", "message"),
    [
        pytest.param("/rest/v1/notes", {}, 401, "No API key found in request", id="no key"),
        pytest.param("/rest/v1/notes", {"apikey": "sb_secret_else"}, 401, "Invalid API key", id="somebody else's key"),
        pytest.param("/auth/v1/user", {}, 404, "no Route matched with those values", id="another service"),
        pytest.param("/rest/v1notes", {}, 404, "no Route matched with those values", id="almost the prefix"),
    ],
)
def test_the_front_refuses_what_the_gateway_refuses(
    stack: Stack, path: str, headers: dict[str, str], status: int, message: str
) -> None:
    stack.postgrest_requests.reset()
    answer = http.get(stack.supabase_url + path, headers=headers)
    assert (answer.status_code, answer.json()) == (status, {"message": message})
    assert stack.postgrest_requests.total == 0


def test_requests_to_postgrest_are_counted_by_path_until_the_next_reset(stack: Stack, service: Client) -> None:
    stack.postgrest_requests.reset()
    service.rpc("who").execute()
    service.table("notes").select("id").limit(1).execute()
    service.table("notes").select("id").limit(1).execute()
    assert stack.postgrest_requests.total == 3
    assert stack.postgrest_requests.by_path == {"rpc/who": 1, "notes": 2}
    stack.postgrest_requests.reset()
    assert stack.postgrest_requests.total == 0


def test_a_large_body_arrives_whole_and_a_bodiless_answer_stays_bodiless(stack: Stack, service: Client) -> None:
    body = "ção" * 100_000
    service.table("notes").upsert({"id": 3, "body": body}).execute()
    assert service.table("notes").select("body").eq("id", 3).single().execute().data == {"body": body}
    headers = {"apikey": stack.service_role_key, "Prefer": "return=minimal"}
    gone = httpx.delete(f"{stack.supabase_url}/rest/v1/notes?id=eq.3", headers=headers)
    assert (gone.status_code, gone.content) == (204, b"")
    counted = httpx.head(
        f"{stack.supabase_url}/rest/v1/notes", headers={"apikey": stack.service_role_key, "Prefer": "count=exact"}
    )
    assert (counted.status_code, counted.headers["content-range"]) == (200, "0-1/2")


def test_what_a_migration_creates_belongs_to_everybody_until_it_is_revoked_as_on_supabase(stack: Stack) -> None:
    for role in ("anon", "authenticated", "service_role"):
        assert ask(stack.database_url, f"select has_function_privilege('{role}', 'public.who()', 'execute')")
        assert ask(stack.database_url, f"select has_table_privilege('{role}', 'public.notes', 'delete')")
    assert not ask(stack.database_url, "select has_table_privilege('authenticated', 'auth.users', 'select')")


def test_without_postgrest_the_front_answers_503_until_it_is_back(stack: Stack, service: Client) -> None:
    stack.stop_postgrest()
    with pytest.raises(APIError, match="PostgREST is not reachable"):
        service.rpc("who").execute()
    stack.start_postgrest()
    assert service.rpc("who").execute().data["role"] == "service_role"


def test_a_restarted_database_keeps_rows_and_address_and_postgrest_finds_it(stack: Stack, service: Client) -> None:
    before = stack.database_url
    stack.restart_postgres()
    assert stack.database_url == before
    assert len(service.table("notes").select("id").execute().data) == 2


def test_a_database_that_was_killed_can_be_started_again(stack: Stack, service: Client) -> None:
    postmaster = int((stack.folder / "pg/data/postmaster.pid").read_text().split()[0])
    os.kill(postmaster, signal.SIGKILL)
    until(lambda: not psutil.pid_exists(postmaster) or psutil.Process(postmaster).status() == psutil.STATUS_ZOMBIE)
    stack.start_postgres()
    assert len(service.table("notes").select("id").execute().data) == 2


def test_children_outlive_the_thread_that_asked_for_them(stack: Stack, service: Client) -> None:
    restart = threading.Thread(target=stack.restart_postgres)
    restart.start()
    restart.join()
    assert service.rpc("who").execute().data["role"] == "service_role"


def test_new_migrations_are_applied_once_and_seen_at_once(stack: Stack, service: Client, tmp_path: Path) -> None:
    migrations = write(
        tmp_path / "migrations",
        v1_notes="never executed: version 1 is recorded",
        v3_tags="create table public.tags (id int)",
    )
    assert stack.apply_migrations(migrations) == ["3_tags.sql"]
    assert service.table("tags").select("*").execute().data == []
    assert stack.apply_migrations(migrations) == []


def test_a_reading_of_the_schema_that_began_before_the_change_is_not_taken_for_the_asked_one(
    stack: Stack, service: Client
) -> None:
    [postgrest] = [
        psutil.Process(pid) for pid in processes_of(stack.folder) if "postgrest" in psutil.Process(pid).name()
    ]
    with psycopg.connect(stack.database_url, autocommit=True) as connection:
        connection.execute("create function public.late() returns int language sql as 'select 7'")
    asking = threading.Thread(target=stack.reload_schema)
    postgrest.suspend()  # it reads nothing, and says in its log that it has
    try:
        asking.start()
        with (stack.folder / "postgrest.log").open("a") as log:
            until(lambda: log.write("Schema cache loaded\n") and log.flush() is None and _reload_waits(stack, asking))
    finally:
        postgrest.resume()
    asking.join(GENEROUS_SECONDS)
    assert service.rpc("late").execute().data == 7
    assert ask(stack.database_url, "select count(*) from pg_class where relname like 'schema_of%'") == 0


def _reload_waits(stack: Stack, asking: threading.Thread) -> bool:
    markers = ask(stack.database_url, "select count(*) from pg_class where relname like 'schema_of%'")
    return markers == 1 or not asking.is_alive()


def test_a_failing_migration_leaves_nothing_and_names_file_sqlstate_and_line(stack: Stack, tmp_path: Path) -> None:
    migrations = write(
        tmp_path / "migrations",
        v10_good="create table public.good (id int);",
        v11_bad="create table public.bad (id int);\nselect 'á';\nselect nowhere;",
        v12_never="create table public.never (id int);",
    )
    with pytest.raises(
        MigrationError, match=r'^11_bad\.sql: SQLSTATE 42703: column "nowhere" does not exist; line 3$'
    ) as failed:
        stack.apply_migrations(migrations)
    assert (failed.value.file, failed.value.sqlstate) == (migrations / "11_bad.sql", "42703")
    tables = "select array_agg(relname::text) from pg_class where relname in ('good', 'bad', 'never')"
    assert ask(stack.database_url, tables) == ["good"]
    recorded = (
        "select array_agg(version order by version) from supabase_migrations.schema_migrations where version like '1_'"
    )
    assert ask(stack.database_url, recorded) == ["10"]


@pytest.mark.parametrize(
    ("files", "complaint"),
    [
        pytest.param({"v20_ends": "select 1; commit;"}, "20_ends.sql: ends the transaction", id="it commits by itself"),
        pytest.param(
            {
                "v22_late": "create table p (id int primary key); create table c (id int references p deferrable "
                "initially deferred); insert into c values (1);"
            },
            "22_late.sql: SQLSTATE 23503",
            id="a constraint objects at the commit",
        ),
        pytest.param({"v23_role": "set role anon;"}, "23_role.sql: SQLSTATE 42501", id="it goes on as another role"),
        pytest.param({"unnumbered": ""}, "unnumbered.sql: a migration is named", id="it has no version"),
        pytest.param({"v21_a": "", "v21_b": ""}, "21_b.sql: bears the same version as 21_a.sql", id="a version twice"),
    ],
)
def test_a_migration_that_the_cli_would_not_apply_as_written_is_refused(
    stack: Stack, tmp_path: Path, files: dict[str, str], complaint: str
) -> None:
    with pytest.raises(MigrationError, match=complaint):
        stack.apply_migrations(write(tmp_path / "migrations", **files))


def test_settings_of_one_migration_do_not_reach_the_next(stack: Stack, tmp_path: Path) -> None:
    migrations = write(
        tmp_path / "migrations",
        v30_sets="create schema elsewhere; set search_path = elsewhere;",
        v31_creates="create table lands_in_public (id int);",
    )
    stack.apply_migrations(migrations)
    assert ask(stack.database_url, "select to_regclass('public.lands_in_public')::text") == "lands_in_public"


@pytest.fixture
def own_tmp(monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A temporary directory for this test's stacks alone, which PostgreSQL's account can enter as well."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        Path(folder).chmod(0o711)
        monkeypatch.setattr(tempfile, "tempdir", folder)
        monkeypatch.setenv("TMPDIR", folder)
        yield Path(folder).resolve()


def test_two_stacks_run_at_once_and_a_closed_one_leaves_nothing(stack: Stack, tmp_path: Path, own_tmp: Path) -> None:
    seed = tmp_path / "seed.sql"
    seed.write_text("insert into auth.users (email) values ('x@example.com')")
    with Stack.start(migrations=write(tmp_path / "migrations"), seed_file=seed) as second:
        clear_dead_folders(None)  # what a third one would do first
        assert ask(second.database_url, "select count(*) from auth.users") == 1
        assert ask(stack.database_url, "select count(*) from auth.users") == 0
        assert len(processes_of(own_tmp)) >= 2
    assert (list(own_tmp.iterdir()), processes_of(own_tmp)) == ([], [])


def test_a_failed_start_leaves_nothing(tmp_path: Path, own_tmp: Path) -> None:
    with pytest.raises(MigrationError, match=r"^1_bad\.sql: SQLSTATE 42P01"):
        Stack.start(seed=False, migrations=write(tmp_path / "migrations", v1_bad="insert into nowhere values (1);"))
    assert (list(own_tmp.iterdir()), processes_of(own_tmp)) == ([], [])


def test_a_start_without_migrations_folder_says_so(tmp_path: Path) -> None:
    with pytest.raises(StackError, match=r"there is no folder of migrations at .*/nowhere"):
        Stack.start(migrations=tmp_path / "nowhere")


Foreground = Callable[..., subprocess.Popen[str]]


@pytest.fixture
def in_the_foreground(own_tmp: Path) -> Iterator[Foreground]:
    started: list[subprocess.Popen[str]] = []

    def start(facts: Path, *arguments: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [sys.executable, "-m", "dev.stack", *arguments],
            cwd=PROJECT,
            env={**os.environ, "STACK_FILE": str(facts)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        started.append(process)
        return process

    yield start
    for process in started:  # those that a failed test left
        if process.poll() is None:
            process.terminate()
            process.communicate()


def test_a_stack_in_the_foreground_serves_from_its_facts_and_leaves_nothing(
    in_the_foreground: Foreground, tmp_path: Path, own_tmp: Path
) -> None:
    file = tmp_path / "new" / "stack.json"
    running = in_the_foreground(file)
    until(lambda: file.exists() or running.poll() is not None)
    assert file.exists(), running.communicate()[0]
    facts = json.loads(file.read_text())
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert set(facts) == {"supabase_url", "anon_key", "service_role_key", "secret_key", "jwt_secret", "database_url"}
    token = in_the_foreground(file, "--user-token", "ana@example.com").communicate()[0].strip()
    ana = create_client(facts["supabase_url"], facts["anon_key"])
    ana.postgrest.auth(token)
    units = [row["unit"] for row in ana.table("wapi_instances").select("unit").order("unit").execute().data]
    assert units == ["Jardins", "Moema", "Pinheiros"]  # her company's, and her company's alone

    running.send_signal(signal.SIGINT)
    printed, _ = running.communicate(timeout=GENEROUS_SECONDS)
    assert running.returncode == 0, printed
    assert facts["supabase_url"] in printed
    assert (file.exists(), list(own_tmp.iterdir()), processes_of(own_tmp)) == (False, [], [])


def test_a_second_stack_leaves_the_first_ones_facts_alone(tmp_path: Path) -> None:
    file = tmp_path / "stack.json"
    first, second = {"supabase_url": "first"}, {"supabase_url": "second"}
    assert facts_file.write(first, file) == file
    other = facts_file.write(second, file)
    assert (facts_file.read(file), facts_file.read(other), other.parent) == (first, second, tmp_path)
    facts_file.remove_if_ours(second, other)
    assert list(tmp_path.iterdir()) == [file]
    facts_file.remove_if_ours(second, file)
    assert facts_file.read(file) == first


def test_without_a_running_stack_there_are_no_user_tokens(in_the_foreground: Foreground, tmp_path: Path) -> None:
    asked = in_the_foreground(tmp_path / "stack.json", "--user-token", str(ANA))
    assert "no stack is running" in asked.communicate()[0]
    assert asked.returncode == 1


def test_what_a_killed_run_left_is_cleared_by_the_next(
    in_the_foreground: Foreground, tmp_path: Path, own_tmp: Path
) -> None:
    file = tmp_path / "stack.json"
    killed = in_the_foreground(file, "--no-seed")
    until(lambda: file.exists() or killed.poll() is not None)
    killed.kill()
    killed.communicate()
    assert len(list(own_tmp.iterdir())) == 1
    assert file.exists()

    following = in_the_foreground(file, "--no-seed")
    until(lambda: not file.exists())  # nobody can take the dead stack's facts for the next one's
    until(lambda: file.exists() or following.poll() is not None)
    assert len(list(own_tmp.iterdir())) == 1
    following.send_signal(signal.SIGTERM)
    following.communicate(timeout=GENEROUS_SECONDS)
    assert (list(own_tmp.iterdir()), processes_of(own_tmp)) == ([], [])


def test_leftover_processes_are_ended_only_if_they_belong_to_the_dead_folder(tmp_path: Path, own_tmp: Path) -> None:
    sleeper = [sys.executable, "-c", "import time; time.sleep(60)"]
    dead, log, children = StackFolder(None), tmp_path / "log", Children()
    ours = children.start([*sleeper, dead.path / "postgrest.conf"], log=log, folder=tmp_path)
    stranger = children.start(sleeper, log=log, folder=tmp_path)
    (dead.path / "postgrest.pid").write_text(f"{ours.pid}\n")
    (dead.path / "pg" / "data").mkdir(parents=True)
    (dead.path / "pg" / "data" / "postmaster.pid").write_text(f"{stranger.pid}\n/some/where\n")

    clear_dead_folders(None)
    assert dead.path.exists()
    assert ours.poll() is None
    os.close(dead._lock)  # what the kernel does for a killed owner
    clear_dead_folders(None)
    assert not dead.path.exists()
    assert ours.wait(10) < 0  # by a signal; a slow machine's core dump may outlast the patience with the first one
    assert stranger.poll() is None
    children.close()
    assert stranger.poll() is not None

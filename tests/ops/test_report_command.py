"""``python -m ops.report`` against the real stack: what it reads, what it writes, and what it says when it cannot."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any
from uuid import UUID, uuid4

import pytest
from composites import mark_down
from outbox import contact
from pydantic import SecretStr
from waiting import GENEROUS_SECONDS

from ops.common.rows import Company
from ops.report import rows
from ops.report.cli import FAILED, MISUSED, WRITTEN, main
from ops.report.history import Bounds, History, read_history
from ops.report.rows import Line, Row
from shared.errors import StoreRefused, StoreUnavailable
from shared.settings import StoreSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from world import World

    from dev.stack import Stack

ROOT = Path(__file__).parents[2]


def environment(stack: Stack, **changed: str) -> dict[str, str]:
    return {
        "SUPABASE_URL": stack.supabase_url,
        "SUPABASE_SERVICE_ROLE_KEY": stack.service_role_key,
    } | changed


@dataclass(frozen=True)
class Ran:
    returncode: int
    stdout: str
    stderr: str


@pytest.fixture
def run_report(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> Callable[..., Ran]:
    """The command as if called in an empty folder, in this process: a new one takes seconds to load."""

    def run(settings: Mapping[str, str], *arguments: str) -> Ran:
        monkeypatch.chdir(tmp_path)
        for name, value in settings.items():
            monkeypatch.setenv(name, value)
        capsys.readouterr()
        try:
            code = main(arguments)
        except SystemExit as end:  # argparse's way to refuse
            code = int(end.code or 0)
        said = capsys.readouterr()
        return Ran(code, said.out, said.err)

    return run


def settings_of(stack: Stack, *, url: str | None = None, key: str | None = None) -> StoreSettings:
    return StoreSettings(
        supabase_url=url or stack.supabase_url, supabase_service_role_key=SecretStr(key or stack.service_role_key)
    )


async def read(world: World, **how: Any) -> History:
    return await read_history(settings_of(world.stack), datetime.now(UTC), **how)


def lived(world: World) -> tuple[UUID, Any]:
    """A company that has been through it: a death, restarts that did not help, bells, and a sweep that saw it all."""
    company = world.company("Cantina da Praça", users=2)
    world.lines(company, 5)
    dead = world.line(company, "Unidade Fênix", session="disconnected")
    world.behave(dead, restart="refused")
    world.sweep()
    world.pass_time(timedelta(minutes=35))
    world.sweep()
    return company, dead


# The page.


def test_the_page_tells_what_a_real_sweep_did(world: World, tmp_path: Path) -> None:
    _, dead = lived(world)
    ran = subprocess.run(
        [sys.executable, "-m", "ops.report"],
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "ENV_FILE": os.devnull, **environment(world.stack)},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (ran.returncode, ran.stderr) == (WRITTEN, "")
    assert re.fullmatch(r"report\.html: 6 lines, 1 open outage, \d+ kB, \d+\.\d s\n", ran.stdout)
    page = (tmp_path / "report.html").read_text("utf-8").replace("\u00a0", " ")
    for said in (
        "1 linha fora do ar", "Unidade Fênix", "Cantina da Praça", "(2 pessoas)", "não resolveu", dead.external_id,
        f"tel. final {dead.phone[-4:]}", "5 funcionando, 1 desconectada",
    ):  # fmt: skip
        assert said in page, said
    assert world.outages(dead)[0]["restarts"] == page.count('<span class="bad">não resolveu</span>')


def test_no_token_no_key_and_no_whole_phone_is_in_the_page_or_was_asked_for(
    world: World, run_report: Callable[..., Ran], tmp_path: Path
) -> None:
    company, dead = lived(world)
    ran = run_report(environment(world.stack), "--out", "p.html", "--company", str(company))
    everything = (tmp_path / "p.html").read_text("utf-8") + ran.stdout + ran.stderr
    for secret in (dead.token, "token-of-line", dead.phone, dead.phone[-8:], world.stack.service_role_key):
        assert secret not in everything
    shapes = [shape for shape in vars(rows).values() if isinstance(shape, type) and issubclass(shape, Row)]
    assert {Line, Company} < {*shapes, Company}
    for shape in (*shapes, Company):
        if shape is Row:
            continue
        assert "token" not in shape.columns()
        assert "*" not in shape.columns()


def test_the_report_changes_nothing(world: World, run_report: Callable[..., Ran], tmp_path: Path) -> None:
    lived(world)
    tables = (
        "wapi_instances", "instance_health", "instance_outages", "instance_events", "notices", "health_check_runs",
        "notifications",
    )  # fmt: skip
    everything = " union all ".join(
        f"select '{table}' as name, to_jsonb(t) as row from public.{table} t" for table in tables
    )
    before = world.sql(f"select name, row::text as row from ({everything}) a order by 1, 2")
    assert run_report(environment(world.stack)).returncode == WRITTEN
    assert world.sql(f"select name, row::text as row from ({everything}) a order by 1, 2") == before


def test_an_open_outage_says_which_contacts_were_told_by_what(
    world: World, run_report: Callable[..., Ran], tmp_path: Path
) -> None:
    company = world.company(users=1)
    contact(world, company, "5511988887777", channel="whatsapp")
    contact(world, company, "ana@example.com", after=60)
    mark_down(world, world.line(company, "Centro"))
    world.sql(
        "update public.notice_deliveries set state = 'sent', sent_at = now(), acked_at = now() where channel = 'whatsapp'"
    )

    assert run_report(environment(world.stack), "--out", "page.html").returncode == WRITTEN

    text = re.sub(r"<[^>]+>", "", (tmp_path / "page.html").read_text("utf-8"))
    assert re.search(r"Contatos\s*WhatsApp …7777: enviado .*, chegou ao aparelho", text)
    assert re.search(r"e-mail ….com: ainda não, previsto", text)
    assert "98888" not in text
    assert "ana@" not in text


def test_one_company_alone(world: World, run_report: Callable[..., Ran], tmp_path: Path) -> None:
    mine, other = world.company("Minha <b>Empresa</b>"), world.company("Outra")
    world.line(mine, "Moema")
    world.line(other, "Tatuapé", status="disconnected")
    world.company("Duas"), world.company("duas")
    two = run_report(environment(world.stack), "--company", "DUAS")
    assert (two.returncode, two.stderr.startswith("2 companies are called DUAS: name one of ")) == (FAILED, True)
    near = run_report(environment(world.stack), "--company", "empresa")
    assert near.stderr == "there is no company empresa; there is Minha <b>Empresa</b>\n"
    ran = run_report(environment(world.stack), "--company", " minha <B>empresa</b> ")
    assert "1 line, 0 open outages" in ran.stdout
    (tmp_path / "report.html").unlink()
    ran = run_report(environment(world.stack), "--company", str(mine))
    assert "1 line, 0 open outages" in ran.stdout
    page = (tmp_path / "report.html").read_text("utf-8")
    assert "Minha &lt;b&gt;Empresa&lt;/b&gt;" in page
    assert "Moema" in page
    assert "Outra" not in page
    assert "Tatuapé" not in page


def test_a_watched_page_is_written_until_somebody_ends_it(world: World, tmp_path: Path) -> None:
    world.line(world.company())
    page = tmp_path / "report.html"
    with subprocess.Popen(
        [sys.executable, "-m", "ops.report", "--watch", "600"], cwd=tmp_path, text=True,
        env={"PATH": os.environ["PATH"], "PYTHONPATH": str(ROOT), "ENV_FILE": os.devnull, **environment(world.stack)},
        stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    ) as watching:  # fmt: skip
        assert watching.stdout
        assert watching.stdout.readline().startswith("report.html: 1 line, ")
        watching.send_signal(signal.SIGINT)
        _, err = watching.communicate(timeout=GENEROUS_SECONDS)
    assert (watching.returncode, err) == (130, "report: interrupted: report.html was written 1 time\n")
    assert '<meta http-equiv="refresh" content="600">' in page.read_text("utf-8")


def test_a_project_without_a_line_has_a_page(world: World, run_report: Callable[..., Ran], tmp_path: Path) -> None:
    ran = run_report(environment(world.stack))
    assert ran.returncode == WRITTEN
    assert "Nenhuma linha cadastrada" in (tmp_path / "report.html").read_text("utf-8")


# What can go wrong.


@pytest.mark.parametrize(
    ("changed", "arguments", "ends"),
    [
        pytest.param({"SUPABASE_URL": ""}, [], (MISUSED, "settings: SUPABASE_URL is missing"), id="no address"),
        pytest.param({"SUPABASE_URL": "", "SUPABASE_SERVICE_ROLE_KEY": ""}, [], (MISUSED, "SUPABASE_URL is missing; SUPABASE_SERVICE_ROLE_KEY is missing"), id="nothing is set"),
        pytest.param({"SUPABASE_SERVICE_ROLE_KEY": "abc"}, [], (MISUSED, "must be a service-role JWT"), id="no key"),
        pytest.param({}, ["--company", "Alegria"], (FAILED, "there is no company Alegria"), id="not a company's name"),
        pytest.param({}, ["--watch", "1"], (MISUSED, "must be at least 5"), id="too often"),
        pytest.param({}, ["--company", "00000000-0000-4000-8000-000000000000"], (FAILED, "there is no company"), id="no such company"),
        pytest.param({"SUPABASE_URL": "http://127.0.0.1:9"}, [], (FAILED, "the database does not answer"), id="nobody answers"),
        pytest.param({"SUPABASE_SERVICE_ROLE_KEY": "sb_secret_of-another-project"}, [], (FAILED, "is not this project's service-role key"), id="another project's key"),
        pytest.param({}, ["--out", "no/such/folder.html"], (FAILED, "no/such/folder.html: No such file or directory"), id="no such folder"),
        pytest.param({}, ["--out", "."], (FAILED, "directory"), id="a folder"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_said_in_a_line_and_nothing_is_written(
    world: World, run_report: Callable[..., Ran], changed: dict[str, str], arguments: list[str], ends: tuple[int, str]
) -> None:
    ran = run_report(environment(world.stack, **changed), *arguments)
    assert ran.returncode == ends[0]
    assert ends[1] in ran.stderr
    assert ran.stdout == ""
    assert list(Path.cwd().iterdir()) == []


def test_the_old_page_stays_until_the_new_one_is_whole(
    world: World, run_report: Callable[..., Ran], tmp_path: Path
) -> None:
    page = tmp_path / "report.html"
    page.write_text("old")
    failed = run_report(environment(world.stack, SUPABASE_SERVICE_ROLE_KEY=world.stack.anon_key))
    assert (failed.returncode, page.read_text()) == (FAILED, "old")
    assert "is not this project's service-role key" in failed.stderr
    assert run_report(environment(world.stack)).returncode == WRITTEN
    assert page.read_text("utf-8").rstrip().endswith("</html>")
    assert [each.name for each in tmp_path.iterdir()] == ["report.html"]


def test_a_link_is_written_through(world: World, run_report: Callable[..., Ran], tmp_path: Path) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "report.html").symlink_to(tmp_path / "site" / "index.html")
    assert run_report(environment(world.stack)).returncode == WRITTEN
    assert (tmp_path / "report.html").is_symlink()
    assert (tmp_path / "site" / "index.html").stat().st_size > 1000


# The reading.


async def test_more_rows_than_a_page_holds_are_all_read(world: World) -> None:
    company = world.company()
    world.sql(
        "insert into public.wapi_instances (user_id, company_id, unit, instance_id, instance_token)"
        " select gen_random_uuid(), %s, n::text, 'LITE-' || n, 't' from generate_series(1, 2100) n",
        company,
    )
    world.sql(
        "insert into public.health_check_runs (started_at, finished_at) select t, t from (select now() - n * interval '7 minutes' t from generate_series(1, 2100) n) s"
    )
    # Many at one and the same instant: a page may end between them.
    world.sql(
        "insert into public.instance_events (at, instance_id, kind, source, details)"
        " select now() - interval '1 day', gen_random_uuid(), 'restart_requested', 'sweep', '{\"told\": 2}' from generate_series(1, 2100) n"
    )
    world.sql(
        "insert into public.instance_outages (instance_id, started_at, life_counts_from, opened_by, reason, closed_at, closed_as)"
        " select gen_random_uuid(), now() - interval '2 days', now(), 'sweep', 'ghost', now() - interval '1 day', 'alive' from generate_series(1, 2100) n"
    )
    known = await read(world)
    assert len({each.unit for each in known.lines}) == 2100
    assert len({each.id for each in known.runs}) == 2100
    assert [each.started_at for each in known.runs] == sorted(each.started_at for each in known.runs)
    assert len({each.id for each in known.events}) == 2100
    assert {each.told for each in known.events} == {2}
    assert len({each.id for each in known.outages}) == 2100
    assert not known.lines_left


async def test_what_the_bounds_leave_out_is_the_oldest_and_is_known_to_be_missing(world: World) -> None:
    company = world.company()
    world.lines(company, 3, at_provider=False)
    world.sql(
        "insert into public.health_check_runs (started_at) select now() - n * interval '1 hour' from generate_series(1, 9) n"
    )
    world.sql(
        "insert into public.instance_events (at, instance_id, kind, source)"
        " select now() - n * interval '1 hour', gen_random_uuid(), 'restart_failed', 'sweep' from generate_series(1, 9) n"
    )
    world.sql(
        "insert into public.instance_outages (instance_id, started_at, life_counts_from, opened_by, reason, closed_at, closed_as)"
        " select gen_random_uuid(), now() - interval '2 days', now(), 'sweep', 'ghost', now() - n * interval '1 hour', 'alive' from generate_series(1, 9) n"
    )
    known = await read(world, bounds=Bounds(lines=2, closed_outages=4, events=5, runs=6))
    assert (len(known.lines), known.lines_left) == (2, True)
    hours = [
        round((datetime.now(UTC) - each).total_seconds() / 3600)
        for each in (known.outages_since, known.events_since, known.runs_since)
    ]
    assert hours == [4, 5, 6]


async def test_only_what_the_page_shows_is_read(world: World) -> None:
    company = world.company()
    line = world.line(company, at_provider=False)
    old = "now() - interval '31 days'"
    world.sql(f"insert into public.health_check_runs (started_at) values ({old})")
    world.sql(
        f"insert into public.instance_events (at, instance_id, kind, source) values ({old}, %s, 'restart_failed', 'sweep'), (now(), %s, 'phone_changed', 'webhook')",
        line.id,
        line.id,
    )
    for closed_at, closed_as in ((None, None), (datetime.now(UTC) - timedelta(days=31), "alive")):
        world.sql(
            f"insert into public.instance_outages (instance_id, company_id, started_at, life_counts_from, opened_by, reason, closed_at, closed_as)"
            f" values (%s, %s, {old}, now(), 'sweep', 'ghost', %s, %s)",
            line.id, company, closed_at, closed_as,
        )  # fmt: skip
    known = await read(world)
    assert (known.runs, known.events) == ([], [])
    assert [each.closed_at for each in known.outages] == [None]
    assert (await read(world, company=uuid4())).outages == []
    assert len((await read(world, company=company)).outages) == 1


async def test_the_last_signs_of_life_are_those_of_our_own_table(world: World) -> None:
    company = world.company()
    seen, unknown = world.lines(company, 2, at_provider=False)
    alive, heard = datetime(2026, 11, 26, 12, tzinfo=UTC), datetime(2026, 11, 26, 12, 5, tzinfo=UTC)
    world.sql(
        "insert into public.instance_health (instance_id, last_alive_at, last_event_at) values (%s, %s, %s)",
        seen.id, alive, heard,
    )  # fmt: skip
    known = {each.id: (each.last_alive_at, each.last_event_at) for each in (await read(world, company=company)).lines}
    assert known == {seen.id: (alive, heard), unknown.id: (None, None)}


async def test_mute_lines_of_a_month_are_read_and_mere_silences_are_not(world: World) -> None:
    company = world.company()
    line = world.line(company, at_provider=False)
    for number, (proof, closed, closed_as) in enumerate(
        [
            ("sends", None, None),
            ("habit", timedelta(days=1), "registration_lost"),
            ("habit", timedelta(days=1), "inconclusive"),
            ("habit", None, None),
            ("sends", timedelta(days=31), "provider_delivery"),
        ]
    ):
        world.sql(
            "insert into public.instance_mutes (instance_id, company_id, proof, silent_since, since, suspected_at, closed_at,"
            " closed_as) select %s, %s, %s, t.at, t.at, t.at, now() - %s::interval, %s from (select now() - interval '40 days' as at) t",
            line.id if number == 0 else uuid4(), company, proof, closed, closed_as,
        )  # fmt: skip
    known = await read(world, company=company)
    assert {(each.proof, each.closed_as) for each in known.mutes} == {("sends", None), ("habit", "registration_lost")}
    assert all(each.is_shown for each in known.mutes)
    assert (await read(world, company=uuid4())).mutes == []


async def test_lines_of_other_providers_are_no_lines_of_the_report(world: World) -> None:
    company = world.company()
    lines = {
        provider: world.line(company, at_provider=False, provider=provider)
        for provider in ("wapi", None, "W-API", "", "zapi", "evolution")
    }
    known = {each.id for each in (await read(world)).lines}
    assert known == {lines[provider].id for provider in ("wapi", None, "W-API")}


async def test_who_was_told_is_what_the_notices_say(world: World) -> None:
    company = world.company()
    ids = {name: uuid4() for name in ("told", "silent", *(f"more {number}" for number in range(60)))}
    for name, outage in ids.items():
        world.sql(
            "insert into public.instance_outages (id, instance_id, company_id, started_at, life_counts_from, opened_by, reason, told_at, told_as)"
            " values (%s, gen_random_uuid(), %s, now(), now(), 'sweep', 'ghost', case when %s then now() end, %s)",
            outage, company, name != "silent", "down" if name != "silent" else None,
        )  # fmt: skip
        for kind, state in (("down", "sent"), ("unstable", "sent"), ("down", "refused"), ("back", "sent")):
            world.sql(
                "insert into public.notices (occasion, kind, text, state, user_id, instance_id, since, told_at)"
                " values (%s, %s, 'disconnected', %s, gen_random_uuid(), gen_random_uuid(), now(), now())",
                f"outage:{outage}", kind, state,
            )  # fmt: skip
    assert (await read(world)).told == {outage: 2 for name, outage in ids.items() if name != "silent"}


async def test_dirty_rows_of_a_living_platform_are_read(world: World) -> None:
    company = world.company()
    world.line(company, status=None, phone_number=None, is_active=None, at_provider=False, seen_before=False)
    world.line(company, status="unauthorized", instance_id=None, unit="\n", at_provider=False)
    lines = {each.standing for each in (await read(world)).lines}
    assert {each.value for each in lines} == {"disconnected"}


@pytest.mark.parametrize("status", [429, 502, 503, 504])
async def test_a_gateway_in_front_of_the_database_is_away(httpx_mock: Any, status: int) -> None:
    for _ in range(7):
        httpx_mock.add_response(status_code=status, json={"message": "secret words"}, is_optional=True)
    settings = StoreSettings(
        supabase_url="https://x.supabase.co", supabase_service_role_key=SecretStr("sb_secret_0123456789")
    )
    with pytest.raises(StoreUnavailable) as raised:
        await read_history(settings, datetime.now(UTC))
    assert raised.value.code.startswith(f"HTTP {status}")
    assert "secret words" not in str(raised.value)


async def test_a_row_that_is_not_what_we_know_is_named_and_not_quoted(httpx_mock: Any) -> None:
    row = dict.fromkeys(Line.model_fields) | {
        "id": "00000000-0000-4000-8000-000000000001",
        "created_at": "5511987654321 x",
    }
    httpx_mock.add_response(text=json.dumps([row]), url=re.compile(r".*/wapi_instances.*"), is_optional=True)
    httpx_mock.add_response(json=[], is_optional=True, is_reusable=True)
    settings = StoreSettings(
        supabase_url="https://x.supabase.co", supabase_service_role_key=SecretStr("sb_secret_0123456789")
    )
    with pytest.raises(StoreRefused, match=r"wapi_instances: unexpected value in created_at") as raised:
        await read_history(settings, datetime.now(UTC))
    assert "5511987654321" not in str(raised.value)

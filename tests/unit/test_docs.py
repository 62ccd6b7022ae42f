"""README and docs against the code: every link leads somewhere, and every setting and log line has its row."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from ops.migrate.effects import REQUIRED
from shared.settings import SweepSettings, WebhookSettings

if TYPE_CHECKING:
    from collections.abc import Iterator


PROJECT = Path(__file__).parents[2]
FOLDERS = ("bench", "deploy", "dev", "docs", "functions", "ops", "shared", "supabase", "tests")
PAGES = sorted([*PROJECT.glob("*.md"), *(PROJECT / "docs").glob("*.md")])
SOURCES = "\n".join(
    path.read_text("utf-8") for folder in ("shared", "functions") for path in sorted((PROJECT / folder).rglob("*.py"))
)
OPERATE = (PROJECT / "docs" / "operate.md").read_text("utf-8")
ADOPT = (PROJECT / "docs" / "adopt.md").read_text("utf-8")
DEPLOY = (PROJECT / "docs" / "deploy.md").read_text("utf-8")
OF_THE_FRAMEWORK = {"LOG_EXECUTION_ID"}
NONE = "\N{EN DASH}"
SETTINGS = {**SweepSettings.model_fields, **WebhookSettings.model_fields}


def rows(page: str, chapter: str) -> dict[str, str]:
    """The rows of a chapter's tables, by their first cell."""
    _, _, rest = page.partition(f"\n## {chapter}\n")
    lines = rest.partition("\n## ")[0].splitlines()
    return {line.split("|")[1].strip(): line for line in lines if line.startswith("| ")}


def anchors(page: Path) -> set[str]:
    """Of its headings, as GitHub makes them."""
    text = re.sub(r"```.*?```", "", page.read_text("utf-8"), flags=re.DOTALL)
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def links(page: Path) -> Iterator[str]:
    text = page.read_text("utf-8")
    yield from re.findall(r"\]\(([^)\s]+)\)", text)
    yield from re.findall(r'<img src="([^"]+)"', text)


def logged_facts() -> set[str]:
    """Every fact that the functions log, by its constant name."""
    named = set(re.findall(r'(?:logs\.\w+|_guarded|count_error)\(\s*"([a-z_]+\.[a-z_]+)"', SOURCES))
    named |= set(re.findall(r'^FACT: Final = "([a-z_.]+)"', SOURCES, re.MULTILINE))
    named |= {f"{doing}.failed" for doing in re.findall(r'guarded\("([a-z]+)"', SOURCES)}
    named |= {f"instance.{word}" for word in ("connected", "degraded", "disconnected")}
    named |= {f"restart.{word}" for word in ("recovered", "failed", "unverified")}
    return named


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_file_that_is_named_exists(page: Path) -> None:
    named = re.findall(rf"`({'|'.join(FOLDERS)})/([\w./-]+)`", page.read_text("utf-8"))

    assert [f"{folder}/{rest}" for folder, rest in named if not (PROJECT / folder / rest).exists()] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_make_target_that_is_named_exists(page: Path) -> None:
    targets = re.findall(r"^(\w+):", (PROJECT / "Makefile").read_text("utf-8"), re.MULTILINE)
    named = re.findall(r"(?:`|^)make (\w+)", page.read_text("utf-8"), re.MULTILINE)

    assert set(named) <= set(targets)


def test_the_title_of_a_decision_is_a_dated_question() -> None:
    titles = re.findall(r"^### (.+)$", (PROJECT / "DECISIONS.md").read_text("utf-8"), re.MULTILINE)

    assert len(titles) > 60
    assert [title for title in titles if not re.search(r"\? \(20\d\d-\d\d-\d\d(, 20\d\d-\d\d-\d\d)*\)$", title)] == []


def test_an_errand_names_what_stands_in_its_files() -> None:
    text = (PROJECT / "CONTRIBUTING.md").read_text("utf-8")
    named = [
        (path, name)
        for path, words in re.findall(r"`([\w/]+\.py)` \(([^)]+)\)", text)
        for name in re.findall(r"`(\w+)`", words)
    ]

    assert len(named) > 5
    for path, name in named:
        assert re.search(rf"\b{name}\b", (PROJECT / path).read_text("utf-8")), (path, name)


def test_the_readme_is_for_the_first_ten_minutes() -> None:
    assert len((PROJECT / "README.md").read_text("utf-8").splitlines()) <= 150


def test_every_setting_has_its_row_with_its_default() -> None:
    told = {name.strip("`"): row.split("|")[2].strip().strip("`") for name, row in rows(DEPLOY, "Settings").items()}
    told.pop("variable")

    assert told.keys() == {name.upper() for name in SETTINGS} | OF_THE_FRAMEWORK
    for name, field in SETTINGS.items():
        if field.is_required():
            assert told[name.upper()].startswith("required"), name
        else:
            default = field.default
            plain = f"{default:g}" if isinstance(default, float) else str(default)
            shown = NONE if default is None else plain.lower() if isinstance(default, bool) else plain
            assert told[name.upper()] == shown, name


def test_what_a_platform_must_have_stands_in_the_docs_as_the_migrations_want_it() -> None:
    told = {
        table.strip("` "): tuple(re.findall(r"`(\w+)`", row.split("|")[2].partition("; unique")[0]))
        for table, row in rows(ADOPT, "Which tables and columns it needs").items()
        if table != "table"
    }

    assert {table: set(columns) for table, columns in told.items()} == {
        table: set(columns) for table, columns in REQUIRED.items()
    }


def test_every_fact_that_the_functions_log_has_its_row() -> None:
    named = " ".join(rows(OPERATE, "Log lines"))

    facts = logged_facts()
    assert len(facts) > 35
    assert [fact for fact in sorted(facts) if f"`{fact}`" not in named] == []


def test_every_row_is_about_a_fact_that_the_functions_log() -> None:
    named = set(re.findall(r"`([a-z]+\.[a-z_]+)`", " ".join(rows(OPERATE, "Log lines"))))

    assert named == logged_facts()


def test_a_fact_stands_there_with_its_severity() -> None:
    for cell in rows(OPERATE, "Log lines"):
        for fact, severity in re.findall(r"`([a-z_.]+)` \((WARNING|ERROR)\)", cell):
            call = re.search(rf'logs\.(\w+)\(\s*"{re.escape(fact)}"', SOURCES)
            assert call is None or call[1] == severity.lower(), fact

"""Metrics, alerts and the dashboard against what the functions really log."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
import yaml
from cloud import misread_by_gcloud
from programs import program

if TYPE_CHECKING:
    from programs import Call
    from world import World

PROJECT = Path(__file__).parents[2]
MONITORING = PROJECT / "deploy" / "monitoring"
METRIC_FILES = sorted((MONITORING / "metrics").glob("*.yaml"))
ALERT_FILES = sorted((MONITORING / "alerts").glob("*.yaml"))
SOURCES = "\n".join(
    path.read_text("utf-8") for folder in ("shared", "functions") for path in (PROJECT / folder).rglob("*.py")
)
OPERATE = (PROJECT / "docs" / "operate.md").read_text("utf-8")
USER_METRIC = re.compile(r"logging\.googleapis\.com/user/(line_recovery/\w+)")
FACT = re.compile(r"\b[a-z]+\\*\.[a-z_]+\b")

WANTED_ALERTS = {
    "sweep-missing", "brake-on", "restarts-failing", "contract-drift", "store-unavailable", "events-undelivered", "webhook-401-burst",
}  # fmt: skip


def read(path: Path) -> dict[str, Any]:
    return yaml.safe_load(path.read_text("utf-8"))


METRICS = {metric["name"]: metric for metric in map(read, METRIC_FILES)}


def condition_of(alert: dict[str, Any]) -> dict[str, Any]:
    (condition,) = alert["conditions"]
    return condition.get("conditionThreshold") or condition["conditionAbsent"]


def facts_named_in(alert: str) -> set[str]:
    """The facts of an alert's filter, alternatives written out."""
    named = re.search(r'metric\.labels\.fact = (?:monitoring\.regex\.full_match\()?"([^"]+)"', alert)
    if named is None:
        return set()
    facts: set[str] = set()
    pattern = named[1].replace("\\\\", "\\")
    for part in re.split(r"\|(?![^(]*\))", pattern):
        prefix, _, group = part.partition("(")
        facts |= {prefix + ending for ending in group.rstrip(")").split("|")} if group else {part}
    return {fact.replace("\\", "") for fact in facts}


@pytest.mark.parametrize("path", ALERT_FILES, ids=lambda path: path.stem)
def test_an_alert_watches_a_metric_that_a_file_here_makes(path: Path) -> None:
    named = USER_METRIC.findall(condition_of(read(path))["filter"])

    assert named
    assert set(named) <= METRICS.keys()


@pytest.mark.parametrize("path", ALERT_FILES, ids=lambda path: path.stem)
def test_an_alert_filters_by_labels_that_its_metric_has(path: Path) -> None:
    text = condition_of(read(path))["filter"]
    (name,) = USER_METRIC.findall(text)
    labels = {label["key"] for label in METRICS[name]["metricDescriptor"].get("labels", [])}

    assert set(re.findall(r"metric\.labels\.(\w+)", text)) <= labels


@pytest.mark.parametrize("path", ALERT_FILES, ids=lambda path: path.stem)
def test_an_alert_names_facts_that_the_code_logs(path: Path) -> None:
    for fact in facts_named_in(condition_of(read(path))["filter"]):
        subject, _, happened = fact.partition(".")
        logged = f'"{fact}"' in SOURCES or (happened == "failed" and f'guarded("{subject}"' in SOURCES)
        assert logged, fact


@pytest.mark.parametrize("path", ALERT_FILES, ids=lambda path: path.stem)
def test_an_alert_says_what_to_do_there_and_in_the_docs(path: Path) -> None:
    alert = read(path)

    assert len(alert["documentation"]["content"]) > 100
    assert alert["displayName"].removeprefix("line-recovery: ") in OPERATE


def test_every_danger_has_its_alert() -> None:
    assert {path.stem for path in ALERT_FILES} >= WANTED_ALERTS


def test_the_dashboard_shows_metrics_that_exist() -> None:
    text = (MONITORING / "dashboard.yaml").read_text("utf-8")

    assert set(USER_METRIC.findall(text)) == METRICS.keys()


def test_tiles_of_the_dashboard_do_not_overlap() -> None:
    layout = read(MONITORING / "dashboard.yaml")["mosaicLayout"]
    taken: set[tuple[int, int]] = set()
    for tile in layout["tiles"]:
        cells = {
            (tile["xPos"] + x, tile["yPos"] + y) for x in range(tile["width"]) for y in range(tile["height"])
        }  # fmt: skip
        assert max(x for x, _ in cells) < layout["columns"]
        assert not cells & taken
        taken |= cells


def counted_by(name: str, line: dict[str, Any]) -> dict[str, str] | None:
    """The labels that a metric gives a log line as Cloud Logging keeps it; None when its filter does not match."""
    metric = METRICS[f"line_recovery/{name}"]
    for term in metric["filter"].split(" AND "):
        match re.fullmatch(r"(?:jsonPayload\.)?([\w.]+)(=~|=|>=|:)(.+)", term).groups():
            case "resource.type", "=", '"cloud_run_revision"':
                continue
            case "message", "=", value if line["message"] == value.strip('"'):
                continue
            case "message", "=~", value if re.search(value.strip('"'), line["message"]):
                continue
            case "severity", ">=", "ERROR" if line["severity"] == "ERROR":
                continue
            case "serviceContext.service", ":", "*" if line.get("serviceContext", {}).get("service"):
                continue
            case _:
                return None
    labels = {}
    for label, extractor in metric.get("labelExtractors", {}).items():
        how, field, pattern = re.fullmatch(r'(\w+)\(jsonPayload\.(\w+)(?:, "(.+)")?\)', extractor).groups()
        value = str(line[field])
        labels[label] = re.search(pattern.replace("\\\\", "\\"), value)[1] if how == "REGEXP_EXTRACT" else value
    if (extractor := metric.get("valueExtractor")) is not None:
        assert isinstance(line[extractor.removeprefix("EXTRACT(jsonPayload.").removesuffix(")")], int)
    return labels


def test_the_metrics_count_what_the_functions_log(world: World) -> None:
    company = world.company(users=1)
    dies = world.line(company, session="disconnected")
    world.behave(dies, restart="refused")
    cured = world.line(company, session="disconnected")
    told = world.line(company)
    world.behave(told, session="disconnected")
    world.sweep()
    world.event(world.disconnection(told))
    world.post(world.disconnection(told), key="not-a-secret-of-ours")
    sweep, event = world.facts("follow_up_check", "sweep.finished")[-1], world.facts("wapi_webhook", "event.taken")[-1]
    failed = [each for each in world.facts("follow_up_check", "restart.failed") if each["instance"] == str(dies.id)]
    recovered = [
        each for each in world.facts("follow_up_check", "restart.recovered") if each["instance"] == str(cured.id)
    ]
    marked = [
        each for each in world.facts("follow_up_check", "instance.disconnected") if each["instance"] == str(dies.id)
    ]

    assert counted_by("sweeps", sweep) == {"braked": "False"}
    assert counted_by("sweep_took_ms", sweep) == {}
    assert counted_by("sweep_left", sweep) == {}
    assert counted_by("events", event) == {"kind": event["kind"], "outcome": event["outcome"]}
    assert [counted_by("restarts", line) for line in (failed[0], recovered[0])] == [
        {"outcome": "failed"},
        {"outcome": "recovered"},
    ]
    assert counted_by("line_changes", marked[0]) == {"to": "disconnected"}
    assert counted_by("unauthorized", world.facts("wapi_webhook", "webhook.unauthorized")[-1]) == {}
    assert counted_by("errors", sweep) is None


def test_an_error_carries_what_alerts_and_error_reporting_want(world: World) -> None:
    company = world.company(users=1)
    world.lines(company, 6, session="disconnected")
    world.sweep()
    brake = world.facts("follow_up_check", "brake.engaged")[-1]

    assert counted_by("errors", brake) == {"fact": "brake.engaged"}
    assert brake["@type"].endswith("ReportedErrorEvent")
    assert brake["context"]["reportLocation"]["filePath"].endswith("shared/sweep/brake.py")


class FakeGcloud:
    """Keeps what was created, and finds it again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.calls: list[str] = []
        self._made: list[str] = []
        program(folder / "gcloud", self.answer)

    def answer(self, call: Call) -> str:
        words = " ".join(call.words)
        self.calls.append(words)
        if " list " in words:
            wanted = found(r'(?:name|displayName|email_address)="([^"]+)"', words)
            return "".join(f"projects/p/things/{each.replace(' ', '_')}\n" for each in self._made if each == wanted)
        if " create " in words:
            file = re.search("--(?:config|policy)-from-file=([^ ]+)", words)
            named = (MONITORING / file[1]).read_text("utf-8") if file else words
            self._made.append(
                found('(?m)^(?:name|displayName): "?([^"\n]+)' if file else "email_address=([^ ]+)", named)
            )
        return ""


def found(pattern: str, text: str) -> str:
    (first, *_) = re.findall(pattern, text)
    return str(first)


def install(gcloud: FakeGcloud, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [MONITORING / "install", *arguments],
        env={"PATH": f"{gcloud.folder}:{os.environ['PATH']}", "ENV_FILE": os.devnull, **environment},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


@pytest.fixture
def gcloud(tmp_path: Path) -> FakeGcloud:
    return FakeGcloud(tmp_path)


def test_installing_twice_updates_what_is_there(gcloud: FakeGcloud) -> None:
    first = install(gcloud, PROJECT="my-project", ALERT_EMAIL="ops@example.com")
    second = install(gcloud, PROJECT="my-project", ALERT_EMAIL="ops@example.com")

    made, kept = first.stdout.splitlines(), second.stdout.splitlines()
    assert (first.returncode, second.returncode) == (0, 0), first.stderr + second.stderr
    assert sum(" create " in line for line in made) == len(METRIC_FILES) + len(ALERT_FILES) + 2
    assert [line for line in kept if " create " in line] == [line for line in kept if "dashboards create" in line]
    assert sum(" update " in line for line in kept) == len(METRIC_FILES) + len(ALERT_FILES)
    assert all(
        "--set-notification-channels=projects/p/things/ops@example.com" in line
        for line in kept
        if "policies update" in line
    )


def test_a_dry_run_asks_google_nothing(gcloud: FakeGcloud) -> None:
    done = install(gcloud, "--dry-run", PROJECT="my-project", ALERT_EMAIL="ops@example.com")

    assert done.returncode == 0, done.stderr
    commands = [line for line in done.stdout.splitlines() if line.startswith("+ ")]
    assert len(commands) == len(METRIC_FILES) + len(ALERT_FILES) + 2
    assert re.findall(r"^# (\d) of 4", done.stdout, re.MULTILINE) == ["1", "2", "3", "4"]
    assert not gcloud.calls


@pytest.mark.parametrize("given", [{"PROJECT": "my-project"}, {"ALERT_EMAIL": "ops@example.com"}], ids="".join)
def test_a_missing_setting_is_named(gcloud: FakeGcloud, given: dict[str, str]) -> None:
    done = install(gcloud, **given)

    (missing,) = {"PROJECT", "ALERT_EMAIL"} - given.keys()
    assert done.returncode != 0
    assert f"{missing} is missing" in done.stderr


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed: its parser cannot be asked")
def test_gcloud_knows_every_command_and_flag_of_the_installation(gcloud: FakeGcloud) -> None:
    (gcloud.folder / "gcloud").unlink()
    lines = install(gcloud, "--dry-run", PROJECT="p-without-account", ALERT_EMAIL="ops@example.com").stdout.splitlines()
    commands = [line.removeprefix("+ ") for line in lines if line.startswith("+ ")]
    unknown = "gcloud logging metrics create x --no-such-flag"

    misread = misread_by_gcloud([*commands, unknown], gcloud.folder / "config", folder=MONITORING)

    assert len(commands) > 10
    assert misread.keys() == {unknown}, misread

"""Every command line, script and pipeline file against the tool that will read it, without an account."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from cloud import PLACE, PROJECT, SECRETS, SETTINGS, FakeCloud, misread_by_gcloud

SKIPPED = {".git", ".venv", ".local", "node_modules", "mutants"}
PIPELINES = [("vendor.cloudbuild", "cloudbuild.yaml"), ("vendor.github-workflows", ".github/workflows/ci.yml")]


def scripts() -> list[Path]:
    """Every script of the project; what they source is checked with them."""
    found = []
    for folder, folders, files in os.walk(PROJECT):
        folders[:] = [name for name in folders if name not in SKIPPED]
        for path in (Path(folder, name) for name in files):
            with path.open("rb") as opened:
                first = opened.readline(80)
            if first.startswith(b"#!") and b"bash" in first:
                found.append(path)
    return sorted(found)


def test_shellcheck_finds_nothing_in_any_script() -> None:
    names = {str(path.relative_to(PROJECT)) for path in scripts()}
    done = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), "--external-sources", "--check-sourced", *scripts()],
        cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert names >= {
        ".ci/run",
        "dev/install",
        "deploy/bootstrap",
        "deploy/deploy",
        "deploy/monitoring/install",
    }
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", scripts(), ids=lambda path: path.name)
def test_a_script_can_be_run_and_stops_at_the_first_failure(path: Path) -> None:
    assert os.access(path, os.X_OK)
    assert "\nset -euo pipefail\n" in path.read_text("utf-8")


@pytest.mark.parametrize(("schema", "file"), PIPELINES)
def test_a_pipeline_has_the_form_that_its_reader_wants(schema: str, file: str) -> None:
    done = subprocess.run(
        [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", schema, file],
        cwd=PROJECT, capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(("schema", "file"), PIPELINES)
def test_the_form_of_a_pipeline_is_really_checked(schema: str, file: str, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text((PROJECT / file).read_text("utf-8").replace("steps:", "stops:", 1), "utf-8")
    done = subprocess.run(
        [Path(sys.executable).with_name("check-jsonschema"), "--builtin-schema", schema, wrong],
        capture_output=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 1


def test_the_scripts_inside_the_pipeline_pass_shellcheck(tmp_path: Path) -> None:
    steps = yaml.safe_load((PROJECT / "cloudbuild.yaml").read_text("utf-8"))["steps"]
    files = []
    for step in steps:
        files.append(tmp_path / step["id"])
        files[-1].write_text(step["script"], "utf-8")
    done = subprocess.run(
        [Path(sys.executable).with_name("shellcheck"), "--exclude=SC2154", *files],  # Cloud Build sets the variables
        capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip

    assert done.returncode == 0, done.stdout


def test_the_pipeline_runs_as_the_deployer_and_logs_where_it_may() -> None:
    build = yaml.safe_load((PROJECT / "cloudbuild.yaml").read_text("utf-8"))

    assert build["serviceAccount"].endswith("/deployer@$PROJECT_ID.iam.gserviceaccount.com")
    assert build["options"] | {"logging": "CLOUD_LOGGING_ONLY", "automapSubstitutions": True} == build["options"]


def test_no_image_of_the_pipeline_is_pulled_from_a_registry_that_limits_pulls_and_ci_has_its_node() -> None:
    steps = yaml.safe_load((PROJECT / "cloudbuild.yaml").read_text("utf-8"))["steps"]
    images = {step["name"] for step in steps}
    (node,) = {image.rpartition(":")[2].partition("-")[0] for image in images if "/node:" in image}
    (job,) = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"].values()

    assert {image.partition("/")[0] for image in images} == {"mirror.gcr.io", "gcr.io"}
    assert {"node-version": node}.items() <= job["steps"][2]["with"].items()


def test_the_workflow_runs_what_ci_runs() -> None:
    (job,) = yaml.safe_load((PROJECT / ".github/workflows/ci.yml").read_text("utf-8"))["jobs"].values()

    assert [step["run"] for step in job["steps"] if "run" in step] == [".ci/run"]
    assert {"python-version": "3.11"}.items() <= job["steps"][1]["with"].items()


def commands_of_first_runs(cloud: FakeCloud) -> list[str]:
    """What the dry runs print, look-ups included."""
    everything = SETTINGS | SECRETS | {"SWEEP_FANOUT": "3", "DATABASE_URL": "postgresql://u@pool.example.com/d"}
    scripts = ("bootstrap", "deploy", "rollback", "rotate", "cleanup", "as-functions")
    return [command for name in scripts for command in cloud.run(name, "--dry-run", **everything).commands]


def commands_of_later_runs(cloud: FakeCloud) -> list[str]:
    """What is really called when everything is there already."""
    cloud.bootstrap()
    cloud.bootstrap()
    cloud.deploy("r1")
    assert [cloud.run(script, **SETTINGS).status for script in ("rollback", "rotate")] == [0, 0]
    assert cloud.run("cleanup", "--yes", **PLACE).status == 0
    return [shlex.join(["gcloud", *call["words"]]) for call in cloud.calls]


@pytest.mark.skipif(shutil.which("gcloud") is None, reason="gcloud is not installed: its parser cannot be asked")
def test_gcloud_knows_every_command_and_every_flag(tmp_path: Path) -> None:
    cloud = FakeCloud(tmp_path)
    commands = [*commands_of_first_runs(cloud), *commands_of_later_runs(cloud)]
    unknown = [
        "gcloud run deploy x --no-such-flag",
        "gcloud run no-such-command",
        "gcloud scheduler jobs create http x --location=r --quiet",
    ]

    misread = misread_by_gcloud([*commands, *unknown], tmp_path / "config")

    assert len(commands) > 100
    assert misread.keys() == set(unknown), json.dumps(misread, indent=1)

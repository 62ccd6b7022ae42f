"""The tools' .env: what it may hold, who wins, and that the example names every setting."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from ops.common.env_file import env_file, values_of
from ops.doctor.settings import DoctorSettings, TargetSettings
from shared.errors import SettingsError
from shared.settings import StoreSettings, SweepSettings, load_settings

PROJECT = Path(__file__).parents[2]
EXAMPLE = PROJECT / ".env.example"
URL = "https://abcdefgh.supabase.co"
HOSTILE = "a b'c\"d$(touch ran)`touch ran`\\e#f"
FILE = f"""
# a comment
export SUPABASE_URL={URL}
SUPABASE_SERVICE_ROLE_KEY = "sb_secret_0123456789"   # of the project
look_timeout_seconds=7
PROJECT=of-the-file
EMPTY=
HOSTILE={HOSTILE.replace("#", r"#")!r}
not-a-name=1
"""


@pytest.fixture
def file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "some settings"
    path.write_text(FILE, "utf-8")
    for name in SweepSettings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    monkeypatch.setenv("ENV_FILE", str(path))
    return path


def test_the_tools_take_from_the_file_what_the_environment_does_not_say(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = load_settings(SweepSettings, env_file=env_file())
    assert (settings.supabase_url, settings.look_timeout_seconds) == (URL, 7)
    assert settings.supabase_service_role_key.get_secret_value() == "sb_secret_0123456789"
    monkeypatch.setenv("LOOK_TIMEOUT_SECONDS", "3")
    assert load_settings(SweepSettings, env_file=env_file()).look_timeout_seconds == 3


def test_a_function_reads_no_file(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (file.parent / ".env").write_text(FILE, "utf-8")
    monkeypatch.chdir(file.parent)
    with pytest.raises(SettingsError, match="SUPABASE_URL is missing"):
        load_settings(StoreSettings)


def test_a_file_that_is_named_and_not_there_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ENV_FILE", "no/such.env")
    with pytest.raises(SettingsError, match=r"ENV_FILE: no/such\.env does not exist"):
        env_file()
    monkeypatch.delenv("ENV_FILE")
    assert env_file() == PROJECT / ".env"


def test_a_shell_reads_the_same_and_runs_nothing_of_it(file: Path, tmp_path: Path) -> None:
    (tmp_path / ".venv/bin").mkdir(parents=True)
    python = tmp_path / ".venv/bin/python"
    python.write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n', "utf-8")
    python.chmod(0o755)
    for folder in ("deploy", "ops", "shared"):
        (tmp_path / folder).symlink_to(PROJECT / folder)
    names = ("SUPABASE_URL", "LOOK_TIMEOUT_SECONDS", "PROJECT", "HOSTILE", "EMPTY")
    script = f"""set -euo pipefail
stop() {{ echo "stopped: $1"; exit 2; }}
source deploy/env.sh
for name in {" ".join(names)}; do printf '%s\\n' "$name=${{!name-unset}}"; done
env | grep -c sb_secret_ || true"""
    ran = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={"PATH": "/usr/bin:/bin", "ENV_FILE": file.name, "PROJECT": "mine"},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    read = values_of(file)
    assert read["HOSTILE"] == HOSTILE
    wanted = [f"{name}={(read | {'PROJECT': 'mine'})[name]}" for name in names]
    assert (ran.stdout.splitlines(), ran.stderr) == ([*wanted, "0"], "")
    assert not (tmp_path / "ran").exists()


def test_the_example_names_every_setting_and_sets_none() -> None:
    assert values_of(EXAMPLE) == {}
    named = set(re.findall(r"^# ([A-Z_]+)=", EXAMPLE.read_text("utf-8"), re.MULTILINE))
    fields = {**SweepSettings.model_fields, **DoctorSettings.model_fields, **TargetSettings.model_fields}
    of_the_deployment = {"PROJECT", "REGION", "ALERT_EMAIL"}
    set_by_the_deployment = {"SWEEP_FANOUT_URL"}
    assert named == {name.upper() for name in fields} - set_by_the_deployment | of_the_deployment

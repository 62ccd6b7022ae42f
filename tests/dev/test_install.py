"""``dev/install``: says its steps, keeps to the project's folder, ends in time, and honours or refuses PYTHON."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import GENEROUS_SECONDS

from dev.installing import LOCAL, caches

PROJECT = Path(__file__).parents[2]
NEEDED = (
    "dev/install",
    "dev/__init__.py",
    "dev/installing.py",
    "ops/__init__.py",
    "ops/common/__init__.py",
    "ops/common/interrupted.py",
)


def program(path: Path, does: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(f"#!/bin/sh\n{does}\n", "utf-8")
    path.chmod(0o755)


@pytest.fixture
def project(tmp_path: Path) -> Path:
    """A clone without packages, in a path with a space; its Python is ours and its npm only says what it was told."""
    folder = tmp_path / "my projects" / "clone"
    for name in NEEDED:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / name, folder / name)
    (folder / "dev/requirements.txt").touch()
    (folder / "dev/package-lock.json").write_text("{}")
    program(folder / ".venv/bin/python", f'[ "$2" = pip ] || exec "{sys.executable}" "$@"')
    program(folder / ".venv/bin/pip", "true")
    program(
        tmp_path / "bin/npm",
        f'echo "$@" > "{tmp_path}/npm.told"; env > "{tmp_path}/npm.env"; sleep "${{NPM_HANGS:-0}}"',
    )
    return folder


def install(project: Path, **environment: str) -> tuple[int, str]:
    ran = subprocess.run(
        [project / "dev/install"], cwd="/", capture_output=True, text=True, timeout=GENEROUS_SECONDS, check=False,
        env={"PATH": f"{project.parents[1]}/bin:{Path(sys.executable).parent}:/usr/bin:/bin", **environment},
    )  # fmt: skip
    return ran.returncode, ran.stdout + ran.stderr


def test_without_a_home_everything_stays_in_the_folder_and_a_second_time_does_nothing(
    project: Path, tmp_path: Path
) -> None:
    status, said = install(project)
    assert status == 0, said
    assert "install: Python packages into .venv" in said
    assert "install: npm packages into dev/node_modules" in said
    told = (tmp_path / "npm.env").read_text()
    assert f"npm_config_cache={project}/.local/cache/npm\n" in told
    assert "npm_config_update_notifier=false\n" in told
    assert (tmp_path / "npm.told").read_text() == f"ci --prefix {project}/dev --no-fund --no-audit --loglevel=error\n"
    assert install(project) == (0, "")
    (project / "dev/package-lock.json").write_text('{"changed": true}')
    assert "npm packages" in install(project)[1]


def test_a_step_that_hangs_is_given_up(project: Path) -> None:
    status, said = install(project, NPM_HANGS="600", INSTALL_SECONDS="3")
    assert status == 1
    assert "given up after 3 s (INSTALL_SECONDS allows more)" in said
    assert "npm packages" in install(project)[1]  # it was not taken for done


def test_another_python_than_the_environments_is_refused(project: Path, tmp_path: Path) -> None:
    assert install(project, PYTHON=sys.executable)[0] == 0
    program(tmp_path / "other", "echo 3.12.0 /opt/python")
    status, said = install(project, PYTHON=str(tmp_path / "other"))
    assert (status, "run 'make clean' first" in said, "3.12.0" in said) == (1, True, True)
    assert install(project, PYTHON="no-such-python") == (1, "install: there is no 'no-such-python' (from PYTHON)\n")


def test_caches_stay_where_they_are_if_home_can_be_written(tmp_path: Path) -> None:
    assert caches({"HOME": str(tmp_path)}) == {}
    ours = {"npm_config_cache": str(LOCAL / "cache/npm"), "PIP_CACHE_DIR": str(LOCAL / "cache/cache")}
    assert caches({}) == caches({"HOME": str(tmp_path / "nowhere")}) == ours
    assert caches({"PIP_CACHE_DIR": "/there"}).keys() == {"npm_config_cache"}
    if os.geteuid():
        tmp_path.chmod(0o500)
        assert caches({"HOME": str(tmp_path)}) == ours

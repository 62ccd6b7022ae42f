"""What a deployment uploads, what it installs, and that exactly this starts in an empty environment."""

from __future__ import annotations

import itertools
import json
import os
import re
import shutil
import socket
import subprocess
import sys
import time
import tomllib
import venv
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import httpx
import pytest
from cloud import PROJECT
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from dev.processes import LOOPBACK, free_port, tail

if TYPE_CHECKING:
    from collections.abc import Iterator

PRODUCTION = "requirements.txt"
MIGRATING = "deploy/requirements.txt"
TOOLS = {"dev/requirements.txt": "dev", "bench/requirements.txt": "bench", "dev/mutants-requirements.txt": "mutants"}
ADDRESS = re.compile(r"https?://|--(extra-)?index-url|--find-links|--trusted-host|git\+|file:")
UPLOADED = re.compile(r"(main\.py|pyproject\.toml|requirements\.txt|LICENSE|(shared|functions)/[\w/]+\.py)")

without_gcloud = pytest.mark.skipif(
    shutil.which("gcloud") is None, reason="gcloud is not installed: what it would upload cannot be asked"
)


class Pin(NamedTuple):
    requirement: Requirement
    hashes: int

    @property
    def version(self) -> str:
        (specifier,) = self.requirement.specifier
        assert specifier.operator == "=="
        return specifier.version


def pins_of(file: str) -> dict[str, Pin]:
    """The pinned packages of a requirement file by name."""
    pins: dict[str, Pin] = {}
    text = (PROJECT / file).read_text("utf-8").replace("\\\n", " ")
    for line in text.splitlines():
        words = line.partition("#")[0].split("--hash=")
        if words[0].strip():
            requirement = Requirement(words[0].strip())
            pins[canonicalize_name(requirement.name)] = Pin(requirement, len(words) - 1)
    return pins


def wanted_by(*extras: str) -> list[Requirement]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(each) for each in itertools.chain.from_iterable(lists)]


@pytest.mark.parametrize(("file", "extras"), [(PRODUCTION, ()), *((file, (extra,)) for file, extra in TOOLS.items())])
def test_every_dependency_is_pinned_at_a_version_that_satisfies_it(file: str, extras: tuple[str, ...]) -> None:
    pins = pins_of(file)

    for wanted in wanted_by(*extras):
        pin = pins[canonicalize_name(wanted.name)]
        assert wanted.specifier.contains(pin.version), wanted
        assert wanted.extras <= pin.requirement.extras, wanted


@pytest.mark.parametrize("file", [PRODUCTION, MIGRATING, *TOOLS])
def test_every_pin_has_a_hash_and_no_file_an_address(file: str) -> None:
    assert pins_of(file)
    assert not [name for name, pin in pins_of(file).items() if pin.hashes == 0]
    assert not ADDRESS.search((PROJECT / file).read_text("utf-8"))


@pytest.mark.parametrize("file", TOOLS)
def test_tests_and_tools_run_on_productions_versions(file: str) -> None:
    production, tools = pins_of(PRODUCTION), pins_of(file)

    assert {name: pin.version for name, pin in tools.items() if name in production} == {
        name: pin.version for name, pin in production.items()
    }


def test_migrations_run_on_the_versions_that_they_are_tested_with() -> None:
    tested, pinned = pins_of("dev/requirements.txt"), pins_of(MIGRATING)

    assert {name: tested[name].version for name in pinned} == {name: pin.version for name, pin in pinned.items()}


def test_what_is_installed_here_is_what_production_pins() -> None:
    listed = subprocess.run(
        [sys.executable, "-m", "pip", "list", "--format=json", "--disable-pip-version-check"],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    installed = {canonicalize_name(each["name"]): each["version"] for each in json.loads(listed.stdout)}
    pins = pins_of(PRODUCTION)

    assert {name: installed[name] for name in pins if name in installed} == {
        name: pin.version for name, pin in pins.items() if name in installed
    }
    assert {canonicalize_name(wanted.name) for wanted in wanted_by()} <= installed.keys()


def test_the_lock_file_of_npm_holds_no_address_of_a_registry() -> None:
    packages = json.loads((PROJECT / "dev" / "package-lock.json").read_text("utf-8"))["packages"]

    assert not [name for name, package in packages.items() if "resolved" in package]
    assert not [name for name, package in packages.items() if name and "integrity" not in package]


@pytest.fixture(scope="session")
def uploaded(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What `gcloud run deploy --source=.` would send, as gcloud says."""
    config = tmp_path_factory.mktemp("gcloud")
    done = subprocess.run(
        ["gcloud", "meta", "list-files-for-upload", "."],
        cwd=PROJECT, env={"PATH": os.environ["PATH"], "HOME": str(config), "CLOUDSDK_CONFIG": str(config)},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout.splitlines()


@without_gcloud
def test_an_upload_holds_the_functions_and_what_they_import(uploaded: list[str]) -> None:
    sources = {
        str(path.relative_to(PROJECT))
        for folder in ("shared", "functions")
        for path in (PROJECT / folder).rglob("*.py")
    }

    assert set(uploaded) >= sources | {"main.py", "requirements.txt", "pyproject.toml"}


@without_gcloud
def test_an_upload_holds_nothing_else(uploaded: list[str]) -> None:
    assert not [file for file in uploaded if not UPLOADED.fullmatch(file)]


@without_gcloud
def test_secrets_and_exports_that_lie_in_the_folder_stay_at_home(tmp_path: Path) -> None:
    shutil.copy(PROJECT / ".gcloudignore", tmp_path)
    private = [
        ".env",
        ".env.production",
        ".local/stack.json",
        "supabase/.temp/key",
        "undelivered.json",
        "key.pem",
        "report.html",
    ]
    for file in (*private, "main.py"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / file).touch()
    done = subprocess.run(
        ["gcloud", "meta", "list-files-for-upload", "."],
        cwd=tmp_path, env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "CLOUDSDK_CONFIG": f"{tmp_path}/.local/config"},
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip

    assert done.stdout.splitlines() == ["main.py"]


def copy_upload(uploaded: list[str], folder: Path) -> None:
    for file in uploaded:
        (folder / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(PROJECT / file, folder / file)


def install(folder: Path) -> Path:
    """An environment that holds what requirements.txt names and no more; answers its programs' folder."""
    venv.create(folder / ".venv", with_pip=True)
    programs = folder / ".venv" / "bin"
    installed = subprocess.run(
        [programs / "python", "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-compile", "--require-hashes", "-r", "requirements.txt"],
        cwd=folder, capture_output=True, text=True, timeout=600, check=False,
    )  # fmt: skip
    assert installed.returncode == 0, installed.stderr[-2000:]
    return programs


@contextmanager
def served(target: str, environment: dict[str, str], folder: Path, programs: Path) -> Iterator[str]:
    """Production's command with production's environment: nothing of ours or of this machine."""
    port = free_port()
    log = folder / f"{port}.log"
    with log.open("wb") as output:
        server = subprocess.Popen(
            [programs / "functions-framework", f"--target={target}", f"--host={LOOPBACK}"],
            cwd=folder, env={"PATH": f"{programs}:/usr/bin:/bin", "PORT": str(port), **environment},
            stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
        )  # fmt: skip
    try:
        while not listens(port):
            assert server.poll() is None, tail(log)
            time.sleep(0.01)
        yield f"http://{LOOPBACK}:{port}"
    finally:
        server.terminate()
        server.wait(30)


def listens(port: int) -> bool:
    with socket.socket() as connection:
        return connection.connect_ex((LOOPBACK, port)) == 0


@without_gcloud
def test_the_exact_upload_starts_in_an_empty_environment(uploaded: list[str], tmp_path: Path) -> None:
    copy_upload(uploaded, tmp_path)
    programs = install(tmp_path)  # half a minute: so this is one test, not six
    environment = {
        "SUPABASE_URL": "https://abcdefgh.supabase.co",
        "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_made-up_0123456789",
        "GOOGLE_CLOUD_PROJECT": "p", "K_REVISION": "r1",
    }  # fmt: skip
    secrets = {"follow_up_check": {}, "wapi_webhook": {"WAPI_WEBHOOK_SECRETS": "0123456789abcdef"}}
    for target, execution_id in itertools.product(secrets, ("true", "false", None)):
        own = secrets[target] | {"K_SERVICE": target.replace("_", "-")}
        if execution_id is not None:
            own["LOG_EXECUTION_ID"] = execution_id
        with (
            served(target, environment | own, tmp_path, programs) as url,
            httpx.Client(trust_env=False, timeout=10) as client,
        ):
            assert client.get(f"{url}/health").json() == {"status": "ok"}, own
            assert client.put(url).status_code == 405, own


@without_gcloud
def test_an_upload_without_a_setting_does_not_start_and_names_it(uploaded: list[str], tmp_path: Path) -> None:
    copy_upload(uploaded, tmp_path)
    with (
        pytest.raises(AssertionError, match="SUPABASE_SERVICE_ROLE_KEY is missing"),
        served(
            "follow_up_check", {"SUPABASE_URL": "https://abcdefgh.supabase.co"}, tmp_path, Path(sys.executable).parent
        ),
    ):
        pass

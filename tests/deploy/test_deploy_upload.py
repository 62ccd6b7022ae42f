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
import sysconfig
import time
import tomllib
import venv
from contextlib import contextmanager
from importlib.metadata import distribution, distributions
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import pytest
from cloud import PROJECT
from loopback import a_client
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
    hashes: frozenset[str]

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
            pins[canonicalize_name(requirement.name)] = Pin(requirement, frozenset(map(str.strip, words[1:])))
    return pins


def wanted_by(*extras: str) -> list[Requirement]:
    project = tomllib.loads((PROJECT / "pyproject.toml").read_text("utf-8"))["project"]
    lists = [project["dependencies"], *(project["optional-dependencies"][extra] for extra in extras)]
    return [Requirement(each) for each in itertools.chain.from_iterable(lists)]


def is_wanted(requirement: Requirement, extras: set[str]) -> bool:
    return requirement.marker is None or any(requirement.marker.evaluate({"extra": extra}) for extra in extras)


def here(pins: dict[str, Pin]) -> list[str]:
    """The packages that this machine installs."""
    return [name for name, pin in pins.items() if is_wanted(pin.requirement, {""})]


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
    assert not [name for name, pin in pins_of(file).items() if not pin.hashes]
    assert not ADDRESS.search((PROJECT / file).read_text("utf-8"))


@pytest.mark.parametrize("file", TOOLS)
def test_tests_and_tools_run_on_what_production_runs_on(file: str) -> None:
    production, tools = pins_of(PRODUCTION), pins_of(file)

    assert {name: (pin.version, pin.hashes) for name, pin in tools.items() if name in production} == {
        name: (pin.version, pin.hashes) for name, pin in production.items()
    }


def test_migrations_run_on_the_versions_that_they_are_tested_with() -> None:
    tested, pinned = pins_of("dev/requirements.txt"), pins_of(MIGRATING)

    assert {name: tested[name].version for name in pinned} == {name: pin.version for name, pin in pinned.items()}


def test_what_a_pinned_package_requires_is_pinned() -> None:
    pins = pins_of(PRODUCTION)
    wants = [(name, {"", *pins[name].requirement.extras}) for name in here(pins)]
    wanted = [
        (name, Requirement(text)) for name, extras in wants for text in distribution(name).requires or ()
        if is_wanted(Requirement(text), extras)
    ]  # fmt: skip

    assert wanted
    for name, requirement in wanted:
        pin = pins[canonicalize_name(requirement.name)]
        assert requirement.specifier.contains(pin.version), (name, requirement)
        assert requirement.extras <= pin.requirement.extras, (name, requirement)


def test_what_is_installed_here_is_what_production_pins() -> None:
    installed = {canonicalize_name(package.name): package.version for package in distributions()}
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


def environment_of(folder: Path, pins: dict[str, Pin]) -> Path:
    """An environment that holds what requirements.txt names and no more; answers its programs' folder.

    Its files are links to the installed ones, which `dev/install` has unpacked by the same hashes: to install them anew
    would take half a minute of processor time.
    """
    venv.create(folder / ".venv", with_pip=False)
    programs = folder / ".venv" / "bin"
    packages = Path(sysconfig.get_path("purelib", vars={"base": str(folder / ".venv")}))
    for name in here(pins):
        package = distribution(name)
        assert package.files
        for file in package.files:
            installed = Path(package.locate_file(file)).resolve()
            if installed.parent == Path(sys.executable).parent:
                text = installed.read_text("utf-8").partition("\n")[2]
                (programs / installed.name).write_text(f"#!{programs / 'python'}\n{text}", "utf-8")
                (programs / installed.name).chmod(0o755)
            elif ".." not in file.parts:
                (packages / file).parent.mkdir(parents=True, exist_ok=True)
                (packages / file).symlink_to(installed)
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
    programs = environment_of(tmp_path, pins_of(PRODUCTION))
    environment = {
        "SUPABASE_URL": "https://abcdefgh.supabase.co",
        "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_made-up_0123456789",
        "GOOGLE_CLOUD_PROJECT": "p", "K_REVISION": "r1",
    }  # fmt: skip
    secrets = {"follow_up_check": {}, "wapi_webhook": {"WAPI_WEBHOOK_SECRETS": "0123456789abcdef"}}
    starts = [("follow_up_check", None), ("follow_up_check", "true"), ("wapi_webhook", None), ("wapi_webhook", "false")]
    for target, execution_id in starts:
        own = secrets[target] | {"K_SERVICE": target.replace("_", "-")}
        if execution_id is not None:
            own["LOG_EXECUTION_ID"] = execution_id
        with (
            served(target, environment | own, tmp_path, programs) as url,
            a_client() as client,
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

"""Runs the scripts of deploy/ against a fake gcloud, and asks the real one whether it knows their commands."""

from __future__ import annotations

import copy
import json
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from fake_gcloud import SECRET_MARK, Google
from programs import program

if TYPE_CHECKING:
    from collections.abc import Iterable

PROJECT = Path(__file__).parents[2]
DEPLOY = PROJECT / "deploy"
PARSER = Path(__file__).with_name("gcloud_parser.py")
PLACE = {"PROJECT": "my-project", "REGION": "southamerica-east1"}
SETTINGS = PLACE | {"SUPABASE_URL": "https://abcdefghijklmnopqrst.supabase.co"}
SECRETS = {
    "SUPABASE_SERVICE_ROLE_KEY": f"sb_secret_{SECRET_MARK}-key",
    "WAPI_WEBHOOK_SECRETS": f"webhook-secret-{SECRET_MARK}",
    "EVENT_LOG_KEY": f"{SECRET_MARK}-event-log-key".ljust(43, "0") + "=",
    "EVENT_RELAY_URL": f"https://platform.example.com/hook?key={SECRET_MARK}",
    "ALERT_EMAIL_URL": f"mailtos://alerts:{SECRET_MARK}@smtp.example.com",
    "OPERATOR_ALERT_URLS": f"tgram://{SECRET_MARK}/1,https://ops.example.com/alerts?key={SECRET_MARK}",
    "OPERATOR_WEBHOOK_SECRET": f"{SECRET_MARK}-operator-webhook",
}
PRINTED = re.compile(r"^[+?] (gcloud .*)$", re.MULTILINE)


class Done(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def commands(self) -> list[str]:
        """The gcloud commands it printed."""
        return PRINTED.findall(self.out + self.err)


class FakeCloud:
    """A folder with a gcloud, a curl, a sleep and a python that only keep what they are told."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._google = Google()
        program(folder / "gcloud", self._google.gcloud)
        self._tool(
            "curl",
            f'cat >> {folder}/curl.stdin; echo "$*" >> {folder}/curl.calls\n'
            f'case "$*" in *--write-out*) cat "{folder}/${{*##*/}}" 2>/dev/null || printf 200 ;; *) cat {folder}/said ;; esac',
        )
        self._tool("sleep", f'echo "$*" >> {folder}/sleep.calls')
        self._tool(
            "python-of-ours",
            f'echo "$*|$WEBHOOK_URL|$WAPI_WEBHOOK_SECRETS" >> {folder}/doctor.calls; [ ! -e {folder}/ill ]',
        )

    def _tool(self, name: str, does: str) -> None:
        tool = self.folder / name
        tool.write_text(f"#!/bin/sh\n{does}\n", "utf-8")
        tool.chmod(0o755)

    def run(self, script: str, *arguments: str, stdin: str = "", **environment: str) -> Done:
        done = subprocess.run(
            [DEPLOY / script, *arguments],
            env={"PATH": f"{self.folder}:{os.environ['PATH']}", "PYTHON": "python-of-ours", "ENV_FILE": os.devnull, **environment},
            input=stdin, capture_output=True, text=True, timeout=300, check=False,
        )  # fmt: skip
        return Done(done.returncode, done.stdout, done.stderr)

    @classmethod
    def bootstrapped(cls, folder: Path, **more: str) -> FakeCloud:
        """One that the bootstrap has been through; what that said stands in `said`."""
        cloud = cls(folder)
        done = cloud.bootstrap(**more)
        (folder / "said").write_text(done.out + done.err, "utf-8")
        return cloud

    def bootstrap(self, **more: str) -> Done:
        done = self.run("bootstrap", **(SETTINGS | SECRETS | more))
        assert done.status == 0, done.err
        return done

    def deploy(self, release: str, *steps: str, **more: str) -> Done:
        done = self.run("deploy", *steps, **(PLACE | {"RELEASE": release} | more))
        assert done.status == 0, done.err
        return done

    def begin_as(self, other: FakeCloud) -> None:
        """Know what another one was told, without having been told."""
        self._google.state = other.state

    def add(self, kind: str, name: str, what: object) -> None:
        """Put something there that no script made."""
        self._google.state[kind][name] = what

    def fail(self, what: str, *, times: int = 1000) -> None:
        """Commands that hold those words fail so many times."""
        self._google.failing, self._google.failures_left = what, times

    def mend(self) -> None:
        self._google.failures_left = 0

    def _lines(self, name: str) -> list[str]:
        kept = self.folder / name
        return kept.read_text("utf-8").splitlines() if kept.exists() else []

    @property
    def calls(self) -> list[dict[str, Any]]:
        """Of every call its words, its standard input, and the names of variables that showed a secret."""
        return self._google.calls

    @property
    def asked(self) -> list[str]:
        """The words of every call."""
        return [" ".join(call["words"]) for call in self.calls]

    @property
    def sleeps(self) -> list[str]:
        return self._lines("sleep.calls")

    @property
    def doctor(self) -> list[str]:
        return self._lines("doctor.calls")

    @property
    def curls(self) -> list[str]:
        return self._lines("curl.calls")

    @property
    def state(self) -> dict[str, Any]:
        return copy.deepcopy(self._google.state)

    @property
    def bindings(self) -> set[tuple[str, str, str]]:
        """On what, role, whom, in short names."""
        bound = self.state["bindings"]
        return {(on.split("@")[0], role.removeprefix("roles/"), who.split("@")[0]) for on, role, who in bound}

    def deployment(self, service: str) -> dict[str, str]:
        """The flags of a service's last deployment."""
        return flags([line for line in self.asked if line.startswith(f"run deploy {service} ")][-1])

    def serving(self, service: str) -> str:
        """The revision that has all traffic."""
        ((revision, percent),) = self.state["services"][service]["traffic"].items()
        assert percent == 100
        return revision


def flags(line: str) -> dict[str, str]:
    return {word.partition("=")[0]: word.partition("=")[2] for word in line.split(" ") if word.startswith("--")}


def misread_by_gcloud(commands: Iterable[str], config: Path, *, folder: Path = PROJECT) -> dict[str, str]:
    """The commands that gcloud's own parser refuses, with what it says.

    It has no account and asks for none, not even of the machine, so that what it accepts ends at once and unsent.
    """
    environment = {
        "PATH": os.environ["PATH"], "HOME": str(config), "CLOUDSDK_CONFIG": str(config),
        "CLOUDSDK_CORE_CHECK_GCE_METADATA": "false", "CLOUDSDK_CORE_DISABLE_PROMPTS": "1",
    }  # fmt: skip

    def run(*words: str, stdin: str = "") -> Any:
        done = subprocess.run(
            words, cwd=folder, env=environment, input=stdin, capture_output=True, text=True, timeout=300, check=True
        )
        return json.loads(done.stdout)

    config.mkdir(exist_ok=True)
    distinct = sorted(set(commands))
    about = run("gcloud", "info", "--format=json")
    answers = run(
        about["basic"]["python_location"], "-S", str(PARSER), about["installation"]["sdk_root"],
        stdin=json.dumps([shlex.split(command)[1:] for command in distinct]),
    )  # fmt: skip
    return {
        command: said
        for command, (status, said) in zip(distinct, answers, strict=True)
        if status != 0 and "active account" not in said and "NoActiveAccount" not in said
    }

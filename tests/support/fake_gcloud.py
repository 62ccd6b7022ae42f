"""A gcloud that keeps what it was told in a folder and is as strict as Google: run as ``fake_gcloud.py FOLDER WORDS…``.

It refuses to make what exists, to change what does not, and a first deployment without traffic. Of every call it keeps
words, standard input and which of the caller's secrets its environment showed. It starts some thousand times, so it
imports nothing that takes longer than its work: no pathlib, no json, no typing.
"""

# ruff: noqa: PTH110, PTH123, PTH202
from __future__ import annotations

import marshal
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    State = dict[str, Any]
    Flags = dict[str, str]

SECRET_MARK = "zq31415"
URL = "https://{}-abc.a.run.app"


def refuse(why: str) -> None:
    sys.exit(f"ERROR: {why}")


class Cloud:
    def __init__(self, state: State, words: list[str], flags: Flags, stdin: str) -> None:
        self.state, self.words, self.flags, self.stdin = state, words, flags, stdin

    def kind(self, kind: str) -> State:
        return self.state.setdefault(kind, {})

    def make(self, kind: str, name: str, what: Any) -> None:
        if name in self.kind(kind):
            refuse(f"{kind} {name} already exists")
        self.kind(kind)[name] = what

    def known(self, kind: str, name: str) -> Any:
        if name not in self.kind(kind):
            refuse(f"{kind} {name} not found")
        return self.kind(kind)[name]

    def forget(self, kind: str, name: str) -> None:
        self.known(kind, name)
        del self.kind(kind)[name]

    def names(self, kind: str) -> None:
        wanted = self.flags.get("filter")
        print(*[name for name, what in self.kind(kind).items() if not wanted or what.get("ours")], sep="\n")

    def make_account(self) -> None:
        email = f"{self.words[-1]}@{self.flags['project']}.iam.gserviceaccount.com"
        self.make("accounts", email, {"ours": self.flags["description"].startswith("line-recovery:")})

    def make_secret(self) -> None:
        self.make(
            "secrets", self.words[-1], {"ours": self.flags.get("labels") == "made-by=line-recovery", "versions": []}
        )

    def add_version(self) -> None:
        if not self.stdin:
            refuse("an empty value")
        self.known("secrets", self.words[-1])["versions"].append({"value": self.stdin, "enabled": True})

    def versions(self) -> None:
        versions = self.known("secrets", self.words[-1])["versions"]
        print(*[n for n, each in reversed([*enumerate(versions, 1)]) if each["enabled"]], sep="\n")

    def access(self) -> None:
        print(self.known("secrets", self.flags["secret"])["versions"][-1]["value"], end="")

    def disable(self) -> None:
        self.known("secrets", self.flags["secret"])["versions"][int(self.words[-1]) - 1]["enabled"] = False

    def exclude(self) -> None:
        for how, change in self.flags.items():
            match how:
                case "add-exclusion":
                    self.make("exclusions", change.split(",")[0].removeprefix("name="), change)
                case "update-exclusion":
                    self.known("exclusions", change.split(",")[0].removeprefix("name="))
                case "remove-exclusions":
                    self.forget("exclusions", change)

    def deploy(self) -> None:
        name = self.words[-1]
        service = self.kind("services").get(name)
        if service is None:
            if "no-traffic" in self.flags:
                refuse("--no-traffic not supported when creating a new service")
            service = self.kind("services")[name] = {"ours": True, "traffic": {}, "tags": {}, "revisions": 0}
        service["revisions"] += 1
        revision = f"{name}-{self.flags.get('revision-suffix', str(service['revisions']))}"
        if "no-traffic" not in self.flags:
            service["traffic"] = {revision: 100}
        if "tag" in self.flags:
            service["tags"][self.flags["tag"]] = revision

    def describe(self) -> None:
        service = self.known("services", self.words[-1])
        url = URL.format(self.words[-1])
        if self.flags["format"] == "value(status.url)":
            print(url)
            return
        for revision, percent in service["traffic"].items():
            print(f"{revision},{percent},,")
        for tag, revision in service["tags"].items():
            print(f"{revision},,{tag},{url.replace('://', f'://{tag}---')}")

    def move_traffic(self) -> None:
        service = self.known("services", self.words[-1])
        if "to-revisions" in self.flags:
            revision, _, percent = self.flags["to-revisions"].partition("=")
            service["traffic"] = {revision: int(percent)}
        if "update-tags" in self.flags:
            tag, _, revision = self.flags["update-tags"].partition("=")
            service["tags"][tag] = revision
        service["tags"].pop(self.flags.get("remove-tags"), None)

    def bind(self) -> None:
        bound = self.state.setdefault("bindings", [])
        binding = [self.words[-1], self.flags["role"], self.flags["member"]]
        if "remove-iam-policy-binding" in self.words:
            bound.remove(binding)
        elif binding not in bound:
            bound.append(binding)

    def roles(self) -> None:
        member = self.flags["filter"].removeprefix("bindings.members:")
        print(
            *[role for on, role, who in self.state["bindings"] if on == self.words[-1] and who.endswith(member)],
            sep="\n",
        )

    def answer(self) -> None:
        name = self.words[-1]
        table: dict[str, Callable[[], object]] = {
            "services enable": lambda: None,
            "config get-value account": lambda: print("ops@example.com"),
            "auth print-identity-token": lambda: print(f"token-{SECRET_MARK}"),
            "iam service-accounts list": lambda: self.names("accounts"),
            "iam service-accounts create": self.make_account,
            "iam service-accounts delete": lambda: self.forget("accounts", name),
            "secrets list": lambda: self.names("secrets"),
            "secrets create": self.make_secret,
            "secrets delete": lambda: self.forget("secrets", name),
            "secrets versions list": self.versions,
            "secrets versions add": self.add_version,
            "secrets versions access": self.access,
            "secrets versions disable": self.disable,
            "secrets add-iam-policy-binding": self.bind,
            "projects add-iam-policy-binding": self.bind,
            "projects remove-iam-policy-binding": self.bind,
            "projects get-iam-policy": self.roles,
            "iam service-accounts add-iam-policy-binding": self.bind,
            "run services add-iam-policy-binding": self.bind,
            "logging sinks describe": lambda: print(";".join(self.kind("exclusions"))),
            "logging sinks update": self.exclude,
            "run deploy": self.deploy,
            "functions deploy": self.deploy,
            "run services list": lambda: self.names("services"),
            "run services describe": self.describe,
            "run services update-traffic": self.move_traffic,
            "run services delete": lambda: self.forget("services", name),
            "scheduler jobs create http": lambda: self.make("jobs", name, {"ours": True, **self.flags}),
            "scheduler jobs update http": lambda: self.known("jobs", name),
            "scheduler jobs delete": lambda: self.forget("jobs", name),
            "scheduler jobs list": lambda: self.names("jobs"),
            "functions list": lambda: None,
            "artifacts repositories list": lambda: print("cloud-run-source-deploy"),
            "artifacts packages list": lambda: print("follow-up-check", "somebody-elses", sep="\n"),
            "artifacts packages delete": lambda: None,
            "storage buckets list": lambda: print("run-sources-my-project-southamerica-east1"),
            "storage rm": lambda: None,
            "logging metrics list": lambda: print("line_recovery/sweeps"),
            "logging metrics delete": lambda: None,
            "alpha monitoring policies list": lambda: print("projects/p/alertPolicies/1"),
            "alpha monitoring policies delete": lambda: None,
            "monitoring dashboards list": lambda: print("projects/1/dashboards/1"),
            "monitoring dashboards delete": lambda: None,
            "beta monitoring channels list": lambda: print("projects/p/notificationChannels/1"),
            "beta monitoring channels delete": lambda: None,
        }
        command = max((known for known in table if " ".join(self.words).startswith(known)), key=len, default="")
        if not command:
            refuse(f"nobody told the fake about: {' '.join(self.words)}")
        table[command]()


def read(file: str) -> str:
    """What a file holds; nothing when there is none."""
    if not os.path.exists(file):
        return ""
    with open(file, encoding="utf-8") as opened:
        return opened.read()


def kept(file: str) -> list[Any]:
    """All that ``keep`` has written there; nothing when there is no file."""
    if not os.path.exists(file):
        return []
    with open(file, "rb") as opened:
        size, values = os.path.getsize(file), []
        while opened.tell() < size:
            values.append(marshal.load(opened))
    return values


def keep(file: str, value: object, how: str = "wb") -> None:
    with open(file, how) as opened:
        marshal.dump(value, opened)


def fails(folder: str, line: str) -> bool:
    """The file `failing` holds «how often», «what»: commands that hold those words fail so many times."""
    left, _, what = read(f"{folder}/failing").partition(" ")
    if not what or what not in line or int(left) == 0:
        return False
    with open(f"{folder}/failing", "w", encoding="utf-8") as failing:
        failing.write(f"{int(left) - 1} {what}")
    return True


def main() -> None:
    folder, words = sys.argv[1], sys.argv[2:]
    flags = {flag[2:].partition("=")[0]: flag.partition("=")[2] for flag in words if flag.startswith("--")}
    stdin = sys.stdin.read() if "--data-file=-" in words else ""
    leaked = [name for name, value in os.environ.items() if SECRET_MARK in value]
    keep(f"{folder}/calls", {"words": words, "stdin": stdin, "leaked": leaked}, "ab")
    if fails(folder, " ".join(words)):
        refuse("made to fail")
    state = (kept(f"{folder}/state") or [{}])[0]
    Cloud(state, [word for word in words if not word.startswith("--")], flags, stdin).answer()
    keep(f"{folder}/state", state)


if __name__ == "__main__":
    main()

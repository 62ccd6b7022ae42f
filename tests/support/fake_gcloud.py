"""A gcloud that remembers what it was told and is as strict as Google.

It refuses to make what exists, to change what does not, and a first deployment without traffic. Of every call it keeps
words, standard input and which of the caller's secrets its environment showed.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from programs import Refused

if TYPE_CHECKING:
    from collections.abc import Callable

    from programs import Call

    State = dict[str, Any]
    Flags = dict[str, str]

SECRET_MARK = "zq31415"
URL = "https://{}-abc.a.run.app"
EXPORTED = re.compile(r"(?m)^declare -x (\w+)=")


def refuse(why: str) -> None:
    raise Refused(f"ERROR: {why}")


class Cloud:
    """One call of gcloud."""

    def __init__(self, state: State, words: list[str], flags: Flags, stdin: str) -> None:
        self.state, self.words, self.flags, self.stdin = state, words, flags, stdin
        self.said = ""

    def say(self, *lines: str, end: str = "\n") -> None:
        self.said += "\n".join(lines) + end

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
        self.say(*[name for name, what in self.kind(kind).items() if not wanted or what.get("ours")])

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
        self.say(*[str(n) for n, each in reversed([*enumerate(versions, 1)]) if each["enabled"]])

    def access(self) -> None:
        self.say(self.known("secrets", self.flags["secret"])["versions"][-1]["value"], end="")

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
            self.say(url)
            return
        for revision, percent in service["traffic"].items():
            self.say(f"{revision},{percent},,")
        for tag, revision in service["tags"].items():
            self.say(f"{revision},,{tag},{url.replace('://', f'://{tag}---')}")

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
        self.say(*[role for on, role, who in self.state["bindings"] if on == self.words[-1] and who.endswith(member)])

    def answer(self) -> str:
        name = self.words[-1]
        table: dict[str, Callable[[], object]] = {
            "services enable": lambda: None,
            "config get-value account": lambda: self.say("ops@example.com"),
            "auth print-identity-token": lambda: self.say(f"token-{SECRET_MARK}"),
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
            "logging sinks describe": lambda: self.say(";".join(self.kind("exclusions"))),
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
            "artifacts repositories list": lambda: self.say("cloud-run-source-deploy"),
            "artifacts packages list": lambda: self.say("follow-up-check", "somebody-elses"),
            "artifacts packages delete": lambda: None,
            "storage buckets list": lambda: self.say("run-sources-my-project-southamerica-east1"),
            "storage rm": lambda: None,
            "logging metrics list": lambda: self.say("line_recovery/sweeps"),
            "logging metrics delete": lambda: None,
            "alpha monitoring policies list": lambda: self.say("projects/p/alertPolicies/1"),
            "alpha monitoring policies delete": lambda: None,
            "monitoring dashboards list": lambda: self.say("projects/1/dashboards/1"),
            "monitoring dashboards delete": lambda: None,
            "beta monitoring channels list": lambda: self.say("projects/p/notificationChannels/1"),
            "beta monitoring channels delete": lambda: None,
        }
        command = max((known for known in table if " ".join(self.words).startswith(known)), key=len, default="")
        if not command:
            refuse(f"nobody told the fake about: {' '.join(self.words)}")
        table[command]()
        return self.said


class Google:
    """What all calls have told."""

    def __init__(self) -> None:
        self.state: State = {}
        self.calls: list[dict[str, Any]] = []
        self.failing = ""
        self.failures_left = 0

    def gcloud(self, call: Call) -> str:
        flags = {flag[2:].partition("=")[0]: flag.partition("=")[2] for flag in call.words if flag.startswith("--")}
        self.calls.append({"words": call.words, "stdin": call.stdin, "leaked": leaked(call.environment)})
        if self.failures_left and self.failing in " ".join(call.words):
            self.failures_left -= 1
            refuse("made to fail")
        words = [word for word in call.words if not word.startswith("--")]
        return Cloud(self.state, words, flags, call.stdin).answer()


def leaked(environment: str) -> list[str]:
    """The exported variables that hold a secret."""
    _, *named = EXPORTED.split(environment)
    return [name for name, value in zip(named[::2], named[1::2], strict=True) if SECRET_MARK in value]

"""Google Cloud, where gcloud is at hand: what is deployed, and that no log keeps the webhook's key."""

from __future__ import annotations

import asyncio
import json
import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from ops.common.postgres import is_loopback
from ops.common.shown import shown_host
from ops.doctor.findings import Finding, Severity, Subject, Unchecked, unless_empty

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_SECONDS: Final = 60
_WHAT: Final = "that Cloud Run's request log leaves out the webhook's URLs"
_REQUESTS: Final = ("run.googleapis.com/requests", "run.googleapis.com%2frequests")


_SERVICES: Final = ("follow-up-check", "wapi-webhook")
_DEPLOYED: Final = "the settings of the deployed functions"


@dataclass(frozen=True, slots=True)
class Service:
    """A deployed function.

    Attributes:
        name: Of the Cloud Run service.
        settings: Its plain variables; secrets are references and not among them.
    """

    name: str
    settings: Mapping[str, str]


async def read_services(project: str | None) -> list[Service] | Unchecked:
    """The functions as they are deployed, or why they could not be read."""
    found = await _gcloud(_DEPLOYED, project, "run", "services", "list")
    if isinstance(found, Unchecked):
        return found
    services = []
    for each in found if isinstance(found, list) else []:
        name = _within(each, "metadata", "name")
        containers = _within(each, "spec", "template", "spec", "containers")
        if name in _SERVICES and isinstance(containers, list):
            variables = [one for container in containers for one in _within(container, "env") or []]
            settings = {str(one["name"]): str(one["value"]) for one in variables if "name" in one and "value" in one}
            services.append(Service(name, settings))
    return services


def check_services(services: Iterable[Service], *, supabase_url: str) -> list[Finding]:
    """Whether their settings can work on Google's machines. Pure.

    Args:
        services: As deployed.
        supabase_url: The project that is examined.
    """
    services = list(services)
    loopback = [
        Subject(service.name, detail=name)
        for service in services
        for name, value in sorted(service.settings.items())
        if "://" in value and is_loopback(shown_host(value))
    ]
    elsewhere = [
        Subject(service.name, detail=shown_host(told))
        for service in services
        if (told := service.settings.get("SUPABASE_URL")) is not None and told.strip().rstrip("/") != supabase_url
    ]
    return [
        *unless_empty(
            loopback,
            check="deployed.loopback",
            severity=Severity.PROBLEM,
            what="deployed settings point to loopback: on Google's machine nobody is there",
            do="set the variable to the real address (empty goes back to its default), then make deploy",
        ),
        *unless_empty(
            elsewhere,
            check="deployed.other_project",
            severity=Severity.WARNING,
            what="deployed functions have another SUPABASE_URL than the one that is examined here",
            do="examine with theirs, or deploy with this one",
        ),
    ]


async def read_exclusions(project: str | None) -> list[str] | Unchecked:
    """The filters that keep entries out of the project's ``_Default`` log sink, or why they could not be read."""
    sink = await _gcloud(_WHAT, project, "logging", "sinks", "describe", "_Default")
    if isinstance(sink, Unchecked):
        return sink
    if not isinstance(sink, dict):
        return Unchecked(_WHAT, "gcloud could not describe the log sink _Default; is it logged in?", failed=True)
    return [str(each.get("filter", "")) for each in sink.get("exclusions") or [] if not each.get("disabled")]


async def _gcloud(what: str, project: str | None, *words: str) -> object:
    """What gcloud answers as JSON, or why that could not be checked."""
    if project is None:
        return Unchecked(what, "set GOOGLE_CLOUD_PROJECT, with gcloud installed and logged in")
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return Unchecked(what, "gcloud is not installed")
    process = await asyncio.create_subprocess_exec(
        gcloud,
        *words,
        f"--project={project}",
        "--format=json",
        "--quiet",
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        async with asyncio.timeout(_SECONDS):
            said, _ = await process.communicate()
    except TimeoutError:
        process.kill()
        await process.wait()
        return Unchecked(what, "gcloud did not answer", failed=True)
    try:
        found: object = json.loads(said) if process.returncode == 0 else None
    except ValueError:
        found = None
    if found is None:
        return Unchecked(what, f"gcloud could not {' '.join(words)}; is it logged in?", failed=True)
    return found


def _within(value: object, *path: str) -> Any:  # noqa: ANN401 - JSON
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return value


def check_exclusions(filters: list[str]) -> list[Finding]:
    """Whether one of them is about the request log. Pure."""
    if any(name in each.lower() for each in filters for name in _REQUESTS):
        return [
            Finding("log.keys_left_out", Severity.OK, "Cloud Run's request log is kept out of the _Default log sink")
        ]
    return [
        Finding(
            "log.keys_kept",
            Severity.WARNING,
            "Cloud Run's own request log keeps the webhook's full URLs, and so its key",
            "exclude run.googleapis.com/requests of wapi-webhook in the log sink _Default (deploy/bootstrap does)",
        )
    ]

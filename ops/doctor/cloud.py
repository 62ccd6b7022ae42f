"""Google Cloud, where gcloud is at hand: Cloud Run's request log holds the webhook's URL, and with it the key."""

from __future__ import annotations

import asyncio
import json
import shutil
from typing import Final

from ops.doctor.findings import Finding, Severity, Unchecked

_SECONDS: Final = 60
_WHAT: Final = "that Cloud Run's request log leaves out the webhook's URLs"
_REQUESTS: Final = ("run.googleapis.com/requests", "run.googleapis.com%2frequests")


async def read_exclusions(project: str | None) -> list[str] | Unchecked:
    """The filters that keep entries out of the project's ``_Default`` log sink, or why they could not be read."""
    if project is None:
        return Unchecked(_WHAT, "set GOOGLE_CLOUD_PROJECT, with gcloud installed and logged in")
    gcloud = shutil.which("gcloud")
    if gcloud is None:
        return Unchecked(_WHAT, "gcloud is not installed")
    words = ("logging", "sinks", "describe", "_Default", f"--project={project}", "--format=json", "--quiet")
    process = await asyncio.create_subprocess_exec(
        gcloud,
        *words,
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
        return Unchecked(_WHAT, "gcloud did not answer", failed=True)
    try:
        sink = json.loads(said) if process.returncode == 0 else None
    except ValueError:
        sink = None
    if not isinstance(sink, dict):
        return Unchecked(_WHAT, "gcloud could not describe the log sink _Default; is it logged in?", failed=True)
    return [str(each.get("filter", "")) for each in sink.get("exclusions") or [] if not each.get("disabled")]


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

"""Logs for Cloud Logging: one JSON object per line on stdout, one line per fact.

A fact is named ``noun.past_participle`` in constant text and its values stand in fields. INFO: a fact; WARNING: we
coped; ERROR: a human must look. Exceptions show where and of what kind they were, and their text only if it is ours:
a database's or a transport's words may quote rows and addresses.
"""

from __future__ import annotations

import json
import logging
import os
import re
import sys
import traceback
from contextvars import ContextVar
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from shared.errors import LineRecoveryError

if TYPE_CHECKING:
    from collections.abc import Mapping

_logger = logging.getLogger("line_recovery")
_trace: ContextVar[dict[str, str]] = ContextVar("trace", default={})  # noqa: B039 - replaced, never changed

_TRACEPARENT = re.compile(r"^[0-9a-f]{2}-([0-9a-f]{32})-([0-9a-f]{16})-")
_CLOUD_TRACE = re.compile(r"^([0-9a-fA-F]{32})(?:/(\d+))?")
_NOISY = ("httpx", "httpcore", "aiohttp", "asyncio", "hpack")
"""httpx logs whole URLs at INFO."""


class _JsonLines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        line: dict[str, Any] = {
            "severity": record.levelname,
            "message": record.getMessage(),
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(),
            **_trace.get(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info and record.exc_info[1]:
            line["stack_trace"] = _describe(record.exc_info[1])
        if record.levelno >= logging.ERROR:
            line |= _for_error_reporting(record)
        try:
            # In ASCII: some readers also end a line at U+2028 or U+0085, which a name in an event may hold.
            # sys.stdout is looked up at each line: servers and tests replace it.
            sys.stdout.write(json.dumps(line, default=str) + "\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            self.handleError(record)


_handler = _JsonLines()


def _for_error_reporting(record: logging.LogRecord) -> dict[str, Any]:
    """What Error Reporting wants: who speaks and, for a fact without a stack trace, from where."""
    return {
        "@type": "type.googleapis.com/google.devtools.clouderrorreporting.v1beta1.ReportedErrorEvent",
        "serviceContext": {
            "service": os.environ.get("K_SERVICE", "local"),
            "version": os.environ.get("K_REVISION", "local"),
        },
        "context": {
            "reportLocation": {
                "filePath": record.pathname,
                "lineNumber": record.lineno,
                "functionName": record.funcName,
            }
        },
    }


def _describe(error: BaseException) -> str:
    lines: list[str] = []
    described: set[int] = set()  # an error raised from its own group is its own cause's part
    waiting: list[BaseException | None] = [error]
    while waiting:
        each = waiting.pop()
        if each is None or id(each) in described:
            continue
        described.add(id(each))
        text = f": {each}" if isinstance(each, LineRecoveryError) else ""
        lines += ["Traceback (most recent call last):", *_frames(each), f"{type(each).__name__}{text}"]
        waiting.append(each.__cause__)
        if isinstance(each, BaseExceptionGroup):
            waiting.extend(reversed(each.exceptions))
    return "\n".join(lines)


def _frames(error: BaseException) -> list[str]:
    return [
        f'  File "{frame.filename}", line {frame.lineno}, in {frame.name}'
        for frame in traceback.extract_tb(error.__traceback__)
    ]


def configure() -> None:
    """Send our log to stdout. Call it on a request, not at import, and as often as you like.

    With ``LOG_EXECUTION_ID=true`` the framework disables every logger that was made at import, after import.
    """
    _logger.disabled = False
    if _handler in _logger.handlers:
        return
    _logger.addHandler(_handler)
    _logger.setLevel(logging.INFO)
    _logger.propagate = False
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.WARNING)


def follow_trace(headers: Mapping[str, str], project: str | None) -> None:
    """Join the lines of this request to its trace, from ``traceparent``, else ``X-Cloud-Trace-Context``."""
    found = _TRACEPARENT.match(headers.get("traceparent", "")) or _CLOUD_TRACE.match(
        headers.get("x-cloud-trace-context", "")
    )
    if not found or not project:
        _trace.set({})
        return
    trace, span = found.groups()
    fields = {"logging.googleapis.com/trace": f"projects/{project}/traces/{trace.lower()}"}
    if span:
        fields["logging.googleapis.com/spanId"] = span
    _trace.set(fields)


def info(fact: str, **fields: object) -> None:
    """Log a fact."""
    _logger.info(fact, extra={"fields": fields})


def warning(fact: str, **fields: object) -> None:
    """Log something we coped with."""
    _logger.warning(fact, extra={"fields": fields})


def error(fact: str, *, cause: BaseException | None = None, **fields: object) -> None:
    """Log something a human must look at."""
    _logger.error(fact, exc_info=cause, extra={"fields": fields}, stacklevel=2)

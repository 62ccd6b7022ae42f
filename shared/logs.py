"""Logs for Cloud Logging: one JSON object per line on stdout, one line per fact.

A fact is named ``noun.past_participle`` in constant text and its values stand in fields. INFO: a fact; WARNING: we
coped; ERROR: a human must look. Exceptions show where and of what kind they were, and their text only if it is ours:
a database's or a transport's words may quote rows and addresses.

On a terminal the same fact is a short coloured line with the unit and the external id.
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


_IDS = ("instance", "outage", "run", "run_id", "event_id")
"""They say nothing to who reads a terminal, but for the one of a line without a name."""
_LONGEST = 60
_MOST_NAMES = 10_000
_COLOURS = {logging.INFO: "32", logging.WARNING: "33", logging.ERROR: "31"}

_names: dict[str, str] = {}
"""Unit and external id by our id of a line; filled on a terminal only."""


class _Lines(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        # sys.stdout is looked up at each line: servers and tests replace it.
        try:
            line = _for_a_terminal(record) if sys.stdout.isatty() else _as_json(record)
            sys.stdout.write(line + "\n")
            sys.stdout.flush()
        except (OSError, ValueError):
            self.handleError(record)


def _as_json(record: logging.LogRecord) -> str:
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
    # In ASCII: some readers also end a line at U+2028 or U+0085, which a name in an event may hold.
    return json.dumps(line, default=str)


def _for_a_terminal(record: logging.LogRecord) -> str:
    """Time, level, fact, unit and external id, then the other fields that hold something; of counts those above 0."""
    fields: dict[str, object] = getattr(record, "fields", {})
    name = _names.get(str(fields.get("instance")), "")
    at = datetime.fromtimestamp(record.created).astimezone()
    parts = [f"{at:%H:%M:%S}", _coloured(f"{record.levelname:<7}", record.levelno), _coloured(record.getMessage(), 0)]
    parts += [name] if name else []
    for key, told in fields.items():
        is_name = key == "instance" and not name
        if told not in (None, 0) and (is_name or key not in _IDS):
            parts.append(f"{key}={_shown(told)}")
    line = " ".join(parts)
    if record.exc_info and record.exc_info[1]:
        line += "\n    " + _describe(record.exc_info[1]).replace("\n", "\n    ")
    return line


def _coloured(text: str, level: int) -> str:
    if os.environ.get("NO_COLOR"):
        return text
    return f"\x1b[{_COLOURS.get(level, '1')}m{text}\x1b[0m"


def _shown(told: object) -> str:
    """Foreign words on one line, without what controls a terminal."""
    text = "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(told))
    return text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"


_handler = _Lines()


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


def name_line(instance: object, *, unit: str | None, external_id: str | None) -> None:
    """Say once what people call a line, so that a terminal's lines about it can; elsewhere it does nothing.

    Args:
        instance: Our id, as it will stand in the field of that name.
        unit: The venue; None keeps what is known of it.
        external_id: The provider's id.
    """
    if instance is None or not sys.stdout.isatty() or (unit is None and str(instance) in _names):
        return
    if len(_names) >= _MOST_NAMES:
        _names.clear()
    _names[str(instance)] = " ".join(_shown(part) for part in (unit, external_id) if part)


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

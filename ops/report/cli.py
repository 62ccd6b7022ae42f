"""``python -m ops.report``: writes one HTML page about every line, from the database; nothing there is changed.

Reads SUPABASE_URL and SUPABASE_SERVICE_ROLE_KEY. Exits with 0 when the page is written, 1 when the database or the file
did not allow it, 2 when a setting or an argument is missing or wrong.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Final
from uuid import UUID
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ops.common.env_file import env_file
from ops.common.rest import KeyRefused
from ops.common.shown import counted
from ops.report.figures import Figures, figure
from ops.report.history import History, read_history
from ops.report.page import render
from shared.errors import LineRecoveryError, SettingsError, StoreRefused, StoreUnavailable
from shared.settings import StoreSettings, load_settings

if TYPE_CHECKING:
    from collections.abc import Sequence

WRITTEN, FAILED, MISUSED = 0, 1, 2
_ZONE: Final = "America/Sao_Paulo"
_NO_TABLES: Final = ("42P01", "42703", "PGRST200", "PGRST204", "PGRST205")


class ReportError(LineRecoveryError):
    """The page cannot be made; the text says why and what to do."""


def write(path: Path, page: str) -> None:
    """Replace a file in one step: whoever opens it sees the old page or the new one.

    Raises:
        ReportError: When the folder does not take it.
    """
    target = path.resolve()  # through a link, not over it
    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        unfinished.write_text(page, "utf-8")
        unfinished.replace(target)
    except OSError as error:
        raise ReportError(f"{path}: {error.strerror}") from error
    finally:
        unfinished.unlink(missing_ok=True)


def read(settings: StoreSettings, now: datetime, company: UUID | None) -> History:
    """Read the database.

    Raises:
        ReportError: When it does not answer, refuses, or knows no such company.
    """
    try:
        history = asyncio.run(read_history(settings, now, company=company))
    except StoreUnavailable as error:
        raise ReportError(f"the database does not answer ({error}): look at SUPABASE_URL, or try again later") from None
    except KeyRefused as error:
        why = "SUPABASE_SERVICE_ROLE_KEY is not this project's service-role key"
        raise ReportError(f"the database refuses ({error.operation}: HTTP {error.status}): {why}") from None
    except StoreRefused as error:
        advice = ": migrations are missing" if error.code in _NO_TABLES else ""
        raise ReportError(f"the database refuses ({error}){advice}") from None
    if company and company not in history.companies:
        raise ReportError(f"there is no company {company}")
    return history


def report(out: Path, company: UUID | None, settings: StoreSettings) -> str:
    """Write the page and say what was written.

    Raises:
        ReportError: See there.
    """
    began = time.monotonic()
    try:
        zone = ZoneInfo(_ZONE)
    except ZoneInfoNotFoundError:
        raise ReportError(f"this machine does not know the time zone {_ZONE}: install its tzdata package") from None
    now = datetime.now(UTC)
    history = read(settings, now, company)
    figures = figure(history, now=now, zone=zone)
    scope = (history.companies[company].name or "") if company else None
    page = render(figures, zone=zone, scope=scope)
    write(out, page)
    return f"{out}: {summary(figures)}, {len(page.encode()) / 1000:,.0f} kB, {time.monotonic() - began:.1f} s"


def summary(figures: Figures) -> str:
    """What the page holds, in numbers."""
    return f"{counted(figures.conditions.total(), 'line')}, {counted(len(figures.open_outages), 'open outage')}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the answer is its exit code."""
    description, _, codes = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m ops.report", description=description, epilog=codes)
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the file to write (%(default)s)")
    parser.add_argument("--company", type=UUID, metavar="UUID", help="only this company's lines")
    asked = parser.parse_args(arguments)
    try:
        print(report(asked.out, asked.company, load_settings(StoreSettings, env_file=env_file())))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return MISUSED
    except LineRecoveryError as error:
        print(error, file=sys.stderr)
        return FAILED
    return WRITTEN

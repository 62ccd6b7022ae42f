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
from typing import TYPE_CHECKING, Final, NoReturn, TypeVar
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from ops.common.env_file import env_file
from ops.common.interrupted import Interrupted
from ops.common.rest import KeyRefused
from ops.common.shown import counted, shown
from ops.report.figures import Figures, figure
from ops.report.history import read_companies, read_history
from ops.report.page import render
from shared.errors import LineRecoveryError, SettingsError, StoreRefused, StoreUnavailable
from shared.settings import StoreSettings, load_settings

if TYPE_CHECKING:
    from collections.abc import Coroutine, Sequence
    from uuid import UUID

WRITTEN, FAILED, MISUSED = 0, 1, 2
_ZONE: Final = "America/Sao_Paulo"
_FEW: Final = 5
_SHORTEST_WATCH: Final = 5
_Read = TypeVar("_Read")
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


def _answered(reading: Coroutine[None, None, _Read]) -> _Read:
    """Wait for the database.

    Raises:
        ReportError: When it does not answer or refuses.
    """
    try:
        return asyncio.run(reading)
    except StoreUnavailable as error:
        raise ReportError(f"the database does not answer ({error}): look at SUPABASE_URL, or try again later") from None
    except KeyRefused as error:
        why = "SUPABASE_SERVICE_ROLE_KEY is not this project's service-role key"
        raise ReportError(f"the database refuses ({error.operation}: HTTP {error.status}): {why}") from None
    except StoreRefused as error:
        advice = ": migrations are missing" if error.code in _NO_TABLES else ""
        raise ReportError(f"the database refuses ({error}){advice}") from None


def company_of(settings: StoreSettings, wanted: str) -> UUID:
    """The company that an operator means by its id or name; capitals do not matter.

    Raises:
        ReportError: When there is none, or more than one, or the database does not answer.
    """
    companies = _answered(read_companies(settings))
    found = [
        each for each in companies if wanted.strip().casefold() in (str(each.id), (each.name or "").strip().casefold())
    ]
    if len(found) == 1:
        return found[0].id
    if found:
        ids = ", ".join(str(each.id) for each in found)
        raise ReportError(f"{len(found)} companies are called {shown(wanted)}: name one of {ids}")
    near = [shown(each.name) for each in companies if each.name and wanted.casefold() in each.name.casefold()][:_FEW]
    hint = f"; there is {', '.join(near)}" if near else ""
    raise ReportError(f"there is no company {shown(wanted)}{hint}")


def report(out: Path, company: UUID | None, settings: StoreSettings, *, reload_seconds: int | None = None) -> str:
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
    history = _answered(read_history(settings, now, company=company))
    figures = figure(history, now=now, zone=zone)
    scope = (history.companies[company].name or "") if company in history.companies and company else None
    page = render(figures, zone=zone, scope=scope, reload_seconds=reload_seconds)
    write(out, page)
    return f"{out}: {summary(figures)}, {len(page.encode()) / 1000:,.0f} kB, {time.monotonic() - began:.1f} s"


def watch(out: Path, company: UUID | None, settings: StoreSettings, *, seconds: int) -> NoReturn:
    """Write the page again and again; what goes wrong is said, and the page of before stays.

    Raises:
        Interrupted: By whoever started it; it says how often the page was written.
    """
    written = 0
    try:
        while True:
            try:
                said = report(out, company, settings, reload_seconds=seconds)
                written += 1
                print(said, flush=True)
            except ReportError as error:
                print(error, file=sys.stderr, flush=True)
            time.sleep(seconds)
    except KeyboardInterrupt:
        raise Interrupted(f"{out} was written {written} {'time' if written == 1 else 'times'}") from None


def summary(figures: Figures) -> str:
    """What the page holds, in numbers."""
    return f"{counted(figures.conditions.total(), 'line')}, {counted(len(figures.open_outages), 'open outage')}"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; the answer is its exit code."""
    description, _, codes = (__doc__ or "").partition("\n\n")
    parser = argparse.ArgumentParser(prog="python -m ops.report", description=description, epilog=codes)
    parser.add_argument("--out", type=Path, default=Path("report.html"), help="the file to write (%(default)s)")
    parser.add_argument("--company", metavar="NAME_OR_ID", help="only this company's lines")
    parser.add_argument(
        "--watch", type=_seconds, metavar="SECONDS", help="write it every so often; an open browser reloads it"
    )
    asked = parser.parse_args(arguments)
    try:
        settings = load_settings(StoreSettings, env_file=env_file())
        company = company_of(settings, asked.company) if asked.company is not None else None
        if asked.watch:
            watch(asked.out, company, settings, seconds=asked.watch)
        print(report(asked.out, company, settings))
    except SettingsError as error:
        print(error, file=sys.stderr)
        return MISUSED
    except LineRecoveryError as error:
        print(error, file=sys.stderr)
        return FAILED
    return WRITTEN


def _seconds(text: str) -> int:
    seconds = int(text)
    if seconds < _SHORTEST_WATCH:
        raise argparse.ArgumentTypeError(f"must be at least {_SHORTEST_WATCH}")
    return seconds

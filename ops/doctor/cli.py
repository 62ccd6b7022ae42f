"""The command line of the doctor."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from rich.console import Console
from rich.progress import Progress

from ops.common.env_file import env_file
from ops.common.interrupted import Interrupted
from ops.common.shown import counted, shortened
from ops.doctor import send_test
from ops.doctor.contract import command as contract
from ops.doctor.contract.command import Order
from ops.doctor.examine import Wishes, examine
from ops.doctor.findings import Change, Exit, Finding, Report, Severity
from ops.doctor.render import as_json, print_report
from ops.doctor.settings import DoctorSettings, TargetSettings
from shared.core.registration import Target
from shared.errors import LineRecoveryError, SettingsError, StoreRefused, StoreUnavailable
from shared.settings import load_settings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

_FEW: Final = 20
"""So many lines need no bar."""
_LONGEST: Final = 1000

DESCRIPTION = """\
Checks a real project and says in plain words what is wrong and what to do about it. It only reads, unless told
--fix-webhooks, --send or --send-test. (To learn which keys wapi_webhook knows, it sends it an empty body with each,
which is refused.)

Environment: SUPABASE_URL, SUPABASE_SERVICE_ROLE_KEY (both required); WEBHOOK_URL (wapi_webhook's address, without key)
and WAPI_WEBHOOK_SECRETS, else webhooks are not checked; DATABASE_URL (Postgres itself: rights, indexes, cron jobs);
GOOGLE_CLOUD_PROJECT (log exclusions, by gcloud); WAPI_BASE_URL, WAPI_SEND_URL, LOOK_TIMEOUT_SECONDS as the functions.

Exit code: 0 = fine (notes at most); 1 = problems or warnings, a human is needed; 2 = it could not be checked, or wrong
usage."""


def main(arguments: list[str] | None = None) -> int:
    """Run the command; returns its exit code."""
    parser = _parser()
    told = parser.parse_args(arguments)
    if (told.send or told.yes) and not told.contract:
        parser.error("--send and --yes belong to --contract")
    wishes = Wishes(tuple(told.company), tuple(told.line), fix_webhooks=told.fix_webhooks, dry_run=told.dry_run)
    try:
        if told.contract is not None:
            order = Order(told.contract, send=told.send, sure=told.yes, folder=told.out, as_json=told.json)
            return _walk_contract(order)
        if told.send_test is not None:
            return send_test.run(told.send_test, say=print)
        report = _run(wishes)
    except StoreUnavailable as error:
        return _could_not_check(f"Supabase does not answer at SUPABASE_URL as it should ({error})", as_json=told.json)
    except StoreRefused as error:
        return _could_not_check(f"the database refused ({error})", as_json=told.json)
    except LineRecoveryError as error:
        return _could_not_check(str(error), as_json=told.json)
    if told.json:
        print(as_json(report))
    else:
        print_report(report, Console(highlight=False, markup=False, emoji=False))
    return report.exit_code


def _walk_contract(order: Order) -> int:
    settings = load_settings(DoctorSettings, env_file=env_file())
    target = None
    with suppress(SettingsError):  # the walk alone needs neither address nor secrets; --send says what is missing
        target = _target()
    return contract.run(settings, target, order, say=lambda text: print(f"doctor: {text}", file=sys.stderr, flush=True))


def _target() -> Target:
    known = load_settings(TargetSettings, env_file=env_file())
    return Target(known.webhook_url, known.wapi_webhook_secrets)


def _run(wishes: Wishes) -> Report:
    settings = load_settings(DoctorSettings, env_file=env_file())
    findings, target = [], None
    try:
        target = _target()
    except SettingsError as error:
        if wishes.fix_webhooks:
            raise
        do = "set them to have the webhooks at the provider checked"
        findings.append(Finding("settings.incomplete", Severity.WARNING, str(error), do))
    changes: list[Change] = []
    try:
        report = asyncio.run(examine(settings, target, wishes, bar=_bar, changes=changes))
    except KeyboardInterrupt:
        raise Interrupted(_done_so_far(changes, wishes)) from None
    return Report((*findings, *report.findings), report.unchecked, report.changes, dry_run=report.dry_run)


def _done_so_far(changes: list[Change], wishes: Wishes) -> str:
    """What somebody who ends it must know: which lines have their webhooks set."""
    if not wishes.fix_webhooks or wishes.dry_run:
        return "nothing was changed"
    again = "; run it again, what is set stays set"
    if not changes:
        return f"no line's webhooks were set whole{again}"
    names = [f"{change.line.company} · {change.line.name}" for change in changes]
    return (
        f"set for {counted(len(changes), 'line')} ({shortened(', '.join(names), _LONGEST)}), not for the others{again}"
    )


@contextmanager
def _bar(title: str, total: int | None) -> Iterator[Callable[[], None]]:
    """A progress bar on standard error, if that is a terminal and there is something to wait for."""
    console = Console(stderr=True)
    is_short = total is not None and total < _FEW
    with Progress(console=console, transient=True, disable=is_short or not console.is_terminal) as progress:
        task = progress.add_task(title, total=total)
        yield lambda: progress.advance(task)


def _could_not_check(why: str, *, as_json: bool) -> int:
    if as_json:
        print(json.dumps({"exit_code": Exit.NOT_CHECKED, "error": why}))
    print(why, file=sys.stderr)
    return Exit.NOT_CHECKED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m ops.doctor", description=DESCRIPTION, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help="everything as JSON on standard output")
    parser.add_argument(
        "--fix-webhooks", action="store_true", help="set webhook URLs that are wrong; may be cut off and repeated"
    )
    parser.add_argument("--dry-run", action="store_true", help="with --fix-webhooks: only say what would be set")
    parser.add_argument("--company", action="append", default=[], help="only lines of this company (id or name)")
    parser.add_argument("--line", action="append", default=[], help="only this line (our id, external id or unit)")
    parser.add_argument(
        "--send-test",
        metavar="CONTACT",
        help="instead of all checks: one message now to a contact (its id, or how its address ends) or to operator",
    )
    walk = parser.add_argument_group("the provider's contract", "instead of all checks: one line, call by call")
    walk.add_argument(
        "--contract",
        metavar="LINE",
        help="compare the shape of each answer for this line (our uuid or the external id)",
    )
    walk.add_argument(
        "--send", action="store_true", help="with it: prove the whole path with a message to itself; asks"
    )
    walk.add_argument("--yes", action="store_true", help="with --send: do not ask")
    walk.add_argument(
        "--out", type=Path, default=Path(), metavar="FOLDER", help="where contract-….json and .txt go (here)"
    )
    return parser

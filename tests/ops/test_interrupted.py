"""Ctrl-C, SIGTERM and a closed terminal: one line that says what was done, exit code 130, no traceback."""

from __future__ import annotations

import os
import pty
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from waiting import GENEROUS_SECONDS

from ops.common import interrupted

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize(
    ("command", "number"),
    [
        pytest.param(["ops.report"], signal.SIGINT, id="report, Ctrl-C"),
        pytest.param(["ops.doctor"], signal.SIGTERM, id="doctor, SIGTERM"),
    ],
)
def test_an_interrupted_command_says_so_in_a_line(command: list[str], number: signal.Signals, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:  # a database that never answers
        silent.settimeout(GENEROUS_SECONDS)
        port = silent.getsockname()[1]
        environment = {
            "PATH": "/usr/bin:/bin", "PYTHONPATH": str(ROOT), "ENV_FILE": os.devnull, "SUPABASE_URL": f"http://127.0.0.1:{port}",
            "SUPABASE_SERVICE_ROLE_KEY": "sb_secret_0123456789", "WAPI_BASE_URL": "http://127.0.0.1:9/v1",
            "WEBHOOK_URL": "http://127.0.0.1:9", "WAPI_WEBHOOK_SECRETS": "a-secret-of-16-letters",
        }  # fmt: skip
        with subprocess.Popen(
            [sys.executable, "-m", *command], cwd=tmp_path, env=environment,
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        ) as process:  # fmt: skip
            connection, _ = silent.accept()
            with connection:
                process.send_signal(number)
                out, err = process.communicate(timeout=GENEROUS_SECONDS)
    name = command[0].removeprefix("ops.")
    assert (process.returncode, out, err) == (130, "", f"{name}: interrupted: nothing was changed\n")
    assert list(tmp_path.iterdir()) == []


def test_what_could_not_be_printed_any_more_changes_no_exit_code() -> None:
    """Regression: a demo whose terminal was closed in the middle of a line ended with 120."""
    script = (
        "from ops.common import interrupted\n"
        "def command():\n    print('the first half', end='')\n    raise KeyboardInterrupt\n"
        "raise SystemExit(interrupted.run('demo', command))\n"
    )
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        done = subprocess.run(
            [sys.executable, "-c", script], cwd=ROOT, env={"PATH": "/usr/bin:/bin"},
            stdout=full, stderr=subprocess.PIPE, text=True, check=False,
        )  # fmt: skip
    assert (done.returncode, done.stderr) == (130, "demo: interrupted: nothing was changed\n")


def test_a_terminal_that_is_gone_ends_a_command_without_its_signal_too() -> None:
    """Regression: on a busy machine a demo wrote after its terminal was closed and before it was told so."""
    script = (
        "from ops.common import interrupted\n"
        "def command():\n    print('a line', flush=True)\n    input()\n    print('one more', flush=True)\n    return 0\n"
        "raise SystemExit(interrupted.run('demo', command))\n"
    )
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", script], cwd=ROOT, env={"PATH": "/usr/bin:/bin"},
        stdin=subprocess.PIPE, stdout=theirs, stderr=subprocess.PIPE, text=True, start_new_session=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        assert os.read(ours, 100) == b"a line\r\n"
        os.close(ours)  # nobody's controlling terminal: no signal comes
        _, err = process.communicate("go\n", timeout=GENEROUS_SECONDS)
    assert (process.returncode, err) == (130, "demo: interrupted: the terminal is gone\n")


def test_after_the_first_signal_the_way_out_is_not_interrupted_again() -> None:
    heard: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _frame: heard.append(number))
    try:
        with interrupted.once():
            for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
                signal.raise_signal(number)
            with interrupted.held():
                signal.raise_signal(signal.SIGINT)
        assert heard == [signal.SIGINT]
        with interrupted.held():
            signal.raise_signal(signal.SIGTERM)
        signal.raise_signal(signal.SIGINT)
    finally:
        signal.signal(signal.SIGINT, before)
    assert heard == [signal.SIGINT] * 2

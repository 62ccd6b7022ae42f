"""``make play`` and ``make demo``: what a stranger sees on a terminal of 80 columns, and that nothing is left behind."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import struct
import subprocess
import sys
import tempfile
import termios
import threading
from pathlib import Path
from typing import TYPE_CHECKING

import psutil
import pytest
from waiting import GENEROUS_SECONDS, until

from dev.playground import NUMBERS, tuning_of
from dev.story import answer_in_words, bells_in_words
from shared.core.notices import TEXTS
from shared.settings import SweepSettings, WebhookSettings

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

PROJECT = Path(__file__).parents[2]
COLOURS = re.compile(r"\x1b\[[0-9;]*m")


class Terminal:
    """A command on a terminal of 80 columns, with what it has shown so far."""

    def __init__(self, module: str, folder: Path) -> None:
        self._ours, theirs = pty.openpty()
        fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
        self.process = subprocess.Popen(
            [sys.executable, "-m", module], cwd=PROJECT, stdin=theirs, stdout=theirs, stderr=theirs,
            env={"PATH": os.environ["PATH"], "TMPDIR": str(folder), "ENV_FILE": os.devnull, "TERM": "xterm"},
            preexec_fn=lambda: (os.setsid(), fcntl.ioctl(0, termios.TIOCSCTTY, 0)),  # noqa: PLW1509 - two system calls
        )  # fmt: skip
        os.close(theirs)
        self._shown = b""
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        try:
            while chunk := os.read(self._ours, 65536):
                self._shown += chunk
        except OSError:
            return

    @property
    def shown(self) -> str:
        return COLOURS.sub("", self._shown.decode("utf-8", "replace")).replace("\r\n", "\n")

    def wait_for(self, text: str) -> None:
        until(lambda: text in self.shown or self.process.poll() is not None)
        assert text in self.shown, self.shown

    def type(self, keys: bytes) -> None:
        os.write(self._ours, keys)

    def everything(self) -> list[psutil.Process]:
        process = psutil.Process(self.process.pid)
        return [process, *process.children(recursive=True)]

    def close(self) -> None:
        if self._ours >= 0:
            os.close(self._ours)
        self._ours = -1


@pytest.fixture
def own_tmp() -> Iterator[Path]:
    """A temporary directory that PostgreSQL's account can enter as well."""
    with tempfile.TemporaryDirectory(prefix="t-") as folder:
        Path(folder).chmod(0o711)
        yield Path(folder).resolve()


@pytest.fixture
def on_a_terminal(own_tmp: Path) -> Iterator[Callable[[str], Terminal]]:
    opened: list[Terminal] = []

    def start(module: str) -> Terminal:
        opened.append(Terminal(module, own_tmp))
        return opened[-1]

    yield start
    for terminal in opened:
        terminal.close()
        terminal.process.wait(GENEROUS_SECONDS)


def test_play_is_ready_lines_to_paste_and_ctrl_c_leaves_nothing(
    on_a_terminal: Callable[[str], Terminal], own_tmp: Path
) -> None:
    terminal = on_a_terminal("dev.play")
    terminal.wait_for("Ctrl-C ends all of it")
    addresses = re.findall(r"^  \S.*  (http://\S+)$", terminal.shown, re.MULTILINE)
    commands = re.findall(r"^\d\. .+\n(.+)$", terminal.shown, re.MULTILINE)
    assert (len(addresses), len(commands)) == (4, 6)
    assert set(re.findall(r"http://([^:/]+)", terminal.shown)) == {"127.0.0.1"}

    def paste(number: int) -> str:
        return subprocess.run(
            ["bash", "-c", commands[number - 1]], cwd=PROJECT, env={"PATH": os.environ["PATH"], "NO_PROXY": "*"},
            capture_output=True, text=True, timeout=GENEROUS_SECONDS, check=True,
        ).stdout  # fmt: skip

    assert '"session":"disconnected"' in paste(1)
    assert '"failed":1' in paste(2)
    assert "WhatsApp da unidade Moema perdeu conexão." in paste(3)
    assert paste(5).count("restored") == 1
    assert paste(4) == '{"outcome":"stored"}\n'
    assert "voltou a funcionar" in paste(3)
    assert "6 lines" in paste(6)
    terminal.wait_for("event.taken Moema LITE-AB12CD-EF34G2")
    assert re.search(r"^\d\d:\d\d:\d\d WARNING restart\.failed Moema LITE-AB12CD-EF34G2 ", terminal.shown, re.MULTILINE)

    started = terminal.everything()
    assert len(started) > 5
    terminal.type(b"\x03")
    assert terminal.process.wait(GENEROUS_SECONDS) == 0
    assert psutil.wait_procs(started, timeout=GENEROUS_SECONDS)[1] == []
    assert terminal.shown.endswith("play: stopped, nothing is left behind\n")
    assert list(own_tmp.iterdir()) == []


def test_a_demo_whose_terminal_is_closed_leaves_nothing(
    on_a_terminal: Callable[[str], Terminal], own_tmp: Path
) -> None:
    """Regression: four functions-framework processes lived on."""
    terminal = on_a_terminal("dev.demo")
    terminal.wait_for("1. All lines are healthy")
    started = terminal.everything()
    # Where setproctitle is installed (mutmut brings it) gunicorn gives its processes another title.
    titles = [" ".join(each.cmdline()) for each in started]
    assert sum("functions-framework" in title or title.startswith("gunicorn: ") for title in titles) >= 4
    assert max(map(len, terminal.shown.splitlines())) <= 80
    terminal.close()
    assert terminal.process.wait(GENEROUS_SECONDS) == 130
    assert psutil.wait_procs(started, timeout=GENEROUS_SECONDS)[1] == []
    assert list(own_tmp.iterdir()) == []


@pytest.mark.parametrize("unit", ["Moema", "Vila Mariana do Sul"])
@pytest.mark.parametrize("width", [80, 120])
def test_what_the_venue_reads_stands_whole(unit: str, width: int) -> None:
    message = TEXTS["disconnected"]["message"].format(unit=unit)
    said = "\n".join(bells_in_words([{"message": message, "name": "Ana"}, {"message": message, "name": "Davi"}], width))
    assert said.startswith("   Ana, Davi read:\n")
    assert all(f"{sentence}." in said for sentence in message.rstrip(".").split(". "))
    assert max(map(len, said.splitlines())) <= width
    assert (f"“{message}”" in said) is (width == 120)


def test_an_answer_is_said_in_words() -> None:
    counts = {"checked": 6, "unknown": 6, "braked": True, "restarted": 0, "notified": 0}
    assert answer_in_words(counts, tuple(counts)) == (
        "follow_up_check: 6 looked at, 6 could not be asked, the brake is on"
    )
    assert answer_in_words({"status": 200, "outcome": "own_restart"}, ("status",)) == "wapi_webhook: own restart"


def test_play_takes_numbers_alone_from_a_file_of_settings() -> None:
    fields = SweepSettings.model_fields | WebhookSettings.model_fields
    named = {name.upper(): "https://real.example/key" for name in fields} | {"LOOK_TIMEOUT_SECONDS": "3", "EMPTY": ""}
    taken = tuning_of(named)
    assert taken.keys() == NUMBERS
    assert taken["LOOK_TIMEOUT_SECONDS"] == "3"
    assert not {name for name in NUMBERS if "URL" in name or "KEY" in name or "SECRET" in name or "FANOUT" in name}

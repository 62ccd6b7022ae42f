"""What ``dev/install`` does with the Python that it has found: says each step, bounds its time, keeps to our folder.

Standard library alone: nothing is installed yet.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from ops.common import interrupted

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

PROJECT: Final = Path(__file__).resolve().parent.parent
VENV: Final = PROJECT / ".venv"
LOCAL: Final = PROJECT / ".local"
_SAY_EVERY_SECONDS: Final = 20
_NPM_QUIETLY: Final = {
    "npm_config_update_notifier": "false",
    # By default npm is silent for minutes before it says that it cannot reach the registry.
    "npm_config_fetch_retries": "2",
    "npm_config_fetch_retry_mintimeout": "1000",
    "npm_config_fetch_retry_maxtimeout": "5000",
    "npm_config_fetch_timeout": "60000",
}


class InstallError(Exception):
    """A step did not work; the text says which and why."""


def say(text: str) -> None:
    """Print a line at once."""
    print(f"install: {text}", flush=True)


def caches(variables: Mapping[str, str]) -> dict[str, str]:
    """Where pip and npm keep what they have loaded: theirs under HOME, or in our folder where HOME cannot be written.

    Args:
        variables: The environment.
    """
    theirs = {"npm_config_cache": ".npm", "PIP_CACHE_DIR": ".cache"}
    home = variables.get("HOME", "")
    found = {}
    for name, folder in theirs.items():
        own = os.path.join(home, folder)  # noqa: PTH118 - and no Path: its is_dir raises where we may not look
        place = own if os.path.isdir(own) else home  # noqa: PTH112
        if name not in variables and not (home and os.access(place, os.W_OK | os.X_OK)):
            found[name] = str(LOCAL / "cache" / folder.strip("."))
    return found


def run(what: str, command: Sequence[str], *, seconds: float, variables: Mapping[str, str]) -> None:
    """Run a step and say how long it took.

    Raises:
        InstallError: It failed or did not end in time; with the end of what it said.
    """
    say(f"{what} …")
    began = time.monotonic()
    LOCAL.mkdir(exist_ok=True)
    log = LOCAL / "install.log"
    with log.open("wb") as output:
        step = subprocess.Popen(
            command, cwd=PROJECT, env=dict(variables), stdin=subprocess.DEVNULL, stdout=output, stderr=output,
            start_new_session=True,
        )  # fmt: skip
        try:
            failed = _failure_of(step, began + seconds)
        except BaseException:
            _end(step)
            raise
    if failed:
        raise InstallError(f"{what}: {failed}. The end of what it said:\n{_tail(log)}")
    say(f"  done in {time.monotonic() - began:.0f} s")


def _failure_of(step: subprocess.Popen[bytes], deadline: float) -> str | None:
    began = time.monotonic()
    while True:
        left = deadline - time.monotonic()
        if left <= 0:
            _end(step)
            return f"given up after {deadline - began:.0f} s (INSTALL_SECONDS allows more)"
        try:
            status = step.wait(min(left, _SAY_EVERY_SECONDS))
        except subprocess.TimeoutExpired:
            if time.monotonic() < deadline:
                say(f"  still at it, {time.monotonic() - began:.0f} s")
            continue
        return f"it ended with status {status}" if status else None


def _end(step: subprocess.Popen[bytes]) -> None:
    try:
        os.killpg(step.pid, signal.SIGKILL)
    except ProcessLookupError:
        return
    step.wait()


def _tail(log: Path, lines: int = 15) -> str:
    said = log.read_text("utf-8", "replace").splitlines()
    kept = [line for line in said if line.strip() and not line.startswith("WARNING: Location")]
    return "\n".join(f"    {line}" for line in kept[-lines:]) or "    (nothing)"


def _was_moved() -> bool:
    """Whether .venv was made in a folder of another name: the programs in it would look for Python there."""
    program = VENV / "bin" / "functions-framework"
    return program.is_file() and str(VENV) not in program.read_text("utf-8", "replace")[:1000]


def install() -> int:
    """Install; return the exit status."""
    seconds = float(os.environ.get("INSTALL_SECONDS") or 1200)
    variables = {**os.environ, **caches(os.environ), "PIP_DISABLE_PIP_VERSION_CHECK": "1", **_NPM_QUIETLY}
    version = ".".join(map(str, sys.version_info[:3]))
    try:
        if _was_moved():
            say(".venv comes from another folder: it is made anew")
            shutil.rmtree(VENV)
        if not all(os.access(VENV / "bin" / name, os.X_OK) for name in ("python", "pip")):  # pip is what comes last
            command = [sys.executable, "-m", "venv", "--clear", str(VENV)]
            run(f".venv, with Python {version}", command, seconds=seconds, variables=variables)
        wanted = str(PROJECT / "dev" / "requirements.txt")
        pip = [str(VENV / "bin" / "python"), "-m", "pip", "install", "--quiet", "--require-hashes", "-r", wanted]
        run("Python packages into .venv (480 MB on disk)", pip, seconds=seconds, variables=variables)
        npm = shutil.which("npm")
        if npm:
            npm_ci = [npm, "ci", "--prefix", str(PROJECT / "dev"), "--no-fund", "--no-audit", "--loglevel=error"]
            run("npm packages into dev/node_modules (165 MB on disk)", npm_ci, seconds=seconds, variables=variables)
    except (InstallError, OSError) as error:
        print(f"install: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        raise interrupted.Interrupted("run it again, it goes on from here") from None
    return 0


if __name__ == "__main__":
    sys.exit(interrupted.run("install", install))

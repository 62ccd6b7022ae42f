"""The stack's folder under the system's temporary directory: locked by its owner, cleared by whoever comes after."""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from dev.processes import StackError, stop_leftover

if TYPE_CHECKING:
    from dev.processes import Account

PREFIX = "wapi-stack-"
LOCK = "lock"
PID_FILES = ("postgrest.pid", "pg/data/postmaster.pid")  # in the order in which their processes are stopped
UNBORN_SECONDS = 60  # a folder without a lock file is being made, unless it is older than this


class StackFolder:
    """A folder that is alive for as long as its maker: a lock on a file in it, which the kernel drops with us.

    Args:
        account: Who else must be able to enter it; None if we run everything ourselves.

    Raises:
        StackError: That account cannot reach any temporary directory.
    """

    def __init__(self, account: Account | None) -> None:
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX, dir=_reachable_root(account)))
        if account:
            self.path.chmod(0o711)
        # Locked before it bears the name that others look for: nobody ever sees an unlocked folder of a living owner.
        unnamed = self.path / f"{LOCK}.new"
        self._lock = os.open(unnamed, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
        fcntl.flock(self._lock, fcntl.LOCK_EX)
        unnamed.rename(self.path / LOCK)

    def remove(self) -> None:
        """Remove the folder with everything in it and let go of the lock; its processes must have ended."""
        _remove(self.path)
        os.close(self._lock)


def clear_dead_folders(account: Account | None) -> None:
    """End the processes and remove the folders of runs whose owner is gone (killed, out of memory, power)."""
    for path in _reachable_root(account).glob(f"{PREFIX}*"):
        if not _is_our_folder(path):
            continue
        try:
            lock = os.open(path / LOCK, os.O_RDWR | os.O_NOFOLLOW)
        except FileNotFoundError:
            with contextlib.suppress(FileNotFoundError):  # another starter clears as well
                if time.time() - path.stat().st_mtime > UNBORN_SECONDS:
                    _remove(path)
            continue
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            continue  # alive
        else:
            _stop_leftovers(path)
            _remove(path)
        finally:
            os.close(lock)


def _reachable_root(account: Account | None) -> Path:
    """Return the temporary directory, or /tmp where root's own one is closed to the account."""
    roots = (Path(tempfile.gettempdir()), Path("/tmp"))  # noqa: S108  only a place for mkdtemp
    if account is None:
        return roots[0]
    for root in roots:
        entered = subprocess.run(
            ["test", "-x", root.resolve()], check=False, user=account.uid, group=account.gid, extra_groups=[]
        )
        if entered.returncode == 0:
            return root.resolve()
    raise StackError(f"user id {account.uid}, who is to run PostgreSQL, cannot enter {roots[0]}: set TMPDIR")


def _is_our_folder(path: Path) -> bool:
    try:
        seen = path.lstat()
    except FileNotFoundError:
        return False
    return stat.S_ISDIR(seen.st_mode) and seen.st_uid == os.geteuid()


def _stop_leftovers(path: Path) -> None:
    for name in PID_FILES:
        try:
            pid = int((path / name).read_text("ascii").split("\n", 1)[0])
        except (FileNotFoundError, ValueError):
            continue  # it was not yet written, or not yet whole
        stop_leftover(pid, mentions=path)


def _remove(path: Path, *, patience_seconds: float = 5) -> None:
    """Remove a tree into which a dying process may still write a last file."""
    deadline = time.monotonic() + patience_seconds
    while path.exists():
        try:
            shutil.rmtree(path)
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.02)

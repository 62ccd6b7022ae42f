"""What somebody needs to use a running stack: the file of facts that a foreground stack leaves, and signed tokens."""

from __future__ import annotations

import contextlib
import json
import os
import socket
import time
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import jwt

from dev.processes import StackError

if TYPE_CHECKING:
    from uuid import UUID

FACTS_FILE = Path(__file__).resolve().parent.parent / ".local" / "stack.json"
DAY_SECONDS = 86_400
KEY_DAYS = 3650  # as the keys of a Supabase project


def role_key(role: str, jwt_secret: str) -> str:
    """Sign the key of a role, ``anon`` or ``service_role``."""
    return _signed({"role": role}, jwt_secret, days=KEY_DAYS)


def user_token(user_id: UUID, jwt_secret: str) -> str:
    """Sign what a user's browser holds after a login: role ``authenticated``, valid for a day."""
    return _signed({"sub": str(user_id), "role": "authenticated", "aud": "authenticated"}, jwt_secret, days=1)


def _signed(claims: dict[str, str], jwt_secret: str, *, days: int) -> str:
    now = int(time.time())
    return jwt.encode({"iss": "supabase", "iat": now, "exp": now + days * DAY_SECONDS, **claims}, jwt_secret, "HS256")


def facts_file() -> Path:
    """Return where a foreground stack leaves its facts: STACK_FILE, else .local/stack.json."""
    return Path(os.environ.get("STACK_FILE") or FACTS_FILE)


def write(facts: dict[str, str], file: Path) -> Path:
    """Write the facts whole or not at all, readable by us alone.

    Returns:
        Where they stand: under another name when the file is another running stack's, which needs it still.
    """
    file.parent.mkdir(parents=True, exist_ok=True)
    unfinished = file.with_name(f"{file.name}.{os.getpid()}")
    with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w", encoding="utf-8") as out:
        out.write(json.dumps(facts, indent=2) + "\n")
    if file.exists():
        file = file.with_name(f"{file.stem}-{os.getpid()}{file.suffix}")
    return unfinished.replace(file)


def read(file: Path) -> dict[str, str]:
    """Read the facts of a running stack.

    Raises:
        StackError: No stack has written them.
    """
    try:
        facts: dict[str, str] = json.loads(file.read_text("utf-8"))
    except FileNotFoundError:
        raise StackError(f"no stack is running: {file} does not exist (`make stack` starts one)") from None
    return facts


def remove_if_ours(facts: dict[str, str], file: Path) -> None:
    """Remove the file if it holds these facts: another stack may have replaced it."""
    with contextlib.suppress(FileNotFoundError, ValueError):
        if json.loads(file.read_text("utf-8")) == facts:
            file.unlink()


def remove_if_stale(file: Path) -> None:
    """Remove the file of a killed stack: whoever waits for the file must not find that one."""
    try:
        address = urlsplit(read(file)["supabase_url"])
    except StackError:
        return
    except (ValueError, KeyError):
        file.unlink()  # not ours, or torn: nobody can use it
        return
    try:
        socket.create_connection((str(address.hostname), address.port or 0), timeout=1).close()
    except OSError:
        file.unlink(missing_ok=True)

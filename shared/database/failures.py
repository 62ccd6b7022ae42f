"""Failures of the database, sorted by what the caller does next. Pure.

Sorted by class, not by a list of what was met so far: whatever is not the database's own word (an SQLSTATE, a PGRST
code) is somebody between us and it, and that passes. Gateways answer 402 (over quota), 408, 425, 429, 500, 502 to 504,
520 to 527, 540 (paused) and 544 as JSON or as pages; a connection that dies under PostgREST is a 400 with an empty
code.
"""

from __future__ import annotations

import json
import re
from http import HTTPStatus
from typing import Final

from shared.errors import StoreError, StoreRefused, StoreUnavailable

_OWN_WORD: Final = re.compile(r"[0-9A-Z]{5}|PGRST[0-9A-Z]{3}")
_KEY_REFUSED: Final = (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)
_KEY_REFUSED_WORDS: Final = ("PGRST300", "PGRST301", "PGRST302")
"""PostgREST on a JWT that is none, is not ours, or is not there."""

ROLLED_BACK: Final = frozenset({"40001", "40P01"})
"""Serialization failure and deadlock: nothing happened, the same call may be made again."""
CLAIMS_REFUSED: Final = "PGRST303"
"""With ``sb_secret_`` keys about one answer in a hundred: the token was issued in the future, by a clock of theirs."""
NOT_BEGUN: Final = frozenset({CLAIMS_REFUSED, "PGRST202", "PGRST205"})
"""Nothing happened either: such a token, or a schema cache that does not know yet what a migration has just made."""
# Connection, read-only (a disk that is full), resources, a lock that did not come, operator, system; PostgREST without
# a connection, a schema cache, a place in its pool.
_PASSES: Final = ("08", "25006", "53", "55P03", "57", "58", "PGRST000", "PGRST001", "PGRST002", "PGRST003")


def is_own_word(code: str | None) -> bool:
    """Whether a code is the database's or PostgREST's."""
    return _OWN_WORD.fullmatch(code or "") is not None


def speaks_for_itself(body: bytes) -> bool:
    """Whether an answer's body is an error of the database or of PostgREST, and not of somebody between."""
    try:
        found = json.loads(body)
    except (ValueError, RecursionError):
        return False
    return isinstance(found, dict) and isinstance(found.get("code"), str) and is_own_word(found["code"])


def failure_of_gateway(operation: str, status: int) -> StoreError:
    """What an HTTP status means that came without a word of the database's."""
    return (StoreRefused if status in _KEY_REFUSED else StoreUnavailable)(operation, str(status))


def failure_of_database(operation: str, code: str | None) -> StoreError:
    """What a code of the client's means.

    Args:
        operation: The SQL function that was called.
        code: An SQLSTATE or PostgREST's; anything else comes from a body that is no JSON, or from nobody.
    """
    if code in _KEY_REFUSED_WORDS:
        return StoreRefused(operation, str(int(HTTPStatus.UNAUTHORIZED)))
    if code is None or not is_own_word(code):
        return StoreUnavailable(operation, code or "not an answer")
    passes = code in ROLLED_BACK or code in NOT_BEGUN or code.startswith(_PASSES)
    return (StoreUnavailable if passes else StoreRefused)(operation, code)

"""Compare secrets in constant time. Pure."""

from __future__ import annotations

import hmac
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import SecretStr


def knows_secret(given: str | None, secrets: Iterable[SecretStr]) -> bool:
    """Whether ``given`` is one of the secrets, compared in constant time."""
    candidate = (given or "").encode()
    known = False
    for secret in secrets:
        known |= hmac.compare_digest(candidate, secret.get_secret_value().encode())
    return known

"""The webhook's keys: a key a line, and the plain secret behind it. Compared in constant time. Pure.

The provider signs nothing, so the key stands in the address that is registered for a line, where whoever may read that
line's token reads it as well. It therefore speaks for that line alone: ``<external id>.<32 characters of an HMAC>``.
"""

from __future__ import annotations

import hmac
from base64 import urlsafe_b64encode
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable

    from pydantic import SecretStr

_BYTES: Final = 24
"""Of the digest: 32 characters of base64, without padding."""


@dataclass(frozen=True, slots=True)
class Key:
    """A key that opens.

    Attributes:
        external_id: The line that it speaks for; None is the plain secret, which speaks for every line.
    """

    external_id: str | None = None


def line_key(secret: SecretStr, external_id: str) -> str:
    """The key of a line: ``<external id>.<32 characters>``, base64url of HMAC-SHA256(secret, external id)."""
    digest = hmac.digest(secret.get_secret_value().encode(), _bytes(external_id), "sha256")
    return f"{external_id}.{urlsafe_b64encode(digest[:_BYTES]).decode()}"


def knows_secret(given: str | None, secrets: Iterable[SecretStr]) -> bool:
    """Whether ``given`` is one of the secrets, compared in constant time."""
    known = False
    for secret in secrets:
        known |= hmac.compare_digest(_bytes(given), secret.get_secret_value().encode())
    return known


def is_line_key(given: str | None, external_id: str, secrets: Iterable[SecretStr]) -> bool:
    """Whether ``given`` is the line's key under one of the secrets, compared in constant time."""
    known = False
    for secret in secrets:
        known |= hmac.compare_digest(_bytes(given), _bytes(line_key(secret, external_id)))
    return known


def read_key(given: str | None, secrets: Iterable[SecretStr], *, line_keys_only: bool = False) -> Key | None:
    """Say for whom a key speaks; None when it opens nothing.

    Args:
        given: As it stands in the address. A line's key splits at its last dot: external ids may hold some.
        secrets: Each of them counts, in a rotation the old one as well.
        line_keys_only: The plain secret opens nothing.
    """
    if given is None:
        return None
    secrets = tuple(secrets)
    external_id, _, _ = given.rpartition(".")
    of_line = is_line_key(given, external_id, secrets) and external_id != ""
    if knows_secret(given, secrets) and not line_keys_only:
        return Key()
    return Key(external_id) if of_line else None


def _bytes(text: str | None) -> bytes:
    """Of whatever a stranger wrote, half of a surrogate pair included."""
    return (text or "").encode(errors="surrogatepass")

"""Addresses of channels as an operator writes them, checked as far as apprise need not be asked. Pure."""

from __future__ import annotations

import re
from typing import Any, Final

from pydantic import SecretStr

_ADDRESS_BEGINS: Final = re.compile(r"[,\s]+(?=[A-Za-z][A-Za-z0-9+]*://)")
_MAIL_SCHEMES: Final = ("mailto", "mailtos")


def mail_url(value: SecretStr) -> SecretStr:
    """A mail server's."""
    url = value.get_secret_value().strip()
    if url.partition("://")[0].lower() not in _MAIL_SCHEMES or not url.isprintable():
        raise ValueError("must be a mail server's URL as apprise writes it: mailtos://user:password@host?from=address")
    return SecretStr(url)


def split_urls(value: Any) -> Any:  # noqa: ANN401 - whatever the environment holds
    """Addresses with commas or spaces between them; a comma may stand within one as well."""
    return [url for url in _ADDRESS_BEGINS.split(value.strip()) if url] if isinstance(value, str) else value


def is_webhook(url: SecretStr) -> bool:
    """Whether it is one that is signed, and not of apprise's own forms."""
    return url.get_secret_value().partition("://")[0].lower() in ("http", "https")


def operator_urls(values: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    """The operator's."""
    for value in values:
        scheme, _, rest = value.get_secret_value().partition("://")
        if not scheme or not rest or not value.get_secret_value().isprintable():
            raise ValueError("must hold URLs with a scheme, such as tgram://… or https://…")
    return values

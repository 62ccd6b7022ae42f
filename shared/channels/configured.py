"""Which channels there are, by what the settings say."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING

from shared.channels.mail import AppriseChannel
from shared.channels.signed import SignedWebhook
from shared.core.alert_urls import is_webhook
from shared.core.delivery import EMAIL, OPERATOR

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    import httpx
    from pydantic import SecretStr

    from shared.channels.port import Channel


def fingerprint_of(url: SecretStr) -> str:
    """What stands for an operator's address in the database."""
    return hashlib.sha256(url.get_secret_value().encode()).hexdigest()[:32]


def channels_of(
    open_http: Callable[[], httpx.AsyncClient],
    mail: SecretStr | None,
    operator: Iterable[SecretStr],
    webhook_secret: SecretStr | None,
) -> dict[str, Channel]:
    """``email``, if there is a mail server, and ``operator:<fingerprint>`` for each of the operator's addresses.

    Args:
        open_http: Called for each signed webhook alone: a client reads every authority of the web.
        mail: ``ALERT_EMAIL_URL``.
        operator: ``OPERATOR_ALERT_URLS``.
        webhook_secret: ``OPERATOR_WEBHOOK_SECRET``.
    """
    channels: dict[str, Channel] = {}
    if mail is not None:
        channels[EMAIL] = AppriseChannel(mail, to_contacts=True)
    for url in operator:
        key = f"{OPERATOR}:{fingerprint_of(url)}"
        if is_webhook(url) and webhook_secret is not None:
            channels[key] = SignedWebhook(open_http(), url, webhook_secret)
        else:
            channels[key] = AppriseChannel(url)
    return channels

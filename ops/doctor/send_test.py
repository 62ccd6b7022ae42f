"""One message to one contact, now: whether a channel works, without waiting for a line to fall.

It goes past the outbox, with the settings of this terminal: what the function itself has may differ.
"""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Final
from uuid import UUID, uuid4

import httpx
from pydantic import BeforeValidator, SecretStr

from ops.common.env_file import env_file
from ops.common.rest import Rest
from ops.common.rows import Row
from ops.doctor.findings import Exit
from shared.channels.configured import channels_of
from shared.channels.whatsapp import WhatsAppChannel
from shared.core.delivery import EMAIL, OPERATOR, Post, SendResult
from shared.core.notices import TEST_TEXT, TEST_TITLE
from shared.core.policy import Policy
from shared.database.store import connect
from shared.errors import LineRecoveryError
from shared.providers.exchange import pooled_http
from shared.providers.wapi.client import WapiClient
from shared.settings import SweepSettings, load_settings

if TYPE_CHECKING:
    from collections.abc import Callable

    from shared.channels.port import Channel

_WITHIN: Final = timedelta(seconds=20)
_UNBOUNDED: Final = httpx.Timeout(None)
"""Each send is bounded as a whole."""
_END: Final = 4
_IN_WORDS: Final = {
    SendResult.SENT: "said yes",
    SendResult.REFUSED: "said no, or was not reached",
    SendResult.UNCLEAR: "was not heard in time: it may have arrived",
}


class NoSuchContactError(LineRecoveryError):
    """Nothing, or more than one contact, fits."""


class _Contact(Row):
    table = "alert_contacts"

    id: UUID
    channel: str
    address: Annotated[SecretStr, BeforeValidator(str)]


def run(contact: str, *, say: Callable[[str], None]) -> int:
    """Send a test to a contact.

    Args:
        contact: Its id, the last characters of its address (four or more), or ``operator``: all of OPERATOR_ALERT_URLS.
        say: Shows a line.

    Returns:
        The exit code: 0 when every channel said yes.

    Raises:
        SettingsError: A channel is not configured here.
        NoSuchContactError: See there.
        StoreError: The contacts cannot be read.
    """
    return asyncio.run(_send(load_settings(SweepSettings, env_file=env_file()), contact, say))


async def _send(settings: SweepSettings, wanted: str, say: Callable[[str], None]) -> int:
    async with pooled_http(_UNBOUNDED) as http, httpx.AsyncClient(timeout=_UNBOUNDED, trust_env=False) as plain:
        channels = channels_of(
            lambda: plain, settings.alert_email_url, settings.operator_alert_urls, settings.operator_webhook_secret
        )
        post = Post(f"test-{uuid4()}", TEST_TITLE, TEST_TEXT, ({"kind": "test"},))
        chosen: list[tuple[str, Channel, SecretStr]] = []
        if wanted == OPERATOR:
            chosen = [(f"operator …{key[-_END:]}", each, SecretStr("")) for key, each in channels.items() if ":" in key]
            if not chosen:
                raise NoSuchContactError("OPERATOR_ALERT_URLS is missing here: no address of the operator's is known")
        else:
            contact = await _find(Rest(http, settings.supabase_url, settings.supabase_service_role_key), wanted)
            end = contact.address.get_secret_value()[-_END:]
            chosen = [(f"{contact.channel} …{end}", await _channel(settings, contact, channels, http), contact.address)]
        results = []
        for name, channel, address in chosen:
            answer = await channel.send(address, post, within=_WITHIN)
            cause = f" ({answer.cause})" if answer.cause else ""
            say(f"{name} {_IN_WORDS[answer.result]}{cause}")
            results.append(answer.result)
    return Exit.FINE if set(results) == {SendResult.SENT} else Exit.FINDINGS


async def _find(rest: Rest, wanted: str) -> _Contact:
    found = [
        contact
        for contact in await rest.rows(_Contact, ("channel", f"neq.{OPERATOR}"))
        if str(contact.id) == wanted.lower()
        or (len(wanted) >= _END and contact.address.get_secret_value().endswith(wanted))
    ]
    if len(found) != 1:
        many = "several contacts end" if found else "no contact ends"
        raise NoSuchContactError(f"{many} so: name one by its id in alert_contacts, or `operator`")
    return found[0]


async def _channel(
    settings: SweepSettings, contact: _Contact, channels: dict[str, Channel], http: httpx.AsyncClient
) -> Channel:
    if contact.channel == EMAIL:
        if EMAIL not in channels:
            raise NoSuchContactError("ALERT_EMAIL_URL is missing here")
        return channels[EMAIL]
    if settings.alert_instance_id is None:
        raise NoSuchContactError("ALERT_INSTANCE_ID is missing here")
    async with pooled_http(_UNBOUNDED) as for_the_store:  # which takes over the client that it gets
        store = connect(settings.supabase_url, settings.supabase_service_role_key, for_the_store, Policy())
        line = await store.outbox.sending_line(settings.alert_instance_id)
    if line is None:
        raise NoSuchContactError(
            "the line ALERT_INSTANCE_ID may not send: it must be active and connected for an hour, not mute or in doubt"
        )
    return WhatsAppChannel(WapiClient(http, settings.wapi_base_url), line)

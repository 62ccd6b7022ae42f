"""What the doctor needs of the environment: the functions' own settings, and where they answer."""

from __future__ import annotations

import base64
import json
from typing import Annotated

from pydantic import AfterValidator, SecretStr

from ops.common.postgres import AddressError, DatabaseAddress, read_address
from shared.settings import Settings, Url, WebhookSettings


def _database_url(value: SecretStr) -> SecretStr:
    try:
        read_address(value.get_secret_value())
    except AddressError as error:
        raise ValueError(str(error)) from None
    return value


class DoctorSettings(Settings):
    """What every check needs.

    Attributes:
        database_url: Postgres itself, for what PostgREST cannot show. Optional; only read from.
    """

    database_url: Annotated[SecretStr, AfterValidator(_database_url)] | None = None

    @property
    def database_address(self) -> DatabaseAddress | None:
        """The same, read."""
        return None if self.database_url is None else read_address(self.database_url.get_secret_value())


class TargetSettings(WebhookSettings):
    """Where webhooks must point to.

    Attributes:
        webhook_url: The address of wapi_webhook, without the key.
    """

    webhook_url: Url


def role_of(key: SecretStr) -> str | None:
    """The role that a legacy key names; None for an ``sb_secret_`` key, which is the service role's by its name."""
    parts = key.get_secret_value().split(".")
    if len(parts) != 3:  # noqa: PLR2004 - a JWT
        return None
    try:
        claims = json.loads(base64.urlsafe_b64decode(parts[1] + "=" * (-len(parts[1]) % 4)))
    except ValueError:
        return None
    role = claims.get("role") if isinstance(claims, dict) else None
    return role if isinstance(role, str) else None

"""Read and check the environment once, at start. No other module reads it."""

from __future__ import annotations

import base64
import ipaddress
import re
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Annotated, Any, Self, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    ValidationInfo,
    field_validator,
    model_validator,
)
from pydantic_settings import BaseSettings, NoDecode, SettingsConfigDict

from shared.core.alert_urls import is_webhook, mail_url, operator_urls, split_urls
from shared.core.policy import Limits, Policy
from shared.core.registration import Target
from shared.errors import SettingsError

if TYPE_CHECKING:
    from pathlib import Path

MIN_SECRET_LENGTH = 16
FERNET_KEY_BYTES = 32
MAX_SWEEP_BUDGET_SECONDS = 360
"""With the housekeeping after it (140 s) a sweep ends within 500 s, before the function's own time-out of 540 s."""

_POLICY = Policy()
_LIMITS = Limits()

_JWT = re.compile(r"[\w-]+\.[\w-]+\.[\w-]+", re.ASCII)
_SECRET_KEY = re.compile(r"sb_secret_[\w-]{8,}", re.ASCII)


def _is_loopback(host: str | None) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return False


def _http_url(value: str) -> str:
    value = value.strip()  # secret managers and editors like to end a value with a line break
    if not value.isascii() or not value.isprintable() or " " in value:
        raise ValueError("is not a URL")
    try:
        parts = urlsplit(value)
        host, _ = parts.hostname, parts.port
    except ValueError as error:
        raise ValueError("is not a URL") from error
    if parts.scheme not in ("http", "https") or not host:
        raise ValueError("must be a URL that begins with https://")
    if parts.scheme == "http" and not _is_loopback(host):
        raise ValueError("must be https; plain http is for loopback addresses only")
    if parts.username or parts.password or parts.query or parts.fragment:
        raise ValueError("must hold no user, query or fragment")
    return value.rstrip("/")


def _service_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value().strip()
    if not (_JWT.fullmatch(key) or _SECRET_KEY.fullmatch(key)):
        raise ValueError("must be a service-role JWT (three parts with dots) or a key that begins with sb_secret_")
    return SecretStr(key)


def _stripped(value: SecretStr) -> SecretStr:
    return SecretStr(value.get_secret_value().strip())


def _split(value: Any) -> Any:  # noqa: ANN401 - whatever the environment holds
    return [part.strip() for part in value.split(",") if part.strip()] if isinstance(value, str) else value


def _webhook_secrets(values: tuple[SecretStr, ...]) -> tuple[SecretStr, ...]:
    if not values:
        raise ValueError("must hold at least one secret")
    if any(len(value.get_secret_value()) < MIN_SECRET_LENGTH for value in values):
        raise ValueError(f"every secret must have at least {MIN_SECRET_LENGTH} characters")
    return values


def _fernet_key(value: SecretStr) -> SecretStr:
    key = value.get_secret_value().strip()
    try:
        valid = len(base64.urlsafe_b64decode(key.encode("ascii"))) == FERNET_KEY_BYTES
    except ValueError:
        valid = False
    if not valid:
        raise ValueError("must be a Fernet key: 32 bytes in URL-safe base64")
    return SecretStr(key)


Url = Annotated[str, AfterValidator(_http_url)]
Seconds = Annotated[float, Field(ge=0, le=86_400, allow_inf_nan=False)]
SomeSeconds = Annotated[float, Field(gt=0, le=86_400, allow_inf_nan=False)]


def _relay_url(value: SecretStr) -> SecretStr:
    url = value.get_secret_value().strip()
    _http_url(url.partition("?")[0])  # its query may hold a key
    return SecretStr(url)


class StoreSettings(BaseSettings):
    """What reading the database needs. Names are the environment's; seconds may be fractions."""

    model_config = SettingsConfigDict(
        frozen=True,
        extra="ignore",
        env_ignore_empty=True,
        hide_input_in_errors=True,
        defer_build=True,  # a function reads one of these
    )

    supabase_url: Url
    supabase_service_role_key: Annotated[SecretStr, AfterValidator(_service_key)]


class Settings(StoreSettings):
    """What asking the provider needs as well."""

    wapi_base_url: Url = "https://api.w-api.app/v1"
    wapi_send_url: Url | None = None
    wapi_send_looks: bool = True
    google_cloud_project: str | None = None
    event_relay_url: Annotated[SecretStr, AfterValidator(_relay_url)] | None = None
    event_relay_connections: bool = False

    look_timeout_seconds: SomeSeconds = _LIMITS.look_timeout.total_seconds()
    restart_verify_seconds: SomeSeconds = _LIMITS.restart_verify.total_seconds()

    @model_validator(mode="after")
    def _says_whom_a_local_stack_asks(self) -> Self:
        if _is_loopback(urlsplit(self.supabase_url).hostname) and "wapi_base_url" not in self.model_fields_set:
            raise ValueError(
                "WAPI_BASE_URL is missing: SUPABASE_URL is this machine's, and about the lines of a local stack"
                " the real W-API must not be asked"
            )
        return self

    @property
    def look_timeout(self) -> timedelta:
        """The longest a look may take."""
        return timedelta(seconds=self.look_timeout_seconds)

    @property
    def policy(self) -> Policy:
        """The settings that decide, with the design's defaults for the rest."""
        # A restart and its looks, and half a minute for the event that tells of it.
        return Policy(restart_quiet=timedelta(seconds=self.restart_verify_seconds + 30))


class SweepSettings(Settings):
    """What ``follow_up_check`` needs."""

    check_interval_seconds: Seconds = _LIMITS.check_interval.total_seconds()
    recovery_cooldown_seconds: Seconds = _POLICY.restart_cooldown.total_seconds()
    look_concurrency: Annotated[int, Field(ge=1, le=1000)] = _LIMITS.look_concurrency
    restart_concurrency: Annotated[int, Field(ge=1, le=100)] = _LIMITS.restart_concurrency
    sweep_budget_seconds: Annotated[float, Field(gt=0, le=MAX_SWEEP_BUDGET_SECONDS, allow_inf_nan=False)] = (
        _LIMITS.budget.total_seconds()
    )
    alert_instance_id: Annotated[str, AfterValidator(str.strip)] | None = None
    alert_email_url: Annotated[SecretStr, AfterValidator(mail_url)] | None = None
    operator_webhook_secret: Annotated[SecretStr, AfterValidator(_stripped)] | None = None
    operator_alert_urls: Annotated[
        tuple[SecretStr, ...], NoDecode, BeforeValidator(split_urls), AfterValidator(operator_urls)
    ] = ()

    degraded_grace_seconds: Seconds = _POLICY.degraded_grace.total_seconds()
    ghost_confirm_seconds: Seconds = _LIMITS.ghost_confirm.total_seconds()
    sweep_fanout: Annotated[int, Field(ge=0, le=50)] = 0
    sweep_fanout_url: Annotated[Url | None, Field(validate_default=True)] = None
    webhook_url: Url | None = None
    wapi_webhook_secrets: Annotated[tuple[SecretStr, ...] | None, NoDecode, BeforeValidator(_split)] = None
    webhook_take_over: bool = False
    tell_venues_subscription: bool = False

    @field_validator("operator_alert_urls")
    @classmethod
    def _is_signed_if_a_webhook(cls, urls: tuple[SecretStr, ...], info: ValidationInfo) -> tuple[SecretStr, ...]:
        secret = info.data.get("operator_webhook_secret")
        for url in filter(is_webhook, urls):
            _http_url(url.get_secret_value().partition("?")[0])  # its query may hold a key
            if secret is None or len(secret.get_secret_value()) < MIN_SECRET_LENGTH:
                raise ValueError(
                    f"holds a webhook, which OPERATOR_WEBHOOK_SECRET of at least {MIN_SECRET_LENGTH} characters signs"
                )
        return urls

    @field_validator("sweep_fanout_url")
    @classmethod
    def _is_known_to_whom_fans_out(cls, url: str | None, info: ValidationInfo) -> str | None:
        if url is None and info.data.get("sweep_fanout"):
            raise ValueError("is the function's own address, which SWEEP_FANOUT needs")
        return url

    @model_validator(mode="after")
    def _knows_the_keys_of_the_address(self) -> Self:
        if self.webhook_url is not None:
            try:
                _webhook_secrets(self.wapi_webhook_secrets or ())
            except ValueError as error:
                raise ValueError(f"WAPI_WEBHOOK_SECRETS, which WEBHOOK_URL needs: {error}") from None
        return self

    @property
    def target(self) -> Target | None:
        """Where the provider is to post events; None sets nothing. Secrets without an address are ignored."""
        return None if self.webhook_url is None else Target(self.webhook_url, self.wapi_webhook_secrets or ())

    @property
    def policy(self) -> Policy:
        """The settings that decide, with the design's defaults for the rest."""
        return replace(
            super().policy,
            restart_cooldown=timedelta(seconds=self.recovery_cooldown_seconds),
            degraded_grace=timedelta(seconds=self.degraded_grace_seconds),
        )

    @property
    def limits(self) -> Limits:
        """The settings that bound a sweep."""
        return Limits(
            check_interval=timedelta(seconds=self.check_interval_seconds),
            budget=timedelta(seconds=self.sweep_budget_seconds),
            look_timeout=self.look_timeout,
            ghost_confirm=timedelta(seconds=self.ghost_confirm_seconds),
            restart_verify=timedelta(seconds=self.restart_verify_seconds),
            look_concurrency=self.look_concurrency,
            restart_concurrency=self.restart_concurrency,
        )


class IntakeSettings(Settings):
    """What taking an event needs, from W-API or from a replay."""

    confirm_disconnect_events: bool = True
    event_log_key: Annotated[SecretStr, AfterValidator(_fernet_key)] | None = None


class WebhookSettings(IntakeSettings):
    """What ``wapi_webhook`` needs."""

    wapi_webhook_secrets: Annotated[
        tuple[SecretStr, ...], NoDecode, BeforeValidator(_split), AfterValidator(_webhook_secrets)
    ]
    wapi_webhook_line_keys_only: bool = False


_Kind = TypeVar("_Kind", bound=StoreSettings)


def load_settings(kind: type[_Kind], *, env_file: Path | None = None) -> _Kind:
    """Read what a function or command needs from the environment.

    Args:
        kind: Whose settings.
        env_file: Says what the environment does not; the functions have none.

    Raises:
        SettingsError: Naming every variable that is missing or wrong, never its value.
    """
    try:
        return kind(_env_file=env_file)
    except ValidationError as error:
        raise SettingsError(_explain(error)) from None


def load_sweep_settings() -> SweepSettings:
    """Read what ``follow_up_check`` needs; see ``load_settings``."""
    return load_settings(SweepSettings)


def load_webhook_settings() -> WebhookSettings:
    """Read what ``wapi_webhook`` needs; see ``load_settings``."""
    return load_settings(WebhookSettings)


def _explain(error: ValidationError) -> str:
    wrongs = []
    for wrong in error.errors(include_input=False, include_url=False, include_context=False):
        name, said = str(wrong["loc"][0]).upper() if wrong["loc"] else "", _plain(wrong["msg"])
        wrongs.append(f"{name} is missing" if wrong["type"] == "missing" else f"{name}: {said}" if name else said)
    return "settings: " + "; ".join(wrongs)


def _plain(message: str) -> str:
    return message.removeprefix("Value error, ").removeprefix("Input should be ")

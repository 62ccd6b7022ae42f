"""Which rows are W-API's, and what its ids look like. Pure."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

PROVIDER: Final = "wapi"
"""The column ``wapi_instances.provider``, as we write it."""

_PHONE: Final = re.compile(r"[0-9]{10,15}")
_EXTERNAL_ID: Final = re.compile(r"(?:LITE|[A-Z0-9]{6})-[A-Z0-9]{6}-[A-Z0-9]{6}", re.ASCII)


def is_served(provider: str | None) -> bool:
    """Whether a row's provider is W-API: the same expression as in SQL, where null counts as W-API."""
    return (PROVIDER if provider is None else provider).replace("-", "").lower() == PROVIDER


def read_own_phone(value: object) -> str | None:
    """A line's own number, 10 to 15 digits: the suffix of a device (``:12``) or an address is no part of it."""
    if not isinstance(value, str | int):
        return None
    digits = str(value).strip().partition("@")[0].partition(":")[0].removeprefix("+")
    return digits if _PHONE.fullmatch(digits) else None


def is_told(text: str) -> bool:
    """Whether a text says anything: a blank and a word for nothing do not. Seen at several integrators."""
    return text.strip().lower() not in ("", "null", "undefined", "none", "false")


def names_another(told: Mapping[str, object], external_id: str | None) -> bool:
    """Whether an answer is about another line than was asked about. An id of a form that is not known tells nothing."""
    named = told.get("instanceId")
    if external_id is None or not isinstance(named, str):
        return False
    return has_form(named.strip().upper()) and named.strip().upper() != external_id.upper()


def has_form(external_id: str) -> bool:
    """Whether a trimmed external id looks like those that are known.

    ``LITE-AB12CD-EF34GH`` for a line of the plan LITE, ``AB12CD-EF34GH-IJ56KL`` for one of PRO: so in W-API's public
    Postman collection and with every integrator that shows one. Nobody promises it, so an odd id is asked like any.
    """
    return _EXTERNAL_ID.fullmatch(external_id) is not None

"""What W-API's answers mean. Pure: an HTTP answer -> a look.

The provider answers errors in three shapes, and all are read: an HTTP status, HTTP 200 with ``"error": true``, and a
``text/html`` page (a wrong route, a gateway). Nothing becomes "dead" but a well-formed negative answer.
"""

from __future__ import annotations

import re
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Any, Final

from shared.core.delivery import SendAnswer, SendResult
from shared.core.look import UNREADABLE, Look, RestartAnswer, unknown
from shared.core.model import Observation
from shared.providers.wapi.names import is_told, read_own_phone
from shared.providers.wapi.values import id_of, number_of

if TYPE_CHECKING:
    from collections.abc import Mapping

    from shared.providers.answer import HttpAnswer


_DIGITS_OF_A_PHONE: Final = 8
_ERROR_NAME: Final = re.compile(r"E(?:CONN|TIMEDOUT|NOTFOUND|PIPE|HOST|NET|PROTO|AI_)[A-Z_]*|ERR_[A-Z_]+")
"""As a system names an error of its own call: ``ECONNABORTED``, ``ENOTFOUND``, ``ERR_NETWORK``."""


class DeviceView(StrEnum):
    """What ``device`` adds to a status that says connected."""

    PHONE = "phone"
    NO_PHONE = "no_phone"
    LOGGED_OUT = "logged_out"
    CANNOT_SAY = "cannot_say"


def _error_status(answer: HttpAnswer) -> Look:
    status = answer.status
    return Look(
        Observation.UNKNOWN,
        "cannot_get" if answer.is_cannot_get else f"http_{status}",
        throttled=status == HTTPStatus.TOO_MANY_REQUESTS,
        drifted=answer.is_cannot_get,
        asked_to_wait=answer.asks_to_wait,
    )


def read_status(answer: HttpAnswer, *, external_id: str | None = None) -> Look:
    """Read ``GET /instance/status-instance``: its "connected" is a claim, which the device proves or contradicts.

    Args:
        answer: Fully read.
        external_id: Of the line that was asked about; an answer that names another one says nothing of this line.
    """
    if answer.status == HTTPStatus.NOT_FOUND and not answer.is_cannot_get:
        return Look(Observation.NOT_FOUND, "http_404")
    if answer.status in (HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN) and not answer.is_html:
        # An HTML 403 is a gateway or a firewall speaking, not the provider judging the token.
        return Look(Observation.REFUSED, f"http_{answer.status}")
    if answer.status != HTTPStatus.OK:
        return _error_status(answer)
    found = answer.json_object()
    if found is None:
        return UNREADABLE
    if found.get("error") is True:
        return unknown("error_true")
    match found.get("connected"):
        case True:
            return Look(Observation.CLAIMED, "connected")
        case False:
            if _contradicts_itself(found, external_id):
                return unknown("not_connected_but_contradicted")
            return Look(Observation.DISCONNECTED, "not_connected")
        case _:
            return unknown("connected_is_no_boolean")


def _contradicts_itself(found: dict[str, Any], external_id: str | None) -> bool:
    """Whether an answer that says "not connected" says something else as well: then it is no well-formed negative."""
    named = found.get("instanceId")
    return (
        tells_of_a_failure(found)
        or _is_shown(found.get("connectedPhone"))
        or (external_id is not None and isinstance(named, str) and named.strip() not in ("", external_id))
    )


def tells_of_a_failure(found: Mapping[str, Any]) -> bool:
    """Whether a body is, or holds, an error that somebody has serialised: then it says nothing of the line.

    A server between us and WhatsApp answers 200 with the error of its own call: ``{"name": "AxiosError", "message":
    "timeout of 10000ms exceeded", "code": "ECONNABORTED"}``.
    """
    success = found.get("success")
    return (
        any(_says_yes(found.get(name)) for name in ("error", "errors", "stack"))
        or success is False
        or str(success).strip().lower() in ("false", "0")
        or any(_is_error_status(found.get(name)) for name in ("statusCode", "status"))
        or _ERROR_NAME.fullmatch(str(found.get("code"))) is not None
    )


def _says_yes(value: object) -> bool:
    return bool(value) and str(value).strip().lower() not in ("false", "0", "null", "none", "")


def _is_error_status(value: object) -> bool:
    number = number_of(value)
    return number is not None and number >= HTTPStatus.BAD_REQUEST


def read_device(answer: HttpAnswer) -> DeviceView:
    """Read ``GET /instance/device``: only a 401 or a device without a phone contradicts the status."""
    if answer.status == HTTPStatus.UNAUTHORIZED and not answer.is_html:
        return DeviceView.LOGGED_OUT
    found = answer.json_object() if answer.status == HTTPStatus.OK else None
    if found is None or found.get("error") is True:
        return DeviceView.CANNOT_SAY
    phone = found.get("connectedPhone")
    if _is_phone(phone):
        return DeviceView.PHONE
    # With a message and without the device's own key it is an error that somebody has serialised: its name is its own.
    is_message = _is_shown(found.get("message")) and "connectedPhone" not in found and found.get("error") is not False
    if tells_of_a_failure(found) or is_message or _is_shown(phone):
        return DeviceView.CANNOT_SAY
    if any(key in found for key in ("name", "platform", "lid")):
        return DeviceView.NO_PHONE
    return DeviceView.CANNOT_SAY


def _is_shown(value: object) -> bool:
    """Whether something is shown at all: a blank, a word for nothing, a dash, an empty list are none."""
    text = str(value)
    return value is not None and is_told(text) and any(each.isalnum() and each != "0" for each in text)


def _is_phone(value: object) -> bool:
    """Whether a number is shown, with or without an address, however it is written or masked."""
    if not isinstance(value, str | int) or isinstance(value, bool):
        return False
    number = str(value).partition("@")[0].partition(":")[0]
    digits = [each for each in number if each.isdigit()]
    return len(digits) >= _DIGITS_OF_A_PHONE and {*digits} != {"0"} and not any(each.isalpha() for each in number)


_PROVEN_BY: Final = {
    DeviceView.PHONE: Observation.ALIVE,
    DeviceView.NO_PHONE: Observation.GHOST,
    DeviceView.LOGGED_OUT: Observation.GHOST,
    DeviceView.CANNOT_SAY: Observation.CLAIMED,
}


def join_device(status: Look, answer: HttpAnswer | None) -> Look:
    """Put the status of a line that says connected and its device's answer, if one came, together."""
    if answer is None:
        return Look(Observation.CLAIMED, f"{status.cause}_{DeviceView.CANNOT_SAY}")
    view = read_device(answer)
    shown = answer.json_object() if view is DeviceView.PHONE else None
    return Look(
        _PROVEN_BY[view],
        f"{status.cause}_{view}",
        throttled=answer.status == HTTPStatus.TOO_MANY_REQUESTS,
        drifted=answer.is_cannot_get,
        asked_to_wait=answer.asks_to_wait,
        phone=read_own_phone(shown.get("connectedPhone")) if shown else None,
    )


_NO_ANSWER = (HTTPStatus.REQUEST_TIMEOUT, HTTPStatus.TOO_MANY_REQUESTS)
_REFUSING_STATUSES = (HTTPStatus.BAD_REQUEST, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN)


def read_restart(answer: HttpAnswer) -> RestartAnswer:
    """Read ``restart``, or ``wapi-send``'s ``restart-instance``: the body decides before an HTTP status below 500."""
    if answer.status in _NO_ANSWER or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        # Whatever it says, the restart may have happened behind it.
        return RestartAnswer.UNCLEAR
    found = answer.json_object()
    if found is not None and (found.get("error") is True or found.get("success") is False):
        return RestartAnswer.REFUSED
    if answer.status in _REFUSING_STATUSES or (answer.status == HTTPStatus.NOT_FOUND and found is not None):
        return RestartAnswer.REFUSED
    if answer.status == HTTPStatus.OK and found is not None:
        return RestartAnswer.ACCEPTED
    return RestartAnswer.UNCLEAR


def read_sent(answer: HttpAnswer) -> SendAnswer:
    """Read ``send-text``. A yes names the message; it means queued, which the provider also says on a dead session."""
    if answer.status == HTTPStatus.REQUEST_TIMEOUT or answer.status >= HTTPStatus.INTERNAL_SERVER_ERROR:
        return SendAnswer(SendResult.UNCLEAR, f"http_{answer.status}")
    found = answer.json_object()
    if answer.status >= HTTPStatus.BAD_REQUEST:
        return SendAnswer(SendResult.REFUSED, f"http_{answer.status}")
    if found is not None and (found.get("error") or found.get("success") is False):
        return SendAnswer(SendResult.REFUSED, "refused")
    message_id = id_of(found.get("messageId")) if found else None
    if message_id is None:
        return SendAnswer(SendResult.UNCLEAR, "unreadable")
    return SendAnswer(SendResult.SENT, message_id=message_id)

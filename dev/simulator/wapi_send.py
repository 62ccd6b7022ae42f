"""What the platform's edge function ``wapi-send`` answers, by the provider's contract, section 3. Pure.

Its two actions answer HTTP 200 whatever happened: only the body tells.
"""

from enum import StrEnum

from pydantic import BaseModel, ConfigDict, Field

from dev.simulator.faults import Answer, error_answer, json_answer
from dev.simulator.lines import Line, RestartBehaviour, Session


class Action(StrEnum):
    """The two actions of ``wapi-send`` that look after a line."""

    GET_STATUS = "get-status"
    RESTART_INSTANCE = "restart-instance"


class ErrorType(StrEnum):
    """What ``wapi-send`` says when it cannot reach the provider."""

    TIMEOUT = "timeout"
    GATEWAY = "gateway"


class Order(BaseModel):
    """The body of a call. Fields that the function does not know are ignored."""

    model_config = ConfigDict(frozen=True)

    action: Action
    instance_id: str = Field(alias="instanceId", min_length=1)
    instance_token: str = Field(default="", alias="instanceToken")


_STATUSES = {
    Session.ALIVE: "connected",
    Session.GHOST: "degraded",
    Session.GHOST_401: "degraded",
    Session.DISCONNECTED: "disconnected",
    Session.NOT_FOUND: "instance_not_found",
    Session.TOKEN_REFUSED: "unauthorized",
    Session.TOKEN_REFUSED_403: "unauthorized",
}

_REASONS = {
    RestartBehaviour.REFUSED: "Could not restart the instance",
    RestartBehaviour.REFUSED_400: "Could not restart the instance",
    RestartBehaviour.HTTP_500: "Internal server error",
    RestartBehaviour.HANG: "timeout",
}


_REFUSALS = frozenset({Session.NOT_FOUND, Session.TOKEN_REFUSED, Session.TOKEN_REFUSED_403})


def session_behind(line: Line, token: str, session: Session) -> Session:
    """The session as ``wapi-send`` finds it with the token that it was given."""
    if session is Session.NOT_FOUND or token == line.token:
        return session
    return Session.TOKEN_REFUSED


def refusal_reason_of(session: Session) -> str | None:
    """Why a line cannot be restarted at all: it is unknown, or its token is refused."""
    return _STATUSES[session] if session in _REFUSALS else None


def key_refused_answer() -> Answer:
    """The platform's gateway turned the caller away, before the function ran."""
    return error_answer(401, "Invalid JWT")


def get_status_answer(line: Line | None, session: Session) -> Answer:
    """``get-status`` of a session as :func:`session_behind` found it."""
    alive = session is Session.ALIVE
    phone = line.phone if alive and line is not None else None
    return json_answer(200, {"status": _STATUSES[session], "connected": alive, "phoneNumber": phone})


def unreachable_status_answer(error_type: ErrorType) -> Answer:
    """``get-status`` when the provider did not answer: it says disconnected, and only ``errorType`` tells."""
    error = "Request timeout" if error_type is ErrorType.TIMEOUT else "Bad gateway"
    return json_answer(
        200,
        {
            "status": "disconnected",
            "connected": False,
            "phoneNumber": None,
            "error": error,
            "errorType": error_type.value,
        },
    )


def restart_failed_answer(reason: str) -> Answer:
    """``restart-instance`` that failed: HTTP 200 all the same."""
    return json_answer(200, {"success": False, "restarted": False, "reason": reason})


def restart_instance_answer(restart: RestartBehaviour, after: Session) -> Answer:
    """``restart-instance`` by the behaviour of the line and the session right after it."""
    reason = _REASONS.get(restart)
    if reason is not None:
        return restart_failed_answer(reason)
    return json_answer(200, {"success": True, "restarted": True, "connected": after is Session.ALIVE})

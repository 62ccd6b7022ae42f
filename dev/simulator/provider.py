"""How the provider as a whole is set, and what it answers for a line in a given state. Pure."""

import base64
import hashlib
import hmac
from urllib.parse import quote, urlsplit

from pydantic import BaseModel, ConfigDict, Field, field_validator

from dev.simulator.faults import TEXT_TYPE, Answer, Fault, error_answer, json_answer
from dev.simulator.lines import Call, Line, PaymentForm, RestartBehaviour, Session, WebhookKind
from dev.simulator.log import LogForm
from dev.simulator.wapi_send import ErrorType

DEFAULT_WAPI_SEND_KEY = "simulator-wapi-send-key"

WEBHOOK_CALLS = {Call(f"update-webhook-{kind}"): kind for kind in WebhookKind}

PROVIDER_ROUTES = {
    ("GET", "/v1/instance/status-instance"): Call.STATUS_INSTANCE,
    ("GET", "/v1/instance/device"): Call.DEVICE,
    ("GET", "/v1/instance/restart"): Call.RESTART,
    ("GET", "/v1/instance/fetch-instance"): Call.FETCH_INSTANCE,
    ("GET", "/v1/instance/qr-code"): Call.QR_CODE,
    ("GET", "/v1/payment/status"): Call.PAYMENT_STATUS,
    ("POST", "/v1/message/send-text"): Call.SEND_TEXT,
    ("GET", "/v1/webhook/fetch-webhook-logs"): Call.FETCH_WEBHOOK_LOGS,
    **{("PUT", f"/v1/webhook/{call}"): call for call in WEBHOOK_CALLS},
}

# A single transparent pixel: enough for whoever only checks that a picture came.
QR_CODE = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNkYPhfDwAChwGA60e6kgAAAABJRU5ErkJggg=="

_URL_FIELDS = {
    WebhookKind.CONNECTED: "webhookConnectedUrl",
    WebhookKind.DISCONNECTED: "webhookDisconnectedUrl",
    WebhookKind.RECEIVED: "webhookReceivedUrl",
    WebhookKind.DELIVERY: "webhookDeliveryUrl",
    WebhookKind.MESSAGE_STATUS: "webhookStatusUrl",
    WebhookKind.CHAT_PRESENCE: "webhookPresenceUrl",
}

_SAYS_CONNECTED = frozenset({Session.ALIVE, Session.GHOST, Session.GHOST_401})


class Provider(BaseModel):
    """Behaviour of the provider as a whole.

    Attributes:
        latency_ms: Milliseconds before any answer, unless the line has its own.
        down: A fault played for every call of every line.
        everyone_disconnected: Every session looks disconnected, whatever it is in.
        timeout_seconds: Seconds that the fault ``timeout`` waits before the right answer. Hangs of 31 s
            have been seen (the provider's contract).
        max_requests_per_second: More in any one second get 429; None is no limit.
        max_concurrent_requests: More at once get 429; None is no limit.
        max_concurrent_puts: More ``PUT`` at once, of whichever lines, get 429; None is no limit.
        tells_retry_after: Whether the 429 of these two limits has a ``Retry-After``.
        retry_after_seconds: Its whole seconds, also of the fault ``429_retry_after``.
        webhook_url: Where events go for a line without URLs of its own.
        webhook_secret: With it, that address ends with each line's own key.
        wapi_send_key: The key that a caller of ``wapi-send`` must bear.
        log_form: Where the entries of the log stand.
        log_holds_undelivered: Whether it holds events that nobody took.
        wapi_send_error_type: What ``wapi-send`` says when it cannot reach the provider.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    latency_ms: float = Field(default=0, ge=0)
    down: Fault | None = None
    everyone_disconnected: bool = False
    timeout_seconds: float = Field(default=31, gt=0)
    max_requests_per_second: int | None = Field(default=None, ge=1)
    max_concurrent_requests: int | None = Field(default=None, ge=1)
    max_concurrent_puts: int | None = Field(default=None, ge=1)
    tells_retry_after: bool = False
    retry_after_seconds: int = Field(default=1, ge=0)
    webhook_url: str | None = None
    webhook_secret: str | None = None
    wapi_send_key: str = Field(default=DEFAULT_WAPI_SEND_KEY, min_length=1)
    wapi_send_error_type: ErrorType = ErrorType.TIMEOUT
    log_form: LogForm = LogForm.LOGS
    log_holds_undelivered: bool = False

    @field_validator("webhook_url")
    @classmethod
    def _is_an_address(cls, url: str | None) -> str | None:
        if url is not None and urlsplit(url).scheme not in {"http", "https"}:
            raise ValueError("must be an http or https URL")
        return url


def session_of(line: Line, provider: Provider) -> Session:
    """The session as calls see it."""
    if provider.everyone_disconnected and line.session in _SAYS_CONNECTED:
        return Session.DISCONNECTED
    return line.session


def webhook_url_of(line: Line, kind: WebhookKind, provider: Provider) -> str:
    """Where an event of this kind goes: its own URL, the line's, the provider's default; empty is nowhere."""
    url = line.webhooks.get(kind)
    if url is None:
        url = line.webhook_url
    if url is None:
        url = provider.webhook_url
        if url and provider.webhook_secret is not None:
            url += f"?key={quote(key_of(line.external_id, provider.webhook_secret))}"
    return url or ""


def key_of(external_id: str, secret: str) -> str:
    """A line's own key, as whoever registers its webhooks puts it into their address."""
    digest = hmac.new(secret.encode(), external_id.encode(), hashlib.sha256).digest()
    return f"{external_id}.{base64.urlsafe_b64encode(digest).decode()[:32]}"


def refusal_of(line: Line | None, token: str) -> Answer | None:
    """The answer that ends a call before it begins: unknown line, wrong token. None lets it in."""
    if line is None or line.session is Session.NOT_FOUND:
        return error_answer(404, "Instance not found")
    if token != line.token or line.session is Session.TOKEN_REFUSED:
        return error_answer(401, "Unauthorized")
    if line.session is Session.TOKEN_REFUSED_403:
        return error_answer(403, "Forbidden")
    return None


def status_answer(line: Line, session: Session) -> Answer:
    """``status-instance``: a ghost says connected."""
    return json_answer(200, {"instanceId": line.external_id, "connected": session in _SAYS_CONNECTED})


def device_answer(line: Line, session: Session) -> Answer:
    """``device``: the probe that did not lie in a documented outage."""
    if session is Session.GHOST_401:
        return error_answer(401, "Unauthorized")
    if session is not Session.ALIVE:
        return json_answer(200, {"name": line.name, "platform": "", "isBusiness": False})
    return json_answer(
        200,
        {
            "connectedPhone": line.phone,
            "lid": "100000000000001@lid",
            "name": line.name,
            "platform": "android",
            "isBusiness": True,
        },
    )


def fetch_answer(line: Line, session: Session, provider: Provider) -> Answer:
    """``fetch-instance``: the line's registration. It echoes the token, as the provider does."""
    connected = session in _SAYS_CONNECTED
    urls = {field: webhook_url_of(line, kind, provider) for kind, field in _URL_FIELDS.items()}
    if line.fetch_leaves_out_empty:
        urls = {field: url for field, url in urls.items() if url}
    return json_answer(
        200,
        {
            "instanceId": line.external_id,
            "instanceName": line.name,
            "token": line.token,
            "connected": connected,
            "connectedPhone": line.phone if connected else "",
            "paymentStatus": line.payment_status,
            "expires": line.expires,
            **urls,
        },
    )


def payment_answer(line: Line) -> Answer:
    """``payment/status``: a plan, a due date and a state, in one of the forms that it may have."""
    match line.payment_form:
        case PaymentForm.FLAT:
            content: dict[str, object] = {
                "instanceId": line.external_id,
                "plan": "LITE",
                "paymentStatus": line.payment_status,
                "expires": line.expires,
            }
        case PaymentForm.WRAPPED:
            told = {"plan": "LITE", "status": line.payment_status, "dueDate": line.expires}
            content = {"error": False, "data": told}
        case PaymentForm.UNKNOWN:
            content = {"error": False, "message": "Plan LITE"}
    return json_answer(200, content)


def qr_answer(line: Line, session: Session) -> Answer:
    """``qr-code`` with ``image=disable``."""
    if session in _SAYS_CONNECTED:
        return json_answer(200, {"connected": True})
    picture = f"data:image/png;base64,{QR_CODE}"
    return json_answer(200, {"error": False, "instanceId": line.external_id, "qrcode": picture})


def restart_answer(restart: RestartBehaviour) -> Answer | None:
    """``restart``: accepted is not recovered. None is no answer, ever."""
    match restart:
        case RestartBehaviour.WORKS | RestartBehaviour.ACCEPTED_NO_EFFECT | RestartBehaviour.COMES_BACK_AFTER_SECONDS:
            answer = json_answer(200, {"error": False, "message": "Instance restarted successfully"})
        case RestartBehaviour.REFUSED:
            answer = error_answer(200, "Could not restart the instance")
        case RestartBehaviour.REFUSED_400:
            answer = error_answer(400, "Could not restart the instance")
        case RestartBehaviour.EMPTY_200:
            answer = Answer(200, b"")
        case RestartBehaviour.NON_JSON_200:
            answer = Answer(200, b"OK", TEXT_TYPE)
        case RestartBehaviour.HTTP_500:
            answer = error_answer(500, "Internal server error")
        case RestartBehaviour.HANG:
            return None
    return answer


def sent_answer(line: Line, message_id: str) -> Answer:
    """``send-text``: queued, which it also says on a dead session."""
    return json_answer(200, {"instanceId": line.external_id, "messageId": message_id, "insertedId": message_id})

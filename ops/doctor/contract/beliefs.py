"""What we believe of W-API's answers, with whoever says so. Pure: one table.

Nobody of this project has an account. The numbers in the sources are of independent public integrations that agree;
what they do not agree on, or what one alone says, is marked so, and a walk over a real line is what settles it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping

Kinds = tuple[str, ...]
"""Words of ``shape.kind_of``; ``text`` stands for every special case of it as well."""

_URL: Final = ("text: url", "text: empty", "null")
_PHONE: Final = ("text: 12 digits", "text: 13 digits")
_ANY: Final = ("text", "integer", "number", "boolean", "null", "object", "list")


class Form(StrEnum):
    """What a body is."""

    OBJECT = "a JSON object"
    LIST = "a JSON list"
    JSON = "other JSON"
    HTML = "an HTML page"
    EMPTY = "an empty body"
    OTHER = "no JSON"


@dataclass(frozen=True, slots=True)
class Belief:
    """What one call is believed to answer.

    Attributes:
        name: Of the call.
        method: HTTP's.
        path: Below ``/v1``.
        use: What we do with it.
        source: Who says so.
        statuses: HTTP statuses.
        form: Of the body; None = unconfirmed.
        relied: Keys that our code reads, with the kinds that it understands.
        relied_if_connected: The same of a line that is connected.
        known: Keys that others have seen and that we do not read, with the kinds that they have seen.
        query: Beside ``instanceId``.
        spared: Nothing of ours breaks without it.
        wrapper: An object in which we read the same keys, where the answer itself has none of them.
    """

    name: str
    method: str
    path: str
    use: str
    source: str
    statuses: tuple[int, ...] = (HTTPStatus.OK,)
    form: Form | None = Form.OBJECT
    relied: Mapping[str, Kinds] = field(default_factory=dict)
    relied_if_connected: Mapping[str, Kinds] = field(default_factory=dict)
    known: Mapping[str, Kinds] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    spared: bool = False
    wrapper: str | None = None


STATUS: Final = Belief(
    name="status-instance",
    method="GET",
    path="instance/status-instance",
    use="every look",
    source="15 integrations",
    relied={"connected": ("boolean",)},
    known={"instanceId": ("text",)},
)
DEVICE: Final = Belief(
    name="device",
    method="GET",
    path="instance/device",
    use="proves or contradicts a status that says connected",
    source="6 integrations; that a 401 means logged out, 1 operator",
    relied_if_connected={"connectedPhone": _PHONE},
    known={
        "connectedPhone": _PHONE,
        "lid": ("text: address @lid",),
        "name": ("text",),
        "platform": ("text",),
        "isBusiness": ("boolean",),
    },
)
REGISTRATION: Final = Belief(
    name="fetch-instance",
    method="GET",
    path="instance/fetch-instance",
    use="where the webhooks point to; the subscription",
    wrapper="instance",
    source="5 integrations; that one has to look into `instance`, 1 reader; `expires` and `paymentStatus` unconfirmed",
    relied={
        "webhookConnectedUrl": _URL,
        "webhookDisconnectedUrl": _URL,
        "webhookReceivedUrl": _URL,
        "webhookDeliveryUrl": _URL,
        "webhookStatusUrl": _URL,
    },
    known={
        "instanceId": ("text",),
        "instanceName": ("text",),
        "token": ("text",),
        "connected": ("boolean",),
        "connectedPhone": ("text", "null"),
        "webhookPresenceUrl": _URL,
        "paymentStatus": ("text",),
        "expires": ("integer", "text", "null"),
        "created": ("integer: epoch milliseconds",),
    },
)
PAYMENT: Final = Belief(
    name="payment/status",
    method="GET",
    path="payment/status",
    use="the subscription",
    source="the public Postman collection; it tells plan, due date and state, under names that nobody has written down",
    spared=True,
    known=dict.fromkeys(
        (
            *("data", "payment", "subscription", "instance", "paymentStatus", "status", "state", "plan"),
            *("expires", "expiresAt", "expires_at", "dueDate", "due_date", "message", "error", "success"),
        ),
        _ANY,
    ),
)
PER_PAGE: Final = 20
LOG: Final = Belief(
    name="fetch-webhook-logs",
    method="GET",
    path="webhook/fetch-webhook-logs",
    use="nothing yet: it could replay what was missed, if it holds what was not delivered",
    source="2 integrations: 30 days, the delivered body, flat, keys in lower case; list, order and paging unconfirmed",
    form=None,
    spared=True,
    known=dict.fromkeys(("logs", "data", "error", "message", "total", "page", "perPage", "totalPages"), _ANY),
    query={"perPage": str(PER_PAGE), "page": "1"},
)
WRONG_TOKEN: Final = Belief(
    name="a token that nobody has",
    method="GET",
    path="instance/status-instance",
    use="tells a refused token, which is told to the line's users, from everything else",
    source="several operators: 401 or 403; the body unconfirmed",
    statuses=(HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN),
    known=dict.fromkeys(("error", "message", "statusCode", "success"), _ANY),
)
UNKNOWN_LINE: Final = Belief(
    name="a line that nobody has",
    method="GET",
    path="instance/status-instance",
    use="tells a line that was deleted at the provider",
    source="some operators: 404, JSON or HTML unconfirmed; others: 400",
    statuses=(HTTPStatus.NOT_FOUND, HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN, HTTPStatus.BAD_REQUEST),
    form=None,
    known=dict.fromkeys(("error", "message", "statusCode", "success"), _ANY),
)
NO_ROUTE: Final = Belief(
    name="a route that there is not",
    method="GET",
    path="instance/no-such-route",
    use="is our bug or their change, and never a dead line",
    source="many integrations: Express's page `Cannot GET`",
    statuses=(HTTPStatus.NOT_FOUND,),
    form=Form.HTML,
)
SEND: Final = Belief(
    name="send-text",
    method="POST",
    path="message/send-text",
    use="alerts over WhatsApp, and the message of this walk",
    source="the public Postman collection; 5 integrations: 200 means queued and no more",
    relied={"messageId": ("text",)},
    known={"instanceId": ("text",), "insertedId": ("text",)},
)
UPDATE: Final = Belief(
    name="update-webhook-…",
    method="PUT",
    path="webhook/update-webhook-…",
    use="sets where the webhooks point to",
    source="14 integrations",
    known={"error": ("boolean",), "message": ("text",)},
)
READ_ONLY: Final = (STATUS, DEVICE, REGISTRATION, PAYMENT, LOG, WRONG_TOKEN, UNKNOWN_LINE, NO_ROUTE)
"""In the order of asking."""
NEVER_ASKED: Final = {
    "instance/restart": "acts on the line: a sweep alone restarts",
    "instance/qr-code": "is a connect verb: it has ended sessions that lived",
    "instance/pairing-code": "the same",
    "instance/disconnect": "ends the session",
}
_OF_EVENTS: Final = """
    event instanceId connectedPhone connectedLid moment isGroup messageId fromMe fromApi chat sender id profilePicture
    subject senderLid pushName verifiedBizName msgContent status disconnected connected participant presence
    statusCode httpStatus response responseStatus attempts retries url webhook webhookUrl delivered deliveredAt
    createdAt updatedAt created_at updated_at timestamp date request payload body type method duration success
    instance_id text caption mimetype fileName fileLength fileSha256 fileEncSha256 mediaKey mediaKeyTimestamp
    directPath jpegThumbnail contextInfo stanzaId stanzaID remoteJid quotedMessage seconds ptt waveform
"""
KNOWN_NAMES: Final = frozenset(
    name.lower()
    for names in (
        *(belief.relied for belief in (*READ_ONLY, SEND, UPDATE)),
        *(belief.relied_if_connected for belief in READ_ONLY),
        *(belief.known for belief in (*READ_ONLY, SEND, UPDATE)),
        _OF_EVENTS.split(),
    )
    for name in names
)
"""Keys that may be shown wherever they stand."""
EVENT_NAMES: Final = (
    "webhookConnected",
    "webhookDisconnected",
    "webhookReceived",
    "webhookDelivery",
    "webhookStatus",
    "webhookChatPresence",
)

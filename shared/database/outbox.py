"""The outbox: what contacts are to hear by further channels, and the operator's alerts. One method per SQL function."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from shared.core.delivery import ClaimedMessages, SendingLine
from shared.core.policy import DeliveryPolicy, Policy
from shared.database.composites import delivery_policy_row, interval

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta
    from uuid import UUID

    from shared.core.alerts import AlertCause
    from shared.core.delivery import OutgoingMessage, SendAnswer
    from shared.database.rpc import Rpc

_EVENT_AHEAD: Final = Policy().event_ahead


class Outbox:
    """The outbox and the alerts.

    Args:
        rpc: The service role's.
        policy: The numbers that SQL functions need.

    Raises:
        StoreUnavailable: From every method, when the database cannot be reached or is not ready.
        StoreRefused: From every method, when it answers with an error of its own.
    """

    def __init__(self, rpc: Rpc, policy: DeliveryPolicy | None = None) -> None:
        self._rpc = rpc
        self._policy = delivery_policy_row(policy or DeliveryPolicy())

    async def raise_alert(
        self, cause: AlertCause, subject: str = "", details: Mapping[str, object] | None = None
    ) -> bool:
        """Tell the operator of a cause, once until it is resolved. Call it as often as it is so.

        Args:
            cause: Its words are in ``core.alerts``.
            subject: Which of them, where there may be several: a line's id.
            details: What the words need; JSON, no secret and no phone number.

        Returns:
            Whether it begins now.
        """
        arguments = {"p_cause": cause, "p_subject": subject, "p_details": dict(details or {})}
        return await self._rpc.call("raise_alert", arguments) is True

    async def resolve_alert(self, cause: AlertCause, subject: str = "") -> bool:
        """Tell those who heard of a cause that it is over. Call it as often as it is not so.

        Returns:
            Whether it ends now.
        """
        return await self._rpc.call("resolve_alert", {"p_cause": cause, "p_subject": subject}) is True

    async def claim(
        self,
        *,
        channels: Sequence[str],
        operator: Sequence[str],
        line: str | None,
        lease: timedelta,
        limit: int,
        skip: Sequence[str] = (),
    ) -> ClaimedMessages:
        """Lease the messages that are due, and let the database note what else is to be heard.

        Args:
            channels: Of companies' contacts, those that are configured.
            operator: Fingerprints of the operator's addresses.
            line: The platform's line that sends WhatsApp, by its id or the provider's.
            lease: How long nobody else gets them.
            limit: At most so many messages.
            skip: Channels that are left alone for now, by their keys.
        """
        arguments = {
            "p_channels": list(channels),
            "p_operator": list(operator),
            "p_alert_line": line,
            "p_lease": interval(lease),
            "p_limit": limit,
            "p_policy": self._policy,
            "p_skip": list(skip),
        }
        return await self._rpc.ask(ClaimedMessages, "claim_deliveries", arguments)

    async def sending_line(self, line: str) -> SendingLine | None:
        """The platform's line that sends WhatsApp, None if it may not now.

        Args:
            line: By its id or the provider's.
        """
        row = await self._rpc.call("alert_line", {"p_line": line, "p_policy": self._policy})
        if not isinstance(row, dict) or row.get("id") is None:
            return None
        told = {"id": row["id"], "external_id": str(row["instance_id"]).strip(), "token": row["instance_token"]}
        return SendingLine.model_validate(told)

    async def finish(
        self, message: OutgoingMessage, answer: SendAnswer, *, sent_by: UUID | None = None, text: str | None = None
    ) -> None:
        """Record what came of a message.

        Args:
            message: As claimed.
            answer: Of its channel.
            sent_by: The line that sent it, if one did.
            text: What that line sent.
        """
        arguments: dict[str, Any] = {
            "p_ids": message.ids,
            "p_lease": message.lease.isoformat(),
            "p_result": answer.result,
            "p_cause": answer.cause,
            "p_channel": message.key,
            "p_message_id": answer.message_id,
            "p_phone": message.address.get_secret_value() if sent_by else None,
            "p_text": text,
            "p_policy": self._policy,
            "p_event_ahead": interval(_EVENT_AHEAD),
            "p_line": str(sent_by) if sent_by else None,
        }
        await self._rpc.call("finish_delivery", arguments)

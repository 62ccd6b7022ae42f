"""Whether wapi_webhook answers at its address, and which keys it knows. Nothing that it would store is sent."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from ops.common.shown import counted
from ops.doctor.findings import Finding, Severity
from shared.providers.own_address import OwnAddress

if TYPE_CHECKING:
    import httpx

    from shared.core.registration import Target


@dataclass(frozen=True, slots=True)
class FunctionView:
    """What the function at WEBHOOK_URL answers.

    Attributes:
        cause: Why it does not count as there; None when it answers ``/health``.
        known: For each secret of WAPI_WEBHOOK_SECRETS whether the function knows it; None = it did not say.
    """

    cause: str | None
    known: tuple[bool | None, ...] = ()

    @property
    def takes_the_first(self) -> bool:
        """Whether events with the key that would be set are taken."""
        return self.cause is None and self.known[:1] == (True,)


async def probe(http: httpx.AsyncClient, target: Target, external_id: str) -> FunctionView:
    """Ask ``/health``, then send an empty body with a line's key of each secret.

    Args:
        http: Follows no redirects.
        target: The function's address and secrets.
        external_id: Whose key.
    """
    address = OwnAddress(http, target)
    if (cause := await address.cause_if_away()) is not None:
        return FunctionView(cause)
    known = [await address.knows_key(external_id, secret=number) for number in range(len(target.secrets))]
    return FunctionView(None, tuple(known))


def check_function(view: FunctionView) -> list[Finding]:
    """What that means. Pure."""
    if view.cause is not None:
        what = f"wapi_webhook does not answer at WEBHOOK_URL ({view.cause})"
        return [Finding("function.away", Severity.PROBLEM, what, "compare WEBHOOK_URL with the deployed service's URL")]
    unknown = [str(number + 1) for number, known in enumerate(view.known) if known is False]
    unclear = [str(number + 1) for number, known in enumerate(view.known) if known is None]
    findings = []
    if unknown:
        what = f"wapi_webhook does not know secret number {', '.join(unknown)} of WAPI_WEBHOOK_SECRETS"
        do = "deploy it with the same secrets, or run the doctor with the deployed ones (Secret Manager)"
        findings.append(Finding("function.wrong_key", Severity.PROBLEM, what, do))
    if unclear:
        what = f"wapi_webhook did not say whether it knows secret number {', '.join(unclear)} of WAPI_WEBHOOK_SECRETS"
        findings.append(Finding("function.unclear", Severity.WARNING, what, "run the doctor again; see its log"))
    if not findings:
        what = f"wapi_webhook answers and knows {counted(len(view.known), 'key')}"
        findings.append(Finding("function.answers", Severity.OK, what))
    return findings

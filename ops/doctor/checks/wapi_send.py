"""Findings about the platform's own ``wapi-send``, through which the sweep looks. Pure."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from ops.doctor.findings import Finding, Severity
from shared.core.model import Observation

if TYPE_CHECKING:
    from collections.abc import Sequence

    from shared.core.look import Look

_REFUSED_BY_THE_GATEWAY: Final = "http_401"


def check_wapi_send(looks: Sequence[Look], *, key_is_jwt: bool) -> list[Finding]:
    """Whether it answers.

    Args:
        looks: At a few lines; none when there is no line to ask about.
        key_is_jwt: Whether our key is a legacy one; an ``sb_secret_`` key is no JWT, and Supabase's gateway refuses it.
    """
    if not looks:
        return []
    if all(look.cause == _REFUSED_BY_THE_GATEWAY for look in looks):
        legacy = (
            "the legacy service_role JWT is switched off or of another project: take the one that the project shows"
        )
        new = (
            "an sb_secret_ key is no JWT: deploy it with `supabase functions deploy wapi-send --no-verify-jwt` (it "
            "must then check the key itself), or set SUPABASE_SERVICE_ROLE_KEY to the legacy service_role JWT"
        )
        what = "Supabase's gateway answers every look through wapi-send with 401: no line is watched"
        return [Finding("wapi_send.unauthorized", Severity.PROBLEM, what, legacy if key_is_jwt else new)]
    if all(look.observation is Observation.UNKNOWN for look in looks):
        what = f"wapi-send does not answer as it should ({looks[0].cause}); the sweep looks through it"
        return [Finding("wapi_send.away", Severity.PROBLEM, what, "see WAPI_SEND_URL and that function's log")]
    return [Finding("wapi_send.answers", Severity.OK, "wapi-send answers")]

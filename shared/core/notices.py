"""Every text that venue staff read, in Brazilian Portuguese. Nothing else in the project speaks Portuguese to people.

The texts travel with each call that may ring a bell; SQL fills ``{unit}`` and ``{downtime}`` in, in the transaction
that changes the status, because only there both are certain. ``data.action`` is what the bell offers to do.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal, TypeAlias

NoticeText: TypeAlias = Literal["disconnected", "token_refused", "reconnected"]
"""The keys of ``TEXTS``."""


class NoticeKind(StrEnum):
    """What a notice tells, whatever the platform calls its type: the column ``notices.kind``."""

    DOWN = "down"
    UNSTABLE = "unstable"
    DOWN_LASTING = "down_lasting"
    BACK = "back"
    STILL_DOWN = "still_down"
    UNVERIFIED = "unverified"
    MUTE = "mute"
    SUBSCRIPTION = "subscription"


class NoticeState(StrEnum):
    """What became of a notice: the column ``notices.state``."""

    SENT = "sent"
    REFUSED = "refused"
    """By a rule of the platform's table."""


class NoticeType(StrEnum):
    """What the platform's bell calls it: the column ``notifications.type``."""

    DISCONNECTED = "instance_disconnected"
    RECONNECTED = "instance_reconnected"


TEXTS: Final = {
    "disconnected": {
        "kind": NoticeKind.DOWN,
        "type": NoticeType.DISCONNECTED,
        "title": "WhatsApp desconectado",
        "message": "WhatsApp da unidade {unit} perdeu conexão. Reconecte via QR Code em Configurações.",
        "action": "scan_qr",
    },
    "token_refused": {
        "kind": NoticeKind.DOWN,
        "type": NoticeType.DISCONNECTED,
        "title": "WhatsApp desconectado",
        "message": (
            "WhatsApp da unidade {unit} parou: o provedor recusou o token da instância. "
            "Confira o token em Configurações."
        ),
        "action": "check_token",
    },
    "reconnected": {
        "kind": NoticeKind.BACK,
        "type": NoticeType.RECONNECTED,
        "title": "WhatsApp reconectado",
        "message": "WhatsApp da unidade {unit} voltou a funcionar depois de {downtime}.",
        "action": None,
    },
    "downtime": {
        "under_a_minute": "menos de 1 min",
        "minutes": "{minutes} min",
        "hours": "{hours} h",
        "hours_and_minutes": "{hours} h {minutes} min",
        "one_day": "1 dia",
        "days": "{days} dias",
    },
}
"""Keyed by ``NoticeText``; ``downtime`` holds the words of a duration."""

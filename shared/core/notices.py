"""Every text that venue staff read, in Brazilian Portuguese. Nothing else in the project speaks Portuguese to people.

The texts travel with each call that may ring a bell; SQL fills ``{unit}``, ``{downtime}``, ``{falls}`` and ``{since}``
in, in the transaction that tells, because only there they are certain. ``data.action`` is what the bell offers to do,
``still`` the text of the reminder.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Final, Literal, TypeAlias

NoticeText: TypeAlias = Literal[
    "disconnected",
    "token_refused",
    "not_found",
    "unstable",
    "still_disconnected",
    "still_refused",
    "still_not_found",
    "reconnected",
    "unverified",
    "verified",
    "subscription_7",
    "subscription_3",
    "subscription_1",
    "subscription_lapsed",
    "mute",
]
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


class FallKind(StrEnum):
    """What a fall of a line is told as: the column ``instance_outages.told_as``."""

    DOWN = "down"
    UNSTABLE = "unstable"
    DAMPED = "damped"
    """Not at all: the line is known to be unstable."""
    DOWN_LASTING = "down_lasting"
    """One of the two before, which has lasted."""


class NoticeState(StrEnum):
    """What became of a notice: the column ``notices.state``."""

    SENT = "sent"
    REFUSED = "refused"
    """By a rule of the platform's table."""


class NoticeType(StrEnum):
    """What the platform's bell calls it: the column ``notifications.type``."""

    DISCONNECTED = "instance_disconnected"
    STILL_DISCONNECTED = "instance_still_disconnected"
    RECONNECTED = "instance_reconnected"
    UNVERIFIED = "instance_unverified"
    SUBSCRIPTION = "instance_subscription"
    MUTE = "instance_mute"


ZONE: Final = "America/Sao_Paulo"
"""By whose clock they live."""

TEXTS: Final = {
    "disconnected": {
        "kind": NoticeKind.DOWN,
        "type": NoticeType.DISCONNECTED,
        "title": "WhatsApp desconectado",
        "message": "WhatsApp da unidade {unit} perdeu conexão. Reconecte via QR Code em Configurações.",
        "action": "scan_qr",
        "still": "still_disconnected",
    },
    "token_refused": {
        "kind": NoticeKind.DOWN,
        "type": NoticeType.DISCONNECTED,
        "title": "WhatsApp desconectado",
        "message": ("WhatsApp da unidade {unit} parou: o provedor recusou o token da instância. Fale com o suporte."),
        "action": "check_token",
        "still": "still_refused",
    },
    "not_found": {
        "kind": NoticeKind.DOWN,
        "type": NoticeType.DISCONNECTED,
        "title": "WhatsApp desconectado",
        "message": ("WhatsApp da unidade {unit} parou: a instância não existe mais no provedor. Fale com o suporte."),
        "action": "call_support",
        "still": "still_not_found",
    },
    "unstable": {
        "kind": NoticeKind.UNSTABLE,
        "type": NoticeType.DISCONNECTED,
        "title": "WhatsApp instável",
        "message": (
            "WhatsApp da unidade {unit} está instável: caiu {falls} vezes em 24 h. Avisaremos quando ficar estável."
        ),
        "action": None,
    },
    "still_disconnected": {
        "kind": NoticeKind.STILL_DOWN,
        "type": NoticeType.STILL_DISCONNECTED,
        "title": "WhatsApp continua desconectado",
        "message": (
            "WhatsApp da unidade {unit} continua desconectado há {downtime}. Reconecte via QR Code em Configurações."
        ),
        "action": "scan_qr",
    },
    "still_refused": {
        "kind": NoticeKind.STILL_DOWN,
        "type": NoticeType.STILL_DISCONNECTED,
        "title": "WhatsApp continua desconectado",
        "message": (
            "WhatsApp da unidade {unit} continua desconectado há {downtime}: o provedor recusou o token da instância. "
            "Fale com o suporte."
        ),
        "action": "check_token",
    },
    "still_not_found": {
        "kind": NoticeKind.STILL_DOWN,
        "type": NoticeType.STILL_DISCONNECTED,
        "title": "WhatsApp continua desconectado",
        "message": (
            "WhatsApp da unidade {unit} continua desconectado há {downtime}: a instância não existe mais no provedor. "
            "Fale com o suporte."
        ),
        "action": "call_support",
    },
    "reconnected": {
        "kind": NoticeKind.BACK,
        "type": NoticeType.RECONNECTED,
        "title": "WhatsApp reconectado",
        "message": "WhatsApp da unidade {unit} voltou a funcionar depois de {downtime}.",
        "action": None,
    },
    "unverified": {
        "kind": NoticeKind.UNVERIFIED,
        "type": NoticeType.UNVERIFIED,
        "title": "WhatsApp sem verificação",
        "message": (
            "Não conseguimos verificar o WhatsApp da unidade {unit} desde {since}. "
            "Confira no celular se as mensagens chegam."
        ),
        "action": None,
    },
    "verified": {
        "kind": NoticeKind.BACK,
        "type": NoticeType.RECONNECTED,
        "title": "WhatsApp verificado",
        "message": "WhatsApp da unidade {unit} foi verificado: está funcionando.",
        "action": None,
    },
    "subscription_7": {
        "kind": NoticeKind.SUBSCRIPTION,
        "type": NoticeType.SUBSCRIPTION,
        "title": "Assinatura do WhatsApp",
        "message": "A assinatura do WhatsApp da unidade {unit} vence em até 7 dias. Fale com o suporte para renovar.",
        "action": "call_support",
    },
    "subscription_3": {
        "kind": NoticeKind.SUBSCRIPTION,
        "type": NoticeType.SUBSCRIPTION,
        "title": "Assinatura do WhatsApp",
        "message": "A assinatura do WhatsApp da unidade {unit} vence em até 3 dias. Fale com o suporte para renovar.",
        "action": "call_support",
    },
    "subscription_1": {
        "kind": NoticeKind.SUBSCRIPTION,
        "type": NoticeType.SUBSCRIPTION,
        "title": "Assinatura do WhatsApp",
        "message": "A assinatura do WhatsApp da unidade {unit} vence em até 24 horas. Fale com o suporte para renovar.",
        "action": "call_support",
    },
    "subscription_lapsed": {
        "kind": NoticeKind.SUBSCRIPTION,
        "type": NoticeType.SUBSCRIPTION,
        "title": "Assinatura do WhatsApp",
        "message": (
            "A assinatura do WhatsApp da unidade {unit} venceu: as mensagens podem deixar de ser enviadas. "
            "Fale com o suporte para renovar."
        ),
        "action": "call_support",
    },
    "mute": {
        "kind": NoticeKind.MUTE,
        "type": NoticeType.MUTE,
        "title": "WhatsApp sem receber mensagens",
        "message": (
            "O WhatsApp da unidade {unit} está conectado, mas as mensagens não chegam ao sistema desde {since}. "
            "Responda pelo celular; já estamos tentando corrigir."
        ),
        "action": None,
    },
    "moment": {
        "zone": ZONE,
        "today": "HH24:MI",
        "before": "DD/MM, HH24:MI",
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
"""Keyed by ``NoticeText``; ``downtime`` holds the words of a duration, ``moment`` the patterns and zone of an hour."""

SUBSCRIPTION_TEXTS: Final[dict[int, NoticeText]] = {
    7: "subscription_7",
    3: "subscription_3",
    1: "subscription_1",
    0: "subscription_lapsed",
}
"""By the days that are left."""

EVENT_TEXTS: Final = {
    name: TEXTS[name] for name in ("disconnected", "unstable", "reconnected", "verified", "moment", "downtime")
}
"""Of them what an event can tell: they travel with each, and all of them would be half of what does."""


def title_of_several(titles: list[str], count: int) -> str:
    """The title of one message about several lines."""
    return f"{' / '.join(titles)} ({count})"


TEST_TITLE: Final = "Teste de aviso"
TEST_TEXT: Final = "Este contato será avisado por aqui quando um WhatsApp da empresa cair."
"""What ``--send-test`` sends."""

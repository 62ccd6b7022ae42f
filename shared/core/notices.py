"""Every text that venue staff read, in Brazilian Portuguese. Nothing else in the project speaks Portuguese to people.

The texts travel with each call that may ring a bell; SQL fills ``{unit}`` and ``{downtime}`` in, in the transaction
that changes the status, because only there both are certain. ``data.action`` is what the bell offers to do.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias

NoticeText: TypeAlias = Literal["disconnected", "token_refused", "reconnected"]

TEXTS: Final = {
    "disconnected": {
        "type": "instance_disconnected",
        "title": "WhatsApp desconectado",
        "message": "WhatsApp da unidade {unit} perdeu conexão. Reconecte via QR Code em Configurações.",
        "action": "scan_qr",
    },
    "token_refused": {
        "type": "instance_disconnected",
        "title": "WhatsApp desconectado",
        "message": (
            "WhatsApp da unidade {unit} parou: o provedor recusou o token da instância. "
            "Confira o token em Configurações."
        ),
        "action": "check_token",
    },
    "reconnected": {
        "type": "instance_reconnected",
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

_PREVIEWS: Final = {
    "image": "Imagem",
    "video": "Vídeo",
    "audio": "Áudio",
    "document": "Documento",
    "sticker": "Figurinha",
    "location": "Localização",
    "contact": "Contato",
    "poll": "Enquete",
    "reaction": "Reação",
    "button_reply": "Resposta",
}


def preview(message_type: str, content: str | None) -> str:
    """What a list of conversations shows of a message: its text, else what kind of thing it is."""
    return content or _PREVIEWS.get(message_type, "")

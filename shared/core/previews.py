"""What a list of conversations shows of a message without a text, and the texts of what cannot be shown here.

For a venue's staff, in Brazilian Portuguese.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal, TypeAlias

if TYPE_CHECKING:
    from shared.core.event import Message

Label: TypeAlias = Literal[
    "text", "image", "video", "gif", "audio", "document", "sticker", "sticker_pack", "location", "live_location",
    "contact", "contacts", "poll", "poll_result", "reaction", "button_reply", "template", "list", "order", "product",
    "payment_request", "payment", "invoice", "event", "event_invite", "call_scheduled", "call_live",
    "invite", "group_invite", "channel_invite", "ai_answer", "music", "unsupported",
]  # fmt: skip
"""Which of the labels below a message has."""

_LABELS: Final[dict[Label, str]] = {
    "text": "Mensagem",
    "image": "Imagem",
    "video": "Vídeo",
    "gif": "GIF",
    "audio": "Áudio",
    "document": "Documento",
    "sticker": "Figurinha",
    "sticker_pack": "Pacote de figurinhas",
    "location": "Localização",
    "live_location": "Localização em tempo real",
    "contact": "Contato",
    "contacts": "Contatos",
    "poll": "Enquete",
    "poll_result": "Resultado da enquete",
    "reaction": "Reação",
    "button_reply": "Resposta",
    "template": "Mensagem com botões",
    "list": "Lista",
    "order": "Pedido",
    "product": "Produto",
    "payment_request": "Pedido de pagamento",
    "payment": "Pagamento",
    "invoice": "Fatura",
    "event": "Evento",
    "event_invite": "Convite para evento",
    "call_scheduled": "Chamada agendada",
    "call_live": "Chamada ao vivo",
    "invite": "Convite",
    "group_invite": "Convite para grupo",
    "channel_invite": "Convite para canal",
    "ai_answer": "Resposta de IA",
    "music": "Música",
    "unsupported": "Mensagem não suportada",
}

UNSUPPORTED: Final = "Mensagem não suportada: abra o WhatsApp no celular."
NOT_YET: Final = "Mensagem ainda não disponível. Abra o WhatsApp no celular."
VIEW_ONCE: Final = "Visualização única: veja no WhatsApp do celular."
ONE_TIME_CODE: Final = "Código de uso único: veja no WhatsApp do celular."
MISSED_CALL: Final = "Chamada de voz perdida"
MISSED_VIDEO_CALL: Final = "Chamada de vídeo perdida"


def preview(message: Message) -> str:
    """What a list of conversations shows of a message: its text, else what kind of thing it is."""
    if message.content:
        return message.content
    label = _LABELS[message.label or message.type]
    items = message.metadata.get("item_count")
    if message.label != "order" or not isinstance(items, int):
        return label
    return f"{label} (1 item)" if items == 1 else f"{label} ({items} itens)"

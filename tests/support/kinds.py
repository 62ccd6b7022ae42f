"""One message of every kind of content that WhatsApp has, as a canonical message, and the row that a venue should see."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

from spellings import Long, Word

KEY = bytes(range(200, 232))
KEY_TEXT = "yMnKy8zNzs/Q0dLT1NXW19jZ2tvc3d7f4OHi4+Tl5uc="
FILE = {
    "url": "https://media.example/f", "mimetype": "x/y", "mediaKey": KEY, "directPath": "/v/f", "fileLength": Long(5691),
    "fileSha256": KEY, "fileEncSha256": KEY,
}  # fmt: skip
MEDIA = {"media_url": "https://media.example/f", "media_key": KEY_TEXT, "media_direct_path": "/v/f"}
PIX = json.dumps({
    "currency": "BRL", "total_amount": {"value": 15000, "offset": 100}, "reference_id": "P1",
    "payment_settings": [{"type": "pix_static_code", "pix_static_code": {"merchant_name": "Buffet", "key": "pix@example.com", "key_type": "EMAIL"}}],
})  # fmt: skip


@dataclass(frozen=True)
class Kind:
    """A message and its row: ``preview`` is what a list of conversations shows."""

    name: str
    message: dict[str, Any]
    type: str
    content: str | None
    preview: str | None = None
    media: bool = False
    metadata: dict[str, Any] = field(default_factory=dict)


def future(name: str, message: dict[str, Any]) -> dict[str, Any]:
    return {name: {"message": message}}


KINDS = [
    Kind("a text", {"conversation": "Oi"}, "text", "Oi"),
    Kind("a text in a group's first message", {"senderKeyDistributionMessage": {"groupId": "g"}, "messageContextInfo": {"messageSecret": KEY}, "conversation": "Oi"}, "text", "Oi"),
    Kind("an extended text", {"extendedTextMessage": {"text": "veja", "contextInfo": {"isForwarded": True}}}, "text", "veja", metadata={"forwarded": True}),
    Kind("a link alone", {"extendedTextMessage": {"matchedText": "https://x.example", "title": "X"}}, "text", "https://x.example", metadata={"link_title": "X"}),
    Kind("a click on an ad", {"extendedTextMessage": {"contextInfo": {"externalAdReply": {"title": "Buffet completo", "sourceId": "1234", "sourceUrl": "https://ad.example", "ctwaClid": "c1"}}}}, "text", "Buffet completo", metadata={"ad": {"title": "Buffet completo", "source_id": "1234", "source_url": "https://ad.example", "ctwa_clid": "c1"}}),
    Kind("a photo that answers an ad", {"imageMessage": FILE | {"contextInfo": {"externalAdReply": {"title": "Promo", "sourceType": "ad"}}}}, "image", "Promo", media=True),
    Kind("an image", {"imageMessage": FILE | {"caption": "o salão"}}, "image", "o salão", media=True, metadata={"file_length": 5691, "file_sha256": KEY_TEXT}),
    Kind("an image without a caption", {"imageMessage": FILE}, "image", None, "Imagem", media=True),
    Kind("an image of nothing", {"imageMessage": {}}, "image", None, "Imagem"),
    Kind("a video", {"videoMessage": FILE}, "video", None, "Vídeo", media=True),
    Kind("a GIF", {"videoMessage": FILE | {"gifPlayback": True}}, "video", None, "GIF", media=True),
    Kind("a round video", {"ptvMessage": FILE}, "video", None, "Vídeo", media=True),
    Kind("a voice message", {"audioMessage": FILE | {"ptt": True, "seconds": 4}}, "audio", None, "Áudio", media=True, metadata={"voice": True, "seconds": 4}),
    Kind("a document", {"documentMessage": FILE | {"fileName": "a.pdf", "pageCount": 3}}, "document", "a.pdf", media=True, metadata={"file_name": "a.pdf", "pages": 3}),
    Kind("a document with a caption", future("documentWithCaptionMessage", {"documentMessage": FILE | {"fileName": "a.pdf", "caption": "o contrato"}}), "document", "o contrato", media=True),
    Kind("a sticker", {"stickerMessage": FILE | {"isAnimated": True}}, "sticker", None, "Figurinha", media=True, metadata={"animated": True}),
    Kind("a lottie sticker", future("lottieStickerMessage", {"stickerMessage": FILE | {"isLottie": True}}), "sticker", None, "Figurinha", media=True),
    Kind("a pack of stickers", {"stickerPackMessage": {"name": "Festa", "publisher": "Ana", "directPath": "/v/p", "stickers": [{"fileName": "1.webp"}]}}, "sticker", "Festa\nAna", metadata={"sticker_count": 1}),
    Kind("a place", {"locationMessage": {"degreesLatitude": -23.5, "degreesLongitude": -46.6}}, "location", "-23.5, -46.6", metadata={"latitude": -23.5}),
    Kind("a named place", {"locationMessage": {"degreesLatitude": -23.5, "degreesLongitude": -46.6, "name": "Buffet", "address": "Rua A, 1"}}, "location", "Buffet, Rua A, 1"),
    Kind("a place of nothing", {"locationMessage": {}}, "location", None, "Localização"),
    Kind("a place that moves", {"liveLocationMessage": {"degreesLatitude": 1, "degreesLongitude": 2, "sequenceNumber": Long(3)}}, "location", "1, 2"),
    Kind("a contact", {"contactMessage": {"displayName": "Davi", "vcard": "BEGIN:VCARD"}}, "contact", "Davi", metadata={"vcards": ["BEGIN:VCARD"]}),
    Kind("contacts", {"contactsArrayMessage": {"contacts": [{"displayName": "Davi", "vcard": "A"}, {"displayName": "Eva"}]}}, "contact", "Davi, Eva"),
    *[
        Kind(f"a poll {version or 'V1'}", {f"pollCreationMessage{version}": {"name": "Qual data?", "options": [{"optionName": "10/05"}]}}, "poll", "Qual data?", metadata={"options": ["10/05"]})
        for version in ("", "V2", "V3", "V5", "V6")
    ],
    Kind("a poll V4", future("pollCreationMessageV4", {"pollCreationMessageV5": {"name": "Qual data?"}}), "poll", "Qual data?"),
    Kind("a poll's result", {"pollResultSnapshotMessage": {"name": "Qual data?", "pollVotes": [{"optionName": "10/05", "optionVoteCount": Long(7)}]}}, "poll", "Qual data?", metadata={"results": [{"option": "10/05", "votes": 7}]}),
    Kind("a poll's newer result", {"pollResultSnapshotMessageV3": {"pollVotes": []}}, "poll", None, "Resultado da enquete"),
    Kind("a button", {"buttonsResponseMessage": {"response/selectedDisplayText": "Quero agendar", "selectedButtonId": "agendar", "type": Word("DISPLAY_TEXT", 1)}}, "button_reply", "Quero agendar", metadata={"button_id": "agendar"}),
    Kind("a button without a text", {"buttonsResponseMessage": {"selectedButtonId": "b1"}}, "button_reply", "b1"),
    Kind("a row of a list", {"listResponseMessage": {"title": "Sábado", "singleSelectReply": {"selectedRowId": "r1"}}}, "button_reply", "Sábado", metadata={"button_id": "r1"}),
    Kind("a template's button", {"templateButtonReplyMessage": {"selectedId": "t1", "selectedDisplayText": "Sim", "selectedIndex": 0}}, "button_reply", "Sim", metadata={"button_id": "t1"}),
    Kind("a native flow's button", {"interactiveResponseMessage": {"body": {"text": "x"}, "interactiveResponseMessage/nativeFlowResponseMessage": {"name": "quick_reply", "paramsJson": '{"id": "q1", "display_text": "Quero", "data": "10/05"}'}}}, "button_reply", "Quero", metadata={"button_id": "q1", "flow": "quick_reply", "answers": {"data": "10/05"}}),
    Kind("a native flow with broken parameters", {"interactiveResponseMessage": {"body": {"text": "Enviado"}, "interactiveResponseMessage/nativeFlowResponseMessage": {"name": "flow", "paramsJson": "{"}}}, "button_reply", "Enviado"),
    Kind("a business template", {"templateMessage": {"hydratedTemplate": {"title/hydratedTitleText": "Lembrete", "hydratedContentText": "amanhã às 10h", "hydratedFooterText": "Buffet", "hydratedButtons": [{"index": 0, "hydratedButton/quickReplyButton": {"displayText": "Confirmo", "id": "ok"}}, {"index": 1, "hydratedButton/urlButton": {"displayText": "Ver", "url": "https://x.example"}}]}}}, "template", "Lembrete\namanhã às 10h\nBuffet", metadata={"buttons": [{"text": "Confirmo", "id": "ok"}, {"text": "Ver", "url": "https://x.example"}]}),
    Kind("a template of four rows", {"templateMessage": {"format/hydratedFourRowTemplate": {"title/imageMessage": FILE, "hydratedContentText": "Promo"}}}, "template", "Promo", media=True, metadata={"media_type": "image"}),
    Kind("an interactive template", {"templateMessage": {"format/interactiveMessageTemplate": {"body": {"text": "Escolha"}}}}, "template", "Escolha"),
    Kind("an old template", {"highlyStructuredMessage": {"elementName": "lembrete", "params": ["Ana", "10h"]}}, "template", "lembrete\nAna\n10h"),
    Kind("buttons", {"buttonsMessage": {"header/text": "Oi", "contentText": "Confirma?", "footerText": "Buffet", "buttons": [{"buttonId": "s", "buttonText": {"displayText": "Sim"}}]}}, "template", "Oi\nConfirma?\nBuffet", metadata={"buttons": [{"text": "Sim", "id": "s"}]}),
    Kind("buttons under a picture", {"buttonsMessage": {"header/imageMessage": FILE, "contentText": "Confirma?"}}, "template", "Confirma?", media=True),
    Kind("an interactive message", {"interactiveMessage": {"header": {"title": "Menu", "media/imageMessage": FILE}, "body": {"text": "Escolha"}, "footer": {"text": "fim"}, "interactiveMessage/nativeFlowMessage": {"buttons": [{"name": "cta_url", "buttonParamsJson": '{"display_text": "Ver", "url": "https://x.example"}'}]}}}, "template", "Menu\nEscolha\nfim", media=True, metadata={"buttons": [{"kind": "cta_url", "text": "Ver", "url": "https://x.example"}]}),
    Kind("a carousel", {"interactiveMessage": {"body": {"text": "Salões"}, "interactiveMessage/carouselMessage": {"cards": [{"body": {"text": "Azul"}, "header": {"media/imageMessage": FILE}}, {"body": {"text": "Verde"}}]}}}, "template", "Salões\nAzul\nVerde", media=True),
    Kind("a PIX card", {"interactiveMessage": {"interactiveMessage/nativeFlowMessage": {"buttons": [{"name": "payment_info", "buttonParamsJson": PIX}]}}}, "payment", "Buffet\npix@example.com", metadata={"pix": {"key": "pix@example.com", "key_type": "EMAIL", "merchant_name": "Buffet", "amount": 150.0, "reference": "P1"}}),
    Kind("an interactive message of nothing", {"interactiveMessage": {}}, "template", None, "Mensagem com botões"),
    Kind("a list", {"listMessage": {"title": "Datas", "description": "Escolha", "buttonText": "Ver", "sections": [{"rows": [{"title": "10/05", "rowId": "r1"}]}]}}, "list", "Datas\nEscolha", metadata={"rows": [{"title": "10/05", "id": "r1"}]}),
    Kind("an order", {"orderMessage": {"orderId": "o1", "itemCount": 3, "totalAmount1000": Long(150000), "totalCurrencyCode": "BRL", "message": "sem glúten"}}, "order", "sem glúten", metadata={"order_id": "o1", "amount": 150.0, "currency": "BRL"}),
    Kind("an order without a note", {"orderMessage": {"orderId": "o1", "itemCount": 3}}, "order", None, "Pedido (3 itens)"),
    Kind("a product", {"productMessage": {"product": {"productImage": FILE, "productId": "p1", "title": "Bolo", "priceAmount1000": Long(90000)}}}, "product", "Bolo", media=True, metadata={"amount": 90.0, "product_id": "p1"}),
    Kind("a request to pay", {"requestPaymentMessage": {"noteMessage": {"extendedTextMessage": {"text": "sinal"}}, "amount": {"value": Long(5000), "offset": 100, "currencyCode": "BRL"}}}, "payment", "sinal", metadata={"amount": 50.0, "currency": "BRL"}),
    Kind("a request to pay without a note", {"requestPaymentMessage": {"amount1000": Long(5000)}}, "payment", None, "Pedido de pagamento"),
    Kind("a payment", {"sendPaymentMessage": {"noteMessage": {"conversation": "paguei"}}}, "payment", "paguei"),
    Kind("an invoice", {"invoiceMessage": {"note": "NF 12", "attachmentDirectPath": "/v/n", "attachmentMediaKey": KEY}}, "payment", "NF 12"),
    Kind("an invitation to pay", {"paymentInviteMessage": {"serviceType": Word("PIX", 4)}}, "payment", None, "Pagamento"),
    Kind("a reminder to pay", {"paymentReminderMessage": {"description": "vence hoje"}}, "payment", "vence hoje"),
    Kind("a split payment", {"splitPaymentMessage": {"description": "metade"}}, "payment", "metade"),
    Kind("an event", {"eventMessage": {"name": "Visita", "description": "ao salão", "startTime": Long(1_790_000_000), "location": {"name": "Buffet"}}}, "event", "Visita\nao salão", metadata={"starts_at": "2026-09-21T14:13:20+00:00", "place": "Buffet"}),
    Kind("an invitation to an event", {"eventInviteMessage": {"eventTitle": "Visita", "eventId": "e1"}}, "event", "Visita", metadata={"event_id": "e1"}),
    Kind("a call that is planned", {"scheduledCallCreationMessage": {"title": "Reunião", "scheduledTimestampMs": Long(1_790_000_000_000)}}, "event", "Reunião", metadata={"starts_at": "2026-09-21T14:13:20+00:00"}),
    Kind("a call that is live", {"bcallMessage": {"sessionId": "s"}}, "event", None, "Chamada ao vivo"),
    Kind("an invitation to a group", {"groupInviteMessage": {"groupJid": "1@g.us", "inviteCode": "c1", "groupName": "Festa"}}, "invite", "Festa", metadata={"code": "c1", "address": "1@g.us"}),
    Kind("an invitation to lead a channel", {"newsletterAdminInviteMessage": {"newsletterJid": "1@newsletter", "newsletterName": "Canal"}}, "invite", "Canal"),
    Kind("an invitation to follow a channel", {"newsletterFollowerInviteMessageV2": {"newsletterJid": "1@newsletter"}}, "invite", None, "Convite para canal"),
    Kind("an answer of Meta AI", {"richResponseMessage": {"submessages": [{"messageText": "Olá"}, {"messageText": "!"}]}}, "text", "Olá\n!"),
    Kind("an answer of Meta AI in bytes", {"richResponseMessage": {"unifiedResponse": {"data": b"x"}}}, "text", None, "Resposta de IA"),
    Kind("music", {"musicMessage": {"embeddedMusic": {"title": "Parabéns", "author": "Povo"}}}, "text", "Parabéns\nPovo"),
    Kind("an answer to a question", {"questionResponseMessage": {"key": {"id": "Q"}, "text": "Sim"}}, "text", "Sim"),
    Kind("an answer to a question in a story", {"statusQuestionAnswerMessage": {"text": "Sim"}}, "text", "Sim"),
    Kind("a story that is quoted", {"statusQuotedMessage": {"text": "Lindo"}}, "text", "Lindo"),
    Kind("a photo of an album", future("associatedChildMessage", {"imageMessage": FILE, "messageContextInfo": {"messageAssociation": {"associationType": Word("MEDIA_ALBUM", 1)}}}), "image", None, "Imagem", media=True),
    Kind("a photo to be seen once", future("viewOnceMessageV2", {"imageMessage": FILE}), "image", None, "Imagem", media=True, metadata={"view_once": True}),
    Kind("a photo to be seen once that did not come", future("viewOnceMessageV2", {}), "unsupported", "Visualização única: veja no WhatsApp do celular."),
    Kind("an envelope in an envelope", future("ephemeralMessage", future("groupMentionedMessage", {"conversation": "Oi"})), "text", "Oi"),
    Kind("an envelope that nobody knows yet", future("someNewerMessage", {"conversation": "Oi"}), "text", "Oi"),
    Kind("what another device sent", {"deviceSentMessage": {"destinationJid": "5511911112222@s.whatsapp.net", "message": {"conversation": "Oi"}}}, "text", "Oi"),
    Kind("a comment", {"commentMessage": {"message": {"conversation": "Oi"}, "targetMessageKey": {"id": "T"}}}, "text", "Oi"),
    Kind("a one-time code", {"placeholderMessage": {"type": Word("MASK_LINKED_DEVICES", 0)}}, "unsupported", "Código de uso único: veja no WhatsApp do celular."),
    Kind("a planned message", {"conditionalRevealMessage": {"encPayload": b"x"}}, "unsupported", "Mensagem ainda não disponível. Abra o WhatsApp no celular."),
    Kind("a missed call in the log", {"callLogMesssage": {"isVideo": True, "callOutcome": Word("MISSED", 1)}}, "text", "Chamada de vídeo perdida"),
    Kind("a kind that nobody knows yet", {"brandNewThing": {"text": "?"}}, "unsupported", "Mensagem não suportada: abra o WhatsApp no celular."),
]  # fmt: skip

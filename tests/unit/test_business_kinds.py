"""Every field of orders, payments, events, invitations and messages with buttons: the whole row, not a part of it."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import Any

import pytest
from test_message_kinds import stored

from shared.core.previews import preview

AT, AT_TEXT = 1_790_000_000, "2026-09-21T14:13:20+00:00"
LINK = "https://x.example/a"
PICTURE = {"url": "https://media.example/f", "mimetype": "image/jpeg", "mediaKey": "a2V5", "directPath": "/v/f"}


@dataclass(frozen=True)
class Case:
    """A message, and all of its row that its kind decides; ``shown`` is what a list of conversations shows."""

    message: dict[str, Any]
    type: str
    content: str | None
    shown: str | None = None
    metadata: dict[str, Any] = field(default_factory=dict)
    media: tuple[str | None, str | None, str | None] = (None, None, None)


def flow(*buttons: tuple[str, dict[str, Any]], **body: Any) -> dict[str, Any]:
    made = [{"name": name, "buttonParamsJson": json.dumps(params)} for name, params in buttons]
    return {"interactiveMessage": body | ({"nativeFlowMessage": {"buttons": made}} if made else {})}


def hydrated(*buttons: dict[str, Any], **body: Any) -> dict[str, Any]:
    return {"hydratedTemplate": {"hydratedContentText": "amanhã", "hydratedButtons": list(buttons)} | body}


PIX = {
    "payment_settings": [
        {"type": "pix_static_code", "pix_static_code": {"merchant_name": "Buffet", "key": "pix@example.com", "key_type": "EMAIL"}}
    ],
    "total_amount": {"value": 15000, "offset": 100}, "reference_id": "P1",
}  # fmt: skip
SHOWN = ("https://media.example/f", "a2V5", "/v/f")
AS_HEADER = {"media_type": "image", "mimetype": "image/jpeg"}

CASES = {
    "an order": Case(
        {"orderMessage": {
            "orderId": "o1", "orderTitle": "Bolo", "itemCount": 3, "totalAmount1000": 150_000, "totalCurrencyCode": "BRL",
            "status": "INQUIRY", "token": "tk", "message": "sem glúten",
        }},
        "order", "sem glúten",
        metadata={
            "order_id": "o1", "title": "Bolo", "item_count": 3, "amount": 150.0, "currency": "BRL",
            "order_status": "INQUIRY", "token": "tk",
        },
    ),
    "an order with a title alone": Case({"orderMessage": {"orderTitle": "Bolo", "status": 1}}, "order", "Bolo", metadata={"title": "Bolo", "order_status": 1}),
    "an order of one": Case({"orderMessage": {"itemCount": 1}}, "order", None, "Pedido (1 item)", {"item_count": 1}),
    "an order of nothing": Case({"orderMessage": {}}, "order", None, "Pedido"),
    "a product": Case(
        {"productMessage": {
            "product": {
                "productImage": PICTURE, "productId": "p1", "title": "Bolo", "description": "de cenoura", "currencyCode": "BRL",
                "priceAmount1000": 90_000, "retailerId": "r1", "url": LINK,
            },
            "catalog": {"title": "Doces", "catalogImage": {"url": "https://other.example"}},
        }},
        "product", "Bolo\nde cenoura",
        metadata={"title": "Bolo", "product_id": "p1", "retailer_id": "r1", "amount": 90.0, "currency": "BRL", "url": LINK},
        media=SHOWN,
    ),
    "a product on sale with words of its own": Case(
        {"productMessage": {"body": "Veja", "product": {"title": "Bolo", "priceAmount1000": 90_000, "salePriceAmount1000": 80_000}}},
        "product", "Veja", metadata={"title": "Bolo", "amount": 80.0},
    ),
    "a catalogue": Case({"productMessage": {"catalog": {"title": "Doces", "catalogImage": PICTURE}}}, "product", "Doces", media=SHOWN),
    "a request to pay": Case(
        {"requestPaymentMessage": {
            "noteMessage": {"extendedTextMessage": {"text": "sinal"}}, "amount": {"value": 5000, "offset": 100, "currencyCode": "BRL"},
            "amount1000": 9, "currencyCodeIso4217": "USD", "expiryTimestamp": AT,
        }},
        "payment", "sinal", metadata={"amount": 50.0, "currency": "BRL", "expires_at": AT_TEXT},
    ),
    "an older request to pay": Case(
        {"requestPaymentMessage": {"noteMessage": {"conversation": "sinal"}, "amount1000": 5000, "currencyCodeIso4217": "BRL"}},
        "payment", "sinal", metadata={"amount": 5.0, "currency": "BRL"},
    ),
    "a request to pay without a word": Case({"requestPaymentMessage": {}}, "payment", None, "Pedido de pagamento"),
    "a payment without a word": Case({"sendPaymentMessage": {}}, "payment", None, "Pagamento"),
    "a split payment": Case(
        {"splitPaymentMessage": {"description": "metade", "totalAmount": {"value": 700, "offset": 100, "currencyCode": "BRL"}}},
        "payment", "metade", metadata={"amount": 7.0, "currency": "BRL"},
    ),
    "an invitation to pay": Case({"paymentInviteMessage": {"serviceType": "PIX"}}, "payment", None, "Pagamento", {"service": "PIX"}),
    "an invitation to pay by number": Case({"paymentInviteMessage": {"serviceType": 4}}, "payment", None, "Pagamento", {"service": 4}),
    "an invoice": Case(
        {"invoiceMessage": {"note": "NF 12", "attachmentMimetype": "x/y", "attachmentMediaKey": "a2V5", "attachmentDirectPath": "/v/n"}},
        "payment", "NF 12", metadata={"mimetype": "x/y"}, media=(None, "a2V5", "/v/n"),
    ),
    "an invoice without a word": Case({"invoiceMessage": {}}, "payment", None, "Fatura"),
    "an event": Case(
        {"eventMessage": {
            "name": "Visita", "description": "ao salão", "startTime": AT, "endTime": AT + 60, "location": {"name": "Buffet"},
            "joinLink": LINK, "isCanceled": True,
        }},
        "event", "Visita\nao salão",
        metadata={"starts_at": AT_TEXT, "ends_at": "2026-09-21T14:14:20+00:00", "place": "Buffet", "url": LINK, "cancelled": True},
    ),
    "an event that is on": Case({"eventMessage": {"name": "Visita", "isCanceled": False}}, "event", "Visita"),
    "an invitation to an event": Case(
        {"eventInviteMessage": {"eventTitle": "Visita", "caption": "Venha", "eventId": "e1", "startTime": AT}},
        "event", "Visita\nVenha", metadata={"event_id": "e1", "starts_at": AT_TEXT},
    ),
    "an invitation to an event without a word": Case({"eventInviteMessage": {}}, "event", None, "Convite para evento"),
    "a call that is planned": Case(
        {"scheduledCallCreationMessage": {"title": "Reunião", "scheduledTimestampMs": AT * 1000, "callType": "VIDEO"}},
        "event", "Reunião", metadata={"starts_at": AT_TEXT, "call_type": "VIDEO"},
    ),
    "a call that is planned without a word": Case({"scheduledCallCreationMessage": {"callType": 2}}, "event", None, "Chamada agendada", {"call_type": 2}),
    "a call that is live": Case({"bcallMessage": {"caption": "Entrem", "callLink": LINK}}, "event", "Entrem", metadata={"url": LINK}),
    "a call that is live without a word": Case({"bcallMessage": {}}, "event", None, "Chamada ao vivo"),
    "an invitation to a group": Case(
        {"groupInviteMessage": {"groupJid": "1@g.us", "inviteCode": "c1", "groupName": "Festa", "caption": "Entra", "inviteExpiration": AT}},
        "invite", "Entra", metadata={"name": "Festa", "address": "1@g.us", "code": "c1", "expires_at": AT_TEXT},
    ),
    "an invitation to a group without a word": Case({"groupInviteMessage": {}}, "invite", None, "Convite para grupo"),
    "an invitation to lead a channel": Case(
        {"newsletterAdminInviteMessage": {"newsletterJid": "1@newsletter", "newsletterName": "Canal"}},
        "invite", "Canal", metadata={"name": "Canal", "address": "1@newsletter"},
    ),
    "an invitation to lead a channel without a word": Case({"newsletterAdminInviteMessage": {}}, "invite", None, "Convite para canal"),
    "an invitation to follow a channel": Case(
        {"newsletterFollowerInviteMessageV2": {"newsletterJid": "1@newsletter", "newsletterName": "Canal", "caption": "Siga"}},
        "invite", "Siga", metadata={"name": "Canal", "address": "1@newsletter"},
    ),
    # With buttons.
    "a template with every button": Case(
        {"templateMessage": {"templateId": "t0"} | hydrated(
            {"quickReplyButton": {"displayText": "Confirmo", "id": "ok"}},
            {"urlButton": {"displayText": "Ver", "url": LINK}},
            {"callButton": {"displayText": "Ligar", "phoneNumber": "0800"}},
            {"index": 3},
            hydratedTitleText="Lembrete", hydratedFooterText="Buffet",
        )},
        "template", "Lembrete\namanhã\nBuffet",
        metadata={
            "template_id": "t0",
            "buttons": [
                {"text": "Confirmo", "id": "ok"}, {"text": "Ver", "url": LINK}, {"text": "Ligar", "phone": "0800"}, {},
            ],
        },
    ),
    "a template that has its own id": Case(
        {"templateMessage": {"templateId": "t0"} | hydrated(templateId="t1")}, "template", "amanhã", metadata={"template_id": "t1"},
    ),
    "a template of four rows under a picture": Case(
        {"templateMessage": {"hydratedFourRowTemplate": {"imageMessage": PICTURE, "hydratedContentText": "Promo"}}},
        "template", "Promo", metadata=AS_HEADER, media=SHOWN,
    ),
    "a template of four rows that are templates": Case(
        {"templateMessage": {"fourRowTemplate": {
            "imageMessage": PICTURE, "content": {"elementName": "corpo", "params": ["Ana"]}, "footer": {"elementName": "fim"},
            "highlyStructuredMessage": {"elementName": "topo"},
        }}},
        "template", "topo\ncorpo\nAna\nfim", metadata=AS_HEADER, media=SHOWN,
    ),
    "an interactive template": Case({"templateMessage": {"interactiveMessageTemplate": {"body": {"text": "Escolha"}}}}, "template", "Escolha"),
    "a template of nothing": Case({"templateMessage": {}}, "template", None, "Mensagem com botões"),
    "an old template": Case({"highlyStructuredMessage": {"elementName": "lembrete", "params": ["Ana", "10h"]}}, "template", "lembrete\nAna\n10h"),
    "an old template that is filled in": Case({"highlyStructuredMessage": {"elementName": "x", "hydratedHsm": hydrated()}}, "template", "amanhã"),
    "buttons": Case(
        {"buttonsMessage": {
            "text": "Oi", "contentText": "Confirma?", "footerText": "Buffet",
            "buttons": [{"buttonId": "s", "buttonText": {"displayText": "Sim"}}, {"buttonId": "n"}],
        }},
        "template", "Oi\nConfirma?\nBuffet", metadata={"buttons": [{"text": "Sim", "id": "s"}, {"id": "n"}]},
    ),
    "buttons under a picture": Case({"buttonsMessage": {"imageMessage": PICTURE, "contentText": "Confirma?"}}, "template", "Confirma?", metadata=AS_HEADER, media=SHOWN),
    "every button of a flow": Case(
        flow(
            ("quick_reply", {"display_text": "Sim", "id": "s"}), ("cta_url", {"display_text": "Ver", "url": LINK}),
            ("cta_call", {"display_text": "Ligar", "phone_number": "0800"}), ("cta_copy", {"display_text": "Copiar", "copy_code": "C1"}),
            ("single_select", {"title": "Datas"}),
            header={"title": "Menu", "subtitle": "de maio", "imageMessage": PICTURE}, body={"text": "Escolha"}, footer={"text": "fim"},
        ),
        "template", "Menu\nde maio\nEscolha\nfim", metadata=AS_HEADER | {"buttons": [
            {"kind": "quick_reply", "text": "Sim", "id": "s"}, {"kind": "cta_url", "text": "Ver", "url": LINK},
            {"kind": "cta_call", "text": "Ligar", "phone": "0800"}, {"kind": "cta_copy", "text": "Copiar", "code": "C1"},
            {"kind": "single_select", "text": "Datas"},
        ]}, media=SHOWN,
    ),
    "a picture under a flow": Case(flow(body={"text": "Veja"}, footer={"text": "fim", "imageMessage": PICTURE}), "template", "Veja\nfim", metadata=AS_HEADER, media=SHOWN),
    "a PIX card": Case(
        flow(("payment_info", PIX)), "payment", "Buffet\npix@example.com",
        metadata={
            "buttons": [{"kind": "payment_info"}],
            "pix": {"key": "pix@example.com", "key_type": "EMAIL", "merchant_name": "Buffet", "amount": 150.0, "reference": "P1"},
        },
    ),
    "a PIX card that comes second, by a code": Case(
        flow(("cta_url", {"title": "Ver"}), ("review_and_pay", {"payment_settings": [{}, {"pix_dynamic_code": {"code": "000201"}}]}), body={"text": "Pague"}, footer={"text": "fim"}),
        "payment", "Pague\n000201\nfim",
        metadata={"buttons": [{"kind": "cta_url", "text": "Ver"}, {"kind": "review_and_pay"}], "pix": {"key": "000201"}},
    ),
    "a flow that pays nothing": Case(flow(("review_and_pay", {"payment_settings": [{"pix_static_code": {}}]})), "template", None, "Mensagem com botões", {"buttons": [{"kind": "review_and_pay"}]}),
    "a carousel": Case(
        {"interactiveMessage": {"body": {"text": "Salões"}, "carouselMessage": {"cards": [
            {"body": {"text": "Azul"}},
            {"body": {"text": "Verde"}, "header": {"imageMessage": PICTURE}, "nativeFlowMessage": {"buttons": [{"name": "cta_url", "buttonParamsJson": "{}"}]}},
            {"body": {"text": "Rosa"}, "header": {"imageMessage": PICTURE | {"directPath": "/v/other"}}},
        ]}}},
        "template", "Salões\nAzul\nVerde\nRosa",
        metadata=AS_HEADER | {"cards": [
            {"text": "Azul"}, {"text": "Verde", "buttons": [{"kind": "cta_url"}], **AS_HEADER}, {"text": "Rosa", **AS_HEADER},
        ]}, media=SHOWN,
    ),
    "a carousel in a card, which goes no deeper": Case(
        {"interactiveMessage": {"carouselMessage": {"cards": [{"carouselMessage": {"cards": [
            {"body": {"text": "b"}, "carouselMessage": {"cards": [{"body": {"text": "c"}}]}},
        ]}}]}}},
        "template", "b", metadata={"cards": [{"text": "b", "cards": [{"text": "b"}]}]},
    ),
    "a carousel whose picture is an address alone": Case(
        {"interactiveMessage": {"carouselMessage": {"cards": [
            {"header": {"imageMessage": {"url": LINK}}}, {"header": {"imageMessage": {"directPath": "/v/other"}}},
        ]}}},
        "template", None, "Mensagem com botões", {"media_type": "image", "cards": [{"media_type": "image"}] * 2}, (LINK, None, None),
    ),
    "a carousel whose picture is a path alone": Case(
        {"interactiveMessage": {"carouselMessage": {"cards": [{"header": {"imageMessage": {"directPath": "/v/f"}}}]}}},
        "template", None, "Mensagem com botões", {"media_type": "image", "cards": [{"media_type": "image"}]}, (None, None, "/v/f"),
    ),
    "music": Case({"musicMessage": {"embeddedMusic": {"title": "Canção", "author": "Ana"}, "songURI": LINK}}, "text", f"Canção\nAna\n{LINK}", metadata={"url": LINK}),
    "music of nothing": Case({"musicMessage": {}}, "text", None, "Música"),
    "a photo to be seen once": Case(
        {"imageMessage": {"viewOnce": True, "directPath": "x" * 5000}}, "image", None, "Imagem", {"view_once": True}, (None, None, "x" * 4096),
    ),
    "a sticker": Case(
        {"stickerMessage": {"isAnimated": True, "isLottie": True, "accessibilityLabel": "um gato"}}, "sticker", None, "Figurinha",
        {"animated": True, "lottie": True, "description": "um gato"},
    ),
    "a place": Case(
        {"locationMessage": {"degreesLatitude": -23.5, "degreesLongitude": -46.6, "name": "Salão", "address": "Rua A, 1", "comment": "aqui", "url": LINK}},
        "location", "Salão, Rua A, 1", metadata={"latitude": -23.5, "longitude": -46.6, "place": "Salão, Rua A, 1", "url": LINK},
    ),
    "a place by its caption": Case({"liveLocationMessage": {"caption": "chegando", "comment": "aqui"}}, "location", "chegando"),
    "a place by a comment": Case({"locationMessage": {"comment": "aqui", "degreesLatitude": 1}}, "location", "aqui", metadata={"latitude": 1}),
    "a place by half of its coordinates": Case({"locationMessage": {"degreesLatitude": 1.5}}, "location", "1.5, 0", metadata={"latitude": 1.5}),
    "a place by the other half": Case({"locationMessage": {"degreesLongitude": 1.5}}, "location", "0, 1.5", metadata={"longitude": 1.5}),
    "a place that is none": Case({"locationMessage": {}}, "location", None, "Localização"),
    "a place that moves": Case({"liveLocationMessage": {}}, "location", None, "Localização em tempo real"),
    "a place that moves and says so": Case({"locationMessage": {"isLive": True}}, "location", None, "Localização em tempo real"),
    "a poll": Case(
        {"pollCreationMessage": {"name": "Data?", "options": [{"optionName": "10/05"}, {}], "selectableOptionsCount": 1, "endTime": AT}},
        "poll", "Data?", metadata={"options": ["10/05"], "selectable": 1, "ends_at": AT_TEXT},
    ),
    "a button that was pressed": Case(
        {"templateButtonReplyMessage": {"selectedId": "b1", "selectedDisplayText": "Sim", "selectedIndex": 2, "selectedCarouselCardIndex": 3}},
        "button_reply", "Sim", metadata={"button_id": "b1", "button_index": 2, "card_index": 3},
    ),
    "a row that was chosen": Case(
        {"listResponseMessage": {"title": "Maio", "description": "de manhã", "singleSelectReply": {"selectedRowId": "r1"}}},
        "button_reply", "Maio", metadata={"button_id": "r1", "description": "de manhã"},
    ),
    "a row by its description": Case({"listResponseMessage": {"description": "de manhã"}}, "button_reply", "de manhã", metadata={"description": "de manhã"}),
    "a flow that was filled in": Case(
        {"interactiveResponseMessage": {"body": {"text": "Pronto"}, "nativeFlowResponseMessage": {"name": "form", "paramsJson": json.dumps(
            {"id": "f1", "description": "dois", "title": "um", "nome": "Ana", "idade": 30, "mais": {"a": 1}, "lista": [1]}
        )}}},
        "button_reply", "um", metadata={"button_id": "f1", "flow": "form", "answers": {"nome": "Ana", "idade": 30}},
    ),
    "a flow by its description": Case(
        {"interactiveResponseMessage": {"nativeFlowResponseMessage": {"paramsJson": '{"description": "dois", "display_text": ""}'}}},
        "button_reply", "dois",
    ),
    "a flow by its body": Case({"interactiveResponseMessage": {"body": {"text": "Pronto"}}}, "button_reply", "Pronto"),
    "a document": Case(
        {"documentMessage": {"fileName": "menu.pdf", "pageCount": 3}}, "document", "menu.pdf", metadata={"file_name": "menu.pdf", "pages": 3},
    ),
    "an answer of nothing": Case({"richResponseMessage": {}}, "text", None, "Resposta de IA"),
    "contacts of nobody": Case({"contactsArrayMessage": {}}, "contact", None, "Contatos"),
    "a flow by what it shows": Case(
        {"interactiveResponseMessage": {"nativeFlowResponseMessage": {"paramsJson": '{"description": "dois", "display_text": "um"}'}}},
        "button_reply", "um",
    ),
    "a moving picture": Case({"videoMessage": {"gifPlayback": True}}, "video", None, "GIF", {"gif": True}),
    "a link card": Case(
        {"extendedTextMessage": {"matchedText": LINK, "title": "Salões", "description": "de festa"}},
        "text", LINK, metadata={"link": LINK, "link_title": "Salões", "link_description": "de festa"},
    ),
    "an ad without a headline": Case(
        {"extendedTextMessage": {"contextInfo": {"externalAdReply": {"body": "Salões de festa"}}}},
        "text", "Salões de festa",
    ),
    "a card with a title alone": Case({"extendedTextMessage": {"title": "Salões"}}, "text", "Salões"),
    "a list": Case(
        {"listMessage": {
            "title": "Datas", "description": "Escolha", "footerText": "fim", "buttonText": "Ver",
            "sections": [{"rows": [{"title": "10/05", "description": "sábado", "rowId": "r1"}]}, {"rows": [{"title": "11/05"}]}, {}],
        }},
        "list", "Datas\nEscolha\nfim",
        metadata={"button": "Ver", "rows": [{"title": "10/05", "description": "sábado", "id": "r1"}, {"title": "11/05"}]},
    ),
    "a list of nothing": Case({"listMessage": {}}, "list", None, "Lista"),
}  # fmt: skip


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_each_field_has_its_place_in_the_row(case: Case) -> None:
    row = stored(case.message)
    metadata = {name: fact for name, fact in row.metadata.items() if name != "provider_event"}
    assert (row.type, row.content, preview(row)) == (case.type, case.content, case.shown or case.content)
    assert metadata == case.metadata
    assert (row.media_url, row.media_key, row.media_direct_path) == case.media


@pytest.mark.parametrize(
    ("many", "of", "kept"),
    [
        ({"buttonsMessage": {"buttons": [{"buttonId": str(n)} for n in range(60)]}}, "buttons", 50),
        (flow(*[("cta_url", {"id": str(n)}) for n in range(60)]), "buttons", 50),
        ({"templateMessage": hydrated(*[{"urlButton": {"url": LINK}} for _ in range(60)])}, "buttons", 50),
        ({"interactiveMessage": {"carouselMessage": {"cards": [{"body": {"text": "c"}}] * 30}}}, "cards", 20),
        ({"listMessage": {"sections": [{"rows": [{"title": "t"}] * 150}] * 2}}, "rows", 200),
        ({"pollCreationMessage": {"options": [{"optionName": "o"}] * 120}}, "options", 100),
        ({"pollResultSnapshotMessage": {"pollVotes": [{"optionName": "o"}] * 120}}, "results", 100),
        ({"contactsArrayMessage": {"contacts": [{"vcard": "v"}] * 320}}, "vcards", 300),
    ],
)
def test_of_very_many_the_first_are_kept(many: dict[str, Any], of: str, kept: int) -> None:
    assert len(stored(many).metadata[of]) == kept


def test_of_very_many_parts_of_an_answer_the_first_are_kept() -> None:
    content = stored({"richResponseMessage": {"submessages": [{"messageText": "t"}] * 400}}).content
    assert content == "\n".join(["t"] * 300)


def test_of_very_many_settings_of_a_payment_the_first_are_read() -> None:
    key = {"pix_static_code": {"key": "pix@example.com"}}
    for before, type_ in ((49, "payment"), (50, "template")):
        assert stored(flow(("payment_info", {"payment_settings": [{}] * before + [key]}))).type == type_


def test_a_path_has_a_bounded_length() -> None:
    assert stored({"invoiceMessage": {"attachmentDirectPath": "x" * 5000}}).media_direct_path == "x" * 4096


# What stands around a message.


def around(**context: Any) -> dict[str, Any]:
    """The facts that a text keeps of its context."""
    metadata = stored({"extendedTextMessage": {"text": "Oi", "contextInfo": context}}).metadata
    return {name: fact for name, fact in metadata.items() if name != "provider_event"}


def test_an_ad_is_kept_whole() -> None:
    told = {
        "title": "Buffet", "body": "x" * 5000, "sourceId": "1", "sourceType": "ad", "sourceUrl": LINK, "sourceApp": "instagram",
        "ctwaClid": "c1", "ref": "r1", "mediaUrl": f"{LINK}/m", "thumbnailUrl": f"{LINK}/t", "originalImageUrl": f"{LINK}/o",
        "greetingMessageBody": "y" * 5000,
    }  # fmt: skip
    context = {
        "quotedAd": {"advertiserName": "Outro", "caption": "outra"}, "entryPointConversionSource": "ctwa_ad",
        "conversionSource": "FB_Ads", "utm": {"utmSource": "s", "utmCampaign": "c"},
    }  # fmt: skip
    assert around(externalAdReply=told, **context)["ad"] == {
        "title": "Buffet", "body": "x" * 4096, "source_id": "1", "source_type": "ad", "source_url": LINK,
        "source_app": "instagram", "ctwa_clid": "c1", "ref": "r1", "media_url": f"{LINK}/m", "thumbnail_url": f"{LINK}/t",
        "greeting": "y" * 4096, "entry_point": "ctwa_ad", "conversion_source": "FB_Ads", "utm_source": "s", "utm_campaign": "c",
    }  # fmt: skip


def test_an_ad_in_its_old_form_and_one_with_an_image_alone_are_ads() -> None:
    old = {"advertiserName": "Buffet", "caption": "x" * 5000}
    assert around(quotedAd=old) == {"ad": {"title": "Buffet", "body": "x" * 4096}}
    told = {"sourceId": "1", "originalImageUrl": LINK}
    assert around(externalAdReply=told) == {"ad": {"source_id": "1", "thumbnail_url": LINK}}


def test_a_link_card_is_no_ad() -> None:
    assert around(externalAdReply={"title": "Buffet", "sourceUrl": LINK}) == {}


def test_an_answer_to_a_story_says_so() -> None:
    assert around(remoteJid="status@broadcast") == {"answers_story": True}
    assert around(remoteJid="5511900000002@s.whatsapp.net", isForwarded=True) == {"forwarded": True}

"""Messages with buttons: templates, lists, native flows and their PIX cards. Pure.

The body of a kind, folded -> the columns of a message. Go's wrappers of oneofs are lifted already (see ``values``).
"""

from __future__ import annotations

from typing import Any, Final

from shared.providers.wapi.contents import Content, Reader, header_media
from shared.providers.wapi.values import (
    Json,
    amount_of,
    first_text,
    fold,
    fold_body,
    id_of,
    joined,
    json_in,
    list_of,
    name_of,
    objects_of,
    url_of,
)

_MAX_BUTTONS: Final = 50
_MAX_CARDS: Final = 20
_MAX_ROWS: Final = 200


def _template(body: Json) -> Content:
    hydrated = fold_body(body.get("hydratedtemplate")) or fold_body(body.get("hydratedfourrowtemplate"))
    if hydrated:
        return _hydrated(hydrated, template_id=body.get("templateid"))
    if interactive := fold_body(body.get("interactivemessagetemplate")):
        return _interactive(interactive)
    rows = fold_body(body.get("fourrowtemplate"))
    texts = (_hsm_text(fold_body(rows.get(row))) for row in ("highlystructuredmessage", "content", "footer"))
    return Content("template", joined(*texts), **header_media(rows))


def _hydrated(body: Json, *, template_id: object = None) -> Content:
    media = header_media(body)
    media["metadata"] |= {
        "buttons": [_hydrated_button(button) for button in objects_of(body.get("hydratedbuttons"), _MAX_BUTTONS)]
        or None,
        "template_id": id_of(body.get("templateid")) or id_of(template_id),
    }
    text = joined(body.get("hydratedtitletext"), body.get("hydratedcontenttext"), body.get("hydratedfootertext"))
    return Content("template", text, **media)


def _hydrated_button(button: Json) -> dict[str, Any]:
    inner = next(
        (fold(button[name]) for name in ("quickreplybutton", "urlbutton", "callbutton") if button.get(name)), {}
    )
    return _said(
        text=name_of(inner.get("displaytext")),
        id=id_of(inner.get("id")),
        url=url_of(inner.get("url")),
        phone=name_of(inner.get("phonenumber")),
    )


def _hsm(body: Json) -> Content:
    hydrated = fold_body(body.get("hydratedhsm"))
    if hydrated:
        return _template(hydrated)
    return Content("template", _hsm_text(body))


def _hsm_text(body: Json) -> str | None:
    return joined(body.get("elementname"), *list_of(body.get("params"))[:_MAX_ROWS])


def _buttons(body: Json) -> Content:
    media = header_media(body)
    media["metadata"] |= {
        "buttons": [
            _said(text=name_of(fold(button.get("buttontext")).get("displaytext")), id=id_of(button.get("buttonid")))
            for button in objects_of(body.get("buttons"), _MAX_BUTTONS)
        ]
        or None
    }
    return Content("template", joined(body.get("text"), body.get("contenttext"), body.get("footertext")), **media)


def _interactive(body: Json, *, depth: int = 2) -> Content:
    header, footer = fold_body(body.get("header")), fold_body(body.get("footer"))
    buttons = [
        (button, json_in(button.get("buttonparamsjson")))
        for button in objects_of(fold(body.get("nativeflowmessage")).get("buttons"), _MAX_BUTTONS)
    ]
    pix = next((found for _, params in buttons if (found := _pix(params))), None)
    cards = objects_of(fold(body.get("carouselmessage")).get("cards"), _MAX_CARDS) if depth else []
    read = [_interactive(card, depth=depth - 1) for card in cards]
    text = joined(
        header.get("title"), header.get("subtitle"), fold(body.get("body")).get("text"),
        pix and joined(pix.get("merchant_name"), pix.get("key")),
        footer.get("text"), *(card.content for card in read),
    )  # fmt: skip
    media = header_media(header, footer)
    if media["metadata"] == {}:
        media = next((_media_of(card) for card in read if card.media_direct_path or card.media_url), media)
    media["metadata"] = media["metadata"] | {
        "buttons": [_flow_button(*each) for each in buttons] or None,
        "pix": pix,
        "cards": [_said(text=card.content, **_said(**card.metadata)) for card in read] or None,
    }
    return Content("payment" if pix else "template", text, **media)


def _media_of(card: Content) -> dict[str, Any]:
    return {
        "media_url": card.media_url,
        "media_key": card.media_key,
        "media_direct_path": card.media_direct_path,
        "metadata": {"media_type": card.metadata.get("media_type"), "mimetype": card.metadata.get("mimetype")},
    }


def _flow_button(button: Json, params: Json) -> dict[str, Any]:
    return _said(
        kind=name_of(button.get("name")),
        text=name_of(params.get("display_text")) or name_of(params.get("title")),
        id=id_of(params.get("id")),
        url=url_of(params.get("url")),
        phone=name_of(params.get("phone_number")),
        code=name_of(params.get("copy_code")),
    )


def _pix(params: Json) -> dict[str, Any] | None:
    """A PIX card's key: ``payment_info`` and ``review_and_pay`` carry it, often without header and body."""
    for setting in objects_of(params.get("payment_settings"), _MAX_BUTTONS):
        code = fold(setting.get("pix_static_code")) or fold(setting.get("pix_dynamic_code"))
        if key := first_text(code, "key", "code"):
            total = fold(params.get("total_amount"))
            return _said(
                key=key,
                key_type=name_of(code.get("key_type")),
                merchant_name=name_of(code.get("merchant_name")),
                amount=amount_of(total.get("value"), total.get("offset")),
                reference=id_of(params.get("reference_id")),
            )
    return None


def _list(body: Json) -> Content:
    rows = [
        _said(title=name_of(row.get("title")), description=name_of(row.get("description")), id=id_of(row.get("rowid")))
        for section in objects_of(body.get("sections"), _MAX_ROWS)
        for row in objects_of(section.get("rows"), _MAX_ROWS)
    ]
    return Content(
        "list", joined(body.get("title"), body.get("description"), body.get("footertext")),
        metadata={"button": name_of(body.get("buttontext")), "rows": rows[:_MAX_ROWS] or None},
    )  # fmt: skip


def _said(**facts: Any) -> dict[str, Any]:  # noqa: ANN401 - JSON
    return {name: fact for name, fact in facts.items() if fact is not None}


BUTTONS: Final[dict[str, Reader]] = {
    "templatemessage": _template,
    "highlystructuredmessage": _hsm,
    "buttonsmessage": _buttons,
    "interactivemessage": _interactive,
    "listmessage": _list,
}
"""By folded names."""

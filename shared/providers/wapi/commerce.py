"""Orders, products, payments, events and invitations. Pure: the body of a kind, folded -> the columns of a message."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from shared.providers.wapi.contents import Content, Reader, read_media
from shared.providers.wapi.values import (
    Json,
    amount_of,
    bytes_of,
    first_text,
    fold,
    id_of,
    is_true,
    joined,
    name_of,
    number_of,
    shown_time,
    text_of,
    url_of,
)

if TYPE_CHECKING:
    from shared.core.previews import Label


def _order(body: Json) -> Content:
    return Content(
        "order",
        first_text(body, "message", "ordertitle"),
        label="order",
        metadata={
            "order_id": id_of(body.get("orderid")),
            "title": name_of(body.get("ordertitle")),
            "item_count": number_of(body.get("itemcount")),
            "amount": amount_of(body.get("totalamount1000"), 1000),
            "currency": name_of(body.get("totalcurrencycode")),
            "order_status": name_of(body.get("status")) or number_of(body.get("status")),
            "token": name_of(body.get("token")),
        },
    )


def _product(body: Json) -> Content:
    product, catalog = fold(body.get("product")), fold(body.get("catalog"))
    picture = read_media(fold(product.get("productimage") or catalog.get("catalogimage")), kind="image")
    return Content(
        "product",
        text_of(body.get("body"))
        or joined(product.get("title"), product.get("description"))
        or text_of(catalog.get("title")),
        media_url=picture.media_url,
        media_key=picture.media_key,
        media_direct_path=picture.media_direct_path,
        metadata={
            "title": name_of(product.get("title")),
            "product_id": id_of(product.get("productid")),
            "retailer_id": id_of(product.get("retailerid")),
            "amount": amount_of(product.get("salepriceamount1000") or product.get("priceamount1000"), 1000),
            "currency": name_of(product.get("currencycode")),
            "url": url_of(product.get("url")),
        },
    )  # fmt: skip


def _payment(body: Json, *, label: Label) -> Content:
    note = fold(body.get("notemessage"))
    money = fold(body.get("amount")) or fold(body.get("totalamount"))
    text = text_of(note.get("conversation")) or text_of(fold(note.get("extendedtextmessage")).get("text"))
    amount = amount_of(money.get("value"), money.get("offset")) or amount_of(body.get("amount1000"), 1000)
    return Content(
        "payment",
        text or first_text(body, "note", "description"),
        label=label,
        media_key=bytes_of(body.get("attachmentmediakey")),
        media_direct_path=text_of(body.get("attachmentdirectpath"), 4_096),
        metadata={
            "amount": amount,
            "currency": name_of(money.get("currencycode")) or name_of(body.get("currencycodeiso4217")),
            "mimetype": name_of(body.get("attachmentmimetype")),
            "service": name_of(body.get("servicetype")) or number_of(body.get("servicetype")),
            "expires_at": shown_time(body.get("expirytimestamp")),
        },
    )


# Events and invitations


def _event(body: Json) -> Content:
    return Content(
        "event",
        joined(body.get("name"), body.get("description")),
        metadata={
            "starts_at": shown_time(body.get("starttime")),
            "ends_at": shown_time(body.get("endtime")),
            "place": name_of(fold(body.get("location")).get("name")),
            "url": url_of(body.get("joinlink")),
            "cancelled": is_true(body.get("iscanceled")) or None,
        },
    )


def _titled(body: Json, *, label: Label, text: tuple[str, ...], starts_at: str | None = None) -> Content:
    return Content(
        "event",
        joined(*(body.get(name) for name in text)),
        label=label,
        metadata={
            "starts_at": starts_at and shown_time(body.get(starts_at)),
            "url": url_of(body.get("calllink")),
            "event_id": id_of(body.get("eventid")),
            "call_type": name_of(body.get("calltype")) or number_of(body.get("calltype")),
        },
    )


def _invite(body: Json, *, label: Label, name: str, jid: str) -> Content:
    return Content(
        "invite",
        first_text(body, "caption", name),
        label=label,
        metadata={
            "name": name_of(body.get(name)),
            "address": id_of(body.get(jid)),
            "code": id_of(body.get("invitecode")),
            "expires_at": shown_time(body.get("inviteexpiration")),
        },
    )


COMMERCE: Final[dict[str, Reader]] = {
    "ordermessage": _order,
    "productmessage": _product,
    "requestpaymentmessage": partial(_payment, label="payment_request"),
    "sendpaymentmessage": partial(_payment, label="payment"),
    "invoicemessage": partial(_payment, label="invoice"),
    "paymentinvitemessage": partial(_payment, label="payment"),
    "paymentremindermessage": partial(_payment, label="payment"),
    "splitpaymentmessage": partial(_payment, label="payment"),
    "eventmessage": _event,
    "eventinvitemessage": partial(_titled, label="event_invite", text=("eventtitle", "caption"), starts_at="starttime"),
    "scheduledcallcreationmessage": partial(
        _titled, label="call_scheduled", text=("title",), starts_at="scheduledtimestampms"
    ),
    "bcallmessage": partial(_titled, label="call_live", text=("caption",)),
    "groupinvitemessage": partial(_invite, label="group_invite", name="groupname", jid="groupjid"),
    "newsletteradmininvitemessage": partial(
        _invite, label="channel_invite", name="newslettername", jid="newsletterjid"
    ),
    "newsletterfollowerinvitemessagev2": partial(
        _invite, label="channel_invite", name="newslettername", jid="newsletterjid"
    ),
}
"""By folded names."""

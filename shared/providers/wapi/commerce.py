"""Orders, products, payments, events and invitations. Pure: the body of a kind, folded -> the columns of a message."""

from __future__ import annotations

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
    from shared.core.event import MessageType
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


def _payment(label: Label) -> Reader:
    def read(body: Json) -> Content:
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

    return read


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


def _titled(label: Label, *, kind: MessageType = "event", text: tuple[str, ...], **moments: str) -> Reader:
    def read(body: Json) -> Content:
        return Content(
            kind,
            joined(*(body.get(name) for name in text)),
            label=label,
            metadata={
                **{name: shown_time(body.get(field)) for name, field in moments.items()},
                "url": url_of(body.get("calllink")),
                "event_id": id_of(body.get("eventid")),
                "call_type": name_of(body.get("calltype")) or number_of(body.get("calltype")),
            },
        )

    return read


def _invite(label: Label, *, name: str, jid: str) -> Reader:
    def read(body: Json) -> Content:
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

    return read


COMMERCE: Final[dict[str, Reader]] = {
    "ordermessage": _order,
    "productmessage": _product,
    "requestpaymentmessage": _payment("payment_request"),
    "sendpaymentmessage": _payment("payment"),
    "invoicemessage": _payment("invoice"),
    "paymentinvitemessage": _payment("payment"),
    "paymentremindermessage": _payment("payment"),
    "splitpaymentmessage": _payment("payment"),
    "eventmessage": _event,
    "eventinvitemessage": _titled("event_invite", text=("eventtitle", "caption"), starts_at="starttime"),
    "scheduledcallcreationmessage": _titled("call_scheduled", text=("title",), starts_at="scheduledtimestampms"),
    "bcallmessage": _titled("call_live", text=("caption",)),
    "groupinvitemessage": _invite("group_invite", name="groupname", jid="groupjid"),
    "newsletteradmininvitemessage": _invite("channel_invite", name="newslettername", jid="newsletterjid"),
    "newsletterfollowerinvitemessagev2": _invite("channel_invite", name="newslettername", jid="newsletterjid"),
}
"""By folded names."""

"""What a message event says: who, what kind, which text and media. Pure: a folded event -> a change, or a reason.

The noise is named, everything else is a row (see ``fields``).
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from shared.core.event import Change, Message, Noise, Who
from shared.core.previews import NOT_YET, ONE_TIME_CODE, UNSUPPORTED, VIEW_ONCE
from shared.providers.wapi.addresses import who_of
from shared.providers.wapi.buttons import BUTTONS
from shared.providers.wapi.changes import read_change
from shared.providers.wapi.commerce import COMMERCE
from shared.providers.wapi.contents import CONTENTS, Content, Reader
from shared.providers.wapi.contexts import facts_of, quoted_id
from shared.providers.wapi.envelopes import NoMessageError, Opened, open_message, refuse_by_context
from shared.providers.wapi.fields import Field
from shared.providers.wapi.stubs import (
    DELETIONS,
    NEW_SUBJECT,
    is_stub,
    missed_call_in_log,
    missed_call_of,
    new_subject_of,
    stub_of,
    trace_of,
)
from shared.providers.wapi.values import Json, fold, fold_body, id_of, is_true, name_of, raw_of, text_of, url_of

if TYPE_CHECKING:
    from collections.abc import Mapping

READERS: Final[Mapping[str, Reader]] = {**CONTENTS, **BUTTONS, **COMMERCE}
"""Every content by its folded name; ``conversation`` is a plain text and needs none."""


def read_message(event: Json) -> Message | Change:
    """Read a ``webhookReceived`` or ``webhookDelivery``, folded, with its ``chat`` and ``sender``.

    Raises:
        NoMessageError: When it is none.
    """
    raw = event.get("msgcontent")
    outer = fold(raw)
    stub = stub_of(event, outer)
    try:
        opened = open_message(raw)
    except NoMessageError as nothing:
        who = who_of(event)
        if nothing.reason in (Noise.EMPTY, Noise.OTHER) and (read := _of_stub(event, outer, stub, who)):
            return read
        raise NoMessageError(Noise.STUB if stub and nothing.reason is Noise.OTHER else nothing.reason) from None
    who = who_of(event, destination=opened.destination)
    message_id = id_of(event.get("messageid"))
    if opened.field is Field.EDIT or (opened.field is Field.ACT and opened.name != "calllogmesssage"):
        name = name_of(event["sender"].get("pushname"))
        return read_change(opened, who, message_id, sender_name=name, content_of=content_of)
    if is_stub(stub, DELETIONS) and message_id is not None:
        return Change(do="delete", message_id=message_id, who=who)
    if message_id is None:
        raise NoMessageError(Noise.NO_MESSAGE_ID)
    content = content_of(opened, raw)
    context = fold(fold(opened.value).get("contextinfo"))
    refuse_by_context(context)
    facts = facts_of(context)
    if content.content is None and "ad" in facts:
        content = replace(content, content=facts["ad"].get("title") or facts["ad"].get("body"))
    return _message(event, who, message_id, content, facts, quoted=quoted_id(context, opened.context))


def content_of(opened: Opened, raw: object = None) -> Content:
    """What an opened message says; what cannot be read says so to people.

    Args:
        opened: Neither an edit nor what acts on another message.
        raw: The whole object, as it came: for the name of a kind that nobody knows yet.

    Raises:
        NoMessageError: When nothing is to be seen.
    """
    value = opened.value
    if opened.name == "conversation" and isinstance(value, str):
        return Content("text", text_of(value))
    read = READERS.get(opened.name)
    if read is not None and isinstance(value, dict):
        content = read(fold_body(value))
        if content.type == "text" and content.content is None and content.label is None:
            return _unsupported(opened, raw)
        if opened.is_view_once:
            content = replace(content, metadata=content.metadata | {"view_once": True})
        return content
    match opened.field:
        case Field.ACT:
            text = missed_call_in_log(fold(value))
            return Content("text", text, metadata={"system": "missed_call"})
        case Field.TRACE:
            code = opened.name == "placeholdermessage"
            return _trace(ONE_TIME_CODE if code else NOT_YET, "masked" if code else "sealed", may_come=not code)
        case Field.ENVELOPE if opened.is_view_once:
            return _trace(VIEW_ONCE, "view_once", may_come=True)
        case Field.ENVELOPE if isinstance(value, dict) and not any(value.values()):
            raise NoMessageError(Noise.EMPTY)
        case _:
            return _unsupported(opened, raw)


def _unsupported(opened: Opened, raw: object) -> Content:
    name = _name_as_it_came(raw, opened.name)
    return Content("unsupported", UNSUPPORTED, metadata={"kind": name, "raw": raw_of(opened.value)})


def _name_as_it_came(raw: object, folded: str, depth: int = 10) -> str:
    if isinstance(raw, dict) and depth:
        for name, each in raw.items():
            if name.lower() == folded:
                return name_of(name) or folded
            if isinstance(each, dict) and (found := _name_as_it_came(each, folded, depth - 1)) != folded:
                return found
    return folded


def _trace(text: str, reason: str, *, may_come: bool) -> Content:
    return Content("unsupported", text, metadata={"reason": reason, "stub": may_come or None})


def _of_stub(event: Json, outer: Json, stub: str | int | None, who: Who) -> Message | Change | None:
    """What an event without a message leaves behind, None when that is nothing."""
    message_id = id_of(event.get("messageid"))
    if message_id is None:
        return None
    if is_stub(stub, DELETIONS):
        return Change(do="delete", message_id=message_id, who=who)
    if is_stub(stub, NEW_SUBJECT) and who.group is not None:
        subject = new_subject_of(event, outer)
        return Change(do="rename", content=subject, who=who) if subject else None
    if call := missed_call_of(stub):
        return _message(event, who, message_id, Content("text", call, metadata={"system": "missed_call"}), {})
    if trace := trace_of(event, stub):
        content = _trace(trace.text, trace.reason, may_come=trace.may_come)
        return _message(event, who, message_id, content, {})
    return None


def is_echo(event: Json) -> bool:
    """Whether a folded event echoes what was sent through the API."""
    return is_true(event.get("fromme")) and is_true(event.get("fromapi"))


def _message(
    event: Json, who: Who, message_id: str, content: Content, facts: dict[str, Any], *, quoted: str | None = None
) -> Message:  # fmt: skip
    sender, chat = event["sender"], event["chat"]
    name = name_of(sender.get("pushname")) or name_of(sender.get("verifiedbizname"))
    metadata = {**content.metadata, **facts, "provider_event": event.get("event")}
    if who.group is not None and not who.from_me:
        metadata |= {"sender_name": name, "sender_phone": who.sender_phone, "sender_lid": who.sender_lid}
    is_theirs = who.group is None and not who.from_me
    return Message(
        **who.__dict__,
        message_id=message_id,
        contact_name=name if is_theirs else name_of(chat.get("subject")) if who.group is not None else None,
        contact_picture=url_of(chat.get("profilepicture"))
        or (url_of(sender.get("profilepicture")) if is_theirs else None),
        type=content.type,
        label=content.label,
        content=content.content,
        media_url=content.media_url,
        media_key=content.media_key,
        media_direct_path=content.media_direct_path,
        quoted_message_id=quoted,
        metadata={key: value for key, value in metadata.items() if value is not None},
    )

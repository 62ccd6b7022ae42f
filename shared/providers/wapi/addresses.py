"""Who it is: WhatsApp's addresses, and between whom a message is. Pure.

Suffixes as in whatsmeow's ``types/jid.go`` and Baileys' ``jid-utils.ts``. A device or agent (``:12``, ``.0:12``,
``_1``) is no part of an address.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from enum import Enum, auto
from functools import lru_cache
from typing import Final

from shared.core.event import Noise, Who
from shared.providers.wapi.envelopes import NoMessageError
from shared.providers.wapi.values import Json, id_of, is_true

_USER: Final = re.compile(r"\+?([0-9]{1,20})(?:[._][0-9]{1,4})?(?::[0-9]{1,4})?", re.ASCII)
_PHONE: Final = re.compile(r"[1-9][0-9]{7,14}", re.ASCII)
_LID: Final = re.compile(r"[0-9]{6,20}", re.ASCII)
_GROUP: Final = re.compile(r"[0-9]{6,25}(-[0-9]{6,15})?", re.ASCII)
_MAX_CONTACT_PHONE: Final = 13
"""LIDs have 13 to 15 digits; more than so many without a suffix are not taken for a phone."""
_SHORTEST_GROUP: Final = 16
"""Digits of a group that comes without its suffix: no phone and no LID is so long."""
_AREA_CODES: Final = "1[1-9]|2[12478]|3[1-578]|4[1-9]|5[1345]|6[1-9]|7[134579]|8[1-9]|9[1-9]"
_BRAZILIAN_MOBILE: Final = re.compile(rf"55({_AREA_CODES})9?([6-9][0-9]{{7}})", re.ASCII)
_NOBODYS_PHONE: Final = re.compile(r"0|16505361212|1313555[0-9]{4}|131655500[0-9]{2}", re.ASCII)
"""WhatsApp's announcements; Meta AI as phones."""


class Place(Enum):
    """What kind of address it is."""

    PHONE = auto()
    LID = auto()
    GROUP = auto()
    STORY = auto()
    BROADCAST = auto()
    NEWSLETTER = auto()
    NOBODY = auto()
    """A bot, a call, another network, WhatsApp itself."""
    BARE = auto()
    """Digits without a suffix that may be a phone or a LID."""
    UNREADABLE = auto()


_SERVERS: Final = {
    "s.whatsapp.net": Place.PHONE,
    "c.us": Place.PHONE,
    "hosted": Place.PHONE,
    "lid": Place.LID,
    "hosted.lid": Place.LID,
    "g.us": Place.GROUP,
    "broadcast": Place.BROADCAST,
    "newsletter": Place.NEWSLETTER,
    "bot": Place.NOBODY,
    "call": Place.NOBODY,
    "msgr": Place.NOBODY,
    "interop": Place.NOBODY,
}


@dataclass(frozen=True, slots=True)
class Address:
    """An address without its suffix and device."""

    place: Place
    user: str

    @property
    def lid(self) -> str | None:
        """As a LID is stored."""
        return f"{self.user}@lid" if self.place is Place.LID else None


def address_of(value: object) -> Address | None:
    """Read an address, None when there is none."""
    text = id_of(value)
    return None if text is None else _read_address(text)


@lru_cache(maxsize=4096)  # the same few chats again and again
def _read_address(text: str) -> Address:
    user, at, server = text.strip().rpartition("@")
    if not at:
        user, server = server, ""
    if user == "status" and server in ("", "broadcast"):
        return Address(Place.STORY, user)
    place = _SERVERS.get(server.lower(), Place.UNREADABLE) if at else Place.BARE
    if place is Place.BARE and "-" in user and _GROUP.fullmatch(user):
        place = Place.GROUP  # an old one without its suffix: <phone>-<time>
    if place is Place.GROUP:
        return Address(Place.GROUP if _GROUP.fullmatch(user) else Place.UNREADABLE, user)
    digits = _USER.fullmatch(user)
    if place in (Place.BROADCAST, Place.NEWSLETTER, Place.NOBODY):
        return Address(place, user)
    if digits is None:
        return Address(Place.NOBODY if user == "server" else Place.UNREADABLE, user)
    return _of_digits(place, digits[1])


_DIGITS: Final = {Place.PHONE: _PHONE, Place.LID: _LID, Place.BARE: _LID}


def _of_digits(place: Place, user: str) -> Address:
    if place in (Place.PHONE, Place.BARE) and _NOBODYS_PHONE.fullmatch(user):
        place = Place.NOBODY
    elif place not in _DIGITS or not _DIGITS[place].fullmatch(user):
        place = Place.UNREADABLE
    return Address(place, user)


def canonical_phone(phone: str) -> str:
    """One phone for both forms of a Brazilian mobile: 55, area code, nine, eight digits from 6 to 9.

    Landlines (2 to 5) have no other form; nor have the mobiles that were born with their nine before 1 to 5.
    """
    found = _BRAZILIAN_MOBILE.fullmatch(phone)
    return f"55{found[1]}9{found[2]}" if found else phone


def is_of_story(event: Json) -> bool:
    """Whether a folded event is about a story. An answer to one is a direct message: judged by the chat alone."""
    address = address_of(event["chat"].get("id"))
    return address is not None and address.place is Place.STORY


def who_of(event: Json, *, destination: object = None) -> Who:
    """Between whom a folded event is; on ``fromMe`` the other side is only in ``chat.id``.

    Args:
        event: Folded, with its ``chat`` and ``sender``.
        destination: Of a message that another device of ours sent.

    Raises:
        NoMessageError: When it is neither a person nor a group.
    """
    from_me = is_true(event.get("fromme"))
    sender = event["sender"]
    chat = _chat_of(event, sender, destination, from_me=from_me)
    if chat.place in _NO_CHAT:
        raise NoMessageError(_NO_CHAT[chat.place])
    phone, lid = (None, None) if from_me else _sender(event, sender)
    if chat.place is Place.GROUP:
        return Who(from_me=from_me, group=f"{chat.user}@g.us", phone=None, lid=None, sender_phone=phone, sender_lid=lid)
    if chat.place is Place.BROADCAST:
        # Somebody's broadcast list: what came through it belongs to its sender, what went through ours to nobody.
        if phone is None and lid is None:
            raise NoMessageError(Noise.BROADCAST)
        return Who(from_me=False, group=None, phone=phone, lid=lid)
    if chat.place is Place.LID or (chat.place is Place.BARE and _is_lid(chat.user, lid)):
        other = phone if phone != chat.user else None
        return Who(from_me=from_me, group=None, phone=other, lid=f"{chat.user}@lid")
    if not _PHONE.fullmatch(chat.user):
        raise NoMessageError(Noise.CHAT_UNREADABLE)
    is_dialled = from_me and is_true(event.get("fromapi"))
    return Who(from_me=from_me, group=None, phone=chat.user, lid=lid, is_dialled=is_dialled)


_NO_CHAT: Final = {
    Place.STORY: Noise.STORY,
    Place.NEWSLETTER: Noise.NEWSLETTER,
    Place.NOBODY: Noise.NOT_A_PERSON,
    Place.UNREADABLE: Noise.CHAT_UNREADABLE,
}


def _chat_of(event: Json, sender: Json, destination: object, *, from_me: bool) -> Address:
    """The chat; of a direct message without one it is the sender's, or where another device of ours sent it."""
    is_group = is_true(event.get("isgroup"))
    chat = address_of(event["chat"].get("id"))
    if chat is None and not is_group:
        chat = address_of(destination if from_me else sender.get("id"))
    if chat is None:
        raise NoMessageError(Noise.NO_CHAT)
    if chat.place is Place.BARE and len(chat.user) >= _SHORTEST_GROUP:
        return Address(Place.GROUP if is_group else Place.UNREADABLE, chat.user)
    return chat


def _is_lid(digits: str, lid: str | None) -> bool:
    return len(digits) > _MAX_CONTACT_PHONE or lid == f"{digits}@lid"


def _sender(event: Json, sender: Json) -> tuple[str | None, str | None]:
    """A sender's phone, unless it is a LID in disguise, and LID; nothing if the sender is the line itself."""
    lid = _lid_of(sender.get("senderlid")) or _lid_of(sender.get("lid")) or _lid_of(event.get("senderlid"))
    raw = address_of(sender.get("id"))
    if raw is not None and raw.place is Place.LID:
        lid = lid or raw.lid
    phone = _phone_of(raw, lid)
    for name in ("phonenumber", "senderpn", "pn"):
        phone = phone or _phone_of(address_of(sender.get(name)), lid)
    own_phone, own_lid = address_of(event.get("connectedphone")), _lid_of(event.get("connectedlid"))
    is_own = (
        phone is not None
        and own_phone is not None
        and phone[-8:] == own_phone.user[-8:]
        and canonical_phone(phone) == canonical_phone(own_phone.user)
    )
    return (None, None) if is_own or (lid is not None and lid == own_lid) else (phone, lid)


def _lid_of(value: object) -> str | None:
    """A field that holds a LID, with or without its suffix."""
    address = address_of(value)
    return f"{address.user}@lid" if address is not None and address.place in (Place.LID, Place.BARE) else None


def _phone_of(address: Address | None, lid: str | None) -> str | None:
    if address is None or address.place not in (Place.PHONE, Place.BARE) or lid == f"{address.user}@lid":
        return None
    if address.place is Place.BARE and len(address.user) > _MAX_CONTACT_PHONE:
        return None
    return address.user if _PHONE.fullmatch(address.user) else None

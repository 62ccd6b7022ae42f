"""Contacts, and channels that tell what they were given: for tests of what waits and what is sent."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from composites import EVIDENCE, POLICY, POLICY_ROW, evidence
from psycopg.types.json import Jsonb

from shared.core.delivery import SendAnswer, SendResult
from shared.core.notices import TEXTS
from shared.deliveries import Deliveries

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta
    from uuid import UUID

    from pydantic import SecretStr
    from world import Line, World

    from shared.core.delivery import Post, SendingLine
    from shared.database.outbox import Outbox

YES = SendAnswer(SendResult.SENT)
NO = SendAnswer(SendResult.REFUSED, "http_500")
NOTHING_HEARD = SendAnswer(SendResult.UNCLEAR, "timeout")
OPERATOR = "a" * 32
_A_DAY = 24 * 60 * 60
_ON_ITS_WAY = 10
"""Seconds: what is sent just before a quiet hour begins may arrive in it."""


def contact(
    world: World, company: UUID | None, address: str, *, channel: str = "email", after: int = 0, position: int = 1, **more: Any
) -> UUID:  # fmt: skip
    """A contact that is never quiet unless told otherwise."""
    row = {
        "company_id": company, "channel": channel, "address": address, "after_minutes": after, "position": position,
        "quiet_from": None, "quiet_until": None, **more,
    }  # fmt: skip
    names, marks = ", ".join(row), ", ".join(["%s"] * len(row))
    [made] = world.sql(f"insert into public.alert_contacts ({names}) values ({marks}) returning id", *row.values())
    return made["id"]


def bring_back(world: World, line: Line) -> None:
    """A line that a look has found alive."""
    world.database.execute(
        f"select public.bring_instance_back(i, now(), 'alive', %(texts)s, {EVIDENCE}, {POLICY})"
        " from public.wapi_instances i where id = %(line)s",
        {"texts": Jsonb(TEXTS), "line": line.id, "evidence": evidence("ALIVE"), "policy": POLICY_ROW},
    )


@dataclass
class Receiver:
    """A channel of every kind: what it was given, and what it answers."""

    answers: Callable[[str, Post], SendAnswer] = lambda _address, _post: YES
    got: list[tuple[str, Post]] = field(default_factory=list)
    at_once: int = 0
    most_at_once: int = 0

    async def send(self, address: SecretStr, post: Post, *, within: timedelta) -> SendAnswer:  # noqa: ARG002
        return await self._take(address.get_secret_value(), post)

    async def send_text(self, line: SendingLine, phone: SecretStr, text: str, *, within: timedelta) -> SendAnswer:  # noqa: ARG002
        from shared.core.delivery import Post  # noqa: PLC0415 - at run time only here

        return await self._take(phone.get_secret_value(), Post("", "", text))

    async def _take(self, address: str, post: Post) -> SendAnswer:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.got.append((address, post))
        self.at_once -= 1
        return self.answers(address, post)

    @property
    def texts(self) -> list[tuple[str, str]]:
        return [(address, post.text) for address, post in self.got]

    def to(self, address: str) -> list[str]:
        return [post.text for to, post in self.got if to == address]


def sender(receiver: Receiver, *, line: str | None = None, operator: bool = True, email: bool = True) -> Deliveries:
    """Production's sending, to a receiver."""
    channels: dict[str, Any] = {"email": receiver} if email else {}
    if operator:
        channels[f"operator:{OPERATOR}"] = receiver
    return Deliveries(channels, receiver, line=line)


async def deliver(deliveries: Deliveries, outbox: Outbox) -> None:
    """One round of the housekeeping."""
    await deliveries.deliver(outbox, deadline=asyncio.get_running_loop().time() + 30)


def deliveries_of(world: World) -> list[tuple[str, str, str, str | None]]:
    rows = world.sql(
        "select c.address, d.kind, d.state, d.note from public.notice_deliveries d"
        " left join public.alert_contacts c on c.id = d.contact_id order by d.id"
    )
    return [(row["address"], row["kind"], row["state"], row["note"]) for row in rows]


class Contacts:
    """Contacts of every company of a history, and what must hold of what they hear; judged from tables and messages.

    Their channel says yes, no, or nothing that is heard, in turns. Some are left in peace for ten hours a day, the first
    time half an hour after the history's begin.
    """

    _TURNS = (YES, YES, NO, YES, NOTHING_HEARD, YES)

    def __init__(self, world: World, companies: list[UUID]) -> None:
        self._world = world
        self._asked = 0
        self._judged = 0
        self._sent: set[str] = set()
        self._in_quiet_hours: list[str] = []
        self.out_of_quiet_hours = 0
        self._heard: set[str] = set()
        self.addresses: dict[str, str] = {}
        [night] = world.sql(
            "select t + interval '30 minutes' as quiet_from, t + interval '630 minutes' as quiet_until"
            " from (select (now() at time zone 'America/Sao_Paulo')::time as t) t"
        )
        for number, company in enumerate(companies):
            for position, after, quiet in ((1, 0, ""), (1, 15, ""), (1, 0, "night"), (2, 0, "")):
                address = f"contact-{number}-{position}-{after}{quiet}@example.com"
                contact(world, company, address, after=after, position=position, **(night if quiet else {}))
                self.addresses[address] = str(company)
        self.receiver = Receiver(self._answer)
        self.deliveries = sender(self.receiver)

    def _answer(self, address: str, post: Post) -> SendAnswer:
        self._asked += 1
        self._note_hour(address, post)
        return self._TURNS[self._asked % len(self._TURNS)]

    def _note_hour(self, address: str, post: Post) -> None:
        """Whether it came in quiet hours, which pass with the history's time; what a channel raises, nobody would hear."""
        for row in self._world.sql(
            "select extract(epoch from t - c.quiet_from) as passed, extract(epoch from c.quiet_until - c.quiet_from) as length"
            " from public.alert_contacts c, lateral (select (now() at time zone c.zone)::time as t) t"
            " where c.quiet_from is not null and c.address = %s",
            address,
        ):
            is_quiet = _ON_ITS_WAY < row["passed"] % _A_DAY < row["length"] % _A_DAY
            self._in_quiet_hours += [post.id] * is_quiet
            self.out_of_quiet_hours += not is_quiet

    def die(self) -> None:
        """Forget what a process that has just died remembered."""
        self.deliveries = sender(self.receiver)

    def judge(self, log: str) -> None:
        """Nobody hears of another company, in quiet hours, again after a yes, or "voltou" first; no address is logged."""
        assert self._in_quiet_hours == [], f"sent in quiet hours: {self._in_quiet_hours}"
        rows = self._world.sql(
            "select d.*, c.address, c.company_id as contacts_company, o.company_id as outages_company from public.notice_deliveries d"
            " join public.alert_contacts c on c.id = d.contact_id left join public.instance_outages o on o.id = d.outage_id"
        )
        for row in rows:
            assert row["contacts_company"] == row["company_id"], f"a message to another company: {row['id']}"
            if row["kind"] != "back" and row["unheard"]:  # claimed by a sweep that died: it may have been sent
                self._heard.add(row["address"])
        companies = {f"alert-{row['batch']}": str(row["company_id"]) for row in rows if row["company_id"]}
        for address, post in self.receiver.got[self._judged :]:
            assert post.id not in self._sent, f"{post.id} was sent again after a yes that was kept"
            if address in self.addresses:
                assert companies[post.id] == self.addresses[address], f"{post.id} went to another company"
                assert "voltou" not in post.text or address in self._heard, f"{post.id}: back, who heard of nothing"
                self._heard.add(address)
            assert address not in log, "an address was logged"
        self._judged = len(self.receiver.got)
        self._sent = {f"alert-{row['batch']}" for row in rows if row["state"] == "sent"}

    def let_all_be_sent(self) -> None:
        """From now on every channel works, nobody is left in peace, and what waits to be tried again is due."""
        self.receiver.answers = lambda _address, _post: YES
        self._world.sql("update public.alert_contacts set quiet_from = null, quiet_until = null")
        self._world.sql("update public.notice_deliveries set due_at = least(due_at, now()) where state = 'waiting'")

    def judge_end(self, answered: set[str]) -> None:
        """Whoever may have heard that a line is down has heard that it is back, where it is back for its company.

        Args:
            answered: Lines that were paused, slept or moved: that answers what was told before.
        """
        left = self._world.sql(
            "select i.unit, d.kind, d.state, d.note from public.wapi_instances i"
            " join public.alert_contacts c on c.company_id = i.company_id"
            " cross join lateral (select * from public.notice_deliveries d where d.instance_id = i.id and d.contact_id = c.id"
            # That it is back was tried for a day, and given up: nobody sweeps for so long in some histories.
            "   and (d.state = 'sent' or d.unheard > 0 or d.kind = 'back' and d.state = 'given_up') order by d.id desc limit 1) d"
            " join public.instance_outages o on o.id = d.outage_id"
            " where d.kind <> 'back' and i.status = 'connected' and i.is_active is not false"
            " and o.closed_as in ('recovered', 'alive', 'event') and o.company_id = i.company_id and i.id <> all (%s::uuid[])",
            list(answered),
        )
        assert left == [], f"contacts wait for the word that it is back: {left}"

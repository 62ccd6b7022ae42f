"""Words and numbers that Python and SQL share: a type there, a check or a composite here."""

from __future__ import annotations

import re
from dataclasses import fields
from datetime import UTC, datetime
from typing import TYPE_CHECKING
from uuid import uuid4

import pytest
from psycopg.types.json import Jsonb
from pydantic import SecretStr

from shared.core.alerts import AlertCause, words_of
from shared.core.model import (
    AuditKind,
    Evidence,
    Instance,
    Observation,
    OutageClosing,
    OutageOpener,
    Sighting,
    Source,
)
from shared.core.mute import MuteClosing, MuteProof
from shared.core.notices import TEXTS, FallKind, NoticeKind, NoticeState, NoticeText, NoticeType
from shared.core.policy import DeliveryPolicy, MutePolicy, Policy
from shared.database.composites import (
    POLICY_FIELDS,
    delivery_policy_row,
    event_row,
    evidence_row,
    policy_row,
    sighting_row,
)
from shared.database.mutes import mute_policy_row
from shared.providers.wapi.events import parse_event

if TYPE_CHECKING:
    from enum import StrEnum

    from world import World

CHECKS: dict[str, type[StrEnum]] = {
    "known_opener": OutageOpener,
    "known_closing": OutageClosing,
    "known_audit_kind": AuditKind,
    "known_source": Source,
    "known_telling": FallKind,
    "known_notice_kind": NoticeKind,
    "known_notice_state": NoticeState,
    "known_mute_proof": MuteProof,
    "known_mute_closing": MuteClosing,
}


@pytest.mark.parametrize("check", CHECKS)
def test_a_closed_set_of_words_is_the_same_in_python_and_in_sql(world: World, check: str) -> None:
    [row] = world.sql("select pg_get_constraintdef(oid) as words from pg_constraint where conname = %s", check)
    assert set(re.findall(r"'(\w+)'", row["words"])) == {word.value for word in CHECKS[check]}


def fields_of(world: World, composite: str) -> list[str]:
    rows = world.sql(
        "select attname from pg_attribute a join pg_type t on t.typrelid = a.attrelid"
        " where t.oid = %s::regtype and attnum > 0 order by attnum",
        f"public.{composite}",
    )
    return [row["attname"] for row in rows]


def test_every_number_that_sql_needs_comes_from_the_policy(world: World) -> None:
    row = policy_row(Policy())
    assert list(row) == list(POLICY_FIELDS)
    assert set(fields_of(world, "recovery_policy")) == set(row) <= {field.name for field in fields(Policy)}
    [read] = world.sql("select (jsonb_populate_record(null::public.recovery_policy, %s)).*", Jsonb(row))
    wanted = {name: getattr(Policy(), name) for name in row}
    assert read == {name: list(value) if isinstance(value, tuple) else value for name, value in wanted.items()}


def test_every_number_of_mute_lines_that_sql_needs_comes_from_their_policy(world: World) -> None:
    row = mute_policy_row(MutePolicy(), Policy().event_ahead)
    assert list(row) == fields_of(world, "mute_policy")
    [read] = world.sql("select (jsonb_populate_record(null::public.mute_policy, %s)).*", Jsonb(row))
    assert read == {name: getattr(MutePolicy(), name, Policy().event_ahead) for name in row}
    assert MutePolicy().life_kept_each == Policy().life_kept_each


def test_every_number_of_the_outbox_comes_from_its_policy(world: World) -> None:
    assert fields_of(world, "delivery_policy") == list(delivery_policy_row(DeliveryPolicy()))


def test_every_cause_has_words_that_its_details_fill() -> None:
    for cause in AlertCause:
        title, text = words_of(cause, {}, is_over=False)
        assert title != cause
        assert "{" not in text
        assert words_of(cause, {}, is_over=True)[0] == f"Resolved: {title}"
    assert words_of("of_a_later_version", {}, is_over=False) == ("of_a_later_version", "")


def test_a_sighting_and_its_evidence_cross_with_all_their_fields(world: World) -> None:
    now = datetime.now(UTC)
    instance = Instance(
        id=uuid4(), external_id="LITE-1", token=SecretStr("t"), token_hash="h", raw_status="connected", unit=None,
        company_id=None, lease=now, last_health_check=None, auto_recovery_attempts=0, last_restart_at=None,
        degraded_since=None, bad_since=None, unknown_since=None, unknown_looks=0, unverified_since=None,
        pairing_since=None, was_ever_connected=True, last_event_at=None, phone_number=None, outage=None,
    )  # fmt: skip
    sighting = Sighting(instance, Observation.GHOST, Observation.GHOST, "no_phone", now)
    assert set(sighting_row(sighting)) == set(fields_of(world, "sighting"))
    why = sighting.evidence(uuid4())
    assert set(evidence_row(why)) == set(fields_of(world, "evidence"))
    assert (why.source, why.reason, why.observation, why.cause) == ("sweep", "ghost", "GHOST", "no_phone")
    assert Evidence(Source.WEBHOOK, "event").event_id is None


def test_an_event_crosses_with_all_its_fields(world: World) -> None:
    event = parse_event(b'{"event": "webhookConnected", "instanceId": "LITE-1", "connectedPhone": "5511900000001"}')
    assert set(event_row(event, relay=False, relay_limit=0)) == set(fields_of(world, "webhook_event"))


def test_every_text_names_the_kind_of_its_notice_and_the_type_that_the_bell_knows() -> None:
    texts = {name: text for name, text in TEXTS.items() if name not in ("downtime", "moment")}
    assert set(texts) == set(NoticeText.__args__)  # type: ignore[attr-defined]
    for text in texts.values():
        assert text["kind"] in set(NoticeKind)
        assert text["type"] in set(NoticeType)

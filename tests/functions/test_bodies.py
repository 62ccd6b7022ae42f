"""Bodies that are packed, and bodies that are no event: nothing is lost for its form, and an operator can see what came."""

from __future__ import annotations

import gzip
import json
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from world import World


def rejected(world: World) -> list[dict[str, Any]]:
    return world.sql(
        "select body, outcome, processed_at is not null as is_done from public.wapi_webhook_events where kind = 'rejected' order by id"
    )


def test_a_packed_event_is_an_event(world: World) -> None:
    line = world.line(world.company())
    event = {
        "event": "webhookReceived", "instanceId": line.external_id, "messageId": "GZ1", "chat": {"id": "5511911112222"},
        "moment": 1_790_000_000, "msgContent": {"conversation": "Oi"},
    }  # fmt: skip
    packed = gzip.compress(json.dumps(event).encode())
    assert world.post(None, content=packed, headers={"Content-Encoding": "gzip"}).json() == {"outcome": "stored"}
    assert world.post(None, content=packed).json() == {"outcome": "duplicate"}
    assert [row["content"] for row in world.sql("select content from public.wapi_messages")] == ["Oi"]


def test_a_body_that_is_no_event_is_kept_once_and_so_many_in_an_hour(world: World) -> None:
    for body in (b"event=webhookReceived", b"event=webhookReceived", b"\xff\x00{", b"[]", b"", b"  "):
        assert world.post(None, content=body).status_code == 400
    assert rejected(world) == [
        {"body": "event=webhookReceived", "outcome": "the body is not JSON", "is_done": True},
        {"body": "\\xff\\x00{", "outcome": "the body is not UTF-8", "is_done": True},
        {"body": "[]", "outcome": "the body is not a JSON object", "is_done": True},
    ]
    world.sql(
        "insert into public.wapi_webhook_events (event_key, kind, body)"
        " select 'more ' || n, 'rejected', 'x' from generate_series(1, 57) n"
    )
    assert world.post(None, content=b"one too many").status_code == 400
    assert len(rejected(world)) == 60
    world.sql("update public.wapi_webhook_events set received_at = received_at - interval '1 hour'")
    assert world.post(None, content=b"one too many").status_code == 400
    assert len(rejected(world)) == 61


def test_nobody_without_a_key_has_anything_kept(world: World) -> None:
    assert world.post(None, content=b"x", key="a-wrong-key-of-some-length").status_code == 401
    assert rejected(world) == []

"""A key a line: who reads a line's address speaks for that line alone."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import pytest
from loopback import http
from pydantic import SecretStr
from served import FunctionServer
from test_relay import Handler
from world import OLD_SECRET, SECRET, webhook_environment

from shared.core.secrets import line_key

if TYPE_CHECKING:
    from world import Line, World


def key(line: Line, secret: str = SECRET) -> str:
    return line_key(SecretStr(secret), line.external_id)


def inbox(world: World) -> list[dict[str, Any]]:
    return world.sql("select external_id, instance_id, outcome from public.wapi_webhook_events order by id")


def test_a_member_who_reads_their_lines_address_speaks_for_no_line_of_another_company(world: World) -> None:
    """Section 9: a member reads their line's token and the address."""
    theirs = world.line(world.company("Casa de Festas"), session="disconnected")
    other = world.line(world.company(users=1), session="disconnected")
    for event in (
        world.disconnection(other),
        world.connection(other) | {"connectedPhone": "5511977777777"},
        world.message(other),
        world.disconnection(other) | {"instanceId": f" {other.external_id} "},
    ):
        assert world.post(event, key=key(theirs)).status_code == 401

    assert (inbox(world), world.status(other), world.row(other)["phone_number"]) == ([], "connected", other.phone)
    assert world.sql("select * from public.wapi_messages") == []


@pytest.mark.parametrize("secret", [SECRET, OLD_SECRET], ids=["the new secret's", "the old secret's in a rotation"])
def test_a_lines_key_speaks_for_the_line_with_and_without_its_id(world: World, secret: str) -> None:
    line = world.line(world.company(users=1), session="disconnected")
    without = {"event": "x"}

    named = world.disconnection(line) | {"instanceId": f"  {line.external_id} "}
    assert world.post(named, key=key(line, secret)).json() == {"outcome": "disconnected"}
    assert world.post(without, key=key(line, secret)).json() == {"outcome": "kept"}
    assert world.post(without | {"instanceId": None}, key=key(line, secret)).status_code == 200

    assert {(row["external_id"], row["instance_id"]) for row in inbox(world)} == {(line.external_id, line.id)}


def test_equal_bodies_of_two_lines_that_name_none_are_two_events(world: World) -> None:
    company = world.company(users=1)
    lines = world.lines(company, 2, session="disconnected")
    event = {"event": "webhookDisconnected", "disconnected": True, "moment": int(time.time())}

    assert [world.post(event, key=key(line)).json()["outcome"] for line in lines] == ["disconnected"] * 2
    assert world.post(event, key=key(lines[0])).json()["outcome"] == "duplicate"
    assert len(world.bells()) == 2


def test_with_line_keys_only_the_plain_secret_opens_nothing_and_the_handler_hears_whose_event_it_is(
    world: World,
) -> None:
    """The body goes on as it came; the header says what the key has said."""
    line = world.line(world.company(users=1))
    odd = "LITE é\r\nX-Evil: 1"
    body = b'{"event" : "x", "n": 1}'
    with Handler() as handler:
        settings = webhook_environment(world.stack, world.simulator) | {
            "EVENT_RELAY_URL": handler.url,
            "WAPI_WEBHOOK_LINE_KEYS_ONLY": "true",
        }
        with FunctionServer("wapi_webhook", settings) as server:

            def post(given: str) -> int:
                return http.post(server.url, params={"key": given}, content=body).status_code

            assert [post(SECRET), post(OLD_SECRET)] == [401, 401]
            assert [post(key(line)), post(line_key(SecretStr(SECRET), odd))] == [200, 200]

        assert handler.raw == [body, body]
        assert handler.of == [line.external_id, "LITE%20%C3%A9%0D%0AX-Evil%3A%201"]

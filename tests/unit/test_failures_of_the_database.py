"""Unavailable by class: whatever is not the database's own word passes by itself."""

from __future__ import annotations

import asyncio
import json

import httpx
import pytest
from pydantic import SecretStr

from shared.core.policy import Policy
from shared.database.failures import failure_of_database, speaks_for_itself
from shared.database.store import connect
from shared.errors import StoreError, StoreRefused, StoreUnavailable

PAGE = b"<html>Bad gateway</html>"


async def failing(*answers: httpx.Response) -> tuple[StoreError | None, int]:
    """What the store says of answers, one after another, the last one for ever; and how often it asked."""
    asked = 0

    def answer(_: httpx.Request) -> httpx.Response:
        nonlocal asked
        asked += 1
        given = answers[min(asked, len(answers)) - 1]
        return httpx.Response(given.status_code, content=given.content, headers=given.headers)

    async with httpx.AsyncClient(transport=httpx.MockTransport(answer)) as http:
        store = connect("https://project.example", SecretStr("sb_secret_0123456789"), http, Policy())
        try:
            await store.enter_brake()
        except StoreError as error:
            return error, asked
        return None, asked


def said(status: int, **body: object) -> httpx.Response:
    return httpx.Response(status, json=body)


@pytest.mark.parametrize(
    "status", [400, 402, 404, 405, 408, 413, 425, 429, 500, 502, 503, 504, 520, 522, 525, 540, 544]
)
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b'{"code": "", "message": ""}', id="an empty code"),
        pytest.param(b'{"message": "over quota"}', id="JSON without a code"),
        pytest.param(b'{"code": 521, "message": "x"}', id="a number for a code"),
        pytest.param(b'{"code": "no_such_thing", "error": "x"}', id="a word of somebody else's"),
        pytest.param(b'["x"]', id="a list"),
        pytest.param(PAGE, id="a page"),
        pytest.param(b"", id="nothing"),
    ],
)
async def test_an_error_without_the_databases_word_is_unavailable_under_its_number(status: int, body: bytes) -> None:
    error, asked = await failing(httpx.Response(status, content=body))
    assert isinstance(error, StoreUnavailable)
    assert (error.code, asked) == (str(status), 1)


@pytest.mark.parametrize("status", [401, 403])
@pytest.mark.parametrize("body", [b'{"message": "Invalid API key"}', PAGE, b""])
async def test_a_key_that_a_gateway_refuses_says_its_number(status: int, body: bytes) -> None:
    error, _ = await failing(httpx.Response(status, content=body))
    assert isinstance(error, StoreRefused)
    assert error.code == str(status)


@pytest.mark.parametrize("code", ["PGRST301", "PGRST302"])
async def test_a_key_that_postgrest_refuses_says_401(code: str) -> None:
    error, _ = await failing(said(401, code=code, message="JWT"))
    assert isinstance(error, StoreRefused)
    assert error.code == "401"


@pytest.mark.parametrize("code", ["42501", "42883", "22P02", "23514", "P0001", "XX000", "PGRST203", "PGRST100"])
async def test_the_databases_own_no_is_refused(code: str) -> None:
    error, asked = await failing(said(400, code=code, message="x"))
    assert isinstance(error, StoreRefused)
    assert (error.code, asked) == (code, 1)


@pytest.mark.parametrize(
    "code", ["08006", "25006", "53300", "55P03", "57014", "57P01", "58030", "PGRST000", "PGRST002", "PGRST003"]
)
async def test_the_databases_own_not_now_is_unavailable(code: str) -> None:
    error, asked = await failing(said(503, code=code, message="x"))
    assert isinstance(error, StoreUnavailable)
    assert (error.code, asked) == (code, 1)


@pytest.mark.parametrize("code", ["40001", "40P01", "PGRST303", "PGRST202", "PGRST205"])
async def test_what_had_no_effect_is_asked_again_and_at_last_unavailable(
    code: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    waits: list[float] = []
    mine, really_sleep = asyncio.current_task(), asyncio.sleep

    async def sleep(seconds: float) -> None:
        if asyncio.current_task() is mine:
            waits.append(seconds)
        else:  # a server of other tests that lives in this process
            await really_sleep(seconds)

    monkeypatch.setattr("asyncio.sleep", sleep)
    error, asked = await failing(said(404, code=code, message="x"))
    assert isinstance(error, StoreUnavailable)
    assert (error.code, asked, len(waits)) == (code, 4, 3)
    assert sum(waits) <= 3  # less than one try of an event may take

    error, asked = await failing(said(404, code=code, message="x"), httpx.Response(200, json=True))
    assert (error, asked) == (None, 2)


def test_an_answer_speaks_for_itself_when_it_names_an_sqlstate_or_a_code_of_postgrests() -> None:
    assert speaks_for_itself(json.dumps({"code": "42P01"}).encode())
    assert speaks_for_itself(json.dumps({"code": "PGRST116"}).encode())
    assert not speaks_for_itself(b"[" * 100_000)


@pytest.mark.parametrize("code", [None, "", "200", "no code", "FetchError"])
def test_a_client_that_cannot_tell_speaks_of_no_answer(code: str | None) -> None:
    error = failure_of_database("claim_instances", code)
    assert isinstance(error, StoreUnavailable)
    assert str(error) == f"claim_instances: {code or 'not an answer'}"

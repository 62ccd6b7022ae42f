"""The wire under our code: every request goes through here, and at one of them something can happen.

A test interrupts a sweep or an event at its k-th request, before it is sent or after it was answered: lets something
else happen first, loses the answer, or ends the process there.
"""

from __future__ import annotations

import asyncio
import json
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

import httpx
from pydantic import SecretStr

from shared.core.policy import Policy
from shared.database.store import connect
from shared.providers.transport import PooledTransport
from shared.providers.wapi.client import WapiClient
from shared.settings import IntakeSettings

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine

    from world import World


class When(StrEnum):
    """On which side of a request."""

    BEFORE = "before"
    AFTER = "after"


@dataclass
class Interruption:
    """What happens at one request, once.

    Attributes:
        do: What.
        at: At which request, counted from 0.
        path: Of those whose path ends so: ``rpc/claim_restart``, ``status-instance``; empty counts all.
        when: Before it is sent, or after it was answered.
    """

    do: Callable[[httpx.Request], Awaitable[None]]
    at: int
    path: str = ""
    when: When = When.BEFORE


class Wire(httpx.AsyncBaseTransport):
    """Production's transport, and a hand on it."""

    def __init__(self) -> None:
        self._inner = PooledTransport()
        self._plan: Interruption | None = None
        self._passed = 0
        self._in_flight = 0
        self._dying = False
        self._dead = asyncio.Event()

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        if self._dying:
            await self._never()
        plan, due = self._plan, False
        if plan is not None and request.url.path.endswith(plan.path):
            due = self._passed == plan.at
            self._passed += 1
        if due and plan.when is When.BEFORE:
            await plan.do(request)
        self._in_flight += 1
        try:
            response = await self._inner.handle_async_request(request)
        finally:
            self._in_flight -= 1
            self._note_death()
        try:
            if due and plan.when is When.AFTER:
                await plan.do(request)
            if self._dying:
                await self._never()
        except BaseException:
            await response.aclose()
            raise
        return response

    def interrupt(self, plan: Interruption | None) -> None:
        """Plan the next interruption, or none; requests are counted anew."""
        self._plan, self._passed = plan, 0

    async def until_death(self, work: Coroutine[object, object, object], at: int, path: str, when: When) -> bool:
        """Run our code and end the process at a request; see ``Interruption``.

        What is under way then still reaches the other side, but nothing comes back and nothing more is sent.

        Returns:
            Whether it died; False when it was done before.
        """
        self._dead.clear()
        self.interrupt(Interruption(self._die, at, path, when))
        working = asyncio.ensure_future(work)
        dying = asyncio.ensure_future(self._dead.wait())
        try:
            await asyncio.wait({working, dying}, return_when=asyncio.FIRST_COMPLETED)
            if dying.done():
                working.cancel()
                await asyncio.gather(working, return_exceptions=True)
                return True
            await working
            return False
        finally:
            dying.cancel()
            self._dying = False
            self.interrupt(None)

    async def _die(self, _: httpx.Request) -> None:
        self._dying = True
        await self._never()

    async def _never(self) -> None:
        self._note_death()
        await asyncio.Event().wait()

    def _note_death(self) -> None:
        if self._dying and not self._in_flight:
            self._dead.set()

    async def aclose(self) -> None:
        await self._inner.aclose()


def external_id_of(request: httpx.Request) -> str | None:
    """The line that a request to the provider is about."""
    return request.url.params.get("instanceId")


def instance_of(request: httpx.Request) -> str | None:
    """The line (our uuid) that a call of the database is about, if it is about one."""
    try:
        return json.loads(request.content).get("p_instance")
    except (ValueError, httpx.RequestNotRead):
        return None


async def lose_the_answer(request: httpx.Request) -> None:
    """Cut the connection: the request was sent, its answer never comes."""
    raise httpx.ReadError("the connection is gone", request=request)


class OnTheWire:
    """Our code in this process, on a wire that a test can hold: the store and the provider as production makes them."""

    def __init__(self, world: World) -> None:
        self.wire = Wire()
        self._database = httpx.AsyncClient(transport=self.wire, timeout=httpx.Timeout(15), trust_env=False)
        self.http = httpx.AsyncClient(transport=self.wire, timeout=httpx.Timeout(None), trust_env=False)
        self._stack = world.stack
        self._wapi_url = world.simulator.wapi_url
        self.begin_anew()
        self.provider = WapiClient(self.http, world.simulator.wapi_url)

    @property
    def intake_settings(self) -> IntakeSettings:
        return IntakeSettings(
            supabase_url=self._stack.supabase_url,
            supabase_service_role_key=self._stack.service_role_key,
            wapi_base_url=self._wapi_url,
        )

    def begin_anew(self) -> None:
        """Forget what a process that has just died had under way."""
        self.store = connect(
            self._stack.supabase_url, SecretStr(self._stack.service_role_key), self._database, Policy()
        )

    async def aclose(self) -> None:
        await self._database.aclose()
        await self.http.aclose()

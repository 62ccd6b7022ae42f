"""A flood from one line does not starve others."""

from __future__ import annotations

import asyncio

from shared.webhook.per_line import Turns


async def test_a_flood_of_one_name_waits_behind_itself_only() -> None:
    turns = Turns(at_once=2)
    gate = asyncio.Event()
    inside: list[str] = []

    async def work(name: str) -> None:
        async with turns.of(name):
            inside.append(name)
            await gate.wait()

    flood = [asyncio.create_task(work("loud")) for _ in range(50)]
    quiet = [asyncio.create_task(work(f"quiet {n}")) for n in range(5)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert sorted(inside) == ["loud", "loud", *(f"quiet {n}" for n in range(5))]
    gate.set()
    await asyncio.gather(*flood, *quiet)
    assert inside.count("loud") == 50


async def test_a_name_that_nobody_uses_is_forgotten() -> None:
    turns = Turns()
    for number in range(1000):
        async with turns.of(str(number)):
            pass
    assert len(turns._by_name) <= 1

"""The floor of a sweep: a bare aiohttp loop that makes the same provider calls at the same concurrency.

``python -m bench.floors URL LINES CONCURRENCY`` prints the seconds it took and its CPU seconds, as JSON. It runs in a
process of its own, as the function does.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time

import aiohttp

from bench.platform import external_id, token


async def look_at_all(url: str, count: int, concurrency: int) -> tuple[float, float]:
    """Ask ``status-instance`` and ``device`` of every line; return seconds, and seconds of CPU.

    Raises:
        ValueError: A line did not answer as a healthy one does: then this is no floor.
    """
    numbers = iter(range(count))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:

        async def work() -> None:
            for number in numbers:
                headers = {"Authorization": f"Bearer {token(number)}"}
                query = f"instanceId={external_id(number)}"
                async with session.get(f"{url}/instance/status-instance?{query}", headers=headers) as answer:
                    if (await answer.json())["connected"] is not True:
                        raise ValueError(external_id(number))
                async with session.get(f"{url}/instance/device?{query}", headers=headers) as answer:
                    if not (await answer.json())["connectedPhone"]:
                        raise ValueError(external_id(number))

        began, worked = time.perf_counter(), time.process_time()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(concurrency):
                tasks.create_task(work())
        return time.perf_counter() - began, time.process_time() - worked


if __name__ == "__main__":
    print(json.dumps(asyncio.run(look_at_all(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))))

"""A load generator: ``python -m bench.load URL FILE CLIENTS [RATE]`` posts each line of a file once and prints what it saw.

JSON: seconds in all, and every request's seconds. It runs in a process of its own, as real callers do. With a rate, so many
are due a second whether or not the last ones were answered, and a request's seconds count from when it was due.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

import aiohttp


async def post_all(url: str, bodies: list[bytes], clients: int, rate: float | None = None) -> tuple[float, list[float]]:
    """Post every body from so many clients at once.

    Raises:
        aiohttp.ClientResponseError: One was not answered 200: then this measures something else.
    """
    waiting = iter(enumerate(bodies))
    latencies: list[float] = []
    headers = {"Content-Type": "application/json"}
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0), raise_for_status=True) as session:

        async def client() -> None:
            for number, body in waiting:
                due = began + number / rate if rate else time.perf_counter()
                await asyncio.sleep(due - time.perf_counter())
                async with session.post(url, data=body, headers=headers) as answer:
                    await answer.read()
                latencies.append(time.perf_counter() - due)

        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(clients):
                tasks.create_task(client())
        return time.perf_counter() - began, latencies


def main() -> None:
    """Read the command line and post."""
    url, file, clients, *rate = sys.argv[1:]
    bodies = Path(file).read_bytes().splitlines()
    took, latencies = asyncio.run(post_all(url, bodies, int(clients), float(rate[0]) if rate else None))
    print(json.dumps({"took": took, "latencies": latencies}))


if __name__ == "__main__":
    main()

"""aiohttp with nothing around it: no queue, no status. The limit of what an asyncio worker can do here.

Makes every N-th of the jobs (BENCH_SHARE is `first/N`), asks again at once where it is told to come later.
"""

import asyncio
import os
from itertools import islice

import aiohttp
import uvloop

from benchmarks.peers.job import IN_FLIGHT, LATER, endpoint, jobs


async def run() -> None:
    """Make all calls, `IN_FLIGHT` of them at a time."""
    first, _, step = os.environ["BENCH_SHARE"].partition("/")
    bodies = islice(
        jobs(int(os.environ["BENCH_COUNT"]), seed=int(os.environ["BENCH_SEED"])), int(first), None, int(step)
    )
    target = endpoint()
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=IN_FLIGHT)) as http:

        async def work() -> None:
            for body in bodies:
                while True:
                    async with http.post(target, json=body) as answer:
                        await answer.read()
                    if answer.status != LATER:
                        break

        await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))


if __name__ == "__main__":
    uvloop.run(run())

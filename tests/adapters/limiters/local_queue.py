"""A limiter on virtual time, and callers that note when they get their slots."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from tests.support.clock import loop_time
from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Quota, Slot
from wxpay_async.adapters.limiters.local import LocalLimiter


def make(limit: int = 400, **arguments: object) -> LocalLimiter:
    """Make a limiter on virtual time, by default for a key that was idle."""
    return LocalLimiter(Quota(limit=limit), **{"idle": True, "clock": loop_time, **arguments})


async def take(limiter: Limiter, count: int, lane: Lane = Lane.PEOPLE) -> list[Slot]:
    """Take slots that are free."""
    return [await limiter.acquire(lane, timeout=0) for _ in range(count)]


async def answer(slots: Sequence[Slot]) -> None:
    """Report all calls as answered."""
    for slot in slots:
        await slot.answered()


class Queue:
    """Callers that note in which order, and when, they get their slots."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.order: list[str] = []
        self.times: list[float] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def join(self, name: str, lane: Lane = Lane.PEOPLE) -> asyncio.Task[None]:
        """Queue up, and let the task reach its place."""
        task = asyncio.create_task(self._wait(name, lane))
        self.tasks.append(task)
        await asyncio.sleep(0)
        return task

    async def _wait(self, name: str, lane: Lane) -> None:
        slot = await self.limiter.acquire(lane, timeout=1000)
        self.order.append(name)
        self.times.append(loop_time())
        await slot.answered()

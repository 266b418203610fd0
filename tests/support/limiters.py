"""A clock that tests move, in the scripts of the Redis limiter; and the limiters to try."""

from __future__ import annotations

import contextlib
import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import TypedDict, Unpack

import pytest
from attrs import define, field

from tests.support.services import REDIS, require
from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Quota, Slot, Slowed
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.errors import NotSentError

SetClock = Callable[[float], Awaitable[None]]


@contextlib.asynccontextmanager
async def open_app_key() -> AsyncGenerator[str]:
    """Give an appKey of the test's own on a Redis that answers; clean up after it."""
    redis = pytest.importorskip("redis.asyncio", reason="redis-py is not installed")
    key = f"test-{uuid.uuid4().hex}"
    async with redis.Redis.from_url(require(REDIS)) as client:
        yield key
        async for name in client.scan_iter(f"*{key}*", count=1000):
            await client.delete(name)


@contextlib.asynccontextmanager
async def move_redis_clock(app_key: str) -> AsyncGenerator[SetClock]:
    """Replace Redis's clock in the scripts, and only that; give the function that moves it."""
    from redis.asyncio import Redis  # noqa: PLC0415 - redis-py is optional

    from wxpay_async.adapters.limiters import (  # noqa: PLC0415 - the same
        redis as limits,
        redis_scripts,
    )

    key = f"{app_key}:clock"
    with pytest.MonkeyPatch.context() as patch:
        for name in ("ROUND", "SLOW"):
            script = getattr(limits, name)
            assert redis_scripts.CLOCK in script
            moved = script.replace(redis_scripts.CLOCK, f"{{0, redis.call('GET', '{key}')}}")
            patch.setattr(limits, name, moved)
        async with Redis.from_url(REDIS.url) as client:

            async def set_clock(seconds: float) -> None:
                await client.set(key, round((1_000_000 + seconds) * 1_000_000))

            await set_clock(0.0)
            yield set_clock


class LimiterOptions(TypedDict, total=False):
    """The keywords that every limiter of this package takes."""

    idle: bool
    max_waiting: int
    on_slowed: Callable[[Slowed], None] | None


@define
class Bench:
    """Limiters of one kind that share a quota, on a clock that stands still until it is moved.

    Attributes:
        make: makes a limiter; two of `LocalLimiter` share nothing.
        set_clock: moves the clock of all.
    """

    make: Callable[..., Limiter]
    set_clock: SetClock
    made: list[Limiter] = field(factory=list[Limiter])

    def limiter(self, quota: Quota, **options: Unpack[LimiterOptions]) -> Limiter:
        """Make a limiter for a key that was idle."""
        self.made.append(self.make(quota, **{"idle": True, **options}))
        return self.made[-1]


@contextlib.asynccontextmanager
async def open_local_bench() -> AsyncGenerator[Bench]:
    """Give the limiter of one process."""
    now = 0.0

    async def set_clock(seconds: float) -> None:
        nonlocal now
        now = seconds

    def make(quota: Quota, **options: Unpack[LimiterOptions]) -> Limiter:
        return LocalLimiter(quota, clock=lambda: now, **options)

    yield Bench(make, set_clock)


@contextlib.asynccontextmanager
async def open_redis_bench() -> AsyncGenerator[Bench]:
    """Give the limiter of many processes."""
    async with open_app_key() as app_key, move_redis_clock(app_key) as set_clock:
        from wxpay_async.adapters.limiters.redis import (  # noqa: PLC0415 - redis-py is optional
            RedisLimiter,
        )

        def make(quota: Quota, **options: Unpack[LimiterOptions]) -> Limiter:
            return RedisLimiter(REDIS.url, app_key, quota=quota, **options)

        bench = Bench(make, set_clock)
        yield bench
        for limiter in bench.made:
            await limiter.aclose()


async def take(limiter: Limiter, count: int, lane: Lane = Lane.PEOPLE) -> list[Slot]:
    """Take slots until refused, `count` at most."""
    slots: list[Slot] = []
    for _ in range(count):
        try:
            slots.append(await limiter.acquire(lane, timeout=0.5))
        except NotSentError:
            break
    return slots

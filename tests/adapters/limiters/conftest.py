"""A real Redis, with a clock that tests move, for the limiter that is shared."""

from __future__ import annotations

import uuid
from collections.abc import AsyncIterator, Awaitable, Callable

import pytest

from tests.support.services import REDIS, require

SetClock = Callable[[float], Awaitable[None]]


@pytest.fixture
async def app_key() -> AsyncIterator[str]:
    """Give an appKey of the test's own on a Redis that answers; clean up after it."""
    redis = pytest.importorskip("redis.asyncio", reason="redis-py is not installed")
    key = f"test-{uuid.uuid4().hex}"
    async with redis.Redis.from_url(require(REDIS)) as client:
        yield key
        async for name in client.scan_iter(f"*{key}*", count=1000):
            await client.delete(name)


@pytest.fixture
def redis_url() -> str:
    """Name the Redis of the tests."""
    return REDIS.url


@pytest.fixture
async def set_clock(app_key: str, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[SetClock]:
    """Replace Redis's clock in the scripts, and only that; give the function that moves it."""
    from redis.asyncio import Redis  # noqa: PLC0415 - redis-py is optional

    from wxpay_async.adapters.limiters import redis as limits  # noqa: PLC0415 - the same

    key = f"{app_key}:clock"
    for name in ("_TAKE", "_END", "_SLOW"):
        script = getattr(limits, name)
        assert limits._CLOCK in script
        moved = script.replace(limits._CLOCK, f"{{0, redis.call('GET', '{key}')}}")
        monkeypatch.setattr(limits, name, moved)
    async with Redis.from_url(REDIS.url) as client:

        async def set_clock(seconds: float) -> None:
            await client.set(key, round((1_000_000 + seconds) * 1_000_000))

        await set_clock(0.0)
        yield set_clock

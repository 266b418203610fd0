"""A real Redis, with a clock that tests move, for the limiter that is shared."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable

import pytest

from tests.support.limiters import SetClock, move_redis_clock, open_app_key
from tests.support.services import REDIS
from wxpay_async.adapters.limiters.limiter import Limiter, Quota


@pytest.fixture
async def app_key() -> AsyncIterator[str]:
    """Give an appKey of the test's own on a Redis that answers; clean up after it."""
    async with open_app_key() as key:
        yield key


@pytest.fixture
async def set_clock(app_key: str) -> AsyncIterator[SetClock]:
    """Replace Redis's clock in the scripts; give the function that moves it."""
    async with move_redis_clock(app_key) as moved:
        yield moved


@pytest.fixture
async def make(app_key: str) -> AsyncIterator[Callable[..., Limiter]]:
    """Make limiters that share one appKey, each as if in a process of its own."""
    from wxpay_async.adapters.limiters.redis import (  # noqa: PLC0415 - redis-py is optional
        RedisLimiter,
    )

    made: list[Limiter] = []

    def make_one(limit: int = 400, **arguments: object) -> Limiter:
        values = {"idle": True, "quota": Quota(limit=limit), **arguments}
        made.append(RedisLimiter(REDIS.url, app_key, **values))
        return made[-1]

    yield make_one
    for limiter in made:
        await limiter.aclose()

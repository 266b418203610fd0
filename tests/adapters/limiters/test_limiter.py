"""A limiter that lets all calls go, and which limiters can tell that a slot is free."""

from __future__ import annotations

from typing import Protocol

import pytest

from tests.adapters.limiters.local_queue import take
from wxpay_async.adapters.limiters.limiter import (
    Lane,
    Limiter,
    Slot,
    Unlimited,
    find_acquire_now,
)
from wxpay_async.adapters.limiters.local import LocalLimiter


async def test_unlimited_lets_all_calls_go() -> None:
    """All calls share one slot that counts nothing."""
    limiter = Unlimited()
    slots = await take(limiter, 1000)
    for report in (slots[0].answered, slots[0].doubtful, slots[0].unsent):
        await report()
    await limiter.throttled()
    await limiter.aclose()

    assert {id(slots[0])} == {id(slot) for slot in slots}


class PlainLimiter:
    """A limiter as the protocol has it, and no more."""

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Return a slot."""
        return await Unlimited().acquire(lane, timeout=timeout)

    async def throttled(self) -> None:
        """Change nothing."""

    async def aclose(self) -> None:
        """Release nothing."""


class TellingLimiter(Limiter, Protocol):
    """A limiter that can tell whether a slot is free."""

    async def acquire_now(self, lane: Lane) -> Slot | None:
        """Return a slot if one is free."""
        ...


class Counting(Unlimited):
    """One whose subclass adds something to each slot that is waited for, and says nothing else."""

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Return a slot."""
        return await super().acquire(lane, timeout=timeout)


class CountingBoth(Counting):
    """One that adds it to both ways."""

    async def acquire_now(self, lane: Lane) -> Slot:
        """Return a slot."""
        return await super().acquire_now(lane)


class Untouched(CountingBoth):
    """One that changes nothing of either."""


@pytest.mark.parametrize("limiter", [PlainLimiter(), Counting()], ids=["plain", "acquire alone"])
def test_limiter_that_cannot_tell_is_waited_for(limiter: Limiter) -> None:
    """What a subclass does in `acquire` is not passed by."""
    assert find_acquire_now(limiter) is None


@pytest.mark.parametrize(
    "limiter",
    [Unlimited(), CountingBoth(), Untouched(), LocalLimiter()],
    ids=lambda limiter: type(limiter).__name__,
)
async def test_limiter_that_can_tell_is_asked(limiter: TellingLimiter) -> None:
    """Its own way is found, also below a subclass that overrides `acquire` alone."""
    acquire_now = find_acquire_now(limiter)

    assert acquire_now == limiter.acquire_now
    assert acquire_now is not None
    assert await acquire_now(Lane.PEOPLE) is not None

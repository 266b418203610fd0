"""A limiter that lets all calls go."""

from __future__ import annotations

from tests.adapters.limiters.local_queue import take
from wxpay_async.adapters.limiters.limiter import Unlimited


async def test_unlimited_lets_all_calls_go() -> None:
    """All calls share one slot that counts nothing."""
    limiter = Unlimited()
    slots = await take(limiter, 1000)
    for report in (slots[0].answered, slots[0].doubtful, slots[0].unsent):
        await report()
    await limiter.throttled()
    await limiter.aclose()

    assert {id(slots[0])} == {id(slot) for slot in slots}

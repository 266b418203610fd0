"""The two ways to the first attempt: claimed by the commit that reserves it, or by one of its own.

A first attempt for which a slot and a connection are free at once is claimed as it is reserved.
Where callers have to queue, a call may wait, and no lease may run meanwhile: it is claimed later.
"""

from __future__ import annotations

from typing import Any

import pytest
from attrs import define

from wxpay_async.adapters.limiters.limiter import Lane, Slot, Unlimited


@define(eq=False)
class QueueLimiter(Unlimited):
    """A limiter that cannot tell whether a slot is free: it overrides `acquire` alone."""

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Return the slot that all calls share."""
        return await super().acquire(lane, timeout=timeout)


ONE_COMMIT: Any = pytest.param(Unlimited, id="one commit")
TWO_COMMITS: Any = pytest.param(QueueLimiter, id="two commits")

both_ways = pytest.mark.parametrize("limit", [ONE_COMMIT, TWO_COMMITS])
"""Run a test with both: `limit()` makes a limiter that leads there."""

"""Let a call that waits for its slot go on in a lane that goes first."""

from __future__ import annotations

import asyncio
from typing import Final

from attrs import define, field

from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Slot
from wxpay_async.policy.deadline import Deadline

_ORDER: Final = tuple(Lane)


@define(eq=False)
class Priority:
    """The lane in which a call of machines waits for its slots (priority inheritance).

    A person who asks for what a batch has under way shares the batch's call, and a callback is
    about an order whose query waits already. Without this both would wait as long as the machine
    does. The call stays in the lane afterwards, also with its next attempts.

    Attributes:
        lane: where the call waits.
    """

    lane: Lane
    _waiting: asyncio.Timeout | None = field(default=None, init=False)

    def raise_lane(self, lane: Lane) -> None:
        """Go on in this lane from now on, if it goes before the call's own."""
        if _ORDER.index(lane) >= _ORDER.index(self.lane):
            return
        self.lane = lane
        if self._waiting is not None:
            self._waiting.reschedule(asyncio.get_running_loop().time())

    async def acquire(self, limiter: Limiter, deadline: Deadline) -> Slot:
        """Wait for a slot until the last moment at which an attempt may start.

        Raises:
            NotSentError: as the limiter says; of the lane in which the call waited last.
        """
        while True:
            lane = self.lane
            try:
                async with asyncio.timeout(None) as self._waiting:
                    return await limiter.acquire(lane, timeout=deadline.until_start())
            except TimeoutError:  # a quota that is full says so by one, too
                if lane is self.lane:
                    raise
            finally:
                self._waiting = None

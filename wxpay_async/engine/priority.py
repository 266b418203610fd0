"""Let a call of machines go on among people once a person waits for its answer, too."""

from __future__ import annotations

import asyncio

from attrs import define, field

from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Slot
from wxpay_async.policy.deadline import Deadline


@define(eq=False)
class Priority:
    """The lane in which a call of machines waits for its slots (priority inheritance).

    A person who asks for what a batch has under way shares the batch's call. Without this the
    person would wait as long as the batch does. The call stays among people afterwards, also with
    its next attempts.

    Attributes:
        lane: where the call waits; `PEOPLE` once a person has joined it.
    """

    lane: Lane
    _waiting: asyncio.Timeout | None = field(default=None, init=False)

    def raise_lane(self) -> None:
        """Go on among people, from this moment."""
        if self.lane is Lane.PEOPLE:
            return
        self.lane = Lane.PEOPLE
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

"""The quota of one process: the interval log, a clock, one timer and a queue for each lane."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import attrs

from wxpay_async.adapters.limiters.limiter import Slot
from wxpay_async.errors import NotSentError
from wxpay_async.policy.quota import (
    Lane,
    Lease,
    Quota,
    SlidingWindowLog,
    SlotOutcome,
    Slowed,
    lane_order,
)

_SHORTEST_SLEEP: Final = 0.001

_Waiter = asyncio.Future[Lease]
_Queue = OrderedDict[_Waiter, None]


def _empty_queues() -> dict[Lane, _Queue]:
    return {lane: OrderedDict() for lane in Lane}


@attrs.define(eq=False)
class LocalSlot:
    """A slot of a `LocalLimiter`."""

    _hold: Lease
    _end: Callable[[Lease, SlotOutcome], None] | None

    async def answered(self) -> None:
        """Report an answer."""
        self._report(SlotOutcome.ANSWERED)

    async def doubtful(self) -> None:
        """Report that the call was given up."""
        self._report(SlotOutcome.DOUBTFUL)

    async def unsent(self) -> None:
        """Report that nothing was sent."""
        self._report(SlotOutcome.UNSENT)

    def _report(self, ending: SlotOutcome) -> None:
        if self._end is not None:
            self._end(self._hold, ending)
            self._end = None


@attrs.define(eq=False)
class LocalLimiter:
    """Keep the quota for an appKey that only this process uses.

    A new process knows nothing of the calls that an earlier one made in its last minute. So half of
    the slots count as taken for the first 60.25 s: 200 calls may go at once, which nobody notices
    at a desk and a web service rarely does, and the other 200 after a minute. Waiting a whole
    minute before the first call would be the only sure way, and nobody would accept it; all 400 at
    once would hit a restarted batch with hundreds of refusals. Where restarts under load are
    common, or several processes share the key, use the Redis limiter: it remembers.

    It can be made anywhere, also outside a running loop, and used in one loop after another, but
    not in two at the same time. A waiter that a dead loop left behind is forgotten.

    Args:
        quota: the platform's numbers, or smaller ones.
        idle: nobody used the appKey in the last 75 s, so all slots are free.
        clock: seconds that never go back.
        on_slowed: called when somebody else turns out to use the appKey. It must not raise.
    """

    quota: Quota = attrs.field(factory=Quota)
    idle: bool = attrs.field(default=False, kw_only=True)
    clock: Callable[[], float] = attrs.field(default=time.monotonic, kw_only=True)
    on_slowed: Callable[[Slowed], None] | None = attrs.field(default=None, kw_only=True)
    _log: SlidingWindowLog = attrs.field(init=False)
    _full_from: float = attrs.field(init=False)
    _turn: int = attrs.field(default=0, init=False)
    _queues: dict[Lane, _Queue] = attrs.field(factory=_empty_queues, init=False)
    _waiting: int = attrs.field(default=0, init=False)
    _loop: asyncio.AbstractEventLoop | None = attrs.field(default=None, init=False)
    _timer: asyncio.TimerHandle | None = attrs.field(default=None, init=False)
    _wakes_at: float = attrs.field(default=float("inf"), init=False)

    def __attrs_post_init__(self) -> None:
        self._log = SlidingWindowLog(self.quota)
        self._full_from = now = self.clock()
        if not self.idle:
            self._log.assume_predecessor(now)
            self._full_from += self.quota.answered_for

    @property
    def in_use(self) -> int:
        """Slots that are taken now."""
        return self._log.in_use(self.clock())

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Wait for a slot.

        Raises:
            NotSentError: none came free within `timeout` seconds.
        """
        if not self._waiting:
            hold = self._log.take(lane, self.clock())
            if hold is not None:
                return LocalSlot(hold, self._end)
        return LocalSlot(await self._queue_up(lane, timeout), self._end)

    async def throttled(self) -> None:
        """Slow down after the platform refused a call for too many calls."""
        slowed = self._log.throttled(self.clock())
        if slowed is not None and self.on_slowed is not None:
            self.on_slowed(slowed)

    async def aclose(self) -> None:
        """Release nothing; what was sent still counts."""

    async def _queue_up(self, lane: Lane, timeout: float) -> Lease:
        self._adopt_loop()
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        queue = self._queues[lane]
        queue[waiter] = None
        self._waiting += 1
        self._serve()
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        except TimeoutError:
            if waiter.cancelled():
                raise self._no_slot(lane, timeout) from None
            return waiter.result()  # granted in the very turn of the loop in which time ran out
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self._end(waiter.result(), SlotOutcome.UNSENT)
            raise
        finally:
            self._forget(queue, waiter)

    def _no_slot(self, lane: Lane, timeout: float) -> NotSentError:
        quota = self.quota
        reason = (
            f"no slot of the quota ({quota.limit} calls in {quota.period:g} s) came free for "
            f"{lane} within {timeout:g} s; {self._log.taken} are taken"
        )
        if self.clock() < self._full_from:
            reason += (
                f", {quota.limit // 2} of them on the assumption that an earlier process used the "
                "appKey just now (pass idle=True where none did)"
            )
        return NotSentError(reason)

    def _forget(self, queue: _Queue, waiter: _Waiter) -> None:
        if waiter in queue:
            del queue[waiter]
            self._waiting -= 1

    def _adopt_loop(self) -> None:
        # A future or timer of a loop that is gone must never be touched again.
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._queues = _empty_queues()
            self._waiting = 0
            self._timer = None
            self._wakes_at = float("inf")

    def _end(self, hold: Lease, ending: SlotOutcome) -> None:
        now = self.clock()
        self._log.end(hold, ending, now)
        if self._waiting:
            self._adopt_loop()
            if ending is SlotOutcome.UNSENT:
                self._serve()
            else:
                self._set_timer(now)

    def _serve(self) -> None:
        now = self.clock()
        while self._waiting and self._serve_one(now):
            self._turn += 1
        self._set_timer(now)

    def _serve_one(self, now: float) -> bool:
        for lane in lane_order(self._turn):
            queue = self._queues[lane]
            waiter = self._first(queue)
            if waiter is None:
                continue
            hold = self._log.take(lane, now)
            if hold is not None:
                waiter.set_result(hold)
                return True
        return False

    def _first(self, queue: _Queue) -> _Waiter | None:
        # A caller that was served or cancelled leaves its queue when its task runs: too late here.
        while queue:
            waiter = next(iter(queue))
            if not waiter.done():
                return waiter
            self._forget(queue, waiter)
        return None

    def _set_timer(self, now: float) -> None:
        if not self._waiting:
            return
        wakes_at = self._log.next_change(now)
        if self._timer is not None:
            if self._wakes_at <= wakes_at:
                return
            self._timer.cancel()
        self._wakes_at = wakes_at
        delay = max(wakes_at - now, _SHORTEST_SLEEP)
        self._timer = asyncio.get_running_loop().call_later(delay, self._wake)

    def _wake(self) -> None:
        self._timer = None
        self._serve()

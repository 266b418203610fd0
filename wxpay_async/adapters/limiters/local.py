"""Keep the quota of one process: a sliding window log, a clock, a timer, a queue for each lane."""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Callable
from typing import Final

import attrs

from wxpay_async.adapters.event_loop import LoopLocalValue
from wxpay_async.adapters.limiters.limiter import Slot
from wxpay_async.errors import QuotaExhaustedError
from wxpay_async.policy.lanes import Lane, Quota
from wxpay_async.policy.outlook import Promises
from wxpay_async.policy.quota import Lease, SlidingWindowLog, SlotOutcome, Slowed

_SHORTEST_SLEEP: Final = 0.001

_Waiter = asyncio.Future[Lease]
_Queue = OrderedDict[_Waiter, None]


def _empty_queues() -> dict[Lane, _Queue]:
    return {lane: OrderedDict() for lane in Lane}


@attrs.define(eq=False)
class _WaitingRoom:
    """The callers of one event loop that wait for a slot, and the timer that serves them.

    A future or a timer of a loop that is gone must never be touched again.
    """

    queues: dict[Lane, _Queue] = attrs.field(factory=_empty_queues)
    size: int = 0
    timer: asyncio.TimerHandle | None = None
    wakes_at: float = float("inf")

    def add(self, queue: _Queue, waiter: _Waiter) -> None:
        queue[waiter] = None
        self.size += 1

    def waiting(self) -> dict[Lane, int]:
        return {lane: len(queue) for lane, queue in self.queues.items()}

    def remove(self, queue: _Queue, waiter: _Waiter) -> None:
        if waiter in queue:
            del queue[waiter]
            self.size -= 1

    def first(self, queue: _Queue) -> _Waiter | None:
        # A caller that was cancelled leaves its queue when its task runs: too late here.
        while queue:
            waiter = next(iter(queue))
            if not waiter.done():
                return waiter
            self.remove(queue, waiter)
        return None


@attrs.define(eq=False)
class LocalSlot:
    """A slot of a `LocalLimiter`."""

    _lease: Lease
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

    def _report(self, outcome: SlotOutcome) -> None:
        if self._end is not None:
            self._end(self._lease, outcome)
            self._end = None


@attrs.define(eq=False)
class LocalLimiter:
    """Keeps the quota for an appKey that only this process uses.

    A new process knows nothing of the calls that an earlier one made in its last minute. So half of
    the slots count as taken for the first 60.25 s: 200 calls may go at once and the other 200 after
    a minute. A developer never notices that, a web service rarely. Only waiting a whole minute
    before the first call would be entirely safe, and that is not acceptable; with all 400 at once
    a restarted batch would get hundreds of refusals. Where restarts under load are common, or
    several processes share the key, use the Redis limiter: it remembers.

    It can be made anywhere, also outside a running loop, and used in one loop after another, but
    not in two at the same time. A waiter that a dead loop left behind is forgotten.

    Args:
        quota: the platform's numbers, or smaller ones.
        idle: the appKey was not used in the last 75 s, so all slots are free.
        max_waiting: callers that may wait at the same time; the next one is refused at once.
        clock: seconds that never go back.
        on_slowed: called when another program turns out to use the appKey. It must not raise.
    """

    quota: Quota = attrs.field(factory=Quota)
    idle: bool = attrs.field(default=False, kw_only=True)
    max_waiting: int = attrs.field(default=10_000, kw_only=True, validator=attrs.validators.ge(1))
    clock: Callable[[], float] = attrs.field(default=time.monotonic, kw_only=True)
    on_slowed: Callable[[Slowed], None] | None = attrs.field(default=None, kw_only=True)
    _log: SlidingWindowLog = attrs.field(init=False)
    _promises: Promises = attrs.field(factory=Promises, init=False)
    _full_from: float = attrs.field(init=False)
    _rooms: LoopLocalValue[_WaitingRoom] = attrs.field(
        factory=lambda: LoopLocalValue(_WaitingRoom), init=False
    )

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
            QuotaExhaustedError: none comes free within `timeout` seconds, or too many wait already.
                It is raised as soon as that can be foreseen.
        """
        lease = self._take_now(lane)
        if lease is None:
            lease = await self._wait(self._rooms.get(), lane, timeout)
        return LocalSlot(lease, self._end)

    async def acquire_now(self, lane: Lane) -> Slot | None:
        """Take a free slot, unless callers wait for one."""
        lease = self._take_now(lane)
        return None if lease is None else LocalSlot(lease, self._end)

    def held(self) -> dict[Lane, int]:
        """Return how many slots each lane holds."""
        return self._log.held(self.clock())

    async def throttled(self) -> None:
        """Slow down after the platform refused a call for too many calls."""
        slowed = self._log.slow_down(self.clock())
        if slowed is not None and self.on_slowed is not None:
            self.on_slowed(slowed)

    async def aclose(self) -> None:
        """Release nothing; what was sent still counts."""

    def _take_now(self, lane: Lane) -> Lease | None:
        return None if self._rooms.get().size else self._log.take(lane, self.clock())

    async def _wait(self, room: _WaitingRoom, lane: Lane, timeout: float) -> Lease:
        waiter: _Waiter = asyncio.get_running_loop().create_future()
        queue = room.queues[lane]
        room.add(queue, waiter)
        self._serve(room)
        if not waiter.done():
            self._check_wait(room, lane, waiter, timeout)
        try:
            async with asyncio.timeout(timeout):
                return await waiter
        except TimeoutError:
            if waiter.cancelled():
                room.remove(queue, waiter)
                raise self._no_slot(room, lane, self._why_late(lane, timeout)) from None
            return waiter.result()  # it was granted in the iteration in which time ran out
        except asyncio.CancelledError:
            if not waiter.cancelled():
                self._end(waiter.result(), SlotOutcome.UNSENT)
            raise
        finally:
            room.remove(queue, waiter)

    def _check_wait(self, room: _WaitingRoom, lane: Lane, waiter: _Waiter, timeout: float) -> None:
        """Refuse at once a caller that would wait in vain, or that is one too many."""
        room.remove(room.queues[lane], waiter)
        now = self.clock()
        free_at = self._log.outlook(now).foresee(lane, now, room.waiting())
        if room.size >= self.max_waiting:
            reason = f"{room.size} callers wait for a slot of the quota, and no more may"
            raise self._no_slot(room, lane, reason)
        if free_at - now > timeout:
            raise self._no_slot(room, lane, self._why_late(lane, timeout))
        room.add(room.queues[lane], waiter)

    def _no_slot(self, room: _WaitingRoom, lane: Lane, reason: str) -> QuotaExhaustedError:
        now = self.clock()
        back_at = self._promises.make(self._log.outlook(now), lane, now, room.waiting())
        return QuotaExhaustedError(reason, retry_after=back_at - now)

    def _why_late(self, lane: Lane, timeout: float) -> str:
        quota = self.quota
        reason = (
            f"no slot of the quota ({quota.limit} calls in {quota.period:g} s) comes free for "
            f"{lane} within {timeout:g} s; {self._log.taken} are taken"
        )
        if self.clock() >= self._full_from:
            return reason
        return (
            f"{reason}, {quota.limit // 2} of them on the assumption that an earlier process used "
            "the appKey just now (pass idle=True where none did)"
        )

    def _end(self, lease: Lease, outcome: SlotOutcome) -> None:
        now = self.clock()
        self._log.end(lease, outcome, now)
        room = self._rooms.get()
        if not room.size:
            return
        if outcome is SlotOutcome.UNSENT:
            self._serve(room)
        else:
            self._set_timer(room, now)

    def _serve(self, room: _WaitingRoom) -> None:
        now = self.clock()
        for lane in Lane:
            while (waiter := room.first(room.queues[lane])) is not None:
                lease = self._log.take(lane, now)
                if lease is None:
                    break
                waiter.set_result(lease)
                room.remove(room.queues[lane], waiter)
        if room.size:
            self._set_timer(room, now)

    def _set_timer(self, room: _WaitingRoom, now: float) -> None:
        wakes_at = self._log.next_change(now, [lane for lane in Lane if room.queues[lane]])
        if room.timer is not None:
            if room.wakes_at <= wakes_at:
                return
            room.timer.cancel()
        room.wakes_at = wakes_at
        delay = max(wakes_at - now, _SHORTEST_SLEEP)
        room.timer = asyncio.get_running_loop().call_later(delay, self._wake, room)

    def _wake(self, room: _WaitingRoom) -> None:
        room.timer = None
        self._serve(room)

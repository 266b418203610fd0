"""Limit concurrent attempts, and how many start per event-loop iteration."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from attrs import define, field

MAX_LOOP_HOLD: Final = 0.002
"""Seconds for which the attempts that start in one iteration of the event loop may hold it."""

INITIAL_STARTS: Final = 4
"""Attempts that start in one iteration before it is known how long one takes."""


_Waiters = deque[asyncio.Future[None]]


@define(eq=False)
class ConcurrencyLimiter:
    """Lets attempts start, people's first, and otherwise first come, first served.

    Machines (batches, recovery, watching) leave an eighth of the places to people: a person
    who pays never waits until one of theirs ends.

    Calls that are answered together continue together: 64 of them would hold the event loop for as
    long as 64 requests take to build, again and again. So calls that are ready at the same moment
    start in several iterations, which is fair towards everything else in the loop. How many start
    in one iteration follows from how long the last ones took: an RSA signature takes a hundred
    times as long as one by MD5, and a slow machine ten times as long as a fast one.

    Args:
        limit: attempts under way at the same time.
        clock: seconds that only grow; the machine's also where a test moves time, since work is
            measured by it.
    """

    limit: int
    clock: Callable[[], float] = time.monotonic
    _starts_per_tick: int = field(default=INITIAL_STARTS, init=False)
    _started: int = field(default=0, init=False)
    _tick_began: float = field(default=0.0, init=False)
    _under_way: int = field(default=0, init=False)
    _machines: int = field(default=0, init=False)
    _waiting_people: _Waiters = field(factory=_Waiters, init=False)
    _waiting_machines: _Waiters = field(factory=_Waiters, init=False)

    def acquire_now(self, *, machine: bool = False) -> bool:
        """Start an attempt if it need not wait; tell whether it did."""
        if self._waiting_people or (machine and self._waiting_machines):
            return False
        if not self._has_room(machine=machine):
            return False
        if not self._started:
            self._begin_tick()
        self._start(machine=machine)
        return True

    async def acquire(self, timeout: float, *, machine: bool = False) -> None:
        """Start an attempt, in this iteration or in the first that has room.

        Args:
            timeout: seconds to wait for the end of another attempt.
            machine: no person waits for it with a phone in hand.

        Raises:
            TimeoutError: none ended in time.
        """
        if self.acquire_now(machine=machine):
            return
        # The next iteration comes at once; only the end of an attempt is worth a timer.
        waits_for_an_end = machine or self._under_way + len(self._waiting_people) >= self.limit
        waiter = asyncio.get_running_loop().create_future()
        (self._waiting_machines if machine else self._waiting_people).append(waiter)
        try:
            if waits_for_an_end:
                async with asyncio.timeout(timeout):
                    await waiter
            else:
                await waiter
        except (asyncio.CancelledError, TimeoutError):
            if waiter.done() and not waiter.cancelled():
                self.release(machine=machine)
            raise

    def release(self, *, machine: bool = False) -> None:
        """End an attempt; the next waiter may start."""
        self._under_way -= 1
        self._machines -= machine
        if self._waiting_people or self._waiting_machines:
            self._wake_waiters()

    def _has_room(self, *, machine: bool) -> bool:
        if self._started >= self._starts_per_tick or self._under_way >= self.limit:
            return False
        return not machine or self._machines < self.limit - self.limit // 8

    def _start(self, *, machine: bool) -> None:
        self._started += 1
        self._under_way += 1
        self._machines += machine

    def _begin_tick(self) -> None:
        self._tick_began = self.clock()
        asyncio.get_running_loop().call_soon(self._end_tick)

    def _end_tick(self) -> None:
        spent = self.clock() - self._tick_began
        # At most twice as many as before: an iteration may have been short by chance.
        fit = int(self._started * MAX_LOOP_HOLD / spent) if spent > 0 else self.limit
        self._starts_per_tick = max(1, min(fit, 2 * self._starts_per_tick))
        self._started = 0
        if self._waiting_people or self._waiting_machines:
            self._wake_waiters()

    def _wake_waiters(self) -> None:
        first = not self._started
        for waiters, machine in ((self._waiting_people, False), (self._waiting_machines, True)):
            while waiters and self._has_room(machine=machine):
                waiter = waiters.popleft()
                if not waiter.done():  # it is when its caller was cancelled
                    waiter.set_result(None)
                    self._start(machine=machine)
        if first and self._started:  # after the waiters, so that the iteration ends with them
            self._begin_tick()

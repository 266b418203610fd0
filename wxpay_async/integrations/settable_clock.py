"""A clock that a test moves, for the gateway and the sandbox alike."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from datetime import datetime

from attrs import define, field

from wxpay_async.engine.clock import Clock


@define(eq=False)
class _Sleeper:
    """A sleeping task, to be woken from any thread."""

    loop: asyncio.AbstractEventLoop
    woken: asyncio.Event = field(factory=asyncio.Event)

    def wake(self) -> None:
        """Let it look at the clock again."""
        if not self.loop.is_closed():
            self.loop.call_soon_threadsafe(self.woken.set)


@define(eq=False)
class SettableClock(Clock):
    """A clock that runs as the machine's does, and that a test moves or sets, from any thread."""

    _ahead: float = field(init=False, default=0.0)
    _moved: float = field(init=False, default=0.0)
    _sleepers: set[_Sleeper] = field(init=False, factory=set[_Sleeper], repr=False)
    _lock: threading.Lock = field(init=False, factory=threading.Lock, repr=False)

    def time(self) -> float:
        """Return wall-clock seconds since the epoch."""
        return time.time() + self._ahead

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic() + self._moved

    async def sleep(self, seconds: float) -> None:
        """Wait until so many seconds have passed, be it since a test moved the clock."""
        end = self.monotonic() + seconds
        sleeper = _Sleeper(asyncio.get_running_loop())
        with self._lock:
            self._sleepers.add(sleeper)
        try:
            await asyncio.sleep(0)  # also where there is nothing to wait for
            while (left := end - self.monotonic()) > 0:
                await _wait(sleeper.woken, left)
        finally:
            with self._lock:
                self._sleepers.discard(sleeper)

    def move(self, seconds: float) -> None:
        """Let time pass at once; who sleeps until then wakes.

        Raises:
            ValueError: negative or not finite. `set` can go back.
        """
        if not 0.0 <= seconds < math.inf:
            raise ValueError("seconds are 0 or more")
        with self._lock:
            self._ahead += seconds
            self._moved += seconds
            for sleeper in self._sleepers:
                sleeper.wake()

    def set(self, moment: datetime) -> None:
        """Set the wall clock, which runs on from there. No one wakes, and no call has less time.

        Raises:
            ValueError: the moment has no time zone.
        """
        if moment.tzinfo is None:
            raise ValueError("a moment with a time zone is needed")
        self._ahead = moment.timestamp() - time.time()


async def _wait(woken: asyncio.Event, seconds: float) -> None:
    try:
        async with asyncio.timeout(seconds):
            await woken.wait()
    except TimeoutError:
        return
    woken.clear()

"""Clocks that tests move, and an event loop on which an hour takes a second."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine
from typing import Final, ParamSpec, TypeVar

import looptime
from attrs import define, field

from wxpay_async.engine.clock import Clock

NOON: Final = 1_763_870_400.0
"""Noon in China on a day in November 2025, in seconds since the epoch."""

P = ParamSpec("P")
T = TypeVar("T")


@define(eq=False)
class MovedClock(Clock):
    """A clock that stands still until it is moved, or slept by.

    Attributes:
        wall: what a right wall clock shows.
        ground: seconds that only grow.
        wrong_by: by how much the wall clock is wrong.
        slept: every pause that was slept.
    """

    wall: float = NOON
    ground: float = 5_000.0
    wrong_by: float = 0.0
    slept: list[float] = field(factory=list)

    def time(self) -> float:
        """Return wall-clock seconds."""
        return self.wall + self.wrong_by

    def true_time(self) -> float:
        """Return wall-clock seconds as a right clock shows them."""
        return self.wall

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return self.ground

    async def sleep(self, seconds: float) -> None:
        """Note the pause, move by it and let other tasks run."""
        self.slept.append(seconds)
        self.move(seconds)
        await asyncio.sleep(0)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += seconds
        self.ground += seconds


class LoopClock(Clock):
    """The time of the running event loop, real or virtual."""

    def monotonic(self) -> float:
        """Return the loop's seconds."""
        return loop_time()

    def time(self) -> float:
        """Return the loop's seconds after noon."""
        return NOON + loop_time()


def loop_time() -> float:
    """Return the time of the running event loop, real or virtual."""
    return asyncio.get_running_loop().time()


def run_virtual(main: Coroutine[object, object, T]) -> T:
    """Run a coroutine on an event loop whose clock starts at 0 and jumps from timer to timer.

    The loop counts in nanoseconds, so that the figures of 24 hours are exact. A coroutine that
    waits for nothing that could come ends with `IdleTimeoutError` after a second.
    """
    with asyncio.Runner(debug=False, loop_factory=_new_virtual_loop) as runner:
        return runner.run(main)


def virtual(test: Callable[P, Coroutine[object, object, None]]) -> Callable[P, None]:
    """Run an asynchronous test on such an event loop; its fixtures must not need one."""

    @functools.wraps(test)
    def run(*arguments: P.args, **named: P.kwargs) -> None:
        run_virtual(test(*arguments, **named))

    return run


def _new_virtual_loop() -> asyncio.AbstractEventLoop:
    # A loop of looptime idles 42 times before each jump unless told otherwise: six times slower.
    return looptime.new_event_loop(start=0.0, resolution=1e-9, noop_cycles=0, idle_timeout=1.0)

"""Cancel requests that are late, with one timer where each would need several of its own."""

from __future__ import annotations

import asyncio
import math
from typing import Final

from attrs import define, field

TURNS: Final = 32
"""Turns of the event loop that a request which is late still gets.

After a pause of the process, the answer may lie in the socket unread. To read it takes the loop two
or three turns for each piece of 128 to 256 KiB, and the largest body has 1 MiB. When there is
nothing to read, all these turns together take a millisecond.
"""


@define(eq=False)
class Timer:
    """The time limit of one request under way; times are by the event loop's clock.

    Attributes:
        watchdog: the watchdog that looks at it.
        task: sends the request.
        last: when the attempt as a whole must be over.
        until: when the next sign of life must have come.
        turns: how often the event loop may still look for one when the time is over.
        late: whether the task was cancelled because none had come.
    """

    watchdog: Watchdog
    task: asyncio.Task[object]
    last: float
    until: float
    turns: int = TURNS
    late: bool = False
    _cancelling: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._cancelling = self.task.cancelling()

    def extend(self, seconds: float) -> bool:
        """Note a sign of life; the next one may take so many seconds.

        Returns:
            Whether the attempt as a whole still has time.
        """
        now = self.watchdog.loop.time()
        in_time = now < self.last
        if in_time:  # later the turns only shrink, so that a stream of bytes ends too
            self.turns = TURNS
        self.until = min(self.last, now + seconds)
        self.watchdog.schedule(self.until)
        return in_time

    def is_cancelled_by_others(self) -> bool:
        """Tell whether the task was cancelled, and not by this timer alone."""
        return self.task.cancelling() - self.late > self._cancelling

    def stop(self) -> None:
        """End the time limit, and take back the timer's own cancellation of the task."""
        self.watchdog.timers.discard(self)
        if self.late:
            self.task.uncancel()


@define(eq=False)
class Watchdog:
    """Cancels every task whose request is late.

    A timer costs more than an MD5 signature, and hardly any ever fires. Signs of life only move the
    time of a request, so one timer for the earliest of them is enough: when it fires too early for
    all of them, it is set to what is the earliest by then.

    A request whose time is over is not cancelled before the loop has read what had arrived: after
    a pause, timers come first.
    """

    loop: asyncio.AbstractEventLoop
    timers: set[Timer] = field(factory=set[Timer], init=False)
    _handle: asyncio.TimerHandle | None = field(default=None, init=False)
    _fires_at: float = field(default=math.inf, init=False)

    def watch(self, seconds: float) -> Timer:
        """Limit the time of the running task's request to so many seconds.

        Raises:
            RuntimeError: called outside any task.
        """
        task = asyncio.current_task(self.loop)
        if task is None:
            raise RuntimeError("only a task can be watched")
        last = self.loop.time() + seconds
        timer = Timer(self, task, last, last)
        self.timers.add(timer)
        self.schedule(last)
        return timer

    def schedule(self, moment: float) -> None:
        """Look at the requests at the moment, if not before."""
        if moment < self._fires_at:
            if self._handle is not None:
                self._handle.cancel()
            self._fires_at = moment
            self._handle = self.loop.call_at(moment, self._expire)

    def _expire(self) -> None:
        self._handle, self._fires_at = None, math.inf
        now = self.loop.time()
        for timer in self.timers:
            if timer.late:
                continue
            if timer.until > now:
                self.schedule(timer.until)
            elif timer.turns:
                timer.turns -= 1
                self.schedule(timer.until)  # which is over: in the next turn of the loop
            else:
                timer.late = True
                timer.task.cancel()

    def close(self) -> None:
        """Drop the timer when no request is under way any more."""
        if self._handle is not None and not self.timers:
            self._handle.cancel()
            self._handle, self._fires_at = None, math.inf

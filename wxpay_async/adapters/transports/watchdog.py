"""Cancel requests that are late, with one timer where each would need several of its own."""

from __future__ import annotations

import asyncio
import math

from attrs import define, field


@define(eq=False)
class Timer:
    """The time limit of one request under way; times are by the event loop's clock.

    Attributes:
        watchdog: the watchdog that looks at it.
        task: sends the request.
        last: when the attempt as a whole must be over.
        until: when the next sign of life must have come.
        late: whether the task was cancelled because it had not.
    """

    watchdog: Watchdog
    task: asyncio.Task[object]
    last: float
    until: float
    late: bool = False
    _cancelling: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._cancelling = self.task.cancelling()

    def extend(self, seconds: float) -> None:
        """Note a sign of life; the next one may take so many seconds."""
        self.until = min(self.last, self.watchdog.loop.time() + seconds)
        self.watchdog.schedule(self.until)

    def stop(self) -> None:
        """End the time limit."""
        self.watchdog.timers.discard(self)

    def timed_out(self) -> bool:
        """Tell whether the task was cancelled by this timer alone, and take that back if so."""
        return self.late and self.task.uncancel() <= self._cancelling


@define(eq=False)
class Watchdog:
    """Cancels every task whose request is late.

    A timer costs more than an MD5 signature, and hardly any ever fires. Signs of life only move the
    time of a request, so one timer for the earliest of them is enough: when it fires too early for
    all of them, it is set to what is the earliest by then.
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
            if timer.until <= now:
                timer.late = True
                timer.task.cancel()
            else:
                self.schedule(timer.until)

    def close(self) -> None:
        """Drop the timer when no request is under way any more."""
        if self._handle is not None and not self.timers:
            self._handle.cancel()
            self._handle, self._fires_at = None, math.inf

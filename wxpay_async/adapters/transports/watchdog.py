"""One timer for all requests under way, where each would need several of its own."""

from __future__ import annotations

import asyncio
import math

from attrs import define, field


@define(eq=False)
class Watch:
    """One request under way; times are by the event loop's clock.

    Attributes:
        task: who sends it.
        last: when the attempt as a whole must be over.
        until: when the next sign of life must have come.
        late: whether the task was cancelled for having missed it.
    """

    vigil: Watchdog
    task: asyncio.Task[object]
    last: float
    until: float
    late: bool = False
    _cancelling: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._cancelling = self.task.cancelling()

    def alive(self, seconds: float) -> None:
        """Note a sign of life; the next one may take so many seconds."""
        self.until = min(self.last, self.vigil.loop.time() + seconds)
        self.vigil.ring_by(self.until)

    def end(self) -> None:
        """Watch no longer."""
        self.vigil.watches.discard(self)

    def forgives(self) -> bool:
        """Tell whether the task's cancellation was ours alone, and take it back if so."""
        return self.late and self.task.uncancel() <= self._cancelling


@define(eq=False)
class Watchdog:
    """Cancels every task whose request is late.

    A timer costs more than an MD5 signature, and hardly any ever fires. Signs of life only move a
    watch's time on, so one timer for the earliest of them is enough: when it rings too early for
    everybody, it is set to what is the earliest by then.
    """

    loop: asyncio.AbstractEventLoop
    watches: set[Watch] = field(factory=set[Watch], init=False)
    _timer: asyncio.TimerHandle | None = field(default=None, init=False)
    _rings_at: float = field(default=math.inf, init=False)

    def begin(self, seconds: float) -> Watch:
        """Watch the task that calls, for so many seconds at the most.

        Raises:
            RuntimeError: called outside any task.
        """
        task = asyncio.current_task(self.loop)
        if task is None:
            raise RuntimeError("only a task can be watched")
        last = self.loop.time() + seconds
        watch = Watch(self, task, last, last)
        self.watches.add(watch)
        self.ring_by(last)
        return watch

    def ring_by(self, moment: float) -> None:
        """Have the timer ring at the moment, if not before."""
        if moment < self._rings_at:
            if self._timer is not None:
                self._timer.cancel()
            self._rings_at = moment
            self._timer = self.loop.call_at(moment, self._look)

    def _look(self) -> None:
        self._timer, self._rings_at = None, math.inf
        now = self.loop.time()
        for watch in self.watches:
            if watch.late:
                continue
            if watch.until <= now:
                watch.late = True
                watch.task.cancel()
            else:
                self.ring_by(watch.until)

    def close(self) -> None:
        """Drop the timer when nobody is watched any more."""
        if self._timer is not None and not self.watches:
            self._timer.cancel()
            self._timer, self._rings_at = None, math.inf

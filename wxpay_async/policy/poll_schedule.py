"""Decide when an order that callers wait for is queried next (`money-safety.md` §6).

| what happens | the next query is due |
| --- | --- |
| the first caller comes | at once |
| another caller comes | its own first pause after the last query, unless it is due before |
| a query says that the order is not paid, or nothing | after a pause |
| a query gets no slot of the quota | after the pause, but not before the limiter's `retry_after` |
| a callback tells something new, also during a query | at once, when that query has ended |

A pause is half as long again as the one before it, up to 15 s: who pays usually does so within
seconds, and who has not paid after a minute may never do. A caller that comes and a callback that
tells something new start the pauses afresh.
"""

from __future__ import annotations

import math
from typing import Final

from attrs import evolve, frozen

LONGEST_PAUSE: Final = 15.0
"""Seconds; only a first pause that is longer stays as it is."""

SHORTEST_PAUSE: Final = 0.1
"""Seconds; pauses of nothing would never grow."""

_GROWTH: Final = 1.5


@frozen(kw_only=True)
class PollSchedule:
    """The plan for one order. Times are seconds of a clock that never goes back.

    Attributes:
        every: the first pause, the shortest of those that the callers asked for.
        due: when the next query may begin.
        pause: how long to wait after the next query that ends.
        ended_at: when the last query ended.
        refused_until: when there is a slot of the quota again.
        woken: a callback told something new since the last query began.
    """

    every: float
    due: float
    pause: float
    ended_at: float = -math.inf
    refused_until: float = -math.inf
    woken: bool = False

    @classmethod
    def begin(cls, now: float, every: float) -> PollSchedule:
        """Return the plan for the first caller, with its first pause."""
        every = max(every, SHORTEST_PAUSE)
        return cls(every=every, due=now, pause=every)

    def join(self, now: float, every: float) -> PollSchedule:
        """Return the plan with another caller, who shares every query from now on."""
        every = max(every, SHORTEST_PAUSE)
        due = max(now, self.ended_at + every, self.refused_until)
        every = min(every, self.every)
        return evolve(self, every=every, due=min(due, self.due), pause=every)

    def wake(self, now: float) -> PollSchedule:
        """Return the plan after a callback that tells something new."""
        return evolve(self, due=now, pause=self.every, woken=True)

    @property
    def may_queue(self) -> bool:
        """Whether the query that is due may wait for its slot for as long as the callers do.

        All others come back later where the queue of their lane is long, so that a callback finds
        it short. One that was sent away has had its turn put off before, and is not put off again.
        """
        return self.woken or self.refused_until > self.ended_at

    def start(self) -> PollSchedule:
        """Return the plan while a query is under way: it answers what woke the callers so far."""
        return evolve(self, woken=False)

    def end(self, now: float, *, retry_after: float = 0.0) -> PollSchedule:
        """Return the plan after a query that did not settle the order.

        Args:
            now: the time.
            retry_after: seconds until there is a slot of the quota, if it got none.
        """
        ended = evolve(self, ended_at=now, refused_until=now + retry_after)
        if self.woken:
            return evolve(ended, due=now)
        return evolve(
            ended,
            due=now + max(self.pause, retry_after),
            pause=max(self.pause, min(_GROWTH * self.pause, LONGEST_PAUSE)),
        )

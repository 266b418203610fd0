"""Foresee when a caller can have a slot of the quota, and remember what the refused were told."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Mapping, Sequence

import attrs

from wxpay_async.policy.lanes import MACHINES, Lane, Quota, next_due

Frees = Mapping[Lane | None, Sequence[float]]
"""When the slots come free that each lane holds, in order; None: those of an earlier process."""


@attrs.frozen(kw_only=True)
class Outlook:
    """The slots as they were at one moment, and what can be foreseen from them.

    Attributes:
        quota: the numbers.
        capacity: how many slots can be taken.
        frees_at: when each slot comes free.
        next_start: when the pace of each lane allows its next call; that of batches is the pace of
            all machines together.
    """

    quota: Quota
    capacity: int
    frees_at: Frees
    next_start: Mapping[Lane, float]
    _all: Sequence[float] = attrs.field(init=False)
    _machines: Sequence[float] = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        everything = sorted(at for times in self.frees_at.values() for at in times)
        machines = sorted(at for lane in MACHINES for at in self.frees_at.get(lane, ()))
        object.__setattr__(self, "_all", everything)
        object.__setattr__(self, "_machines", machines)

    def foresee(self, lane: Lane, now: float, before: Mapping[Lane, int]) -> float:
        """Return the earliest time at which a caller can have its slot.

        It is right if every call that is out is answered now, none ends unsent, and no caller comes
        whose lane goes first.

        Args:
            lane: the caller's.
            now: the time.
            before: callers of each lane that wait, and get their slots first if it is this lane or
                an earlier one.
        """
        quota, own = self.quota, before[lane]
        first = own + sum(before[earlier] for earlier in lane.earlier)
        people = len(self.frees_at.get(Lane.PEOPLE, ()))
        room = quota.room(lane, self.capacity, others=len(self._all) - people)
        free_at = self._foresee(self._all, room, first, now)
        if lane is Lane.PEOPLE:
            return free_at
        share = quota.share_of(lane, self.capacity)
        together = quota.share_of(Lane.BATCH, self.capacity)
        machines = first - before[Lane.PEOPLE]
        own_pace = quota.interval(lane, self.capacity)
        pace = quota.interval_of_machines(self.capacity, people=people)
        return max(
            now,
            free_at,
            self._foresee(self._machines, together, machines, now),
            self._foresee(self.frees_at.get(lane, ()), share, own, now),
            next_due(self.next_start[lane], now, own_pace, own),
            next_due(self.next_start[Lane.BATCH], now, pace, machines),
        )

    def _foresee(self, times: Sequence[float], most: int, before: int, now: float) -> float:
        """Return when a slot comes free for the next caller, where `times` may be `most`."""
        turn = before - (most - len(times))
        if turn < 0:
            return now
        rounds, place = divmod(turn, max(most, len(times)))
        return self._nth(times, place, now) + rounds * self.quota.answered_for

    def _nth(self, times: Sequence[float], place: int, now: float) -> float:
        """Return the time at this place, if every call that is out is answered now."""
        answered_at = now + self.quota.answered_for
        # What is taken for longer than a doubt is out: its end was not reported.
        ended = bisect_right(times, now + self.quota.doubtful_for)
        sooner = bisect_left(times, answered_at, 0, ended)
        out = len(times) - ended
        if place < sooner:
            return times[place]
        return times[place - out] if sooner + out <= place < len(times) else answered_at


@attrs.define(eq=False)
class Promises:
    """When those who were refused were told to come back.

    Of a thousand who are refused in one moment only 400 can be served a minute later: each is told
    the time at which it is its turn.

    Attributes:
        most: promises that are remembered for each lane, so that memory stays bounded.
    """

    most: int = 10_000
    _times: dict[Lane, deque[float]] = attrs.field(
        factory=lambda: {lane: deque[float]() for lane in Lane}, init=False
    )

    def make(self, outlook: Outlook, lane: Lane, now: float, before: Mapping[Lane, int]) -> float:
        """Return when a refused caller should come back, and remember it.

        Args:
            outlook: what can be foreseen.
            lane: the caller's.
            now: the time.
            before: callers of each lane that wait.
        """
        told = {each: before[each] + self._ahead(each, now) for each in Lane}
        at = outlook.foresee(lane, now, told)
        if len(self._times[lane]) < self.most:
            self._times[lane].append(at)
        return at

    def _ahead(self, lane: Lane, now: float) -> int:
        times = self._times[lane]
        while times and times[0] <= now:
            times.popleft()
        return len(times)

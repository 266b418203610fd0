"""Decide by a sliding window log whether a call may go now, and if not, when.

The platform takes 400 calls in any 60 s as it counts them. A call arrives there at some moment
between being allowed and its answer being read; this side cannot know when. So:

1. A call takes a slot from the moment it is allowed until its answer is read, plus 60.25 s.
2. A call in doubt may still be on its way: its slot is taken for 15 s more.
3. A call that was proven not to be sent gives its slot back at once.
4. A call whose end is not reported counts as in doubt when its lease is over.
5. At most 400 slots are taken.

Why that is enough: look at any 60 s. A call that arrived in them was allowed before they ended, and
its slot is taken for 60.25 s after it arrived. So all of them hold a slot at the moment the 60 s
end, and there are only 400. The argument uses no latency and not the platform's clock; the quarter
of a second is for clocks that run at slightly different speeds. It relies on two things: a call
that was given up arrives within 15 s or never, and no attempt outlasts its lease.

People never wait behind machines (`docs/money-safety.md` §6):

6. A free slot goes to the lanes in their order: a person with a phone comes first.
7. Every other lane has a share, which its calls hold at most, and all of them together hold at most
   380 of the 400.
8. Every other lane has an even pace: its calls are due the period divided by its share apart, and
   those of all of them together the period divided by 380, or by what people leave them. A call
   that starts late, but before the next one is due, does not delay that. Lanes that took their
   shares in one burst would keep people out for a minute; slots that were taken evenly come free
   evenly, so that a person finds one within a second.

A refusal for too many calls (CO_MSG_000007) while less than 400 slots are taken means that another
program uses the appKey. Then no call goes until the calls that are out have shrunk to 70 %, and the
pace recovers by 5 % of the quota a minute. The calls that are out are what shrinks, not the quota:
a process that is refused at 100 of 400 gains nothing by slowing to 280. It shrinks once in 60 s,
however many refusals come. People who hold less than half of the quota are not held back by it.

A caller that cannot have a slot in time is told so at once: an `Outlook` foresees from the log when
the next slots come free, and `Promises` remembers what those were told who are to come back.

Everything here is pure: `now` is an argument, in seconds of any clock that never goes back.
"""

from __future__ import annotations

import enum
import heapq
from collections.abc import Collection
from typing import Final

import attrs

from wxpay_async.policy.lanes import MACHINES, Lane, Quota, next_due
from wxpay_async.policy.outlook import Outlook

_FREE: Final = float("-inf")
_RECOVERY_PERIOD: Final = 60.0
_SLOWED_ONCE_IN: Final = 60.0


class SlotOutcome(enum.Enum):
    """How a call ended, as far as its slot is concerned."""

    ANSWERED = "answered"
    DOUBTFUL = "doubtful"
    UNSENT = "unsent"


@attrs.frozen(kw_only=True)
class Slowed:
    """The platform refused a call that our count allowed: another program uses the appKey.

    Attributes:
        taken: the slots that were taken when the refusal came.
        pace: how many may be taken from now on, growing by 5 % of the limit a minute.
        limit: the quota, which we believed was ours alone.
    """

    taken: int
    pace: int
    limit: int


@attrs.define(eq=False)
class Lease:
    """One call's right to a slot.

    Attributes:
        lane: who makes the call; None for a call of an earlier process.
        frees_at: when the slot comes free, as far as it is known.
    """

    lane: Lane | None
    frees_at: float = _FREE


@attrs.frozen
class _Pace:
    calls: int
    since: float


def _count_none() -> dict[Lane | None, int]:
    return dict.fromkeys((*Lane, None), 0)


def _start_any_time() -> dict[Lane, float]:
    return dict.fromkeys(Lane, _FREE)


@attrs.define(eq=False)
class SlidingWindowLog:
    """Remembers which slots are taken, and until when."""

    quota: Quota = attrs.field(factory=Quota)
    taken: int = attrs.field(default=0, init=False)
    _held: dict[Lane | None, int] = attrs.field(factory=_count_none, init=False)
    _next_start: dict[Lane, float] = attrs.field(factory=_start_any_time, init=False)
    # Ordered by time. An entry counts only while its lease still says the same time.
    _expiries: list[tuple[float, int, Lease]] = attrs.field(
        factory=list[tuple[float, int, Lease]], init=False
    )
    _pushed: int = attrs.field(default=0, init=False)
    _pace: _Pace | None = attrs.field(default=None, init=False)
    _outlook: tuple[tuple[int, int, int], Outlook] | None = attrs.field(default=None, init=False)

    def assume_predecessor(self, now: float) -> None:
        """Count half of the slots as taken just now by an earlier process that left no record.

        It may have used none or all of them. Half keeps the quota if it used up to half and left
        no call on its way. If it used more, the platform refuses calls that it did not execute,
        and `slow_down` does the rest: that costs time, never money.
        """
        for _ in range(self.quota.limit // 2):
            self._keep(Lease(None), now + self.quota.answered_for)

    def take(self, lane: Lane, now: float) -> Lease | None:
        """Take a slot, if a call in this lane may go now."""
        self._sweep(now)
        capacity, people = self.capacity(now), self._held[Lane.PEOPLE]
        if self.taken >= self.quota.room(lane, capacity, others=self.taken - people):
            return None
        if lane is not Lane.PEOPLE:
            if now < self._starts_at(lane) or not self._has_share(lane, capacity):
                return None
            # That of batches is the pace of all machines together: they have the largest share.
            together = self.quota.interval_of_machines(capacity, people=people)
            paces = {lane: self.quota.interval(lane, capacity), Lane.BATCH: together}
            for each, interval in paces.items():
                self._next_start[each] = next_due(self._next_start[each], now, interval)
        lease = Lease(lane)
        self._keep(lease, now + self.quota.leased_for)
        return lease

    def _starts_at(self, lane: Lane) -> float:
        return max(self._next_start[lane], self._next_start[Lane.BATCH])

    def _has_share(self, lane: Lane, capacity: int) -> bool:
        machines = sum(self._held[each] for each in MACHINES)
        together = self.quota.share_of(Lane.BATCH, capacity)
        return machines < together and self._held[lane] < self.quota.share_of(lane, capacity)

    def end(self, lease: Lease, outcome: SlotOutcome, now: float) -> None:
        """Record how the call ended, which decides when its slot is free.

        A report that comes after the lease takes the slot again: the call was really out.
        """
        if outcome is SlotOutcome.ANSWERED:
            self._keep(lease, now + self.quota.answered_for)
        elif outcome is SlotOutcome.DOUBTFUL:
            self._keep(lease, now + self.quota.doubtful_for)
        elif lease.frees_at != _FREE:
            self._free(lease)

    def slow_down(self, now: float) -> Slowed | None:
        """Reduce the pace after a refusal for too many calls.

        Returns:
            What was done, or None: all our own slots are taken, which explains the refusal, or
            the pace was reduced less than 60 s ago, perhaps by a call that left before this one.
        """
        self._sweep(now)
        slowed_just_now = self._pace is not None and now - self._pace.since < _SLOWED_ONCE_IN
        if self.taken >= self.quota.limit or slowed_just_now:
            return None
        out = min(self.taken, self.capacity(now))
        self._pace = _Pace(calls=max(1, out * 7 // 10), since=now)
        return Slowed(taken=self.taken, pace=self._pace.calls, limit=self.quota.limit)

    def capacity(self, now: float) -> int:
        """Return how many slots may be taken now: the limit, or less after a refusal."""
        if self._pace is None:
            return self.quota.limit
        minutes = int((now - self._pace.since) / _RECOVERY_PERIOD)
        calls = self._pace.calls + minutes * self.quota.recovery
        if calls >= self.quota.limit:
            self._pace = None
            return self.quota.limit
        return calls

    def in_use(self, now: float) -> int:
        """Return how many slots are taken."""
        self._sweep(now)
        return self.taken

    def held(self, now: float) -> dict[Lane, int]:
        """Return how many slots each lane holds, without those of an earlier process."""
        self._sweep(now)
        return {lane: self._held[lane] for lane in Lane}

    def next_change(self, now: float, lanes: Collection[Lane] = ()) -> float:
        """Return the earliest time at which a call refused now may go, if no call ends unsent.

        Args:
            now: the time.
            lanes: those in which a caller waits.
        """
        while self._expiries and self._expiries[0][0] != self._expiries[0][2].frees_at:
            heapq.heappop(self._expiries)
        machines = (lane for lane in lanes if lane is not Lane.PEOPLE)
        times = [at for lane in machines if (at := self._starts_at(lane)) > now]
        if self._expiries:
            times.append(self._expiries[0][0])
        if self._pace is not None:
            minutes = int((now - self._pace.since) / _RECOVERY_PERIOD)
            times.append(self._pace.since + (minutes + 1) * _RECOVERY_PERIOD)
        return min(times, default=float("inf"))

    def outlook(self, now: float) -> Outlook:
        """Return what can be foreseen now."""
        self._sweep(now)
        version = (self._pushed, self.taken, self.capacity(now))
        if self._outlook is None or self._outlook[0] != version:
            self._outlook = (version, self._look_out(version[2]))
        return self._outlook[1]

    def _look_out(self, capacity: int) -> Outlook:
        frees: dict[Lane | None, list[float]] = {lane: [] for lane in (*Lane, None)}
        for at, _, lease in self._expiries:
            if at == lease.frees_at:
                frees[lease.lane].append(at)
        for times in frees.values():
            times.sort()
        starts = dict(self._next_start)
        return Outlook(quota=self.quota, capacity=capacity, frees_at=frees, next_start=starts)

    def _keep(self, lease: Lease, frees_at: float) -> None:
        if lease.frees_at == _FREE:
            self.taken += 1
            self._held[lease.lane] += 1
        lease.frees_at = frees_at
        self._pushed += 1
        heapq.heappush(self._expiries, (frees_at, self._pushed, lease))
        if len(self._expiries) > 4 * self.quota.limit + 16:
            self._compact()

    def _free(self, lease: Lease) -> None:
        lease.frees_at = _FREE
        self.taken -= 1
        self._held[lease.lane] -= 1

    def _sweep(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            frees_at, _, lease = heapq.heappop(self._expiries)
            if lease.frees_at == frees_at:
                self._free(lease)

    def _compact(self) -> None:
        # Thousands of calls a second can end unsent in an outage; their leases would pile up here.
        self._expiries = [entry for entry in self._expiries if entry[0] == entry[2].frees_at]
        heapq.heapify(self._expiries)

"""Decide by a sliding window log whether a call may go now, and if not, when.

The platform takes 400 calls in any 60 s as it counts them. A call arrives there at some moment
between being allowed and its answer being read; this side cannot know when. So:

1. A call takes a slot from the moment it is allowed until its answer is read, plus 60.25 s.
2. A call in doubt may still be on its way: its slot is taken for 15 s more.
3. A call that was proven not to be sent gives its slot back at once.
4. A call whose end is not reported counts as in doubt when its lease is over.
5. At most 400 slots are taken, at most 380 of them by batches.

Why that is enough: look at any 60 s. A call that arrived in them was allowed before they ended, and
its slot is taken for 60.25 s after it arrived. So all of them hold a slot at the moment the 60 s
end, and there are only 400. The argument uses no latency and not the platform's clock; the quarter
of a second is for clocks that run at slightly different speeds. It relies on two things: a call
that was given up arrives within 15 s or never, and no attempt outlasts its lease.

A refusal for too many calls (CO_MSG_000007) while less than 400 slots are taken means that another
program uses the appKey. Then no call goes until the calls that are out have shrunk to 70 %, and the
pace recovers by 5 % of the quota a minute. The calls that are out are what shrinks, not the quota:
a process that is refused at 100 of 400 gains nothing by slowing to 280.

Everything here is pure: `now` is an argument, in seconds of any clock that never goes back.
"""

from __future__ import annotations

import enum
import heapq
from typing import Final

import attrs

_FREE: Final = float("-inf")
_RECOVERY_PERIOD: Final = 60.0
_RESOLVING_EVERY: Final = 8


class Lane(enum.StrEnum):
    """What kind of caller waits for the call."""

    PEOPLE = "people"
    RESOLVING = "resolving"
    BATCH = "batch"


class SlotOutcome(enum.Enum):
    """How a call ended, as far as its slot is concerned."""

    ANSWERED = "answered"
    DOUBTFUL = "doubtful"
    UNSENT = "unsent"


def lane_order(served: int) -> tuple[Lane, Lane, Lane]:
    """Order the lanes for the next free slot.

    People come first: a payer holds a phone, and the call is worthless after half a minute.
    Resolving a doubt can wait, but not for as long as a rush lasts, so each eighth slot is offered
    to it first. A batch has a day.

    Args:
        served: how many slots were given to waiters so far.
    """
    if served % _RESOLVING_EVERY == _RESOLVING_EVERY - 1:
        return (Lane.RESOLVING, Lane.PEOPLE, Lane.BATCH)
    return (Lane.PEOPLE, Lane.RESOLVING, Lane.BATCH)


def _default_batch(quota: Quota) -> int:
    return max(1, quota.limit * 95 // 100)


def _check_batch(quota: Quota, _: object, batch: int) -> None:
    if not 1 <= batch <= quota.limit:
        raise ValueError(f"batch must be 1 to {quota.limit}, not {batch}")


@attrs.frozen(kw_only=True)
class Quota:
    """The numbers of the platform's quota and of our distance to it. Times are seconds.

    Attributes:
        limit: calls in any period.
        batch: how many of them a batch may use; the rest is for people and for resolving doubts.
        period: the window in which the platform counts.
        margin: held longer than the period, for clocks of different speed.
        doubt: how long a call that was given up may still take to arrive.
        lease: after this a call whose end was not reported counts as given up. It must be longer
            than the longest attempt, or the quota does not hold.
    """

    limit: int = attrs.field(default=400, validator=attrs.validators.ge(1))
    batch: int = attrs.field(
        default=attrs.Factory(_default_batch, takes_self=True), validator=_check_batch
    )
    period: float = attrs.field(default=60.0, validator=attrs.validators.gt(0))
    margin: float = attrs.field(default=0.25, validator=attrs.validators.ge(0))
    doubt: float = attrs.field(default=15.0, validator=attrs.validators.ge(0))
    lease: float = attrs.field(default=20.0, validator=attrs.validators.gt(0))

    @property
    def answered_for(self) -> float:
        """Seconds for which a slot stays taken after the answer."""
        return self.period + self.margin

    @property
    def doubtful_for(self) -> float:
        """Seconds for which a slot stays taken after the call was given up."""
        return self.answered_for + self.doubt

    @property
    def leased_for(self) -> float:
        """Seconds for which a slot is taken from the start, unless its end is reported."""
        return self.doubtful_for + self.lease

    @property
    def recovery(self) -> int:
        """Calls by which the pace grows each minute after it was slowed."""
        return max(1, self.limit * 5 // 100)

    def batch_share(self, capacity: int) -> int:
        """Return how many of the slots that can be taken now a batch may hold."""
        return max(1, capacity * self.batch // self.limit)


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
    """One call's right to a slot."""

    lane: Lane
    frees_at: float = _FREE


@attrs.frozen
class _Pace:
    calls: int
    since: float


@attrs.define(eq=False)
class SlidingWindowLog:
    """Remembers which slots are taken, and until when."""

    quota: Quota = attrs.field(factory=Quota)
    taken: int = attrs.field(default=0, init=False)
    _batch: int = attrs.field(default=0, init=False)
    # Ordered by time. An entry counts only while its lease still says the same time.
    _expiries: list[tuple[float, int, Lease]] = attrs.field(
        factory=list[tuple[float, int, Lease]], init=False
    )
    _pushed: int = attrs.field(default=0, init=False)
    _pace: _Pace | None = attrs.field(default=None, init=False)

    def assume_predecessor(self, now: float) -> None:
        """Count half of the slots as taken just now by an earlier process that left no record.

        It may have used none or all of them. Half keeps the quota if it used up to half and left
        no call on its way. If it used more, the platform refuses calls that it did not execute,
        and `slow_down` does the rest: that costs time, never money.
        """
        for _ in range(self.quota.limit // 2):
            self._keep(Lease(Lane.PEOPLE), now + self.quota.answered_for)

    def take(self, lane: Lane, now: float) -> Lease | None:
        """Take a slot, if a call in this lane may go now."""
        self._sweep(now)
        capacity = self.capacity(now)
        if self.taken >= capacity:
            return None
        if lane is Lane.BATCH and self._batch >= self.quota.batch_share(capacity):
            return None
        lease = Lease(lane)
        self._keep(lease, now + self.quota.leased_for)
        return lease

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
            the calls that are out still shrink, so this one left before the pace was last reduced.
        """
        self._sweep(now)
        if self.taken >= self.quota.limit or self.taken > self.capacity(now):
            return None
        self._pace = _Pace(calls=max(1, self.taken * 7 // 10), since=now)
        return Slowed(taken=self.taken, pace=self._pace.calls, limit=self.quota.limit)

    def capacity(self, now: float) -> int:
        """Return how many slots may be taken now: the limit, or less after a refusal."""
        if self._pace is None:
            return self.quota.limit
        minutes = int((now - self._pace.since) / _RECOVERY_PERIOD)
        calls = self._pace.calls + minutes * self.quota.recovery
        if calls < self.quota.limit:
            return calls
        self._pace = None
        return self.quota.limit

    def in_use(self, now: float) -> int:
        """Return how many slots are taken."""
        self._sweep(now)
        return self.taken

    def next_change(self, now: float) -> float:
        """Return the earliest time at which a call refused now may go, if no call ends unsent."""
        while self._expiries and self._expiries[0][0] != self._expiries[0][2].frees_at:
            heapq.heappop(self._expiries)
        slot_free = self._expiries[0][0] if self._expiries else float("inf")
        if self._pace is None:
            return slot_free
        minutes = int((now - self._pace.since) / _RECOVERY_PERIOD)
        return min(slot_free, self._pace.since + (minutes + 1) * _RECOVERY_PERIOD)

    def _keep(self, lease: Lease, frees_at: float) -> None:
        if lease.frees_at == _FREE:
            self.taken += 1
            self._batch += lease.lane is Lane.BATCH
        lease.frees_at = frees_at
        self._pushed += 1
        heapq.heappush(self._expiries, (frees_at, self._pushed, lease))
        if len(self._expiries) > 4 * self.quota.limit + 16:
            self._compact()

    def _free(self, lease: Lease) -> None:
        lease.frees_at = _FREE
        self.taken -= 1
        self._batch -= lease.lane is Lane.BATCH

    def _sweep(self, now: float) -> None:
        while self._expiries and self._expiries[0][0] <= now:
            frees_at, _, lease = heapq.heappop(self._expiries)
            if lease.frees_at == frees_at:
                self._free(lease)

    def _compact(self) -> None:
        # Thousands of calls a second can end unsent in an outage; their leases would pile up here.
        self._expiries = [entry for entry in self._expiries if entry[0] == entry[2].frees_at]
        heapq.heapify(self._expiries)

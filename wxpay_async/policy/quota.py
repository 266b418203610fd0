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

6. A free slot goes to the lanes in their order: whoever holds a phone comes first.
7. Every other lane has a share, which its calls hold at most, and all of them together hold at most
   380 of the 400.
8. Every other lane has an even pace: its calls start at least the period divided by its share
   apart, and those of all of them together at least the period divided by 380. Lanes that took
   their shares in one burst would keep people out for a minute; slots that were taken evenly come
   free evenly, so that a person finds one within a second.

A refusal for too many calls (CO_MSG_000007) while less than 400 slots are taken means that another
program uses the appKey. Then no call goes until the calls that are out have shrunk to 70 %, and the
pace recovers by 5 % of the quota a minute. The calls that are out are what shrinks, not the quota:
a process that is refused at 100 of 400 gains nothing by slowing to 280. It shrinks once in 60 s,
however many refusals come. People who hold less than half of the quota are not held back by it.

Whoever cannot have a slot in time is told so at once: an `Outlook` foresees from the log when the
next slots come free, and `Promises` remembers what those were told who are to come back.

Everything here is pure: `now` is an argument, in seconds of any clock that never goes back.
"""

from __future__ import annotations

import enum
import heapq
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Collection, Mapping, Sequence
from typing import Final

import attrs

_FREE: Final = float("-inf")
_RECOVERY_PERIOD: Final = 60.0
_SLOWED_ONCE_IN: Final = 60.0


class Lane(enum.StrEnum):
    """What kind of caller waits for the call, in the order in which they get a free slot.

    Attributes:
        PEOPLE: somebody with a phone in hand; the call is worthless after half a minute.
        RESOLVING: doubts, and verified callbacks.
        POLLING: watching whether an order is paid.
        BATCH: what has a day.
        UNVERIFIED: the query behind a callback that nobody signed.
    """

    __hash__ = str.__hash__  # Enum's is written in Python, and every call looks its lane up

    PEOPLE = "people"
    RESOLVING = "resolving"
    POLLING = "polling"
    BATCH = "batch"
    UNVERIFIED = "unverified"

    @property
    def earlier(self) -> tuple[Lane, ...]:
        """The lanes that get a free slot before this one."""
        return _EARLIER[self]


_EARLIER: Final = {lane: tuple(Lane)[:place] for place, lane in enumerate(Lane)}
_MACHINES: Final = tuple(lane for lane in Lane if lane is not Lane.PEOPLE)


class SlotOutcome(enum.Enum):
    """How a call ended, as far as its slot is concerned."""

    ANSWERED = "answered"
    DOUBTFUL = "doubtful"
    UNSENT = "unsent"


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
        batch: how many of them a batch may use, and all lanes but people's together; the rest is
            for people.
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

    @property
    def people_keep(self) -> int:
        """Slots that people may hold however slow the pace is, while the quota has a free one."""
        return max(1, self.limit // 2)

    def share(self, lane: Lane) -> int:
        """Return how many slots a lane may hold, where the pace is not reduced."""
        if lane is Lane.PEOPLE:
            return self.limit
        if lane is Lane.BATCH:
            return self.batch
        part = self.limit // 20 if lane is Lane.UNVERIFIED else self.limit // 4
        return max(1, min(part, self.batch))

    def share_of(self, lane: Lane, capacity: int) -> int:
        """Return how many of the slots that can be taken now a lane may hold."""
        return max(1, capacity * self.share(lane) // self.limit)

    def room(self, lane: Lane, capacity: int, *, others: int) -> int:
        """Return how many slots must not be taken yet for a call of the lane to go.

        Args:
            lane: the call's.
            capacity: how many slots can be taken now.
            others: how many are taken, those of people left out.
        """
        if lane is not Lane.PEOPLE:
            return capacity
        return max(capacity, min(self.limit, others + self.people_keep))

    def interval(self, lane: Lane, capacity: int) -> float:
        """Return the seconds between two starts of a lane, 0 for people."""
        return 0.0 if lane is Lane.PEOPLE else self.period / self.share_of(lane, capacity)


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
        machines = sorted(at for lane in _MACHINES for at in self.frees_at.get(lane, ()))
        object.__setattr__(self, "_all", everything)
        object.__setattr__(self, "_machines", machines)

    def foresee(self, lane: Lane, now: float, before: Mapping[Lane, int]) -> float:
        """Return the earliest time at which a caller can have its slot.

        It is right if every call that is out is answered now, none ends unsent, and nobody comes
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
        return max(
            free_at,
            self._foresee(self._machines, together, machines, now),
            self._foresee(self.frees_at.get(lane, ()), share, own, now),
            self._starts_at(lane, own, now),
            self._starts_at(Lane.BATCH, machines, now),
        )

    def _starts_at(self, lane: Lane, before: int, now: float) -> float:
        """Return when the pace of a lane allows the call that follows so many others."""
        pace = self.quota.interval(lane, self.capacity)
        return max(now, self.next_start[lane]) + before * pace

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
            for paced in {lane, Lane.BATCH}:
                self._next_start[paced] = now + self.quota.interval(paced, capacity)
        lease = Lease(lane)
        self._keep(lease, now + self.quota.leased_for)
        return lease

    def _starts_at(self, lane: Lane) -> float:
        return max(self._next_start[lane], self._next_start[Lane.BATCH])

    def _has_share(self, lane: Lane, capacity: int) -> bool:
        machines = sum(self._held[each] for each in _MACHINES)
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
            lanes: those in which somebody waits.
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

"""People beside machines at a small quota, explored to the last order of events.

A third model beside `purchase` and `payment`, of `money-safety.md` §6. What it asks: can a platform
count too many calls, does a person wait for long behind machines, and what does a refusal for too
many calls cost?

What is shipped and not modelled: the log of the quota (`SlidingWindowLog`) and its numbers
(`Quota`). The model calls them. A bad policy replaces a piece of one of them, or the order of those
who wait; that the shipped limiters let people go first is what their own tests check.

Time goes in ticks of 10 s, of which the platform's minute has 6. The quota is 4 calls, of which
machines may hold 3, so that one of them may start each 2 ticks. People come when they like, but 3
ticks apart at the least: that is more than the one slot that machines leave to them. Where refusals
slow the calls down, people need half of the quota. A call is over in the tick in which it began or
in the next one. It may arrive at the platform at any moment until its answer was read, or until
15 s after it was given up.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

from attrs import evolve, field, frozen

from tests.chaos.quota import SendingLog, peak
from wxpay_async.policy.lanes import Lane, Quota
from wxpay_async.policy.quota import Lease, SlidingWindowLog, SlotOutcome, Slowed, _Pace

TICK: Final = 10.0
APART: Final = 3
PATIENCE: Final = 2
"""Ticks for which a person may have to wait: those until a slot that machines took evenly is free.
Of slots that were taken in one burst, none comes free for longer."""
QUEUE: Final = 3
"""Machines that stand before a person where no lane goes first."""
NEVER: Final = -1e9
MACHINES: Final = (Lane.RESOLVING, Lane.POLLING, Lane.BATCH)
ANSWERED, DOUBTFUL, UNSENT = SlotOutcome.ANSWERED, SlotOutcome.DOUBTFUL, SlotOutcome.UNSENT
SMALL: Final = Quota(limit=4, batch=3)


# The mistakes


class PacedApart(SlidingWindowLog):
    """A log without the pace of all machines together: each of their lanes has only its own."""

    def _starts_at(self, lane: Lane) -> float:
        return self._next_start[lane]

    def take(self, lane: Lane, now: float) -> Lease | None:
        """Take a slot, whatever the other lanes of machines took."""
        batch_starts = self._next_start[Lane.BATCH]
        lease = super().take(lane, now)
        if lane is not Lane.BATCH:
            self._next_start[Lane.BATCH] = batch_starts
        return lease


class SlowedByEach(SlidingWindowLog):
    """A log that falls to 70 % with every refusal, also with one that left before it slowed."""

    def slow_down(self, now: float) -> Slowed | None:
        """Fall once more."""
        calls = max(1, min(self.taken, self.capacity(now)) * 7 // 10)
        self._pace = _Pace(calls, now)
        return Slowed(taken=self.taken, pace=calls, limit=self.quota.limit)


class Unpaced(Quota):
    """Numbers by which machines may take their shares in one burst."""

    def interval(self, lane: Lane, capacity: int) -> float:
        """Return no time at all."""
        del lane, capacity
        return 0.0

    def interval_of_machines(self, capacity: int, *, people: int) -> float:
        """Return no time at all."""
        del capacity, people
        return 0.0


class Hasty(Quota):
    """Numbers by which a call that was given up arrives at once or never."""

    @property
    def doubtful_for(self) -> float:
        """The same as after an answer."""
        return self.answered_for


class HoldingBack(Quota):
    """Numbers by which people are slowed like machines."""

    @property
    def people_keep(self) -> int:
        """Nothing."""
        return 0


# What may come


@frozen(kw_only=True)
class Policy:
    """What may be decided differently, and what happens around it; the defaults are what ships.

    Attributes:
        name: of the policy.
        quota: the numbers.
        log: makes the log.
        people_first: whoever holds a phone stands before all machines.
        crowds: which machines may want slots in a tick, all they can get.
        apart: ticks from one person to the next, at the least. Who comes each tick leaves without
            a slot: nobody waits for long then.
        takes: how many seconds calls may take, and `endings` how they may end.
        refusals: how many calls the platform may refuse because another program uses the key.
    """

    name: str = "ours"
    quota: Quota = SMALL
    log: type[SlidingWindowLog] = field(default=SlidingWindowLog, repr=False)
    people_first: bool = True
    crowds: Sequence[tuple[Lane, ...]] = ((), (Lane.BATCH,), MACHINES)
    apart: int = APART
    takes: Sequence[float] = (0.0,)
    endings: Sequence[SlotOutcome] = (ANSWERED,)
    refusals: int = 0


OURS = Policy(name="ours, beside every crowd")
DOUBTFULLY = evolve(
    OURS,
    name="ours, and calls get lost",
    quota=Quota(limit=2),
    crowds=((),),
    apart=1,
    takes=(0.0, TICK),
    endings=(ANSWERED, DOUBTFUL, UNSENT),
)
REFUSED = evolve(
    OURS, name="ours, and others use the key", crowds=((),), apart=APART + 1, refusals=3
)
BUSY = evolve(REFUSED, name="ours, a batch, and others use the key", crowds=((), (Lane.BATCH,)))
GOOD = (OURS, DOUBTFULLY, REFUSED, BUSY)

BAD = (
    evolve(OURS, name="first come, first served", people_first=False),
    evolve(OURS, name="lanes without a pace", quota=Unpaced(limit=4, batch=3)),
    evolve(OURS, name="the lanes of machines are paced apart", log=PacedApart),
    evolve(BUSY, name="each refusal slows", log=SlowedByEach),
    evolve(REFUSED, name="people are slowed, too", quota=HoldingBack(limit=4, batch=3)),
    evolve(DOUBTFULLY, name="a slot is freed by the time of sending", log=SendingLog),
    evolve(DOUBTFULLY, name="a slot is freed early after a doubt", quota=Hasty(limit=2)),
)


# The world


class Call(NamedTuple):
    """A call that holds a slot, or that a window of the platform may still count.

    Times are seconds from now. `ends` is above 0 while the call is under way; `latest` is the last
    moment at which it may arrive, as far as it is over.
    """

    lane: Lane | None
    frees_at: float
    began: float
    ends: float
    ending: SlotOutcome
    latest: float


class Person(NamedTuple):
    """A person that waits for a slot, and the machines that go before."""

    ticks: int
    before: int


class World(NamedTuple):
    """Everything."""

    calls: tuple[Call, ...] = ()
    people: tuple[Person, ...] = ()
    since_person: int = APART
    starts: tuple[float, ...] = (NEVER,) * len(Lane)
    pace: tuple[int, float] | None = None
    floor: tuple[int, float] = (0, 0.0)  # what one refusal may slow to, and for how long
    capacity: int = 0
    refused: int = 0


Step = tuple[str, World]


def find_problem(world: World, policy: Policy) -> str | None:
    """Return the promise that the world breaks."""
    spans = [(call.began, max(call.latest, call.began)) for call in world.calls]
    if peak(spans, 60.0) > policy.quota.limit:
        return "more calls in 60 s than the quota has"
    if any(person.ticks > PATIENCE for person in world.people):
        return "a person waits for long"
    if world.capacity < world.floor[0]:
        return "slowed to less than 70 % within a minute"
    return None


def list_steps(world: World, policy: Policy) -> Iterator[Step]:
    """Yield everything that can happen in the next tick."""
    comes = (False, True) if world.since_person + 1 >= policy.apart else (False,)
    refused = (False, True) if world.calls and world.refused < policy.refusals else (False,)
    for crowd, person, takes, ending, refusal in itertools.product(
        policy.crowds, comes, policy.takes, policy.endings, refused
    ):
        label = f"{len(crowd)} lanes, calls of {takes:g} s end {ending.value}"
        label += ", a person" * person + ", refused" * refusal
        tick = _Tick(_let_time_pass(world), policy, takes, ending)
        yield label, tick.run(crowd, person=person, refusal=refusal)


def _let_time_pass(world: World) -> World:
    floor, lasts = world.floor
    return world._replace(
        calls=tuple(
            call._replace(
                frees_at=call.frees_at - TICK,
                began=call.began - TICK,
                ends=call.ends - TICK,
                latest=0.0 if call.ends > 0 else call.latest - TICK,
            )
            for call in world.calls
        ),
        people=tuple(person._replace(ticks=person.ticks + 1) for person in world.people),
        since_person=min(world.since_person + 1, APART),
        starts=tuple(max(NEVER, start - TICK) for start in world.starts),
        pace=None if world.pace is None else (world.pace[0], world.pace[1] - TICK),
        floor=(floor, lasts - TICK) if lasts > TICK else (0, 0.0),
    )


# One tick


class _Tick:
    """What one tick does to a world, on a log as the world says."""

    def __init__(self, world: World, policy: Policy, takes: float, ending: SlotOutcome) -> None:
        self.world, self.policy, self.takes, self.ending = world, policy, takes, ending
        self.people = list(world.people)
        self.log = policy.log(policy.quota)
        self.log._next_start.update(zip(Lane, world.starts, strict=True))
        if world.pace is not None:
            self.log._pace = _Pace(*world.pace)
        self.calls: list[tuple[Call, Lease]] = []
        for call in world.calls:
            lease = Lease(call.lane)
            if call.frees_at > 0:
                self.log._keep(lease, call.frees_at)
            self._keep(call, lease)

    def run(self, crowd: Sequence[Lane], *, person: bool, refusal: bool) -> World:
        """Let a person come, give the slots away, and let the platform refuse."""
        if person:
            self.people.append(Person(0, QUEUE if crowd and not self.policy.people_first else 0))
        if self.policy.people_first:
            self._serve_lanes(crowd)
        else:
            self._serve_in_order(crowd)
        if self.policy.apart < APART:
            self.people.clear()
        floor = self._refuse() if refusal else self.world.floor
        capacity = self.log.capacity(0.0)  # a pace that has recovered is forgotten
        return World(
            calls=tuple(sorted(self._list_calls(), key=repr)),
            people=tuple(self.people),
            since_person=0 if person else min(self.world.since_person, self.policy.apart),
            starts=tuple(at if at > 0 else NEVER for at in self.log._next_start.values()),
            pace=None if self.log._pace is None else (self.log._pace.calls, self.log._pace.since),
            floor=floor,
            capacity=capacity,
            refused=self.world.refused + refusal,
        )

    def _serve_lanes(self, crowd: Sequence[Lane]) -> None:
        while self.people and self._take(Lane.PEOPLE):
            del self.people[0]
        for lane in crowd:
            while self._take(lane):
                pass

    def _serve_in_order(self, crowd: Sequence[Lane]) -> None:
        while (self.people or crowd) and self._take(Lane.PEOPLE):
            if self.people and not self.people[0].before:
                del self.people[0]
            else:
                self.people = [each._replace(before=each.before - 1) for each in self.people]

    def _take(self, lane: Lane) -> bool:
        lease = self.log.take(lane, 0.0)
        if lease is not None:
            call = Call(lane, 0.0, began=0.0, ends=self.takes, ending=self.ending, latest=0.0)
            self._keep(call, lease)
        return lease is not None

    def _keep(self, call: Call, lease: Lease) -> None:
        """Note a call, and report its end in the moment in which it is over."""
        if call.ends == 0.0:
            self.log.end(lease, call.ending, 0.0)
            if call.ending is UNSENT:
                return
            call = call._replace(latest=15.0 if call.ending is DOUBTFUL else 0.0)
        self.calls.append((call, lease))

    def _refuse(self) -> tuple[int, float]:
        least = max(1, min(self.log.taken, self.log.capacity(0.0)) * 7 // 10)
        slowed = self.log.slow_down(0.0)
        return (least, 60.0) if slowed and not self.world.floor[0] else self.world.floor

    def _list_calls(self) -> Iterator[Call]:
        for call, lease in self.calls:
            frees_at = max(0.0, lease.frees_at)
            if frees_at or call.latest >= -60.0:
                yield call._replace(frees_at=frees_at)

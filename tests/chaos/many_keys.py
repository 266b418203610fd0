# ruff: noqa: T201 - a script that prints its figures
"""Let people pay by 1,000 appKeys at once, in virtual time, over as many processes as are planned.

    python -m tests.chaos.many_keys                               # some busy, batches beside some
    python -m tests.chaos.many_keys --batches 1000 --minutes 4    # every appKey at its full quota
    python -m tests.chaos.many_keys --batches 1000 --minutes 4 --processes 6    # which are too few

Each appKey has a quota of its own, kept by a `LocalLimiter` in the one process that serves it. To a
busy one come 60 people a minute, to any other one 2. Beside some runs a batch that never ends; half
of these are busy ones. The appKeys are dealt out to the processes, which share nothing. A call that
has its slot needs the core of its process for so many microseconds (`--cpu`), and calls get it one
after another: so the waits also show whether the processes are enough.

Nobody who pays may fail; of all people 95 of 100 wait 2 s at most and 99 of 100 wait 5 s, for slot
and core together. Of no appKey more than 400 calls may arrive in any 60 s at the worst platform,
which counts a call at any moment between being allowed and being over. An appKey with a batch uses
92 % of its quota, the first two minutes left out; a batch may have 95 %.

Exit status 1 means that one of these does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import functools
import multiprocessing
import random
import statistics
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import Final

import attrs

from tests.chaos.people import WARM_UP, VirtualStage, run_batch
from tests.chaos.quota import DOUBT, LIMIT, LIMITERS, PERIOD, PROFILES, Call, peak
from tests.support.clock import loop_time, run_virtual
from wxpay_async.adapters.limiters.limiter import Lane, Slot
from wxpay_async.policy.quota import SlotOutcome

BUSY: Final = 60.0
QUIET: Final = 2.0
"""People a minute."""

LEAST_USE: Final = 0.92
"""97 % of the 95 % that a batch may have of a quota."""


# --- an appKey, and the process that serves it --------------------------------------------------


@attrs.define(eq=False)
class Core:
    """The core of one process, which does one thing after another.

    Attributes:
        takes: seconds for one call.
        worked: seconds in which it did something.
    """

    takes: float
    worked: float = 0.0
    _free_at: float = 0.0

    async def work(self) -> None:
        """Wait until it has done what one call needs."""
        self._free_at = max(self._free_at, loop_time()) + self.takes
        self.worked += self.takes
        await asyncio.sleep(self._free_at - loop_time())


@attrs.define(eq=False, kw_only=True)
class AppKey(VirtualStage):
    """One appKey: its limiter, and who wants its slots.

    Attributes:
        core: that of the process which serves it.
        people: how many come each minute.
        has_batch: whether one runs.
    """

    core: Core
    people: float
    has_batch: bool

    @property
    def kind(self) -> str:
        """What its figures are shown under."""
        name = "busy" if self.people == BUSY else "quiet"
        return f"{name}, batch" if self.has_batch else name

    async def live(self) -> None:
        """Let people pay and the batch run for ever."""
        async with asyncio.TaskGroup() as group:
            if self.has_batch:
                group.create_task(run_batch(self))
            while True:
                await self.arrive(self.dice.expovariate(self.people / 60.0))
                group.create_task(self.person())

    async def send(self, slot: Slot, lane: Lane, waited: float) -> None:
        """Let the process do its part, and then the platform."""
        allowed = loop_time()
        takes, ending = self.profile(self.dice, allowed)
        try:
            await self.core.work()
            if lane is Lane.PEOPLE:
                self.waits.append(waited + loop_time() - allowed)
            await asyncio.sleep(takes)
        finally:
            if ending is not SlotOutcome.UNSENT:
                late = DOUBT if ending is SlotOutcome.DOUBTFUL else 0.0
                self.calls.append(Call(allowed, loop_time() + late, ending))
        await getattr(slot, ending.value)()


# --- the run ------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Plan:
    """How many of everything there are.

    Attributes:
        keys: appKeys, each with its quota.
        busy: of them, with many people.
        batches: appKeys beside whose people a batch runs.
        processes: that share the appKeys.
        cpu: microseconds of a core that one call takes.
        latency: how long the platform takes.
        limiter: what keeps the quotas.
    """

    keys: int = 1000
    busy: int = 100
    batches: int = 50
    processes: int = 10
    cpu: float = 1000.0
    latency: str = "uniform"
    limiter: str = "interval"

    def run(self, *, minutes: float, seed: int) -> Figures:
        """Let people pay by all of them for so many minutes."""
        work = functools.partial(self.run_process, minutes=minutes, seed=seed)
        with ProcessPoolExecutor(mp_context=multiprocessing.get_context("spawn")) as pool:
            return Figures.add(list(pool.map(work, range(self.processes))))

    def run_process(self, process: int, *, minutes: float, seed: int) -> Figures:
        """Run one of the processes, which share nothing."""
        seconds = minutes * 60

        async def live() -> list[AppKey]:
            app_keys = list(self.app_keys_of(process, seed))
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                    for each in app_keys:
                        group.create_task(each.live())
            return app_keys

        return Figures.take(run_virtual(live()), seconds)

    def app_keys_of(self, process: int, seed: int) -> Iterator[AppKey]:
        """Make those of one process; all processes get as many, of each kind."""
        core = Core(self.cpu * 1e-6)
        busy_batches = min(self.busy, (self.batches + 1) // 2)
        quiet_batches = range(self.busy, self.busy + self.batches - busy_batches)
        for number in range(process, self.keys, self.processes):
            yield AppKey(
                dice=random.Random(f"{seed} {number}"),
                limiter=LIMITERS[self.limiter](),
                profile=PROFILES[self.latency],
                core=core,
                people=BUSY if number < self.busy else QUIET,
                has_batch=number < busy_batches or number in quiet_batches,
            )


@attrs.frozen(kw_only=True)
class Figures:
    """What a run showed.

    Attributes:
        waits: of people, in seconds, by the kind of their appKey.
        failures: people who got no slot.
        calls: of all appKeys.
        peak: the most calls that could arrive in any 60 s, of one appKey.
        least_use: the least that an appKey with a batch used of its quota; 1 where there is none.
        busiest: the part of its core that the busiest process used.
    """

    waits: dict[str, list[float]]
    failures: int
    calls: int
    peak: int
    least_use: float
    busiest: float

    @classmethod
    def take(cls, app_keys: Sequence[AppKey], seconds: float) -> Figures:
        """Take them from a process that ran for so many seconds."""
        waits: dict[str, list[float]] = {}
        for each in app_keys:
            waits.setdefault(each.kind, []).extend(each.waits)
        end = seconds - WARM_UP / 4  # those that were under way are missing at the end
        with_batch = [each.calls for each in app_keys if each.has_batch]
        return cls(
            waits=waits,
            failures=sum(each.failures for each in app_keys),
            calls=sum(len(each.calls) for each in app_keys),
            peak=max(_peak(each.calls) for each in app_keys),
            least_use=min((_use(calls, end) for calls in with_batch), default=1.0),
            busiest=app_keys[0].core.worked / seconds,
        )

    @classmethod
    def add(cls, parts: Sequence[Figures]) -> Figures:
        """Return those of all processes together."""
        kinds = dict.fromkeys(kind for part in parts for kind in part.waits)
        return cls(
            waits={kind: [w for part in parts for w in part.waits.get(kind, ())] for kind in kinds},
            failures=sum(part.failures for part in parts),
            calls=sum(part.calls for part in parts),
            peak=max(part.peak for part in parts),
            least_use=min(part.least_use for part in parts),
            busiest=max(part.busiest for part in parts),
        )

    @property
    def everybody(self) -> list[float]:
        """The waits of all people."""
        return [wait for waits in self.waits.values() for wait in waits]

    @property
    def held(self) -> bool:
        """Tell whether people were served, and each quota kept and used."""
        waits = self.everybody
        served = not self.failures and _wait_of(95, waits) <= 2.0 and _wait_of(99, waits) <= 5.0
        return served and self.peak <= LIMIT and self.least_use >= LEAST_USE

    def __str__(self) -> str:
        rows = [
            f"{kind:13} people {len(waits):6d}  p95 {_wait_of(95, waits):6.3f} s  "
            f"p99 {_wait_of(99, waits):6.3f} s  longest {max(waits):6.3f} s\n"
            for kind, waits in {**self.waits, "all": self.everybody}.items()
        ]
        verdict = "ok" if self.held else "RED"
        return "".join(rows) + (
            f"calls {self.calls}  failed {self.failures}  peak {self.peak}  "
            f"least use beside a batch {self.least_use:.1%}  "
            f"busiest process {self.busiest:.0%}  {verdict}"
        )


def _peak(calls: Sequence[Call]) -> int:
    return peak([(call.earliest, call.latest) for call in calls])


def _use(calls: Sequence[Call], end: float) -> float:
    steady = sum(WARM_UP <= call.earliest < end for call in calls)
    return steady / (end - WARM_UP) * PERIOD / LIMIT


def _wait_of(percent: int, waits: Sequence[float]) -> float:
    return statistics.quantiles(waits, n=100, method="inclusive")[percent - 1]


# --- the command line ---------------------------------------------------------------------------


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    plan = Plan()
    parser = argparse.ArgumentParser(description="Let people pay by many appKeys at once.")
    parser.add_argument("--keys", type=int, default=plan.keys)
    parser.add_argument("--busy", type=int, default=plan.busy, help="of them, with many people")
    parser.add_argument("--batches", type=int, default=plan.batches)
    parser.add_argument("--processes", type=int, default=plan.processes)
    parser.add_argument("--cpu", type=float, default=plan.cpu, help="µs of a core for a call")
    parser.add_argument("--latency", choices=PROFILES, default=plan.latency)
    parser.add_argument("--limiter", choices=LIMITERS, default=plan.limiter)
    parser.add_argument("--minutes", type=float, default=8.0)
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for, print the figures, and say by the status if all is well."""
    options = _options(arguments)
    plan = Plan(
        keys=options.keys,
        busy=options.busy,
        batches=options.batches,
        processes=options.processes,
        cpu=options.cpu,
        latency=options.latency,
        limiter=options.limiter,
    )
    print(f"seed {options.seed}, {options.minutes:g} minutes, {plan}", flush=True)
    figures = plan.run(minutes=options.minutes, seed=options.seed)
    print(figures, flush=True)
    return int(not figures.held)


if __name__ == "__main__":
    sys.exit(main())

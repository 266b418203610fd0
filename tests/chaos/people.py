# ruff: noqa: T201 - a script that prints its figures
"""Let people pay beside everything else that wants the quota, in virtual or in real time.

    python -m tests.chaos.people --minutes 20
    python -m tests.chaos.people --beside batch --latency heavy-tail
    python -m tests.chaos.people --real --minutes 6 --beside all
    python -m tests.chaos.people --real --processes 4 --kill-one --minutes 6 --beside all

60 people a minute pay while machines crowd the quota: a batch that never ends, 1,000 doubts that
recovery asks about, 200 pages that watch an unpaid order each 2 s, forged callbacks at 40 a second,
or all of them. Nobody who pays may fail; 95 of 100 wait 2 s at most and 99 of 100 wait 5 s; with a
batch, 97 % of the quota is used.

Virtual time drives the `LocalLimiter`, and the platform is the worst one. With `--real`
(`people_real.py`) a server counts who arrives. One process has the `LocalLimiter`. Several share
people and machines, and the quota in a Redis; `--kill-one` kills one of them in the middle, and
another takes its place. No 60 s may have more than 400 calls. The first minute is not measured.

Exit status 1 means that one of these does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import os
import random
import statistics
import sys
from collections import Counter
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

import attrs

from tests.chaos.quota import DOUBT, LIMIT, PERIOD, PROFILES, Call, Profile, peak
from tests.support.clock import loop_time, run_virtual
from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Slot
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.errors import QuotaExhaustedError
from wxpay_async.policy.quota import SlotOutcome

A_MINUTE: Final = 60
PATIENCE: Final = 30.0
WARM_UP: Final = 120.0
LEAST_USE: Final = 0.97
DAY: Final = 86_400.0
ASKED_AFTER: Final = (5.0, 15.0, 45.0, 120.0, 300.0, 630.0)
"""Seconds after which recovery asks about a doubt, each from the last time."""


@attrs.define(eq=False, kw_only=True)
class Stage:
    """One limiter, and those who want its slots.

    Attributes:
        dice: decides what is left to chance.
        limiter: keeps the quota.
        processes: how many share the people and the machines.
        refused: machines that were told to come back.
    """

    dice: random.Random
    limiter: Limiter
    processes: int = 1
    refused: int = 0

    async def run(self, crowds: Sequence[Crowd], seconds: float) -> None:
        """Let people pay beside these for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for crowd in (pay, *crowds):
                    group.create_task(crowd(self))

    def share(self, number: int) -> range:
        """Return as many as this process has of so many."""
        return range(number // self.processes)

    async def arrive(self, each: float) -> None:
        """Wait for the next of those who come each so many seconds, to any of the processes."""
        await asyncio.sleep(each * self.processes)

    async def call(self, lane: Lane, timeout: float) -> None:
        """Wait for a slot and make one call.

        Raises:
            QuotaExhaustedError: it got none in time.
        """
        began = loop_time()
        slot = await self.limiter.acquire(lane, timeout=timeout)
        await self.send(slot, lane, loop_time() - began)

    async def send(self, slot: Slot, lane: Lane, waited: float) -> None:
        """Make a call that has its slot."""
        raise NotImplementedError

    async def fail(self) -> None:
        """Note a person who got no slot."""
        raise NotImplementedError

    async def person(self) -> None:
        """Pay once."""
        try:
            await self.call(Lane.PEOPLE, PATIENCE)
        except QuotaExhaustedError:
            await self.fail()

    async def machine(self, lane: Lane, timeout: float) -> float:
        """Make one call; return when to come back, 0 if it was made."""
        try:
            await self.call(lane, timeout)
        except QuotaExhaustedError as error:
            self.refused += 1
            return error.retry_after
        return 0.0


@attrs.define(eq=False, kw_only=True)
class VirtualStage(Stage):
    """A limiter in virtual time, and what went through it.

    Attributes:
        profile: how long a call takes and how it ends.
        calls: all calls of all lanes, and `lanes` whose they were.
        waits: how long each person waited who got a slot.
        failures: people who got none.
    """

    profile: Profile
    calls: list[Call] = attrs.field(factory=list[Call])
    lanes: list[Lane] = attrs.field(factory=list[Lane])
    waits: list[float] = attrs.field(factory=list[float])
    failures: int = 0

    async def send(self, slot: Slot, lane: Lane, waited: float) -> None:
        """Let the call take its time."""
        if lane is Lane.PEOPLE:
            self.waits.append(waited)
        allowed = loop_time()
        takes, ending = self.profile(self.dice, allowed)
        try:
            await asyncio.sleep(takes)
        finally:
            if ending is not SlotOutcome.UNSENT:
                late = DOUBT if ending is SlotOutcome.DOUBTFUL else 0.0
                self.calls.append(Call(allowed, loop_time() + late, ending))
                self.lanes.append(lane)
        await getattr(slot, ending.value)()

    async def fail(self) -> None:
        """Count them."""
        self.failures += 1


# --- who wants the quota ------------------------------------------------------------------------


async def pay(stage: Stage) -> None:
    """60 people a minute, whenever they like."""
    async with asyncio.TaskGroup() as group:
        while True:
            await stage.arrive(stage.dice.expovariate(A_MINUTE / 60.0))
            group.create_task(stage.person())


async def run_batch(stage: Stage) -> None:
    """64 lines at a time, and no end of them."""

    async def work() -> None:
        while True:
            await stage.machine(Lane.BATCH, DAY)

    async with asyncio.TaskGroup() as group:
        for _ in stage.share(64):
            group.create_task(work())


async def recover(stage: Stage) -> None:
    """1,000 doubts, none of which is settled by any answer."""

    async def ask() -> None:
        for pause in (*ASKED_AFTER, *[3600.0] * 24):
            await asyncio.sleep(pause)
            back = -1.0
            while back:
                back = await stage.machine(Lane.RESOLVING, PATIENCE)
                await asyncio.sleep(back)

    async with asyncio.TaskGroup() as group:
        for _ in stage.share(1000):
            group.create_task(ask())


async def watch(stage: Stage) -> None:
    """200 pages, each of which asks 2 s after the last answer."""

    async def poll() -> None:
        await asyncio.sleep(stage.dice.uniform(0.0, 2.0))
        while True:
            await stage.machine(Lane.POLLING, PATIENCE)
            await asyncio.sleep(2.0)

    async with asyncio.TaskGroup() as group:
        for _ in stage.share(200):
            group.create_task(poll())


async def forge(stage: Stage) -> None:
    """Callbacks that nobody signed, 40 a second; a callback is answered in 4 s."""
    async with asyncio.TaskGroup() as group:
        while True:
            await stage.arrive(1 / 40)
            group.create_task(stage.machine(Lane.UNVERIFIED, 4.0))


Crowd = Callable[[Stage], Coroutine[None, None, None]]

CROWDS: Final[dict[str, Sequence[Crowd]]] = {
    "nobody": (),
    "batch": (run_batch,),
    "doubts": (recover,),
    "polls": (watch,),
    "forged": (forge,),
    "all": (run_batch, recover, watch, forge),
}
FULL: Final = ("batch", "all")
"""Those beside whom the quota must be used."""


# --- the run ------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Figures:
    """What a run showed."""

    waits: Sequence[float] = attrs.field(repr=False)
    failures: int
    use: float
    peak: int
    lanes: Counter[Lane]
    refused: int
    beside: str

    @property
    def p95(self) -> float:
        """The wait that 95 of 100 people did not exceed, in seconds."""
        return statistics.quantiles(self.waits, n=100)[94]

    @property
    def p99(self) -> float:
        """The same of 99 people."""
        return statistics.quantiles(self.waits, n=100)[98]

    @property
    def held(self) -> bool:
        """Tell whether people were served, and the quota kept and used."""
        served = not self.failures and self.p95 <= 2.0 and self.p99 <= 5.0
        used = self.beside not in FULL or self.use >= LEAST_USE
        return served and used and self.peak <= LIMIT

    def __str__(self) -> str:
        people = len(self.waits) + self.failures
        verdict = "ok" if self.held else "RED"
        lanes = " ".join(f"{lane} {self.lanes[lane]}" for lane in Lane)
        return (
            f"people {people:5d}  failed {self.failures:4d}  p95 {self.p95:6.3f} s  "
            f"p99 {self.p99:6.3f} s  use {self.use:6.2%}  peak {self.peak:3d}  {verdict}  "
            f"(calls: {lanes}; told to come back {self.refused})"
        )


def simulate(beside: str, latency: str, *, minutes: float, seed: int) -> Figures:
    """Let people pay beside a crowd for so many minutes."""

    async def run() -> VirtualStage:
        stage = VirtualStage(
            dice=random.Random(seed),
            limiter=LocalLimiter(idle=True, clock=loop_time),
            profile=PROFILES[latency],
        )
        await stage.run(CROWDS[beside], minutes * 60)
        return stage

    stage = run_virtual(run())
    end = minutes * 60 - WARM_UP / 4  # those that were under way are missing at the end
    steady = [call for call in stage.calls if WARM_UP <= call.earliest < end]
    return Figures(
        waits=stage.waits,
        failures=stage.failures,
        use=len(steady) / (end - WARM_UP) * PERIOD / LIMIT,
        peak=peak([(call.earliest, call.latest) for call in stage.calls]),
        lanes=Counter(stage.lanes),
        refused=stage.refused,
        beside=beside,
    )


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Let people pay beside a crowd of machines.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--beside", choices=["each", *CROWDS], default="each")
    parser.add_argument("--latency", choices=PROFILES, default="uniform", help="not of --real")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--real", action="store_true", help="a server that counts, in real time")
    parser.add_argument("--processes", type=int, default=1, help="of --real; several need a Redis")
    parser.add_argument("--kill-one", action="store_true", help="kill a process in the middle")
    redis = os.environ.get("WXPAY_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
    parser.add_argument("--redis", default=redis)
    return parser.parse_args(arguments)


def _run(beside: str, options: argparse.Namespace) -> Figures:
    if not options.real:
        return simulate(beside, options.latency, minutes=options.minutes, seed=options.seed)
    from tests.chaos.people_real import run_real  # noqa: PLC0415 - it imports this module

    return asyncio.run(run_real(beside, options))


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for, print the figures, and say by the status if all is well."""
    options = _options(arguments)
    kind = f"real, processes: {options.processes}" if options.real else options.latency
    print(f"seed {options.seed}, {kind}, {options.minutes:g} minutes")
    held = True
    for beside in CROWDS if options.beside == "each" else [options.beside]:
        figures = _run(beside, options)
        print(f"{beside:8} {figures}", flush=True)
        held = held and figures.held
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())

# ruff: noqa: T201 - a script that prints its figures
"""Let people pay beside everything else that wants the quota, in virtual time.

    python -m tests.chaos.people --minutes 20
    python -m tests.chaos.people --beside batch --latency heavy-tail

60 people a minute pay on the real `LocalLimiter` while machines crowd it: a batch that never ends,
1,000 doubts that recovery asks about, 200 pages that watch an unpaid order each 2 s, 5,000 forged
callbacks at 40 a second, or all of them. Nobody who pays may fail; 95 of 100 wait 2 s at most and
99 of 100 wait 5 s; with a batch, 97 % of the quota is used; the worst platform counts 400.

Exit status 1 means that one of these does not hold.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import random
import statistics
import sys
from collections.abc import Callable, Coroutine, Sequence
from typing import Final

import attrs

from tests.chaos.quota import DOUBT, LIMIT, PERIOD, PROFILES, Call, Profile, peak
from tests.support.clock import loop_time, run_virtual
from wxpay_async.adapters.limiters.limiter import Lane
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


@attrs.define(eq=False)
class Stage:
    """One limiter, and what went through it.

    Attributes:
        profile: how long a call takes and how it ends.
        dice: decides it.
        waits: how long each person waited who got a slot.
        failures: people who got none.
        calls: all calls of all lanes.
        refused: machines that were told to come back.
    """

    profile: Profile
    dice: random.Random
    limiter: LocalLimiter = attrs.field(init=False)
    waits: list[float] = attrs.field(factory=list[float])
    failures: int = 0
    calls: list[Call] = attrs.field(factory=list[Call])
    refused: int = 0

    async def run(self, crowds: Sequence[Crowd], seconds: float) -> None:
        """Let people pay beside these for so long."""
        self.limiter = LocalLimiter(idle=True, clock=loop_time)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds), asyncio.TaskGroup() as group:
                for crowd in (pay, *crowds):
                    group.create_task(crowd(self))

    async def call(self, lane: Lane, timeout: float) -> float:
        """Make one call; return how long it waited for its slot.

        Raises:
            QuotaExhaustedError: it got none in time.
        """
        began = loop_time()
        slot = await self.limiter.acquire(lane, timeout=timeout)
        allowed = loop_time()
        takes, ending = self.profile(self.dice, allowed)
        try:
            await asyncio.sleep(takes)
        finally:
            if ending is not SlotOutcome.UNSENT:
                late = DOUBT if ending is SlotOutcome.DOUBTFUL else 0.0
                self.calls.append(Call(allowed, loop_time() + late, ending))
        await getattr(slot, ending.value)()
        return allowed - began

    async def person(self) -> None:
        """Pay once."""
        try:
            self.waits.append(await self.call(Lane.PEOPLE, PATIENCE))
        except QuotaExhaustedError:
            self.failures += 1

    async def machine(self, lane: Lane, timeout: float) -> float:
        """Make one call; return when to come back, 0 if it was made."""
        try:
            await self.call(lane, timeout)
        except QuotaExhaustedError as error:
            self.refused += 1
            return error.retry_after
        return 0.0


# --- who wants the quota ------------------------------------------------------------------------


async def pay(stage: Stage) -> None:
    """60 people a minute, whenever they like."""
    async with asyncio.TaskGroup() as group:
        while True:
            await asyncio.sleep(stage.dice.expovariate(A_MINUTE / 60.0))
            group.create_task(stage.person())


async def run_batch(stage: Stage) -> None:
    """64 lines at a time, and no end of them."""

    async def work() -> None:
        while True:
            await stage.machine(Lane.BATCH, DAY)

    async with asyncio.TaskGroup() as group:
        for _ in range(64):
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
        for _ in range(1000):
            group.create_task(ask())


async def watch(stage: Stage) -> None:
    """200 pages, each of which asks 2 s after the last answer."""

    async def poll() -> None:
        await asyncio.sleep(stage.dice.uniform(0.0, 2.0))
        while True:
            await stage.machine(Lane.POLLING, PATIENCE)
            await asyncio.sleep(2.0)

    async with asyncio.TaskGroup() as group:
        for _ in range(200):
            group.create_task(poll())


async def forge(stage: Stage) -> None:
    """5,000 callbacks that nobody signed, 40 a second; a callback is answered in 4 s."""
    async with asyncio.TaskGroup() as group:
        for _ in range(5000):
            await asyncio.sleep(1 / 40)
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


@attrs.frozen
class Figures:
    """What a run showed."""

    people: int
    failures: int
    p95: float
    p99: float
    use: float
    peak: int
    refused: int
    least_use: float

    @property
    def held(self) -> bool:
        """Tell whether people were served, and the quota kept and used."""
        served = not self.failures and self.p95 <= 2.0 and self.p99 <= 5.0
        return served and self.peak <= LIMIT and self.use >= self.least_use

    def __str__(self) -> str:
        verdict = "ok" if self.held else "RED"
        return (
            f"people {self.people:5d}  failed {self.failures:4d}  p95 {self.p95:6.3f} s  "
            f"p99 {self.p99:6.3f} s  use {self.use:6.2%}  peak {self.peak:3d}  "
            f"told to come back {self.refused:6d}  {verdict}"
        )


def simulate(beside: str, latency: str, *, minutes: float, seed: int) -> Figures:
    """Let people pay beside a crowd for so many minutes."""
    stage = Stage(PROFILES[latency], random.Random(seed))
    run_virtual(stage.run(CROWDS[beside], minutes * 60))
    end = minutes * 60 - WARM_UP / 4  # those that were under way are missing at the end
    steady = [call for call in stage.calls if WARM_UP <= call.earliest < end]
    percentiles = statistics.quantiles(stage.waits, n=100)
    return Figures(
        people=len(stage.waits) + stage.failures,
        failures=stage.failures,
        p95=percentiles[94],
        p99=percentiles[98],
        use=len(steady) / (end - WARM_UP) * PERIOD / LIMIT,
        peak=peak([(call.earliest, call.latest) for call in stage.calls]),
        refused=stage.refused,
        least_use=LEAST_USE if beside in FULL else 0.0,
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for, print the figures, and say by the status if all is well."""
    parser = argparse.ArgumentParser(description="Let people pay beside a crowd of machines.")
    parser.add_argument("--minutes", type=float, default=20.0)
    parser.add_argument("--beside", choices=["each", *CROWDS], default="each")
    parser.add_argument("--latency", choices=PROFILES, default="uniform")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    options = parser.parse_args(arguments)
    print(f"seed {options.seed}, {options.latency}, {options.minutes:g} minutes")
    held = True
    for beside in CROWDS if options.beside == "each" else [options.beside]:
        figures = simulate(beside, options.latency, minutes=options.minutes, seed=options.seed)
        print(f"{beside:8} {figures}", flush=True)
        held = held and figures.held
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())

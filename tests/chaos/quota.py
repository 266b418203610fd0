# ruff: noqa: T201 - a script that prints its figures
"""Try to get more than 400 calls into any 60 s, over hours of virtual time or against a real Redis.

    python -m tests.chaos.quota --hours 24 --profile all --limiter interval
    python -m tests.chaos.quota --real --processes 4 --seconds 180 --kill-one

Virtual time drives the real `LocalLimiter` on a real event loop whose clock jumps from one timer to
the next. 600 callers always want a slot. A call may arrive at the platform at any moment between
being allowed and being over (its answer is read, or it was given up 15 s ago), so the peak is that
of the worst platform: the most calls that could arrive within one 60 s window, both ends included.

The other limiters are there to be caught: `sending-log` is the interval log with its one rule
broken (it counts from the moment of sending), `token-bucket` and `gcra` are the usual ones.

With `--real` (`quota_real.py`) processes share the quota in a Redis, in real time, and the receiver
counts. One process must use 98.5 % of the quota, several 97 %; `--period` makes a short run of it.

Exit status 1 means that the quota was exceeded or not used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import math
import os
import random
import statistics
import sys
from collections.abc import Callable, Sequence
from typing import Final

import attrs

from tests.support.clock import loop_time, run_virtual
from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Slot, Unlimited
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.policy.quota import Lease, SlidingWindowLog, SlotOutcome

LIMIT: Final = 400
PERIOD: Final = 60.0
DOUBT: Final = 15.0
LEAST_USE: Final = 0.985
CALLERS: Final = 600


# --- how long a call takes, and how it ends -----------------------------------------------------

Profile = Callable[[random.Random, float], tuple[float, SlotOutcome]]


def constant(_dice: random.Random, _now: float) -> tuple[float, SlotOutcome]:
    """Answer after 50 ms."""
    return 0.05, SlotOutcome.ANSWERED


def uniform(dice: random.Random, _now: float) -> tuple[float, SlotOutcome]:
    """Answer after 20 to 500 ms."""
    return dice.uniform(0.02, 0.5), SlotOutcome.ANSWERED


def heavy_tail(dice: random.Random, _now: float) -> tuple[float, SlotOutcome]:
    """Answer after 0.2 s on average and 15 s at most; 0.3 % are given up, 1 % never leave."""
    kind = dice.random()
    if kind < 0.01:
        return 0.005, SlotOutcome.UNSENT
    if kind < 0.013:
        return dice.uniform(10.0, 15.0), SlotOutcome.DOUBTFUL
    return min(dice.lognormvariate(math.log(0.12), 1.0), 15.0), SlotOutcome.ANSWERED


def modes(dice: random.Random, now: float) -> tuple[float, SlotOutcome]:
    """Answer after 30 ms, 300 ms or 2 s, the mode changing each 37 s."""
    mode = random.Random(int(now / 37.0)).choices([0.03, 0.3, 2.0], [60, 30, 10])[0]
    return mode * dice.uniform(0.8, 1.2), SlotOutcome.ANSWERED


PROFILES: Final[dict[str, Profile]] = {
    "constant": constant,
    "uniform": uniform,
    "heavy-tail": heavy_tail,
    "modes": modes,
}


# --- the limiters -------------------------------------------------------------------------------


class SendingLog(SlidingWindowLog):
    """The interval log, broken: a slot is free 60 s after the call was allowed."""

    def take(self, lane: Lane, now: float) -> Lease | None:
        """Take a slot, and decide already when it is free."""
        hold = super().take(lane, now)
        if hold is not None:
            self._keep(hold, now + self.quota.period)
        return hold

    def end(self, hold: Lease, ending: SlotOutcome, now: float) -> None:
        """Ignore the end, unless nothing was sent."""
        if ending is SlotOutcome.UNSENT:
            super().end(hold, ending, now)


class Pacer:
    """A limiter that decides when a call is sent, and forgets it then."""

    def __init__(self) -> None:
        self._head = asyncio.Lock()

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Wait for the pace, first come, first served."""
        async with self._head:
            await self._wait()
        return await Unlimited().acquire(lane, timeout=timeout)

    async def _wait(self) -> None:
        raise NotImplementedError

    async def throttled(self) -> None:
        """Change nothing."""

    async def aclose(self) -> None:
        """Release nothing."""


class TokenBucket(Pacer):
    """400 tokens, and a new one each 150 ms."""

    def __init__(self, period: float = PERIOD) -> None:
        super().__init__()
        self._rate = LIMIT / period
        self._tokens, self._filled_at = float(LIMIT), loop_time()

    async def _wait(self) -> None:
        self._fill()
        while self._tokens < 1.0:
            await asyncio.sleep((1.0 - self._tokens) / self._rate + 1e-6)
            self._fill()
        self._tokens -= 1.0

    def _fill(self) -> None:
        earned = (loop_time() - self._filled_at) * self._rate
        self._tokens, self._filled_at = min(LIMIT, self._tokens + earned), loop_time()


class Gcra(Pacer):
    """One call each 150 ms, without bursts."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0.0

    async def _wait(self) -> None:
        await asyncio.sleep(max(0.0, self._next - loop_time()))
        self._next = max(self._next, loop_time()) + PERIOD / LIMIT


def _interval() -> Limiter:
    return LocalLimiter(idle=True, clock=loop_time)


def _sending_log() -> Limiter:
    limiter = LocalLimiter(idle=True, clock=loop_time)
    limiter._log = SendingLog(limiter.quota)
    return limiter


LIMITERS: Final[dict[str, Callable[[], Limiter]]] = {
    "interval": _interval,
    "sending-log": _sending_log,
    "token-bucket": TokenBucket,
    "gcra": Gcra,
}


# --- the simulation -----------------------------------------------------------------------------


@attrs.frozen
class Call:
    """When a call could arrive at the platform, and how it ended."""

    earliest: float
    latest: float
    ending: SlotOutcome


@attrs.frozen
class Figures:
    """What a run showed."""

    peak: int
    random_peak: int
    use: float
    calls: int
    least_use: float = LEAST_USE

    @property
    def held(self) -> bool:
        """Tell whether the quota was kept and used."""
        return self.peak <= LIMIT and self.use >= self.least_use

    def __str__(self) -> str:
        verdict = "ok" if self.held else "RED"
        return (
            f"peak {self.peak:4d} (arriving at random {self.random_peak:4d})  "
            f"use {self.use:7.2%}  calls {self.calls:7d}  {verdict}"
        )


async def _call_for_ever(
    limiter: Limiter, profile: Profile, dice: random.Random, calls: list[Call]
) -> None:
    while True:
        slot = await limiter.acquire(Lane.PEOPLE, timeout=math.inf)
        allowed = loop_time()
        takes, ending = profile(dice, allowed)
        try:
            await asyncio.sleep(takes)
        finally:
            if ending is not SlotOutcome.UNSENT:
                late = DOUBT if ending is SlotOutcome.DOUBTFUL else 0.0
                calls.append(Call(allowed, loop_time() + late, ending))
        await getattr(slot, ending.value)()


async def _simulate(limiter: str, profile: Profile, hours: float, seed: int) -> list[Call]:
    calls: list[Call] = []
    dice = random.Random(seed)
    made = LIMITERS[limiter]()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(hours * 3600), asyncio.TaskGroup() as group:
            for _ in range(CALLERS):
                group.create_task(_call_for_ever(made, profile, dice, calls))
    return calls


def peak(spans: Sequence[tuple[float, float]], period: float = PERIOD) -> int:
    """Return the most calls that could arrive in one window of 60 s, its ends included.

    A call can be in the window from `w` to `w + 60` if it can arrive after `w` starts and before
    `w + 60` ends: it comes into reach at `earliest - 60` and goes out of reach after `latest`.
    """
    comes = [(earliest - period, -1) for earliest, _ in spans]
    goes = [(latest, 1) for _, latest in spans]
    return max(itertools.accumulate(-step for _, step in sorted(comes + goes)), default=0)


def simulate(limiter: str, profile: str, *, hours: float, seed: int) -> Figures:
    """Run one limiter against one latency profile.

    Calls come in rushes of up to 400, so a count between two moments depends on whether they fall
    before or after a rush. The use is therefore the slope of the line through all answered calls.
    """
    calls = run_virtual(_simulate(limiter, PROFILES[profile], hours, seed))
    dice = random.Random(seed)
    arrivals = [dice.uniform(call.earliest, call.latest) for call in calls]
    answered = sorted(call.earliest for call in calls if call.ending is SlotOutcome.ANSWERED)
    rate = statistics.linear_regression(answered, range(len(answered))).slope
    return Figures(
        peak=peak([(call.earliest, call.latest) for call in calls]),
        random_peak=peak([(arrival, arrival) for arrival in arrivals]),
        use=rate * PERIOD / LIMIT,
        calls=len(calls),
    )


# --- the command line ---------------------------------------------------------------------------


def _options(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Try to exceed the quota.")
    parser.add_argument("--hours", type=float, default=24.0)
    parser.add_argument("--profile", choices=["all", *PROFILES], default="all")
    parser.add_argument("--limiter", choices=LIMITERS, default="interval")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--real", action="store_true", help="processes and a Redis, in real time")
    parser.add_argument("--processes", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=180.0)
    parser.add_argument("--period", type=float, default=PERIOD, help="the window, of --real only")
    parser.add_argument("--least-use", type=float, help="of --real; 0.985, or 0.97 of several")
    parser.add_argument("--kill-one", action="store_true", help="kill a process amid its calls")
    redis = os.environ.get("WXPAY_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
    parser.add_argument("--redis", default=redis)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for, print the figures, and say by the status if all is well."""
    options = _options(arguments)
    print(f"seed {options.seed}")
    if options.real:
        from tests.chaos.quota_real import run_real  # noqa: PLC0415 - it imports this module

        figures = asyncio.run(run_real(options))
        print(f"real, {options.processes} processes, {options.seconds:g} s: {figures}")
        return int(not figures.held)
    names = list(PROFILES) if options.profile == "all" else [options.profile]
    held = True
    for name in names:
        figures = simulate(options.limiter, name, hours=options.hours, seed=options.seed)
        print(f"{options.limiter:12} {name:10} {options.hours:g} h: {figures}", flush=True)
        held = held and figures.held
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())

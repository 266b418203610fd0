# ruff: noqa: T201 - a script that prints its figures
"""Try to get more than 400 calls into any 60 s, over hours of virtual time or against a real Redis.

    python tests/chaos/quota.py --hours 24 --profile all --limiter interval
    python tests/chaos/quota.py --real --processes 4 --seconds 180 --kill-one

Virtual time drives the real `LocalLimiter` on a real event loop whose clock jumps from one timer to
the next. 600 callers always want a slot. A call may arrive at the platform at any moment between
being allowed and being over (its answer is read, or it was given up 15 s ago), so the peak is that
of the worst platform: the most calls that could arrive within one 60 s window, both ends included.

The other limiters are there to be caught: `sending-log` is the interval log with its one rule
broken (it counts from the moment of sending), `token-bucket` and `gcra` are the usual ones.

Exit status 1 means that the quota was exceeded or not used.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import itertools
import math
import multiprocessing
import os
import random
import selectors
import statistics
import sys
import time
import uuid
from collections.abc import Callable, Coroutine, Sequence
from typing import Final, TypeVar

import attrs

from wxpay_async.limits.limiter import Lane, Limiter, Slot, Unlimited
from wxpay_async.limits.local import LocalLimiter
from wxpay_async.policy.quota import Ending, Hold, IntervalLog

LIMIT: Final = 400
PERIOD: Final = 60.0
DOUBT: Final = 15.0
LEAST_USE: Final = 0.985
LEAST_REAL_USE: Final = 0.97
CALLERS: Final = 600

T = TypeVar("T")


# --- virtual time -------------------------------------------------------------------------------


class _JumpingSelector(selectors.DefaultSelector):
    """Waits for nothing: where a loop would sleep, its clock jumps."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("everybody waits and no timer is set")
        if not ready and timeout:
            self.now += timeout
        return ready


class VirtualLoop(asyncio.SelectorEventLoop):
    """An event loop on which an hour takes a second."""

    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        """Return the virtual seconds since the loop was made."""
        return self._jumping.now


def run_virtual(main: Coroutine[object, object, T]) -> T:
    """Run a coroutine on a virtual clock that starts at 0."""
    with asyncio.Runner(debug=False, loop_factory=VirtualLoop) as runner:
        return runner.run(main)


def loop_time() -> float:
    """Return the time of the running loop, real or virtual."""
    return asyncio.get_running_loop().time()


# --- how long a call takes, and how it ends -----------------------------------------------------

Profile = Callable[[random.Random, float], tuple[float, Ending]]


def constant(_dice: random.Random, _now: float) -> tuple[float, Ending]:
    """Answer after 50 ms."""
    return 0.05, Ending.ANSWERED


def uniform(dice: random.Random, _now: float) -> tuple[float, Ending]:
    """Answer after 20 to 500 ms."""
    return dice.uniform(0.02, 0.5), Ending.ANSWERED


def heavy_tail(dice: random.Random, _now: float) -> tuple[float, Ending]:
    """Answer after 0.2 s on average and 15 s at most; 0.3 % are given up, 1 % never leave."""
    kind = dice.random()
    if kind < 0.01:
        return 0.005, Ending.UNSENT
    if kind < 0.013:
        return dice.uniform(10.0, 15.0), Ending.DOUBTFUL
    return min(dice.lognormvariate(math.log(0.12), 1.0), 15.0), Ending.ANSWERED


def modes(dice: random.Random, now: float) -> tuple[float, Ending]:
    """Answer after 30 ms, 300 ms or 2 s, the mode changing each 37 s."""
    mode = random.Random(int(now / 37.0)).choices([0.03, 0.3, 2.0], [60, 30, 10])[0]
    return mode * dice.uniform(0.8, 1.2), Ending.ANSWERED


PROFILES: Final[dict[str, Profile]] = {
    "constant": constant,
    "uniform": uniform,
    "heavy-tail": heavy_tail,
    "modes": modes,
}


# --- the limiters -------------------------------------------------------------------------------


class SendingLog(IntervalLog):
    """The interval log, broken: a slot is free 60 s after the call was allowed."""

    def take(self, lane: Lane, now: float) -> Hold | None:
        """Take a slot, and decide already when it is free."""
        hold = super().take(lane, now)
        if hold is not None:
            self._keep(hold, now + PERIOD)
        return hold

    def end(self, hold: Hold, ending: Ending, now: float) -> None:
        """Ignore the end, unless nothing was sent."""
        if ending is Ending.UNSENT:
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

    def __init__(self) -> None:
        super().__init__()
        self._tokens, self._filled_at = float(LIMIT), loop_time()

    async def _wait(self) -> None:
        self._fill()
        while self._tokens < 1.0:
            await asyncio.sleep((1.0 - self._tokens) * PERIOD / LIMIT + 1e-6)
            self._fill()
        self._tokens -= 1.0

    def _fill(self) -> None:
        earned = (loop_time() - self._filled_at) * LIMIT / PERIOD
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
    ending: Ending


@attrs.frozen
class Figures:
    """What a run showed."""

    peak: int
    random_peak: int
    use: float
    calls: int

    @property
    def held(self) -> bool:
        """Tell whether the quota was kept and used."""
        return self.peak <= LIMIT and self.use >= LEAST_USE

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
            if ending is not Ending.UNSENT:
                late = DOUBT if ending is Ending.DOUBTFUL else 0.0
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


def peak(spans: Sequence[tuple[float, float]]) -> int:
    """Return the most calls that could arrive in one 60 s window, its ends included.

    A call can be in the window from `w` to `w + 60` if it can arrive after `w` starts and before
    `w + 60` ends: it comes into reach at `earliest - 60` and goes out of reach after `latest`.
    """
    comes = [(earliest - PERIOD, -1) for earliest, _ in spans]
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
    answered = sorted(call.earliest for call in calls if call.ending is Ending.ANSWERED)
    rate = statistics.linear_regression(answered, range(len(answered))).slope
    return Figures(
        peak=peak([(call.earliest, call.latest) for call in calls]),
        random_peak=peak([(arrival, arrival) for arrival in arrivals]),
        use=rate * PERIOD / LIMIT,
        calls=len(calls),
    )


# --- the real form: processes, Redis, and a server that counts ----------------------------------


@attrs.define
class CountingServer:
    """Answers each connection after 5 to 200 ms, 1 % after 1 to 3 s, and notes when it came."""

    dice: random.Random
    arrivals: list[float] = attrs.field(factory=list)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count one call."""
        with contextlib.suppress(OSError, asyncio.IncompleteReadError):
            await reader.readexactly(1)
            self.arrivals.append(time.monotonic())
            slow = self.dice.random() < 0.01
            await asyncio.sleep(self.dice.uniform(1, 3) if slow else self.dice.uniform(0.005, 0.2))
            writer.write(b"!")
        writer.close()


async def _call_server(slot: Slot, port: int, dice: random.Random) -> None:
    if dice.random() < 0.01:
        await slot.unsent()
        return
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(b"?")
        async with asyncio.timeout(0.5):
            await reader.readexactly(1)
        await slot.answered()
    except TimeoutError:
        await slot.doubtful()
    finally:
        writer.close()


async def _worker(url: str, app_key: str, port: int, seed: int) -> None:
    from wxpay_async.limits.redis import RedisLimiter  # noqa: PLC0415 - the extra may be missing

    dice = random.Random(seed)
    limiter = RedisLimiter(url, app_key, idle=True)

    async def call_for_ever() -> None:
        while True:
            await _call_server(await limiter.acquire(Lane.PEOPLE, timeout=3600), port, dice)

    async with asyncio.TaskGroup() as group:
        for _ in range(LIMIT // 2):
            group.create_task(call_for_ever())


def _work(url: str, app_key: str, port: int, seed: int) -> None:
    asyncio.run(_worker(url, app_key, port, seed))


async def _watch(server: CountingServer, victim: Callable[[], None] | None, seconds: float) -> None:
    """Wait; kill one process amid the second rush, when its calls are on the way."""
    while not server.arrivals or time.monotonic() < server.arrivals[0] + seconds:
        await asyncio.sleep(0.01)
        if victim is not None and len(server.arrivals) > LIMIT + LIMIT // 4:
            victim()
            victim = None


async def _clean_up(url: str, app_key: str) -> None:
    from redis.asyncio import Redis  # noqa: PLC0415 - the extra may be missing

    async with Redis.from_url(url) as client:
        async for key in client.scan_iter(f"*{app_key}*"):
            await client.delete(key)


async def run_real(options: argparse.Namespace) -> Figures:
    """Let several processes share one quota in Redis, and count at the receiver."""
    server = CountingServer(random.Random(options.seed))
    app_key = f"chaos-{uuid.uuid4().hex}"
    spawning = multiprocessing.get_context("spawn")
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0) as listening:
        port = listening.sockets[0].getsockname()[1]
        workers = [
            spawning.Process(target=_work, args=(options.redis, app_key, port, options.seed + i))
            for i in range(options.processes)
        ]
        for worker in workers:
            worker.start()
        await _watch(server, workers[0].kill if options.kill_one else None, options.seconds)
        for worker in workers:
            worker.kill()
            worker.join()
    await _clean_up(options.redis, app_key)
    end = server.arrivals[0] + options.seconds
    counted = [moment for moment in server.arrivals if moment < end]
    most = peak([(moment, moment) for moment in counted])
    use = len(counted) / (LIMIT * options.seconds / 60.0)
    return Figures(peak=most, random_peak=most, use=use, calls=len(counted))


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
    parser.add_argument("--kill-one", action="store_true", help="kill a process amid its calls")
    redis = os.environ.get("WXPAY_TEST_REDIS_URL", "redis://127.0.0.1:6379/0")
    parser.add_argument("--redis", default=redis)
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for, print the figures, and say by the status if all is well."""
    options = _options(arguments)
    print(f"seed {options.seed}")
    if options.real:
        figures = asyncio.run(run_real(options))
        print(f"real, {options.processes} processes, {options.seconds:g} s: {figures}")
        return int(figures.peak > LIMIT or figures.use < LEAST_REAL_USE)
    names = list(PROFILES) if options.profile == "all" else [options.profile]
    held = True
    for name in names:
        figures = simulate(options.limiter, name, hours=options.hours, seed=options.seed)
        print(f"{options.limiter:12} {name:10} {options.hours:g} h: {figures}", flush=True)
        held = held and figures.held
    return int(not held)


if __name__ == "__main__":
    sys.exit(main())

"""How rates are measured: so many calls in flight for so long, every subject in every round.

All subjects of a section ask the same server process. Each sample has an event loop of its own, a
warm-up, and as many workers as calls are in flight; a worker makes the next call once the last one
has ended. Rounds take all subjects one after another, in an order that alternates, so whatever
else slows the machine down meets all of them.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Generator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager
from time import perf_counter
from typing import Final

from attrs import frozen

from benchmarks.figures import Figure, Size
from benchmarks.server import CannedServer, Counters

Call = Callable[[], Awaitable[object]]
Opened = AbstractAsyncContextManager[Call]
"""Opens, in the running loop, what is called again and again."""
MakeLoop = Callable[[], asyncio.AbstractEventLoop]

SERVER_ALONE: Final = "the server, asked by a pipelining socket"
SERVER_LOAD: Final = "the server's core, busy during: "

_WARM_UP: Final = 0.25
"""The part of a sample's time that goes before it."""


@frozen(kw_only=True)
class Subject:
    """Something whose rate is measured.

    Attributes:
        name: what the figure is called.
        rate: takes seconds, and returns the calls per second that it saw in about this time.
    """

    name: str
    rate: Callable[[float], float]


def concurrent(
    name: str, opening: Callable[[], Opened], *, in_flight: int, make_loop: MakeLoop
) -> Subject:
    """Return a subject that keeps so many calls in flight in an event loop of its own."""

    async def measure(seconds: float) -> float:
        async with opening() as call:
            await _drive(call, in_flight, seconds * _WARM_UP)
            return await _drive(call, in_flight, seconds)

    def rate(seconds: float) -> float:
        with asyncio.Runner(loop_factory=make_loop) as runner:
            return runner.run(measure(seconds))

    return Subject(name=name, rate=rate)


def repeated(name: str, call: Callable[[], object]) -> Subject:
    """Return a subject that does one thing after another, without any event loop."""

    def rate(seconds: float) -> float:
        _repeat(call, seconds * _WARM_UP)
        return _repeat(call, seconds)

    return Subject(name=name, rate=rate)


async def _drive(call: Call, in_flight: int, seconds: float) -> float:
    done, began = 0, perf_counter()
    deadline = began + seconds

    async def work() -> None:
        nonlocal done
        while True:
            await call()
            done += 1
            if perf_counter() >= deadline:
                return

    async with asyncio.TaskGroup() as workers:
        for _ in range(in_flight):
            workers.create_task(work())
    return done / (perf_counter() - began)


def _repeat(call: Callable[[], object], seconds: float) -> float:
    done, began = 0, perf_counter()
    while not done or perf_counter() < began + seconds:
        call()
        done += 1
    return done / (perf_counter() - began)


def interleaved(
    section: str, subjects: Sequence[Subject], *, size: Size, server: CannedServer, body: bytes
) -> Iterator[Figure]:
    """Measure all subjects in every round, then show that the server was not the limit.

    Args:
        section: which one.
        subjects: in the order of the first round.
        size: how many rounds, how long each rate.
        server: what all of them ask.
        body: what a request posts, for the server's own rate.

    Yields:
        The rate of each subject, the server's own rate, and the share of a core that it needed
        during the fastest of those that asked it.
    """
    rates, loads = defaultdict[str, list[float]](list), defaultdict[str, list[float]](list)
    with _frozen_memory():
        for turn in range(size.rounds):
            print(f"{section}: round {turn + 1} of {size.rounds}", file=sys.stderr)
            rates[SERVER_ALONE].append(server.capacity(body, size.seconds))
            for subject in subjects[:: -1 if turn % 2 else 1]:
                gc.collect()  # no row pays for what others have left behind
                before = server.counters()
                rate = subject.rate(size.seconds)
                rates[subject.name].append(rate)
                loads[subject.name].append(rate * _cpu_of_one(before, server.counters()))
    for name, samples in rates.items():
        yield Figure(section=section, name=name, unit="/s", samples=tuple(samples))
    asking = (name for name, shares in loads.items() if any(shares))
    fastest = max(asking, key=lambda name: statistics.median(rates[name]))
    busy = tuple(share * 100 for share in loads[fastest])
    yield Figure(section=section, name=SERVER_LOAD + fastest, unit="%", samples=busy)


def _cpu_of_one(before: Counters, after: Counters) -> float:
    """Return the server's seconds for one request, the opening of connections included."""
    requests = after.requests - before.requests
    return (after.cpu - before.cpu) / requests if requests else 0.0


@contextlib.contextmanager
def _frozen_memory() -> Generator[None]:
    """Keep the collector away from what is there already.

    A full collection within a sample would search all that the sections have imported, which takes
    as long as a hundred payments.
    """
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()

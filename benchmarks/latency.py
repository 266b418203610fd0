"""Measure latency: how long each `pay` takes at 64 in flight, and how late the event loop is.

One gateway over aiohttp and the canned server, in a fresh event loop; the memory store is on, the
quota off. Workers keep 64 calls in flight: a tenth of the calls to warm up, then at least
`size.seconds` and 4,000 calls, which p99.9 needs (a fifth of `size.requests` where that is less).
The lag is what a coroutine sees that sleeps 1 ms again and again: by how much it is woken too
late. Both event loops round what they wait for to whole milliseconds, so even an idle one lags by
up to 1 ms; and a loop that is late wakes it less often, so the lag's p99.9 is made of few samples.

Each round takes every scheme on every event loop, in an order that alternates. What is not
installed is left out, with a line on stderr.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import statistics
import sys
from collections import defaultdict
from collections.abc import Awaitable, Callable, Iterator
from time import perf_counter
from typing import Final, NoReturn

from benchmarks.figures import Figure, Size
from benchmarks.payments import loops, request, schemes
from benchmarks.server import canned_server
from wxpay_async import PayGateway, Signer, Unlimited

IN_FLIGHT: Final = 64

_CALLS: Final = 4_000
_NAP: Final = 0.001
_PERCENTILES: Final = {"p50": 499, "p99": 989, "p99.9": 998}  # among 999 cuts


def run(size: Size) -> Iterator[Figure]:
    """Measure every scheme on every event loop."""
    samples: defaultdict[str, list[float]] = defaultdict(list)
    subjects = [
        (f"{scheme}, {loop}", signer, make_loop)
        for scheme, signer in schemes().items()
        for loop, make_loop in loops().items()
    ]
    with canned_server() as server:
        for turn in range(size.rounds):
            print(f"latency: round {turn + 1} of {size.rounds}", file=sys.stderr)
            for name, signer, make_loop in subjects[:: -1 if turn % 2 else 1]:
                gc.collect()  # no row waits for what others have left behind
                with asyncio.Runner(loop_factory=make_loop) as runner:
                    taken, lags = runner.run(_measure(signer, server.url, size))
                for what, seconds in (("pay", taken), ("lag", lags)):
                    for percentile, value in _percentiles(seconds).items():
                        samples[f"{name}: {what} {percentile}"].append(value)
    for name, values in samples.items():
        yield Figure(section="latency", name=name, unit="ms", samples=tuple(values))


async def drive(pay: Callable[[], Awaitable[object]], *, calls: int, seconds: float) -> list[float]:
    """Keep 64 calls in flight until both have passed; return the seconds that each took."""
    taken: list[float] = []
    deadline = perf_counter() + seconds

    async def work() -> None:
        while len(taken) < calls or perf_counter() < deadline:
            began = perf_counter()
            await pay()
            taken.append(perf_counter() - began)

    await asyncio.gather(*(work() for _ in range(IN_FLIGHT)))
    return taken


async def _measure(signer: Signer, url: str, size: Size) -> tuple[list[float], list[float]]:
    calls = min(_CALLS, size.requests // 5)
    lags: list[float] = []
    async with PayGateway("app-key", signer, base_url=url, limiter=Unlimited()) as gateway:
        await drive(lambda: gateway.pay(request()), calls=calls // 10, seconds=0)
        watch = asyncio.create_task(_note_lag(lags))
        taken = await drive(lambda: gateway.pay(request()), calls=calls, seconds=size.seconds)
        watch.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await watch
    return taken, lags


async def _note_lag(lags: list[float]) -> NoReturn:
    while True:
        due = perf_counter() + _NAP
        await asyncio.sleep(_NAP)
        lags.append(perf_counter() - due)


def _percentiles(seconds: list[float]) -> dict[str, float]:
    """Return them in milliseconds."""
    cuts = statistics.quantiles(seconds, n=1000, method="inclusive")
    return {name: cuts[index] * 1000 for name, index in _PERCENTILES.items()}

"""Measure what payments cost the garbage collector, in a fresh process.

A thousand payments wait for their answer, and the objects that the collector watches because of
each are counted, those of the task that awaits `pay` among them. Then 10,000 payments are finished,
which the memory store remembers: what each of them leaves behind, and how long a full collection
takes beside one with an empty store.
"""

from __future__ import annotations

import asyncio
import gc
import statistics
from collections.abc import Iterator
from time import perf_counter
from typing import Final

from benchmarks.figures import Figure, Size
from benchmarks.growth import Sample, run_in_fresh_process
from benchmarks.payments import request
from benchmarks.server import PAY_REPLY
from wxpay_async import (
    HttpRequest,
    HttpResponse,
    Md5Signer,
    MemoryTransport,
    PayGateway,
    Unlimited,
)

_IN_FLIGHT: Final = 1_000
_FINISHED: Final = 10_000


def run(size: Size) -> Iterator[Figure]:
    """Measure once: what is counted does not vary."""
    del size
    for name, (unit, value) in run_in_fresh_process(measure).items():
        yield Figure(section="collector", name=name, unit=unit, samples=(value,))


def measure() -> Sample:
    """Return what one process measured."""
    return asyncio.run(_measure())


async def _measure() -> Sample:
    gate, all_asked = asyncio.Event(), asyncio.Event()

    async def answer(_: HttpRequest) -> HttpResponse:
        if transport.calls > _IN_FLIGHT:
            all_asked.set()
        await gate.wait()
        return HttpResponse(200, PAY_REPLY)

    transport = MemoryTransport(answer, keep=0)
    gateway = PayGateway(
        "benchmark",
        Md5Signer("secret"),
        transport=transport,
        limiter=Unlimited(),
        max_in_flight=2 * _IN_FLIGHT,
    )
    async with gateway:
        gate.set()
        await gateway.pay(request())
        gate.clear()
        requests = [request() for _ in range(_IN_FLIGHT)]
        empty, before = _full_collection(), _tracked()
        tasks = [asyncio.create_task(gateway.pay(one)) for one in requests]
        await all_asked.wait()
        in_flight = (_tracked() - before) / _IN_FLIGHT
        gate.set()
        await asyncio.gather(*tasks)
        tasks.clear()
        before = _tracked()
        for _ in range(_FINISHED - _IN_FLIGHT):
            await gateway.pay(request())
        finished = (_tracked() - before) / (_FINISHED - _IN_FLIGHT)
        full = _full_collection()
    return {
        "objects for each payment in flight": ("objects", in_flight),
        "objects for each finished payment": ("objects", max(finished, 0.0)),
        "a full collection, empty store": ("ms", empty),
        "a full collection, full store": ("ms", full),
    }


def _tracked() -> int:
    gc.collect()
    gc.collect()
    return len(gc.get_objects())


def _full_collection() -> float:
    """Return the milliseconds of one, the median of five."""
    taken = list[float]()
    for _ in range(5):
        began = perf_counter()
        gc.collect()
        taken.append((perf_counter() - began) * 1_000)
    return statistics.median(taken)

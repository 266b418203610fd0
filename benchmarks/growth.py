"""Measure growth: what more requests and more appKeys cost, in time and in resident memory.

`pay_many` takes 1,000, 10,000, … requests, up to `size.requests`, from a generator. They are
answered from memory, each with bytes of its own as a network would, so that the time is that of
the SDK alone; the memory store is the default one, the quota off. Beside the whole time stands the
time of a request among the first and among the last tenth, which differ if time grows faster than
the number of requests; a tenth of 1,000 says little, with 64 of them in flight. `added` is the
resident memory at the end without that after the first 1,000 requests, by which time everything is
imported and warm; for 1,000 requests, which is when a process is growing into its caches, without
that before the first. `peak` is the process's highest.

1 to 200 appKeys have a gateway each, in one process, and pay in turn: 64 calls in flight over
aiohttp and the canned server, after as many to warm up as open every connection.

Each of these runs is a fresh process, since a process seldom gives memory back. Rounds take all of
them, one after another; but of 100,000 requests and more there is one sample only, in the first
round: they take minutes, over which a disturbance evens out. Memory is read from /proc, which only
Linux has.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import itertools
import json
import multiprocessing
import re
import sys
from collections import defaultdict
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from time import perf_counter
from typing import Final

from benchmarks.figures import Figure, Size
from benchmarks.latency import IN_FLIGHT, drive
from benchmarks.payments import request
from benchmarks.server import PAY_REPLY, canned_server
from wxpay_async import HttpRequest, HttpResponse, Md5Signer, MemoryTransport, PayGateway, Unlimited

Sample = dict[str, tuple[str, float]]
"""What one process measured: unit and value, by name."""

_FEWEST: Final = 1_000
_ONCE: Final = 100_000
_APP_KEYS: Final = (1, 10, 50, 200)
_PREPAY_ID: Final = json.loads(PAY_REPLY)["data"]["prepayId"].encode()


def run(size: Size) -> Iterator[Figure]:
    """Measure every number of requests and of appKeys, each in a process of its own."""
    samples: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    with canned_server() as server:
        for turn in range(size.rounds):
            print(f"growth: round {turn + 1} of {size.rounds}", file=sys.stderr)
            counts = [n for n in _counts(size.requests) if n < _ONCE or turn == 0]
            for measure in (
                *(functools.partial(pay_many, count) for count in counts),
                *(functools.partial(pay_in_turn, n, server.url, size.seconds) for n in _APP_KEYS),
            ):
                for name, (unit, value) in run_in_fresh_process(measure).items():
                    samples[name, unit].append(value)
    for (name, unit), values in samples.items():
        yield Figure(section="growth", name=name, unit=unit, samples=tuple(values))


def _counts(most: int) -> Iterator[int]:
    count = _FEWEST
    while count <= most:
        yield count
        count *= 10


def run_in_fresh_process(measure: Callable[[], Sample]) -> Sample:
    """Call it in a process that has done nothing before, nor does anything after."""
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max_workers=1, mp_context=context) as pool:
        return pool.submit(measure).result()


# More requests


def pay_many(count: int) -> Sample:
    """Pay for so many requests, and tell what it took."""
    return asyncio.run(_pay_many(count))


async def _pay_many(count: int) -> Sample:
    tenth = count // 10
    settled = _FEWEST if count > _FEWEST else 0
    gateway = PayGateway(
        "app-key", Md5Signer("secret"), transport=MemoryTransport(_answers()), limiter=Unlimited()
    )
    async with gateway:
        times, memory, done = {0: perf_counter()}, {0: _memory("VmRSS")}, 0
        async for outcome in gateway.pay_many(request() for _ in range(count)):
            outcome.unwrap()
            done += 1
            if done in {settled, tenth, count - tenth, count}:
                times[done], memory[done] = perf_counter(), _memory("VmRSS")
    about = f"{count:,} requests"
    return {
        f"{about}: time": ("s", times[count] - times[0]),
        f"{about}: each of the first tenth": ("µs", (times[tenth] - times[0]) / tenth * 1e6),
        f"{about}: each of the last tenth": (
            "µs",
            (times[count] - times[count - tenth]) / tenth * 1e6,
        ),
        f"{about}: added": ("MB", memory[count] - memory[settled]),
        f"{about}: peak": ("MB", _memory("VmHWM")),
    }


def _answers() -> Callable[[HttpRequest], HttpResponse]:
    """Answer each request with bytes of its own: what the store keeps of them is memory too."""
    numbers = itertools.count()
    return lambda _: HttpResponse(200, PAY_REPLY.replace(_PREPAY_ID, b"wx%034d" % next(numbers)))


def _memory(field: str) -> float:
    """Return VmRSS, what is resident, or VmHWM, the most that ever was, in MB."""
    found = re.search(rf"{field}:\s+([0-9]+) kB", Path("/proc/self/status").read_text("ascii"))
    assert found, f"/proc tells of {field}"
    return int(found[1]) * 1024 / 1e6


# More appKeys


def pay_in_turn(app_keys: int, url: str, seconds: float) -> Sample:
    """Pay by so many appKeys in turn, and tell how fast it went and what is resident."""
    return asyncio.run(_pay_in_turn(app_keys, url, seconds))


async def _pay_in_turn(app_keys: int, url: str, seconds: float) -> Sample:
    gateways = [
        PayGateway(f"app-{number}", Md5Signer("secret"), base_url=url, limiter=Unlimited())
        for number in range(app_keys)
    ]
    async with contextlib.AsyncExitStack() as stack:
        for gateway in gateways:
            await stack.enter_async_context(gateway)
        turns = itertools.cycle(gateways)
        await drive(lambda: next(turns).pay(request()), calls=IN_FLIGHT + app_keys, seconds=0)
        began = perf_counter()
        taken = await drive(lambda: next(turns).pay(request()), calls=0, seconds=seconds)
        passed = perf_counter() - began
        return {
            f"{app_keys} appKeys: rate": ("/s", len(taken) / passed),
            f"{app_keys} appKeys: resident": ("MB", _memory("VmRSS")),
        }

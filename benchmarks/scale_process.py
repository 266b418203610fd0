"""A process of the section `scale`: gateways of many appKeys that share all that can be shared."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import multiprocessing
import statistics
from collections.abc import AsyncGenerator, Callable, Coroutine, Generator, Sequence
from multiprocessing.connection import Connection
from time import perf_counter, process_time
from typing import Final
from urllib.parse import urlsplit

from attrs import define, frozen

from benchmarks import usage
from benchmarks.latency import IN_FLIGHT, drive
from benchmarks.payments import request
from wxpay_async import AiohttpTransport, Limiter, LocalLimiter, Md5Signer, PayGateway
from wxpay_async.adapters.stores.from_url import store_from_url

_SERVERS: Final = {
    "http": ("canned server", 80),
    "postgresql": ("PostgreSQL", 5432),
    "redis": ("Redis", 6379),
}
"""The name and the usual port, by the scheme of the address."""


@frozen(kw_only=True)
class Crew:
    """Gateways of one process, or the same ones in several.

    Attributes:
        platform: where they pay.
        store: where they remember it.
        quota: where the Redis is that keeps it; empty if each process keeps its own.
        prefix: how the appKeys begin.
        app_keys: how many there are.
    """

    platform: str
    store: str
    quota: str
    prefix: str
    app_keys: int

    @contextlib.asynccontextmanager
    async def gateways(self) -> AsyncGenerator[Sequence[PayGateway]]:
        """Open a gateway for each appKey."""
        async with contextlib.AsyncExitStack() as stack:
            transport = AiohttpTransport(max_connections=IN_FLIGHT)
            store = store_from_url(self.store)
            limiters = await stack.enter_async_context(_limiters(self.quota))
            for shared in (transport, store):
                stack.push_async_callback(shared.aclose)
            names = [f"{self.prefix}-{number}" for number in range(self.app_keys)]
            yield [
                await stack.enter_async_context(
                    PayGateway(
                        name,
                        Md5Signer(f"secret of {name}"),
                        base_url=self.platform,
                        transport=transport,
                        store=store,
                        limiter=limiters(name),
                    )
                )
                for name in names
            ]

    @property
    def keeper(self) -> str:
        """The name of the server that has the store, empty if there is none."""
        name, _ = _SERVERS.get(urlsplit(self.store).scheme, ("", 0))
        return name

    @property
    def ports(self) -> dict[str, int]:
        """The ports of the servers that it needs, by their names."""
        places = [urlsplit(url) for url in (self.platform, self.store, self.quota)]
        known = [(*_SERVERS[place.scheme], place) for place in places if place.scheme in _SERVERS]
        return {name: place.port or port for name, port, place in known}


@contextlib.asynccontextmanager
async def _limiters(quota: str) -> AsyncGenerator[Callable[[str], Limiter]]:
    """Yield what makes the limiter of an appKey; all of them share one client of the Redis."""
    if not quota:
        yield lambda _: LocalLimiter(idle=True)
        return
    from redis.asyncio import Redis  # noqa: PLC0415 - an extra

    from wxpay_async.adapters.limiters.redis import RedisLimiter  # noqa: PLC0415 - an extra

    made: list[RedisLimiter] = []

    def make(app_key: str) -> Limiter:
        made.append(RedisLimiter(app_key=app_key, client=client, idle=True))
        return made[-1]

    async with Redis.from_url(quota) as client:
        yield make
        for limiter in made:
            await limiter.aclose()


@frozen(kw_only=True)
class Paid:
    """What a process came to.

    Attributes:
        payments: how many it made.
        passed: in so many seconds.
        p99: seconds, in which 99 of 100 were made.
        cpu: seconds of a core.
    """

    payments: int
    passed: float
    p99: float
    cpu: float


async def pay(crew: Crew, seconds: float, parent: Connection) -> None:
    """Pay by all appKeys in turn, once the parent says so, and tell it what came of it."""
    async with crew.gateways() as gateways:
        turns = itertools.cycle(gateways)
        await drive(lambda: next(turns).pay(request()), calls=IN_FLIGHT + len(gateways), seconds=0)
        _wait(parent)
        cpu, began = process_time(), perf_counter()
        taken = await drive(lambda: next(turns).pay(request()), calls=0, seconds=seconds)
        parent.send(
            Paid(
                payments=len(taken),
                passed=perf_counter() - began,
                p99=statistics.quantiles(taken, n=100, method="inclusive")[98],
                cpu=process_time() - cpu,
            )
        )
        parent.recv()


@frozen(kw_only=True)
class Rested:
    """What gateways hold that do nothing.

    Attributes:
        memory: that each of them added, in KB, after one payment.
        connections: of the whole process, by their server.
        opening: seconds until all had paid once.
        cpu: seconds of a core, while there were no payments.
    """

    memory: float
    connections: dict[str, int]
    opening: float
    cpu: float


async def rest(crew: Crew, seconds: float, parent: Connection) -> None:
    """Pay once by each appKey; do nothing, once the parent says so, and tell it what that cost."""
    before, began = usage.resident(), perf_counter()
    async with crew.gateways() as gateways:
        turns = itertools.cycle(gateways)
        await drive(lambda: next(turns).pay(request()), calls=len(gateways), seconds=0)
        opening, added = perf_counter() - began, usage.resident() - before
        held = usage.connections(crew.ports)
        _wait(parent)
        cpu = process_time()
        await asyncio.sleep(seconds)
        parent.send(
            Rested(
                memory=added / len(gateways) * 1000,
                connections=held,
                opening=opening,
                cpu=process_time() - cpu,
            )
        )
        parent.recv()


def _wait(parent: Connection) -> None:
    parent.send(None)
    parent.recv()


# In the process that measures


Job = Callable[[Crew, float, Connection], Coroutine[None, None, None]]


@define
class Worker:
    """A process that does a job, seen from the one that measures."""

    _pipe: Connection

    def meet(self) -> None:
        """Wait until it is ready.

        Raises:
            EOFError: it has ended.
        """
        self._pipe.recv()

    def go(self) -> None:
        """Let it begin."""
        self._pipe.send(None)

    def result(self) -> Paid | Rested:
        """Wait for what it came to; raises what `meet` does."""
        result: Paid | Rested = self._pipe.recv()
        return result


@contextlib.contextmanager
def worker(job: Job, crew: Crew, seconds: float) -> Generator[Worker]:
    """Start a process, which ends with the block."""
    context = multiprocessing.get_context("spawn")
    here, there = context.Pipe()
    process = context.Process(target=_run, args=(job, crew, seconds, there), daemon=True)
    process.start()
    there.close()
    try:
        yield Worker(here)
        here.send(None)
    finally:
        here.close()
        process.join(timeout=10.0)
        process.kill()


def _run(job: Job, crew: Crew, seconds: float, parent: Connection) -> None:
    asyncio.run(job(crew, seconds, parent))

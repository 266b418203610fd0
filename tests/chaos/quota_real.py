"""The real form of `quota.py --real`: processes, a Redis, and a server that counts who arrives.

A call is on its way for a while before it arrives, by its own luck: that is what a log of sending
times takes no account of.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import time
import uuid
from collections.abc import Callable
from typing import Final

import attrs

from tests.chaos.quota import LEAST_USE, LIMIT, Figures, SendingLog, TokenBucket, peak
from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Quota, Slot
from wxpay_async.adapters.limiters.local import LocalLimiter

LEAST_USE_OF_SEVERAL: Final = 0.97
_ON_THE_WAY: Final = 0.1  # seconds, at most


@attrs.define
class CountingServer:
    """Answers each connection after 5 to 200 ms, 1 % after 1 to 3 s, and notes when it came."""

    dice: random.Random
    arrivals: list[float] = attrs.field(factory=list)

    def note(self, line: str) -> None:
        """Note a call that arrives."""
        del line
        self.arrivals.append(time.monotonic())

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Count one call."""
        try:
            self.note((await reader.readuntil()).decode())
            slow = self.dice.random() < 0.01
            await asyncio.sleep(self.dice.uniform(1, 3) if slow else self.dice.uniform(0.005, 0.2))
            writer.write(b"!")
        except (OSError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass  # its process was killed, or the run is over; asyncio would complain about that
        finally:
            writer.close()


@attrs.frozen
class Job:
    """What one process is told."""

    limiter: str
    url: str
    app_key: str
    port: int
    seed: int
    quota: Quota


async def call_server(slot: Slot, port: int, dice: random.Random, line: str = "") -> None:
    """Make a call that has its slot: 1 % are never sent, and what takes over 0.5 s is given up."""
    if dice.random() < 0.01:
        await slot.unsent()
        return
    await asyncio.sleep(dice.uniform(0, _ON_THE_WAY))
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    try:
        writer.write(f"{line}\n".encode())
        async with asyncio.timeout(0.5):
            await reader.readexactly(1)
        await slot.answered()
    except TimeoutError:
        await slot.doubtful()
    finally:
        writer.close()


def _limiter(job: Job) -> Limiter:
    from wxpay_async.adapters.limiters.redis import (  # noqa: PLC0415 - the extra may be missing
        RedisLimiter,
    )

    if job.limiter == "token-bucket":
        return TokenBucket(job.quota.period)
    if job.limiter == "sending-log":
        local = LocalLimiter(job.quota, idle=True)
        local._log = SendingLog(job.quota)
        return local
    return RedisLimiter(job.url, job.app_key, quota=job.quota, idle=True)


async def _worker(job: Job) -> None:
    dice, limiter = random.Random(job.seed), _limiter(job)

    async def call_for_ever() -> None:
        while True:
            await call_server(await limiter.acquire(Lane.PEOPLE, timeout=3600), job.port, dice)

    async with asyncio.TaskGroup() as group:
        for _ in range(LIMIT if job.limiter != "interval" else LIMIT // 2):
            group.create_task(call_for_ever())


def _work(job: Job) -> None:
    asyncio.run(_worker(job))


async def _watch(server: CountingServer, victim: Callable[[], None] | None, seconds: float) -> None:
    """Wait; kill one process amid the second rush, when its calls are on the way."""
    while not server.arrivals or time.monotonic() < server.arrivals[0] + seconds:
        await asyncio.sleep(0.01)
        if victim is not None and len(server.arrivals) > LIMIT + LIMIT // 4:
            victim()
            victim = None


async def clean_up(url: str, app_key: str) -> None:
    """Remove what a run left in Redis."""
    from redis.asyncio import Redis  # noqa: PLC0415 - the extra may be missing

    async with Redis.from_url(url) as client:
        async for key in client.scan_iter(f"*{app_key}*"):
            await client.delete(key)


def _quota(period: float) -> Quota:
    """Return the platform's quota, in a shorter window if that is asked for."""
    whole = Quota()
    scale = min(1.0, period / whole.period)
    return Quota(
        period=period,
        margin=whole.margin * scale,
        doubt=whole.doubt * scale,
        lease=max(2.0, whole.lease * scale),
    )


async def run_real(options: argparse.Namespace) -> Figures:
    """Let several processes share one quota in Redis, and count at the receiver."""
    server = CountingServer(random.Random(options.seed))
    app_key = f"chaos-{uuid.uuid4().hex}"
    spawning = multiprocessing.get_context("spawn")
    quota = _quota(options.period)
    async with await asyncio.start_server(server.serve, "127.0.0.1", 0, backlog=1024) as listening:
        port = listening.sockets[0].getsockname()[1]
        jobs = [
            Job(options.limiter, options.redis, app_key, port, options.seed + i, quota)
            for i in range(options.processes)
        ]
        workers = [spawning.Process(target=_work, args=(job,)) for job in jobs]
        for worker in workers:
            worker.start()
        await _watch(server, workers[0].kill if options.kill_one else None, options.seconds)
        for worker in workers:
            worker.kill()
            worker.join()
    await clean_up(options.redis, app_key)
    return _figures(server.arrivals, options)


def _figures(arrivals: list[float], options: argparse.Namespace) -> Figures:
    end = arrivals[0] + options.seconds
    counted = [moment for moment in arrivals if moment < end]
    most = peak([(moment, moment) for moment in counted], options.period)
    several = LEAST_USE if options.processes == 1 else LEAST_USE_OF_SEVERAL
    return Figures(
        peak=most,
        random_peak=most,
        use=len(counted) / (LIMIT * options.seconds / options.period),
        calls=len(counted),
        least_use=several if options.least_use is None else options.least_use,
    )

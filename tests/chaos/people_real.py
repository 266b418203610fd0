"""The real form of `people.py --real`: processes, and a server that counts who arrives.

Each call tells the server its lane and how long it waited for its slot, so that nothing of a
process that is killed gets lost but its calls under way.
"""

from __future__ import annotations

import argparse
import asyncio
import multiprocessing
import random
import time
import uuid
from collections import Counter
from multiprocessing.process import BaseProcess
from typing import Final

import attrs

from tests.chaos.people import CROWDS, Figures, Stage
from tests.chaos.quota import LIMIT, PERIOD, peak
from tests.chaos.quota_real import CountingServer, call_server, clean_up
from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Slot
from wxpay_async.adapters.limiters.local import LocalLimiter

WARM_UP: Final = 60.0
_FAILED: Final = "failed"


@attrs.define
class Receiver(CountingServer):
    """Counts all calls, and those of each lane after the first minute.

    Attributes:
        began: the first call arrived.
        waits: how long each person waited who got a slot.
        failures: people who got none, from the first second on.
        lanes: how many calls each lane made.
        refused: machines that were told to come back.
    """

    began: asyncio.Event = attrs.field(factory=asyncio.Event)
    waits: list[float] = attrs.field(factory=list[float])
    failures: int = 0
    lanes: Counter[Lane] = attrs.field(factory=Counter[Lane])
    refused: int = 0

    def note(self, line: str) -> None:
        """Note a call, or that a person failed."""
        if line.startswith(_FAILED):
            self.failures += 1
            return
        super().note(line)
        self.began.set()
        if time.monotonic() < self.arrivals[0] + WARM_UP:
            return
        lane, waited, refused = line.split()
        self.lanes[Lane(lane)] += 1
        self.refused += int(refused)
        if lane == Lane.PEOPLE:
            self.waits.append(float(waited))


@attrs.define(eq=False, kw_only=True)
class RealStage(Stage):
    """The limiter of one process, whose calls go to the receiver."""

    port: int

    async def send(self, slot: Slot, lane: Lane, waited: float) -> None:
        """Tell the receiver."""
        line, self.refused = f"{lane} {waited:.4f} {self.refused}", 0
        await call_server(slot, self.port, self.dice, line)

    async def fail(self) -> None:
        """Tell the receiver, by a call that no limiter counts."""
        _, writer = await asyncio.open_connection("127.0.0.1", self.port)
        writer.write(f"{_FAILED}\n".encode())
        await writer.drain()
        writer.close()


@attrs.frozen
class Job:
    """What one process is told."""

    beside: str
    redis: str
    app_key: str
    port: int
    seed: int
    processes: int


def _limiter(job: Job) -> Limiter:
    if job.processes == 1:
        return LocalLimiter(idle=True)
    from wxpay_async.adapters.limiters.redis import (  # noqa: PLC0415 - the extra may be missing
        RedisLimiter,
    )

    return RedisLimiter(job.redis, job.app_key, idle=True)


async def _crowd(job: Job) -> None:
    stage = RealStage(
        dice=random.Random(job.seed),
        limiter=_limiter(job),
        processes=job.processes,
        port=job.port,
    )
    await stage.run(CROWDS[job.beside], float("inf"))


def _work(job: Job) -> None:
    asyncio.run(_crowd(job))


def _start(job: Job) -> BaseProcess:
    worker = multiprocessing.get_context("spawn").Process(target=_work, args=(job,))
    worker.start()
    return worker


def _kill(worker: BaseProcess) -> None:
    worker.kill()
    worker.join()


async def _wait(receiver: Receiver, seconds: float) -> None:
    """Wait until so many seconds after the first call."""
    await receiver.began.wait()
    await asyncio.sleep(receiver.arrivals[0] + seconds - time.monotonic())


async def run_real(beside: str, options: argparse.Namespace) -> Figures:
    """Let people pay beside a crowd for so many minutes, and count at the receiver."""
    receiver, seconds = Receiver(random.Random(options.seed)), options.minutes * 60
    app_key = f"chaos-{uuid.uuid4().hex}"
    async with await asyncio.start_server(receiver.serve, "127.0.0.1", 0, backlog=1024) as server:
        port = server.sockets[0].getsockname()[1]
        jobs = [
            Job(beside, options.redis, app_key, port, options.seed + number, options.processes)
            for number in range(options.processes)
        ]
        workers = [_start(job) for job in jobs]
        if options.kill_one:
            await _wait(receiver, (WARM_UP + seconds) / 2)
            _kill(workers[0])
            workers[0] = _start(attrs.evolve(jobs[0], seed=options.seed + len(jobs)))
        await _wait(receiver, seconds)
        for worker in workers:
            _kill(worker)
        await asyncio.sleep(0.1)  # let the server hear that its callers are gone
    if options.processes > 1:
        await clean_up(options.redis, app_key)
    return _figures(receiver, beside, seconds)


def _figures(receiver: Receiver, beside: str, seconds: float) -> Figures:
    measured = sum(receiver.lanes.values())
    return Figures(
        waits=receiver.waits,
        failures=receiver.failures,
        use=measured / LIMIT * PERIOD / (seconds - WARM_UP),
        peak=peak([(moment, moment) for moment in receiver.arrivals]),
        lanes=receiver.lanes,
        refused=receiver.refused,
        beside=beside,
    )

"""Workers over a broker, of which one is killed and one stopped, and whoever sends to them."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import time
import uuid
from asyncio.subprocess import Process
from collections.abc import AsyncIterator
from typing import Final

import aio_pika
from attrs import define, field

from tests.chaos.batch_stage import BatchStage, kill, pause, staged
from tests.chaos.batch_worker import BROKER, FREE, NOTES, QUEUE, read_taken
from tests.chaos.outage import LineOutage
from tests.support.services import RABBITMQ, REDIS
from wxpay_async import Lane, RedisLimiter

KILLED_SOON: Final = 60.0
STOPPED_SOON: Final = 100.0
"""Seconds from the blow until the lines that a worker had are settled, where no quota waits."""
MOST_SECONDS: Final = 830.0
"""For 5,000 lines at the quota."""

_QUOTA: Final = 400
_TOO_MANY: Final = "CO_MSG_000007"
_STOP: Final = 30.0
_CUT: Final = 10.0
_BEGUN_AGAIN: Final = 2.0
_READY: Final = 30.0
_PATIENCE: Final = 3_600.0


@define(eq=False)
class Found:
    """What was seen."""

    figures: dict[str, object] = field(factory=dict[str, object], init=False)
    wrong: list[str] = field(factory=list[str], init=False)


@define(eq=False)
class _Blow:
    """A blow to a worker: when, and the lines that it had."""

    at: float
    taken: set[int]


@contextlib.asynccontextmanager
async def run_machines(options: argparse.Namespace) -> AsyncIterator[tuple[BatchStage, Found]]:
    """Run a file by workers, strike them, and yield what was seen."""
    queue = f"wxpay-chaos-{uuid.uuid4().hex}"
    line = LineOutage(RABBITMQ.url)
    await line.start()
    told = {BROKER: line.url, QUEUE: queue}
    told |= {FREE: "1"} if options.free else {"WXPAY_QUOTA_URL": REDIS.url}
    quota = None if options.free else _QUOTA
    try:
        async with staged(options, quota=quota, told=told) as stage, asyncio.timeout(_PATIENCE):
            stage.environ = {**stage.environ, NOTES: str(stage.folder)}
            if quota is not None:
                await _open_quota(stage.environ["WXPAY_APP_KEY"])
            found = Found()
            await _Machines(stage, line, found, options.workers, options.free, options.timed).run()
            yield stage, found
    finally:
        await line.aclose()
        await _delete_queue(queue)


@define(eq=False)
class _Machines:
    """The workers, the coordinator, and what befalls them."""

    stage: BatchStage
    line: LineOutage
    found: Found
    count: int
    is_free: bool
    is_timed: bool

    async def run(self) -> None:
        workers = [await self.stage.run_worker(f"worker-{n}") for n in range(self.count)]
        await self._wait_until_ready()
        began = time.monotonic()
        coordinator = await self.stage.run_file("coordinator", "--send")
        coordinator, blows = await self._strike(workers, coordinator)
        if await coordinator.wait() != 0:
            self.found.wrong.append(f"crashed: {self.stage.printed('coordinator')}")
        took = time.monotonic() - began
        self.found.figures["seconds"] = f"{took:.1f}"
        if not self.is_free:
            refused = self.stage.sandbox.platform.replies[_TOO_MANY]
            self._note(_TOO_MANY, refused, most=0)
            if self.is_timed:
                self._note("minutes_late", max(0.0, took - MOST_SECONDS) / 60, most=0)
        else:
            await self._note_settled(blows)

    async def _wait_until_ready(self) -> None:
        """Wait until every worker listens: else the one to be struck has nothing."""
        until = time.monotonic() + _READY
        for number in range(self.count):
            while "Listening started" not in self.stage.printed(f"worker-{number}"):
                assert time.monotonic() < until, self.stage.printed(f"worker-{number}")
                await asyncio.sleep(0.1)

    async def _strike(
        self, workers: list[Process], coordinator: Process
    ) -> tuple[Process, dict[str, _Blow]]:
        """Strike whenever a part of the lines is done; return who sends in the end."""
        await self._reach(0.2, workers[0], coordinator)
        killed = self._blow(workers[0])
        await kill(workers[0])
        await self._reach(0.35, workers[1], coordinator)
        stopped = self._blow(workers[1])
        stopping = asyncio.create_task(pause(workers[1], _STOP))
        if not self.is_free:
            await self._reach(0.5, None, coordinator)
            await self.line.cut(_CUT)
            await self._reach(0.65, None, coordinator)
            if not await kill(coordinator):
                self.found.wrong.append("the coordinator had ended before it was killed")
            await asyncio.sleep(_BEGUN_AGAIN)
            coordinator = await self.stage.run_file("coordinator", "--send")
        await stopping
        return coordinator, {"killed": killed, "stopped": stopped}

    async def _reach(self, part: float, worker: Process | None, coordinator: Process) -> None:
        """Wait until so much is done, and until this worker has lines."""
        await self.stage.wait_for(part * self.stage.lines, coordinator)
        while worker is not None and not read_taken(self.stage.folder, worker.pid):
            await asyncio.sleep(0.002)
            if coordinator.returncode is not None:
                return

    def _blow(self, worker: Process) -> _Blow:
        blow = _Blow(time.time(), read_taken(self.stage.folder, worker.pid))
        if not blow.taken:
            self.found.wrong.append("a worker had no lines when it was struck")
        return blow

    async def _note_settled(self, blows: dict[str, _Blow]) -> None:
        """Note when the last line of each struck worker ended, from the blow."""
        ends = {o.request.number: o.settled_at for o in await self.stage.recall()}
        for name, blow in blows.items():
            moments = [ends.get(number) for number in blow.taken]
            late = max((m.timestamp() if m else float("inf") for m in moments), default=0.0)
            left = sum(1 for moment in moments if moment and moment.timestamp() > blow.at)
            self.found.figures[f"{name}_had"] = left
            if not left:
                self.found.wrong.append(f"{name}: all of its lines had ended")
            most = KILLED_SOON if name == "killed" else STOPPED_SOON
            most = most if self.is_timed else _PATIENCE
            self._note(f"{name}_settled_after", round(late - blow.at, 1), most=most)

    def _note(self, name: str, value: float, *, most: float) -> None:
        self.found.figures[name] = value
        if value > most:
            self.found.wrong.append(name)


async def _open_quota(app_key: str) -> None:
    """Say that the appKey, which is of this run alone, has made no call yet.

    Else half of the quota counts as used by whoever was there before, in the first minute.
    """
    limiter = RedisLimiter(REDIS.url, app_key, idle=True)
    slot = await limiter.acquire(Lane.BATCH, timeout=5.0)
    await slot.unsent()
    await limiter.aclose()


async def _delete_queue(name: str) -> None:
    connection = await aio_pika.connect(RABBITMQ.url)
    async with connection:
        channel = await connection.channel()
        for queue in (name, f"{name}.expired", f"{name}.delay"):
            with contextlib.suppress(aio_pika.exceptions.AMQPError):
                await channel.queue_delete(queue)
        await channel.exchange_delete(name)

"""Machines that die and stop, in virtual time, and what outlives them.

Everything that a machine does takes a moment, and at any of these moments it may be dead or
stopped: then nothing comes back to it, until it wakes. What it has sent by then has arrived.
"""

from __future__ import annotations

import asyncio
import inspect
import json
import random
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine
from typing import Final, cast
from urllib.parse import parse_qsl

from attrs import define, field

from tests.support import replies
from tests.support.batches import LastingStore, Platform, make_gateway
from tests.support.clock import LoopClock, loop_time
from tests.support.platform import UNKNOWN_ORDER
from wxpay_async.adapters.limiters.limiter import Quota
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.adapters.transports.memory import Answer, MemoryTransport
from wxpay_async.batch.batch import Batch
from wxpay_async.batch.line import Line
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts

KEYS: Final = (b"s" * 32,)

_WRITTEN: Final = 0.5
_REPEATED: Final = "GM_API_BUS_0000015"


@define(eq=False)
class Machine:
    """A machine that can die or stop at any moment: nothing that it does comes back.

    Attributes:
        dice: decides how long everything takes.
        runs: cleared while it is stopped.
        dead: whether it is dead.
    """

    dice: random.Random
    runs: asyncio.Event = field(factory=asyncio.Event, init=False)
    dead: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self.runs.set()

    def kill(self) -> None:
        """Die."""
        self.dead = True
        self.runs.clear()

    async def live(self) -> None:
        """Take some time, or all time that there is."""
        await asyncio.sleep(self.dice.uniform(0.0, 0.05))
        await self.runs.wait()


@define(eq=False)
class ExactPlatform(Platform):
    """Executes each requestId once, and finds what it executed.

    It would execute a second requestId for the same number: whoever invents one is found out.

    Attributes:
        calls: when each request came.
        tokens: the orders that may be paid, by their payTokens.
    """

    calls: list[float] = field(factory=list[float])
    tokens: dict[str, str] = field(factory=dict[str, str])
    _found: dict[str, tuple[str, str, str]] = field(factory=dict[str, tuple[str, str, str]])

    def __call__(self, request: HttpRequest) -> Answer:
        """Answer one request."""
        self.calls.append(loop_time())
        form = dict(parse_qsl(request.body.decode()))
        if request.url.endswith("/query"):
            found = self._found.get(form["outTradeNo"])
            return UNKNOWN_ORDER if found is None else replies.order(found[0], *found[1:])
        content = json.loads(form["bizContent"])
        if content["requestId"] in self.executed:
            self.attempts += 1
            return replies.no(_REPEATED)
        if not self.down and "refundAmount" in content:
            number = content["outTradeNo"]
            self._found[number] = ("已退款", number, content["refundAmount"])
        answer = super().__call__(request)
        if request.url.endswith("/wxminiprogram") and isinstance(answer, dict):
            answer["data"]["requestId"] = content["requestId"]
            answer["data"]["tradeResList"][0]["outTradeNo"] = self.tokens[content["payToken"]]
        return answer

    def create(self, out_trade_no: str) -> str:
        """Create an order that awaits payment; return its payToken."""
        self._found[out_trade_no] = ("待付款", out_trade_no, "1.00")
        self.tokens[f"token-{out_trade_no}"] = out_trade_no
        return f"token-{out_trade_no}"


@define(eq=False)
class MortalStore:
    """A store as a machine sees it that may die before and after everything it does there.

    Attributes:
        is_away: tells whether it cannot be reached; half of what is written then is written all the
            same.
    """

    store: Store
    machine: Machine
    is_away: Callable[[], bool]

    def __getattr__(self, name: str) -> object:
        found = getattr(self.store, name)
        return self._wrap(found) if inspect.iscoroutinefunction(found) else found

    def _wrap(self, act: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def live_through(*arguments: object, **named: object) -> object:
            await self.machine.live()
            if not self.is_away():
                result = await act(*arguments, **named)
                await self.machine.live()
                return result
            if self.machine.dice.random() < _WRITTEN:
                await act(*arguments, **named)
            error = InDoubtError if act.__name__ == "record" else NotSentError
            raise error("the store is away")

        return live_through


@define(eq=False)
class MortalTransport:
    """The network as such a machine sees it."""

    transport: MemoryTransport
    machine: Machine

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Send a request, unless the machine is dead; receive the reply, unless it died since."""
        await self.machine.live()
        try:
            return await self.transport.send(request, timeout=timeout)
        finally:
            await self.machine.live()

    async def aclose(self) -> None:
        """Close nothing."""


@define(eq=False)
class World:
    """What outlives machines: the platform, the store, the quota, and a queue.

    Attributes:
        dice: decides everything.
        is_away: whether the store cannot be reached now.
    """

    dice: random.Random
    platform: ExactPlatform = field(factory=ExactPlatform)
    store: LastingStore = field(factory=LastingStore)
    limiter: LocalLimiter = field(
        factory=lambda: LocalLimiter(Quota(lease=75.0), clock=LoopClock().monotonic)
    )
    queue: asyncio.Queue[str] = field(factory=asyncio.Queue[str])
    is_away: bool = False
    _held: dict[Machine, list[str]] = field(factory=dict["Machine", list[str]])
    _tasks: list[asyncio.Task[None]] = field(factory=list[asyncio.Task[None]])
    _machines: list[Machine] = field(factory=list["Machine"])

    def make_machine(self) -> Machine:
        """Make a machine."""
        self._machines.append(Machine(random.Random(self.dice.random())))
        return self._machines[-1]

    def open(self, machine: Machine) -> PayGateway:
        """Make the gateway of a machine."""
        return make_gateway(
            self.platform,
            store=SealedStore(cast("Store", self._limit(machine)), KEYS),
            limiter=self.limiter,
            transport=MortalTransport(MemoryTransport(self.platform), machine),
        )

    def _limit(self, machine: Machine) -> MortalStore:
        return MortalStore(self.store, machine, lambda: self.is_away)

    def start_run(self, machine: Machine, lines: list[Line], *, send: bool) -> asyncio.Task[None]:
        """Start a run of all lines, which ends with the last one."""
        return self._start(self._run(machine, lines, send=send))

    async def _run(self, machine: Machine, lines: list[Line], *, send: bool) -> None:
        async with self.open(machine) as gateway:
            batch = Batch(gateway, clock=LoopClock())

            async def put(message: str) -> None:
                await machine.live()
                self.queue.put_nowait(message)

            async for _ in batch.run(lines, send=put if send else None):
                pass

    def start_worker(self) -> Machine:
        """Start a worker, which takes two messages at once."""
        machine = self.make_machine()
        self._held[machine] = []
        self._start(self._work(machine))
        return machine

    async def _work(self, machine: Machine) -> None:
        async with self.open(machine) as gateway, asyncio.TaskGroup() as group:
            batch = Batch(gateway, concurrency=16, clock=LoopClock())
            for _ in range(2):
                group.create_task(self._take(machine, batch))

    async def _take(self, machine: Machine, batch: Batch) -> None:
        held = self._held[machine]
        while True:
            await machine.runs.wait()
            message = await self.queue.get()
            held.append(message)
            await batch.work(message)
            if message in held:
                held.remove(message)

    def take_back(self, machine: Machine) -> None:
        """Give what a worker has to others."""
        for message in self._held[machine]:
            self.queue.put_nowait(message)
        self._held[machine].clear()

    async def end(self) -> None:
        """Wake what is dead, as if it had only slept, and end everything."""
        for machine in self._machines:
            machine.runs.set()
        await asyncio.sleep(60.0)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def has_lines(self, machine: Machine) -> bool:
        """Tell whether a worker has as many messages as it takes."""
        return len(self._held[machine]) == 2

    def _start(self, work: Coroutine[object, object, None]) -> asyncio.Task[None]:
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    async def count(self, lines: list[Line]) -> Counter[str]:
        """Count how the lines ended, as the store shows it."""
        async with self.open(self.make_machine()) as gateway:
            batch = Batch(gateway, clock=LoopClock())
            return Counter([outcome.kind async for outcome in batch.recall(lines)])

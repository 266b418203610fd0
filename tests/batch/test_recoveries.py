"""Machines that die or stop amid a batch, in virtual time: what is done by others, and when."""

from __future__ import annotations

import asyncio
import inspect
import json
import random
from bisect import bisect_left
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any, Final, cast
from urllib.parse import parse_qsl

import pytest
from attrs import define, evolve, field

from tests.support import asking, replies
from tests.support.batches import LastingStore, Platform, make_gateway, make_refunds
from tests.support.clock import LoopClock, loop_time, virtual
from tests.support.platform import APP_KEY, UNKNOWN_ORDER
from wxpay_async.adapters.limiters.limiter import Quota, Unlimited
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.batch.batch import Batch
from wxpay_async.batch.line import Line
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import IdempotencyConflictError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.codec import serialize
from wxpay_async.protocol.idempotency_key import derive_request_id, fingerprint
from wxpay_async.protocol.requests import Refund
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts

KEYS: Final = (b"s" * 32,)
_REPEATED: Final = "GM_API_BUS_0000015"
BACK_AFTER: Final = 20.0
"""Seconds until a queue gives away what a silent worker has: two heartbeats."""


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
    """

    calls: list[float] = field(factory=list[float])
    _numbers: dict[str, str] = field(factory=dict[str, str])

    def __call__(self, request: HttpRequest) -> Any:  # noqa: ANN401 - an answer
        """Answer one request."""
        self.calls.append(loop_time())
        form = dict(parse_qsl(request.body.decode()))
        if request.url.endswith("/query"):
            amount = self._numbers.get(form["outTradeNo"])
            return UNKNOWN_ORDER if amount is None else self._find(form["outTradeNo"], amount)
        content = json.loads(form["bizContent"])
        if content["requestId"] in self.executed:
            self.attempts += 1
            return replies.no(_REPEATED)
        if not self.down:
            self._numbers[content["outTradeNo"]] = content["refundAmount"]
        return super().__call__(request)

    def _find(self, number: str, amount: str) -> object:
        return replies.order("已退款", number, amount)


@define(eq=False)
class MortalStore:
    """A store as a machine sees it that may die before and after everything it does there."""

    store: Store
    machine: Machine

    def __getattr__(self, name: str) -> object:
        found = getattr(self.store, name)
        return self._wrap(found) if inspect.iscoroutinefunction(found) else found

    def _wrap(self, act: Callable[..., Awaitable[object]]) -> Callable[..., Awaitable[object]]:
        async def live_through(*arguments: object, **named: object) -> object:
            await self.machine.live()
            result = await act(*arguments, **named)
            await self.machine.live()
            return result

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
    """

    dice: random.Random
    platform: ExactPlatform = field(factory=ExactPlatform)
    store: LastingStore = field(factory=LastingStore)
    limiter: LocalLimiter = field(
        factory=lambda: LocalLimiter(Quota(lease=75.0), clock=LoopClock().monotonic)
    )
    queue: asyncio.Queue[str] = field(factory=asyncio.Queue[str])
    _held: dict[Machine, list[str]] = field(factory=dict["Machine", list[str]])
    _tasks: list[asyncio.Task[None]] = field(factory=list[asyncio.Task[None]])
    _machines: list[Machine] = field(factory=list["Machine"])

    def make_machine(self) -> Machine:
        """Make a machine."""
        self._machines.append(Machine(random.Random(self.dice.random())))
        return self._machines[-1]

    def open(self, machine: Machine, **settings: Any) -> PayGateway:  # noqa: ANN401 - the constructor's
        """Make the gateway of a machine."""
        given = {
            "store": SealedStore(cast("Store", MortalStore(self.store, machine)), KEYS),
            "limiter": self.limiter,
            "transport": MortalTransport(MemoryTransport(self.platform), machine),
        }
        return make_gateway(self.platform, **(given | settings))

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

    def _start(self, work: Any) -> asyncio.Task[None]:  # noqa: ANN401 - a coroutine
        task = asyncio.create_task(work)
        self._tasks.append(task)
        return task

    async def count(self, lines: list[Line]) -> Counter[str]:
        """Count how the lines ended, as the store shows it."""
        async with self.open(self.make_machine()) as gateway:
            batch = Batch(gateway, clock=LoopClock())
            return Counter([outcome.kind async for outcome in batch.recall(lines)])


@pytest.mark.parametrize("seed", range(3))
def test_run_that_is_killed_again_and_again_executes_every_line_once(seed: int) -> None:
    """Ten times, each at another moment, while replies get lost; the last one ends."""

    @virtual
    async def run() -> None:
        world, lines = World(random.Random(seed)), make_refunds(200)
        world.platform.lost = 20
        for _ in range(10):
            machine = world.make_machine()
            world.start_run(machine, lines, send=False)
            await asyncio.sleep(world.dice.uniform(0.1, 4.0))
            machine.kill()
        await world.start_run(world.make_machine(), lines, send=False)

        assert await world.count(lines) == {"ok": 200}
        await world.end()
        assert world.platform.executed == Counter(line.request_id for line in lines)

    run()


@virtual
async def test_workers_and_coordinators_that_die_or_stop_execute_every_line_once() -> None:
    """Of four workers one dies and one stops for 30 s; the coordinator dies, and comes again."""
    world, lines = World(random.Random(1)), make_refunds(2_000)
    dying, stopping, *_ = [world.start_worker() for _ in range(4)]
    coordinator = world.make_machine()
    world.start_run(coordinator, lines, send=True)
    await asyncio.sleep(70.0)
    dying.kill()
    world.take_back(dying)
    await asyncio.sleep(40.0)
    stopping.runs.clear()
    await asyncio.sleep(BACK_AFTER)
    world.take_back(stopping)
    await asyncio.sleep(30.0 - BACK_AFTER)
    stopping.runs.set()
    await asyncio.sleep(40.0)
    coordinator.kill()
    await world.start_run(world.make_machine(), lines, send=True)

    ended_at = loop_time()
    assert await world.count(lines) == {"ok": 2_000}
    await world.end()
    assert world.platform.executed == Counter(line.request_id for line in lines)
    assert ended_at <= 450.0
    assert count_in_any_minute(world.platform.calls) <= 400


@pytest.mark.parametrize(("blow", "most"), [("kill", 60.0), ("stop", 100.0)])
def test_lines_of_a_struck_worker_end_soon_where_no_quota_waits(blow: str, most: float) -> None:
    """As soon as the leases are over that it held; a queue gives a silent one's lines away."""

    @virtual
    async def run() -> None:
        world, lines = World(random.Random(2)), make_refunds(1_000)
        world.limiter = cast("LocalLimiter", Unlimited())
        struck, *_ = [world.start_worker() for _ in range(4)]
        run = world.start_run(world.make_machine(), lines, send=True)
        while not world.has_lines(struck):  # noqa: ASYNC110 - the time is the loop's own
            await asyncio.sleep(0.2)
        struck_at = loop_time()
        struck.kill()
        if blow == "stop":
            await asyncio.sleep(BACK_AFTER)
        world.take_back(struck)
        if blow == "stop":
            await asyncio.sleep(30.0 - BACK_AFTER)
            struck.runs.set()
        await run

        assert await world.count(lines) == {"ok": 1_000}
        assert loop_time() - struck_at <= most
        await world.end()
        assert world.platform.executed == Counter(line.request_id for line in lines)

    run()


@virtual
async def test_line_claimed_by_who_died_before_sending_goes_under_generation_1() -> None:
    """Another process's recovery proves at 12 and at 13.2 minutes that it never arrived."""
    world, [line] = World(random.Random(3)), make_refunds(1)
    async with _open_office(world) as service:
        await _claim(service, line)
        for moment in (720.0, 792.0):
            await asyncio.sleep(moment - loop_time())
            await service.recover()
        record = await service.store.load((APP_KEY, "refund-1"))
    assert record is not None
    assert record.state is State.NOT_EXECUTED
    async with _open_office(world) as gateway:
        batch = Batch(gateway, clock=LoopClock())
        [outcome] = [outcome async for outcome in batch.run([line])]
        [again] = [outcome async for outcome in batch.run([line])]

    expected = derive_request_id(APP_KEY, "refund", "refund-1", 1)
    assert outcome.kind == again.kind == "ok"
    assert outcome.request.generation == again.request.generation == 1
    assert world.platform.executed == {expected: 1}


@virtual
async def test_refund_that_no_query_can_prove_unsent_goes_under_its_own_id() -> None:
    """A query that does not find a refund proves nothing, unless the merchant knows better."""
    world, [line] = World(random.Random(4)), make_refunds(1)
    async with _open_office(world, refunds_queryable=False) as service:
        await _claim(service, line)
        for moment in (720.0, 792.0):
            await asyncio.sleep(moment - loop_time())
            await service.recover()
        batch = Batch(service, clock=LoopClock())
        [outcome] = [outcome async for outcome in batch.run([line])]

    assert outcome.kind == "ok"
    assert outcome.request.generation == 0
    assert world.platform.executed == {"refund-1": 1}


@virtual
async def test_line_that_was_changed_among_others_is_the_only_one_without_a_call() -> None:
    """Its outcome names the line and the field; in the store, too, for whoever asks later."""
    world, lines = World(random.Random(5)), make_refunds(120)
    async with _open_office(world) as gateway:
        batch = Batch(gateway, clock=LoopClock())
        [_ async for _ in batch.run(lines[:60])]
        attempts = world.platform.attempts
        lines[41] = evolve(
            lines[41],
            request=asking.refund("refund-42", out_trade_no="R-42", refund_amount="2.00"),
        )
        outcomes = [outcome async for outcome in batch.run(lines)]
        recalled = [outcome async for outcome in batch.recall(lines)]

    for all_ in (outcomes, recalled):
        [changed] = [outcome for outcome in all_ if outcome.kind != "ok"]
        assert changed.request.number == 42
        assert isinstance(changed.error, IdempotencyConflictError)
        assert changed.error.fields == ("refundAmount",)
    assert world.platform.attempts == attempts + 60
    assert set(world.platform.executed.values()) == {1}


@virtual
async def test_id_that_stands_twice_with_different_contents_is_executed_once() -> None:
    """`Lines.check` finds it before; where nobody checked, the second line is a conflict."""
    world, [line] = World(random.Random(6)), make_refunds(1)
    other = Line(number=2, request=asking.refund("refund-1", refund_amount="2.00"))
    async with _open_office(world) as gateway:
        batch = Batch(gateway, clock=LoopClock())
        outcomes = {o.request.number: o async for o in batch.run([line, other])}

    assert sorted(outcome.kind for outcome in outcomes.values()) == ["not_sent", "ok"]
    [conflict] = [o.error for o in outcomes.values() if o.kind == "not_sent"]
    assert isinstance(conflict, IdempotencyConflictError)
    assert world.platform.executed == {"refund-1": 1}


@virtual
async def test_broker_that_takes_a_message_and_says_nothing_holds_up_no_run() -> None:
    """The message is handed in again; if it had arrived, its lines are replays."""
    world, lines = World(random.Random(7)), make_refunds(200)
    world.start_worker()
    silent = 2

    async def send(message: str) -> None:
        nonlocal silent
        world.queue.put_nowait(message)
        if world.queue.qsize() > 1 and silent:
            silent -= 1
            await asyncio.Event().wait()

    async with asyncio.timeout(300.0), world.open(world.make_machine()) as gateway:
        batch = Batch(gateway, clock=LoopClock())
        outcomes = Counter([outcome.kind async for outcome in batch.run(lines, send=send)])

    assert outcomes == {"ok": 200}
    assert silent == 0
    await world.end()
    assert world.platform.executed == Counter(line.request_id for line in lines)


def count_in_any_minute(moments: list[float]) -> int:
    """Return the most calls that came within 60 s."""
    return max(bisect_left(moments, moment + 60.0) - at for at, moment in enumerate(moments))


def _open_office(world: World, **settings: Any) -> PayGateway:  # noqa: ANN401 - the constructor's
    given = {"store": SealedStore(world.store, KEYS), "refunds_queryable": True}
    return make_gateway(world.platform, **(given | settings))


async def _claim(gateway: PayGateway, line: Line) -> None:
    """Leave what a process leaves that dies between its claim and the first byte."""
    request = line.request
    assert isinstance(request, Refund)
    content = serialize(request)
    record = IdempotencyRecord(
        app_key=APP_KEY,
        request_id=request.request_id,
        operation="refund",
        fingerprint=fingerprint("refund", content, request.out_trade_no),
        out_trade_no=request.out_trade_no,
        content=content,
    )
    record = await gateway.store.reserve(record)
    now = LoopClock().time()
    assert await gateway.store.claim(record.key, now=now, signed_at=round(now * 1000))

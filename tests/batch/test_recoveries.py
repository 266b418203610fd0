"""Machines that die or stop amid a batch, in virtual time: what is done by others, and when."""

from __future__ import annotations

import asyncio
import random
from bisect import bisect_left
from collections import Counter
from typing import cast

import pytest
from attrs import evolve

from tests.support import asking
from tests.support.batches import claim, make_gateway, make_refunds
from tests.support.clock import LoopClock, loop_time, virtual
from tests.support.platform import APP_KEY
from tests.support.tasks import wait_until
from tests.support.worlds import KEYS, Machine, World
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.batch.batch import Batch
from wxpay_async.batch.line import Line
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import IdempotencyConflictError
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import derive_request_id

BACK_AFTER = 20.0
"""Seconds until a queue gives away what a silent worker has: two heartbeats."""


@pytest.mark.parametrize("seed", range(3))
def test_run_that_is_killed_again_and_again_executes_every_line_once(seed: int) -> None:
    """Ten times, each at another moment, while replies get lost; the last one ends."""

    @virtual
    async def run() -> None:
        world, lines = World(random.Random(seed)), make_refunds(200)
        world.platform.lost = 20
        await _run_amid_kills(world, lines, 10)

        assert await world.count(lines) == {"ok": 200}
        await world.end()
        assert world.platform.executed == Counter(line.request_id for line in lines)

    run()


@virtual
async def test_payments_whose_run_is_killed_have_one_credential_each_in_the_end() -> None:
    """Where the answer is lost, a new one is issued for the order, which is not paid yet."""
    world = World(random.Random(8))
    world.platform.lost = 10
    lines = [_make_pay(world, number) for number in range(1, 101)]
    await _run_amid_kills(world, lines, 5)

    assert await world.count(lines) == {"ok": 100}
    await world.end()
    assert len(world.platform.executed) <= 100 + 10 + 5 * 64
    assert set(world.platform.executed.values()) == {1}


@pytest.mark.parametrize("since", [0.0, 15.0])
@pytest.mark.parametrize("workers", [0, 4])
def test_store_that_is_away_for_minutes_ends_no_run(workers: int, since: float) -> None:
    """Nothing is sent meanwhile but what was on its way, and all lines end without a new run."""

    @virtual
    async def run() -> None:
        world, lines = World(random.Random(9)), make_refunds(300)
        for _ in range(workers):
            world.start_worker()
        run = world.start_run(world.make_machine(), lines, send=bool(workers))
        await asyncio.sleep(since)
        world.is_away, attempts = True, world.platform.attempts
        await asyncio.sleep(300.0)
        world.is_away, attempts = False, world.platform.attempts - attempts
        await run

        assert await world.count(lines) == {"ok": 300}
        assert attempts <= 64
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


@pytest.mark.parametrize("seed", range(3))
def test_whatever_befalls_a_batch_every_line_is_executed_once(seed: int) -> None:
    """Runs, workers, the store and the platform are struck at random, and a last run ends."""

    @virtual
    async def run() -> None:
        world, lines = World(random.Random(seed)), make_refunds(150)
        world.platform.lost = world.dice.randrange(40)
        workers = [world.start_worker() for _ in range(3)]
        for _ in range(12):
            machine = world.make_machine()
            world.start_run(machine, lines, send=world.dice.random() < 0.6)
            await asyncio.sleep(world.dice.uniform(0.1, 12.0))
            await _strike(world, workers)
            machine.kill()
        await world.start_run(world.make_machine(), lines, send=False)

        assert await world.count(lines) == {"ok": 150}
        await world.end()
        assert world.platform.executed == Counter(line.request_id for line in lines)
        assert count_in_any_minute(world.platform.calls) <= 400

    run()


async def _strike(world: World, workers: list[Machine]) -> None:
    """Kill a worker or stop it, or cut off the store or the platform."""
    blow, worker = world.dice.randrange(4), workers[0]
    if blow == 0:
        worker.kill()
        world.take_back(worker)
        workers.append(world.start_worker())
        workers.remove(worker)
    elif blow == 1:
        worker.runs.clear()
        await asyncio.sleep(BACK_AFTER)
        world.take_back(worker)
        await asyncio.sleep(world.dice.uniform(0.0, 60.0))
        worker.runs.set()
    else:
        world.is_away, world.platform.down = blow == 2, blow == 3
        await asyncio.sleep(world.dice.uniform(1.0, 100.0))
        world.is_away = world.platform.down = False


@pytest.mark.parametrize(("blow", "most"), [("kill", 60.0), ("stop", 100.0)])
def test_lines_of_a_struck_worker_end_soon_where_no_quota_waits(blow: str, most: float) -> None:
    """As soon as the leases are over that it held; a queue gives a silent one's lines away."""

    @virtual
    async def run() -> None:
        world, lines = World(random.Random(2)), make_refunds(1_000)
        world.limiter = cast("LocalLimiter", Unlimited())
        struck, *_ = [world.start_worker() for _ in range(4)]
        run = world.start_run(world.make_machine(), lines, send=True)
        await wait_until(lambda: world.has_lines(struck), pause=0.2)
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
        await claim(service, line)
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
        await claim(service, line)
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


def _make_pay(world: World, number: int) -> Line:
    order = f"O-{number}"
    token = world.platform.create(order)
    request = asking.pay(f"pay-{number}", pay_token=token, out_trade_no=order)
    return Line(number=number, request=request)


def count_in_any_minute(moments: list[float]) -> int:
    """Return the most calls that came within 60 s."""
    return max(bisect_left(moments, moment + 60.0) - at for at, moment in enumerate(moments))


def _open_office(world: World, *, refunds_queryable: bool = True) -> PayGateway:
    store = SealedStore(world.store, KEYS)
    return make_gateway(world.platform, store=store, refunds_queryable=refunds_queryable)


async def _run_amid_kills(world: World, lines: list[Line], kills: int) -> None:
    """Run lines again and again, kill each run at some moment, and let the last one end."""
    for _ in range(kills):
        machine = world.make_machine()
        world.start_run(machine, lines, send=False)
        await asyncio.sleep(world.dice.uniform(0.1, 4.0))
        machine.kill()
    await world.start_run(world.make_machine(), lines, send=False)

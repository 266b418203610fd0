"""Calls that are cancelled at every await: the state is legal, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Unpack

import pytest
from attrs import define, field

from tests.support import asking, replies
from tests.support.merchant import OpenShop, Shop
from tests.support.platform import HeldPlatform
from tests.support.records import Claim
from tests.support.tasks import list_operations, run_loop
from wxpay_async.adapters.limiters.limiter import Lane, Slot
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.call import Call
from wxpay_async.errors import InDoubtError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.signing import Md5Signer


@define(eq=False)
class YieldingStore(MemoryStore):
    """A store with an await before and after each commit, as one over a network has."""

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Reserve."""
        await asyncio.sleep(0)
        stored = await super().reserve(record)
        await asyncio.sleep(0)
        return stored

    async def claim(self, key: tuple[str, str], **claim: Unpack[Claim]) -> IdempotencyRecord | None:
        """Claim."""
        await asyncio.sleep(0)
        record = await super().claim(key, **claim)
        await asyncio.sleep(0)
        return record

    async def record(self, record: IdempotencyRecord) -> bool:
        """Record."""
        await asyncio.sleep(0)
        written = await super().record(record)
        await asyncio.sleep(0)
        return written


@define(eq=False)
class YieldingLimiter:
    """A limiter over a network, which counts what it gave and what came back."""

    given: int = 0
    ended: int = 0

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Give a slot; a caller that is cancelled takes none."""
        del lane, timeout
        await asyncio.sleep(0)
        self.given += 1
        return YieldingSlot(self)

    async def throttled(self) -> None:
        """Change nothing."""

    async def aclose(self) -> None:
        """Release nothing."""


@define(eq=False)
class ReadyLimiter(YieldingLimiter):
    """One that can tell that a slot is free, so that a reservation may be a claim."""

    async def acquire_now(self, lane: Lane) -> Slot:
        """Give a slot; a caller that is cancelled takes none."""
        return await self.acquire(lane, timeout=0)


@define(eq=False)
class YieldingSlot:
    """A slot whose report takes an iteration of the loop."""

    limiter: YieldingLimiter
    over: bool = False

    async def answered(self) -> None:
        """End."""
        await asyncio.sleep(0)
        self.limiter.ended += not self.over
        self.over = True

    doubtful = unsent = answered


class YieldingSigner:
    """A key-management service."""

    sign_type = None

    async def sign(self, message: bytes) -> str:
        """Sign elsewhere."""
        await asyncio.sleep(0)
        return Md5Signer("secret").sign(message)


@define(eq=False)
class Scene:
    """A shop in which every part takes iterations of the loop."""

    shop: Shop
    limiter: YieldingLimiter
    answers: list[object] = field(factory=list)
    asked: asyncio.Event = field(factory=asyncio.Event)

    async def answer(self, _: object) -> object:
        """Answer after two iterations."""
        self.asked.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


LOST = InDoubtError("read timeout")
PATHS = {"pay": "wxminiprogram", "refund": "refund"}


def make_scene(
    open_shop: OpenShop, *answers: object, limit: type[YieldingLimiter] = ReadyLimiter
) -> Scene:
    """Open a shop whose platform gives these answers."""
    limiter = limit()
    scene = Scene(None, limiter, list(answers))
    scene.shop = open_shop(scene.answer, store=YieldingStore(), limiter=limiter, max_in_flight=1)
    scene.shop.gateway._dispatcher.signing.signer = YieldingSigner()
    return scene


async def cancel_after(iterations: int, task: asyncio.Task[object], *, again: int) -> bool:
    """Cancel after so many iterations, then again and again; tell whether it was under way."""
    await run_loop(iterations)
    if task.done():
        return False
    for _ in range(again + 1):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])
    return True


async def check_state(scene: Scene, operation: str, iterations: int) -> State | None:
    """Return the state, checked against what was sent: no claim outlives its caller."""
    record = await scene.shop.store.load((scene.shop.gateway.app_key, f"{operation}-1"))
    if record is None:
        assert not scene.shop.transport.calls, iterations
        return None
    sent = len(scene.shop.sent(PATHS[operation]))
    assert record.state is not State.SENDING, iterations
    if sent:
        assert record.state in {State.UNKNOWN, State.SUCCEEDED}, iterations
    else:
        assert State.RESERVED is record.state, iterations
    assert bool(sent) <= (record.in_doubt or record.state is not State.RESERVED), iterations
    return record.state


async def check_nothing_is_left(scene: Scene) -> None:
    """With one connection, another call succeeds at once, and so does the same."""
    assert set() == list_operations()
    assert scene.limiter.given == scene.limiter.ended
    scene.answers = [replies.refunded(requestId="next", outTradeNo="R-2")]
    await scene.shop.gateway.refund(asking.refund("next", out_trade_no="R-2"))
    scene.answers = [replies.refunded()]
    assert "S" == (await scene.shop.gateway.refund(asking.refund())).status
    scene.answers = [replies.prepay()]
    assert (await scene.shop.gateway.pay(asking.pay())).prepay_id
    assert scene.limiter.given == scene.limiter.ended


@define(eq=False)
class EveryAwait:
    """Cancels one kind of call at each of its awaits."""

    open_shop: OpenShop
    limit: type[YieldingLimiter]

    async def cancel(self, operation: str, *, lost: int, again: int) -> set[State | None]:
        """Cancel after N iterations, for each N from 0 until the call ends before that."""
        reached: set[State | None] = set()
        answer = replies.prepay if operation == "pay" else replies.refunded
        for iterations in range(200):
            answers = [*[LOST] * lost, answer()]
            scene = make_scene(self.open_shop, *answers, limit=self.limit)
            request = getattr(asking, operation)()
            task: asyncio.Task[object] = asyncio.create_task(
                getattr(scene.shop.gateway, operation)(request)
            )
            if not await cancel_after(iterations, task, again=again):
                assert iterations > 10
                return reached
            reached.add(await check_state(scene, operation, iterations))
            assert task.cancelled(), iterations
            await check_nothing_is_left(scene)
        pytest.fail("the call never ended")


@pytest.fixture(params=[ReadyLimiter, YieldingLimiter], ids=["one commit", "two commits"])
def every_await(request: pytest.FixtureRequest, open_shop: OpenShop) -> EveryAwait:
    """Return what cancels a call at each of its awaits, claimed as it is reserved or later."""
    return EveryAwait(open_shop, request.param)


@pytest.mark.parametrize("again", [0, 1, 3], ids=["once", "twice", "four times"])
@pytest.mark.parametrize("lost", [0, 1], ids=["answered", "lost, then answered"])
@pytest.mark.parametrize("operation", PATHS)
async def test_call_cancelled_at_any_await_leaves_nothing_behind(
    operation: str, lost: int, again: int, every_await: EveryAwait
) -> None:
    """Wherever it is cancelled, the record is legal, no claim leaks, and nothing else is held."""
    reached = await every_await.cancel(operation, lost=lost, again=again)

    assert {State.RESERVED, State.UNKNOWN} <= reached


async def test_check_catches_a_claim_that_is_not_shielded(
    every_await: EveryAwait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A claim that is cut short leaves a lease behind, and the check above sees it."""

    async def cut_short(
        _: Call[Any], claiming: Coroutine[Any, Any, IdempotencyRecord | None]
    ) -> object:
        return await claiming

    monkeypatch.setattr(Call, "_shield", cut_short)

    with pytest.raises(AssertionError, match=r"SENDING|sending"):
        await every_await.cancel("refund", lost=0, again=0)


async def test_call_cancelled_in_the_queue_gives_its_slot_back(open_shop: OpenShop) -> None:
    """It takes no connection with it."""
    gate = asyncio.Event()

    async def hold(_: object) -> object:
        await gate.wait()
        return replies.prepay()

    limiter = YieldingLimiter()
    shop = open_shop(hold, limiter=limiter, max_in_flight=1)
    first = asyncio.create_task(shop.gateway.pay(asking.pay("first")))
    queue = [asyncio.create_task(shop.gateway.pay(asking.pay(f"q-{n}"))) for n in range(5)]
    await run_loop()
    for waiting in queue:
        waiting.cancel()
    await asyncio.wait(queue)
    gate.set()
    await first
    await shop.gateway.pay(asking.pay("last"))

    assert (2, 7, 7) == (shop.transport.calls, limiter.given, limiter.ended)
    assert {State.RESERVED} == {await shop.state(f"q-{n}") for n in range(5)}


async def test_call_cancelled_with_its_answer_keeps_it(open_shop: OpenShop) -> None:
    """The record has the answer although no caller heard it; the next call replays it."""
    scene = make_scene(open_shop, replies.refunded())
    task = asyncio.create_task(scene.shop.gateway.refund(asking.refund()))
    await scene.asked.wait()
    await run_loop(3)
    task.cancel()
    await asyncio.wait([task])

    assert State.SUCCEEDED is await scene.shop.state("refund-1")
    assert (await scene.shop.gateway.refund(asking.refund())).replayed


async def test_subclass_of_the_memory_store_is_shielded(open_shop: OpenShop) -> None:
    """What a subclass awaits may be a network: its record is not cut short either."""
    recording = asyncio.Event()

    class NotingStore(YieldingStore):
        async def record(self, record: IdempotencyRecord) -> bool:
            recording.set()
            await run_loop(5)
            return await super().record(record)

    shop = open_shop([replies.refunded()], store=NotingStore())
    task = asyncio.create_task(shop.gateway.refund(asking.refund()))
    await recording.wait()
    task.cancel()
    await asyncio.wait([task])

    assert State.SUCCEEDED is await shop.state("refund-1")


async def test_timeout_around_a_call_leaves_a_doubt(open_shop: OpenShop) -> None:
    """`asyncio.timeout` ends a call, and the doubt is recorded before it returns."""
    shop = open_shop(HeldPlatform())

    async def call() -> None:
        async with asyncio.timeout(0.01):
            await shop.gateway.refund(asking.refund())

    with pytest.raises(TimeoutError):
        await call()

    assert State.UNKNOWN is await shop.state("refund-1")

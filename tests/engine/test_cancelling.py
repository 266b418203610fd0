"""A call cancelled at every await it has: the state is legal, and nothing is left behind."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from attrs import define, field

from wxpay_async.adapters.limiters.limiter import Lane, Slot
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.call import Call
from wxpay_async.errors import InDoubtError
from wxpay_async.policy.record import LEASE, IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.signing import Md5Signer

Fixture = Any
"""What a conftest.py defines, which no test module can import."""


@define(eq=False)
class TurningStore(MemoryStore):
    """A store with an await before and after each commit, as one over a network has."""

    async def reserve(self, entry: IdempotencyRecord) -> IdempotencyRecord:
        """Reserve."""
        await asyncio.sleep(0)
        stored = await super().reserve(entry)
        await asyncio.sleep(0)
        return stored

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> IdempotencyRecord | None:
        """Claim."""
        await asyncio.sleep(0)
        entry = await super().claim(key, now=now, signed_at=signed_at, lease=lease)
        await asyncio.sleep(0)
        return entry

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Record."""
        await asyncio.sleep(0)
        written = await super().record(entry)
        await asyncio.sleep(0)
        return written


@define(eq=False)
class TurningLimiter:
    """A limiter over a network, which counts what it gave and what came back."""

    given: int = 0
    ended: int = 0

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Give a slot; one who is cancelled takes none."""
        del lane, timeout
        await asyncio.sleep(0)
        self.given += 1
        return TurningSlot(self)

    async def throttled(self) -> None:
        """Change nothing."""

    async def aclose(self) -> None:
        """Release nothing."""


@define(eq=False)
class TurningSlot:
    """A slot whose report takes a turn of the loop."""

    limiter: TurningLimiter
    over: bool = False

    async def answered(self) -> None:
        """End."""
        await asyncio.sleep(0)
        self.limiter.ended += not self.over
        self.over = True

    doubtful = unsent = answered


class TurningSigner:
    """A key-management service."""

    sign_type = None

    async def sign(self, message: bytes) -> str:
        """Sign elsewhere."""
        await asyncio.sleep(0)
        return Md5Signer("secret").sign(message)


@define(eq=False)
class Scene:
    """A shop in which every part takes turns of the loop."""

    shop: Fixture
    limiter: TurningLimiter
    answers: list[object] = field(factory=list)
    asked: asyncio.Event = field(factory=asyncio.Event)

    async def answer(self, _: object) -> object:
        """Answer after two turns."""
        self.asked.set()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        return self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]


def _scene(open_shop: Fixture, *answers: object) -> Scene:
    limiter = TurningLimiter()
    scene = Scene(None, limiter, list(answers))
    scene.shop = open_shop(scene.answer, store=TurningStore(), limiter=limiter, max_in_flight=1)
    scene.shop.gateway._dispatcher.signing.signer = TurningSigner()
    return scene


async def _cancelled_after(turns: int, task: asyncio.Task[object], *, again: int) -> bool:
    """Cancel after so many turns, then again and again; tell whether there was anything left."""
    for _ in range(turns):
        await asyncio.sleep(0)
    if task.done():
        return False
    for _ in range(again + 1):
        task.cancel()
        await asyncio.sleep(0)
    await asyncio.wait([task])
    return True


async def _legal_state(scene: Scene, operation: str, turns: int) -> State | None:
    """Return the state after checking it against what was sent: no claim outlives its caller."""
    entry = await scene.shop.store.load((scene.shop.gateway.app_key, f"{operation}-1"))
    if entry is None:
        assert not scene.shop.transport.calls, turns
        return None
    sent = len(scene.shop.sent(PATHS[operation]))
    assert entry.state is not State.SENDING, turns
    if sent:
        assert entry.state in {State.UNKNOWN, State.SUCCEEDED}, turns
    else:
        assert State.RESERVED is entry.state, turns
    assert bool(sent) <= (entry.in_doubt or entry.state is not State.RESERVED), turns
    return entry.state


LOST = InDoubtError("read timeout")
PATHS = {"pay": "wxminiprogram", "refund": "refund"}


@define(eq=False)
class EveryAwait:
    """Cancels one kind of call at each of its awaits."""

    open_shop: Fixture
    asking: Fixture
    replies: Fixture

    async def cancelled(self, operation: str, *, lost: int, again: int) -> set[State | None]:
        """After N turns, for N from 0 until the call gets through before it can be cancelled."""
        reached: set[State | None] = set()
        answer = self.replies.prepay if operation == "pay" else self.replies.refunded
        for turns in range(200):
            scene = _scene(self.open_shop, *[LOST] * lost, answer())
            request = getattr(self.asking, operation)()
            task: asyncio.Task[object] = asyncio.create_task(
                getattr(scene.shop.gateway, operation)(request)
            )
            if not await _cancelled_after(turns, task, again=again):
                assert turns > 10
                return reached
            reached.add(await _legal_state(scene, operation, turns))
            assert task.cancelled(), turns
            await _nothing_is_left(scene, self.asking, self.replies)
        pytest.fail("the call never ended")


@pytest.fixture
def every_await(open_shop: Fixture, asking: Fixture, replies: Fixture) -> EveryAwait:
    """Return what cancels a call at each of its awaits."""
    return EveryAwait(open_shop, asking, replies)


@pytest.mark.parametrize("again", [0, 1, 3], ids=["once", "twice", "four times"])
@pytest.mark.parametrize("lost", [0, 1], ids=["answered", "lost, then answered"])
@pytest.mark.parametrize("operation", PATHS)
async def test_cancelled_at_every_await(
    operation: str, lost: int, again: int, every_await: EveryAwait
) -> None:
    """Wherever it is cancelled, the row is legal, no claim leaks, and nothing else is held."""
    reached = await every_await.cancelled(operation, lost=lost, again=again)

    assert {State.RESERVED, State.UNKNOWN} <= reached


async def test_a_claim_that_is_not_shielded_is_caught(
    every_await: EveryAwait, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check sees the mistake: a claim that is cut short leaves a lease behind."""

    async def cut_short(
        _: Call[Any], claiming: Coroutine[Any, Any, IdempotencyRecord | None]
    ) -> object:
        return await claiming

    monkeypatch.setattr(Call, "_shield", cut_short)

    with pytest.raises(AssertionError, match=r"SENDING|sending"):
        await every_await.cancelled("refund", lost=0, again=0)


async def _nothing_is_left(scene: Scene, asking: Fixture, replies: Fixture) -> None:
    """With one connection, another call gets through at once, and so does the same."""
    names = {task.get_name() for task in asyncio.all_tasks()}
    assert not [name for name in names if name.startswith("wxpay")]
    assert scene.limiter.given == scene.limiter.ended
    scene.answers = [replies.refunded(requestId="next", outTradeNo="R-2")]
    await scene.shop.gateway.refund(asking.refund("next", out_trade_no="R-2"))
    scene.answers = [replies.refunded()]
    assert "S" == (await scene.shop.gateway.refund(asking.refund())).status
    scene.answers = [replies.prepay()]
    assert (await scene.shop.gateway.pay(asking.pay())).prepay_id
    assert scene.limiter.given == scene.limiter.ended


async def test_cancelled_while_it_waits_for_a_connection(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """A caller who gives up in the queue takes no permit with it and gives its slot back."""
    gate = asyncio.Event()

    async def hold(_: object) -> object:
        await gate.wait()
        return replies.prepay()

    limiter = TurningLimiter()
    shop = open_shop(hold, limiter=limiter, max_in_flight=1)
    first = asyncio.create_task(shop.gateway.pay(asking.pay("first")))
    queue = [asyncio.create_task(shop.gateway.pay(asking.pay(f"q-{n}"))) for n in range(5)]
    for _ in range(10):
        await asyncio.sleep(0)
    for waiting in queue:
        waiting.cancel()
    await asyncio.wait(queue)
    gate.set()
    await first
    await shop.gateway.pay(asking.pay("last"))

    assert (2, 7, 7) == (shop.transport.calls, limiter.given, limiter.ended)
    assert {State.RESERVED} == {await shop.state(f"q-{n}") for n in range(5)}


async def test_a_cancellation_that_comes_with_the_answer_loses_neither(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The row has the answer although nobody heard it; the next call replays it."""
    scene = _scene(open_shop, replies.refunded())
    task = asyncio.create_task(scene.shop.gateway.refund(asking.refund()))
    await scene.asked.wait()
    for _ in range(3):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert State.SUCCEEDED is await scene.shop.state("refund-1")
    assert (await scene.shop.gateway.refund(asking.refund())).replayed


async def test_a_store_that_extends_the_one_in_memory_is_shielded_too(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """What a subclass awaits may be a network: its record is not cut short either."""
    recording = asyncio.Event()

    class Noting(TurningStore):
        async def record(self, entry: IdempotencyRecord) -> bool:
            recording.set()
            for _ in range(5):
                await asyncio.sleep(0)
            return await super().record(entry)

    shop = open_shop([replies.refunded()], store=Noting())
    task = asyncio.create_task(shop.gateway.refund(asking.refund()))
    await recording.wait()
    task.cancel()
    await asyncio.wait([task])

    assert State.SUCCEEDED is await shop.state("refund-1")


async def test_a_time_out_around_a_call_is_a_cancellation(
    open_shop: Fixture, asking: Fixture
) -> None:
    """`asyncio.timeout` ends a call, and the doubt is written down before it returns."""

    async def never(_: object) -> object:
        await asyncio.Event().wait()
        return {}

    shop = open_shop(never)

    async def impatient() -> None:
        async with asyncio.timeout(0.01):
            await shop.gateway.refund(asking.refund())

    with pytest.raises(TimeoutError):
        await impatient()

    assert State.UNKNOWN is await shop.state("refund-1")

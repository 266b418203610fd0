"""A person who asks for what a batch has under way does not wait as the batch does."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from contextlib import aclosing
from typing import Any

import pytest

from tests.support import asking, replies
from tests.support.clock import LoopClock, loop_time, virtual
from tests.support.platform import APP_KEY, SECRET, answer_late
from wxpay_async.adapters.limiters.limiter import Lane, Quota
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.priority import Priority
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import NotSentError, QuotaExhaustedError
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.protocol.requests import MiniProgramPay
from wxpay_async.protocol.results import PayResult
from wxpay_async.protocol.signing import Md5Signer

SMALL = Quota(limit=40, lease=35.0)
"""A quota in which a batch starts a call each 1.6 s: the sixtieth has to wait for minutes."""

PayOutcome = Outcome[MiniProgramPay, PayResult]


class SlowStore(MemoryStore):
    """A store that takes a second to reserve."""

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Take the second."""
        await asyncio.sleep(1.0)
        return await super().reserve(record)


def make_gateway(
    answer: Callable[[Any], object] | None = None,
    *,
    quota: Quota = SMALL,
    **settings: Any,  # noqa: ANN401 - the constructor's
) -> PayGateway:
    """Make a gateway in the loop's time."""
    return PayGateway(
        APP_KEY,
        Md5Signer(SECRET),
        transport=MemoryTransport(answer or (lambda _: replies.prepay())),
        clock=LoopClock(),
        limiter=LocalLimiter(quota, idle=True, clock=LoopClock().monotonic),
        **settings,
    )


async def run_batch(gateway: PayGateway, *names: str) -> list[PayOutcome]:
    """Pay for all of these in a batch."""
    async with aclosing(gateway.pay_many([asking.pay(name) for name in names])) as outcomes:
        return [outcome async for outcome in outcomes]


async def start_batch(gateway: PayGateway) -> asyncio.Task[list[PayOutcome]]:
    """Start a batch of 60, and let 5 s pass."""
    batch = asyncio.ensure_future(run_batch(gateway, *(f"pay-{n}" for n in range(60))))
    await asyncio.sleep(5.0)
    return batch


@virtual
async def test_person_who_joins_a_batch_s_call_raises_its_lane() -> None:
    """The call goes at once, and once: the batch hears the same answer."""
    gateway = make_gateway()
    batch = await start_batch(gateway)
    result = await gateway.pay(asking.pay("pay-59"))
    assert result.replayed
    assert loop_time() < 5.1

    outcomes = await batch
    assert 60 == len(outcomes) == len({outcome.request.request_id for outcome in outcomes})
    assert {"ok"} == {outcome.kind for outcome in outcomes}
    assert 60 == gateway._dispatcher.make_transport().calls  # type: ignore[attr-defined]
    await gateway.aclose()


@virtual
async def test_batch_that_joins_a_batch_s_call_raises_nothing() -> None:
    """No person waits for it, so it keeps its place."""
    gateway = make_gateway()
    batch = await start_batch(gateway)
    (outcome,) = await run_batch(gateway, "pay-59")
    assert "ok" == outcome.kind
    assert loop_time() > 60.0
    await batch
    await gateway.aclose()


@virtual
async def test_retry_of_a_raised_call_waits_among_people() -> None:
    """An attempt that could not be sent is followed by another one within the usual pause."""
    attempts = 0

    def answer(request: Any) -> object:  # noqa: ANN401 - an HttpRequest
        nonlocal attempts
        if b"pay-59" in request.body:
            attempts += 1
            if attempts == 1:
                return NotSentError("connection refused")
        return replies.prepay()

    gateway = make_gateway(answer)
    batch = await start_batch(gateway)
    await gateway.pay(asking.pay("pay-59"))
    assert 2 == attempts
    assert loop_time() < 6.0
    await batch
    await gateway.aclose()


@virtual
async def test_raised_call_gets_a_connection_among_people() -> None:
    """Seven machines hold all of the eight connections that they may have."""
    gateway = make_gateway(
        answer_late(replies.prepay(), 10.0), quota=Quota(lease=35.0), max_in_flight=8
    )
    batch = asyncio.ensure_future(run_batch(gateway, *(f"pay-{n}" for n in range(8))))
    await asyncio.sleep(1.0)
    await gateway.pay(asking.pay("pay-7"))
    assert loop_time() == pytest.approx(11.0, abs=0.1)
    await batch
    await gateway.aclose()


@virtual
async def test_person_who_joins_before_the_wait_for_a_slot_raises_it_too() -> None:
    """The batch's call is still being reserved when the person comes."""
    gateway = make_gateway(store=SlowStore())
    batch = asyncio.ensure_future(run_batch(gateway, *(f"pay-{n}" for n in range(60))))
    await asyncio.sleep(0.5)
    await gateway.pay(asking.pay("pay-59"))
    assert loop_time() < 1.5
    await batch
    await gateway.aclose()


# The wait itself


def deadline_in(seconds: float) -> Deadline:
    """Return the moment so many seconds from now."""
    return Deadline.after(seconds, loop_time)


@virtual
async def test_slot_that_came_in_the_moment_of_the_raising_is_given_back() -> None:
    """The call holds one slot, that of a person."""
    limiter = LocalLimiter(SMALL, idle=True, clock=loop_time)
    await (await limiter.acquire(Lane.BATCH, timeout=1.0)).unsent()
    pace, priority = SMALL.interval(Lane.BATCH, SMALL.limit), Priority(Lane.BATCH)
    waiting = asyncio.ensure_future(priority.acquire(limiter, deadline_in(60.0)))
    await asyncio.sleep(0)
    asyncio.get_running_loop().call_at(pace, priority.raise_lane, Lane.PEOPLE)
    await waiting

    assert pace == pytest.approx(loop_time())
    assert {Lane.PEOPLE: 1} == {lane: held for lane, held in limiter.held().items() if held}


@virtual
async def test_raising_twice_is_raising_once() -> None:
    """Two people may join in one moment."""
    limiter = LocalLimiter(SMALL, idle=True, clock=loop_time)
    await limiter.acquire(Lane.BATCH, timeout=1.0)
    priority = Priority(Lane.BATCH)
    waiting = asyncio.ensure_future(priority.acquire(limiter, deadline_in(60.0)))
    await asyncio.sleep(0)
    priority.raise_lane(Lane.PEOPLE)
    await asyncio.sleep(0)  # the first one is cutting the wait short
    priority.raise_lane(Lane.PEOPLE)
    await waiting

    assert (0.0, Lane.PEOPLE) == (loop_time(), priority.lane)


@virtual
async def test_deadline_holds_after_the_raising() -> None:
    """What is left of it is told at once to be too short where the whole quota is taken."""
    limiter = LocalLimiter(Quota(limit=2, lease=35.0), idle=True, clock=loop_time)
    for lane in (Lane.BATCH, Lane.PEOPLE):
        await (await limiter.acquire(lane, timeout=1.0)).answered()
    priority = Priority(Lane.BATCH)
    waiting = asyncio.ensure_future(priority.acquire(limiter, deadline_in(61.0)))
    await asyncio.sleep(30.0)
    for _ in range(2):  # people who stand before
        asyncio.ensure_future(limiter.acquire(Lane.PEOPLE, timeout=120.0))  # noqa: RUF006 - ends with the loop
    await asyncio.sleep(0)
    priority.raise_lane(Lane.PEOPLE)
    with pytest.raises(QuotaExhaustedError, match="for people within 31 s"):
        await waiting


@virtual
async def test_caller_that_is_cancelled_takes_no_slot() -> None:
    """Also in the moment in which its lane is raised."""
    limiter = LocalLimiter(SMALL, idle=True, clock=loop_time)
    await (await limiter.acquire(Lane.BATCH, timeout=1.0)).unsent()
    priority = Priority(Lane.BATCH)
    waiting = asyncio.ensure_future(priority.acquire(limiter, deadline_in(60.0)))
    await asyncio.sleep(0)
    priority.raise_lane(Lane.PEOPLE)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting

    assert {0} == set(limiter.held().values())


@virtual
async def test_raising_to_a_lane_that_goes_later_changes_nothing() -> None:
    """A callback must not put a call back that a person waits for."""
    priority = Priority(Lane.PEOPLE)
    priority.raise_lane(Lane.RESOLVING)

    assert Lane.PEOPLE is priority.lane

"""Waiting for one order: who shares its queries, and when they are made."""

from __future__ import annotations

import asyncio
import gc
from itertools import pairwise

import pytest

from tests.support.clock import LoopClock, loop_time, virtual
from tests.support.merchant import OpenShop
from tests.support.tasks import list_operations, run_loop
from tests.support.watched import Platform, start
from wxpay_async.adapters.limiters.limiter import Lane
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.errors import (
    NotSentError,
)
from wxpay_async.protocol.results import TradeState
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts

# Callers of one order


@virtual
async def test_two_hundred_callers_share_one_query_at_a_time() -> None:
    """As many queries as for one caller, and all of them hear the answer in the same moment."""
    platform = Platform()
    gateway = platform.open_gateway()
    callers = [start(gateway) for _ in range(200)]
    await asyncio.sleep(20.0)
    platform.texts["O-1"] = "支付成功"
    ends = await asyncio.gather(*callers)

    assert 1 == platform.at_once["O-1"]
    assert [0.0, 2.1, 5.2, 9.8, 16.65, 26.875] == pytest.approx(platform.asked["O-1"])
    assert [26.975] * 200 == pytest.approx([at for at, _ in ends])
    assert {TradeState.PAID} == {how for _, how in ends}


@virtual
async def test_callers_that_come_one_after_another_share_the_queries() -> None:
    """A crowd that comes over 100 s asks no more than each 2 s."""
    platform = Platform()
    gateway, callers = platform.open_gateway(), []
    for _ in range(200):
        callers.append(start(gateway))
        await asyncio.sleep(0.5)
    platform.texts["O-1"] = "支付成功"
    await asyncio.gather(*callers)
    asked = platform.asked["O-1"]

    assert 1 == platform.at_once["O-1"]
    assert all(later - sooner >= 2.0 for sooner, later in pairwise(asked))


@virtual
async def test_caller_that_comes_late_is_told_within_its_own_pause() -> None:
    """Nobody waits for the long pauses of a caller that came minutes ago."""
    platform = Platform()
    gateway = platform.open_gateway()
    first = start(gateway)
    await asyncio.sleep(100.0)
    platform.texts["O-1"] = "支付成功"
    began = loop_time()
    ended, how = await start(gateway)

    assert (TradeState.PAID, TradeState.PAID) == (how, (await first)[1])
    assert ended - began <= 2.2


@virtual
async def test_each_caller_has_its_own_timeout() -> None:
    """The others wait on; after the last there are no queries, and no tasks."""
    platform = Platform()
    gateway = platform.open_gateway()
    callers = [start(gateway, timeout=seconds) for seconds in (3.0, 300.0, 30.0)]
    ends = await asyncio.gather(*callers)
    queries = platform.queries
    await asyncio.sleep(100.0)

    assert [3.0, 300.0, 30.0] == pytest.approx([at for at, _ in ends])
    assert {"InDoubtTimeoutError"} == {how for _, how in ends}
    assert (queries, set()) == (platform.queries, list_operations())


@virtual
async def test_caller_is_not_held_up_by_a_query_of_a_more_patient_one() -> None:
    """Its time ends during a slow query, which goes on for the other caller."""
    platform = Platform(lasting=14.0, texts={"O-1": "支付成功"})
    gateway = platform.open_gateway()
    patient = start(gateway, timeout=60.0)
    await asyncio.sleep(0.5)
    ends = [start(gateway, timeout=seconds) for seconds in (0.0, 1.0, 8.0)]

    # Since each query has three seconds, also those who wait less have them, from its beginning.
    assert [3.0, 3.0, 8.5] == pytest.approx([at for at, _ in await asyncio.gather(*ends)])
    assert (14.0, TradeState.PAID) == await patient
    assert 1 == platform.queries


@virtual
async def test_query_is_not_cut_short_for_a_less_patient_caller() -> None:
    """It has the time of the caller that waits longest, and that of one attempt at most."""

    class NotingTransport(MemoryTransport):
        async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
            allowed.append(timeout.attempt)
            return await super().send(request, timeout=timeout)

    allowed: list[float] = []
    platform = Platform(texts={"O-1": "支付成功"})
    gateway = platform.open_gateway(transport=NotingTransport(platform))
    await asyncio.gather(*(start(gateway, timeout=seconds) for seconds in (4.0, 9.0)))
    await asyncio.gather(*(start(gateway, timeout=seconds) for seconds in (4.0, 60.0)))
    await start(gateway, timeout=1.0)

    assert [9.0, 15.0, 3.0] == pytest.approx(allowed)


@pytest.mark.parametrize("seconds", [1 / 3, 10 / 3, 2 + 1e-10, 2.1 - 1e-10, 100 / 7])
def test_wait_of_any_length_ends(seconds: float) -> None:
    """However its fractions are rounded, it neither spins nor sleeps on."""

    @virtual
    async def run() -> None:
        ended, how = await start(Platform().open_gateway(), timeout=seconds)

        assert "InDoubtTimeoutError" == how
        assert pytest.approx(seconds, abs=0.01) == ended

    run()


@virtual
async def test_query_does_not_outlast_the_longest_wait() -> None:
    """It is given up at the deadline of the last caller; a short wait has three seconds."""
    for timeout, expected in ((0.0, 3.0), (2.0, 3.0), (8.0, 8.0)):
        platform = Platform(lasting=14.0)
        began = loop_time()
        ended, how = await start(platform.open_gateway(), timeout=timeout)

        assert "InDoubtTimeoutError" == how
        assert pytest.approx(expected, abs=0.01) == ended - began
        assert set() == list_operations()


@virtual
async def test_wait_of_no_time_is_told_by_a_query() -> None:
    """At least one is made, unless the order was asked about just now."""
    platform = Platform(texts={"O-1": "支付成功"})

    assert (pytest.approx(0.1), TradeState.PAID) == await start(
        platform.open_gateway(), timeout=0.0
    )


@virtual
async def test_caller_that_is_cancelled_disturbs_no_other() -> None:
    """Neither during a query nor between two."""
    platform = Platform()
    gateway = platform.open_gateway()
    callers = [start(gateway) for _ in range(3)]
    await asyncio.sleep(0.05)  # during the first query
    callers[0].cancel()
    await asyncio.sleep(1.0)
    callers[1].cancel()
    await asyncio.sleep(1.0)
    platform.texts["O-1"] = "支付成功"

    assert (pytest.approx(2.2), TradeState.PAID) == await callers[2]
    assert [True, True] == [caller.cancelled() for caller in callers[:2]]
    assert 2 == platform.queries


@pytest.mark.parametrize("seconds", [0.0, 0.05, 1.0])
def test_last_caller_that_is_cancelled_ends_the_queries(seconds: float) -> None:
    """Before the first query, during it, or after it; the next caller starts afresh."""

    @virtual
    async def run() -> None:
        platform = Platform()
        gateway = platform.open_gateway()
        callers = [start(gateway) for _ in range(3)]
        await asyncio.sleep(seconds)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        queries = platform.queries
        assert set() == list_operations()
        await asyncio.sleep(60.0)
        assert queries == platform.queries
        platform.texts["O-1"] = "支付成功"

        assert (pytest.approx(seconds + 60.1), TradeState.PAID) == await start(gateway)

    run()


@virtual
async def test_query_is_cancelled_once_however_many_callers_leave() -> None:
    """A second cancellation would cut short what a part does on the first."""
    ended: list[float] = []

    async def answer(_: object) -> None:
        try:
            await asyncio.sleep(10.0)
        except asyncio.CancelledError:
            await asyncio.sleep(0.5)
            ended.append(loop_time())
            raise

    gateway = Platform().open_gateway(transport=MemoryTransport(answer))
    callers = [start(gateway) for _ in range(3)]
    await asyncio.sleep(1.0)
    await gateway.aclose()
    ends = await asyncio.gather(*callers)

    assert [(1.5, "InDoubtError")] * 3 == ends
    assert [1.5] == ended


async def test_error_that_no_caller_is_left_to_hear_is_not_complained_of(
    open_shop: OpenShop,
) -> None:
    """A query may end in another way than by the cancellation of its last caller."""
    complaints: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))

    async def answer(_: object) -> None:
        try:
            await asyncio.sleep(10.0)
        except asyncio.CancelledError:
            raise NotSentError("certificate", retryable=False) from None

    caller = asyncio.ensure_future(open_shop(answer).gateway.wait_paid("O-1"))
    await run_loop()
    caller.cancel()
    await asyncio.wait([caller])
    del caller  # its traceback keeps all that it waited for
    gc.collect()

    assert [] == complaints


async def test_clock_that_breaks_ends_the_wait() -> None:
    """An error of a pause is not swallowed: without pauses the queries would never rest."""

    class BrokenClock(LoopClock):
        async def sleep(self, seconds: float) -> None:
            raise ZeroDivisionError(seconds)

    platform = Platform(lasting=0.0)
    gateway = platform.open_gateway(clock=BrokenClock())
    with pytest.raises(ZeroDivisionError):
        await gateway.wait_paid("O-1")

    assert 1 == platform.queries


@virtual
async def test_refusal_ends_the_wait_of_every_caller() -> None:
    """All hear it, and the next caller asks again."""
    platform = Platform(texts={"O-1": "交易关闭"})
    gateway = platform.open_gateway()
    ends = await asyncio.gather(*(start(gateway) for _ in range(5)))

    assert [(0.1, "NotPaidError")] * 5 == ends
    platform.texts["O-1"] = "支付成功"
    assert TradeState.PAID == (await start(gateway))[1]


@virtual
async def test_answer_to_another_call_ends_the_wait_if_the_order_is_paid() -> None:
    """Whoever asked: there is no second query, neither later nor under way."""
    platform = Platform(lasting=1.0)
    gateway = platform.open_gateway()
    callers = [start(gateway, number) for number in ("O-1", "O-2", "O-3")]
    await asyncio.sleep(1.5)
    platform.lasting = 0.25
    platform.texts |= {"O-1": "支付成功", "O-3": "交易关闭"}
    for number in ("O-1", "O-2", "O-3"):
        await gateway.query(out_trade_no=number)
    await run_loop()

    assert [True, False, False] == [caller.done() for caller in callers]
    assert (1.75, TradeState.PAID) == await callers[0]
    assert [2, 2, 2] == [len(platform.asked[number]) for number in ("O-1", "O-2", "O-3")]
    await gateway.aclose()
    await asyncio.wait(callers)


@virtual
async def test_answer_to_another_call_ends_a_query_that_is_under_way() -> None:
    """The slow one of the two is not waited for."""
    platform = Platform(lasting=10.0)
    gateway = platform.open_gateway()
    caller = start(gateway)
    await asyncio.sleep(1.0)
    platform.lasting, platform.texts["O-1"] = 0.5, "支付成功"
    await gateway.query(out_trade_no="O-1")

    assert (1.5, TradeState.PAID) == await caller
    assert set() == list_operations()


# Quota


@virtual
async def test_two_hundred_orders_hold_no_more_than_their_share_of_the_quota() -> None:
    """Their queries wait, and no wait fails for want of the quota."""
    platform = Platform()
    limiter = LocalLimiter(idle=True, clock=loop_time)
    gateway = platform.open_gateway(limiter=limiter)
    callers = [start(gateway, f"O-{n}", timeout=600.0) for n in range(200)]
    most = 0
    while loop_time() < 599.0:
        await asyncio.sleep(1.0)
        most = max(most, limiter.held()[Lane.POLLING])
    ends = await asyncio.gather(*callers)

    assert 90 <= most <= 100
    assert {"InDoubtTimeoutError"} == {how for _, how in ends}
    assert 3 <= min(map(len, platform.asked.values()))  # of about five for each


@virtual
async def test_wait_that_gets_no_slot_comes_back_when_the_limiter_says() -> None:
    """A full quota is waited for, however long it takes."""
    platform = Platform(texts={"O-1": "支付成功"})
    limiter = LocalLimiter(idle=True, clock=loop_time)
    for _ in range(400):
        slot = await limiter.acquire(Lane.PEOPLE, timeout=0.0)
        await slot.answered()
    ended, how = await start(platform.open_gateway(limiter=limiter))

    assert TradeState.PAID == how
    assert pytest.approx(60.35, abs=1.0) == ended

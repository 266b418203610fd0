"""Calls with one requestId are one request, in one process and in several."""

from __future__ import annotations

import asyncio
import sys

import attrs
import pytest

from tests.support import asking, replies
from tests.support.merchant import OpenShop
from tests.support.platform import HeldPlatform, Script
from tests.support.tasks import list_operations, run_loop
from wxpay_async.errors import (
    IdempotencyConflictError,
    InDoubtError,
    InProgressError,
    RefusedError,
)
from wxpay_async.policy.states import State

LOST = InDoubtError("read timeout")


# Many callers with one requestId (lesson 11)


async def test_concurrent_callers_share_one_request(open_shop: OpenShop) -> None:
    """500 callers, one HTTP call, equal results; all but the first know that they shared."""
    platform = HeldPlatform(replies.prepay())
    shop = open_shop(platform)
    callers = [asyncio.create_task(shop.gateway.pay(asking.pay())) for _ in range(500)]
    await run_loop()
    platform.gate.set()
    results = await asyncio.gather(*callers)

    assert (1, {"wx061644162685653f3da37a5a1589465200"}) == (
        shop.transport.calls,
        {result.prepay_id for result in results},
    )
    assert [False] + [True] * 499 == [result.replayed for result in results]
    assert all(results[0] == attrs.evolve(result, replayed=False) for result in results)


async def test_concurrent_callers_share_one_refusal(open_shop: OpenShop) -> None:
    """An error is shared like a result."""
    platform = HeldPlatform(replies.no("GM_API_BUS_000777"))
    shop = open_shop(platform)
    callers = [asyncio.create_task(shop.gateway.refund(asking.refund())) for _ in range(500)]
    await run_loop()
    platform.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)

    assert {(RefusedError, "refund-1")} == {(type(r), r.request_id) for r in results}
    assert 1 == shop.transport.calls


async def test_cancelled_caller_takes_nothing_from_the_others(open_shop: OpenShop) -> None:
    """Not even the caller that began the call."""
    platform = HeldPlatform(replies.prepay())
    shop = open_shop(platform)
    first, *others = [asyncio.create_task(shop.gateway.pay(asking.pay())) for _ in range(5)]
    await run_loop()
    first.cancel()
    await run_loop()
    platform.gate.set()
    results = await asyncio.gather(*others)

    assert (1, True) == (shop.transport.calls, first.cancelled())
    assert {"wx061644162685653f3da37a5a1589465200"} == {result.prepay_id for result in results}


async def test_doubt_is_recorded_when_all_callers_are_cancelled(open_shop: OpenShop) -> None:
    """No task is left, and the record says UNKNOWN, since the request was sent."""
    shop = open_shop(HeldPlatform(replies.prepay()))
    callers = [asyncio.create_task(shop.gateway.pay(asking.pay())) for _ in range(50)]
    await run_loop()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)

    assert (True, set()) == (all(caller.cancelled() for caller in callers), list_operations())
    entry = await shop.get_record("pay-1")
    assert (State.UNKNOWN, True) == (entry.state, entry.in_doubt)
    assert entry.next_check_at is not None


async def test_conflict_with_a_call_under_way_names_the_fields(open_shop: OpenShop) -> None:
    """The same requestId with another payToken is refused, and nothing more is sent."""
    platform = HeldPlatform(replies.prepay())
    shop = open_shop(platform)
    first = asyncio.create_task(shop.gateway.pay(asking.pay()))
    await run_loop()
    with pytest.raises(IdempotencyConflictError) as caught:
        await shop.gateway.pay(asking.pay(pay_token="other", app_id="wx9236b1e84ffbf10a"))

    assert (("appId", "payToken"), "pay-1") == (caught.value.fields, caught.value.request_id)
    platform.gate.set()
    await first
    assert 1 == shop.transport.calls


async def test_one_request_id_for_two_operations_is_a_conflict(open_shop: OpenShop) -> None:
    """A refund cannot take a payment's id, and the error says what the id is shared by."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay("same"))
    with pytest.raises(IdempotencyConflictError, match="shared by two operations") as caught:
        await shop.gateway.refund(asking.refund("same"))

    assert "stands for a pay, and a refund needs its own" in str(caught.value)
    assert 'derive_request_id(app_key, "refund", order)' in str(caught.value)
    assert {"payToken", "refundAmount"} <= set(caught.value.fields)
    assert 1 == shop.transport.calls


async def test_one_request_id_for_two_operations_under_way_is_a_conflict(
    open_shop: OpenShop,
) -> None:
    """The order and its payment at the same moment: the error is the same."""
    platform = HeldPlatform(replies.created(requestId="same"))
    shop = open_shop(platform)
    first = asyncio.create_task(shop.gateway.trade(asking.trade("same")))
    await run_loop()
    with pytest.raises(IdempotencyConflictError, match="shared by two operations") as caught:
        await shop.gateway.pay(asking.pay("same"))
    platform.gate.set()
    await first

    assert 'derive_request_id(app_key, "pay", order)' in str(caught.value)


async def test_conflict_of_one_operation_speaks_of_the_fields_only(open_shop: OpenShop) -> None:
    """Two payments with one id do not share it with another operation."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay("same"))
    with pytest.raises(IdempotencyConflictError, match="other payToken") as caught:
        await shop.gateway.pay(asking.pay("same", pay_token="token-2"))

    assert "shared" not in str(caught.value)


async def test_conflict_covers_the_local_order_number(open_shop: OpenShop) -> None:
    """It is never sent; but a query for another order would settle the wrong payment."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    with pytest.raises(IdempotencyConflictError) as caught:
        await shop.gateway.pay(asking.pay(out_trade_no="O-2"))

    assert ("outTradeNo",) == caught.value.fields
    assert "O-1" not in str(shop.sent())


# Several processes over one store


async def test_two_gateways_over_one_store_send_once(open_shop: OpenShop) -> None:
    """A second process does not send while the first holds the lease; later it replays."""
    platform = HeldPlatform(replies.refunded())
    here = open_shop(platform)
    there = open_shop([], store=here.store)
    first = asyncio.create_task(here.gateway.refund(asking.refund()))
    await run_loop()
    with pytest.raises(InProgressError) as caught:
        await there.gateway.refund(asking.refund())
    assert "in_doubt" == caught.value.fate
    platform.gate.set()
    result = await first
    again = await there.gateway.refund(asking.refund())

    assert (1, 0, True) == (here.transport.calls, there.transport.calls, again.replayed)
    assert result == attrs.evolve(again, replayed=False)


async def test_lease_of_a_dead_process_ends_and_its_doubt_stays(open_shop: OpenShop) -> None:
    """After 45 s another process may send; its refusal does not clear the first attempt."""
    here = open_shop(HeldPlatform(replies.refunded()))
    there = open_shop([replies.no("GM_API_BUS_000777"), replies.no("X")], store=here.store)
    first = asyncio.create_task(here.gateway.refund(asking.refund()))
    await run_loop()
    here.clock.move(45)
    with pytest.raises(InDoubtError):
        await there.gateway.refund(asking.refund())

    assert State.UNKNOWN is await here.state("refund-1")
    first.cancel()
    await asyncio.wait([first])
    assert State.UNKNOWN is await here.state("refund-1")


async def test_fenced_worker_does_not_speak_for_the_purchase(open_shop: OpenShop) -> None:
    """Its own attempt was refused; another's is under way, so its caller hears of a doubt.

    The model shows what follows otherwise: executed, and reported as not executed
    (`a fenced worker speaks for the purchase`).
    """
    refusal, success = HeldPlatform(replies.no("CO_MSG_000006")), HeldPlatform(replies.refunded())
    here = open_shop(refusal)
    there = open_shop(success, store=here.store)
    first = asyncio.create_task(here.gateway.refund(asking.refund()))
    await run_loop()
    here.clock.move(45)
    second = asyncio.create_task(there.gateway.refund(asking.refund()))
    await run_loop()
    refusal.gate.set()
    with pytest.raises(InDoubtError):
        await first
    success.gate.set()

    assert "S" == (await second).status


async def test_late_finding_does_not_undo_a_settled_record(open_shop: OpenShop) -> None:
    """A query that was slow to come back cannot reopen what another one settled.

    The model shows what follows otherwise: a record that was reported as not executed is sent again
    (`a late finding undoes a settled row`).
    """
    slow, answers = HeldPlatform(replies.order("待付款")), Script([LOST], query=LOST)
    shop = open_shop(answers)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    queries = [slow(None), replies.order("已付款")]
    answers.query = lambda: queries.pop(0)
    late = asyncio.create_task(shop.gateway.resolve("pay-1"))
    await run_loop()
    await shop.gateway.resolve("pay-1")
    assert State.SUCCEEDED is await shop.state("pay-1")
    slow.gate.set()
    await late

    assert State.SUCCEEDED is await shop.state("pay-1")


# Eager tasks

EAGER = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="asyncio.eager_task_factory is new in Python 3.12"
)


@EAGER
async def test_eager_tasks_replay_without_hanging(open_shop: OpenShop) -> None:
    """A call that is over before its task has been returned does not wait for it."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    shop = open_shop([replies.prepay()])
    async with asyncio.timeout(10.0):
        results = [await shop.gateway.pay(asking.pay()) for _ in range(3)]
        results += await asyncio.gather(*(shop.gateway.pay(asking.pay()) for _ in range(3)))

    assert [False] + [True] * 5 == [result.replayed for result in results]
    assert (1, set()) == (shop.transport.calls, list_operations())


@EAGER
async def test_eager_tasks_share_one_request(open_shop: OpenShop) -> None:
    """Callers whose tasks start at once find the operation of the first one under way."""
    asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
    platform = HeldPlatform(replies.prepay())
    shop = open_shop(platform)
    async with asyncio.timeout(10.0):
        leaver, *callers = [asyncio.create_task(shop.gateway.pay(asking.pay())) for _ in range(5)]
        leaver.cancel()
        await run_loop()
        platform.gate.set()
        results = await asyncio.gather(*callers)

    assert (1, {True}) == (shop.transport.calls, {result.replayed for result in results})

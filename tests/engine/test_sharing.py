"""Many callers with one requestId: one request, one answer, one conflict (lesson 11)."""

from __future__ import annotations

import asyncio
from typing import Any

import attrs
import pytest

from wxpay_async.errors import (
    AlreadyPaidError,
    IdempotencyConflictError,
    InDoubtError,
    InProgressError,
    RefusedError,
)
from wxpay_async.policy.states import State

Fixture = Any
"""What a conftest.py defines, which no test module can import."""


async def _turns(number: int = 10) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def _flying() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("wxpay")}


class Held:
    """A platform that answers when the test opens the gate."""

    def __init__(self, reply: object) -> None:
        self.gate = asyncio.Event()
        self.reply = reply

    async def __call__(self, _: object) -> object:
        """Answer one request, later."""
        await self.gate.wait()
        return self.reply


async def test_five_hundred_callers_are_one_request(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """One HTTP call; equal results; all but the first know that they shared."""
    platform = Held(replies.prepay())
    shop = open_shop(platform)
    callers = [asyncio.create_task(shop.gateway.pay(asking.pay())) for _ in range(500)]
    await _turns()
    platform.gate.set()
    results = await asyncio.gather(*callers)

    assert (1, {"wx061644162685653f3da37a5a1589465200"}) == (
        shop.transport.calls,
        {result.prepay_id for result in results},
    )
    assert [False] + [True] * 499 == [result.replayed for result in results]
    assert all(results[0] == attrs.evolve(result, replayed=False) for result in results)


async def test_five_hundred_callers_hear_one_refusal(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """An error is shared like a result."""
    platform = Held(replies.no("GM_API_BUS_000777"))
    shop = open_shop(platform)
    callers = [asyncio.create_task(shop.gateway.refund(asking.refund())) for _ in range(500)]
    await _turns()
    platform.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)

    assert {(RefusedError, "refund-1")} == {(type(r), r.request_id) for r in results}
    assert 1 == shop.transport.calls


async def test_one_caller_who_leaves_takes_nothing_from_the_others(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """Not even the one whose call it was."""
    platform = Held(replies.prepay())
    shop = open_shop(platform)
    first, *others = [asyncio.create_task(shop.gateway.pay(asking.pay())) for _ in range(5)]
    await _turns()
    first.cancel()
    await _turns()
    platform.gate.set()
    results = await asyncio.gather(*others)

    assert (1, True) == (shop.transport.calls, first.cancelled())
    assert {"wx061644162685653f3da37a5a1589465200"} == {result.prepay_id for result in results}


async def test_when_all_have_left_the_doubt_is_written_down(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The flight is gone, no task is left, and the row says UNKNOWN: the request was out."""
    shop = open_shop(Held(replies.prepay()))
    callers = [asyncio.create_task(shop.gateway.pay(asking.pay())) for _ in range(50)]
    await _turns()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)

    assert (True, set()) == (all(caller.cancelled() for caller in callers), _flying())
    entry = await shop.entry("pay-1")
    assert (State.UNKNOWN, True) == (entry.state, entry.in_doubt)
    assert entry.next_check_at is not None


async def test_a_conflict_in_flight_names_the_fields_and_sends_nothing(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The same requestId with another payToken, while the first is under way."""
    platform = Held(replies.prepay())
    shop = open_shop(platform)
    first = asyncio.create_task(shop.gateway.pay(asking.pay()))
    await _turns()
    with pytest.raises(IdempotencyConflictError) as caught:
        await shop.gateway.pay(asking.pay(pay_token="other", app_id="wx9236b1e84ffbf10a"))

    assert (("appId", "payToken"), "pay-1") == (caught.value.fields, caught.value.request_id)
    platform.gate.set()
    await first
    assert 1 == shop.transport.calls


async def test_one_request_id_for_two_operations_is_a_conflict(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """A refund cannot take a payment's id."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay("same"))
    with pytest.raises(IdempotencyConflictError):
        await shop.gateway.refund(asking.refund("same"))

    assert 1 == shop.transport.calls


async def test_the_local_order_number_is_part_of_what_a_request_means(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """It is never sent; but a query for another order would settle the wrong payment."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    with pytest.raises(IdempotencyConflictError) as caught:
        await shop.gateway.pay(asking.pay(out_trade_no="O-2"))

    assert ("outTradeNo",) == caught.value.fields
    assert "O-1" not in str(shop.sent())


async def test_two_gateways_over_one_store_send_once(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """A second process does not send while the first holds the lease; later it replays."""
    platform = Held(replies.refunded())
    here = open_shop(platform)
    there = open_shop([], store=here.store)
    first = asyncio.create_task(here.gateway.refund(asking.refund()))
    await _turns()
    with pytest.raises(InProgressError) as caught:
        await there.gateway.refund(asking.refund())
    assert "in_doubt" == caught.value.fate
    platform.gate.set()
    result = await first
    again = await there.gateway.refund(asking.refund())

    assert (1, 0, True) == (here.transport.calls, there.transport.calls, again.replayed)
    assert result == attrs.evolve(again, replayed=False)


async def test_the_lease_of_a_dead_process_ends_and_its_doubt_stays(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """After 45 s another process may send; what it is refused does not clear the first attempt."""
    here = open_shop(Held(replies.refunded()))
    there = open_shop([replies.no("GM_API_BUS_000777"), replies.no("X")], store=here.store)
    first = asyncio.create_task(here.gateway.refund(asking.refund()))
    await _turns()
    here.clock.move(45)
    with pytest.raises(InDoubtError):
        await there.gateway.refund(asking.refund())

    assert State.UNKNOWN is await here.state("refund-1")
    first.cancel()
    await asyncio.wait([first])
    assert State.UNKNOWN is await here.state("refund-1")


async def test_a_worker_that_was_fenced_does_not_speak_for_the_purchase(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """Its own attempt was refused; another's is under way, so its caller hears of a doubt.

    The model shows what follows otherwise: executed, and reported as not executed
    (`a fenced worker speaks for the purchase`).
    """
    refusal, success = Held(replies.no("CO_MSG_000006")), Held(replies.refunded())
    here = open_shop(refusal)
    there = open_shop(success, store=here.store)
    first = asyncio.create_task(here.gateway.refund(asking.refund()))
    await _turns()
    here.clock.move(45)
    second = asyncio.create_task(there.gateway.refund(asking.refund()))
    await _turns()
    refusal.gate.set()
    with pytest.raises(InDoubtError):
        await first
    success.gate.set()

    assert "S" == (await second).status


async def test_a_late_finding_does_not_undo_a_settled_row(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """A query that was slow to come back cannot reopen what another one settled.

    The model shows what follows otherwise: a row that was reported as not executed is sent again
    (`a late finding undoes a settled row`).
    """
    slow, answers = Held(replies.order("待付款")), script(InDoubtError("read timeout"))
    answers.query = replies.order("已付款")
    shop = open_shop(answers)
    with pytest.raises(AlreadyPaidError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    entry = await shop.entry("pay-1")
    shop.store._records[entry.key] = attrs.evolve(entry, state=State.UNKNOWN)
    queries = [slow(None), replies.order("已付款")]
    answers.query = lambda: queries.pop(0)
    late = asyncio.create_task(shop.gateway.resolve("pay-1"))
    await _turns()
    await shop.gateway.resolve("pay-1")
    assert State.SUCCEEDED is await shop.state("pay-1")
    slow.gate.set()
    await late

    assert State.SUCCEEDED is await shop.state("pay-1")

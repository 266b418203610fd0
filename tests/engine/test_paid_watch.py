"""Waiting until orders are paid: what callbacks do, here and elsewhere; the end of a gateway."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.clock import loop_time, virtual
from tests.support.tasks import list_operations, run_loop
from tests.support.watched import Platform, start
from wxpay_async.errors import (
    InDoubtError,
)
from wxpay_async.protocol.results import TradeState

# Life


@pytest.mark.parametrize("seconds", [0.0, 0.05, 1.0])
def test_callers_hear_that_the_gateway_was_closed(seconds: float) -> None:
    """Before the first query, during it, or after it: what the platform said last, and no more."""

    @virtual
    async def run() -> None:
        platform = Platform()
        gateway = platform.open_gateway()
        waits = [asyncio.ensure_future(gateway.wait_paid("O-1")) for _ in range(3)]
        await asyncio.sleep(seconds)
        await gateway.aclose()
        assert set() == list_operations()
        errors = await asyncio.gather(*waits, return_exceptions=True)

        last = "待付款" if seconds == 1.0 else "no query was answered"
        assert {InDoubtError} == {type(error) for error in errors}
        assert all("closed" in str(error) and last in str(error) for error in errors)
        assert seconds == loop_time()

    run()


def test_waits_of_one_event_loop_leave_nothing_in_the_next() -> None:
    """The first loop ends in the middle of a wait; the second one asks afresh."""
    platform = Platform(lasting=0.0)
    gateway = platform.open_gateway()

    async def leave() -> None:
        start(gateway)
        await run_loop(20)

    async def wait() -> tuple[float, str]:
        platform.texts["O-1"] = "支付成功"
        return await start(gateway)

    asyncio.run(leave())
    assert 1 == platform.queries
    assert TradeState.PAID == asyncio.run(wait())[1]
    assert 2 == platform.queries


def test_waits_of_an_event_loop_that_was_abandoned_disturb_nobody() -> None:
    """A loop that is stopped, not ended, leaves its tasks as they are."""
    platform = Platform(lasting=0.0)
    gateway = platform.open_gateway()
    abandoned = asyncio.new_event_loop()

    async def leave() -> None:
        abandoned.kept = start(gateway)  # type: ignore[attr-defined] # else it is collected
        await run_loop(20)

    async def wait() -> tuple[float, str]:
        platform.texts["O-1"] = "支付成功"
        return await start(gateway)

    abandoned.run_until_complete(leave())
    try:
        assert TradeState.PAID == asyncio.run(wait())[1]
    finally:
        for task in asyncio.all_tasks(abandoned):
            task.cancel()
        abandoned.run_until_complete(asyncio.sleep(0.01))
        abandoned.close()

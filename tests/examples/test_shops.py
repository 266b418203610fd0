"""The examples as people run them: one customer, then hundreds at once while a worker restarts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

from wxpay_async.sandbox import Fault

CUSTOMERS = int(os.environ.get("WXPAY_TEST_PEOPLE", "300"))
PATIENCE = 240.0  # seconds until a stuck test fails; nothing ever asserts on it
EXAMPLES = Path(__file__).parents[2] / "examples"

Fixture = Any
"""A class of the conftest.py, which no test module can import."""


@pytest.fixture(params=["fastapi", "aiohttp"])
def open_example(request: pytest.FixtureRequest) -> Fixture:
    """Return a function that opens either example."""
    return request.getfixturevalue(f"{request.param}_shop")


@pytest.mark.parametrize("name", ["fastapi_shop", "aiohttp_shop"])
def test_example_is_short(name: str) -> None:
    """It can be read in one go."""
    assert 130 > len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines())


async def test_order_is_paid_by_its_callback(open_example: Fixture) -> None:
    """Order, prepay, confirmation, callback, status; a forgery in between changes nothing."""
    async with asyncio.timeout(PATIENCE), open_example() as system:
        number = await system.create_order("openid-1")
        await system.wait_for_status(number, "pending")
        forged = system.make_callback(number, "TRADE_SUCCESS").replace(b"12.50", b"12.51")
        assert b'{"status": 0}' == await system.send_callback(forged)
        await system.wait_for_status(number, "pending")

        system.sandbox.confirm(number)
        await system.wait_for_status(number, "paid")
        await system.sandbox.callbacks_idle()

        assert ({number: "paid"}, [number]) == (system.read_histories(), system.read_charges())
        assert (1, 0) == (system.sandbox.callbacks.acknowledged, system.sandbox.callbacks.given_up)


async def test_bad_order_is_refused(open_example: Fixture) -> None:
    """It is the mistake of the payer, not an error of the shop."""
    headers = {"Content-Type": "application/json"}
    async with asyncio.timeout(PATIENCE), open_example() as system:
        url = f"{system.server.url}/orders"
        for body in (b"", b"{", b"[]", b'"tea"', b"{}", b'{"item": "tea"}'):
            async with system.session.post(url, data=body, headers=headers) as reply:
                assert reply.status in {400, 422}, body


async def test_unpaid_orders_are_closed_or_failed(open_example: Fixture) -> None:
    """One ran out of time, the payer cancelled the other; callbacks report both."""
    async with asyncio.timeout(PATIENCE), open_example() as system:
        slow, poor = await system.create_order("openid-1"), await system.create_order("openid-2")
        system.sandbox.expire(slow)
        system.sandbox.cancel(poor)
        await system.wait_for_status(slow, "closed")
        await system.wait_for_status(poor, "failed")

        assert ({slow: "closed", poor: "failed"}, []) == (
            system.read_histories(),
            system.read_charges(),
        )


async def test_order_whose_token_was_lost_is_followed_by_another(open_example: Fixture) -> None:
    """The payer is told when; the shop keeps its own number, and a late "closed" is no news."""
    async with asyncio.timeout(PATIENCE), open_example() as system:
        created = await system.call_shop("POST", "/orders", item="tea", openid="openid-1")
        number = created["number"]
        url = f"{system.server.url}/orders/{number}/pay"
        system.sandbox.faults.inject(Fault.reset(operation="trade"))
        async with system.session.post(url) as reply:
            problem = await reply.json(content_type="application/problem+json")
            assert (409, "unusable", True) == (reply.status, problem["error"], problem["retryable"])
            assert "Retry-After" in reply.headers
        address, system.sandbox.notify_url = system.sandbox.notify_url, None
        system.sandbox.expire(number)
        await system.call_shop("POST", f"/orders/{number}/pay")
        await system.send_until_acknowledged(system.make_callback(number, "TRADE_CLOSED"))
        assert "pending" == (await system.call_shop("GET", f"/orders/{number}"))["status"]
        system.sandbox.notify_url = address
        system.sandbox.confirm(f"{number}-2")
        await system.wait_for_status(number, "paid")

        system.numbers.append(number)
        assert ({number: "paid"}, [f"{number}-2"]) == (
            system.read_histories(),
            system.read_charges(),
        )


async def test_number_of_a_following_order_is_no_order_of_the_shop(open_example: Fixture) -> None:
    """A payment by that number would make another order of the same purchase."""
    async with asyncio.timeout(PATIENCE), open_example() as system:
        number = await system.create_order("openid-1")
        async with system.session.post(f"{system.server.url}/orders/{number}-2/pay") as reply:
            assert 404 == reply.status


async def buy_at_once(system: Fixture, restart: Callable[[], Awaitable[None]]) -> None:
    """Let customers buy while callbacks are doubled and out of order, and a worker restarts.

    Every fifth paid order also gets a late callback "closed", before its copies or after them.
    """
    system.sandbox.faults.inject(Fault.callback_doubled(times=CUSTOMERS))
    for _ in range(CUSTOMERS // 3):
        system.sandbox.faults.inject(Fault.callback_reordered(size=3))

    async def buy_one(index: int) -> None:
        number = await system.buy(f"openid-{index:04d}")
        if index % 5 == 0:
            closed = system.make_callback(number, "TRADE_CLOSED", age=400 if index % 2 else 0)
            await system.send_until_acknowledged(closed)
            await system.wait_for_status(number, "paid")

    async def flush() -> None:
        while True:  # the last ones have no later callback to wait for
            await system.sandbox.callbacks_idle()
            await asyncio.sleep(0.2)

    flushing = asyncio.create_task(flush())
    try:
        async with asyncio.TaskGroup() as customers:
            for index in range(CUSTOMERS):
                customers.create_task(buy_one(index))
            await system.wait_for_charges(CUSTOMERS // 3)
            await restart()
    finally:
        flushing.cancel()
    await system.sandbox.callbacks_idle()


def check_books(system: Fixture) -> None:
    """Compare the orders of the shop with the ledger of the platform."""
    assert CUSTOMERS == len(system.numbers)
    assert dict.fromkeys(system.numbers, "paid") == system.read_histories()
    assert sorted(system.numbers) == sorted(system.read_charges())
    assert 0 == system.sandbox.callbacks.given_up
    assert 2 * CUSTOMERS == system.sandbox.callbacks.acknowledged


@pytest.mark.slow
async def test_fastapi_shop_under_load_pays_each_order_once(fastapi_shop: Fixture) -> None:
    """Two workers, one of which is restarted: every order is paid once, and none is closed."""
    async with (
        asyncio.timeout(PATIENCE),
        fastapi_shop("--workers", "2", SHOP_QUOTA="off") as system,
    ):
        await buy_at_once(system, system.server.replace_worker)
        check_books(system)


@pytest.mark.slow
async def test_aiohttp_shop_under_load_pays_each_order_once(aiohttp_shop: Fixture) -> None:
    """One process, restarted: every order is paid once, and none is closed."""
    async with asyncio.timeout(PATIENCE), aiohttp_shop(SHOP_QUOTA="off") as system:

        async def restart() -> None:
            await system.server.stop()
            await system.server.start()

        await buy_at_once(system, restart)
        check_books(system)

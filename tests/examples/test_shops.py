"""The examples as people run them: started for real, paid end to end, and then in a crowd."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest

PEOPLE = int(os.environ.get("WXPAY_TEST_PEOPLE", "300"))
PATIENCE = 240.0  # seconds until a stuck test fails; nothing ever asserts on it
EXAMPLES = Path(__file__).parents[2] / "examples"

Fixture = Any
"""What a conftest.py defines, which no test module can import."""


@pytest.fixture(params=["fastapi", "aiohttp"])
def open_shop_town(request: pytest.FixtureRequest) -> Fixture:
    """Open a town with either example."""
    return request.getfixturevalue(f"{request.param}_town")


@pytest.mark.parametrize("name", ["fastapi_shop", "aiohttp_shop"])
def test_an_example_is_short(name: str) -> None:
    """It can be read in one go."""
    assert 120 > len((EXAMPLES / f"{name}.py").read_text(encoding="utf-8").splitlines())


async def test_one_person_pays(open_shop_town: Fixture) -> None:
    """Order, prepay, confirmation, callback, status; a forgery in between changes nothing."""
    async with asyncio.timeout(PATIENCE), open_shop_town() as town:
        number = await town.order("openid-1")
        await town.becomes(number, "pending")
        forged = town.body(number, "TRADE_SUCCESS").replace(b"12.50", b"12.51")
        assert b'{"status": 0}' == await town.notify(forged)
        await town.becomes(number, "pending")

        town.sandbox.confirm(number)
        await town.becomes(number, "paid")
        await town.sandbox.callbacks_idle()

        assert ({number: "paid"}, [number]) == (town.histories(), town.charges())
        assert (1, 0) == (town.sandbox.callbacks.acknowledged, town.sandbox.callbacks.given_up)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'"tea"', b"{}", b'{"item": "tea"}'])
async def test_a_bad_wish_is_the_payer_s_mistake(open_shop_town: Fixture, body: bytes) -> None:
    """What is no order is answered so, and the shop does not stumble over it."""
    headers = {"Content-Type": "application/json"}
    async with (
        asyncio.timeout(PATIENCE),
        open_shop_town() as town,
        town.session.post(f"{town.server.url}/orders", data=body, headers=headers) as reply,
    ):
        assert reply.status in {400, 422}


async def test_an_order_that_ran_out_of_time(open_shop_town: Fixture) -> None:
    """The shop hears that it is closed, and that the next one failed."""
    async with asyncio.timeout(PATIENCE), open_shop_town() as town:
        slow, poor = await town.order("openid-1"), await town.order("openid-2")
        town.sandbox.expire(slow)
        town.sandbox.cancel(poor)
        await town.becomes(slow, "closed")
        await town.becomes(poor, "failed")

        assert ({slow: "closed", poor: "failed"}, []) == (town.histories(), town.charges())


async def crowd(town: Fixture, restart: Callable[[], Awaitable[None]]) -> None:
    """Let people buy at once while callbacks are doubled and out of order, and a worker restarts.

    Every order that is paid also gets a "closed", before its copies or after them: late ones.
    """
    town.sandbox.faults.double(PEOPLE)
    for _ in range(PEOPLE // 3):
        town.sandbox.faults.reorder(3)

    async def person(index: int) -> None:
        number = await town.buy(f"openid-{index:04d}")
        if index % 5 == 0:
            closed = town.body(number, "TRADE_CLOSED", age=400 if index % 2 else 0)
            await town.insist(closed)
            await town.becomes(number, "paid")

    async def flush() -> None:
        while True:  # the last ones have nobody to change places with
            await town.sandbox.callbacks_idle()
            await asyncio.sleep(0.2)

    flushing = asyncio.create_task(flush())
    try:
        async with asyncio.TaskGroup() as people:
            for index in range(PEOPLE):
                people.create_task(person(index))
            await town.charged(PEOPLE // 3)
            await restart()
    finally:
        flushing.cancel()
    await town.sandbox.callbacks_idle()


def check(town: Fixture) -> None:
    """Compare the shop's books with the platform's."""
    assert PEOPLE == len(town.numbers)
    assert dict.fromkeys(town.numbers, "paid") == town.histories()
    assert sorted(town.numbers) == sorted(town.charges())
    assert 0 == town.sandbox.callbacks.given_up
    assert 2 * PEOPLE == town.sandbox.callbacks.acknowledged


async def test_a_crowd_at_the_fastapi_shop(fastapi_town: Fixture) -> None:
    """Two workers, one of which is restarted: every order is paid once, and none is closed too."""
    async with (
        asyncio.timeout(PATIENCE),
        fastapi_town("--workers", "2", SHOP_QUOTA="off") as town,
    ):
        await crowd(town, town.server.replace_a_worker)
        check(town)


async def test_a_crowd_at_the_aiohttp_shop(aiohttp_town: Fixture) -> None:
    """One process, restarted: every order is paid once, and none is closed too."""
    async with asyncio.timeout(PATIENCE), aiohttp_town(SHOP_QUOTA="off") as town:

        async def restart() -> None:
            await town.server.stop()
            await town.server.start()

        await crowd(town, restart)
        check(town)

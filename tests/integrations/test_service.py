"""The state of a web app's run, without a framework."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from tests.contract.web_apps import Shop, make_gateway
from tests.support.platform import FORM
from wxpay_async.engine.callbacks import CallbackReceiver
from wxpay_async.errors import InvalidRequestError
from wxpay_async.integrations import service

PATIENCE = 20.0  # seconds until a stuck test fails; nothing ever asserts on it


async def test_slow_body_is_answered_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reading counts towards the seconds that the platform waits."""
    monkeypatch.setattr(service, "ANSWER_WITHIN", 0.05)

    async def slow() -> AsyncIterator[bytes]:
        yield b"a"
        await asyncio.sleep(PATIENCE)

    shop, run = Shop(), service.Services("", "")
    route = service.CallbackRoute.new(shop.notifications, CallbackReceiver)
    async with run.open(shop.gateway), asyncio.timeout(PATIENCE / 2):
        answer = await run.answer(route, FORM, slow(), broken=())

    assert b'{"status": 0}' == answer


async def test_gateways_may_be_opened_one_by_one() -> None:
    """Each is found until it is closed, and the last one that is left needs no name."""
    one, other = make_gateway("key-1"), make_gateway("key-2")
    run = service.Services("open one", "by name")
    async with run.open({"one": one}):
        async with run.open(other):
            assert [one, other] == [run.pick(key).gateway for key in ("one", "key-2")]
            with pytest.raises(RuntimeError, match=r"several gateways .*: say which one, by name"):
                run.pick()
        assert one is run.pick().gateway
    with pytest.raises(RuntimeError, match="no gateway: open one"):
        run.pick()


async def test_gateway_that_cannot_be_added_leaves_the_others_in_place() -> None:
    """The second one under a name is refused before it is opened."""
    one, run = make_gateway("key-1"), service.Services("", "")
    async with run.open({"one": one}):
        with pytest.raises(RuntimeError, match="'one'"):
            await run.open(
                {"two": make_gateway("key-2"), "one": make_gateway("key-3")}
            ).__aenter__()

        assert one is run.pick().gateway


@pytest.mark.parametrize("count", [0, 2])
def test_route_needs_one_verifier_for_each_app_key(count: int) -> None:
    """None, or two of one, is a mistake of the setup."""
    with pytest.raises(InvalidRequestError, match="notifications"):
        service.CallbackRoute.new([Shop().notifications] * count, CallbackReceiver)

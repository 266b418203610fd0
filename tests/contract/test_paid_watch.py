"""Waiting until an order is paid, over every durable store: another process has the callback."""

from __future__ import annotations

import asyncio
import time

import pytest

from tests.contract.stores import DURABLE, Place
from tests.support import replies
from tests.support.clock import NOON
from tests.support.platform import FORM, VERIFIER, encode_callback, sign_callback
from tests.support.tasks import wait_until
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.callbacks import CallbackReceiver
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.policy.progress import key_of
from wxpay_async.protocol.notify import ACK_HANDLED, Notifications
from wxpay_async.protocol.results import TradeState
from wxpay_async.protocol.signing import Md5Signer

SPEED = 50.0


class FastClock(Clock):
    """A clock by which a minute takes a second or so."""

    def time(self) -> float:
        """Return seconds since the epoch."""
        return NOON + self.monotonic()

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return time.monotonic() * SPEED

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        await asyncio.sleep(seconds / SPEED)


@pytest.mark.parametrize("place", DURABLE, indirect=True)
async def test_callback_in_another_process_wakes_the_callers(place: Place) -> None:
    """Nothing but the store tells of it: the next query of its own comes in an hour."""
    texts = ["待付款"]
    queries: list[object] = []

    def open_gateway() -> PayGateway:
        def answer(request: object) -> object:
            queries.append(request)
            return replies.order(texts[0])

        return PayGateway(
            place.app_key,
            Md5Signer("secret"),
            transport=MemoryTransport(answer),
            store=place.make_store(),
            limiter=Unlimited(),
            clock=FastClock(),
        )

    fields = {
        "out_trade_no": "O-1",
        "inner_trade_no": "T-1",
        "trade_status": "TRADE_SUCCESS",
        "trade_amount": "1.00",
    }
    body = encode_callback(sign_callback(fields, app_key=place.app_key))
    notifications = Notifications(VERIFIER, app_key=place.app_key, clock=lambda: NOON)
    place.messages.add(key_of(place.app_key, notifications.parse(FORM, body)))
    receiver = CallbackReceiver(open_gateway(), notifications, on_trade=lambda _: None)
    async with open_gateway() as gateway:
        callers = [
            asyncio.ensure_future(gateway.wait_paid("O-1", timeout=36_000.0, every=3_600.0))
            for _ in range(3)
        ]
        await wait_until(lambda: queries, pause=0.001)
        await asyncio.sleep(2 / SPEED)  # the store is read before there is anything to find
        texts[0] = "支付成功"
        answer = await receiver.receive(FORM, body)
        async with asyncio.timeout(60.0):
            statuses = await asyncio.gather(*callers)

    assert ACK_HANDLED == answer
    assert [TradeState.PAID] * 3 == [status.state for status in statuses]
    assert 2 == len(queries)

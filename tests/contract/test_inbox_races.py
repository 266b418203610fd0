"""Check that callbacks which race over one store have one effect each, whatever keeps the inbox."""

from __future__ import annotations

import asyncio
from collections import Counter

from tests.contract.stores import Place, warm_stores
from tests.support.callbacks import Merchant, paid
from tests.support.platform import APP_KEY, FORM, SECRET
from tests.support.tasks import wait_until
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.callbacks import CallbackReceiver
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.policy.progress import Progress, order_key
from wxpay_async.protocol.notify import ACK_HANDLED
from wxpay_async.protocol.results import TradeState
from wxpay_async.protocol.signing import Md5Signer

STATUSES = ("TRANSFER_FAIL", "TRADE_CLOSED", "TRADE_SUCCESS")
ORDERS = 5


async def test_callbacks_that_race_over_a_store_have_one_effect_each(place: Place) -> None:
    """Two processes and two endpoints get every callback twice, until all are acknowledged."""
    stores = await warm_stores(place)
    numbers = [f"{place.app_key}-{number}" for number in range(ORDERS)]
    place.messages |= {order_key(APP_KEY, "trade", number) for number in numbers}
    transport, clock = MemoryTransport(), Clock()
    gateways = [
        PayGateway(APP_KEY, Md5Signer(SECRET), transport=transport, store=store) for store in stores
    ]
    merchants = [Merchant(gateway, clock) for gateway in gateways]
    books = [merchant.another(endpoint="books") for merchant in merchants]

    receivers = [*(merchant.receiver for merchant in merchants), *books]
    bodies = [
        merchants[0].body(paid(number, trade_status=status))
        for number in numbers
        for status in STATUSES
    ]

    async def deliver(receiver: CallbackReceiver, body: bytes) -> None:
        async def is_handled() -> bool:
            return await receiver.receive(FORM, body) == ACK_HANDLED

        await wait_until(is_handled, pause=0.01)

    async with asyncio.timeout(60):
        await asyncio.gather(*(deliver(it, body) for body in bodies for it in receivers * 2))

    effects = merchants[0].effects + merchants[1].effects
    assert {2} == {effects[number, TradeState.PAID] for number in numbers}
    assert {1, 2} >= set(effects.values())
    keys = [order_key(APP_KEY, "trade", number) for number in numbers]
    found = [Progress.decode(e.value) for e in (await stores[0].load_entries(keys)).values()]
    assert {TradeState.PAID: ORDERS} == Counter(progress.told for progress in found)
    assert {(TradeState.PAID, None): 2 * ORDERS} == Counter(
        (endpoint.reached, endpoint.claim)
        for progress in found
        for endpoint in progress.endpoints.values()
    )

"""Waiting until orders are paid: what callbacks that come to other processes do, by the store."""

from __future__ import annotations

import asyncio

import pytest

from tests.support.clock import NOON, LoopClock, loop_time, virtual
from tests.support.platform import APP_KEY, FORM, VERIFIER, encode_callback, sign_callback
from tests.support.tasks import list_operations
from tests.support.watched import Platform, SharedStore, make_fields, make_notification, start
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.callbacks import CallbackReceiver
from wxpay_async.errors import NotSentError
from wxpay_async.policy.progress import order_key
from wxpay_async.protocol.notify import ACK_HANDLED, Notifications
from wxpay_async.protocol.results import TradeState


@virtual
async def test_callback_in_another_process_wakes_the_callers_within_a_second() -> None:
    """It is found in the store, and no other order is asked about for it."""
    platform, store = Platform(lasting=0.0), SharedStore()
    gateway = platform.open_gateway(store=store)
    callers = [start(gateway, number) for number in ("O-1", "O-1", "O-2")]
    await asyncio.sleep(41.5)
    platform.texts |= {"O-1": "支付成功", "O-2": "支付成功"}
    await store.tell("O-1", TradeState.PAID)
    ends = await asyncio.gather(*callers[:2])

    assert [(42.0, TradeState.PAID)] * 2 == ends
    assert not callers[2].done()
    await callers[2]


@virtual
async def test_store_is_read_once_a_second_for_all_orders() -> None:
    """Never once for each; not before anybody waits, and not after."""
    platform, store = Platform(lasting=0.0), SharedStore()
    gateway = platform.open_gateway(store=store)
    await asyncio.sleep(10.0)
    assert [] == store.reads
    callers = [start(gateway, f"O-{n % 50}", timeout=4.5) for n in range(100)]
    await asyncio.gather(*callers)
    await asyncio.sleep(10.0)

    assert [(11.0, 50), (12.0, 50), (13.0, 50), (14.0, 50)] == store.reads
    assert set() == list_operations()


@virtual
async def test_store_is_not_read_after_a_caller_that_is_cancelled_twice() -> None:
    """The second time comes while the query still ends by the first."""

    async def answer(_: object) -> None:
        try:
            await asyncio.sleep(10.0)
        finally:
            await asyncio.sleep(0.5)

    store = SharedStore()
    gateway = Platform().open_gateway(store=store, transport=MemoryTransport(answer))
    caller = start(gateway)
    for _ in range(2):
        await asyncio.sleep(0.2)
        caller.cancel()
    await asyncio.wait([caller])
    await asyncio.sleep(10.0)

    assert [] == store.reads


@virtual
async def test_state_that_a_callback_told_before_is_asked_about_once() -> None:
    """What the store keeps of it is no news a second later, nor is a note beside it."""
    platform, store = Platform(lasting=0.0), SharedStore()
    await store.tell("O-1", TradeState.PAID)
    gateway = platform.open_gateway(store=store)
    caller = start(gateway, timeout=60.0, every=1_000.0)
    await asyncio.sleep(30.0)
    await store.tell("O-1", TradeState.PAID)
    await caller

    assert [0.0, 1.0] == platform.asked["O-1"]


@virtual
async def test_callback_that_wakes_here_and_is_found_in_the_store_is_asked_about_once() -> None:
    """A receiver of this process writes to the same store."""
    platform, store = Platform(lasting=0.0), SharedStore()
    gateway = platform.open_gateway(store=store)
    caller = start(gateway, timeout=60.0, every=1_000.0)
    await asyncio.sleep(30.5)
    await gateway.apply_notification(make_notification())
    await store.tell("O-1", TradeState.PAID)
    await caller

    assert [0.0, 30.5] == platform.asked["O-1"]


@virtual
async def test_store_that_is_away_disturbs_no_wait(caplog: pytest.LogCaptureFixture) -> None:
    """The queries go on, one line is logged, and what was told meanwhile is found afterwards."""
    platform, store = Platform(lasting=0.0), SharedStore()
    gateway = platform.open_gateway(store=store)
    callers = [start(gateway, number, every=20.0) for number in ("O-1", "O-2")]
    await asyncio.sleep(0.5)
    store.away = NotSentError("the store is away")
    await store.tell("O-2", TradeState.PAID)
    platform.texts |= {"O-1": "支付成功"}
    first = await callers[0]
    assert not callers[1].done()
    platform.texts |= {"O-2": "支付成功"}
    store.away = None

    assert [(20.0, TradeState.PAID), (21.0, TradeState.PAID)] == [first, await callers[1]]
    assert ["the store is away"] == [r.args[0] for r in caplog.records if r.args]


@virtual
async def test_store_that_hangs_holds_up_no_wait() -> None:
    """Neither its queries, nor its end."""
    platform, store = Platform(lasting=0.0), SharedStore(lasting=10_000.0)
    gateway = platform.open_gateway(store=store)
    callers = [start(gateway, "O-1", every=20.0), start(gateway, "O-2", timeout=60.0)]
    await asyncio.sleep(1.5)
    platform.texts["O-1"] = "支付成功"
    ends = await asyncio.gather(*callers)

    assert [(20.0, TradeState.PAID), (60.0, "InDoubtTimeoutError")] == ends
    assert 1 == len(store.reads)
    assert set() == list_operations()


@virtual
async def test_entry_that_cannot_be_read_hides_no_other() -> None:
    """A later release may write what this one does not know."""
    platform, store = Platform(lasting=0.0), SharedStore()
    gateway = platform.open_gateway(store=store)
    callers = [start(gateway, number, every=50.0) for number in ("O-1", "O-2")]
    key = order_key(APP_KEY, "trade", "O-1")
    await store.swap(key, version=None, value="{", now=NOON)
    await store.tell("O-2", TradeState.PAID)
    await asyncio.sleep(0.5)
    platform.texts |= {"O-1": "支付成功", "O-2": "支付成功"}
    ends = await asyncio.gather(*callers)

    assert [(50.0, TradeState.PAID), (2.0, TradeState.PAID)] == ends


@virtual
async def test_order_that_is_not_awaited_any_more_when_it_is_read_is_passed_over() -> None:
    """A caller may leave while the store is read; the others still hear of theirs."""
    platform, store = Platform(lasting=0.0), SharedStore(lasting=0.5)
    gateway = platform.open_gateway(store=store)
    callers = [start(gateway, number, every=50.0) for number in ("O-1", "O-2")]
    await store.tell("O-1", TradeState.PAID)
    await asyncio.sleep(1.25)
    callers[0].cancel()
    await store.tell("O-2", TradeState.PAID)
    platform.texts["O-2"] = "支付成功"

    assert (3.0, TradeState.PAID) == await callers[1]


@virtual
async def test_receiver_of_another_process_wakes_the_callers() -> None:
    """The whole way: what it believes it writes down before its handler runs."""
    platform, store = Platform(lasting=0.0), SharedStore()
    gateway = platform.open_gateway(store=store)
    receiver = CallbackReceiver(
        platform.open_gateway(store=store),
        Notifications(VERIFIER, app_key=APP_KEY, clock=lambda: NOON),
        on_trade=lambda _: asyncio.sleep(3.0),
        clock=LoopClock(),
    )
    caller = start(gateway, every=50.0)
    await asyncio.sleep(30.5)
    platform.texts["O-1"] = "支付成功"
    answer = await receiver.receive(FORM, encode_callback(sign_callback(make_fields())))

    assert (ACK_HANDLED, 33.5) == (answer, loop_time())
    assert (31.0, TradeState.PAID) == await caller

"""Waiting until orders are paid: the end of a gateway, and what callbacks that come to it do."""

from __future__ import annotations

import asyncio
import threading

import attrs
import pytest

from tests.support.clock import NOON, LoopClock, loop_time, virtual
from tests.support.flaky_store import FlakyStore
from tests.support.platform import APP_KEY, FORM
from tests.support.tasks import list_operations, run_loop
from tests.support.watched import Platform, make_notification, start
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.engine.callbacks import CallbackReceiver
from wxpay_async.errors import InDoubtError, InvalidRequestError, NotSentError
from wxpay_async.protocol.notify import ACK_HANDLED, Notification, Notifications
from wxpay_async.protocol.results import TradeState, TradeStatus

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


# Callbacks that come to this gateway


def make_hint() -> Notification:
    """Make the notification of a paid order as anyone can write it."""
    return attrs.evolve(make_notification(), authentic=False, verified=False)


@pytest.mark.parametrize(
    ("status", "text", "expected"),
    [
        ("TRADE_SUCCESS", "支付成功", TradeState.PAID),
        ("TRADE_CLOSED", "交易关闭", "NotPaidError"),
        ("TRANSFER_FAIL", "支付失败", "NotPaidError"),
    ],
)
def test_callback_wakes_the_callers_at_once(status: str, text: str, expected: str) -> None:
    """In the same moment the order is asked about; nobody waits for the end of a pause."""

    @virtual
    async def run() -> None:
        platform = Platform(lasting=0.0)
        gateway = platform.open_gateway()
        callers = [start(gateway) for _ in range(3)]
        await asyncio.sleep(42.0)
        platform.texts["O-1"] = text
        await gateway.apply_notification(make_notification(trade_status=status))
        ends = await asyncio.gather(*callers)

        assert [(42.0, expected)] * 3 == ends
        assert 42.0 == platform.asked["O-1"][-1]

    run()


@virtual
async def test_callback_that_a_query_confirmed_wakes_the_callers() -> None:
    """An endpoint of the MD5 scheme has no other."""
    platform = Platform(lasting=0.0)
    gateway = platform.open_gateway()
    caller = start(gateway)
    await asyncio.sleep(42.0)
    platform.texts["O-1"] = "支付成功"
    status = TradeStatus(out_trade_no="O-1", status="支付成功")
    await gateway.apply_notification(attrs.evolve(make_hint(), confirmed=True, queried=status))

    assert (42.0, TradeState.PAID) == await caller


@virtual
async def test_callback_wakes_the_callers_though_the_store_is_away() -> None:
    """What callers hear is what a query says; the store is not needed for it."""
    platform = Platform(lasting=0.0)
    gateway = platform.open_gateway(store=FlakyStore(failing={"find_open"}))
    caller = start(gateway)
    await asyncio.sleep(42.0)
    platform.texts["O-1"] = "支付成功"
    with pytest.raises(NotSentError):
        await gateway.apply_notification(make_notification())

    assert (42.0, TradeState.PAID) == await caller


@virtual
async def test_callback_that_proves_nothing_wakes_nobody() -> None:
    """Forged, of another order, of a refund with the same number, or of an unknown status."""
    platform = Platform(lasting=0.0)
    gateway = platform.open_gateway()
    caller = start(gateway)
    await asyncio.sleep(42.0)
    queries = platform.queries
    with pytest.raises(InvalidRequestError):
        await gateway.apply_notification(make_hint())
    refund = {
        "orig_outer_trade_no": "O-0",
        "refund_status": "REFUND_SUCCESS",
        "refund_amount": "1.00",
        "trade_status": "",
    }
    for changes in ({"number": "O-2"}, refund, {"trade_status": "TRADE_WHATEVER"}):
        await gateway.apply_notification(make_notification(**changes))
    await run_loop()

    assert queries == platform.queries
    caller.cancel()
    await asyncio.wait([caller])


@virtual
async def test_callback_during_a_query_is_followed_by_another_query() -> None:
    """The one under way may have been answered before the payment."""
    platform = Platform(lasting=1.0)
    gateway = platform.open_gateway()
    caller = start(gateway)
    await asyncio.sleep(0.5)
    await gateway.apply_notification(make_notification())
    await asyncio.sleep(0.25)
    assert 1 == platform.queries
    await asyncio.sleep(0.5)
    platform.texts["O-1"] = "支付成功"

    assert (2.0, TradeState.PAID) == await caller
    assert [0.0, 1.0] == platform.asked["O-1"]


@virtual
async def test_callback_that_no_query_confirms_is_no_busy_loop() -> None:
    """One query at once for each state, however often it is told; then the pauses begin afresh."""
    platform = Platform(lasting=0.0)
    gateway = platform.open_gateway()
    caller = start(gateway, timeout=60.0)
    await asyncio.sleep(42.0)
    before = platform.queries
    for status in ("TRANSFER_FAIL", "TRADE_CLOSED", "TRADE_SUCCESS"):
        for _ in range(100):
            await gateway.apply_notification(make_notification(trade_status=status))
            await run_loop(5)
    at_once = platform.queries - before
    await caller

    assert 3 == at_once
    assert [42.0, 44.0, 47.0, 51.5, 58.25] == platform.asked["O-1"][-5:]


@virtual
async def test_callback_is_heard_at_once_though_two_hundred_orders_are_awaited() -> None:
    """Its query has the lane of verified callbacks, and waits behind no other caller's."""
    platform, waits = Platform(), list[float]()
    gateway = platform.open_gateway(limiter=LocalLimiter(idle=True, clock=loop_time))
    callers = [start(gateway, f"O-{number}", timeout=900.0) for number in range(200)]
    await asyncio.sleep(300.0)
    for number in range(10):
        began, platform.texts[f"O-{number}"] = loop_time(), "支付成功"
        await gateway.apply_notification(make_notification(f"O-{number}"))
        ended, how = await callers[number]
        assert TradeState.PAID == how
        waits.append(ended - began)
    await gateway.aclose()
    await asyncio.wait(callers)

    assert max(waits) <= 2.0


@virtual
async def test_receiver_wakes_the_callers() -> None:
    """The whole way of a callback that nobody signed: its own query ends the wait."""
    platform = Platform(lasting=0.0)
    gateway = platform.open_gateway()
    receiver = CallbackReceiver(
        gateway,
        Notifications(None, app_key=APP_KEY, clock=lambda: NOON),
        on_trade=lambda _: None,
        clock=LoopClock(),
    )
    caller = start(gateway)
    await asyncio.sleep(42.0)
    queries, platform.texts["O-1"] = platform.queries, "支付成功"
    fields = ("out_trade_no=O-1", "inner_trade_no=T-1", "trade_amount=1.00")
    body = "&".join([*fields, "trade_status=TRADE_SUCCESS"]).encode()
    answer = await receiver.receive(FORM, body)

    assert ACK_HANDLED == answer
    assert (42.0, TradeState.PAID) == await caller
    assert queries + 1 == platform.queries


@virtual
async def test_callback_in_another_event_loop_is_settled_and_wakes_nobody() -> None:
    """Futures of one loop must not be touched from another; the queries find it out."""
    platform = Platform(lasting=0.0)
    gateway = platform.open_gateway()
    caller = start(gateway)
    await run_loop()
    platform.texts["O-1"] = "支付成功"
    settling = gateway.apply_notification(make_notification())
    other = threading.Thread(target=asyncio.run, args=(settling,))
    other.start()
    other.join()
    await run_loop()

    assert 1 == platform.queries
    assert (2.0, TradeState.PAID) == await caller

"""Callbacks in a flood: what anyone may send never stands in the way of what is signed."""

from __future__ import annotations

import asyncio
from collections import Counter
from urllib.parse import parse_qs

import pytest

from tests.support.callbacks import Json, Merchant, OpenMerchant, order, paid
from tests.support.clock import LoopClock, loop_time, virtual
from tests.support.platform import APP_KEY, FORM, SECRET, encode_callback
from tests.support.tasks import wait_until
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.callbacks import MAX_UNVERIFIED, MAX_VERIFIED, Verdict
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.protocol.notify import ACK_HANDLED, ACK_NOT_HANDLED
from wxpay_async.protocol.results import TradeState
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import HttpRequest

SIGNED = ["rsa", "md5"]


class Platform:
    """Answers queries of orders that are paid at once, and of all others when it is told to."""

    def __init__(self, *paid_orders: str) -> None:
        self.paid = paid_orders
        self.asked: Counter[str] = Counter()
        self.gate = asyncio.Event()

    async def answer(self, request: HttpRequest) -> Json:
        """Answer one query."""
        number = read_number(request)
        self.asked[number] += 1
        if number not in self.paid or self.asked[number] == 1:
            await self.gate.wait()
        return order("支付成功" if number in self.paid else "待付款", number)

    async def has_asked(self, calls: int) -> None:
        """Wait until so many queries are under way."""
        await wait_until(lambda: self.asked.total() >= calls)


def read_number(request: HttpRequest) -> str:
    """Return the number that a query asks for."""
    [number] = parse_qs(request.body.decode())["outTradeNo"]
    return number


def forge(merchant: Merchant, fields: dict[str, str]) -> asyncio.Task[bytes]:
    """Deliver a callback that nobody signed."""
    return asyncio.create_task(merchant.receiver.receive(FORM, encode_callback(fields)))


# Places


@pytest.mark.parametrize("scheme", SIGNED)
async def test_forged_callbacks_take_no_place_of_signed_ones(
    open_merchant: OpenMerchant, scheme: str
) -> None:
    """A thousand are delivered, a hundred are looked into, and a signed one is handled at once."""
    platform = Platform("O-1")
    platform.asked["O-1"] = 1  # so that its query is answered at once
    merchant = open_merchant(platform.answer, scheme, max_in_flight=5_000)
    flood = [forge(merchant, paid(f"F-{number}")) for number in range(1_000)]
    await platform.has_asked(1 + MAX_UNVERIFIED)

    assert ACK_HANDLED == await merchant.deliver(paid())

    assert {Verdict.BUSY: 900, Verdict.HANDLED: 1} == Counter(merchant.verdicts)
    platform.gate.set()
    assert {ACK_NOT_HANDLED} == set(await asyncio.gather(*flood))
    assert {Verdict.BUSY: 900, Verdict.HANDLED: 1, Verdict.UNCONFIRMED: 100} == Counter(
        merchant.verdicts
    )
    assert ACK_NOT_HANDLED == await forge(merchant, paid("F-last"))
    assert Verdict.UNCONFIRMED is merchant.verdicts[-1]


@virtual
async def test_signed_callbacks_take_no_place_of_unsigned_ones(
    open_merchant: OpenMerchant,
) -> None:
    """A thousand are handled at a time; further ones are answered at once with 0."""
    merchant = open_merchant([order()])
    merchant.gate = asyncio.Event()
    calls = [
        asyncio.create_task(merchant.deliver(paid(f"O-{number}")))
        for number in range(2, MAX_VERIFIED + 4)
    ]
    await wait_until(lambda: len(merchant.seen) >= MAX_VERIFIED)
    unsigned = forge(merchant, paid())
    await wait_until(lambda: len(merchant.seen) > MAX_VERIFIED)
    merchant.gate.set()

    assert ACK_HANDLED == await unsigned
    assert {ACK_HANDLED: 1_000, ACK_NOT_HANDLED: 2} == Counter(await asyncio.gather(*calls))
    assert ["too many callbacks are being looked into"] * 2 == [
        event.reason for event in merchant.events if event.verdict is Verdict.BUSY
    ]


# One order


@pytest.mark.parametrize("scheme", SIGNED)
@pytest.mark.parametrize("number", ["T-O-1", "T-forged"])
async def test_forged_callback_does_not_keep_its_order(
    open_merchant: OpenMerchant, scheme: str, number: str
) -> None:
    """While its query is on its way, the signed one is handled, be it the same or another."""
    platform = Platform("O-1")
    merchant = open_merchant(platform.answer, scheme)
    forged = forge(merchant, paid(inner_trade_no=number))
    await platform.has_asked(1)

    assert ACK_HANDLED == await merchant.deliver(paid())

    platform.gate.set()
    assert ACK_HANDLED == await forged
    assert {("O-1", TradeState.PAID): 1} == merchant.effects
    assert Verdict.HANDLED is merchant.verdicts[0]


@pytest.mark.parametrize("fields", [paid(), paid(trade_status="TRADE_CLOSED")])
async def test_old_callback_does_not_keep_its_order(
    open_merchant: OpenMerchant, fields: dict[str, str]
) -> None:
    """Both are signed; the old one needs a query, the fresh one none."""
    platform = Platform("O-1")
    merchant = open_merchant(platform.answer)
    old = asyncio.create_task(merchant.deliver(fields, age=400))
    await platform.has_asked(1)

    assert ACK_HANDLED == await merchant.deliver(paid())

    platform.gate.set()
    assert ACK_HANDLED == await old
    assert {("O-1", TradeState.PAID): 1} == merchant.effects


async def test_closed_that_a_query_confirmed_before_the_payment_is_late(
    open_merchant: OpenMerchant,
) -> None:
    """What a query said may be old when it arrives: the order is looked at once more."""
    closed = paid(trade_status="TRADE_CLOSED")

    async def answer(_: HttpRequest) -> Json:
        await merchant.deliver(paid())
        return order("已关闭")

    merchant = open_merchant(answer)

    assert ACK_HANDLED == await merchant.deliver(closed, age=400)
    assert [Verdict.HANDLED, Verdict.LATE] == merchant.verdicts
    assert {("O-1", TradeState.PAID): 1} == merchant.effects


@pytest.mark.parametrize("scheme", ["md5", "none"])
async def test_copies_of_a_hint_make_one_query(open_merchant: OpenMerchant, scheme: str) -> None:
    """Those that come while one is looked into come again."""
    platform = Platform("O-1")
    merchant = open_merchant(platform.answer, scheme)
    first = asyncio.create_task(merchant.deliver(paid()))
    await platform.has_asked(1)

    assert [ACK_NOT_HANDLED] * 3 == [await merchant.deliver(paid()) for _ in range(3)]
    platform.gate.set()
    assert ACK_HANDLED == await first
    assert ACK_HANDLED == await merchant.deliver(paid())
    assert 1 == platform.asked.total()
    assert [Verdict.BUSY] * 3 + [Verdict.HANDLED, Verdict.DUPLICATE] == merchant.verdicts


# A flood in time


@pytest.mark.parametrize("scheme", SIGNED)
@virtual
async def test_genuine_callbacks_are_handled_in_a_flood(scheme: str) -> None:
    """5,000 forged ones come at 40 a second, half of them of the orders that are being paid."""

    async def answer(request: HttpRequest) -> Json:
        await asyncio.sleep(0.05)
        number = read_number(request)
        return order("支付成功" if number.startswith("O-") else "待付款", number)

    clock = LoopClock()
    async with PayGateway(
        APP_KEY,
        Md5Signer(SECRET),
        transport=MemoryTransport(answer),
        limiter=LocalLimiter(idle=True, clock=loop_time),
        clock=clock,
    ) as gateway:
        merchant = Merchant(gateway, clock, scheme)
        waited: list[float] = []
        answers: list[bytes] = []

        async def pay(second: int) -> None:
            await asyncio.sleep(second + 0.5)
            began = loop_time()
            answers.append(await merchant.deliver(paid(f"O-{second}")))
            waited.append(loop_time() - began)

        genuine = [asyncio.create_task(pay(second)) for second in range(125)]
        forged = []
        for number in range(5_000):
            of = f"O-{number // 40}" if number % 2 else f"F-{number}"
            forged.append(forge(merchant, paid(of, inner_trade_no=f"T-{number}")))
            await asyncio.sleep(1 / 40)
        await asyncio.gather(*genuine, *forged)
        await merchant.receiver.aclose()

    assert {ACK_HANDLED} == set(answers)
    assert max(waited) < 4.0
    assert {(f"O-{second}", TradeState.PAID): 1 for second in range(125)} == merchant.effects

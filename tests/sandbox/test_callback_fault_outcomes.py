"""What the SDK makes of each fault of callbacks: the last rows of `docs/sandbox.md`."""

from __future__ import annotations

from collections import Counter
from collections.abc import AsyncIterator
from decimal import Decimal

import pytest
from aiohttp import web

from tests.sandbox.callback_shop import CallbackShop, Settings
from tests.support import asking
from wxpay_async import (
    Md5Verifier,
    Notifications,
    PayGateway,
    RefundNotification,
    TradeNotification,
)
from wxpay_async.engine.callbacks import CallbackReceiver
from wxpay_async.integrations.testing import make_gateway
from wxpay_async.sandbox import Fault, FaultKind, Forgery, Sandbox
from wxpay_async.sandbox.fault_kinds import Place, find_place

ONCE = [
    Fault.callback_doubled(copies=3),
    Fault.callback_late(seconds=0.05),
    Fault.callback_stale(seconds=3600),
    *(Fault.callback_forged(forgery=forgery) for forgery in Forgery),
]


class Till:
    """Counts what its handlers are told."""

    def __init__(self, gateway: PayGateway, sandbox: Sandbox) -> None:
        self.told: Counter[tuple[str, str, bool]] = Counter()
        verifier = Md5Verifier(sandbox.app_secret)
        notifications = Notifications(verifier, app_key=sandbox.app_key, allow_unsigned=False)
        self._receiver = CallbackReceiver(
            gateway, notifications, on_trade=self._note_trade, on_refund=self._note_refund
        )

    async def answer(self, request: web.BaseRequest) -> tuple[int, bytes]:
        """Take one delivery."""
        body = await request.read()
        return 200, await self._receiver.receive(dict(request.headers), body)

    async def _note_trade(self, found: TradeNotification) -> None:
        self.told[found.out_trade_no, str(found.state), found.confirmed] += 1

    async def _note_refund(self, found: RefundNotification) -> None:
        self.told[found.out_trade_no, str(found.state), found.confirmed] += 1


@pytest.fixture
def settings(callback_settings: Settings) -> Settings:
    """Callbacks go to the shop, by the machine's own time."""
    kept = {name: callback_settings[name] for name in ("pay_key", "notify_url")}
    return {**kept, "callback_schedule": (0, 0.05, 0.2, 0.5), "quota": None}


@pytest.fixture
async def gateway(sandbox: Sandbox) -> AsyncIterator[PayGateway]:
    """The shop's gateway; order O-1 can be paid."""
    async with make_gateway(sandbox) as opened:
        await opened.trade(asking.trade("t-1"))
        yield opened


@pytest.fixture
def till(sandbox: Sandbox, gateway: PayGateway, shop: CallbackShop) -> Till:
    """The shop's handlers, which take every delivery."""
    made = Till(gateway, sandbox)
    shop.answers.extend([made.answer] * 20)
    return made


def _name(fault: Fault) -> str:
    return (
        f"{fault.kind}-{fault.forgery}" if fault.kind is FaultKind.CALLBACK_FORGED else fault.kind
    )


@pytest.mark.parametrize("fault", ONCE, ids=_name)
async def test_payment_is_told_once_and_confirmed(
    fault: Fault, sandbox: Sandbox, till: Till
) -> None:
    """Copies, lateness and age change nothing; no forgery is acknowledged."""
    sandbox.faults.inject(fault)

    sandbox.confirm("O-1")
    await sandbox.callbacks_idle()

    assert till.told == {("O-1", "paid", True): 1}
    assert (0, 0) == (sandbox.callbacks.forgeries_acknowledged, sandbox.callbacks.given_up)
    assert sandbox.faults.injected[fault.kind] == 1


async def test_lost_callback_is_replaced_by_a_query(
    sandbox: Sandbox, gateway: PayGateway, till: Till
) -> None:
    """Nobody tells the shop, and it can ask."""
    sandbox.faults.inject(Fault.callback_lost())

    sandbox.confirm("O-1")
    await sandbox.callbacks_idle()

    assert not till.told
    assert (await gateway.query(out_trade_no="O-1")).state == "paid"


async def test_callbacks_out_of_order_are_told_once_each(
    sandbox: Sandbox, gateway: PayGateway, till: Till
) -> None:
    """The refund is told before the payment."""
    sandbox.faults.inject(Fault.callback_reordered(size=2))

    sandbox.confirm("O-1")
    await gateway.refund(
        asking.refund("r-1", orig_out_trade_no="O-1", refund_amount=Decimal("0.50"))
    )
    await sandbox.callbacks_idle()

    assert sorted(till.told.values()) == [1, 1]
    assert till.told["O-1", "paid", True] == 1


def test_each_fault_of_a_callback_has_a_test() -> None:
    """Two of them above have tests of their own."""
    found = {fault.kind for fault in ONCE} | {FaultKind.CALLBACK_LOST, FaultKind.CALLBACK_REORDERED}
    assert found == {kind for kind in FaultKind if find_place(kind) is Place.CALLBACK}

"""Each cell of the table of transitions, and the merchant's account, without HTTP."""

from decimal import Decimal

import pytest

from tests.support.clock import MovedClock
from wxpay_async.sandbox.error_codes import Code, RefusalError
from wxpay_async.sandbox.request_parsing import Item
from wxpay_async.sandbox.state import (
    TRANSITIONS,
    MerchantAccount,
    Prepay,
    Purchase,
    PurchaseEvent,
    Status,
    Trade,
)

EVENT_TO = {
    Status.AWAITING: None,
    Status.PAID: PurchaseEvent.CONFIRM,
    Status.FAILED: PurchaseEvent.CANCEL,
    Status.CLOSED: PurchaseEvent.EXPIRE,
}

# Written out by hand from the rules, not read from the code.
CELLS = [
    ("待付款", "prepay", "待付款"),
    ("待付款", "confirm", "支付成功"),
    ("待付款", "cancel", "支付失败"),
    ("待付款", "expire", "已关闭"),
    ("待付款", "refund", Code.ORDER_UNPAID),
    ("支付成功", "prepay", Code.ORDER_PAID),
    ("支付成功", "confirm", "支付成功"),
    ("支付成功", "cancel", "支付成功"),
    ("支付成功", "expire", "支付成功"),
    ("支付成功", "refund", "支付成功"),
    ("支付失败", "prepay", Code.ORDER_ENDED),
    ("支付失败", "confirm", "支付失败"),
    ("支付失败", "cancel", "支付失败"),
    ("支付失败", "expire", "支付失败"),
    ("支付失败", "refund", Code.ORDER_UNPAID),
    ("已关闭", "prepay", Code.ORDER_ENDED),
    ("已关闭", "confirm", "已关闭"),
    ("已关闭", "cancel", "已关闭"),
    ("已关闭", "expire", "已关闭"),
    ("已关闭", "refund", Code.ORDER_UNPAID),
]


def make_purchase(
    clock: MovedClock,
    *,
    status: Status = Status.AWAITING,
    closes_at: float | None = None,
    scannable: bool = True,
) -> Purchase:
    """Make a purchase and bring it into a status."""
    purchase = Purchase(
        app_key="app",
        pay_token="token",
        amount=Decimal("33.69"),
        closes_at=closes_at,
        scannable=scannable,
        clock=clock.time,
    )
    event = EVENT_TO[status]
    if event:
        purchase.apply(event)
    return purchase


def make_trade(purchase: Purchase) -> Trade:
    """Make an order of 33.69 yuan."""
    item = Item(
        out_trade_no="A1",
        subject="tea",
        price=Decimal("11.23"),
        quantity="3",
        total_amount=Decimal("33.69"),
        payee_identity="1000",
        royalties=(),
    )
    return Trade(item=item, trade_no="2025112300000001", purchase=purchase)


@pytest.mark.parametrize(("status", "event", "expected"), CELLS)
def test_event_in_each_status_follows_the_rules(
    clock: MovedClock, status: str, event: str, expected: str | Code
) -> None:
    """Each event in each status leads where the rules say, or is refused and changes nothing."""
    purchase = make_purchase(clock, status=Status(status))
    if isinstance(expected, Code):
        with pytest.raises(RefusalError) as refused:
            purchase.apply(PurchaseEvent(event))
        assert refused.value.code == expected
        assert purchase.status == status
    else:
        assert purchase.apply(PurchaseEvent(event)) is (status != expected)
        assert purchase.status == expected


def test_table_has_only_the_tested_cells() -> None:
    """Every cell of the table is tested above, and there is no other."""
    cells = {(status, event) for status, row in TRANSITIONS.items() for event in row}
    assert cells == {(status, event) for status, event, _ in CELLS}
    assert len(CELLS) == len(Status) * len(PurchaseEvent)


@pytest.mark.parametrize("last", [Status.PAID, Status.FAILED, Status.CLOSED])
def test_status_that_ended_stays(last: Status) -> None:
    """No event leads away from an end."""
    assert {cell for cell in TRANSITIONS[last].values() if isinstance(cell, Status)} == {last}


def test_purchase_closes_at_its_time_limit(clock: MovedClock) -> None:
    """It closes at the limit, not before, even if its status is read later."""
    purchase = make_purchase(clock, closes_at=clock.time() + 600)
    clock.move(599.999)
    before = purchase.status
    clock.move(0.001)
    assert [before, purchase.status] == ["待付款", "已关闭"]
    assert purchase.apply(PurchaseEvent.CONFIRM) is False


def test_purchase_paid_stays_paid_after_its_time_limit(clock: MovedClock) -> None:
    """A paid purchase stays paid after its limit."""
    purchase = make_purchase(clock, status=Status.PAID, closes_at=clock.time() + 600)
    clock.move(601)
    assert purchase.status == "支付成功"


def test_purchase_can_be_paid_with_a_code_or_a_valid_prepay(clock: MovedClock) -> None:
    """The payer needs a code to scan or a prepay of under 20 minutes."""
    purchase = make_purchase(clock, scannable=False)
    bare = purchase.can_be_paid()
    purchase.prepays.append(Prepay(prepay_id="wx1", app_id="wx", expires_at=clock.time() + 1200))
    fresh = purchase.can_be_paid()
    clock.move(1200)
    assert [bare, fresh, purchase.can_be_paid()] == [False, True, False]
    assert make_purchase(clock).can_be_paid() is True


def test_refunds_add_up_to_the_payment(clock: MovedClock) -> None:
    """Partial refunds end at the last cent."""
    trade = make_trade(make_purchase(clock, status=Status.PAID))
    trade.refund("B1", Decimal("33.68"))
    with pytest.raises(RefusalError) as refused:
        trade.refund("B2", Decimal("0.02"))
    assert refused.value.code == Code.REFUND_TOO_HIGH
    assert "0.01" in refused.value.message
    item = trade.refund("B3", Decimal("0.01"))
    assert trade.refunded == trade.amount == Decimal("33.69")
    assert (item.out_trade_no, item.quantity, item.price) == ("B3", "1", Decimal("0.01"))


def test_refund_refused_changes_nothing(clock: MovedClock) -> None:
    """A refund of an unpaid order gives nothing back."""
    trade = make_trade(make_purchase(clock))
    with pytest.raises(RefusalError):
        trade.refund("B1", Decimal("0.01"))
    assert trade.refunded == 0


def test_purchase_repr_hides_the_pay_token(clock: MovedClock) -> None:
    """A payToken is a credential and is not shown."""
    assert "token" not in repr(make_purchase(clock)).replace("pay_token", "")


def test_account_without_orders_refuses_every_search() -> None:
    """An unknown number is refused."""
    account = MerchantAccount()
    for search in (
        lambda: account.find_purchase("x"),
        lambda: account.find_trade("x"),
        lambda: account.find_order(out_trade_no="x", trade_no=""),
        lambda: account.find_order(out_trade_no="", trade_no="x"),
    ):
        with pytest.raises(RefusalError):
            search()

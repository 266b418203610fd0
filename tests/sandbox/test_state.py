"""Each cell of the trade's table, and the books, without any HTTP."""
# ruff: noqa: ANN001 - the fixtures' classes live in conftest.py, which is no module to import

from decimal import Decimal

import pytest

from wxpay_async.sandbox.error_codes import Code, RefusalError
from wxpay_async.sandbox.request_parsing import Item
from wxpay_async.sandbox.state import MACHINE, Books, Event, Prepay, Purchase, Status, Trade

WAY_TO = {
    Status.AWAITING: None,
    Status.PAID: Event.CONFIRM,
    Status.FAILED: Event.CANCEL,
    Status.CLOSED: Event.EXPIRE,
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


def purchase_of(
    clock,
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
        clock=clock,
    )
    event = WAY_TO[status]
    if event:
        purchase.apply(event)
    return purchase


def trade_of(purchase: Purchase) -> Trade:
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
def test_cell(clock, status, event, expected) -> None:
    """Each event in each status leads where the rules say, or is refused and changes nothing."""
    purchase = purchase_of(clock, status=Status(status))
    if isinstance(expected, Code):
        with pytest.raises(RefusalError) as refused:
            purchase.apply(Event(event))
        assert refused.value.code == expected
        assert purchase.status == status
    else:
        assert purchase.apply(Event(event)) is (status != expected)
        assert purchase.status == expected


def test_table_is_complete() -> None:
    """Every cell of the table is tested above, and there is no other."""
    cells = {(status, event) for status, row in MACHINE.items() for event in row}
    assert cells == {(status, event) for status, event, _ in CELLS}
    assert len(CELLS) == len(Status) * len(Event)


@pytest.mark.parametrize("last", [Status.PAID, Status.FAILED, Status.CLOSED])
def test_nothing_leaves_an_end(last) -> None:
    """From an end no event leads anywhere else."""
    assert {cell for cell in MACHINE[last].values() if isinstance(cell, Status)} == {last}


def test_time_limit(clock) -> None:
    """A purchase closes at its limit, not before; and what is looked at late is closed too."""
    purchase = purchase_of(clock, closes_at=clock() + 600)
    clock.move(599.999)
    before = purchase.status
    clock.move(0.001)
    assert [before, purchase.status] == ["待付款", "已关闭"]
    assert purchase.apply(Event.CONFIRM) is False


def test_time_limit_spares_what_is_paid(clock) -> None:
    """A paid purchase stays paid after its limit."""
    purchase = purchase_of(clock, status=Status.PAID, closes_at=clock() + 600)
    clock.move(601)
    assert purchase.status == "支付成功"


def test_payable(clock) -> None:
    """The payer needs a code to scan or a prepay of under 20 minutes."""
    purchase = purchase_of(clock, scannable=False)
    bare = purchase.payable()
    purchase.prepays.append(Prepay(prepay_id="wx1", app_id="wx", expires_at=clock() + 1200))
    fresh = purchase.payable()
    clock.move(1200)
    assert [bare, fresh, purchase.payable()] == [False, True, False]
    assert purchase_of(clock).payable() is True


def test_refunds_add_up_to_the_payment(clock) -> None:
    """Partial refunds are given up to the last cent, and not one more."""
    trade = trade_of(purchase_of(clock, status=Status.PAID))
    trade.refund("B1", Decimal("33.68"))
    with pytest.raises(RefusalError) as refused:
        trade.refund("B2", Decimal("0.02"))
    assert refused.value.code == Code.REFUND_TOO_HIGH
    assert "0.01" in refused.value.message
    item = trade.refund("B3", Decimal("0.01"))
    assert trade.refunded == trade.amount == Decimal("33.69")
    assert (item.out_trade_no, item.quantity, item.price) == ("B3", "1", Decimal("0.01"))


def test_refused_refund_leaves_the_trade_alone(clock) -> None:
    """A refund of an unpaid order gives nothing back."""
    trade = trade_of(purchase_of(clock))
    with pytest.raises(RefusalError):
        trade.refund("B1", Decimal("0.01"))
    assert trade.refunded == 0


def test_secrets_stay_out_of_the_repr(clock) -> None:
    """A payToken is a credential and is not shown."""
    assert "token" not in repr(purchase_of(clock)).replace("pay_token", "")


def test_books_find_nothing_in_an_empty_book() -> None:
    """What was never entered is refused by name."""
    books = Books()
    for search in (
        lambda: books.purchase("x"),
        lambda: books.trade("x"),
        lambda: books.find(out_trade_no="x", trade_no=""),
        lambda: books.find(out_trade_no="", trade_no="x"),
    ):
        with pytest.raises(RefusalError):
            search()

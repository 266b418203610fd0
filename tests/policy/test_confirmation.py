"""What a query says of a callback, and what of the callback is then confirmed."""

from __future__ import annotations

from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs
import pytest

from wxpay_async.policy.confirmation import (
    Comparison,
    compare,
    confirm,
    read_as_status,
    states_of,
)
from wxpay_async.protocol.notify import Notification, RefundNotification, TradeNotification
from wxpay_async.protocol.results import TradeState, TradeStatus

WHEN = datetime(2019, 10, 17, tzinfo=UTC)


def make_trade(**changes: Any) -> TradeNotification:  # noqa: ANN401 - any field
    """Make the notification of a payment of one yuan."""
    values = {
        "out_trade_no": "O-1",
        "inner_trade_no": "T-callback",
        "trade_status": "TRADE_SUCCESS",
        "trade_amount": Decimal("1.00"),
        "gmt_payment": WHEN,
        "gmt_close": WHEN,
        "fail_reason": "余额不足",
        "authentic": False,
        "fresh": True,
        "raw": {},
        **changes,
    }
    return TradeNotification(**values)


def make_refund(**changes: Any) -> RefundNotification:  # noqa: ANN401 - any field
    """Make the notification of a refund of one yuan."""
    values = {
        "orig_outer_trade_no": "O-1",
        "out_trade_no": "R-1",
        "inner_trade_no": "T-callback",
        "refund_status": "REFUND_SUCCESS",
        "refund_amount": Decimal("1.00"),
        "gmt_refund": WHEN,
        "authentic": False,
        "fresh": True,
        "raw": {},
        **changes,
    }
    return RefundNotification(**values)


def make_status(status: str = "支付成功", **changes: Any) -> TradeStatus:  # noqa: ANN401 - any field
    """Make the answer to a query."""
    values = {"out_trade_no": "O-1", "total_amount": Decimal("1.00"), "trade_no": "T-1", **changes}
    return TradeStatus(status=status, **values)


@pytest.mark.parametrize(
    ("notification", "status", "expected"),
    [
        (make_trade(), make_status(), Comparison.SAME),
        (make_trade(), make_status("已退款"), Comparison.SAME),
        (make_trade(trade_status="TRADE_CLOSED"), make_status("已关闭"), Comparison.SAME),
        (make_trade(trade_status="TRADE_CLOSED"), make_status(), Comparison.FURTHER),
        (make_trade(), make_status("已关闭"), Comparison.DIFFERENT),
        (make_trade(), make_status("待付款"), Comparison.DIFFERENT),
        (make_trade(), make_status("a new text"), Comparison.DIFFERENT),
        (make_trade(trade_status="NEW"), make_status(), Comparison.DIFFERENT),
        (make_trade(), make_status(out_trade_no="O-2"), Comparison.DIFFERENT),
        (make_trade(), make_status(total_amount=Decimal("1.01")), Comparison.DIFFERENT),
        (make_trade(), make_status(total_amount=None), Comparison.DIFFERENT),
        (make_refund(), make_status("退款成功", out_trade_no="R-1"), Comparison.SAME),
        (make_refund(), make_status(out_trade_no="R-1"), Comparison.DIFFERENT),
    ],
)
def test_compare_tells_what_the_query_says(
    notification: Notification, status: TradeStatus, expected: Comparison
) -> None:
    """Number, status and amount must be the same; no amount is no equal amount."""
    assert expected is compare(notification, status)


def list_words_of_query(notification: Notification, status: TradeStatus) -> set[object]:
    """Return what a confirmed notification may hold: what the query said, and what is ours."""
    marks = {notification.authentic, notification.verified, notification.fresh, True, None}
    texts = {status.out_trade_no, status.trade_no, status.total_amount}
    texts |= {"TRADE_SUCCESS", "REFUND_SUCCESS"}  # `compare` has found that these say the same
    return marks | texts


@pytest.mark.parametrize("number", ["T-1", None])
@pytest.mark.parametrize("notification", [make_trade(), make_refund()], ids=["trade", "refund"])
def test_confirmed_hint_says_nothing_that_the_query_did_not(
    notification: Notification, number: str | None
) -> None:
    """The sender chose every field: each is the query's, or gone."""
    status = make_status(out_trade_no=notification.out_trade_no, trade_no=number)

    confirmed = confirm(notification, status)

    names = [f.name for f in attrs.fields(type(confirmed)) if f.name not in {"raw", "queried"}]
    assert {getattr(confirmed, name) for name in names} <= list_words_of_query(confirmed, status)
    assert (True, status) == (confirmed.confirmed, confirmed.queried)
    assert number == confirmed.inner_trade_no


@pytest.mark.parametrize("notification", [make_trade(), make_refund()], ids=["trade", "refund"])
def test_signature_stands_for_what_no_query_tells(notification: Notification) -> None:
    """An RSA signature vouches for the other fields; the platform's number is the query's."""
    signed = attrs.evolve(notification, authentic=True, fresh=False)
    told, untold = make_status(), make_status(trade_no=None)

    assert attrs.evolve(signed, confirmed=True, queried=told, inner_trade_no="T-1") == confirm(
        signed, told
    )
    assert attrs.evolve(signed, confirmed=True, queried=untold) == confirm(signed, untold)


@pytest.mark.parametrize(
    ("notification", "expected"),
    [
        (make_trade(authentic=True), TradeState.PAID),
        (make_trade(authentic=True, trade_status="TRADE_CLOSED"), None),
        (make_trade(authentic=True, trade_status="TRANSFER_FAIL"), None),
        (make_refund(authentic=True), TradeState.REFUNDED),
        (make_refund(authentic=True, refund_status="REFUND_FAIL"), TradeState.REFUND_FAILED),
        (make_refund(authentic=True, refund_status="NEW"), None),
        (make_trade(verified=True), None),
        (make_refund(), None),
    ],
)
def test_signature_proves_what_is_final(
    notification: Notification, expected: TradeState | None
) -> None:
    """A payment that failed may be tried again, and who is not known proves nothing."""
    proven = read_as_status(notification)

    assert expected is (proven and proven.state)
    if proven is not None:
        assert (notification.out_trade_no, "T-callback", Decimal("1.00")) == (
            proven.out_trade_no,
            proven.trade_no,
            proven.total_amount,
        )


def test_confirmed_notification_proves_what_the_query_said() -> None:
    """The query's own answer is the proof, not the sender of the callback."""
    status = make_status("已退款")

    assert status is read_as_status(confirm(make_trade(), status))


def test_paid_and_refunded_are_the_furthest_states() -> None:
    """Closed is further than failed, paid is further than closed."""
    trade, refund = states_of(make_trade()), states_of(make_refund())

    assert (TradeState.FAILED, TradeState.CLOSED, TradeState.PAID) == trade
    assert (TradeState.REFUND_FAILED, TradeState.REFUNDED) == refund

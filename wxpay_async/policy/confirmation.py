"""Compare a callback with a query, and keep of it what is confirmed (`docs/money-safety.md` §7.3).

A notification that is called confirmed says nothing but what the query said:

- number of the order, status and amount are equal, or it is not confirmed;
- the platform's number is the query's, whatever the callback says: a callback without a signature
  can name any number beside an order that is paid;
- what no query tells (times, the reason of a failure, the order of a refund) stays only where an
  RSA signature stands for it.

A genuine notification is itself the answer that an operation in doubt waits for.
"""

from __future__ import annotations

import enum
from typing import Final

from attrs import evolve

from wxpay_async.protocol.notify import Notification, TradeNotification
from wxpay_async.protocol.results import TradeState, TradeStatus

TRADE_STATES: Final = (TradeState.FAILED, TradeState.CLOSED, TradeState.PAID)
REFUND_STATES: Final = (TradeState.REFUND_FAILED, TradeState.REFUNDED)
"""What callbacks tell, each further than the one before."""


class Comparison(enum.StrEnum):
    """How a notification compares with a query."""

    SAME = "the same"
    FURTHER = "further"
    DIFFERENT = "something else"
    NOT_FOUND = "not found"
    NO_ANSWER = "no answer"


def states_of(notification: Notification) -> tuple[TradeState, ...]:
    """Return the states of a trade or of a refund, each further than the one before."""
    return TRADE_STATES if isinstance(notification, TradeNotification) else REFUND_STATES


def compare(notification: Notification, status: TradeStatus) -> Comparison:
    """Tell what the query of a notification's number says of it."""
    states, state = states_of(notification), status.state
    if isinstance(notification, TradeNotification):
        amount = notification.trade_amount
        state = TradeState.PAID if state.was_paid else state
    else:
        amount = notification.refund_amount
    if status.out_trade_no != notification.out_trade_no:
        return Comparison.DIFFERENT
    if state not in states or notification.state not in states:
        return Comparison.DIFFERENT
    if states.index(state) > states.index(notification.state):
        return Comparison.FURTHER
    same = state is notification.state and amount == status.total_amount
    return Comparison.SAME if same else Comparison.DIFFERENT


def read_as_status(notification: Notification) -> TradeStatus | None:
    """Return what a genuine notification proves, as a query would tell it.

    Returns:
        The answer of the query that confirmed it, or what an RSA signature stands for. None if
        nothing is proven: of an order the signature proves only that it was paid, since a payment
        that failed may be tried again.
    """
    if notification.confirmed:
        return notification.queried
    if isinstance(notification, TradeNotification):
        text, amount = notification.trade_status, notification.trade_amount
        final = notification.state is TradeState.PAID
    else:
        text, amount = notification.refund_status, notification.refund_amount
        final = notification.state is not TradeState.UNKNOWN
    if not (notification.authentic and final):
        return None
    return TradeStatus(
        out_trade_no=notification.out_trade_no,
        status=text,
        trade_no=notification.inner_trade_no,
        total_amount=amount,
    )


def confirm(notification: Notification, status: TradeStatus) -> Notification:
    """Return a notification of which the query said the same as confirmed."""
    told = status.trade_no
    if notification.authentic:
        number = told or notification.inner_trade_no
        return evolve(notification, confirmed=True, queried=status, inner_trade_no=number)
    if isinstance(notification, TradeNotification):
        return evolve(
            notification,
            confirmed=True,
            queried=status,
            inner_trade_no=told,
            gmt_payment=None,
            gmt_close=None,
            fail_reason=None,
        )
    return evolve(
        notification,
        confirmed=True,
        queried=status,
        inner_trade_no=told,
        orig_outer_trade_no=None,
        gmt_refund=None,
    )

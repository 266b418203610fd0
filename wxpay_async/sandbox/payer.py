"""Act as the payer of an order: confirm, decline, let its time run out. No I/O."""

from __future__ import annotations

from typing import Final

from wxpay_async.errors import PrepayExpiredError
from wxpay_async.sandbox.magic import PayerEnd
from wxpay_async.sandbox.platform_state import PlatformState
from wxpay_async.sandbox.state import Purchase, PurchaseEvent, Status

NO_FUNDS: Final = "付款人余额不足"
"""failReason of an order whose payer has not enough money. The text is ours."""


def confirm_purchase(state: PlatformState, purchase: Purchase) -> Status:
    """Let the payer confirm: every trade of the purchase is paid, once.

    Returns:
        The status afterwards. A purchase that has ended stays as it is.

    Raises:
        PrepayExpiredError: every prepay is over 20 minutes old, and there is no code to scan.
    """
    if purchase.status is Status.AWAITING and not purchase.can_be_paid():
        raise PrepayExpiredError("every prepay of the order has expired; pay again first")
    if purchase.apply(PurchaseEvent.CONFIRM):
        for trade in purchase.trades:
            number = [trade.out_trade_no]
            state.record("charge", purchase.app_key, amount=trade.amount, numbers=number)
    return purchase.status


def cancel_purchase(purchase: Purchase, *, reason: str = "") -> Status:
    """Let the payer decline: a purchase that awaits payment fails.

    Args:
        purchase: what is not paid.
        reason: the failReason of its callback; that the payer cancelled when empty.
    """
    if purchase.status is Status.AWAITING:
        purchase.fail_reason = reason
    purchase.apply(PurchaseEvent.CANCEL)
    return purchase.status


def expire_purchase(purchase: Purchase) -> Status:
    """Let the time run out: a purchase that awaits payment closes."""
    purchase.apply(PurchaseEvent.EXPIRE)
    return purchase.status


def end_purchase(state: PlatformState, purchase: Purchase, end: PayerEnd) -> None:
    """Let the payer of a magic value do what it stands for."""
    match end:
        case PayerEnd.CONFIRM:
            confirm_purchase(state, purchase)
        case PayerEnd.CANCEL:
            cancel_purchase(purchase)
        case PayerEnd.INSUFFICIENT:
            cancel_purchase(purchase, reason=NO_FUNDS)
        case PayerEnd.EXPIRE:
            expire_purchase(purchase)

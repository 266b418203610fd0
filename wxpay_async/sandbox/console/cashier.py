"""Gather what the cashier page shows: the payment sheet of one order."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import frozen

from wxpay_async.sandbox.console.journal import Journal
from wxpay_async.sandbox.console.views import STATES, find_trade
from wxpay_async.sandbox.state import Prepay, Status, Trade

_MAX_ORIGIN: Final = 200


@frozen(kw_only=True)
class Sheet:
    """A payment sheet.

    Attributes:
        app_key: the merchant's.
        order: the first order's number.
        shop: who is paid.
        subject: what is paid.
        amount: yuan.
        state: one of `STATES`, or `expired` when the prepay is.
        app_id: the mini program that the prepay is for; empty without a prepay.
        jsapi: the parameters as the sandbox issued them; empty without a prepay.
        public_key: what verifies paySign: Base64 of SubjectPublicKeyInfo.
        origin: of the page that shows the sheet in a frame; empty for none.
    """

    app_key: str
    order: str
    shop: str
    subject: str
    amount: str
    state: str
    app_id: str
    jsapi: Mapping[str, str]
    public_key: str
    origin: str


def build_cashier(journal: Journal, params: Mapping[str, str], *, public_key: str) -> Sheet | None:
    """Return the sheet of a prepay or of an order; None if there is none.

    Args:
        journal: of the sandbox.
        params: `prepay`, or `app` and `order`; `origin` of a page around it.
        public_key: the PEM that verifies paySign.
    """
    trade, prepay = _find_order(journal, params)
    if trade is None:
        return None
    purchase = trade.purchase
    subject = trade.item.subject
    if len(purchase.trades) > 1:
        subject += f" (+{len(purchase.trades) - 1})"
    return Sheet(
        app_key=purchase.app_key,
        order=trade.out_trade_no,
        shop=f"商户 {trade.item.payee_identity}",
        subject=subject,
        amount=str(purchase.amount),
        state=_find_state(journal, trade, prepay),
        app_id=prepay.app_id if prepay else "",
        jsapi=prepay.jsapi if prepay else {},
        public_key="".join(public_key.splitlines()[1:-1]),
        origin=params.get("origin", "")[:_MAX_ORIGIN],
    )


def _find_order(journal: Journal, params: Mapping[str, str]) -> tuple[Trade | None, Prepay | None]:
    prepay = journal.platform.prepays.get(params.get("prepay", ""))
    if prepay is not None:
        return find_trade(journal, (prepay.app_key, prepay.out_trade_no)), prepay
    trade = find_trade(journal, (params.get("app", ""), params.get("order", "")))
    prepays = trade.purchase.prepays if trade else []
    return trade, prepays[-1] if prepays else None


def _find_state(journal: Journal, trade: Trade, prepay: Prepay | None) -> str:
    expired = prepay is not None and journal.platform.now() >= prepay.expires_at
    awaiting = trade.status is Status.AWAITING
    return "expired" if expired and awaiting else STATES[trade.status]

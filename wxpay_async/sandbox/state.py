"""Hold the state of orders, refunds and merchant accounts, and the table of status transitions.

A purchase is what one instant trade created. Its trades are paid together, so they share one
status. The rules behind the table:

1. Only the payer's confirmation pays, and it pays once: confirming a paid purchase changes nothing.
2. Statuses only move forward. A paid, failed or closed purchase never awaits payment again.
3. The payer's cancellation fails a purchase; the end of its time limit closes it. Both happen only
   while it awaits payment.
4. A prepay is given only while the purchase awaits payment. It moves no money. Each new requestId
   gets a new one.
5. Only a paid purchase can be refunded, in parts, up to what was paid. The status stays paid.

The time limit (timeoutExpress) is an `expire` event that happens when the status is next read;
nothing runs in the background. The purchase then counts as closed since the limit, and the merchant
gets its callback at that moment.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from attrs import define, evolve, field, frozen

from wxpay_async.sandbox.error_codes import Code, RefusalError
from wxpay_async.sandbox.faults import Fault
from wxpay_async.sandbox.request_parsing import Item


class Status(enum.StrEnum):
    """A trade's status as a query reports it. Only 待付款 is documented; the rest is ours."""

    AWAITING = "待付款"
    PAID = "支付成功"
    FAILED = "支付失败"
    CLOSED = "已关闭"


class PurchaseEvent(enum.StrEnum):
    """What can happen to a purchase."""

    PREPAY = "prepay"
    CONFIRM = "confirm"
    CANCEL = "cancel"
    EXPIRE = "expire"
    REFUND = "refund"


_AWAITING, _PAID, _FAILED, _CLOSED = Status
_ALREADY_PAID, _ENDED, _UNPAID = Code.ORDER_PAID, Code.ORDER_ENDED, Code.ORDER_UNPAID

TRANSITIONS: Final[Mapping[Status, Mapping[PurchaseEvent, Status | Code]]] = MappingProxyType(
    {
        status: MappingProxyType(dict(zip(PurchaseEvent, cells, strict=True)))
        for status, cells in (
            #            prepay     confirm  cancel   expire   refund
            (_AWAITING, (_AWAITING, _PAID, _FAILED, _CLOSED, _UNPAID)),
            (_PAID, (_ALREADY_PAID, _PAID, _PAID, _PAID, _PAID)),
            (_FAILED, (_ENDED, _FAILED, _FAILED, _FAILED, _UNPAID)),
            (_CLOSED, (_ENDED, _CLOSED, _CLOSED, _CLOSED, _UNPAID)),
        )
    }
)
"""status -> event -> the next status, or the code that refuses the event."""

REFUNDED: Final = "退款成功"
"""The status in the query of a refund. It is not documented: our assumption."""


@frozen(kw_only=True)
class Prepay:
    """A credential with which the payer can confirm on the phone.

    Attributes:
        prepay_id: its number.
        app_id: the mini program that it is for.
        expires_at: seconds since the epoch.
        out_trade_no: the first order that it pays.
        app_key: that order's merchant.
        jsapi: what the mini program hands to `wx.requestPayment`, and the appId that is signed.
    """

    prepay_id: str
    app_id: str
    expires_at: float
    app_key: str = ""
    out_trade_no: str = ""
    jsapi: Mapping[str, str] = field(factory=dict[str, str], repr=False)


def _ignore_change(purchase: Purchase) -> None:
    """Do nothing after a change of the status."""


@define(kw_only=True, eq=False)
class Purchase:
    """What one instant trade created.

    Attributes:
        app_key: the merchant's.
        pay_token: the key under which mini-program pay finds it.
        amount: yuan to pay.
        closes_at: seconds since the epoch, None for never.
        scannable: whether the payer can confirm without a prepay, by scanning the order's code.
        openid: the payer's as its trade names it, empty when it names none.
        trades: its orders.
        prepays: all its prepays, the latest last.
        clock: seconds since the epoch.
        on_change: called after each change of the status.
        created_at: when it was created, seconds since the epoch.
        fail_reason: why it failed, in the platform's words; empty for the payer's cancellation.
        callback_fault: what goes wrong with its callback, None for nothing.
        ended_at: when the last change happened, seconds since the epoch; None before.
    """

    app_key: str
    pay_token: str = field(repr=False)
    amount: Decimal
    closes_at: float | None
    scannable: bool
    openid: str = field(default="", repr=False)
    trades: list[Trade] = field(factory=list["Trade"], repr=False)
    prepays: list[Prepay] = field(factory=list[Prepay])
    clock: Callable[[], float] = field(repr=False)
    on_change: Callable[[Purchase], None] = field(default=_ignore_change, repr=False)
    created_at: float = 0.0
    fail_reason: str = ""
    callback_fault: Fault | None = None
    ended_at: float | None = field(default=None, init=False)
    _status: Status = field(default=Status.AWAITING, init=False)

    @property
    def status(self) -> Status:
        """The status at the present time."""
        if self.closes_at is not None and self.clock() >= self.closes_at:
            self._apply(PurchaseEvent.EXPIRE)
        return self._status

    def apply(self, event: PurchaseEvent) -> bool:
        """Apply an event.

        Returns:
            Whether the status changed.

        Raises:
            RefusalError: the table refuses the event in this status.
        """
        before = self.status
        self._apply(event)
        return self._status is not before

    def restore(self, status: Status, ended_at: float | None) -> None:
        """Take over the status of an earlier process; no callback and no event comes of it."""
        self._status, self.ended_at = status, ended_at

    def can_be_paid(self) -> bool:
        """Return whether the payer has a code to scan or a prepay that is still valid."""
        now = self.clock()
        return self.scannable or any(now < prepay.expires_at for prepay in self.prepays)

    def _apply(self, event: PurchaseEvent) -> None:
        cell = TRANSITIONS[self._status][event]
        if isinstance(cell, Code):
            raise RefusalError(cell)
        if cell is not self._status:
            self._status = cell
            now = self.clock()
            self.ended_at = now if self.closes_at is None else min(now, self.closes_at)
            self.on_change(self)


@define(kw_only=True, eq=False)
class _Order:
    """What an order and a refund have in common: both can be queried by their numbers.

    Attributes:
        item: what the merchant asked for; of a refund, one piece at the price of the refund.
        trade_no: the platform's number.
    """

    item: Item
    trade_no: str

    @property
    def out_trade_no(self) -> str:
        """The merchant's number: the order's, or the refund's own."""
        return self.item.out_trade_no

    @property
    def amount(self) -> Decimal:
        """Yuan that the order costs, or that went back."""
        return self.item.total_amount


@define(kw_only=True, eq=False)
class Trade(_Order):
    """One order.

    Attributes:
        purchase: what it is paid with.
        refunded: yuan given back so far.
    """

    purchase: Purchase = field(repr=False)
    refunded: Decimal = Decimal("0.00")

    @property
    def status(self) -> Status:
        """The status of its purchase."""
        return self.purchase.status

    def refund(self, out_trade_no: str, amount: Decimal) -> Item:
        """Give yuan back.

        Returns:
            The refund as an item of its own: one piece at its amount.

        Raises:
            RefusalError: the order is not paid, or less than the amount is left of the payment.
        """
        self.purchase.apply(PurchaseEvent.REFUND)
        left = self.amount - self.refunded
        if amount > left:
            raise RefusalError(Code.REFUND_TOO_HIGH, f"{left} yuan are left")
        self.refunded += amount
        return evolve(
            self.item,
            out_trade_no=out_trade_no,
            price=amount,
            quantity="1",
            total_amount=amount,
            royalties=(),
        )


@define(kw_only=True, eq=False)
class Refund(_Order):
    """Money that went back.

    Attributes:
        trade: the order that was paid.
        at: seconds since the epoch.
    """

    trade: Trade = field(repr=False)
    at: float

    @property
    def status(self) -> str:
        """退款成功: the sandbox refunds at once."""
        return REFUNDED


@frozen(kw_only=True)
class LedgerEntry:
    """One line of the ledger: something that was executed.

    Attributes:
        kind: `trade`, `pay` or `refund` for a request; `charge` for a confirmation of the payer.
        app_key: the merchant's.
        request_id: the request that was executed, empty for a charge.
        out_trade_nos: the orders, or the refund's own number.
        amount: yuan that the entry is about; only `charge` and `refund` move them.
        at: seconds since the epoch.
    """

    kind: str
    app_key: str
    request_id: str = ""
    out_trade_nos: tuple[str, ...]
    amount: Decimal
    at: float


@define(eq=False)
class MerchantAccount:
    """What the platform keeps for one appKey.

    Attributes:
        trades: orders by the merchant's number.
        refunds: refunds by their own number.
        by_trade_no: both by the platform's number.
        purchases: by payToken.
        entries: what each requestId did.
    """

    trades: dict[str, Trade] = field(factory=dict[str, Trade])
    refunds: dict[str, Refund] = field(factory=dict[str, Refund])
    by_trade_no: dict[str, Trade | Refund] = field(factory=dict[str, "Trade | Refund"])
    purchases: dict[str, Purchase] = field(factory=dict[str, Purchase], repr=False)
    entries: dict[str, LedgerEntry] = field(factory=dict[str, LedgerEntry])

    def add_purchase(self, purchase: Purchase) -> None:
        """Keep a purchase and its orders."""
        self.purchases[purchase.pay_token] = purchase
        for trade in purchase.trades:
            self.trades[trade.out_trade_no] = self.by_trade_no[trade.trade_no] = trade

    def add_refund(self, refund: Refund) -> None:
        """Keep a refund."""
        self.refunds[refund.out_trade_no] = self.by_trade_no[refund.trade_no] = refund

    def check_unused(self, request_id: str, *out_trade_nos: str) -> None:
        """Check that neither the requestId nor an order's number was used before.

        Raises:
            RefusalError: one was.
        """
        if request_id in self.entries:
            raise RefusalError(Code.REQUEST_ID_REPEATED)
        seen: set[str] = set()
        for number in out_trade_nos:
            if number in self.trades or number in self.refunds or number in seen:
                raise RefusalError(Code.ORDER_REPEATED, number)
            seen.add(number)

    def find_purchase(self, pay_token: str) -> Purchase:
        """Return the purchase of a payToken; raise `RefusalError` if there is none."""
        try:
            return self.purchases[pay_token]
        except KeyError:
            raise RefusalError(Code.UNKNOWN_PURCHASE) from None

    def find_trade(self, out_trade_no: str) -> Trade:
        """Return an order; raise `RefusalError` if there is none."""
        try:
            return self.trades[out_trade_no]
        except KeyError:
            raise RefusalError(Code.UNKNOWN_ORDER, out_trade_no) from None

    def find_order(self, *, out_trade_no: str, trade_no: str) -> Trade | Refund:
        """Return an order or a refund by one of its numbers, the other being empty.

        Raises:
            RefusalError: there is none.
        """
        found = (
            self.trades.get(out_trade_no) or self.refunds.get(out_trade_no)
            if out_trade_no
            else self.by_trade_no.get(trade_no)
        )
        if found is None:
            raise RefusalError(Code.UNKNOWN_ORDER, out_trade_no or trade_no)
        return found

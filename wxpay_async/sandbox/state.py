"""The life of a trade, as a table, and what the platform keeps in its books.

A purchase is what one instant trade created: its trades are paid together, so they share one
status. The rules behind the table:

1. Only the payer's confirmation pays, and it pays once: confirming a paid purchase changes nothing.
2. Statuses only move forward. What is paid, failed or closed never awaits payment again.
3. The payer's cancellation fails a purchase; running out of time closes it. Both only while it
   awaits payment.
4. A prepay is given only while the purchase awaits payment. It moves no money, and a new one may
   be given as often as a new requestId asks for it.
5. Only what is paid can be refunded, in parts, up to what was paid. The status stays paid.

The time limit (timeoutExpress) is an `expire` event that happens when the status is next looked
at; nothing runs in the background. It counts as of the limit, and is told when it is noticed.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from attrs import define, evolve, field, frozen

from wxpay_async.sandbox.error_codes import Code, RefusalError
from wxpay_async.sandbox.request_parsing import Item


class Status(enum.StrEnum):
    """A trade's status as a query reports it. Only 待付款 is documented; the rest is ours."""

    AWAITING = "待付款"
    PAID = "支付成功"
    FAILED = "支付失败"
    CLOSED = "已关闭"


class Event(enum.StrEnum):
    """What can happen to a purchase."""

    PREPAY = "prepay"
    CONFIRM = "confirm"
    CANCEL = "cancel"
    EXPIRE = "expire"
    REFUND = "refund"


_AWAITING, _PAID, _FAILED, _CLOSED = Status
_REPAID, _ENDED, _UNPAID = Code.ORDER_PAID, Code.ORDER_ENDED, Code.ORDER_UNPAID

MACHINE: Final[Mapping[Status, Mapping[Event, Status | Code]]] = MappingProxyType(
    {
        status: MappingProxyType(dict(zip(Event, cells, strict=True)))
        for status, cells in (
            #            prepay     confirm  cancel   expire   refund
            (_AWAITING, (_AWAITING, _PAID, _FAILED, _CLOSED, _UNPAID)),
            (_PAID, (_REPAID, _PAID, _PAID, _PAID, _PAID)),
            (_FAILED, (_ENDED, _FAILED, _FAILED, _FAILED, _UNPAID)),
            (_CLOSED, (_ENDED, _CLOSED, _CLOSED, _CLOSED, _UNPAID)),
        )
    }
)
"""status -> event -> the next status, or the code that refuses the event."""

REFUNDED: Final = "退款成功"
"""What a query for a refund reports: undocumented, our assumption."""


@frozen(kw_only=True)
class Prepay:
    """A credential by which the payer can confirm on the phone.

    Attributes:
        prepay_id: its number.
        app_id: the mini program that it is for.
        expires_at: seconds since the epoch.
    """

    prepay_id: str
    app_id: str
    expires_at: float


def _nobody_cares(purchase: Purchase) -> None:
    """Leave a change untold."""


@define(kw_only=True, eq=False)
class Purchase:
    """What one instant trade created.

    Attributes:
        app_key: whose it is.
        pay_token: by which mini-program pay finds it.
        amount: yuan to pay.
        closes_at: seconds since the epoch, None for never.
        scannable: whether the payer can confirm without a prepay, by scanning the order's code.
        trades: its orders.
        prepays: all that were given, the latest last.
        clock: seconds since the epoch.
        changed: is called after each change of the status.
        ended_at: when the last change happened, seconds since the epoch; None before.
    """

    app_key: str
    pay_token: str = field(repr=False)
    amount: Decimal
    closes_at: float | None
    scannable: bool
    trades: list[Trade] = field(factory=list["Trade"], repr=False)
    prepays: list[Prepay] = field(factory=list[Prepay])
    clock: Callable[[], float] = field(repr=False)
    changed: Callable[[Purchase], None] = field(default=_nobody_cares, repr=False)
    ended_at: float | None = field(default=None, init=False)
    _status: Status = field(default=Status.AWAITING, init=False)

    @property
    def status(self) -> Status:
        """The status by the clock."""
        if self.closes_at is not None and self.clock() >= self.closes_at:
            self._step(Event.EXPIRE)
        return self._status

    def apply(self, event: Event) -> bool:
        """Let an event happen.

        Returns:
            Whether the status changed.

        Raises:
            RefusalError: the table refuses the event in this status.
        """
        before = self.status
        self._step(event)
        return self._status is not before

    def payable(self) -> bool:
        """Tell whether the payer holds something to confirm with."""
        now = self.clock()
        return self.scannable or any(now < prepay.expires_at for prepay in self.prepays)

    def _step(self, event: Event) -> None:
        cell = MACHINE[self._status][event]
        if isinstance(cell, Code):
            raise RefusalError(cell)
        if cell is not self._status:
            self._status = cell
            now = self.clock()
            self.ended_at = now if self.closes_at is None else min(now, self.closes_at)
            self.changed(self)


@define(kw_only=True, eq=False)
class Trade:
    """One order.

    Attributes:
        item: what the merchant asked for.
        trade_no: the platform's number.
        purchase: what it is paid with.
        refunded: yuan given back so far.
    """

    item: Item
    trade_no: str
    purchase: Purchase = field(repr=False)
    refunded: Decimal = Decimal("0.00")

    @property
    def out_trade_no(self) -> str:
        """The merchant's number."""
        return self.item.out_trade_no

    @property
    def amount(self) -> Decimal:
        """Yuan that the order costs."""
        return self.item.total_amount

    @property
    def status(self) -> Status:
        """The status of its purchase, by the clock."""
        return self.purchase.status

    def refund(self, out_trade_no: str, amount: Decimal) -> Item:
        """Give yuan back.

        Returns:
            The refund as an item of its own: one piece at its amount.

        Raises:
            RefusalError: it is not paid, or less than that is left of the payment.
        """
        self.purchase.apply(Event.REFUND)
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


@frozen(kw_only=True)
class Refund:
    """Money that went back.

    Attributes:
        item: one piece at the price of the refund, under the refund's own number.
        trade_no: the platform's number.
        trade: the order that was paid.
        at: seconds since the epoch.
    """

    item: Item
    trade_no: str
    trade: Trade = field(repr=False)
    at: float

    @property
    def out_trade_no(self) -> str:
        """The refund's own number."""
        return self.item.out_trade_no

    @property
    def amount(self) -> Decimal:
        """Yuan that went back."""
        return self.item.total_amount

    @property
    def status(self) -> str:
        """退款成功: the sandbox refunds at once."""
        return REFUNDED


@frozen(kw_only=True)
class Entry:
    """One line of the ledger: something that was executed.

    Attributes:
        kind: `trade`, `pay`, `refund`, each by a request; or `charge`, by the payer.
        app_key: for whom.
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
class Books:
    """What the platform keeps for one appKey.

    Attributes:
        trades: orders by the merchant's number.
        refunds: refunds by their own number.
        numbers: both by the platform's number.
        purchases: by payToken.
        executed: what each requestId did.
    """

    trades: dict[str, Trade] = field(factory=dict[str, Trade])
    refunds: dict[str, Refund] = field(factory=dict[str, Refund])
    numbers: dict[str, Trade | Refund] = field(factory=dict[str, "Trade | Refund"])
    purchases: dict[str, Purchase] = field(factory=dict[str, Purchase], repr=False)
    executed: dict[str, Entry] = field(factory=dict[str, Entry])

    def check_new(self, request_id: str, *out_trade_nos: str) -> None:
        """Return if neither the requestId nor an order's number was seen before.

        Raises:
            RefusalError: one was.
        """
        if request_id in self.executed:
            raise RefusalError(Code.REQUEST_ID_REPEATED)
        seen: set[str] = set()
        for number in out_trade_nos:
            if number in self.trades or number in self.refunds or number in seen:
                raise RefusalError(Code.ORDER_REPEATED, number)
            seen.add(number)

    def purchase(self, pay_token: str) -> Purchase:
        """Return the purchase that a payToken belongs to; raise `RefusalError` for none."""
        try:
            return self.purchases[pay_token]
        except KeyError:
            raise RefusalError(Code.UNKNOWN_PURCHASE) from None

    def trade(self, out_trade_no: str) -> Trade:
        """Return an order; raise `RefusalError` for none."""
        try:
            return self.trades[out_trade_no]
        except KeyError:
            raise RefusalError(Code.UNKNOWN_ORDER, out_trade_no) from None

    def find(self, *, out_trade_no: str, trade_no: str) -> Trade | Refund:
        """Return an order or a refund by the one number that is given; raise `RefusalError`."""
        found = (
            self.trades.get(out_trade_no) or self.refunds.get(out_trade_no)
            if out_trade_no
            else self.numbers.get(trade_no)
        )
        if found is None:
            raise RefusalError(Code.UNKNOWN_ORDER, out_trade_no or trade_no)
        return found

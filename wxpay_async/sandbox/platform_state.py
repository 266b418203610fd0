"""Keep what a platform knows: merchants, orders, refunds, prepays and the ledger. No I/O."""

from __future__ import annotations

import math
from collections import ChainMap
from collections.abc import Callable, Iterable, Iterator, Sequence
from decimal import Decimal
from heapq import merge

from attrs import define, field

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.keys import KeyData
from wxpay_async.protocol.signing import RsaVerifier
from wxpay_async.sandbox.auth import App, Scheme
from wxpay_async.sandbox.callback_payloads import (
    Callback,
    build_refund_callback,
    build_trade_callback,
    to_china_time,
)
from wxpay_async.sandbox.state import (
    LedgerEntry,
    MerchantAccount,
    Prepay,
    Purchase,
    Refund,
    Trade,
)


def make_merchants(count: int = 37) -> list[tuple[str, str]]:
    """Make up sub-merchants, (id, name) each."""
    return [(str(number), f"商户 {number}") for number in range(1000, 1000 + count)]


def _ignore_callback(callback: Callback) -> None:
    """Send nothing."""


@define(kw_only=True, eq=False)
class PlatformState:
    """What a platform knows.

    Attributes:
        clock: seconds since the epoch. Requests and callbacks are fresh or stale by it.
        advance_by: seconds by which orders and prepays are older than by the clock.
        token: returns unguessable text, at most 32 characters, never the same twice.
        quota: calls that a new appKey may make in any window, None for no limit.
        quota_window: seconds.
        url: the platform's own base URL; the returnUrl of a trade begins with it.
        merchants: the sub-merchants, (id, name) each.
        notify: takes the callbacks to send: for the end of each order, and for each refund.
        apps: the appKeys. Set `valid` or `addresses` of one to see it refused.
        trades: orders by outTradeNo. If several appKeys use one number, the first appKey's.
        refunds: refunds by their own outTradeNo; the same holds for them.
        prepays: by prepayId.
        ledger: what was executed, in order.
        last_number: how many numbers the platform has given.
        changes: how often any of this changed.
    """

    clock: Callable[[], float]
    token: Callable[[], str] = field(repr=False)
    quota: int | None = 400
    quota_window: float = 60.0
    url: str = ""
    merchants: Sequence[tuple[str, str]] = field(factory=make_merchants, repr=False)
    notify: Callable[[Callback], None] = field(default=_ignore_callback, repr=False)
    advance_by: float = field(init=False, default=0.0)
    apps: dict[str, App] = field(init=False, factory=dict[str, App])
    trades: ChainMap[str, Trade] = field(init=False, factory=ChainMap[str, Trade], repr=False)
    refunds: ChainMap[str, Refund] = field(init=False, factory=ChainMap[str, Refund], repr=False)
    prepays: dict[str, Prepay] = field(init=False, factory=dict[str, Prepay], repr=False)
    ledger: list[LedgerEntry] = field(init=False, factory=list[LedgerEntry], repr=False)
    last_number: int = field(init=False, default=0, repr=False)
    changes: int = field(init=False, default=0, repr=False)
    _accounts: dict[str, MerchantAccount] = field(
        init=False, factory=dict[str, MerchantAccount], repr=False
    )

    def add_app(
        self,
        app_key: str,
        *,
        app_secret: str,
        merchant_public_key: KeyData | None = None,
        notify_url: str | None = None,
        notify_remote: bool = False,
        callback_scheme: Scheme | None = None,
    ) -> App:
        """Register an appKey; for the last three arguments see `App`.

        Raises:
            InvalidRequestError: the appKey is registered already, the key or the secret is empty,
                or `notify_url` is not allowed.
            InvalidKeyError: the public key cannot be used.
        """
        if not app_key or app_key in self.apps:
            raise InvalidRequestError("is empty or taken", field="appKey", allowed="a new appKey")
        app = App(
            app_key=app_key,
            app_secret=app_secret,
            rsa=RsaVerifier.from_pem(merchant_public_key) if merchant_public_key else None,
            quota=self.quota,
            quota_window=self.quota_window,
            notify_url=notify_url,
            notify_remote=notify_remote,
            callback_scheme=callback_scheme,
        )
        self.apps[app_key] = app
        account = self._accounts[app_key] = MerchantAccount()
        self.trades.maps.append(account.trades)
        self.refunds.maps.append(account.refunds)
        return app

    def iter_orders(self) -> Iterator[Trade]:
        """Yield every order, the latest first."""
        newest = (reversed(account.trades.values()) for account in self._accounts.values())
        return merge(*newest, key=lambda trade: trade.purchase.created_at, reverse=True)

    def find_entries(self, request_id: str) -> tuple[LedgerEntry, ...]:
        """Return what a requestId did: one entry for each appKey that used it."""
        found = (account.entries.get(request_id) for account in self._accounts.values())
        return tuple(entry for entry in found if entry)

    def find_account(self, app_key: str) -> MerchantAccount:
        """Return what is kept for an appKey: an empty account if it is unknown."""
        return self._accounts.get(app_key) or MerchantAccount()

    def iter_accounts(self) -> Iterator[MerchantAccount]:
        """Yield what is kept for each appKey."""
        yield from self._accounts.values()

    def find_purchase(self, out_trade_no: str, app_key: str | None) -> Purchase:
        """Return the purchase of an order.

        Args:
            out_trade_no: the order's number.
            app_key: the merchant's; None for the first one that used the number.

        Raises:
            InvalidRequestError: there is no such order.
        """
        account = self if app_key is None else self.find_account(app_key)
        return _require_order(account.trades.get(out_trade_no)).purchase

    def now(self) -> float:
        """Return the time by which orders and prepays expire, in seconds since the epoch."""
        return self.clock() + self.advance_by

    def advance(self, seconds: float) -> None:
        """Let orders and prepays become older, and close those whose time is over.

        Requests and callbacks are fresh by `clock` as before.

        Raises:
            ValueError: negative or not finite.
        """
        if not 0.0 <= seconds < math.inf:
            raise ValueError("seconds are 0 or more")
        self.advance_by += seconds
        self.changes += 1
        self.close_due_orders()

    def close_due_orders(self) -> None:
        """Close the orders whose time is over, so that their merchants get callbacks."""
        for account in self._accounts.values():
            for purchase in account.purchases.values():
                _ = purchase.status  # reading it closes the order

    def build_callback(self, out_trade_no: str, *, app_key: str | None = None) -> Callback:
        """Return the callback about an order or a refund, as its status is now.

        Args:
            out_trade_no: the number of either.
            app_key: the merchant's; None for the first one that used the number.

        Raises:
            InvalidRequestError: there is no such order.
        """
        account = self if app_key is None else self.find_account(app_key)
        refund = account.refunds.get(out_trade_no)
        if refund is not None and out_trade_no not in account.trades:
            return build_refund_callback(refund)
        return build_trade_callback(_require_order(account.trades.get(out_trade_no)))

    def notify_end(self, purchase: Purchase) -> None:
        """Send the callbacks about the end of a purchase, one for each of its orders."""
        self.changes += 1
        for trade in purchase.trades:
            self.notify(build_trade_callback(trade))

    def give_number(self) -> str:
        """Return a new number of the platform."""
        self.last_number += 1
        return f"{to_china_time(self.now()):%Y%m%d}{self.last_number:08d}"

    def record(
        self,
        kind: str,
        app_key: str,
        *,
        amount: Decimal,
        numbers: Iterable[str],
        request_id: str = "",
    ) -> None:
        """Add to the ledger that something was executed."""
        entry = LedgerEntry(
            kind=kind,
            app_key=app_key,
            request_id=request_id,
            out_trade_nos=tuple(numbers),
            amount=amount,
            at=self.now(),
        )
        self.ledger.append(entry)
        self.changes += 1
        if request_id:
            self._accounts[app_key].entries[request_id] = entry


def _require_order(found: Trade | None) -> Trade:
    if found is None:
        raise InvalidRequestError(
            "there is no such order", field="outTradeNo", allowed="an order of the sandbox"
        )
    return found

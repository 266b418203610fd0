"""Simulate the platform: answer calls with its envelope, and act as the payer. No I/O.

Time, chance and the signature of prepays are passed in, so that tests control each second. The
ledger lists in order what was executed. Each action of the payer is a method.
"""

from __future__ import annotations

import json
import math
from collections import ChainMap, Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from heapq import merge
from typing import Final, cast

from attrs import define, field, frozen

from wxpay_async.errors import InvalidRequestError, PrepayExpiredError
from wxpay_async.protocol.keys import KeyData
from wxpay_async.protocol.signing import RsaVerifier
from wxpay_async.sandbox.auth import App, IncomingRequest, Scheme, read_params
from wxpay_async.sandbox.callback_payloads import (
    Callback,
    build_refund_callback,
    build_trade_callback,
    to_china_time,
)
from wxpay_async.sandbox.error_codes import Code, MalformedError, RefusalError, ReplayedError
from wxpay_async.sandbox.prepays import PrepayIssuer
from wxpay_async.sandbox.request_parsing import (
    TradeContent,
    read_biz_content,
    read_pay,
    read_positive,
    read_refund,
    read_trade,
)
from wxpay_async.sandbox.responses import (
    Reply,
    build_failure,
    build_merchant_page,
    build_order_status,
    build_success,
    build_trade_rows,
)
from wxpay_async.sandbox.state import (
    LedgerEntry,
    MerchantAccount,
    Prepay,
    Purchase,
    PurchaseEvent,
    Refund,
    Status,
    Trade,
)

Params = Mapping[str, str]
Operation = Callable[[str, Params], Reply]
Observer = Callable[[IncomingRequest, Params, RefusalError | None], None]
_RECENT: Final = 256


def make_merchants(count: int = 37) -> list[tuple[str, str]]:
    """Make up sub-merchants, (id, name) each."""
    return [(str(number), f"商户 {number}") for number in range(1000, 1000 + count)]


def _ignore_callback(callback: Callback) -> None:
    """Send nothing."""


def _ignore_call(request: IncomingRequest, params: Params, error: RefusalError | None) -> None:
    """Keep nothing."""


@frozen
class _InjectedError:
    code: str
    executed: bool


@define(kw_only=True, eq=False)
class Platform:
    """A platform with its merchants, orders and ledger.

    Attributes:
        clock: seconds since the epoch. Requests and callbacks are fresh or stale by it.
        advance_by: seconds by which orders and prepays are older than by the clock.
        token: returns unguessable text, at most 32 characters, never the same twice.
        sign_pay: signs a prepay, in Base64.
        quota: calls that a new appKey may make in any window, None for no limit.
        quota_window: seconds.
        url: the platform's own base URL; the returnUrl of a trade begins with it.
        merchants: the sub-merchants, (id, name) each.
        notify: takes the callbacks to send: for the end of each order, and for each refund.
        observe: told of each call after it was answered: the request, its parameters as far as
            they could be read, and why it was refused.
        apps: the appKeys. Set `valid` or `addresses` of one to see it refused.
        trades: orders by outTradeNo. If several appKeys use one number, the first appKey's.
        refunds: refunds by their own outTradeNo; the same holds for them.
        prepays: by prepayId.
        ledger: what was executed, in order.
        calls: how many calls arrived, by path.
        replies: how many replies were sent, by errorCode; the empty code is success.
        recent: the last 256 calls as they arrived, including refused ones.
        operations: the endpoints, by path.
    """

    clock: Callable[[], float]
    token: Callable[[], str] = field(repr=False)
    sign_pay: Callable[[bytes], str] = field(repr=False)
    quota: int | None = 400
    quota_window: float = 60.0
    url: str = ""
    merchants: Sequence[tuple[str, str]] = field(factory=make_merchants, repr=False)
    notify: Callable[[Callback], None] = field(default=_ignore_callback, repr=False)
    observe: Observer = field(default=_ignore_call, repr=False)
    advance_by: float = field(init=False, default=0.0)
    apps: dict[str, App] = field(init=False, factory=dict[str, App])
    trades: ChainMap[str, Trade] = field(init=False, factory=ChainMap[str, Trade], repr=False)
    refunds: ChainMap[str, Refund] = field(init=False, factory=ChainMap[str, Refund], repr=False)
    prepays: dict[str, Prepay] = field(init=False, factory=dict[str, Prepay], repr=False)
    ledger: list[LedgerEntry] = field(init=False, factory=list[LedgerEntry], repr=False)
    calls: Counter[str] = field(init=False, factory=Counter[str])
    replies: Counter[str] = field(init=False, factory=Counter[str])
    recent: deque[IncomingRequest] = field(
        init=False, factory=lambda: deque[IncomingRequest](maxlen=_RECENT), repr=False
    )
    _accounts: dict[str, MerchantAccount] = field(
        init=False, factory=dict[str, MerchantAccount], repr=False
    )
    _errors: deque[_InjectedError] = field(init=False, factory=deque[_InjectedError], repr=False)
    _last_number: int = field(init=False, default=0, repr=False)
    operations: Mapping[str, Operation] = field(init=False, repr=False)
    _prepays: PrepayIssuer = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._prepays = PrepayIssuer(
            now=self.now, token=self.token, sign=self.sign_pay, issued=self.prepays
        )
        self.operations = {
            "/api/instant/trade": self._create_trade,
            "/api/instant/pay/wxminiprogram": self._pay,
            "/api/instant/query": self._query,
            "/api/instant/refund": self._refund,
            "/api/company/merchants": self._list_merchants,
        }

    # Set-up, and what a test may ask

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

    def fail_next(self, code: str, *, executed: bool = False) -> None:
        """Answer the next call with an error; several queue up, one for each call.

        A call that fails a check of the envelope does not use up an error.

        Args:
            code: the errorCode; CO_MSG_000002 and CO_MSG_000003 are those that leave doubt.
            executed: whether the call is executed nevertheless.
        """
        self._errors.append(_InjectedError(code, executed))

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

    # The payer

    def confirm(self, out_trade_no: str, *, app_key: str | None = None) -> Status:
        """Let the payer confirm: every trade of the purchase is paid, once.

        Returns:
            The status afterwards. A purchase that has ended stays as it is.

        Raises:
            InvalidRequestError: there is no such order.
            PrepayExpiredError: every prepay is over 20 minutes old, and there is no code to scan.
        """
        purchase = self._find_purchase(out_trade_no, app_key)
        if purchase.status is Status.AWAITING and not purchase.can_be_paid():
            raise PrepayExpiredError("every prepay of the order has expired; pay again first")
        if purchase.apply(PurchaseEvent.CONFIRM):
            for trade in purchase.trades:
                number = [trade.out_trade_no]
                self._record("charge", purchase.app_key, amount=trade.amount, numbers=number)
        return purchase.status

    def cancel(self, out_trade_no: str, *, app_key: str | None = None, reason: str = "") -> Status:
        """Let the payer decline: an order that awaits payment fails. Raises as `confirm` does.

        Args:
            out_trade_no: the order's number.
            app_key: the merchant's; None for the first one that used the number.
            reason: the failReason of its callback; that the payer cancelled when empty.
        """
        purchase = self._find_purchase(out_trade_no, app_key)
        if purchase.status is Status.AWAITING:
            purchase.fail_reason = reason
        return self._end_purchase(out_trade_no, app_key, PurchaseEvent.CANCEL)

    def expire(self, out_trade_no: str, *, app_key: str | None = None) -> Status:
        """Let the time run out: an order that awaits payment closes. Raises as `confirm` does."""
        return self._end_purchase(out_trade_no, app_key, PurchaseEvent.EXPIRE)

    def _end_purchase(self, out_trade_no: str, app_key: str | None, event: PurchaseEvent) -> Status:
        purchase = self._find_purchase(out_trade_no, app_key)
        purchase.apply(event)
        return purchase.status

    def _find_purchase(self, out_trade_no: str, app_key: str | None) -> Purchase:
        account = self if app_key is None else self.find_account(app_key)
        return _require_order(account.trades.get(out_trade_no)).purchase

    # The calls

    def answer(self, request: IncomingRequest) -> Reply:
        """Answer a call to one of `operations` with the platform's envelope."""
        self.calls[request.path] += 1
        self.recent.append(request)
        params: Params = {}
        try:
            params = read_params(request)
            data = self._perform(request, params)
        except RefusalError as error:
            self.replies[error.code] += 1
            self.observe(request, params, error)
            return build_failure(error)
        self.replies[""] += 1
        self.observe(request, params, None)
        return build_success(data)

    def _perform(self, request: IncomingRequest, params: Params) -> Reply:
        app = self.apps.get(params["appKey"])
        if app is None:
            raise RefusalError(Code.APP_UNKNOWN)
        try:
            app.admit(params, address=request.address, now=self.clock())
        except ReplayedError:
            # A copy of an executed request is refused as a repeated requestId: the code of a
            # malformed request means "not executed". No page documents a code for a used nonce.
            if self._was_executed(app.app_key, params):
                raise RefusalError(Code.REQUEST_ID_REPEATED) from None
            raise
        injected = self._errors.popleft() if self._errors else None
        if injected and not injected.executed:
            raise RefusalError(injected.code)
        data = self.operations[request.path](app.app_key, params)
        if injected:
            raise RefusalError(injected.code)
        return data

    def _was_executed(self, app_key: str, params: Params) -> bool:
        try:
            content = json.loads(params.get("bizContent", ""))
        except ValueError:
            return False
        fields = cast("dict[str, object]", content) if isinstance(content, dict) else {}
        request_id = fields.get("requestId")
        return isinstance(request_id, str) and request_id in self._accounts[app_key].entries

    def _create_trade(self, app_key: str, params: Params) -> Reply:
        content = read_trade(read_biz_content(params))
        account = self._accounts[app_key]
        numbers = [item.out_trade_no for item in content.items]
        account.check_unused(content.request_id, *numbers)
        purchase = self._create_purchase(app_key, content)
        account.add_purchase(purchase)
        self._record(
            "trade", app_key, amount=content.amount, numbers=numbers, request_id=content.request_id
        )
        return {
            "requestId": content.request_id,
            "payToken": purchase.pay_token,
            "returnUrl": f"{self.url}/sandbox",
            "instAmount": str(content.amount),
            "tradeResList": build_trade_rows(purchase.trades),
            **(self._prepays.issue(purchase, content.app_id) if content.jsapi else {}),
        }

    def _create_purchase(self, app_key: str, content: TradeContent) -> Purchase:
        purchase = Purchase(
            app_key=app_key,
            pay_token=self.token(),
            amount=content.amount,
            closes_at=None if content.timeout is None else self.now() + content.timeout,
            scannable=not content.jsapi,
            clock=self.now,
            on_change=self._notify_end,
            created_at=self.now(),
        )
        purchase.trades.extend(
            Trade(item=item, trade_no=self._next_number(), purchase=purchase)
            for item in content.items
        )
        return purchase

    def _pay(self, app_key: str, params: Params) -> Reply:
        content = read_pay(read_biz_content(params))
        account = self._accounts[app_key]
        account.check_unused(content.request_id)
        purchase = account.find_purchase(content.pay_token)
        purchase.apply(PurchaseEvent.PREPAY)
        numbers = [trade.out_trade_no for trade in purchase.trades]
        self._record(
            "pay", app_key, amount=purchase.amount, numbers=numbers, request_id=content.request_id
        )
        return {
            "requestId": content.request_id,
            **self._prepays.issue(purchase, content.app_id),
            "instAmount": str(purchase.amount),
            "tradeResList": build_trade_rows(purchase.trades),
        }

    def _query(self, app_key: str, params: Params) -> Reply:
        """Return the status of an order, or of a refund by its own number.

        The pages document the query of orders only. The query of refunds is our assumption:
        otherwise a merchant could not find out what became of a refund whose reply was lost.
        """
        out_trade_no, trade_no = params.get("outTradeNo", ""), params.get("tradeNo", "")
        if bool(out_trade_no) == bool(trade_no):
            raise MalformedError("outTradeNo", "or tradeNo is required, one of the two")
        account = self._accounts[app_key]
        return build_order_status(account.find_order(out_trade_no=out_trade_no, trade_no=trade_no))

    def _refund(self, app_key: str, params: Params) -> Reply:
        content = read_refund(read_biz_content(params))
        account = self._accounts[app_key]
        account.check_unused(content.request_id, content.out_trade_no)
        trade = account.find_trade(content.orig_out_trade_no)
        item = trade.refund(content.out_trade_no, content.amount)
        refund = Refund(item=item, trade_no=self._next_number(), trade=trade, at=self.now())
        account.add_refund(refund)
        numbers = [refund.out_trade_no]
        self._record(
            "refund", app_key, amount=content.amount, numbers=numbers, request_id=content.request_id
        )
        self.notify(build_refund_callback(refund))
        return {
            "requestId": content.request_id,
            "outTradeNo": refund.out_trade_no,
            "tradeNo": refund.trade_no,
            "status": "S",
        }

    def _list_merchants(self, app_key: str, params: Params) -> Reply:
        del app_key  # every appKey of the sandbox has the same sub-merchants
        size = read_positive(params, "pageSize", default=10)
        page = read_positive(params, "currentPage", default=1)
        return build_merchant_page(self.merchants, size, page)

    def _notify_end(self, purchase: Purchase) -> None:
        for trade in purchase.trades:
            self.notify(build_trade_callback(trade))

    def _next_number(self) -> str:
        self._last_number += 1
        return f"{to_china_time(self.now()):%Y%m%d}{self._last_number:08d}"

    def _record(
        self,
        kind: str,
        app_key: str,
        *,
        amount: Decimal,
        numbers: Iterable[str],
        request_id: str = "",
    ) -> None:
        entry = LedgerEntry(
            kind=kind,
            app_key=app_key,
            request_id=request_id,
            out_trade_nos=tuple(numbers),
            amount=amount,
            at=self.now(),
        )
        self.ledger.append(entry)
        if request_id:
            self._accounts[app_key].entries[request_id] = entry


def _require_order(found: Trade | None) -> Trade:
    if found is None:
        raise InvalidRequestError(
            "there is no such order", field="outTradeNo", allowed="an order of the sandbox"
        )
    return found

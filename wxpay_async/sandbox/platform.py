"""The platform as one object: a call goes in, the envelope comes out. No I/O.

Time, chance and the signature of prepays are passed in, so everything here can be driven to the
second. What was executed stands in the ledger, in order; what the payer does is a method.
"""

from __future__ import annotations

import json
from collections import ChainMap, Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from typing import Final, cast

from attrs import define, field, frozen

from wxpay_async.errors import InvalidRequestError, PrepayExpiredError
from wxpay_async.protocol.keys import KeyData
from wxpay_async.protocol.signing import RsaVerifier
from wxpay_async.sandbox.auth import App, Call, Scheme, read_params
from wxpay_async.sandbox.callback_payloads import Notice, refund_notice, trade_notice
from wxpay_async.sandbox.error_codes import Code, RefusalError, ReplayedError, malformed
from wxpay_async.sandbox.request_parsing import TradeOrder, read_pay, read_refund, read_trade
from wxpay_async.sandbox.responses import (
    Reply,
    failure,
    merchant_page,
    success,
    trade_rows,
    trade_status,
)
from wxpay_async.sandbox.state import Books, Entry, Event, Prepay, Purchase, Refund, Status, Trade

PREPAY_LIFE: Final = 1200
"""Seconds that a prepay lives (the mini-program pay page)."""

PLATFORM_APP_ID: Final = "wx5a4db0c0de000001"
"""The mini program of a prepay whose request names none."""

Params = Mapping[str, str]
Operation = Callable[[str, Params], Reply]
_RECENT: Final = 256
_CHINA: Final = timezone(timedelta(hours=8))
_MAX_PAGE_DIGITS: Final = 6


def sample_merchants(count: int = 37) -> list[tuple[str, str]]:
    """Make up sub-merchants, (id, name) each."""
    return [(str(number), f"商户 {number}") for number in range(1000, 1000 + count)]


def _keep_quiet(notice: Notice) -> None:
    """Tell nobody."""


@frozen
class _Fault:
    code: str
    executed: bool


@define(kw_only=True, eq=False)
class Platform:
    """A platform with its merchants, orders and ledger.

    Attributes:
        clock: seconds since the epoch.
        token: gives unguessable text, at most 32 characters, never the same twice.
        sign_pay: signs a prepay, in Base64.
        quota: calls that a new appKey may make in any window, None for no limit.
        quota_window: seconds.
        url: where it is reached; the returnUrl of a trade begins with it.
        merchants: the sub-merchants, (id, name) each.
        tell: takes what a merchant shall be told: each trade's end, and each refund.
        apps: the appKeys. Set `valid` or `addresses` of one to see it refused.
        trades: orders by outTradeNo; of several appKeys with one number, the first appKey's.
        refunds: refunds by their own outTradeNo, likewise.
        prepays: by prepayId.
        ledger: what was executed, in order.
        calls: how many calls arrived, by path.
        replies: how many replies went out, by errorCode; the empty code is success.
        recent: the last 256 calls as they arrived, refused ones included.
        operations: the endpoints, by path.
    """

    clock: Callable[[], float]
    token: Callable[[], str] = field(repr=False)
    sign_pay: Callable[[bytes], str] = field(repr=False)
    quota: int | None = 400
    quota_window: float = 60.0
    url: str = ""
    merchants: Sequence[tuple[str, str]] = field(factory=sample_merchants, repr=False)
    tell: Callable[[Notice], None] = field(default=_keep_quiet, repr=False)
    apps: dict[str, App] = field(init=False, factory=dict[str, App])
    trades: ChainMap[str, Trade] = field(init=False, factory=ChainMap[str, Trade], repr=False)
    refunds: ChainMap[str, Refund] = field(init=False, factory=ChainMap[str, Refund], repr=False)
    prepays: dict[str, Prepay] = field(init=False, factory=dict[str, Prepay], repr=False)
    ledger: list[Entry] = field(init=False, factory=list[Entry], repr=False)
    calls: Counter[str] = field(init=False, factory=Counter[str])
    replies: Counter[str] = field(init=False, factory=Counter[str])
    recent: deque[Call] = field(init=False, factory=lambda: deque[Call](maxlen=_RECENT), repr=False)
    _books: dict[str, Books] = field(init=False, factory=dict[str, Books], repr=False)
    _faults: deque[_Fault] = field(init=False, factory=deque[_Fault], repr=False)
    _numbered: int = field(init=False, default=0, repr=False)
    operations: Mapping[str, Operation] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self.operations = {
            "/api/instant/trade": self._trade,
            "/api/instant/pay/wxminiprogram": self._pay,
            "/api/instant/query": self._query,
            "/api/instant/refund": self._refund,
            "/api/company/merchants": self._merchants,
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
        """Register an appKey; the last three arguments are explained by `App`.

        Raises:
            InvalidRequestError: it is registered already, the key or the secret is empty, or the
                address for callbacks does not fit.
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
        books = self._books[app_key] = Books()
        self.trades.maps.append(books.trades)
        self.refunds.maps.append(books.refunds)
        return app

    def fail_next(self, code: str, *, executed: bool = False) -> None:
        """Answer one of the next calls with an error; several queue up, one for each call.

        It strikes a call that has passed every check of the envelope.

        Args:
            code: the errorCode, CO_MSG_000002 and CO_MSG_000003 being those that leave doubt.
            executed: whether the call is executed before it is answered so.
        """
        self._faults.append(_Fault(code, executed))

    def orders(self) -> Iterator[Trade]:
        """Yield every order, the latest of each appKey first."""
        for books in self._books.values():
            yield from reversed(books.trades.values())

    def executed(self, request_id: str) -> tuple[Entry, ...]:
        """Return what a requestId did: one entry, for each appKey that used it."""
        found = (books.executed.get(request_id) for books in self._books.values())
        return tuple(entry for entry in found if entry)

    # The payer

    def confirm(self, out_trade_no: str, *, app_key: str | None = None) -> Status:
        """Let the payer confirm: every trade of the purchase is paid, once.

        Returns:
            The status afterwards. A purchase that has ended stays as it is.

        Raises:
            InvalidRequestError: there is no such order.
            PrepayExpiredError: each prepay is over 20 minutes old, and there is no code to scan.
        """
        purchase = self._purchase_of(out_trade_no, app_key)
        if purchase.status is Status.AWAITING and not purchase.payable():
            raise PrepayExpiredError("every prepay of the order has expired; pay again first")
        if purchase.apply(Event.CONFIRM):
            for trade in purchase.trades:
                number = [trade.out_trade_no]
                self._enter("charge", purchase.app_key, amount=trade.amount, numbers=number)
        return purchase.status

    def cancel(self, out_trade_no: str, *, app_key: str | None = None) -> Status:
        """Let the payer decline: what awaits payment has failed. Raises as `confirm` does."""
        return self._end(out_trade_no, app_key, Event.CANCEL)

    def expire(self, out_trade_no: str, *, app_key: str | None = None) -> Status:
        """Let the time run out: what awaits payment is closed. Raises as `confirm` does."""
        return self._end(out_trade_no, app_key, Event.EXPIRE)

    def _end(self, out_trade_no: str, app_key: str | None, event: Event) -> Status:
        purchase = self._purchase_of(out_trade_no, app_key)
        purchase.apply(event)
        return purchase.status

    def _purchase_of(self, out_trade_no: str, app_key: str | None) -> Purchase:
        trades = self.trades if app_key is None else self._books.get(app_key, Books()).trades
        trade = trades.get(out_trade_no)
        if trade is None:
            raise InvalidRequestError(
                "there is no such order", field="outTradeNo", allowed="an order of the sandbox"
            )
        return trade.purchase

    # The calls

    def answer(self, call: Call) -> Reply:
        """Answer a call to one of `operations` with the platform's envelope."""
        self.calls[call.path] += 1
        self.recent.append(call)
        try:
            data = self._perform(call)
        except RefusalError as error:
            self.replies[error.code] += 1
            return failure(error)
        self.replies[""] += 1
        return success(data)

    def _perform(self, call: Call) -> Reply:
        params = read_params(call)
        app = self.apps.get(params["appKey"])
        if app is None:
            raise RefusalError(Code.APP_UNKNOWN)
        try:
            app.admit(params, address=call.address, now=self.clock())
        except ReplayedError:
            # A copy of what was executed is answered as what it is: no documented code says "not
            # executed" of a requestId that was, and none at all is documented for a used nonce.
            if self._executed(app.app_key, params):
                raise RefusalError(Code.REQUEST_ID_REPEATED) from None
            raise
        fault = self._faults.popleft() if self._faults else None
        if fault and not fault.executed:
            raise RefusalError(fault.code)
        data = self.operations[call.path](app.app_key, params)
        if fault:
            raise RefusalError(fault.code)
        return data

    def _executed(self, app_key: str, params: Params) -> bool:
        try:
            content = json.loads(params.get("bizContent", ""))
        except ValueError:
            return False
        known = cast("dict[str, object]", content) if isinstance(content, dict) else {}
        name = known.get("requestId")
        return isinstance(name, str) and name in self._books[app_key].executed

    def _trade(self, app_key: str, params: Params) -> Reply:
        order = read_trade(_biz_content(params))
        books = self._books[app_key]
        numbers = [item.out_trade_no for item in order.items]
        books.check_new(order.request_id, *numbers)
        purchase = self._open(app_key, order)
        books.purchases[purchase.pay_token] = purchase
        for trade in purchase.trades:
            books.trades[trade.out_trade_no] = books.numbers[trade.trade_no] = trade
        self._enter(
            "trade", app_key, amount=order.amount, numbers=numbers, request_id=order.request_id
        )
        return {
            "requestId": order.request_id,
            "payToken": purchase.pay_token,
            "returnUrl": f"{self.url}/sandbox",
            "instAmount": str(order.amount),
            "tradeResList": trade_rows(purchase.trades),
            **(self._prepay(purchase, order.app_id) if order.jsapi else {}),
        }

    def _open(self, app_key: str, order: TradeOrder) -> Purchase:
        purchase = Purchase(
            app_key=app_key,
            pay_token=self.token(),
            amount=order.amount,
            closes_at=None if order.timeout is None else self.clock() + order.timeout,
            scannable=not order.jsapi,
            clock=self.clock,
            changed=self._tell_end,
        )
        purchase.trades.extend(
            Trade(item=item, trade_no=self._number(), purchase=purchase) for item in order.items
        )
        return purchase

    def _pay(self, app_key: str, params: Params) -> Reply:
        order = read_pay(_biz_content(params))
        books = self._books[app_key]
        books.check_new(order.request_id)
        purchase = books.purchase(order.pay_token)
        purchase.apply(Event.PREPAY)
        numbers = [trade.out_trade_no for trade in purchase.trades]
        self._enter(
            "pay", app_key, amount=purchase.amount, numbers=numbers, request_id=order.request_id
        )
        return {
            "requestId": order.request_id,
            **self._prepay(purchase, order.app_id),
            "instAmount": str(purchase.amount),
            "tradeResList": trade_rows(purchase.trades),
        }

    def _prepay(self, purchase: Purchase, app_id: str) -> Reply:
        now = self.clock()
        prepay = Prepay(
            prepay_id=f"wx{self.token()}",
            app_id=app_id or PLATFORM_APP_ID,
            expires_at=now + PREPAY_LIFE,
        )
        purchase.prepays.append(prepay)
        self.prepays[prepay.prepay_id] = prepay
        stamp, nonce, package = str(int(now)), self.token(), f"prepay_id={prepay.prepay_id}"
        return {
            "appId": prepay.app_id,
            "timeStamp": stamp,
            "nonceStr": nonce,
            "prepayId": prepay.prepay_id,
            "extPackage": package,
            "signType": "RSA",
            "paySign": self.sign_pay(f"{prepay.app_id}\n{stamp}\n{nonce}\n{package}\n".encode()),
        }

    def _query(self, app_key: str, params: Params) -> Reply:
        """Answer for an order, or for a refund by its own number, which is an assumption of ours.

        The pages document the query of orders only; but a refund whose answer got lost could not
        be found out otherwise.
        """
        out_trade_no, trade_no = params.get("outTradeNo", ""), params.get("tradeNo", "")
        if bool(out_trade_no) == bool(trade_no):
            raise malformed("outTradeNo", "or tradeNo is required, one of the two")
        found = self._books[app_key].find(out_trade_no=out_trade_no, trade_no=trade_no)
        return trade_status(found)

    def _refund(self, app_key: str, params: Params) -> Reply:
        order = read_refund(_biz_content(params))
        books = self._books[app_key]
        books.check_new(order.request_id, order.out_trade_no)
        trade = books.trade(order.orig_out_trade_no)
        item = trade.refund(order.out_trade_no, order.amount)
        refund = Refund(item=item, trade_no=self._number(), trade=trade, at=self.clock())
        books.refunds[refund.out_trade_no] = books.numbers[refund.trade_no] = refund
        number = [refund.out_trade_no]
        self._enter(
            "refund", app_key, amount=order.amount, numbers=number, request_id=order.request_id
        )
        self.tell(refund_notice(refund))
        return {
            "requestId": order.request_id,
            "outTradeNo": refund.out_trade_no,
            "tradeNo": refund.trade_no,
            "status": "S",
        }

    def _merchants(self, app_key: str, params: Params) -> Reply:
        del app_key  # every appKey of the sandbox has the same sub-merchants
        size = _positive(params, "pageSize", default=10)
        return merchant_page(self.merchants, size, _positive(params, "currentPage", default=1))

    def _tell_end(self, purchase: Purchase) -> None:
        for trade in purchase.trades:
            self.tell(trade_notice(trade))

    def _number(self) -> str:
        self._numbered += 1
        day = datetime.fromtimestamp(self.clock(), UTC).astimezone(_CHINA)
        return f"{day:%Y%m%d}{self._numbered:08d}"

    def _enter(
        self,
        kind: str,
        app_key: str,
        *,
        amount: Decimal,
        numbers: Iterable[str],
        request_id: str = "",
    ) -> None:
        entry = Entry(
            kind=kind,
            app_key=app_key,
            request_id=request_id,
            out_trade_nos=tuple(numbers),
            amount=amount,
            at=self.clock(),
        )
        self.ledger.append(entry)
        if request_id:
            self._books[app_key].executed[request_id] = entry


def _biz_content(params: Params) -> str:
    content = params.get("bizContent")
    if not content:
        raise malformed("bizContent", "is missing or empty")
    return content


def _positive(params: Params, name: str, *, default: int) -> int:
    value = params.get(name) or str(default)
    well_formed = value.isascii() and value.isdigit() and len(value) <= _MAX_PAGE_DIGITS
    if not well_formed or int(value) < 1:
        raise malformed(name, "is not an integer above 0")
    return int(value)

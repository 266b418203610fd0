"""Execute the calls of merchants: trade, pay, query, refund, sub-merchants. No I/O."""

from __future__ import annotations

from collections.abc import Mapping

from attrs import define, field

from wxpay_async.sandbox.callback_payloads import build_refund_callback
from wxpay_async.sandbox.error_codes import Code, MalformedError, RefusalError
from wxpay_async.sandbox.fault_kinds import Operation
from wxpay_async.sandbox.platform_state import PlatformState
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
    build_merchant_page,
    build_order_status,
    build_trade_rows,
)
from wxpay_async.sandbox.state import Purchase, PurchaseEvent, Refund, Trade

Params = Mapping[str, str]


@define(kw_only=True, eq=False)
class Operations:
    """The calls that a platform takes.

    Attributes:
        state: what the platform knows.
        prepays: issues prepays.
        other_payer_refused: whether a pay is refused whose openid is not that of its trade.
    """

    state: PlatformState = field(repr=False)
    prepays: PrepayIssuer = field(repr=False)
    other_payer_refused: bool = False

    def execute(self, operation: Operation, app_key: str, params: Params) -> Reply:
        """Execute a call of an admitted request.

        Returns:
            The data of the reply.

        Raises:
            RefusalError: it is not executed.
        """
        match operation:
            case "trade":
                return self._create_trade(app_key, params)
            case "pay":
                return self._pay(app_key, params)
            case "query":
                return self._query(app_key, params)
            case "refund":
                return self._refund(app_key, params)
            case "merchants":
                return self._list_merchants(params)

    def _create_trade(self, app_key: str, params: Params) -> Reply:
        content = read_trade(read_biz_content(params))
        account = self.state.find_account(app_key)
        numbers = [item.out_trade_no for item in content.items]
        account.check_unused(content.request_id, *numbers)
        purchase = self._create_purchase(app_key, content)
        account.add_purchase(purchase)
        self.state.record(
            "trade", app_key, amount=content.amount, numbers=numbers, request_id=content.request_id
        )
        return {
            "requestId": content.request_id,
            "payToken": purchase.pay_token,
            "returnUrl": f"{self.state.url}/sandbox",
            "instAmount": str(content.amount),
            "tradeResList": build_trade_rows(purchase.trades),
            **(self.prepays.issue(purchase, content.app_id) if content.jsapi else {}),
        }

    def _create_purchase(self, app_key: str, content: TradeContent) -> Purchase:
        state = self.state
        purchase = Purchase(
            app_key=app_key,
            pay_token=state.token(),
            amount=content.amount,
            closes_at=None if content.timeout is None else state.now() + content.timeout,
            scannable=not content.jsapi,
            openid=content.openid,
            clock=state.now,
            on_change=state.notify_end,
            created_at=state.now(),
        )
        purchase.trades.extend(
            Trade(item=item, trade_no=state.give_number(), purchase=purchase)
            for item in content.items
        )
        return purchase

    def _pay(self, app_key: str, params: Params) -> Reply:
        content = read_pay(read_biz_content(params))
        account = self.state.find_account(app_key)
        account.check_unused(content.request_id)
        purchase = account.find_purchase(content.pay_token)
        if self.other_payer_refused and purchase.openid not in ("", content.openid):
            raise RefusalError(Code.OTHER_PAYER)
        purchase.apply(PurchaseEvent.PREPAY)
        numbers = [trade.out_trade_no for trade in purchase.trades]
        self.state.record(
            "pay", app_key, amount=purchase.amount, numbers=numbers, request_id=content.request_id
        )
        return {
            "requestId": content.request_id,
            **self.prepays.issue(purchase, content.app_id),
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
        account = self.state.find_account(app_key)
        return build_order_status(account.find_order(out_trade_no=out_trade_no, trade_no=trade_no))

    def _refund(self, app_key: str, params: Params) -> Reply:
        state = self.state
        content = read_refund(read_biz_content(params))
        account = state.find_account(app_key)
        account.check_unused(content.request_id, content.out_trade_no)
        trade = account.find_trade(content.orig_out_trade_no)
        item = trade.refund(content.out_trade_no, content.amount)
        refund = Refund(item=item, trade_no=state.give_number(), trade=trade, at=state.now())
        account.add_refund(refund)
        numbers = [refund.out_trade_no]
        state.record(
            "refund", app_key, amount=content.amount, numbers=numbers, request_id=content.request_id
        )
        state.notify(build_refund_callback(refund))
        return {
            "requestId": content.request_id,
            "outTradeNo": refund.out_trade_no,
            "tradeNo": refund.trade_no,
            "status": "S",
        }

    def _list_merchants(self, params: Params) -> Reply:
        """List the sub-merchants: the same for every appKey of the sandbox."""
        size = read_positive(params, "pageSize", default=10)
        page = read_positive(params, "currentPage", default=1)
        return build_merchant_page(self.state.merchants, size, page)

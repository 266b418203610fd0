"""Create an order and its prepay in one call: `trade`, then `pay`."""

from __future__ import annotations

import functools

import attrs

from wxpay_async.engine.dispatcher import Dispatcher
from wxpay_async.errors import Fate, InDoubtError, MalformedResponseError, WxPayError
from wxpay_async.protocol.builder import PAY
from wxpay_async.protocol.idempotency_key import derive_request_id
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay
from wxpay_async.protocol.results import PayResult, TradeResult


def prepare_payment(
    trade: InstantTrade, *, app_key: str, openid: str, app_id: str
) -> MiniProgramPay:
    """Return the payment of an order, checked before the order is made; its payToken is to come."""
    return MiniProgramPay(
        request_id=derive_request_id(app_key, PAY.name, trade.request_id),
        pay_token="not-known-yet",  # noqa: S106 - no password
        terminal_payer_id=openid,
        app_id=app_id,
        out_trade_no=trade.trade_info[0].out_trade_no,
    )


async def checkout(
    dispatcher: Dispatcher,
    trade: InstantTrade,
    request: MiniProgramPay,
    *,
    timeout: float | None,
) -> PayResult:
    """Create the order and its prepay; see `PayGateway.checkout`.

    Args:
        dispatcher: carries both calls out.
        trade: the order.
        request: its payment, see `prepare_payment`.
        timeout: seconds for each of the two calls.
    """
    created = await dispatcher.execute(trade, TradeResult, timeout=timeout)
    if created.pay_token is None:
        raise _make_lost_token_error(trade)
    try:
        request = attrs.evolve(request, pay_token=created.pay_token)
        return await dispatcher.execute(request, PayResult, timeout=timeout)
    except WxPayError as error:
        if error.fate is not Fate.NOT_SENT:
            raise
        doubt = _make_half_done_error(trade, error)
        doubt.resolver = functools.partial(dispatcher.resolve, trade.request_id)
        raise doubt from error


def _make_lost_token_error(trade: InstantTrade) -> MalformedResponseError:
    # A second order at once would leave two orders of one purchase that can be paid.
    error = MalformedResponseError(
        f"order {trade.trade_info[0].out_trade_no} exists, but its payToken is lost and cannot be "
        "asked for; wait until a query says that it is closed, then make another order with a new "
        "outTradeNo and requestId",
        retryable=False,
    )
    error.request_id = trade.request_id
    return error


def _make_half_done_error(trade: InstantTrade, error: WxPayError) -> InDoubtError:
    # True of the second call alone, "not sent" would deny the order that the first one made.
    doubt = InDoubtError(
        f"order {trade.trade_info[0].out_trade_no} is made, its prepay was not asked for: "
        f"{error.reason}; call again with the same trade",
        retryable=error.retryable,
    )
    doubt.request_id, doubt.attempts = trade.request_id, error.attempts
    return doubt

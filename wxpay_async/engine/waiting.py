"""Waiting for a person to pay: the same question again and again, until it has an answer."""

from __future__ import annotations

import math
from typing import Final

from wxpay_async.engine.dispatcher import Dispatcher
from wxpay_async.errors import InDoubtError, InvalidRequestError, NotPaidError, WxPayError
from wxpay_async.protocol.requests import TradeQuery
from wxpay_async.protocol.results import TradeState, TradeStatus

_WAS_PAID: Final = frozenset(
    {TradeState.PAID, TradeState.REFUNDING, TradeState.REFUNDED, TradeState.REFUND_FAILED}
)
"""Only what was paid can be given back."""

_OVER: Final = frozenset({TradeState.FAILED, TradeState.CLOSED})


async def wait_until_paid(
    dispatcher: Dispatcher, out_trade_no: str, *, timeout: float, every: float
) -> TradeStatus:
    """Query until the order was paid; see `PayGateway.wait_paid`."""
    _check_seconds("timeout", timeout)
    _check_seconds("every", every)
    query = TradeQuery(out_trade_no=out_trade_no)
    clock = dispatcher.wiring.clock
    deadline = clock.monotonic() + timeout
    last = "no query was answered"
    while True:
        left = dispatcher.at_most(deadline - clock.monotonic())
        try:
            status = await dispatcher.query(query, timeout=left)
        except WxPayError as error:
            if not error.retryable:
                raise
        else:
            if status.state in _WAS_PAID:
                return status
            if status.state in _OVER:
                raise NotPaidError(f"order {out_trade_no} ended as {status.status:.64}")
            last = f"the last query said {status.status:.64}"
        if clock.monotonic() + every > deadline:
            raise InDoubtError(f"order {out_trade_no} is not paid yet and still can be; {last}")
        await clock.sleep(every)


def _check_seconds(name: str, seconds: object) -> None:
    if not (isinstance(seconds, int | float) and 0 <= seconds < math.inf):
        raise InvalidRequestError(
            f"{seconds!r:.24} is no time to wait", field=name, allowed="seconds, 0 or above"
        )

"""Make outcomes of the lines of a batch."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import attrs

from tests.support import asking
from tests.support.canaries import PLANTED_PREPAY, PLANTED_SIGN
from wxpay_async.batch.line import BatchRequest, Line
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import WxPayError
from wxpay_async.protocol.results import PayResult, RefundResult, TradeRef

NOON = datetime(2026, 11, 27, 4, 0, tzinfo=UTC)
"""Noon in China."""


def line(number: int, request: BatchRequest | None = None) -> Line:
    """Make a line; a refund, unless it says otherwise."""
    if request is None:
        request = asking.refund(f"refund-{number}", out_trade_no=f"R-{number}")
    return Line(number=number, request=request)


def ended(
    number: int,
    end: object,
    *,
    request: BatchRequest | None = None,
    settled: float | None = None,
    took: float = 1.0,
) -> Outcome[Line, Any]:
    """Make an outcome of a result, of an error, or of None for what is open.

    Args:
        number: the line's.
        end: the result or the error.
        request: what was asked; a refund when absent.
        settled: seconds after `NOON`; None where no store was read.
        took: seconds before that.
    """
    asked = line(number, request)
    if end is None:
        return Outcome(kind="open", request=asked)
    if isinstance(end, WxPayError):
        outcome = Outcome[Line, Any].from_error(asked, end)
    else:
        outcome = Outcome[Line, Any].from_result(asked, end)
    if settled is None:
        return outcome
    moment = NOON + timedelta(seconds=settled)
    return attrs.evolve(outcome, reserved_at=moment - timedelta(seconds=took), settled_at=moment)


def refunded(number: int = 1, status: str = "S", **changes: Any) -> RefundResult:  # noqa: ANN401 - fields
    """Make the result of a refund."""
    return RefundResult(
        out_trade_no=f"R-{number}", status=status, trade_no=f"T-{number}", **changes
    )


def prepaid(**changes: Any) -> PayResult:  # noqa: ANN401 - fields
    """Make the result of a payment, with planted credentials."""
    values = {
        "app_id": "wx1",
        "time_stamp": "1795752000",
        "nonce_str": "n0nce",
        "prepay_id": PLANTED_PREPAY,
        "ext_package": f"prepay_id={PLANTED_PREPAY}",
        "sign_type": "RSA",
        "pay_sign": PLANTED_SIGN,
        "trade_res_list": (TradeRef(out_trade_no="O-1", trade_no="T-1", status="P"),),
        "signed_at": NOON,
        "raw": {"prepayId": PLANTED_PREPAY, "paySign": PLANTED_SIGN},
        **changes,
    }
    return PayResult(**values)


def refusal(kind: type[WxPayError], code: str | None, message: str | None = None) -> WxPayError:
    """Make an error as the platform's answer makes it."""
    return kind("the platform refused", code=code, message=message)

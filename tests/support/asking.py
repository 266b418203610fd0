"""Make requests that differ only in what a test names."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, PayMethod, Refund, TradeItem


def pay(request_id: str = "pay-1", **changes: Any) -> MiniProgramPay:  # noqa: ANN401 - fields
    """Make a payment without an order number, so that nothing can be queried."""
    values = {"pay_token": "token-1", "terminal_payer_id": "openid-0123456789", **changes}
    return MiniProgramPay(request_id=request_id, **values)


def refund(request_id: str = "refund-1", **changes: Any) -> Refund:  # noqa: ANN401 - fields
    """Make a refund of one yuan."""
    values = {
        "out_trade_no": "R-1",
        "orig_out_trade_no": "O-1",
        "refund_amount": Decimal("1.00"),
        **changes,
    }
    return Refund(request_id=request_id, **values)


def trade(request_id: str = "trade-1", **changes: Any) -> InstantTrade:  # noqa: ANN401 - fields
    """Make a trade of one order of one yuan."""
    values = {"trade_info": [item()], "payer_ip": "11.22.33.44", "pay_method": method(), **changes}
    return InstantTrade(request_id=request_id, **values)


def item(out_trade_no: str = "O-1", yuan: str | Decimal = "1.00", **changes: Any) -> TradeItem:  # noqa: ANN401 - fields
    """Make an order."""
    values = {
        "subject": "商品的标题",
        "price": yuan,
        "quantity": 1,
        "total_amount": yuan,
        "payee_identity": "100",
        **changes,
    }
    return TradeItem(out_trade_no=out_trade_no, **values)


def method(yuan: str | Decimal = "1.00", **changes: Any) -> PayMethod:  # noqa: ANN401 - fields
    """Make the way in which an order is paid."""
    values = {
        "pay_product_code": "67",
        "amount": yuan,
        "app_id": "wx1",
        "open_id": "openid-0123456789",
        **changes,
    }
    return PayMethod(**values)

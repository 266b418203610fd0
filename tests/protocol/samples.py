"""Requests with the values of the platform's pages, and with changes."""

from collections.abc import Callable

from wxpay_async.protocol.requests import (
    InstantTrade,
    MiniProgramPay,
    PayMethod,
    Refund,
    Royalty,
    TerminalInfo,
    TradeItem,
)

Make = Callable[..., object]
OPENID = "oUpF8uMuAJO_M2pxb1Q9zNjWeS6o"
TOKEN = "pay-token-0123456789"


def royalty(**changes: object) -> Royalty:
    """Make a royalty within the sample's total, with changes."""
    return Royalty(**{"payee_member_id": "1000", "amount": "12.45", **changes})


def item(**changes: object) -> TradeItem:
    """Make the sample's item, with changes."""
    content = {
        "out_trade_no": "201910170001",
        "subject": "商品的标题",
        "price": "11.23",
        "quantity": "3",
        "total_amount": "33.69",
        "payee_identity": "100",
    }
    return TradeItem(**{**content, **changes})


def pay_method(**changes: object) -> PayMethod:
    """Make the sample's payMethod, with changes."""
    return PayMethod(**{"pay_product_code": "65", "amount": "122.89", **changes})


def trade(**changes: object) -> InstantTrade:
    """Make an instant trade, with changes."""
    content = {
        "request_id": "r-1",
        "trade_info": [item()],
        "payer_ip": "11.22.33.44",
        "pay_method": pay_method(),
    }
    return InstantTrade(**{**content, **changes})


def pay(**changes: object) -> MiniProgramPay:
    """Make a mini-program pay, with changes."""
    content = {"request_id": "r-1", "pay_token": TOKEN, "terminal_payer_id": OPENID}
    return MiniProgramPay(**{**content, **changes})


def refund(**changes: object) -> Refund:
    """Make a partial refund, with changes."""
    content = {
        "request_id": "r-1",
        "out_trade_no": "refund-1",
        "orig_out_trade_no": "201910170001",
        "refund_amount": "20.00",
    }
    return Refund(**{**content, **changes})


def terminal(**changes: object) -> TerminalInfo:
    """Make the terminalInfo of a phone, with changes."""
    return TerminalInfo(**changes)

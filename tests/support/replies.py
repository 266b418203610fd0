"""Make the replies that a platform could give."""

from __future__ import annotations

import json
from typing import Any

from tests.support.vectors import SEED_REPLY

Json = dict[str, Any]

ECHO = {
    "subject": "商品的标题",
    "price": "1.00",
    "quantity": "1",
    "totalAmount": "1.00",
    "payeeIdentity": "100",
}
"""What the answer to a query may repeat of the order that `asking.item` makes."""


def prepay(**changes: str | None) -> Json:
    """Make the reply that the user's page shows, with other fields where a test names them."""
    reply: Json = json.loads(SEED_REPLY.read_text(encoding="utf-8"))
    reply["data"]["tradeResList"] = [{"outTradeNo": "O-1", "tradeNo": "T-1", "status": "P"}]
    reply["data"].update(changes)
    return reply


def refunded(status: str = "S", **changes: str) -> Json:
    """Say that a refund was accepted (S), is under way (P) or failed (F)."""
    data = {"requestId": "refund-1", "outTradeNo": "R-1", "tradeNo": "T-1", "status": status}
    return {"success": True, "data": {**data, **changes}}


def created(**changes: str | None) -> Json:
    """Say that an order was created."""
    row = {"outTradeNo": "O-1", "tradeNo": "T-1", "status": "P"}
    data = {"requestId": "trade-1", "payToken": "token-1", "tradeResList": [row], **changes}
    return {"success": True, "data": {k: v for k, v in data.items() if v is not None}}


def order(status: str, out_trade_no: str = "O-1", amount: str | None = "1.00") -> Json:
    """Report the status of an order."""
    data = {"outTradeNo": out_trade_no, "status": status, "totalAmount": amount}
    return {"success": True, "data": data}


def no(code: str, message: str = "") -> Json:
    """Refuse a request."""
    return {"success": False, "errorCode": code, "errorMsg": message}

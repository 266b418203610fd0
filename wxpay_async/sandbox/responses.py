"""Build the platform's replies: the envelope, and the data of queries and lists."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from wxpay_async.sandbox.error_codes import RefusalError
from wxpay_async.sandbox.request_parsing import Royalty
from wxpay_async.sandbox.state import Refund, Trade

Reply = dict[str, object]


def encode_json(value: object) -> bytes:
    """Encode a value as the platform does: JSON in UTF-8."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def build_success(data: Reply) -> Reply:
    """Return the envelope of a call that was executed."""
    return {"success": True, "errorCode": "", "errorMsg": "", "data": data}


def build_failure(error: RefusalError) -> Reply:
    """Return the envelope of a call that was refused."""
    return {"success": False, "errorCode": error.code, "errorMsg": error.message, "data": None}


def build_trade_rows(trades: Iterable[Trade]) -> list[dict[str, str]]:
    """Return tradeResList; its status is P, in progress, until the payer confirms."""
    return [
        {"outTradeNo": trade.out_trade_no, "tradeNo": trade.trade_no, "status": "P"}
        for trade in trades
    ]


def build_order_status(order: Trade | Refund) -> Reply:
    """Return the reply to the query of an order or a refund."""
    item = order.item
    return {
        "outTradeNo": item.out_trade_no,
        "tradeNo": order.trade_no,
        "subject": item.subject,
        "price": str(item.price),
        "quantity": item.quantity,
        "totalAmount": str(item.total_amount),
        "payeeIdentity": item.payee_identity,
        "payeeName": _name_member(item.payee_identity),
        "partnerFee": "0.00",
        "payeeFee": "0.00",
        "payerFee": "0.00",
        "status": str(order.status),
        "royaltyInfo": [_build_royalty(royalty) for royalty in item.royalties],
    }


def build_merchant_page(merchants: Sequence[tuple[str, str]], size: int, page: int) -> Reply:
    """Return one page of sub-merchants, (id, name) each; pages count from 1."""
    rows = merchants[(page - 1) * size : page * size]
    return {
        "total": len(merchants),
        "totalPage": -(-len(merchants) // size),
        "pageSize": size,
        "currentPage": page,
        "merchants": [{"merchantId": key, "merchantName": name} for key, name in rows],
    }


def _build_royalty(royalty: Royalty) -> dict[str, str]:
    return {
        "payeeMemberId": royalty.payee_member_id,
        "payeeName": _name_member(royalty.payee_member_id),
        "amount": str(royalty.amount),
    }


def _name_member(member_id: str) -> str:
    return f"商户 {member_id}"

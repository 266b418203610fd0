"""What the platform writes: the envelope, and the data of the replies that need some layout."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence

from wxpay_async.sandbox.error_codes import RefusalError
from wxpay_async.sandbox.request_parsing import Share
from wxpay_async.sandbox.state import Refund, Trade

Reply = dict[str, object]


def encode(reply: object) -> bytes:
    """Encode a reply as the platform does: JSON in UTF-8."""
    return json.dumps(reply, ensure_ascii=False, separators=(",", ":")).encode()


def success(data: Reply) -> Reply:
    """Return the envelope of a call that was executed."""
    return {"success": True, "errorCode": "", "errorMsg": "", "data": data}


def failure(error: RefusalError) -> Reply:
    """Return the envelope of a call that was refused."""
    return {"success": False, "errorCode": error.code, "errorMsg": error.message, "data": None}


def trade_rows(trades: Iterable[Trade]) -> list[dict[str, str]]:
    """Return tradeResList; its status is P, in progress, until the payer confirms."""
    return [
        {"outTradeNo": trade.out_trade_no, "tradeNo": trade.trade_no, "status": "P"}
        for trade in trades
    ]


def trade_status(found: Trade | Refund) -> Reply:
    """Return what a query reports."""
    item = found.item
    return {
        "outTradeNo": item.out_trade_no,
        "tradeNo": found.trade_no,
        "subject": item.subject,
        "price": str(item.price),
        "quantity": item.quantity,
        "totalAmount": str(item.total_amount),
        "payeeIdentity": item.payee_identity,
        "payeeName": _name(item.payee_identity),
        "partnerFee": "0.00",
        "payeeFee": "0.00",
        "payerFee": "0.00",
        "status": str(found.status),
        "royaltyInfo": [_share(share) for share in item.royalties],
    }


def merchant_page(merchants: Sequence[tuple[str, str]], size: int, page: int) -> Reply:
    """Return one page of sub-merchants, (id, name) each; pages count from 1."""
    rows = merchants[(page - 1) * size : page * size]
    return {
        "total": len(merchants),
        "totalPage": -(-len(merchants) // size),
        "pageSize": size,
        "currentPage": page,
        "merchants": [{"merchantId": key, "merchantName": name} for key, name in rows],
    }


def _share(share: Share) -> dict[str, str]:
    return {
        "payeeMemberId": share.payee_member_id,
        "payeeName": _name(share.payee_member_id),
        "amount": str(share.amount),
    }


def _name(member_id: str) -> str:
    return f"商户 {member_id}"

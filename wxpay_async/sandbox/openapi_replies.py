"""JSON Schemas of what the sandbox answers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from wxpay_async.sandbox.request_fields import AMOUNT
from wxpay_async.sandbox.state import REFUNDED, Status

Schema = dict[str, Any]

_TEXT: Final[Schema] = {"type": "string"}
_YUAN: Final[Schema] = {"type": "string", "pattern": f"^{AMOUNT}$"}
_COUNT: Final[Schema] = {"type": "integer", "minimum": 0}


def _make_object(properties: Schema, *, optional: Schema | None = None) -> Schema:
    more = optional or {}
    return {
        "type": "object",
        "required": [*properties],
        "properties": {**properties, **more},
        "additionalProperties": False,
    }


def _make_list(items: Schema) -> Schema:
    return {"type": "array", "items": items}


_JSAPI: Final[Schema] = {
    "appId": _TEXT,
    "timeStamp": {"type": "string", "pattern": "^[0-9]+$"},
    "nonceStr": _TEXT,
    "prepayId": _TEXT,
    "extPackage": {"type": "string", "pattern": "^prepay_id="},
    "signType": {"const": "RSA"},
    "paySign": _TEXT,
}
_TRADE_ROWS: Final = _make_list(
    _make_object({"outTradeNo": _TEXT, "tradeNo": _TEXT, "status": {"const": "P"}})
)
_PAID_FOR: Final[Schema] = {
    "requestId": _TEXT,
    "instAmount": _YUAN,
    "tradeResList": _TRADE_ROWS,
}
_ROYALTY: Final = _make_object({"payeeMemberId": _TEXT, "payeeName": _TEXT, "amount": _YUAN})

DATA: Final[Mapping[str, Schema]] = {
    "/api/instant/trade": _make_object(
        {**_PAID_FOR, "payToken": _TEXT, "returnUrl": _TEXT}, optional=_JSAPI
    ),
    "/api/instant/pay/wxminiprogram": _make_object({**_PAID_FOR, **_JSAPI}),
    "/api/instant/query": _make_object(
        {
            **dict.fromkeys(("outTradeNo", "tradeNo", "subject", "quantity"), _TEXT),
            **dict.fromkeys(("price", "totalAmount", "partnerFee", "payeeFee", "payerFee"), _YUAN),
            **dict.fromkeys(("payeeIdentity", "payeeName"), _TEXT),
            "status": {"type": "string", "enum": [*Status, REFUNDED]},
            "royaltyInfo": _make_list(_ROYALTY),
        }
    ),
    "/api/instant/refund": _make_object(
        {"requestId": _TEXT, "outTradeNo": _TEXT, "tradeNo": _TEXT, "status": {"const": "S"}}
    ),
    "/api/company/merchants": _make_object(
        {
            **dict.fromkeys(("total", "totalPage", "pageSize", "currentPage"), _COUNT),
            "merchants": _make_list(_make_object({"merchantId": _TEXT, "merchantName": _TEXT})),
        }
    ),
}
"""The data of a reply, by the path of the call."""

LEDGER_ENTRY: Final = _make_object(
    {
        "kind": {"type": "string", "enum": ["trade", "pay", "refund", "charge"]},
        "appKey": _TEXT,
        "requestId": _TEXT,
        "outTradeNos": _make_list(_TEXT),
        "amount": _YUAN,
        "at": {"type": "number"},
    }
)
"""Something that was executed."""

ORDERED_FAULTS: Final = _make_object(
    {
        "seed": {"type": "integer"},
        "faults": _make_list(
            {
                "type": "object",
                "required": ["number", "kind", "seen", "happened"],
                "properties": {"number": _COUNT, "kind": _TEXT, "seen": _COUNT, "happened": _COUNT},
            }
        ),
        "happened": {"type": "object", "additionalProperties": _COUNT},
        "kinds": {"type": "object", "additionalProperties": _make_list(_TEXT)},
    }
)
"""The faults that are ordered, how many happened, and the fields of each kind."""

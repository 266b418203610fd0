"""Reads bizContent by the platform's tables, with checks of its own.

Nothing here is shared with the client's request classes, so a field that the client forgets, or
writes in another form, is found instead of being agreed upon. Limits that no table gives are not
invented; enumerations hold the documented values only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Final, cast

from attrs import field, frozen

from wxpay_async.protocol.strict_json import strict_json
from wxpay_async.sandbox.error_codes import Code, RefusalError, malformed

Json = None | bool | int | Decimal | str | list["Json"] | dict[str, "Json"]
Fields = Mapping[str, Json]

_AMOUNT: Final = re.compile(r"(?:0|[1-9][0-9]{0,11})\.[0-9]{2}", re.ASCII)
_QUANTITY: Final = re.compile(r"[1-9][0-9]{0,13}", re.ASCII)
_TIMEOUT: Final = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)
_MIN_AMOUNT: Final = Decimal("0.01")
_MAX_AMOUNT: Final = Decimal("100000000000.00")
_MAX_REFUND: Final = 15
_MAX_REQUEST_ID: Final = 32
_MAX_ROYALTIES: Final = 10
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400}
_MIN_TIMEOUT: Final = 600
_MAX_TIMEOUT: Final = 7 * 86400

_SCANNED: Final = ("64", "65")
_JSAPI: Final = ("66", "67")
_TARGETS: Final = ("WECHAT", "ALIPAY", "UPOP")
_TERMINALS: Final = ("00", "01", "02", "03", "04", "99")


@frozen(kw_only=True)
class Share:
    """One row of royaltyInfo; the amount is in yuan."""

    payee_member_id: str
    amount: Decimal


@frozen(kw_only=True)
class Item:
    """One row of tradeInfo; price and total are in yuan."""

    out_trade_no: str
    subject: str
    price: Decimal
    quantity: str
    total_amount: Decimal
    payee_identity: str
    royalties: tuple[Share, ...]


@frozen(kw_only=True)
class TradeOrder:
    """What an instant trade asks for.

    Attributes:
        request_id: the merchant's id of the request.
        items: the orders, at least one.
        amount: yuan to pay (payMethod.amount).
        jsapi: whether the payer pays inside WeChat and so needs a prepay.
        app_id: the mini program, empty for the platform's own.
        timeout: seconds until the order closes, None for never.
    """

    request_id: str
    items: tuple[Item, ...]
    amount: Decimal
    jsapi: bool
    app_id: str
    timeout: int | None


@frozen(kw_only=True)
class PayOrder:
    """What a mini-program pay asks for."""

    request_id: str
    pay_token: str = field(repr=False)
    app_id: str


@frozen(kw_only=True)
class RefundOrder:
    """What a refund asks for; the amount is in yuan."""

    request_id: str
    out_trade_no: str
    orig_out_trade_no: str
    amount: Decimal


def read_trade(content: str) -> TradeOrder:
    """Read the bizContent of `/api/instant/trade`; raise `RefusalError` if it does not fit."""
    fields = _members(content)
    request_id = _request_id(fields)
    _text(fields, "payerIp")
    _choice(fields, "bizProductCode", ("20701",))
    _choice(fields, "cashierType", ("API", "SDK"))
    _choice(_table(fields, "terminalInfo"), "terminal_type", _TERMINALS)
    items = tuple(_item(row) for row in _rows(fields, "tradeInfo"))
    if not items:
        raise malformed("tradeInfo", "is missing or empty")
    method = _table(fields, "payMethod")
    return TradeOrder(
        request_id=request_id,
        items=items,
        amount=_amount(method, "amount"),
        jsapi=_is_jsapi(method),
        app_id=_optional(method, "appId"),
        timeout=_timeout(fields),
    )


def read_pay(content: str) -> PayOrder:
    """Read the bizContent of `/api/instant/pay/wxminiprogram`; raise `RefusalError` likewise."""
    fields = _members(content)
    request_id = _request_id(fields)
    _choice(fields, "targetOrganization", ("WECHAT",))
    _text(fields, "terminalPayerId")
    return PayOrder(
        request_id=request_id,
        pay_token=_text(fields, "payToken"),
        app_id=_optional(fields, "appId"),
    )


def read_refund(content: str) -> RefundOrder:
    """Read the bizContent of `/api/instant/refund`; raise `RefusalError` likewise."""
    fields = _members(content)
    request_id = _request_id(fields)
    _optional(fields, "currency")
    _royalties(fields)
    if len(_text(fields, "refundAmount")) > _MAX_REFUND:
        raise malformed("refundAmount", f"has over {_MAX_REFUND} characters")
    return RefundOrder(
        request_id=request_id,
        out_trade_no=_text(fields, "outTradeNo"),
        orig_out_trade_no=_text(fields, "origOutTradeNo"),
        amount=_amount(fields, "refundAmount"),
    )


def _item(row: Fields) -> Item:
    _optional(row, "currency")
    quantity = _text(row, "quantity")
    if not _QUANTITY.fullmatch(quantity):
        raise malformed("quantity", "is not the text of an integer above 0")
    price, total = _amount(row, "price"), _amount(row, "totalAmount")
    if price * int(quantity) != total:
        raise malformed("totalAmount", "is not price × quantity")
    return Item(
        out_trade_no=_text(row, "outTradeNo"),
        subject=_text(row, "subject"),
        price=price,
        quantity=quantity,
        total_amount=total,
        payee_identity=_text(row, "payeeIdentity"),
        royalties=_royalties(row),
    )


def _is_jsapi(method: Fields) -> bool:
    product = _choice(method, "payProductCode", _SCANNED + _JSAPI)
    target = _choice(method, "targetOrganization", _TARGETS)
    jsapi = target == "WECHAT" and product in _JSAPI
    if jsapi:
        # Required "for WeChat"; but whose phone will scan a code is not known beforehand.
        _text(method, "openId")
    if target == "ALIPAY":
        _text(method, "buyerId")
    return jsapi


def _royalties(fields: Fields) -> tuple[Share, ...]:
    rows = _rows(fields, "royaltyInfo")
    if len(rows) > _MAX_ROYALTIES:
        raise malformed("royaltyInfo", f"has over {_MAX_ROYALTIES} rows")
    return tuple(
        Share(payee_member_id=_text(row, "payeeMemberId"), amount=_amount(row, "amount"))
        for row in rows
    )


def _timeout(fields: Fields) -> int | None:
    """Read timeoutExpress. What `0` means is not documented; it is taken as no timeout."""
    value = _optional(fields, "timeoutExpress")
    if value in {"", "0"}:
        return None
    match = _TIMEOUT.fullmatch(value)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not _MIN_TIMEOUT <= seconds <= _MAX_TIMEOUT:
        raise malformed("timeoutExpress", "is neither 0 nor 10m to 7d with unit m, h or d")
    return seconds


def _members(content: str) -> Fields:
    try:
        value = cast("Json", strict_json(content.encode()))
    except ValueError as error:
        raise malformed("bizContent", f"is no strict JSON: {error}") from error
    if not isinstance(value, dict):
        raise malformed("bizContent", "is no JSON object")
    return value


def _request_id(fields: Fields) -> str:
    value = _optional(fields, "requestId")
    if not value:
        raise RefusalError(Code.REQUEST_ID_EMPTY)
    if len(value) > _MAX_REQUEST_ID:
        raise malformed("requestId", f"has over {_MAX_REQUEST_ID} characters")
    return value


def _text(fields: Fields, name: str) -> str:
    value = _optional(fields, name)
    if not value:
        raise malformed(name, "is missing or empty")
    return value


def _optional(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise malformed(name, "is not a string")
    return value


def _choice(fields: Fields, name: str, allowed: Collection[str]) -> str:
    value = _text(fields, name)
    if value not in allowed:
        raise malformed(name, f"is none of {', '.join(allowed)}")
    return value


def _amount(fields: Fields, name: str) -> Decimal:
    value = _text(fields, name)
    if not _AMOUNT.fullmatch(value) or not _MIN_AMOUNT <= Decimal(value) <= _MAX_AMOUNT:
        raise malformed(name, "is not yuan from 0.01 to 100000000000.00 with two places")
    return Decimal(value)


def _table(fields: Fields, name: str) -> Fields:
    value = fields.get(name)
    if not isinstance(value, dict):
        raise malformed(name, "is missing or no JSON object")
    return value


def _rows(fields: Fields, name: str) -> list[Fields]:
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise malformed(name, "is no list")
    rows: list[Fields] = []
    for row in value:
        if not isinstance(row, dict):
            raise malformed(name, "holds something that is no JSON object")
        rows.append(row)
    return rows

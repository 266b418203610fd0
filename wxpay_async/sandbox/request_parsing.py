"""Parse and check bizContent by the tables of `request_fields`, and by the rules between fields."""

from __future__ import annotations

import re
from collections.abc import Mapping
from decimal import Decimal
from typing import Final, cast

from attrs import field, frozen

from wxpay_async.protocol.strict_json import strict_json
from wxpay_async.sandbox.error_codes import MalformedError
from wxpay_async.sandbox.request_fields import (
    JSAPI,
    PAY,
    REFUND,
    TRADE,
    Fields,
    Group,
    Json,
)

_TIMEOUT: Final = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)
_MAX_PAGE_DIGITS: Final = 6
_SECONDS: Final = {"m": 60, "h": 3600, "d": 86400}
_MIN_TIMEOUT: Final = 600
_MAX_TIMEOUT: Final = 7 * 86400


@frozen(kw_only=True)
class Royalty:
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
    royalties: tuple[Royalty, ...]


@frozen(kw_only=True)
class TradeContent:
    """The bizContent of an instant trade.

    Attributes:
        request_id: the merchant's id of the request.
        items: the orders, at least one.
        amount: yuan to pay (payMethod.amount).
        jsapi: whether the payer pays inside WeChat and so needs a prepay.
        app_id: the mini program, empty for the platform's own.
        timeout: seconds until the order closes, None for never.
        openid: of the payer, empty when it is not known beforehand.
    """

    request_id: str
    items: tuple[Item, ...]
    amount: Decimal
    jsapi: bool
    app_id: str
    timeout: int | None
    openid: str = field(default="", repr=False)


@frozen(kw_only=True)
class PayContent:
    """The bizContent of a mini-program pay."""

    request_id: str
    pay_token: str = field(repr=False)
    app_id: str
    openid: str = field(repr=False)


@frozen(kw_only=True)
class RefundContent:
    """The bizContent of a refund; the amount is in yuan."""

    request_id: str
    out_trade_no: str
    orig_out_trade_no: str
    amount: Decimal


def read_biz_content(params: Mapping[str, str]) -> str:
    """Return the bizContent; raise `RefusalError` if there is none."""
    content = params.get("bizContent")
    if not content:
        raise MalformedError("bizContent", "is missing or empty")
    return content


def read_positive(params: Mapping[str, str], name: str, *, default: int) -> int:
    """Return a parameter as an integer above 0; raise `RefusalError` if it is none."""
    value = params.get(name) or str(default)
    well_formed = value.isascii() and value.isdigit() and len(value) <= _MAX_PAGE_DIGITS
    if not well_formed or int(value) < 1:
        raise MalformedError(name, "is not an integer above 0")
    return int(value)


def read_trade(content: str) -> TradeContent:
    """Read the bizContent of `/api/instant/trade`; raise `RefusalError` if it is wrong."""
    fields = _parse_object(content, TRADE)
    items = tuple(_build_item(row) for row in _get_rows(fields, "tradeInfo"))
    method = cast("Fields", fields["payMethod"])
    jsapi = _is_jsapi(method)
    return TradeContent(
        request_id=_get_text(fields, "requestId"),
        items=items,
        amount=Decimal(_get_text(method, "amount")),
        jsapi=jsapi,
        app_id=_get_text(method, "appId"),
        timeout=_read_timeout(fields),
        openid=_get_text(method, "openId"),
    )


def read_pay(content: str) -> PayContent:
    """Read the bizContent of `/api/instant/pay/wxminiprogram`; raises as `read_trade` does."""
    fields = _parse_object(content, PAY)
    return PayContent(
        request_id=_get_text(fields, "requestId"),
        openid=_get_text(fields, "terminalPayerId"),
        pay_token=_get_text(fields, "payToken"),
        app_id=_get_text(fields, "appId"),
    )


def read_refund(content: str) -> RefundContent:
    """Read the bizContent of `/api/instant/refund`; raises as `read_trade` does."""
    fields = _parse_object(content, REFUND)
    return RefundContent(
        request_id=_get_text(fields, "requestId"),
        out_trade_no=_get_text(fields, "outTradeNo"),
        orig_out_trade_no=_get_text(fields, "origOutTradeNo"),
        amount=Decimal(_get_text(fields, "refundAmount")),
    )


def _build_item(row: Fields) -> Item:
    quantity = _get_text(row, "quantity")
    price, total = Decimal(_get_text(row, "price")), Decimal(_get_text(row, "totalAmount"))
    if price * int(quantity) != total:
        raise MalformedError("totalAmount", "is not price × quantity")
    return Item(
        out_trade_no=_get_text(row, "outTradeNo"),
        subject=_get_text(row, "subject"),
        price=price,
        quantity=quantity,
        total_amount=total,
        payee_identity=_get_text(row, "payeeIdentity"),
        royalties=tuple(_build_royalty(each) for each in _get_rows(row, "royaltyInfo")),
    )


def _is_jsapi(method: Fields) -> bool:
    target = _get_text(method, "targetOrganization")
    jsapi = target == "WECHAT" and _get_text(method, "payProductCode") in JSAPI
    if jsapi and not _get_text(method, "openId"):
        # The page requires it "for WeChat". For a code to scan the payer is not known beforehand.
        raise MalformedError("openId", "is missing or empty")
    if target == "ALIPAY" and not _get_text(method, "buyerId"):
        raise MalformedError("buyerId", "is missing or empty")
    return jsapi


def _build_royalty(row: Fields) -> Royalty:
    return Royalty(
        payee_member_id=_get_text(row, "payeeMemberId"), amount=Decimal(_get_text(row, "amount"))
    )


def _read_timeout(fields: Fields) -> int | None:
    """Read timeoutExpress as seconds. `0` is not documented; here it means no timeout."""
    value = _get_text(fields, "timeoutExpress")
    if value in {"", "0"}:
        return None
    match = _TIMEOUT.fullmatch(value)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not _MIN_TIMEOUT <= seconds <= _MAX_TIMEOUT:
        raise MalformedError("timeoutExpress", "is neither 0 nor 10m to 7d with unit m, h or d")
    return seconds


def _parse_object(content: str, table: Group) -> Fields:
    try:
        value = cast("Json", strict_json(content.encode()))
    except ValueError as error:
        raise MalformedError("bizContent", f"is not strict JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedError("bizContent", "is not a JSON object")
    table.check_members(value)
    return value


def _get_text(fields: Fields, name: str) -> str:
    """Return a field that the table has checked; empty when it is absent or null."""
    return cast("str", fields.get(name) or "")


def _get_rows(fields: Fields, name: str) -> list[Fields]:
    return cast("list[Fields]", fields.get(name) or [])

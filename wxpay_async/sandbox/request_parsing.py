"""Parse and check bizContent by the tables of the platform's documentation.

Nothing here is shared with the client's request classes. If the client forgets a field or writes
it in another form, the sandbox refuses it instead of making the same mistake. Limits that no table
gives are not invented. Enumerations hold the documented values only.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from decimal import Decimal
from typing import Final, cast

from attrs import field, frozen

from wxpay_async.protocol.strict_json import strict_json
from wxpay_async.sandbox.error_codes import Code, MalformedError, RefusalError

Json = None | bool | int | Decimal | str | list["Json"] | dict[str, "Json"]
Fields = Mapping[str, Json]

_AMOUNT: Final = re.compile(r"(?:0|[1-9][0-9]{0,11})\.[0-9]{2}", re.ASCII)
_QUANTITY: Final = re.compile(r"[1-9][0-9]{0,13}", re.ASCII)
_TIMEOUT: Final = re.compile(r"([1-9][0-9]{0,4})([mhd])", re.ASCII)
_MIN_AMOUNT: Final = Decimal("0.01")
_MAX_AMOUNT: Final = Decimal("100000000000.00")
_MAX_PAGE_DIGITS: Final = 6
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
    """

    request_id: str
    items: tuple[Item, ...]
    amount: Decimal
    jsapi: bool
    app_id: str
    timeout: int | None


@frozen(kw_only=True)
class PayContent:
    """The bizContent of a mini-program pay."""

    request_id: str
    pay_token: str = field(repr=False)
    app_id: str


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
    fields = _parse_object(content)
    request_id = _read_request_id(fields)
    _read_text(fields, "payerIp")
    _read_choice(fields, "bizProductCode", ("20701",))
    _read_choice(fields, "cashierType", ("API", "SDK"))
    _read_choice(_read_object(fields, "terminalInfo"), "terminal_type", _TERMINALS)
    items = tuple(_read_item(row) for row in _read_rows(fields, "tradeInfo"))
    if not items:
        raise MalformedError("tradeInfo", "is missing or empty")
    method = _read_object(fields, "payMethod")
    return TradeContent(
        request_id=request_id,
        items=items,
        amount=_read_amount(method, "amount"),
        jsapi=_is_jsapi(method),
        app_id=_read_optional(method, "appId"),
        timeout=_read_timeout(fields),
    )


def read_pay(content: str) -> PayContent:
    """Read the bizContent of `/api/instant/pay/wxminiprogram`; raises as `read_trade` does."""
    fields = _parse_object(content)
    request_id = _read_request_id(fields)
    _read_choice(fields, "targetOrganization", ("WECHAT",))
    _read_text(fields, "terminalPayerId")
    return PayContent(
        request_id=request_id,
        pay_token=_read_text(fields, "payToken"),
        app_id=_read_optional(fields, "appId"),
    )


def read_refund(content: str) -> RefundContent:
    """Read the bizContent of `/api/instant/refund`; raises as `read_trade` does."""
    fields = _parse_object(content)
    request_id = _read_request_id(fields)
    _read_optional(fields, "currency")
    _read_royalties(fields)
    if len(_read_text(fields, "refundAmount")) > _MAX_REFUND:
        raise MalformedError("refundAmount", f"has over {_MAX_REFUND} characters")
    return RefundContent(
        request_id=request_id,
        out_trade_no=_read_text(fields, "outTradeNo"),
        orig_out_trade_no=_read_text(fields, "origOutTradeNo"),
        amount=_read_amount(fields, "refundAmount"),
    )


def _read_item(row: Fields) -> Item:
    _read_optional(row, "currency")
    quantity = _read_text(row, "quantity")
    if not _QUANTITY.fullmatch(quantity):
        raise MalformedError("quantity", "is not the text of an integer above 0")
    price, total = _read_amount(row, "price"), _read_amount(row, "totalAmount")
    if price * int(quantity) != total:
        raise MalformedError("totalAmount", "is not price × quantity")
    return Item(
        out_trade_no=_read_text(row, "outTradeNo"),
        subject=_read_text(row, "subject"),
        price=price,
        quantity=quantity,
        total_amount=total,
        payee_identity=_read_text(row, "payeeIdentity"),
        royalties=_read_royalties(row),
    )


def _is_jsapi(method: Fields) -> bool:
    product = _read_choice(method, "payProductCode", _SCANNED + _JSAPI)
    target = _read_choice(method, "targetOrganization", _TARGETS)
    jsapi = target == "WECHAT" and product in _JSAPI
    if jsapi:
        # The page requires it "for WeChat". For a code to scan the payer is not known beforehand.
        _read_text(method, "openId")
    if target == "ALIPAY":
        _read_text(method, "buyerId")
    return jsapi


def _read_royalties(fields: Fields) -> tuple[Royalty, ...]:
    rows = _read_rows(fields, "royaltyInfo")
    if len(rows) > _MAX_ROYALTIES:
        raise MalformedError("royaltyInfo", f"has over {_MAX_ROYALTIES} rows")
    return tuple(_read_royalty(row) for row in rows)


def _read_royalty(row: Fields) -> Royalty:
    return Royalty(
        payee_member_id=_read_text(row, "payeeMemberId"), amount=_read_amount(row, "amount")
    )


def _read_timeout(fields: Fields) -> int | None:
    """Read timeoutExpress as seconds. `0` is not documented; here it means no timeout."""
    value = _read_optional(fields, "timeoutExpress")
    if value in {"", "0"}:
        return None
    match = _TIMEOUT.fullmatch(value)
    seconds = int(match[1]) * _SECONDS[match[2]] if match else 0
    if not _MIN_TIMEOUT <= seconds <= _MAX_TIMEOUT:
        raise MalformedError("timeoutExpress", "is neither 0 nor 10m to 7d with unit m, h or d")
    return seconds


def _parse_object(content: str) -> Fields:
    try:
        value = cast("Json", strict_json(content.encode()))
    except ValueError as error:
        raise MalformedError("bizContent", f"is not strict JSON: {error}") from error
    if not isinstance(value, dict):
        raise MalformedError("bizContent", "is not a JSON object")
    return value


def _read_request_id(fields: Fields) -> str:
    value = _read_optional(fields, "requestId")
    if not value:
        raise RefusalError(Code.REQUEST_ID_EMPTY)
    if len(value) > _MAX_REQUEST_ID:
        raise MalformedError("requestId", f"has over {_MAX_REQUEST_ID} characters")
    return value


def _read_text(fields: Fields, name: str) -> str:
    value = _read_optional(fields, name)
    if not value:
        raise MalformedError(name, "is missing or empty")
    return value


def _read_optional(fields: Fields, name: str) -> str:
    value = fields.get(name)
    if value is None:
        return ""
    if not isinstance(value, str):
        raise MalformedError(name, "is not a string")
    return value


def _read_choice(fields: Fields, name: str, allowed: Collection[str]) -> str:
    value = _read_text(fields, name)
    if value not in allowed:
        raise MalformedError(name, f"is none of {', '.join(allowed)}")
    return value


def _read_amount(fields: Fields, name: str) -> Decimal:
    value = _read_text(fields, name)
    if not _AMOUNT.fullmatch(value) or not _MIN_AMOUNT <= Decimal(value) <= _MAX_AMOUNT:
        raise MalformedError(name, "is not yuan from 0.01 to 100000000000.00 with two places")
    return Decimal(value)


def _read_object(fields: Fields, name: str) -> Fields:
    value = fields.get(name)
    if not isinstance(value, dict):
        raise MalformedError(name, "is missing or not a JSON object")
    return value


def _read_rows(fields: Fields, name: str) -> list[Fields]:
    value = fields.get(name)
    if value is None:
        return []
    if not isinstance(value, list):
        raise MalformedError(name, "is not a list")
    rows: list[Fields] = []
    for row in value:
        if not isinstance(row, dict):
            raise MalformedError(name, "holds something that is not a JSON object")
        rows.append(row)
    return rows

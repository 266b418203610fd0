"""The merchant's requests, which validate themselves when they are made.

Fields are the platform's names in snake case; money is `Decimal` yuan (`str` and `int` are
converted exactly, a `float` is a `TypeError`). Every limit of the platform's tables is an
`InvalidRequestError` here, before anything is sent. So is a number that identifies (an order, a
member, a person, a credential) and holds white space or a character that does not show
(`money-safety.md` §2).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import timedelta
from decimal import Decimal
from functools import reduce
from typing import Final, Literal, TypeVar

from attrs import field, frozen
from attrs.validators import optional

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol import secrets, validators
from wxpay_async.protocol.as_dict import AsDict
from wxpay_async.protocol.money import AMOUNTS, EXACT, MAX_AMOUNT, as_amount
from wxpay_async.protocol.validators import NOTHING, Json, as_quantity, as_tuple, freeze_json

_LOCAL: Final = {"local": True, "plain": "outTradeNo"}
_SCANNED: Final = ("64", "65")


def _amount(value: Decimal | str | int) -> Decimal:
    return as_amount(value, "amount")


def _price(value: Decimal | str | int) -> Decimal:
    return as_amount(value, "price")


def _total_amount(value: Decimal | str | int) -> Decimal:
    return as_amount(value, "totalAmount")


def _refund_amount(value: Decimal | str | int) -> Decimal:
    return as_amount(value, "refundAmount")


def _items(value: Iterable[TradeItem]) -> tuple[TradeItem, ...]:
    return as_tuple(value, "tradeInfo", TradeItem)


def _royalties(value: Iterable[Royalty]) -> tuple[Royalty, ...]:
    return as_tuple(value, "royaltyInfo", Royalty)


def _extra() -> Mapping[str, Json]:
    return field(
        default=NOTHING,
        converter=freeze_json,
        validator=validators.extra,
        repr=validators.show_names,
        hash=False,
    )


def _check_royalties(royalties: Iterable[Royalty], total: Decimal) -> None:
    shared = reduce(EXACT.add, (royalty.amount for royalty in royalties), Decimal(0))
    if shared > total:
        raise InvalidRequestError(
            f"the royalties sum to {shared}", field="royaltyInfo", allowed=f"at most {total}"
        )


@frozen(kw_only=True, slots=False)
class Royalty(AsDict):
    """A share of the payment for another member (`royaltyInfo`).

    Attributes:
        payee_member_id: the member who gets it.
        amount: yuan.
        payee_identity_type: shown by the page's sample, not by its table.
        extra: fields that the page does not know.
    """

    payee_member_id: str = field(validator=validators.identifier)
    amount: Decimal = field(converter=_amount)
    payee_identity_type: str | None = field(default=None, validator=optional(validators.text))
    extra: Mapping[str, Json] = _extra()


@frozen(kw_only=True, slots=False)
class TradeItem(AsDict):
    """One order of an instant trade (`tradeInfo`).

    Attributes:
        out_trade_no: the merchant's order number.
        subject: what is sold, as the payer sees it.
        price: yuan for one piece.
        quantity: pieces, above 0.
        total_amount: yuan; must be price × quantity.
        payee_identity: the seller's member id.
        currency: CNY when absent or empty.
        royalty_info: at most 10, summing to no more than the total.
        extra: fields that the page does not know.
    """

    out_trade_no: str = field(validator=validators.plain)
    subject: str = field(validator=validators.text)
    price: Decimal = field(converter=_price)
    quantity: int = field(converter=as_quantity)
    total_amount: Decimal = field(converter=_total_amount)
    payee_identity: str = field(validator=validators.identifier)
    currency: str | None = field(default=None, validator=optional(validators.text_or_empty))
    royalty_info: tuple[Royalty, ...] = field(
        default=(),
        converter=_royalties,
        validator=[validators.models(Royalty), validators.at_most_ten],
    )
    extra: Mapping[str, Json] = _extra()

    def __attrs_post_init__(self) -> None:
        expected = EXACT.multiply(self.price, self.quantity)
        if expected > MAX_AMOUNT:
            raise InvalidRequestError(
                f"price × quantity is {expected}", field="totalAmount", allowed=AMOUNTS
            )
        if self.total_amount != expected:
            raise InvalidRequestError(
                f"{self.total_amount} is not price × quantity",
                field="totalAmount",
                allowed=f"{expected}",
            )
        _check_royalties(self.royalty_info, self.total_amount)


@frozen(kw_only=True, slots=False)
class PayMethod(AsDict):
    """How the payer pays (`payMethod`).

    Attributes:
        pay_product_code: 64 and 65: the payer scans; 66 and 67: official account or mini program;
            the even ones take debit cards only.
        amount: yuan. The page's sample shows that it may differ from the items' total.
        target_organization: WECHAT, ALIPAY or UPOP.
        app_id: the mini program's appid.
        open_id: the payer's openid. Required for WECHAT, except with the products 64 and 65: it is
            not known before a code is scanned.
        buyer_id: the payer's id at Alipay; required for ALIPAY.
        extra: fields that the page does not know.
    """

    pay_product_code: str = field(validator=validators.code(2, "64, 65, 66, 67"))
    amount: Decimal = field(converter=_amount)
    target_organization: str = field(
        default="WECHAT", validator=validators.one_of("WECHAT", "ALIPAY", "UPOP")
    )
    app_id: str | None = field(default=None, validator=validators.optional_identifier)
    open_id: str | None = field(
        default=None, validator=validators.optional_identifier, repr=secrets.mask
    )
    buyer_id: str | None = field(
        default=None, validator=validators.optional_identifier, repr=secrets.mask
    )
    extra: Mapping[str, Json] = _extra()

    def __attrs_post_init__(self) -> None:
        scanned = self.pay_product_code in _SCANNED
        if self.target_organization == "WECHAT" and not scanned and not self.open_id:
            raise InvalidRequestError(
                "required for WECHAT, unless the payer scans a code (64, 65)",
                field="openId",
                allowed="the payer's openid",
            )
        if self.target_organization == "ALIPAY" and not self.buyer_id:
            raise InvalidRequestError(
                "required for ALIPAY", field="buyerId", allowed="the payer's id at Alipay"
            )


@frozen(kw_only=True, slots=False)
class TerminalInfo(AsDict):
    """The payer's device (`terminalInfo`).

    Attributes:
        terminal_type: 00 computer, 01 phone, 02 tablet, 03 wearable, 04 television, 99 other.
        extra: fields that the page does not know.
    """

    terminal_type: str = field(
        default="01",
        validator=validators.code(2, "00, 01, 02, 03, 04, 99"),
        metadata={"wire": "terminal_type"},
    )
    extra: Mapping[str, Json] = _extra()


@frozen(kw_only=True, slots=False)
class InstantTrade(AsDict):
    """Create payable orders: `POST /api/instant/trade`.

    Attributes:
        request_id: one id per purchase, 1 to 32 characters of A-Z a-z 0-9 _ -.
        trade_info: the orders, at least one.
        payer_ip: the payer's address; `::ffff:1.2.3.4` is sent as 1.2.3.4.
        pay_method: how the payer pays.
        biz_product_code: 20701 is an instant trade, royalties split before settlement.
        cashier_type: API or SDK.
        timeout_express: `0`, or 10m to 7d with unit m, h or d.
        terminal_info: the payer's device.
        extra: fields that the page does not know.
    """

    request_id: str = field(validator=validators.request_id)
    trade_info: tuple[TradeItem, ...] = field(
        converter=_items, validator=validators.models(TradeItem)
    )
    payer_ip: str = field(converter=validators.unmap_ip_address, validator=validators.ip_address)
    pay_method: PayMethod = field(validator=validators.model(PayMethod))
    biz_product_code: str = field(default="20701", validator=validators.code(5, "20701"))
    cashier_type: str = field(default="API", validator=validators.one_of("API", "SDK"))
    timeout_express: str | None = field(
        default=None, validator=optional(validators.timeout_express)
    )
    terminal_info: TerminalInfo = field(
        factory=TerminalInfo, validator=validators.model(TerminalInfo)
    )
    extra: Mapping[str, Json] = _extra()

    def __attrs_post_init__(self) -> None:
        numbers = [item.out_trade_no for item in self.trade_info]
        if not numbers:
            raise InvalidRequestError("empty", field="tradeInfo", allowed="at least one item")
        if len(set(numbers)) < len(numbers):
            raise InvalidRequestError(
                "an outTradeNo stands twice", field="tradeInfo", allowed="one item for each order"
            )

    @property
    def lifetime(self) -> timedelta | None:
        """How long the orders can be paid; None where `timeout_express` does not say it."""
        return validators.read_timeout(self.timeout_express or "0") or None


@frozen(kw_only=True, slots=False)
class MiniProgramPay(AsDict):
    """Turn a payToken into the parameters of `wx.requestPayment`.

    `POST /api/instant/pay/wxminiprogram`.

    Attributes:
        request_id: one id per purchase, 1 to 32 characters of A-Z a-z 0-9 _ -.
        pay_token: from `TradeResult`.
        terminal_payer_id: the payer's openid in the mini program. The page's table calls it
            optional, its note required; no JSAPI prepay exists without one, so it is required.
        app_id: the mini program's appid; the platform's own when absent.
        target_organization: WECHAT, the only one that the page lists.
        out_trade_no: the order that is paid. It is never sent, but kept beside the requestId:
            when an answer gets lost, only a query for the order can tell the outcome.
        extra: fields that the page does not know.
    """

    request_id: str = field(validator=validators.request_id)
    pay_token: str = field(validator=validators.identifier, repr=secrets.hide)
    terminal_payer_id: str = field(validator=validators.identifier, repr=secrets.mask)
    app_id: str | None = field(default=None, validator=validators.optional_identifier)
    target_organization: str = field(default="WECHAT", validator=validators.one_of("WECHAT"))
    out_trade_no: str | None = field(
        default=None, validator=validators.optional_plain, metadata=_LOCAL
    )
    extra: Mapping[str, Json] = _extra()


@frozen(kw_only=True, slots=False)
class Refund(AsDict):
    """Give money back: `POST /api/instant/refund`.

    Attributes:
        request_id: one id per refund, 1 to 32 characters of A-Z a-z 0-9 _ -.
        out_trade_no: the refund's own number.
        orig_out_trade_no: the number of the order that was paid.
        refund_amount: yuan; partial is allowed, more than the order's amount is not.
        currency: CNY when absent.
        royalty_info: at most 10, summing to no more than the refund.
        extra: fields that the page does not know.
    """

    request_id: str = field(validator=validators.request_id)
    out_trade_no: str = field(validator=validators.plain)
    orig_out_trade_no: str = field(validator=validators.plain)
    refund_amount: Decimal = field(converter=_refund_amount)
    currency: str | None = field(default=None, validator=optional(validators.text))
    royalty_info: tuple[Royalty, ...] = field(
        default=(),
        converter=_royalties,
        validator=[validators.models(Royalty), validators.at_most_ten],
    )
    extra: Mapping[str, Json] = _extra()

    def __attrs_post_init__(self) -> None:
        _check_royalties(self.royalty_info, self.refund_amount)


Request = MiniProgramPay | InstantTrade | Refund
OperationName = Literal["pay", "trade", "refund"]
"""The operations that have a requestId, as stores, events and errors call them."""

R = TypeVar("R", bound=Request)
"""The requests that have a requestId."""


def order_number(request: Request) -> str | None:
    """Return the order that a query can ask for when the answer gets lost."""
    if isinstance(request, InstantTrade):
        return request.trade_info[0].out_trade_no
    return request.out_trade_no


@frozen(kw_only=True, slots=False)
class TradeQuery(AsDict):
    """Ask for one trade: `POST /api/instant/query`; exactly one of the two numbers."""

    out_trade_no: str | None = field(default=None, validator=validators.optional_plain)
    trade_no: str | None = field(default=None, validator=validators.optional_plain)

    def __attrs_post_init__(self) -> None:
        if (self.out_trade_no is None) == (self.trade_no is None):
            raise InvalidRequestError(
                "both or neither given", field="outTradeNo", allowed="outTradeNo or tradeNo, one"
            )


def check_type(request: object, kind: type[R]) -> R:
    """Return a request that is of this kind.

    Raises:
        InvalidRequestError: it is of another.
    """
    if not isinstance(request, kind):
        raise InvalidRequestError(
            f"got {type(request).__name__}", field="request", allowed=kind.__name__
        )
    return request

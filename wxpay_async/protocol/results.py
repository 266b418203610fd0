"""The results of the platform's replies.

Beside its own fields every result has:

- `attempts`: the HTTP attempts that this answer took;
- `replayed`: whether it came from the idempotency store or from another caller's call;
- `raw`: the decoded `data` as the platform sent it, unknown fields included.

No `repr` shows a credential (payToken, paySign, the prepay).
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from datetime import datetime, timedelta
from decimal import Decimal
from types import MappingProxyType
from typing import Any, Final

from attrs import evolve, field, frozen
from attrs.validators import min_len

from wxpay_async.errors import MalformedResponseError
from wxpay_async.protocol import secrets, validators
from wxpay_async.protocol.as_dict import AsDict
from wxpay_async.protocol.keys import KeyData
from wxpay_async.protocol.signing import RsaVerifier, Verifier

PREPAY_LIFE: Final = timedelta(minutes=20)
"""How long WeChat accepts a prepayId (the platform's page)."""

_PREPAY_FIELDS: Final = frozenset(
    {"timeStamp", "nonceStr", "prepayId", "extPackage", "signType", "paySign"}
)

LOCAL_PREFIX: Final = "$"
"""The prefix of a field that only this side sets; no name of the platform begins with it."""

_LOCAL: Final = {"local": True}
_SIGNED_AT: Final = {**_LOCAL, "plain": "signedAt"}
_STATE: Final = {**_LOCAL, "plain": "state", "property": "state"}


@frozen(kw_only=True, slots=False)
class TradeRef(AsDict):
    """A row of `tradeResList`.

    Attributes:
        out_trade_no: the merchant's order number.
        trade_no: the platform's.
        status: S succeeded, P in progress, F failed.
    """

    out_trade_no: str
    trade_no: str
    status: str


@frozen(kw_only=True, slots=False)
class PayResult(AsDict):
    """The JSAPI parameters of one payment (the platform's page).

    Attributes:
        app_id: the mini program's appid.
        time_stamp: seconds since the epoch, as text.
        nonce_str: random text.
        prepay_id: WeChat's prepay session; lives 20 minutes.
        ext_package: `prepay_id=` and the prepay_id.
        sign_type: RSA.
        pay_sign: WeChat's signature over the above.
        request_id: the echo of the requestId, where the platform gives one.
        inst_amount: yuan.
        trade_res_list: the orders that are paid by it.
        signed_at: when our request was signed, by the platform's clock as far as it is known.
    """

    app_id: str
    time_stamp: str
    nonce_str: str
    prepay_id: str = field(repr=secrets.mask)
    ext_package: str = field(repr=False)
    sign_type: str
    pay_sign: str = field(repr=secrets.hide)
    request_id: str | None = None
    inst_amount: Decimal | None = None
    trade_res_list: tuple[TradeRef, ...] = ()
    signed_at: datetime | None = field(default=None, metadata=_SIGNED_AT)
    attempts: int = field(default=1, eq=False, metadata=_LOCAL)
    replayed: bool = field(default=False, eq=False, metadata=_LOCAL)
    raw: Mapping[str, Any] = field(factory=dict[str, Any], repr=False, hash=False, metadata=_LOCAL)

    def __attrs_post_init__(self) -> None:
        if not (self.app_id and self.time_stamp and self.nonce_str and self.prepay_id):
            raise MalformedResponseError("a JSAPI parameter is empty", retryable=False)
        if not (self.sign_type and self.pay_sign):
            raise MalformedResponseError("a JSAPI parameter is empty", retryable=False)
        if self.ext_package != f"prepay_id={self.prepay_id}":
            raise MalformedResponseError(
                "extPackage is not prepay_id= and the prepayId", retryable=False
            )

    @property
    def expires_at(self) -> datetime | None:
        """When the prepay expires: 20 minutes after signing, which errs on the early side."""
        return self.signed_at + PREPAY_LIFE if self.signed_at else None

    def jsapi_params(self) -> dict[str, str]:
        """Return exactly the object that `wx.requestPayment` takes."""
        return {
            "timeStamp": self.time_stamp,
            "nonceStr": self.nonce_str,
            "package": self.ext_package,
            "signType": self.sign_type,
            "paySign": self.pay_sign,
        }

    def verify_pay_sign(self, public_key: Verifier | KeyData) -> None:
        """Verify WeChat's RSA signature over four lines: appId, timeStamp, nonceStr, package.

        Args:
            public_key: a verifier, or the public key that belongs to the signing merchant key.

        Raises:
            NotificationError: the signature does not fit.
            InvalidKeyError: the key cannot be used.
        """
        if isinstance(public_key, str | bytes):
            public_key = RsaVerifier.from_pem(public_key)
        lines = (self.app_id, self.time_stamp, self.nonce_str, self.ext_package)
        public_key.verify("".join(f"{line}\n" for line in lines).encode(), self.pay_sign)


@frozen(kw_only=True, slots=False)
class TradeResult(AsDict):
    """A created instant trade.

    Attributes:
        request_id: the echo of the requestId, where the platform gives one.
        pay_token: what `MiniProgramPay` takes (its page says that this call returns it).
        return_url: address of a QR code, for the products that are scanned.
        trade_res_list: the orders that were created.
        inst_amount: yuan.
        app_id: a JSAPI field like `time_stamp` to `pay_sign`, if the platform sends them. A result
            that is replayed after the prepay expired has none of them but this one.
    """

    request_id: str | None = None
    pay_token: str | None = field(default=None, repr=secrets.hide)
    return_url: str | None = field(default=None, repr=secrets.hide)
    trade_res_list: tuple[TradeRef, ...] = ()
    inst_amount: Decimal | None = None
    app_id: str | None = None
    time_stamp: str | None = None
    nonce_str: str | None = None
    prepay_id: str | None = field(default=None, repr=secrets.mask)
    ext_package: str | None = field(default=None, repr=False)
    sign_type: str | None = None
    pay_sign: str | None = field(default=None, repr=secrets.hide)
    attempts: int = field(default=1, eq=False, metadata=_LOCAL)
    replayed: bool = field(default=False, eq=False, metadata=_LOCAL)
    raw: Mapping[str, Any] = field(factory=dict[str, Any], repr=False, hash=False, metadata=_LOCAL)

    def without_prepay(self) -> TradeResult:
        """Return the order without the fields of a prepay that has expired."""
        raw = {name: value for name, value in self.raw.items() if name not in _PREPAY_FIELDS}
        return evolve(
            self,
            time_stamp=None,
            nonce_str=None,
            prepay_id=None,
            ext_package=None,
            sign_type=None,
            pay_sign=None,
            raw=validators.ReadOnly(raw),
        )


class TradeState(enum.StrEnum):
    """The meaning of a trade's status text."""

    AWAITING = "awaiting"
    PAID = "paid"
    FAILED = "failed"
    CLOSED = "closed"
    REFUNDING = "refunding"
    REFUNDED = "refunded"
    REFUND_FAILED = "refund_failed"
    UNKNOWN = "unknown"

    @property
    def was_paid(self) -> bool:
        """Whether the money came; only what was paid can be refunded."""
        return self in _WAS_PAID

    @property
    def ended_unpaid(self) -> bool:
        """Whether the order is over without a payment."""
        return self in _ENDED_UNPAID


_WAS_PAID: Final = frozenset(
    {TradeState.PAID, TradeState.REFUNDING, TradeState.REFUNDED, TradeState.REFUND_FAILED}
)
_ENDED_UNPAID: Final = frozenset({TradeState.FAILED, TradeState.CLOSED})


DOCUMENTED_STATE: Final = "待付款"
"""The only status text of a query that the platform documents: awaiting payment."""

TRADE_STATES: Final[Mapping[str, TradeState]] = MappingProxyType(
    {
        DOCUMENTED_STATE: TradeState.AWAITING,
        # The others are read literally. A text that is not here stays UNKNOWN: it is never taken
        # for a payment.
        "待支付": TradeState.AWAITING,
        "支付中": TradeState.AWAITING,
        "处理中": TradeState.AWAITING,
        "已付款": TradeState.PAID,
        "已支付": TradeState.PAID,
        "付款成功": TradeState.PAID,
        "支付成功": TradeState.PAID,
        "交易成功": TradeState.PAID,
        "TRADE_SUCCESS": TradeState.PAID,
        "付款失败": TradeState.FAILED,
        "支付失败": TradeState.FAILED,
        "交易失败": TradeState.FAILED,
        "TRANSFER_FAIL": TradeState.FAILED,
        "已关闭": TradeState.CLOSED,
        "交易关闭": TradeState.CLOSED,
        "TRADE_CLOSED": TradeState.CLOSED,
        "退款中": TradeState.REFUNDING,
        "退款处理中": TradeState.REFUNDING,
        "退款成功": TradeState.REFUNDED,
        "已退款": TradeState.REFUNDED,
        "REFUND_SUCCESS": TradeState.REFUNDED,
        "退款失败": TradeState.REFUND_FAILED,
        "REFUND_FAIL": TradeState.REFUND_FAILED,
    }
)


@frozen(kw_only=True, slots=False)
class RoyaltyShare(AsDict):
    """A royalty as a query reports it; the amount is in yuan."""

    payee_member_id: str | None = None
    payee_name: str | None = None
    amount: Decimal | None = None


@frozen(kw_only=True, slots=False)
class TradeStatus(AsDict):
    """The platform's record of one trade (`/api/instant/query`).

    Attributes:
        out_trade_no: the merchant's order number.
        trade_no: the platform's.
        status: the platform's Chinese text; 待付款 (awaiting payment) is the documented one.
        subject: what is sold.
        price: yuan for one piece.
        quantity: pieces.
        total_amount: yuan.
        payee_identity: the seller's member id.
        payee_name: the seller.
        partner_fee: yuan that the merchant platform bears.
        payee_fee: yuan that the seller bears.
        payer_fee: yuan that the payer bears.
        royalty_info: who gets a share.
        taught: the state of the text by `PayGateway(trade_states=...)`, None where it has none.
    """

    out_trade_no: str
    status: str
    trade_no: str | None = None
    subject: str | None = None
    price: Decimal | None = None
    quantity: str | None = None
    total_amount: Decimal | None = None
    payee_identity: str | None = None
    payee_name: str | None = None
    partner_fee: Decimal | None = None
    payee_fee: Decimal | None = None
    payer_fee: Decimal | None = None
    royalty_info: tuple[RoyaltyShare, ...] = ()
    taught: TradeState | None = field(default=None, eq=False, repr=False, metadata=_STATE)
    attempts: int = field(default=1, eq=False, metadata=_LOCAL)
    replayed: bool = field(default=False, eq=False, metadata=_LOCAL)
    raw: Mapping[str, Any] = field(factory=dict[str, Any], repr=False, hash=False, metadata=_LOCAL)

    @property
    def state(self) -> TradeState:
        """The meaning of the text; UNKNOWN for one that is neither taught nor in our table."""
        if self.taught is not None:
            return self.taught
        return TRADE_STATES.get(self.status, TradeState.UNKNOWN)


@frozen(kw_only=True, slots=False)
class RefundResult(AsDict):
    """An accepted refund.

    Attributes:
        out_trade_no: the refund's own number.
        status: S accepted; F is raised as `FailedError`; P and every other text: under way.
        trade_no: the platform's number of the refund.
        request_id: the echo of the requestId, where the platform gives one.
    """

    out_trade_no: str = field(validator=min_len(1))
    status: str = field(validator=min_len(1))
    trade_no: str | None = None
    request_id: str | None = None
    attempts: int = field(default=1, eq=False, metadata=_LOCAL)
    replayed: bool = field(default=False, eq=False, metadata=_LOCAL)
    raw: Mapping[str, Any] = field(factory=dict[str, Any], repr=False, hash=False, metadata=_LOCAL)


@frozen(kw_only=True, slots=False)
class Merchant(AsDict):
    """A sub-merchant of the appKey."""

    merchant_id: str
    merchant_name: str | None = None


@frozen(kw_only=True)
class CallResult:
    """What an endpoint answered that the SDK has no method for (`PayGateway.call`).

    Attributes:
        data: the `data` of the answer as JSON, None where it has none. Numbers with a fraction are
            `Decimal`. It may hold credentials, so a `repr` does not show it.
        attempts: the HTTP attempts that this answer took.
        replayed: False: no store remembers such a call.
    """

    data: Any = field(repr=False, hash=False)
    attempts: int = field(default=1, eq=False)
    replayed: bool = field(default=False, eq=False)


@frozen(kw_only=True, slots=False)
class MerchantPage:
    """One page of sub-merchants (`/api/company/merchants`); pages count from 1."""

    merchants: tuple[Merchant, ...]
    total: int | None = None
    total_page: int | None = None
    page_size: int | None = None
    current_page: int | None = None
    attempts: int = field(default=1, eq=False, metadata=_LOCAL)
    replayed: bool = field(default=False, eq=False, metadata=_LOCAL)
    raw: Mapping[str, Any] = field(factory=dict[str, Any], repr=False, hash=False, metadata=_LOCAL)

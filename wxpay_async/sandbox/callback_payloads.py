"""Build and sign the parameters of callbacks, genuine and forged ones. No I/O.

The fields are those of the platform's pages. The format of their times is not documented: the
sandbox writes them as `2025-11-23 12:00:00` in China Standard Time. Fields that do not apply are
empty, and so are not signed. The four parameters of a request (appKey, nonce, timestamp, sign) are
added, as in other callbacks of the same platform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from attrs import evolve, field, frozen

from wxpay_async.sandbox.auth import Scheme, canonical_bytes
from wxpay_async.sandbox.fault_kinds import Forgery
from wxpay_async.sandbox.faults import Fault
from wxpay_async.sandbox.state import Refund, Status, Trade

Pairs = list[tuple[str, str]]
SignFunction = Callable[[bytes], str]

PAID: Final = "TRADE_SUCCESS"
RESULTS: Final[Mapping[Status, str]] = MappingProxyType(
    {Status.PAID: PAID, Status.FAILED: "TRANSFER_FAIL", Status.CLOSED: "TRADE_CLOSED"}
)
"""trade_status by the status with which a purchase has ended."""

REFUNDED: Final = "REFUND_SUCCESS"
DECLINED: Final = "付款人取消支付"
"""failReason: the payer of the sandbox fails a payment by cancelling it."""

_OTHER_STATUS: Final[Mapping[str, str]] = MappingProxyType(
    {PAID: "TRADE_CLOSED", REFUNDED: "REFUND_FAIL", "REFUND_FAIL": REFUNDED}
)
_CHINA: Final = timezone(timedelta(hours=8))
_HOUR_MS: Final = 3_600_000


@frozen(kw_only=True)
class Callback:
    """A message to a merchant about the end of an order or about a refund.

    Attributes:
        app_key: the merchant's.
        kind: `trade` or `refund`.
        out_trade_no: the order's number, or the refund's own.
        fields: the business fields, under the platform's names.
        fault: what goes wrong with it besides the faults that are ordered; None for nothing.
    """

    app_key: str
    kind: str
    out_trade_no: str
    fields: Mapping[str, str]
    fault: Fault | None = None


@frozen(kw_only=True)
class Nonce:
    """What makes one delivery of a callback differ from the next.

    Attributes:
        value: unguessable text.
        timestamp: milliseconds since the epoch.
    """

    value: str
    timestamp: int


@frozen(kw_only=True)
class CallbackSigner:
    """Sign the callbacks to one merchant.

    Attributes:
        scheme: the scheme that the merchant's contract names.
        signers: how to sign, by scheme.
    """

    scheme: Scheme
    signers: Mapping[Scheme, SignFunction] = field(repr=False)

    def use_other_scheme(self) -> CallbackSigner:
        """Return a signer by the scheme that the contract does not name."""
        return evolve(self, scheme="md5" if self.scheme == "rsa" else "rsa")

    def sign(self, callback: Callback, nonce: Nonce) -> dict[str, str]:
        """Return the parameters of a genuine callback, signed by the rules of a request."""
        params = {
            **callback.fields,
            "appKey": callback.app_key,
            "nonce": nonce.value,
            "timestamp": str(nonce.timestamp),
            **({"signType": "RSA"} if self.scheme == "rsa" else {}),
        }
        return {**params, "sign": self.signers[self.scheme](canonical_bytes(params))}


def build_trade_callback(trade: Trade) -> Callback:
    """Build the callback about an order; for an order that awaits payment, it says "paid"."""
    purchase = trade.purchase
    result = RESULTS.get(purchase.status, PAID)
    at = format_time(purchase.clock() if purchase.ended_at is None else purchase.ended_at)
    return Callback(
        app_key=purchase.app_key,
        kind="trade",
        out_trade_no=trade.out_trade_no,
        fault=purchase.callback_fault,
        fields={
            "out_trade_no": trade.out_trade_no,
            "inner_trade_no": trade.trade_no,
            "trade_status": result,
            "trade_amount": str(trade.amount),
            "gmt_payment": at if result == PAID else "",
            "gmt_close": at if result == RESULTS[Status.CLOSED] else "",
            "failReason": (purchase.fail_reason or DECLINED)
            if result == RESULTS[Status.FAILED]
            else "",
        },
    )


def build_refund_callback(refund: Refund) -> Callback:
    """Build the callback about a refund."""
    return Callback(
        app_key=refund.trade.purchase.app_key,
        kind="refund",
        out_trade_no=refund.out_trade_no,
        fields={
            "orig_outer_trade_no": refund.trade.out_trade_no,
            "out_trade_no": refund.out_trade_no,
            "inner_trade_no": refund.trade_no,
            "refund_status": REFUNDED,
            "refund_amount": str(refund.amount),
            "gmt_refund": format_time(refund.at),
        },
    )


def to_china_time(seconds: float) -> datetime:
    """Return seconds since the epoch as China Standard Time."""
    return datetime.fromtimestamp(seconds, _CHINA)


def format_time(seconds: float) -> str:
    """Format seconds since the epoch as China Standard Time, without fractions."""
    return f"{to_china_time(seconds):%Y-%m-%d %H:%M:%S}"


def forge_callback(
    kind: Forgery, callback: Callback, *, signer: CallbackSigner, nonce: Nonce
) -> Pairs:
    """Return the parameters of a forged callback.

    Args:
        kind: what is wrong with it.
        callback: the genuine callback that it is made from.
        signer: the merchant's.
        nonce: nonce and timestamp.
    """
    match kind:
        case Forgery.SCHEME:
            signer = signer.use_other_scheme()
        case Forgery.APP_KEY:  # another merchant may well have an order of the same number
            callback = evolve(callback, app_key=f"{callback.app_key}-other")
        case Forgery.FUTURE:
            nonce = evolve(nonce, timestamp=nonce.timestamp + _HOUR_MS)
        case _:
            return _tamper(kind, signer.sign(callback, nonce))
    return list(signer.sign(callback, nonce).items())


def _tamper(kind: Forgery, params: dict[str, str]) -> Pairs:
    """Change signed parameters after they were signed."""
    removed = _REMOVED.get(kind, ())
    pairs = [(name, value) for name, value in params.items() if name not in removed]
    changes = _CHANGES[kind](params) if kind in _CHANGES else {}
    if kind in _ADDING:
        return [*pairs, *changes.items()]
    return [(name, changes.get(name, value)) for name, value in pairs]


def _change_sign(params: Mapping[str, str]) -> dict[str, str]:
    # A and B occur in Base64 and in hexadecimal, so the signature keeps its form.
    sign = params["sign"]
    return {"sign": ("B" if sign.startswith("A") else "A") + sign[1:]}


def _change_status(params: Mapping[str, str]) -> dict[str, str]:
    name = "trade_status" if "trade_status" in params else "refund_status"
    return {name: _OTHER_STATUS.get(params[name], PAID)}


def _change_amount(params: Mapping[str, str]) -> dict[str, str]:
    name = "trade_amount" if "trade_amount" in params else "refund_amount"
    return {name: str(Decimal(params[name]) * 100)}


_ADDING: Final = (Forgery.EXTRA, Forgery.TWICE)
_REMOVED: Final[Mapping[Forgery, tuple[str, ...]]] = MappingProxyType(
    {
        Forgery.UNSIGNED: ("sign",),
        Forgery.BARE: ("appKey", "nonce", "timestamp", "signType", "sign"),
    }
)
_CHANGES: Final[Mapping[Forgery, Callable[[Mapping[str, str]], dict[str, str]]]] = MappingProxyType(
    {
        Forgery.SIGNATURE: _change_sign,
        Forgery.EMPTY_SIGN: lambda _: {"sign": ""},
        Forgery.STATUS: _change_status,
        Forgery.AMOUNT: _change_amount,
        Forgery.ORDER: lambda params: {"out_trade_no": f"{params['out_trade_no']}0"},
        Forgery.EXTRA: lambda _: {"remark": "unsigned"},
        Forgery.TWICE: _change_amount,
    }
)

"""What a callback says, how it is signed, and how a forger would have it. No I/O.

The fields are those of the platform's pages. Their times have no documented format: the sandbox
writes them as `2025-11-23 12:00:00` in China Standard Time. Fields that do not apply are empty, and
so stand outside the signature. The four parameters of a request (appKey, nonce, timestamp, sign)
stand beside them, as in the sibling callbacks of the same platform.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from attrs import field, frozen

from wxpay_async.sandbox.auth import Scheme, signed_bytes
from wxpay_async.sandbox.faults import Forgery
from wxpay_async.sandbox.state import Refund, Status, Trade

Pairs = list[tuple[str, str]]
Sign = Callable[[bytes], str]

PAID: Final = "TRADE_SUCCESS"
RESULTS: Final[Mapping[Status, str]] = MappingProxyType(
    {Status.PAID: PAID, Status.FAILED: "TRANSFER_FAIL", Status.CLOSED: "TRADE_CLOSED"}
)
"""trade_status by the status that a purchase has ended with."""

REFUNDED: Final = "REFUND_SUCCESS"
DECLINED: Final = "付款人取消支付"
"""failReason: the payer of the sandbox fails a payment by cancelling it."""

_OTHER_STATUS: Final[Mapping[str, str]] = MappingProxyType(
    {PAID: "TRADE_CLOSED", REFUNDED: "REFUND_FAIL", "REFUND_FAIL": REFUNDED}
)
_CHINA: Final = timezone(timedelta(hours=8))
_HOUR_MS: Final = 3_600_000


@frozen(kw_only=True)
class Notice:
    """Something that the merchant shall be told.

    Attributes:
        app_key: whom it concerns.
        kind: `trade` or `refund`.
        out_trade_no: the order's number, or the refund's own.
        fields: what the callback says, under the platform's names.
    """

    app_key: str
    kind: str
    out_trade_no: str
    fields: Mapping[str, str]


@frozen(kw_only=True)
class Stamp:
    """What makes one sending of a notice differ from the next.

    Attributes:
        nonce: unguessable text.
        timestamp: milliseconds since the epoch.
    """

    nonce: str
    timestamp: int


@frozen(kw_only=True)
class Seal:
    """By which the callbacks to one merchant are signed.

    Attributes:
        scheme: what the merchant's contract names.
        signs: how to sign, by scheme.
    """

    scheme: Scheme
    signs: Mapping[Scheme, Sign] = field(repr=False)

    def swapped(self) -> Seal:
        """Return the seal that the contract does not name."""
        return Seal(scheme="md5" if self.scheme == "rsa" else "rsa", signs=self.signs)

    def close(self, notice: Notice, stamp: Stamp) -> dict[str, str]:
        """Return the parameters of a genuine callback, signed by the rules of a request."""
        params = {
            **notice.fields,
            "appKey": notice.app_key,
            "nonce": stamp.nonce,
            "timestamp": str(stamp.timestamp),
            **({"signType": "RSA"} if self.scheme == "rsa" else {}),
        }
        return {**params, "sign": self.signs[self.scheme](signed_bytes(params))}


def trade_notice(trade: Trade) -> Notice:
    """Say what became of an order; of one that awaits payment, falsely, that it is paid."""
    purchase = trade.purchase
    result = RESULTS.get(purchase.status, PAID)
    at = local_time(purchase.clock() if purchase.ended_at is None else purchase.ended_at)
    return Notice(
        app_key=purchase.app_key,
        kind="trade",
        out_trade_no=trade.out_trade_no,
        fields={
            "out_trade_no": trade.out_trade_no,
            "inner_trade_no": trade.trade_no,
            "trade_status": result,
            "trade_amount": str(trade.amount),
            "gmt_payment": at if result == PAID else "",
            "gmt_close": at if result == RESULTS[Status.CLOSED] else "",
            "failReason": DECLINED if result == RESULTS[Status.FAILED] else "",
        },
    )


def refund_notice(refund: Refund) -> Notice:
    """Say that money went back."""
    return Notice(
        app_key=refund.trade.purchase.app_key,
        kind="refund",
        out_trade_no=refund.out_trade_no,
        fields={
            "orig_outer_trade_no": refund.trade.out_trade_no,
            "out_trade_no": refund.out_trade_no,
            "inner_trade_no": refund.trade_no,
            "refund_status": REFUNDED,
            "refund_amount": str(refund.amount),
            "gmt_refund": local_time(refund.at),
        },
    )


def local_time(seconds: float) -> str:
    """Write a time as the platform's people read it."""
    return f"{datetime.fromtimestamp(seconds, UTC).astimezone(_CHINA):%Y-%m-%d %H:%M:%S}"


def forged(kind: Forgery, notice: Notice, *, seal: Seal, stamp: Stamp) -> Pairs:
    """Return the parameters of a forged callback.

    Args:
        kind: what is wrong with it.
        notice: the genuine one that it is made from.
        seal: the merchant's.
        stamp: nonce and timestamp.
    """
    match kind:
        case Forgery.SCHEME:
            seal = seal.swapped()
        case Forgery.APP_KEY:
            notice = _readdressed(notice)
        case Forgery.FUTURE:
            stamp = Stamp(nonce=stamp.nonce, timestamp=stamp.timestamp + _HOUR_MS)
        case _:
            return _tampered(kind, seal.close(notice, stamp))
    return list(seal.close(notice, stamp).items())


def _readdressed(notice: Notice) -> Notice:
    """Address it to another merchant, who may well have an order of the same number."""
    return Notice(
        app_key=f"{notice.app_key}-other",
        kind=notice.kind,
        out_trade_no=notice.out_trade_no,
        fields=notice.fields,
    )


def _tampered(kind: Forgery, params: dict[str, str]) -> Pairs:
    """Change what was signed, after it was signed."""
    drop = _DROPPED.get(kind, ())
    pairs = [(name, value) for name, value in params.items() if name not in drop]
    changes = _CHANGES[kind](params) if kind in _CHANGES else {}
    if kind in _ADDING:
        return [*pairs, *changes.items()]
    return [(name, changes.get(name, value)) for name, value in pairs]


def _other_sign(params: Mapping[str, str]) -> dict[str, str]:
    # A and B are digits of both alphabets, so that the shape stays right.
    sign = params["sign"]
    return {"sign": ("B" if sign.startswith("A") else "A") + sign[1:]}


def _other_status(params: Mapping[str, str]) -> dict[str, str]:
    name = "trade_status" if "trade_status" in params else "refund_status"
    return {name: _OTHER_STATUS.get(params[name], PAID)}


def _other_amount(params: Mapping[str, str]) -> dict[str, str]:
    name = "trade_amount" if "trade_amount" in params else "refund_amount"
    return {name: str(Decimal(params[name]) * 100)}


_ADDING: Final = (Forgery.EXTRA, Forgery.TWICE)
_DROPPED: Final[Mapping[Forgery, tuple[str, ...]]] = MappingProxyType(
    {
        Forgery.UNSIGNED: ("sign",),
        Forgery.BARE: ("appKey", "nonce", "timestamp", "signType", "sign"),
    }
)
_CHANGES: Final[Mapping[Forgery, Callable[[Mapping[str, str]], dict[str, str]]]] = MappingProxyType(
    {
        Forgery.SIGNATURE: _other_sign,
        Forgery.EMPTY_SIGN: lambda _: {"sign": ""},
        Forgery.STATUS: _other_status,
        Forgery.AMOUNT: _other_amount,
        Forgery.ORDER: lambda params: {"out_trade_no": f"{params['out_trade_no']}0"},
        Forgery.EXTRA: lambda _: {"remark": "unsigned"},
        Forgery.TWICE: _other_amount,
    }
)

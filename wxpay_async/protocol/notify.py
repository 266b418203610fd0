"""Read and verify the raw bytes of a callback.

The rules (`docs/money-safety.md` §7), in the order in which they are applied:

1. Raw bytes only: at most 64 KB and 64 fields, a form or a flat JSON object by the content type,
   strict UTF-8, no name twice (`callback_body.py`).
2. The appKey is ours. The endpoint's configuration alone chooses the scheme; the message's
   `signType` does not. While a key is renewed there are several verifiers of that scheme.
3. A message with any of the four signature fields must have them all and verify. One with none of
   them is unverified: the pages of the acquiring callbacks do not list the four. A `sign` that was
   broken into lines, or whose plus signs became blanks, is read as it was written.
4. `&` and `=` are refused in signed values, since nothing quotes them. `failReason` is free text
   and may hold them if it does not look like a further field: then the signed string still stands
   for one message only.
5. A signed timestamp over 300 s ahead is refused; one over 300 s old is genuine but not fresh.

Only an RSA signature makes a notification `authentic`. In the MD5 scheme both sides share the
secret, and MD5 collides: such a message is only a hint, like an unsigned one, and a query must
confirm it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from types import MappingProxyType
from typing import Final

from attrs import evolve, field, frozen

from wxpay_async.errors import InvalidRequestError, NotificationError
from wxpay_async.protocol import money, validators
from wxpay_async.protocol.callback_body import read_fields
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.results import TradeState, TradeStatus
from wxpay_async.protocol.signing import Md5Verifier, RsaVerifier, Verifier

ACK_HANDLED: Final = b'{"status": 1}'
"""The exact answer after the effect has happened."""

ACK_NOT_HANDLED: Final = b'{"status": 0}'
"""The exact answer otherwise; the platform sends the callback again."""

MAX_BODY: Final = 64 * 1024
"""Bytes of a callback."""

MAX_FIELDS: Final = 64

FRESH: Final = 300.0
"""Seconds either way within which a signed timestamp is fresh."""

CHINA: Final = timezone(timedelta(hours=8))
"""China Standard Time, which applies to a time without a zone."""

_STATES: Final[Mapping[str, TradeState]] = MappingProxyType(
    {
        "TRADE_SUCCESS": TradeState.PAID,
        "TRANSFER_FAIL": TradeState.FAILED,
        "TRADE_CLOSED": TradeState.CLOSED,
        "REFUND_SUCCESS": TradeState.REFUNDED,
        "REFUND_FAIL": TradeState.REFUND_FAILED,
    }
)
_SIGNATURE_FIELDS: Final = ("appKey", "nonce", "timestamp", "sign")
_FREE_TEXT: Final = "failReason"
_FURTHER_FIELD: Final = re.compile(r"&[A-Za-z0-9_.\-]+=", re.ASCII)
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029]")
_LINE_BREAK: Final = re.compile(r"[\r\n]")
_MILLISECONDS: Final = re.compile(r"[0-9]{1,15}", re.ASCII)
_EPOCH_MILLISECONDS: Final = re.compile(r"[0-9]{13}", re.ASCII)
_COMPACT: Final = re.compile(r"([0-9]{8})([0-9]{6})", re.ASCII)
_MAX_IDENTIFIER: Final = 128


def _state(text: str, *known: TradeState) -> TradeState:
    state = _STATES.get(text, TradeState.UNKNOWN)
    return state if state in known else TradeState.UNKNOWN


@frozen(kw_only=True)
class TradeNotification:
    """A callback about an order.

    Attributes:
        out_trade_no: the merchant's order number.
        inner_trade_no: the platform's. If the notification is confirmed, what the query said; None
            if it said nothing and no RSA signature stands for the number of the callback.
        trade_status: TRADE_SUCCESS paid, TRANSFER_FAIL failed, TRADE_CLOSED closed; others are
            kept as text.
        trade_amount: yuan.
        gmt_payment: when it was paid; None where it is absent or cannot be read (see `raw`), or
            where it is confirmed and not authentic: no query tells it.
        gmt_close: when it was closed, likewise.
        fail_reason: the platform's words, for the merchant only: not for a payer or a log. None as
            for `gmt_payment`.
        authentic: an RSA signature verified. Without it, this is a hint of unknown origin.
        verified: a signature of the endpoint's scheme verified, be it RSA or MD5.
        fresh: its signed timestamp is at most 300 s old. False for an unsigned one.
        confirmed: a query said the same about the order, its status and its amount. Then all fields
            are what the query said, or what an RSA signature stands for.
        queried: the answer of that query, which is the truth to act on. It may know more, such as a
            refund. None if a fresh RSA signature made a query unnecessary.
        raw: every field that has a value, as it arrived, without the signature. Confirmed or not:
            if the notification is not authentic, anyone may have written them.
    """

    out_trade_no: str
    inner_trade_no: str | None
    trade_status: str
    trade_amount: Decimal
    gmt_payment: datetime | None = None
    gmt_close: datetime | None = None
    fail_reason: str | None = field(default=None, repr=False)
    authentic: bool
    verified: bool = False
    fresh: bool
    confirmed: bool = False
    queried: TradeStatus | None = None
    raw: Mapping[str, str] = field(repr=False, hash=False)

    @property
    def state(self) -> TradeState:
        """The meaning of the status: PAID, FAILED, CLOSED, or UNKNOWN for any other text."""
        known = (TradeState.PAID, TradeState.FAILED, TradeState.CLOSED)
        return _state(self.trade_status, *known)


@frozen(kw_only=True)
class RefundNotification:
    """A callback about a refund.

    Attributes:
        orig_outer_trade_no: the order that was paid. A query does not tell it: None where the
            notification is confirmed and not authentic. Then find your refund by `out_trade_no`,
            the number that you chose.
        out_trade_no: the refund's own number.
        inner_trade_no: the platform's number of the refund, as in `TradeNotification`.
        refund_status: REFUND_SUCCESS or REFUND_FAIL; others are kept as text.
        refund_amount: yuan.
        gmt_refund: when it was refunded; None as for `gmt_payment` of a `TradeNotification`.
        authentic: as in `TradeNotification`, like the fields below.
        verified: a signature of the endpoint's scheme verified.
        fresh: its signed timestamp is at most 300 s old.
        confirmed: a query by the refund's number said the same.
        queried: the answer of that query; None if none was needed, or it did not find the refund.
        raw: as in `TradeNotification`.
    """

    orig_outer_trade_no: str | None
    out_trade_no: str
    inner_trade_no: str | None
    refund_status: str
    refund_amount: Decimal
    gmt_refund: datetime | None = None
    authentic: bool
    verified: bool = False
    fresh: bool
    confirmed: bool = False
    queried: TradeStatus | None = None
    raw: Mapping[str, str] = field(repr=False, hash=False)

    @property
    def state(self) -> TradeState:
        """The meaning of the status: REFUNDED, REFUND_FAILED, or UNKNOWN for any other text."""
        return _state(self.refund_status, TradeState.REFUNDED, TradeState.REFUND_FAILED)


Notification = TradeNotification | RefundNotification


def _wall_clock() -> float:
    return datetime.now(UTC).timestamp()


def _freeze(
    given: Verifier | Sequence[Verifier] | None,
) -> Verifier | tuple[Verifier, ...] | None:
    return tuple(given) if isinstance(given, Sequence) else given


@frozen
class Notifications:
    """Reads the callbacks of one endpoint.

    Args:
        verifier: of the scheme by which the platform signs for this endpoint: `RsaVerifier` with
            the platform's public key, or `Md5Verifier`. Several of one scheme while the platform
            renews its key (or you your secret): what any of them verifies is verified. None if the
            platform does not sign: then every notification is an unverified hint.
        app_key: ours; a callback for another one is refused.
        allow_unsigned: whether a callback without the four signature fields is read as a hint.
            Set it to False once you have seen that yours are signed. Otherwise anyone who knows
            the address can make you spend your quota on queries.
        clock: seconds since the epoch; an argument, because all else here is pure.

    Raises:
        InvalidRequestError: verifiers of several schemes, of which the message would choose one; an
            empty sequence of them; or something else than verifiers.
    """

    verifier: Verifier | tuple[Verifier, ...] | None = field(converter=_freeze)
    app_key: str = field(kw_only=True)
    allow_unsigned: bool = field(default=True, kw_only=True)
    clock: Callable[[], float] = field(default=_wall_clock, kw_only=True, repr=False)

    def __attrs_post_init__(self) -> None:
        if self.verifier is not None:
            _check_verifiers(self._verifiers)

    @property
    def _verifiers(self) -> tuple[Verifier, ...]:
        if isinstance(self.verifier, tuple):
            return self.verifier
        return () if self.verifier is None else (self.verifier,)

    def parse(self, headers: Mapping[str, str], body: bytes) -> Notification:
        """Read one callback.

        Args:
            headers: of the HTTP request, names in upper or lower case; only the content's type and
                encoding matter.
            body: the raw bytes as they arrived.

        Raises:
            NotificationError: it must not be believed. The text repeats no value of it.
            TypeError: the body was already parsed or decoded, but the signature is over its bytes.
        """
        _check_raw(body)
        try:
            return self._parse(headers, body)
        except NotificationError as error:
            failure = error.with_traceback(None)
        finally:
            del body
        # Raise it from here: the frames below hold the message, which may name a payer.
        raise failure

    def _parse(self, headers: Mapping[str, str], body: bytes) -> Notification:
        if len(body) > MAX_BODY:
            raise NotificationError(f"the body is over {MAX_BODY} bytes")
        params = read_fields(headers, body, at_most=MAX_FIELDS)
        fresh = self._verify(params)
        authentic = fresh is not None and isinstance(self._verifiers[0], RsaVerifier)
        notification = _to_notification({n: v for n, v in params.items() if n != "sign"})
        verified = fresh is not None
        return evolve(notification, authentic=authentic, verified=verified, fresh=bool(fresh))

    def _verify(self, params: Mapping[str, str]) -> bool | None:
        """Return whether it is fresh; None if no signature proves anything."""
        if params.get("appKey", self.app_key) != self.app_key:
            raise NotificationError("the callback is for another appKey")
        present = [name for name in _SIGNATURE_FIELDS if name in params]
        if not present and "signType" not in params and self.allow_unsigned:
            return None
        if len(present) < len(_SIGNATURE_FIELDS):
            raise NotificationError("the callback is not signed, or a part of it is missing")
        if not self._verifiers:
            return None
        self._verify_by_any(_message_to_verify(params), _restore_sign(params["sign"]))
        return _is_fresh(params["timestamp"], self.clock())

    def _verify_by_any(self, message: bytes, sign: str) -> None:
        *others, last = self._verifiers
        for verifier in others:
            with suppress(NotificationError):
                return verifier.verify(message, sign)
        return last.verify(message, sign)


def _check_verifiers(verifiers: Sequence[Verifier]) -> None:
    reason = None
    if not all(callable(getattr(verifier, "verify", None)) for verifier in verifiers):
        reason = "cannot verify"
    elif len({_scheme_of(verifier) for verifier in verifiers}) != 1:
        reason = "of several schemes" if verifiers else "an empty sequence"
    if reason is not None:
        raise InvalidRequestError(
            reason, field="verifier", allowed="one verifier, several of one scheme, or None"
        )


def _scheme_of(verifier: Verifier) -> type[Verifier]:
    known = (RsaVerifier, Md5Verifier)
    return next((scheme for scheme in known if isinstance(verifier, scheme)), type(verifier))


def _restore_sign(sign: str) -> str:
    """Undo what happens to Base64 on its way: lines that were broken, plus signs read as blanks."""
    return _LINE_BREAK.sub("", sign).replace(" ", "+")


def _message_to_verify(params: Mapping[str, str]) -> bytes:
    try:
        return _join_canonical(params).encode()
    except InvalidRequestError as error:
        name = error.field or "a value"
    # Raise it here: a cause would carry the message into tracebacks.
    raise NotificationError(f"cannot have been signed: {name} is ambiguous")


def _join_canonical(params: Mapping[str, str]) -> str:
    """Build the canonical string, with the free text at its place among the other fields."""
    free = params.get(_FREE_TEXT, "")
    if _FURTHER_FIELD.search(free):
        raise InvalidRequestError("reads like a further field", field=_FREE_TEXT)
    parts = (
        canonical_string({name: params[name] for name in params if name < _FREE_TEXT}),
        f"{_FREE_TEXT}={free}" if free else "",
        canonical_string({name: params[name] for name in params if name > _FREE_TEXT}),
    )
    return "&".join(part for part in parts if part)


def _is_fresh(timestamp: str, now: float) -> bool:
    if not _MILLISECONDS.fullmatch(timestamp):
        raise NotificationError("the timestamp is not milliseconds since the epoch")
    age = now - int(timestamp) / 1000
    if age < -FRESH:
        raise NotificationError("the timestamp lies in the future")
    return age <= FRESH


def _check_raw(body: object) -> None:
    if not isinstance(body, bytes):
        raise TypeError(
            f"the body as raw bytes is needed, not {type(body).__name__}: "
            "a framework's parsed body is no longer what was signed"
        )


# From fields to a notification


def _to_notification(params: Mapping[str, str]) -> Notification:
    kinds = [name for name in ("trade_status", "refund_status") if name in params]
    if len(kinds) != 1:
        raise NotificationError("neither a trade's callback nor a refund's")
    return _to_trade(params) if kinds == ["trade_status"] else _to_refund(params)


def _to_trade(params: Mapping[str, str]) -> TradeNotification:
    return TradeNotification(
        out_trade_no=_read_identifier(params, "out_trade_no"),
        inner_trade_no=_read_identifier(params, "inner_trade_no"),
        trade_status=_read_identifier(params, "trade_status"),
        trade_amount=_read_amount(params, "trade_amount"),
        gmt_payment=_read_time(params.get("gmt_payment", "")),
        gmt_close=_read_time(params.get("gmt_close", "")),
        fail_reason=params.get(_FREE_TEXT),
        authentic=False,
        fresh=False,
        raw=validators.ReadOnly(params),
    )


def _to_refund(params: Mapping[str, str]) -> RefundNotification:
    return RefundNotification(
        orig_outer_trade_no=_read_identifier(params, "orig_outer_trade_no"),
        out_trade_no=_read_identifier(params, "out_trade_no"),
        inner_trade_no=_read_identifier(params, "inner_trade_no"),
        refund_status=_read_identifier(params, "refund_status"),
        refund_amount=_read_amount(params, "refund_amount"),
        gmt_refund=_read_time(params.get("gmt_refund", "")),
        authentic=False,
        fresh=False,
        raw=validators.ReadOnly(params),
    )


def _read_identifier(params: Mapping[str, str], name: str) -> str:
    """Read a text that may stand in a log line, a key and a query."""
    value = params.get(name, "")
    if not value or len(value) > _MAX_IDENTIFIER or _CONTROL.search(value):
        raise NotificationError(f"{name} is missing, too long, or holds control characters")
    return value


def _read_amount(params: Mapping[str, str], name: str) -> Decimal:
    try:
        return money.as_amount(params.get(name, ""), name)
    except InvalidRequestError:
        pass  # its text repeats the value
    raise NotificationError(f"{name} is not an amount of yuan")


def _read_time(text: str) -> datetime | None:
    """Read a time. The platform gives no format: ISO 8601, 14 digits, or milliseconds."""
    try:
        if _EPOCH_MILLISECONDS.fullmatch(text):
            return datetime.fromtimestamp(int(text) / 1000, CHINA)
        moment = datetime.fromisoformat(_COMPACT.sub(r"\1T\2", text))
    except (ValueError, OverflowError):
        return None
    return moment if moment.tzinfo else moment.replace(tzinfo=CHINA)

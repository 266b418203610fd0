"""Faults to order: what can go wrong with a call, its reply or a callback. No I/O.

A `Fault` says what happens, and to which calls. Make one by the method that is named after its
kind: `Fault.drop_after_commit(every=5)`. The same names are in fault files, over HTTP and on the
console (`fault_input`). `fault_queue` decides which call meets which fault.

1. At most one fault of each place meets a call: one on its arrival, one after it was admitted.
2. A fault counts the calls that reach it: those of its operation that no earlier fault took.
3. Without `times` it happens once; with `every` or `chance` as often as they say.
4. Chance is drawn from a seed, in the order of the calls.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Final, Literal, TypedDict, TypeVar, Unpack, cast

from attrs import Attribute, field, frozen

from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox.error_codes import Code
from wxpay_async.sandbox.fault_kinds import (
    OPERATIONS,
    UNKNOWN_CODE,
    UNKNOWN_STATUS,
    FaultKind,
    Forgery,
    Operation,
    Place,
    RateLimit,
    Says,
    find_place,
)

E = TypeVar("E", bound=enum.StrEnum)


class When(TypedDict, total=False):
    """Which calls or callbacks meet a fault; see the attributes of `Fault`."""

    operation: Operation | Literal[""]
    times: int | None
    every: int
    after: int
    chance: float


def _check_range(low: float, high: float, allowed: str) -> Callable[[Any, Any, Any], None]:
    def check(fault: Fault, attribute: Attribute[Any], value: object) -> None:
        del fault
        whole = attribute.name in WHOLE_NUMBERS
        number = isinstance(value, int) or (isinstance(value, float) and not whole)
        if isinstance(value, bool) or not number or not low <= cast("float", value) <= high:
            raise InvalidRequestError(f"{value!r}", field=attribute.name, allowed=allowed)

    return check


def _check_choice(*allowed: str) -> Callable[[Any, Any, Any], None]:
    def check(fault: Fault, attribute: Attribute[Any], value: object) -> None:
        del fault
        if value not in allowed:
            words = ", ".join(word or "(empty)" for word in allowed)
            raise InvalidRequestError(f"{value!r}", field=attribute.name, allowed=words)

    return check


def _check_code(fault: Fault, attribute: Attribute[Any], value: object) -> None:
    del fault
    if not isinstance(value, str) or not value.startswith(_CODES) or len(value) > _MAX_TEXT:
        begins = " or ".join(_CODES)
        allowed = f"an errorCode: {begins} and what follows, at most {_MAX_TEXT} characters"
        raise InvalidRequestError(f"{value!r}", field=attribute.name, allowed=allowed)


def _check_flag(fault: Fault, attribute: Attribute[Any], value: object) -> None:
    _check_choice("True", "False")(fault, attribute, str(value))


def _check_text(fault: Fault, attribute: Attribute[Any], value: object) -> None:
    del fault
    if not isinstance(value, str) or not 0 < len(value) <= _MAX_TEXT:
        allowed = f"a text of at most {_MAX_TEXT} characters"
        raise InvalidRequestError(f"{value!r}", field=attribute.name, allowed=allowed)


def _check_times(fault: Fault, attribute: Attribute[Any], value: object) -> None:
    if value is not None:
        _COUNT(fault, attribute, value)


def _convert(kind: type[E], value: E | str) -> E:
    """Return the member of a name; what is no name is left to the validator."""
    return kind(value) if value in list(kind) else cast("E", value)


def _to_kind(value: FaultKind | str) -> FaultKind:
    return _convert(FaultKind, value)


def _to_variant(value: RateLimit | str) -> RateLimit:
    return _convert(RateLimit, value)


def _to_says(value: Says | str) -> Says:
    return _convert(Says, value)


def _to_forgery(value: Forgery | str) -> Forgery:
    return _convert(Forgery, value)


_CODES: Final = ("CO_MSG_", "GM_API_BUS_")
_MAX_TEXT: Final = 64
_MAX_SECONDS: Final = 1e9
WHOLE_NUMBERS: Final = ("times", "every", "after", "copies", "size")
_COUNT: Final = _check_range(1, 1_000_000, "a whole number from 1 to 1000000")
_SECONDS: Final = _check_range(0.0, _MAX_SECONDS, "seconds, 0 or more")


@frozen(kw_only=True)
class Fault:
    """One fault to order.

    Attributes:
        kind: what happens.
        operation: only to calls of this operation; to any when empty. Callbacks have none.
        times: at most so often; None for no limit. Once, if neither `every` nor `chance` is given.
        every: only to each such call: 5 is to the fifth, the tenth and so on.
        after: not to the first so many calls.
        chance: from 0 to 1, drawn from the seed.
        executed: whether the call is executed; for `delay` whether before it or after it.
        seconds: how long it waits, lies back or is off, see the method of its kind.
        code: the errorCode.
        text: the status text.
        variant: how a caller is told that it calls too often.
        says: what a query says.
        copies: how often a callback is sent.
        size: how many callbacks change their order.
        forgery: what is wrong with a forged callback.

    Raises:
        InvalidRequestError: a field holds what it must not; it names the field and what is allowed.
    """

    kind: FaultKind = field(converter=_to_kind, validator=_check_choice(*FaultKind))
    operation: Operation | Literal[""] = field(  # pyright: ignore[reportAssignmentType] - it widens ""
        default="", validator=_check_choice("", *OPERATIONS)
    )
    times: int | None = field(default=1, validator=_check_times)
    every: int = field(default=1, validator=_COUNT)
    after: int = field(default=0, validator=_check_range(0, 1_000_000, "0 to 1000000"))
    chance: float = field(default=1.0, validator=_check_range(0.0, 1.0, "0 to 1"))
    executed: bool = field(default=True, validator=_check_flag)
    seconds: float = field(default=0.0, validator=_SECONDS)
    code: str = field(default=Code.DATA_FAILED, validator=_check_code)
    text: str = field(default=UNKNOWN_STATUS, validator=_check_text)
    variant: RateLimit = field(
        converter=_to_variant,
        default=RateLimit.ENVELOPE,
        validator=_check_choice(*RateLimit),
    )
    says: Says = field(
        converter=_to_says,
        default=Says.ABSENT,
        validator=_check_choice(*Says),
    )
    copies: int = field(default=2, validator=_check_range(1, 100, "a whole number from 1 to 100"))
    size: int = field(default=2, validator=_check_range(2, 100, "a whole number from 2 to 100"))
    forgery: Forgery = field(
        converter=_to_forgery,
        default=Forgery.SIGNATURE,
        validator=_check_choice(*Forgery),
    )

    def __attrs_post_init__(self) -> None:
        if self.operation and self.place is Place.CALLBACK:
            raise InvalidRequestError(
                f"{self.operation!r}", field="operation", allowed="nothing for a callback"
            )

    @property
    def place(self) -> Place:
        """Where it happens."""
        return find_place(self.kind)

    @classmethod
    def _make(cls, kind: FaultKind, when: When, **what: object) -> Fault:
        limits: dict[str, object] = {"times": 1}
        if "every" in when or "chance" in when:
            limits["times"] = None
        return cls(**cast("dict[str, Any]", {"kind": kind, **limits, **when, **what}))

    # On the way

    @classmethod
    def delay(cls, *, seconds: float = 5.0, executed: bool = True, **when: Unpack[When]) -> Fault:
        """Let the reply be late: the call is executed before the wait, or only after it."""
        return cls._make(FaultKind.DELAY, when, seconds=seconds, executed=executed)

    @classmethod
    def drop_before_commit(cls, *, seconds: float = 0.0, **when: Unpack[When]) -> Fault:
        """Close the connection without a reply, after a wait; nothing is executed."""
        return cls._make(FaultKind.DROP_BEFORE_COMMIT, when, seconds=seconds, executed=False)

    @classmethod
    def drop_after_commit(cls, *, seconds: float = 0.0, **when: Unpack[When]) -> Fault:
        """Execute the call, then close the connection without a reply, after a wait."""
        return cls._make(FaultKind.DROP_AFTER_COMMIT, when, seconds=seconds)

    @classmethod
    def reset(cls, *, executed: bool = True, seconds: float = 0.0, **when: Unpack[When]) -> Fault:
        """Reset the connection (RST) without a reply, after a wait."""
        return cls._make(FaultKind.RESET, when, executed=executed, seconds=seconds)

    @classmethod
    def cut_body(
        cls, *, executed: bool = True, seconds: float = 0.0, **when: Unpack[When]
    ) -> Fault:
        """Send half of the reply, then close the connection."""
        return cls._make(FaultKind.CUT_BODY, when, executed=executed, seconds=seconds)

    @classmethod
    def drip(cls, *, seconds: float = 5.0, **when: Unpack[When]) -> Fault:
        """Send the reply in small pieces, spread over some seconds."""
        return cls._make(FaultKind.DRIP, when, seconds=seconds)

    @classmethod
    def html_502(
        cls, *, executed: bool = True, seconds: float = 0.0, **when: Unpack[When]
    ) -> Fault:
        """Send the error page of a proxy instead of the reply."""
        return cls._make(FaultKind.HTML_502, when, executed=executed, seconds=seconds)

    @classmethod
    def proxy_408(
        cls, *, executed: bool = True, seconds: float = 0.0, **when: Unpack[When]
    ) -> Fault:
        """Send the 408 of a proxy that waited for the platform in vain."""
        return cls._make(FaultKind.PROXY_408, when, executed=executed, seconds=seconds)

    @classmethod
    def http_500(
        cls, *, executed: bool = True, seconds: float = 0.0, **when: Unpack[When]
    ) -> Fault:
        """Send status 500 with a JSON object that is no envelope."""
        return cls._make(FaultKind.HTTP_500, when, executed=executed, seconds=seconds)

    @classmethod
    def gzip(cls, **when: Unpack[When]) -> Fault:
        """Compress the reply, though the caller did not ask for it."""
        return cls._make(FaultKind.GZIP, when)

    @classmethod
    def bom(cls, **when: Unpack[When]) -> Fault:
        """Put a byte order mark before the reply."""
        return cls._make(FaultKind.BOM, when)

    @classmethod
    def rate_limited(
        cls, *, variant: RateLimit | str = RateLimit.ENVELOPE, **when: Unpack[When]
    ) -> Fault:
        """Refuse the call because there are too many, in one of four ways."""
        return cls._make(FaultKind.RATE_LIMITED, when, variant=variant, executed=False)

    @classmethod
    def clock_off(cls, *, seconds: float = 600.0, **when: Unpack[When]) -> Fault:
        """Let the platform's clock be so far ahead, in `Date` too; until it is cleared."""
        return cls._make(FaultKind.CLOCK_OFF, {"times": None, **when}, seconds=seconds)

    # At the platform

    @classmethod
    def error(
        cls, *, code: str = Code.DATA_FAILED, executed: bool = False, **when: Unpack[When]
    ) -> Fault:
        """Answer with an errorCode."""
        return cls._make(FaultKind.ERROR, when, code=code, executed=executed)

    @classmethod
    def unknown_code(cls, *, executed: bool = False, **when: Unpack[When]) -> Fault:
        """Answer with an errorCode that no page lists."""
        return cls._make(FaultKind.UNKNOWN_CODE, when, code=UNKNOWN_CODE, executed=executed)

    @classmethod
    def expired(cls, **when: Unpack[When]) -> Fault:
        """Say that the request has expired, though the clocks agree."""
        return cls._make(FaultKind.EXPIRED, when, code=Code.EXPIRED, executed=False)

    @classmethod
    def duplicate_request_id(cls, *, executed: bool = False, **when: Unpack[When]) -> Fault:
        """Say on first sight that the requestId is repeated."""
        code = Code.REQUEST_ID_REPEATED
        return cls._make(FaultKind.DUPLICATE_REQUEST_ID, when, code=code, executed=executed)

    @classmethod
    def pay_token_refused(cls, **when: Unpack[When]) -> Fault:
        """Refuse the payToken of a pay."""
        given: When = {"operation": "pay", **when}
        code = Code.UNKNOWN_PURCHASE
        return cls._make(FaultKind.PAY_TOKEN_REFUSED, given, code=code, executed=False)

    @classmethod
    def wrong_echo(cls, **when: Unpack[When]) -> Fault:
        """Echo another requestId, or in a query another outTradeNo."""
        return cls._make(FaultKind.WRONG_ECHO, when)

    @classmethod
    def other_reply(cls, **when: Unpack[When]) -> Fault:
        """Answer with the reply to another caller."""
        return cls._make(FaultKind.OTHER_REPLY, when)

    @classmethod
    def unknown_fields(cls, **when: Unpack[When]) -> Fault:
        """Add fields that no page lists, outside and inside `data`."""
        return cls._make(FaultKind.UNKNOWN_FIELDS, when)

    @classmethod
    def unknown_status(cls, *, text: str = UNKNOWN_STATUS, **when: Unpack[When]) -> Fault:
        """Answer a query or a refund with a status that no page lists."""
        return cls._make(FaultKind.UNKNOWN_STATUS, when, text=text)

    @classmethod
    def query_lags(cls, **when: Unpack[When]) -> Fault:
        """Answer a query as before the last change: not paid yet, or not there yet."""
        given: When = {"operation": "query", **when}
        return cls._make(FaultKind.QUERY_LAGS, given)

    @classmethod
    def query_lies(cls, *, says: Says | str = Says.ABSENT, **when: Unpack[When]) -> Fault:
        """Answer a query with what is not so."""
        given: When = {"operation": "query", **when}
        return cls._make(FaultKind.QUERY_LIES, given, says=says)

    # With callbacks

    @classmethod
    def callback_lost(cls, **when: Unpack[When]) -> Fault:
        """Never send a callback."""
        return cls._make(FaultKind.CALLBACK_LOST, when)

    @classmethod
    def callback_doubled(cls, *, copies: int = 2, **when: Unpack[When]) -> Fault:
        """Send a callback several times at once."""
        return cls._make(FaultKind.CALLBACK_DOUBLED, when, copies=copies)

    @classmethod
    def callback_late(cls, *, seconds: float = 5.0, **when: Unpack[When]) -> Fault:
        """Let the first delivery of a callback really wait."""
        return cls._make(FaultKind.CALLBACK_LATE, when, seconds=seconds)

    @classmethod
    def callback_stale(cls, *, seconds: float = 3600.0, **when: Unpack[When]) -> Fault:
        """Sign a callback as of so long ago, at each delivery, without any waiting."""
        return cls._make(FaultKind.CALLBACK_STALE, when, seconds=seconds)

    @classmethod
    def callback_reordered(cls, *, size: int = 2, **when: Unpack[When]) -> Fault:
        """Hold callbacks back until so many are there; send them one by one, the last first."""
        return cls._make(FaultKind.CALLBACK_REORDERED, when, size=size)

    @classmethod
    def callback_forged(
        cls, *, forgery: Forgery | str = Forgery.SIGNATURE, **when: Unpack[When]
    ) -> Fault:
        """Send a forgery of a callback before the genuine one."""
        return cls._make(FaultKind.CALLBACK_FORGED, when, forgery=forgery)

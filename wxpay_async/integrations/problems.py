"""Answer a payer with an error of the SDK: problem details by RFC 9457.

An error of the SDK is written for the merchant: it may hold the platform's message, and a code of
any shape. The payer gets the texts of this table. Of the error itself the answer tells only the
requestId, a code that looks like the platform's, and when to try again. The log has the rest.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from types import MappingProxyType
from typing import Final, TypeVar

from attrs import frozen

from wxpay_async.engine.telemetry import known_code, needs_person
from wxpay_async.errors import (
    AccessDeniedError,
    AlreadyPaidError,
    ClockSkewError,
    ConfigurationRefusedError,
    DuplicateRequestError,
    FailedError,
    IdempotencyConflictError,
    InDoubtError,
    InDoubtTimeoutError,
    InProgressError,
    InvalidKeyError,
    InvalidRequestError,
    MalformedResponseError,
    NotExecutedError,
    NotificationError,
    NotPaidError,
    NotSentError,
    NotSentTimeoutError,
    OtherPayerError,
    PlatformConflictError,
    PrepayExpiredError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    TradeUnusableError,
    WxPayError,
)

V = TypeVar("V")

CONTENT_TYPE: Final = "application/problem+json"

_TYPE: Final = "urn:problem-type:wxpay-async:"
"""The beginning of every `type`. The URIs are stable names; nothing is found at them."""

_LOG: Final = logging.getLogger("wxpay_async.integrations")


@frozen
class ProblemType:
    """What a payer's page has to know of a kind of error.

    Attributes:
        word: the last part of `type`, and the member `error`.
        status: the HTTP status.
        title: what is the case.
        detail: what the page should do.
    """

    word: str
    status: int
    title: str
    detail: str

    @property
    def uri(self) -> str:
        """The member `type`."""
        return _TYPE + self.word


_INVALID: Final = ProblemType(
    "invalid", 400, "The request cannot be used.", "Correct the request; nothing was sent."
)
_ALREADY_PAID: Final = ProblemType(
    "already_paid", 409, "The order is paid.", "Do not pay again; show the order as paid."
)
_CONFLICT: Final = ProblemType(
    *("conflict", 409, "The requestId stands for another request."),
    "Do not repeat it; the merchant must look.",
)
_EXPIRED: Final = ProblemType(
    *("expired", 409, "The payment's credential is too old."),
    "Ask for the order's status; if it is not paid, begin a new payment of the order.",
)
_FAILED: Final = ProblemType(
    *("failed", 409, "The platform reports that the operation failed."),
    "No money moved. Repeating the request changes nothing.",
)
_IN_PROGRESS: Final = ProblemType(
    *("in_progress", 409, "The same request is being carried out."),
    "Do not pay in another way; send the same request again in a moment.",
)
_NOT_EXECUTED: Final = ProblemType(
    *("not_executed", 409, "The operation was not carried out."),
    "No money moved. Repeating the request changes nothing.",
)
_NOT_PAID: Final = ProblemType(
    "not_paid", 409, "The order has ended without a payment.", "Create a new order."
)
_OTHER_PAYER: Final = ProblemType(
    *("other_payer", 409, "Another payer can pay this order now."),
    "Send the same request again at the time of Retry-After.",
)
_UNUSABLE: Final = ProblemType(
    *("unusable", 409, "The order cannot be paid any more, and is not closed yet."),
    "Send the same request again at the time of Retry-After.",
)
_INTERNAL: Final = ProblemType(
    *("internal", 500, "The shop is not set up correctly."),
    "Do not repeat the request; the merchant must look.",
)
_REFUSED: Final = ProblemType(
    *("refused", 502, "The payment platform refused the request."),
    "No money moved. Repeating the request changes nothing.",
)
_UNAVAILABLE: Final = ProblemType(
    *("unavailable", 503, "The payment platform cannot take the request now."),
    "Nothing was carried out. Where it is retryable, send the same request again.",
)
_IN_DOUBT: Final = ProblemType(
    *("in_doubt", 504, "Whether the request was carried out is not known yet."),
    "Do not pay in another way; ask for the order's status.",
)

PROBLEM_TYPES: Final[Mapping[type[WxPayError], ProblemType]] = MappingProxyType(
    {
        InvalidRequestError: _INVALID,
        NotificationError: _INVALID,
        AlreadyPaidError: _ALREADY_PAID,
        IdempotencyConflictError: _CONFLICT,
        PrepayExpiredError: _EXPIRED,
        FailedError: _FAILED,
        InProgressError: _IN_PROGRESS,
        NotExecutedError: _NOT_EXECUTED,
        NotPaidError: _NOT_PAID,
        OtherPayerError: _OTHER_PAYER,
        TradeUnusableError: _UNUSABLE,
        InvalidKeyError: _INTERNAL,
        RefusedError: _REFUSED,
        ConfigurationRefusedError: _REFUSED,
        AccessDeniedError: _REFUSED,
        SignatureRefusedError: _REFUSED,
        NotSentError: _UNAVAILABLE,
        NotSentTimeoutError: _UNAVAILABLE,
        QuotaExhaustedError: _UNAVAILABLE,
        ClockSkewError: _UNAVAILABLE,
        RateLimitedError: _UNAVAILABLE,
        InDoubtError: _IN_DOUBT,
        InDoubtTimeoutError: _IN_DOUBT,
        DuplicateRequestError: _IN_DOUBT,
        MalformedResponseError: _IN_DOUBT,
        PlatformConflictError: _IN_DOUBT,
        WxPayError: _IN_DOUBT,
    }
)
"""Error -> what a payer is told; for a class of your own, the nearest parent counts."""

_SECONDS: Final[Mapping[type[WxPayError], int]] = MappingProxyType(
    {
        InProgressError: 1,  # the other process is sending now
        ClockSkewError: 1,  # the answer told the platform's time, and the next attempt goes by it
        RateLimitedError: 60,  # the platform's window
        WxPayError: 5,  # a doubt is looked into after 5 s
    }
)
"""Error -> seconds until another try makes sense; for other classes, the nearest parent counts."""


@frozen(kw_only=True)
class Problem:
    """What a payer may see of an error, by RFC 9457 ("problem details").

    Attributes:
        kind: its row of the table: type, status, title and detail.
        request_id: the merchant's idempotency key, by which the log has the rest.
        code: the platform's errorCode, `other` if it does not look like one, None without one.
        retry_after: when the same request may succeed, as the header `Retry-After` has it: seconds
            or a date. None where it never will.
    """

    kind: ProblemType
    request_id: str | None
    code: str | None
    retry_after: str | None

    @classmethod
    def of(cls, error: WxPayError) -> Problem:
        """Make what may be told of an error."""
        return cls(
            kind=_find(PROBLEM_TYPES, error),
            request_id=error.request_id,
            code=known_code(error.code),
            retry_after=_when(error),
        )

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.kind.status

    @property
    def retryable(self) -> bool:
        """Whether the same request, with the same requestId, may succeed later."""
        return self.retry_after is not None

    @property
    def headers(self) -> dict[str, str]:
        """The headers of the HTTP answer: `Content-Type`, and `Retry-After` if it is retryable."""
        again = {} if self.retry_after is None else {"Retry-After": self.retry_after}
        return {"Content-Type": CONTENT_TYPE, **again}

    @property
    def body(self) -> bytes:
        """The body of the HTTP answer."""
        return json.dumps(self.to_dict()).encode()

    def to_dict(self) -> dict[str, str | int | bool]:
        """Return the members of the body, for a message of a websocket for example."""
        members: dict[str, str | int | bool] = {
            "type": self.kind.uri,
            "status": self.status,
            "title": self.kind.title,
            "detail": self.kind.detail,
            "retryable": self.retryable,
            "error": self.kind.word,
        }
        known = {"requestId": self.request_id, "code": self.code}
        return members | {name: value for name, value in known.items() if value is not None}


def answer_to(error: WxPayError) -> Problem:
    """Log the error for the merchant; return what the payer gets.

    What is ordinary, such as a refusal or an order that is paid already, is INFO. What needs a
    person, or tells of an outage, is WARNING.
    """
    problem = Problem.of(error)
    ordinary = problem.status < 500 or problem.kind is _REFUSED  # noqa: PLR2004 - HTTP's
    level = logging.INFO if ordinary and not needs_person(error) else logging.WARNING
    extra = {
        "wxpay_request_id": error.request_id,
        "wxpay_out_trade_no": error.out_trade_no,
        "wxpay_attempt": error.attempts,
        "wxpay_fate": str(error.fate),
        "wxpay_code": problem.code,
    }
    _LOG.log(
        level,
        *("answered %d %s: %s order=%s attempt=%d", problem.status, problem.kind.word),
        *(error, error.out_trade_no or "-", error.attempts),
        extra=extra,
    )
    return problem


def _find(table: Mapping[type[WxPayError], V], error: WxPayError) -> V:
    return next(table[kind] for kind in type(error).__mro__ if kind in table)


def _when(error: WxPayError) -> str | None:
    """Return when the same request may succeed, None where it never will."""
    if isinstance(error, OtherPayerError | TradeUnusableError):
        return None if error.retry_at is None else _write_date(error.retry_at)
    # A single error may say that another attempt cannot help. Another process that is sending says
    # nothing of the kind: this process must not send now, and its answer is there soon.
    if not error.retryable and not isinstance(error, InProgressError):
        return None
    if isinstance(error, QuotaExhaustedError):
        return str(max(1, math.ceil(error.retry_after)))
    return str(_find(_SECONDS, error))


def _write_date(moment: datetime) -> str:
    second = moment.astimezone(UTC).replace(microsecond=0)
    if second < moment:  # whole seconds, and none too early
        second += timedelta(seconds=1)
    return format_datetime(second, usegmt=True)

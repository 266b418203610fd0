"""Answer a payer with an error of the SDK: an HTTP status and one word.

An error of the SDK is written for the merchant: it may hold the platform's message, codes and
order numbers. The payer gets one word from this table and nothing else; the log has the rest.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping
from datetime import UTC, timedelta
from email.utils import format_datetime
from types import MappingProxyType
from typing import Final

from wxpay_async.errors import (
    AlreadyPaidError,
    ClockSkewError,
    FailedError,
    IdempotencyConflictError,
    InDoubtError,
    InProgressError,
    InvalidKeyError,
    InvalidRequestError,
    NotExecutedError,
    NotificationError,
    NotPaidError,
    NotSentError,
    OtherPayerError,
    PrepayExpiredError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
    TradeUnusableError,
    WxPayError,
)

ACK_TYPE: Final = "application/json"
"""The content type of a callback's acknowledgement."""

ANSWERS: Final[Mapping[type[WxPayError], tuple[int, str]]] = MappingProxyType(
    {
        InvalidRequestError: (400, "invalid"),
        NotificationError: (400, "invalid"),
        AlreadyPaidError: (409, "already_paid"),
        FailedError: (409, "failed"),
        IdempotencyConflictError: (409, "conflict"),
        InProgressError: (409, "in_progress"),
        NotExecutedError: (409, "not_executed"),
        NotPaidError: (409, "not_paid"),
        OtherPayerError: (409, "other_payer"),
        PrepayExpiredError: (409, "expired"),
        TradeUnusableError: (409, "unusable"),
        InvalidKeyError: (500, "internal"),
        RefusedError: (502, "refused"),
        ClockSkewError: (503, "unavailable"),
        NotSentError: (503, "unavailable"),
        RateLimitedError: (503, "unavailable"),
        InDoubtError: (504, "in_doubt"),
        WxPayError: (504, "in_doubt"),
    }
)
"""Error -> (HTTP status, the word in `{"error": ...}`); the nearest class counts.

`in_doubt` and `in_progress` mean: do not pay again, ask for the order's status. `other_payer` and
`unusable` mean: tap "pay" again at the time of `Retry-After`, see `make_headers`.
"""

_LOG: Final = logging.getLogger("wxpay_async.integrations")


def answer_to(error: WxPayError) -> tuple[int, dict[str, str]]:
    """Log the error for the merchant; return status and JSON body for the payer."""
    status, word = next(ANSWERS[kind] for kind in type(error).__mro__ if kind in ANSWERS)
    _LOG.warning("answered %d %s: %s", status, word, error)
    return status, {"error": word}


def make_headers(error: WxPayError) -> dict[str, str]:
    """Return `Retry-After`, in whole seconds, where the error says when to try again."""
    if isinstance(error, QuotaExhaustedError):
        return {"Retry-After": str(max(1, math.ceil(error.retry_after)))}
    if not isinstance(error, OtherPayerError | TradeUnusableError) or error.retry_at is None:
        return {}
    second = error.retry_at.astimezone(UTC).replace(microsecond=0)
    if second < error.retry_at:
        second += timedelta(seconds=1)
    return {"Retry-After": format_datetime(second, usegmt=True)}

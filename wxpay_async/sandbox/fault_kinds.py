"""Name the faults: what goes wrong, where, and in which variants.

To add a fault:

1. Name it in `FaultKind`, in the part of its place.
2. Give `Fault` a method of that name, with the fields that it has of its own.
3. Let it happen: `fault_injection` changes what is sent, `fault_answers` what the platform says,
   `callbacks` what a merchant is told.
4. Describe it for the console, in English and Chinese: `console/fault_texts`.
5. Give it a row in `docs/sandbox.md`, and in `tests/sandbox/test_fault_outcomes.py` what the SDK
   makes of it (`money-safety.md` §4).

The tests of the sandbox name the step that is missing.
"""

from __future__ import annotations

import enum
from typing import Final, Literal, get_args

Operation = Literal["trade", "pay", "query", "refund", "merchants"]
"""A call to the platform."""

OPERATIONS: Final[tuple[Operation, ...]] = get_args(Operation)

UNKNOWN_CODE: Final = "CO_MSG_0000099"
"""An errorCode that no page lists."""

UNKNOWN_STATUS: Final = "风控审核中"
"""A status text that no page lists."""


class FaultKind(enum.StrEnum):
    """What goes wrong. Each has a method of `Fault` by its name, which describes it."""

    # On the way: the connection, and what stands between.
    DELAY = "delay"
    DROP_BEFORE_COMMIT = "drop_before_commit"
    DROP_AFTER_COMMIT = "drop_after_commit"
    RESET = "reset"
    CUT_BODY = "cut_body"
    DRIP = "drip"
    HTML_502 = "html_502"
    PROXY_408 = "proxy_408"
    HTTP_500 = "http_500"
    GZIP = "gzip"
    BOM = "bom"
    RATE_LIMITED = "rate_limited"
    CLOCK_OFF = "clock_off"
    # At the platform, after a call was admitted.
    ERROR = "error"
    UNKNOWN_CODE = "unknown_code"
    EXPIRED = "expired"
    DUPLICATE_REQUEST_ID = "duplicate_request_id"
    PAY_TOKEN_REFUSED = "pay_token_refused"  # noqa: S105 - a kind of fault
    WRONG_ECHO = "wrong_echo"
    OTHER_REPLY = "other_reply"
    UNKNOWN_FIELDS = "unknown_fields"
    UNKNOWN_STATUS = "unknown_status"
    QUERY_LAGS = "query_lags"
    QUERY_LIES = "query_lies"
    # With callbacks.
    CALLBACK_LOST = "callback_lost"
    CALLBACK_DOUBLED = "callback_doubled"
    CALLBACK_LATE = "callback_late"
    CALLBACK_STALE = "callback_stale"
    CALLBACK_REORDERED = "callback_reordered"
    CALLBACK_FORGED = "callback_forged"


class Place(enum.Enum):
    """Where a fault meets a call."""

    ARRIVAL = enum.auto()
    """Before any check."""
    ADMITTED = enum.auto()
    """After the checks of the envelope, so that a call that fails one uses up no fault."""
    CALLBACK = enum.auto()


def find_place(kind: FaultKind) -> Place:
    """Return where a fault of a kind happens."""
    if kind.startswith("callback_"):
        return Place.CALLBACK
    kinds = list(FaultKind)
    return Place.ARRIVAL if kinds.index(kind) < kinds.index(FaultKind.ERROR) else Place.ADMITTED


class Forgery(enum.StrEnum):
    """What is wrong with a forged callback. A merchant must accept none of these."""

    SIGNATURE = "signature"
    """A signature of the right form that does not verify."""
    UNSIGNED = "unsigned"
    """No `sign`."""
    EMPTY_SIGN = "empty-sign"
    """An empty `sign`."""
    BARE = "bare"
    """None of appKey, nonce, timestamp, sign: at best a hint to query the order."""
    STATUS = "status"
    """Another status than the signed one."""
    AMOUNT = "amount"
    """A hundred times the signed amount."""
    ORDER = "order"
    """Another order than the signed one."""
    EXTRA = "extra"
    """A field that was not signed."""
    TWICE = "twice"
    """The amount is sent twice: as signed, and a hundred times as much."""
    SCHEME = "scheme"
    """Properly signed, but by the scheme that the merchant's contract does not name."""
    APP_KEY = "app-key"
    """Properly signed, but for another merchant."""
    FUTURE = "future"
    """Properly signed, but an hour ahead of time."""


class RateLimit(enum.StrEnum):
    """How a caller is told that it calls too often."""

    ENVELOPE = "envelope"
    """CO_MSG_000007 with status 200, as the platform's pages say."""
    ENVELOPE_429 = "envelope_429"
    """CO_MSG_000007 with status 429."""
    PAGE_429 = "page_429"
    """The page of a proxy with status 429."""
    RETRY_AFTER_429 = "retry_after_429"
    """Status 429, no body, and a `Retry-After` of one second."""


class Says(enum.StrEnum):
    """What a query that lies says."""

    ABSENT = "absent"
    """The order does not exist."""
    AWAITING = "awaiting"
    PAID = "paid"
    FAILED = "failed"
    CLOSED = "closed"

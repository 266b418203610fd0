"""List the operations that are open, and those that wait for a person."""

from __future__ import annotations

import math
from collections.abc import AsyncIterator, Callable, Collection, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any, Final, Literal, cast, get_args

from attrs import frozen

from wxpay_async.adapters.stores.store import IdempotencyStore
from wxpay_async.errors import InvalidRequestError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import REVIEW
from wxpay_async.protocol.requests import OperationName
from wxpay_async.protocol.secrets import without_credentials
from wxpay_async.protocol.strict_json import strict_json

OpenState = Literal["sending", "unknown", "pending", "conflict", "needs_review"]
"""Where an operation stands that is open."""

_PAGE: Final = 100
_LONGEST: Final = 200
"""Characters of the platform's message that are told, as in an error."""


@frozen(kw_only=True)
class LastAnswer:
    """The platform's last answer to an operation, as far as the store has kept it.

    Attributes:
        status: S, P or another status of the platform, in an answer that was a success.
        code: the platform's errorCode.
        message: the platform's errorMsg, without the request's credentials.
    """

    status: str | None = None
    code: str | None = None
    message: str | None = None


@frozen(kw_only=True)
class OpenOperation:
    """An operation whose end is not known yet.

    Attributes:
        request_id: the idempotency key.
        operation: pay, trade or refund.
        state: `sending`, `unknown` (in doubt), `pending` (the platform accepted it), `conflict`
            (the platform holds other content under this id) or `needs_review` (24 h without proof).
        needs_review: whether it waits for a person, and goes nowhere by itself.
        out_trade_no: the number that a query asks for, where there is one.
        since: when it got into doubt or was accepted; of an attempt that is under way, when its
            record was last written.
        attempts: attempts so far.
        checks: queries so far.
        next_check_at: when recovery asks the platform next, None for never.
        amount: yuan, of a refund, or of all orders of a trade; None where the record does not say
            it: a payment names no amount, and what is sealed by a key that is not here is not read.
        last_answer: what the platform said last to an attempt; None where no answer was kept, as
            of one that got lost.
    """

    request_id: str
    operation: OperationName
    state: OpenState
    needs_review: bool
    out_trade_no: str | None
    since: datetime
    attempts: int
    checks: int
    next_check_at: datetime | None
    amount: Decimal | None = None
    last_answer: LastAnswer | None = None


@frozen(kw_only=True)
class OpenFilter:
    """Which of the open operations are wanted.

    Attributes:
        states: where they stand.
        operations: pay, trade, refund.
        older_than: seconds for which they are open, at least.
    """

    states: frozenset[str]
    operations: frozenset[str]
    older_than: float

    @classmethod
    def make(
        cls,
        state: OpenState | Collection[OpenState] | None,
        operation: OperationName | Collection[OperationName] | None,
        older_than: timedelta | float | None,
    ) -> OpenFilter:
        """Make a filter of what `PayGateway.open_operations` takes.

        Raises:
            InvalidRequestError: there is no such state or operation, or the time is negative.
        """
        if isinstance(older_than, timedelta):
            older_than = older_than.total_seconds()
        if older_than is not None and not older_than >= 0:
            raise InvalidRequestError(f"{older_than} s", field="older_than", allowed="0 s or more")
        return cls(
            states=_choose("state", state, get_args(OpenState)),
            operations=_choose("operation", operation, get_args(OperationName)),
            older_than=-math.inf if older_than is None else older_than,
        )

    def takes(self, record: IdempotencyRecord, now: float) -> bool:
        """Tell whether a record is wanted."""
        return (
            record.state.value in self.states
            and record.operation in self.operations
            and now - _since(record) >= self.older_than
        )


def _choose(
    field: str, given: str | Collection[str] | None, known: tuple[str, ...]
) -> frozenset[str]:
    if given is None:
        return frozenset(known)
    chosen = frozenset([given] if isinstance(given, str) else given)
    if not chosen <= {*known}:
        odd = ", ".join(sorted(chosen - {*known}))
        raise InvalidRequestError(f"{odd!r:.40}", field=field, allowed=", ".join(known))
    return chosen


async def iter_open_operations(
    store: IdempotencyStore, app_key: str, wanted: OpenFilter, *, time: Callable[[], float]
) -> AsyncIterator[OpenOperation]:
    """Iterate over an appKey's open operations, fetching a page at a time.

    Args:
        store: has them. It lists what is open by an index, and reads nothing else.
        app_key: whose operations.
        wanted: which of them.
        time: tells the store's time, in seconds since the epoch.
    """
    after = ""
    while page := await store.list_open(app_key, after=after, limit=_PAGE):
        for record in page:
            if wanted.takes(record, time()):
                yield _describe(record)
        after = page[-1].request_id


def _since(record: IdempotencyRecord) -> float:
    return record.doubt_since or record.updated_at


def _describe(record: IdempotencyRecord) -> OpenOperation:
    at = record.next_check_at
    return OpenOperation(
        request_id=record.request_id,
        operation=cast("OperationName", record.operation),
        state=cast("OpenState", record.state.value),
        needs_review=record.state in REVIEW,
        out_trade_no=record.out_trade_no,
        since=datetime.fromtimestamp(_since(record), UTC),
        attempts=record.attempts,
        checks=record.checks,
        next_check_at=None if at is None else datetime.fromtimestamp(at, UTC),
        amount=_read_amount(record),
        last_answer=_read_answer(record),
    )


def _read_amount(record: IdempotencyRecord) -> Decimal | None:
    content = _read_object(record.content)
    try:
        if record.operation == "refund":
            return Decimal(content["refundAmount"])
        if record.operation == "trade":
            return sum((Decimal(item["totalAmount"]) for item in content["tradeInfo"]), Decimal(0))
    except (KeyError, TypeError, ValueError, InvalidOperation):
        return None  # no content of ours: another release may write another
    return None


def _read_answer(record: IdempotencyRecord) -> LastAnswer | None:
    envelope = _read_object(record.reply)
    if not envelope:
        return None
    data = envelope.get("data")
    status = cast("Mapping[str, Any]", data).get("status") if isinstance(data, dict) else None
    message = _to_text(envelope.get("errorMsg"))
    return LastAnswer(
        status=_to_text(status),
        code=_to_text(envelope.get("errorCode")),
        message=_shorten(without_credentials(message, record.content)),
    )


def _read_object(text: bytes | None) -> Mapping[str, Any]:
    """Return a JSON object that a record keeps; an empty one where there is none."""
    try:
        value = None if text is None else strict_json(text)
    except ValueError:
        return {}
    return cast("Mapping[str, Any]", value) if isinstance(value, dict) else {}


def _to_text(value: object) -> str | None:
    return value or None if isinstance(value, str) else None


def _shorten(message: str | None) -> str | None:
    return None if message is None else message[:_LONGEST]

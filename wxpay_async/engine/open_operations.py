"""List the operations that are open, and those that wait for a person."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Final

from attrs import frozen

from wxpay_async.adapters.stores.store import IdempotencyStore
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import REVIEW

_PAGE: Final = 100


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
    """

    request_id: str
    operation: str
    state: str
    needs_review: bool
    out_trade_no: str | None
    since: datetime
    attempts: int
    checks: int
    next_check_at: datetime | None


async def iter_open_operations(
    store: IdempotencyStore, app_key: str
) -> AsyncIterator[OpenOperation]:
    """Iterate over an appKey's open operations, fetching a page at a time."""
    after = ""
    while page := await store.list_open(app_key, after=after, limit=_PAGE):
        for record in page:
            yield _describe(record)
        after = page[-1].request_id


def _describe(record: IdempotencyRecord) -> OpenOperation:
    at = record.next_check_at
    return OpenOperation(
        request_id=record.request_id,
        operation=record.operation,
        state=record.state.value,
        needs_review=record.state in REVIEW,
        out_trade_no=record.out_trade_no,
        since=datetime.fromtimestamp(record.doubt_since or record.updated_at, UTC),
        attempts=record.attempts,
        checks=record.checks,
        next_check_at=None if at is None else datetime.fromtimestamp(at, UTC),
    )

"""Recall from the store how requests ended: with one read for many requests, and no call."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import attrs

from wxpay_async.engine.reissue import find_last
from wxpay_async.engine.single_flight import check_same
from wxpay_async.engine.streaming import Outcome, OutcomeKind, kind_of
from wxpay_async.errors import WxPayError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.builder import OPERATIONS
from wxpay_async.protocol.codec import serialize, wire_fields
from wxpay_async.protocol.idempotency_key import digest_fields, fingerprint
from wxpay_async.protocol.requests import R, Request, order_number

if TYPE_CHECKING:
    from wxpay_async.engine.dispatcher import Dispatcher

READ_AT_ONCE: Final = 500
"""Keys that a store takes in one read (`IdempotencyStore.load_many`)."""

_DECODED_AT_ONCE: Final = 50
"""Replies that are decoded before other tasks can run: some milliseconds of work."""


async def recall(dispatcher: Dispatcher, requests: Sequence[R]) -> list[Outcome[R, Any] | None]:
    """Return the outcome of each request, None for what is open; see `PayGateway.recall`."""
    outcomes: list[Outcome[R, Any] | None] = []
    for start in range(0, len(requests), READ_AT_ONCE):
        chunk = requests[start : start + READ_AT_ONCE]
        keys = [(dispatcher.app_key, request.request_id) for request in chunk]
        found = await dispatcher.store.load_many(keys)
        for position, (key, request) in enumerate(zip(keys, chunk, strict=True), start=1):
            record = found.get(key)
            outcomes.append(
                None if record is None else await _read_outcome(dispatcher, request, record)
            )
            if position % _DECODED_AT_ONCE == 0:
                await asyncio.sleep(0)
    return outcomes


async def _read_outcome(
    dispatcher: Dispatcher, request: R, record: IdempotencyRecord
) -> Outcome[R, Any] | None:
    asked, last = request, record
    kind: OutcomeKind = "ok"
    result: Any = None
    failure: WxPayError | None = None
    try:
        _check_same(request, record)
        if record.state is State.REISSUED:
            request_id, follower = await find_last(dispatcher, request.request_id)
            if follower is None:
                return None
            asked, last = attrs.evolve(request, request_id=request_id), follower
        if not last.is_settled:
            return None
        # Only a refusal holds a text of the platform, in which credentials would be blanked.
        content = None if last.state is State.SUCCEEDED else serialize(request)
        result = dispatcher.replay(last, content=content, asked=asked)
    except WxPayError as error:
        dispatcher.mark(error, request.request_id)
        kind, failure = kind_of(error), error
    return Outcome[R, Any](
        kind=kind,
        request=request,
        result=result,
        error=failure,
        reserved_at=datetime.fromtimestamp(record.created_at, UTC),
        settled_at=datetime.fromtimestamp(last.updated_at, UTC),
    )


def _check_same(request: Request, record: IdempotencyRecord) -> None:
    """Check that the requestId stands for this very request.

    Raises:
        IdempotencyConflictError: it stands for another one.
    """
    operation, order = OPERATIONS[type(request)].name, order_number(request)
    if digest_fields(operation, wire_fields(request), order) != record.fingerprint.digest:
        mine = fingerprint(operation, serialize(request), order)
        check_same(record.fingerprint, mine, (record.operation, operation))

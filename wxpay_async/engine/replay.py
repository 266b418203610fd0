"""Replay a stored reply: what a settled operation's record means, said once more."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any, Final

from wxpay_async.errors import (
    AlreadyPaidError,
    FailedError,
    InDoubtError,
    NotExecutedError,
    PlatformConflictError,
    PrepayExpiredError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import REVIEW, State
from wxpay_async.protocol.builder import OPERATIONS, PAY
from wxpay_async.protocol.codec import decode
from wxpay_async.protocol.echo import check_echo
from wxpay_async.protocol.requests import Request
from wxpay_async.protocol.results import PREPAY_LIFE, PayResult, RefundResult, TradeResult
from wxpay_async.protocol.secrets import without_credentials
from wxpay_async.protocol.wire import HttpResponse

PREPAY_MARGIN: Final = timedelta(seconds=60)
"""A prepay that dies while the person reads the dialogue is of no use."""

_SEALED: Final = (
    "the reply is sealed with a key that is not here; name the former key (seal_keys=, "
    "WXPAY_FORMER_SECRETS), or query the order"
)

_REFUSED: Final = frozenset({State.REJECTED, State.FAILED})
_REFUSED_SINCE: Final = "replayed from the store, where it is final since"
_NEXT_ID: Final = "derive_request_id(..., generation=1) makes the id for another try"

_OPERATIONS: Final = {operation.name: operation for operation in OPERATIONS.values()}
_RESULTS: Final[dict[str, type[Any]]] = {
    "pay": PayResult,
    "trade": TradeResult,
    "refund": RefundResult,
}


class SettledMeanwhileError(Exception):
    """Another process settled the operation while this call waited; its answer is in the record."""

    def __init__(self, record: IdempotencyRecord) -> None:
        super().__init__(record.request_id)
        self.record = record


def replay(
    record: IdempotencyRecord,
    *,
    url: str,
    now_ms: int,
    content: bytes | None = None,
    asked: Request | None = None,
    until_dead: bool = False,
) -> Any:  # noqa: ANN401 - the result of any operation
    """Return the result that a settled operation's reply holds.

    Args:
        record: the operation.
        url: where its requests went.
        now_ms: milliseconds since the epoch by the platform's clock, which kills a prepay.
        content: what was sent, whose credentials an error must not repeat; None where it is not
            known any more.
        asked: the request, which the result must echo; None where it is not known.
        until_dead: hand out a prepay also in its last minute.

    Raises:
        WxPayError: what the reply, or the operation's state, means.
    """
    try:
        if record.reply is None or record.state is State.NEEDS_REVIEW:
            raise error_without_reply(record)
        result = _read(record, url=url, content=content)
        if asked is not None:
            check_echo(asked, result)
        if isinstance(result, (PayResult, TradeResult)) and not (
            until_dead or _is_alive(record, now_ms)
        ):
            result = _withhold_prepay(result)
    except WxPayError as error:
        error.attempts, error.replayed = record.attempts, True
        if isinstance(error, RefusedError) and record.state in _REFUSED:
            error.reason += f"; {_REFUSED_SINCE} {_to_utc(record.updated_at)}; {_NEXT_ID}"
        raise
    return result


def _read(record: IdempotencyRecord, *, url: str, content: bytes | None) -> object:
    try:
        return decode(
            HttpResponse(record.status or 0, record.reply or b""),
            _RESULTS[record.operation],
            url=url,
            moves_money=_OPERATIONS[record.operation].moves_money,
            signed_at=moment_of(record.signed_at or 0),
            attempts=record.attempts,
            replayed=True,
        )
    except WxPayError as error:
        error.message = without_credentials(error.message, content)
        raise


def moment_of(milliseconds: int) -> datetime:
    """Return the moment of a wire `timestamp`."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)


def _to_utc(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _is_alive(record: IdempotencyRecord, now_ms: int) -> bool:
    return moment_of(now_ms) < moment_of(record.signed_at or 0) + PREPAY_LIFE - PREPAY_MARGIN


def _withhold_prepay(result: PayResult | TradeResult) -> TradeResult:
    """Hand out no prepay that is dead, or dies while the person reads the dialogue."""
    if isinstance(result, PayResult):
        raise PrepayExpiredError("the prepay is older than WeChat accepts")
    return result.without_prepay()


def error_without_reply(record: IdempotencyRecord) -> WxPayError:
    """Return what a settled operation means that has no reply, or one that cannot be opened."""
    if record.state in REVIEW:
        return _make_review_error(record.state)
    if record.state is State.NOT_EXECUTED:
        return _make_proof(record)
    if record.state is State.FAILED:
        return FailedError("the platform reports failure")
    if record.status is not None:
        # There is a reply, and it does not open: what it says is not known. A `pay` that succeeded
        # has issued a prepay; whether it was paid with is another matter.
        return InDoubtError(_SEALED, retryable=False)
    if record.state is State.SUCCEEDED and record.operation == PAY.name:
        # Only a query or a callback settles a `pay` without a reply, by the word that it was paid.
        return AlreadyPaidError("the order is paid; the answer with its credential got lost")
    return InDoubtError(f"{record.state}, without a reply to show for it", retryable=False)


def _make_review_error(state: State) -> WxPayError:
    if state is State.NEEDS_REVIEW:
        return InDoubtError("24 h passed without proof; a person must look", retryable=False)
    return PlatformConflictError(
        "the platform holds this requestId with other content; a person must look"
    )


def _make_proof(record: IdempotencyRecord) -> NotExecutedError:
    """Say what was proven: a `pay` may have issued a prepay, which then was not paid."""
    if record.verdict is not None:
        proof = "a person found that it was not executed"
    elif record.operation == PAY.name:
        proof = "proven: the order is not paid, and no prepay of this id can be paid any more"
    else:
        proof = "proven never executed"
    return NotExecutedError(f"{proof}; use the next generation of the requestId")

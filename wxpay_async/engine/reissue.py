"""Keep one live credential for an order (`money-safety.md` §3).

A payment whose credential is dead, or was lost with its answer, is closed for good, and only then
does the next one go, under a requestId that is derived from the closed one. So the payments of an
order are a chain, and its first requestId leads to its last one. No other credential is issued
beside one that can still be paid: another payer is told when that one will be dead.
"""

from __future__ import annotations

from datetime import datetime
from typing import TYPE_CHECKING, Final

import attrs
from attrs import frozen

from wxpay_async.engine.replay import moment_of
from wxpay_async.engine.unsent import load_or_doubt
from wxpay_async.errors import (
    AlreadyPaidError,
    FailedError,
    IdempotencyConflictError,
    InDoubtError,
    NotPaidError,
    NotSentError,
    OtherPayerError,
    PrepayExpiredError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import REISSUABLE, State
from wxpay_async.protocol.builder import PAY
from wxpay_async.protocol.codec import serialize
from wxpay_async.protocol.idempotency_key import derive_request_id, fingerprint
from wxpay_async.protocol.requests import MiniProgramPay
from wxpay_async.protocol.results import PREPAY_LIFE, PayResult, TradeState

if TYPE_CHECKING:
    from wxpay_async.engine.dispatcher import Dispatcher

_DEAD_OR_LOST: Final = (IdempotencyConflictError, InDoubtError, RefusedError)
"""After these a payment may need another credential; after any other nothing was found out."""


def next_request_id(app_key: str, request_id: str) -> str:
    """Return the requestId of the payment that follows a closed one."""
    return derive_request_id(app_key, PAY.name, request_id, generation=1)


async def find_last(
    dispatcher: Dispatcher, request_id: str
) -> tuple[str, IdempotencyRecord | None]:
    """Follow closed payments to the one that stands; its record is None if it did not begin yet.

    Raises:
        InDoubtError: the store cannot tell.
    """
    app_key, store = dispatcher.app_key, dispatcher.store
    record = await load_or_doubt(store, (app_key, request_id))
    while record is not None and record.state is State.REISSUED:
        request_id = next_request_id(app_key, request_id)
        record = await load_or_doubt(store, (app_key, request_id))
    return request_id, record


def say_of_closed(error: WxPayError) -> WxPayError:
    """Say of a closed payment what became of the one that followed it.

    That the next one was refused, or not sent, is not true of the first one: it was executed. Only
    the end of the order is the end of both.
    """
    is_theirs = isinstance(error, NotSentError | RefusedError)
    if not is_theirs or isinstance(error, NotPaidError | FailedError):
        return error
    doubt = InDoubtError(
        f"it gave no credential, and the payment that was to follow it neither: {error.reason}",
        retryable=error.retryable,
        code=error.code,
        message=error.message,
    )
    doubt.attempts = error.attempts
    return doubt


async def pay_once_live(
    dispatcher: Dispatcher,
    request: MiniProgramPay,
    deadline: Deadline,
    *,
    may_close: bool = True,
) -> PayResult:
    """Return the live credential of the payment's order; issue another if there is none any more.

    Args:
        dispatcher: carries the calls out.
        request: the first payment of the order, or one that follows it. It names its order.
        deadline: by when all of it must be over.
        may_close: whether a payment may be closed for the next one. It happens once in a call: an
            outage that loses every answer must not make payments without end.

    Raises:
        AlreadyPaidError: the order is paid.
        NotPaidError: the order ended without being paid.
        OtherPayerError: another payer has its live credential.
        WxPayError: what `execute` raises of the payment that stands.
    """
    first_id = request.request_id
    while True:
        seconds = dispatcher.times.seconds_left(deadline)
        try:
            result = await dispatcher.executor.execute(request, PayResult, timeout=seconds)
        except _DEAD_OR_LOST as error:
            request_id, record = await find_last(dispatcher, request.request_id)
            if request_id == request.request_id:
                failure = error if request_id == first_id else say_of_closed(error)
                if record is None or not may_close:
                    raise failure from error.__cause__
                attempt = _Attempt(dispatcher, request, record, failure, deadline)
                live = await attempt.close_or_keep()
                if live is not None:
                    return live
                request_id = next_request_id(dispatcher.app_key, request_id)
                may_close = False
        else:
            if not result.replayed:
                return result
            request_id, _ = await find_last(dispatcher, request.request_id)
            if request_id == request.request_id:
                return result
            # It was closed, and what followed it may be another payer's.
        request = attrs.evolve(request, request_id=request_id)


@frozen
class _Attempt:
    """The payment that stands, and why it gave no credential."""

    dispatcher: Dispatcher
    request: MiniProgramPay
    record: IdempotencyRecord
    error: WxPayError
    deadline: Deadline

    async def close_or_keep(self) -> PayResult | None:
        """Close the payment, so that the next one may go, or return its credential if it lives.

        Raises:
            WxPayError: neither may be.
        """
        record = self.record
        if not self._may_need_another():
            raise self.error
        if self._is_alive(self.dispatcher.time.milliseconds() / 1000):
            return self._keep()
        status, seen_at = await self._ask()
        if status.was_paid:
            raise AlreadyPaidError("the order is paid") from self.error
        if status.ended_unpaid:
            raise NotPaidError(f"the order ended unpaid: {status}") from self.error
        if status is not TradeState.AWAITING:
            raise self._make_unanswered_error()
        if record.state is State.FAILED:
            raise InDoubtError("a query said that the order ended, another that it awaits payment")
        if record.state is State.REJECTED and self._is_ours():
            raise self.error
        if seen_at is not None and self._is_alive(seen_at.timestamp()):  # our clock is ahead
            return self._keep()
        await self.dispatcher.close_payment(record)
        return None

    def _may_need_another(self) -> bool:
        # What was not sent at all goes when it is called again.
        if self.record.state is State.RESERVED:
            return not self._is_ours()
        return self.record.state in REISSUABLE | {State.FAILED}

    def _is_ours(self) -> bool:
        content = serialize(self.request)
        mark = fingerprint(PAY.name, content, self.request.out_trade_no)
        return self.record.fingerprint == mark

    def _dies_at(self) -> float:
        """Return when the credential dies, in seconds since the epoch by the platform's time.

        It lives from the platform's answer, which was there when it was written down.
        """
        answered_at = self.record.updated_at + self.dispatcher.time.offset
        signed_at = (self.record.signed_at or 0) / 1000
        return max(answered_at, signed_at) + PREPAY_LIFE.total_seconds()

    def _is_alive(self, now: float) -> bool:
        return self.record.state is State.SUCCEEDED and now < self._dies_at()

    def _keep(self) -> PayResult:
        if not self._is_ours():
            retry_at = moment_of(round(self._dies_at() * 1000))
            raise OtherPayerError(
                f"another payer can pay this order until {retry_at:%H:%M:%S} UTC", retry_at=retry_at
            ) from self.error
        if not isinstance(self.error, PrepayExpiredError):
            raise self.error  # its answer cannot be read: the person may have the credential
        # In its last minute. Another beside it would be two that can be paid.
        live: PayResult = self.dispatcher.replay(self.record, asked=self.request, until_dead=True)
        return live

    async def _ask(self) -> tuple[TradeState, datetime | None]:
        number = self.record.out_trade_no
        if number is None:
            raise self.error
        try:
            status, seen_at = await self.dispatcher.reader.query_order(number, self.deadline)
        except WxPayError as error:  # nothing was learnt
            raise self._make_unanswered_error() from error
        return status.state, seen_at

    def _make_unanswered_error(self) -> WxPayError:
        if not isinstance(self.error, PrepayExpiredError):
            return self.error
        # Its advice, another generation, is what happens here once a query is answered.
        return InDoubtError("its credential is dead, and no query says yet that it was not paid")

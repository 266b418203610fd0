"""Answer the question what became of an operation (`money-safety.md` §3)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from attrs import frozen

from wxpay_async.engine.reissue import find_last, next_request_id, pay_once_live, say_of_closed
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import InDoubtError, NotSentError, RefusedError, WxPayError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.resolution import Finding
from wxpay_async.policy.review import ReviewVerdict, check_reviewable
from wxpay_async.policy.states import REVIEW, State
from wxpay_async.protocol.builder import PAY
from wxpay_async.protocol.codec import parse_pay

if TYPE_CHECKING:
    from wxpay_async.engine.dispatcher import Dispatcher


@frozen
class Doubts:
    """Resolves the operations of one appKey, one at a time."""

    dispatcher: Dispatcher

    async def resolve(
        self, request_id: str, *, reissue: bool = False, verdict: ReviewVerdict | None = None
    ) -> Outcome[str, Any]:
        """Find out what became of an operation; see `PayGateway.resolve`."""
        try:
            record, finding = await self._check(request_id, verdict)
            payment = record.content if record.operation == PAY.name else None
            open_ = record.state in {State.UNKNOWN, State.NEEDS_REVIEW}  # also after the question
            unpaid = open_ and finding is Finding.UNPAID
            closed = record.state is State.REISSUED
            over = closed or record.state is State.NOT_EXECUTED
            if reissue and payment and (unpaid or over):
                return await self._reissue(record, payment)
            if closed:
                return await self._tell_last(request_id)
        except NotSentError as error:  # true of the question, and not of what it is about
            doubt = InDoubtError(f"nothing is known: {error.reason}")
            self.dispatcher.mark(doubt, request_id)
            raise doubt from error
        return self._tell(request_id, record)

    async def _check(
        self, request_id: str, verdict: ReviewVerdict | None
    ) -> tuple[IdempotencyRecord, Finding]:
        dispatcher = self.dispatcher
        if dispatcher.store.ahead is None:
            await dispatcher.store.open()
        record = await dispatcher.store.load((dispatcher.app_key, request_id))
        if record is None:
            raise InDoubtError(
                "the store does not know it: it was never called with, or is forgotten by now",
                retryable=False,
            )
        if verdict is not None:
            check_reviewable(record.state)
        deadline = dispatcher.times.after(dispatcher.timeouts.call)
        record, finding = await dispatcher.resolver.check(record, deadline)
        if verdict is not None and record.state in REVIEW:
            record = await dispatcher.resolver.settle_by_verdict(record, verdict)
        return record, finding

    async def _reissue(self, record: IdempotencyRecord, content: bytes) -> Outcome[str, Any]:
        """Issue a new prepay for an order that is not paid: nothing is charged by it."""
        dispatcher, request_id = self.dispatcher, record.request_id
        closed_before = record.state is State.REISSUED
        try:
            if not closed_before:
                await dispatcher.close_payment(record)
                request_id = next_request_id(dispatcher.app_key, request_id)
            request = parse_pay(content, request_id=request_id, out_trade_no=record.out_trade_no)
            deadline = dispatcher.times.after(dispatcher.timeouts.call)
            result = await pay_once_live(dispatcher, request, deadline, may_close=closed_before)
        except (NotSentError, RefusedError) as error:
            return self._fail(record.request_id, say_of_closed(error))
        except WxPayError as error:
            return self._fail(record.request_id, error)
        return Outcome[str, Any].from_result(record.request_id, result)

    async def _tell_last(self, request_id: str) -> Outcome[str, Any]:
        """Tell what became of the payment that followed a closed one."""
        _, last = await find_last(self.dispatcher, request_id)
        if last is not None and last.state is not State.RESERVED:
            outcome = self._tell(request_id, last)
            if isinstance(outcome.error, RefusedError):
                return self._fail(request_id, say_of_closed(outcome.error))
            return outcome
        return self._fail(
            request_id, InDoubtError("another credential was about to be issued; pay again")
        )

    def _tell(self, request_id: str, record: IdempotencyRecord) -> Outcome[str, Any]:
        try:
            if record.state is State.RESERVED and not record.in_doubt:
                raise NotSentError("nothing was sent of it so far; a call of it may still wait")
            if not record.is_settled and record.reply is None:
                raise InDoubtError(f"the operation is {record.state}: not known yet")
            return Outcome[str, Any].from_result(request_id, self.dispatcher.replay(record))
        except WxPayError as error:
            return self._fail(request_id, error)

    def _fail(self, request_id: str, error: WxPayError) -> Outcome[str, Any]:
        self.dispatcher.mark(error, request_id)
        return Outcome[str, Any].from_error(request_id, error)

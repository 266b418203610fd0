"""Carry out the calls with a requestId: each together with its copies, and to a known end."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

import attrs
from attrs import define, field

from wxpay_async.adapters.event_loop import ShieldedTasks
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.call import Call
from wxpay_async.engine.priority import Priority
from wxpay_async.engine.reissue import find_last, say_of_closed
from wxpay_async.engine.replay import SettledMeanwhileError
from wxpay_async.engine.single_flight import SingleFlight, check_same
from wxpay_async.engine.unsent import LAST_WORD, check_unsent, make_unknown
from wxpay_async.errors import (
    IdempotencyConflictError,
    InDoubtError,
    NotSentError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.lanes import Lane
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.builder import OPERATIONS, Operation, Template
from wxpay_async.protocol.echo import check_echo
from wxpay_async.protocol.idempotency_key import fingerprint
from wxpay_async.protocol.requests import Request, order_number

if TYPE_CHECKING:
    from wxpay_async.engine.dispatcher import Dispatcher

T = TypeVar("T")


@define(eq=False)
class Executor:
    """Executes requests for one appKey.

    Attributes:
        dispatcher: makes its calls, and has the store.
    """

    dispatcher: Dispatcher
    _single_flight: SingleFlight = field(factory=SingleFlight, init=False)
    # Bound once: a bound method of each call's own is one more thing for the collector to watch.
    _ask: Callable[[Call[Any]], Coroutine[Any, Any, Any]] = field(init=False)

    def __attrs_post_init__(self) -> None:
        self._ask = self._check_outcome

    async def execute(
        self,
        request: Request,
        result_type: type[T],
        *,
        timeout: float | None,
        lane: Lane = Lane.PEOPLE,
    ) -> T:
        """Execute a request, together with every caller that asks for the same."""
        dispatcher = self.dispatcher
        dispatcher.enter_loop()
        operation, request_id = OPERATIONS[type(request)], request.request_id
        seconds = dispatcher.times.seconds(timeout, lane)
        deadline = dispatcher.times.after(seconds)
        template = dispatcher.builder.prepare_request(operation, request)
        record = self._make_record(request, operation, template.content)
        mark, order = record.fingerprint, record.out_trade_no
        priority = None if lane is Lane.PEOPLE else Priority(lane)
        executing = self._execute(request, record, template, result_type, deadline, lane, priority)
        del record, template  # what is not needed the collector need not watch
        began = deadline.at - seconds
        shared = self._single_flight.has(request_id, mark)
        dispatcher.telemetry.call_started(operation.name, request_id, order)
        try:
            result, shared = await self._single_flight.run(
                request_id,
                mark,
                executing,
                timeout=seconds,
                own_timeout=None if dispatcher.in_process else seconds + LAST_WORD,
                priority=priority,
            )
        except BaseException as error:  # a hook that was told of the start is told of the end
            if isinstance(error, WxPayError):
                dispatcher.mark(error, request_id)
                error.out_trade_no = order
            self._end_reservation(request_id)
            spent = dispatcher.clock.monotonic() - began
            dispatcher.telemetry.call_ended(
                *(operation.name, request_id, spent),
                out_trade_no=order,
                error=error,
                shared=shared,
            )
            raise
        if shared:
            result = attrs.evolve(result, replayed=True)  # type: ignore[misc] # any of the results
        if dispatcher.telemetry.hooks:
            spent = dispatcher.clock.monotonic() - began
            dispatcher.telemetry.call_ended(
                *(operation.name, request_id, spent),
                out_trade_no=order,
                result=result,
                shared=shared,
            )
        return result

    async def _execute(
        self,
        request: Request,
        fresh: IdempotencyRecord,
        template: Template,
        result_type: type[T],
        deadline: Deadline,
        lane: Lane,
        priority: Priority | None,
    ) -> T:
        """Reserve the record, and send the request unless it is settled already."""
        dispatcher = self.dispatcher
        operation, content = OPERATIONS[type(request)], template.content
        call = dispatcher.make_call(
            operation,
            template,
            result_type,
            asked=request,
            check=check_echo,
            deadline=deadline,
            lane=lane,
        )
        call.turn.priority = priority
        try:
            record = await call.reserve(fresh)
        except NotSentError as error:  # true of this call, and not of those before it
            raise make_unknown(error) from error
        operations = record.operation, fresh.operation
        check_same(record.fingerprint, fresh.fingerprint, operations)
        del fresh
        if record.content is not None and record.content != content:
            content = record.content
            call.template = dispatcher.builder.prepare_content(operation, content)
        if record.state is State.REISSUED:
            return await self._follow(request, result_type, deadline, lane)
        if record.is_settled:
            result: T = dispatcher.replay(record, content=content, asked=request)
            return result
        call.record, call.content = record, content
        if record.out_trade_no is not None:
            call.ask = self._ask
        epoch = record.epoch - call.claimed
        del record
        try:
            return await dispatcher.deliver(call, dispatcher.times.policy(lane))
        except SettledMeanwhileError as meanwhile:
            record = meanwhile.record
            if record.state is State.REISSUED:
                return await self._follow(request, result_type, deadline, lane)
        except NotSentError as error:
            left = deadline.remaining()
            await check_unsent(dispatcher.store, call.record, epoch, error, seconds=left)
            raise
        stored: T = dispatcher.replay(record, content=content, asked=request)
        return stored

    def _end_reservation(self, request_id: str) -> None:
        """Let a store in memory forget what was not sent, unless a call still works on it."""
        dispatcher = self.dispatcher
        if isinstance(dispatcher.store, MemoryStore) and not self._single_flight.is_under_way(
            request_id
        ):
            dispatcher.store.end_reservation((dispatcher.app_key, request_id))

    async def _follow(
        self, request: Request, result_type: type[T], deadline: Deadline, lane: Lane
    ) -> T:
        """Answer for a payment that was closed: with the result of the one that followed it."""
        dispatcher = self.dispatcher
        request_id, last = await find_last(dispatcher, request.request_id)
        request = attrs.evolve(request, request_id=request_id)
        try:
            seconds = dispatcher.times.seconds_left(deadline)
            return await self.execute(request, result_type, timeout=seconds, lane=lane)
        except (NotSentError, RefusedError) as error:
            raise say_of_closed(error) from error
        except IdempotencyConflictError:
            if last is None or not last.is_settled:
                raise
        result: T = dispatcher.replay(last)  # another payer's
        return result

    def _make_record(
        self, request: Request, operation: Operation, content: bytes
    ) -> IdempotencyRecord:
        dispatcher, order = self.dispatcher, order_number(request)
        return IdempotencyRecord.new(
            app_key=dispatcher.app_key,
            request_id=request.request_id,
            operation=operation.name,
            fingerprint=fingerprint(operation.name, content, order),
            out_trade_no=order,
            content=content,
            now=dispatcher.clock.time(),
        )

    async def _check_outcome(self, call: Call[T]) -> T | None:
        """Query an order whose attempt is in doubt; return the result if it is settled by that."""
        dispatcher = self.dispatcher
        deadline, record = call.deadline.capped(dispatcher.timeouts.call), call.record
        if record is None or deadline.remaining() < dispatcher.retry.min_left:
            return None
        try:
            call.record, _ = await dispatcher.resolver.check(record, deadline)
        except (NotSentError, InDoubtError):  # the store's, not the platform's: nothing was learnt
            return None
        if not call.record.is_settled:
            return None
        result: T = dispatcher.replay(call.record, content=call.content, asked=call.asked)
        return result

    # Life

    def start_afresh(self, background: ShieldedTasks) -> None:
        """Begin in a new event loop: what was under way in the old one is gone with it."""
        self._single_flight = SingleFlight(background)

    async def aclose(self) -> None:
        """Cancel what is under way, and wait until it has recorded where it stands."""
        await self._single_flight.aclose()

"""Make the calls that only read: they need no requestId and no store."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Final, TypeVar

from attrs import define

from wxpay_async.engine.call import Call
from wxpay_async.engine.priority import Priority
from wxpay_async.engine.status_texts import StatusTexts
from wxpay_async.errors import WxPayError
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.lanes import Lane
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.builder import QUERY, Operation, query_parameters
from wxpay_async.protocol.echo import check_order
from wxpay_async.protocol.requests import TradeQuery
from wxpay_async.protocol.results import TradeStatus

if TYPE_CHECKING:
    from wxpay_async.engine.dispatcher import Dispatcher

T = TypeVar("T")

_ONE_ATTEMPT: Final = RetryPolicy(attempts=1)


@define(eq=False)
class Reader:
    """Reads for one appKey.

    Attributes:
        dispatcher: makes its calls.
        texts: reads the status texts of queries.
    """

    dispatcher: Dispatcher
    texts: StatusTexts

    async def read(
        self,
        operation: Operation,
        params: Mapping[str, str],
        result_type: type[T],
        *,
        timeout: float | None = None,
    ) -> T:
        """Execute a call that needs no requestId and no store."""
        self.dispatcher.enter_loop()
        times = self.dispatcher.times
        call = self.dispatcher.make_call(
            operation,
            self.dispatcher.builder.prepare(operation, params),
            result_type,
            asked=None,
            check=None,
            deadline=times.after(times.seconds(timeout, Lane.PEOPLE)),
            lane=Lane.PEOPLE,
        )
        return await self.send(call, self.dispatcher.retry)

    async def query(
        self,
        query: TradeQuery,
        *,
        timeout: float | None,
        lane: Lane = Lane.PEOPLE,
        priority: Priority | None = None,
    ) -> TradeStatus:
        """Query one order; what the platform says of another is withheld.

        A `priority`, which begins with the same lane, may raise it while the query waits.
        """
        times = self.dispatcher.times
        deadline = times.after(times.seconds(timeout, lane))
        call = self._query_call(query, deadline=deadline, lane=lane)
        call.turn.priority = priority
        return self._read_status(query, await self.send(call, times.policy(lane)))

    async def query_order(
        self, out_trade_no: str, deadline: Deadline, lane: Lane = Lane.PEOPLE
    ) -> tuple[TradeStatus, datetime | None]:
        """Query one order once; return the answer, and its `Date` where it has one."""
        times = self.dispatcher.times
        deadline = times.after(times.seconds(deadline.remaining(), lane))
        query = TradeQuery(out_trade_no=out_trade_no)
        call = self._query_call(query, deadline=deadline, lane=lane)
        status = self._read_status(query, await self.send(call, _ONE_ATTEMPT))
        return status, call.server_time

    async def query_doubt(
        self, out_trade_no: str, deadline: Deadline
    ) -> tuple[TradeStatus, datetime | None]:
        """Query one order once, to settle what is in doubt of it."""
        return await self.query_order(out_trade_no, deadline, Lane.RESOLVING)

    def _read_status(self, query: TradeQuery, answer: TradeStatus) -> TradeStatus:
        status = self.texts.read(answer)
        if query.out_trade_no is not None:
            self.dispatcher.paid_watch.hear(query.out_trade_no, status)
        return status

    def _query_call(
        self, query: TradeQuery, *, deadline: Deadline, lane: Lane
    ) -> Call[TradeStatus]:
        self.dispatcher.enter_loop()
        return self.dispatcher.make_call(
            QUERY,
            self.dispatcher.builder.prepare(QUERY, query_parameters(query)),
            TradeStatus,
            asked=query,
            check=check_order,
            deadline=deadline,
            lane=lane,
        )

    async def send(self, call: Call[T], policy: RetryPolicy) -> T:
        """Deliver a call without a record, and tell the hooks of its start and end."""
        name, services = call.operation.name, call.services
        telemetry, monotonic = services.telemetry, services.clock.monotonic
        began, order = monotonic(), getattr(call.asked, "out_trade_no", None)
        telemetry.call_started(name, None, order)
        try:
            result = await self.dispatcher.deliver(call, policy)
        except BaseException as error:  # a hook that was told of the start is told of the end
            if isinstance(error, WxPayError):
                error.out_trade_no = order
            spent = monotonic() - began
            telemetry.call_ended(name, None, spent, out_trade_no=order, error=error)
            raise
        spent = monotonic() - began
        telemetry.call_ended(name, None, spent, out_trade_no=order, result=result)
        return result

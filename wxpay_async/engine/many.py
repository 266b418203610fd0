"""Make many calls of one kind, as `pay_many` and its like do, and end them with the gateway."""

from __future__ import annotations

import functools
import weakref
from collections.abc import AsyncIterable, Awaitable, Callable, Iterable
from typing import TYPE_CHECKING, Any, TypeVar

from attrs import define, field

from wxpay_async.engine.outage_pauses import OutagePauses
from wxpay_async.engine.streaming import OutcomeStream, stream
from wxpay_async.errors import InDoubtError, InvalidRequestError
from wxpay_async.policy.lanes import Lane
from wxpay_async.protocol.requests import MiniProgramPay, Refund, TradeQuery, check_type
from wxpay_async.protocol.results import PayResult, RefundResult, TradeStatus

if TYPE_CHECKING:
    from wxpay_async.engine.dispatcher import Dispatcher

Q = TypeVar("Q")
T = TypeVar("T")


@define(eq=False)
class Many:
    """The streams of outcomes of one gateway.

    Attributes:
        dispatcher: carries the calls out.
    """

    dispatcher: Dispatcher
    # Weak: a stream that is held no more is closed by the event loop.
    _streams: weakref.WeakSet[OutcomeStream[Any, Any]] = field(
        factory=weakref.WeakSet[OutcomeStream[Any, Any]], init=False
    )

    def pay(
        self,
        requests: Iterable[MiniProgramPay] | AsyncIterable[MiniProgramPay],
        concurrency: int,
        timeout: float | None,
    ) -> OutcomeStream[MiniProgramPay, PayResult]:
        """Pay for every request; see `PayGateway.pay_many`."""

        async def pay(request: MiniProgramPay) -> PayResult:
            return await self.dispatcher.executor.execute(
                check_type(request, MiniProgramPay), PayResult, timeout=timeout, lane=Lane.BATCH
            )

        return self.stream(requests, pay, concurrency, "pay")

    def refund(
        self,
        requests: Iterable[Refund] | AsyncIterable[Refund],
        concurrency: int,
        timeout: float | None,
    ) -> OutcomeStream[Refund, RefundResult]:
        """Refund for every request; see `PayGateway.refund_many`."""

        async def refund(request: Refund) -> RefundResult:
            return await self.dispatcher.executor.execute(
                check_type(request, Refund), RefundResult, timeout=timeout, lane=Lane.BATCH
            )

        return self.stream(requests, refund, concurrency, "refund")

    def query(
        self,
        out_trade_nos: Iterable[str] | AsyncIterable[str],
        concurrency: int,
        timeout: float | None,
    ) -> OutcomeStream[str, TradeStatus]:
        """Query every order; see `PayGateway.query_many`."""

        async def query(out_trade_no: object) -> TradeStatus:
            # A row of a file may hold anything; one bad row must not end the others.
            if not isinstance(out_trade_no, str):
                kind = type(out_trade_no).__name__
                raise InvalidRequestError(f"got {kind}", field="outTradeNo", allowed="a text")
            asked = TradeQuery(out_trade_no=out_trade_no)
            return await self.dispatcher.reader.query(asked, timeout=timeout, lane=Lane.BATCH)

        return self.stream(out_trade_nos, query, concurrency, "query")

    def stream(
        self,
        requests: Iterable[Q] | AsyncIterable[Q],
        call: Callable[[Q], Awaitable[T]],
        concurrency: int,
        operation: str,
    ) -> OutcomeStream[Q, T]:
        """Call for every item; see `PayGateway.stream`."""
        pauses = OutagePauses(operation, self.dispatcher.clock, self.dispatcher.telemetry)
        outcomes = stream(requests, call, concurrency=concurrency, pauses=pauses)
        self._streams.add(outcomes)
        return outcomes

    async def aclose(self) -> None:
        """End every stream: what is under way has its outcome, in doubt."""
        for outcomes in list(self._streams):
            await outcomes.end(self._make_doubt)

    def _make_doubt(self, request: object) -> InDoubtError:
        doubt = InDoubtError("the gateway was closed while it was on its way")
        if isinstance(request, MiniProgramPay | Refund):
            doubt.request_id = request.request_id
            doubt.resolver = functools.partial(self.dispatcher.resolve, request.request_id)
        return doubt

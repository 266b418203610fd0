"""How a gateway carries operations out: together, over the retrying transport, to a known end."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import logging
import math
from collections.abc import Callable, Mapping
from datetime import datetime
from typing import Any, Final, TypeVar

import attrs
from attrs import define, field

from wxpay_async.adapters.limiters.limiter import Lane
from wxpay_async.engine.call import SLACK, Execution
from wxpay_async.engine.concurrency import ConcurrencyLimiter
from wxpay_async.engine.contents import next_generation, order_of, written
from wxpay_async.engine.resolver import Resolver
from wxpay_async.engine.retrying import RetryingTransport
from wxpay_async.engine.single_flight import SingleFlight, conflict
from wxpay_async.engine.streaming import Outcome
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.engine.wiring import Wiring
from wxpay_async.errors import Fate, InDoubtError, InvalidRequestError, NotSentError, WxPayError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.resolution import Finding
from wxpay_async.policy.retry import RetryBudget, RetryPolicy
from wxpay_async.policy.states import FINAL, State
from wxpay_async.protocol.builder import OPERATIONS, PAY, QUERY, Operation, query_parameters
from wxpay_async.protocol.echo import check_echo, check_order
from wxpay_async.protocol.idempotency_key import Fingerprint
from wxpay_async.protocol.requests import Request, TradeQuery
from wxpay_async.protocol.results import PayResult, RefundResult, TradeResult, TradeStatus
from wxpay_async.protocol.wire import Timeouts, Transport

T = TypeVar("T")

BATCH_CALL: Final = 86_400.0
"""Seconds that a request of a batch has: what waits for its slot of the quota is not lost."""

RECOVER_EVERY: Final = 30.0
"""Seconds between two looks for operations that a crash or a lost answer left open."""

_LOG: Final = logging.getLogger("wxpay_async")
_ONE_ATTEMPT: Final = RetryPolicy(attempts=1)
_RESULTS: Final[Mapping[str, type]] = {
    "pay": PayResult,
    "trade": TradeResult,
    "refund": RefundResult,
}


@define(eq=False, kw_only=True)
class Dispatcher:
    """Carries out the operations of one appKey, in whatever event loop is running.

    Attributes:
        app_key: whose operations.
        wiring: what they share.
        make_transport: makes the transport when the first request needs it.
        retry: how often to try again.
        timeouts: how long each phase may take.
        max_in_flight: HTTP requests at once.
        refunds_queryable: see `Resolver`.
    """

    app_key: str
    wiring: Wiring
    make_transport: Callable[[], Transport]
    retry: RetryPolicy
    timeouts: Timeouts
    max_in_flight: int
    refunds_queryable: bool
    _transport: Transport | None = field(default=None, init=False)
    _budget: RetryBudget = field(factory=RetryBudget, init=False)
    _flights: SingleFlight = field(factory=SingleFlight, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _recovery: asyncio.Task[None] | None = field(default=None, init=False)

    # What carries a requestId

    async def once(
        self,
        request: Request,
        result_type: type[T],
        *,
        timeout: float | None,
        lane: Lane = Lane.PEOPLE,
    ) -> T:
        """Execute the request, together with whoever asks for the same."""
        self._enter_loop()
        operation = OPERATIONS[type(request)]
        content, meaning = written(operation, request)
        began = self.wiring.clock.monotonic()
        wait = self._call_time(timeout, lane)
        fresh = self._fresh(request, meaning, content)
        fly = functools.partial(
            self._fly, request, fresh, result_type, began=began, wait=wait, lane=lane
        )
        shared = False
        self.wiring.tell_start(operation, request.request_id)
        try:
            flight, shared = await self._flights.board(request.request_id, meaning, fly)
            # One's own flight has its deadline inside.
            result = await flight.landed(wait if shared else None)
        except BaseException as error:  # whoever heard of the start hears of the end
            if isinstance(error, WxPayError):
                self._explain(error, request.request_id)
            self.wiring.tell_outcome(
                operation, request.request_id, began, error=error, shared=shared
            )
            raise
        if shared:
            result = attrs.evolve(result, replayed=True)
        self.wiring.tell_outcome(operation, request.request_id, began, result=result, shared=shared)
        return result  # type: ignore[no-any-return] # flights carry results of every type

    async def _fly(
        self,
        request: Request,
        fresh: IdempotencyRecord,
        result_type: type[T],
        *,
        began: float,
        wait: float,
        lane: Lane,
    ) -> T:
        entry = await self.wiring.store.reserve(fresh)
        if entry is not fresh and entry.fingerprint != fresh.fingerprint:
            raise conflict(entry.fingerprint.differences(fresh.fingerprint))
        execution = Execution(
            wiring=self.wiring,
            operation=OPERATIONS[type(request)],
            params={"bizContent": (entry.content or fresh.content or b"").decode()},
            result_type=result_type,
            check=functools.partial(check_echo, request),
            lane=lane,
            min_left=self._least(wait),
            patience=self.timeouts.call,
            deadline=began + wait,
        )
        if entry.state in FINAL or entry.state is State.PENDING:
            return execution.replayed(entry)
        execution.entry = entry
        return await self._delivering(self._retry(lane)).deliver(
            execution.prepare,
            read=execution.read,
            settle=execution.settle,
            inquire=functools.partial(self._inquire, execution),
            deadline=execution.deadline,
            in_doubt=execution.is_in_doubt,
        )

    def _fresh(self, request: Request, meaning: Fingerprint, content: bytes) -> IdempotencyRecord:
        now = self.wiring.clock.time()
        return IdempotencyRecord(
            app_key=self.app_key,
            request_id=request.request_id,
            operation=OPERATIONS[type(request)].name,
            fingerprint=meaning,
            out_trade_no=order_of(request),
            content=content,
            created_at=now,
            updated_at=now,
        )

    async def _inquire(self, execution: Execution[T]) -> T | None:
        """Ask what became of an attempt in doubt, before it is sent again or given up."""
        left = min(execution.deadline - self.wiring.clock.monotonic(), self.timeouts.call)
        entry = execution.entry
        if entry is None or entry.out_trade_no is None or left < self.retry.min_left:
            return None
        try:
            entry, _ = await self._resolver().look(entry, left)
        except (NotSentError, InDoubtError):  # the store's, not the platform's: nothing was learnt
            return None
        execution.entry = entry
        settled = entry.state in FINAL or entry.state is State.PENDING
        return execution.replayed(entry) if settled else None

    # What only reads

    async def ask(
        self,
        operation: Operation,
        params: Mapping[str, str],
        result_type: type[T],
        *,
        timeout: float | None = None,
    ) -> T:
        """Execute what needs no requestId and no store."""
        wait = self._call_time(timeout, Lane.PEOPLE)
        execution = self._question(operation, params, result_type, wait=wait, lane=Lane.PEOPLE)
        return await self._asking(execution)

    def _question(
        self,
        operation: Operation,
        params: Mapping[str, str],
        result_type: type[T],
        *,
        wait: float,
        lane: Lane,
        check: Callable[[T], None] = lambda _: None,
    ) -> Execution[T]:
        return Execution(
            wiring=self.wiring,
            operation=operation,
            params=params,
            result_type=result_type,
            check=check,
            lane=lane,
            min_left=self._least(wait),
            patience=self.timeouts.call,
            deadline=self.wiring.clock.monotonic() + wait,
        )

    async def _asking(self, execution: Execution[T], retry: RetryPolicy | None = None) -> T:
        self._enter_loop()
        began, operation = self.wiring.clock.monotonic(), execution.operation
        self.wiring.tell_start(operation, None)
        try:
            result = await self._delivering(retry or self._retry(execution.lane)).deliver(
                execution.prepare,
                read=execution.read,
                settle=execution.settle,
                deadline=execution.deadline,
            )
        except BaseException as error:  # as above
            self.wiring.tell_outcome(operation, None, began, error=error)
            raise
        self.wiring.tell_outcome(operation, None, began, result=result)
        return result

    async def query(
        self,
        query: TradeQuery,
        *,
        timeout: float | None,
        lane: Lane = Lane.PEOPLE,
    ) -> TradeStatus:
        """Ask for one order; what the platform says of another is withheld."""
        wait = self._call_time(timeout, lane)
        return await self._asking(self._order_question(query, wait=wait, lane=lane))

    def _order_question(
        self, query: TradeQuery, *, wait: float, lane: Lane
    ) -> Execution[TradeStatus]:
        return self._question(
            QUERY,
            query_parameters(query),
            TradeStatus,
            wait=wait,
            lane=lane,
            check=functools.partial(check_order, query),
        )

    async def _ask_for_order(
        self, out_trade_no: str, timeout: float
    ) -> tuple[TradeStatus, datetime | None]:
        wait = self._call_time(timeout, Lane.RESOLVING)
        query = TradeQuery(out_trade_no=out_trade_no)
        execution = self._order_question(query, wait=wait, lane=Lane.RESOLVING)
        return await self._asking(execution, _ONE_ATTEMPT), execution.server_time

    # Doubt

    async def resolve(self, request_id: str, *, reissue: bool = False) -> Outcome[str, Any]:
        """Find out what became of an operation; see `PayGateway.resolve`."""
        self._enter_loop()
        try:
            entry = await self.wiring.store.load((self.app_key, request_id))
            if entry is None:
                raise InvalidRequestError(
                    "unknown to the store", field="requestId", allowed="what was sent through it"
                )
            entry, finding = await self._resolver().look(entry, self.timeouts.call)
        except NotSentError as error:  # true of the question, and not of what it is about
            doubt = InDoubtError(f"nobody knows: {error.reason}")
            self._explain(doubt, request_id)
            raise doubt from error
        unpaid = finding is Finding.UNPAID or entry.state is State.NOT_EXECUTED
        if reissue and unpaid and entry.operation == PAY.name and entry.content:
            return await self._reissued(entry, entry.content)
        return self._outcome(entry)

    async def _reissued(self, entry: IdempotencyRecord, content: bytes) -> Outcome[str, Any]:
        """Issue a new prepay for an order that nobody has paid: nothing is charged by it."""
        request = next_generation(self.app_key, entry, content)
        try:
            result = await self.once(request, PayResult, timeout=None)
        except WxPayError as error:
            return Outcome[str, Any].failed(entry.request_id, error)
        return Outcome[str, Any].ok(entry.request_id, result)

    def _outcome(self, entry: IdempotencyRecord) -> Outcome[str, Any]:
        try:
            known = entry.state in FINAL or entry.state is State.PENDING
            if not known and entry.reply is None:
                raise InDoubtError(f"the operation is {entry.state}: not known yet")
            return Outcome[str, Any].ok(entry.request_id, self._replayed(entry))
        except WxPayError as error:
            self._explain(error, entry.request_id)
            return Outcome[str, Any].failed(entry.request_id, error)

    def _replayed(self, entry: IdempotencyRecord) -> object:
        operations = {operation.name: operation for operation in OPERATIONS.values()}
        execution: Execution[object] = Execution(
            wiring=self.wiring,
            operation=operations[entry.operation],
            params={},
            result_type=_RESULTS[entry.operation],
            deadline=0.0,
        )
        return execution.replayed(entry)

    async def recover(self) -> int:
        """Look after everything that is open and due; return how many operations were settled."""
        self._enter_loop()
        return await self._resolver().recover(self.app_key, self.timeouts.call)

    async def _recover_for_ever(self) -> None:
        while True:
            try:
                await self.recover()
            except WxPayError as error:  # the store is down; the next look may find it up
                _LOG.warning("recovery could not look: %s", error.reason)
            except Exception:  # noqa: BLE001 - a stranger's store or transport must not end it
                _LOG.exception("recovery could not look")
            await asyncio.sleep(RECOVER_EVERY)

    # Life

    def open(self) -> None:
        """Start to recover in the background."""
        self._enter_loop()
        if self._recovery is None or self._recovery.done():
            # Of nobody's making: it must not run on in the span of whoever opened the gateway.
            self._recovery = asyncio.create_task(
                self._recover_for_ever(), context=contextvars.Context()
            )

    async def aclose(self) -> None:
        """Cancel what is under way, record where it stands, and release every connection."""
        self._enter_loop()
        recovery, self._recovery = self._recovery, None
        if recovery is not None:
            recovery.cancel()
            await asyncio.wait([recovery])
        await self._flights.aclose()
        self.wiring.signatures.close()
        if self._transport is not None:
            await self._transport.aclose()
        await self.wiring.limiter.aclose()
        await self.wiring.store.aclose()

    def _enter_loop(self) -> None:
        """Start afresh in a new event loop: what waited in the old one is gone with it."""
        loop = asyncio.get_running_loop()
        if loop is not self._loop:
            self._loop = loop
            self._flights = SingleFlight()
            self._recovery = None
            self.wiring.signatures.close()
            self.wiring.turns = ConcurrencyLimiter(self.max_in_flight)

    def _delivering(self, retry: RetryPolicy) -> RetryingTransport:
        if self._transport is None:
            self._transport = self.make_transport()
        return RetryingTransport(
            self._transport,
            policy=retry,
            budget=self._budget,
            timeouts=self.timeouts,
            clock=self.wiring.clock,
        )

    def _resolver(self) -> Resolver:
        return Resolver(
            store=self.wiring.store,
            clock=self.wiring.clock,
            time=self.wiring.time,
            ask=self._ask_for_order,
            closed=self._doubt_closed,
            refunds_queryable=self.refunds_queryable,
        )

    def _doubt_closed(self, entry: IdempotencyRecord) -> None:
        self.wiring.tell(
            Event(
                kind=EventKind.DOUBT_CLOSED,
                operation=entry.operation,
                app_key=self.app_key,
                request_id=entry.request_id,
            )
        )

    def at_most(self, left: float) -> float:
        """Return the time of a call that should end with its caller's patience."""
        return max(self.retry.min_left, min(left, self.timeouts.call))

    def _least(self, wait: float) -> float:
        # Who asked for no more than one attempt needs has spent a moment of it on the way here.
        return min(self.retry.min_left, wait - SLACK)

    def _retry(self, lane: Lane) -> RetryPolicy:
        return self.retry if lane is not Lane.BATCH else self.retry.of_batch()

    def _call_time(self, timeout: float | None, lane: Lane) -> float:
        if timeout is None:
            return self.timeouts.call if lane is not Lane.BATCH else BATCH_CALL
        if not self.retry.min_left <= timeout < math.inf:
            raise InvalidRequestError(
                f"{timeout} s",
                field="timeout",
                allowed=f"a finite time of at least {self.retry.min_left} s, "
                "which one attempt may need",
            )
        return timeout

    def _explain(self, error: WxPayError, request_id: str) -> None:
        error.request_id = request_id
        if isinstance(error, InDoubtError) and error.fate is Fate.IN_DOUBT:
            error.resolver = functools.partial(self.resolve, request_id)

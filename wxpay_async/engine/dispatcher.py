"""Hold the parts of one appKey together: make its calls and deliver them, in one event loop."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, TypeVar

from attrs import define, field

from wxpay_async.adapters.event_loop import ShieldedTasks
from wxpay_async.adapters.limiters.limiter import (
    Lane,
    Limiter,
    Unlimited,
    find_acquire_now,
)
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.signers.threads import SigningExecutor
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.engine.call import Call
from wxpay_async.engine.call_times import CallTimes
from wxpay_async.engine.clock import Clock, PlatformTime, StoreClock
from wxpay_async.engine.concurrency import ConcurrencyLimiter
from wxpay_async.engine.doubts import Doubts
from wxpay_async.engine.executor import Executor
from wxpay_async.engine.open_operations import (
    OpenFilter,
    OpenOperation,
    iter_open_operations,
)
from wxpay_async.engine.paid_watch import PaidWatch
from wxpay_async.engine.reader import Reader
from wxpay_async.engine.recall import recall
from wxpay_async.engine.recovery import Recovery
from wxpay_async.engine.replay import replay
from wxpay_async.engine.resolver import Resolver
from wxpay_async.engine.retrying import RetryingTransport
from wxpay_async.engine.services import Services
from wxpay_async.engine.status_texts import StatusTexts
from wxpay_async.engine.streaming import Outcome
from wxpay_async.engine.telemetry import Telemetry
from wxpay_async.engine.turn import Turn
from wxpay_async.errors import (
    Fate,
    InDoubtError,
    InProgressError,
    InvalidRequestError,
    WxPayError,
)
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.review import ReviewVerdict
from wxpay_async.policy.states import FINAL, FINISHED, State
from wxpay_async.protocol.builder import (
    Operation,
    RequestBuilder,
    Template,
)
from wxpay_async.protocol.notify import Notification
from wxpay_async.protocol.requests import R, Request
from wxpay_async.protocol.results import TradeStatus
from wxpay_async.protocol.wire import Timeouts, Transport

T = TypeVar("T")

PARTS: Final = ("transport", "store", "limiter")
"""The parts that can be handed in, and be shared with other gateways."""


@define(eq=False, kw_only=True)
class Dispatcher:
    """Makes and delivers the calls of one appKey, in the event loop that is running.

    Attributes:
        app_key: whose calls.
        builder: lays requests out.
        signing: signs them.
        store: remembers them.
        limiter: keeps the quota.
        clock: the machine's time, which becomes that of the store's server; `time` is the
            platform's, and `times` what calls may take.
        telemetry: tells the hooks.
        make_transport: makes the transport when the first request needs it.
        retry: how often to try.
        timeouts: how long each phase may take.
        max_in_flight: HTTP requests at once.
        refunds_queryable: see `Resolver`.
        absent_codes: see `Resolver`.
        texts: reads the status texts of queries.
        owned: which parts are closed with it, of `PARTS`; the others belong to the caller.
    """

    app_key: str
    builder: RequestBuilder
    signing: SigningExecutor
    store: Store
    limiter: Limiter
    clock: Clock
    telemetry: Telemetry
    make_transport: Callable[[], Transport]
    retry: RetryPolicy
    timeouts: Timeouts
    max_in_flight: int
    refunds_queryable: bool
    absent_codes: frozenset[str]
    texts: StatusTexts
    owned: frozenset[str]
    time: PlatformTime = field(init=False)
    times: CallTimes = field(init=False)
    executor: Executor = field(init=False)
    reader: Reader = field(init=False)
    resolver: Resolver = field(init=False)
    recovery: Recovery = field(init=False)
    doubts: Doubts = field(init=False)
    paid_watch: PaidWatch = field(init=False)
    in_process: bool = field(init=False)
    _retrying: RetryingTransport | None = field(default=None, init=False)
    _services: Services = field(init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _entering: threading.Lock = field(factory=threading.Lock, init=False)

    def __attrs_post_init__(self) -> None:
        if type(self.store) is not MemoryStore:
            self.clock = StoreClock(self.clock, self.store)
        self.time = PlatformTime(self.clock)
        self.times = CallTimes(self.retry, self.timeouts, self.clock.monotonic)
        # These very classes: what a subclass awaits may be a network.
        local = type(self.limiter) in {LocalLimiter, Unlimited}
        self.in_process = local and type(self.store) is MemoryStore
        self._services = self._make_services()
        self.executor, self.reader = Executor(self), Reader(self, self.texts)
        self.resolver = Resolver(
            store=self.store,
            clock=self.clock,
            time=self.time,
            query=self.reader.query_doubt,
            on_changed=self._report_change,
            refunds_queryable=self.refunds_queryable,
            absent_codes=self.absent_codes,
        )
        self.doubts = Doubts(self)
        self.paid_watch = PaidWatch(self)
        self.recovery = Recovery(
            app_key=self.app_key,
            store=self.store,
            clock=self.clock,
            resolver=self.resolver,
            timeout=self.timeouts.call,
        )

    # What every call needs

    def replay(
        self,
        record: IdempotencyRecord,
        *,
        content: bytes | None = None,
        asked: Request | None = None,
        until_dead: bool = False,
    ) -> Any:  # noqa: ANN401 - the result of any operation
        """Return the result that a settled operation's reply holds; see `replay`."""
        return replay(
            record,
            url=self.builder.base_url,
            now_ms=self.time.milliseconds(),
            content=content,
            asked=asked,
            until_dead=until_dead,
        )

    async def recall(self, requests: Sequence[R]) -> list[Outcome[R, Any] | None]:
        """Read from the store how requests ended; see `PayGateway.recall`."""
        self.enter_loop()
        return await recall(self, requests)

    # Watching

    async def wait_paid(self, out_trade_no: str, *, timeout: float, every: float) -> TradeStatus:
        """Wait until an order is paid; see `PayGateway.wait_paid`."""
        self.enter_loop()
        return await self.paid_watch.wait(out_trade_no, timeout=timeout, every=every)

    def wake(self, notification: Notification) -> None:
        """Wake those who wait for the order of a notification, if they wait in this event loop."""
        if self._loop is asyncio.get_running_loop():
            self.paid_watch.wake(notification)

    # Doubts

    async def resolve(
        self, request_id: str, *, reissue: bool = False, verdict: ReviewVerdict | None = None
    ) -> Outcome[str, Any]:
        """Find out what became of an operation; see `PayGateway.resolve`."""
        self.enter_loop()
        return await self.doubts.resolve(request_id, reissue=reissue, verdict=verdict)

    async def close_payment(self, record: IdempotencyRecord) -> None:
        """Close a payment for good, before the next one goes.

        Raises:
            InProgressError: another call of it came meanwhile, and may get a credential.
            InDoubtError: the store cannot be reached.
        """
        closed = record.as_reissued(self.clock.time())
        if not await self.store.record(closed):
            raise InProgressError("another process is sending this requestId")
        if record.state not in FINISHED:
            self._report_change(record, closed)

    async def recover(self) -> int:
        """Look after everything that is open and due; return how many operations were settled."""
        self.enter_loop()
        return await self.recovery.run_once()

    def open_operations(self, wanted: OpenFilter) -> AsyncIterator[OpenOperation]:
        """Iterate over what is open; see `PayGateway.open_operations`."""
        self.enter_loop()
        return iter_open_operations(self.store, self.app_key, wanted, time=self.clock.time)

    def _report_change(self, before: IdempotencyRecord, after: IdempotencyRecord) -> None:
        if before.state is State.UNKNOWN or after.state in FINAL:
            self.telemetry.state_changed(before.state, after)

    def mark(self, error: WxPayError, request_id: str) -> None:
        """Say whose error it is, and how its doubt can be resolved."""
        error.request_id = request_id
        if isinstance(error, InDoubtError) and error.fate is Fate.IN_DOUBT:
            error.resolver = functools.partial(self.resolve, request_id)

    # Life

    def open(self) -> None:
        """Start to recover in the background."""
        self.enter_loop()
        self.recovery.start()

    async def aclose(self) -> None:
        """Cancel what is under way, record where it stands, and close the parts that it owns."""
        self.enter_loop()
        await self.recovery.stop()
        await self.paid_watch.aclose()
        await self.executor.aclose()
        await self._services.background.finished()
        self.signing.close()
        if self._retrying is not None and "transport" in self.owned:
            await self._retrying.transport.aclose()
        if "limiter" in self.owned:
            await self.limiter.aclose()
        if "store" in self.owned:
            await self.store.aclose()
        self._loop = None  # another loop may have it, even while this one runs on

    def enter_loop(self) -> None:
        """Start afresh in a new event loop: what waited in the old one is gone with it.

        Raises:
            InvalidRequestError: the gateway works in another event loop that is still running, in
                another thread. What waits there would be torn apart, and hear of false doubts.
        """
        loop = asyncio.get_running_loop()
        if loop is self._loop:
            return
        with self._entering:  # two threads may come at the same moment
            if self._loop is not None and self._loop.is_running():
                raise InvalidRequestError(
                    "it works in another thread's event loop, which is running",
                    field="gateway",
                    allowed="one running event loop at a time: call it through a portal into that "
                    "loop, or make a gateway for each thread (docs/threads.md)",
                )
            self._loop = loop
            self._services = self._make_services()
            self.executor.start_afresh(self._services.background)
            self.paid_watch = PaidWatch(self)
            self.recovery.forget()
            self.signing.close()

    def _make_services(self) -> Services:
        return Services(
            timeouts=self.timeouts,
            store=self.store,
            limiter=self.limiter,
            acquire_now=find_acquire_now(self.limiter),
            concurrency=ConcurrencyLimiter(self.max_in_flight),
            signing=self.signing,
            clock=self.clock,
            time=self.time,
            telemetry=self.telemetry,
            background=ShieldedTasks(),
            in_process=self.in_process,
        )

    def deliver(self, call: Call[T], policy: RetryPolicy) -> Awaitable[T]:
        """Deliver a call, as often as the policy allows."""
        return self._make_retrying().deliver(call, deadline=call.deadline, policy=policy)

    def _make_retrying(self) -> RetryingTransport:
        if self._retrying is None:
            self._retrying = RetryingTransport(
                self.make_transport(),
                policy=self.retry,
                timeouts=self.timeouts,
                clock=self.clock,
            )
        return self._retrying

    def make_call(
        self,
        operation: Operation,
        template: Template,
        result_type: type[T],
        *,
        asked: object,
        check: Callable[[Any, T], None] | None,
        deadline: Deadline,
        lane: Lane,
    ) -> Call[T]:
        """Make a call of the event loop that was entered; the first one makes the transport."""
        services = self._services
        self._make_retrying()  # where it cannot be made, nothing may be claimed
        return Call(
            operation=operation,
            template=template,
            result_type=result_type,
            asked=asked,
            check=check,
            deadline=deadline,
            services=services,
            turn=Turn(services, deadline, lane),
        )

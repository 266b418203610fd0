"""Query one order until it is paid, for all callers that wait for it."""

from __future__ import annotations

import asyncio
import math
from typing import TYPE_CHECKING

from attrs import define, field

from wxpay_async.adapters.event_loop import run_to_completion
from wxpay_async.adapters.stores.inbox import Entry
from wxpay_async.engine.priority import Priority
from wxpay_async.errors import (
    InDoubtError,
    InDoubtTimeoutError,
    NotPaidError,
    QuotaExhaustedError,
    WxPayError,
)
from wxpay_async.policy.lanes import Lane
from wxpay_async.policy.poll_schedule import PollSchedule
from wxpay_async.policy.progress import Progress
from wxpay_async.protocol.requests import TradeQuery
from wxpay_async.protocol.results import TradeState, TradeStatus

if TYPE_CHECKING:
    from wxpay_async.engine.dispatcher import Dispatcher


@define(eq=False)
class Waiter:
    """One caller that waits for an order.

    Attributes:
        deadline: when its time is up, in seconds of the gateway's clock.
        released: done when it need not wait any longer.
    """

    deadline: float
    released: asyncio.Future[None]


@define(eq=False)
class WaitedOrder:
    """An order, the callers that wait for it, and the task that queries it for all of them.

    Attributes:
        query: asks for it.
        dispatcher: makes the queries, and has the clock.
        orders: the table in which it stands while a caller waits for it.
        schedule: when the next query is due.
        asked_until: a caller whose time is up waits until then for the query that is under way, or
            about to begin.
        task: queries. It is a task of its own, since any caller may be cancelled while others wait.
        waiters: the callers whose time is not up.
        paid: what another query of the gateway said.
        told: what callbacks have told.
        version: of the store's entry that was read last.
        last: the platform's last word.
        closed: the gateway was closed.
    """

    query: TradeQuery
    dispatcher: Dispatcher
    orders: dict[str, WaitedOrder]
    schedule: PollSchedule
    asked_until: float = -math.inf
    task: asyncio.Task[TradeStatus | None] = field(init=False)
    waiters: list[Waiter] = field(factory=list[Waiter], init=False)
    paid: TradeStatus | None = field(default=None, init=False)
    told: set[TradeState] = field(factory=set[TradeState], init=False)
    version: int = field(default=0, init=False)
    last: str = field(default="no query was answered", init=False)
    closed: bool = field(default=False, init=False)
    _asking: bool = field(default=False, init=False)
    _priority: Priority = field(factory=lambda: Priority(Lane.POLLING), init=False)
    _nap: asyncio.Future[None] | None = field(default=None, init=False)
    _cancelling: bool = field(default=False, init=False)

    # For the callers

    def join(self, *, timeout: float, every: float) -> Waiter:
        """Add a caller."""
        now = self._now()
        self.schedule = self.schedule.join(now, every)
        if self.schedule.due <= now and not self._asking:
            self.asked_until = now + self.dispatcher.retry.min_left
        waiter = Waiter(now + timeout, asyncio.get_running_loop().create_future())
        self.waiters.append(waiter)
        self._end_pause()
        return waiter

    async def wait(self, waiter: Waiter) -> TradeStatus:
        """Wait until the order is paid; see `PayGateway.wait_paid`."""
        # The task releases those whose time is up, but not while it waits for an answer itself.
        while not waiter.released.done():
            left = max(waiter.deadline, self.asked_until) - self._now()
            if left <= 0:
                break
            await asyncio.wait([waiter.released], timeout=left)
        return self._read_outcome()

    async def leave(self, waiter: Waiter) -> None:
        """Remove a caller; without callers there are no queries."""
        if waiter in self.waiters:
            self.waiters.remove(waiter)
        if not self.waiters:
            await self.cancel()

    def _read_outcome(self) -> TradeStatus:
        status = self.paid
        if status is None and self.task.done() and not self.task.cancelled():
            status = self.task.result()
        if status is not None:
            return status
        order = f"order {self.query.out_trade_no}"
        if self.closed:
            raise InDoubtError(f"the gateway was closed while {order} was awaited; {self.last}")
        raise InDoubtTimeoutError(f"{order} is not paid yet and still can be; {self.last}")

    # From outside

    def wake(self, state: TradeState) -> None:
        """Query at once, if a callback tells for the first time that the order is paid or ended.

        It comes again until it is acknowledged, and the platform may not confirm it for a while:
        the queries that are made at once are no more than the states that can be told.
        """
        if state in self.told or not (state.was_paid or state.ended_unpaid):
            return
        self.told.add(state)
        self.schedule = self.schedule.wake(self._now())
        self._priority.raise_lane(Lane.RESOLVING)
        self._end_pause()

    def read(self, entry: Entry) -> None:
        """Wake the callers, if an entry of the store holds something new.

        Raises:
            NotSentError: it cannot be read.
        """
        if entry.version == self.version:
            return
        self.version = entry.version
        told = Progress.decode(entry.value).told
        if told is not None:
            self.wake(told)

    def hear(self, status: TradeStatus) -> None:
        """Take the answer of another query for that of the task's own."""
        self.paid = status
        self._finish()  # the callers cancel the task as they leave

    def close(self) -> None:
        """Tell the callers that the gateway was closed."""
        self.closed = True
        self._finish()

    async def cancel(self) -> None:
        """End the task, and wait for its end."""
        self._finish()
        if not self._cancelling:  # a second time would disturb how it ends
            self._cancelling = True
            self.task.cancel()
        if not self.task.done():
            await run_to_completion(self._wait_until_ended())
        if not self.task.cancelled():
            self.task.exception()  # retrieved, since no caller may be left to hear of it

    async def _wait_until_ended(self) -> None:
        await asyncio.wait([self.task])

    # The task

    async def run(self) -> TradeStatus | None:
        """Query until the order is paid, or no one waits for it any more."""
        try:
            while self.waiters:
                if self._now() < self.schedule.due:
                    await self._pause()
                elif (status := await self._ask()) is not None:
                    return status
                self._release_late()
        finally:
            self._finish()
        return None

    async def _ask(self) -> TradeStatus | None:
        """Query once; return the answer if the order is paid.

        Raises:
            WxPayError: the order ended unpaid, or asking again cannot help.
        """
        # What a callback tells is looked at like the callback; all else waits behind it.
        lane = Lane.RESOLVING if self.schedule.woken else Lane.POLLING
        self._priority = Priority(lane)
        timeout = self._begin_query()
        retry_after = 0.0
        try:
            status = await self.dispatcher.reader.query(
                self.query, timeout=timeout, lane=lane, priority=self._priority
            )
        except WxPayError as error:
            if not error.retryable:
                raise
            retry_after = error.retry_after if isinstance(error, QuotaExhaustedError) else 0.0
        else:
            if status.state.was_paid:
                return status
            if status.state.ended_unpaid:
                raise NotPaidError(f"order {status.out_trade_no} ended as {status.status:.64}")
            self.last = f"the last query said {status.status:.64}"
        self._asking, self.asked_until = False, -math.inf
        self.schedule = self.schedule.end(self._now(), retry_after=retry_after)
        return None

    def _begin_query(self) -> float:
        """Return the seconds that the query may take: what is left of the longest wait."""
        now, least = self._now(), self.dispatcher.retry.min_left
        left = max(waiter.deadline for waiter in self.waiters) - now
        if not self.schedule.may_queue:
            left = min(left, self.dispatcher.timeouts.call)
        self.schedule = self.schedule.start()
        self._asking, self.asked_until = True, now + least
        return max(left, least)  # a shorter call is refused

    async def _pause(self) -> None:
        """Wait until a query is due, a caller's time is up, or the plan has changed."""
        until = min(self.schedule.due, *(waiter.deadline for waiter in self.waiters))
        seconds = until - self._now()
        self._nap = asyncio.ensure_future(self.dispatcher.clock.sleep(seconds))
        try:
            await asyncio.wait([self._nap])
        finally:
            self._nap.cancel()
        if not self._nap.cancelled():
            self._nap.result()

    def _end_pause(self) -> None:
        if self._nap is not None:
            self._nap.cancel()

    def _release_late(self) -> None:
        now = self._now()
        for waiter in [waiter for waiter in self.waiters if waiter.deadline <= now]:
            self._release(waiter)

    def _release(self, waiter: Waiter) -> None:
        self.waiters.remove(waiter)
        if not waiter.released.done():
            waiter.released.set_result(None)

    def _finish(self) -> None:
        """Release every caller; the next one starts afresh."""
        number = self.query.out_trade_no or ""
        if self.orders.get(number) is self:
            del self.orders[number]
        for waiter in list(self.waiters):
            self._release(waiter)

    def _now(self) -> float:
        return self.dispatcher.clock.monotonic()

"""Wait until orders are paid: one query at a time for each, however many callers wait for it.

A task of its own queries an order for as long as a caller waits for it (`waited_order.py`). The
pauses between two queries are those of `policy/poll_schedule.py`. A callback ends the pause and
settles nothing: what the callers hear is what a query said.

Callbacks that come to another process are found in the store. While a caller waits it is read once
a second, for all orders at once. A store in this process's memory need not be read.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import math
from typing import TYPE_CHECKING, Final

from attrs import define, field

from wxpay_async.adapters.event_loop import run_to_completion
from wxpay_async.adapters.stores.inbox import Inbox
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.waited_order import WaitedOrder
from wxpay_async.errors import InvalidRequestError, NotSentError
from wxpay_async.policy.poll_schedule import PollSchedule
from wxpay_async.policy.progress import order_key
from wxpay_async.protocol.notify import Notification, TradeNotification
from wxpay_async.protocol.requests import TradeQuery
from wxpay_async.protocol.results import TradeStatus

if TYPE_CHECKING:
    from wxpay_async.engine.dispatcher import Dispatcher

READ_EVERY: Final = 1.0
"""Seconds between two reads of the store."""

_MOST_KEYS: Final = 10_000  # of one read; the limiter lets no more callers wait
_LOG: Final = logging.getLogger("wxpay_async")


@define(eq=False)
class PaidWatch:
    """The orders that callers wait for, in one event loop.

    Attributes:
        dispatcher: makes the queries, and has the store.
    """

    dispatcher: Dispatcher
    _orders: dict[str, WaitedOrder] = field(factory=dict[str, WaitedOrder], init=False)
    _reading: asyncio.Task[None] | None = field(default=None, init=False)
    _store_is_away: bool = field(default=False, init=False)

    async def wait(self, out_trade_no: str, *, timeout: float, every: float) -> TradeStatus:
        """Wait until an order is paid; see `PayGateway.wait_paid`."""
        _check_seconds("timeout", timeout)
        _check_seconds("every", every)
        query = TradeQuery(out_trade_no=out_trade_no)
        order = self._orders.get(out_trade_no) or self._add(query, every)
        waiter = order.join(timeout=timeout, every=every)
        self._start_reading()
        try:
            return await order.wait(waiter)
        finally:
            try:
                await order.leave(waiter)
            finally:  # also when the caller is cancelled meanwhile
                await self._stop_reading()

    def wake(self, notification: Notification) -> None:
        """Wake those who wait for the order of a notification that can be believed."""
        believed = notification.authentic or notification.confirmed
        order = self._orders.get(notification.out_trade_no)
        if order is not None and believed and isinstance(notification, TradeNotification):
            order.wake(notification.state)

    def hear(self, out_trade_no: str, status: TradeStatus) -> None:
        """Tell those who wait for an order what a query has said of it."""
        order = self._orders.get(out_trade_no)
        if order is not None and status.state.was_paid:
            order.hear(status)

    async def aclose(self) -> None:
        """Tell every caller that the gateway was closed, and end all queries."""
        orders = list(self._orders.values())
        for order in orders:
            order.close()
        for order in orders:
            await order.cancel()
        await self._stop_reading()

    def _add(self, query: TradeQuery, every: float) -> WaitedOrder:
        schedule = PollSchedule.begin(self.dispatcher.clock.monotonic(), every)
        order = WaitedOrder(query, self.dispatcher, self._orders, schedule)
        self._orders[query.out_trade_no or ""] = order
        # Made so, and not by `create_task`, it never runs before it is known as the order's.
        loop, name = asyncio.get_running_loop(), f"wxpay wait {query.out_trade_no}"
        order.task = asyncio.Task(order.run(), loop=loop, name=name)
        return order

    # What callbacks told other processes

    def _start_reading(self) -> None:
        # This very class: what a subclass keeps may come from other processes.
        if self._reading is None and type(self.dispatcher.store) is not MemoryStore:
            # In an empty context: it must not go on in the span of the caller that came first.
            context = contextvars.Context()
            self._reading = asyncio.create_task(self._read_store(), context=context)

    async def _stop_reading(self) -> None:
        """End the reads when no caller waits any more."""
        task = self._reading
        if task is None or self._orders:
            return
        self._reading = None
        task.cancel()
        await run_to_completion(_wait_until_done(task))

    async def _read_store(self) -> None:
        while True:
            await self.dispatcher.clock.sleep(READ_EVERY)
            try:
                await self._read_once()
            except NotSentError as error:  # the queries go on without it
                if not self._store_is_away:
                    _LOG.warning("the store does not tell of callbacks: %s", error.reason)
                self._store_is_away = True
            else:
                self._store_is_away = False

    async def _read_once(self) -> None:
        """Read all orders at once.

        Raises:
            NotSentError: the store cannot be reached.
        """
        inbox: Inbox = self.dispatcher.store
        numbers = list(self._orders)[:_MOST_KEYS]
        keys = {order_key(self.dispatcher.app_key, "trade", number): number for number in numbers}
        for key, entry in (await inbox.load_entries(list(keys))).items():
            order = self._orders.get(keys[key])  # unless no caller waits for it any more
            if order is not None:
                order.read(entry)


async def _wait_until_done(task: asyncio.Task[None]) -> None:
    await asyncio.wait([task])


def _check_seconds(name: str, seconds: object) -> None:
    if not (isinstance(seconds, int | float) and 0 <= seconds < math.inf):
        raise InvalidRequestError(
            f"{seconds!r:.24} is no time to wait", field=name, allowed="seconds, 0 or above"
        )

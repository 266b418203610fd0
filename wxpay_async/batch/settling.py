"""Bring lines to an end: send each, and come back to what has no end yet.

| a line's call ended with | what follows |
| --- | --- |
| a result, a refusal, a conflict, a prepay that was issued in an earlier run | its outcome |
| a proof that it was never executed | the next generation of its requestId, 3 at most |
| what a person has to look at | its outcome |
| a doubt, another process's lease, not sent, access refused | again: after 15, 30, … 120 s |

In an outage the stream of calls pauses (`policy/outage_gate.py`), and goes on by itself. Before a
line in doubt is called again, `gateway.recover` makes the queries that are due.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import heapq
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from typing import Any, Final, cast

from attrs import define, field

from wxpay_async.batch.line import Line, OperationName
from wxpay_async.batch.watched_calls import GivenUpError, WatchedCalls
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.recall import READ_AT_ONCE
from wxpay_async.engine.streaming import Outcome, OutcomeStream
from wxpay_async.errors import (
    AlreadyPaidError,
    ClockSkewError,
    ConfigurationRefusedError,
    InDoubtError,
    NotExecutedError,
    NotSentError,
    OtherPayerError,
    PlatformConflictError,
    PrepayExpiredError,
    RateLimitedError,
    TradeUnusableError,
    WxPayError,
)
from wxpay_async.policy.lanes import Lane
from wxpay_async.protocol.requests import MiniProgramPay, Refund, Request, TradeQuery

MOST_GENERATIONS: Final = 3
"""RequestIds of one line that may be proven not executed before it is given up."""

_FIRST_WAIT: Final = 15.0
_LONGEST_WAIT: Final = 120.0
"""Seconds until a line that has no end is called again; each wait is twice the one before."""

_MOST_WAITING: Final = 1_000
"""Lines that wait to be called again; beyond it no new one is begun."""

_LAST_CALLS: Final = 60.0
"""Seconds in which calls that are under way when patience is over may end by themselves, so that
their lines say why they were not sent."""

_LOOK_EVERY: Final = 0.25
"""Seconds between two looks, after a stop, at the calls that are under way."""

_PARSED_AT_ONCE: Final = 50
"""Lines that are read before other tasks can run: some milliseconds of work."""

_ACCESS: Final = (ClockSkewError, ConfigurationRefusedError, RateLimitedError)
"""Refusals that have nothing to do with the line."""

_ENDS: Final = (
    AlreadyPaidError,
    OtherPayerError,
    PlatformConflictError,
    PrepayExpiredError,
    TradeUnusableError,
)
"""Doubts that another call does not end: a person decides, or the order's other payment."""


def is_open(error: WxPayError) -> bool:
    """Tell whether a line whose call ended with this error is to be called again."""
    if isinstance(error, InDoubtError):  # a replayed error is final in the store
        return not error.replayed and not isinstance(error, _ENDS)
    if isinstance(error, NotSentError):
        return error.retryable
    return isinstance(error, _ACCESS)


async def recall_lines(
    gateway: PayGateway, lines: Sequence[Line]
) -> list[Outcome[Line, Any] | None]:
    """Read from the store how lines ended; None for what is open, and for queries.

    A requestId that is proven not executed leads to the next generation, as long as there is one.

    Raises:
        NotSentError, InDoubtError: the store cannot be reached.
    """
    current = list(lines)
    outcomes: list[Outcome[Line, Any] | None] = [None] * len(lines)
    asked = [position for position, line in enumerate(lines) if line.request_id is not None]
    while asked:
        again: list[int] = []
        requests = cast("list[Request]", [current[position].request for position in asked])
        found = await gateway.recall(requests)
        for position, outcome in zip(asked, found, strict=True):
            line = current[position]
            if outcome is None:
                continue
            if isinstance(outcome.error, NotExecutedError) and line.generation < MOST_GENERATIONS:
                current[position] = line.next_generation(gateway.app_key)
                again.append(position)
            else:
                outcomes[position] = outcome.of(line)
        asked = again
    return outcomes


async def recall_if_there(
    gateway: PayGateway, lines: Sequence[Line]
) -> list[Outcome[Line, Any] | None]:
    """Recall lines; None for all if the store is away: their calls will raise the error."""
    try:
        return await recall_lines(gateway, lines)
    except (NotSentError, InDoubtError):
        return [None] * len(lines)


async def read_windows(lines: AsyncIterator[Line]) -> AsyncGenerator[list[Line]]:
    """Yield lists of as many lines as a store recalls with one read."""
    window: list[Line] = []
    async for line in lines:
        window.append(line)
        if len(window) % _PARSED_AT_ONCE == 0:
            await asyncio.sleep(0)
        if len(window) == READ_AT_ONCE:
            yield window
            window = []
    if window:
        yield window


@define(eq=False)
class _Item:
    """One call of a line.

    Attributes:
        line: under the generation that it has reached.
        before: how its last call ended; None for the first one.
        waited: seconds between the two.
        outcome: how this call ended.
        again_at: when the line is called again, by the monotonic clock; None where it has ended.
    """

    line: Line
    before: Outcome[Line, Any] | None = None
    waited: float = 0.0
    outcome: Outcome[Line, Any] | None = None
    again_at: float | None = None

    @property
    def is_in_doubt(self) -> bool:
        """Whether its last call ended in doubt."""
        return self.before is not None and self.before.is_in_doubt

    @property
    def wait(self) -> float:
        """Seconds until the next call, if this one brings no end either."""
        return min(2 * self.waited or _FIRST_WAIT, _LONGEST_WAIT)

    def __lt__(self, other: _Item) -> bool:
        return (self.again_at or 0.0) < (other.again_at or 0.0)


@define(eq=False, kw_only=True)
class Settling:
    """Settles the lines of one run, all of one operation.

    Attributes:
        gateway: makes the calls, and remembers them.
        operation: what the lines ask for.
        concurrency: calls at once.
        patience: seconds without the end of any line, after which the lines that are left are
            given up, each with how its last call ended; see also `stop`.
        clock: for the waits.
    """

    gateway: PayGateway
    operation: OperationName
    concurrency: int
    patience: float
    clock: Clock
    _waiting: list[_Item] = field(factory=list[_Item], init=False)
    _pulled: set[_Item] = field(factory=set[_Item], init=False)
    _calls: WatchedCalls = field(init=False)
    _changed: asyncio.Event = field(factory=asyncio.Event, init=False)
    _stopped: asyncio.Event = field(factory=asyncio.Event, init=False)
    _ended_at: float = field(default=0.0, init=False)
    _recovered_at: float = field(default=0.0, init=False)

    def __attrs_post_init__(self) -> None:
        self._calls = WatchedCalls(self.clock.monotonic)

    async def settle(self, lines: AsyncIterator[Line]) -> AsyncGenerator[Outcome[Line, Any]]:
        """Yield the outcome of every line, in the order in which they end.

        Raises:
            NotSentError: the gateway was closed before every line was begun.
        """
        self._ended_at = self._recovered_at = self.clock.monotonic()
        stream = self.gateway.stream(
            self._feed(lines), self._call, operation=self.operation, concurrency=self.concurrency
        )
        async with self._draining(stream), stream as outcomes:
            async for streamed in outcomes:
                item = streamed.request
                if self._stopped.is_set() and item in self._pulled:
                    continue  # its call was not begun, see below
                if item.again_at is None:
                    yield item.outcome or streamed.of(item.line)
        for item in (*self._pulled, *self._waiting):
            outcome = item.outcome or item.before
            if outcome is not None:
                yield outcome

    def stop(self) -> None:
        """Begin no more calls; `settle` ends when the attempts under way have ended.

        A call that waits, for the quota for example, is given up, if the gateway has the hook
        `note_attempts`; else it is waited for, too. A line whose call was given up is `open`, or
        has the outcome of its last call.
        """
        self._stopped.set()
        self._changed.set()

    @contextlib.asynccontextmanager
    async def _draining(self, stream: OutcomeStream[_Item, object]) -> AsyncGenerator[None]:
        """Let a stop, or the end of patience, end a stream within the block."""
        draining = asyncio.create_task(self._drain(stream))
        try:
            yield
        except NotSentError:
            if not self._stopped.is_set():  # else it was ended here
                raise
        finally:
            draining.cancel()
            (ended,) = await asyncio.gather(draining, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended

    async def _drain(self, stream: OutcomeStream[_Item, object]) -> None:
        """End a stream after a stop, or when patience is over, once no call is under way."""
        while not self._stopped.is_set() and not self._is_out_of_patience(_LAST_CALLS):
            until = self._ended_at + self.patience + _LAST_CALLS
            await _wait(self._stopped, until=until, clock=self.clock)
        self.stop()
        while self._calls.under_way:
            self._calls.give_up()
            await self.clock.sleep(_LOOK_EVERY)
        # What is left waits for the end of an outage, or asks about doubts.
        await stream.end(lambda _: InDoubtError("the run was stopped before its call"))

    async def _feed(self, lines: AsyncIterator[Line]) -> AsyncGenerator[_Item]:
        """Yield what may be called now: lines that waited long enough first, then new ones."""
        exhausted, items = False, self._begin(lines)
        while not self._stopped.is_set() and not self._is_out_of_patience():
            if self._waiting and (self._waiting[0].again_at or 0.0) <= self.clock.monotonic():
                last = heapq.heappop(self._waiting)
                item = _Item(last.line, last.outcome, last.wait)
                self._pulled.add(item)  # before a wait in which the run may be stopped
                await self._recover(item)
                yield item
            elif not exhausted and len(self._waiting) < _MOST_WAITING:
                begun = await anext(items, None)
                if begun is None:
                    exhausted = True
                else:
                    self._pulled.add(begun)
                    yield begun
            elif self._waiting or self._pulled:
                await self._wait_for_change()
            else:
                return

    async def _begin(self, lines: AsyncIterator[Line]) -> AsyncGenerator[_Item]:
        """Read lines, each with the outcome that the store already has of it."""
        async for window in read_windows(lines):
            recalled = await recall_if_there(self.gateway, window)
            for line, outcome in zip(window, recalled, strict=True):
                yield _Item(line, outcome=outcome)

    def _is_out_of_patience(self, more: float = 0.0) -> bool:
        return self.clock.monotonic() - self._ended_at > self.patience + more

    async def _wait_for_change(self) -> None:
        """Wait until a call ends, a line may be called again, or patience is over."""
        until = self._ended_at + self.patience
        if self._waiting:
            until = min(until, self._waiting[0].again_at or 0.0)
        self._changed.clear()
        await _wait(self._changed, until=until, clock=self.clock)

    async def _recover(self, item: _Item) -> None:
        """Make the queries that are due, before a line in doubt is called again."""
        now = self.clock.monotonic()
        if not item.is_in_doubt or now - self._recovered_at < _FIRST_WAIT:
            return
        self._recovered_at = now
        with contextlib.suppress(NotSentError, InDoubtError):  # the store is away: the calls say it
            await self.gateway.recover()

    async def _call(self, item: _Item) -> object:
        """Call for a line until it ends, or has to wait.

        The outcome is kept in the item. It is also returned or raised, because the stream decides
        by it whether the calls have to pause.
        """
        try:
            if item.outcome is not None:  # it was recalled
                self._ended_at = self.clock.monotonic()
                return item.outcome.unwrap()
            result = await self._calls.run(functools.partial(self._call_generations, item))
        except GivenUpError as error:
            last = None if error.was_sent else item.before
            item.outcome = last or Outcome(kind="open", request=item.line)
            return None
        except WxPayError as error:
            if item.outcome is not None:
                raise
            item.outcome = Outcome[Line, Any].from_error(item.line, error)
            if is_open(error):
                item.again_at = self.clock.monotonic() + item.wait
                heapq.heappush(self._waiting, item)
            else:
                self._ended_at = self.clock.monotonic()
            raise
        else:
            item.outcome = Outcome[Line, Any].from_result(item.line, result)
            self._ended_at = self.clock.monotonic()
            return result
        finally:
            self._pulled.discard(item)
            self._changed.set()

    async def _call_generations(self, item: _Item) -> object:
        while True:
            try:
                return await self._call_once(item)
            except NotExecutedError:
                if item.line.generation >= MOST_GENERATIONS:
                    raise
                item.line, item.before = item.line.next_generation(self.gateway.app_key), None

    async def _call_once(self, item: _Item) -> object:
        gateway, request = self.gateway, item.line.request
        if isinstance(request, TradeQuery):
            return await gateway.query(
                out_trade_no=request.out_trade_no, trade_no=request.trade_no, lane=Lane.BATCH
            )
        if isinstance(request, MiniProgramPay):
            if item.is_in_doubt:
                # The credential may be lost with the answer; an unpaid order then gets a new one.
                return (await gateway.resolve(request.request_id, reissue=True)).unwrap()
            return await gateway.pay(request, lane=Lane.BATCH)
        if isinstance(request, Refund):
            return await gateway.refund(request, lane=Lane.BATCH)
        return await gateway.trade(request, lane=Lane.BATCH)


async def _wait(event: asyncio.Event, *, until: float, clock: Clock) -> None:
    """Wait for an event, at most until a moment of the monotonic clock."""
    # A millisecond at least: else a timer that is a rounding error early spins.
    seconds = max(until - clock.monotonic(), 0.001)
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()

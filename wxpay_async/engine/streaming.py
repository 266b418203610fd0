"""Stream many requests: yield an `Outcome` for each as it ends, and keep none in memory."""

from __future__ import annotations

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
    Mapping,
)
from datetime import datetime
from types import MappingProxyType
from typing import Any, Final, Generic, Literal, Self, TypeVar, cast

from attrs import define, evolve, field, frozen

from wxpay_async.engine.outage_pauses import OutagePauses
from wxpay_async.errors import Fate, InDoubtError, InvalidRequestError, NotSentError, WxPayError
from wxpay_async.policy.outage_gate import Evidence, evidence_of

Q = TypeVar("Q")
Q2 = TypeVar("Q2")
R = TypeVar("R")

OutcomeKind = Literal["ok", "refused", "not_sent", "in_doubt", "open"]


_KINDS: Final[Mapping[Fate, OutcomeKind]] = MappingProxyType(
    {Fate.REFUSED: "refused", Fate.NOT_SENT: "not_sent", Fate.IN_DOUBT: "in_doubt"}
)


def kind_of(error: WxPayError) -> OutcomeKind:
    """Return the kind of an outcome that is this error."""
    return _KINDS[error.fate]


@frozen(kw_only=True)
class Outcome(Generic[Q, R]):
    """The outcome of one request of many.

    Attributes:
        kind: `ok`, or the fate of the error. `open` has neither result nor error: the store that
            was read has no end of the request yet (`Batch.recall`).
        request: the request.
        result: the result, if `kind` is `ok`.
        error: the error, if it is not.
        reserved_at, settled_at: when the store first recorded the operation, and when it recorded
            its end; None if the outcome was not read from a store.
    """

    kind: OutcomeKind
    request: Q = field(repr=False)
    result: R | None = None
    error: WxPayError | None = None
    reserved_at: datetime | None = None
    settled_at: datetime | None = None

    @classmethod
    def from_result(cls, request: Q, result: R) -> Outcome[Q, R]:
        """Make the outcome of a success."""
        return cls(kind="ok", request=request, result=result)

    @classmethod
    def from_error(cls, request: Q, error: WxPayError) -> Outcome[Q, R]:
        """Make the outcome of an error; its fate is the kind."""
        return cls(kind=kind_of(error), request=request, error=error)

    @property
    def succeeded(self) -> bool:
        """Whether there is a result."""
        return self.kind == "ok"

    @property
    def is_refused(self) -> bool:
        """Whether nothing was executed: the platform said no, or it is proven."""
        return self.kind == "refused"

    @property
    def is_not_sent(self) -> bool:
        """Whether nothing reached the platform; the same request may go again."""
        return self.kind == "not_sent"

    @property
    def is_in_doubt(self) -> bool:
        """Whether it may have been executed; never send it under another requestId."""
        return self.kind == "in_doubt"

    @property
    def is_open(self) -> bool:
        """Whether the store that was read has no end of it yet."""
        return self.kind == "open"

    def of(self, request: Q2) -> Outcome[Q2, R]:
        """Return it as the outcome of another request, such as one that holds this one."""
        return cast("Outcome[Q2, R]", evolve(cast("Any", self), request=request))

    def unwrap(self) -> R:
        """Return the result, or raise the error.

        Raises:
            ValueError: it is `open`.
        """
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise ValueError("the store knows no end yet")
        return self.result


@define(eq=False)
class _Pipeline(Generic[Q, R]):
    """Workers that each pull one request, await its call and pass on the outcome.

    There is room for two requests a worker that were pulled and whose outcome was not taken. So
    requests are not pulled faster than they are sent, nor sent faster than outcomes are consumed.
    In an outage the one request that was pulled already waits, and none is pulled after it. It is
    pulled before the pause, not after it, so that a stream without any other request ends at once.

    Attributes:
        source: the requests.
        call: makes the call of one.
        concurrency: how many workers.
        pauses: when a call may start; None for always.
        outcomes: what ended and was not taken; None when the last worker ended. It is not bounded,
            so that a worker that is cancelled can still put its outcome.
        room: bounds what is pulled ahead.
        pulling: held by the one worker that pulls, or waits for the end of a pause.
        exhausted: nothing more is pulled.
        complete: every request was pulled.
        closed: the workers were cancelled.
        make_doubt: makes the error of a call that is cancelled, where its outcome is still wanted.
    """

    source: AsyncGenerator[Q]
    call: Callable[[Q], Awaitable[R]]
    concurrency: int
    pauses: OutagePauses | None = None
    outcomes: asyncio.Queue[Outcome[Q, R] | None] = field(init=False)
    room: asyncio.Semaphore = field(init=False)
    pulling: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    workers: list[asyncio.Task[None]] = field(factory=list[asyncio.Task[None]], init=False)
    exhausted: bool = field(default=False, init=False)
    complete: bool = field(default=False, init=False)
    closed: bool = field(default=False, init=False)
    make_doubt: Callable[[Q], InDoubtError] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.outcomes = asyncio.Queue()
        self.room = asyncio.Semaphore(2 * self.concurrency)

    async def iterate(self) -> AsyncGenerator[Outcome[Q, R]]:
        """Start the workers and yield what they put."""
        self.workers = [asyncio.ensure_future(self._work()) for _ in range(self.concurrency)]
        ended = asyncio.gather(*self.workers, return_exceptions=True)
        ended.add_done_callback(lambda _: self.outcomes.put_nowait(None))
        try:
            while (outcome := await self.outcomes.get()) is not None:
                self.room.release()
                yield outcome
            self._raise_failure()
        finally:
            await self.aclose()

    async def _work(self) -> None:
        try:
            while (pulled := await self._pull()) is not None:
                self.outcomes.put_nowait(await self._call(*pulled))
        finally:
            self.exhausted = True  # a worker that stops, even by a defect, stops the pulling

    async def _pull(self) -> tuple[Q, int] | None:
        """Return the next request, whose call may start now, with what ends it in `pauses`."""
        await self.room.acquire()
        async with self.pulling:
            if not self.exhausted:
                self.exhausted = True  # until the pull succeeds: an iterable that raised is over
                try:
                    request = await anext(self.source)
                except StopAsyncIteration:
                    self.complete = True
                else:
                    self.exhausted = False
                    return request, await self._wait_to_start(request)
        self.room.release()  # wake the other workers, so that they end, too
        return None

    async def _wait_to_start(self, request: Q) -> int:
        try:
            return 0 if self.pauses is None else await self.pauses.wait()
        except asyncio.CancelledError:
            self._put_doubt(request)  # an earlier stream or process may have sent it
            raise

    async def _call(self, request: Q, started: int) -> Outcome[Q, R]:
        evidence = Evidence.NONE
        try:
            outcome = await self._await_call(request)
            replayed = getattr(outcome.error or outcome.result, "replayed", False)
            evidence = evidence_of(outcome.error, replayed=replayed)
            return outcome
        finally:  # others wait for a probe: it ends also on a cancellation or a defect
            if self.pauses is not None:
                self.pauses.end(started, evidence)

    async def _await_call(self, request: Q) -> Outcome[Q, R]:
        try:
            return Outcome[Q, R].from_result(request, await self.call(request))
        except WxPayError as error:
            return Outcome[Q, R].from_error(request, error)
        except asyncio.CancelledError:
            self._put_doubt(request)
            raise

    def _put_doubt(self, request: Q) -> None:
        if self.make_doubt is not None:
            self.outcomes.put_nowait(Outcome[Q, R].from_error(request, self.make_doubt(request)))

    def _raise_failure(self) -> None:
        for worker in self.workers:
            if not (self.closed and worker.cancelled()):
                worker.result()
        if self.make_doubt is not None and not self.complete:
            # Without an error, a batch that was cut short would look like one that is done.
            raise NotSentError("the gateway was closed before every request was pulled")

    async def aclose(self) -> None:
        """Cancel the workers, wait until every call has ended, and close the iterable."""
        self.closed = True
        for worker in self.workers:
            worker.cancel()
        await asyncio.gather(*self.workers, return_exceptions=True)
        async with self.pulling:  # two may close: the consumer and the gateway
            await self.source.aclose()


@define(eq=False)
class OutcomeStream(AsyncIterator[Outcome[Q, R]], Generic[Q, R]):
    """The outcomes of many requests, each as it ends; an asynchronous iterator.

    `break` alone ends the calls only if nothing else refers to the iterator, as in
    `async for outcome in gateway.pay_many(...)`. One that has a name is closed by
    `async with outcomes:`, by `contextlib.aclosing` or by `aclose`.
    """

    _pipeline: _Pipeline[Q, R]
    # A generator, since the loop closes one that is dropped or left open.
    _outcomes: AsyncGenerator[Outcome[Q, R]] = field(init=False)
    _is_waiting: bool = field(default=False, init=False)

    def __attrs_post_init__(self) -> None:
        self._outcomes = self._pipeline.iterate()

    async def __anext__(self) -> Outcome[Q, R]:
        """Return the next outcome.

        Raises:
            StopAsyncIteration: every request had its outcome, or the stream was closed.
            NotSentError: the gateway was closed before every request was pulled.
        """
        self._is_waiting = True
        try:
            return await anext(self._outcomes)
        finally:
            self._is_waiting = False

    async def __aenter__(self) -> Self:
        """Close it at the end of the block."""
        return self

    async def __aexit__(self, *_: object) -> None:
        """Close it."""
        await self.aclose()

    async def aclose(self) -> None:
        """Pull nothing more, cancel the calls under way, and wait until each has ended."""
        await self._pipeline.aclose()
        if not self._is_waiting:  # a task that waits for an outcome is woken, and ends it
            await self._outcomes.aclose()

    async def end(self, make_doubt: Callable[[Q], InDoubtError]) -> None:
        """Cancel the calls under way for the gateway that closes; their outcomes are in doubt.

        The consumer still gets the outcomes, and then a `NotSentError` if requests are left.
        A stream that has not begun, or belongs to another event loop, is left alone.

        Args:
            make_doubt: makes the error of a request whose call was under way.
        """
        workers, loop = self._pipeline.workers, asyncio.get_running_loop()
        if workers and workers[0].get_loop() is loop and not self._pipeline.closed:
            self._pipeline.make_doubt = make_doubt
            await self._pipeline.aclose()


def stream(
    requests: Iterable[Q] | AsyncIterable[Q],
    call: Callable[[Q], Awaitable[R]],
    *,
    concurrency: int,
    pauses: OutagePauses | None = None,
) -> OutcomeStream[Q, R]:
    """Call for every request, at most `concurrency` at once, and yield outcomes as they end.

    An exception of the iterable itself is raised after the outcomes of all requests that were
    already pulled.

    Args:
        requests: the requests.
        call: makes the call of one.
        concurrency: calls at once.
        pauses: lets no call start in an outage; without them every request is called at once.

    Raises:
        InvalidRequestError: `concurrency` is below 1.
    """
    if concurrency < 1:
        raise InvalidRequestError(f"{concurrency}", field="concurrency", allowed="1 or above")
    return OutcomeStream(_Pipeline(iterate(requests), call, concurrency, pauses))


async def iterate(requests: Iterable[Q] | AsyncIterable[Q]) -> AsyncGenerator[Q]:
    """Iterate over what may or may not be asynchronous."""
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request

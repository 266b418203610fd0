"""Stream many requests: yield an `Outcome` for each as it ends, and keep none in memory."""

from __future__ import annotations

import asyncio
import enum
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Awaitable,
    Callable,
    Iterable,
)
from typing import Final, Generic, Literal, TypeVar

from attrs import define, field, frozen

from wxpay_async.errors import Fate, InvalidRequestError, WxPayError

Q = TypeVar("Q")
R = TypeVar("R")


class _End(enum.Enum):
    END = enum.auto()


_END: Final = _End.END

OutcomeKind = Literal["ok", "refused", "not_sent", "in_doubt"]


@frozen(kw_only=True)
class Outcome(Generic[Q, R]):
    """The outcome of one request of many.

    Attributes:
        kind: `ok`, or the fate of the error.
        request: the request.
        result: the result, if `kind` is `ok`.
        error: the error, if it is not.
    """

    kind: OutcomeKind
    request: Q = field(repr=False)
    result: R | None = None
    error: WxPayError | None = None

    @classmethod
    def ok(cls, request: Q, result: R) -> Outcome[Q, R]:
        """Make the outcome of a success."""
        return cls(kind="ok", request=request, result=result)

    @classmethod
    def failed(cls, request: Q, error: WxPayError) -> Outcome[Q, R]:
        """Make the outcome of an error; its fate is the kind."""
        kinds: dict[Fate, OutcomeKind] = {
            Fate.REFUSED: "refused",
            Fate.NOT_SENT: "not_sent",
            Fate.IN_DOUBT: "in_doubt",
        }
        return cls(kind=kinds[error.fate], request=request, error=error)

    def unwrap(self) -> R:
        """Return the result, or raise the error."""
        if self.error is not None:
            raise self.error
        if self.result is None:
            raise ValueError("an outcome holds a result or an error")
        return self.result


@define(eq=False)
class _Pipeline(Generic[Q, R]):
    """Workers that each pull one request, await its call and pass on the outcome.

    The queue is bounded, and a worker pulls only after its previous outcome was taken. So requests
    are not pulled faster than they are sent, nor sent faster than outcomes are consumed.
    """

    source: AsyncGenerator[Q]
    call: Callable[[Q], Awaitable[R]]
    outcomes: asyncio.Queue[Outcome[Q, R] | None]
    pulling: asyncio.Lock = field(factory=asyncio.Lock)
    exhausted: bool = False

    async def work(self) -> None:
        try:
            while (request := await self._pull()) is not _END:
                await self.outcomes.put(await self._call(request))
        finally:
            self.exhausted = True  # a worker that stops, even by a defect, stops the pulling

    async def _pull(self) -> Q | _End:
        async with self.pulling:
            if self.exhausted:
                return _END
            self.exhausted = True  # until the pull succeeds: an iterable that raised is over
            try:
                request = await anext(self.source)
            except StopAsyncIteration:
                return _END
            self.exhausted = False
            return request

    async def _call(self, request: Q) -> Outcome[Q, R]:
        try:
            return Outcome[Q, R].ok(request, await self.call(request))
        except WxPayError as error:
            return Outcome[Q, R].failed(request, error)


async def stream(
    requests: Iterable[Q] | AsyncIterable[Q],
    call: Callable[[Q], Awaitable[R]],
    *,
    concurrency: int,
) -> AsyncIterator[Outcome[Q, R]]:
    """Call for every request, at most `concurrency` at once, and yield outcomes as they end.

    An exception of the iterable itself is raised after the outcomes of all requests that were
    already pulled. Leaving the loop early cancels the calls under way.

    Raises:
        InvalidRequestError: `concurrency` is below 1.
    """
    if concurrency < 1:
        raise InvalidRequestError(f"{concurrency}", field="concurrency", allowed="1 or above")
    outcomes: asyncio.Queue[Outcome[Q, R] | None] = asyncio.Queue(maxsize=concurrency)
    pipeline = _Pipeline(_iterate(requests), call, outcomes)
    workers = [asyncio.ensure_future(pipeline.work()) for _ in range(concurrency)]
    ended = asyncio.gather(*workers, return_exceptions=True)
    closing = asyncio.ensure_future(_close_after(ended, outcomes))
    try:
        while (outcome := await outcomes.get()) is not None:
            yield outcome
        for worker in workers:
            worker.result()
    finally:
        for task in (*workers, closing):
            task.cancel()
        await asyncio.gather(*workers, closing, return_exceptions=True)
        await pipeline.source.aclose()


async def _close_after(
    ended: asyncio.Future[list[BaseException | None]],
    outcomes: asyncio.Queue[Outcome[Q, R] | None],
) -> None:
    await ended
    await outcomes.put(None)


async def _iterate(requests: Iterable[Q] | AsyncIterable[Q]) -> AsyncGenerator[Q]:
    if isinstance(requests, AsyncIterable):
        async for request in requests:
            yield request
    else:
        for request in requests:
            yield request

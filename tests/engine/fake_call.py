"""A call that notes how it is driven, and what drives it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime

from attrs import define, field

from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.retrying import RetryingTransport
from wxpay_async.errors import ClockSkewError, InDoubtError, NotSentError, RefusedError, WxPayError
from wxpay_async.policy.deadline import Deadline
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts

OK = HttpResponse(200, b"paid")
LOST = InDoubtError("read timeout")
UNSENT = NotSentError("connection refused")
REFUSED = RefusedError("no", code="C")
DATE = datetime(2026, 11, 22, tzinfo=UTC)


@define(eq=False)
class FakeCall:
    """A call that notes how it is driven.

    Attributes:
        clock: the test's.
        prepared: the number of each attempt that was prepared.
        completed: the error of each attempt that was completed, None for a success.
        before_prepare: awaited before an attempt is prepared.
        before_complete: awaited before an attempt is completed.
        errors: what the next replies are read as; without one it is their body.
        query: what asking the platform finds, None where it cannot be asked.
        in_doubt: whether another call may have been executed.
    """

    clock: Clock
    prepared: list[int] = field(factory=list)
    completed: list[WxPayError | None] = field(factory=list)
    before_prepare: Callable[[], Awaitable[None]] | None = None
    before_complete: Callable[[], Awaitable[None]] | None = None
    errors: list[WxPayError] = field(factory=list)
    query: Callable[[], str | None] | None = None
    in_doubt: bool = False

    async def prepare(self, number: int) -> HttpRequest:
        """Prepare an attempt."""
        if self.before_prepare:
            await self.before_prepare()
        self.prepared.append(number)
        return HttpRequest("https://platform.example", b"%d" % number)

    def read(self, response: HttpResponse) -> str:
        """Read a reply."""
        if self.errors:
            raise self.errors.pop(0)
        return response.body.decode()

    async def complete(self, error: WxPayError | None) -> None:
        """Complete an attempt."""
        if self.before_complete:
            await self.before_complete()
        self.completed.append(error)

    @property
    def can_check_outcome(self) -> bool:
        """Whether the platform can be asked."""
        return self.query is not None

    async def check_outcome(self) -> str | None:
        """Ask the platform."""
        await asyncio.sleep(0)
        return self.query() if self.query else None


@define(eq=False)
class HangingTransport:
    """A transport that never answers."""

    sending: asyncio.Event = field(factory=asyncio.Event)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Hang."""
        del request, timeout
        self.sending.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Release nothing."""


def make_retrying(transport: object, clock: Clock, **parts: object) -> RetryingTransport:
    """Make a retrying transport whose jitter is one half."""
    return RetryingTransport(transport, clock=clock, random=lambda: 0.5, **parts)  # type: ignore[arg-type]


async def deliver(retrying: RetryingTransport, call: FakeCall, *, seconds: float = 30.0) -> str:
    """Deliver a call that has so many seconds."""
    return await retrying.deliver(call, deadline=Deadline.after(seconds, call.clock.monotonic))


async def deliver_over(call: FakeCall, *answers: object, seconds: float = 30.0) -> str:
    """Deliver a call over a transport that gives these answers."""
    retrying = make_retrying(MemoryTransport(list(answers)), call.clock)
    return await deliver(retrying, call, seconds=seconds)


def make_skew(server_time: datetime | None) -> ClockSkewError:
    """Make the refusal of a request that had expired on arrival."""
    error = ClockSkewError("expired")
    error.server_time = server_time
    return error

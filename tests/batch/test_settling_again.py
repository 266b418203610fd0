# ruff: noqa: ANN401 - a gateway whose calls take requests, and give results, of every kind
"""Lines that have no end yet: which are called again and when, and how long that goes on."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from tests.support import asking
from tests.support.batches import iterate, make_refunds
from tests.support.clock import LoopClock, loop_time, virtual
from tests.support.platform import APP_KEY, SECRET
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.batch.line import BatchRequest, Line, OperationName
from wxpay_async.batch.settling import Settling, is_open, read_windows
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import (
    AccessDeniedError,
    AlreadyPaidError,
    ClockSkewError,
    IdempotencyConflictError,
    InDoubtError,
    InProgressError,
    InvalidRequestError,
    NotExecutedError,
    NotSentError,
    OtherPayerError,
    PlatformConflictError,
    PrepayExpiredError,
    RateLimitedError,
    RefusedError,
    TradeUnusableError,
    WxPayError,
)
from wxpay_async.policy.lanes import Lane
from wxpay_async.protocol.requests import TradeQuery
from wxpay_async.protocol.signing import Md5Signer

Answer = Callable[[BatchRequest], Awaitable[object]]


class Clerk(PayGateway):
    """A gateway whose calls end as a test says.

    Attributes:
        answer: what becomes of a request.
        called: what was called, in which lane, and when.
        away: whether the store cannot be reached by what looks after doubts.
    """

    def __init__(self, answer: Answer) -> None:
        super().__init__(
            APP_KEY,
            Md5Signer(SECRET),
            transport=MemoryTransport(()),
            limiter=Unlimited(),
            clock=LoopClock(),
        )
        self.answer = answer
        self.away = False
        self.called: list[tuple[str, object, float]] = []

    async def pay(self, request: Any, *, lane: Any = Lane.PEOPLE, **_: Any) -> Any:
        """Note it, and answer."""
        return await self._answer("pay", lane, request)

    async def trade(self, request: Any, *, lane: Any = Lane.PEOPLE, **_: Any) -> Any:
        """Note it, and answer."""
        return await self._answer("trade", lane, request)

    async def refund(self, request: Any, *, lane: Any = Lane.PEOPLE, **_: Any) -> Any:
        """Note it, and answer."""
        return await self._answer("refund", lane, request)

    async def query(self, *, lane: Any = Lane.PEOPLE, **numbers: Any) -> Any:
        """Note it, and answer."""
        return await self._answer("query", lane, TradeQuery(**numbers))

    async def resolve(self, request_id: str, **options: Any) -> Outcome[str, Any]:
        """Note it, and say that it was not executed."""
        self.called.append(("resolve", options, loop_time()))
        return Outcome[str, Any].from_error(request_id, NotExecutedError("proven"))

    async def recover(self) -> int:
        """Note it."""
        self.called.append(("recover", None, loop_time()))
        if self.away:
            raise NotSentError("the store is away")
        return 0

    async def _answer(self, name: str, lane: object, request: BatchRequest) -> object:
        self.called.append((name, lane, loop_time()))
        return await self.answer(request)

    def moments(self, name: str) -> list[float]:
        """Return when something was called, in whole seconds."""
        return [round(at) for called, _, at in self.called if called == name]


def failing(error: WxPayError) -> Answer:
    """Answer every request with an error."""

    async def answer(_: BatchRequest) -> object:
        raise error

    return answer


def open_settling(
    clerk: Clerk, operation: OperationName = "refund", *, patience: float = 600.0, at_once: int = 64
) -> Settling:
    """Make what settles lines by the clerk."""
    return Settling(
        gateway=clerk,
        operation=operation,
        concurrency=at_once,
        patience=patience,
        clock=LoopClock(),
    )


async def settle(settling: Settling, lines: list[Line]) -> list[Outcome[Line, Any]]:
    """Settle lines and return their outcomes."""
    return [outcome async for outcome in settling.settle(iterate(lines))]


def replayed(error: WxPayError) -> WxPayError:
    """Return an error as one that was read from the store."""
    error.replayed = True
    return error


@pytest.mark.parametrize(
    "error",
    [
        NotSentError("no connection"),
        InDoubtError("no answer"),
        InProgressError("another process has it"),
        AccessDeniedError("the address is not allowed"),
        ClockSkewError("the clock is wrong"),
        RateLimitedError("too many"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_line_is_open_where_a_repetition_may_end_it(error: WxPayError) -> None:
    """What kept it from its end has nothing to do with the line, or passes."""
    assert is_open(error)


@pytest.mark.parametrize(
    "error",
    [
        NotSentError("a bad certificate", retryable=False),
        InvalidRequestError("no such field"),
        IdempotencyConflictError("other content"),
        RefusedError("no balance"),
        NotExecutedError("proven"),
        AlreadyPaidError("paid"),
        OtherPayerError("another payer has it"),
        PlatformConflictError("other content there"),
        PrepayExpiredError("dead"),
        TradeUnusableError("cannot be used"),
        replayed(InDoubtError("24 h passed", retryable=False)),
    ],
    ids=lambda error: type(error).__name__,
)
def test_line_is_not_open_where_no_repetition_ends_it(error: WxPayError) -> None:
    """It is final, or a person has to look."""
    assert not is_open(error)


@virtual
async def test_waits_double_from_15_seconds_to_two_minutes() -> None:
    """And end with patience; each time what is in doubt is looked after first."""
    async with Clerk(failing(InProgressError("elsewhere"))) as clerk:
        [outcome] = await settle(open_settling(clerk), make_refunds(1))

    assert [0, 15, 45, 105, 225, 345, 465, 585] == clerk.moments("refund")
    assert clerk.moments("refund")[1:] == clerk.moments("recover")
    assert ["refund", "recover", "refund"] == [name for name, _, _ in clerk.called[:3]]
    assert isinstance(outcome.error, InProgressError)


@virtual
async def test_doubts_are_looked_after_once_for_all_lines_that_wait() -> None:
    """A store that is away then ends nothing."""
    async with Clerk(failing(InProgressError("elsewhere"))) as clerk:
        clerk.away = True
        outcomes = await settle(open_settling(clerk, patience=40.0), make_refunds(30))

    assert 30 == len(outcomes)
    assert 60 == len(clerk.moments("refund"))
    assert [15] == clerk.moments("recover")


@virtual
async def test_line_that_was_not_sent_needs_no_query() -> None:
    """Nothing is in doubt."""
    async with Clerk(failing(NotSentError("no connection"))) as clerk:
        await settle(open_settling(clerk, patience=40.0), make_refunds(1))

    assert [0, 15] == clerk.moments("refund")
    assert [] == clerk.moments("recover")


@virtual
async def test_no_line_is_begun_while_a_thousand_wait() -> None:
    """What waits is in memory, and a file may have any length."""
    async with Clerk(failing(InProgressError("elsewhere"))) as clerk:
        outcomes = await settle(open_settling(clerk, patience=10.0), make_refunds(3_000))

    assert 1_000 <= len(clerk.called) <= 1_000 + 64
    assert len(outcomes) == len(clerk.called)


@pytest.mark.parametrize("error", [None, RefusedError("no")], ids=["ok", "refused"])
def test_patience_begins_anew_with_the_end_of_each_line(error: WxPayError | None) -> None:
    """However long all lines together take."""

    async def answer(_: BatchRequest) -> object:
        await asyncio.sleep(60.0)
        if error is not None:
            raise error
        return "done"

    @virtual
    async def run() -> None:
        async with Clerk(answer) as clerk:
            settling = open_settling(clerk, patience=100.0, at_once=1)
            outcomes = await settle(settling, make_refunds(5))
        assert [error] * 5 == [outcome.error for outcome in outcomes]

    run()


class SlowMemory(Clerk):
    """A clerk that knows every line already, and takes a minute to find 500."""

    async def recall(self, requests: Any) -> Any:
        """Find them."""
        await asyncio.sleep(60.0)
        return [Outcome[Any, Any].from_result(request, "done") for request in requests]


@virtual
async def test_lines_that_ended_before_are_ends_for_patience_and_no_calls() -> None:
    """Else a long file whose beginning is done would be given up before its first call."""
    async with SlowMemory(failing(NotSentError("not reached"))) as clerk:
        outcomes = await settle(open_settling(clerk, patience=100.0), make_refunds(1_500))

    assert ["ok"] * 1_500 == [outcome.kind for outcome in outcomes]
    assert [] == clerk.called


@virtual
async def test_stop_wakes_what_waits() -> None:
    """It does not stay for the two minutes that a line has left."""
    async with Clerk(failing(InProgressError("elsewhere"))) as clerk:
        settling = open_settling(clerk)
        asyncio.get_running_loop().call_later(5.0, settling.stop)
        [outcome] = await settle(settling, make_refunds(1))
        ended_at = loop_time()

    assert "in_doubt" == outcome.kind
    assert 5 == round(ended_at)
    assert [0] == clerk.moments("refund")


@virtual
async def test_payment_in_doubt_is_issued_anew_and_its_next_generation_is_a_payment() -> None:
    """Its credential may be lost with the answer; the next requestId has lost none."""
    errors: list[WxPayError] = [InDoubtError("no answer")]

    async def answer(_: BatchRequest) -> object:
        if errors:
            raise errors.pop()
        return "done"

    line = Line(number=1, request=asking.pay(out_trade_no="O-1"))
    async with Clerk(answer) as clerk:
        [outcome] = await settle(open_settling(clerk, "pay"), [line])

    calls = [(name, more) for name, more, _ in clerk.called if name != "recover"]
    assert [("pay", Lane.BATCH), ("resolve", {"reissue": True}), ("pay", Lane.BATCH)] == calls
    assert ("ok", 1) == (outcome.kind, outcome.request.generation)


@pytest.mark.parametrize(
    ("operation", "request_"),
    [
        ("pay", asking.pay()),
        ("trade", asking.trade()),
        ("refund", asking.refund()),
        ("query", TradeQuery(out_trade_no="O-1")),
    ],
)
def test_lines_leave_the_quota_of_people_alone(
    operation: OperationName, request_: BatchRequest
) -> None:
    """Their lane is the batches', whatever they ask for."""

    async def answer(_: BatchRequest) -> object:
        return "done"

    @virtual
    async def run() -> None:
        async with Clerk(answer) as clerk:
            await settle(open_settling(clerk, operation), [Line(number=1, request=request_)])
        assert [(operation, Lane.BATCH, 0.0)] == clerk.called

    run()


async def test_lines_are_read_with_turns_for_other_tasks() -> None:
    """A payment of a person does not wait until 500 lines of a file are read."""
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    windows = [window async for window in read_windows(iterate(make_refunds(1_000)))]
    other.cancel()

    assert [500, 500] == [len(window) for window in windows]
    assert turns >= 20

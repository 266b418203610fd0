"""Streams of requests: bounded pulling, an outcome for each request, no task left behind."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import itertools
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from typing import get_args

import pytest
from attrs import define, field

from tests.support.tasks import run_loop
from wxpay_async.engine.streaming import Outcome, OutcomeKind, stream
from wxpay_async.errors import (
    Fate,
    InDoubtError,
    InvalidRequestError,
    NotSentError,
    RefusedError,
)


@define(eq=False)
class Source:
    """Counts the numbers that are pulled from it, and records when it is closed."""

    size: int | None = None
    error: Exception | None = None
    pulled: int = 0
    closed: bool = False

    def sync(self) -> Iterator[int]:
        """Give numbers."""
        try:
            for number in itertools.count():
                if number == self.size:
                    if self.error:
                        raise self.error
                    return
                self.pulled += 1
                yield number
        finally:
            self.closed = True

    async def asynchronous(self) -> AsyncIterator[int]:
        """Give numbers, each after an iteration of the loop."""
        for number in self.sync():
            await asyncio.sleep(0)
            yield number


Shape = Callable[[Source], object]
BOTH = pytest.mark.parametrize("shape", [Source.sync, Source.asynchronous], ids=["sync", "async"])


@define(eq=False)
class Platform:
    """Answers after some iterations of the loop, and counts concurrent calls."""

    iterations: Callable[[int], int] = lambda _: 1
    now: int = 0
    most: int = 0
    asked: list[int] = field(factory=list)
    errors: dict[int, Exception] = field(factory=dict)

    async def call(self, number: int) -> str:
        """Answer."""
        self.asked.append(number)
        self.now += 1
        self.most = max(self.most, self.now)
        try:
            for _ in range(self.iterations(number)):
                await asyncio.sleep(0)
            if number in self.errors:
                raise self.errors[number]
            return f"paid {number}"
        finally:
            self.now -= 1


def list_others() -> set[asyncio.Task[object]]:
    """Return every other task."""
    current = asyncio.current_task()
    return {task for task in asyncio.all_tasks() if task is not current}


@BOTH
async def test_every_request_has_exactly_one_outcome(shape: Shape) -> None:
    """No outcome is lost or doubled, in any order."""
    platform = Platform(iterations=lambda n: n % 7)
    outcomes = [o async for o in stream(shape(Source(100)), platform.call, concurrency=8)]

    assert list(range(100)) == sorted(outcome.request for outcome in outcomes)
    assert {f"paid {n}" for n in range(100)} == {outcome.unwrap() for outcome in outcomes}


@BOTH
async def test_no_more_than_the_concurrency_are_under_way(shape: Shape) -> None:
    """All 8 workers are used, and there is never a ninth call."""
    platform = Platform(iterations=lambda _: 100)
    async for _ in stream(shape(Source(100)), platform.call, concurrency=8):
        pass

    assert 8 == platform.most


@BOTH
async def test_slow_consumer_bounds_the_pulling(shape: Shape) -> None:
    """At most one request a worker, and one outcome a place of the queue, are pulled ahead."""
    source, platform, taken = Source(), Platform(iterations=lambda _: 0), 0
    requests = stream(shape(source), platform.call, concurrency=4)
    async for _ in requests:
        taken += 1
        await run_loop(20)
        assert source.pulled - taken <= 2 * 4
        if taken == 50:
            break
    await requests.aclose()


async def test_outcomes_come_in_the_order_of_their_end() -> None:
    """A slow request does not delay the others."""
    platform = Platform(iterations=lambda n: 50 if n == 0 else 1)
    requests = [o.request async for o in stream(range(5), platform.call, concurrency=5)]

    assert 0 == requests[-1]


async def test_errors_become_outcomes_by_their_fate() -> None:
    """An error of one request is not raised; its outcome's kind is its fate."""
    errors: dict[int, Exception] = {
        1: RefusedError("no"),
        2: NotSentError("refused"),
        3: InDoubtError("timeout"),
    }
    platform = Platform(errors=errors)
    outcomes = {o.request: o async for o in stream(range(4), platform.call, concurrency=2)}

    assert ["ok", "refused", "not_sent", "in_doubt"] == [outcomes[n].kind for n in range(4)]
    assert [None, *errors.values()] == [outcomes[n].error for n in range(4)]


@BOTH
async def test_iterable_that_raises_does_so_after_all_outcomes(shape: Shape) -> None:
    """Each request that was pulled has its outcome; then the iterable's error is raised."""
    source, seen = Source(10, error=LookupError("row 11")), list[int]()

    async def consume() -> None:
        async for outcome in stream(shape(source), Platform().call, concurrency=4):
            seen.append(outcome.request)

    with pytest.raises(LookupError, match="row 11"):
        await consume()

    assert list(range(10)) == sorted(seen)
    assert set() == list_others()


@BOTH
async def test_loop_that_is_left_leaves_no_task_and_closes_the_iterable(shape: Shape) -> None:
    """The consumer leaves after ten outcomes; a few iterations later no call is under way."""
    source, platform, taken = Source(), Platform(iterations=lambda n: 1 + n % 5), 0
    async for _ in stream(shape(source), platform.call, concurrency=8):
        taken += 1
        if taken == 10:
            break
    gc.collect()
    await run_loop(30)

    assert (set(), 0, True) == (list_others(), platform.now, source.closed)


@BOTH
async def test_closing_cancels_all_calls_before_it_returns(shape: Shape) -> None:
    """`aclose` returns when every call has ended and the iterable is closed."""
    source, platform = Source(), Platform(iterations=lambda n: 1 if n < 3 else 10_000)
    outcomes = stream(shape(source), platform.call, concurrency=8)
    await anext(outcomes)
    await outcomes.aclose()

    assert (set(), 0) == (list_others(), platform.now)


@BOTH
async def test_break_out_of_a_named_stream_in_a_block_ends_its_calls(shape: Shape) -> None:
    """A name keeps the stream alive after `break`; the block closes it at once."""
    source, platform = Source(), Platform(iterations=lambda n: 1 if n < 3 else 10_000)
    async with stream(shape(source), platform.call, concurrency=8) as outcomes:
        async for _ in outcomes:
            break

    assert (set(), 0) == (list_others(), platform.now)
    assert [] == [outcome async for outcome in outcomes]


async def test_stream_is_closed_by_contextlib() -> None:
    """`contextlib.aclosing` knows it as something to close."""
    platform = Platform(iterations=lambda n: 1 if n < 3 else 10_000)
    async with contextlib.aclosing(
        stream(itertools.count(), platform.call, concurrency=4)
    ) as outcomes:
        assert "ok" == (await anext(outcomes)).kind

    assert (set(), 0) == (list_others(), platform.now)


async def test_stream_that_another_task_closes_ends_for_its_consumer() -> None:
    """The consumer that waits for an outcome leaves its loop, without an error."""
    platform = Platform(iterations=lambda _: 10_000)
    outcomes = stream(itertools.count(), platform.call, concurrency=4)

    async def consume() -> list[object]:
        return [outcome async for outcome in outcomes]

    consumer = asyncio.create_task(consume())
    await run_loop()
    await outcomes.aclose()

    assert [] == await consumer
    assert (set(), 0) == (list_others(), platform.now)


async def test_stream_closed_before_it_begins_pulls_nothing() -> None:
    """It is over, and its iterable was not touched."""
    source = Source()
    outcomes = stream(source.sync(), Platform().call, concurrency=4)
    await outcomes.aclose()

    assert [] == [outcome async for outcome in outcomes]
    assert 0 == source.pulled


async def test_exception_in_the_body_leaves_no_task() -> None:
    """The consumer gets its own exception."""
    platform = Platform(iterations=lambda n: 1 if n < 3 else 10_000)

    async def consume() -> None:
        async for _ in stream(itertools.count(), platform.call, concurrency=4):
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await consume()
    gc.collect()
    await run_loop(30)

    assert (set(), 0) == (list_others(), platform.now)


async def test_cancelled_consumer_leaves_no_task() -> None:
    """A cancellation while waiting for an outcome cancels the calls under way."""
    platform = Platform(iterations=lambda _: 10_000)

    async def consume() -> None:
        async for _ in stream(itertools.count(), platform.call, concurrency=4):
            pass

    consumer = asyncio.create_task(consume())
    await run_loop()
    assert 4 == platform.now
    consumer.cancel()
    await asyncio.wait([consumer])
    await run_loop(30)

    assert (True, set(), 0) == (consumer.cancelled(), list_others(), platform.now)


async def test_defect_is_raised_and_stops_the_pulling() -> None:
    """An exception that is no WxPayError is a bug: it is raised, even from an endless iterable."""
    source, platform = Source(), Platform(errors={5: ZeroDivisionError()})

    async def consume() -> None:
        async for outcome in stream(source.sync(), platform.call, concurrency=2):
            assert outcome.request < 100, "the bug was swallowed"

    with pytest.raises(ZeroDivisionError):
        await consume()
    assert set() == list_others()


@pytest.mark.parametrize("concurrency", [0, -1])
async def test_concurrency_below_one_is_refused(concurrency: int) -> None:
    """Nothing is pulled, and no call is made."""
    source = Source()
    with pytest.raises(InvalidRequestError, match="concurrency"):
        stream(source.sync(), Platform().call, concurrency=concurrency)

    assert 0 == source.pulled


@BOTH
async def test_empty_iterable_has_no_outcome(shape: Shape) -> None:
    """An empty iterable ends at once."""
    assert [] == [o async for o in stream(shape(Source(0)), Platform().call, concurrency=3)]


async def test_more_workers_than_requests_end_too() -> None:
    """Idle workers end with the others."""
    assert 3 == len([o async for o in stream(range(3), Platform().call, concurrency=50)])
    assert set() == list_others()


async def test_memory_does_not_grow_with_the_number_of_requests() -> None:
    """Outcomes are not kept: of N answers at most a few dozen are alive at once.

    N is 20,000; `WXPAY_TEST_STREAM=100000` asks for the full length.
    """
    length = int(os.environ.get("WXPAY_TEST_STREAM", "20000"))
    alive, most = 0, 0

    class Answer:
        def __init__(self) -> None:
            nonlocal alive, most
            alive += 1
            most = max(most, alive)

        def __del__(self) -> None:
            nonlocal alive
            alive -= 1

    async def call(_: int) -> Answer:
        await asyncio.sleep(0)
        return Answer()

    async for outcome in stream(range(length), call, concurrency=16):
        assert "ok" == outcome.kind

    assert most <= 2 * 16 + 2


def test_outcome_unwraps_to_its_result_or_error() -> None:
    """`unwrap` returns the result or raises the error."""
    error = RefusedError("no")

    assert "paid" == Outcome[int, str].from_result(1, "paid").unwrap()
    with pytest.raises(RefusedError) as caught:
        Outcome[int, str].from_error(1, error).unwrap()
    assert error is caught.value


KINDS = get_args(OutcomeKind)
PREDICATES = ("succeeded", "is_refused", "is_not_sent", "is_in_doubt", "is_open")


@pytest.mark.parametrize(("kind", "predicate"), list(zip(KINDS, PREDICATES, strict=True)))
def test_outcome_of_each_kind_has_one_predicate_that_holds(
    kind: OutcomeKind, predicate: str
) -> None:
    """And it is a value, not a method, which would always be true in a condition."""
    outcome = Outcome[int, str](kind=kind, request=1)

    assert {name: name == predicate for name in PREDICATES} == {
        name: getattr(outcome, name) for name in PREDICATES
    }


@pytest.mark.parametrize("name", ["ok", "failed", "refused", "in_doubt", "not_sent"])
def test_outcome_has_nothing_that_can_be_taken_for_a_predicate(name: str) -> None:
    """`if outcome.ok:` is no silent yes."""
    with pytest.raises(AttributeError):
        getattr(Outcome[int, str].from_error(1, RefusedError("no")), name)


def test_outcome_does_not_show_the_request() -> None:
    """A request holds an openid and a payToken."""
    assert "openid" not in repr(Outcome[str, str].from_result("openid", "paid"))


@pytest.mark.parametrize("fate", Fate)
def test_kind_of_an_outcome_is_the_fate(fate: Fate) -> None:
    """Each fate has a kind of the same name."""
    kind = {
        Fate.NOT_SENT: NotSentError,
        Fate.IN_DOUBT: InDoubtError,
        Fate.REFUSED: RefusedError,
    }[fate]

    assert fate.value == Outcome[int, str].from_error(1, kind("because")).kind


async def test_call_may_be_any_awaitable() -> None:
    """The call need not be a coroutine function."""

    def call(number: int) -> Awaitable[int]:
        future: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        future.set_result(number)
        return future

    assert [1, 2] == sorted([o.unwrap() async for o in stream([1, 2], call, concurrency=1)])

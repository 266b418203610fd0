"""Pauses of a stream: what waits, what ends the wait, and what is called meanwhile."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterable, AsyncIterator, Callable, Iterable

import pytest

from tests.support.clock import LoopClock, loop_time, virtual
from wxpay_async.engine.outage_pauses import OutagePauses
from wxpay_async.engine.streaming import OutcomeStream, stream
from wxpay_async.engine.telemetry import Telemetry
from wxpay_async.errors import InDoubtError, InvalidRequestError, RefusedError, WxPayError


def make_stream(
    source: Iterable[int] | AsyncIterable[int], call: Callable[[int], object], concurrency: int = 4
) -> OutcomeStream[int, object]:
    """Make a stream that pauses, in the loop's time."""

    async def run(number: int) -> object:
        result = call(number)
        return await result if asyncio.iscoroutine(result) else result

    pauses = OutagePauses("pay", LoopClock(), Telemetry("key"))
    return stream(source, run, concurrency=concurrency, pauses=pauses)


def lose(_: int) -> object:
    """Lose every answer."""
    raise InDoubtError("reset")


@virtual
async def test_stream_whose_source_ends_with_the_outage_ends_at_once() -> None:
    """There is nothing to pause for."""
    kinds = Counter([o.kind async for o in make_stream(range(10), lose)])

    assert (Counter(in_doubt=10), 0.0) == (kinds, loop_time())


@virtual
async def test_stream_that_pauses_pulls_one_request_and_calls_none() -> None:
    """The request that waits is pulled, so that the end of the source is seen."""
    pulled, called = list[int](), list[int]()

    async def pull() -> AsyncIterator[int]:
        for number in range(1_000):
            pulled.append(number)
            yield number

    def call(number: int) -> object:
        called.append(number)
        return lose(number)

    async with make_stream(pull(), call, concurrency=1) as outcomes:
        for _ in range(10):
            await anext(outcomes)
        task = asyncio.ensure_future(anext(outcomes))
        await asyncio.sleep(1.9)
        assert (11, 10) == (len(pulled), len(called))
        await asyncio.sleep(0.2)
        assert (12, 11) == (len(pulled), len(called))
        await task


@virtual
async def test_request_pulled_during_the_pull_of_a_slow_source_waits_too() -> None:
    """The gate closed while the source was asked: its request is sent when the pause is over."""
    called_at = list[float]()

    async def pull() -> AsyncIterator[int]:
        for number in range(10):
            yield number
        await asyncio.sleep(1)  # the ten fail meanwhile
        yield 10

    async def call(number: int) -> object:
        called_at.append(loop_time())
        await asyncio.sleep(0.5)
        return lose(number)

    kinds = Counter([o.kind async for o in make_stream(pull(), call, concurrency=20)])

    assert Counter(in_doubt=11) == kinds
    assert [*[0.0] * 10, 2.5] == called_at


@pytest.mark.parametrize(
    ("end", "started_at"),
    [
        (None, [2.0, 9.0, 9.0]),
        (RefusedError, [2.0, 9.0, 9.0]),
        (InvalidRequestError, [2.0, 9.0, 16.0]),
        (InDoubtError, [2.0, 13.0, 28.0]),
    ],
)
@virtual
async def test_one_probe_is_under_way_at_a_time(
    end: type[WxPayError] | None, started_at: list[float]
) -> None:
    """A probe of 7 s: the others wait for its answer; if it says nothing, the next one goes."""
    starts = list[float]()

    async def call(number: int) -> object:
        if number < 10:
            return lose(number)
        starts.append(loop_time())
        await asyncio.sleep(7)
        if end is not None:
            raise end("because")
        return "paid"

    outcomes = [outcome async for outcome in make_stream(range(13), call, concurrency=4)]

    assert started_at == starts
    assert 13 == len(outcomes)


@virtual
async def test_probe_that_ends_by_a_defect_ends_the_stream() -> None:
    """The request that waits for the probe's end has its outcome; then the defect is raised."""
    calls = 0

    def call(number: int) -> object:
        nonlocal calls
        calls += 1
        if calls <= 10:
            return lose(number)
        if calls == 11:
            raise ZeroDivisionError
        return "paid"

    kinds = Counter[str]()

    async def consume() -> None:
        async for outcome in make_stream(range(1_000), call):
            kinds[outcome.kind] += 1

    with pytest.raises(ZeroDivisionError):
        await consume()

    assert (10, True) == (kinds["in_doubt"], kinds.total() == calls - 1)

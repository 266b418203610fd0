"""The platform's time, and work that a cancellation must not cut short."""

from __future__ import annotations

import asyncio
import time
from datetime import UTC, datetime

import pytest

from wxpay_async.adapters.event_loop import run_to_completion
from wxpay_async.engine.clock import Clock, PlatformTime


def test_timestamps_are_milliseconds(clock: Clock) -> None:
    """The wire's unit is the millisecond (lesson 5), and nothing is lost in rounding."""
    assert 1_763_870_400_000 == PlatformTime(clock).milliseconds()


def test_a_reply_corrects_the_clock_and_keeps_correcting_it(clock: Clock) -> None:
    """The offset is learned from the platform's Date and is not added up."""
    platform = PlatformTime(clock)
    for minutes in (10, 7):
        platform.learn(datetime.fromtimestamp(clock.time() + minutes * 60, UTC))

        assert (1_763_870_400 + minutes * 60) * 1000 == platform.milliseconds()


async def test_the_machine_clock_is_the_default() -> None:
    """`Clock` reads the machine and sleeps by the loop."""
    before = time.time(), time.monotonic()
    clock = Clock()
    await clock.sleep(0)

    assert before <= (clock.time(), clock.monotonic())


async def test_work_is_done_to_the_end_and_the_cancellation_follows() -> None:
    """However often the caller is cancelled, the work ends first and the cancellation comes out."""
    gate, steps = asyncio.Event(), list[str]()

    async def work() -> None:
        steps.append("begun")
        await gate.wait()
        steps.append("done")

    task = asyncio.create_task(run_to_completion(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert ["begun"] == steps
    gate.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ["begun", "done"] == steps


async def test_an_error_of_the_work_comes_out() -> None:
    """What the work raises is raised."""

    async def work() -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await run_to_completion(work())


async def test_without_a_cancellation_nothing_is_raised() -> None:
    """Work that ends well ends well."""
    done = list[int]()

    async def work() -> None:
        await asyncio.sleep(0)
        done.append(1)

    await run_to_completion(work())

    assert [1] == done


async def test_a_cancellation_outweighs_an_error_of_the_work() -> None:
    """Who cancels is heard even if the work fails; its error is the cause, and is not lost."""
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()
        raise ConnectionResetError

    task = asyncio.create_task(run_to_completion(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    gate.set()

    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, ConnectionResetError)

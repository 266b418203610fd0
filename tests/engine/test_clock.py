"""The machine's time, and the platform's."""

from __future__ import annotations

import time
from datetime import UTC, datetime

from tests.support.clock import MovedClock
from wxpay_async.engine.clock import Clock, PlatformTime


async def test_clock_reads_the_machine() -> None:
    """`Clock` is the machine's time and sleeps by the loop."""
    before = time.time(), time.monotonic()
    clock = Clock()
    await clock.sleep(0)

    assert before <= (clock.time(), clock.monotonic())


def test_platform_time_is_in_milliseconds(clock: MovedClock) -> None:
    """The wire's unit is the millisecond (lesson 5), and nothing is lost in rounding."""
    assert 1_763_870_400_000 == PlatformTime(clock).milliseconds()


def test_platform_time_keeps_learning(clock: MovedClock) -> None:
    """The offset comes from the platform's latest `Date` and is not added up."""
    platform = PlatformTime(clock)
    for minutes in (10, 7):
        platform.learn(datetime.fromtimestamp(clock.time() + minutes * 60, UTC))

        assert (1_763_870_400 + minutes * 60) * 1000 == platform.milliseconds()

"""The clock that a test moves: who wakes, and who does not."""

from __future__ import annotations

import asyncio
import threading
import time
from datetime import UTC, datetime, timedelta

import pytest

from wxpay_async.integrations.settable_clock import SettableClock

HOUR = 3600.0


@pytest.fixture(name="moved")
def settable_clock() -> SettableClock:
    """Return a clock that runs, and that a test moves."""
    return SettableClock()


def test_clock_runs_until_it_is_moved(moved: SettableClock) -> None:
    """Both of its clocks go on together."""
    wall, ground = moved.time(), moved.monotonic()

    moved.move(HOUR)

    assert HOUR <= moved.time() - wall < HOUR + 60
    assert HOUR <= moved.monotonic() - ground < HOUR + 60


@pytest.mark.parametrize("seconds", [-1.0, float("inf"), float("nan")])
def test_clock_is_not_moved_back(seconds: float, moved: SettableClock) -> None:
    """What counts by it relies on that."""
    with pytest.raises(ValueError, match="0 or more"):
        moved.move(seconds)


def test_wall_clock_is_set(moved: SettableClock) -> None:
    """To any moment, and runs on from there; no call has less time by that."""
    noon, ground = datetime(2025, 11, 23, 4, tzinfo=UTC), moved.monotonic()

    moved.set(noon)

    assert timedelta(0) <= datetime.fromtimestamp(moved.time(), UTC) - noon < timedelta(minutes=1)
    assert 0 <= moved.monotonic() - ground < 60


def test_wall_clock_is_set_to_no_local_time(moved: SettableClock) -> None:
    """It would be another moment on another machine."""
    with pytest.raises(ValueError, match="time zone"):
        moved.set(datetime(2025, 11, 23, 12))  # noqa: DTZ001 - the mistake


async def test_sleeper_wakes_when_its_time_has_come(moved: SettableClock) -> None:
    """And not before: two moves of half the time."""
    sleeping = asyncio.create_task(moved.sleep(HOUR))
    await asyncio.sleep(0)

    moved.move(HOUR / 2)
    await asyncio.sleep(0.01)
    early = sleeping.done()
    moved.move(HOUR / 2)
    await asyncio.wait_for(sleeping, 5)

    assert not early


async def test_sleeper_wakes_by_itself(moved: SettableClock) -> None:
    """Where no one moves the clock, it is the machine's."""
    began = moved.monotonic()

    await asyncio.wait_for(moved.sleep(0.02), 5)

    assert moved.monotonic() - began >= 0.02


async def test_sleeping_for_no_time_lets_others_run(moved: SettableClock) -> None:
    """As `asyncio.sleep(0)` does."""
    ran: list[bool] = []
    asyncio.get_running_loop().call_soon(ran.append, True)  # noqa: FBT003 - an argument of append

    await moved.sleep(0)

    assert [True] == ran


def test_sleeper_wakes_from_another_thread(moved: SettableClock) -> None:
    """A synchronous test moves it, and the app sleeps in the loop of a `TestClient`."""
    begun = threading.Event()

    async def sleep() -> None:
        asyncio.get_running_loop().call_later(0.01, begun.set)  # when the loop has nothing to do
        await moved.sleep(HOUR)

    thread = threading.Thread(target=lambda: asyncio.run(sleep()), daemon=True)
    thread.start()
    begun.wait()
    time.sleep(0.05)

    moved.move(HOUR)

    thread.join(5)
    assert not thread.is_alive()
    assert set() == moved._sleepers


def test_sleeper_of_a_loop_that_is_gone_is_forgotten(moved: SettableClock) -> None:
    """A loop that was closed without cancelling its tasks leaves one behind."""
    loop = asyncio.new_event_loop()
    task = loop.create_task(moved.sleep(HOUR))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()

    moved.move(HOUR)

    assert 1 == len(moved._sleepers)
    task.get_coro().close()  # type: ignore[union-attr]
    task._log_destroy_pending = False  # type: ignore[attr-defined]

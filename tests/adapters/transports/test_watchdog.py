"""Requests that are late are cancelled, and nobody else is."""

from __future__ import annotations

import asyncio

import pytest

from wxpay_async.adapters.transports.watchdog import Timer, Watchdog

LONG = 60.0


@pytest.fixture
async def watchdog() -> Watchdog:
    """Over the test's loop."""
    return Watchdog(asyncio.get_running_loop())


async def waiting(watch: Timer) -> str:
    """Wait for ever, and say what ended it."""
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        return "late" if watch.timed_out() else "cancelled"
    finally:
        watch.stop()
    return "done"


async def test_who_misses_the_last_moment_is_cancelled(watchdog: Watchdog) -> None:
    """The attempt as a whole has a limit, and the task goes on after it."""
    assert "late" == await waiting(watchdog.watch(0.01))
    assert 0 == len(watchdog.timers)


async def test_who_gives_no_sign_of_life_is_cancelled(watchdog: Watchdog) -> None:
    """Before the attempt's time is over."""
    watch = watchdog.watch(LONG)
    watch.extend(0.01)

    assert "late" == await waiting(watch)


async def test_signs_of_life_do_not_move_the_last_moment(watchdog: Watchdog) -> None:
    """A server that drips for ever is cut off."""
    watch = watchdog.watch(0.05)
    moment = watch.last

    watch.extend(LONG)

    assert moment == watch.until
    assert "late" == await waiting(watch)


async def test_a_sign_of_life_buys_time(watchdog: Watchdog) -> None:
    """The timer that was set for the earlier moment finds nobody late."""
    watch = watchdog.watch(LONG)
    watch.extend(0.01)
    watch.extend(LONG)

    await asyncio.sleep(0.03)

    assert not watch.late


async def test_each_has_a_time_of_its_own(watchdog: Watchdog) -> None:
    """The timer serves the next one after it has served the first."""

    async def one(seconds: float) -> str:
        return await waiting(watchdog.watch(seconds))

    lasting = asyncio.create_task(one(LONG))
    late = [await task for task in [asyncio.create_task(one(t)) for t in (0.03, 0.01, 0.02)]]
    lasting.cancel()

    assert (["late"] * 3, "cancelled") == (late, await lasting)


async def test_a_cancellation_from_outside_is_no_lateness(watchdog: Watchdog) -> None:
    """Nor is one that comes in the same moment as ours: whoever cancels must be obeyed."""
    task = asyncio.create_task(forgiven_after_two(watchdog))
    await asyncio.sleep(0)
    task.cancel()
    (watch,) = watchdog.timers
    watch.until = 0.0
    watchdog._expire()

    assert not await task


async def forgiven_after_two(watchdog: Watchdog) -> bool:
    """Wait until cancelled, and say whether it counts as lateness."""
    watch = watchdog.watch(LONG)
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        return watch.timed_out()
    return False


async def test_one_handle_serves_all(watchdog: Watchdog) -> None:
    """That is what it is for; and closed, it leaves none behind."""
    loop = asyncio.get_running_loop()

    def live() -> int:
        return len([timer for timer in loop._scheduled if not timer.cancelled()])  # type: ignore[attr-defined]

    before = live()
    watches = [watchdog.watch(LONG) for _ in range(100)]
    for watch in watches:
        watch.extend(LONG / 2)
    watchdog.close()  # too early: it is still needed
    during = live()
    for watch in watches:
        watch.stop()
    watchdog.close()

    assert (before + 1, before) == (during, live())


def test_only_a_task_can_be_watched() -> None:
    """Nothing else can be cancelled."""
    loop = asyncio.new_event_loop()

    with pytest.raises(RuntimeError, match="task"):
        Watchdog(loop).watch(1.0)

    loop.close()

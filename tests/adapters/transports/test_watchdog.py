"""Requests that are late are cancelled, and nobody else is."""

from __future__ import annotations

import asyncio

import pytest

from wxpay_async.adapters.transports.watchdog import Watch, Watchdog

LONG = 60.0


@pytest.fixture
async def vigil() -> Watchdog:
    """Over the test's loop."""
    return Watchdog(asyncio.get_running_loop())


async def waiting(watch: Watch) -> str:
    """Wait for ever, and say what ended it."""
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        return "late" if watch.forgives() else "cancelled"
    finally:
        watch.end()
    return "done"


async def test_who_misses_the_last_moment_is_cancelled(vigil: Watchdog) -> None:
    """The attempt as a whole has a limit, and the task goes on after it."""
    assert "late" == await waiting(vigil.begin(0.01))
    assert 0 == len(vigil.watches)


async def test_who_gives_no_sign_of_life_is_cancelled(vigil: Watchdog) -> None:
    """Before the attempt's time is over."""
    watch = vigil.begin(LONG)
    watch.alive(0.01)

    assert "late" == await waiting(watch)


async def test_signs_of_life_do_not_move_the_last_moment(vigil: Watchdog) -> None:
    """A server that drips for ever is cut off."""
    watch = vigil.begin(0.05)
    moment = watch.last

    watch.alive(LONG)

    assert moment == watch.until
    assert "late" == await waiting(watch)


async def test_a_sign_of_life_buys_time(vigil: Watchdog) -> None:
    """The timer that was set for the earlier moment finds nobody late."""
    watch = vigil.begin(LONG)
    watch.alive(0.01)
    watch.alive(LONG)

    await asyncio.sleep(0.03)

    assert not watch.late


async def test_each_has_a_time_of_its_own(vigil: Watchdog) -> None:
    """The timer serves the next one after it has served the first."""

    async def one(seconds: float) -> str:
        return await waiting(vigil.begin(seconds))

    lasting = asyncio.create_task(one(LONG))
    late = [await task for task in [asyncio.create_task(one(t)) for t in (0.03, 0.01, 0.02)]]
    lasting.cancel()

    assert (["late"] * 3, "cancelled") == (late, await lasting)


async def test_a_cancellation_from_outside_is_no_lateness(vigil: Watchdog) -> None:
    """Nor is one that comes in the same moment as ours: whoever cancels must be obeyed."""
    task = asyncio.create_task(forgiven_after_two(vigil))
    await asyncio.sleep(0)
    task.cancel()
    (watch,) = vigil.watches
    watch.until = 0.0
    vigil._look()

    assert not await task


async def forgiven_after_two(vigil: Watchdog) -> bool:
    """Wait until cancelled, and say whether it counts as lateness."""
    watch = vigil.begin(LONG)
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        return watch.forgives()
    return False


async def test_one_timer_serves_all(vigil: Watchdog) -> None:
    """That is what it is for; and closed, it leaves none behind."""
    loop = asyncio.get_running_loop()

    def live() -> int:
        return len([timer for timer in loop._scheduled if not timer.cancelled()])  # type: ignore[attr-defined]

    before = live()
    watches = [vigil.begin(LONG) for _ in range(100)]
    for watch in watches:
        watch.alive(LONG / 2)
    vigil.close()  # too early: it is still needed
    during = live()
    for watch in watches:
        watch.end()
    vigil.close()

    assert (before + 1, before) == (during, live())


def test_only_a_task_can_be_watched() -> None:
    """Nothing else can be cancelled."""
    loop = asyncio.new_event_loop()

    with pytest.raises(RuntimeError, match="task"):
        Watchdog(loop).begin(1.0)

    loop.close()

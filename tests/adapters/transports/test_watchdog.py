"""Requests that are late are cancelled, and no other task is."""

from __future__ import annotations

import asyncio
import time

import pytest

from wxpay_async.adapters.transports.watchdog import TURNS, Timer, Watchdog

LONG = 60.0


@pytest.fixture
async def watchdog() -> Watchdog:
    """Return a watchdog of the test's loop."""
    return Watchdog(asyncio.get_running_loop())


async def wait_for_end(timer: Timer) -> str:
    """Wait for ever, and say what ended it."""
    try:
        await asyncio.sleep(LONG)
    except asyncio.CancelledError:
        return "cancelled" if timer.is_cancelled_by_others() else "late"
    finally:
        timer.stop()
    return "done"


async def test_request_that_misses_its_last_moment_is_cancelled(watchdog: Watchdog) -> None:
    """The attempt as a whole has a limit, and the task goes on after it."""
    assert "late" == await wait_for_end(watchdog.watch(0.01))
    assert 0 == len(watchdog.timers)


async def test_request_without_a_sign_of_life_is_cancelled(watchdog: Watchdog) -> None:
    """Before the attempt's time is over."""
    timer = watchdog.watch(LONG)
    timer.extend(0.01)

    assert "late" == await wait_for_end(timer)


async def test_sign_of_life_does_not_move_the_last_moment(watchdog: Watchdog) -> None:
    """A server that drips for ever is cut off."""
    timer = watchdog.watch(0.05)
    last = timer.last

    timer.extend(LONG)

    assert last == timer.until
    assert "late" == await wait_for_end(timer)


async def test_sign_of_life_gives_more_time(watchdog: Watchdog) -> None:
    """When the loop's timer fires for the earlier moment, no request is late."""
    timer = watchdog.watch(LONG)
    timer.extend(0.01)
    timer.extend(LONG)

    await asyncio.sleep(0.03)

    assert not timer.late


async def test_answer_that_lies_unread_when_the_time_is_over_is_read_first(
    watchdog: Watchdog,
) -> None:
    """After a pause the timer comes before the answer; a few turns of the loop later it is here."""
    timer = watchdog.watch(0.01)
    time.sleep(0.02)  # noqa: ASYNC251 - holds the loop, as a paused process does
    await asyncio.sleep(0)
    watchdog._expire()
    for _ in range(TURNS // 2):
        await asyncio.sleep(0)
    timer.stop()

    assert (False, 0, 0) == (timer.late, timer.task.cancelling(), len(watchdog.timers))


async def test_stream_that_never_ends_is_cut_off_after_a_pause(watchdog: Watchdog) -> None:
    """A sign of life in each turn gives no new turns when the attempt is over."""

    async def stream() -> None:
        timer = watchdog.watch(0.01)
        time.sleep(0.02)  # noqa: ASYNC251 - holds the loop, as a paused process does
        try:
            for _ in range(100 * TURNS):
                timer.extend(LONG)
                await asyncio.sleep(0)
        finally:
            timer.stop()

    with pytest.raises(asyncio.CancelledError):
        await stream()


async def test_attempt_is_over_at_its_last_moment(watchdog: Watchdog) -> None:
    """After it nothing may be sent."""
    timer, over = watchdog.watch(LONG), watchdog.watch(0.0)

    assert (True, False) == (timer.extend(LONG), over.extend(LONG))
    timer.stop()
    over.stop()


async def test_timeout_that_ends_in_another_error_leaves_no_cancellation(
    watchdog: Watchdog,
) -> None:
    """A driver may turn our cancellation into an error of its own; the task goes on unharmed."""
    timer = watchdog.watch(0.01)

    async def fail() -> None:
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            raise OSError("gone") from None
        finally:
            timer.stop()

    with pytest.raises(OSError, match="gone"):
        await fail()

    assert 0 == timer.task.cancelling()


async def test_requests_have_times_of_their_own(watchdog: Watchdog) -> None:
    """The loop's timer is set to the next request after it has served the first."""

    async def wait(seconds: float) -> str:
        return await wait_for_end(watchdog.watch(seconds))

    lasting = asyncio.create_task(wait(LONG))
    late = [await task for task in [asyncio.create_task(wait(t)) for t in (0.03, 0.01, 0.02)]]
    lasting.cancel()

    assert (["late"] * 3, "cancelled") == (late, await lasting)


async def test_cancellation_from_outside_is_no_timeout(watchdog: Watchdog) -> None:
    """Nor is one that comes at the same moment as ours: the caller's cancellation is obeyed."""

    async def tell_timeout() -> bool:
        timer = watchdog.watch(LONG)
        try:
            await asyncio.sleep(LONG)
        except asyncio.CancelledError:
            return not timer.is_cancelled_by_others()
        finally:
            timer.stop()
        return False

    task = asyncio.create_task(tell_timeout())
    await asyncio.sleep(0)
    task.cancel()
    (timer,) = watchdog.timers
    timer.until, timer.turns = 0.0, 0
    watchdog._expire()

    assert not await task


async def test_one_timer_of_the_loop_serves_all_requests(watchdog: Watchdog) -> None:
    """That is its purpose; and once it is closed, none is left."""
    loop = asyncio.get_running_loop()

    def count_timers() -> int:
        scheduled: list[asyncio.TimerHandle] = vars(loop)["_scheduled"]
        return len([timer for timer in scheduled if not timer.cancelled()])

    before = count_timers()
    timers = [watchdog.watch(LONG) for _ in range(100)]
    for timer in timers:
        timer.extend(LONG / 2)
    watchdog.close()  # too early: it is still needed
    during = count_timers()
    for timer in timers:
        timer.stop()
    watchdog.close()

    assert (before + 1, before) == (during, count_timers())


def test_watch_outside_a_task_is_refused() -> None:
    """Nothing else can be cancelled."""
    loop = asyncio.new_event_loop()

    with pytest.raises(RuntimeError, match="task"):
        Watchdog(loop).watch(1.0)

    loop.close()

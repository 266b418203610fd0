"""The quota of one process, on virtual time: an hour takes no longer than a test should."""

from __future__ import annotations

import asyncio
import contextlib

import pytest

from tests.adapters.limiters.local_queue import Queue, answer, make, take
from tests.support.clock import MovedClock, loop_time, run_virtual, virtual
from wxpay_async.adapters.limiters.limiter import Lane, Quota, Slowed
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.errors import Fate, NotSentError, QuotaExhaustedError
from wxpay_async.policy.quota import SlotOutcome


class TestTakingNow:
    """A slot for which no caller has to wait."""

    @virtual
    async def test_free_slot_is_taken_and_counts(self) -> None:
        """It is one of the quota, and free a minute after its end, like any other."""
        limiter = make(2)
        slot = await limiter.acquire_now(Lane.PEOPLE)
        assert slot is not None
        assert (1, 1) == (limiter.in_use, limiter.held()[Lane.PEOPLE])
        await slot.answered()

        assert 1 == limiter.in_use
        await asyncio.sleep(60.25)
        assert 0 == limiter.in_use

    @virtual
    async def test_full_quota_has_none_and_nobody_waits(self) -> None:
        """A caller that is told so at once leaves no place in the queue behind."""
        limiter = make(1)
        (slot,) = await take(limiter, 1)
        assert await limiter.acquire_now(Lane.PEOPLE) is None
        await slot.unsent()

        assert await limiter.acquire_now(Lane.PEOPLE) is not None

    @virtual
    async def test_those_who_wait_are_not_passed_by(self) -> None:
        """A slot that comes free is the first waiter's, also before its task has run."""
        limiter = make(1)
        (slot,) = await take(limiter, 1)
        queue = Queue(limiter)
        await queue.join("first")
        await slot.unsent()

        assert await limiter.acquire_now(Lane.PEOPLE) is None
        await asyncio.gather(*queue.tasks)
        assert ["first"] == queue.order

    async def test_slot_that_time_has_freed_is_the_first_waiters(self) -> None:
        """Its timer has not rung yet: the loop is late, or was busy."""
        clock = MovedClock()
        limiter = make(1, clock=clock.monotonic)
        (slot,) = await take(limiter, 1)
        await slot.answered()
        queue = Queue(limiter)
        waiting = await queue.join("first")
        clock.move(61.0)

        assert await limiter.acquire_now(Lane.PEOPLE) is None
        waiting.cancel()
        await asyncio.wait([waiting])
        assert await limiter.acquire_now(Lane.PEOPLE) is not None

    @virtual
    async def test_machines_keep_their_pace(self) -> None:
        """A slot that is free for people is not free for the next one of a batch."""
        limiter = make()
        assert await limiter.acquire_now(Lane.BATCH) is not None

        assert await limiter.acquire_now(Lane.BATCH) is None
        assert await limiter.acquire_now(Lane.PEOPLE) is not None


class TestWaiting:
    """How long callers wait."""

    @virtual
    async def test_next_call_waits_until_the_first_slot_is_free(self) -> None:
        """The 401st call goes 60.25 s after the first answer, not after the first sending."""
        limiter = make()
        slots = await take(limiter, 400)
        queue = Queue(limiter)
        await queue.join("next")
        await asyncio.sleep(3.0)
        await answer(slots)
        await asyncio.gather(*queue.tasks)

        assert [pytest.approx(63.25, abs=0.01)] == queue.times

    @virtual
    async def test_timer_follows_the_earliest_end(self) -> None:
        """A later report with an earlier end wakes the waiters earlier; the other way round too."""
        limiter = make(2)
        early, late = await take(limiter, 2)
        await late.doubtful()
        queue = Queue(limiter)
        await queue.join("first")
        await queue.join("second")
        await asyncio.sleep(5.0)
        await early.answered()
        await asyncio.gather(*queue.tasks)

        assert [pytest.approx(65.25, abs=0.01), pytest.approx(75.25, abs=0.01)] == queue.times

    @virtual
    async def test_unsent_call_wakes_the_next_at_once(self) -> None:
        """A slot that was not used goes to the first waiter in the same moment."""
        limiter = make(1)
        (slot,) = await take(limiter, 1)
        queue = Queue(limiter)
        await queue.join("next")
        await slot.unsent()
        await asyncio.gather(*queue.tasks)

        assert [0.0] == queue.times

    @virtual
    async def test_slot_without_a_report_comes_free_after_its_lease(self) -> None:
        """A caller that vanishes costs its slot for lease, doubt and period, not for ever."""
        limiter = make(1)
        await take(limiter, 1)
        queue = Queue(limiter)
        await queue.join("next")
        await asyncio.gather(*queue.tasks)

        assert [pytest.approx(150.25, abs=0.01)] == queue.times

    @virtual
    async def test_first_report_counts(self) -> None:
        """A `finally: await slot.doubtful()` after a report changes nothing."""
        limiter = make(2)
        answered, unsent = await take(limiter, 2)
        await answered.answered()
        await answered.doubtful()
        await unsent.unsent()
        await unsent.doubtful()
        await take(limiter, 1)
        await asyncio.sleep(60.25)

        assert 1 == len(await take(limiter, 1))

    @virtual
    async def test_timeout_error_is_not_sent_and_retryable(self) -> None:
        """A caller may try again with the same requestId."""
        limiter = make(1)
        await take(limiter, 1)
        with pytest.raises(NotSentError) as caught:
            await limiter.acquire(Lane.BATCH, timeout=0)

        assert (Fate.NOT_SENT, True) == (caught.value.fate, caught.value.retryable)

    @virtual
    async def test_waiter_that_timed_out_takes_no_slot(self) -> None:
        """A waiter whose time ran out leaves its place to the next one."""
        limiter = make(1)
        (slot,) = await take(limiter, 1)
        with pytest.raises(QuotaExhaustedError, match="within 100 s; 1 are taken") as caught:
            await limiter.acquire(Lane.PEOPLE, timeout=100)  # in vain: the call takes longer
        assert 100.0 == pytest.approx(loop_time())
        assert 150.25 - 100.0 == pytest.approx(caught.value.retry_after)
        queue = Queue(limiter)
        await queue.join("next")
        await slot.unsent()
        await asyncio.gather(*queue.tasks)

        assert ["next"] == queue.order


class TestCancellation:
    """A caller that is cancelled keeps no slot."""

    @virtual
    async def test_cancelled_waiter_leaves_the_queue(self) -> None:
        """The slot goes to the next waiter."""
        limiter = make(1)
        (slot,) = await take(limiter, 1)
        queue = Queue(limiter)
        first = await queue.join("first")
        second = await queue.join("second")
        first.cancel()
        await slot.unsent()
        await second

        assert ["second"] == queue.order
        assert first.cancelled()

    @virtual
    async def test_waiter_cancelled_after_the_grant_releases_its_slot(self) -> None:
        """A slot granted to a task that is cancelled before it runs goes to the next."""
        limiter = make(1)
        (slot,) = await take(limiter, 1)
        queue = Queue(limiter)
        first = await queue.join("first")
        second = await queue.join("second")
        await slot.unsent()  # granted to the first, whose task has not run yet
        first.cancel()
        await second

        assert ["second"] == queue.order
        assert [0.0] == queue.times, "not when the lease of a lost slot is over"
        assert first.cancelled()

    @virtual
    async def test_timeout_in_the_iteration_of_the_grant_keeps_the_slot(self) -> None:
        """A slot that is granted in the same iteration as the timeout is used, not lost."""
        limiter = make(1)
        (slot,) = await take(limiter, 1)
        # The loop's clock has a resolution of 1 ns: both timers fire in the same iteration.
        asyncio.get_running_loop().call_at(70.0 - 5e-10, slot._report, SlotOutcome.UNSENT)
        late = await limiter.acquire(Lane.PEOPLE, timeout=70.0)
        await late.unsent()

        assert 1 == len(await take(limiter, 1))


class TestLoops:
    """One event loop after another."""

    def test_limiter_made_outside_a_loop_works_in_two(self) -> None:
        """A limiter made at import time works in each loop, and counts across them."""
        limiter = LocalLimiter(Quota(limit=2), idle=True, clock=lambda: 0.0)

        async def main() -> None:
            await (await limiter.acquire(Lane.PEOPLE, timeout=0)).answered()

        run_virtual(main())
        run_virtual(main())
        with pytest.raises(NotSentError):
            run_virtual(main())

    @pytest.mark.parametrize("reports", [True, False])
    def test_waiter_of_a_dead_loop_is_forgotten(
        self,
        reports: bool,  # noqa: FBT001 - a parameter of the test
    ) -> None:
        """Neither a report nor a new waiter touches the futures of a closed loop."""
        now = 0.0
        limiter = LocalLimiter(Quota(limit=1), idle=True, clock=lambda: now)
        dead, slots, tasks = asyncio.new_event_loop(), [], []

        async def leave_a_waiter() -> None:
            slots.extend(await take(limiter, 1))
            queue = Queue(limiter)
            tasks.append(await queue.join("left behind"))

        dead.run_until_complete(leave_a_waiter())
        dead.close()
        now = 200.0

        async def main() -> None:
            if reports:
                await slots[0].unsent()
            assert 1 == len(await take(limiter, 1))

        run_virtual(main())
        tasks[0]._log_destroy_pending = False  # the point of the test, not an accident


class TestRestart:
    """The first minute of a process."""

    @virtual
    async def test_new_process_has_half_of_the_slots(self) -> None:
        """200 calls go at once, the others when an earlier process's minute is over."""
        limiter = make(idle=False)
        await take(limiter, 200)
        with pytest.raises(NotSentError, match=r"200 of them on the assumption.*idle=True"):
            await limiter.acquire(Lane.PEOPLE, timeout=30)
        await limiter.acquire(Lane.PEOPLE, timeout=61)

        assert 60.25 == pytest.approx(loop_time(), abs=0.01)

    @virtual
    async def test_idle_key_has_all_slots(self) -> None:
        """With `idle=True` all 400 may go at once."""
        limiter = make(idle=True)

        assert 400 == len(await take(limiter, 400))
        with pytest.raises(NotSentError, match=r"400 are taken$"):
            await limiter.acquire(Lane.PEOPLE, timeout=0)


class TestThrottled:
    """What happens after CO_MSG_000007."""

    @virtual
    async def test_refusal_pauses_machines_and_calls_the_hook(self) -> None:
        """Below our own count no machine goes until 30 % of the calls have left the window."""
        slowed: list[Slowed] = []
        limiter = make(on_slowed=slowed.append)
        slots = await take(limiter, 10)
        await answer(slots[:4])
        await asyncio.sleep(1)
        await answer(slots[4:])
        await limiter.throttled()
        (person,) = await take(limiter, 1)
        await person.unsent()
        for lane in (Lane.RESOLVING, Lane.POLLING, Lane.BATCH, Lane.UNVERIFIED):
            with pytest.raises(QuotaExhaustedError):
                await limiter.acquire(lane, timeout=15)
        queue = Queue(limiter)
        await queue.join("next", Lane.RESOLVING)
        await asyncio.gather(*queue.tasks)

        assert [Slowed(taken=10, pace=7, limit=400)] == slowed
        assert [pytest.approx(60.25, abs=0.01)] == queue.times

    @virtual
    async def test_refusal_without_a_hook_slows_down_too(self) -> None:
        """The hook is optional, the pause is not."""
        limiter = make()
        await take(limiter, 10)
        await limiter.throttled()
        with pytest.raises(NotSentError):
            await limiter.acquire(Lane.BATCH, timeout=0)

    @virtual
    async def test_refusal_at_the_full_quota_calls_no_hook(self) -> None:
        """With all slots taken, our own calls explain the refusal."""
        slowed: list[Slowed] = []
        limiter = make(5, on_slowed=slowed.append)
        await take(limiter, 5)
        await limiter.throttled()

        assert [] == slowed


async def test_real_clock_serves_a_waiter() -> None:
    """On the loop's own clock a waiter gets its slot when the window is over."""
    limiter = LocalLimiter(Quota(limit=1, period=0.02, margin=0.0), idle=True)
    await answer(await take(limiter, 1))

    slot = await limiter.acquire(Lane.PEOPLE, timeout=30)
    used = limiter.in_use
    await slot.unsent()
    await limiter.aclose()
    await limiter.aclose()

    assert (1, 0) == (used, limiter.in_use)


async def test_many_callers_at_once_share_the_quota() -> None:
    """Of a thousand callers at once 400 go, and the others are refused."""
    limiter = LocalLimiter(idle=True)

    async def tap() -> bool:
        with contextlib.suppress(NotSentError):
            await limiter.acquire(Lane.PEOPLE, timeout=0.05)
            return True
        return False

    went = await asyncio.gather(*(tap() for _ in range(1000)))

    assert [True] * 400 + [False] * 600 == went
    assert 0 == limiter._rooms.get().size

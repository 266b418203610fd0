"""The quota of one process, on virtual time: an hour takes no longer than a test should."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Sequence

import pytest

from tests.support.clock import loop_time, run_virtual, virtual
from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Quota, Slot, Slowed, Unlimited
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.errors import Fate, NotSentError, QuotaExhaustedError
from wxpay_async.policy.quota import SlotOutcome


def make(limit: int = 400, **arguments: object) -> LocalLimiter:
    """Make a limiter on virtual time, by default for a key that was idle."""
    return LocalLimiter(Quota(limit=limit), **{"idle": True, "clock": loop_time, **arguments})


async def take(limiter: Limiter, count: int, lane: Lane = Lane.PEOPLE) -> list[Slot]:
    """Take slots that are free."""
    return [await limiter.acquire(lane, timeout=0) for _ in range(count)]


async def answer(slots: Sequence[Slot]) -> None:
    """Report all calls as answered."""
    for slot in slots:
        await slot.answered()


class Queue:
    """Callers that note in which order, and when, they get their slots."""

    def __init__(self, limiter: Limiter) -> None:
        self.limiter = limiter
        self.order: list[str] = []
        self.times: list[float] = []
        self.tasks: list[asyncio.Task[None]] = []

    async def join(self, name: str, lane: Lane = Lane.PEOPLE) -> asyncio.Task[None]:
        """Queue up, and let the task reach its place."""
        task = asyncio.create_task(self._wait(name, lane))
        self.tasks.append(task)
        await asyncio.sleep(0)
        return task

    async def _wait(self, name: str, lane: Lane) -> None:
        slot = await self.limiter.acquire(lane, timeout=1000)
        self.order.append(name)
        self.times.append(loop_time())
        await slot.answered()


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

        assert [pytest.approx(95.25, abs=0.01)] == queue.times

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
        with pytest.raises(QuotaExhaustedError, match="within 61 s; 1 are taken") as caught:
            await limiter.acquire(Lane.PEOPLE, timeout=61)  # in vain: the call takes longer
        assert 61.0 == pytest.approx(loop_time())
        assert 95.25 - 61.0 == pytest.approx(caught.value.retry_after)
        queue = Queue(limiter)
        await queue.join("next")
        await slot.unsent()
        await asyncio.gather(*queue.tasks)

        assert ["next"] == queue.order


class TestOrder:
    """The order in which callers get slots."""

    @virtual
    async def test_first_come_first_served(self) -> None:
        """Within a lane no caller overtakes another."""
        limiter = make(1)
        await answer(await take(limiter, 1))
        queue = Queue(limiter)
        for name in "abcde":
            await queue.join(name)
        await asyncio.gather(*queue.tasks)

        assert list("abcde") == queue.order

    @virtual
    async def test_newcomer_does_not_overtake_a_waiter_whose_timer_is_late(self) -> None:
        """A slot that just came free belongs to the first waiter, even before its timer fires."""
        now = 0.0
        limiter = make(1, clock=lambda: now)
        await answer(await take(limiter, 1))
        queue = Queue(limiter)
        await queue.join("first")
        now = 61.0
        newcomer = await queue.join("newcomer")
        await queue.tasks[0]

        assert ["first"] == queue.order
        assert not newcomer.done()
        now = 200.0
        await asyncio.gather(*queue.tasks)

    @virtual
    async def test_lanes_go_in_their_order(self) -> None:
        """A slot goes to the most urgent lane, in whatever order they came."""
        limiter = make(1)
        await answer(await take(limiter, 1))
        queue = Queue(limiter)
        for lane in reversed(Lane):
            await queue.join(lane, lane)
        await asyncio.gather(*queue.tasks)

        assert list(Lane) == queue.order

    @virtual
    async def test_lane_that_waits_for_its_pace_keeps_nobody(self) -> None:
        """Doubts go first, but while their pace holds them the free slots are for the others."""
        limiter = make()
        await take(limiter, 1, Lane.RESOLVING)
        queue = Queue(limiter)
        await queue.join("doubt", Lane.RESOLVING)
        await queue.join("batch", Lane.BATCH)
        await asyncio.gather(*queue.tasks)

        assert ["batch", "doubt"] == queue.order
        assert [pytest.approx(60 / 380, abs=0.01), pytest.approx(0.6, abs=0.01)] == queue.times

    @virtual
    async def test_person_overtakes_a_waiting_batch(self) -> None:
        """A batch waits for its pace; a person who comes later goes at once."""
        limiter = make()
        await take(limiter, 1, Lane.BATCH)
        queue = Queue(limiter)
        waiting = await queue.join("batch", Lane.BATCH)
        slots = await take(limiter, 399)

        assert 399 == len(slots)
        assert not waiting.done()
        waiting.cancel()

    @virtual
    async def test_machines_are_served_at_their_pace(self) -> None:
        """However many wait, two calls of a lane never start closer than its interval."""
        limiter = make()
        queue = Queue(limiter)
        for number in range(50):
            await queue.join(str(number), Lane.BATCH)
        await asyncio.gather(*queue.tasks)

        pauses = [later - sooner for sooner, later in itertools.pairwise(queue.times)]
        assert min(pauses) >= 60 / 380 - 1e-9
        assert max(pauses) <= 60 / 380 + 0.002

    @virtual
    async def test_person_beside_a_full_batch_is_served_within_an_interval(self) -> None:
        """A batch that holds all it may frees its slots as evenly as it took them."""
        limiter, waits = make(), list[float]()

        async def work() -> None:
            while True:
                slot = await limiter.acquire(Lane.BATCH, timeout=1000)
                await asyncio.sleep(0.2)
                await slot.answered()

        batch = [asyncio.create_task(work()) for _ in range(20)]
        await asyncio.sleep(300)
        for _ in range(100):
            began = loop_time()
            slot = await limiter.acquire(Lane.PEOPLE, timeout=5)
            waits.append(loop_time() - began)
            await slot.answered()
            await asyncio.sleep(1.0)
        for task in batch:
            task.cancel()

        assert max(waits) <= 2 * 60 / 380
        assert sum(limiter.held().values()) == limiter.in_use <= 400

    @virtual
    async def test_held_tells_who_has_the_quota(self) -> None:
        """The slots by lane, for a gauge."""
        limiter = make()
        await take(limiter, 3)
        await take(limiter, 1, Lane.POLLING)

        assert {
            Lane.PEOPLE: 3,
            Lane.RESOLVING: 0,
            Lane.POLLING: 1,
            Lane.BATCH: 0,
            Lane.UNVERIFIED: 0,
        } == limiter.held()


class TestOverload:
    """What cannot have a slot in time is told at once."""

    @virtual
    async def test_hopeless_caller_is_refused_at_once(self) -> None:
        """The error names the quota, the lane, the timeout and the slots; no time passes."""
        limiter = make(3)
        await answer(await take(limiter, 3))
        reason = r"3 calls in 60 s.*people within 30 s; 3 are"
        with pytest.raises(QuotaExhaustedError, match=reason) as caught:
            await limiter.acquire(Lane.PEOPLE, timeout=30)

        assert 0.0 == loop_time()
        assert 60.25 == caught.value.retry_after

    @virtual
    async def test_thousand_taps_on_a_new_process_are_answered_or_told_when(self) -> None:
        """200 go at once, the others are refused at once and served when they were told to come."""
        limiter = make(idle=False)
        waits, told = list[float](), list[float]()

        async def tap(timeout: float) -> None:
            slot = await limiter.acquire(Lane.PEOPLE, timeout=timeout)
            await asyncio.sleep(0.5)
            await slot.answered()

        async def tap_again() -> None:
            try:
                await tap(30)
            except QuotaExhaustedError as error:
                assert 0.0 == loop_time()
                told.append(error.retry_after)
                await asyncio.sleep(error.retry_after)
                began = loop_time()
                await tap(2)
                waits.append(loop_time() - began)

        await asyncio.gather(*(tap_again() for _ in range(1000)))

        assert 800 == len(told) == len(waits)
        assert max(waits) <= 2.0
        assert max(told) <= 121.0

    @virtual
    async def test_caller_who_waits_in_time_is_not_refused(self) -> None:
        """Exactly as many may wait as slots come free before their deadline."""
        limiter = make(5)
        await answer(await take(limiter, 5))
        queue = Queue(limiter)
        for name in "abcde":
            await queue.join(name)
        with pytest.raises(QuotaExhaustedError) as caught:
            await limiter.acquire(Lane.PEOPLE, timeout=61)
        await asyncio.gather(*queue.tasks)

        assert 120.5 == pytest.approx(caught.value.retry_after)
        assert list("abcde") == queue.order

    @virtual
    async def test_machines_that_wait_do_not_hold_up_the_forecast_of_a_person(self) -> None:
        """A person goes first, so a crowd in the other lanes is no reason to refuse."""
        limiter = make(20)
        await answer(await take(limiter, 20))
        queue = Queue(limiter)
        for number in range(50):
            await queue.join(f"batch {number}", Lane.BATCH)
        await queue.join("person")
        await queue.tasks[-1]
        for task in queue.tasks:
            task.cancel()

        assert "person" == queue.order[0]
        assert [pytest.approx(60.25, abs=0.01)] == queue.times[:1]

    @virtual
    async def test_one_caller_too_many_is_refused_at_once(self) -> None:
        """Memory stays bounded: beyond the most that may wait, the answer is the same error."""
        limiter = make(1, max_waiting=3)
        (slot,) = await take(limiter, 1)
        queue = Queue(limiter)
        for name in "abc":
            await queue.join(name)
        with pytest.raises(QuotaExhaustedError, match="3 callers wait") as caught:
            await limiter.acquire(Lane.PEOPLE, timeout=1000)
        assert 4 * 60.25 == caught.value.retry_after
        await slot.unsent()
        await asyncio.gather(*queue.tasks)

        assert list("abc") == queue.order


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

    await (await limiter.acquire(Lane.PEOPLE, timeout=30)).unsent()
    await limiter.aclose()
    await limiter.aclose()


async def test_unlimited_lets_all_calls_go() -> None:
    """All calls share one slot that counts nothing."""
    limiter = Unlimited()
    slots = await take(limiter, 1000)
    for report in (slots[0].answered, slots[0].doubtful, slots[0].unsent):
        await report()
    await limiter.throttled()
    await limiter.aclose()

    assert {id(slots[0])} == {id(slot) for slot in slots}


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

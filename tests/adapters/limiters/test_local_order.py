"""Which callers go first where all slots are taken, and which are refused at once."""

from __future__ import annotations

import asyncio

import pytest

from tests.adapters.limiters.local_queue import Queue, answer, make, take
from tests.support.clock import loop_time, virtual
from wxpay_async.adapters.limiters.limiter import Lane
from wxpay_async.errors import QuotaExhaustedError


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
        """However many wait, no call of a lane starts before it is due, nor later."""
        limiter = make()
        queue = Queue(limiter)
        for number in range(50):
            await queue.join(str(number), Lane.BATCH)
        await asyncio.gather(*queue.tasks)

        delays = [at - number * 60 / 380 for number, at in enumerate(queue.times)]
        assert min(delays) >= -1e-6
        assert max(delays) <= 0.002

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

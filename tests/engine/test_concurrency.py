"""Who begins in which turn of the event loop."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from wxpay_async.engine.concurrency import INITIAL_STARTS, MAX_LOOP_HOLD, ConcurrencyLimiter

Begun = tuple[list["asyncio.Task[None]"], list[int]]


class Work:
    """Attempts that take their time: a clock that moves on with each of them.

    Args:
        each: what one takes.
    """

    def __init__(self, each: float) -> None:
        self.each, self.now = each, 0.0
        self.limiter = ConcurrencyLimiter(64, clock=lambda: self.now)

    def begin(self, callers: int) -> Begun:
        """Start callers, and return them with the order in which they begin."""
        order: list[int] = []

        async def call(number: int) -> None:
            await self.limiter.acquire(30.0)
            self.now += self.each
            order.append(number)

        return [asyncio.create_task(call(number)) for number in range(callers)], order

    async def steps(self, callers: int) -> list[int]:
        """Return how many begin in each turn."""
        tasks, order = self.begin(callers)
        counts = [0]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            counts.append(len(order))
        assert list(range(callers)) == order
        return [b - a for a, b in itertools.pairwise(counts) if b > a]


async def test_a_turn_has_room_for_so_many() -> None:
    """The others begin in the turns that follow, in the order in which they came."""
    assert [INITIAL_STARTS, INITIAL_STARTS, INITIAL_STARTS, 1] == await Work(
        MAX_LOOP_HOLD / INITIAL_STARTS
    ).steps(3 * INITIAL_STARTS + 1)


async def test_of_what_is_quick_more_begin_in_a_turn() -> None:
    """As many as fit, and at most twice as many as in the turn before."""
    assert [INITIAL_STARTS, 2 * INITIAL_STARTS, 4 * INITIAL_STARTS, 20, 4] == await Work(
        MAX_LOOP_HOLD / 20.5
    ).steps(7 * INITIAL_STARTS + 24)


async def test_of_what_is_slow_one_begins_in_a_turn() -> None:
    """Whatever it takes, somebody is next."""
    assert [INITIAL_STARTS, 1, 1, 1] == await Work(3 * MAX_LOOP_HOLD).steps(INITIAL_STARTS + 3)


async def test_a_clock_that_stands_still_stops_nobody() -> None:
    """A coarse clock may show no time at all for a turn."""
    assert [INITIAL_STARTS, 2 * INITIAL_STARTS, 1] == await Work(0.0).steps(3 * INITIAL_STARTS + 1)


async def test_a_few_never_wait() -> None:
    """A turn later there is room again."""
    limiter = ConcurrencyLimiter(64, clock=lambda: 0.0)
    for _ in range(3):
        for _ in range(INITIAL_STARTS):
            coroutine = limiter.acquire(30.0)
            try:
                coroutine.send(None)
            except StopIteration:
                continue
            raise AssertionError("it waits")
        await asyncio.sleep(0)


async def test_a_late_comer_does_not_overtake() -> None:
    """Whoever waits from an earlier turn begins before whoever asks in this one."""
    work = Work(MAX_LOOP_HOLD / INITIAL_STARTS)
    tasks, order = work.begin(2 * INITIAL_STARTS)
    await asyncio.sleep(0)
    late, later = work.begin(1)
    await asyncio.gather(*tasks, *late)

    assert 2 * INITIAL_STARTS == len(order)
    assert [0] == later


async def test_a_cancelled_caller_takes_no_place() -> None:
    """Nor does it keep those behind it waiting."""
    tasks, order = Work(MAX_LOOP_HOLD / INITIAL_STARTS).begin(3 * INITIAL_STARTS)
    await asyncio.sleep(0)
    for task in tasks[INITIAL_STARTS : 2 * INITIAL_STARTS]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert [*range(INITIAL_STARTS), *range(2 * INITIAL_STARTS, 3 * INITIAL_STARTS)] == order


async def test_no_more_are_under_way_than_may_be() -> None:
    """Whoever comes later waits until somebody ends."""
    work = Work(0.0)
    limiter = work.limiter = ConcurrencyLimiter(2)
    tasks, order = work.begin(4)
    for _ in range(10):
        await asyncio.sleep(0)
    assert [0, 1] == order

    limiter.release()
    limiter.release()
    await asyncio.gather(*tasks)
    assert [0, 1, 2, 3] == order


async def test_waiting_for_somebody_to_end_has_a_limit() -> None:
    """Who gives up leaves no place behind: the next one gets it."""
    limiter = ConcurrencyLimiter(1)
    await limiter.acquire(30.0)
    with pytest.raises(TimeoutError):
        await limiter.acquire(0.001)

    limiter.release()
    await limiter.acquire(0.001)


async def test_a_caller_that_is_cancelled_when_its_place_is_free_gives_it_back() -> None:
    """The place was granted, and nobody is left to use it."""
    work = Work(0.0)
    limiter = work.limiter = ConcurrencyLimiter(1)
    await limiter.acquire(30.0)
    (task,), order = work.begin(1)
    await asyncio.sleep(0)
    limiter.release()  # the place is granted, the task does not run yet
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert [] == order
    await limiter.acquire(0.001)

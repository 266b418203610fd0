"""Who begins in which turn of the event loop."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from wxpay_async.engine.concurrency import FIRST, TURN, ConcurrencyLimiter

Begun = tuple[list["asyncio.Task[None]"], list[int]]


class Work:
    """Attempts that take their time: a clock that moves on with each of them.

    Args:
        each: what one takes.
    """

    def __init__(self, each: float) -> None:
        self.each, self.now = each, 0.0
        self.turns = ConcurrencyLimiter(64, clock=lambda: self.now)

    def begin(self, callers: int) -> Begun:
        """Start callers, and return them with the order in which they begin."""
        order: list[int] = []

        async def call(number: int) -> None:
            await self.turns.take(30.0)
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
    assert [FIRST, FIRST, FIRST, 1] == await Work(TURN / FIRST).steps(3 * FIRST + 1)


async def test_of_what_is_quick_more_begin_in_a_turn() -> None:
    """As many as fit, and at most twice as many as in the turn before."""
    assert [FIRST, 2 * FIRST, 4 * FIRST, 20, 4] == await Work(TURN / 20.5).steps(7 * FIRST + 24)


async def test_of_what_is_slow_one_begins_in_a_turn() -> None:
    """Whatever it takes, somebody is next."""
    assert [FIRST, 1, 1, 1] == await Work(3 * TURN).steps(FIRST + 3)


async def test_a_clock_that_stands_still_stops_nobody() -> None:
    """A coarse clock may show no time at all for a turn."""
    assert [FIRST, 2 * FIRST, 1] == await Work(0.0).steps(3 * FIRST + 1)


async def test_a_few_never_wait() -> None:
    """A turn later there is room again."""
    turns = ConcurrencyLimiter(64, clock=lambda: 0.0)
    for _ in range(3):
        for _ in range(FIRST):
            coroutine = turns.take(30.0)
            try:
                coroutine.send(None)
            except StopIteration:
                continue
            raise AssertionError("it waits")
        await asyncio.sleep(0)


async def test_a_late_comer_does_not_overtake() -> None:
    """Whoever waits from an earlier turn begins before whoever asks in this one."""
    work = Work(TURN / FIRST)
    tasks, order = work.begin(2 * FIRST)
    await asyncio.sleep(0)
    late, later = work.begin(1)
    await asyncio.gather(*tasks, *late)

    assert 2 * FIRST == len(order)
    assert [0] == later


async def test_a_cancelled_caller_takes_no_place() -> None:
    """Nor does it keep those behind it waiting."""
    tasks, order = Work(TURN / FIRST).begin(3 * FIRST)
    await asyncio.sleep(0)
    for task in tasks[FIRST : 2 * FIRST]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert [*range(FIRST), *range(2 * FIRST, 3 * FIRST)] == order


async def test_no_more_are_under_way_than_may_be() -> None:
    """Whoever comes later waits until somebody ends."""
    work = Work(0.0)
    turns = work.turns = ConcurrencyLimiter(2)
    tasks, order = work.begin(4)
    for _ in range(10):
        await asyncio.sleep(0)
    assert [0, 1] == order

    turns.end()
    turns.end()
    await asyncio.gather(*tasks)
    assert [0, 1, 2, 3] == order


async def test_waiting_for_somebody_to_end_has_a_limit() -> None:
    """Who gives up leaves no place behind: the next one gets it."""
    turns = ConcurrencyLimiter(1)
    await turns.take(30.0)
    with pytest.raises(TimeoutError):
        await turns.take(0.001)

    turns.end()
    await turns.take(0.001)


async def test_a_caller_that_is_cancelled_when_its_place_is_free_gives_it_back() -> None:
    """The place was granted, and nobody is left to use it."""
    work = Work(0.0)
    turns = work.turns = ConcurrencyLimiter(1)
    await turns.take(30.0)
    (task,), order = work.begin(1)
    await asyncio.sleep(0)
    turns.end()  # the place is granted, the task does not run yet
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert [] == order
    await turns.take(0.001)

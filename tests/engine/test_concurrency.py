"""How many attempts run at once, and how many start in one iteration of the event loop."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from wxpay_async.engine.concurrency import INITIAL_STARTS, MAX_LOOP_HOLD, ConcurrencyLimiter

Started = tuple[list["asyncio.Task[None]"], list[int]]


class Attempts:
    """Attempts that take their time: a clock that moves on with each of them.

    Args:
        each: what one takes.
    """

    def __init__(self, each: float) -> None:
        self.each, self.now = each, 0.0
        self.limiter = ConcurrencyLimiter(64, clock=lambda: self.now)

    def start(self, callers: int) -> Started:
        """Start callers, and return them with the order in which they start."""
        order: list[int] = []

        async def call(number: int) -> None:
            await self.limiter.acquire(30.0)
            self.now += self.each
            order.append(number)

        return [asyncio.create_task(call(number)) for number in range(callers)], order

    async def count_starts(self, callers: int) -> list[int]:
        """Return how many start in each iteration of the loop."""
        tasks, order = self.start(callers)
        counts = [0]
        while not all(task.done() for task in tasks):
            await asyncio.sleep(0)
            counts.append(len(order))
        assert list(range(callers)) == order
        return [b - a for a, b in itertools.pairwise(counts) if b > a]


async def test_starts_in_one_iteration_are_limited() -> None:
    """The others start in the iterations that follow, in the order in which they came."""
    assert [INITIAL_STARTS, INITIAL_STARTS, INITIAL_STARTS, 1] == await Attempts(
        MAX_LOOP_HOLD / INITIAL_STARTS
    ).count_starts(3 * INITIAL_STARTS + 1)


async def test_starts_of_quick_attempts_grow() -> None:
    """As many as fit, and at most twice as many as in the iteration before."""
    assert [INITIAL_STARTS, 2 * INITIAL_STARTS, 4 * INITIAL_STARTS, 20, 4] == await Attempts(
        MAX_LOOP_HOLD / 20.5
    ).count_starts(7 * INITIAL_STARTS + 24)


async def test_starts_of_slow_attempts_shrink_to_one() -> None:
    """However long an attempt holds the loop, the next one starts."""
    assert [INITIAL_STARTS, 1, 1, 1] == await Attempts(3 * MAX_LOOP_HOLD).count_starts(
        INITIAL_STARTS + 3
    )


async def test_starts_by_a_coarse_clock_grow() -> None:
    """A clock may show no time at all for an iteration."""
    assert [INITIAL_STARTS, 2 * INITIAL_STARTS, 1] == await Attempts(0.0).count_starts(
        3 * INITIAL_STARTS + 1
    )


async def test_few_attempts_never_wait() -> None:
    """One iteration later there is room again."""
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


async def test_later_attempt_does_not_overtake() -> None:
    """What waits from an earlier iteration starts before what comes in this one."""
    attempts = Attempts(MAX_LOOP_HOLD / INITIAL_STARTS)
    tasks, order = attempts.start(2 * INITIAL_STARTS)
    await asyncio.sleep(0)
    late, later = attempts.start(1)
    await asyncio.gather(*tasks, *late)

    assert 2 * INITIAL_STARTS == len(order)
    assert [0] == later


async def test_cancelled_attempt_takes_no_place() -> None:
    """Nor does it keep those behind it waiting."""
    tasks, order = Attempts(MAX_LOOP_HOLD / INITIAL_STARTS).start(3 * INITIAL_STARTS)
    await asyncio.sleep(0)
    for task in tasks[INITIAL_STARTS : 2 * INITIAL_STARTS]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert [*range(INITIAL_STARTS), *range(2 * INITIAL_STARTS, 3 * INITIAL_STARTS)] == order


async def test_attempts_under_way_are_limited() -> None:
    """A later one waits until another ends."""
    attempts = Attempts(0.0)
    limiter = attempts.limiter = ConcurrencyLimiter(2)
    tasks, order = attempts.start(4)
    for _ in range(10):
        await asyncio.sleep(0)
    assert [0, 1] == order

    limiter.release()
    limiter.release()
    await asyncio.gather(*tasks)
    assert [0, 1, 2, 3] == order


async def test_wait_for_an_end_times_out() -> None:
    """The one that gives up leaves no place behind: the next one gets it."""
    limiter = ConcurrencyLimiter(1)
    await limiter.acquire(30.0)
    with pytest.raises(TimeoutError):
        await limiter.acquire(0.001)

    limiter.release()
    await limiter.acquire(0.001)


async def test_attempt_cancelled_as_it_may_start_gives_its_place_back() -> None:
    """The place was granted, and no attempt is left to use it."""
    attempts = Attempts(0.0)
    limiter = attempts.limiter = ConcurrencyLimiter(1)
    await limiter.acquire(30.0)
    (task,), order = attempts.start(1)
    await asyncio.sleep(0)
    limiter.release()  # the place is granted, the task does not run yet
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert [] == order
    await limiter.acquire(0.001)


# People and machines


async def test_people_start_before_machines_that_wait_longer() -> None:
    """A machine that waits for a connection lets people pass."""
    limiter = ConcurrencyLimiter(1)
    order: list[str] = []

    async def attempt(name: str, *, machine: bool) -> None:
        await limiter.acquire(1.0, machine=machine)
        order.append(name)
        limiter.release(machine=machine)

    await limiter.acquire(1.0)
    tasks = [asyncio.create_task(attempt("machine", machine=True))]
    await asyncio.sleep(0)
    tasks.append(asyncio.create_task(attempt("person", machine=False)))
    await asyncio.sleep(0)
    limiter.release()
    await asyncio.gather(*tasks)

    assert ["person", "machine"] == order


async def test_machines_leave_an_eighth_of_the_places_to_people() -> None:
    """However many batches there are and however slow the platform is."""
    limiter = ConcurrencyLimiter(16)
    for _ in range(14):
        await limiter.acquire(1.0, machine=True)
    late = asyncio.create_task(limiter.acquire(60.0, machine=True))
    await asyncio.sleep(0)
    assert [True, True, False] == [limiter.acquire_now() for _ in range(3)]
    limiter.release()
    limiter.release()
    await asyncio.sleep(0)
    assert not late.done()
    limiter.release(machine=True)
    await late


async def test_only_place_of_all_is_a_machine_s_too() -> None:
    """With one connection nothing can be left."""
    assert ConcurrencyLimiter(1).acquire_now(machine=True)


async def test_machine_that_is_cancelled_gives_back_its_place() -> None:
    """It was woken and cancelled in the same iteration."""
    limiter = ConcurrencyLimiter(1)
    await limiter.acquire(1.0)
    waiting = asyncio.create_task(limiter.acquire(60.0, machine=True))
    await asyncio.sleep(0)
    limiter.release()
    waiting.cancel()
    await asyncio.gather(waiting, return_exceptions=True)
    await asyncio.sleep(0)

    assert limiter.acquire_now(machine=True)

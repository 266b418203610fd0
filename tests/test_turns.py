"""Who begins in which turn of the event loop."""

from __future__ import annotations

import asyncio

import pytest

from wxpay_async.turns import PER_TURN, Turns


async def begun(turns: Turns, callers: int) -> tuple[list[asyncio.Task[None]], list[int]]:
    """Start callers, and return them with the order in which they begin."""
    order: list[int] = []

    async def call(number: int) -> None:
        await turns.take(30.0)
        order.append(number)

    tasks = [asyncio.create_task(call(number)) for number in range(callers)]
    return tasks, order


async def test_a_turn_has_room_for_so_many() -> None:
    """The others begin in the turns that follow, in the order in which they came."""
    tasks, order = await begun(Turns(64), 3 * PER_TURN + 1)
    counts = []
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        counts.append(len(order))

    steps = [b - a for a, b in zip([0, *counts], counts, strict=False)]
    assert PER_TURN == max(steps)
    assert list(range(3 * PER_TURN + 1)) == order


async def test_a_few_never_wait() -> None:
    """A turn later there is room again."""
    turns = Turns(64)
    for _ in range(3):
        for _ in range(PER_TURN):
            coroutine = turns.take(30.0)
            try:
                coroutine.send(None)
            except StopIteration:
                continue
            raise AssertionError("it waits")
        await asyncio.sleep(0)


async def test_a_late_comer_does_not_overtake() -> None:
    """Whoever waits from an earlier turn begins before whoever asks in this one."""
    turns = Turns(64)
    tasks, order = await begun(turns, 2 * PER_TURN)
    await asyncio.sleep(0)
    late, later = await begun(turns, 1)
    await asyncio.gather(*tasks, *late)

    assert 2 * PER_TURN == len(order)
    assert [0] == later


async def test_a_cancelled_caller_takes_no_place() -> None:
    """Nor does it keep those behind it waiting."""
    tasks, order = await begun(Turns(64), 3 * PER_TURN)
    await asyncio.sleep(0)
    for task in tasks[PER_TURN : 2 * PER_TURN]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert [*range(PER_TURN), *range(2 * PER_TURN, 3 * PER_TURN)] == order


async def test_no_more_are_under_way_than_may_be() -> None:
    """Whoever comes later waits until somebody ends."""
    turns = Turns(2)
    tasks, order = await begun(turns, 4)
    for _ in range(10):
        await asyncio.sleep(0)
    assert [0, 1] == order

    turns.end()
    turns.end()
    await asyncio.gather(*tasks)
    assert [0, 1, 2, 3] == order


async def test_waiting_for_somebody_to_end_has_a_limit() -> None:
    """Who gives up leaves no place behind: the next one gets it."""
    turns = Turns(1)
    await turns.take(30.0)
    with pytest.raises(TimeoutError):
        await turns.take(0.001)

    turns.end()
    await turns.take(0.001)


async def test_a_caller_that_is_cancelled_when_its_place_is_free_gives_it_back() -> None:
    """The place was granted, and nobody is left to use it."""
    turns = Turns(1)
    await turns.take(30.0)
    (task,), order = await begun(turns, 1)
    await asyncio.sleep(0)
    turns.end()  # the place is granted, the task does not run yet
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)

    assert [] == order
    await turns.take(0.001)

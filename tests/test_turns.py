"""Who begins in which turn of the event loop."""

from __future__ import annotations

import asyncio

from wxpay_async.turns import PER_TURN, Turns


async def begun(turns: Turns, callers: int) -> tuple[list[asyncio.Task[None]], list[int]]:
    """Start callers, and return them with the order in which they begin."""
    order: list[int] = []

    async def call(number: int) -> None:
        await turns.take()
        order.append(number)

    tasks = [asyncio.create_task(call(number)) for number in range(callers)]
    return tasks, order


async def test_a_turn_has_room_for_so_many() -> None:
    """The others begin in the turns that follow, in the order in which they came."""
    tasks, order = await begun(Turns(), 3 * PER_TURN + 1)
    counts = []
    while not all(task.done() for task in tasks):
        await asyncio.sleep(0)
        counts.append(len(order))

    steps = [b - a for a, b in zip([0, *counts], counts, strict=False)]
    assert PER_TURN == max(steps)
    assert list(range(3 * PER_TURN + 1)) == order


async def test_a_few_never_wait() -> None:
    """A turn later there is room again."""
    turns = Turns()
    for _ in range(3):
        for _ in range(PER_TURN):
            coroutine = turns.take()
            try:
                coroutine.send(None)
            except StopIteration:
                continue
            raise AssertionError("it waits")
        await asyncio.sleep(0)


async def test_a_late_comer_does_not_overtake() -> None:
    """Whoever waits from an earlier turn begins before whoever asks in this one."""
    turns = Turns()
    tasks, order = await begun(turns, 2 * PER_TURN)
    await asyncio.sleep(0)
    late, later = await begun(turns, 1)
    await asyncio.gather(*tasks, *late)

    assert 2 * PER_TURN == len(order)
    assert [0] == later


async def test_a_cancelled_caller_takes_no_place() -> None:
    """Nor does it keep those behind it waiting."""
    tasks, order = await begun(Turns(), 3 * PER_TURN)
    await asyncio.sleep(0)
    for task in tasks[PER_TURN : 2 * PER_TURN]:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)

    assert [*range(PER_TURN), *range(2 * PER_TURN, 3 * PER_TURN)] == order

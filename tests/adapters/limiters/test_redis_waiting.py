"""Which callers that wait in a process ask Redis in a round."""

from __future__ import annotations

import pytest

from wxpay_async.adapters.limiters.redis_waiting import SlotCount, WaitingRoom
from wxpay_async.policy.lanes import Lane, Quota
from wxpay_async.policy.outlook import Promises


@pytest.mark.parametrize(
    ("people", "batches", "asked"),
    [
        (40, 1, {Lane.PEOPLE: 32}),
        (32, 1, {Lane.PEOPLE: 32}),
        (31, 3, {Lane.PEOPLE: 31, Lane.BATCH: 1}),
        (0, 2, {Lane.BATCH: 2}),
        (0, 0, {}),
    ],
)
async def test_round_is_full_before_a_later_lane_asks(
    people: int, batches: int, asked: dict[Lane, int]
) -> None:
    """A caller of an earlier lane that has not asked yet is not overtaken."""
    room = WaitingRoom(Quota(), 1000, Promises(), SlotCount())
    for lane, callers in ((Lane.BATCH, batches), (Lane.PEOPLE, people)):
        for _ in range(callers):
            room.join(lane, 30.0)

    assert asked == {ask.lane: len(ask.waiters) for ask in room.ask(32)}


async def test_those_who_came_first_ask_first() -> None:
    """A caller that leaves makes room for the next one."""
    room = WaitingRoom(Quota(), 1000, Promises(), SlotCount())
    first, second, third = [room.join(Lane.PEOPLE, 30.0) for _ in range(3)]
    room.leave(second)
    (ask,) = room.ask(2)

    assert (first, third) == ask.waiters


async def test_line_that_redis_refused_asks_when_it_told() -> None:
    """Not before; but once more at once, so that the other processes know who stays."""
    room = WaitingRoom(Quota(limit=1), 1000, Promises(), SlotCount())
    room.join(Lane.PEOPLE, 300.0)
    refusal = (1, [[60_000_000], [], [], [], [], []], [0] * 5, [0] * 5)
    for staying in (0, 1):
        (ask,) = room.ask(32)
        assert staying == ask.staying
        room.answer([ask], [0, 60_000_000], refusal)

    assert [] == room.ask(32)
    room.ask_again()
    assert 1 == len(room.ask(32))

"""Ask a Redis limiter once, as a caller of a process of its own would."""

from __future__ import annotations

import asyncio
import secrets
from typing import TYPE_CHECKING

from wxpay_async.policy.lanes import Lane

if TYPE_CHECKING:
    from wxpay_async.adapters.limiters.redis import RedisLimiter


async def ask(
    limiter: RedisLimiter, lane: Lane, *, stay: bool = False, member: str | None = None
) -> bool:
    """Ask once for a slot; without one, `stay` in line as a waiter would."""
    return await wait_for_slot(limiter, lane, stay=stay, member=member) == 0


async def wait_for_slot(
    limiter: RedisLimiter, lane: Lane, *, stay: bool = False, member: str | None = None
) -> int:
    """Ask once; return the microseconds until it is worth asking again, 0 with a slot."""
    from wxpay_async.adapters.limiters.redis_waiting import (  # noqa: PLC0415 - redis-py is optional
        Ask,
        Waiter,
    )

    session = await limiter._sessions.get()
    rounds, granted = session.rounds, asyncio.get_running_loop().create_future()
    waiter = Waiter(member or secrets.token_hex(8), lane, 0.0, looks=True, granted=granted)
    asks = [Ask(lane, int(stay), (waiter,))]
    command = rounds.script.call(rounds.keys, rounds._arguments({}, asks, 0.0))
    held, answers, *refusal = await session.link.call(command)
    session.room.count.update(held)
    session.room.answer(asks, answers, refusal or None)
    assert granted.result() == (answers == [1, 0])
    return answers[1]


async def deliver(limiter: RedisLimiter) -> None:
    """Wait until Redis has all reports."""
    await (await limiter._sessions.get()).rounds.flush()

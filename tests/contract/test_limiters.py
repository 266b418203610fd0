"""Check that the quota of one process and that of many keep the same rules.

No test waits: the clock stands still until it is moved, and whoever cannot go is refused at once.
"""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest

from tests.support.limiters import Bench, open_local_bench, open_redis_bench, take
from wxpay_async.adapters.limiters.limiter import Lane, Limiter, Quota, Slowed
from wxpay_async.errors import Fate, QuotaExhaustedError

MACHINES = [lane for lane in Lane if lane is not Lane.PEOPLE]

SMALL = Quota(limit=40, lease=9000.0)
"""A quota whose slots stay taken while a test fills them at their pace."""


@pytest.fixture(params=[open_local_bench, open_redis_bench], ids=["local", "redis"])
async def bench(request: pytest.FixtureRequest) -> AsyncIterator[Bench]:
    """Give each kind of limiter, on a clock that the test moves."""
    async with request.param() as opened:
        yield opened


async def take_slowly(
    bench: Bench, limiter: Limiter, count: int, lane: Lane, *, since: float = 0.0
) -> int:
    """Try so often, far enough apart for the pace of every lane; return how often it went."""
    taken = 0
    for number in range(count):
        await bench.set_clock(since + 100.0 * number)
        taken += len(await take(limiter, 1, lane))
    return taken


@pytest.mark.parametrize(
    ("lane", "share"),
    [
        (Lane.RESOLVING, 10),
        (Lane.POLLING, 10),
        (Lane.BATCH, 38),
        (Lane.UNVERIFIED, 2),
    ],
)
async def test_lane_of_machines_holds_its_share(bench: Bench, lane: Lane, share: int) -> None:
    """A quarter, a quarter, 95 % and a twentieth; people have the rest."""
    limiter: Any = bench.limiter(SMALL)

    assert share == await take_slowly(bench, limiter, share + 2, lane)
    assert share == limiter.held()[lane]
    assert 40 - share == len(await take(limiter, 41))


async def test_machines_together_leave_a_twentieth(bench: Bench) -> None:
    """All lanes of machines hold 38 of 40 at most."""
    limiter = bench.limiter(SMALL)
    taken = await take_slowly(bench, limiter, 12, Lane.RESOLVING)
    taken += await take_slowly(bench, limiter, 12, Lane.POLLING, since=2000.0)
    taken += await take_slowly(bench, limiter, 25, Lane.BATCH, since=4000.0)

    assert 38 == taken
    assert [] == await take(limiter, 1, Lane.UNVERIFIED)
    assert 2 == len(await take(limiter, 3))


@pytest.mark.parametrize("lane", MACHINES)
async def test_lane_of_machines_starts_evenly(bench: Bench, lane: Lane) -> None:
    """The next call goes one interval after the last, and no earlier."""
    limiter = bench.limiter(SMALL)
    interval = SMALL.interval(lane, SMALL.limit)
    assert 1 == len(await take(limiter, 1, lane))
    await bench.set_clock(interval - 1e-5)
    with pytest.raises(QuotaExhaustedError) as caught:
        await limiter.acquire(lane, timeout=0)
    assert caught.value.retry_after < 1.0
    await bench.set_clock(interval + 1e-5)

    assert 1 == len(await take(limiter, 1, lane))


async def test_machines_together_start_evenly(bench: Bench) -> None:
    """No two lanes of machines start closer than one interval of batches."""
    limiter = bench.limiter(SMALL)
    interval = SMALL.interval(Lane.BATCH, SMALL.limit)
    assert 1 == len(await take(limiter, 1, Lane.POLLING))
    for lane in (Lane.RESOLVING, Lane.BATCH, Lane.UNVERIFIED):
        assert [] == await take(limiter, 1, lane)
    await bench.set_clock(interval + 1e-5)

    assert 1 == len(await take(limiter, 1, Lane.RESOLVING))


@pytest.mark.parametrize(("people", "calls"), [(1, 38), (10, 32), (20, 22), (30, 20)])
async def test_machines_leave_alone_what_people_hold(bench: Bench, people: int, calls: int) -> None:
    """The more people pay, the slower all machines together; down to half of the quota a minute."""
    limiter = bench.limiter(SMALL)
    assert people == len(await take(limiter, people))
    assert 1 == len(await take(limiter, 1, Lane.BATCH))
    await bench.set_clock(60 / calls - 1e-5)
    assert [] == await take(limiter, 1, Lane.BATCH)
    await bench.set_clock(60 / calls + 1e-5)

    assert 1 == len(await take(limiter, 1, Lane.RESOLVING))


async def test_people_have_no_pace(bench: Bench) -> None:
    """The whole quota may go in one moment."""
    assert 40 == len(await take(bench.limiter(SMALL), 41))


async def test_unsent_call_gives_its_slot_back_but_not_its_turn(bench: Bench) -> None:
    """The slot is free at once, and the pace of the lane stays what it is."""
    limiter: Any = bench.limiter(SMALL)
    (slot,) = await take(limiter, 1, Lane.BATCH)
    await slot.unsent()

    assert [] == await take(limiter, 1, Lane.BATCH)
    assert 40 == len(await take(limiter, 41))


async def test_hopeless_caller_is_told_when_to_come_back(bench: Bench) -> None:
    """The error is a `NotSentError`, comes at once, and its time proves right."""
    limiter = bench.limiter(SMALL)
    for slot in await take(limiter, 40):
        await slot.answered()
    with pytest.raises(QuotaExhaustedError, match="within 30 s; 40 are taken") as caught:
        await limiter.acquire(Lane.PEOPLE, timeout=30)

    assert (Fate.NOT_SENT, True) == (caught.value.fate, caught.value.retryable)
    assert pytest.approx(60.25, abs=2.0) == caught.value.retry_after
    await bench.set_clock(60.25)
    assert 1 == len(await take(limiter, 1))


async def test_refused_callers_are_told_their_turns(bench: Bench) -> None:
    """A caller that the next minute cannot serve is told the minute after it."""
    limiter, told = bench.limiter(SMALL), list[int]()
    for slot in await take(limiter, 40):
        await slot.answered()
    for _ in range(80):
        with pytest.raises(QuotaExhaustedError) as caught:
            await limiter.acquire(Lane.PEOPLE, timeout=0.5)
        told.append(round(caught.value.retry_after / 60.25))

    assert [1] * 40 + [2] * 40 == told


async def test_new_process_has_half_of_the_slots(bench: Bench) -> None:
    """They belong to no lane: it is not known what an earlier process did with them."""
    limiter: Any = bench.limiter(SMALL, idle=False)

    assert 20 == len(await take(limiter, 41))
    assert [20, 0, 0, 0, 0] == [limiter.held()[lane] for lane in Lane]


async def test_refusal_slows_machines_once_in_a_minute(bench: Bench) -> None:
    """However many refusals come; the hook is told once."""
    reported: list[Slowed] = []
    limiter = bench.limiter(SMALL, on_slowed=reported.append)
    await take(limiter, 10)
    for second in (0.0, 30.0, 59.0):
        await bench.set_clock(second)
        await limiter.throttled()
    assert [Slowed(taken=10, pace=7, limit=40)] == reported
    assert [] == await take(limiter, 1, Lane.RESOLVING)

    await bench.set_clock(61.0)
    await limiter.throttled()
    assert 2 == len(reported)


async def test_people_keep_half_however_slow_it_is(bench: Bench) -> None:
    """A refusal that nothing explains must not make payments fail."""
    limiter = bench.limiter(SMALL)
    await take_slowly(bench, limiter, 10, Lane.BATCH)
    await limiter.throttled()

    assert 20 == len(await take(limiter, 41))

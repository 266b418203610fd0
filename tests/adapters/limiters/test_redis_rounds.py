"""What becomes of callers and reports when the Redis of the quota fails, and when it is back."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import Final, cast

import pytest
import redis

from tests.adapters.limiters.redis_asking import deliver
from tests.support.limiters import SetClock, take
from tests.support.servers import Server, open_redis
from tests.support.tasks import wait_until
from wxpay_async.adapters.limiters.limiter import Lane, Quota
from wxpay_async.adapters.limiters.redis import RedisLimiter
from wxpay_async.adapters.redis_clients import Command, RedisLink
from wxpay_async.errors import NotSentError, QuotaExhaustedError

Make = Callable[..., RedisLimiter]

_LARGE: Final = Quota(limit=400)


@pytest.fixture(scope="module")
def server() -> Iterator[Server]:
    """Run a Redis that the tests of this file may hold, stop and change."""
    with open_redis() as opened:
        yield opened


def open_limiter(server: Server, quota: Quota = _LARGE) -> RedisLimiter:
    """Make a limiter of an appKey that no other test uses."""
    url = f"redis://127.0.0.1:{server.port}/0"
    return RedisLimiter(url, uuid.uuid4().hex, quota=quota, idle=True)


@contextlib.contextmanager
def held(server: Server) -> Iterator[None]:
    """Let Redis hang: it takes connections and answers nothing."""
    server.hold()
    try:
        yield
    finally:
        server.go_on()


def seconds_left(server: Server, limiter: RedisLimiter) -> list[float]:
    """Return for how long the slots of people are taken yet."""
    with redis.Redis(port=server.port) as client:
        seconds, micros = client.time()
        slots = client.zrange(limiter._keys[0], 0, -1, withscores=True)
    return [score / 1e6 - seconds - micros / 1e6 for _, score in slots]


async def hear(limiter: RedisLimiter, lane: Lane) -> str:
    """Wait for a slot for a minute; return what the caller is told."""
    try:
        await limiter.acquire(lane, timeout=60)
    except QuotaExhaustedError:
        return "no slot"
    except NotSentError as error:
        return str(error)
    return "a slot"


# Callers


async def test_outage_is_told_to_all_who_wait(server: Server) -> None:
    """No caller learns only when its time is over, or that the quota were used up."""
    limiter = open_limiter(server)
    await limiter.acquire(Lane.PEOPLE, timeout=30)
    with held(server):
        callers = [hear(limiter, lane) for lane in Lane for _ in range(10)]
        told = set(await asyncio.gather(*callers))
    await limiter.aclose()

    cause = f"{limiter.url} does not answer"
    assert {f"the Redis of the quota fails (TimeoutError): {cause}"} == told


@pytest.mark.slow
async def test_outage_is_told_to_those_who_stand_in_line(server: Server) -> None:
    """Redis had refused them, and they would have waited for most of a minute."""
    limiter = open_limiter(server, quota=Quota(limit=1, period=20.0, margin=0.0, lease=1.0))
    await (await limiter.acquire(Lane.PEOPLE, timeout=30)).answered()
    room = (await limiter._sessions.get()).room
    callers = [asyncio.create_task(hear(limiter, Lane.PEOPLE)) for _ in range(2)]
    await wait_until(lambda: room.staying >= 2, pause=0.01)
    with held(server):
        told = set(await asyncio.gather(*callers))
    await limiter.aclose()

    cause = f"{limiter.url} does not answer"
    assert {f"the Redis of the quota fails (TimeoutError): {cause}"} == told


async def test_redis_that_is_back_is_asked_at_once(server: Server) -> None:
    """No pause follows an outage, and no connection of before is in the way."""
    limiter = open_limiter(server)
    with held(server), pytest.raises(NotSentError):
        await limiter.acquire(Lane.PEOPLE, timeout=30)
    slot = await limiter.acquire_now(Lane.PEOPLE)
    await limiter.aclose()

    assert slot is not None


async def test_redis_that_restarts_costs_no_call(server: Server) -> None:
    """It forgot its scripts and its connections."""
    limiter = open_limiter(server)
    await limiter.acquire(Lane.PEOPLE, timeout=30)
    server.stop()
    caller = asyncio.create_task(limiter.acquire(Lane.PEOPLE, timeout=30))
    await asyncio.sleep(0)
    await asyncio.to_thread(server.start)

    assert await caller is not None
    await limiter.aclose()


async def test_killed_connections_cost_neither_calls_nor_reports(server: Server) -> None:
    """Each slot is held for its minute, and not for its lease."""
    limiter = open_limiter(server)
    with redis.Redis(port=server.port) as client:
        for _ in range(20):
            slots = await asyncio.gather(
                *(limiter.acquire(Lane.PEOPLE, timeout=30) for _ in range(5))
            )
            client.client_kill_filter(_type="normal", skipme=True)
            for slot in slots:
                await slot.answered()
    await limiter.aclose()

    left = seconds_left(server, limiter)
    assert 100 == len(left)
    assert max(left) < 61.0


async def test_server_that_only_reads_is_told_as_an_outage(server: Server) -> None:
    """A master that became a replica counts nothing; its connection is not used again."""
    limiter = open_limiter(server)
    await limiter.acquire(Lane.PEOPLE, timeout=30)
    with redis.Redis(port=server.port) as client:
        client.slaveof("127.0.0.1", "1")
        try:
            with pytest.raises(NotSentError, match="the Redis of the quota"):
                await limiter.acquire(Lane.PEOPLE, timeout=30)
        finally:
            client.slaveof()

    assert await limiter.acquire_now(Lane.PEOPLE) is not None
    await limiter.aclose()


# Reports


async def test_three_hundred_answers_at_once_are_all_reported(server: Server) -> None:
    """More than a pool has connections; each slot is held for its minute."""
    limiter = open_limiter(server)
    calls = (limiter.acquire(Lane.PEOPLE, timeout=30) for _ in range(300))
    slots = await asyncio.gather(*calls)
    await asyncio.gather(*(slot.answered() for slot in slots))
    await limiter.aclose()

    left = seconds_left(server, limiter)
    assert 300 == len(left)
    assert max(left) < 61.0


@pytest.mark.slow
@pytest.mark.parametrize(("report", "slots"), [("answered", 10), ("doubtful", 10), ("unsent", 0)])
async def test_reports_of_an_outage_follow_by_themselves(
    server: Server, report: str, slots: int
) -> None:
    """They are sent again until Redis has them, without a caller."""
    limiter = open_limiter(server)
    for slot in await take(limiter, 10):
        await getattr(slot, report)()
    rounds = (await limiter._sessions.get()).rounds
    with held(server):
        assert not await rounds._round()
    await wait_until(lambda: not rounds._reports, pause=0.01)
    left = seconds_left(server, limiter)
    await limiter.aclose()

    assert slots == len(left)
    assert all(each < 77.0 for each in left)


async def test_late_report_does_not_hold_the_slot_for_longer(make: Make, app_key: str) -> None:
    """What Redis hears after an outage counts from the call's end, as nearly as can be told."""
    del app_key
    limiter = make(1)
    (slot,) = await take(limiter, 1)
    await slot.answered()
    rounds = (await limiter._sessions.get()).rounds
    (report,) = rounds._reports.values()

    assert 60_250_000 == report.micros(report.at)
    assert 20_250_000 == report.micros(report.at + 40.0)
    assert report.micros(report.at + 61.0) < 0


async def test_report_is_dropped_when_its_lease_is_over(make: Make) -> None:
    """In an outage of days memory stays bounded: those slots are free anyway."""
    limiter = make(3)
    slots = await take(limiter, 3)
    rounds = (await limiter._sessions.get()).rounds
    for slot in slots:
        await slot.answered()
    (first, *_) = rounds._reports.values()

    assert 3 == len(rounds._take_reports(first.at + 150.0))
    assert {} == rounds._take_reports(first.at + 160.0)


async def test_reports_reach_redis_before_the_limiter_is_closed(make: Make) -> None:
    """Also that of a call which ended a moment ago."""
    limiter = make(1)
    (slot,) = await take(limiter, 1)
    await slot.unsent()
    await limiter.aclose()

    assert 1 == len(await take(make(1), 1))


def test_reports_reach_redis_when_the_loop_ends(server: Server) -> None:
    """The limiter was not closed."""
    limiter = open_limiter(server)

    async def main() -> None:
        for slot in await take(limiter, 20):
            await slot.answered()

    asyncio.run(main())

    left = seconds_left(server, limiter)
    assert 20 == len(left)
    assert max(left) < 61.0


async def test_caller_sees_the_reports_before_it(make: Make, set_clock: SetClock) -> None:
    """However many they are: no caller asks before all are reported."""
    del set_clock
    limiter = make(600)
    calls = (limiter.acquire(Lane.PEOPLE, timeout=30) for _ in range(600))
    for slot in await asyncio.gather(*calls):
        await slot.unsent()
    calls = (limiter.acquire(Lane.PEOPLE, timeout=30) for _ in range(600))

    assert 600 == len(await asyncio.gather(*calls))


async def test_closed_limiter_sends_off_who_waits(make: Make) -> None:
    """No round would ask for them any more; nothing was sent, so their call may be repeated."""
    limiter = make(quota=Quota(limit=1, period=20.0, margin=0.0, lease=1.0))
    await (await limiter.acquire(Lane.PEOPLE, timeout=30)).answered()
    room = (await limiter._sessions.get()).room
    caller = asyncio.create_task(hear(limiter, Lane.PEOPLE))
    await wait_until(lambda: room.staying, pause=0.01)
    await limiter.aclose()

    assert "the quota was closed while the call waited for a slot" == await caller


# Answers that are lost


async def lose_answer(limiter: RedisLimiter) -> None:
    """Let Redis do what the next round says, and lose its answer."""
    session = await limiter._sessions.get()
    link = session.link

    async def call(command: Command) -> object:
        session.rounds.link = link
        await link.call(command)
        raise redis.ConnectionError

    session.rounds.link = cast("RedisLink", SimpleNamespace(call=call))


async def test_slot_whose_answer_was_lost_is_released(make: Make, set_clock: SetClock) -> None:
    """Redis gave it to a caller that does not know of it."""
    del set_clock
    limiter = make(1)
    await lose_answer(limiter)
    with pytest.raises(NotSentError, match="the Redis of the quota"):
        await limiter.acquire(Lane.PEOPLE, timeout=30)
    await deliver(limiter)

    assert 1 == len(await take(make(1), 2))


async def test_report_whose_answer_was_lost_comes_twice(make: Make, set_clock: SetClock) -> None:
    """That changes nothing."""
    limiter = make(2)
    first, second = await take(limiter, 2)
    await first.answered()
    await second.unsent()
    await lose_answer(limiter)
    await deliver(limiter)
    await deliver(limiter)

    assert 1 == len(await take(make(2), 2))
    await set_clock(60.25)
    assert 1 == len(await take(make(2), 2))


async def test_round_that_comes_twice_takes_each_slot_once(make: Make, set_clock: SetClock) -> None:
    """A link repeats what got no answer in time: the member has its slot already."""
    del set_clock
    limiter = make(3)
    link = (await limiter._sessions.get()).link

    async def call(command: Command) -> object:
        await link.call(command)
        return await link.call(command)

    rounds = (await limiter._sessions.get()).rounds
    rounds.link = cast("RedisLink", SimpleNamespace(call=call))

    assert 3 == len(await take(limiter, 5))
    assert {Lane.PEOPLE: 3} == {lane: held for lane, held in limiter.held().items() if held}

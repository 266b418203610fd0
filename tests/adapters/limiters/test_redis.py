"""Callers that wait for the quota of many processes, and what Redis may do to them."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator
from types import SimpleNamespace
from typing import cast

import attrs
import pytest

from tests.adapters.limiters.redis_asking import ask, deliver
from tests.support.limiters import SetClock, take
from tests.support.services import REDIS, require
from tests.support.tasks import wait_until
from wxpay_async.adapters.limiters.limiter import Lane, Quota
from wxpay_async.errors import InvalidRequestError, NotSentError, QuotaExhaustedError

pytest.importorskip("redis.asyncio", reason="redis-py is not installed")

from wxpay_async.adapters.limiters import redis as limits, redis_waiting as waiting_room
from wxpay_async.adapters.limiters.redis import RedisLimiter
from wxpay_async.adapters.limiters.redis_scripts import PLACES
from wxpay_async.adapters.redis_clients import Command, RedisLink

DEAD_URL = "redis://user:hidden-password@127.0.0.1:1/0"
Make = Callable[..., RedisLimiter]


@pytest.fixture
def _eager(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Let waiters ask again at once: the clock that they wait for is the test's."""
    for module in (limits, waiting_room):
        monkeypatch.setattr(module, "POLL", 0.005)


async def stands_in_line(limiter: RedisLimiter, lane: Lane) -> None:
    """Wait until a caller of the lane has asked twice: it was not refused, and waits."""
    session = await limiter._sessions.get()
    field = f"{PLACES[lane]}:{session.room.name}"
    await wait_until(lambda: session.link.client.hexists(limiter._keys[-1], field), pause=0.001)


async def hold_round(limiter: RedisLimiter) -> tuple[asyncio.Event, asyncio.Event]:
    """Hold the next round back; return what tells that it begins, and what lets it go."""
    asked, gone = asyncio.Event(), asyncio.Event()
    link = (await limiter._sessions.get()).link
    real = link.call

    async def call(command: Command) -> object:
        asked.set()
        await gone.wait()
        return await real(command)

    (await limiter._sessions.get()).rounds.link = cast("RedisLink", SimpleNamespace(call=call))
    return asked, gone


@pytest.mark.usefixtures("_eager")
class TestWaiting:
    """Which callers wait, and for whom."""

    async def test_first_come_first_served(self, make: Make, set_clock: SetClock) -> None:
        """Within a process and a lane no caller overtakes another."""
        limiter, order = make(3), []
        for slot in await take(limiter, 3):
            await slot.answered()
        await deliver(limiter)

        async def wait(name: str) -> None:
            await limiter.acquire(Lane.PEOPLE, timeout=300)
            order.append(name)

        tasks = []
        for name in "abc":
            tasks.append(asyncio.create_task(wait(name)))
            await asyncio.sleep(0)
        await set_clock(60.25)
        await asyncio.gather(*tasks)

        assert list("abc") == order

    @pytest.mark.parametrize(
        ("sooner", "later"),
        [
            (Lane.PEOPLE, Lane.RESOLVING),
            (Lane.PEOPLE, Lane.UNVERIFIED),
            (Lane.RESOLVING, Lane.BATCH),
            (Lane.POLLING, Lane.BATCH),
        ],
    )
    async def test_later_lane_lets_the_waiter_of_another_process_go_first(
        self, make: Make, set_clock: SetClock, sooner: Lane, later: Lane
    ) -> None:
        """While a caller of an earlier lane waits in any process, a later one gets no slot."""
        web, batch = make(20), make(20)
        first, second, *_ = await take(web, 20)
        assert not await ask(web, sooner, stay=True)
        await first.unsent()
        await deliver(web)

        assert not await ask(batch, later)
        assert await ask(web, sooner), "and with it the line is empty"
        await second.unsent()
        await deliver(web)
        await set_clock(6.1)  # beside so many people machines start at half their pace
        assert await ask(batch, later)

    @pytest.mark.usefixtures("set_clock")
    async def test_earlier_lane_does_not_let_later_ones_go_first(self, make: Make) -> None:
        """A person overtakes a batch that waits in another process."""
        web, batch = make(20), make(20)
        first, *_ = await take(web, 20)
        assert not await ask(batch, Lane.BATCH, stay=True)
        await first.unsent()
        await deliver(web)

        assert await ask(web, Lane.PEOPLE)

    async def test_lane_that_waits_for_its_pace_keeps_nobody(
        self, make: Make, set_clock: SetClock
    ) -> None:
        """Doubts go first, but while their pace holds them the free slots are for the others."""
        web, batch = make(20), make(20)
        await take(web, 1, Lane.RESOLVING)
        await set_clock(5.0)
        assert not await ask(web, Lane.RESOLVING, stay=True)

        assert await ask(batch, Lane.BATCH)

    async def test_lane_that_waits_for_the_pace_of_all_machines_goes_first(
        self, make: Make, set_clock: SetClock
    ) -> None:
        """A doubt and a batch wait for the same moment, in two processes: it is the doubt's."""
        web, batch = make(20), make(20)
        await take(web, 1, Lane.POLLING)
        await set_clock(60 / 19 - 0.01)
        assert not await ask(web, Lane.RESOLVING, stay=True)
        await set_clock(60 / 19 + 1e-5)

        assert not await ask(batch, Lane.BATCH)
        assert await ask(web, Lane.RESOLVING)

    @pytest.mark.parametrize(
        ("sooner", "later"), [(Lane.BATCH, Lane.UNVERIFIED), (Lane.RESOLVING, Lane.BATCH)]
    )
    async def test_lane_whose_pace_opens_goes_first(
        self, make: Make, set_clock: SetClock, sooner: Lane, later: Lane
    ) -> None:
        """Also in the moment of the opening, before its waiter in another process asks again."""
        web, batch = make(20), make(20)
        opens = web.quota.interval(sooner, 20)
        await take(web, 1, sooner)
        await set_clock(opens - 0.01)
        assert not await ask(web, sooner, stay=True)
        await set_clock(opens + 1e-5)

        assert not await ask(batch, later)
        assert await ask(web, sooner)

    async def test_waiter_that_left_is_forgotten(self, make: Make, set_clock: SetClock) -> None:
        """A batch waits for one poll and 50 ms at most for a waiter that is gone."""
        web, batch = make(1), make(1)
        (slot,) = await take(web, 1)
        assert not await ask(web, Lane.PEOPLE, stay=True)
        await slot.unsent()
        await deliver(web)
        assert not await ask(batch, Lane.BATCH)

        await set_clock(limits.POLL + 0.051)
        assert await ask(batch, Lane.BATCH)

    @pytest.mark.usefixtures("set_clock")
    async def test_unsent_call_of_another_process_is_noticed(self, make: Make) -> None:
        """A waiter asks again before the time that Redis named."""
        first, second = make(1), make(1)
        (slot,) = await take(first, 1)
        waiting = asyncio.create_task(second.acquire(Lane.PEOPLE, timeout=300))
        await stands_in_line(second, Lane.PEOPLE)
        await slot.unsent()

        assert await waiting is not None

    async def test_waiter_is_served_by_the_clock_of_redis(self, make: Make) -> None:
        """With the unchanged scripts a waiter gets its slot when the window is over."""
        limiter = make(quota=Quota(limit=1, period=0.05, margin=0.0, lease=5.0))
        await (await limiter.acquire(Lane.PEOPLE, timeout=30)).answered()

        assert await limiter.acquire(Lane.PEOPLE, timeout=30) is not None


class TestOverload:
    """What cannot have a slot in time is told at once."""

    @pytest.mark.usefixtures("set_clock")
    async def test_hopeless_caller_is_refused_at_once(self, make: Make) -> None:
        """The error names quota, lane, timeout and slots, and tells when to come back."""
        limiter = make(3)
        for slot in await take(limiter, 3):
            await slot.answered()
        reason = r"3 calls in 60 s.*people within 30 s; 3 are taken"
        with pytest.raises(QuotaExhaustedError, match=reason) as caught:
            await limiter.acquire(Lane.PEOPLE, timeout=30)

        assert pytest.approx(60.25, abs=5.0) == caught.value.retry_after

    @pytest.mark.usefixtures("set_clock", "_eager")
    async def test_caller_behind_others_is_refused_at_once(self, make: Make) -> None:
        """It is told from what the first of the line heard; no caller in the line is overtaken."""
        limiter = make(2)
        slots = await take(limiter, 2)
        for slot in slots:
            await slot.answered()
        waiting = [asyncio.create_task(limiter.acquire(Lane.PEOPLE, timeout=90)) for _ in range(2)]
        await stands_in_line(limiter, Lane.PEOPLE)
        with pytest.raises(QuotaExhaustedError) as caught:
            await limiter.acquire(Lane.PEOPLE, timeout=90)

        assert pytest.approx(120.5, abs=5.0) == caught.value.retry_after
        assert not any(task.done() for task in waiting)
        for task in waiting:
            task.cancel()

    @pytest.mark.usefixtures("set_clock")
    async def test_what_was_seen_long_ago_refuses_nobody(self, make: Make) -> None:
        """The line of a lane has only just formed, and what was seen is of an hour ago."""
        limiter = make(1)
        await take(limiter, 1)
        assert not await ask(limiter, Lane.BATCH)
        room = (await limiter._sessions.get()).room
        room.join(Lane.BATCH, 300.0)
        room._lines[Lane.BATCH].staying = 1
        with pytest.raises(QuotaExhaustedError):
            room.join(Lane.BATCH, 5.0)
        room.sight = attrs.evolve(room.sight, at=room.sight.at - 3600.0)

        assert room.join(Lane.BATCH, 5.0).stays

    @pytest.mark.usefixtures("set_clock")
    async def test_waiters_of_other_processes_are_foreseen(self, make: Make) -> None:
        """A caller knows who waits elsewhere in its lane and in those before it."""
        web, other, slots = make(2), make(2), []
        slots = await take(web, 2)
        for slot in slots:
            await slot.answered()
        await deliver(web)
        assert not await ask(other, Lane.PEOPLE, stay=True)
        assert not await ask(other, Lane.BATCH, stay=True)
        with pytest.raises(QuotaExhaustedError) as behind_one:
            await web.acquire(Lane.PEOPLE, timeout=5)
        with pytest.raises(QuotaExhaustedError) as behind_two:
            await web.acquire(Lane.UNVERIFIED, timeout=5)

        assert pytest.approx(60.25, abs=5.0) == behind_one.value.retry_after
        assert behind_two.value.retry_after > 115.0

    @pytest.mark.usefixtures("set_clock")
    async def test_crowd_is_told_its_turns(self, make: Make) -> None:
        """Of 30 who come at once 10 go, and the others are told different minutes."""
        limiter, told = make(10), []

        async def tap() -> None:
            try:
                await (await limiter.acquire(Lane.PEOPLE, timeout=30)).answered()
            except QuotaExhaustedError as error:
                told.append(round(error.retry_after / 60.25))

        await asyncio.gather(*(tap() for _ in range(30)))

        assert [1] * 10 + [2] * 10 == sorted(told)

    @pytest.mark.usefixtures("set_clock", "_eager")
    async def test_one_caller_too_many_is_refused_at_once(self, make: Make) -> None:
        """Memory stays bounded: beyond the most that may wait, the answer is the same error."""
        limiter = make(1, max_waiting=2)
        await take(limiter, 1)
        waiting = [asyncio.create_task(limiter.acquire(Lane.PEOPLE, timeout=900)) for _ in range(2)]
        await stands_in_line(limiter, Lane.PEOPLE)
        for lane in (Lane.PEOPLE, Lane.BATCH):
            with pytest.raises(QuotaExhaustedError, match="2 callers wait"):
                await limiter.acquire(lane, timeout=900)
        for task in waiting:
            task.cancel()

    @pytest.mark.usefixtures("set_clock", "_eager")
    async def test_time_that_runs_out_in_line_is_told(self, make: Make) -> None:
        """A forecast that did not come true ends like one that said no."""
        limiter = make(quota=Quota(limit=1, period=0.01, margin=0.0))
        await take(limiter, 1)
        with pytest.raises(QuotaExhaustedError, match=r"within 0\.2 s; 1 are taken"):
            await limiter.acquire(Lane.PEOPLE, timeout=0.2)

    async def test_time_that_runs_out_before_an_answer_is_told(self, make: Make) -> None:
        """Nothing is known of the log yet."""
        limiter = make(1)
        with pytest.raises(QuotaExhaustedError) as caught:
            await limiter.acquire(Lane.PEOPLE, timeout=0)

        assert 0.0 == caught.value.retry_after


class TestCancellation:
    """A caller that is cancelled keeps no slot."""

    @pytest.mark.usefixtures("set_clock")
    async def test_caller_cancelled_while_redis_decides_releases_the_slot(self, make: Make) -> None:
        """A slot that is granted after the cancellation is released before the limiter closes."""
        limiter = make(1)
        asked, gone = await hold_round(limiter)
        caller = asyncio.create_task(limiter.acquire(Lane.BATCH, timeout=30))
        await asked.wait()
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        gone.set()
        await limiter.aclose()

        assert 1 == len(await take(make(1), 1))

    @pytest.mark.usefixtures("set_clock")
    async def test_slot_that_comes_with_the_cancellation_is_released(self, make: Make) -> None:
        """The caller never ran again to take it."""
        limiter = make(1)
        room = (await limiter._sessions.get()).room
        caller = asyncio.create_task(limiter.acquire(Lane.PEOPLE, timeout=30))
        await wait_until(lambda: room.count.taken)
        caller.cancel()
        with pytest.raises(asyncio.CancelledError):
            await caller
        await limiter.aclose()

        assert 1 == len(await take(make(1), 1))

    @pytest.mark.usefixtures("set_clock")
    async def test_slot_on_its_way_is_given_a_moment_late(self, make: Make) -> None:
        """The caller's time is over while Redis decides; its slot is not wasted."""
        limiter = make(1)
        asked, gone = await hold_round(limiter)
        caller = asyncio.create_task(limiter.acquire(Lane.PEOPLE, timeout=0.001))
        await asked.wait()
        await asyncio.sleep(0.01)
        gone.set()

        assert await caller is not None

    @pytest.mark.usefixtures("set_clock")
    async def test_slot_that_comes_too_late_is_released(
        self, make: Make, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The caller does not wait for it any longer, and the next one gets it."""
        monkeypatch.setattr(limits, "_ON_THE_WAY", 0.001)
        limiter = make(1)
        _, gone = await hold_round(limiter)
        with pytest.raises(QuotaExhaustedError):
            await limiter.acquire(Lane.PEOPLE, timeout=0.001)
        gone.set()

        assert await limiter.acquire(Lane.PEOPLE, timeout=30) is not None

    @pytest.mark.usefixtures("set_clock", "_eager")
    async def test_cancelled_first_waiter_does_not_block_its_lane(self, make: Make) -> None:
        """The next waiter asks Redis instead."""
        limiter = make(1)
        (slot,) = await take(limiter, 1)
        head = asyncio.create_task(limiter.acquire(Lane.PEOPLE, timeout=300))
        await stands_in_line(limiter, Lane.PEOPLE)
        behind = asyncio.create_task(limiter.acquire(Lane.PEOPLE, timeout=300))
        await asyncio.sleep(0)
        head.cancel()
        await slot.unsent()

        assert await behind is not None


class TestUnreachable:
    """Without Redis no call goes, and nothing else breaks."""

    async def test_unreachable_redis_refuses_the_call(self) -> None:
        """The call is refused; the error names the address and the cause, and not the login."""
        limiter = RedisLimiter(DEAD_URL, "key")
        said = r"at redis://127\.0\.0\.1:1/0 fails \(ConnectionError\): .*Connect call failed"
        with pytest.raises(NotSentError, match=rf"^the Redis of the quota {said}") as caught:
            await limiter.acquire(Lane.PEOPLE, timeout=30)
        await limiter.aclose()

        assert "hidden" not in f"{caught.value} {caught.value.__cause__} {limiter!r}"

    async def test_reports_never_raise(self, make: Make) -> None:
        """A payment does not fail because its slot could not be given back."""
        limiter = make(1)
        answered = await limiter.acquire(Lane.PEOPLE, timeout=30)
        await limiter.aclose()
        limiter.url = DEAD_URL
        await answered.answered()
        await limiter.throttled()

        session = await limiter._sessions.get()
        assert 1 == session.link.client.connection_pool.connection_kwargs["port"]
        await limiter.aclose()


def test_limiter_works_in_one_loop_after_another() -> None:
    """A limiter made outside a loop works in each loop, and again after it was closed."""
    require(REDIS)
    limiter = RedisLimiter(REDIS.url, f"test-{random.Random().random()}", quota=Quota(limit=6))

    held: list[int] = []

    async def main() -> None:
        for _ in range(2):
            slot = await limiter.acquire(Lane.PEOPLE, timeout=5)
            held.append(limiter.held()[Lane.PEOPLE])
            await slot.unsent()
            session = await limiter._sessions.get()
            await session.link.client.delete(*limiter._keys)
            await limiter.aclose()
            await limiter.aclose()

    asyncio.run(main())
    asyncio.run(main())

    assert [1] * 4 == held


def test_session_of_a_loop_that_ended_is_not_used_again() -> None:
    """Each loop has a session of its own, and closing in a third loop does no harm."""
    limiter = RedisLimiter(REDIS.url, "key")

    first = asyncio.run(limiter._sessions.get())
    second = asyncio.run(limiter._sessions.get())
    asyncio.run(limiter.aclose())

    assert first is not second


@pytest.mark.parametrize(
    "url", ["zzz", "http://host/0", "redis://", "redis://:s3cr3t@", "redis://s3cr3t@h:x/0"]
)
def test_invalid_address_is_refused_when_the_limiter_is_made(url: str) -> None:
    """It is not refused only at the first call, and the error does not repeat the address."""
    with pytest.raises(InvalidRequestError, match="redis://host:port/0") as caught:
        RedisLimiter(url, "k")

    assert "url" == caught.value.field
    assert "s3cr3t" not in str(caught.value)


def test_repr_shows_the_address_without_credentials() -> None:
    """The repr has the host and the database, but no user, password or parameter."""
    shown = repr(RedisLimiter("rediss://me:s3cr3t@host/3?password=s3cr3t", "k"))

    assert "rediss://host:6379/3" in shown
    assert "s3cr3t" not in shown

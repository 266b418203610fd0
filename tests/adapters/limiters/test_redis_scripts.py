"""The count of many processes, which Redis's scripts keep on a clock that the tests move."""

from __future__ import annotations

import random
from collections.abc import Callable

import pytest

from tests.adapters.limiters.redis_asking import deliver, wait_for_slot
from tests.support.limiters import SetClock, take
from tests.support.services import REDIS
from wxpay_async.adapters.limiters.limiter import Lane, Quota, Slowed
from wxpay_async.policy.quota import Lease, SlidingWindowLog, SlotOutcome

redis = pytest.importorskip("redis.asyncio", reason="redis-py is not installed")

from wxpay_async.adapters.limiters import redis_waiting  # noqa: E402 - only where redis-py is there
from wxpay_async.adapters.limiters.redis import RedisLimiter  # noqa: E402 - the same

Make = Callable[..., RedisLimiter]
LONG = Quota(limit=40, lease=9000.0)
"""A quota whose slots stay taken while a test fills them at their pace."""


@pytest.mark.usefixtures("set_clock")
class TestCounting:
    """One count for all."""

    async def test_processes_share_the_quota(self, make: Make) -> None:
        """Together they take 400 slots and no more."""
        first, second = make(), make()

        assert 250 == len(await take(first, 250))
        assert 150 == len(await take(second, 250))
        assert [] == await take(first, 1)

    async def test_in_use_is_what_all_processes_hold(self, make: Make, set_clock: SetClock) -> None:
        """The number is as of the last request for a slot; it costs no request of its own."""
        first, second = make(3), make(3)

        assert None is first.in_use
        await take(first, 2)
        await take(second, 1)
        assert (2, 3) == (first.in_use, second.in_use)
        await take(first, 1)
        assert 3 == first.in_use
        await set_clock(160.0)
        await take(second, 1)
        assert 1 == second.in_use

    @pytest.mark.parametrize(
        ("report", "held_for"), [("answered", 60.25), ("doubtful", 75.25), ("unsent", 0.0)]
    )
    async def test_slot_is_freed_to_the_microsecond_after_the_end(
        self, make: Make, set_clock: SetClock, report: str, held_for: float
    ) -> None:
        """The time counts from the report, to the microsecond, on Redis's clock."""
        limiter = make(1)
        (slot,) = await take(limiter, 1)
        await set_clock(7.0)
        await getattr(slot, report)()
        await slot.doubtful()  # a second report counts for nothing
        await deliver(limiter)

        if held_for:
            await set_clock(7.0 + held_for - 1e-6)
            assert [] == await take(limiter, 1)
        await set_clock(7.0 + held_for)
        assert 1 == len(await take(limiter, 1))

    async def test_killed_process_never_frees_early(self, make: Make, set_clock: SetClock) -> None:
        """Slots without a report stay taken for their whole lease, and come free then."""
        await take(make(2), 2)
        survivor = make(2)

        await set_clock(150.25 - 1e-6)
        assert [] == await take(survivor, 1)
        await set_clock(150.25)
        assert 2 == len(await take(survivor, 3))

    async def test_report_after_the_lease_takes_the_slot_again(
        self, make: Make, set_clock: SetClock
    ) -> None:
        """A call that outlasted its lease was really out, so it counts from its end."""
        limiter = make(1)
        (late,) = await take(limiter, 1)
        await set_clock(151.0)
        await late.answered()

        assert [] == await take(limiter, 1)

    async def test_machines_of_all_processes_leave_a_twentieth(
        self, make: Make, set_clock: SetClock
    ) -> None:
        """They hold 38 of 40 together; people get the other two."""
        first, second = make(quota=LONG), make(quota=LONG)
        taken = 0
        for number in range(40):
            await set_clock(20.0 * number)
            taken += len(await take((first, second)[number % 2], 1, Lane.BATCH))

        assert 38 == taken
        assert [] == await take(first, 1, Lane.RESOLVING)
        assert 2 == len(await take(second, 3))

    @pytest.mark.parametrize(("lane", "share"), [(Lane.POLLING, 10), (Lane.UNVERIFIED, 2)])
    async def test_lane_of_all_processes_holds_its_share(
        self, make: Make, set_clock: SetClock, lane: Lane, share: int
    ) -> None:
        """A quarter or a twentieth of 40, whatever the processes."""
        limiters, taken = [make(quota=LONG), make(quota=LONG)], 0
        for number in range(share + 3):
            await set_clock(100.0 * number)
            taken += len(await take(limiters[number % 2], 1, lane))

        assert share == taken
        assert share == limiters[0].held()[lane]

    async def test_pace_holds_across_processes(self, make: Make, set_clock: SetClock) -> None:
        """Two processes together start their batches one interval apart, to the microsecond."""
        first, second = make(20), make(20)
        interval = 60.0 / 19

        assert 1 == len(await take(first, 1, Lane.BATCH))
        assert [] == await take(second, 1, Lane.BATCH)
        await set_clock(interval - 1e-6)
        assert [] == await take(second, 1, Lane.BATCH)
        await set_clock(interval + 1e-6)
        assert 1 == len(await take(second, 1, Lane.BATCH))
        assert [] == await take(first, 1, Lane.BATCH)

    async def test_held_is_known_from_the_last_answer(self, make: Make) -> None:
        """The slots by lane of all processes, for a gauge."""
        first, second = make(), make()
        assert {0} == set(second.held().values())
        await take(first, 3)
        await take(second, 1, Lane.RESOLVING)

        assert [3, 1, 0, 0, 0] == [second.held()[lane] for lane in Lane]

    async def test_lost_log_is_a_restart(self, make: Make, set_clock: SetClock) -> None:
        """Where Redis knows nothing of the appKey half of the slots count as taken."""
        limiter = make(10, idle=False)

        assert 5 == len(await take(limiter, 10))
        await set_clock(60.25)
        assert 5 == len(await take(make(10, idle=False), 10))

    async def test_known_log_is_no_restart(self, make: Make) -> None:
        """A process that joins the others finds the true count."""
        await take(make(10, idle=True), 1)

        assert 9 == len(await take(make(10, idle=False), 10))

    async def test_keys_do_not_pile_up(self, make: Make, app_key: str) -> None:
        """The slots expire with the last lease; one small hash for the appKey stays."""
        limiter = make(10)
        for lane in (Lane.PEOPLE, Lane.BATCH):
            await take(limiter, 1, lane)
        async with redis.Redis.from_url(REDIS.url) as client:
            lives = {
                name: await client.ttl(f"wxpay:quota:{{{app_key}}}:{name}")
                for name in ("people", "batch", "state")
            }

        assert 0 < lives["people"] <= 151
        assert 0 < lives["batch"] <= 151
        assert -1 == lives["state"]


@pytest.mark.usefixtures("set_clock")
class TestThrottled:
    """What happens after CO_MSG_000007."""

    async def test_all_processes_slow_down(self, make: Make, set_clock: SetClock) -> None:
        """One is refused; all pause until the calls that are out have shrunk to 70 %."""
        reported: list[Slowed] = []
        first, second = make(on_slowed=reported.append), make()
        slots = await take(first, 10)
        for slot in slots[:4]:
            await slot.answered()
        await deliver(first)
        await first.throttled()
        await first.throttled()

        assert [Slowed(taken=10, pace=7, limit=400)] == reported
        assert [] == await take(second, 1, Lane.RESOLVING)
        await set_clock(59.9)
        assert [] == await take(second, 1, Lane.RESOLVING)
        await set_clock(60.0)
        assert 1 == len(await take(second, 1, Lane.RESOLVING)), "a minute gave 20 more"
        assert 190 == len(await take(second, 300)), "people keep half of the quota"

    async def test_it_slows_once_in_a_minute(self, make: Make, set_clock: SetClock) -> None:
        """However many refusals come, and in whatever process."""
        reported: list[Slowed] = []
        first, second = make(on_slowed=reported.append), make(on_slowed=reported.append)
        await take(first, 100)
        for second_of in (0.0, 30.0, 59.999999):
            await set_clock(second_of)
            await first.throttled()
            await second.throttled()
        assert [70] == [slowed.pace for slowed in reported]
        await set_clock(60.0)
        await second.throttled()

        assert [70, 63] == [slowed.pace for slowed in reported]

    async def test_refusal_without_a_hook_slows_down_too(self, make: Make) -> None:
        """The hook is optional, the pause is not."""
        limiter = make()
        await take(limiter, 2)
        await limiter.throttled()

        assert [] == await take(limiter, 1, Lane.BATCH)


async def test_scripts_decide_like_the_sliding_window_log(make: Make, set_clock: SetClock) -> None:
    """Over a thousand random steps the scripts and `policy/quota.py` never differ."""
    dice, now = random.Random(20), 0.0
    quota = Quota(limit=20, batch=15, period=10.0, margin=0.25, doubt=4.0, lease=5.0)
    reported: list[Slowed] = []
    limiter, log = make(quota=quota, on_slowed=reported.append), SlidingWindowLog(quota)
    session, slots, slowed = await limiter._sessions.get(), [], []
    for step in range(1000):
        now += dice.choice([0.0, 0.0, 0.25, 0.5, 1.0, 30.0 * (step % 50 == 0)])
        await set_clock(now)
        kind = dice.choice(["take", "take", "take", "end", "throttled"])
        if kind == "take":
            lane, member = dice.choice(list(Lane)), f"member {step}"
            wait = await wait_for_slot(limiter, lane, member=member)
            lease = log.take(lane, now)
            assert (lease is None) == (wait > 0), f"{lane} at {now}"
            if lease is None:
                expected = log.next_change(now, [lane]) - now
                assert pytest.approx(expected, abs=2e-6) == wait / 1e6
                _compare(session.room.sight, log, now)
            assert log.held(now) == limiter.held()
            slots += [(lease, member)] if lease else []
        elif kind == "end" and slots:
            lease, member = slots.pop(dice.randrange(len(slots)))
            await _end_both(limiter, log, lease, member, dice.choice(list(SlotOutcome)), now)
        elif kind == "throttled" and step % 10 == 0:
            slowed += [event] if (event := log.slow_down(now)) else []
            await limiter.throttled()

    assert slowed == reported
    assert len(reported) > 3


def _compare(sight: redis_waiting._Sight, log: SlidingWindowLog, now: float) -> None:
    """Both foresee the same for callers of every lane, first in line or behind others."""
    for lane in Lane:
        for waiting in (0, 1, 7):
            before = dict.fromkeys(Lane, waiting)
            there = sight.outlook.foresee(lane, sight.at, before) - sight.at
            here = log.outlook(now).foresee(lane, now, before) - now
            assert pytest.approx(here, abs=1e-5) == there


async def _end_both(
    limiter: RedisLimiter,
    log: SlidingWindowLog,
    lease: Lease,
    member: str,
    outcome: SlotOutcome,
    now: float,
) -> None:
    times = {
        SlotOutcome.ANSWERED: log.quota.answered_for,
        SlotOutcome.DOUBTFUL: log.quota.doubtful_for,
        SlotOutcome.UNSENT: -1.0,
    }
    log.end(lease, outcome, now)
    await limiter._report(lease.lane, member, times[outcome])
    await deliver(limiter)

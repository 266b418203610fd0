"""The sliding window log, at every edge of its rules."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st

from tests.support.quota_logs import (
    LATER,
    LONG,
    MACHINES,
    TICK,
    end_all,
    full_log,
    take_evenly,
    take_many,
)
from wxpay_async.policy.lanes import Lane, Quota
from wxpay_async.policy.quota import SlidingWindowLog, SlotOutcome, Slowed


class TestTaking:
    """Which calls may go now."""

    def test_call_401_of_a_moment_is_refused(self) -> None:
        """The 401st call of a moment is refused."""
        log = SlidingWindowLog()

        assert 400 == len(take_many(log, 500, now=0.0))
        assert 400 == log.taken

    @pytest.mark.parametrize(
        ("outcome", "held_for"), [(SlotOutcome.ANSWERED, 60.25), (SlotOutcome.DOUBTFUL, 75.25)]
    )
    def test_slot_is_freed_by_the_time_of_the_end(
        self, outcome: SlotOutcome, held_for: float
    ) -> None:
        """The time counts from the end of the call, not from its start, to the microsecond."""
        log = SlidingWindowLog(Quota(limit=1))
        log.end(log.take(Lane.PEOPLE, 0.0), outcome, 7.0)

        assert log.take(Lane.PEOPLE, 7.0 + held_for - TICK) is None
        assert log.take(Lane.PEOPLE, 7.0 + held_for) is not None

    def test_unsent_call_gives_its_slot_back_at_once(self) -> None:
        """Proof that nothing was sent frees the slot in the same moment."""
        log = SlidingWindowLog(Quota(limit=1))
        log.end(log.take(Lane.PEOPLE, 0.0), SlotOutcome.UNSENT, 1.0)

        assert log.take(Lane.PEOPLE, 1.0) is not None

    def test_call_without_a_report_is_in_doubt_after_its_lease(self) -> None:
        """A slot whose caller vanished comes free after lease, doubt and period."""
        log = SlidingWindowLog(Quota(limit=1))
        log.take(Lane.PEOPLE, 0.0)

        assert log.take(Lane.PEOPLE, 150.25 - TICK) is None
        assert log.take(Lane.PEOPLE, 150.25) is not None

    def test_report_after_the_lease_takes_the_slot_again(self) -> None:
        """A call that outlasted its lease was really out, so it counts from its real end."""
        log = SlidingWindowLog(Quota(limit=2))
        late = log.take(Lane.PEOPLE, 0.0)
        log.take(Lane.PEOPLE, 151.0)
        log.end(late, SlotOutcome.ANSWERED, 155.0)

        assert log.take(Lane.PEOPLE, 155.0) is None
        assert log.take(Lane.PEOPLE, 215.25) is not None

    def test_unsent_report_after_the_lease_frees_nothing_twice(self) -> None:
        """A slot that is already free is not freed again."""
        log = SlidingWindowLog(Quota(limit=2))
        late = log.take(Lane.PEOPLE, 0.0)
        take_many(log, 2, now=151.0)
        log.end(late, SlotOutcome.UNSENT, 152.0)

        assert 2 == log.taken

    def test_later_end_replaces_the_earlier(self) -> None:
        """The expiry that an earlier report set is void."""
        log = SlidingWindowLog(Quota(limit=1))
        lease = log.take(Lane.PEOPLE, 0.0)
        log.end(lease, SlotOutcome.ANSWERED, 1.0)
        log.end(lease, SlotOutcome.DOUBTFUL, 1.0)

        assert log.take(Lane.PEOPLE, 61.25) is None
        assert log.take(Lane.PEOPLE, 76.25) is not None

    @pytest.mark.parametrize("lane", MACHINES)
    def test_each_lane_of_machines_holds_its_share(self, lane: Lane) -> None:
        """One slot more is refused, however long the lane has waited."""
        log = SlidingWindowLog(LONG)
        share = LONG.share(lane)

        assert share == len(take_evenly(log, share + 5, lane))
        assert share == log.held(0.0)[lane]
        assert share == log.taken

    @pytest.mark.parametrize("lane", MACHINES)
    def test_machines_together_leave_twenty_slots(self, lane: Lane) -> None:
        """All lanes of machines hold 380; the last 20 are for people."""
        log = SlidingWindowLog(LONG)
        taken = [
            take_evenly(log, LONG.limit, each, since=1000.0 * number)
            for number, each in enumerate(MACHINES)
        ]

        assert 380 == sum(map(len, taken)) == log.taken
        assert log.take(lane, LATER) is None
        assert 20 == len(take_many(log, 400, LATER))

    def test_people_may_take_every_slot(self) -> None:
        """People need no share: all 400 at once, beside machines what is left."""
        log = SlidingWindowLog()
        log.take(Lane.BATCH, 0.0)

        assert 399 == len(take_many(log, 500, 0.0))

    @pytest.mark.parametrize("lane", MACHINES)
    def test_machines_start_evenly(self, lane: Lane) -> None:
        """The next call of the lane goes one interval after the last, to the microsecond."""
        log = SlidingWindowLog()
        interval = log.quota.interval(lane, 400)
        assert log.take(lane, 5.0) is not None

        assert log.take(lane, 5.0 + interval - TICK) is None
        assert log.take(lane, 5.0 + interval) is not None

    def test_late_start_does_not_delay_the_next(self) -> None:
        """Each waits a moment for Redis or for the loop, and still 380 start in a minute."""
        log, interval, late = SlidingWindowLog(), 60 / 380, 0.1
        log.take(Lane.BATCH, 0.0)
        others = [log.take(Lane.BATCH, number * interval + late) for number in range(1, 380)]

        assert None not in others
        assert log.take(Lane.BATCH, 380 * interval - TICK) is None

    def test_pause_is_not_made_up_for(self) -> None:
        """After a pause the lane goes on at its pace: it never takes two slots at once."""
        log = SlidingWindowLog()
        log.take(Lane.BATCH, 0.0)

        assert 1 == len(take_many(log, 5, 30.0, Lane.BATCH))

    def test_machines_together_start_evenly(self) -> None:
        """Four lanes at their paces would fill the quota in 40 s, and shut it for 20."""
        log = SlidingWindowLog()
        assert log.take(Lane.POLLING, 0.0) is not None

        for lane in (Lane.RESOLVING, Lane.BATCH, Lane.UNVERIFIED):
            assert log.take(lane, 60 / 380 - TICK) is None
        assert log.take(Lane.UNVERIFIED, 60 / 380) is not None
        assert log.take(Lane.BATCH, 120 / 380 - TICK) is None

    def test_lanes_have_paces_of_their_own(self) -> None:
        """Where one lane waits for its pace, another goes at the pace of all machines."""
        log = SlidingWindowLog()
        lanes = (Lane.UNVERIFIED, Lane.RESOLVING, Lane.POLLING, Lane.BATCH)

        assert all(log.take(lane, number * 0.158) for number, lane in enumerate(lanes))

    def test_slot_given_back_does_not_quicken_the_pace(self) -> None:
        """In an outage a batch must not burn its lines: unsent calls have the same pace."""
        log = SlidingWindowLog()
        log.end(log.take(Lane.BATCH, 0.0), SlotOutcome.UNSENT, 0.0)

        assert log.take(Lane.BATCH, 0.1) is None

    def test_machines_slots_come_back_to_them(self) -> None:
        """The share counts the slots that a lane holds now, not all that it ever took."""
        log = SlidingWindowLog(LONG)
        first, *_ = take_evenly(log, 20, Lane.UNVERIFIED)
        log.end(first, SlotOutcome.UNSENT, LATER)

        assert 1 == len(take_evenly(log, 2, Lane.UNVERIFIED, since=LATER))

    def test_restart_has_half_of_the_slots(self) -> None:
        """The slots of an assumed earlier process are taken for 60.25 s."""
        log = SlidingWindowLog()
        log.assume_predecessor(0.0)

        assert 200 == len(take_many(log, 400, 0.0))
        assert {0, 200} == set(log.held(0.0).values()), "the others are no lane's"
        assert [] == take_many(log, 1, 60.25 - TICK)
        assert 200 == len(take_many(log, 400, 60.25))

    def test_storm_of_unsent_calls_needs_no_memory(self) -> None:
        """Calls that end unsent leave nothing in memory, however many they are."""
        log = SlidingWindowLog(Quota(limit=10))
        kept = log.take(Lane.PEOPLE, 0.0)
        for _ in range(10_000):
            log.end(log.take(Lane.PEOPLE, 0.0), SlotOutcome.UNSENT, 0.0)

        assert len(log._expiries) <= 4 * 10 + 16
        assert 1 == log.taken == log.in_use(0.0)
        assert 0 == SlidingWindowLog().in_use(0.0)
        log.end(kept, SlotOutcome.ANSWERED, 0.0)
        assert 60.25 == log.next_change(0.0)


class TestNextChange:
    """When it is worth asking again."""

    def test_empty_log_never_changes(self) -> None:
        """An empty log has nothing to wait for."""
        assert float("inf") == SlidingWindowLog().next_change(0.0)

    def test_earliest_slot_counts(self) -> None:
        """The earliest end decides, not the earliest start."""
        log = SlidingWindowLog()
        first, second = take_many(log, 2, 0.0)
        log.end(second, SlotOutcome.ANSWERED, 1.0)
        log.end(first, SlotOutcome.ANSWERED, 2.0)

        assert 61.25 == log.next_change(2.0)

    def test_released_slot_is_not_waited_for(self) -> None:
        """The lease of an unsent call is void."""
        log = SlidingWindowLog()
        log.end(log.take(Lane.PEOPLE, 0.0), SlotOutcome.UNSENT, 0.0)
        log.take(Lane.PEOPLE, 1.0)

        assert 151.25 == log.next_change(1.0)

    def test_pace_changes_each_minute(self) -> None:
        """While slowed, the next minute may come before the next free slot."""
        log = SlidingWindowLog()
        end_all(log, take_many(log, 10, 0.0), 30.0)
        log.slow_down(20.0)

        assert 80.0 == log.next_change(20.0)
        assert 90.25 == log.next_change(81.0)

    def test_pace_of_a_waiting_lane_counts(self) -> None:
        """A lane that waits for its pace is worth asking then; the pace of others is not."""
        log = SlidingWindowLog()
        log.take(Lane.UNVERIFIED, 0.0)
        log.take(Lane.POLLING, 0.25)

        assert 0.85 == log.next_change(0.25, [Lane.UNVERIFIED, Lane.POLLING])
        assert 3.0 == log.next_change(0.85, [Lane.UNVERIFIED, Lane.POLLING])
        assert pytest.approx(2 * 60 / 380) == log.next_change(0.25, [Lane.RESOLVING])
        assert 150.25 == log.next_change(0.25, [Lane.PEOPLE])


class TestThrottled:
    """What a refusal for too many calls means."""

    def test_refusal_at_the_full_quota_changes_nothing(self) -> None:
        """With all slots taken our own calls explain the refusal."""
        log = full_log()

        assert log.slow_down(1.0) is None
        assert 400 == log.capacity(1.0)

    def test_refusal_below_our_count_slows_to_seventy_percent(self) -> None:
        """Another program uses the key: no call goes until the calls out have shrunk to 70 %."""
        log = SlidingWindowLog()
        leases = take_many(log, 100, 0.0)
        end_all(log, leases[:30], 1.0)
        end_all(log, leases[30:], 2.0)

        assert Slowed(taken=100, pace=70, limit=400) == log.slow_down(2.0)
        assert log.take(Lane.BATCH, 61.25 - TICK) is None
        end_all(log, leases[30:31], 2.0)
        assert log.take(Lane.BATCH, 61.25) is None, "70 are still out"
        assert 70 + 20 == log.capacity(62.0)

    def test_refusals_of_calls_sent_before_change_nothing(self) -> None:
        """One rush that is refused 50 times slows once, not to nothing."""
        log = SlidingWindowLog()
        take_many(log, 100, 0.0)

        assert [70] + [None] * 50 == [
            slowed and slowed.pace for slowed in (log.slow_down(1.0) for _ in range(51))
        ]

    def test_refusal_at_the_reduced_pace_slows_further(self) -> None:
        """If 70 % is still too much, it is 70 % of that."""
        log = SlidingWindowLog()
        take_many(log, 100, 0.0)
        log.slow_down(0.0)
        take_many(log, 90, 160.0)

        assert Slowed(taken=90, pace=63, limit=400) == log.slow_down(160.0)

    def test_it_slows_once_in_a_minute(self) -> None:
        """However many refusals come: a rush that was out already says nothing new."""
        log = SlidingWindowLog()
        take_many(log, 100, 0.0)
        assert log.slow_down(0.0) is not None

        assert [log.slow_down(now) for now in (0.0, 30.0, 60.0 - TICK)] == [None] * 3
        assert Slowed(taken=100, pace=63, limit=400) == log.slow_down(60.0)

    def test_people_keep_half_of_the_quota(self) -> None:
        """Refusals for no reason slow machines down; people hold 200 whatever the pace is."""
        log = SlidingWindowLog(LONG)
        take_evenly(log, 100, Lane.BATCH)
        for minute in range(5):
            log.slow_down(LATER + 60.0 * minute)

        assert log.capacity(LATER + 240.0) < 70
        assert log.take(Lane.RESOLVING, LATER + 240.0) is None
        assert 200 == len(take_many(log, 400, LATER + 240.0))

    def test_people_who_keep_half_never_exceed_the_quota(self) -> None:
        """Beside machines that hold 380, people get the 20 that are left."""
        log = SlidingWindowLog(LONG)
        take_evenly(log, 380, Lane.BATCH)
        log.slow_down(LATER)

        assert 20 == len(take_many(log, 400, LATER))
        assert 400 == log.taken

    def test_pace_recovers_by_five_percent_a_minute(self) -> None:
        """Twenty calls more each minute, up to the limit and no further."""
        log = SlidingWindowLog()
        take_many(log, 399, 0.0)
        log.slow_down(0.0)

        assert [279, 279, 299, 399, 400, 400] == [
            log.capacity(now) for now in (0.0, 59.9, 60.0, 360.0, 420.0, 421.0)
        ]

    def test_pace_never_falls_below_one_call(self) -> None:
        """At least one call may be out, or no call would ever go again."""
        log = SlidingWindowLog()
        log.end(log.take(Lane.BATCH, 0.0), SlotOutcome.ANSWERED, 0.0)

        assert Slowed(taken=1, pace=1, limit=400) == log.slow_down(0.0)
        assert log.take(Lane.BATCH, 59.0) is None
        assert log.take(Lane.BATCH, 60.25) is not None

    def test_shares_and_paces_shrink_with_the_pace(self) -> None:
        """A lane keeps its part of what may be out, and starts as much more slowly."""
        quota = Quota()

        assert 199 == quota.share_of(Lane.BATCH, 210), "95 % of 210"
        assert 60 / 199 == quota.interval(Lane.BATCH, 210)


def worst_window(spans: Sequence[tuple[float, float]], period: float) -> int:
    """Count by brute force the most calls that could arrive within one period, ends included."""
    starts = [latest for _, latest in spans]
    return max(
        sum(earliest <= start + period and latest >= start for earliest, latest in spans)
        for start in starts
    )


STEPS = st.tuples(
    st.floats(min_value=0.0, max_value=12.0),
    st.sampled_from(["take", "take", "take", *SlotOutcome, "throttled"]),
    st.sampled_from(Lane),
    st.integers(min_value=0, max_value=9),
)


@settings(max_examples=300, deadline=None)
@given(steps=st.lists(STEPS, min_size=5, max_size=80))
def test_never_more_than_the_limit_in_any_window(
    steps: list[tuple[float, str | SlotOutcome, Lane, int]],
) -> None:
    """Whatever happens in whatever order, no platform can count more than the limit."""
    quota = Quota(limit=3, batch=2, period=10.0, margin=0.25, doubt=4.0, lease=20.0)
    log, out, spans, now = SlidingWindowLog(quota), [], [], 0.0
    for pause, step, lane, choice in steps:
        now += pause
        if step == "take":
            lease = log.take(lane, now)
            out += [(now, lease)] if lease else []
        elif step == "throttled":
            log.slow_down(now)
        elif out:
            allowed, lease = out.pop(choice % len(out))
            # No attempt outlasts its lease: that is the caller's part of the promise.
            ended = min(now, allowed + quota.lease)
            log.end(lease, step, ended)
            if step is not SlotOutcome.UNSENT:
                spans.append((allowed, ended + quota.doubt * (step is SlotOutcome.DOUBTFUL)))
    spans += [(allowed, allowed + quota.lease + quota.doubt) for allowed, _ in out]

    assert worst_window(spans, quota.period) <= quota.limit if spans else True

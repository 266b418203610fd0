"""The sliding window log, at every edge of its rules."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given, settings, strategies as st

from wxpay_async.policy.quota import (
    Lane,
    Lease,
    Quota,
    SlidingWindowLog,
    SlotOutcome,
    Slowed,
    lane_order,
)

TICK = 1e-6


def take_many(
    log: SlidingWindowLog, count: int, now: float, lane: Lane = Lane.PEOPLE
) -> list[Lease]:
    """Take slots until refused, `count` at most."""
    leases = (log.take(lane, now) for _ in range(count))
    return [lease for lease in leases if lease is not None]


def end_all(log: SlidingWindowLog, leases: Sequence[Lease], now: float) -> None:
    """Report all calls as answered."""
    for lease in leases:
        log.end(lease, SlotOutcome.ANSWERED, now)


def full_log(now: float = 0.0) -> SlidingWindowLog:
    """Return a log whose 400 slots were all answered at `now`."""
    log = SlidingWindowLog()
    end_all(log, take_many(log, 400, now), now)
    return log


class TestQuota:
    """The numbers."""

    def test_defaults_are_the_platforms(self) -> None:
        """Without arguments it is 400 calls in 60 s, 380 of them for batches."""
        quota = Quota()

        assert (400, 380, 60.0) == (quota.limit, quota.batch, quota.period)
        assert (60.25, 75.25, 95.25) == (
            quota.answered_for,
            quota.doubtful_for,
            quota.leased_for,
        )

    def test_smallest_quota_lets_a_batch_through(self) -> None:
        """A limit of one still leaves a batch its one call, or it would wait for ever."""
        quota = Quota(limit=1)

        assert (1, 1, 1) == (quota.batch, quota.recovery, quota.batch_share(1))

    @pytest.mark.parametrize(
        "numbers",
        [
            {"limit": 0},
            {"batch": 0},
            {"batch": 401},
            {"period": 0.0},
            {"margin": -0.1},
            {"doubt": -1.0},
            {"lease": 0.0},
        ],
    )
    def test_impossible_numbers_are_refused(self, numbers: dict[str, float]) -> None:
        """A quota that could never work is refused when it is made."""
        with pytest.raises(ValueError, match=next(iter(numbers))):
            Quota(**numbers)  # type: ignore[arg-type]


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

        assert log.take(Lane.PEOPLE, 95.25 - TICK) is None
        assert log.take(Lane.PEOPLE, 95.25) is not None

    def test_report_after_the_lease_takes_the_slot_again(self) -> None:
        """A call that outlasted its lease was really out, so it counts from its real end."""
        log = SlidingWindowLog(Quota(limit=2))
        late = log.take(Lane.PEOPLE, 0.0)
        log.take(Lane.PEOPLE, 96.0)
        log.end(late, SlotOutcome.ANSWERED, 100.0)

        assert log.take(Lane.PEOPLE, 100.0) is None
        assert log.take(Lane.PEOPLE, 160.25) is not None

    def test_unsent_report_after_the_lease_frees_nothing_twice(self) -> None:
        """A slot that is already free is not freed again."""
        log = SlidingWindowLog(Quota(limit=2))
        late = log.take(Lane.PEOPLE, 0.0)
        take_many(log, 2, now=96.0)
        log.end(late, SlotOutcome.UNSENT, 97.0)

        assert 2 == log.taken

    def test_later_end_replaces_the_earlier(self) -> None:
        """The expiry that an earlier report set is void."""
        log = SlidingWindowLog(Quota(limit=1))
        lease = log.take(Lane.PEOPLE, 0.0)
        log.end(lease, SlotOutcome.ANSWERED, 1.0)
        log.end(lease, SlotOutcome.DOUBTFUL, 1.0)

        assert log.take(Lane.PEOPLE, 61.25) is None
        assert log.take(Lane.PEOPLE, 76.25) is not None

    def test_batch_leaves_twenty_for_the_others(self) -> None:
        """A batch holds 380 slots at most; people and doubts get the rest."""
        log = SlidingWindowLog()

        assert 380 == len(take_many(log, 400, 0.0, Lane.BATCH))
        assert 19 == len(take_many(log, 19, 0.0, Lane.PEOPLE))
        assert 1 == len(take_many(log, 2, 0.0, Lane.RESOLVING))

    def test_batch_slots_come_back_to_the_batch(self) -> None:
        """The share counts the slots that a batch holds now, not all that it ever took."""
        log = SlidingWindowLog()
        first, *_ = take_many(log, 380, 0.0, Lane.BATCH)
        log.end(first, SlotOutcome.UNSENT, 0.0)

        assert 1 == len(take_many(log, 2, 0.0, Lane.BATCH))

    def test_restart_has_half_of_the_slots(self) -> None:
        """The slots of an assumed earlier process are taken for 60.25 s, for batches too."""
        log = SlidingWindowLog()
        log.assume_predecessor(0.0)

        assert 200 == len(take_many(log, 400, 0.0, Lane.BATCH))
        assert [] == take_many(log, 1, 60.25 - TICK)
        assert 200 == len(take_many(log, 400, 60.25))

    def test_storm_of_unsent_calls_needs_no_memory(self) -> None:
        """Calls that end unsent leave nothing in memory, however many they are."""
        log = SlidingWindowLog(Quota(limit=10))
        kept = log.take(Lane.PEOPLE, 0.0)
        for _ in range(10_000):
            log.end(log.take(Lane.PEOPLE, 0.0), SlotOutcome.UNSENT, 0.0)

        assert len(log._expiries) <= 4 * 10 + 16
        assert 1 == log.taken
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

        assert 96.25 == log.next_change(1.0)

    def test_pace_changes_each_minute(self) -> None:
        """While slowed, the next minute may come before the next free slot."""
        log = SlidingWindowLog()
        end_all(log, take_many(log, 10, 0.0), 30.0)
        log.slow_down(20.0)

        assert 80.0 == log.next_change(20.0)
        assert 90.25 == log.next_change(81.0)


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
        assert log.take(Lane.PEOPLE, 61.25 - TICK) is None
        end_all(log, leases[30:31], 2.0)
        assert log.take(Lane.PEOPLE, 61.25) is None, "70 are still out"
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
        take_many(log, 100, 100.0)

        assert Slowed(taken=90, pace=63, limit=400) == log.slow_down(100.0)

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
        log.end(log.take(Lane.PEOPLE, 0.0), SlotOutcome.ANSWERED, 0.0)

        assert Slowed(taken=1, pace=1, limit=400) == log.slow_down(0.0)
        assert log.take(Lane.PEOPLE, 59.0) is None
        assert log.take(Lane.PEOPLE, 60.25) is not None

    def test_batch_keeps_its_share_of_a_reduced_pace(self) -> None:
        """People keep their twentieth when the pace is low."""
        log = SlidingWindowLog()
        take_many(log, 300, 0.0)
        log.slow_down(50.0)

        assert 199 == len(take_many(log, 400, 100.0, Lane.BATCH)), "95 % of 210"
        assert 11 == len(take_many(log, 400, 100.0, Lane.PEOPLE))


def test_each_eighth_slot_is_offered_to_doubts_first() -> None:
    """People go first, doubts are not starved by a rush, and a batch is always last."""
    firsts = [lane_order(served)[0] for served in range(16)]

    assert ([Lane.PEOPLE] * 7 + [Lane.RESOLVING]) * 2 == firsts
    assert {Lane.BATCH} == {lane_order(served)[2] for served in range(16)}
    assert all(set(Lane) == set(lane_order(served)) for served in range(16))


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

"""What is foreseen of the next slots, and what the refused are told."""

from __future__ import annotations

import pytest

from tests.support.quota_logs import (
    MACHINES,
    full_log,
    take_evenly,
    take_many,
)
from wxpay_async.policy.lanes import Lane, Quota
from wxpay_async.policy.outlook import Outlook, Promises
from wxpay_async.policy.quota import SlidingWindowLog, SlotOutcome

NOBODY = dict.fromkeys(Lane, 0)


def foresee(log: SlidingWindowLog, lane: Lane, now: float, **before: int) -> float:
    """Foresee when a caller gets its slot, behind so many callers of each lane."""
    return log.outlook(now).foresee(lane, now, NOBODY | before)


class TestForeseeing:
    """When a caller will get its slot."""

    @pytest.mark.parametrize("lane", Lane)
    def test_free_slot_is_had_at_once(self, lane: Lane) -> None:
        """Nobody waits for an empty log."""
        assert 7.0 == foresee(SlidingWindowLog(), lane, 7.0)

    def test_next_slot_that_comes_free_is_foreseen(self) -> None:
        """The n-th caller gets the n-th slot that comes free."""
        log = SlidingWindowLog(Quota(limit=3))
        for number, lease in enumerate(take_many(log, 3, 0.0)):
            log.end(lease, SlotOutcome.ANSWERED, 10.0 * number)

        times = [foresee(log, Lane.PEOPLE, 21.0, people=before) for before in range(4)]

        assert [60.25, 70.25, 80.25, 120.5] == times, "the fourth waits for one that is taken again"

    def test_call_that_is_out_counts_as_answered_now(self) -> None:
        """Its lease says nothing about its end, which is a second away rather than 35."""
        log = SlidingWindowLog(Quota(limit=2))
        _, doubtful = take_many(log, 2, 0.0)
        log.end(doubtful, SlotOutcome.DOUBTFUL, 0.0)

        assert [60.25, 75.25] == [foresee(log, Lane.PEOPLE, 0.0, people=n) for n in (0, 1)]

    def test_slot_that_is_free_now_is_taken_for_a_minute(self) -> None:
        """With free slots for all who wait, and one caller more, that one waits a minute."""
        log = SlidingWindowLog(Quota(limit=3))

        assert [1.0, 1.0, 61.25] == [foresee(log, Lane.PEOPLE, 1.0, people=n) for n in (0, 2, 3)]

    def test_only_earlier_lanes_go_first(self) -> None:
        """A person is not kept by a thousand machines; a batch is kept by people."""
        log = full_log()

        assert 60.25 == foresee(log, Lane.PEOPLE, 1.0, batch=1000)
        assert 60.25 + 60.25 == foresee(log, Lane.BATCH, 1.0, people=400, unverified=7)

    def test_pace_delays_all_who_wait(self) -> None:
        """Behind ten callers of its lane a caller waits for eleven intervals."""
        log = SlidingWindowLog()
        log.take(Lane.POLLING, 0.0)

        assert pytest.approx(6.6) == foresee(log, Lane.POLLING, 0.0, polling=10)
        assert pytest.approx(1000 * 60 / 380, rel=0.01) == foresee(
            SlidingWindowLog(), Lane.BATCH, 0.0, batch=1000
        )

    def test_full_share_is_foreseen(self) -> None:
        """A lane that holds its share waits for its own slots."""
        log = SlidingWindowLog(Quota(doubt=600.0))
        leases = take_evenly(log, 20, Lane.UNVERIFIED)
        for lease in leases:
            log.end(lease, SlotOutcome.DOUBTFUL, 60.0)

        assert 720.25 == foresee(log, Lane.UNVERIFIED, 61.0)
        assert 61.0 == foresee(log, Lane.POLLING, 61.0)

    def test_share_of_all_machines_is_foreseen(self) -> None:
        """While machines hold 380, the next of them waits for one of theirs."""
        log = SlidingWindowLog(Quota(limit=20, batch=2))
        for lane, at in ((Lane.RESOLVING, 0.0), (Lane.POLLING, 30.0)):
            log.end(log.take(lane, at), SlotOutcome.ANSWERED, 31.0)

        assert 91.25 == foresee(log, Lane.BATCH, 61.0)
        assert 61.0 == foresee(log, Lane.PEOPLE, 61.0)

    def test_pace_of_all_machines_is_foreseen(self) -> None:
        """A batch goes after ten doubts, one interval after the other."""
        times = [foresee(SlidingWindowLog(), lane, 0.0, resolving=10) for lane in MACHINES[1:3]]

        assert [pytest.approx(10 * 60 / 380)] * 2 == times

    def test_pace_beside_people_is_foreseen(self) -> None:
        """60 people leave 340 slots, and machines take 360 a minute at the most."""
        log = SlidingWindowLog()
        take_many(log, 60, 0.0)
        log.take(Lane.BATCH, 0.0)

        assert pytest.approx(60 / 360) == foresee(log, Lane.BATCH, 0.0)
        assert pytest.approx(5 * 60 / 360) == foresee(log, Lane.BATCH, 0.0, batch=4)

    def test_reduced_pace_is_foreseen(self) -> None:
        """A caller waits until the calls that are out have shrunk."""
        log = SlidingWindowLog()
        for number, lease in enumerate(take_many(log, 300, 0.0)):
            log.end(lease, SlotOutcome.ANSWERED, number / 100)
        log.slow_down(3.0)

        assert 60.25 + 0.9 == pytest.approx(foresee(log, Lane.BATCH, 3.0)), "91 must come free"

    def test_outlook_is_remembered_until_something_changes(self) -> None:
        """A thousand callers that are refused at once cost one look at the log."""
        log = full_log()
        first = log.outlook(1.0)

        assert first is log.outlook(2.0)
        assert first is not log.outlook(60.25)


class TestPromises:
    """What those are told who are refused."""

    def test_each_refused_caller_is_told_its_turn(self) -> None:
        """Of 800 who are refused at once, 400 can come in a minute and 400 in two."""
        log, promises = full_log(), Promises()
        outlook = log.outlook(0.0)

        told = [promises.make(outlook, Lane.PEOPLE, 0.0, NOBODY) for _ in range(800)]

        assert [60.25] * 400 + [120.5] * 400 == told

    def test_promise_that_came_due_is_forgotten(self) -> None:
        """A caller that was told to come back has come, or does not count any more."""
        log, promises = SlidingWindowLog(Quota(limit=1)), Promises()
        log.end(log.take(Lane.PEOPLE, 0.0), SlotOutcome.ANSWERED, 0.0)
        assert 60.25 == promises.make(log.outlook(0.0), Lane.PEOPLE, 0.0, NOBODY)
        log.end(log.take(Lane.PEOPLE, 60.25), SlotOutcome.ANSWERED, 60.25)

        assert 120.5 == promises.make(log.outlook(60.25), Lane.PEOPLE, 60.25, NOBODY)

    def test_promise_of_a_later_lane_delays_nobody(self) -> None:
        """A person is told the next slot, whatever a batch was told."""
        outlook, promises = full_log().outlook(0.0), Promises()
        for _ in range(1000):
            promises.make(outlook, Lane.BATCH, 0.0, NOBODY)

        assert 60.25 == promises.make(outlook, Lane.PEOPLE, 0.0, NOBODY)

    def test_promises_are_bounded(self) -> None:
        """Memory and told times stop growing."""
        outlook, promises = full_log().outlook(0.0), Promises(most=400)
        told = [promises.make(outlook, Lane.PEOPLE, 0.0, NOBODY) for _ in range(2000)]

        assert 120.5 == told[-1]

    def test_outlook_of_another_store_needs_no_lane_to_hold_slots(self) -> None:
        """Lanes that hold nothing may be left out."""
        outlook = Outlook(quota=Quota(limit=1), capacity=1, frees_at={}, next_start=NOBODY)

        assert [4.0] * 5 == [outlook.foresee(lane, 4.0, NOBODY) for lane in Lane]

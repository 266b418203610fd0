"""When an order that callers wait for is queried: pauses, callers that come, callbacks."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given, strategies as st

from wxpay_async.policy.poll_schedule import LONGEST_PAUSE, SHORTEST_PAUSE, PollSchedule

EVERY = st.floats(min_value=0.0, max_value=100.0)
SECONDS = st.floats(min_value=0.0, max_value=1_000.0)


def end_query(schedule: PollSchedule, now: float, *, retry_after: float = 0.0) -> PollSchedule:
    """Begin a query, and end it without a final answer at `now`."""
    return schedule.start().end(now, retry_after=retry_after)


def list_queries(schedule: PollSchedule, count: int, *, lasting: float = 0.0) -> list[float]:
    """Return when the next queries begin, if each takes so many seconds and settles nothing."""
    begun: list[float] = []
    for _ in range(count):
        begun.append(schedule.due)
        schedule = end_query(schedule, schedule.due + lasting)
    return begun


def test_first_query_is_due_at_once_and_pauses_grow_to_the_longest() -> None:
    """Half as long again each time: who pays does so soon, or late."""
    queries = list_queries(PollSchedule.begin(100.0, 2.0), 9)

    assert 100.0 == queries[0]
    assert [2.0, 3.0, 4.5, 6.75, 10.125, 15.0, 15.0, 15.0] == [b - a for a, b in pairwise(queries)]


def test_pause_begins_when_the_query_has_ended() -> None:
    """A slow platform is not asked more often for that."""
    assert [0.0, 12.0, 25.0] == list_queries(PollSchedule.begin(0.0, 2.0), 3, lasting=10.0)


@pytest.mark.parametrize("every", [15.0, 20.0, 300.0])
def test_first_pause_that_is_longer_than_the_longest_stays(every: float) -> None:
    """Who asks for a minute gets a minute, always."""
    queries = list_queries(PollSchedule.begin(0.0, every), 4)

    assert [every] * 3 == [b - a for a, b in pairwise(queries)]


def test_first_pause_of_nothing_grows_all_the_same() -> None:
    """Half of nothing more would be nothing for ever."""
    queries = list_queries(PollSchedule.begin(0.0, 0.0), 30)

    assert pytest.approx(SHORTEST_PAUSE) == queries[1]
    assert LONGEST_PAUSE == queries[-1] - queries[-2]


def test_caller_that_comes_late_shortens_the_pause_to_its_own() -> None:
    """It waits for the next query no longer than its first pause, counted from the last query."""
    alone = end_query(PollSchedule.begin(0.0, 15.0), 0.0)

    assert (15.0, 2.0) == (alone.due, alone.join(1.0, 2.0).due)
    assert 7.0 == alone.join(7.0, 2.0).due
    assert [2.0, 4.0, 7.0] == list_queries(alone.join(1.0, 2.0), 3)


def test_caller_with_a_longer_pause_changes_no_other() -> None:
    """The shortest of the pauses that were asked for is everybody's."""
    alone = end_query(PollSchedule.begin(0.0, 2.0), 0.0)

    assert [2.0, 4.0, 7.0] == list_queries(alone.join(0.5, 60.0), 3)


def test_caller_that_comes_during_a_query_starts_the_pauses_afresh() -> None:
    """The pause that follows is the newcomer's first."""
    schedule = PollSchedule.begin(0.0, 2.0)
    for now in (0.0, 2.0, 5.0):
        schedule = end_query(schedule, now)

    assert 11.5 == schedule.start().join(9.5, 2.0).end(9.5).due


def test_query_without_a_slot_waits_for_the_limiter() -> None:
    """To come back before is in vain, for a caller that comes meanwhile too."""
    refused = end_query(PollSchedule.begin(0.0, 2.0), 0.0, retry_after=40.0)

    assert (40.0, 40.0) == (refused.due, refused.join(10.0, 2.0).due)


def test_short_wait_for_a_slot_does_not_shorten_the_pause() -> None:
    """The pause is what the caller asked for."""
    assert 2.0 == end_query(PollSchedule.begin(0.0, 2.0), 0.0, retry_after=0.3).due


def test_callback_makes_a_query_due_at_once_and_starts_the_pauses_afresh() -> None:
    """The platform's query may lag behind its callback for a moment."""
    schedule = PollSchedule.begin(0.0, 2.0)
    for now in (0.0, 2.0, 5.0, 9.5):
        schedule = end_query(schedule, now)

    assert [10.0, 12.0, 15.0] == list_queries(schedule.wake(10.0), 3)


def test_callback_starts_with_the_pause_of_the_caller_that_came_later() -> None:
    """The shortest of the pauses that were asked for counts here, too."""
    schedule = end_query(PollSchedule.begin(0.0, 60.0), 0.0).join(1.0, 2.0)

    assert [30.0, 32.0, 35.0] == list_queries(schedule.wake(30.0), 3)


def test_callback_during_a_query_makes_one_more_due_when_it_ends() -> None:
    """The query under way may have been answered before the payment."""
    asking = PollSchedule.begin(0.0, 2.0).start().wake(0.5)

    assert [1.0, 3.0] == list_queries(asking.end(1.0), 2)


def test_callback_is_not_put_off_by_a_full_quota() -> None:
    """A query that is asked for by a callback may wait in the lane, and is worth it."""
    refused = end_query(PollSchedule.begin(0.0, 2.0), 0.0, retry_after=40.0)

    assert 5.0 == refused.wake(5.0).due


@given(
    every=EVERY,
    steps=st.lists(
        st.one_of(
            st.tuples(st.just("join"), EVERY),
            st.tuples(st.just("end"), SECONDS),
            st.tuples(st.just("wake"), st.just(0.0)),
        ),
        max_size=30,
    ),
)
def test_queries_are_never_closer_than_the_shortest_pause(
    every: float, steps: list[tuple[str, float]]
) -> None:
    """Only a callback makes a query due sooner, whatever callers come."""
    schedule, shortest, now, woken = PollSchedule.begin(0.0, every), every, 0.0, False
    last: float | None = None
    for step, value in steps:
        if step == "join":
            schedule, shortest = schedule.join(now, value), min(shortest, value)
        elif step == "wake":
            schedule, woken = schedule.wake(now), True
        else:
            now = max(now, schedule.due)
            if last is not None and not woken:
                assert now - last >= min(shortest, LONGEST_PAUSE) - 1e-9
            schedule, woken = end_query(schedule, now, retry_after=value), False
            last = now
    assert schedule.due <= now + max(SHORTEST_PAUSE, every, LONGEST_PAUSE, 1_000.0)


def test_query_may_queue_after_a_callback_or_when_it_was_sent_away() -> None:
    """Any other one comes back later; a callback's waits for its slot as long as the callers."""
    schedule = PollSchedule.begin(0.0, 2.0)
    ended = end_query(schedule, 10.0)
    sent_away = end_query(schedule, 10.0, retry_after=5.0)

    assert (False, True) == (ended.may_queue, sent_away.may_queue)
    assert ended.wake(11.0).may_queue
    assert not ended.wake(11.0).start().may_queue

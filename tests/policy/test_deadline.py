"""What is left of a call's time, and whether it is enough for an attempt."""

from __future__ import annotations

import pytest

from tests.support.clock import MovedClock
from wxpay_async.policy.deadline import Deadline


def test_remaining_counts_down_and_below_zero(clock: MovedClock) -> None:
    """By the clock that only grows; a wall clock that jumps changes nothing."""
    deadline = Deadline.after(30.0, clock.monotonic)
    left = [deadline.remaining()]
    for seconds in (10.0, 20.0, 5.0):
        clock.move(seconds)
        left.append(deadline.remaining())
    clock.wrong_by = 3_600.0

    assert [30.0, 20.0, 0.0, -5.0] == left
    assert -5.0 == deadline.remaining()


@pytest.mark.parametrize(("seconds", "expected"), [(10.0, 10.0), (30.0, 30.0), (90.0, 30.0)])
def test_capped_is_the_earlier_of_two_moments(
    seconds: float, expected: float, clock: MovedClock
) -> None:
    """One step gets its own seconds, and never more than the call has."""
    deadline = Deadline.after(30.0, clock.monotonic, attempt=3.0)
    capped = deadline.capped(seconds)

    assert (expected, 3.0) == (capped.remaining(), capped.attempt)
    assert 30.0 == deadline.remaining()


def test_capped_counts_from_now(clock: MovedClock) -> None:
    """What has passed of the call is not given back."""
    deadline = Deadline.after(30.0, clock.monotonic)
    clock.move(25.0)

    assert 5.0 == deadline.capped(10.0).remaining()
    assert 2.0 == deadline.capped(2.0).remaining()


@pytest.mark.parametrize(
    ("passed", "pause", "allowed"),
    [
        (0.0, 0.0, True),
        (27.0, 0.0, True),
        (27.125, 0.0, False),
        (20.0, 7.0, True),
        (20.0, 7.125, False),
        (31.0, 0.0, False),
    ],
)
def test_attempt_needs_its_seconds_after_the_pause(
    passed: float, pause: float, clock: MovedClock, *, allowed: bool
) -> None:
    """An attempt that starts with less would nearly always end in doubt."""
    deadline = Deadline.after(30.0, clock.monotonic, attempt=3.0)
    clock.move(passed)

    assert allowed is deadline.allows_attempt(pause)


@pytest.mark.parametrize(
    ("seconds", "passed", "allowed"),
    [
        (3.0, 0.5, True),
        (3.0, 0.625, False),
        (3.25, 0.5, True),
        (3.25, 0.625, False),
        (4.0, 1.0, True),
        (4.0, 1.125, False),
    ],
)
def test_attempt_of_the_shortest_call_has_half_a_second_of_grace(
    seconds: float, passed: float, clock: MovedClock, *, allowed: bool
) -> None:
    """A moment passes before the first attempt starts; it must not refuse the only one."""
    deadline = Deadline.after(seconds, clock.monotonic, attempt=3.0)
    clock.move(passed)

    assert allowed is deadline.allows_attempt()


def test_attempt_without_a_minimum_is_allowed_until_the_end(clock: MovedClock) -> None:
    """Where nothing is asked for, the deadline alone decides."""
    deadline = Deadline.after(1.0, clock.monotonic)
    clock.move(1.0)
    assert deadline.allows_attempt()
    clock.move(0.1)

    assert not deadline.allows_attempt()


def test_repr_shows_no_clock(clock: MovedClock) -> None:
    """It stands in tracebacks, beside what matters there."""
    assert "monotonic" not in repr(Deadline.after(1.0, clock.monotonic))

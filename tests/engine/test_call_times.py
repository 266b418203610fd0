"""How long calls may take."""

from __future__ import annotations

import math

import pytest

from wxpay_async.adapters.limiters.limiter import Lane
from wxpay_async.engine.call_times import BATCH_CALL, CallTimes
from wxpay_async.errors import InDoubtError, InvalidRequestError
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.wire import Timeouts


class Watch:
    """A monotonic clock that a test moves."""

    now = 100.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def watch() -> Watch:
    """A clock."""
    return Watch()


@pytest.fixture
def times(watch: Watch) -> CallTimes:
    """The default settings."""
    return CallTimes(RetryPolicy(), Timeouts(), watch)


@pytest.mark.parametrize(
    ("timeout", "lane", "seconds"),
    [
        (None, Lane.PEOPLE, 30.0),
        (None, Lane.BATCH, BATCH_CALL),
        (7.5, Lane.PEOPLE, 7.5),
        (3.0, Lane.BATCH, 3.0),
    ],
)
def test_call_has_the_seconds_that_were_asked_for(
    timeout: float | None, lane: Lane, seconds: float, times: CallTimes
) -> None:
    """Without them it has those of the gateway; a batch has a day."""
    assert seconds == times.seconds(timeout, lane)


@pytest.mark.parametrize("timeout", [2.9, 0.0, -1.0, math.inf, math.nan])
def test_timeout_that_no_attempt_fits_in_is_refused(timeout: float, times: CallTimes) -> None:
    """An attempt may need 3 s; and a call must end."""
    with pytest.raises(InvalidRequestError, match="timeout"):
        times.seconds(timeout, Lane.PEOPLE)


def test_next_request_has_what_is_left(watch: Watch, times: CallTimes) -> None:
    """Several requests share one deadline; where an attempt does not fit, nothing is begun."""
    deadline = times.after(10.0)
    watch.now += 6.0

    assert 4.0 == times.seconds_left(deadline)
    watch.now += 1.5
    with pytest.raises(InDoubtError, match="between two requests"):
        times.seconds_left(deadline)


def test_call_of_one_attempt_may_begin_a_moment_late(watch: Watch, times: CallTimes) -> None:
    """Who asks for the shortest time gets an attempt."""
    deadline = times.after(3.0)
    watch.now += 0.25

    assert 3.0 == times.seconds_left(deadline)


def test_batch_tries_twice_as_often(times: CallTimes) -> None:
    """It has a day."""
    assert (3, 6) == (times.policy(Lane.PEOPLE).attempts, times.policy(Lane.BATCH).attempts)

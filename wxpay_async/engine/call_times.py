"""Time limits of calls, from what the caller asks for and the gateway's settings."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Final, cast

from attrs import field, frozen

from wxpay_async.adapters.limiters.limiter import Lane
from wxpay_async.errors import InDoubtTimeoutError, InvalidRequestError
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.record import LEASE
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.wire import Timeouts

BATCH_CALL: Final = 86_400.0
"""Seconds that a request of a batch has: one that waits for its slot of the quota is not lost."""

_LANES: Final = frozenset(Lane)

LEAST_LEFT: Final = 2.0
"""Seconds of a claim's lease that the store and the signer may take together, at the least."""


def check_timeouts(timeouts: Timeouts) -> Timeouts:
    """Refuse an attempt that could outlast its claim: another process would send beside it.

    Raises:
        InvalidRequestError: `timeouts.attempt` is too long.
    """
    longest = LEASE - LEAST_LEFT
    if timeouts.attempt > longest:
        raise InvalidRequestError(
            f"{timeouts.attempt:g} s", field="timeouts.attempt", allowed=f"at most {longest:g} s"
        )
    return timeouts


@frozen
class CallTimes:
    """The settings, and the clock by which deadlines count.

    Attributes:
        retry: how often to try.
        timeouts: how long each phase may take.
        monotonic: seconds that only grow.
    """

    retry: RetryPolicy
    timeouts: Timeouts
    monotonic: Callable[[], float] = field(repr=False)

    def seconds(self, timeout: float | None, lane: Lane) -> float:
        """Return the seconds of a call whose caller gave it this `timeout`.

        Raises:
            InvalidRequestError: it is too short, or no finite time; or the lane is none.
        """
        if lane not in _LANES:
            raise InvalidRequestError(
                f"{lane!r:.40} is none", field="lane", allowed="Lane.PEOPLE or Lane.BATCH"
            )
        if timeout is None:
            return self.timeouts.call if lane is not Lane.BATCH else BATCH_CALL
        is_number = isinstance(cast("object", timeout), int | float)
        if not is_number or not self.retry.min_left <= timeout < math.inf:
            raise InvalidRequestError(
                f"{timeout} s" if is_number else f"{timeout!r:.40} is no number",
                field="timeout",
                allowed=f"a finite time of at least {self.retry.min_left} s, "
                "which one attempt may need",
            )
        return timeout

    def after(self, seconds: float) -> Deadline:
        """Return the moment so many seconds from now, with what an attempt needs."""
        return Deadline.after(seconds, self.monotonic, attempt=self.retry.min_left)

    def seconds_left(self, deadline: Deadline) -> float:
        """Return the seconds for the next of several requests.

        Raises:
            InDoubtTimeoutError: an attempt may need more than is left.
        """
        left = deadline.remaining()
        if left < min(deadline.attempt, self.retry.min_left):
            raise InDoubtTimeoutError("the time was over between two requests; call again")
        return max(left, self.retry.min_left)

    def policy(self, lane: Lane) -> RetryPolicy:
        """Return how often to try in a lane."""
        return self.retry if lane is not Lane.BATCH else self.retry.of_batch()

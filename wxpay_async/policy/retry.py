"""Decide whether and when to try again (`money-safety.md` §5); other modules sleep.

| after | tried again |
| --- | --- |
| not sent, and another try can help | after a jittered pause |
| in doubt, and the same requestId can bring clarity | after a jittered pause |
| the platform's quota is used up | when its window has freed |
| our own count of it is used up | when the limiter said that a slot can be had |
| the clocks differ | once, at once, if the answer told the platform's time |
| anything else | never |
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import attrs
from attrs import define, field, frozen

from wxpay_async.errors import (
    ClockSkewError,
    Fate,
    QuotaExhaustedError,
    RateLimitedError,
    WxPayError,
)
from wxpay_async.protocol.validators import number

QUOTA_WINDOW: Final = 60.25
"""Seconds until a platform that just counted 400 calls takes the next one, with a margin."""


@frozen(kw_only=True)
class RetryPolicy:
    """How often, how fast and until when.

    Attributes:
        attempts: at most this many in one call, twice as many in a batch; 1 switches retrying
            off.
        base: seconds; the first pause is drawn from 0 to this.
        cap: seconds; no pause is drawn from a longer span.
        min_left: seconds that must be left of the call for another attempt to start.
    """

    attempts: int = field(
        default=3, validator=number("a whole number, 1 or above", least=1, whole=True)
    )
    base: float = field(default=0.5, validator=number("seconds, above 0", above=True))
    cap: float = field(default=8.0, validator=number("seconds, above 0", above=True))
    min_left: float = field(default=3.0, validator=number("seconds, 0 or above"))

    def of_batch(self) -> RetryPolicy:
        """Return the policy of a batch: twice the attempts, as it has a day; 1 stays 1."""
        return self if self.attempts == 1 else attrs.evolve(self, attempts=2 * self.attempts)

    def of_unsafe(self) -> RetryPolicy:
        """Return the policy of a call that must not be executed twice, and has no requestId."""
        return _UnsafePolicy(policy=self)

    def pause(self, errors: Sequence[WxPayError], *, left: float, random: float) -> float | None:
        """Return the seconds to wait before the next attempt, None to give up.

        Args:
            errors: what every attempt so far ended with, at least one.
            left: seconds until the call's deadline.
            random: a number from 0 to 1. Full jitter, on the first retry too: callers that
                failed together must not come back together.
        """
        last = errors[-1]
        if len(errors) >= self.attempts or not last.retryable:
            return None
        if isinstance(last, ClockSkewError):
            pause = self._after_skew(errors)
        elif isinstance(last, RateLimitedError):
            pause = QUOTA_WINDOW
        elif isinstance(last, QuotaExhaustedError):
            pause = last.retry_after
        else:
            pause = random * min(self.cap, self.base * 2 ** (len(errors) - 1))
        return None if pause is None or left - pause < self.min_left else pause

    def _after_skew(self, errors: Sequence[WxPayError]) -> float | None:
        skews = [error for error in errors if isinstance(error, ClockSkewError)]
        return 0.0 if len(skews) == 1 and skews[0].server_time else None


@frozen(kw_only=True)
class _UnsafePolicy(RetryPolicy):
    """Tries again only after what is proven not to have been executed.

    Attributes:
        policy: says how often and how fast.
    """

    policy: RetryPolicy

    def pause(self, errors: Sequence[WxPayError], *, left: float, random: float) -> float | None:
        """Return the seconds to wait before the next attempt, None to give up."""
        if errors[-1].fate is Fate.IN_DOUBT:
            return None
        return self.policy.pause(errors, left=left, random=random)


@define(eq=False)
class RetryBudget:
    """Bounds the retries of a whole process, so that an outage is not made worse by it.

    A retry costs 10 of 70 tokens and a clean success gives one back. With the 3 questions that
    `QuestionBudget` leaves open, 1,000 calls make at most 1,010 attempts in a total outage.
    """

    capacity: int = 70
    cost: int = 10
    tokens: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = self.capacity

    def take(self) -> bool:
        """Pay for one retry; False when it must not happen."""
        if self.tokens < self.cost:
            return False
        self.tokens -= self.cost
        return True

    def reward(self) -> None:
        """Give back for a success at the first attempt."""
        self.tokens = min(self.capacity, self.tokens + 1)


@define(eq=False)
class QuestionBudget:
    """Bounds the questions about doubts that get no answer, not those that are answered.

    A question takes one of 3 tokens, and whatever the platform answers, to a question or to a call,
    gives one back. So any number of doubts is asked about while the platform answers, and an
    outage of it is not made worse by questions.
    """

    capacity: int = 3
    tokens: int = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.tokens = self.capacity

    def take(self) -> bool:
        """Pay for one question; False when it must not be asked."""
        if not self.tokens:
            return False
        self.tokens -= 1
        return True

    def give_back(self) -> None:
        """Note an answer of the platform."""
        self.tokens = min(self.capacity, self.tokens + 1)

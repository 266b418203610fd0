"""Whether and when to try again: bounds of the jitter, the deadline, the budget, the clock."""

from __future__ import annotations

import random
from datetime import UTC, datetime

import pytest
from hypothesis import given, strategies as st

from wxpay_async.errors import (
    AccessDeniedError,
    ClockSkewError,
    DuplicateRequestError,
    FailedError,
    InDoubtError,
    InProgressError,
    MalformedResponseError,
    NotSentError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.policy.retry import QUOTA_WINDOW, QuestionBudget, RetryBudget, RetryPolicy

LOST = InDoubtError("read timeout")
UNSENT = NotSentError("connection refused")
NUMBERS = st.floats(0, 1, exclude_max=True)


def make_skew(server_time: datetime | None = datetime(2026, 11, 22, tzinfo=UTC)) -> ClockSkewError:
    """Make the refusal of a request that had expired on arrival."""
    error = ClockSkewError("expired")
    error.server_time = server_time
    return error


@given(tries=st.integers(1, 12), number=NUMBERS)
def test_pause_is_drawn_from_a_doubling_span_with_a_cap(tries: int, number: float) -> None:
    """Full jitter: a random number · min(8 s, 0.5 s · 2^i), on the first retry too."""
    pause = RetryPolicy(attempts=20).pause([LOST] * tries, left=1e6, random=number)

    assert pause is not None
    assert number * min(8.0, 0.5 * 2 ** (tries - 1)) == pytest.approx(pause)


def test_first_retry_has_jitter() -> None:
    """Callers that failed together do not come back together (lesson 10)."""
    numbers = [random.Random(7 + n).random() for n in range(50)]
    pauses = {RetryPolicy().pause([UNSENT], left=30, random=number) for number in numbers}

    assert 50 == len(pauses)
    assert all(pause is not None and 0 <= pause <= 0.5 for pause in pauses)


@given(left=st.floats(-10, 40), number=NUMBERS, tries=st.integers(1, 2))
def test_no_attempt_starts_with_less_than_three_seconds_left(
    left: float, number: float, tries: int
) -> None:
    """Whatever the random number, a pause leaves at least `min_left` of the call."""
    pause = RetryPolicy().pause([LOST] * tries, left=left, random=number)

    assert pause is None or left - pause >= 3.0


def test_three_attempts_and_no_more() -> None:
    """The third failure is the last word."""
    policy = RetryPolicy()

    assert [True, True, False] == [
        policy.pause([UNSENT] * n, left=30, random=0.5) is not None for n in (1, 2, 3)
    ]


def test_batch_has_twice_the_attempts() -> None:
    """It has a day; and where retrying is switched off, it stays off."""
    policy = RetryPolicy(attempts=3, base=0.1)

    assert RetryPolicy(attempts=6, base=0.1) == policy.of_batch()
    assert RetryPolicy(attempts=1) == RetryPolicy(attempts=1).of_batch()


def test_one_attempt_switches_retrying_off() -> None:
    """`attempts=1` never pauses."""
    assert RetryPolicy(attempts=1).pause([UNSENT], left=30, random=0.5) is None


@pytest.mark.parametrize(
    "error",
    [
        RefusedError("no"),
        AccessDeniedError("no"),
        SignatureRefusedError("no"),
        FailedError("F"),
        DuplicateRequestError("repeated"),
        InProgressError("another process"),
        NotSentError("certificate", retryable=False),
        InDoubtError("redirect", retryable=False),
        MalformedResponseError("echo differs", retryable=False),
    ],
    ids=lambda error: f"{type(error).__name__}-{error.reason}",
)
def test_error_that_another_attempt_cannot_help_is_not_retried(error: WxPayError) -> None:
    """Refusals, duplicates, certificates and contradicting answers end the call."""
    assert RetryPolicy().pause([error], left=30, random=0.0) is None


def test_quota_is_waited_for() -> None:
    """A refusal for too many calls waits until the window has freed, not a jittered moment."""
    assert QUOTA_WINDOW == RetryPolicy().pause([RateLimitedError("429")], left=120, random=0.1)


def test_slot_of_our_own_quota_is_waited_for() -> None:
    """The limiter said when one can be had: neither sooner nor later is of any use."""
    full = QuotaExhaustedError("full", retry_after=41.5)

    assert 41.5 == RetryPolicy().pause([full], left=44.5, random=0.1)
    assert RetryPolicy().pause([full], left=44.0, random=0.1) is None


def test_quota_is_not_waited_for_beyond_the_deadline() -> None:
    """A call of 30 s does not begin a wait of a minute."""
    assert RetryPolicy().pause([RateLimitedError("429")], left=30, random=0.1) is None


def test_skewed_clock_is_corrected_once_and_at_once() -> None:
    """The first refusal as expired is tried again without a pause, the second is the end."""
    policy = RetryPolicy(attempts=6)

    assert 0.0 == policy.pause([make_skew()], left=30, random=0.9)
    assert policy.pause([make_skew(), make_skew()], left=30, random=0.9) is None
    assert policy.pause([make_skew(), LOST, make_skew()], left=30, random=0.9) is None


def test_skewed_clock_without_a_date_is_not_retried() -> None:
    """Without the platform's time a second attempt would expire like the first."""
    assert RetryPolicy().pause([make_skew(None)], left=30, random=0.0) is None


@pytest.mark.parametrize("attempts", [1.5, 3.0, "3", None])
def test_attempts_are_counted_in_whole_numbers(attempts: int) -> None:
    """There is no half of an attempt."""
    with pytest.raises(ValueError, match=r"attempts: .* does not fit"):
        RetryPolicy(attempts=attempts)


@pytest.mark.parametrize(
    "setting", [{"attempts": 0}, {"base": 0}, {"cap": 0}, {"min_left": -1}], ids=str
)
def test_impossible_settings_are_refused(setting: dict[str, float]) -> None:
    """A policy that cannot work cannot be made."""
    with pytest.raises(ValueError, match="does not fit"):
        RetryPolicy(**setting)  # type: ignore[arg-type]


def test_budgets_allow_ten_more_attempts_in_a_total_outage() -> None:
    """1,000 failing calls retry 7 times and ask 3 times, and no more."""
    retries, questions = RetryBudget(), QuestionBudget()

    assert (7, 3) == (
        sum(retries.take() for _ in range(1_000)),
        sum(questions.take() for _ in range(1_000)),
    )


def test_questions_that_are_answered_cost_nothing() -> None:
    """Doubts do not starve, however many there are; and answers save nothing up."""
    questions = QuestionBudget()
    for _ in range(1_000):
        assert questions.take()
        questions.give_back()
    questions.give_back()

    assert 3 == sum(questions.take() for _ in range(1_000))


def test_question_is_earned_by_an_answer() -> None:
    """After an outage the first answer, to whatever call, lets the next question go."""
    questions = QuestionBudget()
    while questions.take():
        pass
    questions.give_back()

    assert [True, False] == [questions.take(), questions.take()]


def test_budget_earns_one_retry_by_ten_successes() -> None:
    """A clean success gives one token back, up to the capacity."""
    budget = RetryBudget()
    while budget.take():
        pass
    for _ in range(9):
        budget.reward()
    assert not budget.take()
    budget.reward()

    assert budget.take()


def test_budget_does_not_grow_beyond_its_capacity() -> None:
    """A million successes do not save up a retry storm."""
    budget = RetryBudget()
    for _ in range(1_000):
        budget.reward()

    assert 70 == budget.tokens


@pytest.mark.parametrize("error", [LOST, MalformedResponseError("HTTP 502")])
def test_unsafe_call_in_doubt_is_never_tried_again(error: WxPayError) -> None:
    """There is no requestId by which the platform would know the second attempt."""
    assert RetryPolicy().of_unsafe().pause([error], left=60, random=0.5) is None


@pytest.mark.parametrize("error", [UNSENT, RateLimitedError("quota"), make_skew()])
def test_unsafe_call_is_tried_again_where_nothing_was_executed(error: WxPayError) -> None:
    """As often and as fast as any other call."""
    policy = RetryPolicy(attempts=2)
    expected = policy.pause([error], left=90, random=0.5)

    assert expected is not None
    assert expected == policy.of_unsafe().pause([error], left=90, random=0.5)
    assert policy.of_unsafe().pause([error] * 2, left=90, random=0.5) is None

"""How long retrying goes on: pauses, the deadline, the budget, and questions between attempts."""

from __future__ import annotations

import asyncio

import pytest

from tests.engine.fake_call import (
    DATE,
    LOST,
    OK,
    REFUSED,
    UNSENT,
    FakeCall,
    deliver,
    deliver_over,
    make_retrying,
    make_skew,
)
from tests.support.clock import LoopClock, MovedClock, loop_time, virtual
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.clock import Clock
from wxpay_async.errors import (
    InDoubtError,
    NotSentError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.retry import QUOTA_WINDOW, RetryBudget, RetryPolicy
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts


async def test_pauses_are_jittered_and_double(clock: MovedClock) -> None:
    """Half of 0.5 s, then half of 1 s, for a random number of 0.5."""
    await deliver_over(FakeCall(clock), UNSENT, UNSENT, OK)

    assert [0.25, 0.5] == clock.slept


async def test_pause_after_a_skewed_clock_is_none(clock: MovedClock) -> None:
    """With the platform's `Date` the second attempt follows at once."""
    await deliver_over(FakeCall(clock, errors=[make_skew(DATE)]), OK, OK)

    assert 0.0 == sum(clock.slept)


async def test_pause_after_the_quota_is_its_window(clock: MovedClock) -> None:
    """Given time, a call that was refused for too many calls comes back when the window is free."""
    call = FakeCall(clock, errors=[RateLimitedError("429")])
    result = await deliver_over(call, OK, OK, seconds=120)

    assert ("paid", [QUOTA_WINDOW]) == (result, clock.slept)


async def test_deadline_ends_retrying(clock: MovedClock) -> None:
    """With less than `min_left` after an attempt there is no other."""

    async def answer(_: HttpRequest) -> WxPayError:
        clock.move(14)
        return LOST

    transport = MemoryTransport(answer)
    with pytest.raises(InDoubtError) as caught:
        await deliver(make_retrying(transport, clock), FakeCall(clock))

    assert (2, 2) == (transport.calls, caught.value.attempts)


async def test_attempt_never_outlasts_the_call(clock: MovedClock) -> None:
    """The timeout of an attempt is cut to what is left of the call."""
    seen = list[float]()

    class NotingTransport(MemoryTransport):
        async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
            seen.append(timeout.attempt)
            clock.move(12)
            return await super().send(request, timeout=timeout)

    policy = RetryPolicy(attempts=5)
    retrying = make_retrying(NotingTransport([LOST] * 5), clock, policy=policy)
    with pytest.raises(InDoubtError):
        await deliver(retrying, FakeCall(clock))

    assert [15.0, 15.0, pytest.approx(30 - 24 - 0.75)] == seen


async def test_policy_of_a_call_goes_before_the_transport_s(clock: MovedClock) -> None:
    """A batch tries more often over the same transport."""
    retrying = make_retrying(MemoryTransport(lambda _: UNSENT), clock)
    deadline = Deadline.after(30.0, clock.monotonic)
    with pytest.raises(NotSentError) as caught:
        await retrying.deliver(
            FakeCall(clock), deadline=deadline, policy=RetryPolicy(attempts=6, cap=0.5)
        )

    assert 6 == caught.value.attempts


async def test_budget_bounds_an_outage_to_a_thousand_and_ten_attempts(clock: MovedClock) -> None:
    """1,000 calls in a total outage make at most 1,010 attempts (`money-safety.md` §5)."""
    transport = MemoryTransport(lambda _: NotSentError("refused"))
    retrying = make_retrying(transport, clock, budget=RetryBudget())
    calls = (deliver(retrying, FakeCall(clock)) for _ in range(1_000))
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert {NotSentError} == {type(result) for result in results}
    assert 1_000 <= transport.calls <= 1_010


async def test_budget_that_is_used_up_ends_no_questions(clock: MovedClock) -> None:
    """Doubts do not starve behind retries: a question has a budget of its own."""
    asked = list[int]()
    budget = RetryBudget()
    budget.tokens = 10
    retrying = make_retrying(MemoryTransport(lambda _: LOST), clock, budget=budget)
    with pytest.raises(InDoubtError) as caught:
        await deliver(retrying, FakeCall(clock, query=lambda: asked.append(1)))

    assert (2, 2, 0) == (caught.value.attempts, len(asked), budget.tokens)


async def test_questions_without_an_answer_end(clock: MovedClock) -> None:
    """Three of all calls; then the platform is known to be silent, until it answers anything."""
    asked = list[int]()
    transport = MemoryTransport([*[LOST] * 50, OK, *[LOST] * 50])
    retrying = make_retrying(transport, clock, policy=RetryPolicy(attempts=1))

    async def lose(times: int) -> int:
        calls = [FakeCall(clock, query=lambda: asked.append(1)) for _ in range(times)]
        await asyncio.gather(*(deliver(retrying, call) for call in calls), return_exceptions=True)
        return len(asked)

    assert 3 == await lose(50)
    with pytest.raises(RefusedError):
        await deliver(retrying, FakeCall(clock, errors=[REFUSED]))

    assert 4 == await lose(50)


async def test_platform_that_says_interrupted_lets_no_more_questions_go(clock: MovedClock) -> None:
    """A code of the platform's own trouble is no answer, so its outage is not made worse."""
    asked = list[int]()
    retrying = make_retrying(MemoryTransport(lambda _: OK), clock, policy=RetryPolicy(attempts=1))
    for _ in range(20):
        interrupted = InDoubtError("interrupted", code="CO_MSG_000003")
        call = FakeCall(clock, errors=[interrupted], query=lambda: asked.append(1))
        with pytest.raises(InDoubtError):
            await deliver(retrying, call)

    assert 3 == len(asked)


@pytest.mark.parametrize(
    "full", [RateLimitedError("429"), QuotaExhaustedError("no slot", retry_after=60.0)]
)
async def test_refusal_for_too_many_calls_costs_nothing_of_the_budget(
    full: WxPayError, clock: MovedClock
) -> None:
    """It is no outage: each call of a batch has all its attempts."""
    budget = RetryBudget()
    for _ in range(20):
        limited = [full, full]
        retrying = make_retrying(MemoryTransport(lambda _: OK), clock, budget=budget)
        await deliver(retrying, FakeCall(clock, errors=limited), seconds=200)

    assert 70 == budget.tokens


async def test_doubt_of_an_earlier_call_is_asked_about_before_it_is_sent_again(
    clock: MovedClock,
) -> None:
    """The query goes first, in the first attempt of a call too (`money-safety.md` §4)."""
    transport = MemoryTransport([])
    call = FakeCall(clock, in_doubt=True, query=lambda: "found")

    assert "found" == await deliver(make_retrying(transport, clock), call)
    assert (0, []) == (transport.calls, call.prepared)


async def test_doubt_of_an_earlier_call_is_sent_again_when_nothing_is_found(
    clock: MovedClock,
) -> None:
    """A question without an answer does not keep the request from going."""
    call = FakeCall(clock, in_doubt=True, query=lambda: None)

    assert "paid" == await deliver_over(call, OK)


async def test_question_waits_no_longer_than_its_call_has(clock: MovedClock) -> None:
    """Without the time for an attempt nothing is asked."""
    asked = list[int]()
    call = FakeCall(clock, in_doubt=True, query=lambda: asked.append(1))
    await deliver_over(call, OK, seconds=2.0)

    assert [] == asked


@virtual
async def test_question_that_gets_no_turn_is_not_asked() -> None:
    """Three questions hang; a fourth call gives its own up when only an attempt's time is left."""

    class HangingCall(FakeCall):
        async def check_outcome(self) -> str | None:
            return await asyncio.Event().wait() or None

    clock, asked = LoopClock(), list[int]()
    retrying = make_retrying(MemoryTransport([OK]), clock)
    hanging = [HangingCall(clock, in_doubt=True, query=lambda: None) for _ in range(3)]
    tasks = [asyncio.create_task(deliver(retrying, call)) for call in hanging]
    await asyncio.sleep(0)
    call = FakeCall(clock, in_doubt=True, query=lambda: asked.append(1))

    assert "paid" == await deliver(retrying, call, seconds=10.0)
    assert ([], 7.0) == (asked, pytest.approx(loop_time()))
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


def test_questions_of_a_loop_that_ended_hold_nobody_up() -> None:
    """A loop that was torn down in the middle of questions leaves none behind for the next."""
    retrying = make_retrying(MemoryTransport(), Clock())

    async def leave_in_the_middle() -> None:
        for _ in range(3):
            await retrying._limit_questions().acquire(1.0)

    asyncio.run(leave_in_the_middle())
    call = FakeCall(Clock(), in_doubt=True, query=lambda: "found")

    assert "found" == asyncio.run(deliver(retrying, call, seconds=3.5))


async def test_budget_earns_nothing_by_a_retried_success(clock: MovedClock) -> None:
    """Only a clean success feeds the budget, so retries cannot pay for retries."""
    budget = RetryBudget()
    retrying = make_retrying(MemoryTransport([UNSENT, OK, OK]), clock, budget=budget)
    await deliver(retrying, FakeCall(clock))
    assert 60 == budget.tokens
    await deliver(retrying, FakeCall(clock))

    assert 61 == budget.tokens

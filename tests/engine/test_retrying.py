"""The one layer that retries: attempts, pauses, questions, and the error in the end."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest
from attrs import define, field, frozen

from tests.support.clock import LoopClock, MovedClock, loop_time, virtual
from tests.support.platform import SECRET
from wxpay_async.adapters.event_loop import run_to_completion
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.retrying import RetryingTransport
from wxpay_async.errors import (
    AccessDeniedError,
    AlreadyPaidError,
    ClockSkewError,
    ConfigurationRefusedError,
    DuplicateRequestError,
    FailedError,
    Fate,
    InDoubtError,
    MalformedResponseError,
    NotSentError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.retry import QUOTA_WINDOW, RetryBudget, RetryPolicy
from wxpay_async.policy.states import State, next_state, transition_for
from wxpay_async.protocol.builder import PAY, RequestBuilder, parameters
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.requests import MiniProgramPay
from wxpay_async.protocol.signing import Md5Signer, Md5Verifier
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts

OK = HttpResponse(200, b"paid")
LOST = InDoubtError("read timeout")
UNSENT = NotSentError("connection refused")
REFUSED = RefusedError("no", code="C")


@define(eq=False)
class FakeCall:
    """A call that notes how it is driven.

    Attributes:
        clock: the test's.
        prepared: the number of each attempt that was prepared.
        completed: the error of each attempt that was completed, None for a success.
        before_prepare: awaited before an attempt is prepared.
        before_complete: awaited before an attempt is completed.
        errors: what the next replies are read as; without one it is their body.
        query: what asking the platform finds, None where it cannot be asked.
        in_doubt: whether another call may have been executed.
    """

    clock: Clock
    prepared: list[int] = field(factory=list)
    completed: list[WxPayError | None] = field(factory=list)
    before_prepare: Callable[[], Awaitable[None]] | None = None
    before_complete: Callable[[], Awaitable[None]] | None = None
    errors: list[WxPayError] = field(factory=list)
    query: Callable[[], str | None] | None = None
    in_doubt: bool = False

    async def prepare(self, number: int) -> HttpRequest:
        """Prepare an attempt."""
        if self.before_prepare:
            await self.before_prepare()
        self.prepared.append(number)
        return HttpRequest("https://platform.example", b"%d" % number)

    def read(self, response: HttpResponse) -> str:
        """Read a reply."""
        if self.errors:
            raise self.errors.pop(0)
        return response.body.decode()

    async def complete(self, error: WxPayError | None) -> None:
        """Complete an attempt."""
        if self.before_complete:
            await self.before_complete()
        self.completed.append(error)

    @property
    def can_check_outcome(self) -> bool:
        """Whether the platform can be asked."""
        return self.query is not None

    async def check_outcome(self) -> str | None:
        """Ask the platform."""
        await asyncio.sleep(0)
        return self.query() if self.query else None


@define(eq=False)
class HangingTransport:
    """A transport that never answers."""

    sending: asyncio.Event = field(factory=asyncio.Event)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Hang."""
        del request, timeout
        self.sending.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Release nothing."""


def make_retrying(transport: object, clock: Clock, **parts: object) -> RetryingTransport:
    """Make a retrying transport whose jitter is one half."""
    return RetryingTransport(transport, clock=clock, random=lambda: 0.5, **parts)  # type: ignore[arg-type]


async def deliver(retrying: RetryingTransport, call: FakeCall, *, seconds: float = 30.0) -> str:
    """Deliver a call that has so many seconds."""
    return await retrying.deliver(call, deadline=Deadline.after(seconds, call.clock.monotonic))


async def deliver_over(call: FakeCall, *answers: object, seconds: float = 30.0) -> str:
    """Deliver a call over a transport that gives these answers."""
    retrying = make_retrying(MemoryTransport(list(answers)), call.clock)
    return await deliver(retrying, call, seconds=seconds)


# What happens on a timeout, and on everything else


@frozen
class Row:
    """What follows where every attempt ends alike.

    Attributes:
        what: what happened, as the table of `money-safety.md` §4 says.
        error: how each attempt ends.
        attempts: how many are made within 30 s.
        asked: how often the platform is asked what became of them.
        state: where the operation stands afterwards. The caller hears `error` itself.
    """

    what: str
    error: WxPayError
    attempts: int
    asked: int
    state: State


def make_skew(server_time: datetime | None) -> ClockSkewError:
    """Make the refusal of a request that had expired on arrival."""
    error = ClockSkewError("expired")
    error.server_time = server_time
    return error


DATE = datetime(2026, 11, 22, tzinfo=UTC)
ROWS = [
    Row("DNS, refused, connect timeout", UNSENT, 3, 0, State.RESERVED),
    Row("certificate", NotSentError("TLS", retryable=False), 1, 0, State.RESERVED),
    Row("read timeout, reset, cut short", LOST, 3, 3, State.UNKNOWN),
    Row("5xx, no JSON, oversized", MalformedResponseError("HTTP 502"), 3, 3, State.UNKNOWN),
    Row("3xx", InDoubtError("HTTP 302", retryable=False), 1, 1, State.UNKNOWN),
    Row("4xx that proves it", ConfigurationRefusedError("HTTP 403"), 1, 0, State.RESERVED),
    Row("any other 4xx", MalformedResponseError("HTTP 408"), 3, 3, State.UNKNOWN),
    Row("429, CO_MSG_000007", RateLimitedError("HTTP 429"), 1, 0, State.RESERVED),
    Row("expired, with a Date", make_skew(DATE), 2, 0, State.RESERVED),
    Row("expired, without one", make_skew(None), 1, 0, State.RESERVED),
    Row("CO_MSG_000001", RefusedError("malformed"), 1, 0, State.REJECTED),
    Row("bad signature", SignatureRefusedError("no"), 1, 0, State.RESERVED),
    Row("appKey, address", AccessDeniedError("no"), 1, 0, State.RESERVED),
    Row("CO_MSG_000002, 03", InDoubtError("interrupted"), 3, 3, State.UNKNOWN),
    Row("repeated", DuplicateRequestError("repeated"), 1, 1, State.UNKNOWN),
    Row("any other business refusal", RefusedError("no"), 1, 0, State.REJECTED),
    Row("unknown code", InDoubtError("no code", retryable=False), 1, 1, State.UNKNOWN),
    Row("echo differs", MalformedResponseError("echo", retryable=False), 1, 1, State.UNKNOWN),
    Row("status F", FailedError("status F"), 1, 0, State.FAILED),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
async def test_failure_is_retried_asked_about_and_told_as_the_table_says(
    row: Row, clock: MovedClock
) -> None:
    """How often it is tried, how often it is asked about, what is raised and what is recorded."""
    asked = list[int]()
    call = FakeCall(clock, errors=[row.error] * 9, query=lambda: asked.append(1))

    with pytest.raises(WxPayError) as caught:
        await deliver_over(call, *[OK] * 9)

    assert (row.error, row.attempts) == (caught.value, caught.value.attempts)
    assert (row.attempts, row.asked) == (len(call.prepared), len(asked))
    assert [row.error] * row.attempts == call.completed
    assert row.state is next_state(State.SENDING, transition_for(row.error))


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.what)
async def test_failure_after_a_doubt_clears_it_only_by_proof(row: Row, clock: MovedClock) -> None:
    """Once an attempt is in doubt, only "executed and failed" ends the call in another way."""
    call = FakeCall(clock, errors=[LOST, *[row.error] * 9])

    with pytest.raises(WxPayError) as caught:
        await deliver_over(call, *[OK] * 9)

    state = next_state(State.SENDING, transition_for(row.error), in_doubt=True)
    expected = Fate.REFUSED if row.state is State.FAILED else Fate.IN_DOUBT
    assert expected is caught.value.fate
    assert (State.FAILED if row.state is State.FAILED else State.UNKNOWN) is state


# Attempts


async def test_attempts_are_signed_afresh_over_the_same_bytes(clock: MovedClock) -> None:
    """New nonce, timestamp and signature, same bizContent; each verifies as it went out."""
    transport = MemoryTransport([LOST, LOST, OK])
    builder, signer = RequestBuilder("k", None, "https://p.example"), Md5Signer(SECRET)
    nonces = iter("abc")
    pay = MiniProgramPay(request_id="r1", pay_token="t", terminal_payer_id="微信")

    class SignedCall(FakeCall):
        async def prepare(self, number: int) -> HttpRequest:
            del number
            now = round(clock.time() * 1000)
            draft = builder.draft(PAY, parameters(pay), now_ms=now, nonce=next(nonces))
            return draft.signed(signer.sign(draft.message))

    await deliver(make_retrying(transport, clock), SignedCall(clock))
    sent = [parse_qs(request.body.decode("ascii")) for request in transport.requests]

    assert [3, 3, 3, 1] == [
        len({attempt[name][0] for attempt in sent})
        for name in ("nonce", "timestamp", "sign", "bizContent")
    ]
    assert "r1" == json.loads(sent[0]["bizContent"][0])["requestId"]
    for attempt in sent:
        params = {name: values[0] for name, values in attempt.items()}
        Md5Verifier(SECRET).verify(canonical_string(params).encode(), params["sign"])


async def test_success_takes_one_attempt_and_completes_it(clock: MovedClock) -> None:
    """Prepared once, completed once without an error, no pause."""
    call = FakeCall(clock)
    result = await deliver_over(call, OK)

    assert ("paid", [1], [None], []) == (result, call.prepared, call.completed, clock.slept)


async def test_attempt_is_completed_exactly_once_with_its_own_error(clock: MovedClock) -> None:
    """Three attempts are completed three times, in order."""
    call = FakeCall(clock)
    await deliver_over(call, UNSENT, LOST, OK)

    assert ([1, 2, 3], [UNSENT, LOST, None]) == (call.prepared, call.completed)


async def test_attempt_that_cannot_be_prepared_is_not_completed(clock: MovedClock) -> None:
    """Nothing was sent, so there is nothing to record; the attempts begun are none."""

    async def fail() -> None:
        raise NotSentError("no quota", retryable=False)

    call = FakeCall(clock, before_prepare=fail)
    with pytest.raises(NotSentError) as caught:
        await deliver_over(call)

    assert ([], 0) == (call.completed, caught.value.attempts)


async def test_attempt_that_cannot_be_read_for_a_defect_is_in_doubt(clock: MovedClock) -> None:
    """An unforeseen exception does not leave the attempt open."""

    class DefectiveCall(FakeCall):
        def read(self, response: HttpResponse) -> str:
            del response
            raise ZeroDivisionError

    call = DefectiveCall(clock)
    with pytest.raises(ZeroDivisionError):
        await deliver_over(call, OK)

    assert ["in_doubt"] == [error.fate for error in call.completed if error]


# Pauses, the deadline and the budget


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
    """It is no outage, whoever counted: each call of a batch has all its attempts."""
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


# Doubts


@pytest.mark.parametrize("last", [REFUSED, UNSENT], ids=["refused", "not-sent"])
async def test_doubt_of_an_earlier_attempt_survives(clock: MovedClock, last: WxPayError) -> None:
    """What clears the last attempt does not clear the first (`money-safety.md` §3)."""
    call = FakeCall(clock)
    with pytest.raises(InDoubtError) as caught:
        await deliver_over(call, LOST, last, last)

    assert ("in_doubt", last.code, False) == (
        caught.value.fate,
        caught.value.code,
        caught.value.retryable,
    )
    assert last is caught.value.__cause__
    assert LOST is call.completed[0]
    assert len(call.completed) == caught.value.attempts


@pytest.mark.parametrize("last", [REFUSED, UNSENT], ids=["refused", "not-sent"])
async def test_doubt_of_another_call_survives(clock: MovedClock, last: WxPayError) -> None:
    """Another process may have sent the requestId, so a refusal here settles nothing."""
    with pytest.raises(InDoubtError) as caught:
        await deliver_over(FakeCall(clock, in_doubt=True), *[last] * 3)

    assert last is caught.value.__cause__


async def test_refusal_without_a_doubt_is_a_refusal(clock: MovedClock) -> None:
    """And so is one after proof of not sent."""
    with pytest.raises(RefusedError) as caught:
        await deliver_over(FakeCall(clock), UNSENT, REFUSED)

    assert (REFUSED, 2) == (caught.value, caught.value.attempts)


async def test_duplicate_is_never_sent_again(clock: MovedClock) -> None:
    """It is in doubt, and sending once more brings no clarity."""
    transport = MemoryTransport([LOST, DuplicateRequestError("repeated")])
    with pytest.raises(InDoubtError):
        await deliver(make_retrying(transport, clock), FakeCall(clock))

    assert 2 == transport.calls


async def test_platform_is_asked_before_an_attempt_in_doubt_is_repeated(
    clock: MovedClock,
) -> None:
    """If the outcome is found, it is the result and nothing is sent again."""
    transport, asked = MemoryTransport([LOST]), list[int]()

    def find() -> str:
        asked.append(transport.calls)
        return "found"

    result = await deliver(make_retrying(transport, clock), FakeCall(clock, query=find))

    assert ("found", [1], 1) == (result, asked, transport.calls)


async def test_platform_s_answer_about_a_doubt_is_raised_if_it_is_an_error(
    clock: MovedClock,
) -> None:
    """What is proven ends the call: nothing is sent again."""
    transport = MemoryTransport([LOST])

    def find() -> str:
        raise AlreadyPaidError("the order is paid")

    with pytest.raises(AlreadyPaidError):
        await deliver(make_retrying(transport, clock), FakeCall(clock, query=find))

    assert 1 == transport.calls


# Cancellation


async def cancel(task: asyncio.Task[str], after: asyncio.Event) -> None:
    """Cancel a call when the event has come, and wait until it has ended."""
    await after.wait()
    task.cancel()
    await asyncio.wait([task], timeout=10.0)


async def test_cancellation_while_sending_leaves_the_attempt_in_doubt(clock: MovedClock) -> None:
    """The request may have left: that is recorded before the cancellation is raised."""
    transport, call = HangingTransport(), FakeCall(clock)
    task = asyncio.create_task(deliver(make_retrying(transport, clock), call))
    await cancel(task, transport.sending)

    assert task.cancelled()
    assert ["in_doubt"] == [error.fate for error in call.completed if error]


async def test_cancellation_is_raised_though_nothing_can_be_recorded(clock: MovedClock) -> None:
    """A store that fails at that moment does not make an error of it, nor another attempt."""

    async def fail() -> None:
        call.before_complete = None
        raise InDoubtError("the store cannot record an outcome (ConnectionError)")

    transport, call = HangingTransport(), FakeCall(clock, before_complete=fail)
    task = asyncio.create_task(deliver(make_retrying(transport, clock), call))
    await cancel(task, transport.sending)

    assert (True, [1]) == (task.cancelled(), call.prepared)


async def test_cancellation_while_completing_is_left_to_the_call(clock: MovedClock) -> None:
    """`complete` is called once and sees the cancellation; what must finish shields itself."""
    completing = asyncio.Event()

    async def complete() -> None:
        completing.set()
        for _ in range(5):
            await asyncio.sleep(0)

    call = FakeCall(clock, before_complete=lambda: run_to_completion(complete()))
    task = asyncio.create_task(deliver_over(call, OK))
    await cancel(task, completing)

    assert ([1], True) == (call.prepared, task.cancelled())


async def test_cancellation_in_a_pause_prepares_nothing_more(clock: MovedClock) -> None:
    """What was completed stays completed, and the cancellation is raised."""
    pausing = asyncio.Event()

    class HangingClock(MovedClock):
        async def sleep(self, seconds: float) -> None:
            del seconds
            pausing.set()
            await asyncio.Event().wait()

    call = FakeCall(clock)
    retrying = make_retrying(MemoryTransport([UNSENT]), HangingClock())
    task = asyncio.create_task(deliver(retrying, call))
    await cancel(task, pausing)

    assert (True, [1], 1) == (task.cancelled(), call.prepared, len(call.completed))


async def test_cancellation_while_preparing_completes_nothing(clock: MovedClock) -> None:
    """Nothing was sent; `prepare` cleans up after itself."""
    preparing = asyncio.Event()

    async def hang() -> None:
        preparing.set()
        await asyncio.Event().wait()

    call, transport = FakeCall(clock, before_prepare=hang), MemoryTransport()
    task = asyncio.create_task(deliver(make_retrying(transport, clock), call))
    await cancel(task, preparing)

    assert (True, [], 0) == (task.cancelled(), call.completed, transport.calls)

"""The one layer that retries: what it prepares, settles, sleeps and finally says."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from urllib.parse import parse_qs

import pytest
from attrs import define, field

from wxpay_async.adapters.event_loop import run_to_completion
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.retrying import RetryingTransport
from wxpay_async.errors import (
    ClockSkewError,
    DuplicateRequestError,
    InDoubtError,
    NotSentError,
    RateLimitedError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.retry import QUOTA_WINDOW, RetryBudget, RetryPolicy
from wxpay_async.protocol.builder import PAY, RequestBuilder, parameters
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.requests import MiniProgramPay
from wxpay_async.protocol.signing import Md5Signer, Md5Verifier
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts

SECRET = "192006250b4c09247ec02edce69f6a2d"
OK = HttpResponse(200, b"paid")


@define(eq=False)
class Call:
    """Prepares and settles like an operation does, and writes down what it was asked."""

    clock: Clock
    prepared: list[int] = field(factory=list)
    settled: list[WxPayError | None] = field(factory=list)
    before_prepared: Callable[[], Awaitable[None]] | None = None
    before_settled: Callable[[], Awaitable[None]] | None = None
    verdicts: list[WxPayError | None] = field(factory=list)
    ask: Callable[[], Awaitable[str | None]] | None = None

    async def prepare(self, number: int) -> HttpRequest:
        """Make attempt n."""
        if self.before_prepared:
            await self.before_prepared()
        self.prepared.append(number)
        return HttpRequest("https://platform.example", b"%d" % number)

    def read(self, response: HttpResponse) -> str:
        """Read what the reply says, or what the test lays into its mouth."""
        verdict = self.verdicts.pop(0) if self.verdicts else None
        if verdict is not None:
            raise verdict
        return response.body.decode()

    async def complete(self, error: WxPayError | None) -> None:
        """Write the outcome down."""
        if self.before_settled:
            await self.before_settled()
        self.settled.append(error)

    @property
    def in_doubt(self) -> bool:
        """No other call has sent it."""
        return False

    @property
    def can_check_outcome(self) -> bool:
        """Whether the test says what a query finds."""
        return self.ask is not None

    async def check_outcome(self) -> str | None:
        """Ask the platform."""
        return None if self.ask is None else await self.ask()


@define(eq=False)
class Stuck:
    """A transport that never answers."""

    sending: asyncio.Event = field(factory=asyncio.Event)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Hang."""
        del request, timeout
        self.sending.set()
        await asyncio.Event().wait()
        raise AssertionError("unreachable")

    async def aclose(self) -> None:
        """Do nothing."""


def _retrying(transport: object, clock: Clock, **parts: object) -> RetryingTransport:
    return RetryingTransport(transport, clock=clock, random=lambda: 0.5, **parts)  # type: ignore[arg-type]


async def _deliver(retrying: RetryingTransport, call: Call, *, seconds: float = 30.0) -> str:
    deadline = Deadline.after(seconds, call.clock.monotonic)
    return await retrying.deliver(call, deadline=deadline)


async def test_each_attempt_is_signed_afresh_over_the_same_bytes(clock: Clock) -> None:
    """New nonce, timestamp and signature, same bizContent; each verifies as it went out."""
    lost = InDoubtError("read timeout")
    transport = MemoryTransport([lost, lost, OK])
    builder, signer, nonces = (
        RequestBuilder("k", None, "https://p.example"),
        Md5Signer(SECRET),
        iter("abc"),
    )
    pay = MiniProgramPay(request_id="r1", pay_token="t", terminal_payer_id="微信")

    class Signed(Call):
        async def prepare(self, number: int) -> HttpRequest:
            del number
            now = round(clock.time() * 1000)
            draft = builder.draft(PAY, parameters(pay), now_ms=now, nonce=next(nonces))
            return draft.signed(signer.sign(draft.message))

    await _deliver(_retrying(transport, clock), Signed(clock))
    sent = [parse_qs(request.body.decode("ascii")) for request in transport.requests]

    assert [3, 3, 3, 1] == [
        len({attempt[name][0] for attempt in sent})
        for name in ("nonce", "timestamp", "sign", "bizContent")
    ]
    assert "r1" == json.loads(sent[0]["bizContent"][0])["requestId"]
    for attempt in sent:
        params = {name: values[0] for name, values in attempt.items()}
        Md5Verifier(SECRET).verify(canonical_string(params).encode(), params["sign"])


async def test_a_success_needs_one_attempt_and_settles_it(clock: Clock) -> None:
    """Prepared once, settled once with nothing to complain of, no sleep."""
    call = Call(clock)
    result = await _deliver(_retrying(MemoryTransport([OK]), clock), call)

    assert ("paid", [1], [None], []) == (result, call.prepared, call.settled, clock.slept)


async def test_every_prepared_attempt_is_settled_exactly_once_with_its_own_error(
    clock: Clock,
) -> None:
    """Three attempts, three settlements, in order."""
    unsent, lost = NotSentError("refused"), InDoubtError("read timeout")
    call = Call(clock)
    await _deliver(_retrying(MemoryTransport([unsent, lost, OK]), clock), call)

    assert ([1, 2, 3], [unsent, lost, None]) == (call.prepared, call.settled)


async def test_pauses_are_jittered_and_double(clock: Clock) -> None:
    """Half of 0.5 s, then half of 1 s, for a random number of 0.5."""
    unsent = NotSentError("refused")
    await _deliver(_retrying(MemoryTransport([unsent, unsent, OK]), clock), Call(clock))

    assert [0.25, 0.5] == clock.slept


async def test_an_attempt_that_cannot_be_prepared_is_not_settled(clock: Clock) -> None:
    """Nothing was sent, so there is nothing to write down; the attempts begun are none."""
    call = Call(clock)

    async def fail() -> None:
        raise NotSentError("no quota", retryable=False)

    call.before_prepared = fail
    with pytest.raises(NotSentError) as caught:
        await _deliver(_retrying(MemoryTransport(), clock), call)

    assert ([], 0) == (call.settled, caught.value.attempts)


@pytest.mark.parametrize(
    "last", [RefusedError("no", code="C"), NotSentError("refused")], ids=["refused", "not-sent"]
)
async def test_the_doubt_of_an_earlier_attempt_survives(clock: Clock, last: WxPayError) -> None:
    """What clears the last attempt does not clear the first (`money-safety.md` §3)."""
    lost, call = InDoubtError("read timeout"), Call(clock)
    answers = [lost, last, last]
    with pytest.raises(InDoubtError) as caught:
        await _deliver(_retrying(MemoryTransport(answers), clock), call)

    assert ("in_doubt", last.code, False) == (
        caught.value.fate,
        caught.value.code,
        caught.value.retryable,
    )
    assert last is caught.value.__cause__
    assert lost is call.settled[0]
    assert len(call.settled) == caught.value.attempts


async def test_a_refusal_without_a_doubt_is_a_refusal(clock: Clock) -> None:
    """And so is one after proof of not sent."""
    refused = RefusedError("no")
    answers = [NotSentError("refused"), refused]
    with pytest.raises(RefusedError) as caught:
        await _deliver(_retrying(MemoryTransport(answers), clock), Call(clock))

    assert (refused, 2) == (caught.value, caught.value.attempts)


async def test_a_duplicate_is_never_sent_again(clock: Clock) -> None:
    """It is in doubt, and sending once more brings no clarity."""
    transport = MemoryTransport([InDoubtError("read timeout"), DuplicateRequestError("repeated")])
    with pytest.raises(InDoubtError):
        await _deliver(_retrying(transport, clock), Call(clock))

    assert 2 == transport.calls


async def test_the_platform_is_asked_before_an_attempt_in_doubt_is_repeated(clock: Clock) -> None:
    """Found, the answer is the result and nothing is sent again."""
    transport, asked = MemoryTransport([InDoubtError("read timeout")]), list[int]()

    async def inquire() -> str:
        asked.append(transport.calls)
        return "found"

    result = await _deliver(_retrying(transport, clock), Call(clock, ask=inquire))

    assert ("found", [1], 1) == (result, asked, transport.calls)


async def test_the_platform_is_not_asked_where_there_is_no_doubt(clock: Clock) -> None:
    """Not sent and refused are facts."""

    async def inquire() -> str:
        raise AssertionError("asked")

    transport = MemoryTransport([NotSentError("refused"), RefusedError("no")])
    with pytest.raises(RefusedError):
        await _deliver(_retrying(transport, clock), Call(clock, ask=inquire))


async def test_a_skewed_clock_is_tried_once_more_at_once(clock: Clock) -> None:
    """With the platform's Date the second attempt follows without a pause; a third never."""
    skews = [ClockSkewError("expired") for _ in range(3)]
    for skew in skews:
        skew.server_time = datetime(2026, 11, 22, tzinfo=UTC)
    call = Call(clock, verdicts=list(skews))
    with pytest.raises(ClockSkewError) as caught:
        await _deliver(_retrying(MemoryTransport([OK, OK, OK]), clock), call)

    assert (skews[1], 0.0, skews[:2]) == (caught.value, sum(clock.slept), call.settled)


async def test_a_skewed_clock_without_a_date_is_reported_at_once(clock: Clock) -> None:
    """There is nothing to correct the clock by."""
    call = Call(clock, verdicts=[ClockSkewError("expired")])
    with pytest.raises(ClockSkewError):
        await _deliver(_retrying(MemoryTransport([OK]), clock), call)

    assert [1] == call.prepared


async def test_the_quota_window_is_waited_for(clock: Clock) -> None:
    """Given time, a call that was refused for too many calls comes back when the window is free."""
    call = Call(clock, verdicts=[RateLimitedError("429")])
    result = await _deliver(_retrying(MemoryTransport([OK, OK]), clock), call, seconds=120)

    assert ("paid", [QUOTA_WINDOW]) == (result, clock.slept)


async def test_the_deadline_ends_retrying(clock: Clock) -> None:
    """With less than `min_left` after an attempt there is no other."""

    async def slow(_: HttpRequest) -> WxPayError:
        clock.move(14)
        return InDoubtError("read timeout")

    transport = MemoryTransport(slow)
    with pytest.raises(InDoubtError) as caught:
        await _deliver(_retrying(transport, clock), Call(clock))

    assert (2, 2) == (transport.calls, caught.value.attempts)


async def test_an_attempt_never_outlasts_the_call(clock: Clock) -> None:
    """The time-out of an attempt is cut to what is left of the call."""
    seen = list[float]()

    class Noting(MemoryTransport):
        async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
            seen.append(timeout.attempt)
            clock.move(12)
            return await super().send(request, timeout=timeout)

    lost = InDoubtError("read timeout")
    policy = RetryPolicy(attempts=5)
    with pytest.raises(InDoubtError):
        await _deliver(_retrying(Noting([lost] * 5), clock, policy=policy), Call(clock))

    assert [15.0, 15.0, pytest.approx(30 - 24 - 0.75)] == seen


async def test_a_dead_platform_sees_a_thousand_and_ten_attempts(clock: Clock) -> None:
    """1,000 calls in a total outage make at most 1,010 attempts (`money-safety.md` §5)."""
    transport = MemoryTransport(lambda _: NotSentError("refused"))
    retrying = _retrying(transport, clock, budget=RetryBudget())
    calls = (_deliver(retrying, Call(clock)) for _ in range(1_000))
    results = await asyncio.gather(*calls, return_exceptions=True)

    assert {NotSentError} == {type(result) for result in results}
    assert 1_000 <= transport.calls <= 1_010


async def test_a_retried_success_earns_nothing(clock: Clock) -> None:
    """Only a clean success feeds the budget, so retries cannot pay for retries."""
    budget = RetryBudget()
    answers = [NotSentError("refused"), OK, OK]
    retrying = _retrying(MemoryTransport(answers), clock, budget=budget)
    await _deliver(retrying, Call(clock))
    assert 90 == budget.tokens
    await _deliver(retrying, Call(clock))

    assert 91 == budget.tokens


async def test_cancelled_while_sending_it_is_settled_as_in_doubt(clock: Clock) -> None:
    """The request may have left: that is written down before the cancellation comes out."""
    transport, call = Stuck(), Call(clock)
    task = asyncio.create_task(_deliver(_retrying(transport, clock), call))
    await transport.sending.wait()
    task.cancel()
    await asyncio.wait([task])

    assert task.cancelled()
    assert ["in_doubt"] == [error.fate for error in call.settled if error]


async def test_a_cancellation_comes_out_though_nothing_can_be_written_down(clock: Clock) -> None:
    """A store that fails at that moment does not make an error of it, nor another attempt."""

    async def fail() -> None:
        call.before_settled = None
        raise InDoubtError("the store cannot record an outcome (ConnectionError)")

    transport, call = Stuck(), Call(clock, before_settled=fail)
    task = asyncio.create_task(_deliver(_retrying(transport, clock), call))
    await transport.sending.wait()
    task.cancel()
    await asyncio.wait([task], timeout=0.5)
    heard = task.cancelled()
    task.cancel()  # for one that was not
    await asyncio.wait([task])

    assert (True, [1]) == (heard, call.prepared)


async def test_a_cancellation_while_settling_is_the_settlement_s_own(clock: Clock) -> None:
    """It is called once and hears of the cancellation; whoever must finish shields itself."""
    settling = asyncio.Event()

    call = Call(clock, before_settled=lambda: run_to_completion(brief()))

    async def brief() -> None:
        settling.set()
        for _ in range(5):
            await asyncio.sleep(0)

    task = asyncio.create_task(_deliver(_retrying(MemoryTransport([OK]), clock), call))
    await settling.wait()
    task.cancel()
    await asyncio.wait([task])

    assert ([1], True) == (call.prepared, task.cancelled())


async def test_cancelled_in_a_pause_nothing_more_is_prepared(clock: Clock) -> None:
    """What was settled stays settled, and the cancellation comes out."""
    pausing = asyncio.Event()

    class Held(type(clock)):  # type: ignore[misc]
        async def sleep(self, seconds: float) -> None:
            del seconds
            pausing.set()
            await asyncio.Event().wait()

    call = Call(clock)
    transport = MemoryTransport([NotSentError("refused")])
    task = asyncio.create_task(_deliver(_retrying(transport, Held()), call))
    await pausing.wait()
    task.cancel()
    await asyncio.wait([task])

    assert (True, [1], 1) == (task.cancelled(), call.prepared, len(call.settled))


async def test_cancelled_while_preparing_nothing_is_settled(clock: Clock) -> None:
    """Nothing was sent; whoever prepares cleans up after itself."""
    preparing = asyncio.Event()

    async def hang() -> None:
        preparing.set()
        await asyncio.Event().wait()

    call = Call(clock, before_prepared=hang)
    transport = MemoryTransport()
    task = asyncio.create_task(_deliver(_retrying(transport, clock), call))
    await preparing.wait()
    task.cancel()
    await asyncio.wait([task])

    assert (True, [], 0) == (task.cancelled(), call.settled, transport.calls)


async def test_a_defect_in_reading_is_settled_as_in_doubt(clock: Clock) -> None:
    """An unforeseen exception does not leave the attempt open."""

    class Defective(Call):
        def read(self, response: HttpResponse) -> str:
            del response
            raise ZeroDivisionError

    call = Defective(clock)
    with pytest.raises(ZeroDivisionError):
        await _deliver(_retrying(MemoryTransport([OK]), clock), call)
    assert ["in_doubt"] == [error.fate for error in call.settled if error]

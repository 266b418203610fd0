"""The one layer that retries: attempts, doubts, cancellation, and the error in the end."""

from __future__ import annotations

import asyncio
import json
from urllib.parse import parse_qs

import pytest
from attrs import frozen

from tests.engine.fake_call import (
    DATE,
    LOST,
    OK,
    REFUSED,
    UNSENT,
    FakeCall,
    HangingTransport,
    deliver,
    deliver_over,
    make_retrying,
    make_skew,
)
from tests.support.clock import MovedClock
from tests.support.platform import SECRET
from wxpay_async.adapters.event_loop import run_to_completion
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.errors import (
    AccessDeniedError,
    AlreadyPaidError,
    ConfigurationRefusedError,
    DuplicateRequestError,
    FailedError,
    Fate,
    InDoubtError,
    MalformedResponseError,
    NotSentError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.policy.states import State, next_state, transition_for
from wxpay_async.protocol.builder import PAY, RequestBuilder, parameters
from wxpay_async.protocol.canonical import canonical_string
from wxpay_async.protocol.requests import MiniProgramPay
from wxpay_async.protocol.signing import Md5Signer, Md5Verifier
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

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

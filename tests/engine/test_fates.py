"""Every row of `money-safety.md` §4, from the wire to the store, for pay and for refund."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import field, frozen

from wxpay_async.adapters.limiters.limiter import Lane, Slot, Unlimited
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.errors import (
    AccessDeniedError,
    ClockSkewError,
    DuplicateRequestError,
    FailedError,
    IdempotencyConflictError,
    InDoubtError,
    InvalidRequestError,
    MalformedResponseError,
    NotSentError,
    RateLimitedError,
    RefusedError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.wire import HttpResponse

Fixture = Any
"""What a conftest.py defines, which no test module can import."""

DATE = {"date": "Sat, 22 Nov 2025 20:00:00 GMT"}
LOST = InDoubtError("read timeout")
UNSENT = NotSentError("connection refused")
NO_CERTIFICATE = NotSentError("certificate", retryable=False)
OVERSIZED = MalformedResponseError("over 1 MiB")


def _says(code: str, status: int = 200, headers: dict[str, str] | None = None) -> HttpResponse:
    body = b'{"success":false,"errorCode":"%b","errorMsg":"because"}' % code.encode()
    return HttpResponse(status, body, headers or {})


def _body(body: bytes, status: int = 200) -> HttpResponse:
    return HttpResponse(status, body)


@frozen
class Row:
    """What happens, and what must follow."""

    name: str
    answers: tuple[Any, ...]
    error: type[WxPayError] | None
    attempts: int
    state: State
    of: tuple[str, ...] = field(default=("pay", "refund"), kw_only=True)


Garbled = MalformedResponseError
RESERVED, UNKNOWN, REJECTED = State.RESERVED, State.UNKNOWN, State.REJECTED
BROKEN = HttpResponse(502, b"<html>Bad Gateway</html>")
MOVED = HttpResponse(302, b"", {"location": "https://evil.example/path?sign=ABC"})
PAY, REFUND = ("pay",), ("refund",)

ROWS = [
    Row("refused connection", (UNSENT,), NotSentError, 3, RESERVED),
    Row("certificate", (NO_CERTIFICATE,), NotSentError, 1, RESERVED),
    Row("read timeout", (LOST,), InDoubtError, 3, UNKNOWN),
    Row("timeout, then no connection", (LOST, UNSENT), InDoubtError, 3, UNKNOWN),
    Row("timeout, then a refusal", (LOST, _says("CO_MSG_000001")), InDoubtError, 2, UNKNOWN),
    Row("timeout, then 4xx", (LOST, _body(b"no", 403)), InDoubtError, 2, UNKNOWN),
    Row("timeout, then repeated", (LOST, _says("GM_API_BUS_0000015")), InDoubtError, 2, UNKNOWN),
    Row("unsent, then a refusal", (UNSENT, _says("CO_MSG_000001")), RefusedError, 2, REJECTED),
    Row("HTML 502", (BROKEN,), Garbled, 3, UNKNOWN),
    Row("HTML 200", (_body(b"<html>"),), Garbled, 3, UNKNOWN),
    Row("empty 200", (_body(b""),), Garbled, 3, UNKNOWN),
    Row("oversized", (OVERSIZED,), Garbled, 3, UNKNOWN),
    Row("NaN", (_body(b'{"success":true,"data":{"x":NaN}}'),), Garbled, 3, UNKNOWN),
    Row("a name twice", (_body(b'{"success":true,"success":true}'),), Garbled, 3, UNKNOWN),
    Row("5xx", (_body(b'{"success":true}', 500),), Garbled, 3, UNKNOWN),
    Row("redirect", (MOVED,), InDoubtError, 1, UNKNOWN),
    Row("4xx", (_body(b"no", 404),), RefusedError, 1, REJECTED),
    Row("429", (_body(b"slow down", 429),), RateLimitedError, 1, RESERVED),
    Row("call rate", (_says("CO_MSG_000007"),), RateLimitedError, 1, RESERVED),
    Row("expired, with a Date", (_says("CO_MSG_000005", 200, DATE),), ClockSkewError, 2, RESERVED),
    Row("expired, without one", (_says("CO_MSG_000005"),), ClockSkewError, 1, RESERVED),
    Row("malformed", (_says("CO_MSG_000001"),), RefusedError, 1, REJECTED),
    Row("data operation failed", (_says("CO_MSG_000002"),), InDoubtError, 3, UNKNOWN),
    Row("interrupted", (_says("CO_MSG_000003"),), InDoubtError, 3, UNKNOWN),
    Row("no such appKey", (_says("CO_MSG_000004"),), AccessDeniedError, 1, REJECTED),
    Row("bad signature", (_says("CO_MSG_000006"),), SignatureRefusedError, 1, REJECTED),
    Row("appKey invalid", (_says("CO_MSG_000008"),), AccessDeniedError, 1, REJECTED),
    Row("token", (_says("CO_MSG_0000011"),), AccessDeniedError, 1, REJECTED),
    Row("media type", (_says("CO_MSG_0000015"),), RefusedError, 1, REJECTED),
    Row("method", (_says("CO_MSG_0000016"),), RefusedError, 1, REJECTED),
    Row("address", (_says("CO_MSG_0000017"),), AccessDeniedError, 1, REJECTED),
    Row("requestId empty", (_says("GM_API_BUS_000005"),), RefusedError, 1, REJECTED),
    Row("requestId expired", (_says("GM_API_BUS_000007"),), RefusedError, 1, REJECTED),
    Row("repeated", (_says("GM_API_BUS_0000015"),), DuplicateRequestError, 1, UNKNOWN),
    Row("business refusal", (_says("GM_API_BUS_000777"),), RefusedError, 1, REJECTED),
    Row("unknown code", (_says("XX_1"),), RefusedError, 1, REJECTED, of=PAY),
    Row("unknown code", (_says("XX_1"),), InDoubtError, 1, UNKNOWN, of=REFUND),
    Row("success without data", (_body(b'{"success":true}'),), Garbled, 1, UNKNOWN),
    Row("fields missing", (_body(b'{"success":true,"data":{}}'),), Garbled, 1, UNKNOWN),
    Row("status F", ("refunded F",), FailedError, 1, State.FAILED, of=REFUND),
    Row("timeout, then F", (LOST, "refunded F"), FailedError, 2, State.FAILED, of=REFUND),
    Row("status P", ("refunded P",), None, 1, State.PENDING, of=REFUND),
    Row("status S", ("refunded S",), None, 1, State.SUCCEEDED, of=REFUND),
    Row("prepay", ("prepay",), None, 1, State.SUCCEEDED, of=PAY),
    Row("timeout, then an answer", (LOST, "refunded S"), None, 2, State.SUCCEEDED, of=REFUND),
    Row("timeout, then an answer", (LOST, "prepay"), None, 2, State.SUCCEEDED, of=PAY),
    Row("another requestId", ("refunded S requestId",), Garbled, 1, UNKNOWN, of=REFUND),
    Row("another order", ("refunded S outTradeNo",), Garbled, 1, UNKNOWN, of=REFUND),
    Row("another requestId", ("prepay requestId",), Garbled, 1, UNKNOWN, of=PAY),
    Row("another appId", ("prepay appId",), Garbled, 1, UNKNOWN, of=PAY),
]  # fmt: skip
CASES = [(row, operation) for row in ROWS for operation in row.of]


def _spoken(answer: object, replies: Fixture) -> object:
    """Turn a word of the table into a reply; a name after it stands for a value that differs."""
    if not isinstance(answer, str):
        return answer
    verb, *rest = answer.split()
    status = [rest.pop(0)] if verb == "refunded" else []
    return getattr(replies, verb)(*status, **dict.fromkeys(rest, "different"))


FATES = {
    State.UNKNOWN: {"in_doubt"},
    State.REJECTED: {"refused"},
    State.FAILED: {"refused"},
    State.RESERVED: {"not_sent", "refused"},  # refused for now: the quota, the clock
}


@pytest.mark.parametrize(
    ("row", "operation"), CASES, ids=[f"{op}: {row.name}" for row, op in CASES]
)
async def test_a_row(
    row: Row,
    operation: str,
    open_shop: Fixture,
    asking: Fixture,
    replies: Fixture,
    script: Fixture,
) -> None:
    """The error's class and fate, the attempts, and the state that is written down."""
    answers = script(*(_spoken(answer, replies) for answer in row.answers))
    shop = open_shop(answers)
    request = asking.pay(app_id="wx9236b1e84ffbf10a") if operation == "pay" else asking.refund()
    error = None
    try:
        attempts = (await getattr(shop.gateway, operation)(request)).attempts
    except WxPayError as raised:
        error, attempts = raised, raised.attempts

    assert row.error is (type(error) if error else None)
    assert (row.attempts, row.attempts) == (attempts, shop.transport.calls - answers.queries)
    assert row.state is await shop.state(request.request_id)
    if error is not None:
        assert request.request_id == error.request_id
        assert error.fate in FATES[row.state]


@pytest.mark.parametrize("operation", ["pay", "refund"])
async def test_an_attempt_in_doubt_is_asked_about_before_it_is_repeated(
    operation: str, open_shop: Fixture, asking: Fixture, script: Fixture
) -> None:
    """Query if it can, then resend: each doubt is followed by a query for the order."""
    answers = script(LOST)
    shop = open_shop(answers)
    request = getattr(asking, operation)(out_trade_no="R-1")
    with pytest.raises(InDoubtError):
        await getattr(shop.gateway, operation)(request)
    paths = [request.url.rpartition("/")[2] for request in shop.transport.requests]

    assert ["query"] * 3 == paths[1::2]
    assert {"R-1"} == {sent["outTradeNo"] for sent in shop.sent("query")}


async def test_a_redirect_names_the_host_only(
    open_shop: Fixture, asking: Fixture, script: Fixture
) -> None:
    """What was sent may come back in the query of the address."""
    shop = open_shop(script(MOVED))
    with pytest.raises(InDoubtError, match=r"evil\.example") as caught:
        await shop.gateway.pay(asking.pay())

    assert "sign" not in str(caught.value)


async def test_the_platform_s_message_is_told_without_the_request_s_credentials(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """What is left of it helps as before, also when it is read from the store."""
    said = "token-1 of openid-0123456789 in pay-1: expired"
    shop = open_shop([replies.no("GM_API_BUS_000777", said)])
    for replayed in (False, True):
        with pytest.raises(RefusedError) as caught:
            await shop.gateway.pay(asking.pay())

        assert ("*** of *** in pay-1: expired", replayed) == (
            caught.value.message,
            caught.value.replayed,
        )


async def test_a_verdict_repeats_no_credentials_either(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The last attempt's message becomes that of the doubt which an earlier one left."""
    shop = open_shop([LOST, replies.no("GM_API_BUS_000777", "token-1: expired")])
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay())

    assert ("GM_API_BUS_000777", "***: expired") == (caught.value.code, caught.value.message)


async def test_without_the_request_the_platform_s_code_must_do(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """`resolve` reads what was stored, and cannot know what in the message is a credential."""
    shop = open_shop([replies.no("GM_API_BUS_000777", "token-1: expired")])
    with pytest.raises(RefusedError):
        await shop.gateway.pay(asking.pay())
    outcome = await shop.gateway.resolve("pay-1")

    assert isinstance(outcome.error, RefusedError)
    assert ("GM_API_BUS_000777", None) == (outcome.error.code, outcome.error.message)


async def test_what_the_platform_says_of_a_query_is_kept(
    open_shop: Fixture, replies: Fixture
) -> None:
    """It carries no credentials."""
    shop = open_shop([replies.no("GM_API_BUS_000099", "O-1 不存在")])
    with pytest.raises(RefusedError) as caught:
        await shop.gateway.query(out_trade_no="O-1")

    assert "O-1 不存在" == caught.value.message


async def test_bad_input_leaves_no_row(open_shop: Fixture, asking: Fixture) -> None:
    """What is found before anything is written down is not written down."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError):
        await shop.gateway.refund(asking.pay())

    assert (None, 0) == (await shop.state("pay-1"), shop.transport.calls)


async def test_other_content_in_the_store_sends_nothing(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The conflict names the fields that differ, and the row stays as it was."""
    shop = open_shop([replies.refunded()])
    await shop.gateway.refund(asking.refund())
    before = await shop.entry("refund-1")
    with pytest.raises(IdempotencyConflictError) as caught:
        await shop.gateway.refund(asking.refund(refund_amount="2.00", orig_out_trade_no="O-2"))

    assert ("origOutTradeNo", "refundAmount") == caught.value.fields
    assert (1, before) == (shop.transport.calls, await shop.entry("refund-1"))
    assert "2.00" not in str(caught.value)


class NoQuota(Unlimited):
    """A limiter that has nothing to give."""

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Refuse."""
        del lane, timeout
        raise NotSentError("no quota before the deadline", retryable=False)


async def test_without_quota_nothing_is_sent(open_shop: Fixture, asking: Fixture) -> None:
    """No slot before the deadline: not sent, and the row stays RESERVED."""
    shop = open_shop(limiter=NoQuota())
    with pytest.raises(NotSentError) as caught:
        await shop.gateway.pay(asking.pay())

    assert (0, 0, State.RESERVED) == (
        caught.value.attempts,
        shop.transport.calls,
        await shop.state("pay-1"),
    )


class DownBefore(MemoryStore):
    """A store that can read but not claim."""

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = 45.0
    ) -> IdempotencyRecord | None:
        """Fail."""
        del key, now, signed_at, lease
        raise NotSentError("the store is down", retryable=False)


async def test_without_a_store_nothing_is_sent(open_shop: Fixture, asking: Fixture) -> None:
    """If the claim cannot be committed, no byte leaves and the connection is free again."""
    shop = open_shop(store=DownBefore(), max_in_flight=1)
    for number in range(3):
        with pytest.raises(NotSentError):
            await shop.gateway.pay(asking.pay(f"pay-{number}"))

    assert 0 == shop.transport.calls


class DownAfter(MemoryStore):
    """A store that loses its connection once something was sent."""

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Fail."""
        del entry
        raise InDoubtError("the store is down")


async def test_an_answer_that_cannot_be_written_down_is_not_lost(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The caller gets the outcome inside the error, and nothing is sent a second time."""
    shop = open_shop([replies.prepay()], store=DownAfter())
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay())

    assert "wx061644162685653f3da37a5a1589465200" == caught.value.outcome.prepay_id
    assert 1 == shop.transport.calls


async def test_a_refusal_that_cannot_be_written_down_is_not_lost(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The platform's no is inside the error too."""
    shop = open_shop([replies.no("CO_MSG_000006")], store=DownAfter())
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay())

    assert SignatureRefusedError is type(caught.value.outcome)
    assert 1 == shop.transport.calls

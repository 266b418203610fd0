"""Every row of `money-safety.md` §4, from the wire to the store, for pay and for refund."""

from __future__ import annotations

from typing import Any

import pytest
from attrs import field, frozen

from tests.support import asking, replies
from tests.support.merchant import OpenShop
from tests.support.platform import Script
from wxpay_async.adapters.limiters.limiter import Lane, Slot, Unlimited
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.errors import (
    AccessDeniedError,
    ClockSkewError,
    ConfigurationRefusedError,
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
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

DATE = {"date": "Sat, 22 Nov 2025 20:00:00 GMT"}
LOST = InDoubtError("read timeout")
UNSENT = NotSentError("connection refused")
NO_CERTIFICATE = NotSentError("certificate", retryable=False)
OVERSIZED = MalformedResponseError("over 1 MiB")


def refuse(code: str, status: int = 200, headers: dict[str, str] | None = None) -> HttpResponse:
    """Make a refusal with this code."""
    body = b'{"success":false,"errorCode":"%b","errorMsg":"because"}' % code.encode()
    return HttpResponse(status, body, headers or {})


def answer(body: bytes, status: int = 200) -> HttpResponse:
    """Make a reply with this body."""
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
PAY, REFUND = ("pay",), ("refund",)
NO_KEY = refuse("CO_MSG_000004")
BROKEN = HttpResponse(502, b"<html>Bad Gateway</html>")
MOVED = HttpResponse(302, b"", {"location": "https://evil.example/path?sign=ABC"})
ROWS = [
    Row("refused connection", (UNSENT,), NotSentError, 3, RESERVED),
    Row("certificate", (NO_CERTIFICATE,), NotSentError, 1, RESERVED),
    Row("read timeout", (LOST,), InDoubtError, 3, UNKNOWN),
    Row("timeout, then no connection", (LOST, UNSENT), InDoubtError, 3, UNKNOWN),
    Row("timeout, then a refusal", (LOST, refuse("CO_MSG_000001")), InDoubtError, 2, UNKNOWN),
    Row("timeout, then 4xx", (LOST, answer(b"no", 403)), InDoubtError, 2, UNKNOWN),
    Row("timeout, then no such appKey", (LOST, NO_KEY), InDoubtError, 2, UNKNOWN),
    Row("timeout, then repeated", (LOST, refuse("GM_API_BUS_0000015")), InDoubtError, 2, UNKNOWN),
    Row("unsent, then a refusal", (UNSENT, refuse("CO_MSG_000001")), RefusedError, 2, REJECTED),
    Row("HTML 502", (BROKEN,), Garbled, 3, UNKNOWN),
    Row("HTML 200", (answer(b"<html>"),), Garbled, 3, UNKNOWN),
    Row("empty 200", (answer(b""),), Garbled, 3, UNKNOWN),
    Row("oversized", (OVERSIZED,), Garbled, 3, UNKNOWN),
    Row("NaN", (answer(b'{"success":true,"data":{"x":NaN}}'),), Garbled, 3, UNKNOWN),
    Row("a name twice", (answer(b'{"success":true,"success":true}'),), Garbled, 3, UNKNOWN),
    Row("5xx", (answer(b'{"success":true}', 500),), Garbled, 3, UNKNOWN),
    Row("redirect", (MOVED,), InDoubtError, 1, UNKNOWN),
    Row("4xx that proves it", (answer(b"no", 404),), ConfigurationRefusedError, 1, RESERVED),
    Row("any other 4xx", (answer(b"stream timeout", 408),), Garbled, 3, UNKNOWN),
    Row("429", (answer(b"slow down", 429),), RateLimitedError, 1, RESERVED),
    Row("call rate", (refuse("CO_MSG_000007"),), RateLimitedError, 1, RESERVED),
    Row("expired, with a Date", (refuse("CO_MSG_000005", 200, DATE),), ClockSkewError, 2, RESERVED),
    Row("expired, without one", (refuse("CO_MSG_000005"),), ClockSkewError, 1, RESERVED),
    Row("malformed", (refuse("CO_MSG_000001"),), RefusedError, 1, REJECTED),
    Row("data operation failed", (refuse("CO_MSG_000002"),), InDoubtError, 3, UNKNOWN),
    Row("interrupted", (refuse("CO_MSG_000003"),), InDoubtError, 3, UNKNOWN),
    Row("no such appKey", (refuse("CO_MSG_000004"),), AccessDeniedError, 1, RESERVED),
    Row("bad signature", (refuse("CO_MSG_000006"),), SignatureRefusedError, 1, RESERVED),
    Row("appKey invalid", (refuse("CO_MSG_000008"),), AccessDeniedError, 1, RESERVED),
    Row("token", (refuse("CO_MSG_0000011"),), AccessDeniedError, 1, RESERVED),
    Row("media type", (refuse("CO_MSG_0000015"),), ConfigurationRefusedError, 1, RESERVED),
    Row("method", (refuse("CO_MSG_0000016"),), ConfigurationRefusedError, 1, RESERVED),
    Row("address", (refuse("CO_MSG_0000017"),), AccessDeniedError, 1, RESERVED),
    Row("requestId empty", (refuse("GM_API_BUS_000005"),), RefusedError, 1, REJECTED),
    Row("requestId expired", (refuse("GM_API_BUS_000007"),), RefusedError, 1, REJECTED),
    Row("repeated", (refuse("GM_API_BUS_0000015"),), DuplicateRequestError, 1, UNKNOWN),
    Row("business refusal", (refuse("GM_API_BUS_000777"),), RefusedError, 1, REJECTED),
    Row("unknown code", (refuse("XX_1"),), RefusedError, 1, REJECTED, of=PAY),
    Row("unknown code", (refuse("XX_1"),), InDoubtError, 1, UNKNOWN, of=REFUND),
    Row("success without data", (answer(b'{"success":true}'),), Garbled, 1, UNKNOWN),
    Row("fields missing", (answer(b'{"success":true,"data":{}}'),), Garbled, 1, UNKNOWN),
    Row("status F", ("refunded F",), FailedError, 1, State.FAILED, of=REFUND),
    Row("timeout, then F", (LOST, "refunded F"), FailedError, 2, State.FAILED, of=REFUND),
    Row("status P", ("refunded P",), None, 1, State.PENDING, of=REFUND),
    Row("any other status", ("refunded W",), None, 1, State.PENDING, of=REFUND),
    Row("status in words", ("refunded 退款处理中",), None, 1, State.PENDING, of=REFUND),
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


def make_answer(answer: object) -> object:
    """Make a reply of a word of the table; a name after it stands for a value that differs."""
    if not isinstance(answer, str):
        return answer
    verb, *rest = answer.split()
    status = [rest.pop(0)] if verb == "refunded" else []
    return getattr(replies, verb)(*status, **dict.fromkeys(rest, "different"))


FATES = {
    State.UNKNOWN: {"in_doubt"},
    State.REJECTED: {"refused"},
    State.FAILED: {"refused"},
    State.RESERVED: {"not_sent", "refused"},  # refused for now: quota, clock, configuration
}


@pytest.mark.parametrize(
    ("row", "operation"), CASES, ids=[f"{op}: {row.name}" for row, op in CASES]
)
async def test_row_of_the_table_holds(row: Row, operation: str, open_shop: OpenShop) -> None:
    """The error's class and fate, the attempts, and the state that is recorded."""
    answers = Script([make_answer(answer) for answer in row.answers])
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
async def test_attempt_in_doubt_is_asked_about_before_it_is_repeated(
    operation: str, open_shop: OpenShop
) -> None:
    """Query if possible, then resend: each doubt is followed by a query for the order."""
    answers = Script([LOST])
    shop = open_shop(answers)
    request = getattr(asking, operation)(out_trade_no="R-1")
    with pytest.raises(InDoubtError):
        await getattr(shop.gateway, operation)(request)
    paths = [request.url.rpartition("/")[2] for request in shop.transport.requests]

    assert ["query"] * 3 == paths[1::2]
    assert {"R-1"} == {sent["outTradeNo"] for sent in shop.sent("query")}


async def test_operation_in_doubt_is_asked_about_before_a_later_call_sends_it_again(
    open_shop: OpenShop,
) -> None:
    """What the query finds is the result; found or not, the question goes first."""
    store, once = MemoryStore(), RetryPolicy(attempts=1)
    lost = open_shop(Script([LOST]), store=store, retry=once)
    for name in ("executed", "absent"):
        with pytest.raises(InDoubtError):
            await lost.gateway.refund(asking.refund(name, out_trade_no=f"R-{name}"))

    found = open_shop([replies.order("退款成功", "R-executed")], store=store)
    result = await found.gateway.refund(asking.refund("executed", out_trade_no="R-executed"))
    answer = replies.refunded(requestId="absent", outTradeNo="R-absent")
    absent = open_shop(Script([answer]), store=store)
    await absent.gateway.refund(asking.refund("absent", out_trade_no="R-absent"))

    assert (1, True) == (found.transport.calls, result.replayed)
    assert ["query", "refund"] == [
        request.url.rpartition("/")[2] for request in absent.transport.requests
    ]


async def test_many_doubts_are_each_asked_about_and_do_not_starve(open_shop: OpenShop) -> None:
    """A second pass asks for all of them at once, while the platform answers."""
    store, once = MemoryStore(), RetryPolicy(attempts=1)
    requests = [asking.refund(f"r-{n}", out_trade_no=f"R-{n}") for n in range(200)]
    lost = open_shop(Script([LOST]), store=store, retry=once)
    assert {"in_doubt"} == {one.kind async for one in lost.gateway.refund_many(requests)}

    def find(request: HttpRequest) -> object:
        return replies.order(
            "退款成功", request.body.decode().split("outTradeNo=")[1].split("&")[0]
        )

    found = open_shop(find, store=store)
    assert {"ok"} == {one.kind async for one in found.gateway.refund_many(requests)}
    assert 200 == found.transport.calls == len(found.sent("query"))


async def test_redirect_names_the_host_only(open_shop: OpenShop) -> None:
    """What was sent may come back in the query of the address."""
    shop = open_shop(Script([MOVED]))
    with pytest.raises(InDoubtError, match=r"evil\.example") as caught:
        await shop.gateway.pay(asking.pay())

    assert "sign" not in str(caught.value)


async def test_message_of_the_platform_is_shown_without_credentials(open_shop: OpenShop) -> None:
    """The rest of it helps as before, also when it is read from the store."""
    message = "token-1 of openid-0123456789 in pay-1: expired"
    shop = open_shop([replies.no("GM_API_BUS_000777", message)])
    for replayed in (False, True):
        with pytest.raises(RefusedError) as caught:
            await shop.gateway.pay(asking.pay())

        assert ("*** of *** in pay-1: expired", replayed) == (
            caught.value.message,
            caught.value.replayed,
        )


async def test_message_of_a_doubt_is_shown_without_credentials(open_shop: OpenShop) -> None:
    """The last attempt's message becomes that of the doubt which an earlier one left."""
    shop = open_shop([LOST, replies.no("GM_API_BUS_000777", "token-1: expired")])
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay())

    assert ("GM_API_BUS_000777", "***: expired") == (caught.value.code, caught.value.message)


async def test_message_read_by_resolve_is_dropped(open_shop: OpenShop) -> None:
    """`resolve` reads what was stored, and cannot know what in the message is a credential."""
    shop = open_shop([replies.no("GM_API_BUS_000777", "token-1: expired")])
    with pytest.raises(RefusedError):
        await shop.gateway.pay(asking.pay())
    outcome = await shop.gateway.resolve("pay-1")

    assert isinstance(outcome.error, RefusedError)
    assert ("GM_API_BUS_000777", None) == (outcome.error.code, outcome.error.message)


async def test_message_about_a_query_is_kept(open_shop: OpenShop) -> None:
    """A query carries no credentials."""
    shop = open_shop([replies.no("GM_API_BUS_000099", "O-1 不存在")])
    with pytest.raises(RefusedError) as caught:
        await shop.gateway.query(out_trade_no="O-1")

    assert "O-1 不存在" == caught.value.message


async def test_bad_input_leaves_no_record(open_shop: OpenShop) -> None:
    """What is found before anything is recorded is not recorded."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError):
        await shop.gateway.refund(asking.pay())

    assert (None, 0) == (await shop.state("pay-1"), shop.transport.calls)


async def test_other_content_in_the_store_sends_nothing(open_shop: OpenShop) -> None:
    """The conflict names the fields that differ, and the record stays as it was."""
    shop = open_shop([replies.refunded()])
    await shop.gateway.refund(asking.refund())
    before = await shop.get_record("refund-1")
    with pytest.raises(IdempotencyConflictError) as caught:
        await shop.gateway.refund(asking.refund(refund_amount="2.00", orig_out_trade_no="O-2"))

    assert ("origOutTradeNo", "refundAmount") == caught.value.fields
    assert (1, before) == (shop.transport.calls, await shop.get_record("refund-1"))
    assert "2.00" not in str(caught.value)


class EmptyLimiter(Unlimited):
    """A limiter that has nothing to give."""

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Refuse."""
        del lane, timeout
        raise NotSentError("no quota before the deadline", retryable=False)


async def test_call_without_quota_is_not_sent(open_shop: OpenShop) -> None:
    """No slot before the deadline: not sent, and the record stays RESERVED."""
    shop = open_shop(limiter=EmptyLimiter())
    with pytest.raises(NotSentError) as caught:
        await shop.gateway.pay(asking.pay())

    assert (0, 0, State.RESERVED) == (
        caught.value.attempts,
        shop.transport.calls,
        await shop.state("pay-1"),
    )

"""What the store remembers is said again, not sent again; what came wrong is withheld."""

from __future__ import annotations

import contextlib
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs
import pytest

from wxpay_async.errors import (
    AlreadyPaidError,
    FailedError,
    IdempotencyConflictError,
    InDoubtError,
    MalformedResponseError,
    NotExecutedError,
    NotSentError,
    PrepayExpiredError,
    SignatureRefusedError,
    WxPayError,
)
from wxpay_async.policy.states import State
from wxpay_async.protocol.wire import HttpResponse

Fixture = Any
"""What a conftest.py defines, which no test module can import."""

LOST = InDoubtError("read timeout")


async def test_a_result_is_replayed(open_shop: Fixture, asking: Fixture, replies: Fixture) -> None:
    """The second call sends nothing, returns an equal result and says where it came from."""
    shop = open_shop([NotSentError("refused"), replies.prepay()])
    first = await shop.gateway.pay(asking.pay())
    again = await shop.gateway.pay(asking.pay())

    assert (False, True, 2, 2) == (first.replayed, again.replayed, first.attempts, again.attempts)
    assert first == attrs.evolve(again, replayed=False)
    assert (2, first.raw, first.expires_at) == (shop.transport.calls, again.raw, again.expires_at)
    assert first.jsapi_params() == again.jsapi_params()


async def test_an_old_prepay_is_reported_as_expired(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """20 minutes less one, counted from the signing: a dying prepay is not handed out."""
    shop = open_shop([replies.prepay()])
    await shop.gateway.pay(asking.pay())
    shop.clock.move(19 * 60 - 1)
    assert (await shop.gateway.pay(asking.pay())).replayed
    shop.clock.move(1)
    with pytest.raises(PrepayExpiredError) as caught:
        await shop.gateway.pay(asking.pay())

    assert (True, "refused", 1) == (caught.value.replayed, caught.value.fate, shop.transport.calls)


async def test_a_prepay_dies_by_the_timestamp_that_was_answered(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """An attempt that was signed ahead of time, and refused for it, lends it no longer life."""
    expired = json.dumps(replies.no("CO_MSG_000005")).encode()
    an_hour_ago = {"date": "Sun, 23 Nov 2025 03:00:00 GMT"}
    shop = open_shop([HttpResponse(200, expired, an_hour_ago), replies.prepay()])

    first = await shop.gateway.pay(asking.pay())
    again = await shop.gateway.pay(asking.pay())

    assert datetime(2025, 11, 23, 3, tzinfo=UTC) == first.signed_at == again.signed_at


JSAPI = {
    "appId": "wx1",
    "timeStamp": "1763870400",
    "nonceStr": "n",
    "prepayId": "wx201410272009395522657",
    "extPackage": "prepay_id=wx201410272009395522657",
    "signType": "RSA",
    "paySign": "oR9d8PuhnIc",
}


async def test_a_trade_s_prepay_is_gone_when_it_is_old(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The order stands and can be paid by its payToken; the old prepay is shown nowhere."""
    shop = open_shop([replies.created(**JSAPI)])
    first = await shop.gateway.trade(asking.trade())
    shop.clock.move(19 * 60 - 1)
    young = await shop.gateway.trade(asking.trade())
    shop.clock.move(1)
    old = await shop.gateway.trade(asking.trade())

    assert first == attrs.evolve(young, replayed=False)
    assert (True, "token-1", "wx1") == (old.replayed, old.pay_token, old.app_id)
    assert {None} == {
        old.prepay_id,
        old.ext_package,
        old.pay_sign,
        old.time_stamp,
        old.nonce_str,
        old.sign_type,
    }
    assert not {*JSAPI} - {"appId"} & {*old.raw}
    assert 1 == shop.transport.calls


async def test_a_refund_does_not_expire(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """Only a prepay dies after 20 minutes."""
    shop = open_shop([replies.refunded()])
    await shop.gateway.refund(asking.refund())
    shop.clock.move(12 * 3600)

    assert (await shop.gateway.refund(asking.refund())).replayed


async def test_a_refusal_is_replayed(open_shop: Fixture, asking: Fixture, replies: Fixture) -> None:
    """The platform's code and text are kept, and nothing is sent."""
    shop = open_shop([replies.no("CO_MSG_000006", "签名错误")])
    for replayed in (False, True):
        with pytest.raises(SignatureRefusedError) as caught:
            await shop.gateway.pay(asking.pay())
        assert ("CO_MSG_000006", "签名错误", replayed, 1) == (
            caught.value.code,
            caught.value.message,
            caught.value.replayed,
            caught.value.attempts,
        )

    assert 1 == shop.transport.calls


async def test_a_failure_is_replayed(open_shop: Fixture, asking: Fixture, replies: Fixture) -> None:
    """Status F stays F."""
    shop = open_shop([replies.refunded("F")])
    for _ in range(2):
        with pytest.raises(FailedError):
            await shop.gateway.refund(asking.refund())

    assert 1 == shop.transport.calls


async def test_a_refund_under_way_is_not_sent_again(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """PENDING is polled, never resent."""
    shop = open_shop([replies.refunded("P")])
    for _ in range(2):
        assert "P" == (await shop.gateway.refund(asking.refund())).status

    assert (1, State.PENDING) == (shop.transport.calls, await shop.state("refund-1"))


@pytest.mark.parametrize(
    ("state", "operation", "error"),
    [
        (State.NOT_EXECUTED, "refund", NotExecutedError),
        (State.CONFLICT, "refund", IdempotencyConflictError),
        (State.FAILED, "refund", FailedError),
        (State.NEEDS_REVIEW, "refund", InDoubtError),
        (State.SUCCEEDED, "pay", AlreadyPaidError),
        (State.SUCCEEDED, "refund", InDoubtError),
    ],
)
async def test_what_a_query_settled_is_said_and_not_sent(
    state: State,
    operation: str,
    error: type[WxPayError],
    open_shop: Fixture,
    asking: Fixture,
    script: Fixture,
) -> None:
    """Settled without a reply to show: an error that says what is known, and no request."""
    shop = open_shop(script(LOST))
    request = getattr(asking, operation)()
    with pytest.raises(InDoubtError):
        await getattr(shop.gateway, operation)(request)
    entry = await shop.entry(request.request_id)
    await shop.store.record(attrs.evolve(entry, state=state))
    calls = shop.transport.calls
    with pytest.raises(error) as caught:
        await getattr(shop.gateway, operation)(request)

    assert (error, calls) == (type(caught.value), shop.transport.calls)


async def test_an_order_that_is_paid_is_not_reported_as_if_no_money_moved(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """Whoever reads only the fate must not conclude that the order can be charged again."""
    shop = open_shop(script(LOST, query=replies.order("已付款")))
    with pytest.raises(AlreadyPaidError) as caught:
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))

    assert caught.value.fate not in {"refused", "not_sent"}


async def test_a_doubt_is_continued_with_the_very_same_bytes(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """The content is stored, not rebuilt: a second call sends what the first one signed (§1.4)."""
    shop = open_shop(script(LOST, LOST, LOST, replies.prepay()))
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(extra={"a": "1", "b": "2"}))
    await shop.gateway.pay(asking.pay(extra={"b": "2", "a": "1"}))
    sent = shop.sent()

    assert 4 == len(sent)
    assert 1 == len({attempt["bizContent"] for attempt in sent})
    assert 4 == len({attempt["nonce"] for attempt in sent})


async def test_content_that_cannot_be_read_any_more_is_made_again(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """A seal that does not open (the secret was changed) does not send an empty bizContent."""
    shop = open_shop(script(LOST, LOST, LOST, replies.prepay()))
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay())
    entry = await shop.entry("pay-1")
    await shop.store.record(attrs.evolve(entry, content=None))
    await shop.gateway.pay(asking.pay())

    assert 1 == len({sent["bizContent"] for sent in shop.sent()})


async def test_a_doubt_of_an_earlier_call_outlives_a_refusal_of_the_next(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """The second call is told in doubt, with the platform's code, and the row stays UNKNOWN."""
    shop = open_shop(script(LOST, LOST, LOST, replies.no("CO_MSG_000006")))
    for _ in range(2):
        with pytest.raises(InDoubtError) as caught:
            await shop.gateway.refund(asking.refund())

    assert ("CO_MSG_000006", State.UNKNOWN) == (caught.value.code, await shop.state("refund-1"))


async def test_not_sent_can_be_sent_again_by_the_next_call(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """RESERVED is where a call starts, however often."""
    unsent = [NotSentError("refused") for _ in range(3)]
    shop = open_shop([*unsent, replies.prepay()])
    with pytest.raises(NotSentError):
        await shop.gateway.pay(asking.pay())

    assert (
        "wx061644162685653f3da37a5a1589465200" == (await shop.gateway.pay(asking.pay())).prepay_id
    )


# A duplicate (lesson 12)


async def test_repeated_on_a_first_attempt_is_in_doubt(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """Neither a decline nor a success: the order is asked for, and unpaid is not final."""
    answers = script(replies.no("GM_API_BUS_0000015"), query=replies.order("待付款"))
    shop = open_shop(answers)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))

    assert (2, 1, State.UNKNOWN) == (
        shop.transport.calls,
        answers.queries,
        await shop.state("pay-1"),
    )


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("已退款", State.SUCCEEDED),
        ("退款中", State.PENDING),
        ("退款失败", State.FAILED),
        ("外星状态", State.UNKNOWN),
    ],
)
async def test_repeated_after_ones_own_timeout_is_what_the_query_says(
    text: str,
    state: State,
    open_shop: Fixture,
    asking: Fixture,
    replies: Fixture,
    script: Fixture,
) -> None:
    """Query, then answer: a duplicate by itself tells nobody "failed", and nobody "done"."""
    found = iter([replies.no("GM_API_BUS_000099"), replies.order(text, "R-1")])
    answers = script(LOST, replies.no("GM_API_BUS_0000015"), query=lambda: next(found))
    shop = open_shop(answers)
    result: object = None
    try:
        result = await shop.gateway.refund(asking.refund())
    except WxPayError as error:
        result = error

    expected = {
        State.SUCCEEDED: "S",
        State.PENDING: "P",
        State.FAILED: FailedError,
        State.UNKNOWN: InDoubtError,
    }[state]
    assert expected == (type(result) if isinstance(result, WxPayError) else result.status)  # type: ignore[union-attr]
    assert (state, 2) == (await shop.state("refund-1"), shop.transport.calls - answers.queries)


@pytest.mark.parametrize("text", ["支付成功", "退款中", "已退款", "退款失败"])
async def test_an_order_that_was_paid_once_is_paid(
    text: str, open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """Whatever became of its refund: a doubt about a payment ends with any of these."""
    shop = open_shop(script(LOST, query=replies.order(text)))
    with pytest.raises(AlreadyPaidError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))

    assert State.SUCCEEDED == await shop.state("pay-1")


# What is withheld


@pytest.mark.parametrize(
    ("operation", "changes"),
    [
        ("pay", {"requestId": "another"}),
        ("pay", {"appId": "wx-another"}),
        ("pay", {"extPackage": "prepay_id=another"}),
        ("trade", {"requestId": "another"}),
        ("refund", {"requestId": "another"}),
        ("refund", {"outTradeNo": "another"}),
    ],
)
async def test_an_answer_to_another_request_is_withheld(
    operation: str,
    changes: dict[str, str],
    open_shop: Fixture,
    asking: Fixture,
    replies: Fixture,
    script: Fixture,
) -> None:
    """In doubt, sent once, and the credential is nowhere in the error."""
    verb = {"pay": "prepay", "trade": "created", "refund": "refunded"}[operation]
    shop = open_shop(script(getattr(replies, verb)(**changes)))
    more = {"app_id": "wx9236b1e84ffbf10a"} if operation == "pay" else {}
    request = getattr(asking, operation)(**more)
    with pytest.raises(MalformedResponseError) as caught:
        await getattr(shop.gateway, operation)(request)

    assert ("in_doubt", State.UNKNOWN) == (
        caught.value.fate,
        await shop.state(request.request_id),
    )
    assert "wx0616441" not in str(caught.value)
    assert "token-1" not in str(caught.value)


@pytest.mark.parametrize(
    ("rows", "state"),
    [
        (["O-2"], State.UNKNOWN),
        (["O-2", "O-3"], State.UNKNOWN),
        (["O-2", "O-1"], State.SUCCEEDED),
        ([], State.SUCCEEDED),
    ],
)
async def test_a_prepay_for_a_foreign_order_is_withheld(
    rows: list[str],
    state: State,
    open_shop: Fixture,
    asking: Fixture,
    replies: Fixture,
    script: Fixture,
) -> None:
    """Whoever pays with it pays somebody else's order; one of several rows is enough."""
    listed = [{"outTradeNo": number, "tradeNo": "T", "status": "P"} for number in rows]
    shop = open_shop(script(replies.prepay(tradeResList=listed)))
    withheld = pytest.raises(MalformedResponseError, match="outTradeNo")
    with withheld if state is State.UNKNOWN else contextlib.nullcontext():
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))

    assert state is await shop.state("pay-1")


async def test_a_prepay_is_not_held_against_an_order_that_nobody_named(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """Without a local order number there is nothing to compare with."""
    shop = open_shop([replies.prepay()])

    assert (await shop.gateway.pay(asking.pay())).prepay_id


async def test_a_trade_that_lists_a_foreign_order_is_withheld(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """Each row of tradeResList must be one of the orders that were asked for."""
    rows = [{"outTradeNo": "O-2", "tradeNo": "T", "status": "P"}]
    shop = open_shop(script(replies.created(tradeResList=rows)))
    with pytest.raises(MalformedResponseError, match="outTradeNo"):
        await shop.gateway.trade(asking.trade())


@pytest.mark.parametrize("changes", [{"instAmount": "9999.00"}, {"instAmount": "1.01"}])
async def test_a_trade_of_another_amount_is_withheld(
    changes: dict[str, str],
    open_shop: Fixture,
    asking: Fixture,
    replies: Fixture,
    script: Fixture,
) -> None:
    """What the payer would pay is what was asked for."""
    shop = open_shop(script(replies.created(**changes)))
    with pytest.raises(MalformedResponseError, match="instAmount is not the request's"):
        await shop.gateway.trade(asking.trade())

    assert (1, State.UNKNOWN) == (len(shop.sent("trade")), await shop.state("trade-1"))


@pytest.mark.parametrize("amount", ["1.00", "1.50"])
async def test_a_trade_may_repeat_either_of_its_amounts(
    amount: str, open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The sum of the items and `payMethod.amount` may differ; which is repeated nobody says."""
    method = attrs.evolve(asking.trade().pay_method, amount=Decimal("1.50"))
    shop = open_shop([replies.created(instAmount=amount)])
    result = await shop.gateway.trade(asking.trade(pay_method=method))

    assert Decimal(amount) == result.inst_amount


@pytest.mark.parametrize("kept", ["requestId", "tradeResList"])
async def test_a_trade_that_echoes_something_is_taken(
    kept: str, open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """Either of the two says whose answer it is."""
    other = ({"requestId", "tradeResList"} - {kept}).pop()
    shop = open_shop([replies.created(**{other: None})])

    assert "token-1" == (await shop.gateway.trade(asking.trade())).pay_token


async def test_a_trade_that_echoes_nothing_is_withheld(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """Without requestId and orders, nothing shows whose payToken it is."""
    shop = open_shop(script(replies.created(requestId=None, tradeResList=None)))
    with pytest.raises(MalformedResponseError, match="requestId"):
        await shop.gateway.trade(asking.trade())

    assert (1, State.UNKNOWN) == (len(shop.sent("trade")), await shop.state("trade-1"))


async def test_amounts_are_exact(open_shop: Fixture, asking: Fixture, replies: Fixture) -> None:
    """What is sent has two places, what comes back is a Decimal (lesson 2)."""
    shop = open_shop([replies.refunded()])
    await shop.gateway.refund(asking.refund(refund_amount=Decimal(100000000000)))

    assert '"refundAmount":"100000000000.00"' in shop.sent()[0]["bizContent"]


async def test_an_html_page_is_not_a_decline(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """A 502 in HTML is in doubt (lesson 3), and the same requestId brings the answer afterwards."""
    page = HttpResponse(502, b"<html>")
    shop = open_shop(script(page, page, page, replies.refunded()))
    with pytest.raises(MalformedResponseError):
        await shop.gateway.refund(asking.refund())

    assert "S" == (await shop.gateway.refund(asking.refund())).status

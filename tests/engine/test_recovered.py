"""What a query may prove of an operation whose answer was lost, or was never ours."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import attrs
import pytest

from wxpay_async.errors import (
    DuplicateRequestError,
    FailedError,
    IdempotencyConflictError,
    InDoubtError,
    NotExecutedError,
)
from wxpay_async.policy.resolution import PREPAY_QUARANTINE
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.requests import Royalty, TradeItem
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

Fixture = Any
"""What a conftest.py defines, which no test module can import."""

LOST = InDoubtError("read timeout")
REPEATED = "GM_API_BUS_0000015"
ABSENT = "GM_API_BUS_000099"
ECHO = {
    "subject": "商品的标题",
    "price": "1.00",
    "quantity": "1",
    "totalAmount": "1.00",
    "payeeIdentity": "100",
}


def _found(replies: Fixture, text: str = "待付款", number: str = "O-1", **echo: Any) -> Any:  # noqa: ANN401 - a reply
    reply = replies.order(text, number)
    reply["data"] |= {**ECHO, "tradeNo": f"T-{number}", **echo}
    return reply


def _item(number: str, **changes: Any) -> TradeItem:  # noqa: ANN401 - any field
    values = {
        "subject": "商品的标题",
        "price": "1.00",
        "quantity": 1,
        "total_amount": "1.00",
        "payee_identity": "100",
        **changes,
    }
    return TradeItem(out_trade_no=number, **values)


def _by_number(answers: dict[str, object]) -> Callable[[HttpRequest], object]:
    """Lose every trade, and answer each query by its number."""

    def answer(request: HttpRequest) -> object:
        _, asks, rest = request.body.decode().partition("outTradeNo=")
        return answers[rest.split("&")[0]] if asks else InDoubtError("timeout", retryable=False)

    return answer


# A trade


@pytest.mark.parametrize(
    "other",
    [
        {"subject": "another"},
        {"price": "2.00"},
        {"quantity": "2"},
        {"quantity": "1.5"},
        {"totalAmount": "2.00"},
        {"payeeIdentity": "999"},
        {"royaltyInfo": [{"payeeMemberId": "1", "amount": "0.50"}]},
    ],
    ids=lambda other: next(iter(other)),
)
async def test_a_repeated_trade_with_other_content_is_a_conflict(
    other: dict[str, object], open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """A fresh process reuses an id: whatever the query echoes is compared."""
    answers = script(replies.no(REPEATED), query=_found(replies, **other))
    shop = open_shop(answers)
    with pytest.raises(IdempotencyConflictError):
        await shop.gateway.trade(asking.trade())

    assert State.CONFLICT is await shop.state("trade-1")


@pytest.mark.parametrize("echo", [{}, {"quantity": "1.00", "royaltyInfo": []}, {"subject": ""}])
async def test_a_repeated_trade_with_the_same_content_is_there(
    echo: dict[str, object], open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """The same in all that is echoed: the order that was asked for exists."""
    shop = open_shop(script(replies.no(REPEATED), query=_found(replies, **echo)))

    assert (await shop.gateway.trade(asking.trade())).replayed


SHARES = [Royalty(payee_member_id="1", amount="0.20"), Royalty(payee_member_id="2", amount="0.30")]


@pytest.mark.parametrize(
    ("echoed", "state"),
    [
        ([("2", "0.30"), ("1", "0.20")], State.SUCCEEDED),
        ([("1", None), (None, "0.30")], State.SUCCEEDED),
        ([("1", "0.20")], State.CONFLICT),
        ([("1", None)], State.CONFLICT),
        ([("1", "0.20"), ("2", "0.31")], State.CONFLICT),
        ([("1", "0.20"), ("3", "0.30")], State.CONFLICT),
    ],
)
async def test_royalties_are_compared_where_they_are_echoed(
    echoed: list[tuple[str | None, str | None]],
    state: State,
    open_shop: Fixture,
    asking: Fixture,
    replies: Fixture,
    script: Fixture,
) -> None:
    """In any order; a share that is told in part only counts."""
    rows = [{"payeeMemberId": member, "amount": amount} for member, amount in echoed]
    shop = open_shop(script(LOST, query=_found(replies, royaltyInfo=rows)))
    trade = asking.trade(trade_info=[_item("O-1", royalty_info=SHARES)])
    try:
        await shop.gateway.trade(trade)
    except IdempotencyConflictError:
        assert State.CONFLICT is state

    assert state is await shop.state("trade-1")


@pytest.mark.parametrize(
    ("text", "status"),
    [
        ("待付款", "P"),
        ("外星状态", "P"),
        ("已付款", "S"),
        ("退款中", "S"),
        ("已退款", "S"),
        ("退款失败", "S"),
    ],
)
async def test_a_recovered_order_says_how_it_stands(
    text: str, status: str, open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """P until it was paid, S from then on, as in the answer that got lost."""
    shop = open_shop(script(LOST, query=_found(replies, text)))
    result = await shop.gateway.trade(asking.trade())

    assert [("O-1", "T-O-1", status)] == [attrs.astuple(row) for row in result.trade_res_list]


@pytest.mark.parametrize("text", ["支付失败", "交易关闭"])
async def test_a_recovered_order_that_is_over_is_a_failure(
    text: str, open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """Nobody can pay it any more: as the platform's own F."""
    shop = open_shop(script(LOST, query=_found(replies, text)))
    for _ in range(2):
        with pytest.raises(FailedError):
            await shop.gateway.trade(asking.trade())

    assert State.FAILED is await shop.state("trade-1")


async def test_every_order_of_a_recovered_trade_has_its_row(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """Each is asked for, and each says how it stands."""
    texts = {"O-1": "待付款", "O-2": "已付款", "O-3": "交易关闭"}
    shop = open_shop(_by_number({n: _found(replies, text, n) for n, text in texts.items()}))
    result = await shop.gateway.trade(asking.trade(trade_info=[_item(n) for n in texts]))

    assert [("O-1", "P"), ("O-2", "S"), ("O-3", "F")] == [
        (row.out_trade_no, row.status) for row in result.trade_res_list
    ]


@pytest.mark.parametrize(
    ("second", "state"),
    [
        ({"payeeIdentity": "999"}, State.CONFLICT),
        (ABSENT, State.UNKNOWN),
        (InDoubtError("timeout"), State.UNKNOWN),
    ],
)
async def test_one_order_of_a_trade_does_not_speak_for_the_other(
    second: Any,  # noqa: ANN401 - what is echoed, the code of a refusal, or an error
    state: State,
    open_shop: Fixture,
    asking: Fixture,
    replies: Fixture,
) -> None:
    """The first is as it should be: the second may be another's, missing, or not known."""
    answers: dict[str, object] = {"O-1": _found(replies), "O-2": second}
    if isinstance(second, dict):
        answers["O-2"] = _found(replies, "待付款", "O-2", **second)
    elif isinstance(second, str):
        answers["O-2"] = replies.no(second)
    shop = open_shop(_by_number(answers))
    with pytest.raises((IdempotencyConflictError, InDoubtError)):
        await shop.gateway.trade(asking.trade(trade_info=[_item("O-1"), _item("O-2")]))

    assert state is await shop.state("trade-1")


async def test_a_trade_whose_content_cannot_be_read_any_more_is_not_taken_for_done(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """There is nothing to compare the order with, so nothing is known, and nobody asks."""
    answers = script(LOST)
    shop = open_shop(answers)
    with pytest.raises(InDoubtError):
        await shop.gateway.trade(asking.trade())
    await shop.store.record(attrs.evolve(await shop.entry("trade-1"), content=None))
    answers.query, answers.queries = _found(replies), 0

    assert "in_doubt" == (await shop.gateway.resolve("trade-1")).kind
    assert (0, State.UNKNOWN) == (answers.queries, await shop.state("trade-1"))


# An answer about another order


@pytest.mark.parametrize("operation", ["pay", "trade", "refund"])
async def test_what_a_query_says_of_another_order_proves_nothing(
    operation: str, open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """Paid, refunded or there: but not the one that was asked for."""
    text = "已退款" if operation == "refund" else "已付款"
    shop = open_shop(script(LOST, query=_found(replies, text, "O-2")))
    more = {"out_trade_no": "O-1"} if operation != "trade" else {}
    request = getattr(asking, operation)(**more)
    with pytest.raises(InDoubtError):
        await getattr(shop.gateway, operation)(request)

    assert State.UNKNOWN is await shop.state(request.request_id)


# A refund whose requestId was taken before our first attempt


@pytest.mark.parametrize("text", ["已退款", "退款中"])
async def test_a_repeated_refund_is_not_turned_into_a_success(
    text: str, open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """Nothing echoes origOutTradeNo: in this call, in the next, by resolve and by recovery."""
    answers = script(replies.no(REPEATED), query=replies.order(text, "R-1"))
    shop = open_shop(answers)
    for _ in range(2):
        with pytest.raises(DuplicateRequestError) as caught:
            await shop.gateway.refund(asking.refund())
        assert ("in_doubt", False) == (caught.value.fate, caught.value.retryable)
    outcome = await shop.gateway.resolve("refund-1")
    shop.clock.move(3_600)

    assert ("in_doubt", DuplicateRequestError) == (outcome.kind, type(outcome.error))
    assert (0, State.UNKNOWN) == (await shop.gateway.recover(), await shop.state("refund-1"))
    shop.clock.move(86_400)
    await shop.gateway.recover()
    assert State.NEEDS_REVIEW is await shop.state("refund-1")


async def test_a_doubt_after_the_requestid_was_taken_does_not_make_it_ours(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """The later attempts get lost, and cannot have been executed any more than the first."""
    answers = script(replies.no(REPEATED), LOST, query=replies.order("已退款", "R-1"))
    shop = open_shop(answers)
    for _ in range(2):
        with pytest.raises(InDoubtError):
            await shop.gateway.refund(asking.refund())

    assert "in_doubt" == (await shop.gateway.resolve("refund-1")).kind


async def test_a_refund_that_was_not_sent_before_it_was_repeated_is_not_ours_either(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """Its second attempt is the first that arrived."""
    answers = [replies.no("CO_MSG_000007"), replies.no(REPEATED)]
    shop = open_shop(script(*answers, query=replies.order("已退款", "R-1")))
    with pytest.raises(DuplicateRequestError):
        await shop.gateway.refund(asking.refund(), timeout=120)

    assert State.UNKNOWN is await shop.state("refund-1")


async def test_a_repeated_refund_that_is_not_there_was_not_executed(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """Where absence proves something, it does so here too, and the duplicate is not repeated."""
    shop = open_shop(script(replies.no(REPEATED)), refunds_queryable=True)
    with pytest.raises(DuplicateRequestError):
        await shop.gateway.refund(asking.refund())
    for seconds in (601, 61):
        shop.clock.move(seconds)
        outcome = await shop.gateway.resolve("refund-1")

    assert NotExecutedError is type(outcome.error)


async def test_a_refund_that_failed_in_the_end_is_not_replayed_as_under_way(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """The answer P is dropped when a query proves that it came to nothing."""
    answers = script(replies.refunded("P"), query=replies.order("退款失败", "R-1"))
    shop = open_shop(answers)
    await shop.gateway.refund(asking.refund())
    await shop.gateway.resolve("refund-1")
    with pytest.raises(FailedError):
        await shop.gateway.refund(asking.refund())


async def test_an_unpaid_order_counts_by_the_time_of_the_answer(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """Our clock is ten minutes fast: a prepay that it takes for dead lives on at the platform."""

    def query() -> HttpResponse:
        date = datetime.fromtimestamp(shop.clock.time() - 600.0, UTC)
        body = json.dumps(replies.order("待付款")).encode()
        return HttpResponse(200, body, {"date": format_datetime(date, usegmt=True)})

    shop = open_shop(script(LOST, query=query), retry=RetryPolicy(attempts=1))
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    said = []
    for seconds in (PREPAY_QUARANTINE, 61.0, 600.0, 61.0):
        shop.clock.move(seconds)
        said.append((await shop.gateway.resolve("pay-1")).error)

    assert [InDoubtError] * 3 + [NotExecutedError] == [type(error) for error in said]

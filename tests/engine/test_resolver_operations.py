"""What becomes of a payment, a trade and a refund whose answer was lost, or that is repeated."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import attrs
import pytest

from tests.support import asking, replies
from tests.support.merchant import OpenShop
from tests.support.platform import UNKNOWN_ORDER, Script
from wxpay_async.engine.telemetry import EventKind
from wxpay_async.errors import (
    AlreadyPaidError,
    DuplicateRequestError,
    FailedError,
    Fate,
    InDoubtError,
    NotExecutedError,
    PlatformConflictError,
    WxPayError,
)
from wxpay_async.policy.resolution import PREPAY_QUARANTINE
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

LOST = InDoubtError("read timeout")
REPEATED = "GM_API_BUS_0000015"


def make_order(text: str = "待付款", number: str = "O-1", **echo: Any) -> Any:  # noqa: ANN401 - a reply
    """Make the answer to a query that echoes the whole order."""
    reply = replies.order(text, number)
    reply["data"] |= {**replies.ECHO, "tradeNo": f"T-{number}", **echo}
    return reply


def answer_by_number(answers: dict[str, object]) -> Callable[[HttpRequest], object]:
    """Lose every trade, and answer each query by its number."""

    def answer(request: HttpRequest) -> object:
        _, asks, rest = request.body.decode().partition("outTradeNo=")
        return answers[rest.split("&")[0]] if asks else InDoubtError("timeout", retryable=False)

    return answer


# A payment


@pytest.mark.parametrize("text", ["支付成功", "已付款", "退款中", "已退款", "退款失败"])
async def test_payment_of_an_order_that_was_paid_is_already_paid(
    text: str, open_shop: OpenShop
) -> None:
    """Whatever became of its refund; and no fate says that the order may be charged again."""
    shop = open_shop(Script([LOST], query=replies.order(text)))
    with pytest.raises(AlreadyPaidError) as caught:
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))

    assert (Fate.IN_DOUBT, State.SUCCEEDED) == (caught.value.fate, await shop.state("pay-1"))


async def test_payment_is_unpaid_by_the_time_of_the_answer(open_shop: OpenShop) -> None:
    """Our clock is ten minutes fast: a prepay that is expired by it lives on at the platform."""

    def query() -> HttpResponse:
        date = datetime.fromtimestamp(shop.clock.time() - 600.0, UTC)
        body = json.dumps(replies.order("待付款")).encode()
        return HttpResponse(200, body, {"date": format_datetime(date, usegmt=True)})

    shop = open_shop(Script([LOST], query=query), retry=RetryPolicy(attempts=1))
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    errors = []
    for seconds in (PREPAY_QUARANTINE, 61.0, 600.0, 61.0):
        shop.clock.move(seconds)
        errors.append((await shop.gateway.resolve("pay-1")).error)

    assert [InDoubtError] * 3 + [NotExecutedError] == [type(error) for error in errors]


async def test_repeated_payment_on_a_first_attempt_is_in_doubt(open_shop: OpenShop) -> None:
    """Neither a decline nor a success: the order is asked for, and unpaid is not final."""
    answers = Script([replies.no(REPEATED)], query=replies.order("待付款"))
    shop = open_shop(answers)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))

    assert (2, 1, State.UNKNOWN) == (
        shop.transport.calls,
        answers.queries,
        await shop.state("pay-1"),
    )


# A trade


async def test_repeated_trade_with_other_content_seen_twice_is_a_conflict(
    open_shop: OpenShop,
) -> None:
    """A new process reuses an id: what the query echoes is compared with what was sent."""
    answers = Script([replies.no(REPEATED)], query=make_order(totalAmount="2.00"))
    shop = open_shop(answers)
    with pytest.raises(DuplicateRequestError):
        await shop.gateway.trade(asking.trade())
    states = [await shop.state("trade-1")]
    for seconds in (59, 1):
        shop.clock.move(seconds)
        await shop.gateway.resolve("trade-1")
        states.append(await shop.state("trade-1"))
    with pytest.raises(PlatformConflictError):
        await shop.gateway.trade(asking.trade())

    assert [State.UNKNOWN, State.UNKNOWN, State.CONFLICT] == states
    reviews = [event for event in shop.events if event.kind is EventKind.REVIEW_NEEDED]
    assert ["conflict"] == [event.state for event in reviews]


@pytest.mark.parametrize(
    "changes", [{"totalAmount": "987.65"}, {"subject": "商品"}, {"payeeIdentity": "999"}]
)
async def test_other_content_in_one_answer_settles_nothing(
    changes: dict[str, str], open_shop: OpenShop
) -> None:
    """Whatever was wrong with that answer, the next one is right."""
    answers = Script([LOST], query=make_order(**changes))
    shop = open_shop(answers, retry=RetryPolicy(attempts=1))
    with pytest.raises(InDoubtError):
        await shop.gateway.trade(asking.trade())
    answers.query = make_order()
    shop.clock.move(61)

    assert "ok" == (await shop.gateway.resolve("trade-1")).kind
    record = await shop.get_record("trade-1")
    assert (None, None) == (record.deviates_at, record.deviation)


async def test_other_content_that_differs_each_time_is_no_conflict(open_shop: OpenShop) -> None:
    """Seen twice means the same; blanks at the ends of a text make no other one."""
    amounts = iter(["1.01", "1.02", "1.03", "1.04"])
    answers = Script([LOST], query=lambda: make_order(totalAmount=next(amounts)))
    shop = open_shop(answers, retry=RetryPolicy(attempts=1))
    with pytest.raises(InDoubtError):
        await shop.gateway.trade(asking.trade())
    for _ in range(3):
        shop.clock.move(61)
        await shop.gateway.resolve("trade-1")
    before = await shop.state("trade-1")
    subjects = iter(["茶", " 茶\u3000"])
    answers.query = lambda: make_order(subject=next(subjects))
    for _ in range(2):
        shop.clock.move(61)
        await shop.gateway.resolve("trade-1")

    assert (State.UNKNOWN, State.CONFLICT) == (before, await shop.state("trade-1"))


async def test_refund_of_another_amount_is_a_conflict_when_seen_twice(open_shop: OpenShop) -> None:
    """Under the refund's number the platform holds another one."""
    shop = open_shop(
        Script([LOST], query=replies.order("已退款", "R-1", "9.00")), retry=RetryPolicy(attempts=1)
    )
    with pytest.raises(InDoubtError):
        await shop.gateway.refund(asking.refund())
    before = await shop.state("refund-1")
    shop.clock.move(60)
    await shop.gateway.resolve("refund-1")

    assert (State.UNKNOWN, State.CONFLICT) == (before, await shop.state("refund-1"))


async def test_repeated_trade_with_the_same_content_is_a_success(open_shop: OpenShop) -> None:
    """The order that was asked for exists."""
    shop = open_shop(Script([replies.no(REPEATED)], query=make_order(quantity="1.00")))

    assert (await shop.gateway.trade(asking.trade())).replayed


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
async def test_recovered_trade_says_how_its_order_stands(
    text: str, status: str, open_shop: OpenShop
) -> None:
    """P until it was paid, S from then on, as in the answer that got lost."""
    shop = open_shop(Script([LOST], query=make_order(text)))
    result = await shop.gateway.trade(asking.trade())

    assert [("O-1", "T-O-1", status)] == [attrs.astuple(row) for row in result.trade_res_list]


@pytest.mark.parametrize("text", ["支付失败", "交易关闭"])
async def test_recovered_trade_of_an_order_that_ended_is_a_failure(
    text: str, open_shop: OpenShop
) -> None:
    """It cannot be paid any more: as the platform's own F."""
    shop = open_shop(Script([LOST], query=make_order(text)))
    for _ in range(2):
        with pytest.raises(FailedError):
            await shop.gateway.trade(asking.trade())

    assert State.FAILED is await shop.state("trade-1")


async def test_recovered_trade_has_a_row_for_each_order(open_shop: OpenShop) -> None:
    """Each is asked for, and each says how it stands."""
    texts = {"O-1": "待付款", "O-2": "已付款", "O-3": "交易关闭"}
    shop = open_shop(answer_by_number({n: make_order(text, n) for n, text in texts.items()}))
    result = await shop.gateway.trade(asking.trade(trade_info=[asking.item(n) for n in texts]))

    assert [("O-1", "P"), ("O-2", "S"), ("O-3", "F")] == [
        (row.out_trade_no, row.status) for row in result.trade_res_list
    ]


@pytest.mark.parametrize(
    ("second", "state"),
    [
        ({"payeeIdentity": "999"}, State.UNKNOWN),
        (UNKNOWN_ORDER, State.UNKNOWN),
        (InDoubtError("timeout"), State.UNKNOWN),
    ],
)
async def test_one_order_of_a_trade_does_not_speak_for_the_other(
    second: Any,  # noqa: ANN401 - what is echoed, a refusal, or an error
    state: State,
    open_shop: OpenShop,
) -> None:
    """The first is as it should be: the second may be another's, missing, or not known."""
    answers: dict[str, object] = {"O-1": make_order(), "O-2": second}
    if isinstance(second, dict) and second is not UNKNOWN_ORDER:
        answers["O-2"] = make_order("待付款", "O-2", **second)
    shop = open_shop(answer_by_number(answers))
    with pytest.raises(InDoubtError):
        await shop.gateway.trade(asking.trade(trade_info=[asking.item("O-1"), asking.item("O-2")]))

    assert state is await shop.state("trade-1")


async def test_trade_whose_content_cannot_be_opened_stays_in_doubt(open_shop: OpenShop) -> None:
    """There is nothing to compare the order with, so the platform is not asked."""
    answers = Script([LOST])
    shop = open_shop(answers)
    with pytest.raises(InDoubtError):
        await shop.gateway.trade(asking.trade())
    await shop.store.record(attrs.evolve(await shop.get_record("trade-1"), content=None))
    answers.query, answers.queries = make_order(), 0

    assert "in_doubt" == (await shop.gateway.resolve("trade-1")).kind
    assert (0, State.UNKNOWN) == (answers.queries, await shop.state("trade-1"))


# A refund


@pytest.mark.parametrize(
    ("text", "state"),
    [
        ("已退款", State.SUCCEEDED),
        ("退款中", State.PENDING),
        ("退款失败", State.FAILED),
        ("外星状态", State.UNKNOWN),
    ],
)
async def test_repeated_refund_after_a_timeout_is_what_the_query_says(
    text: str, state: State, open_shop: OpenShop
) -> None:
    """Query, then answer: a duplicate by itself is neither a failure nor a success."""
    found = iter([UNKNOWN_ORDER, replies.order(text, "R-1")])
    answers = Script([LOST, replies.no(REPEATED)], query=lambda: next(found))
    shop = open_shop(answers)
    result: Any = None
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
    assert expected == (type(result) if isinstance(result, WxPayError) else result.status)
    assert (state, 2) == (await shop.state("refund-1"), shop.transport.calls - answers.queries)


@pytest.mark.parametrize("text", ["已退款", "退款中"])
async def test_repeated_refund_on_a_first_attempt_stays_in_doubt(
    text: str, open_shop: OpenShop
) -> None:
    """Nothing echoes origOutTradeNo: in this call, in the next, by resolve and by recovery."""
    answers = Script([replies.no(REPEATED)], query=replies.order(text, "R-1"))
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


async def test_repeated_refund_stays_in_doubt_after_later_timeouts(open_shop: OpenShop) -> None:
    """The later attempts get lost, and cannot have been executed any more than the first."""
    answers = Script([replies.no(REPEATED), LOST], query=replies.order("已退款", "R-1"))
    shop = open_shop(answers)
    for _ in range(2):
        with pytest.raises(InDoubtError):
            await shop.gateway.refund(asking.refund())

    assert "in_doubt" == (await shop.gateway.resolve("refund-1")).kind


async def test_repeated_refund_after_an_unsent_attempt_stays_in_doubt(open_shop: OpenShop) -> None:
    """Its second attempt is the first that arrived."""
    answers = [replies.no("CO_MSG_000007"), replies.no(REPEATED)]
    shop = open_shop(Script(answers, query=replies.order("已退款", "R-1")))
    with pytest.raises(DuplicateRequestError):
        await shop.gateway.refund(asking.refund(), timeout=120)

    assert State.UNKNOWN is await shop.state("refund-1")


async def test_repeated_refund_that_is_absent_was_not_executed(open_shop: OpenShop) -> None:
    """Where absence proves something, it does so here too, and the duplicate is not repeated."""
    shop = open_shop(Script([replies.no(REPEATED)]), refunds_queryable=True)
    with pytest.raises(DuplicateRequestError):
        await shop.gateway.refund(asking.refund())
    for seconds in (601, 61):
        shop.clock.move(seconds)
        outcome = await shop.gateway.resolve("refund-1")

    assert NotExecutedError is type(outcome.error)


async def test_refund_that_failed_in_the_end_is_replayed_as_failed(open_shop: OpenShop) -> None:
    """The answer P is dropped when a query proves that it came to nothing."""
    answers = Script([replies.refunded("P")], query=replies.order("退款失败", "R-1"))
    shop = open_shop(answers)
    await shop.gateway.refund(asking.refund())
    await shop.gateway.resolve("refund-1")
    with pytest.raises(FailedError):
        await shop.gateway.refund(asking.refund())


# An answer about another order


@pytest.mark.parametrize("operation", ["pay", "trade", "refund"])
async def test_answer_about_another_order_proves_nothing(
    operation: str, open_shop: OpenShop
) -> None:
    """Paid, refunded or there: but not the one that was asked for."""
    text = "已退款" if operation == "refund" else "已付款"
    shop = open_shop(Script([LOST], query=make_order(text, "O-2")))
    more = {"out_trade_no": "O-1"} if operation != "trade" else {}
    request = getattr(asking, operation)(**more)
    with pytest.raises(InDoubtError):
        await getattr(shop.gateway, operation)(request)

    assert State.UNKNOWN is await shop.state(request.request_id)

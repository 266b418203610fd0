"""An order and its prepay in one call, and what is said when it ends between the two."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl

import attrs
import pytest

from tests.support import asking, replies
from tests.support.clock import NOON
from tests.support.flaky_store import FlakyStore
from tests.support.merchant import OpenShop, Shop
from tests.support.platform import Answer, Script
from wxpay_async.engine.checkout import Reorder
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import (
    AlreadyPaidError,
    FailedError,
    IdempotencyConflictError,
    InDoubtError,
    InvalidRequestError,
    NotPaidError,
    NotSentError,
    TradeUnusableError,
)
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import derive_request_id
from wxpay_async.protocol.requests import InstantTrade
from wxpay_async.protocol.results import PayResult
from wxpay_async.protocol.wire import HttpRequest


async def check_out(shop: Shop, trade: InstantTrade | None = None, **more: Any) -> PayResult:  # noqa: ANN401 - checkout's
    """Let a person tap "pay"."""
    payer = {"openid": "openid-1", "app_id": "wx9236b1e84ffbf10a"}
    return await shop.gateway.checkout(trade or asking.trade(), **payer, **more)


async def test_checkout_makes_the_order_and_its_prepay(open_shop: OpenShop) -> None:
    """The payToken is handed on, and the payment's id derives from the trade's."""
    shop = open_shop([replies.created(), replies.prepay()])
    result = await check_out(shop)
    request_id = derive_request_id(shop.gateway.app_key, "pay", "trade-1")

    assert "wx061644162685653f3da37a5a1589465200" == result.prepay_id
    assert '"payToken":"token-1"' in shop.sent("wxminiprogram")[0]["bizContent"]
    assert ("O-1", State.SUCCEEDED) == (
        (await shop.get_record(request_id)).out_trade_no,
        await shop.state(request_id),
    )


async def test_checkout_that_is_repeated_continues_where_it_stopped(open_shop: OpenShop) -> None:
    """The order is not made twice when its payment was not sent."""
    unsent = [NotSentError("refused") for _ in range(3)]
    shop = open_shop(Script([replies.created(), *unsent, replies.prepay()]))
    with pytest.raises(InDoubtError):
        await check_out(shop)
    await check_out(shop)

    assert 1 == len(shop.sent("/instant/trade"))


@pytest.mark.parametrize(
    ("token", "answers", "retryable"),
    [("token-1", [NotSentError("refused")] * 3, True), ("to ken", [], False)],
    ids=["no connection", "a token that cannot be sent"],
)
async def test_checkout_whose_prepay_was_not_asked_for_is_in_doubt(
    token: str, answers: list[object], *, retryable: bool, open_shop: OpenShop
) -> None:
    """The order is made, so "not sent" would not be true of the whole; it says what to do."""
    shop = open_shop([replies.created(payToken=token), *answers])
    with pytest.raises(InDoubtError, match=r"order O-1 is made.*call again") as caught:
        await check_out(shop)
    outcome = await caught.value.resolve()

    assert isinstance(outcome, Outcome)
    assert ("trade-1", retryable) == (caught.value.request_id, caught.value.retryable)
    assert "ok" == outcome.kind


# An order that cannot be paid


NEXT = "O-1-2"


def count_up(number: str) -> str:
    """Return the number of the order that follows."""
    head, _, last = number.rpartition("-")
    return f"{number}-2" if head == "O" else f"{head}-{int(last) + 1}"


class OrderPlatform(Script):
    """A platform that may lose the first answer to `trade`, and says how each order stands."""

    def __init__(self, *, loses_token: bool = True) -> None:
        self.loses_token = loses_token
        self.statuses = {"O-1": "待付款", NEXT: "待付款"}
        self.created: list[str] = []
        super().__init__([])

    def __call__(self, request: HttpRequest) -> Answer:
        """Answer one request."""
        fields = dict(parse_qsl(request.body.decode("ascii")))
        if request.url.endswith("query"):
            number = fields["outTradeNo"]
            return replies.order(self.statuses[number], number)
        content = json.loads(fields["bizContent"])
        changes = {"requestId": content["requestId"]}
        if request.url.endswith("wxminiprogram"):
            return replies.prepay(**changes, tradeResList=None)
        self.created.append(content["tradeInfo"][0]["outTradeNo"])
        if self.loses_token:
            self.loses_token = False
            return InDoubtError("reset")
        return replies.created(**changes, tradeResList=None)


async def lose_token(open_shop: OpenShop, platform: OrderPlatform, **more: Any) -> Shop:  # noqa: ANN401 - checkout's
    """Open a shop, and lose the token of its first order."""
    shop = open_shop(platform, retry=RetryPolicy(attempts=1))
    with pytest.raises(InDoubtError):
        await check_out(shop, **more)
    return shop


@pytest.mark.parametrize(
    ("timeout_express", "retry_at"),
    [(None, None), ("0", None), ("30m", datetime.fromtimestamp(NOON + 35 * 60, UTC))],
)
async def test_checkout_whose_token_was_lost_says_when_the_order_will_be_closed(
    timeout_express: str | None, retry_at: datetime | None, open_shop: OpenShop
) -> None:
    """The payToken cannot be asked for: no other order may be made before this one is closed."""
    shop = open_shop(OrderPlatform(), retry=RetryPolicy(attempts=1))
    trade = asking.trade(timeout_express=timeout_express)
    with pytest.raises(InDoubtError):
        await check_out(shop, trade)
    for _ in range(2):
        with pytest.raises(TradeUnusableError, match="order O-1 exists") as caught:
            await check_out(shop, trade, reorder=count_up)
        assert ("in_doubt", False, "trade-1", retry_at) == (
            caught.value.fate,
            caught.value.retryable,
            caught.value.request_id,
            caught.value.retry_at,
        )
        assert "closed" in str(caught.value)

    assert 1 == len(shop.sent("/instant/trade"))


async def test_checkout_without_a_token_in_the_answer_is_unusable(open_shop: OpenShop) -> None:
    """The order exists; nothing is paid, and the error says what is missing."""
    shop = open_shop(Script([replies.created(payToken=None)], query=replies.order("待付款")))
    with pytest.raises(TradeUnusableError, match="payToken"):
        await check_out(shop)

    assert 1 == len(shop.sent("/instant/trade"))


async def test_checkout_whose_order_cannot_be_queried_calls_it_unusable(
    open_shop: OpenShop,
) -> None:
    """Nothing was learnt of it, so it may still be open."""
    shop = open_shop(Script([replies.created(payToken=None)], query=InDoubtError("reset")))
    with pytest.raises(TradeUnusableError):
        await check_out(shop, reorder=count_up)

    assert 1 == len(shop.sent("/instant/trade"))


async def test_checkout_of_a_paid_order_without_a_token_says_so(open_shop: OpenShop) -> None:
    """By a code that the payer scanned, for example."""
    shop = open_shop(Script([replies.created(payToken=None)], query=replies.order("已付款")))
    with pytest.raises(AlreadyPaidError):
        await check_out(shop, reorder=count_up)

    assert 1 == len(shop.sent("/instant/trade"))


async def test_checkout_with_reorder_makes_the_next_order_once_the_first_is_closed(
    open_shop: OpenShop,
) -> None:
    """Every later call goes on with the next order, also with another function."""
    platform = OrderPlatform()
    shop = await lose_token(open_shop, platform, reorder=count_up)
    platform.statuses["O-1"] = "已关闭"
    first = await check_out(shop, reorder=count_up)
    again = await check_out(shop, reorder=lambda number: f"{number}-another")

    assert ["O-1", NEXT] == platform.created
    assert (first.prepay_id, True) == (again.prepay_id, again.replayed)


async def test_checkout_without_reorder_says_that_the_order_ended(open_shop: OpenShop) -> None:
    """Whether another one is wanted, the merchant knows."""
    platform = OrderPlatform()
    shop = await lose_token(open_shop, platform)
    platform.statuses["O-1"] = "已关闭"
    for _ in range(2):
        with pytest.raises((NotPaidError, FailedError)):
            await check_out(shop)

    assert ["O-1"] == platform.created


async def test_checkout_reorders_when_the_order_of_a_live_token_ended(open_shop: OpenShop) -> None:
    """The payer declined, or nobody paid in time."""
    platform = OrderPlatform(loses_token=False)
    shop = open_shop(platform)
    await check_out(shop, reorder=count_up)
    shop.clock.move(20 * 60)
    platform.statuses["O-1"] = "已关闭"
    await check_out(shop, reorder=count_up)

    assert ["O-1", NEXT] == platform.created


async def test_checkout_refuses_a_reorder_that_returns_the_same_number(open_shop: OpenShop) -> None:
    """The platform would take it for the order that ended."""
    platform = OrderPlatform(loses_token=False)
    shop = open_shop(platform)
    await check_out(shop)
    shop.clock.move(20 * 60)
    platform.statuses["O-1"] = "已关闭"
    with pytest.raises(InvalidRequestError, match="reorder"):
        await check_out(shop, reorder=lambda number: number)


# The same order from another phone


async def test_checkout_takes_the_same_order_from_another_address_and_account(
    open_shop: OpenShop,
) -> None:
    """What belongs to the payer may differ; the order is not made twice."""
    platform = OrderPlatform(loses_token=False)
    shop = open_shop(platform)
    first = await check_out(shop)
    again = await check_out(shop, asking.trade(payer_ip="2001:db8::1"))

    assert first.prepay_id == again.prepay_id
    assert ["O-1"] == platform.created


async def test_checkout_of_another_amount_is_a_conflict(open_shop: OpenShop) -> None:
    """The payer would be charged what the order was created for."""
    shop = open_shop(Script([replies.created(instAmount="1.00"), replies.prepay()]))
    await check_out(shop)
    with pytest.raises(IdempotencyConflictError, match="payMethod"):
        await check_out(shop, asking.trade(pay_method=asking.method("0.50")))


async def test_checkout_of_other_goods_is_a_conflict(open_shop: OpenShop) -> None:
    """One requestId stands for one purchase."""
    shop = open_shop([replies.created(), replies.prepay()])
    await check_out(shop)
    [item] = asking.trade().trade_info
    with pytest.raises(IdempotencyConflictError, match="tradeInfo"):
        await check_out(shop, asking.trade(trade_info=[attrs.evolve(item, subject="other goods")]))


async def test_checkout_asks_anew_for_an_order_that_is_proven_not_executed(
    open_shop: OpenShop,
) -> None:
    """The same order number under the next requestId: the first one can make no order any more."""
    answers = Script([InDoubtError("reset"), replies.created(requestId=None), replies.prepay()])
    shop = open_shop(answers, retry=RetryPolicy(attempts=1))
    with pytest.raises(InDoubtError):
        await check_out(shop)
    for _ in range(2):
        shop.clock.move(700)
        await shop.gateway.recover()
    result = await check_out(shop)
    second = [json.loads(sent["bizContent"]) for sent in shop.sent("/instant/trade")][-1]

    assert result.prepay_id
    assert State.NOT_EXECUTED is await shop.state("trade-1")
    assert "O-1" == second["tradeInfo"][0]["outTradeNo"]


async def test_checkout_with_too_little_time_for_the_next_step_is_in_doubt(
    open_shop: OpenShop,
) -> None:
    """The time is for all of it; the order is made, and calling again goes on."""

    def create_slowly(_: HttpRequest) -> Answer:
        shop.clock.move(8)
        return replies.created()

    shop = open_shop(Script([create_slowly, replies.prepay()]))
    with pytest.raises(InDoubtError):
        await check_out(shop, timeout=10)

    assert (await check_out(shop)).prepay_id


async def test_checkout_goes_on_with_the_next_order_when_the_first_cannot_be_asked_about(
    open_shop: OpenShop,
) -> None:
    """That it is there proves that the first one ended."""
    platform = OrderPlatform()
    shop = await lose_token(open_shop, platform, reorder=count_up)
    platform.statuses["O-1"] = "已关闭"
    first = await check_out(shop, reorder=count_up)
    platform.statuses["O-1"] = "风控审核中"
    again = await check_out(shop, reorder=count_up)

    assert first.prepay_id == again.prepay_id
    assert ["O-1", NEXT] == platform.created


# A store that goes away, and a platform that contradicts itself


@pytest.mark.parametrize("reorder", [None, count_up], ids=["one order", "the next order"])
async def test_checkout_of_a_lost_token_is_in_doubt_when_the_store_is_away(
    reorder: Reorder | None, open_shop: OpenShop
) -> None:
    """The order exists, so "not sent" would not be true."""
    store = FlakyStore()
    answers = Script([replies.created(payToken=None)], query=replies.order("待付款"))
    shop = open_shop(answers, store=store)
    store.failing.add("load")
    with pytest.raises(InDoubtError):
        await check_out(shop, reorder=reorder)


async def test_checkout_makes_no_next_order_while_a_query_says_that_the_first_awaits_payment(
    open_shop: OpenShop,
) -> None:
    """Another query said that it had ended: one of the two is wrong, and it may be paid."""
    platform = OrderPlatform(loses_token=False)
    shop = open_shop(platform, retry=RetryPolicy(attempts=1))
    await check_out(shop)
    payment_id = derive_request_id(shop.gateway.app_key, "pay", "trade-1")
    record = await shop.get_record(payment_id)
    shop.store._active[record.key] = attrs.evolve(record, state=State.FAILED, reply=None)
    with pytest.raises(InDoubtError):
        await check_out(shop, reorder=count_up)

    assert ["O-1"] == platform.created

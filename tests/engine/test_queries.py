"""Reading until an answer is complete: `merchants` and `wait_paid`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest

from tests.support.merchant import OpenShop
from tests.support.platform import Replies
from wxpay_async.adapters.limiters.limiter import Lane, Slot, Unlimited
from wxpay_async.errors import (
    InDoubtError,
    InvalidRequestError,
    MalformedResponseError,
    NotPaidError,
    NotSentError,
    RefusedError,
    SignatureRefusedError,
)
from wxpay_async.protocol.results import TradeState

# merchants


def make_page(ids: Sequence[int], number: int, total_page: int | None) -> dict[str, Any]:
    """Make the reply that is a page of merchants."""
    rows = [{"merchantId": f"m{n}", "merchantName": "店"} for n in ids]
    data = {"merchants": rows, "currentPage": number, "total": 5}
    if total_page is not None:
        data["totalPage"] = total_page
    return {"success": True, "data": data}


async def test_merchants_of_several_pages_are_all_found(open_shop: OpenShop) -> None:
    """Page after page, as long as the platform says that there are more."""
    pages = [make_page([0, 1], 1, 3), make_page([2, 3], 2, 3), make_page([4], 3, 3)]
    shop = open_shop(pages)
    found = [merchant.merchant_id async for merchant in shop.gateway.merchants(page_size=2)]

    assert [f"m{n}" for n in range(5)] == found
    assert [("2", "1"), ("2", "2"), ("2", "3")] == [
        (sent["pageSize"], sent["currentPage"]) for sent in shop.sent()
    ]


async def test_merchants_of_an_empty_page_are_none(open_shop: OpenShop) -> None:
    """An empty first page is the end, whatever the totals say."""
    shop = open_shop([make_page([], 1, 9)])

    assert [] == [merchant async for merchant in shop.gateway.merchants()]


async def test_merchants_are_fetched_page_by_page(open_shop: OpenShop) -> None:
    """A caller that stops after the first merchant asks for one page."""
    shop = open_shop([make_page([0, 1], 1, 3)])
    merchants = shop.gateway.merchants(page_size=2)
    assert "m0" == (await anext(merchants)).merchant_id
    await merchants.aclose()

    assert 1 == shop.transport.calls


async def test_merchants_after_a_full_page_without_a_total_are_asked_for(
    open_shop: OpenShop,
) -> None:
    """A platform that leaves totalPage out does not hide the rest."""
    shop = open_shop([make_page([0, 1], 1, None), make_page([2], 2, None)])
    found = [merchant.merchant_id async for merchant in shop.gateway.merchants(page_size=2)]

    assert ["m0", "m1", "m2"] == found


@pytest.mark.parametrize(
    ("pages", "expected", "calls"),
    [
        pytest.param([([0, 1], 1)], 2, 2, id="the same page for every number"),
        pytest.param([([0, 1], None)], 2, 2, id="the same page, without a number"),
        pytest.param([([0, 1], None), ([2, 3], None)] * 9, 4, 3, id="two pages in turn"),
        pytest.param([([0, 1], 1), ([2, 3], 1)], 2, 2, id="another page, by its number"),
        pytest.param([([0, 1], 0), ([2, 3], 2), ([4], 3)], 5, 3, id="a first page of any number"),
    ],
)
async def test_merchants_end_though_every_page_is_full(
    pages: list[tuple[list[int], int | None]],
    expected: int,
    calls: int,
    open_shop: OpenShop,
) -> None:
    """Without totals: a page that comes again, or says that it is another one, is the end."""

    def answer(_: object) -> dict[str, Any]:
        ids, number = pages.pop(0) if len(pages) > 1 else pages[0]
        page = make_page(ids, number or 0, None)
        del page["data"]["total"]
        if number is None:
            del page["data"]["currentPage"]
        return page

    shop = open_shop(answer)
    found = [merchant.merchant_id async for merchant in shop.gateway.merchants(page_size=2)]

    assert ([f"m{n}" for n in range(expected)], calls) == (found, shop.transport.calls)


async def test_merchants_end_with_the_total(open_shop: OpenShop) -> None:
    """Five are promised: after three pages of two there is nothing left to ask for."""
    numbers = iter(range(1, 100))

    def answer(_: object) -> dict[str, Any]:
        number = next(numbers)
        return make_page([2 * number, 2 * number + 1], number, None)

    shop = open_shop(answer)
    found = [merchant async for merchant in shop.gateway.merchants(page_size=2)]

    assert (6, 3) == (len(found), shop.transport.calls)


@pytest.mark.parametrize("page_size", [0, -1, 1.5, "2", True, None])
async def test_page_size_that_is_no_positive_integer_is_refused(
    page_size: object, open_shop: OpenShop
) -> None:
    """Refused before anything is sent."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError, match="pageSize"):
        await anext(shop.gateway.merchants(page_size=page_size))

    assert 0 == shop.transport.calls


# wait_paid


async def test_wait_takes_the_lane_of_those_who_watch(
    open_shop: OpenShop, replies: Replies
) -> None:
    """A page that watches its order must not take the slots of those who pay."""
    lanes: list[Lane] = []

    class NotingLimiter(Unlimited):
        async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
            lanes.append(lane)
            return await super().acquire(lane, timeout=timeout)

    answers = [replies.order(text) for text in ("待付款", "支付成功")]
    await open_shop(answers, limiter=NotingLimiter()).gateway.wait_paid("O-1")

    assert [Lane.POLLING] * 2 == lanes


async def test_wait_ends_when_the_order_is_paid(open_shop: OpenShop, replies: Replies) -> None:
    """It asks every two seconds, until the platform says so."""
    shop = open_shop([replies.order(text) for text in ("待付款", "支付中", "支付成功")])
    status = await shop.gateway.wait_paid("O-1")

    assert (TradeState.PAID, [2.0, 2.0]) == (status.state, shop.clock.slept)


@pytest.mark.parametrize("text", ["已付款", "退款中", "已退款", "退款失败"])
async def test_wait_ends_with_an_order_that_was_refunded(
    text: str, open_shop: OpenShop, replies: Replies
) -> None:
    """A refunded order was paid; the result says how it stands."""
    shop = open_shop([replies.order(text)])

    assert text == (await shop.gateway.wait_paid("O-1")).status


async def test_wait_that_runs_out_quotes_the_last_status(
    open_shop: OpenShop, replies: Replies
) -> None:
    """A text that the table does not know is shown, not guessed at."""
    shop = open_shop(lambda _: replies.order("风控审核中"))
    with pytest.raises(InDoubtError, match="风控审核中"):
        await shop.gateway.wait_paid("O-1", timeout=10)


async def test_wait_without_an_answer_says_so(open_shop: OpenShop) -> None:
    """There is no status to quote then."""
    shop = open_shop(lambda _: InDoubtError("read timeout"))
    with pytest.raises(InDoubtError, match="no query was answered"):
        await shop.gateway.wait_paid("O-1", timeout=10)


@pytest.mark.parametrize("name", ["timeout", "every"])
@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, -0.1, "2", None])
async def test_wait_of_an_impossible_time_is_refused(
    name: str,
    seconds: Any,  # noqa: ANN401 - what must not be given
    open_shop: OpenShop,
) -> None:
    """The error names the argument, before anything is sent."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError, match=name) as caught:
        await shop.gateway.wait_paid("O-1", **{name: seconds})

    assert (name, 0) == (caught.value.field, shop.transport.calls)


async def test_wait_withholds_an_answer_about_another_order(
    open_shop: OpenShop, replies: Replies
) -> None:
    """That another order is paid ends the wait with a doubt, not with a delivery."""
    shop = open_shop([replies.order("已付款", "O-2")])
    with pytest.raises(MalformedResponseError):
        await shop.gateway.wait_paid("O-1")


@pytest.mark.parametrize("text", ["交易关闭", "TRADE_CLOSED", "支付失败", "TRANSFER_FAIL"])
async def test_wait_ends_with_an_order_that_ended_unpaid(
    text: str, open_shop: OpenShop, replies: Replies
) -> None:
    """Closed or failed: it will not be paid any more."""
    shop = open_shop([replies.order(text)])
    with pytest.raises(NotPaidError):
        await shop.gateway.wait_paid("O-1")


@pytest.mark.parametrize(
    "text", ["未知状态", "已付款 ", "PAID", "success", "已付款待确认", "未付款"]
)
async def test_wait_never_takes_an_unknown_status_for_paid(
    text: str, open_shop: OpenShop, replies: Replies
) -> None:
    """It waits until the time is up, and then the outcome is in doubt."""
    shop = open_shop(lambda _: replies.order(text))
    with pytest.raises(InDoubtError):
        await shop.gateway.wait_paid("O-1", timeout=10)

    assert 6 == shop.transport.calls


async def test_wait_outlasts_queries_that_fail(open_shop: OpenShop, replies: Replies) -> None:
    """Timeouts, connections and quota say nothing about the order."""
    answers = iter(
        [
            *(InDoubtError("timeout") for _ in range(3)),
            *(NotSentError("refused") for _ in range(3)),
            replies.no("CO_MSG_000007"),
            replies.order("已付款"),
        ]
    )
    shop = open_shop(lambda _: next(answers))

    assert TradeState.PAID is (await shop.gateway.wait_paid("O-1")).state


@pytest.mark.parametrize(
    ("code", "error"),
    [("GM_API_BUS_000099", RefusedError), ("CO_MSG_000006", SignatureRefusedError)],
)
async def test_wait_ends_with_a_refused_query(
    code: str, error: type[RefusedError], open_shop: OpenShop, replies: Replies
) -> None:
    """An order that the platform does not know, or does not tell about, is not waited for."""
    shop = open_shop([replies.no(code)])
    with pytest.raises(error):
        await shop.gateway.wait_paid("O-1")


@pytest.mark.parametrize("number", ["", "a&b"])
async def test_wait_for_an_impossible_number_is_refused(number: str, open_shop: OpenShop) -> None:
    """It is refused before anything is sent."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError, match="outTradeNo"):
        await shop.gateway.wait_paid(number)

    assert ([], 0) == (shop.clock.slept, shop.transport.calls)


async def test_wait_ends_with_an_error_that_is_not_retryable(open_shop: OpenShop) -> None:
    """A certificate that is refused now is refused in two seconds."""
    shop = open_shop(lambda _: NotSentError("certificate", retryable=False))
    with pytest.raises(NotSentError):
        await shop.gateway.wait_paid("O-1")

    assert 1 == shop.transport.calls


async def test_wait_ends_in_time_though_the_platform_is_slow(
    open_shop: OpenShop,
) -> None:
    """Each query gets what is left of the wait, not 30 s of its own."""

    async def slow(_: object) -> InDoubtError:
        shop.clock.move(15)
        return InDoubtError("read timeout")

    shop = open_shop(slow)
    began = shop.clock.monotonic()
    with pytest.raises(InDoubtError):
        await shop.gateway.wait_paid("O-1", timeout=10)

    assert shop.clock.monotonic() - began < 10 + 15 + 1

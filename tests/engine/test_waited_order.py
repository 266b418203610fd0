"""Waiting for one order: how it ends."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.support import replies
from tests.support.merchant import OpenShop
from wxpay_async.adapters.limiters.limiter import Lane, Slot, Unlimited
from wxpay_async.errors import (
    InDoubtError,
    InDoubtTimeoutError,
    InvalidRequestError,
    MalformedResponseError,
    NotPaidError,
    NotSentError,
    RefusedError,
    SignatureRefusedError,
)
from wxpay_async.protocol.results import TradeState


async def test_wait_takes_the_lane_of_those_who_watch(open_shop: OpenShop) -> None:
    """A page that watches its order must not take the slots of those who pay."""
    lanes: list[Lane] = []

    class NotingLimiter(Unlimited):
        async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
            lanes.append(lane)
            return await super().acquire(lane, timeout=timeout)

    answers = [replies.order(text) for text in ("待付款", "支付成功")]
    await open_shop(answers, limiter=NotingLimiter()).gateway.wait_paid("O-1")

    assert [Lane.POLLING] * 2 == lanes


async def test_wait_ends_when_the_order_is_paid(open_shop: OpenShop) -> None:
    """It asks again after two seconds and then less and less often, until the platform says so."""
    shop = open_shop([replies.order(text) for text in ("待付款", "支付中", "支付成功")])
    status = await shop.gateway.wait_paid("O-1")

    assert (TradeState.PAID, [2.0, 3.0]) == (status.state, shop.clock.slept)


@pytest.mark.parametrize("text", ["已付款", "退款中", "已退款", "退款失败"])
async def test_wait_ends_with_an_order_that_was_refunded(text: str, open_shop: OpenShop) -> None:
    """A refunded order was paid; the result says how it stands."""
    shop = open_shop([replies.order(text)])

    assert text == (await shop.gateway.wait_paid("O-1")).status


async def test_wait_that_runs_out_quotes_the_last_status(open_shop: OpenShop) -> None:
    """A text that the table does not know is shown, not guessed at."""
    shop = open_shop(lambda _: replies.order("风控审核中"))
    with pytest.raises(InDoubtTimeoutError, match="风控审核中"):
        await shop.gateway.wait_paid("O-1", timeout=10)

    assert [2.0, 3.0, 4.5, 0.5] == shop.clock.slept  # and it lasts no longer than it may


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


async def test_wait_withholds_an_answer_about_another_order(open_shop: OpenShop) -> None:
    """That another order is paid ends the wait with a doubt, not with a delivery."""
    shop = open_shop([replies.order("已付款", "O-2")])
    with pytest.raises(MalformedResponseError):
        await shop.gateway.wait_paid("O-1")


@pytest.mark.parametrize("text", ["交易关闭", "TRADE_CLOSED", "支付失败", "TRANSFER_FAIL"])
async def test_wait_ends_with_an_order_that_ended_unpaid(text: str, open_shop: OpenShop) -> None:
    """Closed or failed: it will not be paid any more."""
    shop = open_shop([replies.order(text)])
    with pytest.raises(NotPaidError):
        await shop.gateway.wait_paid("O-1")


@pytest.mark.parametrize(
    "text", ["未知状态", "已付款 ", "PAID", "success", "已付款待确认", "未付款"]
)
async def test_wait_never_takes_an_unknown_status_for_paid(text: str, open_shop: OpenShop) -> None:
    """It waits until the time is up, and then the outcome is in doubt."""
    shop = open_shop(lambda _: replies.order(text))
    with pytest.raises(InDoubtError):
        await shop.gateway.wait_paid("O-1", timeout=10)

    assert 4 == shop.transport.calls


async def test_wait_outlasts_queries_that_fail(open_shop: OpenShop) -> None:
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
    code: str, error: type[RefusedError], open_shop: OpenShop
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


async def test_wait_tells_all_callers_that_something_broke(open_shop: OpenShop) -> None:
    """An error that is nobody's business to expect reaches every caller, and leaves no task."""

    def break_down(_: object) -> None:
        raise ZeroDivisionError

    shop = open_shop(break_down)
    waits = [shop.gateway.wait_paid("O-1") for _ in range(3)]
    errors = await asyncio.gather(*waits, return_exceptions=True)

    assert [ZeroDivisionError] * 3 == [type(error) for error in errors]
    assert 1 == shop.transport.calls

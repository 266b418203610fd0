"""What only asks, and what is made of several calls: query, merchants, checkout, wait_paid."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any
from urllib.parse import parse_qsl

import pytest

from wxpay_async.errors import (
    InDoubtError,
    InvalidRequestError,
    MalformedResponseError,
    NotPaidError,
    NotSentError,
    RefusedError,
    SignatureRefusedError,
)
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import derive_request_id
from wxpay_async.protocol.results import TradeState

Fixture = Any
"""What a conftest.py defines, which no test module can import."""


def _page(ids: Sequence[int], number: int, total_page: int | None) -> dict[str, Any]:
    rows = [{"merchantId": f"m{n}", "merchantName": "店"} for n in ids]
    data = {"merchants": rows, "currentPage": number, "total": 5}
    if total_page is not None:
        data["totalPage"] = total_page
    return {"success": True, "data": data}


# query


async def test_a_query_returns_what_the_platform_knows(
    open_shop: Fixture, replies: Fixture
) -> None:
    """Sent as a plain parameter; no requestId and nothing in the store."""
    shop = open_shop([replies.order("待付款")])
    status = await shop.gateway.query(out_trade_no="O-1")

    assert ("O-1", TradeState.AWAITING) == (status.out_trade_no, status.state)
    assert "bizContent" not in shop.sent()[0]
    assert "O-1" == shop.sent()[0]["outTradeNo"]


@pytest.mark.parametrize("numbers", [{}, {"out_trade_no": "a", "trade_no": "b"}])
async def test_a_query_takes_exactly_one_number(
    numbers: dict[str, str], open_shop: Fixture
) -> None:
    """Both or neither is refused before anything is sent."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError, match="outTradeNo"):
        await shop.gateway.query(**numbers)

    assert 0 == shop.transport.calls


@pytest.mark.parametrize(
    ("asked", "echoed"),
    [
        ({"out_trade_no": "O-1"}, {"outTradeNo": "O-2"}),
        ({"out_trade_no": "O-1"}, {"outTradeNo": ""}),
        ({"trade_no": "T-1"}, {"tradeNo": "T-2"}),
    ],
)
async def test_what_is_said_of_another_order_is_withheld(
    asked: dict[str, str], echoed: dict[str, str], open_shop: Fixture, replies: Fixture
) -> None:
    """A proxy's cache must not make anybody ship: in doubt, asked once, and nobody is told."""
    reply = replies.order("已付款")
    reply["data"].update(echoed)
    shop = open_shop([reply])
    with pytest.raises(MalformedResponseError, match=next(iter(echoed))) as caught:
        await shop.gateway.query(**asked)

    assert ("in_doubt", 1) == (caught.value.fate, shop.transport.calls)


async def test_an_echo_that_the_platform_may_leave_out_is_not_missed(
    open_shop: Fixture, replies: Fixture
) -> None:
    """Asked by tradeNo, answered without one: the page does not promise it."""
    shop = open_shop([replies.order("已付款")])

    assert TradeState.PAID is (await shop.gateway.query(trade_no="T-1")).state


async def test_many_queries_take_what_they_are_given(open_shop: Fixture, replies: Fixture) -> None:
    """A number that is none is the outcome of its row, and ends no other."""
    shop = open_shop(lambda _: replies.order("待付款"))
    outcomes = [o async for o in shop.gateway.query_many(["O-1", "", 5, None, "a&b"])]
    errors = {outcome.request: outcome.error for outcome in outcomes}

    assert {"O-1", "", 5, None, "a&b"} == set(errors)
    assert errors.pop("O-1") is None
    assert {(InvalidRequestError, "outTradeNo")} == {
        (type(error), error.field) for error in errors.values()
    }


async def test_many_queries_withhold_what_is_said_of_another_order(
    open_shop: Fixture, replies: Fixture
) -> None:
    """The outcome of the one is in doubt, of the other ok."""
    shop = open_shop(lambda _: replies.order("已付款"))
    kinds = {o.request: o.kind async for o in shop.gateway.query_many(["O-1", "O-2"])}

    assert {"O-1": "ok", "O-2": "in_doubt"} == kinds


async def test_a_query_is_repeated_like_anything_else(open_shop: Fixture, replies: Fixture) -> None:
    """Reading twice is harmless; an answer is an answer."""
    shop = open_shop([InDoubtError("timeout"), NotSentError("refused"), replies.order("已付款")])

    assert 3 == (await shop.gateway.query(trade_no="T-1")).attempts


async def test_many_queries(open_shop: Fixture, replies: Fixture) -> None:
    """An outcome for each order number."""
    shop = open_shop(
        lambda request: replies.order(
            "待付款", dict(parse_qsl(request.body.decode()))["outTradeNo"]
        )
    )
    outcomes = [o async for o in shop.gateway.query_many(f"O-{n}" for n in range(30))]

    assert {f"O-{n}" for n in range(30)} == {outcome.request for outcome in outcomes}
    assert {"ok"} == {outcome.kind for outcome in outcomes}


# merchants


async def test_merchants_come_from_several_pages(open_shop: Fixture) -> None:
    """Page after page, as long as the platform says that there are more."""
    pages = [_page([0, 1], 1, 3), _page([2, 3], 2, 3), _page([4], 3, 3)]
    shop = open_shop(pages)
    found = [merchant.merchant_id async for merchant in shop.gateway.merchants(page_size=2)]

    assert [f"m{n}" for n in range(5)] == found
    assert [("2", "1"), ("2", "2"), ("2", "3")] == [
        (sent["pageSize"], sent["currentPage"]) for sent in shop.sent()
    ]


async def test_no_merchants(open_shop: Fixture) -> None:
    """An empty first page is the end, whatever the totals say."""
    shop = open_shop([_page([], 1, 9)])

    assert [] == [merchant async for merchant in shop.gateway.merchants()]


async def test_pages_are_fetched_when_they_are_needed(open_shop: Fixture) -> None:
    """Who stops after the first merchant asks for one page."""
    shop = open_shop([_page([0, 1], 1, 3)])
    merchants = shop.gateway.merchants(page_size=2)
    assert "m0" == (await anext(merchants)).merchant_id
    await merchants.aclose()

    assert 1 == shop.transport.calls


async def test_a_full_page_without_a_total_is_not_taken_for_the_last(open_shop: Fixture) -> None:
    """A platform that leaves totalPage out does not lose us the rest."""
    shop = open_shop([_page([0, 1], 1, None), _page([2], 2, None)])
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
async def test_the_walk_ends_though_the_platform_fills_every_page(
    pages: list[tuple[list[int], int | None]],
    expected: int,
    calls: int,
    open_shop: Fixture,
) -> None:
    """Without totals: a page that comes again, or says that it is another one, is the end."""

    def answer(_: object) -> dict[str, Any]:
        ids, number = pages.pop(0) if len(pages) > 1 else pages[0]
        page = _page(ids, number or 0, None)
        del page["data"]["total"]
        if number is None:
            del page["data"]["currentPage"]
        return page

    shop = open_shop(answer)
    found = [merchant.merchant_id async for merchant in shop.gateway.merchants(page_size=2)]

    assert ([f"m{n}" for n in range(expected)], calls) == (found, shop.transport.calls)


async def test_the_walk_ends_with_the_total(open_shop: Fixture) -> None:
    """Five are promised: after three pages of two there is nothing left to ask for."""
    numbers = iter(range(1, 100))

    def answer(_: object) -> dict[str, Any]:
        number = next(numbers)
        return _page([2 * number, 2 * number + 1], number, None)

    shop = open_shop(answer)
    found = [merchant async for merchant in shop.gateway.merchants(page_size=2)]

    assert (6, 3) == (len(found), shop.transport.calls)


@pytest.mark.parametrize("page_size", [0, -1, 1.5, "2", True, None])
async def test_a_page_must_hold_something(page_size: object, open_shop: Fixture) -> None:
    """Refused before anything is sent."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError, match="pageSize"):
        await anext(shop.gateway.merchants(page_size=page_size))

    assert 0 == shop.transport.calls


# checkout


async def test_checkout_makes_the_order_and_its_prepay(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The payToken is handed on, and the payment's id derives from the trade's."""
    shop = open_shop([replies.created(), replies.prepay()])
    result = await shop.gateway.checkout(
        asking.trade(), openid="openid-1", app_id="wx9236b1e84ffbf10a"
    )
    request_id = derive_request_id(shop.gateway.app_key, "pay", "trade-1")

    assert "wx061644162685653f3da37a5a1589465200" == result.prepay_id
    assert '"payToken":"token-1"' in shop.sent("wxminiprogram")[0]["bizContent"]
    assert ("O-1", State.SUCCEEDED) == (
        (await shop.entry(request_id)).out_trade_no,
        await shop.state(request_id),
    )


async def test_checkout_again_continues_where_it_stopped(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """The order is not made twice when its payment was not sent."""
    unsent = [NotSentError("refused") for _ in range(3)]
    shop = open_shop(script(replies.created(), *unsent, replies.prepay()))
    payer = {"openid": "openid-1", "app_id": "wx9236b1e84ffbf10a"}
    with pytest.raises(NotSentError):
        await shop.gateway.checkout(asking.trade(), **payer)
    await shop.gateway.checkout(asking.trade(), **payer)

    assert 1 == len(shop.sent("/instant/trade"))


async def test_checkout_without_a_token(
    open_shop: Fixture, asking: Fixture, replies: Fixture
) -> None:
    """The order exists; nothing is paid, and the answer says what is missing."""
    shop = open_shop([replies.created(payToken=None)])
    with pytest.raises(MalformedResponseError, match="payToken"):
        await shop.gateway.checkout(asking.trade(), openid="o", app_id="wx")

    assert 1 == shop.transport.calls


async def test_checkout_after_a_lost_answer_says_that_it_cannot_go_on(
    open_shop: Fixture, asking: Fixture, replies: Fixture, script: Fixture
) -> None:
    """The payToken cannot be asked for: in doubt, not to be repeated, and what to do instead."""
    shop = open_shop(script(InDoubtError("timeout"), query=replies.order("待付款")))
    for _ in range(2):
        with pytest.raises(MalformedResponseError, match="order O-1 exists") as caught:
            await shop.gateway.checkout(asking.trade(), openid="o", app_id="wx")
        assert ("in_doubt", False, "trade-1") == (
            caught.value.fate,
            caught.value.retryable,
            caught.value.request_id,
        )
        assert "closed" in str(caught.value)

    assert 1 == len(shop.sent("/instant/trade"))


# wait_paid


async def test_waiting_until_it_is_paid(open_shop: Fixture, replies: Fixture) -> None:
    """Every two seconds, until the platform says so."""
    shop = open_shop([replies.order(text) for text in ("待付款", "支付中", "支付成功")])
    status = await shop.gateway.wait_paid("O-1")

    assert (TradeState.PAID, [2.0, 2.0]) == (status.state, shop.clock.slept)


@pytest.mark.parametrize("text", ["已付款", "退款中", "已退款", "退款失败"])
async def test_an_order_that_was_given_back_was_paid(
    text: str, open_shop: Fixture, replies: Fixture
) -> None:
    """Somebody refunds while another waits: the wait is over, and says how it stands."""
    shop = open_shop([replies.order(text)])

    assert text == (await shop.gateway.wait_paid("O-1")).status


async def test_the_last_word_of_the_platform_is_in_the_error(
    open_shop: Fixture, replies: Fixture
) -> None:
    """A text that the table does not know is seen, not guessed at."""
    shop = open_shop(lambda _: replies.order("风控审核中"))
    with pytest.raises(InDoubtError, match="风控审核中"):
        await shop.gateway.wait_paid("O-1", timeout=10)


async def test_a_wait_without_an_answer_says_so(open_shop: Fixture) -> None:
    """There is no last word then."""
    shop = open_shop(lambda _: InDoubtError("read timeout"))
    with pytest.raises(InDoubtError, match="no query was answered"):
        await shop.gateway.wait_paid("O-1", timeout=10)


@pytest.mark.parametrize("name", ["timeout", "every"])
@pytest.mark.parametrize("seconds", [float("nan"), float("inf"), -1, -0.1, "2", None])
async def test_a_wait_takes_seconds(
    name: str,
    seconds: Any,  # noqa: ANN401 - what must not be given
    open_shop: Fixture,
) -> None:
    """What cannot be waited is named before anything is sent."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError, match=name) as caught:
        await shop.gateway.wait_paid("O-1", **{name: seconds})

    assert (name, 0) == (caught.value.field, shop.transport.calls)


async def test_waiting_withholds_what_is_said_of_another_order(
    open_shop: Fixture, replies: Fixture
) -> None:
    """That another order is paid ends the wait with a doubt, not with a parcel."""
    shop = open_shop([replies.order("已付款", "O-2")])
    with pytest.raises(MalformedResponseError):
        await shop.gateway.wait_paid("O-1")


@pytest.mark.parametrize("text", ["交易关闭", "TRADE_CLOSED", "支付失败", "TRANSFER_FAIL"])
async def test_an_order_that_ended_is_not_waited_for(
    text: str, open_shop: Fixture, replies: Fixture
) -> None:
    """Closed or failed: it will not be paid any more."""
    shop = open_shop([replies.order(text)])
    with pytest.raises(NotPaidError):
        await shop.gateway.wait_paid("O-1")


@pytest.mark.parametrize(
    "text", ["未知状态", "已付款 ", "PAID", "success", "已付款待确认", "未付款"]
)
async def test_an_unknown_text_never_counts_as_paid(
    text: str, open_shop: Fixture, replies: Fixture
) -> None:
    """It is waited on until the time is up, and then the outcome is in doubt."""
    shop = open_shop(lambda _: replies.order(text))
    with pytest.raises(InDoubtError):
        await shop.gateway.wait_paid("O-1", timeout=10)

    assert 6 == shop.transport.calls


async def test_a_query_that_fails_meanwhile_does_not_end_the_wait(
    open_shop: Fixture, replies: Fixture
) -> None:
    """Time-outs, connections and quota are not the order's fault."""
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
async def test_a_refused_query_ends_the_wait(
    code: str, error: type[RefusedError], open_shop: Fixture, replies: Fixture
) -> None:
    """An order that the platform does not know, or will not tell of, is not waited for."""
    shop = open_shop([replies.no(code)])
    with pytest.raises(error):
        await shop.gateway.wait_paid("O-1")


@pytest.mark.parametrize("number", ["", "a&b"])
async def test_bad_input_ends_the_wait_before_it_begins(number: str, open_shop: Fixture) -> None:
    """A number that can never be asked for is not waited for."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError, match="outTradeNo"):
        await shop.gateway.wait_paid(number)

    assert ([], 0) == (shop.clock.slept, shop.transport.calls)


async def test_what_another_query_cannot_help_ends_the_wait(open_shop: Fixture) -> None:
    """A certificate that is refused now is refused in two seconds."""
    shop = open_shop(lambda _: NotSentError("certificate", retryable=False))
    with pytest.raises(NotSentError):
        await shop.gateway.wait_paid("O-1")

    assert 1 == shop.transport.calls


async def test_the_wait_ends_in_time_though_the_platform_is_slow(
    open_shop: Fixture,
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

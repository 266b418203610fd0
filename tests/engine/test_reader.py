"""Queries of one order and of many: what they answer, refuse and withhold."""

from __future__ import annotations

from urllib.parse import parse_qsl

import pytest

from tests.support import replies
from tests.support.merchant import OpenShop
from wxpay_async.errors import (
    InDoubtError,
    InvalidRequestError,
    MalformedResponseError,
    NotSentError,
)
from wxpay_async.protocol.results import TradeState

LOST = InDoubtError("read timeout")


async def test_query_returns_what_the_platform_knows(open_shop: OpenShop) -> None:
    """It is sent as a plain parameter; there is no requestId, and nothing in the store."""
    shop = open_shop([replies.order("待付款")])
    status = await shop.gateway.query(out_trade_no="O-1")

    assert ("O-1", TradeState.AWAITING) == (status.out_trade_no, status.state)
    assert "bizContent" not in shop.sent()[0]
    assert "O-1" == shop.sent()[0]["outTradeNo"]


@pytest.mark.parametrize("numbers", [{}, {"out_trade_no": "a", "trade_no": "b"}])
async def test_query_with_none_or_both_numbers_is_refused(
    numbers: dict[str, str], open_shop: OpenShop
) -> None:
    """Refused before anything is sent."""
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
async def test_query_withholds_an_answer_about_another_order(
    asked: dict[str, str], echoed: dict[str, str], open_shop: OpenShop
) -> None:
    """A cached answer must not lead to a delivery: in doubt, and asked once."""
    reply = replies.order("已付款")
    reply["data"].update(echoed)
    shop = open_shop([reply])
    with pytest.raises(MalformedResponseError, match=next(iter(echoed))) as caught:
        await shop.gateway.query(**asked)

    assert ("in_doubt", 1) == (caught.value.fate, shop.transport.calls)


async def test_query_accepts_an_answer_without_the_number(open_shop: OpenShop) -> None:
    """Asked by tradeNo, answered without one: the page does not promise it."""
    shop = open_shop([replies.order("已付款")])

    assert TradeState.PAID is (await shop.gateway.query(trade_no="T-1")).state


async def test_query_that_fails_is_repeated(open_shop: OpenShop) -> None:
    """Reading twice is harmless."""
    shop = open_shop([InDoubtError("timeout"), NotSentError("refused"), replies.order("已付款")])

    assert 3 == (await shop.gateway.query(trade_no="T-1")).attempts


async def test_query_many_has_an_outcome_for_each_order(open_shop: OpenShop) -> None:
    """For thirty order numbers there are thirty outcomes."""
    shop = open_shop(
        lambda request: replies.order(
            "待付款", dict(parse_qsl(request.body.decode()))["outTradeNo"]
        )
    )
    outcomes = [o async for o in shop.gateway.query_many(f"O-{n}" for n in range(30))]

    assert {f"O-{n}" for n in range(30)} == {outcome.request for outcome in outcomes}
    assert {"ok"} == {outcome.kind for outcome in outcomes}


async def test_query_many_reports_an_impossible_number_as_its_outcome(open_shop: OpenShop) -> None:
    """It ends no other query."""
    shop = open_shop(lambda _: replies.order("待付款"))
    outcomes = [o async for o in shop.gateway.query_many(["O-1", "", 5, None, "a&b"])]
    errors = {outcome.request: outcome.error for outcome in outcomes}

    assert {"O-1", "", 5, None, "a&b"} == set(errors)
    assert errors.pop("O-1") is None
    assert {(InvalidRequestError, "outTradeNo")} == {
        (type(error), error.field) for error in errors.values()
    }


async def test_query_many_withholds_an_answer_about_another_order(open_shop: OpenShop) -> None:
    """The outcome of the one is in doubt, of the other ok."""
    shop = open_shop(lambda _: replies.order("已付款"))
    kinds = {o.request: o.kind async for o in shop.gateway.query_many(["O-1", "O-2"])}

    assert {"O-1": "ok", "O-2": "in_doubt"} == kinds

"""Status texts of queries: what a merchant teaches counts, and what is unknown is told."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.support import asking, replies
from tests.support.merchant import OpenShop
from tests.support.platform import Script
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InDoubtError, InvalidRequestError
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.results import TradeState
from wxpay_async.protocol.signing import Md5Signer

TEXT = "交易完成"


async def test_taught_text_is_paid_for_everyone_who_asks(open_shop: OpenShop) -> None:
    """A query, a wait and a batch of queries say the same."""
    shop = open_shop(Script([], query=replies.order(TEXT)), trade_states={TEXT: TradeState.PAID})
    found = await shop.gateway.query(out_trade_no="O-1")
    waited = await shop.gateway.wait_paid("O-1", timeout=0, every=0)
    batch = [o.unwrap() async for o in shop.gateway.query_many(["O-1"])]

    assert [TradeState.PAID] * 3 == [found.state, waited.state, batch[0].state]
    assert TEXT == found.status


async def test_taught_text_settles_a_doubt(open_shop: OpenShop) -> None:
    """A refund whose answer got lost is found by the merchant's own word for it."""
    lost = Script([InDoubtError("read timeout")], query=replies.order("退好了", "R-1"))
    shop = open_shop(
        lost, trade_states={"退好了": TradeState.REFUNDED}, retry=RetryPolicy(attempts=1)
    )
    await shop.gateway.refund(asking.refund())

    assert State.SUCCEEDED is await shop.state("refund-1")


async def test_taught_text_wins_over_what_the_table_reads_literally(open_shop: OpenShop) -> None:
    """All texts but the documented one are guesses of ours."""
    shop = open_shop(Script([], query=replies.order("处理中")), trade_states={"处理中": "paid"})

    assert TradeState.PAID is (await shop.gateway.query(out_trade_no="O-1")).state


async def test_unknown_text_is_told_once_with_what_to_do(
    open_shop: OpenShop, caplog: pytest.LogCaptureFixture
) -> None:
    """Once for each text, at WARNING, and in one line whatever the text is."""
    texts = iter(["外星", "外星", "又一\n个", "待付款"])
    shop = open_shop(Script([], query=lambda: replies.order(next(texts))))
    states = [(await shop.gateway.query(out_trade_no="O-1")).state for _ in range(4)]

    told = [r for r in caplog.records if "trade_states" in r.getMessage()]
    assert [TradeState.UNKNOWN] * 3 + [TradeState.AWAITING] == states
    assert [logging.WARNING] * 2 == [record.levelno for record in told]
    assert ["外星" in told[0].getMessage(), "\n" in told[1].getMessage()] == [True, False]


async def test_texts_without_end_are_told_a_limited_number_of_times(
    open_shop: OpenShop, caplog: pytest.LogCaptureFixture
) -> None:
    """A platform that makes texts up fills neither the memory nor the log."""
    texts = iter(f"外星{number}" for number in range(150))
    shop = open_shop(Script([], query=lambda: replies.order(next(texts))))
    for _ in range(150):
        await shop.gateway.query(out_trade_no="O-1")

    assert 100 == sum("trade_states" in record.getMessage() for record in caplog.records)


@pytest.mark.parametrize(
    "states",
    [{"": TradeState.PAID}, {1: TradeState.PAID}, {TEXT: "done"}, {"待付款": TradeState.PAID}],
)
def test_trade_states_that_cannot_be_used_are_refused(states: Any) -> None:  # noqa: ANN401 - bad input
    """No text, no state, or the one text that the platform documents."""
    with pytest.raises(InvalidRequestError) as caught:
        PayGateway("k", Md5Signer("s"), trade_states=states)

    assert "trade_states" == caught.value.field
    assert "paid" in caught.value.allowed

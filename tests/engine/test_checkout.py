"""An order and its prepay in one call, and what is said when it ends between the two."""

from __future__ import annotations

import pytest

from tests.support.merchant import Asking, OpenShop
from tests.support.platform import Replies, Script
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import (
    InDoubtError,
    MalformedResponseError,
    NotSentError,
)
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import derive_request_id


async def test_checkout_makes_the_order_and_its_prepay(
    open_shop: OpenShop, asking: Asking, replies: Replies
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


async def test_checkout_that_is_repeated_continues_where_it_stopped(
    open_shop: OpenShop, asking: Asking, replies: Replies
) -> None:
    """The order is not made twice when its payment was not sent."""
    unsent = [NotSentError("refused") for _ in range(3)]
    shop = open_shop(Script([replies.created(), *unsent, replies.prepay()]))
    payer = {"openid": "openid-1", "app_id": "wx9236b1e84ffbf10a"}
    with pytest.raises(InDoubtError):
        await shop.gateway.checkout(asking.trade(), **payer)
    await shop.gateway.checkout(asking.trade(), **payer)

    assert 1 == len(shop.sent("/instant/trade"))


@pytest.mark.parametrize(
    ("token", "answers", "retryable"),
    [("token-1", [NotSentError("refused")] * 3, True), ("to ken", [], False)],
    ids=["no connection", "a token that cannot be sent"],
)
async def test_checkout_whose_prepay_was_not_asked_for_is_in_doubt(
    token: str,
    answers: list[object],
    *,
    retryable: bool,
    open_shop: OpenShop,
    asking: Asking,
    replies: Replies,
) -> None:
    """The order is made, so "not sent" would not be true of the whole; it says what to do."""
    shop = open_shop([replies.created(payToken=token), *answers])
    with pytest.raises(InDoubtError, match=r"order O-1 is made.*call again") as caught:
        await shop.gateway.checkout(asking.trade(), openid="openid-1", app_id="wx1")
    outcome = await caught.value.resolve()

    assert isinstance(outcome, Outcome)
    assert ("trade-1", retryable) == (caught.value.request_id, caught.value.retryable)
    assert "ok" == outcome.kind


async def test_checkout_without_a_token_is_in_doubt(
    open_shop: OpenShop, asking: Asking, replies: Replies
) -> None:
    """The order exists; nothing is paid, and the error says what is missing."""
    shop = open_shop([replies.created(payToken=None)])
    with pytest.raises(MalformedResponseError, match="payToken"):
        await shop.gateway.checkout(asking.trade(), openid="o", app_id="wx")

    assert 1 == shop.transport.calls


async def test_checkout_after_a_lost_answer_cannot_go_on(
    open_shop: OpenShop, asking: Asking, replies: Replies
) -> None:
    """The payToken cannot be asked for: in doubt, not to be repeated, and what to do instead."""
    shop = open_shop(Script([InDoubtError("timeout")], query=replies.order("待付款")))
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

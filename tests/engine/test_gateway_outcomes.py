"""The operations about how others ended, as a merchant calls them on one gateway."""

from __future__ import annotations

import attrs

from tests.support import asking, replies
from tests.support.callbacks import BUSY, Merchant, OpenMerchant, refunded
from tests.support.clock import NOON
from tests.support.merchant import OpenShop
from tests.support.platform import FORM, Script
from wxpay_async.errors import InDoubtError
from wxpay_async.policy.retry import RetryPolicy

LOST = InDoubtError("read timeout")
ONE_ATTEMPT = RetryPolicy(attempts=1)


async def lose_refund(merchant: Merchant) -> None:
    """Send a refund of 0.40 yuan whose answer gets lost."""
    await merchant.attempt(merchant.gateway.refund(asking.refund(refund_amount="0.40")))


async def test_recovery_tells_how_many_operations_ended(open_shop: OpenShop) -> None:
    """What is not due yet, and what stays open, is not among them."""
    script = Script([LOST], query=BUSY)
    shop = open_shop(script, retry=ONE_ATTEMPT)
    for number in (1, 2):
        try:
            await shop.gateway.refund(asking.refund(f"refund-{number}", out_trade_no=f"R-{number}"))
        except InDoubtError:
            continue
    counts = [await shop.gateway.recover()]
    shop.clock.move(60)
    script.query = replies.order("退款成功", "R-1")  # and of R-2 it says nothing that can be used
    counts.append(await shop.gateway.recover())

    assert [0, 1] == counts
    assert ["refund-2"] == [one.request_id async for one in shop.gateway.open_operations()]


async def test_notification_settles_what_is_open_under_its_number(
    open_merchant: OpenMerchant,
) -> None:
    """Once: what it settled is open no more, and recall finds its end without a call."""
    merchant = open_merchant(Script([LOST], query=BUSY), retry=ONE_ATTEMPT)
    await lose_refund(merchant)
    body = merchant.body(refunded())
    notification = merchant.receiver.notifications.parse(FORM, body)
    settled = [await merchant.gateway.apply_notification(notification) for _ in range(2)]
    [outcome] = await merchant.gateway.recall([asking.refund(refund_amount="0.40")])

    assert [1, 0] == settled
    assert outcome is not None
    assert "R-1" == outcome.unwrap().out_trade_no


async def test_notification_of_another_number_settles_nothing(open_merchant: OpenMerchant) -> None:
    """The operation stays open, and is told as it was."""
    merchant = open_merchant(Script([LOST], query=BUSY), retry=ONE_ATTEMPT)
    await lose_refund(merchant)
    before = [one async for one in merchant.gateway.open_operations()]
    body = merchant.body(refunded(out_trade_no="R-2"))
    notification = merchant.receiver.notifications.parse(FORM, body)

    assert 0 == await merchant.gateway.apply_notification(notification)
    assert before == [one async for one in merchant.gateway.open_operations()]
    assert NOON == before[0].since.timestamp()


async def test_resolve_of_a_number_twice_tells_the_same(open_merchant: OpenMerchant) -> None:
    """The second time it is read from the store, which knows its end."""
    script = Script([LOST], query=BUSY)
    merchant = open_merchant(script, retry=ONE_ATTEMPT)
    await lose_refund(merchant)
    script.query = replies.order("退款成功", "R-1", "0.40")
    first = await merchant.gateway.resolve("refund-1")
    queries = script.queries
    second = await merchant.gateway.resolve("refund-1")

    assert (first.kind, first.unwrap()) == (second.kind, second.unwrap())
    assert queries == script.queries
    assert attrs.evolve(first.unwrap(), replayed=True) == second.unwrap()

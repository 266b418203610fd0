"""What a payment says that was closed for the next credential of its order."""

from __future__ import annotations

import pytest

from tests.engine.prepays import (
    LIFE,
    PrepayPlatform,
    first_id,
    lose_prepay,
    make_first_pay,
    outlive_prepay,
    tap,
)
from tests.support import replies
from tests.support.flaky_store import FlakyStore
from tests.support.merchant import OpenShop, Shop
from wxpay_async.errors import InDoubtError, NotPaidError
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State


@pytest.fixture
def platform() -> PrepayPlatform:
    """A platform that answers."""
    return PrepayPlatform()


@pytest.fixture
def shop(open_shop: OpenShop, platform: PrepayPlatform) -> Shop:
    """A shop that tries each request once."""
    return open_shop(platform, retry=RetryPolicy(attempts=1))


async def test_first_id_answers_with_the_result_of_the_next_one(shop: Shop) -> None:
    """It is closed for good: nothing is sent of it, and it opens the credential that lives."""
    await outlive_prepay(shop)
    await tap(shop)
    outcome = await shop.gateway.resolve(first_id(shop))
    result = await shop.gateway.pay(make_first_pay(shop))

    assert ("ok", "wx2") == (outcome.kind, outcome.unwrap().prepay_id)
    assert ("wx2", True) == (result.prepay_id, result.replayed)


async def test_resolve_with_reissue_goes_on_after_the_next_credential_died(
    shop: Shop, platform: PrepayPlatform
) -> None:
    """The person comes back 21 minutes later, twice."""
    await lose_prepay(shop, platform)
    found = []
    for _ in range(3):
        outcome = await shop.gateway.resolve("pay-1", reissue=True)
        found.append((outcome.kind, outcome.unwrap().prepay_id))
        shop.clock.move(LIFE + 60)

    assert [("ok", "wx1"), ("ok", "wx2"), ("ok", "wx3")] == found


async def test_pay_after_a_reissue_issues_no_second_credential(
    shop: Shop, platform: PrepayPlatform
) -> None:
    """The first id answers with what was issued in its place."""
    request = await lose_prepay(shop, platform)
    second = (await shop.gateway.resolve("pay-1", reissue=True)).unwrap()
    again = await shop.gateway.pay(request)

    assert second.prepay_id == again.prepay_id
    assert 2 == len(platform.issued)


async def test_closed_payment_whose_next_one_cannot_be_sent_is_in_doubt(
    shop: Shop, platform: PrepayPlatform
) -> None:
    """The first one was executed, so "not sent" would not be true of it."""
    request = await lose_prepay(shop, platform)
    platform.unreachable = True
    outcome = await shop.gateway.resolve("pay-1", reissue=True)
    again = await shop.gateway.resolve("pay-1", reissue=True)
    looked_at = await shop.gateway.resolve("pay-1")
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(request)

    assert ["in_doubt"] * 3 == [outcome.kind, again.kind, looked_at.kind]
    assert State.REISSUED is await shop.state("pay-1")
    platform.unreachable = False
    assert "wx1" == (await shop.gateway.pay(request)).prepay_id


async def test_closed_payment_whose_store_is_away_is_in_doubt(
    open_shop: OpenShop, platform: PrepayPlatform
) -> None:
    """What followed it cannot be looked up, which proves nothing of it."""
    store = FlakyStore()
    shop = open_shop(platform, retry=RetryPolicy(attempts=1), store=store)
    await outlive_prepay(shop)
    await tap(shop)
    store.failing.add("load")
    request = make_first_pay(shop)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(request)


@pytest.mark.parametrize("code", ["CO_MSG_0000017", "GM_API_BUS_0000099"])
async def test_closed_payment_whose_next_one_is_refused_is_in_doubt(
    code: str, shop: Shop, platform: PrepayPlatform
) -> None:
    """The refusal speaks of the next one; the first one was executed, and cannot be paid."""
    request = await lose_prepay(shop, platform)
    platform.refusal = replies.no(code, "no")
    outcome = await shop.gateway.resolve("pay-1", reissue=True)
    looked_at = await shop.gateway.resolve("pay-1")
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(request)

    assert ["in_doubt"] * 2 == [outcome.kind, looked_at.kind]
    assert code == caught.value.code
    assert "pay-1" == caught.value.request_id


async def test_closed_payment_of_an_order_that_ended_says_so(
    shop: Shop, platform: PrepayPlatform
) -> None:
    """That is true of the first one as well: nothing was paid, and nothing can be."""
    await lose_prepay(shop, platform)
    assert "ok" == (await shop.gateway.resolve("pay-1", reissue=True)).kind
    shop.clock.move(LIFE)
    platform.status = "已关闭"
    outcome = await shop.gateway.resolve("pay-1", reissue=True)

    assert ("refused", NotPaidError) == (outcome.kind, type(outcome.error))

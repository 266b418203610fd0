"""How requests ended, read from the store alone."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from datetime import UTC, datetime

import pytest
from attrs import define, field

from tests.engine.prepays import PrepayPlatform
from tests.support import asking, replies
from tests.support.clock import NOON
from tests.support.merchant import OpenShop, Shop
from tests.support.platform import APP_KEY, Script
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.reissue import next_request_id
from wxpay_async.errors import (
    IdempotencyConflictError,
    InDoubtError,
    PrepayExpiredError,
    WxPayError,
)
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State
from wxpay_async.protocol.wire import HttpRequest

LOST = InDoubtError("read timeout")


def _refund_of(number: int) -> dict[str, str]:
    return {"request_id": f"refund-{number}", "out_trade_no": f"R-{number}"}


async def test_recall_returns_outcomes_in_order_and_none_for_what_is_open(
    open_shop: OpenShop,
) -> None:
    """What ended has its outcome at the place of its request; what is open has none."""
    answers = [
        replies.refunded(requestId="refund-1", outTradeNo="R-1"),
        replies.no("GM_API_BUS_000001", "余额不足"),
        LOST,
    ]
    shop = open_shop(Script(answers))
    requests = [asking.refund(**_refund_of(number)) for number in range(5)]
    for number in (1, 2, 3):
        with contextlib.suppress(WxPayError):
            await shop.gateway.refund(requests[number])
    sent = len(shop.transport.requests)

    never, ok, refused, lost, never_too = await shop.gateway.recall(requests)

    assert (never, lost, never_too) == (None, None, None)
    assert ok is not None
    assert ok.kind == "ok"
    assert ok.request is requests[1]
    assert ok.unwrap().replayed
    assert ok.settled_at == datetime.fromtimestamp(NOON, UTC)
    assert refused is not None
    assert refused.kind == "refused"
    assert refused.error is not None
    assert refused.error.request_id == "refund-2"
    assert len(shop.transport.requests) == sent


async def test_recall_of_a_refusal_tells_its_text_without_the_payer(open_shop: OpenShop) -> None:
    """As the call did: what the platform said, but for the openid that it repeats."""
    said = replies.no("GM_API_BUS_000001", "openid-0123456789 余额不足")
    shop = open_shop(Script([said]))
    with contextlib.suppress(WxPayError):
        await shop.gateway.pay(asking.pay())

    [outcome] = await shop.gateway.recall([asking.pay()])

    assert outcome is not None
    assert outcome.error is not None
    assert outcome.error.message == "*** 余额不足"


async def test_recall_of_other_content_under_a_known_id_is_a_conflict_that_names_the_field(
    open_shop: OpenShop,
) -> None:
    """It says what a call would say."""
    shop = open_shop(Script([replies.refunded()]))
    await shop.gateway.refund(asking.refund())

    [outcome] = await shop.gateway.recall([asking.refund(refund_amount="2.00")])

    assert outcome is not None
    assert isinstance(outcome.error, IdempotencyConflictError)
    assert outcome.error.fields == ("refundAmount",)


async def test_recall_of_a_payment_whose_prepay_is_dead_says_so_and_asks_nothing(
    open_shop: OpenShop,
) -> None:
    """A dead credential is withheld here as well."""
    shop = open_shop(Script([replies.prepay()]))
    await shop.gateway.pay(asking.pay())
    shop.clock.move(30 * 60.0)

    [outcome] = await shop.gateway.recall([asking.pay()])

    assert outcome is not None
    assert isinstance(outcome.error, PrepayExpiredError)
    assert len(shop.transport.requests) == 1


@pytest.mark.parametrize("count", [0, 1, 500, 501, 1_203])
async def test_recall_of_any_number_of_requests_has_an_outcome_for_each(
    open_shop: OpenShop, count: int
) -> None:
    """Reads of 500 keys meet at no seam."""

    def answer(request: HttpRequest) -> replies.Json:
        del request
        return replies.refunded(requestId="refund-7", outTradeNo="R-7")

    shop = open_shop(Script([answer]))
    requests = [asking.refund(**_refund_of(number)) for number in range(count)]
    if count > 7:
        await shop.gateway.refund(requests[7])

    outcomes = await shop.gateway.recall(requests)

    assert len(outcomes) == count
    assert [position for position, found in enumerate(outcomes) if found] == [7] * (count > 7)


async def lose_answer_and_reissue(shop: Shop) -> None:
    """Lose the answer of a payment, and issue a new prepay for its order a minute later."""
    with contextlib.suppress(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    shop.clock.move(60.0)
    with contextlib.suppress(InDoubtError):
        await shop.gateway.resolve("pay-1", reissue=True)
    assert State.REISSUED is await shop.state("pay-1")


async def test_recall_follows_a_payment_that_was_closed_to_the_one_that_followed_it(
    open_shop: OpenShop,
) -> None:
    """Its reply is checked against that payment; the moments are the first's and the last's."""
    platform = PrepayPlatform()
    platform.lost = 1

    def answer(request: HttpRequest) -> object:
        shop.clock.move(5.0)
        return platform(request)

    shop = open_shop(answer, retry=RetryPolicy(attempts=1))
    await lose_answer_and_reissue(shop)
    sent = len(shop.transport.requests)

    [outcome] = await shop.gateway.recall([asking.pay(out_trade_no="O-1")])

    assert outcome is not None
    assert "wx1" == outcome.unwrap().prepay_id
    assert datetime.fromtimestamp(NOON, UTC) == outcome.reserved_at
    assert datetime.fromtimestamp(shop.clock.wall, UTC) == outcome.settled_at
    assert sent == len(shop.transport.requests)


@pytest.mark.parametrize("begun", [True, False])
async def test_payment_whose_follower_has_no_end_is_open(
    open_shop: OpenShop, *, begun: bool
) -> None:
    """Whether the follower's answer got lost, or the process died before it began."""
    platform = PrepayPlatform()
    platform.lost = 2
    shop = open_shop(platform, retry=RetryPolicy(attempts=1))
    await lose_answer_and_reissue(shop)
    if not begun:
        del shop.store._active[APP_KEY, next_request_id(APP_KEY, "pay-1")]

    assert [None] == await shop.gateway.recall([asking.pay(out_trade_no="O-1")])


async def test_recall_of_many_leaves_turns_to_other_tasks(open_shop: OpenShop) -> None:
    """A payment of a person does not wait until 500 replies are decoded."""
    shop, turns = open_shop(), 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    other = asyncio.create_task(take_turns())
    await shop.gateway.recall([asking.refund(**_refund_of(number)) for number in range(500)])
    other.cancel()

    assert turns >= 10


@define(eq=False)
class CountingStore(MemoryStore):
    """A store that counts the keys of each read."""

    reads: list[int] = field(factory=list[int], init=False)

    async def load_many(
        self, keys: Sequence[tuple[str, str]]
    ) -> dict[tuple[str, str], IdempotencyRecord]:
        """Read, and count."""
        self.reads.append(len(keys))
        return await super().load_many(keys)


async def test_no_read_asks_for_more_keys_than_a_store_takes(open_shop: OpenShop) -> None:
    """500: servers limit the parameters of a statement."""
    store = CountingStore()
    shop = open_shop(store=store)
    await shop.gateway.recall([asking.refund(**_refund_of(number)) for number in range(1_203)])

    assert [500, 500, 203] == store.reads

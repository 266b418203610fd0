"""The outcome of a doubt, for each caller that asks; a new prepay where the first one is lost."""

from __future__ import annotations

import json

import attrs
import pytest

from tests.support import asking, replies
from tests.support.merchant import OpenShop
from tests.support.platform import APP_KEY, Script
from wxpay_async.errors import AlreadyPaidError, InDoubtError, NotSentError, WxPayError
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.policy.states import State, Transition
from wxpay_async.protocol.idempotency_key import derive_request_id
from wxpay_async.protocol.wire import HttpRequest

LOST = InDoubtError("read timeout")
ONE_ATTEMPT = RetryPolicy(attempts=1)
SECOND = derive_request_id(APP_KEY, "pay", "pay-1", generation=1)
"""The requestId of a prepay that replaces the one of `pay-1`."""


async def test_resolve_of_an_unknown_request_id_is_in_doubt(open_shop: OpenShop) -> None:
    """The store may have been lost, so it proves nothing; and the platform cannot be asked."""
    shop = open_shop()
    with pytest.raises(InDoubtError, match="the store does not know it"):
        await shop.gateway.resolve("never-sent")

    assert 0 == shop.transport.calls


@pytest.mark.parametrize("days", [0, 0.5, 2])
async def test_resolve_of_what_was_never_sent_says_so(days: float, open_shop: OpenShop) -> None:
    """No connection came about: nothing can have been executed, whatever time passes."""
    shop = open_shop(Script([NotSentError("refused")]), retry=RetryPolicy(attempts=1))
    with pytest.raises(NotSentError):
        await shop.gateway.refund(asking.refund())
    shop.clock.move(days * 86_400)
    calls = shop.transport.calls
    outcome = await shop.gateway.resolve("refund-1")

    assert ("not_sent", "refund-1") == (outcome.kind, outcome.error.request_id)
    assert outcome.error.retryable
    assert calls == shop.transport.calls


async def test_resolve_of_a_reservation_in_doubt_stays_in_doubt(open_shop: OpenShop) -> None:
    """What may have been sent once is not called unsent, even if its state is RESERVED."""
    shop = open_shop(Script([NotSentError("refused")]), retry=RetryPolicy(attempts=1))
    with pytest.raises(NotSentError):
        await shop.gateway.refund(asking.refund())
    await shop.store.record(attrs.evolve(await shop.get_record("refund-1"), in_doubt=True))

    assert "in_doubt" == (await shop.gateway.resolve("refund-1")).kind


async def test_resolve_without_an_answer_stays_in_doubt(open_shop: OpenShop) -> None:
    """The outcome says so, and how to ask again."""
    shop = open_shop(lambda _: LOST, retry=ONE_ATTEMPT)
    with pytest.raises(InDoubtError) as caught:
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    outcome = await caught.value.resolve()

    assert ("in_doubt", "pay-1") == (outcome.kind, outcome.request)
    assert outcome.error.resolver is not None


async def test_resolve_with_reissue_makes_a_new_prepay_of_an_unpaid_order(
    open_shop: OpenShop,
) -> None:
    """The same payment under the next generation of the requestId: nothing is charged by it."""
    answers = Script([LOST, replies.prepay()], query=replies.order("待付款"))
    shop = open_shop(answers, retry=ONE_ATTEMPT)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1", extra={"note": "x"}))
    outcome = await shop.gateway.resolve("pay-1", reissue=True)
    first, second = (json.loads(sent["bizContent"]) for sent in shop.sent("wxminiprogram"))

    assert ("ok", State.SUCCEEDED) == (outcome.kind, await shop.state(SECOND))
    assert {**first, "requestId": SECOND} == second
    assert "O-1" == (await shop.get_record(SECOND)).out_trade_no


@pytest.mark.parametrize(
    ("status", "expected"), [("已付款", AlreadyPaidError), ("风控审核中", InDoubtError)]
)
async def test_resolve_with_reissue_makes_no_prepay_of_an_order_that_may_be_paid(
    status: str, expected: type[WxPayError], open_shop: OpenShop
) -> None:
    """Paid, or of a status that the table does not know."""
    shop = open_shop(Script([LOST], query=replies.order(status)), retry=ONE_ATTEMPT)
    with pytest.raises(WxPayError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    outcome = await shop.gateway.resolve("pay-1", reissue=True)

    assert expected is type(outcome.error)
    assert 1 == len(shop.sent("wxminiprogram"))


async def test_resolve_with_reissue_that_fails_tells_its_error(open_shop: OpenShop) -> None:
    """The new prepay may be lost like the first one; then the outcome is in doubt."""
    shop = open_shop(Script([LOST], query=replies.order("待付款")), retry=ONE_ATTEMPT)
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(asking.pay(out_trade_no="O-1"))
    outcome = await shop.gateway.resolve("pay-1", reissue=True)

    assert "in_doubt" == outcome.kind
    assert State.UNKNOWN is await shop.state(SECOND)


@pytest.mark.parametrize(("state", "kind"), [(State.SENDING, "in_doubt"), (State.SUCCEEDED, "ok")])
async def test_resolve_with_reissue_leaves_alone_what_another_process_sends_meanwhile(
    state: State, kind: str, open_shop: OpenShop
) -> None:
    """Its credential may live: the query that says unpaid was asked before it was issued."""

    async def send_meanwhile() -> object:
        record = await shop.get_record("pay-1")
        claimed = await shop.store.claim(record.key, now=shop.clock.time(), signed_at=1)
        assert claimed is not None
        if state is State.SUCCEEDED:
            reply = json.dumps(replies.prepay(requestId="pay-1")).encode()
            signed_at = round(shop.clock.time() * 1000)
            answered = claimed.after_attempt(
                Transition.SUCCESS, now=shop.clock.time(), signed_at=signed_at, reply=(200, reply)
            )
            assert await shop.store.record(answered)
        return replies.order("待付款")

    async def answer(request: HttpRequest) -> object:
        return await send_meanwhile() if request.url.endswith("query") else LOST

    shop = open_shop(answer, retry=RetryPolicy(attempts=1))
    request = asking.pay(out_trade_no="O-1")
    with pytest.raises(InDoubtError):
        await shop.gateway.pay(request, timeout=3)
    outcome = await shop.gateway.resolve("pay-1", reissue=True)

    assert kind == outcome.kind
    assert state is await shop.state("pay-1")
    assert 1 == len(shop.sent("wxminiprogram"))

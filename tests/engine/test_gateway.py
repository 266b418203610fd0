"""How a gateway is made, what it refuses before it sends, and `checkout`."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.support.merchant import Asking, OpenShop
from tests.support.platform import Replies, Script
from tests.support.vectors import PRIVATE_KEY, PUBLIC_KEY
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import (
    InDoubtError,
    InvalidRequestError,
    MalformedResponseError,
    NotSentError,
)
from wxpay_async.policy.retry import QUOTA_WINDOW
from wxpay_async.policy.states import State
from wxpay_async.protocol.idempotency_key import derive_request_id
from wxpay_async.protocol.signing import Md5Signer, RsaSigner
from wxpay_async.protocol.wire import Timeouts
from wxpay_async.sandbox import Sandbox

# Settings


def test_gateway_keeps_a_part_that_is_falsy() -> None:
    """A store that has a length, and nothing in it, is not replaced."""

    class Counted(MemoryStore):
        def __len__(self) -> int:
            return 0

    store = Counted()
    gateway = PayGateway("k", Md5Signer("s"), store=store)

    assert store is gateway._dispatcher.store


@pytest.mark.parametrize(
    "settings",
    [
        {"max_in_flight": 0},
        {"base_url": "http://example.com"},
        {"absent_codes": ["CO_MSG_000007"]},
    ],
)
def test_gateway_with_impossible_settings_is_refused(settings: dict[str, Any]) -> None:
    """Found when the gateway is made, long before a payment."""
    with pytest.raises(InvalidRequestError):
        PayGateway("k", Md5Signer("s"), **settings)


def test_gateway_without_an_app_key_is_refused() -> None:
    """There is no default for it."""
    with pytest.raises(InvalidRequestError, match="appKey"):
        PayGateway("", Md5Signer("s"))


def test_timeouts_are_finite() -> None:
    """No phase can hang for ever, and no setting can ask for that (lesson 13)."""
    timeouts = Timeouts()
    assert (5.0, 10.0, 15.0, 30.0) == (
        timeouts.connect,
        timeouts.read,
        timeouts.attempt,
        timeouts.call,
    )
    with pytest.raises(ValueError, match="must be"):
        Timeouts(call=math.inf)


def test_gateway_whose_attempts_outlast_their_lease_is_refused() -> None:
    """45 s after its claim another process may send; 2 s may pass between claim and sending."""
    longest = Timeouts(attempt=43.0)
    with pytest.raises(InvalidRequestError, match=r"timeouts\.attempt.*at most 43 s"):
        PayGateway("k", Md5Signer("s"), timeouts=Timeouts(attempt=43.5))

    assert PayGateway("k", Md5Signer("s"), timeouts=longest).app_key == "k"


def test_gateway_without_a_limiter_keeps_the_published_quota() -> None:
    """The platform's number is kept, in this process."""
    limiter = PayGateway("k", Md5Signer("s"))._dispatcher.limiter

    assert isinstance(limiter, LocalLimiter)
    assert (400, QUOTA_WINDOW) == (limiter.quota.limit, limiter.quota.answered_for)


def test_placement_is_the_body_unless_the_query_is_chosen() -> None:
    """There is no third place."""
    assert "body" == PayGateway("k", Md5Signer("s"))._dispatcher.builder.placement
    with pytest.raises(InvalidRequestError, match="allowed: body, query"):
        PayGateway("k", Md5Signer("s"), placement="header")  # type: ignore[arg-type]


@pytest.mark.parametrize("scheme", ["md5", "rsa"])
async def test_placement_in_the_query_is_accepted_by_the_platform(
    scheme: str, asking: Asking
) -> None:
    """Every call carries all parameters in the address, and the platform verifies them."""
    public_key = PUBLIC_KEY.read_bytes()
    async with Sandbox(merchant_public_key=public_key) as sandbox:
        md5, rsa = Md5Signer(sandbox.app_secret), RsaSigner.from_pem(PRIVATE_KEY.read_bytes())
        gateway = PayGateway(
            sandbox.app_key,
            rsa if scheme == "rsa" else md5,
            base_url=sandbox.url,
            placement="query",
        )
        async with gateway:
            order = asking.trade()
            token = (await gateway.trade(order)).pay_token
            await gateway.pay(asking.pay(pay_token=token))
            found = await gateway.query(out_trade_no=order.trade_info[0].out_trade_no)
            _ = [merchant async for merchant in gateway.merchants(page_size=100)]
        calls = list(sandbox.platform.recent)

    assert "awaiting" == found.state.value
    assert {b""} == {call.body for call in calls}
    assert 4 == len([call for call in calls if "sign=" in call.query])


# What is refused before anything is sent


@pytest.mark.parametrize("timeout", [0, -1, 2.999, math.nan, math.inf])
@pytest.mark.parametrize("operation", ["pay", "refund", "trade"])
async def test_timeout_too_short_for_an_attempt_is_refused(
    operation: str, timeout: float, open_shop: OpenShop, asking: Asking
) -> None:
    """3 s are what one attempt may need, and endless is no timeout; the error says both."""
    shop = open_shop(lambda _: {})
    request = getattr(asking, operation)()
    with pytest.raises(InvalidRequestError, match=r"timeout: .* a finite time of at least 3\.0 s"):
        await getattr(shop.gateway, operation)(request, timeout=timeout)

    assert (0, None) == (shop.transport.calls, await shop.state(request.request_id))


@pytest.mark.parametrize(
    ("operation", "wrong"), [("pay", "refund"), ("trade", "pay"), ("refund", "trade")]
)
async def test_request_of_another_type_is_refused(
    operation: str, wrong: str, open_shop: OpenShop, asking: Asking
) -> None:
    """The error names both types and not what was in them."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError) as caught:
        await getattr(shop.gateway, operation)(getattr(asking, wrong)())

    assert "openid" not in str(caught.value)
    assert 0 == shop.transport.calls


# checkout


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

    assert ("trade-1", retryable) == (caught.value.request_id, caught.value.retryable)
    assert "ok" == outcome.kind  # type: ignore[attr-defined] # the trade's


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

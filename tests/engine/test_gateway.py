"""How a gateway is made, and what it refuses before it sends."""

from __future__ import annotations

import math
from typing import Any

import pytest

from tests.support import asking
from tests.support.merchant import OpenShop
from tests.support.vectors import PRIVATE_KEY, PUBLIC_KEY
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import (
    InvalidRequestError,
)
from wxpay_async.policy.retry import QUOTA_WINDOW
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
    with pytest.raises(ValueError, match="does not fit"):
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
async def test_placement_in_the_query_is_accepted_by_the_platform(scheme: str) -> None:
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
    operation: str, timeout: float, open_shop: OpenShop
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
    operation: str, wrong: str, open_shop: OpenShop
) -> None:
    """The error names both types and not what was in them."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError) as caught:
        await getattr(shop.gateway, operation)(getattr(asking, wrong)())

    assert "openid" not in str(caught.value)
    assert 0 == shop.transport.calls

"""A gateway explains what it would sign: what it shows is what a request of its carries."""

from __future__ import annotations

import hashlib
from typing import Any
from urllib.parse import parse_qsl

import pytest

from tests.support import asking, replies
from tests.support.merchant import OpenShop
from tests.support.platform import APP_KEY, SECRET, Script
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InvalidRequestError, NotSentError
from wxpay_async.protocol.explain_causes import Cause, Verdict
from wxpay_async.protocol.requests import TradeQuery

CANARIES = (SECRET, "token-canary", "openid-canary")


class BusyService:
    """A signer over the network that raises an error of its own, with what it was given."""

    sign_type = None

    async def sign(self, message: bytes) -> str:
        """Fail."""
        raise LookupError(message.decode())


def make_payment() -> Any:  # noqa: ANN401 - a request
    """Make a payment whose credentials can be searched for."""
    return asking.pay(pay_token=CANARIES[1], terminal_payer_id=CANARIES[2])


async def test_explanation_of_what_was_sent_has_the_signature_that_was_sent(
    open_shop: OpenShop,
) -> None:
    """Of the very bytes: same order, same nonce, same moment."""
    shop = open_shop(Script([replies.prepay()]))
    await shop.gateway.pay(make_payment())
    [request] = shop.transport.requests
    found = await shop.gateway.explain(request)

    assert dict(parse_qsl(request.body.decode("ascii")))["sign"] == found.signature
    assert found.comparison is not None
    assert Verdict.MATCHES is found.comparison.verdict
    assert "/api/instant/pay/wxminiprogram" == found.path


async def test_explanation_of_a_request_is_made_at_the_time_of_the_gateway(
    open_shop: OpenShop,
) -> None:
    """As for an attempt: with the appKey, a nonce of its own, and nothing sent or stored."""
    shop = open_shop()
    first, second = [await shop.gateway.explain(asking.refund()) for _ in range(2)]
    shown = {each.name: each.value for each in first.parameters}

    assert (APP_KEY, str(round(shop.clock.time() * 1000))) == (shown["appKey"], shown["timestamp"])
    assert first.signature != second.signature
    assert (0, None) == (shop.transport.calls, await shop.state("refund-1"))


async def test_explanation_names_why_another_signature_differs(open_shop: OpenShop) -> None:
    """Here the other side wrote it in lower case."""
    params = {"appKey": APP_KEY, "nonce": "n1", "outTradeNo": "O-1", "timestamp": "1490063145767"}
    message = "&".join(f"{name}={value}" for name, value in params.items())
    theirs = hashlib.md5(f"{message}&appSecret={SECRET}".encode()).hexdigest()
    found = await open_shop().gateway.explain(params, against=theirs)

    assert found.comparison is not None
    assert (Cause.LOWER_CASE_HEX,) == found.comparison.causes


async def test_explanation_shows_no_secret(open_shop: OpenShop) -> None:
    """Neither the scheme's nor the payer's, in any field; and the `repr` shows no signature."""
    shop = open_shop()
    found = await shop.gateway.explain(make_payment())
    fields = str([getattr(found, name) for name in found.__slots__ if name != "__weakref__"])

    assert [] == [canary for canary in CANARIES if canary in fields]
    assert found.signature
    assert found.signature.lower() not in repr(found).lower()


@pytest.mark.parametrize("wrong", [None, "refund-1", 7])
async def test_what_is_no_request_is_refused(wrong: Any, open_shop: OpenShop) -> None:  # noqa: ANN401 - anything
    """With the name of what it is, and not of what it holds."""
    with pytest.raises(InvalidRequestError, match=f"request: got {type(wrong).__name__}"):
        await open_shop().gateway.explain(wrong)


async def test_signature_without_its_moment_cannot_be_compared(open_shop: OpenShop) -> None:
    """A new nonce would make any signature look wrong."""
    with pytest.raises(InvalidRequestError, match="nonce, timestamp"):
        await open_shop().gateway.explain(TradeQuery(out_trade_no="O-1"), against="0" * 32)


async def test_failing_signer_is_told_without_its_text(open_shop: OpenShop) -> None:
    """It may hold what was to be signed; so may the frames below."""
    del open_shop
    gateway = PayGateway(APP_KEY, BusyService(), seal_keys=[bytes(32)])
    with pytest.raises(NotSentError, match="the signer raised LookupError") as caught:
        await gateway.explain(make_payment())

    assert caught.value.__cause__ is None
    names = [entry.name for entry in caught.traceback]
    assert "sign" not in names

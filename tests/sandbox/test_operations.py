"""The operations alone: the openid of a pay. Their business is tested over HTTP (test_platform)."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.sandbox.callback_shop import Settings
from tests.sandbox.raw_merchant import Merchant
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.error_codes import Code


@pytest.fixture
async def strict(settings: Settings, session: aiohttp.ClientSession) -> AsyncIterator[Merchant]:
    """A merchant of a sandbox that refuses another payer."""
    async with Sandbox(**settings, other_payer_refused=True) as sandbox:
        yield Merchant(session, sandbox)


async def test_pay_of_another_openid_is_executed_unless_told_otherwise(merchant: Merchant) -> None:
    """No page says what happens, so both can be had (`protocol.md`, decision 18)."""
    token = await merchant.trade_token("A1")
    reply = await merchant.pay("p1", token, terminalPayerId="another")
    assert reply["success"] is True


async def test_pay_of_another_openid_is_refused_where_that_is_asked_for(strict: Merchant) -> None:
    """The openid of the trade still pays, and an order to scan has no openid yet."""
    token = await strict.trade_token("A1")
    refused = await strict.pay("p1", token, terminalPayerId="another")
    taken = await strict.pay("p2", token, terminalPayerId="openid-1")
    scanned = await strict.trade_token("A2", product="65", payMethod={"openId": None})
    paid = await strict.pay("p3", scanned, terminalPayerId="another")
    assert [reply["errorCode"] for reply in (refused, taken, paid)] == [Code.OTHER_PAYER, "", ""]
    assert "openid" in refused["errorMsg"]


async def test_refusal_of_another_openid_executes_nothing(strict: Merchant) -> None:
    """The requestId is free afterwards."""
    token = await strict.trade_token("A1")
    await strict.pay("p1", token, terminalPayerId="another")
    again = await strict.pay("p1", token, terminalPayerId="openid-1")
    assert again["success"] is True

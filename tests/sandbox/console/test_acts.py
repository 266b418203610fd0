"""Callbacks on the page of an order: sent, answered, sent again."""

from collections.abc import AsyncIterator

import aiohttp
import pytest

from tests.sandbox.callback_shop import ACKNOWLEDGED, REFUSED, CallbackShop, Settings
from tests.sandbox.console.conftest import Act, Fetch
from tests.sandbox.raw_merchant import Merchant
from wxpay_async.sandbox import Sandbox


@pytest.fixture
async def sandbox(callback_settings: Settings) -> AsyncIterator[Sandbox]:
    """A sandbox that sends callbacks to the shop."""
    async with Sandbox(**callback_settings) as running:
        yield running


@pytest.fixture
def merchant(session: aiohttp.ClientSession, sandbox: Sandbox) -> Merchant:
    """A merchant of that sandbox."""
    return Merchant(session, sandbox)


async def test_page_shows_each_delivery_with_its_answer(
    fetch: Fetch, merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """A delivery that was not acknowledged stays, beside the one that was."""
    shop.answers.extend([(500, b"<oops>"), ACKNOWLEDGED])
    await merchant.complete("A1")
    html = await fetch(f"/console/order?app={sandbox.app_key}&order=A1")
    assert html.index("acknowledged</span>\n      #2 HTTP 200") < html.index("#1 HTTP 500")
    assert "&lt;oops&gt;" in html
    assert "TRADE_SUCCESS" in html
    assert "callbacks: 2 ✓" in await fetch("/")


async def test_resend_sends_once_more_and_tells_the_answer(
    act: Act, merchant: Merchant, shop: CallbackShop
) -> None:
    """The button sends the callback of an order or a refund once, with a new nonce."""
    await merchant.complete("A1")
    await merchant.refund("R1", "A1", "3.00")
    await merchant.sandbox.callbacks_idle()
    shop.answers.append(REFUSED)
    status, result = await act(act="resend", order="A1")
    assert (status, result["text"]) == (200, "not acknowledged · HTTP 200")
    status, result = await act(act="resend", order="R1", lang="zh")
    assert (status, result["text"]) == (200, "已确认 · HTTP 200")
    assert shop.numbers == ["A1", "R1", "A1", "R1"]
    assert dict(shop.forms[0])["nonce"] != dict(shop.forms[2])["nonce"]


async def test_resend_before_the_end_or_without_an_address_is_refused(
    act: Act, merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """An order that awaits payment has no callback; a merchant without address gets none."""
    await merchant.trade("A1")
    assert (await act(act="resend", order="A1"))[0] == 409
    sandbox.notify_url = None
    sandbox.confirm("A1")
    assert (await act(act="resend", order="A1"))[0] == 409
    assert shop.forms == []


async def test_insufficient_funds_are_told_to_the_merchant(
    act: Act, merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """The callback names the reason; after a cancellation it names that one."""
    await merchant.trade("A1")
    await merchant.trade("A2")
    await act(act="insufficient", order="A1")
    await act(act="cancel", order="A2")
    await sandbox.callbacks_idle()
    reasons = {dict(form)["out_trade_no"]: dict(form)["failReason"] for form in shop.forms}
    assert reasons == {"A1": "付款人余额不足", "A2": "付款人取消支付"}


async def test_order_whose_time_is_over_gets_its_callback_when_time_is_advanced(
    act: Act, merchant: Merchant, sandbox: Sandbox, shop: CallbackShop
) -> None:
    """Nobody has to read the order for its merchant to hear of its end."""
    await merchant.trade("A1")
    await act(act="advance", seconds="1800")
    await sandbox.callbacks_idle()
    assert shop.outcomes == [("A1", "TRADE_CLOSED")]

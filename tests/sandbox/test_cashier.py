"""The payer's page: every order with its buttons, and all text from requests escaped."""

import re
from collections.abc import Awaitable, Callable

import aiohttp
import pytest

from tests.sandbox.raw_merchant import Merchant, make_trade_item
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.cashier import MAX_ROWS

NASTY = "<script>alert(1)</script>\"'&amp;"


@pytest.fixture
def page(session: aiohttp.ClientSession, sandbox: Sandbox) -> Callable[[], Awaitable[str]]:
    """Fetch the page as text."""

    async def fetch() -> str:
        async with session.get(sandbox.url + "/sandbox") as answer:
            assert answer.headers["Content-Type"] == "text/html;charset=UTF-8"
            assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
            return await answer.text()

    return fetch


async def test_page_without_orders_says_so(page: Callable[[], Awaitable[str]]) -> None:
    """Without orders the page says so."""
    assert "No orders yet" in await page()


async def test_page_has_buttons_for_open_orders_only(
    merchant: Merchant, sandbox: Sandbox, page: Callable[[], Awaitable[str]]
) -> None:
    """An open order has three buttons, an ended one its status only."""
    await merchant.trade("A1")
    await merchant.trade("A2")
    sandbox.confirm("A2")
    html = await page()
    assert re.findall(r'action="/sandbox/(\w+)"', html) == ["confirm", "cancel", "expire"]
    assert html.index("支付成功") < html.index("待付款")


async def test_page_escapes_text_from_requests(
    merchant: Merchant, page: Callable[[], Awaitable[str]]
) -> None:
    """Markup in an order's number or subject is shown, not run."""
    await merchant.trade("A1", tradeInfo=[make_trade_item(NASTY, subject=NASTY)])
    html = await page()
    assert "<script" not in html
    assert html.count("&lt;script&gt;alert(1)&lt;/script&gt;&quot;&#x27;&amp;amp;") == 5


async def test_page_loads_nothing_and_runs_nothing(
    merchant: Merchant, page: Callable[[], Awaitable[str]]
) -> None:
    """The page loads no resource and runs no script."""
    await merchant.trade("A1")
    assert not re.search(r"https?:|<script|<img|<link|src=|@import", await page())


async def test_page_with_many_orders_lists_the_latest(
    merchant: Merchant, page: Callable[[], Awaitable[str]]
) -> None:
    """The page lists the latest orders only, so that its size is limited."""
    for batch in range(3):
        items = [make_trade_item(f"N{batch}-{row:03}") for row in range(100)]
        await merchant.trade(f"N{batch}", tradeInfo=items)
    html = await page()
    assert html.count("<tr><td>") == MAX_ROWS == 200
    assert "N2-099" in html
    assert "N0-099" not in html

"""A browser, a sandbox that calls a shop back, and a gateway that pays there."""

from __future__ import annotations

import itertools
import os
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from decimal import Decimal
from pathlib import Path

import pytest
from attrs import define, field
from playwright.async_api import Browser, ConsoleMessage, Page, async_playwright

import wxpay_async as wx
from tests.sandbox.callback_shop import CallbackShop
from tests.support.services import absent
from tests.support.signers import keep_signers
from wxpay_async.sandbox import Sandbox

APP_ID = "wx9236b1e84ffbf10a"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark what drives a browser as slow."""
    for item in items:
        if item.path.is_relative_to(Path(__file__).parent):
            item.add_marker(pytest.mark.slow)


@define(eq=False)
class Buyer:
    """Orders through the SDK.

    Attributes:
        gateway: pays at the sandbox.
    """

    gateway: wx.PayGateway
    _numbers: itertools.count[int] = field(factory=lambda: itertools.count(1))

    async def order(
        self, number: str, *, subject: str = "茶", timeout: str = "30m", yuan: str = "12.50"
    ) -> wx.PayResult:
        """Create an order and its prepay."""
        amount = Decimal(yuan)
        item = wx.TradeItem(
            out_trade_no=number,
            subject=subject,
            price=amount,
            quantity=1,
            total_amount=amount,
            payee_identity="1000",
        )
        method = wx.PayMethod(
            pay_product_code="67", amount=amount, app_id=APP_ID, open_id="openid-1"
        )
        trade = wx.InstantTrade(
            request_id=f"trade-{next(self._numbers)}",
            trade_info=[item],
            payer_ip="127.0.0.1",
            pay_method=method,
            timeout_express=timeout,
        )
        return await self.gateway.checkout(trade, openid="openid-1", app_id=APP_ID)

    async def status(self, number: str) -> str:
        """Ask for the status of an order."""
        return (await self.gateway.query(out_trade_no=number)).status


def open_gateway(sandbox: Sandbox) -> wx.PayGateway:
    """Make the gateway of a sandbox's merchant, without a limit."""
    signer = wx.Md5Signer(sandbox.app_secret)
    return wx.PayGateway(sandbox.app_key, signer, base_url=sandbox.url, limiter=wx.Unlimited())


@pytest.fixture(scope="session", autouse=True)
def kept_signers() -> object:
    """Start sandboxes with keys that are loaded once."""
    with keep_signers():
        yield


@pytest.fixture
async def shop() -> AsyncIterator[CallbackShop]:
    """A merchant's server that takes callbacks."""
    running = CallbackShop()
    await running.start()
    yield running
    await running.aclose()


@pytest.fixture
async def sandbox(shop: CallbackShop) -> AsyncIterator[Sandbox]:
    """A sandbox with the clock of this machine, as the browser has it."""
    async with Sandbox(notify_url=shop.url, callback_schedule=(0, 0.1), quota=None) as running:
        yield running


@pytest.fixture
async def buyer(sandbox: Sandbox) -> AsyncIterator[Buyer]:
    """Someone who orders through the SDK."""
    async with open_gateway(sandbox) as gateway:
        yield Buyer(gateway)


@asynccontextmanager
async def open_browser() -> AsyncIterator[Browser]:
    """Start Debian's chromium, or the one that WXPAY_TEST_CHROMIUM names."""
    program = os.environ.get("WXPAY_TEST_CHROMIUM") or shutil.which("chromium")
    if program is None:
        absent("no chromium; WXPAY_TEST_CHROMIUM names another program")
    async with async_playwright() as playwright:
        running = await playwright.chromium.launch(
            executable_path=program, args=["--no-sandbox", "--disable-dev-shm-usage"]
        )
        yield running
        await running.close()


@pytest.fixture
async def browser() -> AsyncIterator[Browser]:
    """A browser of this machine."""
    async with open_browser() as running:
        yield running


@pytest.fixture
async def page(browser: Browser) -> AsyncIterator[Page]:
    """An empty page whose scripts must not fail."""
    context = await browser.new_context(locale="en")
    opened = await context.new_page()
    problems: list[str] = []
    opened.on("pageerror", lambda error: problems.append(str(error)))
    opened.on("console", lambda message: problems.extend(_find_problems(message)))
    yield opened
    assert problems == []


def _find_problems(message: ConsoleMessage) -> list[str]:
    """Return what is wrong; chromium also reports an act that was refused (409)."""
    return [message.text] if message.type == "error" and "409" not in message.text else []

"""Make the pictures of the sandbox's pages: `python -m tests.browser.screenshots [FOLDER]`.

Without a folder it makes those of `docs/images`. With one it makes every page there, in English and
Chinese, light and dark, as wide as a desktop and a phone, to be looked at.
"""

from __future__ import annotations

import asyncio
import itertools
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Final, Literal

import aiohttp
from attrs import frozen
from playwright.async_api import Browser, Page

from tests.browser.conftest import Buyer, open_browser, open_gateway
from tests.sandbox.callback_shop import REFUSED, CallbackShop
from tests.sandbox.raw_merchant import QUERY, Merchant
from wxpay_async.sandbox import Fault, Sandbox

Language = Literal["en", "zh"]
Scheme = Literal["light", "dark"]

IMAGES: Final = Path(__file__).parents[2] / "docs" / "images"
SIZES: Final = {"desktop": (1180, 660), "phone": (390, 700)}
PAGES: Final = {
    "console": "/?",
    "order": "/console/order?app={app}&order=A1006&",
    "requests": "/console/requests?",
    "faults": "/console/faults?",
    "cashier": "/cashier?app={app}&order=A1007&",
}
GOODS: Final = {
    "en": ("Longjing tea, 250 g", "Blue porcelain cup", "Bamboo tray", "Jasmine tea, 100 g"),
    "zh": ("明前龙井 250 克", "青花瓷杯", "竹制茶盘", "茉莉花茶 100 克"),
}


@frozen
class Picture:
    """A page as it is shown: which, how wide, in which language and colours."""

    page: str
    size: str
    language: Language
    scheme: Scheme

    @property
    def name(self) -> str:
        """Its file."""
        return f"{self.page}-{self.size}-{self.language}-{self.scheme}.png"


KEPT: Final = (
    Picture("console", "desktop", "en", "light"),
    Picture("console", "desktop", "zh", "light"),
    Picture("requests", "desktop", "en", "light"),
    Picture("requests", "desktop", "zh", "light"),
    Picture("faults", "desktop", "en", "light"),
    Picture("faults", "desktop", "zh", "light"),
    Picture("cashier", "phone", "en", "light"),
    Picture("cashier", "phone", "zh", "dark"),
)
"""Those of the docs."""


@asynccontextmanager
async def open_shop(language: Language) -> AsyncIterator[Sandbox]:
    """Run a sandbox in which something of everything happened."""
    shop = CallbackShop()
    await shop.start()
    async with Sandbox(notify_url=shop.url, callback_schedule=(0,), quota=None) as sandbox:
        async with open_gateway(sandbox) as gateway:
            await sell(Buyer(gateway), sandbox, shop, GOODS[language])
        await send_wrong_signature(sandbox)
        sandbox.faults.inject(Fault.drop_after_commit(operation="pay", every=5))
        sandbox.faults.inject(Fault.callback_forged(forgery="amount", chance=0.25))
        yield sandbox
    await shop.aclose()


async def sell(buyer: Buyer, sandbox: Sandbox, shop: CallbackShop, goods: tuple[str, ...]) -> None:
    """Order seven times: paid, refunded, cancelled, closed, seen twice, not acknowledged, open."""
    prices = ("128.00", "66.00", "88.00", "45.50")
    for number, (subject, yuan) in zip(
        range(1001, 1008), itertools.cycle(zip(goods, prices, strict=True)), strict=False
    ):
        if number == 1005:  # its answer is lost
            sandbox.faults.inject(Fault.html_502(operation="pay"))
        await buyer.order(f"A{number}", subject=subject, yuan=yuan)
    sandbox.confirm("A1001")
    sandbox.confirm("A1002")
    sandbox.cancel("A1003")
    sandbox.expire("A1004")
    sandbox.confirm("A1005")
    await sandbox.callbacks_idle()
    shop.answers.append(REFUSED)
    sandbox.confirm("A1006")
    await sandbox.callbacks_idle()
    async with aiohttp.ClientSession() as session:
        await Merchant(session, sandbox).refund("R1002", "A1002", "16.00")
    await sandbox.callbacks_idle()


async def send_wrong_signature(sandbox: Sandbox) -> None:
    """Query with a signature over a number that is URL-encoded."""
    async with aiohttp.ClientSession() as session:
        merchant = Merchant(session, sandbox)
        signed = merchant.sign(outTradeNo="A1001%2F1")
        await merchant.send(QUERY, {**signed, "outTradeNo": "A1001/1"})


async def take(page: Page, sandbox: Sandbox, picture: Picture, folder: Path) -> None:
    """Open a page, wait until it is calm, and keep what is seen of it."""
    path = PAGES[picture.page].format(app=sandbox.app_key)
    await page.goto(f"{sandbox.url}{path}lang={picture.language}")
    if picture.page == "cashier":
        await page.locator("body[data-verdict=ok]").wait_for()
    else:
        await page.locator("[data-live].on").wait_for()
    if picture.page == "requests":
        await page.locator("details[data-load] summary").first.click()
        await page.locator("[data-expected]").wait_for()
    if picture.page == "faults":
        await (
            page.locator(".kinds details", has_text="drop_after_commit").locator("summary").click()
        )
    await page.evaluate("document.activeElement.blur()")
    await page.screenshot(path=folder / picture.name, animations="disabled")


async def take_all(browser: Browser, pictures: list[Picture], folder: Path) -> None:
    """Take the pictures of each language at one sandbox."""
    for language in ("en", "zh"):
        async with open_shop(language) as sandbox:
            for picture in (each for each in pictures if each.language == language):
                width, height = SIZES[picture.size]
                context = await browser.new_context(
                    viewport={"width": width, "height": height},
                    color_scheme=picture.scheme,
                    locale=picture.language,
                )
                await take(await context.new_page(), sandbox, picture, folder)
                await context.close()


async def main(folder: str = "") -> None:
    """Make the pictures."""
    every = itertools.product(PAGES, SIZES, ("en", "zh"), ("light", "dark"))
    pictures = [Picture(*each) for each in every] if folder else list(KEPT)
    async with open_browser() as browser:  # playwright makes the folder
        await take_all(browser, pictures, Path(folder) if folder else IMAGES)


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))

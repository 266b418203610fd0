"""Measure how soon a tap is answered among 2,000 orders: `python -m tests.browser.taps`.

A tap is a click in the page; it is answered when the browser has drawn what it changed. The figures
are for people; no test compares them, since they depend on the machine.
"""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Awaitable, Callable

import aiohttp
from playwright.async_api import Page

from tests.browser.conftest import open_browser
from tests.sandbox.raw_merchant import Merchant, make_trade_item
from wxpay_async.sandbox import Sandbox

ORDERS, TAPS = 2_000, 25

_TAP = """([button, answered]) => new Promise((resolve) => {
  const began = performance.now();
  const look = () => document.querySelector(answered)
    ? requestAnimationFrame(() => resolve(performance.now() - began))
    : requestAnimationFrame(look);
  document.querySelector(button).click();
  look();
})"""


async def fill(merchant: Merchant) -> None:
    """Create the orders, a hundred with each trade."""
    for batch in range(ORDERS // 100):
        items = [make_trade_item(f"N{batch:02}-{row:03}") for row in range(100)]
        await merchant.trade(f"N{batch}", tradeInfo=items)
    for number in range(TAPS):  # each of these has a prepay of its own
        await merchant.trade(f"A{number}")
        await merchant.trade(f"B{number}")


async def measure(page: Page, url: Callable[[int], str], button: str, answered: str) -> list[float]:
    """Return the milliseconds of each tap, each on a page that was opened before."""
    found = []
    for number in range(TAPS):
        await page.goto(url(number))
        await page.locator("[data-live].on, [data-verdict=ok]").wait_for()
        found.append(float(await page.evaluate(_TAP, [button, answered])))
    return found


async def measure_pages(page: Page, url: str) -> list[float]:
    """Return the milliseconds until a page is loaded, counted by the browser."""
    found = []
    for _ in range(TAPS):
        await page.goto(url)
        duration = "performance.getEntriesByType('navigation')[0].duration"
        found.append(float(await page.evaluate(duration)))
    return found


async def measure_in_a_rush(page: Page, sandbox: Sandbox, merchant: Merchant) -> list[float]:
    """Open the sheet of the clock again and again, while up to 200 orders come in each second."""
    await page.goto(sandbox.url)

    async def rush() -> None:
        for number in range(10_000):
            await merchant.trade(f"R{number}")
            await asyncio.sleep(0.005)  # a page that falls behind is told to reload

    rushing = asyncio.ensure_future(rush())
    found = []
    for _ in range(TAPS):
        found.append(float(await page.evaluate(_TAP, [".clock summary", ".clock[open]"])))
        await page.evaluate("document.querySelector('.clock').open = false")
        await asyncio.sleep(0.1)
    rushing.cancel()
    await asyncio.gather(rushing, return_exceptions=True)
    return found


async def report(name: str, work: Awaitable[list[float]]) -> None:
    """Print one line."""
    found = await work
    print(f"{name}: median {statistics.median(found):.0f} ms, worst {max(found):.0f} ms")  # noqa: T201 - what the script is for


async def main() -> None:
    """Print all figures."""
    async with (
        Sandbox(quota=None) as sandbox,
        aiohttp.ClientSession() as session,
        open_browser() as browser,
    ):
        page, merchant = await browser.new_page(locale="en"), Merchant(session, sandbox)
        await fill(merchant)
        await page.goto(sandbox.url)
        await page.locator("[data-key$='/B24']").wait_for()
        nodes = await page.evaluate("document.querySelectorAll('*').length")
        rows = await page.locator(".orders .row").count()
        print(f"{len(list(sandbox.platform.iter_orders()))} orders: {rows} rows, {nodes} nodes")  # noqa: T201 - as above
        order = f"{sandbox.url}/console/order?app={sandbox.app_key}&order="
        sheet = f"{sandbox.url}/cashier?app={sandbox.app_key}&order="
        confirm, pay = "form:has([name=act][value=confirm]) button", "button[data-end=confirm]"
        await report("open the list", measure_pages(page, sandbox.url))
        await report("filter the list", measure_pages(page, f"{sandbox.url}/?state=paid"))
        await report("search", measure_pages(page, f"{sandbox.url}/?q=N00-007"))
        await report("open an order", measure_pages(page, f"{order}N00-007"))
        await report(
            "confirm on its page",
            measure(page, lambda n: f"{order}A{n}", confirm, "[data-state=paid]"),
        )
        await report(
            "pay on the cashier",
            measure(page, lambda n: f"{sheet}B{n}", pay, "[data-ended=paid]"),
        )
        await report("a tap in a rush", measure_in_a_rush(page, sandbox, merchant))


if __name__ == "__main__":
    asyncio.run(main())

"""The console in a browser: live rows, buttons, the request log, many orders."""

from __future__ import annotations

import hashlib
import itertools
from urllib.parse import quote

import aiohttp
import pytest
from playwright.async_api import Browser, Page, expect

from tests.browser.conftest import Buyer
from tests.sandbox.callback_shop import ACKNOWLEDGED, REFUSED, CallbackShop
from tests.sandbox.raw_merchant import QUERY, Merchant, make_trade_item, sign_md5
from wxpay_async.sandbox import Sandbox


def _order_url(sandbox: Sandbox, number: str, **more: str) -> str:
    query = "".join(f"&{name}={quote(text)}" for name, text in more.items())
    return f"{sandbox.url}/console/order?app={sandbox.app_key}&order={number}{query}"


async def test_order_appears_without_reload_and_is_paid_on_the_cashier(
    page: Page, sandbox: Sandbox, buyer: Buyer, shop: CallbackShop
) -> None:
    """From the SDK to the page, over the cashier to the callback, and back to the SDK."""
    await page.goto(sandbox.url)
    await page.evaluate("window.same = true")
    await buyer.order("A1", subject="珠穆朗玛冰川矿泉水")
    row = page.locator("[data-key$='/A1']")
    await expect(row).to_contain_text("珠穆朗玛冰川矿泉水")
    await expect(row).to_contain_text("awaits payment")
    assert await page.evaluate("window.same")

    cashier = await page.context.new_page()
    await cashier.goto(f"{sandbox.url}/cashier?app={sandbox.app_key}&order=A1")
    await expect(cashier.locator("body")).to_have_attribute("data-verdict", "ok")
    await cashier.get_by_role("button", name="Pay now").click()
    await expect(cashier.locator("[data-outcome]")).to_have_text("Paid")

    await expect(row).to_contain_text("paid")
    await expect(row).to_contain_text("callbacks: 1 ✓")
    assert await page.evaluate("window.same")
    await expect(page.locator(".filters [data-count=paid]")).to_have_text("1")
    assert shop.outcomes == [("A1", "TRADE_SUCCESS")]
    assert await buyer.status("A1") == "支付成功"


@pytest.mark.parametrize(
    ("button", "outcome", "status"),
    [
        ("Insufficient funds", "TRANSFER_FAIL", "支付失败"),
        ("Cancel", "TRANSFER_FAIL", "支付失败"),
        ("Let it expire", "TRADE_CLOSED", "已关闭"),
    ],
)
async def test_order_ends_otherwise_by_a_button_of_its_page(
    page: Page,
    sandbox: Sandbox,
    buyer: Buyer,
    shop: CallbackShop,
    button: str,
    outcome: str,
    status: str,
) -> None:
    """The page of an order has every end; it shows the new state without a reload."""
    await buyer.order("A1")
    await page.goto(_order_url(sandbox, "A1"))
    await page.evaluate("window.same = true")
    await page.get_by_role("button", name=button, exact=True).click()
    await expect(page.locator(".title .pill")).to_have_text(
        {"支付失败": "failed", "已关闭": "closed"}[status]
    )
    await expect(page.locator("summary", has_text="#1 HTTP 200")).to_be_visible()
    assert await page.evaluate("window.same")
    assert shop.outcomes == [("A1", outcome)]
    assert await buyer.status("A1") == status


async def test_resend_shows_the_answer(
    page: Page, sandbox: Sandbox, buyer: Buyer, shop: CallbackShop
) -> None:
    """The button tells what the merchant answered, and the delivery is on the page."""
    await buyer.order("A1")
    sandbox.confirm("A1")
    await sandbox.callbacks_idle()
    await page.goto(_order_url(sandbox, "A1", lang="zh"))
    shop.answers.extend([REFUSED, ACKNOWLEDGED])
    await page.get_by_role("button", name="重新发送").click()
    await expect(page.locator("[data-result='resend/A1']")).to_have_text("未确认 · HTTP 200")
    await page.get_by_role("button", name="重新发送").press("Enter")
    await expect(page.locator("[data-result='resend/A1']")).to_have_text("已确认 · HTTP 200")
    await expect(page.locator("summary .pill")).to_have_text(["已确认", "未确认", "已确认"])
    assert shop.numbers == ["A1"] * 3


async def test_wrong_signature_shows_its_cause(page: Page, sandbox: Sandbox) -> None:
    """A refused request is in the log at once, with cause and canonical string."""
    await page.goto(sandbox.url + "/console/requests?state=refused")
    async with aiohttp.ClientSession() as session:
        merchant = Merchant(session, sandbox)
        params = merchant.envelope({"outTradeNo": "A1", "tradeNo": ""})
        kept = "&".join(f"{name}={params[name]}" for name in sorted(params))
        wrong = sign_md5({"x": ""}, sandbox.app_secret)
        await merchant.send(QUERY, {**params, "sign": wrong})
        await merchant.send(QUERY, {**params, "sign": _sign_text(kept, sandbox.app_secret)})
    rows = page.locator(".request")
    await expect(rows).to_have_count(2)
    await expect(rows.first).to_contain_text("CO_MSG_000006")
    await rows.first.locator("summary").press("Enter")
    found = rows.first.locator(".diagnosis")
    await expect(found.locator("[data-cause=empty_kept]")).to_contain_text("Empty values")
    await expect(found.locator("[data-canonical]")).to_contain_text("&appSecret=******")
    await expect(found.locator("[data-expected]")).to_have_text(
        sign_md5(params, sandbox.app_secret)
    )
    await expect(found.locator(".difference .theirs")).to_contain_text("tradeNo=")
    await rows.nth(1).locator("summary").click()
    await expect(rows.nth(1).locator("[data-cause=unknown]")).to_be_visible()
    assert sandbox.app_secret not in await page.content()


async def test_time_is_advanced_on_the_console(
    page: Page, sandbox: Sandbox, buyer: Buyer, shop: CallbackShop
) -> None:
    """Half an hour later the order is closed, and the SDK's requests are fresh nevertheless."""
    await buyer.order("A1", timeout="20m")
    await page.goto(sandbox.url)
    await page.locator(".clock summary").click()
    await page.get_by_role("button", name="+30 min").click()
    await expect(page.locator("[data-key$='/A1']")).to_contain_text("closed")
    await expect(page.locator(".clock summary")).to_contain_text("ahead by 30 min")
    await sandbox.callbacks_idle()
    assert shop.outcomes == [("A1", "TRADE_CLOSED")]
    assert await buyer.status("A1") == "已关闭"


async def test_page_stays_bounded_with_two_thousand_orders(page: Page, sandbox: Sandbox) -> None:
    """The page keeps 200 rows, whatever comes; what fell off is found by the search."""
    await page.goto(sandbox.url)
    total = page.locator(".filters [data-count=total]")
    async with aiohttp.ClientSession() as session:
        merchant = Merchant(session, sandbox)
        for batch in range(20):
            items = [make_trade_item(f"N{batch:02}-{row:03}") for row in range(100)]
            await merchant.trade(f"N{batch}", tradeInfo=items)
            await expect(total).to_have_text(str(100 * (batch + 1)))
    await expect(page.locator("[data-key$='/N19-099']")).to_be_visible()
    assert await page.locator(".orders .row").count() == 200
    await page.locator("[data-search]").fill("N00-007")
    await page.locator("[data-search]").press("Enter")
    await expect(page.locator(".orders .row")).to_have_count(1)
    await expect(page.locator("[data-key$='/N00-007']")).to_be_visible()


async def test_keyboard_reaches_everything(page: Page, sandbox: Sandbox, buyer: Buyer) -> None:
    """`/` goes to the search, Tab to the rows, Enter opens one; focus survives an update."""
    await buyer.order("A1")
    await page.goto(sandbox.url)
    await page.keyboard.press("/")
    assert await page.evaluate("document.activeElement.matches('[data-search]')")
    link = page.locator("[data-key$='/A1'] a")
    for _ in range(12):
        if await link.evaluate("each => each === document.activeElement"):
            break
        await page.keyboard.press("Tab")
    sandbox.confirm("A1")
    await expect(page.locator("[data-key$='/A1']")).to_contain_text("paid")
    await expect(link).to_be_focused()
    await page.keyboard.press("Enter")
    await expect(page.locator("h1")).to_have_text("A1")


async def test_no_page_is_wider_than_its_screen(page: Page, sandbox: Sandbox, buyer: Buyer) -> None:
    """Long names wrap: nothing is scrolled sideways, down to a small phone."""
    await buyer.order("A" * 64, subject="W" * 120)
    async with aiohttp.ClientSession() as session:
        merchant = Merchant(session, sandbox)
        await merchant.send(QUERY, {**merchant.envelope({"outTradeNo": "A" * 64}), "sign": "0"})
    order = f"app={sandbox.app_key}&order={'A' * 64}"
    paths = (
        "/?x=",
        "/console/requests?x=",
        "/console/faults?x=",
        f"/console/order?{order}",
        f"/cashier?{order}",
    )
    for path, language in itertools.product(paths, ("en", "zh")):
        await page.goto(f"{sandbox.url}{path}&lang={language}")
        if path.startswith("/console/requests"):
            await page.locator("details[data-load] summary").first.click()
            await page.locator("[data-expected]").wait_for()
        for width in (320, 390, 820, 1440):
            await page.set_viewport_size({"width": width, "height": 800})
            wide = await page.evaluate("document.documentElement.scrollWidth")
            assert wide == width, (path, language)


@pytest.mark.parametrize("scheme", ["light", "dark"])
async def test_text_can_be_read_in_light_and_dark(
    browser: Browser, sandbox: Sandbox, buyer: Buyer, scheme: str
) -> None:
    """Every visible text has a contrast of 4.5 to 1 to what is behind it (WCAG AA)."""
    for number, end in (("A1", sandbox.confirm), ("A2", sandbox.cancel), ("A3", sandbox.expire)):
        await buyer.order(number)
        end(number)
    await buyer.order("A4")
    context = await browser.new_context(color_scheme=scheme)  # type: ignore[arg-type]
    page = await context.new_page()
    order = f"app={sandbox.app_key}&order=A4"
    for path in (
        "/",
        "/console/requests",
        "/console/faults",
        f"/console/order?{order}",
        f"/cashier?{order}",
    ):
        await page.goto(sandbox.url + path)
        await page.wait_for_function("!document.querySelector('.fresh')")
        assert await page.evaluate(_CONTRAST) == [], path


_CONTRAST = """() => {
  const read = (text) => text.match(/[\\d.]+/g).map(Number);
  const light = ([r, g, b]) => [r, g, b].map((v) => v / 255)
    .map((v) => (v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4))
    .reduce((sum, v, i) => sum + v * [0.2126, 0.7152, 0.0722][i], 0);
  const behind = (node) => {
    for (let each = node; each; each = each.parentElement) {
      const colour = read(getComputedStyle(each).backgroundColor);
      if (colour.length < 4 || colour[3] === 1) return colour;
    }
    return [255, 255, 255];
  };
  const poor = [];
  for (const node of document.querySelectorAll("body *")) {
    const own = [...node.childNodes].some((each) => each.nodeType === 3 && each.textContent.trim());
    if (!own || !node.checkVisibility()) continue;
    const pair = [light(read(getComputedStyle(node).color)), light(behind(node))];
    const ratio = (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05);
    if (ratio < 4.5) poor.push(`${node.textContent.trim().slice(0, 40)}: ${ratio.toFixed(2)}`);
  }
  return poor;
}"""


def _sign_text(text: str, secret: str) -> str:
    return hashlib.md5(f"{text}&appSecret={secret}".encode()).hexdigest().upper()

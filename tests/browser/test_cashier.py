"""The cashier in a browser, opened by the stand-in for `wx.requestPayment` from a web page."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from string import Template

import pytest
from aiohttp import web
from playwright.async_api import FrameLocator, Page, expect

from tests.browser.conftest import APP_ID, Buyer
from tests.sandbox.callback_shop import CallbackShop
from wxpay_async.sandbox import Sandbox

_PAGE = Template("""<!DOCTYPE html><html><head><title>shop</title><link rel="icon" href="data:,">
<script src="$sandbox/wx-pay.js" $attributes></script></head><body><button id="buy">buy</button>
<script>
const calls = [];
const buy = (params) => wx.requestPayment({ ...params,
  success: (r) => calls.push(["success", r.errMsg]), fail: (r) => calls.push(["fail", r.errMsg]),
  complete: (r) => calls.push(["complete", r.errMsg]) });
</script></body></html>""")


class WebBuild:
    """A mini program's web build, served at an origin of its own."""

    def __init__(self, page: Page) -> None:
        self.page = page
        self.html = ""
        self._runner = web.ServerRunner(web.Server(self._answer), shutdown_timeout=0.1)

    async def start(self, sandbox: Sandbox, attributes: str = "") -> None:
        """Serve the page, and open it."""
        self.html = _PAGE.substitute(sandbox=sandbox.url, attributes=attributes)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        await self.page.goto(f"http://localhost:{self._runner.addresses[0][1]}/")

    async def aclose(self) -> None:
        """Stop serving."""
        await self._runner.cleanup()

    async def pay(self, params: object) -> FrameLocator:
        """Call wx.requestPayment; returns the cashier."""
        await self.page.evaluate(f"buy({json.dumps(params)})")
        return self.page.frame_locator("iframe")

    async def calls(self) -> list[list[str]]:
        """Wait for `complete`, and return what was called."""
        await self.page.wait_for_function("calls.some(([name]) => name === 'complete')")
        assert await self.page.locator("iframe").count() == 0
        found: list[list[str]] = await self.page.evaluate("calls")
        return found

    async def _answer(self, request: web.BaseRequest) -> web.Response:
        del request
        return web.Response(text=self.html, content_type="text/html")


@pytest.fixture
async def build(page: Page) -> AsyncIterator[WebBuild]:
    """A web build that is not served yet."""
    made = WebBuild(page)
    yield made
    await made.aclose()


def _failed(text: str) -> list[list[str]]:
    return [["fail", f"requestPayment:fail {text}"], ["complete", f"requestPayment:fail {text}"]]


async def test_stand_in_pays_from_a_web_page(
    build: WebBuild, sandbox: Sandbox, buyer: Buyer, shop: CallbackShop
) -> None:
    """The SDK's own JSAPI parameters open the cashier over the page, and pay."""
    prepay = await buyer.order("A1")
    await build.start(sandbox, f'data-app-id="{APP_ID}" data-lang="zh"')
    cashier = await build.pay(prepay.jsapi_params())
    await expect(cashier.locator("[data-check]")).to_have_text("支付参数校验通过：签名正确。")
    await expect(cashier.locator(".price")).to_have_text("¥12.50")
    await cashier.get_by_role("button", name="立即支付").click()
    await expect(cashier.locator("[data-outcome]")).to_have_text("支付成功")
    await cashier.get_by_role("button", name="完成").click()
    assert await build.calls() == [
        ["success", "requestPayment:ok"],
        ["complete", "requestPayment:ok"],
    ]
    await sandbox.callbacks_idle()
    assert shop.outcomes == [("A1", "TRADE_SUCCESS")]
    assert await buyer.status("A1") == "支付成功"


async def test_cancellation_fails_the_order(
    build: WebBuild, sandbox: Sandbox, buyer: Buyer, shop: CallbackShop
) -> None:
    """The page hears of it in WeChat's words, the merchant by a callback."""
    prepay = await buyer.order("A1")
    await build.start(sandbox)
    cashier = await build.pay(prepay.jsapi_params())
    await cashier.get_by_role("button", name="Cancel").click()
    assert await build.calls() == _failed("cancel")
    await sandbox.callbacks_idle()
    assert shop.outcomes == [("A1", "TRANSFER_FAIL")]
    assert await buyer.status("A1") == "支付失败"


async def test_escape_leaves_the_order_open_and_it_can_be_paid_later(
    build: WebBuild, sandbox: Sandbox, buyer: Buyer
) -> None:
    """Leaving the sheet is no cancellation of the order, as on a phone."""
    prepay = await buyer.order("A1")
    await build.start(sandbox)
    cashier = await build.pay(prepay.jsapi_params())
    await expect(cashier.locator("body")).to_have_attribute("data-verdict", "ok")
    await cashier.locator("body").press("Escape")
    assert await build.calls() == _failed("cancel")
    assert await buyer.status("A1") == "待付款"
    cashier = await build.pay(prepay.jsapi_params())
    await expect(cashier.get_by_role("button", name="Pay now")).to_be_focused()
    await cashier.locator("body").press("Enter")
    await expect(cashier.locator("[data-outcome]")).to_have_text("Paid")
    assert await buyer.status("A1") == "支付成功"


async def test_wrong_password_can_be_tried_again(
    build: WebBuild, sandbox: Sandbox, buyer: Buyer
) -> None:
    """The sheet stays open after a wrong password."""
    prepay = await buyer.order("A1")
    await build.start(sandbox)
    cashier = await build.pay(prepay.jsapi_params())
    await cashier.get_by_role("button", name="wrong password").click()
    await expect(cashier.locator("[data-outcome]")).to_have_text(
        "The password is wrong. Try again."
    )
    assert await buyer.status("A1") == "待付款"
    await cashier.get_by_role("button", name="Pay now").click()
    await cashier.get_by_role("button", name="Done").click()
    assert (await build.calls())[0] == ["success", "requestPayment:ok"]


async def test_insufficient_funds_end_the_payment(
    build: WebBuild, sandbox: Sandbox, buyer: Buyer, shop: CallbackShop
) -> None:
    """The person reads why, the page hears `fail cancel`, the merchant gets the reason."""
    prepay = await buyer.order("A1")
    await build.start(sandbox)
    cashier = await build.pay(prepay.jsapi_params())
    await cashier.get_by_role("button", name="Insufficient funds").click()
    await expect(cashier.locator("[data-outcome]")).to_have_text(
        "Not enough money for this payment."
    )
    await cashier.get_by_role("button", name="Done").click()
    assert await build.calls() == _failed("cancel")
    await sandbox.callbacks_idle()
    assert dict(shop.forms[0])["failReason"] == "付款人余额不足"
    assert await buyer.status("A1") == "支付失败"


async def test_order_that_expires_on_the_sheet_is_closed(
    build: WebBuild, sandbox: Sandbox, buyer: Buyer, shop: CallbackShop
) -> None:
    """The order's time ends while its sheet is open."""
    prepay = await buyer.order("A1")
    await build.start(sandbox)
    cashier = await build.pay(prepay.jsapi_params())
    await cashier.get_by_role("button", name="Let it expire").click()
    await expect(cashier.locator("[data-outcome]")).to_have_text("The order is closed")
    await cashier.get_by_role("button", name="Done").click()
    assert await build.calls() == _failed("订单已关闭")
    await sandbox.callbacks_idle()
    assert shop.outcomes == [("A1", "TRADE_CLOSED")]
    assert await buyer.status("A1") == "已关闭"


async def test_prepay_that_expires_on_the_sheet_cannot_pay(
    build: WebBuild, sandbox: Sandbox, buyer: Buyer
) -> None:
    """A prepay lives for 20 minutes, also if its sheet was opened before."""
    prepay = await buyer.order("A1")
    await build.start(sandbox)
    cashier = await build.pay(prepay.jsapi_params())
    await expect(cashier.locator("body")).to_have_attribute("data-verdict", "ok")
    sandbox.advance(1200)
    await cashier.get_by_role("button", name="Pay now").click()
    await expect(cashier.locator("[data-outcome]")).to_contain_text("The prepay has expired.")
    await cashier.get_by_role("button", name="Done").click()
    assert await build.calls() == _failed("订单已过期，请重新下单")
    assert await buyer.status("A1") == "待付款"


@pytest.mark.parametrize(
    "change",
    [
        {"nonceStr": "another"},
        {"timeStamp": "1"},
        {"paySign": "AAAA"},
        {"paySign": "no Base64!"},
        {"signType": "MD5"},
    ],
)
async def test_parameters_that_were_changed_are_refused_as_by_a_phone(
    build: WebBuild, sandbox: Sandbox, buyer: Buyer, change: dict[str, str]
) -> None:
    """The browser's own crypto finds that the signature does not fit, and nothing is paid."""
    prepay = await buyer.order("A1")
    await build.start(sandbox)
    cashier = await build.pay({**prepay.jsapi_params(), **change})
    await expect(cashier.locator("body")).to_have_attribute("data-verdict", "bad")
    await expect(cashier.get_by_role("button", name="Pay now")).to_be_hidden()
    await cashier.get_by_role("button", name="Done").click()
    assert await build.calls() == _failed("支付验证签名失败")
    assert await buyer.status("A1") == "待付款"


async def test_prepay_of_another_mini_program_is_refused(
    build: WebBuild, sandbox: Sandbox, buyer: Buyer
) -> None:
    """A phone signs with its own appId, so that of another mini program does not fit."""
    prepay = await buyer.order("A1")
    await build.start(sandbox, 'data-app-id="wx0000000000000000"')
    cashier = await build.pay(prepay.jsapi_params())
    await expect(cashier.locator("body")).to_have_attribute("data-verdict", "other")
    await cashier.get_by_role("button", name="Done").click()
    assert await build.calls() == _failed("支付验证签名失败")


async def test_parameters_that_are_missing_fail_at_once(
    build: WebBuild, sandbox: Sandbox, buyer: Buyer
) -> None:
    """As in WeChat, a number in place of a text is no timeStamp; a promise is rejected, too."""
    prepay = await buyer.order("A1")
    await build.start(sandbox)
    await build.pay({**prepay.jsapi_params(), "timeStamp": 1})
    text = "parameter error: parameter.timeStamp should be String instead of Number;"
    assert await build.calls() == _failed(text)
    rejected = await build.page.evaluate("wx.requestPayment({}).catch((error) => error.errMsg)")
    assert rejected == f"requestPayment:fail {text}".replace("Number", "Undefined")


async def test_order_that_is_paid_cannot_be_paid_again(
    build: WebBuild, sandbox: Sandbox, buyer: Buyer
) -> None:
    """A second sheet for the same prepay says that the order is paid."""
    prepay = await buyer.order("A1")
    sandbox.confirm("A1")
    await build.start(sandbox)
    cashier = await build.pay(prepay.jsapi_params())
    await cashier.get_by_role("button", name="Done").click()
    assert await build.calls() == _failed("该订单已支付")

"""The payment sheet: what it shows, and what it hands to the browser's check."""

import html as html_module
import json
import re
from pathlib import Path
from urllib.parse import urlencode

from tests.sandbox.console.conftest import Act, Fetch
from tests.sandbox.raw_merchant import Merchant, make_trade_item, verify_by_openssl
from wxpay_async.sandbox import Sandbox


def _data(page: str, name: str) -> str:
    found = re.search(rf'data-{name}="([^"]*)"', page)
    assert found
    return html_module.unescape(found[1])


async def test_sheet_of_a_prepay_shows_shop_subject_and_amount(
    fetch: Fetch, merchant: Merchant
) -> None:
    """The stand-in opens the sheet by the prepay alone."""
    token = await merchant.trade_token("A1")
    reply = await merchant.pay("p1", token)
    page = await fetch("/cashier?" + urlencode({"prepay": reply["data"]["prepayId"], "lang": "zh"}))
    for text in ("付款给 商户 1000", "¥33.69", "商品的标题", "A1"):
        assert text in page
    assert _data(page, "state") == "awaiting"
    assert _data(page, "app-id") == "wx9236b1e84ffbf10a"


async def test_sheet_hands_out_what_verifies_the_parameters(
    fetch: Fetch, merchant: Merchant, sandbox: Sandbox, tmp_path: Path
) -> None:
    """Key and parameters on the page fit together: openssl agrees."""
    await merchant.trade("A1")
    page = await fetch(f"/cashier?app={sandbox.app_key}&order=A1")
    params = json.loads(_data(page, "jsapi"))
    names = ("appId", "timeStamp", "nonceStr", "package")
    message = "".join(f"{params[name]}\n" for name in names)
    key = "-----BEGIN PUBLIC KEY-----\n" + _data(page, "key") + "\n-----END PUBLIC KEY-----\n"
    assert key.replace("\n", "") == sandbox.pay_public_key.replace("\n", "")
    assert verify_by_openssl(message, params["paySign"], sandbox.pay_public_key, tmp_path)


async def test_sheet_of_several_orders_shows_what_is_paid_together(
    fetch: Fetch, merchant: Merchant, sandbox: Sandbox
) -> None:
    """One payment of two orders has one amount."""
    items = [make_trade_item("A1"), make_trade_item("A2")]
    await merchant.trade("A1", tradeInfo=items, payMethod={"amount": "67.38"})
    page = await fetch(f"/cashier?app={sandbox.app_key}&order=A2")
    assert "¥67.38" in page
    assert "商品的标题 (+1)" in page


async def test_sheet_knows_that_its_prepay_has_expired(
    fetch: Fetch, act: Act, merchant: Merchant, sandbox: Sandbox
) -> None:
    """After 20 minutes the sheet is over, and so is that of an order that has ended."""
    await merchant.trade("A1")
    address = f"/cashier?app={sandbox.app_key}&order=A1"
    await act(act="advance", seconds="1200")
    assert _data(await fetch(address), "state") == "expired"
    await act(act="advance", seconds="600")
    assert _data(await fetch(address), "state") == "closed"


async def test_sheet_without_a_prepay_has_nothing_to_verify(
    fetch: Fetch, merchant: Merchant, sandbox: Sandbox
) -> None:
    """An order that is paid by a code has no JSAPI parameters."""
    await merchant.trade("A1", product="64")
    page = await fetch(f"/cashier?app={sandbox.app_key}&order=A1")
    assert (_data(page, "app-id"), _data(page, "jsapi")) == ("", "{}")

"""The pages over HTTP: what they show, what they escape, and who may act."""

import re
import sys

import aiohttp
import pytest

from tests.sandbox.console.conftest import Act, Fetch, find_token
from tests.sandbox.raw_merchant import QUERY, Merchant, make_trade_item, sign_md5
from wxpay_async.extras import how_to_install
from wxpay_async.sandbox import Sandbox

NASTY = "<script>alert(1)</script>\"'&amp;"


def _row(html: str, number: str) -> str:
    found = re.search(rf'<li class="row" data-key="[^"]*/{number}".*?</li>', html, re.DOTALL)
    assert found
    return " ".join(re.sub("<[^>]+>", " ", found[0]).split())


async def test_console_without_orders_says_where_to_point_a_shop(
    fetch: Fetch, sandbox: Sandbox
) -> None:
    """The empty console names address and appKey, but never the secret."""
    html = await fetch("/")
    assert "No orders yet." in html
    assert f"WXPAY_BASE_URL={sandbox.url}" in html
    assert sandbox.app_key in html
    assert sandbox.app_secret not in html


async def test_row_tells_state_amount_request_attempts_and_refunds(
    fetch: Fetch, merchant: Merchant, sandbox: Sandbox
) -> None:
    """One look at the list is enough: both of the requests that came twice count."""
    token = await merchant.trade_token("A1")
    await merchant.pay("p1", token)
    await merchant.pay("p1", token)  # refused as repeated, but seen
    sandbox.confirm("A1")
    await merchant.refund("R1", "A1", "3.00")
    row = _row(await fetch("/"), "A1")
    assert "商品的标题" in row
    assert "¥33.69" in row
    assert " paid " in row
    assert "p1 requests: 3" in row
    assert "refunded ¥3.00" in row
    assert "12:00:00" in row


@pytest.mark.parametrize(
    ("query", "word"), [("?lang=zh", "待付款"), ("?lang=en", "awaits payment")]
)
async def test_language_of_the_address_wins(
    fetch: Fetch, merchant: Merchant, query: str, word: str
) -> None:
    """`?lang=` decides, else the browser does."""
    await merchant.trade("A1")
    other = {"en": "zh-CN", "zh": "en"}[query[-2:]]
    assert word in _row(await fetch("/" + query, **{"Accept-Language": other}), "A1")
    assert word in _row(await fetch("/", **{"Accept-Language": query[-2:]}), "A1")


async def test_text_from_requests_is_escaped_on_every_page(
    fetch: Fetch, merchant: Merchant, sandbox: Sandbox
) -> None:
    """Markup in a number, a subject, a path or a parameter is shown, not run."""
    token = await merchant.trade_token("A1", tradeInfo=[make_trade_item(NASTY, subject=NASTY)])
    await merchant.pay(NASTY, token)
    await merchant.send(QUERY, merchant.envelope({"outTradeNo": NASTY}) | {"sign": NASTY})
    order = "?app=" + sandbox.app_key + "&order=%3Cscript%3Ealert(1)%3C%2Fscript%3E%22%27%26amp%3B"
    pages = ["/", "/console/requests", "/console/diagnosis?call=3"]
    pages += ["/console/order" + order, "/cashier" + order, "/?q=%3Cscript%3E"]
    for path in pages:
        html = await fetch(path)
        assert "<script>" not in html, path
        assert "&lt;script&gt;" in html, path
        assert "alert(1)</script>" not in html, path


async def test_pages_load_nothing_from_elsewhere(
    fetch: Fetch, session: aiohttp.ClientSession, merchant: Merchant, sandbox: Sandbox
) -> None:
    """Every resource is the sandbox's own, and a policy says so to the browser."""
    await merchant.trade("A1")
    for path in ("/", "/console/requests", f"/cashier?app={sandbox.app_key}&order=A1"):
        html = await fetch(path)
        assert set(re.findall(r'(?:src|rel="stylesheet" href)="([^"]+)"', html)) == {
            "/console/console.js",
            "/console/console.css",
        }
        assert not re.search(r"<style|<script>|\son\w+=", html)
        async with session.get(sandbox.url + path) as answer:
            policy = answer.headers["Content-Security-Policy"]
        assert policy.startswith("default-src 'none'; style-src 'self'; script-src 'self'")
        assert "unsafe" not in policy
    assert "http" not in re.sub(r"//.*", "", await fetch("/console/console.js"))
    assert "url(" not in await fetch("/console/console.css")


async def test_only_the_cashier_may_be_framed_and_only_on_this_machine(
    session: aiohttp.ClientSession, merchant: Merchant, sandbox: Sandbox
) -> None:
    """A web build on this machine shows the cashier; nothing shows the console."""
    await merchant.trade("A1")
    framed = {}
    for path in ("/", f"/cashier?app={sandbox.app_key}&order=A1"):
        async with session.get(sandbox.url + path) as answer:
            framed[path[:2]] = answer.headers["Content-Security-Policy"].split("frame-ancestors ")[
                1
            ]
    assert framed["/"] == "'none'"
    assert framed["/c"].startswith("'self' http://localhost:* http://127.0.0.1:*")
    assert "* " not in framed["/c"].replace(":* ", "")


async def test_filters_and_search_find_old_orders(
    fetch: Fetch, merchant: Merchant, sandbox: Sandbox
) -> None:
    """A page has the newest 200 orders; the search goes through all of them."""
    for batch in range(3):
        items = [make_trade_item(f"N{batch}-{row:03}") for row in range(100)]
        await merchant.trade(f"N{batch}", tradeInfo=items)
    sandbox.confirm("N0-000")
    html = await fetch("/")
    assert html.count('<li class="row"') == 200
    assert "N2-099" in html
    assert "N0-000" not in html
    assert "The newest 200 of 300" in html
    html = await fetch("/?q=n0-00")
    assert html.count('<li class="row"') == 10
    assert "N0-009" in html
    html = await fetch("/?state=awaiting&q=N1")
    assert html.count('<li class="row"') == 100
    html = await fetch("/?state=paid")
    assert html.count('<li class="row"') == 100
    html = await fetch("/?q=R-n2")  # the requestId of the trade, which all its orders share
    assert html.count('<li class="row"') == 100
    assert "Nothing matches." in await fetch("/?q=nowhere")


async def test_request_log_tells_why_each_request_was_refused(
    fetch: Fetch, merchant: Merchant, session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """Refusals of every kind are there, those of unknown paths included."""
    await merchant.trade("A1")
    await merchant.trade("A1")
    await merchant.send_bytes(QUERY, b"{}", "application/json")
    await session.post(sandbox.url + "/api/instant/pay")
    html = await fetch("/console/requests?state=refused")
    assert html.count('data-key="call-') == 3
    for text in ("the requestId is repeated", "unsupported media type", "there is nothing here"):
        assert text in html
    html = await fetch("/console/requests")
    assert html.count('data-key="call-') == 4
    html = await fetch("/console/requests?q=media")
    assert html.count('data-key="call-') == 1


async def test_wrong_signature_is_explained(
    fetch: Fetch, merchant: Merchant, sandbox: Sandbox
) -> None:
    """The page shows canonical string, expected signature, cause and first difference."""
    params = merchant.envelope({"outTradeNo": "A1", "tradeNo": ""})
    wrong = {**params, "tradeNo": " "}  # signed as if the blank were a value
    await merchant.send(QUERY, {**params, "sign": sign_md5(wrong, sandbox.app_secret)})
    html = await fetch("/console/diagnosis?call=1")
    canonical = f"appKey={sandbox.app_key}&amp;nonce={params['nonce']}&amp;outTradeNo=A1"
    assert canonical in html
    assert "&amp;appSecret=******" in html
    assert sign_md5(params, sandbox.app_secret) in html
    assert "First difference" in html
    assert sandbox.app_secret not in html


async def test_diagnosis_of_a_call_that_is_unknown_is_404(fetch: Fetch) -> None:
    """A call that was forgotten, or a number that is none, is not there."""
    await fetch("/console/diagnosis?call=7", status=404)
    await fetch("/console/diagnosis?call=%C2%B2", status=404)
    await fetch("/console/diagnosis", status=404)


async def test_order_and_cashier_of_an_unknown_order_are_404(
    fetch: Fetch, sandbox: Sandbox
) -> None:
    """A page about nothing says so."""
    for path in ("/console/order", "/cashier"):
        assert "There is no such order." in await fetch(f"{path}?app={sandbox.app_key}", status=404)


@pytest.mark.parametrize(
    ("deed", "state", "status"),
    [
        ("confirm", "paid", "支付成功"),
        ("cancel", "failed", "支付失败"),
        ("insufficient", "failed", "支付失败"),
        ("expire", "closed", "已关闭"),
        ("wrong_password", "awaiting", "待付款"),
        ("leave", "awaiting", "待付款"),
    ],
)
async def test_payer_acts(
    act: Act, merchant: Merchant, fetch: Fetch, sandbox: Sandbox, deed: str, state: str, status: str
) -> None:
    """Each button leads to its end, and what was tried in vain is noted."""
    await merchant.trade("A1")
    assert await act(act=deed, order="A1") == (200, {"ok": True, "state": state, "text": ""})
    assert await merchant.status("A1") == status
    noted = "The payer tried" in await fetch(f"/console/order?app={sandbox.app_key}&order=A1")
    assert noted == (state == "awaiting")


async def test_confirm_of_an_expired_prepay_tells_so(act: Act, merchant: Merchant) -> None:
    """After 20 minutes the phone cannot pay any more, though the order still awaits payment."""
    await merchant.trade("A1")
    assert (await act(act="advance", seconds="1200"))[0] == 200
    status, result = await act(act="confirm", order="A1", lang="zh")
    assert (status, result["state"]) == (409, "expired")
    assert "预支付单已过期" in str(result["text"])
    assert await merchant.status("A1") == "待付款"


async def test_advance_closes_orders_but_keeps_signatures_fresh(
    act: Act, merchant: Merchant, fetch: Fetch
) -> None:
    """Time that is advanced is the orders': the merchant's own clock stays right."""
    await merchant.trade("A1")
    await act(act="advance", seconds="1799")
    assert await merchant.status("A1") == "待付款"
    await act(act="advance", seconds="1")
    assert " closed " in _row(await fetch("/"), "A1")
    assert await merchant.status("A1") == "已关闭"
    assert "ahead by 30 min" in await fetch("/")


@pytest.mark.parametrize("seconds", ["", "-1", "0", "nan", "inf", "1e9", "x"])
async def test_advance_by_something_else_is_refused(
    act: Act, sandbox: Sandbox, seconds: str
) -> None:
    """Only seconds above 0 and up to 31 days can be advanced."""
    assert (await act(act="advance", seconds=seconds))[0] == 400
    assert sandbox.platform.advance_by == 0


@pytest.mark.parametrize("token", ["", "0" * 32, "\u20ac"])
async def test_act_without_the_token_is_refused(act: Act, merchant: Merchant, token: str) -> None:
    """Only the sandbox's own pages know the token."""
    await merchant.trade("A1")
    status, result = await act(act="confirm", order="A1", token=token)
    assert (status, result["ok"]) == (403, False)
    assert await merchant.status("A1") == "待付款"


async def test_foreign_page_cannot_act_and_not_read(
    session: aiohttp.ClientSession, fetch: Fetch, merchant: Merchant, sandbox: Sandbox
) -> None:
    """A foreign Origin, or a name that is not this machine's, is refused everywhere."""
    await merchant.trade("A1")
    token = find_token(await fetch("/"))
    data = {"act": "confirm", "app": sandbox.app_key, "order": "A1", "outTradeNo": "A1"}
    for path in ("/console/act", "/sandbox/confirm"):
        for headers in ({"Origin": "http://evil.example"}, {"Host": "evil.example"}):
            async with session.post(
                sandbox.url + path, data={**data, "token": token}, headers=headers
            ) as answer:
                assert answer.status == 403
    for path in ("/", "/console/events", "/sandbox", "/sandbox/ledger"):
        async with session.get(sandbox.url + path, headers={"Host": "evil.example"}) as answer:
            assert answer.status == 403
    assert await merchant.status("A1") == "待付款"


@pytest.mark.parametrize("act_name", ["", "refund", "__class__"])
async def test_act_unknown_is_refused(act: Act, merchant: Merchant, act_name: str) -> None:
    """A button that there is not does nothing; nor does one about an order that there is not."""
    await merchant.trade("A1")
    assert (await act(act=act_name, order="A1"))[0] == 400
    assert (await act(act="confirm", order="A2"))[0] == 404
    assert (await act(act="resend", order="A2"))[0] == 404


async def test_act_without_a_script_leads_back(
    session: aiohttp.ClientSession, fetch: Fetch, merchant: Merchant, sandbox: Sandbox
) -> None:
    """A form works without scripts too; it leads nowhere but to the sandbox's own pages."""
    await merchant.trade("A1")
    data = {"token": find_token(await fetch("/")), "act": "confirm", "app": sandbox.app_key}
    for back, status in (("/?lang=zh", 303), ("//evil.example", 200), ("http://evil.example", 200)):
        form = {**data, "order": "A1", "back": back}
        async with session.post(
            sandbox.url + "/console/act", data=form, allow_redirects=False
        ) as answer:
            assert (answer.status, answer.headers.get("Location")) == (
                status,
                back if status == 303 else None,
            )
    assert await merchant.status("A1") == "支付成功"


async def test_console_without_jinja_says_what_to_install(
    fetch: Fetch, merchant: Merchant, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without the extra the console names it, and everything else works."""
    monkeypatch.setitem(sys.modules, "jinja2", None)
    html = await fetch("/", status=501)
    assert how_to_install("sandbox") in html
    assert 'href="/sandbox"' in html
    await merchant.trade("A1")
    assert "A1" in await fetch("/sandbox")
    assert "requestPayment" in await fetch("/wx-pay.js")

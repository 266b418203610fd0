"""The business of the five endpoints, and the payer, seen over HTTP."""
# ruff: noqa: ANN001 - the fixtures' classes live in conftest.py, which is no module to import

import asyncio
import base64
import subprocess
from decimal import Decimal
from pathlib import Path

import pytest

from wxpay_async.errors import InvalidRequestError, PrepayExpiredError
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.error_codes import Code
from wxpay_async.sandbox.state import Entry

JSAPI = {"appId", "timeStamp", "nonceStr", "prepayId", "extPackage", "signType", "paySign"}


def charges(sandbox: Sandbox) -> list[Entry]:
    """Return what the payer was charged."""
    return [entry for entry in sandbox.platform.ledger if entry.kind == "charge"]


async def token_of(merchant, number: str, **changes: object) -> str:
    """Create an order and return its payToken."""
    reply = await merchant.trade(number, **changes)
    return reply["data"]["payToken"]


def openssl_verifies(data: dict[str, str], public_key: str, tmp_path: Path) -> bool:
    """Ask the openssl program whether paySign fits."""
    key, signature = tmp_path / "pay.pub", tmp_path / "pay.sig"
    key.write_text(public_key)
    signature.write_bytes(base64.b64decode(data["paySign"]))
    lines = (data["appId"], data["timeStamp"], data["nonceStr"], data["extPackage"])
    done = subprocess.run(
        ["openssl", "dgst", "-sha256", "-verify", str(key), "-signature", str(signature)],
        input="".join(f"{line}\n" for line in lines).encode(),
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


# Trade


async def test_trade(merchant, sandbox) -> None:
    """A trade creates its orders, awaiting payment, and answers with what the page promises."""
    reply = await merchant.trade("A1")
    data = reply["data"]
    trade = sandbox.platform.trades["A1"]
    assert set(data) == {"requestId", "payToken", "returnUrl", "tradeResList", "instAmount", *JSAPI}
    assert (data["requestId"], data["instAmount"]) == ("r-A1", "33.69")
    assert data["returnUrl"].startswith(sandbox.url)
    assert data["tradeResList"] == [{"outTradeNo": "A1", "tradeNo": trade.trade_no, "status": "P"}]
    assert trade.status == "待付款"


async def test_trade_to_scan_has_no_prepay(merchant, sandbox) -> None:
    """Products that are scanned come without JSAPI fields."""
    reply = await merchant.trade("A1", product="65")
    assert not JSAPI & set(reply["data"])
    assert sandbox.platform.prepays == {}


async def test_trade_of_two_items(merchant, make_item, sandbox) -> None:
    """Every item is an order of its own, and one confirmation pays them all."""
    items = [make_item("A1"), make_item("A2", "3.00")]
    reply = await merchant.trade("A1", tradeInfo=items)
    sandbox.confirm("A2")
    rows = reply["data"]["tradeResList"]
    assert [row["outTradeNo"] for row in rows] == ["A1", "A2"]
    assert len({row["tradeNo"] for row in rows}) == 2
    assert [await merchant.status(number) for number in ("A1", "A2")] == ["支付成功"] * 2
    assert [(entry.out_trade_nos, entry.amount) for entry in charges(sandbox)] == [
        (("A1",), Decimal("33.69")),
        (("A2",), Decimal("3.00")),
    ]


async def test_out_trade_no_is_used_once(merchant, make_item, sandbox) -> None:
    """A second order under the same number is refused, also inside one request."""
    await merchant.trade("A1")
    again = await merchant.trade("A1", requestId="other")
    twice = await merchant.trade("A2", tradeInfo=[make_item("A2"), make_item("A2")])
    assert [again["errorCode"], twice["errorCode"]] == [Code.ORDER_REPEATED] * 2
    assert list(sandbox.platform.trades) == ["A1"]


async def test_time_limit(merchant, clock) -> None:
    """TimeoutExpress is kept by the clock."""
    token = await token_of(merchant, "A1", timeoutExpress="10m")
    clock.move(599.9)
    before = await merchant.status("A1")
    clock.move(0.1)
    after = await merchant.status("A1")
    refused = await merchant.pay("p1", token)
    assert [before, after] == ["待付款", "已关闭"]
    assert refused["errorCode"] == Code.ORDER_ENDED


async def test_no_time_limit(merchant, clock) -> None:
    """Without timeoutExpress an order awaits payment for ever."""
    await merchant.trade("A1", timeoutExpress="0")
    clock.move(30 * 86400)
    assert await merchant.status("A1") == "待付款"


# Pay


async def test_pay(merchant, sandbox) -> None:
    """A payToken turns into the JSAPI parameters of the page, and nothing is charged."""
    token = await token_of(merchant, "A1")
    reply = await merchant.pay("p1", token)
    data = reply["data"]
    assert set(data) == {"requestId", "tradeResList", "instAmount", *JSAPI}
    assert data["requestId"] == "p1"
    assert data["appId"] == "wx9236b1e84ffbf10a"
    assert data["timeStamp"] == "1763870400"
    assert data["extPackage"] == "prepay_id=" + data["prepayId"]
    assert (data["signType"], data["instAmount"]) == ("RSA", "33.69")
    assert [row["status"] for row in data["tradeResList"]] == ["P"]
    assert await merchant.status("A1") == "待付款"
    assert charges(sandbox) == []


async def test_pay_sign_is_genuine(merchant, sandbox, tmp_path) -> None:
    """The openssl program verifies paySign of pay and of trade, and refuses a changed one."""
    trade = await merchant.trade("A1")
    pay = await merchant.pay("p1", trade["data"]["payToken"])
    for data in (trade["data"], pay["data"]):
        assert openssl_verifies(data, sandbox.pay_public_key, tmp_path)
        forged = {**data, "extPackage": "prepay_id=other"}
        assert not openssl_verifies(forged, sandbox.pay_public_key, tmp_path)


async def test_pay_without_an_app_id(merchant) -> None:
    """Without an appId the platform's own mini program is meant."""
    reply = await merchant.pay("p1", await token_of(merchant, "A1"), appId="")
    assert reply["data"]["appId"].startswith("wx")


async def test_second_prepay(merchant, sandbox) -> None:
    """While the order awaits payment a new requestId gets a new prepay, and one charge remains."""
    token = await token_of(merchant, "A1", product="65")
    first = await merchant.pay("p1", token)
    second = await merchant.pay("p2", token)
    sandbox.confirm("A1")
    assert first["data"]["prepayId"] != second["data"]["prepayId"]
    assert set(sandbox.platform.prepays) == {reply["data"]["prepayId"] for reply in (first, second)}
    assert len(charges(sandbox)) == 1


@pytest.mark.parametrize(
    ("act", "code"),
    [("confirm", Code.ORDER_PAID), ("cancel", Code.ORDER_ENDED), ("expire", Code.ORDER_ENDED)],
)
async def test_no_prepay_for_an_ended_order(merchant, sandbox, act, code) -> None:
    """An order that is paid, failed or closed gets no prepay."""
    token = await token_of(merchant, "A1")
    getattr(sandbox, act)("A1")
    reply = await merchant.pay("p1", token)
    assert reply["errorCode"] == code
    assert sandbox.platform.executed("p1") == ()


async def test_unknown_pay_token(merchant) -> None:
    """A payToken that was never given is refused."""
    reply = await merchant.pay("p1", "guess")
    assert reply["errorCode"] == Code.UNKNOWN_PURCHASE


async def test_pay_needs_an_openid(merchant) -> None:
    """Without the payer's openid there is no prepay."""
    reply = await merchant.pay("p1", await token_of(merchant, "A1"), terminalPayerId="")
    assert reply["errorCode"] == "CO_MSG_000001"
    assert "terminalPayerId" in reply["errorMsg"]


async def test_prepay_lives_20_minutes(merchant, sandbox, clock) -> None:
    """After 20 minutes the payer holds nothing to confirm with, until a new prepay is given."""
    token = await token_of(merchant, "A1", timeoutExpress="1d")
    clock.move(1200)
    with pytest.raises(PrepayExpiredError):
        sandbox.confirm("A1")
    assert charges(sandbox) == []
    reply = await merchant.pay("p1", token)
    assert sandbox.platform.prepays[reply["data"]["prepayId"]].expires_at == clock() + 1200
    clock.move(1199.9)
    sandbox.confirm("A1")
    assert await merchant.status("A1") == "支付成功"


# requestId


async def test_request_id_is_used_once_across_endpoints(merchant, sandbox) -> None:
    """A requestId that was executed is refused everywhere, whatever comes with it."""
    token = await token_of(merchant, "A1")
    sandbox.confirm("A1")
    replies = [
        await merchant.trade("A1"),
        await merchant.trade("A2", requestId="r-A1"),
        await merchant.pay("r-A1", token),
        await merchant.refund("B1", "A1", "1.00", requestId="r-A1"),
    ]
    assert [reply["errorCode"] for reply in replies] == ["GM_API_BUS_0000015"] * 4
    assert [entry.kind for entry in sandbox.platform.executed("r-A1")] == ["trade"]


async def test_refused_request_id_may_be_used_again(merchant, sandbox) -> None:
    """A request that was malformed or refused was not executed, and does not use up its id."""
    token = await token_of(merchant, "A1")
    await merchant.pay("p1", token, terminalPayerId="")
    await merchant.pay("p1", "guess")
    reply = await merchant.pay("p1", token)
    assert reply["success"] is True
    assert len(sandbox.platform.executed("p1")) == 1


async def test_one_of_many_wins(merchant, sandbox) -> None:
    """Of many calls at once with one requestId exactly one is executed."""
    token = await token_of(merchant, "A1")
    replies = await asyncio.gather(*(merchant.pay("p1", token) for _ in range(20)))
    codes = sorted(reply["errorCode"] for reply in replies)
    assert codes == ["", *["GM_API_BUS_0000015"] * 19]
    assert len(sandbox.platform.executed("p1")) == 1


@pytest.mark.parametrize(
    "path", ["/api/instant/trade", "/api/instant/pay/wxminiprogram", "/api/instant/refund"]
)
async def test_empty_request_id(merchant, path) -> None:
    """A requestId that is absent or empty is GM_API_BUS_000005, before anything else is missed."""
    replies = [await merchant.biz(path, {}), await merchant.biz(path, {"requestId": ""})]
    assert [reply["errorCode"] for reply in replies] == ["GM_API_BUS_000005"] * 2


@pytest.mark.parametrize(
    "path", ["/api/instant/trade", "/api/instant/pay/wxminiprogram", "/api/instant/refund"]
)
async def test_biz_content_is_required(merchant, path) -> None:
    """Without bizContent a call is malformed."""
    reply = await merchant.call(path)
    assert reply["errorCode"] == "CO_MSG_000001"
    assert "bizContent" in reply["errorMsg"]


# The payer


async def test_confirming_twice_charges_once(merchant, sandbox) -> None:
    """The second confirmation changes nothing."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    sandbox.confirm("A1")
    assert [(entry.out_trade_nos, entry.amount) for entry in charges(sandbox)] == [
        (("A1",), Decimal("33.69"))
    ]


@pytest.mark.parametrize(("act", "status"), [("cancel", "支付失败"), ("expire", "已关闭")])
async def test_an_ended_order_is_never_charged(merchant, sandbox, act, status) -> None:
    """What the payer declined, or let expire, cannot be confirmed any more."""
    await merchant.trade("A1")
    getattr(sandbox, act)("A1")
    sandbox.confirm("A1")
    assert await merchant.status("A1") == status
    assert charges(sandbox) == []


@pytest.mark.parametrize("act", ["confirm", "cancel", "expire"])
def test_payer_of_nothing(sandbox, act) -> None:
    """Acting on an order that does not exist is a mistake of the test, and raised."""
    with pytest.raises(InvalidRequestError, match="outTradeNo"):
        getattr(sandbox, act)("nothing")


# Query


async def test_query(merchant, sandbox) -> None:
    """A query by either number reports the order with every documented field."""
    await merchant.trade("A1")
    by_ours = await merchant.query("A1")
    by_theirs = await merchant.call(
        "/api/instant/query", tradeNo=sandbox.platform.trades["A1"].trade_no
    )
    assert by_ours["data"] == by_theirs["data"]
    assert by_ours["data"] == {
        "outTradeNo": "A1",
        "tradeNo": sandbox.platform.trades["A1"].trade_no,
        "subject": "商品的标题",
        "price": "11.23",
        "quantity": "3",
        "totalAmount": "33.69",
        "payeeIdentity": "1000",
        "payeeName": "商户 1000",
        "partnerFee": "0.00",
        "payeeFee": "0.00",
        "payerFee": "0.00",
        "status": "待付款",
        "royaltyInfo": [{"payeeMemberId": "1001", "payeeName": "商户 1001", "amount": "1.00"}],
    }


@pytest.mark.parametrize("params", [{"outTradeNo": "x"}, {"tradeNo": "x"}])
async def test_query_of_nothing(merchant, params) -> None:
    """An unknown number is a business refusal."""
    reply = await merchant.call("/api/instant/query", **params)
    assert reply["errorCode"] == Code.UNKNOWN_ORDER
    assert reply["data"] is None


@pytest.mark.parametrize("params", [{}, {"outTradeNo": "A1", "tradeNo": "1"}, {"outTradeNo": ""}])
async def test_query_takes_one_number(merchant, params) -> None:
    """Both numbers, or none, is malformed."""
    reply = await merchant.call("/api/instant/query", **params)
    assert reply["errorCode"] == "CO_MSG_000001"


# Refund


async def test_refund(merchant, sandbox) -> None:
    """A paid order is refunded in parts, up to what was paid."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    first = await merchant.refund("B1", "A1", "33.00")
    too_much = await merchant.refund("B2", "A1", "0.70")
    rest = await merchant.refund("B2", "A1", "0.69")
    nothing_left = await merchant.refund("B3", "A1", "0.01")
    assert first["data"] == {
        "requestId": "q-B1",
        "outTradeNo": "B1",
        "tradeNo": sandbox.platform.refunds["B1"].trade_no,
        "status": "S",
    }
    assert rest["success"] is True
    assert [too_much["errorCode"], nothing_left["errorCode"]] == [Code.REFUND_TOO_HIGH] * 2
    assert await merchant.status("A1") == "支付成功"
    refunds = [entry for entry in sandbox.platform.ledger if entry.kind == "refund"]
    assert [(entry.request_id, entry.amount) for entry in refunds] == [
        ("q-B1", Decimal("33.00")),
        ("q-B2", Decimal("0.69")),
    ]


@pytest.mark.parametrize("act", [None, "cancel", "expire"])
async def test_only_what_is_paid_is_refunded(merchant, sandbox, act) -> None:
    """An order that awaits payment, failed or closed has nothing to give back."""
    await merchant.trade("A1")
    if act:
        getattr(sandbox, act)("A1")
    reply = await merchant.refund("B1", "A1", "0.01")
    assert reply["errorCode"] == Code.ORDER_UNPAID


async def test_refund_of_nothing(merchant) -> None:
    """A refund of an unknown order is refused."""
    reply = await merchant.refund("B1", "A1", "0.01")
    assert reply["errorCode"] == Code.UNKNOWN_ORDER


async def test_refund_number_is_used_once(merchant, sandbox) -> None:
    """A refund's number is neither an order's nor another refund's."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await merchant.refund("B1", "A1", "0.01")
    replies = [
        await merchant.refund("B1", "A1", "0.01", requestId="other"),
        await merchant.refund("A1", "A1", "0.01"),
        await merchant.trade("B1"),
    ]
    assert [reply["errorCode"] for reply in replies] == [Code.ORDER_REPEATED] * 3
    assert sandbox.platform.trades["A1"].refunded == Decimal("0.01")


async def test_query_of_a_refund(merchant, sandbox) -> None:
    """A refund is found by its own number and by the platform's, with its own amount."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await merchant.refund("B1", "A1", "12.00")
    reply = await merchant.query("B1")
    number = sandbox.platform.refunds["B1"].trade_no
    again = await merchant.call("/api/instant/query", tradeNo=number)
    data = reply["data"]
    assert data == again["data"]
    assert (data["outTradeNo"], data["tradeNo"]) == ("B1", number)
    assert (data["status"], data["totalAmount"]) == ("退款成功", "12.00")
    assert sandbox.platform.refunds["B1"].amount == Decimal("12.00")
    assert (data["price"], data["quantity"], data["royaltyInfo"]) == ("12.00", "1", [])


# Sub-merchants


async def test_first_page_of_merchants(merchant) -> None:
    """Ten sub-merchants come from the first page unless something else is asked for."""
    data = (await merchant.call("/api/company/merchants"))["data"]
    assert (data["total"], data["totalPage"]) == (37, 4)
    assert (data["pageSize"], data["currentPage"]) == (10, 1)
    assert [row["merchantId"] for row in data["merchants"]] == [
        str(number) for number in range(1000, 1010)
    ]
    assert data["merchants"][0]["merchantName"] == "商户 1000"


@pytest.mark.parametrize(("page", "rows"), [("1", 15), ("2", 15), ("3", 7), ("4", 0)])
async def test_pages_of_merchants(merchant, page, rows) -> None:
    """Pages are full but for the last, and empty behind it."""
    reply = await merchant.call("/api/company/merchants", pageSize="15", currentPage=page)
    assert len(reply["data"]["merchants"]) == rows
    assert reply["data"]["totalPage"] == 3


async def test_merchants_of_ones_own(merchant, sandbox) -> None:
    """The list can be set."""
    sandbox.platform.merchants = [("7", "茶馆")]
    reply = await merchant.call("/api/company/merchants")
    assert reply["data"]["merchants"] == [{"merchantId": "7", "merchantName": "茶馆"}]
    assert reply["data"]["totalPage"] == 1


@pytest.mark.parametrize("name", ["pageSize", "currentPage"])
@pytest.mark.parametrize("value", ["0", "-1", "ten", "1.5", "1" * 7, "٣"])
async def test_pages_that_do_not_exist(merchant, name, value) -> None:
    """Both numbers are integers above 0."""
    reply = await merchant.call("/api/company/merchants", **{name: value})
    assert reply["errorCode"] == "CO_MSG_000001"
    assert name in reply["errorMsg"]


# Injected failures


@pytest.mark.parametrize("code", ["CO_MSG_000002", "CO_MSG_000003"])
@pytest.mark.parametrize("executed", [False, True])
async def test_failures_that_leave_doubt(merchant, sandbox, code, executed) -> None:
    """A call is answered with the error; whether it was executed only the ledger tells."""
    sandbox.platform.fail_next(code, executed=executed)
    failed = await merchant.trade("A1")
    again = await merchant.trade("A1")
    assert failed["errorCode"] == code
    assert again["errorCode"] == ("GM_API_BUS_0000015" if executed else "")
    assert len(sandbox.platform.executed("r-A1")) == 1


@pytest.mark.parametrize("code", ["CO_MSG_0000011", "GM_API_BUS_000007", "CO_MSG_NEW"])
async def test_any_code_can_be_seen(merchant, sandbox, code) -> None:
    """Codes that the sandbox has no cause for, and unknown ones, can be injected."""
    sandbox.platform.fail_next(code)
    reply = await merchant.query("A1")
    assert reply["errorCode"] == code
    assert reply["errorMsg"]


async def test_failures_queue_up(merchant, sandbox) -> None:
    """Several failures strike one call each, and a refused envelope uses none up."""
    sandbox.platform.fail_next("CO_MSG_000002")
    sandbox.platform.fail_next("CO_MSG_000003")
    path = "/api/company/merchants"
    codes = [(await merchant.call(path, sign="00"))["errorCode"]]
    codes += [(await merchant.call(path))["errorCode"] for _ in range(3)]
    assert codes == ["CO_MSG_000006", "CO_MSG_000002", "CO_MSG_000003", ""]


# Several merchants, and what a test can read


async def test_merchants_do_not_see_each_other(merchant, sandbox) -> None:
    """Numbers, requestIds and payTokens of one appKey mean nothing to another."""
    token = await token_of(merchant, "A1")
    other = sandbox.add_app("other", app_secret="other-secret")
    merchant.app_key, merchant.app_secret = other.app_key, other.app_secret
    unseen = await merchant.query("A1")
    stolen = await merchant.pay("p1", token)
    own = await merchant.trade("A1")
    sandbox.platform.confirm("A1", app_key="other")
    assert [unseen["errorCode"], stolen["errorCode"]] == [Code.UNKNOWN_ORDER, Code.UNKNOWN_PURCHASE]
    assert own["success"] is True
    assert await merchant.status("A1") == "支付成功"
    assert sandbox.platform.trades["A1"].status == "待付款"
    assert [entry.app_key for entry in sandbox.platform.executed("r-A1")] == [
        sandbox.app_key,
        "other",
    ]
    assert [entry.app_key for entry in charges(sandbox)] == ["other"]


def test_payer_of_an_unknown_app_key(sandbox) -> None:
    """An appKey that nobody registered has no orders."""
    with pytest.raises(InvalidRequestError):
        sandbox.platform.confirm("A1", app_key="nobody")


@pytest.mark.parametrize("app_key", ["", "sandbox-app-key"])
def test_app_keys_are_unique(sandbox, app_key) -> None:
    """An appKey cannot be registered twice, nor be empty."""
    with pytest.raises(InvalidRequestError, match="appKey"):
        sandbox.add_app(app_key)


def test_secrets_are_not_empty(sandbox) -> None:
    """An empty secret would let everybody sign."""
    with pytest.raises(InvalidRequestError, match="appSecret"):
        sandbox.add_app("other", app_secret="")
    assert "other" not in sandbox.platform.apps


async def test_ledger_is_in_order(merchant, sandbox, clock) -> None:
    """What was executed stands in the ledger in its order; queries and refusals do not."""
    token = await token_of(merchant, "A1")
    clock.move(1)
    await merchant.pay("p1", token)
    await merchant.query("A1")
    await merchant.pay("p1", token)
    sandbox.confirm("A1")
    await merchant.refund("B1", "A1", "1.00")
    assert [(entry.kind, entry.request_id) for entry in sandbox.platform.ledger] == [
        ("trade", "r-A1"),
        ("pay", "p1"),
        ("charge", ""),
        ("refund", "q-B1"),
    ]
    assert [entry.at - sandbox.platform.ledger[0].at for entry in sandbox.platform.ledger] == [
        0,
        1,
        1,
        1,
    ]


async def test_counters(merchant, sandbox) -> None:
    """Arrivals are counted by path, replies by code, and the last calls are kept as they came."""
    await merchant.trade("A1")
    await merchant.trade("A1")
    await merchant.query("A1")
    assert sandbox.platform.calls == {"/api/instant/trade": 2, "/api/instant/query": 1}
    assert sandbox.platform.replies == {"": 2, "GM_API_BUS_0000015": 1}
    assert b"outTradeNo=A1" in sandbox.platform.recent[-1].body


async def test_recent_calls_are_bounded(merchant, sandbox) -> None:
    """However many calls arrive, the memory of them does not grow."""
    for _ in range(300):
        await merchant.call("/api/company/merchants", sign="00")
    assert len(sandbox.platform.recent) == 256


async def test_orders_come_latest_first(merchant, sandbox) -> None:
    """Orders are listed from the latest to the first."""
    for number in ("A1", "A2", "A3"):
        await merchant.trade(number)
    assert [trade.out_trade_no for trade in sandbox.platform.orders()] == ["A3", "A2", "A1"]


async def test_tokens_are_unguessable(merchant) -> None:
    """No two payTokens are alike, and each has 128 random bits."""
    tokens = {await token_of(merchant, f"A{number}") for number in range(20)}
    assert len(tokens) == 20
    assert {len(bytes.fromhex(token)) for token in tokens} == {16}

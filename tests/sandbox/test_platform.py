"""The business of the endpoints, and the payer, over HTTP."""

import asyncio
import json
from decimal import Decimal
from pathlib import Path

import pytest

from tests.sandbox.raw_merchant import (
    MERCHANTS,
    PAY,
    QUERY,
    REFUND,
    TRADE,
    Merchant,
    make_trade_body,
    make_trade_item,
    verify_by_openssl,
)
from tests.support.clock import MovedClock
from wxpay_async.errors import InvalidRequestError, PrepayExpiredError
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.error_codes import Code
from wxpay_async.sandbox.state import LedgerEntry

JSAPI = {"appId", "timeStamp", "nonceStr", "prepayId", "extPackage", "signType", "paySign"}


def find_charges(sandbox: Sandbox) -> list[LedgerEntry]:
    """Return what the payer was charged."""
    return [entry for entry in sandbox.platform.ledger if entry.kind == "charge"]


# Trade


async def test_trade_creates_orders_that_await_payment(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """The reply has the fields that the page promises."""
    data = (await merchant.trade("A1"))["data"]
    trade = sandbox.platform.trades["A1"]
    assert set(data) == {"requestId", "payToken", "returnUrl", "tradeResList", "instAmount", *JSAPI}
    assert (data["requestId"], data["instAmount"]) == ("r-A1", "33.69")
    assert data["returnUrl"].startswith(sandbox.url)
    assert data["tradeResList"] == [{"outTradeNo": "A1", "tradeNo": trade.trade_no, "status": "P"}]
    assert trade.status == "待付款"


async def test_trade_to_scan_has_no_prepay(merchant: Merchant, sandbox: Sandbox) -> None:
    """Products that are scanned come without JSAPI fields."""
    reply = await merchant.trade("A1", product="65")
    assert not JSAPI & set(reply["data"])
    assert sandbox.platform.prepays == {}


async def test_trade_of_two_items_is_paid_by_one_confirmation(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """Each item is an order of its own."""
    items = [make_trade_item("A1"), make_trade_item("A2", "3.00")]
    reply = await merchant.trade("A1", tradeInfo=items)
    sandbox.confirm("A2")
    rows = reply["data"]["tradeResList"]
    assert [row["outTradeNo"] for row in rows] == ["A1", "A2"]
    assert len({row["tradeNo"] for row in rows}) == 2
    assert [await merchant.status(number) for number in ("A1", "A2")] == ["支付成功"] * 2
    assert [(entry.out_trade_nos, entry.amount) for entry in find_charges(sandbox)] == [
        (("A1",), Decimal("33.69")),
        (("A2",), Decimal("3.00")),
    ]


async def test_trade_with_a_used_number_is_refused(merchant: Merchant, sandbox: Sandbox) -> None:
    """A second order of the same number is refused, also inside one request."""
    await merchant.trade("A1")
    again = await merchant.trade("A1", requestId="other")
    twice = await merchant.trade("A2", tradeInfo=[make_trade_item("A2"), make_trade_item("A2")])
    assert [again["errorCode"], twice["errorCode"]] == [Code.ORDER_REPEATED] * 2
    assert list(sandbox.platform.trades) == ["A1"]


async def test_trade_closes_at_its_time_limit(merchant: Merchant, clock: MovedClock) -> None:
    """TimeoutExpress follows the sandbox's clock."""
    token = await merchant.trade_token("A1", timeoutExpress="10m")
    clock.move(599.9)
    before = await merchant.status("A1")
    clock.move(0.1)
    after = await merchant.status("A1")
    refused = await merchant.pay("p1", token)
    assert [before, after] == ["待付款", "已关闭"]
    assert refused["errorCode"] == Code.ORDER_ENDED


async def test_trade_without_a_time_limit_awaits_payment_for_ever(
    merchant: Merchant, clock: MovedClock
) -> None:
    """Without timeoutExpress an order awaits payment for ever."""
    await merchant.trade("A1", timeoutExpress="0")
    clock.move(30 * 86400)
    assert await merchant.status("A1") == "待付款"


# Pay


async def test_pay_returns_jsapi_parameters_and_charges_nothing(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """A payToken turns into the JSAPI parameters of the page."""
    token = await merchant.trade_token("A1")
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
    assert find_charges(sandbox) == []


async def test_pay_sign_verifies_by_openssl(
    merchant: Merchant, sandbox: Sandbox, tmp_path: Path
) -> None:
    """The paySign of pay and of trade is right, and a changed message is refused."""
    trade = await merchant.trade("A1")
    pay = await merchant.pay("p1", trade["data"]["payToken"])
    for data in (trade["data"], pay["data"]):
        signed = (data["appId"], data["timeStamp"], data["nonceStr"], data["extPackage"])
        message = "".join(f"{line}\n" for line in signed)
        sign, key = data["paySign"], sandbox.pay_public_key
        assert verify_by_openssl(message, sign, key, tmp_path)
        assert not verify_by_openssl(message.replace("wx", "wy"), sign, key, tmp_path)


async def test_pay_without_an_app_id_uses_the_platforms_own(merchant: Merchant) -> None:
    """Without an appId the platform's own mini program is meant."""
    reply = await merchant.pay("p1", await merchant.trade_token("A1"), appId="")
    assert reply["data"]["appId"].startswith("wx")


async def test_pay_again_gives_a_new_prepay_and_one_charge(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """While the order awaits payment, each new requestId gets a new prepay."""
    token = await merchant.trade_token("A1", product="65")
    first = await merchant.pay("p1", token)
    second = await merchant.pay("p2", token)
    sandbox.confirm("A1")
    assert first["data"]["prepayId"] != second["data"]["prepayId"]
    assert set(sandbox.platform.prepays) == {reply["data"]["prepayId"] for reply in (first, second)}
    assert len(find_charges(sandbox)) == 1


@pytest.mark.parametrize(
    ("act", "code"),
    [("confirm", Code.ORDER_PAID), ("cancel", Code.ORDER_ENDED), ("expire", Code.ORDER_ENDED)],
)
async def test_pay_of_an_ended_order_is_refused(
    merchant: Merchant, sandbox: Sandbox, act: str, code: Code
) -> None:
    """An order that is paid, failed or closed gets no prepay."""
    token = await merchant.trade_token("A1")
    getattr(sandbox, act)("A1")
    reply = await merchant.pay("p1", token)
    assert reply["errorCode"] == code
    assert sandbox.platform.find_entries("p1") == ()


async def test_pay_with_an_unknown_token_is_refused(merchant: Merchant) -> None:
    """A payToken that does not exist is refused."""
    reply = await merchant.pay("p1", "guess")
    assert reply["errorCode"] == Code.UNKNOWN_PURCHASE


async def test_pay_without_an_openid_is_malformed(merchant: Merchant) -> None:
    """Without the payer's openid there is no prepay."""
    reply = await merchant.pay("p1", await merchant.trade_token("A1"), terminalPayerId="")
    assert reply["errorCode"] == "CO_MSG_000001"
    assert "terminalPayerId" in reply["errorMsg"]


async def test_prepay_expires_after_20_minutes(
    merchant: Merchant, sandbox: Sandbox, clock: MovedClock
) -> None:
    """After that the payer cannot confirm, until there is a new prepay."""
    token = await merchant.trade_token("A1", timeoutExpress="1d")
    clock.move(1200)
    with pytest.raises(PrepayExpiredError):
        sandbox.confirm("A1")
    assert find_charges(sandbox) == []
    reply = await merchant.pay("p1", token)
    assert sandbox.platform.prepays[reply["data"]["prepayId"]].expires_at == clock.time() + 1200
    clock.move(1199.9)
    sandbox.confirm("A1")
    assert await merchant.status("A1") == "支付成功"


# requestId


async def test_request_id_executed_is_refused_by_every_endpoint(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """A requestId that was executed is refused with any content."""
    token = await merchant.trade_token("A1")
    sandbox.confirm("A1")
    replies = [
        await merchant.trade("A1"),
        await merchant.trade("A2", requestId="r-A1"),
        await merchant.pay("r-A1", token),
        await merchant.refund("B1", "A1", "1.00", requestId="r-A1"),
    ]
    assert [reply["errorCode"] for reply in replies] == ["GM_API_BUS_0000015"] * 4
    assert [entry.kind for entry in sandbox.platform.find_entries("r-A1")] == ["trade"]


async def test_request_id_refused_may_be_used_again(merchant: Merchant, sandbox: Sandbox) -> None:
    """A malformed or refused request was not executed, so its requestId is not used up."""
    token = await merchant.trade_token("A1")
    await merchant.pay("p1", token, terminalPayerId="")
    await merchant.pay("p1", "guess")
    reply = await merchant.pay("p1", token)
    assert reply["success"] is True
    assert len(sandbox.platform.find_entries("p1")) == 1


async def test_request_id_of_many_calls_at_once_is_executed_once(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """Of many calls at once with one requestId exactly one is executed."""
    token = await merchant.trade_token("A1")
    replies = await asyncio.gather(*(merchant.pay("p1", token) for _ in range(20)))
    codes = sorted(reply["errorCode"] for reply in replies)
    assert codes == ["", *["GM_API_BUS_0000015"] * 19]
    assert len(sandbox.platform.find_entries("p1")) == 1


@pytest.mark.parametrize("path", [TRADE, PAY, REFUND])
async def test_biz_content_missing_is_malformed(merchant: Merchant, path: str) -> None:
    """Without bizContent a call is malformed."""
    reply = await merchant.call(path)
    assert reply["errorCode"] == "CO_MSG_000001"
    assert "bizContent" in reply["errorMsg"]


async def test_copy_of_an_executed_request_is_a_repetition(merchant: Merchant) -> None:
    """It is not called malformed: that would mean that it was not executed."""
    params = merchant.sign(bizContent=json.dumps(make_trade_body("A1")))
    first = await merchant.send(TRADE, params)
    copy = await merchant.send(TRADE, params)
    assert first["success"] is True
    assert copy["errorCode"] == "GM_API_BUS_0000015"


@pytest.mark.parametrize(
    "content", ["", "no JSON", "[]", '{"requestId": []}', '{"requestId": "B"}']
)
async def test_copy_of_a_refused_request_is_malformed(merchant: Merchant, content: str) -> None:
    """The refusal of a used nonce names the nonce, with any content."""
    params = merchant.sign(bizContent=content)
    await merchant.send(TRADE, params)
    copy = await merchant.send(TRADE, params)
    assert copy["errorCode"] == "CO_MSG_000001"
    assert "nonce" in copy["errorMsg"]


# The payer


async def test_confirm_twice_charges_once(merchant: Merchant, sandbox: Sandbox) -> None:
    """The second confirmation changes nothing."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    sandbox.confirm("A1")
    assert [(entry.out_trade_nos, entry.amount) for entry in find_charges(sandbox)] == [
        (("A1",), Decimal("33.69"))
    ]


@pytest.mark.parametrize(("act", "status"), [("cancel", "支付失败"), ("expire", "已关闭")])
async def test_confirm_of_an_ended_order_charges_nothing(
    merchant: Merchant, sandbox: Sandbox, act: str, status: str
) -> None:
    """An order that was cancelled or has expired cannot be confirmed."""
    await merchant.trade("A1")
    getattr(sandbox, act)("A1")
    sandbox.confirm("A1")
    assert await merchant.status("A1") == status
    assert find_charges(sandbox) == []


@pytest.mark.parametrize("act", ["confirm", "cancel", "expire"])
def test_payer_of_an_unknown_order_raises(sandbox: Sandbox, act: str) -> None:
    """An order that does not exist is a mistake of the test, and raises."""
    with pytest.raises(InvalidRequestError, match="outTradeNo"):
        getattr(sandbox, act)("nothing")


# Refund


async def test_refund_in_parts_ends_at_the_payment(merchant: Merchant, sandbox: Sandbox) -> None:
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
async def test_refund_of_an_unpaid_order_is_refused(
    merchant: Merchant, sandbox: Sandbox, act: str | None
) -> None:
    """An order that awaits payment, failed or closed has nothing to give back."""
    await merchant.trade("A1")
    if act:
        getattr(sandbox, act)("A1")
    reply = await merchant.refund("B1", "A1", "0.01")
    assert reply["errorCode"] == Code.ORDER_UNPAID


async def test_refund_of_an_unknown_order_is_refused(merchant: Merchant) -> None:
    """A refund of an unknown order is refused."""
    reply = await merchant.refund("B1", "A1", "0.01")
    assert reply["errorCode"] == Code.UNKNOWN_ORDER


async def test_refund_with_a_used_number_is_refused(merchant: Merchant, sandbox: Sandbox) -> None:
    """A refund's number must differ from those of orders and other refunds."""
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


# Injected errors


@pytest.mark.parametrize("code", ["CO_MSG_000002", "CO_MSG_000003"])
@pytest.mark.parametrize("executed", [False, True])
async def test_error_injected_leaves_execution_open(
    merchant: Merchant, sandbox: Sandbox, code: str, *, executed: bool
) -> None:
    """A call gets the error; only the ledger shows whether it was executed."""
    sandbox.platform.fail_next(code, executed=executed)
    failed = await merchant.trade("A1")
    again = await merchant.trade("A1")
    assert failed["errorCode"] == code
    assert again["errorCode"] == ("GM_API_BUS_0000015" if executed else "")
    assert len(sandbox.platform.find_entries("r-A1")) == 1


@pytest.mark.parametrize("code", ["CO_MSG_0000011", "GM_API_BUS_000007", "CO_MSG_NEW"])
async def test_error_injected_can_have_any_code(
    merchant: Merchant, sandbox: Sandbox, code: str
) -> None:
    """Codes for which the sandbox has no cause, and unknown ones, can be injected."""
    sandbox.platform.fail_next(code)
    reply = await merchant.query("A1")
    assert reply["errorCode"] == code
    assert reply["errorMsg"]


async def test_errors_injected_apply_to_one_call_each(merchant: Merchant, sandbox: Sandbox) -> None:
    """Several errors queue up, and a call with a wrong envelope uses up none."""
    sandbox.platform.fail_next("CO_MSG_000002")
    sandbox.platform.fail_next("CO_MSG_000003")
    codes = [(await merchant.call(MERCHANTS, sign="00"))["errorCode"]]
    codes += [(await merchant.call(MERCHANTS))["errorCode"] for _ in range(3)]
    assert codes == ["CO_MSG_000006", "CO_MSG_000002", "CO_MSG_000003", ""]


# Several merchants, and what a test can read


async def test_merchants_do_not_see_each_other(merchant: Merchant, sandbox: Sandbox) -> None:
    """Numbers, requestIds and payTokens of one appKey mean nothing to another."""
    token = await merchant.trade_token("A1")
    merchant.switch_to(sandbox.add_app("other"))
    unseen = await merchant.query("A1")
    stolen = await merchant.pay("p1", token)
    own = await merchant.trade("A1")
    sandbox.platform.confirm("A1", app_key="other")
    assert [unseen["errorCode"], stolen["errorCode"]] == [Code.UNKNOWN_ORDER, Code.UNKNOWN_PURCHASE]
    assert own["success"] is True
    assert await merchant.status("A1") == "支付成功"
    assert sandbox.platform.trades["A1"].status == "待付款"
    entries = sandbox.platform.find_entries("r-A1")
    assert [entry.app_key for entry in entries] == [sandbox.app_key, "other"]
    assert [entry.app_key for entry in find_charges(sandbox)] == ["other"]


def test_payer_of_an_unknown_app_key_raises(sandbox: Sandbox) -> None:
    """An unknown appKey has no orders."""
    with pytest.raises(InvalidRequestError):
        sandbox.platform.confirm("A1", app_key="nobody")


@pytest.mark.parametrize("app_key", ["", "sandbox-app-key"])
def test_app_key_taken_or_empty_is_refused(sandbox: Sandbox, app_key: str) -> None:
    """An appKey cannot be registered twice, nor be empty."""
    with pytest.raises(InvalidRequestError, match="appKey"):
        sandbox.add_app(app_key)


def test_app_secret_empty_is_refused(sandbox: Sandbox) -> None:
    """With an empty secret every caller could sign."""
    with pytest.raises(InvalidRequestError, match="appSecret"):
        sandbox.add_app("other", app_secret="")
    assert "other" not in sandbox.platform.apps


async def test_ledger_lists_executed_requests_in_order(
    merchant: Merchant, sandbox: Sandbox, clock: MovedClock
) -> None:
    """Queries and refusals are not in the ledger."""
    token = await merchant.trade_token("A1")
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
    start = sandbox.platform.ledger[0].at
    assert [entry.at - start for entry in sandbox.platform.ledger] == [0, 1, 1, 1]


async def test_counters_count_calls_by_path_and_replies_by_code(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """The last calls are kept as they came."""
    await merchant.trade("A1")
    await merchant.trade("A1")
    await merchant.query("A1")
    assert sandbox.platform.calls == {TRADE: 2, QUERY: 1}
    assert sandbox.platform.replies == {"": 2, "GM_API_BUS_0000015": 1}
    assert b"outTradeNo=A1" in sandbox.platform.recent[-1].body


async def test_recent_calls_are_bounded(merchant: Merchant, sandbox: Sandbox) -> None:
    """However many calls arrive, the memory of them does not grow."""
    for _ in range(300):
        await merchant.call(MERCHANTS, sign="00")
    assert len(sandbox.platform.recent) == 256


async def test_orders_are_listed_from_the_latest_to_the_first(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """Orders are listed from the latest to the first."""
    for number in ("A1", "A2", "A3"):
        await merchant.trade(number)
    assert [trade.out_trade_no for trade in sandbox.platform.iter_orders()] == ["A3", "A2", "A1"]

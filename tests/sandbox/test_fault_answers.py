"""Faults inside of the platform, as a raw HTTP client sees them."""

import pytest

from tests.sandbox.raw_merchant import MERCHANTS, QUERY, Merchant
from wxpay_async.sandbox import Fault, Sandbox
from wxpay_async.sandbox.error_codes import Code


async def test_wrong_echo_changes_what_names_the_request(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """A trade's requestId, a query's number; a list has neither."""
    sandbox.faults.inject(Fault.wrong_echo(times=3))
    trade, query = await merchant.trade("A1"), await merchant.query("A1")
    page = await merchant.call(MERCHANTS)
    assert (trade["data"]["requestId"], query["data"]["outTradeNo"]) == ("another", "another")
    assert page["data"]["total"] == 37


async def test_other_reply_is_a_former_one_else_made_up(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """The first trade of all gets a made-up reply, the third that of the second."""
    sandbox.faults.inject(Fault.other_reply(operation="trade"))
    first, second = await merchant.trade("A1"), await merchant.trade("A2")
    sandbox.faults.inject(Fault.other_reply(operation="trade"))
    third = await merchant.trade("A3")
    assert first["data"]["requestId"] == first["data"]["payToken"] == "another"
    assert third["data"] == second["data"]
    assert list(sandbox.platform.trades) == ["A1", "A2", "A3"]


async def test_unknown_fields_are_outside_and_inside_of_data(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """Nothing that is documented is missing."""
    sandbox.faults.inject(Fault.unknown_fields())
    reply = await merchant.trade("A1")
    assert {"success", "errorCode", "errorMsg", "data", "traceId"} <= set(reply)
    assert {"requestId", "payToken", "extInfo"} <= set(reply["data"])


async def test_unknown_status_is_any_text(merchant: Merchant, sandbox: Sandbox) -> None:
    """In a query, and in a refund, which is executed nevertheless."""
    sandbox.faults.inject(Fault.unknown_status(operation="query"))
    sandbox.faults.inject(Fault.unknown_status(operation="refund", text="W"))
    await merchant.complete("A1")
    refunded = await merchant.refund("B1", "A1", "1.00")
    assert refunded["data"]["status"] == "W"
    assert [await merchant.status("B1"), await merchant.status("B1")] == ["风控审核中", "退款成功"]


async def test_query_lags_one_change_behind(merchant: Merchant, sandbox: Sandbox) -> None:
    """A new order and a new refund are not there yet; a paid order awaits payment."""
    await merchant.trade("A1")
    sandbox.faults.inject(Fault.query_lags())
    absent = await merchant.query("A1")
    sandbox.confirm("A1")
    await merchant.refund("B1", "A1", "1.00")
    sandbox.faults.inject(Fault.query_lags(times=2))
    statuses = [await merchant.status("A1"), (await merchant.query("B1"))["errorCode"]]
    assert absent["errorCode"] == Code.UNKNOWN_ORDER
    assert statuses == ["待付款", Code.UNKNOWN_ORDER]
    assert await merchant.status("A1") == "支付成功"


@pytest.mark.parametrize(
    ("says", "text"),
    [("awaiting", "待付款"), ("paid", "支付成功"), ("failed", "支付失败"), ("closed", "已关闭")],
)
async def test_query_lies_once(merchant: Merchant, sandbox: Sandbox, says: str, text: str) -> None:
    """It says what was ordered; the order stays as it is."""
    await merchant.trade("A1")
    sandbox.faults.inject(Fault.query_lies(says=says))
    assert [await merchant.status("A1"), await merchant.status("A1")] == [text, "待付款"]


async def test_query_lies_that_an_order_is_absent(merchant: Merchant, sandbox: Sandbox) -> None:
    """By the code and the text of an order that does not exist."""
    await merchant.trade("A1")
    truth = await merchant.query("A0")
    sandbox.faults.inject(Fault.query_lies())
    lie = await merchant.query("A1")
    assert (lie["errorCode"], lie["errorMsg"]) == (
        truth["errorCode"],
        "the order does not exist: A1",
    )


@pytest.mark.parametrize(
    ("fault", "code", "executed"),
    [
        (Fault.error(), Code.DATA_FAILED, False),
        (Fault.error(code="CO_MSG_NEW", executed=True), "CO_MSG_NEW", True),
        (Fault.unknown_code(), "CO_MSG_0000099", False),
        (Fault.expired(), Code.EXPIRED, False),
        (Fault.duplicate_request_id(), Code.REQUEST_ID_REPEATED, False),
        (Fault.duplicate_request_id(executed=True), Code.REQUEST_ID_REPEATED, True),
    ],
)
async def test_refusal_is_answered_with_its_code(
    merchant: Merchant, sandbox: Sandbox, fault: Fault, code: str, *, executed: bool
) -> None:
    """Executed or not, as it was ordered; a call of a wrong signature uses up none."""
    sandbox.faults.inject(fault)
    await merchant.call(QUERY, sign="00", outTradeNo="A1")
    reply = await merchant.trade("A1")
    assert (reply["success"], reply["errorCode"]) == (False, code)
    assert list(sandbox.platform.trades) == ["A1"] * executed


async def test_pay_token_refused_refuses_a_pay_only(merchant: Merchant, sandbox: Sandbox) -> None:
    """The trade passes, the first pay is refused, the next is not."""
    sandbox.faults.inject(Fault.pay_token_refused())
    token = await merchant.trade_token("A1")
    codes = [(await merchant.pay(name, token))["errorCode"] for name in ("p1", "p2")]
    assert codes == [Code.UNKNOWN_PURCHASE, ""]

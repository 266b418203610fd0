"""The data of queries and lists, over HTTP."""

from decimal import Decimal

import pytest

from tests.sandbox.raw_merchant import MERCHANTS, QUERY, Merchant
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.error_codes import Code

# Query


async def test_query_by_either_number_has_every_documented_field(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """A query by md5_or_rsa_merchant number reports the order with every documented field."""
    await merchant.trade("A1")
    by_ours = await merchant.query("A1")
    by_theirs = await merchant.call(QUERY, tradeNo=sandbox.platform.trades["A1"].trade_no)
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
async def test_query_of_an_unknown_number_is_refused(
    merchant: Merchant, params: dict[str, str]
) -> None:
    """An unknown number is a business refusal."""
    reply = await merchant.call(QUERY, **params)
    assert reply["errorCode"] == Code.UNKNOWN_ORDER
    assert reply["data"] is None


@pytest.mark.parametrize("params", [{}, {"outTradeNo": "A1", "tradeNo": "1"}, {"outTradeNo": ""}])
async def test_query_of_both_numbers_or_none_is_malformed(
    merchant: Merchant, params: dict[str, str]
) -> None:
    """Both numbers, or none, is malformed."""
    reply = await merchant.call(QUERY, **params)
    assert reply["errorCode"] == "CO_MSG_000001"


async def test_query_of_a_refund_has_its_own_amount(merchant: Merchant, sandbox: Sandbox) -> None:
    """A refund is found by its own number and by the platform's."""
    await merchant.trade("A1")
    sandbox.confirm("A1")
    await merchant.refund("B1", "A1", "12.00")
    reply = await merchant.query("B1")
    number = sandbox.platform.refunds["B1"].trade_no
    again = await merchant.call(QUERY, tradeNo=number)
    data = reply["data"]
    assert data == again["data"]
    assert (data["outTradeNo"], data["tradeNo"]) == ("B1", number)
    assert (data["status"], data["totalAmount"]) == ("退款成功", "12.00")
    assert sandbox.platform.refunds["B1"].amount == Decimal("12.00")
    assert (data["price"], data["quantity"], data["royaltyInfo"]) == ("12.00", "1", [])


# Sub-merchants


async def test_merchants_without_parameters_are_the_first_page(merchant: Merchant) -> None:
    """The first page has ten sub-merchants."""
    data = (await merchant.call(MERCHANTS))["data"]
    assert (data["total"], data["totalPage"]) == (37, 4)
    assert (data["pageSize"], data["currentPage"]) == (10, 1)
    assert [row["merchantId"] for row in data["merchants"]] == [
        str(number) for number in range(1000, 1010)
    ]
    assert data["merchants"][0]["merchantName"] == "商户 1000"


@pytest.mark.parametrize(("page", "rows"), [("1", 15), ("2", 15), ("3", 7), ("4", 0)])
async def test_merchants_last_page_is_shorter_and_then_empty(
    merchant: Merchant, page: str, rows: int
) -> None:
    """Every page but the last is full; pages after it are empty."""
    reply = await merchant.call(MERCHANTS, pageSize="15", currentPage=page)
    assert len(reply["data"]["merchants"]) == rows
    assert reply["data"]["totalPage"] == 3


async def test_merchants_can_be_set(merchant: Merchant, sandbox: Sandbox) -> None:
    """The list can be set."""
    sandbox.platform.merchants = [("7", "茶馆")]
    reply = await merchant.call(MERCHANTS)
    assert reply["data"]["merchants"] == [{"merchantId": "7", "merchantName": "茶馆"}]
    assert reply["data"]["totalPage"] == 1


@pytest.mark.parametrize("name", ["pageSize", "currentPage"])
@pytest.mark.parametrize("value", ["0", "-1", "ten", "1.5", "1" * 7, "٣"])
async def test_merchants_page_that_is_no_integer_above_0_is_malformed(
    merchant: Merchant, name: str, value: str
) -> None:
    """Both numbers are integers above 0."""
    reply = await merchant.call(MERCHANTS, **{name: value})
    assert reply["errorCode"] == "CO_MSG_000001"
    assert name in reply["errorMsg"]

"""The content of each bizContent, field by field, by the platform's tables."""

import json
from collections.abc import Callable

import pytest

from tests.sandbox.raw_merchant import make_trade_body
from wxpay_async.sandbox.error_codes import RefusalError
from wxpay_async.sandbox.request_parsing import read_pay, read_refund, read_trade

MISSING = object()
PAY = {
    "requestId": "r1",
    "payToken": "token",
    "terminalPayerId": "openid",
    "targetOrganization": "WECHAT",
}
REFUND = {
    "requestId": "r1",
    "outTradeNo": "B1",
    "origOutTradeNo": "A1",
    "refundAmount": "1.00",
}


def change_field(body: object, path: str, value: object) -> str:
    """Copy a body with one field set, or taken away."""
    copy = json.loads(json.dumps(body))
    *way, last = path.split("/")
    at = copy
    for step in way:
        at = at[int(step)] if isinstance(at, list) else at[step]
    if value is MISSING:
        del at[last]
    else:
        at[last] = value
    return json.dumps(copy)


def read_refused(read: Callable[[str], object], content: str) -> tuple[str, str]:
    """Read content that must be refused; return the code and the message."""
    with pytest.raises(RefusalError) as refused:
        read(content)
    return refused.value.code, refused.value.message


TRADE_FIELDS = [
    "payerIp",
    "bizProductCode",
    "cashierType",
    "terminalInfo",
    "terminalInfo/terminal_type",
    "payMethod",
    "payMethod/amount",
    "payMethod/payProductCode",
    "payMethod/targetOrganization",
    "payMethod/openId",
    "tradeInfo",
    "tradeInfo/0/outTradeNo",
    "tradeInfo/0/subject",
    "tradeInfo/0/price",
    "tradeInfo/0/quantity",
    "tradeInfo/0/totalAmount",
    "tradeInfo/0/payeeIdentity",
    "tradeInfo/0/royaltyInfo/0/payeeMemberId",
    "tradeInfo/0/royaltyInfo/0/amount",
]


@pytest.mark.parametrize("path", TRADE_FIELDS)
@pytest.mark.parametrize("value", [MISSING, None, "", 5], ids=["absent", "null", "empty", "number"])
def test_trade_without_a_required_field_is_malformed(path: str, value: object) -> None:
    """Every required field of an instant trade is checked, and the refusal names it."""
    code, message = read_refused(read_trade, change_field(make_trade_body("A1"), path, value))
    assert code == "CO_MSG_000001"
    assert path.rsplit("/", maxsplit=1)[-1] in message


@pytest.mark.parametrize(
    ("read", "body", "name"),
    [(read_pay, PAY, name) for name in PAY if name != "requestId"]
    + [(read_refund, REFUND, name) for name in REFUND if name != "requestId"],
)
@pytest.mark.parametrize("value", [MISSING, None, "", 5], ids=["absent", "null", "empty", "number"])
def test_pay_or_refund_without_a_required_field_is_malformed(
    read: Callable[[str], object], body: dict[str, str], name: str, value: object
) -> None:
    """Every required field of a pay and a refund is checked, and the refusal names it."""
    code, message = read_refused(read, change_field(body, name, value))
    assert code == "CO_MSG_000001"
    assert name in message


@pytest.mark.parametrize("value", [MISSING, None, ""], ids=["absent", "null", "empty"])
@pytest.mark.parametrize(
    ("read", "body"),
    [(read_trade, make_trade_body("A1")), (read_pay, PAY), (read_refund, REFUND)],
    ids=["trade", "pay", "refund"],
)
def test_request_id_empty_has_its_own_code(
    read: Callable[[str], object], body: dict[str, object], value: object
) -> None:
    """A missing or empty requestId is GM_API_BUS_000005, before other missing fields."""
    for content in (change_field(body, "requestId", value), "{}"):
        assert read_refused(read, content)[0] == "GM_API_BUS_000005"


def test_request_id_over_32_characters_is_malformed() -> None:
    """A requestId has at most 32 characters."""
    assert read_pay(change_field(PAY, "requestId", "r" * 32)).request_id == "r" * 32
    assert read_refused(read_pay, change_field(PAY, "requestId", "r" * 33))[0] == "CO_MSG_000001"
    assert read_refused(read_pay, change_field(PAY, "requestId", 7))[0] == "CO_MSG_000001"


@pytest.mark.parametrize(
    ("path", "value"),
    [
        ("bizProductCode", "20702"),
        ("cashierType", "WEB"),
        ("terminalInfo/terminal_type", "05"),
        ("terminalInfo", []),
        ("payMethod", "x"),
        ("payMethod/payProductCode", "63"),
        ("payMethod/targetOrganization", "PAYPAL"),
        ("payMethod/appId", 5),
        ("tradeInfo", []),
        ("tradeInfo", "[]"),
        ("tradeInfo", ["A1"]),
        ("tradeInfo/0/currency", 156),
        ("tradeInfo/0/totalAmount", "33.70"),
        ("tradeInfo/0/royaltyInfo", {}),
        ("tradeInfo/0/royaltyInfo", [1]),
        ("tradeInfo/0/royaltyInfo", [{"payeeMemberId": "1", "amount": "0.01"}] * 11),
    ],
)
def test_trade_with_a_value_outside_its_table_is_malformed(path: str, value: object) -> None:
    """A value outside its table is malformed."""
    assert (
        read_refused(read_trade, change_field(make_trade_body("A1"), path, value))[0]
        == "CO_MSG_000001"
    )


@pytest.mark.parametrize(
    "amount",
    [
        "1",
        "1.0",
        "1.000",
        "01.00",
        "1e2",
        "0.00",
        "-1.00",
        "+1.00",
        " 1.00",
        "1,00",
        "١.00",
        "100000000000.01",
        "1000000000000.00",
        "NaN",
    ],
)
def test_amount_of_wrong_form_or_range_is_malformed(amount: str) -> None:
    """An amount is yuan with exactly two places, 0.01 to 100000000000.00."""
    code, message = read_refused(
        read_trade, change_field(make_trade_body("A1"), "payMethod/amount", amount)
    )
    assert code == "CO_MSG_000001"
    assert "amount" in message


@pytest.mark.parametrize("amount", ["0.01", "100000000000.00"])
def test_amount_at_the_end_of_the_range_is_accepted(amount: str) -> None:
    """Both ends of the range are inside."""
    assert (
        str(read_trade(change_field(make_trade_body("A1"), "payMethod/amount", amount)).amount)
        == amount
    )


@pytest.mark.parametrize("quantity", ["0", "-1", "1.0", "03", "three", "٣"])
def test_quantity_that_is_no_integer_above_0_is_malformed(quantity: str) -> None:
    """A quantity is the text of an integer above 0."""
    content = change_field(make_trade_body("A1"), "tradeInfo/0/quantity", quantity)
    assert "quantity" in read_refused(read_trade, content)[1]


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("10m", 600),
        ("90m", 5400),
        ("1h", 3600),
        ("7d", 604800),
        ("168h", 604800),
        ("0", None),
        ("", None),
        (MISSING, None),
    ],
)
def test_time_limit_is_read_to_the_second(text: object, seconds: int | None) -> None:
    """A time limit is read to the second; 0 and nothing mean none."""
    assert (
        read_trade(change_field(make_trade_body("A1"), "timeoutExpress", text)).timeout == seconds
    )


@pytest.mark.parametrize("text", ["9m", "8d", "169h", "0m", "1w", "m", "10", "-1h", "1.5h", "010m"])
def test_time_limit_outside_10m_to_7d_is_malformed(text: str) -> None:
    """A time limit is 10m to 7d."""
    content = change_field(make_trade_body("A1"), "timeoutExpress", text)
    assert "timeoutExpress" in read_refused(read_trade, content)[1]


@pytest.mark.parametrize(
    ("product", "target", "jsapi"),
    [
        ("64", "WECHAT", False),
        ("65", "WECHAT", False),
        ("66", "WECHAT", True),
        ("67", "WECHAT", True),
        ("67", "UPOP", False),
    ],
)
def test_jsapi_is_products_66_and_67_with_wechat(product: str, target: str, *, jsapi: bool) -> None:
    """Only the products 66 and 67 with WECHAT pay by a prepay."""
    body = make_trade_body("A1", product=product, payMethod={"targetOrganization": target})
    assert read_trade(json.dumps(body)).jsapi is jsapi


def test_trade_to_scan_needs_no_openid() -> None:
    """A code to scan needs no openId, which the page's own sample shows."""
    content = change_field(make_trade_body("A1", product="65"), "payMethod/openId", MISSING)
    assert read_trade(content).jsapi is False


def test_trade_by_alipay_needs_a_buyer_id() -> None:
    """For ALIPAY the buyerId is required."""
    body = make_trade_body("A1", payMethod={"targetOrganization": "ALIPAY"})
    assert "buyerId" in read_refused(read_trade, json.dumps(body))[1]
    body["payMethod"]["buyerId"] = "2088"
    assert read_trade(json.dumps(body)).jsapi is False


def test_royalties_of_none_and_of_ten_are_accepted() -> None:
    """Ten royalties are allowed, and none."""
    rows = [{"payeeMemberId": "1", "amount": "0.01", "payeeIdentityType": "1"}] * 10
    full = read_trade(change_field(make_trade_body("A1"), "tradeInfo/0/royaltyInfo", rows))
    none = read_trade(change_field(make_trade_body("A1"), "tradeInfo/0/royaltyInfo", MISSING))
    assert [len(full.items[0].royalties), len(none.items[0].royalties)] == [10, 0]


def test_refund_amount_over_15_characters_is_malformed() -> None:
    """The length is checked before the form."""
    assert str(read_refund(change_field(REFUND, "refundAmount", "99999999999.99")).amount)
    code, message = read_refused(
        read_refund, change_field(REFUND, "refundAmount", "1000000000000.00")
    )
    assert code == "CO_MSG_000001"
    assert "15 characters" in message


def test_refund_with_wrong_royalties_or_currency_is_malformed() -> None:
    """A refund's royalties and currency are checked like a trade's."""
    assert (
        read_refused(read_refund, change_field(REFUND, "royaltyInfo", [{}]))[0] == "CO_MSG_000001"
    )
    assert read_refused(read_refund, change_field(REFUND, "currency", 1))[0] == "CO_MSG_000001"


def test_pay_by_another_organization_is_malformed() -> None:
    """Mini-program pay knows one organisation."""
    content = change_field(PAY, "targetOrganization", "ALIPAY")
    assert "targetOrganization" in read_refused(read_pay, content)[1]


def test_trade_with_an_unknown_field_is_accepted() -> None:
    """A field that no table knows is no mistake."""
    assert (
        read_trade(change_field(make_trade_body("A1"), "memo", {"any": [1]})).request_id == "r-A1"
    )


@pytest.mark.parametrize(
    "content",
    [
        "",
        "{",
        "[]",
        '"text"',
        "null",
        "7",
        '{"requestId": NaN}',
        '{"requestId":"1","requestId":"2"}',
        "[" * 40 + "]" * 40,
        '{"a": 123456789012345678901}',
        "{'requestId': '1'}",
    ],
)
def test_content_that_is_not_strict_json_is_malformed(content: str) -> None:
    """Content that two parsers could read differently is malformed."""
    code, message = read_refused(read_pay, content)
    assert code == "CO_MSG_000001"
    assert "bizContent" in message

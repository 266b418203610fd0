"""What a bizContent must hold: the platform's tables, field by field."""
# ruff: noqa: ANN001 - the fixtures' classes live in conftest.py, which is no module to import

import json

import pytest

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


def changed(body, path, value) -> str:
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


def code_of(read, content) -> tuple[str, str]:
    """Read what must be refused, and return the refusal."""
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
def test_required_fields_of_a_trade(make_body, path, value) -> None:
    """Every required field of an instant trade is missed, and named."""
    code, message = code_of(read_trade, changed(make_body("A1"), path, value))
    assert code == "CO_MSG_000001"
    assert path.split("/")[-1] in message


@pytest.mark.parametrize(
    ("read", "body", "name"),
    [(read_pay, PAY, name) for name in PAY if name != "requestId"]
    + [(read_refund, REFUND, name) for name in REFUND if name != "requestId"],
)
@pytest.mark.parametrize("value", [MISSING, None, "", 5], ids=["absent", "null", "empty", "number"])
def test_required_fields_of_pay_and_refund(read, body, name, value) -> None:
    """Every required field of the other two is missed, and named."""
    code, message = code_of(read, changed(body, name, value))
    assert code == "CO_MSG_000001"
    assert name in message


@pytest.mark.parametrize("value", [MISSING, None, ""], ids=["absent", "null", "empty"])
@pytest.mark.parametrize("read", [read_trade, read_pay, read_refund])
def test_request_id_has_a_code_of_its_own(make_body, read, value) -> None:
    """A requestId that is empty is GM_API_BUS_000005."""
    body = {read_trade: make_body("A1"), read_pay: PAY, read_refund: REFUND}[read]
    code, _ = code_of(read, changed(body, "requestId", value))
    assert code == "GM_API_BUS_000005"


def test_length_of_a_request_id() -> None:
    """A requestId has at most 32 characters."""
    assert read_pay(changed(PAY, "requestId", "r" * 32)).request_id == "r" * 32
    assert code_of(read_pay, changed(PAY, "requestId", "r" * 33))[0] == "CO_MSG_000001"
    assert code_of(read_pay, changed(PAY, "requestId", 7))[0] == "CO_MSG_000001"


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
def test_values_that_do_not_fit(make_body, path, value) -> None:
    """A value outside its table is malformed."""
    assert code_of(read_trade, changed(make_body("A1"), path, value))[0] == "CO_MSG_000001"


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
def test_amounts_that_do_not_fit(make_body, amount) -> None:
    """An amount is yuan with exactly two places, 0.01 to 100000000000.00."""
    code, message = code_of(read_trade, changed(make_body("A1"), "payMethod/amount", amount))
    assert code == "CO_MSG_000001"
    assert "amount" in message


@pytest.mark.parametrize("amount", ["0.01", "100000000000.00"])
def test_ends_of_the_range(make_body, amount) -> None:
    """Both ends of the range are inside."""
    assert str(read_trade(changed(make_body("A1"), "payMethod/amount", amount)).amount) == amount


@pytest.mark.parametrize("quantity", ["0", "-1", "1.0", "03", "three", "٣"])
def test_quantities_that_do_not_fit(make_body, quantity) -> None:
    """A quantity is the text of an integer above 0."""
    content = changed(make_body("A1"), "tradeInfo/0/quantity", quantity)
    assert "quantity" in code_of(read_trade, content)[1]


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
def test_time_limits(make_body, text, seconds) -> None:
    """A time limit is read to the second; 0 and nothing mean none."""
    assert read_trade(changed(make_body("A1"), "timeoutExpress", text)).timeout == seconds


@pytest.mark.parametrize("text", ["9m", "8d", "169h", "0m", "1w", "m", "10", "-1h", "1.5h", "010m"])
def test_time_limits_that_do_not_fit(make_body, text) -> None:
    """A time limit is 10m to 7d."""
    content = changed(make_body("A1"), "timeoutExpress", text)
    assert "timeoutExpress" in code_of(read_trade, content)[1]


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
def test_who_pays_inside_wechat(make_body, product, target, jsapi) -> None:
    """Only the products 66 and 67 with WECHAT pay by a prepay."""
    body = make_body("A1", product=product, payMethod={"targetOrganization": target})
    assert read_trade(json.dumps(body)).jsapi is jsapi


def test_nobody_knows_who_will_scan(make_body) -> None:
    """A code to scan needs no openId, which the page's own sample shows."""
    content = changed(make_body("A1", product="65"), "payMethod/openId", MISSING)
    assert read_trade(content).jsapi is False


def test_alipay_needs_a_buyer(make_body) -> None:
    """For ALIPAY the buyerId is required."""
    body = make_body("A1", payMethod={"targetOrganization": "ALIPAY"})
    assert "buyerId" in code_of(read_trade, json.dumps(body))[1]
    body["payMethod"]["buyerId"] = "2088"
    assert read_trade(json.dumps(body)).jsapi is False


def test_ten_royalties_fit(make_body) -> None:
    """Ten royalties are allowed, and none."""
    rows = [{"payeeMemberId": "1", "amount": "0.01", "payeeIdentityType": "1"}] * 10
    full = read_trade(changed(make_body("A1"), "tradeInfo/0/royaltyInfo", rows))
    none = read_trade(changed(make_body("A1"), "tradeInfo/0/royaltyInfo", MISSING))
    assert [len(full.items[0].royalties), len(none.items[0].royalties)] == [10, 0]


def test_length_of_a_refund_amount() -> None:
    """A refund's amount has at most 15 characters, by length before by shape."""
    assert str(read_refund(changed(REFUND, "refundAmount", "99999999999.99")).amount)
    code, message = code_of(read_refund, changed(REFUND, "refundAmount", "1000000000000.00"))
    assert code == "CO_MSG_000001"
    assert "15 characters" in message


def test_other_fields_of_a_refund() -> None:
    """A refund's royalties and currency are checked like a trade's."""
    assert code_of(read_refund, changed(REFUND, "royaltyInfo", [{}]))[0] == "CO_MSG_000001"
    assert code_of(read_refund, changed(REFUND, "currency", 1))[0] == "CO_MSG_000001"


def test_pay_is_for_wechat_only() -> None:
    """Mini-program pay knows one organisation."""
    content = changed(PAY, "targetOrganization", "ALIPAY")
    assert "targetOrganization" in code_of(read_pay, content)[1]


def test_unknown_fields_pass(make_body) -> None:
    """A field that no table knows is no mistake."""
    assert read_trade(changed(make_body("A1"), "memo", {"any": [1]})).request_id == "r-A1"


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
def test_content_that_is_no_strict_json(content) -> None:
    """What two readers could understand differently is malformed."""
    code, message = code_of(read_pay, content)
    assert code == "CO_MSG_000001"
    assert "bizContent" in message

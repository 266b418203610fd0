"""The requests: before anything is sent, they refuse what the platform's tables do not allow."""

import copy
import json
import pickle
from datetime import timedelta
from decimal import Decimal, localcontext
from ipaddress import IPv4Address, IPv6Address
from typing import Any

import attrs
import pytest
from hypothesis import example, given, settings, strategies as st

from tests.protocol.samples import (
    OPENID,
    TOKEN,
    Make,
    item,
    pay,
    pay_method,
    refund,
    royalty,
    terminal,
    trade,
)
from tests.support.examples import count_examples
from tests.support.vectors import VECTORS
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.codec import serialize, wire_fields
from wxpay_async.protocol.requests import (
    InstantTrade,
    MiniProgramPay,
    PayMethod,
    TerminalInfo,
    TradeQuery,
    check_type,
    order_number,
)

ALPHABET = "1 to 32 characters of A-Z a-z 0-9 _ -"
TEXT = "a text that is not blank"
PLAIN = "without white space, & and ="
AMOUNT = "yuan from 0.01 to 100000000000.00"


def test_sample_of_the_page_is_an_instant_trade() -> None:
    """The models give exactly the sample's JSON, plus the two fields that it lacks."""
    built = InstantTrade(
        request_id="20191017",
        biz_product_code="20701",
        pay_method=PayMethod(amount="122.89", pay_product_code="65", target_organization="WECHAT"),
        payer_ip="11.22.33.44",
        terminal_info=TerminalInfo(terminal_type="01"),
        timeout_express="30m",
        trade_info=[item(currency="", royalty_info=[royalty(payee_identity_type="1")])],
    )
    sample = json.loads((VECTORS / "seed_request.json").read_text(encoding="utf-8"))

    expected = {**sample, "requestId": "20191017", "cashierType": "API"}
    assert expected == json.loads(serialize(built))


def test_table_of_the_page_is_a_mini_program_pay() -> None:
    """Exactly the fields of the table are sent; the order's number is not."""
    expected = {
        "requestId": "r-1",
        "appId": "wx9236b1e84ffbf10a",
        "terminalPayerId": OPENID,
        "targetOrganization": "WECHAT",
        "payToken": TOKEN,
    }

    assert expected == wire_fields(pay(app_id="wx9236b1e84ffbf10a", out_trade_no="201910170001"))


def test_absent_fields_are_not_sent() -> None:
    """None and empty lists are left out, an empty currency is not."""
    assert {"requestId", "outTradeNo", "origOutTradeNo", "refundAmount"} == set(
        wire_fields(refund())
    )
    assert "royaltyInfo" not in wire_fields(item())
    assert "" == wire_fields(item(currency=""))["currency"]


@pytest.mark.parametrize(
    ("make", "name", "value", "wire", "allowed"),
    [
        (pay, "request_id", "", "requestId", ALPHABET),
        (pay, "request_id", "a" * 33, "requestId", ALPHABET),
        (trade, "request_id", "a b", "requestId", ALPHABET),
        (refund, "request_id", "订单", "requestId", ALPHABET),
        (refund, "request_id", "a" * 36, "requestId", ALPHABET),
        (item, "out_trade_no", "", "outTradeNo", PLAIN),
        (item, "out_trade_no", "a&b", "outTradeNo", PLAIN),
        (item, "out_trade_no", "a=b", "outTradeNo", PLAIN),
        (pay, "out_trade_no", "a=b", "outTradeNo", PLAIN),
        (refund, "out_trade_no", "a&b", "outTradeNo", PLAIN),
        (refund, "orig_out_trade_no", "a&b", "origOutTradeNo", PLAIN),
        (TradeQuery, "out_trade_no", "a&b", "outTradeNo", PLAIN),
        (TradeQuery, "trade_no", "a=b", "tradeNo", PLAIN),
        (item, "currency", "C\nY", "currency", TEXT),
        (item, "price", "0", "price", AMOUNT),
        (item, "price", "1e+06", "price", AMOUNT),
        (item, "total_amount", "33.691", "totalAmount", AMOUNT),
        (item, "total_amount", "33.68", "totalAmount", "33.69"),
        (item, "quantity", 4, "totalAmount", "44.92"),
        (item, "price", "100000000000", "totalAmount", AMOUNT),
        (item, "quantity", "03", "quantity", "an integer above 0"),
        (item, "quantity", 0, "quantity", "an integer above 0"),
        (royalty, "amount", "0.009", "amount", AMOUNT),
        (pay_method, "amount", "100000000000.01", "amount", AMOUNT),
        (refund, "refund_amount", "-1", "refundAmount", AMOUNT),
        (item, "royalty_info", [royalty(amount="33.70")], "royaltyInfo", "at most 33.69"),
        (item, "royalty_info", [royalty(amount="0.01")] * 11, "royaltyInfo", "at most 10"),
        (refund, "royalty_info", [royalty()] * 2, "royaltyInfo", "at most 20.00"),
        (refund, "royalty_info", [royalty(amount="0.01")] * 11, "royaltyInfo", "at most 10"),
        (pay_method, "pay_product_code", "6", "payProductCode", "2 digits"),
        (pay_method, "pay_product_code", "６５", "payProductCode", "documented: 64, 65, 66, 67"),
        (pay_method, "pay_product_code", 65, "payProductCode", "2 digits"),
        (terminal, "terminal_type", "1", "terminal_type", "00, 01, 02, 03, 04, 99"),
        (trade, "biz_product_code", "2070", "bizProductCode", "5 digits; documented: 20701"),
        (trade, "cashier_type", "api", "cashierType", "API, SDK"),
        (pay_method, "target_organization", "wechat", "targetOrganization", "WECHAT, ALIPAY, UPOP"),
        (pay, "target_organization", "ALIPAY", "targetOrganization", "WECHAT"),
        (trade, "payer_ip", "", "payerIp", "an IPv4 or IPv6 address"),
        (trade, "payer_ip", "11.22.33", "payerIp", "an IPv4 or IPv6 address"),
        (trade, "payer_ip", "11.22.33.256", "payerIp", "an IPv4 or IPv6 address"),
        (trade, "payer_ip", "fe80::1%eth0", "payerIp", "an IPv4 or IPv6 address"),
        (trade, "payer_ip", "localhost", "payerIp", "an IPv4 or IPv6 address"),
        (trade, "trade_info", [], "tradeInfo", "at least one item"),
        (trade, "trade_info", [item(), item()], "tradeInfo", "one item for each order"),
    ],
)
def test_value_beyond_a_limit_is_refused_with_the_field_and_what_is_allowed(
    make: Make, name: str, value: object, wire: str, allowed: str
) -> None:
    """The error names the platform's field and the allowed values."""
    with pytest.raises(InvalidRequestError) as caught:
        make(**{name: value})

    assert wire == caught.value.field
    assert allowed in caught.value.allowed
    assert str(caught.value).startswith(f"{wire}: ")


@pytest.mark.parametrize(
    "value", ["", "9m", "0m", "8d", "169h", "10081m", "1w", "0h", "030m", "m", "1"]
)
def test_timeout_outside_ten_minutes_to_seven_days_is_refused(value: str) -> None:
    """The unit is m, h or d, and the limits hold in each."""
    with pytest.raises(InvalidRequestError, match="10m to 7d with unit m, h or d") as caught:
        trade(timeout_express=value)

    assert "timeoutExpress" == caught.value.field


@pytest.mark.parametrize("value", ["0", "10m", "10080m", "1h", "168h", "1d", "7d", None])
def test_timeout_within_the_limits_passes(value: str | None) -> None:
    """Both ends of the range are allowed."""
    assert value == trade(timeout_express=value).timeout_express


@pytest.mark.parametrize("value", ["a", "A_b-9", "0" * 32])
def test_request_id_of_the_alphabet_passes(value: str) -> None:
    """A requestId has one to 32 characters."""
    assert value == pay(request_id=value).request_id


def test_request_id_that_is_a_dashed_uuid_is_refused_with_a_hint() -> None:
    """36 characters are nearly always a UUID in its usual form."""
    with pytest.raises(InvalidRequestError, match=r"uuid4\(\).hex does"):
        pay(request_id="123e4567-e89b-12d3-a456-426614174000")
    with pytest.raises(InvalidRequestError) as caught:
        pay(request_id="a" * 35)

    assert "uuid" not in str(caught.value)


@pytest.mark.parametrize("value", ["11.22.33.44", "::1", "2001:db8::1"])
def test_both_kinds_of_ip_address_pass(value: str) -> None:
    """IPv4 and IPv6."""
    assert value == trade(payer_ip=value).payer_ip


@pytest.mark.parametrize(
    "value",
    ["::ffff:11.22.33.44", "::FFFF:11.22.33.44", "::ffff:b16:212c", "0:0:0:0:0:ffff:11.22.33.44"],
)
def test_mapped_ip_address_is_sent_as_ipv4(value: str) -> None:
    """A server that listens on both families sees payers like that, and WeChat refuses the form."""
    request = trade(payer_ip=value)

    assert "11.22.33.44" == request.payer_ip == wire_fields(request)["payerIp"]
    assert trade(payer_ip="11.22.33.44") == request


@settings(max_examples=count_examples(quick=200, full=1000), deadline=None)
@given(st.ip_addresses(v=4))
def test_every_mapped_ip_address_is_its_ipv4(address: IPv4Address) -> None:
    """In the short form, and in the one that is written out."""
    mapped = IPv6Address(b"\x00" * 10 + b"\xff\xff" + address.packed)

    for value in (str(mapped), mapped.exploded, f"::ffff:{address}", str(address)):
        assert str(address) == trade(payer_ip=value).payer_ip


@settings(max_examples=count_examples(quick=200, full=1000), deadline=None)
@given(st.ip_addresses(v=6).filter(lambda address: address.ipv4_mapped is None))
@example(IPv6Address("64:ff9b::1.2.3.4"))
@example(IPv6Address("::1.2.3.4"))
def test_other_ipv6_address_is_sent_as_it_is_given(address: IPv6Address) -> None:
    """It is the payer's own."""
    for value in (str(address), address.exploded):
        assert value == trade(payer_ip=value).payer_ip


@pytest.mark.parametrize(
    "value",
    [
        *("::ffff:11.22.33.44%eth0", "::ffff:11.22.33.44%1", "fe80::1%1", "::ffff:11.22.33.256"),
        *(" 11.22.33.44", "11.22.33.44\u200b", "::ffff:11.22.33.44 ", "\ufeff::1", "１1.22.33.44"),
        *("11.22.33.44:80", "[::1]", "[::1]:80", "11.22.33.44, 10.0.0.1", "011.22.33.44"),
    ],
)
def test_ip_address_with_anything_around_it_is_refused(value: str) -> None:
    """A zone, a port, brackets, a list of a proxy, or blanks; and it is not repeated."""
    with pytest.raises(InvalidRequestError, match="not an IP address") as caught:
        trade(payer_ip=value)

    assert "payerIp" == caught.value.field
    assert "22.33" not in str(caught.value)


def test_ip_address_that_is_invalid_is_not_repeated_in_a_traceback() -> None:
    """It is personal data; neither the error nor its cause shows it."""
    with pytest.raises(InvalidRequestError) as caught:
        trade(payer_ip="11.22.33.444")

    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None


def test_codes_newer_than_the_documentation_pass() -> None:
    """Only the shape of a code is checked."""
    assert "68" == pay_method(pay_product_code="68", open_id=OPENID).pay_product_code
    assert "20702" == trade(biz_product_code="20702").biz_product_code
    assert "05" == terminal(terminal_type="05").terminal_type


@pytest.mark.parametrize("code", ["66", "67", "68", "00"])
def test_wechat_needs_an_openid(code: str) -> None:
    """A JSAPI order needs a payer, and a code that the page does not list may be such an order."""
    with pytest.raises(InvalidRequestError, match="required for WECHAT") as caught:
        pay_method(pay_product_code=code)

    assert "openId" == caught.value.field
    assert OPENID == pay_method(pay_product_code=code, open_id=OPENID).open_id
    assert pay_method(pay_product_code=code, target_organization="UPOP").open_id is None


@pytest.mark.parametrize("code", ["64", "65"])
def test_scanned_payment_needs_no_openid(code: str) -> None:
    """Before a scan the payer is not known, as in the page's sample."""
    assert pay_method(pay_product_code=code).open_id is None


def test_alipay_needs_a_buyer() -> None:
    """A buyerId is required for ALIPAY."""
    with pytest.raises(InvalidRequestError, match="required for ALIPAY") as caught:
        pay_method(target_organization="ALIPAY")

    assert "buyerId" == caught.value.field
    assert "2088" == pay_method(target_organization="ALIPAY", buyer_id="2088").buyer_id


def test_mini_program_pay_without_an_openid_is_refused() -> None:
    """The page's note counts, not the "optional" in its table."""
    with pytest.raises(TypeError, match="terminal_payer_id"):
        MiniProgramPay(request_id="r-1", pay_token=TOKEN)


def test_ten_royalties_that_sum_to_the_total_pass() -> None:
    """Both limits are allowed."""
    shares = [royalty(amount="3.36")] * 9 + [royalty(amount="3.45")]

    assert 10 == len(item(royalty_info=shares).royalty_info)


@pytest.mark.parametrize("precision", [3, 28])
def test_sums_do_not_depend_on_the_decimal_context(precision: int) -> None:
    """With three digits, 33.69 and 33.70 would be one amount."""
    with localcontext() as context:
        context.prec = precision
        with pytest.raises(InvalidRequestError) as total:
            item(total_amount="33.70")
        with pytest.raises(InvalidRequestError) as shares:
            item(royalty_info=[royalty(amount="33.00"), royalty(amount="0.70")])

    assert "33.69" == total.value.allowed
    assert "the royalties sum to 33.70" in str(shares.value)


def test_largest_product_is_exact() -> None:
    """The item has almost ten million million pieces at 1 fen."""
    most = item(price="0.01", quantity=9_999_999_999_999, total_amount="99999999999.99")

    assert Decimal("99999999999.99") == most.total_amount


@pytest.mark.parametrize(
    ("make", "name", "value", "wire"),
    [
        (trade, "pay_method", {"openId": OPENID}, "payMethod"),
        (trade, "terminal_info", None, "terminalInfo"),
        (trade, "trade_info", [{"openId": OPENID}], "tradeInfo"),
        (item, "royalty_info", [OPENID], "royaltyInfo"),
        (refund, "royalty_info", [OPENID], "royaltyInfo"),
    ],
)
def test_dict_instead_of_a_model_is_a_type_error(
    make: Make, name: str, value: object, wire: str
) -> None:
    """The error names the field and the right type, and does not repeat the value."""
    with pytest.raises(TypeError, match=f"^{wire}: a [A-Z][A-Za-z]+, not ") as caught:
        make(**{name: value})

    assert OPENID not in str(caught.value)


@pytest.mark.parametrize(
    ("make", "name", "value", "words"),
    [
        (trade, "trade_info", item(), "tradeInfo: a list of TradeItem, not TradeItem"),
        (trade, "trade_info", None, "tradeInfo: a list of TradeItem, not NoneType"),
        (item, "royalty_info", royalty(), "royaltyInfo: a list of Royalty, not Royalty"),
        (item, "royalty_info", None, "royaltyInfo: a list of Royalty, not NoneType"),
        (refund, "royalty_info", None, "royaltyInfo: a list of Royalty, not NoneType"),
        (pay, "extra", [("a", 1)], "extra: a mapping of names to JSON, not list"),
        (refund, "extra", [], "extra: a mapping of names to JSON, not list"),
        (trade, "extra", None, "extra: a mapping of names to JSON, not NoneType"),
    ],
)
def test_wrong_container_is_a_type_error(make: Make, name: str, value: object, words: str) -> None:
    """The error names the field and the right type."""
    with pytest.raises(TypeError, match=f"^{words}$"):
        make(**{name: value})


def test_iterator_is_accepted_as_a_list() -> None:
    """It is read once, when the request is made."""
    assert (item(),) == trade(trade_info=iter([item()])).trade_info


@pytest.mark.parametrize("numbers", [{}, {"out_trade_no": "1", "trade_no": "2"}])
def test_query_without_exactly_one_number_is_refused(numbers: dict[str, str]) -> None:
    """Both or neither is refused."""
    with pytest.raises(InvalidRequestError, match="both or neither") as caught:
        TradeQuery(**numbers)

    assert "outTradeNo" == caught.value.field


@pytest.mark.parametrize("make", [royalty, item, pay_method, terminal, trade, pay, refund])
def test_unknown_fields_reach_the_wire_as_they_were(make: Make) -> None:
    """They stand beside the known ones, and later changes of the caller's mapping do not matter."""
    inner = {"level": [1, "2", None, True]}
    given: dict[str, Any] = {"brandNew": inner}
    request: Any = make(extra=given)
    inner["level"] = []
    given["later"] = "x"

    expected = {**wire_fields(make()), "brandNew": {"level": [1, "2", None, True]}}
    assert expected == wire_fields(request)
    assert json.loads(json.dumps(expected)) == json.loads(serialize(request))


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (royalty, "payeeMemberId"),
        (item, "outTradeNo"),
        (pay_method, "openId"),
        (terminal, "terminal_type"),
        (trade, "requestId"),
        (pay, "payToken"),
        (pay, "outTradeNo"),
        (refund, "refundAmount"),
    ],
)
def test_known_names_are_refused_as_unknown_fields(make: Make, name: str) -> None:
    """A known field cannot skip its checks, and the local one cannot be sent at all."""
    with pytest.raises(InvalidRequestError, match="known field") as caught:
        make(extra={name: "1"})

    assert name == caught.value.field


def test_float_among_unknown_fields_is_a_type_error() -> None:
    """Amounts are never sent as floats, not even in unknown fields."""
    with pytest.raises(TypeError, match="fee: float is not exact JSON; write amounts as str"):
        pay(extra={"fee": 0.1})


def test_repr_of_a_request_shows_no_credentials() -> None:
    """Credentials are hidden, identifiers masked, and unknown fields shown by name only."""
    requests = (
        pay(extra={"brandNew": "canary-1"}),
        trade(
            pay_method=pay_method(
                open_id=OPENID, buyer_id="2088123412341234", extra={"other": "canary-2"}
            )
        ),
    )
    shown = repr(requests)

    for secret in (TOKEN, OPENID, "2088123412341234", "canary-1", "canary-2"):
        assert secret not in shown
    for visible in ("pay_token='***'", "'oUp…6o'", "'208…34'", "{'brandNew'}", "{'other'}"):
        assert visible in shown


@pytest.mark.parametrize("make", [royalty, item, pay_method, terminal, trade, pay, refund])
def test_requests_are_values(make: Make) -> None:
    """Equal content is equal and hashes alike; nothing can be assigned; evolving checks again."""
    one, two, other = make(), make(), make(extra={"brandNew": 1})

    assert one == two
    assert hash(one) == hash(two)
    assert one != other
    assert 2 == len({one, two, other})
    assert one == copy.deepcopy(one) == pickle.loads(pickle.dumps(one))
    assert other == copy.deepcopy(other) == pickle.loads(pickle.dumps(other))
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        one.extra = {}
    with pytest.raises(TypeError):
        attrs.evolve(one, extra={"a": 1.5})


@pytest.mark.parametrize(
    ("timeout_express", "lifetime"), [("90m", timedelta(minutes=90)), ("1d", timedelta(days=1))]
)
def test_lifetime_of_a_trade_is_what_its_timeout_says(
    timeout_express: str, lifetime: timedelta
) -> None:
    """Nothing is known of a trade that says none."""
    assert lifetime == trade(timeout_express=timeout_express).lifetime
    assert trade().lifetime is None


def test_request_of_another_type_is_refused_by_name() -> None:
    """The error says what was given, and what is wanted."""
    request = pay()

    assert request is check_type(request, MiniProgramPay)
    with pytest.raises(InvalidRequestError, match="got InstantTrade") as caught:
        check_type(trade(), MiniProgramPay)
    assert ("request", "MiniProgramPay") == (caught.value.field, caught.value.allowed)


def test_order_number_is_what_a_query_can_ask_for() -> None:
    """A trade's first order, a refund's own number, and of a payment only what the caller says."""
    trades = trade(trade_info=[item(out_trade_no="O-1"), item(out_trade_no="O-2")])

    assert "O-1" == order_number(trades)
    assert "R-1" == order_number(refund(out_trade_no="R-1"))
    assert [None, "O-1"] == [order_number(pay(out_trade_no=number)) for number in (None, "O-1")]

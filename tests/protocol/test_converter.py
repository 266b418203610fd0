"""Values survive the wire exactly, in both directions, and a value of another kind is refused."""

from __future__ import annotations

import json
import re
from decimal import Decimal

import attrs
import pytest
from hypothesis import example, given, settings, strategies as st

from tests.protocol.replies import PAID, SEED, get_error, make_reply, make_success, read_reply
from tests.support import asking
from tests.support.examples import count_examples
from wxpay_async.errors import MalformedResponseError
from wxpay_async.protocol.codec import serialize
from wxpay_async.protocol.converter import Reader, make_converter, make_reader
from wxpay_async.protocol.requests import MiniProgramPay, Refund, Royalty
from wxpay_async.protocol.results import (
    Merchant,
    MerchantPage,
    RefundResult,
    RoyaltyShare,
    TradeResult,
    TradeState,
    TradeStatus,
)
from wxpay_async.protocol.strict_json import strict_json
from wxpay_async.protocol.validators import drop_hidden
from wxpay_async.protocol.wire import HttpResponse

EXAMPLES = count_examples(quick=400, full=2000)

# From the wire

TEXTS = ("appId", "timeStamp", "nonceStr", "prepayId", "extPackage", "signType", "paySign")


def assert_refused(response: HttpResponse, problem: str = "") -> None:
    """Check that data cannot be read, and that sending again is not advised."""
    error = get_error(response, moves_money=False)

    assert (MalformedResponseError, False) == (type(error), error.retryable)
    assert "the data does not hold a PayResult: " in str(error)
    assert problem in str(error)


def test_rows_may_be_their_own_json_text() -> None:
    """The page's table says text, its sample shows a list: both are read alike."""
    as_list = read_reply(make_success())
    as_text = read_reply(make_success(tradeResList=json.dumps(PAID["tradeResList"])))

    assert as_list.trade_res_list == as_text.trade_res_list
    assert 2 == len(as_text.trade_res_list)


@pytest.mark.parametrize("absent", [None, "", [], "[]"])
def test_rows_that_are_absent_are_none(absent: object) -> None:
    """Null, empty text, an empty list, and the text of one."""
    assert () == read_reply(make_success(tradeResList=absent)).trade_res_list


def test_optional_field_that_is_absent_is_none() -> None:
    """Left out, null and empty text mean the same."""
    for data in ({"requestId": None, "instAmount": ""}, {"requestId": "", "instAmount": None}):
        result = read_reply(make_success(**data))
        assert (None, None) == (result.request_id, result.inst_amount)


def test_unknown_fields_and_statuses_are_kept() -> None:
    """What is newer than the documentation is never dropped and never fatal."""
    rows = [{"outTradeNo": "1", "tradeNo": "2", "status": "冻结", "note": "x"}]
    result = read_reply(make_success(brandNew={"a": [1]}, tradeResList=rows))

    assert "冻结" == result.trade_res_list[0].status
    assert {**PAID, "brandNew": {"a": [1]}, "tradeResList": rows} == result.raw


def test_reply_to_a_trade_is_read() -> None:
    """A payToken, a QR code's address, and no JSAPI fields."""
    data = {"requestId": "r-1", "payToken": "t-1", "returnUrl": "https://qr.example/1"}
    result = read_reply(make_reply({"success": True, "data": data}), TradeResult, moves_money=True)

    expected = TradeResult(
        request_id="r-1", pay_token="t-1", return_url="https://qr.example/1", raw=data
    )
    assert expected == result


def test_reply_to_a_query_is_read() -> None:
    """Amounts as text or as JSON numbers are exact; digits of a quantity are text."""
    body = """{"success": true, "data": {"outTradeNo": "1", "tradeNo": "2", "status": "待付款",
        "price": 11.23, "quantity": 3, "totalAmount": "33.69", "payerFee": 0, "payeeFee": "-0.5",
        "partnerFee": 0.1234,
        "royaltyInfo": [{"payeeMemberId": "1000", "payeeName": "甲", "amount": "12.45"}]}}"""
    result = read_reply(make_reply(body.encode()), TradeStatus)

    assert TradeState.AWAITING == result.state
    amounts = (result.price, result.total_amount, result.payer_fee, result.payee_fee)
    assert ("11.23", "33.69", "0", "-0.5") == tuple(map(str, amounts))
    assert ("3", Decimal("0.1234")) == (result.quantity, result.partner_fee)
    share = RoyaltyShare(payee_member_id="1000", payee_name="甲", amount=Decimal("12.45"))
    assert (share,) == result.royalty_info


def test_reply_to_a_refund_is_read() -> None:
    """S and P are results, and so is a status that is not documented."""
    for status in ("S", "P", "X"):
        data = {"outTradeNo": "1", "status": status, "requestId": "r-1"}
        result = read_reply(
            make_reply({"success": True, "data": data}), RefundResult, moves_money=True
        )
        assert (status, "r-1") == (result.status, result.request_id)


def test_page_of_merchants_is_read() -> None:
    """Counts may be numbers or digits."""
    data = {"total": 21, "totalPage": "3", "currentPage": None, "merchants": [{"merchantId": 7}]}
    result = read_reply(make_reply({"success": True, "data": data}), MerchantPage)

    assert (21, 3, None) == (result.total, result.total_page, result.current_page)
    assert (Merchant(merchant_id="7"),) == result.merchants


@pytest.mark.parametrize("total", ["many", "-1", "1.0", "１", "1" * 21, 1.5, True, []])
def test_count_is_a_number(total: object) -> None:
    """Or its digits, and not too many of them."""
    response = make_reply({"success": True, "data": {"total": total, "merchants": []}})

    assert "no integer" in str(get_error(response, MerchantPage, moves_money=False))


def test_missing_field_is_named() -> None:
    """By the platform's name, inside rows too; values are not shown."""
    rows = [{"outTradeNo": "1", "tradeNo": "2"}]
    error = get_error(make_success(tradeResList=rows), moves_money=False)

    assert "the data does not hold a PayResult: status is missing" == str(error)


@pytest.mark.parametrize("name", TEXTS)
@pytest.mark.parametrize("value", [None, 1.5, True, {}, []], ids=repr)
def test_required_text_of_another_kind_is_refused(name: str, value: object) -> None:
    """Null, or what is no text, is no value."""
    assert_refused(make_success(**{name: value}))


@pytest.mark.parametrize("name", TEXTS)
def test_required_text_that_is_left_out_is_named(name: str) -> None:
    """By the platform's name."""
    data = {key: value for key, value in PAID.items() if key != name}

    assert_refused(make_reply({"success": True, "data": data}), f": {name} is missing")


@pytest.mark.parametrize("name", ["timeStamp", "nonceStr"])
def test_required_text_may_come_as_an_integer(name: str) -> None:
    """A lenient platform may send digits as a number."""
    result = read_reply(make_success(**{name: 1573029856}))

    assert "1573029856" in {result.time_stamp, result.nonce_str}


def test_result_does_not_depend_on_the_way_it_is_read() -> None:
    """Texts are read in one look; a field that is none has all of them read one by one."""
    at_once = read_reply(make_success(requestId="r-1"))
    one_by_one = read_reply(make_success(requestId="r-1", timeStamp=int(PAID["timeStamp"])))

    assert attrs.evolve(one_by_one, raw=at_once.raw) == at_once


@pytest.mark.parametrize(
    "amount", ["0.1O", "1e2", "1E2", "+1", " 1", "1.", "١", "1.23456", True, [], "1" * 16]
)
def test_amount_of_another_form_is_refused(amount: object) -> None:
    """Digits with at most four places decide, whatever they came as."""
    assert_refused(make_success(instAmount=amount), "no amount")


def test_amount_that_would_take_for_ever_to_format_is_refused() -> None:
    """1E+99999999 is a number of JSON, and a Decimal."""
    assert_refused(make_reply(SEED.replace(b'"0.10"', b"1E+99999999")), "no amount")


@pytest.mark.parametrize(
    ("rows", "problem"),
    [
        ({}, "no list"),
        (7, "no list"),
        ("no json", ""),
        ('{"outTradeNo": "1"}', "no list"),
        ([1], "a row that is no object"),
        ([None], "a row that is no object"),
        (["text"], "a row that is no object"),
        ([[]], "a row that is no object"),
        ([{"outTradeNo": "1", "status": "P"}], "tradeNo is missing"),
        ([{"outTradeNo": "1", "tradeNo": [], "status": "P"}], "no text"),
    ],
)
def test_rows_of_another_kind_are_refused(rows: object, problem: str) -> None:
    """One bad row is enough: what is listed must be read as a whole."""
    assert_refused(make_success(tradeResList=rows), problem)


# There and back

AMOUNTS = st.decimals(min_value="0.01", max_value="100000000000.00", places=2)


@settings(max_examples=EXAMPLES, deadline=None)
@given(AMOUNTS)
@example(Decimal("0.01"))
@example(Decimal("100000000000.00"))
@example(Decimal("1E+2"))
def test_amounts_survive_the_wire_exactly(amount: Decimal) -> None:
    """Model to bizContent, bizContent to Decimal, reply to result: the same yuan each time."""
    request = Refund(
        request_id="r-1", out_trade_no="1", orig_out_trade_no="2", refund_amount=amount
    )
    sent = strict_json(serialize(request))["refundAmount"]
    as_text = read_reply(make_success(instAmount=sent)).inst_amount
    as_number = read_reply(make_reply(SEED.replace(b'"0.10"', sent.encode()))).inst_amount

    assert re.fullmatch(r"[0-9]+\.[0-9]{2}", sent)
    assert amount == Decimal(sent)
    assert (sent, sent) == (str(as_text), str(as_number))
    assert amount == as_text == as_number


@settings(max_examples=EXAMPLES, deadline=None)
@given(
    price=st.decimals(min_value="0.01", max_value="99999.99", places=2),
    quantity=st.integers(1, 10**6),
)
def test_prices_quantities_and_totals_survive_the_wire(price: Decimal, quantity: int) -> None:
    """Each order's figures come out as text with two places and multiply as they went in."""
    order = asking.item(
        price=price,
        quantity=quantity,
        total_amount=price * quantity,
        royalty_info=[Royalty(payee_member_id="1", amount=price)],
    )
    request = asking.trade(trade_info=[order], pay_method=asking.method(price * quantity))
    sent = strict_json(serialize(request))
    row = sent["tradeInfo"][0]

    assert f"{price:.2f}" == row["price"] == row["royaltyInfo"][0]["amount"]
    assert str(quantity) == row["quantity"]
    assert Decimal(row["price"]) * int(row["quantity"]) == Decimal(row["totalAmount"])
    assert row["totalAmount"] == sent["payMethod"]["amount"]


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cc", "Cs"]), min_size=1).filter(str.strip))
@example('商品 & = + % \\ " 😀 </script>')
def test_texts_survive_the_wire_exactly(subject: str) -> None:
    """UTF-8 without escapes for anything that needs none, and the same bytes every time."""
    request = MiniProgramPay(
        request_id="r-1", pay_token="t", terminal_payer_id="o", extra={"subject": subject}
    )
    sent = serialize(request)

    assert subject == json.loads(sent.decode("utf-8"))["subject"]
    assert sent == serialize(request)
    assert b"\\u" not in sent or "\\u" in subject


@settings(max_examples=EXAMPLES, deadline=None)
@given(st.text(st.characters(categories=("L", "N", "P", "S")), min_size=1).map(drop_hidden))
@example('"')
@example("\\")
@example('\\"\\\\')
def test_payment_survives_the_wire_whatever_its_texts_hold(text: str) -> None:
    """A payment has texts only and is written quickly; a quote or a backslash must not break it."""
    request = MiniProgramPay(
        request_id="r-1", pay_token=f"t{text}", terminal_payer_id="o", app_id=None
    )
    read = strict_json(serialize(request))

    assert {"payToken": f"t{text}", "terminalPayerId": "o"}.items() <= read.items()


def test_unknown_field_whose_name_holds_a_quote_survives_the_wire() -> None:
    """Names of the model need no escape, and those of the merchant's own fields may."""
    request = MiniProgramPay(
        request_id="r-1", pay_token="t", terminal_payer_id="o", extra={'a"b\\': "x"}
    )

    assert "x" == strict_json(serialize(request))['a"b\\']


@attrs.frozen(kw_only=True, slots=False)
class Checked:
    """A row with a rule of its own, of a kind that the platform may get one day."""

    out_trade_no: str
    trade_no: str = attrs.field(validator=attrs.validators.min_len(2))


@attrs.frozen(kw_only=True, slots=False)
class Counted:
    """A row that needs more than texts."""

    out_trade_no: str
    trade_no: str
    count: int


@pytest.mark.parametrize(
    ("kind", "fields", "problem"),
    [
        (Checked, {"outTradeNo": "1", "tradeNo": "2"}, "Length"),
        (Counted, {"outTradeNo": "1", "tradeNo": "2"}, "count"),
    ],
)
def test_class_with_rules_of_its_own_keeps_them(
    kind: type, fields: dict[str, str], problem: str
) -> None:
    """The quick way of reading is for classes that have none."""
    read: Reader[object] = make_reader(make_converter(), kind)
    with pytest.raises((ValueError, KeyError), match=problem):
        read(fields, {})

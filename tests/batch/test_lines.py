"""Requests of a batch from JSON Lines: what is accepted, and how a fault is named."""

import json
from decimal import Decimal
from pathlib import Path
from typing import cast

import pytest

from tests.batch.lines_files import (
    APP_KEY,
    read,
    read_fault,
    refund_fields,
    write,
    write_json,
)
from tests.protocol.samples import OPENID, TOKEN
from wxpay_async.batch.line import Line, OperationName
from wxpay_async.batch.lines import read_lines
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.idempotency_key import derive_request_id
from wxpay_async.protocol.requests import (
    InstantTrade,
    MiniProgramPay,
    PayMethod,
    Refund,
    Royalty,
    TradeItem,
    TradeQuery,
)

ITEM = {
    "outTradeNo": "T1",
    "subject": "商品",
    "price": "11.23",
    "quantity": 3,
    "totalAmount": 33.69,
    "payeeIdentity": "100",
}
TRADE = {
    "tradeInfo": [ITEM],
    "payerIp": "11.22.33.44",
    "payMethod": {"payProductCode": "66", "amount": "33.69", "openId": OPENID},
}


def refund(number: int = 1, **changes: object) -> Refund:
    """Make the refund of `refund_fields`, with changes."""
    content = {
        "request_id": f"r-{number}",
        "out_trade_no": f"R{number}",
        "orig_out_trade_no": f"O{number}",
        "refund_amount": "12.50",
    }
    return Refund(**{**content, **changes})


def test_json_lines_are_requests_with_the_numbers_of_their_lines(tmp_path: Path) -> None:
    """Blank lines are skipped, and counted."""
    path = write_json(tmp_path, refund_fields(1), "", "  ", refund_fields(2))
    expected = [Line(number=1, request=refund(1)), Line(number=4, request=refund(2))]
    assert expected == read(path)


def test_snake_case_names_mean_the_same_as_the_platforms(tmp_path: Path) -> None:
    """A Python program writes its own names."""
    row = {"request_id": "r-1", "out_trade_no": "R1", "orig_out_trade_no": "O1"}
    path = write_json(tmp_path, {**row, "refund_amount": "12.50"})
    assert [Line(number=1, request=refund())] == read(path)


def test_byte_order_mark_and_windows_line_ends_mean_nothing(tmp_path: Path) -> None:
    """As editors on Windows write a file."""
    text = "\ufeff" + "\r\n".join(json.dumps(refund_fields(n)) for n in (1, 2))
    path = write(tmp_path, text, name="refunds.jsonl")
    assert [refund(1), refund(2)] == [line.request for line in read(path)]


def test_null_and_absent_are_the_same(tmp_path: Path) -> None:
    """Programs write null for what they do not have."""
    path = write_json(tmp_path, refund_fields(currency=None, royaltyInfo=None))
    assert refund() == read(path)[0].request


@pytest.mark.parametrize("absent", [..., None, ""])
def test_absent_request_id_is_derived_from_the_orders_number(
    tmp_path: Path, absent: object
) -> None:
    """The same file gives the same requestIds in every repetition."""
    (line,) = read(write_json(tmp_path, refund_fields(requestId=absent)))
    assert derive_request_id(APP_KEY, "refund", "R1") == line.request_id
    assert "R1" == line.key


def test_given_request_id_is_the_key_of_later_generations(tmp_path: Path) -> None:
    """What the merchant gave names the purchase."""
    (line,) = read(write_json(tmp_path, refund_fields()))
    assert ("r-1", "r-1") == (line.request_id, line.key)


def test_trade_is_read_with_its_objects(tmp_path: Path) -> None:
    """Its requestId is derived from the first order's number."""
    royalty = {"payeeMemberId": "1000", "amount": 1.5}
    row = {**TRADE, "tradeInfo": [{**ITEM, "royalty_info": [royalty]}]}
    (line,) = read(write_json(tmp_path, row), "trade")
    expected = InstantTrade(
        request_id=derive_request_id(APP_KEY, "trade", "T1"),
        trade_info=[
            TradeItem(
                out_trade_no="T1",
                subject="商品",
                price="11.23",
                quantity=3,
                total_amount="33.69",
                payee_identity="100",
                royalty_info=[Royalty(payee_member_id="1000", amount="1.50")],
            )
        ],
        payer_ip="11.22.33.44",
        pay_method=PayMethod(pay_product_code="66", amount="33.69", open_id=OPENID),
    )
    assert expected == line.request
    assert "T1" == line.key


def test_pay_keeps_the_order_that_a_doubt_is_asked_by(tmp_path: Path) -> None:
    """It is never sent, but a query needs it."""
    row = {"outTradeNo": "T1", "payToken": TOKEN, "terminalPayerId": OPENID}
    (line,) = read(write_json(tmp_path, row), "pay")
    request_id = derive_request_id(APP_KEY, "pay", "T1")
    expected = MiniProgramPay(
        request_id=request_id, pay_token=TOKEN, terminal_payer_id=OPENID, out_trade_no="T1"
    )
    assert expected == line.request


def test_query_needs_no_request_id(tmp_path: Path) -> None:
    """It changes nothing, so it may be repeated as it is."""
    path = write_json(tmp_path, {"outTradeNo": "T1"}, {"trade_no": "P1"})
    queries = [TradeQuery(out_trade_no="T1"), TradeQuery(trade_no="P1")]
    assert queries == [line.request for line in read(path, "query")]


def test_lines_can_be_read_again(tmp_path: Path) -> None:
    """A batch reads its file for each of its passes."""
    lines = read_lines(write_json(tmp_path, refund_fields()), "refund")
    assert list(lines.read(APP_KEY)) == list(lines.read(APP_KEY))


@pytest.mark.parametrize(
    ("written", "amount"),
    [("12.5", "12.50"), ("12", "12.00"), ("0.01", "0.01"), ('"12.5"', "12.50")],
)
def test_amount_is_exact_as_a_text_and_as_a_number(
    tmp_path: Path, written: str, amount: str
) -> None:
    """A number keeps the digits that were written."""
    row = json.dumps(refund_fields(refundAmount="@")).replace('"@"', written)
    (line,) = read(write_json(tmp_path, row))
    assert isinstance(line.request, Refund)
    assert Decimal(amount) == line.request.refund_amount
    assert amount == str(line.request.refund_amount)


@pytest.mark.parametrize("amount", ["1e2", "1.0e1", "150E-2", "0.1e1", "1.234", "-1", "1" * 5000])
def test_amount_that_is_not_plain_yuan_is_named(tmp_path: Path, amount: str) -> None:
    """As a number and as a text; a number with an exponent may have been rounded."""
    for written in (amount, json.dumps(amount)):
        row = json.dumps(refund_fields(refundAmount="@")).replace('"@"', written)
        text = read_fault(write_json(tmp_path, refund_fields(2), row))
        assert "line 2: refundAmount: " in text
        assert "allowed: yuan from 0.01 to 100000000000.00" in text
        assert len(amount) > 16 or repr(amount) in text


@pytest.mark.parametrize("infinite", ["NaN", "Infinity", "-Infinity"])
def test_number_that_is_no_number_is_refused(tmp_path: Path, infinite: str) -> None:
    """Python's own reader would take it."""
    row = json.dumps(refund_fields(refundAmount="@")).replace('"@"', infinite)
    assert "line 1: NaN and Infinity are no JSON numbers" in read_fault(write_json(tmp_path, row))


def test_unknown_name_is_named_with_the_allowed_ones(tmp_path: Path) -> None:
    """Else a misspelt royaltyInfo would be a refund without one."""
    text = read_fault(write_json(tmp_path, refund_fields(royaltyInfos=[])))
    assert "line 1: 'royaltyInfos' is an unknown name" in text
    expected = "requestId, outTradeNo, origOutTradeNo, refundAmount, currency, royaltyInfo"
    assert text.endswith(f"allowed: {expected}")


def test_both_names_of_one_field_are_refused(tmp_path: Path) -> None:
    """Which one would count?"""
    text = read_fault(write_json(tmp_path, refund_fields(refund_amount="12.50")))
    assert "line 1: refundAmount: stands twice (refundAmount, refund_amount)" in text


def test_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    """Readers of JSON take the first or the last."""
    row = json.dumps(refund_fields())[:-1] + ', "refundAmount": "99"}'
    text = read_fault(write_json(tmp_path, row))
    assert "line 1: refundAmount stands twice in one JSON object" in text


def test_unknown_name_that_stands_twice_is_not_repeated(tmp_path: Path) -> None:
    """It may be a person's data in a wrong place."""
    text = read_fault(write_json(tmp_path, f'{{"{OPENID}": 1, "{OPENID}": 2}}'))
    assert "line 1: a name stands twice in one JSON object" in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"refundAmount": ...}, "refundAmount: missing"),
        ({"refundAmount": None}, "refundAmount: missing"),
        ({"refundAmount": True}, "refundAmount: is true or false"),
        ({"refundAmount": ["1"]}, "refundAmount: is a list"),
        ({"outTradeNo": 20191017}, "outTradeNo: is a number without quotes"),
        ({"requestId": 1}, "requestId: is a number without quotes"),
        ({"requestId": []}, "requestId: is a list"),
        ({"requestId": False}, "requestId: is true or false"),
        ({"requestId": "x" * 33}, "requestId: 33 characters do not fit"),
        ({"outTradeNo": {}}, "outTradeNo: is an object"),
        ({"outTradeNo": " 1"}, "outTradeNo: empty, or holds white space"),
        ({"outTradeNo": " 1", "requestId": ...}, "outTradeNo: empty, or holds white space"),
        ({"outTradeNo": ..., "requestId": ...}, "requestId: missing, and so is the outTradeNo"),
        ({"outTradeNo": "\ud800"}, "outTradeNo: empty, or holds white space or characters that"),
        ({"royaltyInfo": "[]"}, "royaltyInfo: is a text; allowed: a list of JSON objects"),
        ({"royaltyInfo": {}}, "royaltyInfo: is an object; allowed: a list of JSON objects"),
        ({"royaltyInfo": [1]}, "royaltyInfo[0]: is a number without quotes"),
        ({"royaltyInfo": [None]}, "royaltyInfo[0]: is null"),
        ({"royaltyInfo": [{}]}, "royaltyInfo[0].payeeMemberId: missing"),
        ({"extra": {}}, "'extra' is an unknown name"),
    ],
)
def test_fault_of_a_field_is_named(tmp_path: Path, change: dict[str, object], said: str) -> None:
    """The line, the field, what is wrong, and what is allowed."""
    text = read_fault(write_json(tmp_path, refund_fields(2), "", refund_fields(**change)))
    assert f", line 3: {said}" in text
    assert "; allowed: " in text


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"tradeInfo": []}, "requestId: missing, and so is the outTradeNo"),
        ({"tradeInfo": [], "requestId": "t-1"}, "tradeInfo: empty"),
        ({"tradeInfo": [ITEM, {**ITEM, "price": "x"}]}, "tradeInfo[1].price: 'x' is no amount"),
        ({"tradeInfo": [{**ITEM, "quantity": 1.5}]}, "tradeInfo[0].quantity: not a quantity"),
        ({"tradeInfo": [{**ITEM, "total": "1"}]}, "tradeInfo[0]: 'total' is an unknown name"),
        ({"payMethod": "66"}, "payMethod: is a text; allowed: a JSON object"),
        ({"payMethod": []}, "payMethod: is a list; allowed: a JSON object"),
        (
            {"tradeInfo": [{**ITEM, "royaltyInfo": [{"payeeMemberId": "1", "amount": "1e1"}]}]},
            "tradeInfo[0].royaltyInfo[0].amount: '1e1' is no amount",
        ),
    ],
)
def test_fault_within_a_trade_is_named_by_its_place(
    tmp_path: Path, change: dict[str, object], said: str
) -> None:
    """A trade may hold many orders."""
    text = read_fault(write_json(tmp_path, {**TRADE, **change}), "trade")
    assert f", line 1: {said}" in text


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("[1]", "a JSON list"),
        ("null", "no JSON object"),
        ('"a"', "no JSON object"),
        ("{", "no JSON ("),
        ("{}{}", "no JSON (Extra data, character 3)"),
        ("[" * 100_000, "nested too deep"),
        ('{"a":' * 200_000, "nested too deep"),  # Python 3.14 reads as deep as its stack
        ('{"outTradeNo": "\x01"}', "no JSON ("),
        ("{}", "requestId: missing, and so is the outTradeNo"),
    ],
)
def test_line_that_is_no_object_is_named(tmp_path: Path, row: str, said: str) -> None:
    """A file with one array, or an object over many lines, is not JSON Lines."""
    assert f", line 2: {said}" in read_fault(write_json(tmp_path, refund_fields(), row))


def test_error_has_the_field_for_programs(tmp_path: Path) -> None:
    """Not only in its text."""
    with pytest.raises(InvalidRequestError) as caught:
        read(write_json(tmp_path, refund_fields(refundAmount="1e2")))
    assert "refundAmount" == caught.value.field
    assert caught.value.allowed.startswith("yuan from")


def test_operation_that_does_not_exist_is_named(tmp_path: Path) -> None:
    """Before the file is looked at."""
    with pytest.raises(InvalidRequestError, match="allowed: pay, trade, refund, query"):
        read_lines(tmp_path / "absent.jsonl", cast("OperationName", "refunds"))


@pytest.mark.parametrize("name", ["refunds.jsonl", "refunds.NDJSON", "refunds.json", "refunds"])
def test_format_is_known_by_the_ending_or_the_first_character(tmp_path: Path, name: str) -> None:
    """A file without an ending that begins with a brace is JSON Lines."""
    assert refund() == read(write_json(tmp_path, "", refund_fields(), name=name))[0].request


def test_app_key_with_a_blank_is_refused_before_reading(tmp_path: Path) -> None:
    """It would derive other requestIds; no line is at fault."""
    lines = read_lines(write_json(tmp_path, refund_fields()), "refund")
    for begin in (lambda: next(lines.read("app ")), lambda: lines.check("app ")):
        with pytest.raises(InvalidRequestError, match=r"^app_key: "):
            begin()

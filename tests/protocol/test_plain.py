"""Dictionaries of requests and results: what is in them, and what is read from them."""

from __future__ import annotations

import json
import traceback
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import attrs
import pytest

from tests.protocol.samples import OPENID, TOKEN, item, pay, pay_method, refund, royalty, trade
from tests.protocol.test_results import pay_result
from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.codec import wire_fields
from wxpay_async.protocol.plain import HIDDEN, list_fields, read, write
from wxpay_async.protocol.requests import (
    InstantTrade,
    MiniProgramPay,
    PayMethod,
    Refund,
    TerminalInfo,
    TradeQuery,
)
from wxpay_async.protocol.results import (
    Merchant,
    RefundResult,
    RoyaltyShare,
    TradeRef,
    TradeResult,
    TradeState,
    TradeStatus,
)

MOMENT = datetime(2026, 11, 22, 4, 5, 6, tzinfo=UTC)
REQUESTS = {
    "pay": pay(app_id="wx1", out_trade_no="O-1", extra={"memo": {"lines": ["a", 1, None]}}),
    "trade": trade(
        trade_info=[item(royalty_info=[royalty(extra={"tier": "2"})]), item(out_trade_no="O-2")],
        pay_method=pay_method(pay_product_code="67", open_id=OPENID),
        terminal_info=TerminalInfo(terminal_type="02"),
        timeout_express="30m",
    ),
    "refund": refund(royalty_info=[royalty()]),
    "query": TradeQuery(trade_no="T-1"),
}
RESULTS = {
    "pay": pay_result(
        inst_amount=Decimal("33.69"),
        trade_res_list=(TradeRef(out_trade_no="O-1", trade_no="T-1", status="P"),),
        signed_at=MOMENT,
    ),
    "trade": TradeResult(request_id="t-1", pay_token=TOKEN, return_url="https://qr.example/x"),
    "status": TradeStatus(
        out_trade_no="O-1",
        status="已付款",
        price=Decimal("0.0001"),
        royalty_info=(RoyaltyShare(payee_member_id="1", amount=Decimal(5)),),
    ),
    "taught": TradeStatus(out_trade_no="O-1", status="玄", taught=TradeState.PAID),
    "refund": RefundResult(out_trade_no="R-1", status="P", attempts=2),
    "merchant": Merchant(merchant_id="1000"),
}
EVERY = [*REQUESTS.values(), *RESULTS.values()]


def find(failure: pytest.ExceptionInfo[InvalidRequestError]) -> str:
    """Return the field that an error names."""
    return failure.value.field


# Written


@pytest.mark.parametrize("value", EVERY, ids=lambda value: type(value).__name__)
def test_dictionary_is_json_and_makes_the_same_value(value: Any) -> None:  # noqa: ANN401 - any of them
    """Nothing is lost on the way through a file, a queue or a browser."""
    plain = json.loads(json.dumps(write(value, with_secrets=True)))

    assert value == read(type(value), plain, with_extra=True)


@pytest.mark.parametrize("value", REQUESTS.values(), ids=REQUESTS)
def test_dictionary_of_a_request_has_the_names_of_the_wire(value: Any) -> None:  # noqa: ANN401 - a request
    """And the amounts as they are sent; the order of a payment, which is not sent, besides."""
    if isinstance(value, TradeQuery):
        assert {"tradeNo": "T-1"} == write(value, with_secrets=True)
        return
    plain = write(value, with_secrets=True)
    plain.pop("outTradeNo", None) if isinstance(value, MiniProgramPay) else None
    for row in plain.get("tradeInfo", []):
        row["quantity"] = str(row["quantity"])

    assert wire_fields(value) == plain


def test_dictionary_of_a_result_has_no_fields_of_ours_but_two() -> None:
    """Neither `raw`, `attempts` nor `replayed`; but when it was signed, and what a text means."""
    assert {"outTradeNo", "status", "state"} == set(write(RESULTS["taught"], with_secrets=False))
    refunded = attrs.evolve(RESULTS["refund"], raw={"more": 1})
    assert {"outTradeNo": "R-1", "status": "P"} == write(refunded, with_secrets=False)
    assert MOMENT.isoformat() == write(RESULTS["pay"], with_secrets=False)["signedAt"]
    assert "paid" == write(RESULTS["status"], with_secrets=False)["state"]


def test_dictionary_hides_what_a_repr_hides() -> None:
    """Credentials, openids, and the values of what no page knows, at every depth."""
    shown = json.dumps([write(value, with_secrets=False) for value in EVERY])
    secret = [OPENID, TOKEN, "qr.example", "lines", RESULTS["pay"].prepay_id, 'tier": "2']

    assert [] == [each for each in secret if each in shown]
    hidden = write(REQUESTS["pay"], with_secrets=False)
    assert {"payToken", "terminalPayerId", "memo"} == {k for k, v in hidden.items() if v == HIDDEN}


def test_dictionary_is_the_readers_own() -> None:
    """Who changes it changes no request."""
    request = REQUESTS["pay"]
    write(request, with_secrets=True)["memo"]["lines"].append("more")

    assert ["a", 1, None] == write(request, with_secrets=True)["memo"]["lines"]


# Read


def test_value_itself_is_taken() -> None:
    """Also as a part of another."""
    method = pay_method(pay_product_code="67", open_id=OPENID)
    plain = {**write(trade(), with_secrets=True), "payMethod": method, "tradeInfo": [item()]}

    assert method is read(InstantTrade, plain).pay_method
    assert method is read(PayMethod, method)


def test_null_stands_for_no_value() -> None:
    """As in JSON of other languages, which write all fields."""
    plain = {**write(refund(), with_secrets=True), "currency": None, "royaltyInfo": None}

    assert refund() == read(Refund, plain)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"requestId": None}, "requestId"),
        ({"requestId": 5}, "requestId"),
        ({"requestId": "x" * 33}, "requestId"),
        ({"payerIp": ["1"]}, "payerIp"),
        ({"tradeInfo": {}}, "tradeInfo"),
        ({"tradeInfo": "[]"}, "tradeInfo"),
        ({"tradeInfo": []}, "tradeInfo"),
        ({"tradeInfo": ["O-1"]}, "tradeInfo[0]"),
        ({"payMethod": 7}, "payMethod"),
        ({"payMethod": {"payProductCode": "65", "amount": 1.5}}, "payMethod.amount"),
        ({"payMethod": {"payProductCode": "65"}}, "payMethod.amount"),
        ({"payMethod": {"payProductCode": "65", "amount": "1", "x": "y"}}, "payMethod.x"),
        ({"terminalInfo": {"terminal_type": "***"}}, "terminalInfo.terminal_type"),
        ({"payerIp": "***"}, "payerIp"),
        ({"more": "***"}, "more"),
        ({"more": 1}, "more"),
    ],
)
def test_field_that_does_not_fit_is_named_by_its_place(changes: dict[str, Any], field: str) -> None:
    """It is never a `TypeError`: what came in as JSON is no mistake of the program."""
    plain = {**write(trade(), with_secrets=True), **changes}
    with pytest.raises(InvalidRequestError) as caught:
        read(InstantTrade, plain)

    assert (field, True) == (find(caught), field.partition("[")[0] in str(caught.value))


def test_field_of_a_row_is_named_by_its_place() -> None:
    """With the row's number from 0."""
    plain = write(REQUESTS["trade"], with_secrets=True)
    del plain["tradeInfo"][0]["royaltyInfo"][0]["tier"]
    plain["tradeInfo"][0]["royaltyInfo"][0]["amount"] = "1.234"
    with pytest.raises(InvalidRequestError) as caught:
        read(InstantTrade, plain)

    assert "tradeInfo[0].royaltyInfo[0].amount" == find(caught)


def test_unknown_fields_are_sent_only_when_that_is_asked_for() -> None:
    """A stranger's JSON must not add to what is signed; hidden ones cannot be read at all."""
    plain = {**write(refund(), with_secrets=True), "memo": {"a": ["1"]}}
    with pytest.raises(InvalidRequestError, match="memo: not a field of the page"):
        read(Refund, plain)
    with pytest.raises(InvalidRequestError, match="memo: hidden"):
        read(Refund, {**plain, "memo": HIDDEN}, with_extra=True)

    assert {"memo": {"a": ["1"]}} == dict(read(Refund, plain, with_extra=True).extra)


def test_unknown_fields_of_a_result_are_left_out() -> None:
    """The platform may send new ones."""
    assert Merchant(merchant_id="1") == read(Merchant, {"merchantId": "1", "level": "***"})


def test_hidden_value_is_no_value() -> None:
    """A payment to the openid `***` would be a mistake that the platform finds late."""
    with pytest.raises(InvalidRequestError, match=r"hidden.*to_dict\(secrets=True\)") as caught:
        read(MiniProgramPay, write(pay(), with_secrets=False))

    assert "payToken" == find(caught)


@pytest.mark.parametrize("data", [None, "x", [], 5, [("requestId", "r-1")]])
def test_what_is_no_object_is_refused(data: object) -> None:
    """By the name of the class."""
    with pytest.raises(InvalidRequestError, match="a Refund is an object of fields"):
        read(Refund, data)


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"price": 1.5}, "price"),
        ({"price": "1e5"}, "price"),
        ({"price": "NaN"}, "price"),
        ({"price": True}, "price"),
        ({"status": 5}, "status"),
        ({"state": "done"}, "state"),
        ({"state": 5}, "state"),
        ({"royaltyInfo": [{"amount": []}]}, "royaltyInfo[0].amount"),
    ],
)
def test_field_of_a_result_that_does_not_fit_is_named(changes: Any, field: str) -> None:  # noqa: ANN401 - JSON
    """Exact amounts, texts, states that exist; the error repeats no value."""
    with pytest.raises(InvalidRequestError) as caught:
        read(TradeStatus, {"outTradeNo": "O-1", "status": "x", **changes})

    assert field == find(caught)


@pytest.mark.parametrize("price", ["12.3", 12, Decimal("12.3")])
def test_amount_of_a_result_is_exact(price: Any) -> None:  # noqa: ANN401 - an amount
    """As a text, an integer or a Decimal."""
    found = read(TradeStatus, {"outTradeNo": "O-1", "status": "x", "price": price})

    assert Decimal(str(price)) == found.price


@pytest.mark.parametrize("signed_at", [MOMENT, MOMENT.isoformat()])
def test_moment_is_read(signed_at: object) -> None:
    """As a text, or as it is in Python."""
    plain = {**write(pay_result(), with_secrets=True), "signedAt": signed_at}

    assert MOMENT == read(type(pay_result()), plain).signed_at
    with pytest.raises(InvalidRequestError, match="signedAt"):
        read(type(pay_result()), {**plain, "signedAt": "yesterday"})


def test_result_that_the_platform_cannot_have_said_is_refused() -> None:
    """What its class withholds is an error of the input here."""
    plain = {**write(pay_result(), with_secrets=True), "extPackage": "prepay_id=other"}
    with pytest.raises(InvalidRequestError, match="extPackage is not prepay_id"):
        read(type(pay_result()), plain)


@pytest.mark.parametrize("changes", [{"requestId": "x" * 33}, {"appId": 5}, {"more": 1}])
def test_error_carries_no_credential(changes: dict[str, Any]) -> None:
    """Neither in its text, nor in a traceback with the locals of our frames."""
    plain = {**write(pay(), with_secrets=True), **changes}
    with pytest.raises(InvalidRequestError) as caught:
        read(MiniProgramPay, plain)
    error: BaseException | None = caught.value
    texts: list[str] = []
    while error is not None:
        frames = traceback.StackSummary.extract(
            traceback.walk_tb(error.__traceback__), capture_locals=True
        )
        texts += [str(error), *(str(f.locals) for f in frames if f.filename != __file__)]
        error = error.__cause__ or error.__context__

    assert [] == [text for text in texts if TOKEN in text or OPENID in text]


# Fields


@pytest.mark.parametrize("value", EVERY, ids=lambda value: type(value).__name__)
def test_every_field_is_listed_or_ours(value: Any) -> None:  # noqa: ANN401 - any of them
    """A field that is added later is in the dictionary without another line of code."""
    listed = {field.name for field in list_fields(type(value)).values()}

    assert {a.name for a in attrs.fields(type(value))} - listed <= {
        *("extra", "raw", "attempts", "replayed")
    }

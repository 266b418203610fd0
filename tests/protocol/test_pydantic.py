"""Requests and results in models of pydantic."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from tests.protocol.samples import OPENID, TOKEN, pay, refund, trade
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, Refund
from wxpay_async.protocol.results import Merchant, PayResult, TradeState, TradeStatus


class Order(BaseModel):
    """A merchant's own model."""

    number: int
    payment: MiniProgramPay
    status: TradeStatus | None = None


STATUS = TradeStatus(out_trade_no="O-1", status="已付款", price=Decimal("1.50"))


def test_model_takes_values_and_their_dictionaries() -> None:
    """From Python and from JSON."""
    plain = {"number": 1, "payment": pay().to_dict(secrets=True), "status": STATUS.to_dict()}
    expected = Order(number=1, payment=pay(), status=STATUS)

    assert expected == Order.model_validate(plain)
    assert expected == Order.model_validate_json(json.dumps(plain))


def test_model_writes_values_by_the_platforms_names() -> None:
    """Amounts as texts, in both modes."""
    order = Order(number=1, payment=pay(), status=STATUS)
    expected = {"outTradeNo": "O-1", "status": "已付款", "price": "1.50", "state": "paid"}

    assert expected == order.model_dump()["status"]
    assert expected == json.loads(order.model_dump_json())["status"]


@pytest.mark.parametrize("context", [None, {}, {"secrets": False}, ["secrets"], "secrets"])
def test_model_hides_credentials_unless_told_otherwise(context: Any) -> None:  # noqa: ANN401 - anything
    """A dump goes into logs and to browsers."""
    order = Order(number=1, payment=pay())
    shown = [order.model_dump_json(context=context), str(order.model_dump(context=context))]

    assert [] == [text for text in (*shown, repr(order)) if TOKEN in text or OPENID in text]


def test_model_with_its_secrets_is_made_again() -> None:
    """From what was dumped for a queue, say."""
    order = Order(number=1, payment=pay())

    assert order == Order.model_validate_json(order.model_dump_json(context={"secrets": True}))


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"requestId": "x" * 33}, ("requestId",)),
        ({"payMethod": {"payProductCode": "65", "amount": 1.5}}, ("payMethod", "amount")),
        ({"tradeInfo": [trade().trade_info[0], {}]}, ("tradeInfo", 1, "outTradeNo")),
        ({"more": 1}, ("more",)),
    ],
)
def test_error_names_the_place_and_repeats_nothing(
    changes: dict[str, Any], place: tuple[object, ...]
) -> None:
    """An error of pydantic shows what came in: of ours it has nothing to show."""
    plain = {**trade().to_dict(secrets=True), "payerIp": "203.0.113.77", **changes}
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(InstantTrade).validate_python(plain)
    [error] = caught.value.errors()

    assert (place, "invalid_request", "***") == (error["loc"], error["type"], error["input"])
    assert "203.0.113.77" not in str(caught.value)


def test_error_of_the_whole_has_no_place() -> None:
    """What is no object has no fields."""
    with pytest.raises(ValidationError, match="a Refund is an object of fields") as caught:
        TypeAdapter(Refund).validate_python(TOKEN)

    assert ((), False) == (caught.value.errors()[0]["loc"], TOKEN in str(caught.value))


def test_schema_lists_fields_and_what_is_required() -> None:
    """For OpenAPI; rows and parts are described, too."""
    schema = TypeAdapter(InstantTrade).json_schema()
    rows = schema["properties"]["tradeInfo"]["items"]

    assert ["requestId", "tradeInfo", "payerIp", "payMethod"] == schema["required"]
    assert {"type": "integer"} == rows["properties"]["quantity"]
    assert "payProductCode" in schema["properties"]["payMethod"]["required"]
    assert ["merchantId"] == TypeAdapter(Merchant).json_schema()["required"]
    assert "required" not in schema["properties"]["terminalInfo"]


def test_schema_says_what_texts_mean() -> None:
    """States by their names, amounts as texts, moments in their format."""
    states = TypeAdapter(TradeStatus).json_schema()["properties"]
    moments = TypeAdapter(PayResult).json_schema(mode="serialization")["properties"]

    assert [state.value for state in TradeState] == states["state"]["enum"]
    assert "string" == states["price"]["type"]
    assert "date-time" == moments["signedAt"]["format"]


def test_refund_in_a_list_is_read_and_written() -> None:
    """As a part of any type of pydantic's."""
    adapter = TypeAdapter(list[Refund])

    assert [refund()] == adapter.validate_json(adapter.dump_json([refund()]))

"""Requests as bodies of FastAPI's routes, and results as answers; over its own test client."""

# No postponed annotations: FastAPI reads those of the routes in here.

import json
from decimal import Decimal
from typing import Annotated, Any

import pytest
from fastapi import Body, FastAPI
from fastapi.testclient import TestClient
from pydantic import BaseModel

from tests.protocol.samples import OPENID, TOKEN, pay, refund
from tests.protocol.test_results import SIGNATURE, pay_result
from wxpay_async import MiniProgramPay, PayResult, Refund, TradeState, TradeStatus

STATUS = TradeStatus(
    out_trade_no="O-1",
    status="交易完成",
    taught=TradeState.PAID,
    total_amount=Decimal("12.30"),
    raw={"totalAmount": Decimal("12.30"), "status": "交易完成"},
)
SHOWN = {"outTradeNo": "O-1", "status": "交易完成", "totalAmount": "12.30", "state": "paid"}


class Receipt(BaseModel):
    """A shop's own answer."""

    order: str
    trade: TradeStatus


app = FastAPI()


@app.get("/status")
async def read_status() -> TradeStatus:
    """Answer with a result."""
    return STATUS


@app.get("/untyped")
async def read_untyped():  # noqa: ANN201 - the point of it
    """Answer with a result of which FastAPI does not know the type."""
    return STATUS


@app.get("/receipt")
async def read_receipt() -> Receipt:
    """Answer with a model that holds a result."""
    return Receipt(order="4711", trade=STATUS)


@app.get("/prepay")
async def read_prepay() -> PayResult:
    """Answer with a result that holds credentials."""
    return pay_result()


@app.get("/untyped-payment")
async def read_payment():  # noqa: ANN201 - the point of it
    """Answer with a request that holds credentials."""
    return pay(out_trade_no="O-1")


@app.get("/params")
async def read_params() -> dict[str, str]:
    """Answer with what the mini program needs."""
    return pay_result().jsapi_params()


@app.post("/refund")
async def take_refund(request: Annotated[Refund, Body()]) -> Refund:
    """Take a request."""
    assert isinstance(request, Refund)
    return request


@app.post("/pay")
async def take_payment(request: Annotated[MiniProgramPay, Body()]) -> dict[str, bool]:
    """Take a request that holds credentials."""
    return {"same": request == pay()}


CLIENT = TestClient(app)


@pytest.mark.parametrize("path", ["/status", "/untyped"])
def test_result_is_an_answer(path: str) -> None:
    """Whether or not the route says what it returns: exact amounts, and nothing of ours."""
    answer = CLIENT.get(path)

    assert (200, SHOWN) == (answer.status_code, answer.json())


def test_result_is_a_part_of_an_answer() -> None:
    """In a model of the shop's own."""
    assert {"order": "4711", "trade": SHOWN} == CLIENT.get("/receipt").json()


@pytest.mark.parametrize("path", ["/prepay", "/untyped-payment"])
def test_answer_holds_no_credential(path: str) -> None:
    """Not even by mistake; what the mini program needs is handed out by its own method."""
    answer = CLIENT.get(path)

    assert 200 == answer.status_code
    secret = [SIGNATURE, pay_result().prepay_id, TOKEN, OPENID]
    assert [] == [each for each in secret if each in answer.text]
    assert SIGNATURE == CLIENT.get("/params").json()["paySign"]


def test_request_is_a_body() -> None:
    """By the platform's names; what comes back is the same."""
    plain = refund().to_dict(secrets=True)
    answer = CLIENT.post("/refund", json=plain)

    assert (200, plain) == (answer.status_code, answer.json())
    assert {"same": True} == CLIENT.post("/pay", json=pay().to_dict(secrets=True)).json()


@pytest.mark.parametrize(
    ("changes", "place"),
    [
        ({"payToken": "two words"}, ["body", "payToken"]),
        ({"requestId": 5}, ["body", "requestId"]),
        ({"requestId": None}, ["body", "requestId"]),
        ({"more": 1}, ["body", "more"]),
    ],
)
def test_body_that_does_not_fit_is_answered_422(changes: dict[str, Any], place: list[str]) -> None:
    """With the place of the field, and without what came in: such answers end in logs."""
    answer = CLIENT.post("/pay", json={**pay().to_dict(secrets=True), **changes})
    [error] = answer.json()["detail"]

    assert (422, place, "***") == (answer.status_code, error["loc"], error["input"])
    assert OPENID not in answer.text


def test_page_of_the_api_describes_them() -> None:
    """OpenAPI can be made, with the fields of both."""
    described = json.dumps(CLIENT.get("/openapi.json").json(), ensure_ascii=False)

    assert all(name in described for name in ("origOutTradeNo", "totalAmount", "refund_failed"))

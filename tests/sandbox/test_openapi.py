"""The description at `/openapi.json`: complete, and true of what the sandbox accepts."""

from __future__ import annotations

import json
import re
from typing import Any

import aiohttp
import pytest

from tests.sandbox.raw_merchant import Merchant, make_trade_body
from wxpay_async.sandbox import FaultKind, Sandbox
from wxpay_async.sandbox.error_codes import Code
from wxpay_async.sandbox.openapi import build_openapi, describe_content
from wxpay_async.sandbox.platform import PATHS
from wxpay_async.sandbox.request_fields import PAY, REFUND, TRADE


async def test_description_is_served_with_its_own_address(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """So a client in another language finds the sandbox by this file alone."""
    async with session.get(f"{sandbox.url}/openapi.json") as answer:
        found = await answer.json(content_type=None)
        assert answer.content_type == "application/json"
    assert found == json.loads(json.dumps(build_openapi(sandbox.url)))
    assert found["openapi"] == "3.1.0"
    assert found["servers"] == [{"url": sandbox.url}]


def test_description_has_each_call_and_each_act_of_the_payer() -> None:
    """And no two of them by one name."""
    paths = build_openapi("http://127.0.0.1")["paths"]
    payer = {"/sandbox/confirm", "/sandbox/cancel", "/sandbox/expire", "/sandbox/ledger"}
    assert set(paths) == {*PATHS, *payer, "/sandbox/faults", "/sandbox/faults/clear"}
    names = [call["operationId"] for path in paths.values() for call in path.values()]
    assert len(names) == len(set(names))


def test_description_has_each_code_and_each_kind_of_fault() -> None:
    """From the tables by which the sandbox works."""
    found = build_openapi("http://127.0.0.1")
    codes = found["components"]["schemas"]["ErrorCode"]["description"]
    assert set(re.findall(r"`(\w+)`", codes)) == set(Code)
    form = found["paths"]["/sandbox/faults"]["post"]["requestBody"]["content"]
    schema = form["application/x-www-form-urlencoded"]["schema"]
    assert schema["properties"]["kind"]["enum"] == list(FaultKind)


def test_content_is_described_by_the_tables_that_check_it() -> None:
    """Patterns, choices, lengths, rows and what is required."""
    trade, pay, refund = (describe_content(table) for table in (TRADE, PAY, REFUND))
    assert {"requestId", "payToken", "terminalPayerId"} < set(pay["required"])
    assert pay["properties"]["requestId"]["maxLength"] == 32
    assert "appId" not in pay["required"]
    assert refund["properties"]["refundAmount"]["maxLength"] == 15
    assert refund["properties"]["royaltyInfo"]["maxItems"] == 10
    assert trade["properties"]["tradeInfo"]["minItems"] == 1
    item = trade["properties"]["tradeInfo"]["items"]
    assert re.fullmatch(item["properties"]["price"]["pattern"], "33.69")
    assert trade["properties"]["cashierType"]["enum"] == ["API", "SDK"]


@pytest.mark.parametrize("name", describe_content(TRADE)["required"])
async def test_field_that_is_described_as_required_is_required(
    merchant: Merchant, name: str
) -> None:
    """The description and the check come from one table."""
    body: dict[str, Any] = make_trade_body("A1")
    del body[name]
    reply = await merchant.biz("/api/instant/trade", body)
    assert reply["success"] is False

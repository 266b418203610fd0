"""The payer's plain endpoints, for programs and for people without scripts."""

import json
from typing import Any

import aiohttp
import pytest

from tests.sandbox.raw_merchant import Merchant
from tests.support.clock import MovedClock
from wxpay_async.sandbox import Sandbox


async def read(answer: aiohttp.ClientResponse) -> tuple[int, Any]:
    """Return status and decoded body."""
    return answer.status, json.loads(await answer.read())


@pytest.mark.parametrize(
    ("act", "status"), [("confirm", "支付成功"), ("cancel", "支付失败"), ("expire", "已关闭")]
)
@pytest.mark.parametrize("query", [False, True], ids=["form", "query"])
async def test_payer_acts_by_form_or_query_string(
    merchant: Merchant,
    session: aiohttp.ClientSession,
    sandbox: Sandbox,
    act: str,
    status: str,
    *,
    query: bool,
) -> None:
    """A client in any language can act as the payer, by form or query string."""
    await merchant.trade("A1")
    pairs = {"outTradeNo": "A1"}
    endpoint = f"{sandbox.url}/sandbox/{act}"
    call = session.post(endpoint, params=pairs) if query else session.post(endpoint, data=pairs)
    async with call as answer:
        assert await read(answer) == (200, {"status": status})
    assert await merchant.status("A1") == status


async def test_payer_names_the_app_key_of_a_shared_number(
    merchant: Merchant, session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """If several appKeys use one number, the payer names the appKey."""
    await merchant.trade("A1")
    sandbox.add_app("other")
    pairs = {"outTradeNo": "A1", "appKey": "other"}
    async with session.post(sandbox.url + "/sandbox/confirm", data=pairs) as answer:
        assert (await read(answer))[0] == 404
    assert await merchant.status("A1") == "待付款"


@pytest.mark.parametrize("body", [b"", b"outTradeNo=nothing"])
async def test_payer_of_an_unknown_order_is_404(
    session: aiohttp.ClientSession, sandbox: Sandbox, body: bytes
) -> None:
    """An order that does not exist is 404, and the answer says so."""
    async with session.post(sandbox.url + "/sandbox/confirm", data=body) as answer:
        status, reply = await read(answer)
    assert status == 404
    assert "no such order" in reply["error"]


async def test_payer_body_that_is_not_pairs_is_400(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """A body that is no pairs is 400."""
    async with session.post(sandbox.url + "/sandbox/confirm", data=b"A1") as answer:
        assert (await read(answer))[0] == 400


async def test_payer_after_the_prepay_expired_is_409(
    merchant: Merchant, session: aiohttp.ClientSession, sandbox: Sandbox, clock: MovedClock
) -> None:
    """Nothing is charged without a valid prepay."""
    await merchant.trade("A1", timeoutExpress="1d")
    clock.move(1200)
    pairs = {"outTradeNo": "A1"}
    async with session.post(sandbox.url + "/sandbox/confirm", data=pairs) as answer:
        assert (await read(answer))[0] == 409
    assert [entry.kind for entry in sandbox.platform.ledger] == ["trade"]


async def test_payer_by_get_is_404(
    merchant: Merchant, session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """A link that is only followed confirms nothing."""
    await merchant.trade("A1")
    async with session.get(sandbox.url + "/sandbox/confirm?outTradeNo=A1") as answer:
        assert answer.status == 404
    assert await merchant.status("A1") == "待付款"


async def test_ledger_as_json_has_no_credential(
    merchant: Merchant, session: aiohttp.ClientSession, sandbox: Sandbox, clock: MovedClock
) -> None:
    """The ledger is there as JSON, without any credential."""
    reply = await merchant.trade("A1")
    sandbox.confirm("A1")
    async with session.get(sandbox.url + "/sandbox/ledger") as answer:
        _, ledger = await read(answer)
    shared = {
        "appKey": "sandbox-app-key",
        "outTradeNos": ["A1"],
        "amount": "33.69",
        "at": clock.time(),
    }
    assert ledger == [
        {"kind": "trade", "requestId": "r-A1", **shared},
        {"kind": "charge", "requestId": "", **shared},
    ]
    assert reply["data"]["payToken"] not in json.dumps(ledger)


async def test_button_leads_back_to_the_page(
    merchant: Merchant, session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """A person who presses a button is led back to the page."""
    await merchant.trade("A1")
    pairs = {"outTradeNo": "A1", "appKey": sandbox.app_key, "page": "1"}
    async with session.post(
        sandbox.url + "/sandbox/confirm", data=pairs, allow_redirects=False
    ) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/sandbox")
    assert await merchant.status("A1") == "支付成功"

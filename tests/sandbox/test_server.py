"""The sandbox as a server: its life, its headers, and the payer's own endpoints."""
# ruff: noqa: ANN001 - the fixtures' classes live in conftest.py, which is no module to import

import asyncio
import io
import json
from email.utils import parsedate_to_datetime
from typing import Any

import aiohttp
import pytest
from Crypto.PublicKey import RSA

from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.server import _url


async def read(answer: aiohttp.ClientResponse) -> tuple[int, Any]:
    """Return status and decoded body."""
    return answer.status, json.loads(await answer.read())


async def test_settings(sandbox) -> None:
    """The settings are the environment of a gateway that talks to this sandbox."""
    assert sandbox.settings() == {
        "WXPAY_BASE_URL": sandbox.url,
        "WXPAY_APP_KEY": "sandbox-app-key",
        "WXPAY_APP_SECRET": sandbox.app_secret,
    }
    assert sandbox.url.startswith("http://127.0.0.1:")


async def test_secrets_are_random(pay_key) -> None:
    """Without a given secret each sandbox makes its own; a given one is kept."""
    first, second = Sandbox(pay_key=pay_key), Sandbox(pay_key=pay_key)
    assert first.app_secret != second.app_secret
    assert Sandbox(app_secret="given", app_key="mine").app_secret == "given"


def test_nothing_is_known_before_the_start() -> None:
    """Making a sandbox is pure: no loop, no port, no key."""
    sandbox = Sandbox()
    for read_early in (
        lambda: sandbox.url,
        lambda: sandbox.pay_public_key,
        sandbox.settings,
        lambda: sandbox._sign_pay(b"x"),
    ):
        with pytest.raises(RuntimeError, match="not started"):
            read_early()


async def test_pay_key_is_generated() -> None:
    """Without a pay key the sandbox makes a real one on start."""
    async with Sandbox() as sandbox:
        key = RSA.import_key(sandbox.pay_public_key)
    assert key.size_in_bits() == 2048
    assert key.has_private() is False


async def test_given_pay_key_is_used(sandbox, pay_key) -> None:
    """The public half of a given key is what verifies paySign."""
    assert RSA.import_key(sandbox.pay_public_key) == pay_key.public_key()


async def test_start_and_close(pay_key, session) -> None:
    """A closed sandbox refuses connections, may be closed twice and started again."""
    sandbox = Sandbox(pay_key=pay_key)
    await sandbox.start()
    with pytest.raises(RuntimeError, match="running"):
        await sandbox.start()
    await sandbox.aclose()
    await sandbox.aclose()
    with pytest.raises(aiohttp.ClientConnectorError):
        await session.get(sandbox.url + "/sandbox")
    await sandbox.start()
    async with session.get(sandbox.url + "/sandbox") as answer:
        assert answer.status == 200
    await sandbox.aclose()


async def test_port_that_is_taken(sandbox, pay_key) -> None:
    """A port that is taken is an OSError, and the sandbox can still be closed and moved."""
    port = int(sandbox.url.rsplit(":", 1)[1])
    second = Sandbox(pay_key=pay_key, port=port)
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await second.aclose()


def test_two_loops_in_a_row(pay_key) -> None:
    """One sandbox works in one event loop after another."""
    sandbox = Sandbox(pay_key=pay_key)

    async def visit() -> int:
        async with (
            sandbox,
            aiohttp.ClientSession() as session,
            session.get(sandbox.url + "/sandbox") as answer,
        ):
            return answer.status

    assert [asyncio.run(visit()), asyncio.run(visit())] == [200, 200]


@pytest.mark.parametrize(
    ("address", "url"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("::1", "http://[::1]:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
    ],
)
def test_urls(address, url) -> None:
    """An address becomes a URL that a client on this machine can use."""
    assert _url(address, 80) == url


async def test_headers(session, sandbox, clock) -> None:
    """Every answer names the sandbox, its time by its own clock, and JSON in UTF-8."""
    clock.move(86400)
    for path in ("/api/company/merchants", "/nowhere", "/sandbox/ledger"):
        async with session.get(sandbox.url + path) as answer:
            assert answer.headers["X-Wxpay-Sandbox"] == "1"
            assert answer.headers["Content-Type"] == "application/json;charset=UTF-8"
            date = parsedate_to_datetime(answer.headers["Date"])
            assert date.timestamp() == clock()


async def test_date_moves_with_the_clock(session, sandbox, clock) -> None:
    """The Date header follows the clock, forth and back."""
    dates = []
    for seconds in (0, 1, -3600):
        clock.move(seconds)
        async with session.get(sandbox.url + "/sandbox/ledger") as answer:
            dates.append(parsedate_to_datetime(answer.headers["Date"]).timestamp() - clock())
    assert dates == [0, 0, 0]


@pytest.mark.parametrize("path", ["/", "/api", "/api/instant/trade/", "/sandbox/", "/sandbox/pay"])
async def test_unknown_paths(session, sandbox, path) -> None:
    """There is nothing but the endpoints: 404, and no call is counted."""
    async with session.post(sandbox.url + path) as answer:
        status, _ = await read(answer)
    assert status == 404
    assert sandbox.platform.calls.total() == 0


async def test_bodies_are_bounded(session, sandbox) -> None:
    """A body of over a megabyte is not read."""
    body = io.BytesIO(b"a=" + b"x" * (1 << 20))
    async with session.post(sandbox.url + "/api/instant/trade", data=body) as answer:
        status, _ = await read(answer)
    assert status == 413
    assert sandbox.platform.calls.total() == 0


@pytest.mark.parametrize(
    ("act", "status"), [("confirm", "支付成功"), ("cancel", "支付失败"), ("expire", "已关闭")]
)
@pytest.mark.parametrize("query", [False, True], ids=["form", "query"])
async def test_payer_over_http(merchant, session, sandbox, act, status, query) -> None:
    """A client in any language can act as the payer, by form or query string."""
    await merchant.trade("A1")
    pairs = {"outTradeNo": "A1"}
    where = {"params": pairs} if query else {"data": pairs}
    async with session.post(f"{sandbox.url}/sandbox/{act}", **where) as answer:
        assert await read(answer) == (200, {"status": status})
    assert await merchant.status("A1") == status


async def test_payer_of_one_app_key(merchant, session, sandbox) -> None:
    """Where several appKeys use one number, the payer names the appKey."""
    await merchant.trade("A1")
    sandbox.add_app("other")
    pairs = {"outTradeNo": "A1", "appKey": "other"}
    async with session.post(sandbox.url + "/sandbox/confirm", data=pairs) as answer:
        assert (await read(answer))[0] == 404
    assert await merchant.status("A1") == "待付款"


@pytest.mark.parametrize("body", [b"", b"outTradeNo=nothing"])
async def test_payer_of_nothing(session, sandbox, body) -> None:
    """An order that does not exist is 404, and the answer says so."""
    async with session.post(sandbox.url + "/sandbox/confirm", data=body) as answer:
        status, reply = await read(answer)
    assert status == 404
    assert "no such order" in reply["error"]


async def test_payer_that_cannot_be_read(session, sandbox) -> None:
    """A body that is no pairs is 400."""
    async with session.post(sandbox.url + "/sandbox/confirm", data=b"A1") as answer:
        assert (await read(answer))[0] == 400


async def test_payer_who_comes_too_late(merchant, session, sandbox, clock) -> None:
    """A confirmation without a living prepay is 409, and nothing is charged."""
    await merchant.trade("A1", timeoutExpress="1d")
    clock.move(1200)
    pairs = {"outTradeNo": "A1"}
    async with session.post(sandbox.url + "/sandbox/confirm", data=pairs) as answer:
        assert (await read(answer))[0] == 409
    assert [entry.kind for entry in sandbox.platform.ledger] == ["trade"]


async def test_payer_does_not_act_by_get(merchant, session, sandbox) -> None:
    """A link that is merely followed confirms nothing."""
    await merchant.trade("A1")
    async with session.get(sandbox.url + "/sandbox/confirm?outTradeNo=A1") as answer:
        assert answer.status == 404
    assert await merchant.status("A1") == "待付款"


async def test_ledger_over_http(merchant, session, sandbox, clock) -> None:
    """The ledger is there as JSON, without any credential."""
    reply = await merchant.trade("A1")
    sandbox.confirm("A1")
    async with session.get(sandbox.url + "/sandbox/ledger") as answer:
        _, ledger = await read(answer)
    shared = {"appKey": "sandbox-app-key", "outTradeNos": ["A1"], "amount": "33.69", "at": clock()}
    assert ledger == [
        {"kind": "trade", "requestId": "r-A1", **shared},
        {"kind": "charge", "requestId": "", **shared},
    ]
    assert reply["data"]["payToken"] not in json.dumps(ledger)


async def test_buttons_lead_back_to_the_page(merchant, session, sandbox) -> None:
    """A person who presses a button is led back to the page."""
    await merchant.trade("A1")
    pairs = {"outTradeNo": "A1", "appKey": sandbox.app_key, "page": "1"}
    async with session.post(
        sandbox.url + "/sandbox/confirm", data=pairs, allow_redirects=False
    ) as answer:
        assert (answer.status, answer.headers["Location"]) == (303, "/sandbox")
    assert await merchant.status("A1") == "支付成功"

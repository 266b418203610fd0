"""The sandbox as a server: start and close, and what it does with other requests."""

import asyncio
import http.client
import io
import json
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import aiohttp
import pytest
from Crypto.PublicKey import RSA

from tests.sandbox.callback_shop import CallbackShop, is_signed_by_rsa
from tests.sandbox.raw_merchant import MERCHANTS, TRADE, Merchant
from tests.support.clock import MovedClock
from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.auth import IncomingRequest
from wxpay_async.sandbox.server import _build_url


async def read(answer: aiohttp.ClientResponse) -> tuple[int, Any]:
    """Return status and decoded body."""
    return answer.status, json.loads(await answer.read())


async def test_settings_are_the_environment_of_a_gateway(sandbox: Sandbox) -> None:
    """The settings are the environment of a gateway that talks to this sandbox."""
    assert sandbox.settings() == {
        "WXPAY_BASE_URL": sandbox.url,
        "WXPAY_APP_KEY": "sandbox-app-key",
        "WXPAY_APP_SECRET": sandbox.app_secret,
    }
    assert sandbox.url.startswith("http://127.0.0.1:")


async def test_app_secret_not_given_is_random(pay_key: RSA.RsaKey) -> None:
    """Without a given secret each sandbox makes its own."""
    first, second = Sandbox(pay_key=pay_key), Sandbox(pay_key=pay_key)
    assert first.app_secret != second.app_secret
    assert Sandbox(app_secret="given", app_key="mine").app_secret == "given"


def test_sandbox_before_the_start_has_no_url_and_no_key() -> None:
    """The constructor does no I/O: no loop, no port, no key."""
    sandbox = Sandbox()
    for read_early in (
        lambda: sandbox.url,
        lambda: sandbox.pay_public_key,
        sandbox.settings,
        lambda: sandbox._sign_pay(b"x"),
    ):
        with pytest.raises(RuntimeError, match="not started"):
            read_early()


async def test_sandbox_shows_where_it_is(pay_key: RSA.RsaKey) -> None:
    """Its merchant and its address, without a secret; before the start it has no address."""
    sandbox = Sandbox(app_secret="canary-secret", pay_key=pay_key)
    before = repr(sandbox)
    async with sandbox:
        assert f"Sandbox('sandbox-app-key', url={sandbox.url!r})" == repr(sandbox)

    assert "Sandbox('sandbox-app-key', url=None)" == before


async def test_sandbox_before_the_start_has_a_platform(clock: MovedClock) -> None:
    """The platform can be called without the server."""
    sandbox = Sandbox(clock=clock.time)
    reply = sandbox.platform.answer(IncomingRequest(path=TRADE))
    assert reply["success"] is False


async def test_pay_tokens_are_unguessable(merchant: Merchant) -> None:
    """No two payTokens are alike, and each has 128 random bits."""
    tokens = {await merchant.trade_token(f"A{number}") for number in range(20)}
    assert len(tokens) == 20
    assert {len(bytes.fromhex(token)) for token in tokens} == {16}


async def test_pay_key_not_given_is_generated_at_the_start() -> None:
    """Without a pay key the sandbox makes a real one on start."""
    async with Sandbox() as sandbox:
        key = RSA.import_key(sandbox.pay_public_key)
    assert key.size_in_bits() == 2048
    assert key.has_private() is False


async def test_pay_key_given_is_used(sandbox: Sandbox, pay_key: RSA.RsaKey) -> None:
    """The public half of a given key is what verifies paySign."""
    assert RSA.import_key(sandbox.pay_public_key) == pay_key.public_key()


async def test_callback_key_given_signs_callbacks_only(
    clock: MovedClock,
    shop: CallbackShop,
    pay_key: RSA.RsaKey,
    merchant_key: RSA.RsaKey,
    session: aiohttp.ClientSession,
    tmp_path: Path,
) -> None:
    """Callbacks can be signed by another key than prepays."""
    async with Sandbox(
        pay_key=pay_key,
        callback_key=merchant_key,
        callback_scheme="rsa",
        clock=clock.time,
        notify_url=shop.url,
    ) as sandbox:
        assert RSA.import_key(sandbox.callback_public_key) == merchant_key.public_key()
        assert RSA.import_key(sandbox.pay_public_key) == pay_key.public_key()
        await Merchant(session, sandbox).complete("A1")
        (form,) = shop.forms
        assert is_signed_by_rsa(form, sandbox.callback_public_key, tmp_path)
        assert not is_signed_by_rsa(form, sandbox.pay_public_key, tmp_path)


def test_callback_key_given_is_known_before_the_start(merchant_key: RSA.RsaKey) -> None:
    """A given key can be read at once, a generated one cannot."""
    given = Sandbox(callback_key=merchant_key)
    assert RSA.import_key(given.callback_public_key) == merchant_key.public_key()
    for early in (lambda: Sandbox().callback_public_key, lambda: given._sign_callback(b"")):
        with pytest.raises(RuntimeError, match="not started"):
            early()


async def test_sandbox_closed_refuses_connections_and_starts_again(
    pay_key: RSA.RsaKey, session: aiohttp.ClientSession
) -> None:
    """It may be closed twice."""
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


async def test_start_on_a_taken_port_raises_and_can_be_closed(
    sandbox: Sandbox, pay_key: RSA.RsaKey
) -> None:
    """A port that is taken is an OSError, and the sandbox can still be closed and moved."""
    port = int(sandbox.url.rsplit(":", 1)[1])
    second = Sandbox(pay_key=pay_key, port=port)
    with pytest.raises(OSError, match="address already in use"):
        await second.start()
    await second.aclose()


def test_sandbox_works_in_one_event_loop_after_another(pay_key: RSA.RsaKey) -> None:
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
def test_url_of_an_address_is_usable_on_this_machine(address: str, url: str) -> None:
    """An address becomes a URL that a client on this machine can use."""
    assert _build_url(address, 80) == url


@pytest.mark.parametrize("path", ["/", "/api", "/api/instant/trade/", "/sandbox/", "/sandbox/pay"])
async def test_path_unknown_is_404_and_not_counted(
    session: aiohttp.ClientSession, sandbox: Sandbox, path: str
) -> None:
    """There is nothing but the endpoints: 404, and no call is counted."""
    async with session.post(sandbox.url + path) as answer:
        status, _ = await read(answer)
    assert status == 404
    assert sandbox.platform.calls.total() == 0


async def test_body_over_a_megabyte_is_413(
    session: aiohttp.ClientSession, sandbox: Sandbox
) -> None:
    """A body of over a megabyte is not read."""
    body = io.BytesIO(b"a=" + b"x" * (1 << 20))
    async with session.post(sandbox.url + TRADE, data=body) as answer:
        status, _ = await read(answer)
    assert status == 413
    assert sandbox.platform.calls.total() == 0


async def test_client_of_the_standard_library_is_answered(merchant: Merchant) -> None:
    """A client of another make, the standard library's, gets the same answer."""
    host, port = merchant.sandbox.url.removeprefix("http://").split(":")
    body = urlencode(merchant.sign())

    def post() -> bytes:
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        connection.request("POST", MERCHANTS, body, headers)
        answer = connection.getresponse().read()
        connection.close()
        return answer

    reply = json.loads(await asyncio.to_thread(post))
    assert reply["success"] is True


# Forged callbacks


async def test_send_forged_with_wrong_arguments_raises(
    merchant: Merchant, sandbox: Sandbox
) -> None:
    """There must be an order, an address, such a forgery, and a running sandbox."""
    await merchant.trade("A1")
    with pytest.raises(InvalidRequestError, match="no such order"):
        await sandbox.send_forged("amount", "A2")
    with pytest.raises(ValueError, match="blue"):
        await sandbox.send_forged("blue", "A1")
    sandbox.notify_url = None
    with pytest.raises(InvalidRequestError, match="notify_url"):
        await sandbox.send_forged("amount", "A1")
    await sandbox.aclose()
    with pytest.raises(RuntimeError, match="not running"):
        await sandbox.send_forged("amount", "A1")

"""A running sandbox, its merchant, and a server that takes the merchant's callbacks."""

import subprocess
from collections.abc import AsyncIterator, Iterator

import aiohttp
import pytest
from Crypto.PublicKey import RSA

from tests.sandbox.callback_shop import FAST, CallbackShop, Settings
from tests.sandbox.raw_merchant import Merchant
from tests.support.clock import MovedClock
from tests.support.signers import keep_signers
from wxpay_async.sandbox import Sandbox


def _generate_key() -> RSA.RsaKey:
    done = subprocess.run(["openssl", "genrsa", "2048"], capture_output=True, check=True)
    return RSA.import_key(done.stdout)


@pytest.fixture(scope="session", autouse=True)
def kept_signers() -> Iterator[None]:
    """Start sandboxes with keys that are loaded once."""
    with keep_signers():
        yield


@pytest.fixture(scope="session")
def merchant_key() -> RSA.RsaKey:
    """The key with which the merchant signs."""
    return _generate_key()


@pytest.fixture(scope="session")
def pay_key() -> RSA.RsaKey:
    """The key with which the sandbox signs prepays."""
    return _generate_key()


@pytest.fixture
def settings(clock: MovedClock, merchant_key: RSA.RsaKey, pay_key: RSA.RsaKey) -> Settings:
    """The arguments of the sandbox: it knows the merchant's public key and sends no callbacks."""
    public = merchant_key.public_key().export_key("PEM")
    return {"merchant_public_key": public, "pay_key": pay_key, "clock": clock.time}


@pytest.fixture
async def shop() -> AsyncIterator[CallbackShop]:
    """A merchant's server that takes callbacks."""
    running = CallbackShop()
    await running.start()
    yield running
    await running.aclose()


@pytest.fixture
def callback_settings(clock: MovedClock, pay_key: RSA.RsaKey, shop: CallbackShop) -> Settings:
    """The arguments of a sandbox that sends callbacks to the shop, signed by MD5."""
    return {
        "pay_key": pay_key,
        "clock": clock.time,
        "notify_url": shop.url,
        "callback_schedule": FAST,
    }


@pytest.fixture
async def sandbox(settings: Settings) -> AsyncIterator[Sandbox]:
    """A running sandbox; it must leave no task behind."""
    async with Sandbox(**settings) as running:
        yield running
    assert set() == running.callbacks._tasks, "tasks outlive the sandbox"


@pytest.fixture
async def session() -> AsyncIterator[aiohttp.ClientSession]:
    """An HTTP client that knows nothing of the platform."""
    async with aiohttp.ClientSession() as opened:
        yield opened


@pytest.fixture
def merchant(session: aiohttp.ClientSession, sandbox: Sandbox) -> Merchant:
    """The merchant, signing by MD5."""
    return Merchant(session, sandbox)


@pytest.fixture(params=["md5", "rsa"])
def md5_or_rsa_merchant(
    request: pytest.FixtureRequest,
    session: aiohttp.ClientSession,
    sandbox: Sandbox,
    merchant_key: RSA.RsaKey,
) -> Merchant:
    """The merchant, signing by MD5 and then by RSA."""
    return Merchant(session, sandbox, key=merchant_key if request.param == "rsa" else None)

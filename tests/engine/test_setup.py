"""How a gateway is made, and what it refuses before anything happens."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest

from wxpay_async.adapters.limiters.limiter import Slowed
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.limiters.redis import RedisLimiter
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.errors import InvalidKeyError, InvalidRequestError
from wxpay_async.policy.retry import QUOTA_WINDOW
from wxpay_async.protocol.signing import Md5Signer, RsaSigner
from wxpay_async.protocol.wire import PRODUCTION, TEST, Timeouts
from wxpay_async.sandbox import Sandbox

Fixture = Any
"""What a conftest.py defines, which no test module can import."""

KEYS = Path(__file__).parent.parent / "vectors" / "keys"
MD5 = {"WXPAY_APP_KEY": "k", "WXPAY_APP_SECRET": "s3cret"}


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    """Return a private key that only its owner can read."""
    path = tmp_path / "merchant.pem"
    path.write_bytes((KEYS / "pkcs8.pem").read_bytes())
    path.chmod(0o600)
    return str(path)


def _dispatcher_of(gateway: PayGateway) -> Any:  # noqa: ANN401 - a look behind the curtain
    return gateway._dispatcher


def _transport(gateway: PayGateway) -> object:
    return gateway._dispatcher.make_transport()


def test_from_env_with_a_secret() -> None:
    """The published scheme, the production host, memory."""
    gateway = PayGateway.from_env(MD5)

    assert ("k", PRODUCTION) == (gateway.app_key, _dispatcher_of(gateway).builder.base_url)
    assert isinstance(_dispatcher_of(gateway).signing.signer, Md5Signer)
    assert isinstance(_dispatcher_of(gateway).store, MemoryStore)


def test_from_env_with_a_key_file(key_file: str) -> None:
    """RSA is announced."""
    env = {"WXPAY_APP_KEY": "k", "WXPAY_PRIVATE_KEY_FILE": key_file}
    gateway = PayGateway.from_env(env)

    assert isinstance(_dispatcher_of(gateway).signing.signer, RsaSigner)
    assert "RSA" == _dispatcher_of(gateway).builder.sign_type


def test_from_env_reads_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping it is the process's own."""
    for name, value in MD5.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WXPAY_BASE_URL", TEST)

    assert TEST == _dispatcher_of(PayGateway.from_env()).builder.base_url


@pytest.mark.parametrize(
    ("env", "field"),
    [
        ({}, "WXPAY_APP_KEY"),
        ({"WXPAY_APP_KEY": "", "WXPAY_APP_SECRET": "s"}, "WXPAY_APP_KEY"),
        ({"WXPAY_APP_KEY": "k"}, "WXPAY_APP_SECRET"),
        ({"WXPAY_APP_KEY": "k", "WXPAY_APP_SECRET": ""}, "WXPAY_APP_SECRET"),
        ({**MD5, "WXPAY_PRIVATE_KEY_FILE": "merchant.pem"}, "WXPAY_APP_SECRET"),
        ({**MD5, "WXPAY_BASE_URL": "http://openapi.gongmall.com"}, "base_url"),
        ({**MD5, "WXPAY_BASE_URL": "ftp://openapi.gongmall.com"}, "base_url"),
        ({**MD5, "WXPAY_PROXY": "socks5://proxy:1"}, "proxy"),
        ({**MD5, "WXPAY_APP_KEY": "a&b=c"}, "appKey"),
        ({**MD5, "WXPAY_STORE_URL": "zzz"}, "WXPAY_STORE_URL"),
        ({**MD5, "WXPAY_STORE_URL": "redis://:s3cret@"}, "WXPAY_STORE_URL"),
        ({**MD5, "WXPAY_QUOTA_URL": "zzz"}, "WXPAY_QUOTA_URL"),
        ({**MD5, "WXPAY_QUOTA_URL": "redis://:s3cret@host:port"}, "WXPAY_QUOTA_URL"),
    ],
)
def test_from_env_says_which_variable_is_wrong(env: dict[str, str], field: str) -> None:
    """The name is in the error, the secret is not."""
    with pytest.raises(InvalidRequestError) as caught:
        PayGateway.from_env(env)

    assert field == caught.value.field
    assert "s3cret" not in str(caught.value)


def test_from_env_with_a_file_that_is_not_there() -> None:
    """It is the key that cannot be used."""
    env = {"WXPAY_APP_KEY": "k", "WXPAY_PRIVATE_KEY_FILE": "/nowhere/merchant.pem"}
    with pytest.raises(InvalidKeyError):
        PayGateway.from_env(env)


def test_a_proxy_from_the_environment() -> None:
    """It is the transport's, and only if it is asked for."""
    gateway = PayGateway.from_env({**MD5, "WXPAY_PROXY": "http://proxy:3128"})
    transport = _transport(gateway)

    assert isinstance(transport, AiohttpTransport)
    assert "http://proxy:3128" == transport.proxy


def test_a_shared_quota_from_the_environment() -> None:
    """A slot is leased for as long as a call may take, and being slowed down is told."""
    told: list[Event] = []
    gateway = PayGateway.from_env(
        {**MD5, "WXPAY_QUOTA_URL": "redis://127.0.0.1:6379/0"},
        timeouts=Timeouts(call=120.0),
        hooks=[told.append],
    )
    limiter = _dispatcher_of(gateway).limiter
    limiter.on_slowed(Slowed(taken=10, pace=7, limit=400))

    assert isinstance(limiter, RedisLimiter)
    assert 125.0 == limiter.quota.lease
    assert [EventKind.SLOWED_DOWN] == [event.kind for event in told]


def test_a_limiter_that_is_given_keeps_its_listener() -> None:
    """What somebody has set up is left as it is."""
    heard: list[Slowed] = []
    given = LocalLimiter(on_slowed=heard.append)
    gateway = PayGateway.from_env({**MD5, "WXPAY_QUOTA_URL": "redis://h"}, limiter=given)

    assert given is _dispatcher_of(gateway).limiter
    assert heard.append == given.on_slowed


def test_what_is_given_wins_over_the_environment() -> None:
    """Keyword arguments are the constructor's, and the last word."""
    given = MemoryTransport()
    gateway = PayGateway.from_env(
        {**MD5, "WXPAY_BASE_URL": TEST, "WXPAY_PROXY": "http://proxy:1"},
        base_url=PRODUCTION,
        transport=given,
    )

    assert (PRODUCTION, given) == (_dispatcher_of(gateway).builder.base_url, _transport(gateway))


def test_parts_that_are_empty_are_still_parts() -> None:
    """A store that is falsy, because it has a length and nothing in it, is not replaced."""

    class Counted(MemoryStore):
        def __len__(self) -> int:
            return 0

    store = Counted()
    gateway = PayGateway("k", Md5Signer("s"), store=store)

    assert store is _dispatcher_of(gateway).store


@pytest.mark.parametrize("settings", [{"max_in_flight": 0}, {"base_url": "http://example.com"}])
def test_settings_that_cannot_be_used(settings: dict[str, Any]) -> None:
    """Found when the gateway is made."""
    with pytest.raises(InvalidRequestError):
        PayGateway("k", Md5Signer("s"), **settings)


def test_an_empty_app_key() -> None:
    """There is no default for it."""
    with pytest.raises(InvalidRequestError, match="appKey"):
        PayGateway("", Md5Signer("s"))


def test_every_time_out_is_finite() -> None:
    """No phase can hang for ever, and nobody can ask for that (lesson 13)."""
    timeouts = Timeouts()
    assert (5.0, 10.0, 15.0, 30.0) == (
        timeouts.connect,
        timeouts.read,
        timeouts.attempt,
        timeouts.call,
    )
    with pytest.raises(ValueError, match="must be"):
        Timeouts(call=math.inf)


def test_an_attempt_that_outlasts_its_lease_is_refused() -> None:
    """45 s after its claim somebody else may send: two of them go into finding that out."""
    longest = Timeouts(attempt=43.0)
    with pytest.raises(InvalidRequestError, match=r"timeouts\.attempt.*at most 43 s"):
        PayGateway("k", Md5Signer("s"), timeouts=Timeouts(attempt=43.5))

    assert PayGateway("k", Md5Signer("s"), timeouts=longest).app_key == "k"


@pytest.mark.parametrize("timeout", [0, -1, 2.999, math.nan, math.inf])
@pytest.mark.parametrize("operation", ["pay", "refund", "trade"])
async def test_a_time_out_that_no_attempt_fits_in_is_refused(
    operation: str, timeout: float, open_shop: Fixture, asking: Fixture
) -> None:
    """3 s are what one attempt may need; endless is no time-out either. Both rules are told."""
    shop = open_shop(lambda _: {})
    request = getattr(asking, operation)()
    with pytest.raises(InvalidRequestError, match=r"timeout: .* a finite time of at least 3\.0 s"):
        await getattr(shop.gateway, operation)(request, timeout=timeout)

    assert (0, None) == (shop.transport.calls, await shop.state(request.request_id))


@pytest.mark.parametrize(
    ("operation", "wrong"), [("pay", "refund"), ("trade", "pay"), ("refund", "trade")]
)
async def test_the_wrong_request_is_refused_by_its_type(
    operation: str, wrong: str, open_shop: Fixture, asking: Fixture
) -> None:
    """The error names both types and not what was in them."""
    shop = open_shop()
    with pytest.raises(InvalidRequestError) as caught:
        await getattr(shop.gateway, operation)(getattr(asking, wrong)())

    assert "openid" not in str(caught.value)
    assert 0 == shop.transport.calls


def test_the_default_quota_is_the_published_one() -> None:
    """Without a limiter the platform's number is kept, in this process."""
    limiter = _dispatcher_of(PayGateway("k", Md5Signer("s"))).limiter

    assert isinstance(limiter, LocalLimiter)
    assert (400, QUOTA_WINDOW) == (limiter.quota.limit, limiter.quota.answered_for)


@pytest.mark.parametrize("scheme", ["md5", "rsa"])
async def test_parameters_in_the_query_string(scheme: str, asking: Fixture) -> None:
    """By choice every call carries all of them in the address, and the platform verifies them."""
    public_key = (KEYS / "public.pem").read_bytes()
    async with Sandbox(merchant_public_key=public_key) as sandbox:
        md5, rsa = Md5Signer(sandbox.app_secret), RsaSigner.from_pem(_pem())
        gateway = PayGateway(
            sandbox.app_key,
            rsa if scheme == "rsa" else md5,
            base_url=sandbox.url,
            placement="query",
        )
        async with gateway:
            order = asking.trade()
            token = (await gateway.trade(order)).pay_token
            await gateway.pay(asking.pay(pay_token=token))
            found = await gateway.query(out_trade_no=order.trade_info[0].out_trade_no)
            _ = [merchant async for merchant in gateway.merchants(page_size=100)]
        calls = list(sandbox.platform.recent)

    assert "awaiting" == found.state.value
    assert {b""} == {call.body for call in calls}
    assert 4 == len([call for call in calls if "sign=" in call.query])


def _pem() -> bytes:
    return (KEYS / "pkcs8.pem").read_bytes()


def test_parameters_are_in_the_body_or_in_the_query_string() -> None:
    """There is no third place, and the body is the one by default."""
    assert "body" == _dispatcher_of(PayGateway("k", Md5Signer("s"))).builder.placement
    with pytest.raises(InvalidRequestError, match="allowed: body, query"):
        PayGateway("k", Md5Signer("s"), placement="header")  # type: ignore[arg-type]

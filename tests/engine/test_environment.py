"""What `PayGateway.from_env` reads, and what it refuses."""

from __future__ import annotations

import inspect
from base64 import b64encode
from pathlib import Path
from typing import get_type_hints

import pytest

from tests.support.vectors import PRIVATE_KEY
from wxpay_async.adapters.limiters.limiter import Slowed
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.limiters.redis import RedisLimiter
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.sealed import STORE_CONTEXT, SealedStore
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.environment import GatewayOptions
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.errors import InvalidKeyError, InvalidRequestError
from wxpay_async.protocol.signing import Md5Signer, RsaSigner
from wxpay_async.protocol.wire import PRODUCTION, TEST, Timeouts

BY_SECRET = {"WXPAY_APP_KEY": "k", "WXPAY_APP_SECRET": "s3cret"}
SEAL_KEY, OTHER_KEY = bytes(range(32)), b"k" * 32
ON_DISK = {**BY_SECRET, "WXPAY_STORE_URL": "sqlite:///never-opened.db"}


@pytest.fixture
def key_file(tmp_path: Path) -> str:
    """Return a private key that only its owner can read."""
    path = tmp_path / "merchant.pem"
    path.write_bytes(PRIVATE_KEY.read_bytes())
    path.chmod(0o600)
    return str(path)


def test_options_of_from_env_are_those_of_the_constructor() -> None:
    """Each has the same type in both places, so that a type checker reads both alike."""
    hints = get_type_hints(PayGateway.__init__)
    parameters = inspect.signature(PayGateway).parameters.values()
    options = {each.name: hints[each.name] for each in parameters if each.kind == each.KEYWORD_ONLY}

    assert options == get_type_hints(GatewayOptions)
    assert frozenset() == GatewayOptions.__required_keys__


def make_transport(gateway: PayGateway) -> object:
    """Return the transport that the first request would open."""
    return gateway._dispatcher.make_transport()


def test_environment_with_a_secret_signs_by_md5() -> None:
    """The published scheme, the production host, memory."""
    gateway = PayGateway.from_env(BY_SECRET)

    assert ("k", PRODUCTION) == (gateway.app_key, gateway._dispatcher.builder.base_url)
    assert isinstance(gateway._dispatcher.signing.signer, Md5Signer)
    assert isinstance(gateway._dispatcher.store, MemoryStore)


def test_environment_with_a_key_file_signs_by_rsa(key_file: str) -> None:
    """The scheme is announced to the platform."""
    env = {"WXPAY_APP_KEY": "k", "WXPAY_PRIVATE_KEY_FILE": key_file}
    gateway = PayGateway.from_env(env)

    assert isinstance(gateway._dispatcher.signing.signer, RsaSigner)
    assert "RSA" == gateway._dispatcher.builder.sign_type


def test_environment_is_the_process_s_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping `os.environ` is read."""
    for name, value in BY_SECRET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WXPAY_BASE_URL", TEST)

    assert TEST == PayGateway.from_env()._dispatcher.builder.base_url


@pytest.mark.parametrize(
    ("env", "field"),
    [
        ({}, "WXPAY_APP_KEY"),
        ({"WXPAY_APP_KEY": "", "WXPAY_APP_SECRET": "s"}, "WXPAY_APP_KEY"),
        ({"WXPAY_APP_KEY": "k"}, "WXPAY_APP_SECRET"),
        ({"WXPAY_APP_KEY": "k", "WXPAY_APP_SECRET": ""}, "WXPAY_APP_SECRET"),
        ({**BY_SECRET, "WXPAY_PRIVATE_KEY_FILE": "merchant.pem"}, "WXPAY_APP_SECRET"),
        ({**BY_SECRET, "WXPAY_BASE_URL": "http://openapi.gongmall.com"}, "base_url"),
        ({**BY_SECRET, "WXPAY_BASE_URL": "ftp://openapi.gongmall.com"}, "base_url"),
        ({**BY_SECRET, "WXPAY_PROXY": "socks5://proxy:1"}, "proxy"),
        ({**BY_SECRET, "WXPAY_APP_KEY": "a&b=c"}, "appKey"),
        ({**BY_SECRET, "WXPAY_APP_KEY": "k "}, "appKey"),
        ({**BY_SECRET, "WXPAY_APP_KEY": "\ufeffk"}, "appKey"),
        ({**BY_SECRET, "WXPAY_APP_KEY": '"k"'}, "WXPAY_APP_KEY"),
        ({**BY_SECRET, "WXPAY_APP_SECRET": '"s3cret"'}, "WXPAY_APP_SECRET"),
        ({**BY_SECRET, "WXPAY_APP_SECRET": "'s3cret'"}, "WXPAY_APP_SECRET"),
        ({**BY_SECRET, "WXPAY_BASE_URL": f'"{TEST}"'}, "WXPAY_BASE_URL"),
        ({**BY_SECRET, "WXPAY_STORE_URL": '"sqlite:///s3cret.db"'}, "WXPAY_STORE_URL"),
        ({**BY_SECRET, "WXPAY_FORMER_SECRETS": '"s3cret"'}, "WXPAY_FORMER_SECRETS"),
        ({**BY_SECRET, "WXPAY_STORE_URL": "zzz"}, "WXPAY_STORE_URL"),
        ({**BY_SECRET, "WXPAY_STORE_URL": "redis://:s3cret@"}, "WXPAY_STORE_URL"),
        ({**BY_SECRET, "WXPAY_SEAL_KEY": "s3cret"}, "WXPAY_SEAL_KEY"),
        ({**BY_SECRET, "WXPAY_SEAL_KEY": SEAL_KEY.hex()[1:]}, "WXPAY_SEAL_KEY"),
        ({**BY_SECRET, "WXPAY_SEAL_KEY": f"{SEAL_KEY.hex()} s3cret"}, "WXPAY_SEAL_KEY"),
        ({**BY_SECRET, "WXPAY_SEAL_KEY": "g" * 64}, "WXPAY_SEAL_KEY"),
        ({**BY_SECRET, "WXPAY_SEAL_KEY": "s3cretA="}, "WXPAY_SEAL_KEY"),
        ({**BY_SECRET, "WXPAY_SEAL_KEY": " , "}, "WXPAY_SEAL_KEY"),
        ({**BY_SECRET, "WXPAY_FORMER_SECRETS": "s3cret\u00e9"}, "WXPAY_FORMER_SECRETS"),
        ({**BY_SECRET, "WXPAY_FORMER_SECRETS": " , "}, "WXPAY_FORMER_SECRETS"),
        ({**BY_SECRET, "WXPAY_QUOTA_URL": "zzz"}, "WXPAY_QUOTA_URL"),
        ({**BY_SECRET, "WXPAY_QUOTA_URL": "redis://:s3cret@host:port"}, "WXPAY_QUOTA_URL"),
    ],
)
def test_environment_that_is_wrong_is_refused_by_its_variable(
    env: dict[str, str], field: str
) -> None:
    """The name is in the error, the secret is not."""
    with pytest.raises(InvalidRequestError) as caught:
        PayGateway.from_env(env)

    assert field == caught.value.field
    assert "s3cret" not in str(caught.value)


def derive(secret: str) -> bytes:
    """Return the key that seals a store by a secret of the MD5 scheme."""
    return Md5Signer(secret).derive_key(STORE_CONTEXT)


BASE64_KEYS = f"{b64encode(SEAL_KEY).decode()},\n{b64encode(OTHER_KEY).decode()}\n"


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({}, [derive("s3cret")]),
        ({"WXPAY_SEAL_KEY": "", "WXPAY_FORMER_SECRETS": ""}, [derive("s3cret")]),
        ({"WXPAY_SEAL_KEY": SEAL_KEY.hex().upper()}, [SEAL_KEY, derive("s3cret")]),
        ({"WXPAY_SEAL_KEY": BASE64_KEYS}, [SEAL_KEY, OTHER_KEY, derive("s3cret")]),
        ({"WXPAY_FORMER_SECRETS": "a"}, [derive("s3cret"), derive("a")]),
        ({"WXPAY_FORMER_SECRETS": "a, b,"}, [derive("s3cret"), derive("a"), derive("b")]),
        (
            {"WXPAY_SEAL_KEY": SEAL_KEY.hex(), "WXPAY_FORMER_SECRETS": "a b"},
            [SEAL_KEY, derive("s3cret"), derive("a"), derive("b")],
        ),
    ],
)
def test_environment_names_the_keys_of_the_store(
    env: dict[str, str], expected: list[bytes]
) -> None:
    """The key of its own seals, else the secret in force; the others open what they have sealed."""
    store = PayGateway.from_env({**ON_DISK, **env}).store

    assert isinstance(store, SealedStore)
    assert expected == store.keys


def test_environment_with_a_key_file_opens_what_former_secrets_sealed(key_file: str) -> None:
    """The way from MD5 to RSA loses nothing."""
    env = {**ON_DISK, "WXPAY_PRIVATE_KEY_FILE": key_file, "WXPAY_FORMER_SECRETS": "s3cret"}
    del env["WXPAY_APP_SECRET"]
    store = PayGateway.from_env(env).store

    assert isinstance(store, SealedStore)
    expected = [RsaSigner.from_file(key_file).derive_key(STORE_CONTEXT), derive("s3cret")]
    assert expected == store.keys


def test_environment_names_no_keys_where_they_are_given() -> None:
    """The argument is the whole list."""
    env = {**ON_DISK, "WXPAY_SEAL_KEY": SEAL_KEY.hex(), "WXPAY_FORMER_SECRETS": "a"}
    store = PayGateway.from_env(env, seal_keys=[OTHER_KEY]).store

    assert isinstance(store, SealedStore)
    assert [OTHER_KEY] == store.keys


def test_environment_with_a_missing_key_file_is_refused() -> None:
    """The error says that the key cannot be used."""
    env = {"WXPAY_APP_KEY": "k", "WXPAY_PRIVATE_KEY_FILE": "/nowhere/merchant.pem"}
    with pytest.raises(InvalidKeyError):
        PayGateway.from_env(env)


def test_environment_with_a_proxy_sets_it() -> None:
    """The transport gets the proxy, and only if one is set."""
    gateway = PayGateway.from_env({**BY_SECRET, "WXPAY_PROXY": "http://proxy:3128"})
    transport = make_transport(gateway)

    assert isinstance(transport, AiohttpTransport)
    assert "http://proxy:3128" == transport.proxy


def test_environment_with_a_quota_url_shares_the_quota() -> None:
    """A slot is leased for as long as an attempt may hold it; a slow-down becomes an event."""
    events: list[Event] = []
    gateway = PayGateway.from_env(
        {**BY_SECRET, "WXPAY_QUOTA_URL": "redis://127.0.0.1:6379/0"},
        timeouts=Timeouts(call=120.0),
        hooks=[events.append],
    )
    limiter = gateway._dispatcher.limiter
    limiter.on_slowed(Slowed(taken=10, pace=7, limit=400))

    assert isinstance(limiter, RedisLimiter)
    assert 165.0 == limiter.quota.lease
    assert [EventKind.SLOWED_DOWN] == [event.kind for event in events]


def test_environment_leaves_a_given_limiter_alone() -> None:
    """Its own listener keeps hearing of slow-downs."""
    slowed: list[Slowed] = []
    given = LocalLimiter(on_slowed=slowed.append)
    gateway = PayGateway.from_env({**BY_SECRET, "WXPAY_QUOTA_URL": "redis://h"}, limiter=given)

    assert given is gateway._dispatcher.limiter
    assert slowed.append == given.on_slowed


def test_argument_wins_over_the_environment() -> None:
    """Keyword arguments are the constructor's, and decide."""
    given = MemoryTransport()
    gateway = PayGateway.from_env(
        {**BY_SECRET, "WXPAY_BASE_URL": TEST, "WXPAY_PROXY": "http://proxy:1"},
        base_url=PRODUCTION,
        transport=given,
    )

    assert (PRODUCTION, given) == (gateway._dispatcher.builder.base_url, make_transport(gateway))

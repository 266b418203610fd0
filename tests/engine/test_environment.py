"""What `PayGateway.from_env` reads, and what it refuses."""

from __future__ import annotations

import contextlib
import inspect
from base64 import b64encode
from pathlib import Path
from typing import get_type_hints

import pytest
from aiohttp import ClientSession, web
from aiohttp.test_utils import TestServer
from hypothesis import example, given, settings, strategies as st

from tests.support import asking
from tests.support.examples import count_examples
from wxpay_async.adapters.limiters.limiter import Slowed
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.limiters.redis import RedisLimiter
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.sealed import STORE_CONTEXT, SealedStore
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.environment import VARIABLES, GatewayOptions, Settings
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.errors import InvalidKeyError, InvalidRequestError
from wxpay_async.protocol.builder import Placement
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import PRODUCTION, TEST, Timeouts
from wxpay_async.sandbox import Sandbox

BY_SECRET = {"WXPAY_APP_KEY": "k", "WXPAY_APP_SECRET": "s3cret"}
SCHEMES = "WXPAY_APP_SECRET, WXPAY_APP_SECRET_FILE, WXPAY_PRIVATE_KEY, WXPAY_PRIVATE_KEY_FILE"
PLACEMENTS: tuple[Placement, ...] = ("body", "query")
FRONT = "http://192.168.1.10:9000/gongmall"
SEAL_KEY, OTHER_KEY = bytes(range(32)), b"k" * 32
ON_DISK = {**BY_SECRET, "WXPAY_STORE_URL": "sqlite:///never-opened.db"}


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


def test_environment_is_the_process_s_by_default(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without a mapping `os.environ` is read."""
    for name, value in BY_SECRET.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("WXPAY_BASE_URL", TEST)

    assert TEST == PayGateway.from_env()._dispatcher.builder.base_url


@pytest.mark.parametrize(
    ("env", "field"),
    [
        ({"WXPAY_APP_SECRET": "s"}, "WXPAY_APP_KEY"),
        ({"WXPAY_APP_KEY": "", "WXPAY_APP_SECRET": "s"}, "WXPAY_APP_KEY"),
        ({"WXPAY_APP_KEY": "k"}, SCHEMES),
        ({"WXPAY_APP_KEY": "k", "WXPAY_APP_SECRET": ""}, SCHEMES),
        ({**BY_SECRET, "WXPAY_KEY_FILE_MODE": "0777"}, "WXPAY_KEY_FILE_MODE"),
        ({**BY_SECRET, "WXPAY_BASE_URL": "http://openapi.gongmall.com"}, "WXPAY_BASE_URL"),
        ({**BY_SECRET, "WXPAY_BASE_URL": "ftp://openapi.gongmall.com"}, "WXPAY_BASE_URL"),
        ({**BY_SECRET, "WXPAY_BASE_URL": "tset"}, "WXPAY_BASE_URL"),
        ({**BY_SECRET, "WXPAY_ALLOW_INSECURE": "perhaps"}, "WXPAY_ALLOW_INSECURE"),
        (
            {**BY_SECRET, "WXPAY_BASE_URL": FRONT, "WXPAY_ALLOW_INSECURE": "0"},
            "WXPAY_BASE_URL",
        ),
        ({**BY_SECRET, "WXPAY_PROXY": "socks5://proxy:1"}, "WXPAY_PROXY"),
        ({**BY_SECRET, "WXPAY_APP_KEY": "a&b=c"}, "appKey"),
        ({**BY_SECRET, "WXPAY_APP_KEY": "\ufeffk"}, "appKey"),
        ({**BY_SECRET, "WXPAY_APP_KEY": '"k"'}, "WXPAY_APP_KEY"),
        ({**BY_SECRET, "WXPAY_APP_SECRET": '"s3cret"'}, "WXPAY_APP_SECRET"),
        ({**BY_SECRET, "WXPAY_APP_SECRET": "'s3cret'"}, "WXPAY_APP_SECRET"),
        ({**BY_SECRET, "WXPAY_APP_SECRET": " 's3cret'\n"}, "WXPAY_APP_SECRET"),
        ({**BY_SECRET, "WXPAY_APP_SECRET": "\u201cs3cret\u201d"}, "WXPAY_APP_SECRET"),
        ({**BY_SECRET, "WXPAY_APP_SECRET": "\u2018s3cret\u2019"}, "WXPAY_APP_SECRET"),
        ({**BY_SECRET, "WXPAY_APP_SECRET": "s3cret\nWXPAY_APP_KEY=k"}, "WXPAY_APP_SECRET"),
        ({**BY_SECRET, "WXPAY_APP_SECRET": "s3cret\u00e9"}, "WXPAY_APP_SECRET"),
        (
            {**BY_SECRET, "WXPAY_APP_KEY": '"k"', "WXPAY_APP_SECRET": "'s3cret'"},
            "WXPAY_APP_KEY, WXPAY_APP_SECRET",
        ),
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
        ({**BY_SECRET, "WXPAY_FORMER_SECRETS": "a,'s3cret',b"}, "WXPAY_FORMER_SECRETS"),
        ({**BY_SECRET, "WXPAY_FORMER_SECRETS": " , "}, "WXPAY_FORMER_SECRETS"),
        ({**BY_SECRET, "WXPAY_QUOTA_URL": "zzz"}, "WXPAY_QUOTA_URL"),
        ({**BY_SECRET, "WXPAY_QUOTA_URL": "redis://:s3cret@host:port"}, "WXPAY_QUOTA_URL"),
        ({**BY_SECRET, "WXPAY_BATCH_SHARE": "0"}, "WXPAY_BATCH_SHARE"),
        ({**BY_SECRET, "WXPAY_BATCH_SHARE": "401"}, "WXPAY_BATCH_SHARE"),
        ({**BY_SECRET, "WXPAY_BATCH_SHARE": "95 %"}, "WXPAY_BATCH_SHARE"),
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


def test_environment_with_several_problems_tells_all_of_them_at_once(tmp_path: Path) -> None:
    """Who sets up a service need not start it once for each."""
    env = {
        "WXPAY_PRIVATE_KEY_FILE": str(tmp_path / "nowhere.pem"),
        "WXPAY_BASE_URL": "http://shop.example",
        "WXPAY_PROXY": "socks5://user:s3cret@proxy",
        "WXPAY_STORE_URL": "zzz",
        "WXPAY_QUOTA_URL": "zzz",
        "WXPAY_SEAL_KEY": "s3cret",
        "WXPAY_FORMER_SECRETS": "s3cret\u00e9",
    }
    with pytest.raises(InvalidRequestError) as caught:
        PayGateway.from_env(env)

    expected = ["WXPAY_APP_KEY", *env]
    assert [] == [name for name in expected if name not in str(caught.value)]
    assert sorted(expected) == sorted(caught.value.field.split(", "))
    assert "s3cret" not in str(caught.value)


def test_environment_with_blanks_around_its_values_is_read_without_them(tmp_path: Path) -> None:
    """`--env-file` and `echo` leave them, and in no value they can mean anything."""
    env = {
        **BY_SECRET,
        "WXPAY_BASE_URL": TEST,
        "WXPAY_PROXY": "http://proxy:3128",
        "WXPAY_STORE_URL": f"sqlite:///{tmp_path / 'wxpay.db'}",
        "WXPAY_QUOTA_URL": "redis://127.0.0.1:6379/0",
        "WXPAY_SEAL_KEY": SEAL_KEY.hex(),
        "WXPAY_FORMER_SECRETS": "a",
    }
    gateway = PayGateway.from_env({name: f" \t{value}\r\n" for name, value in env.items()})
    made, transport, store = gateway._dispatcher, make_transport(gateway), gateway.store

    assert ("k", TEST) == (gateway.app_key, made.builder.base_url)
    assert Md5Signer("s3cret").sign(b"text") == made.signing.signer.sign(b"text")
    assert isinstance(transport, AiohttpTransport)
    assert "http://proxy:3128" == transport.proxy
    assert isinstance(store, SealedStore)
    assert [SEAL_KEY, derive("s3cret"), derive("a")] == store.keys
    assert isinstance(store.store, SqlStore)
    assert isinstance(made.limiter, RedisLimiter)


def test_environment_with_blanks_only_has_nothing_set() -> None:
    """A line of a file that was left empty."""
    env = dict.fromkeys((*BY_SECRET, "WXPAY_BASE_URL", "WXPAY_PROXY", "WXPAY_STORE_URL"), " \n")
    gateway = PayGateway.from_env({**env, **BY_SECRET})

    assert PRODUCTION == gateway._dispatcher.builder.base_url
    assert isinstance(gateway.store, MemoryStore)


VALUES = st.text(max_size=20) | st.sampled_from(
    [
        *("1", "any", "test", "http://a", "http://[::1", "http://h:99999", "http://u:p@h:1"),
        *("redis://h/0", "redis://h/x", "redis://h:99999", "sqlite://", "postgresql://a/b", "x://"),
        *("/dev/null", "/", "-----BEGIN", "M" * 300, "a" * 64, "half a pair \ud800"),
    ]
)


@settings(max_examples=count_examples(quick=100, full=2000), deadline=None)
@given(st.dictionaries(st.sampled_from(VARIABLES), VALUES))
@example({"WXPAY_APP_SECRET_FILE": "half a pair \ud800"})
def test_random_settings_make_a_gateway_or_are_refused(env: dict[str, str]) -> None:
    """No other error comes out of a library below."""
    with contextlib.suppress(InvalidRequestError, InvalidKeyError, ImportError):
        PayGateway.from_env({**BY_SECRET, **env} if len(env) % 2 else env)


def test_settings_show_none_of_their_values() -> None:
    """Whatever shows local variables."""
    assert "s3cret" not in repr(Settings(BY_SECRET))


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


def test_environment_names_no_keys_where_they_are_given() -> None:
    """The argument is the whole list."""
    env = {**ON_DISK, "WXPAY_SEAL_KEY": SEAL_KEY.hex(), "WXPAY_FORMER_SECRETS": "a"}
    store = PayGateway.from_env(env, seal_keys=[OTHER_KEY]).store

    assert isinstance(store, SealedStore)
    assert [OTHER_KEY] == store.keys


def test_environment_with_a_proxy_sets_it() -> None:
    """The transport gets the proxy, and only if one is set."""
    gateway = PayGateway.from_env({**BY_SECRET, "WXPAY_PROXY": "http://proxy:3128"})
    transport = make_transport(gateway)

    assert isinstance(transport, AiohttpTransport)
    assert "http://proxy:3128" == transport.proxy


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        *(("test", TEST), ("production", PRODUCTION), ("", PRODUCTION)),
        *(("https://front.example/gongmall/", "https://front.example/gongmall"),),
    ],
)
def test_environment_names_where_the_platform_is(value: str, expected: str) -> None:
    """By its name, or by the address of what stands in front of it."""
    gateway = PayGateway.from_env({**BY_SECRET, "WXPAY_BASE_URL": value})

    assert expected == gateway._dispatcher.builder.base_url


@pytest.mark.parametrize("switch", ["1", "true", "TRUE"])
def test_plain_http_beyond_loopback_needs_its_switch(switch: str) -> None:
    """In the environment or as an argument; the error names both."""
    env = {**BY_SECRET, "WXPAY_BASE_URL": FRONT}
    with pytest.raises(InvalidRequestError, match=r"allow_insecure=True.*WXPAY_ALLOW_INSECURE=1"):
        PayGateway.from_env(env)
    with pytest.raises(InvalidRequestError, match="allow_insecure=True"):
        PayGateway("k", Md5Signer("s3cret"), base_url=FRONT)
    gateways = [
        PayGateway.from_env({**env, "WXPAY_ALLOW_INSECURE": switch}),
        PayGateway.from_env({**BY_SECRET, "WXPAY_ALLOW_INSECURE": switch}, base_url=FRONT),
        PayGateway.from_env(env, allow_insecure=True),
        PayGateway("k", Md5Signer("s3cret"), base_url=FRONT, allow_insecure=True),
    ]

    assert [FRONT] * 4 == [gateway._dispatcher.builder.base_url for gateway in gateways]


@pytest.mark.parametrize("placement", PLACEMENTS)
async def test_front_machine_with_a_path_forwards_what_was_signed(placement: Placement) -> None:
    """It takes its own path away, and the platform accepts signature and content."""
    targets: list[str] = []

    async def forward(request: web.Request) -> web.Response:
        targets.append(request.path)
        target = sandbox.url + request.path_qs.removeprefix("/gongmall/v1")
        async with session.post(target, data=await request.read(), headers=request.headers) as said:
            return web.Response(body=await said.read(), content_type=said.content_type)

    front = web.Application()
    front.router.add_post("/gongmall/v1/{path:.*}", forward)
    async with Sandbox() as sandbox, ClientSession() as session, TestServer(front) as server:
        env = sandbox.settings() | {"WXPAY_BASE_URL": str(server.make_url("/gongmall/v1/"))}
        async with PayGateway.from_env(env, placement=placement) as gateway:
            created = await gateway.trade(asking.trade())
            paid = await gateway.pay(asking.pay(pay_token=created.pay_token))

    assert paid.jsapi_params()
    assert [
        "/gongmall/v1/api/instant/trade",
        "/gongmall/v1/api/instant/pay/wxminiprogram",
    ] == targets


def test_argument_against_plain_http_wins_over_the_environment() -> None:
    """As every argument does."""
    env = {**BY_SECRET, "WXPAY_BASE_URL": FRONT, "WXPAY_ALLOW_INSECURE": "1"}
    with pytest.raises(InvalidRequestError, match="plain HTTP"):
        PayGateway.from_env(env, allow_insecure=False)


def test_proxy_beside_a_transport_is_refused_with_both_names() -> None:
    """A transport has its own `proxy=`; requests must not go out by another way than it says."""
    env = {**BY_SECRET, "WXPAY_PROXY": "http://user:s3cret@proxy:3128"}
    with pytest.raises(InvalidRequestError) as caught:
        PayGateway.from_env(env, transport=MemoryTransport())

    assert "WXPAY_PROXY, transport" == caught.value.field
    assert "s3cret" not in str(caught.value)


def test_transport_given_as_none_takes_the_proxy() -> None:
    """As if it was not given."""
    gateway = PayGateway.from_env({**BY_SECRET, "WXPAY_PROXY": "http://proxy:3128"}, transport=None)
    transport = make_transport(gateway)

    assert isinstance(transport, AiohttpTransport)
    assert "http://proxy:3128" == transport.proxy


@pytest.mark.parametrize("proxy", ["", "http://proxy:3128"])
def test_transport_has_a_connection_for_each_request_in_flight(proxy: str) -> None:
    """Through a proxy, too."""
    gateway = PayGateway.from_env({**BY_SECRET, "WXPAY_PROXY": proxy}, max_in_flight=200)
    transport = make_transport(gateway)

    assert isinstance(transport, AiohttpTransport)
    assert 200 == transport.max_connections


@pytest.mark.parametrize("proxy", ["", "http://proxy:3128"])
def test_no_request_in_flight_is_refused_by_its_name(proxy: str) -> None:
    """Whoever makes the transport."""
    for too_few in (0, -1):
        with pytest.raises(InvalidRequestError, match=r"max_in_flight: .* does not fit"):
            PayGateway.from_env({**BY_SECRET, "WXPAY_PROXY": proxy}, max_in_flight=too_few)


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


@pytest.mark.parametrize("shared", [{}, {"WXPAY_QUOTA_URL": "redis://127.0.0.1:6379/0"}])
def test_environment_decides_what_machines_leave_to_people(shared: dict[str, str]) -> None:
    """In one process and in several; how long a slot is leased stays as it is."""
    gateway = PayGateway.from_env({**BY_SECRET, **shared, "WXPAY_BATCH_SHARE": "200"})
    limiter = gateway._dispatcher.limiter

    assert isinstance(limiter, (LocalLimiter, RedisLimiter))
    assert (400, 200) == (limiter.quota.limit, limiter.quota.batch)
    assert PayGateway("k", Md5Signer("s"))._dispatcher.limiter.quota.lease == limiter.quota.lease


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
        {**BY_SECRET, "WXPAY_BASE_URL": TEST, "WXPAY_STORE_URL": "sqlite:///never-opened.db"},
        store=MemoryStore(),
        base_url=PRODUCTION,
        transport=given,
    )

    assert (PRODUCTION, given) == (gateway._dispatcher.builder.base_url, make_transport(gateway))

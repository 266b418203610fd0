"""Who closes a gateway's parts: the gateway what it made, the caller what was handed in."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support import asking, replies
from tests.support.platform import APP_KEY, SECRET
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.limiters.redis import RedisLimiter
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.sql import SqlStore
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import NotSentError
from wxpay_async.protocol.signing import Md5Signer

NOBODY = "http://127.0.0.1:9"
ENVIRON = {"WXPAY_APP_KEY": APP_KEY, "WXPAY_APP_SECRET": SECRET, "WXPAY_BASE_URL": NOBODY}


@pytest.fixture
def closed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the names of the classes whose `aclose` was called."""
    names: list[str] = []
    kinds = [
        *(MemoryTransport, AiohttpTransport, MemoryStore, SqlStore),
        *(Unlimited, LocalLimiter, RedisLimiter),
    ]
    for kind in kinds:
        real = kind.aclose

        async def aclose(self: object, real: object = real) -> None:
            names.append(type(self).__name__)
            await real(self)  # type: ignore[operator] # one of three classes' own `aclose`

        monkeypatch.setattr(kind, "aclose", aclose)
    return names


async def test_close_leaves_open_what_was_handed_in(closed: list[str]) -> None:
    """Another gateway over the same parts goes on."""
    parts = {
        "transport": MemoryTransport(lambda _: replies.prepay()),
        "store": MemoryStore(),
        "limiter": Unlimited(),
    }
    for app_key in ("merchant-a", "merchant-b"):
        async with PayGateway(app_key, Md5Signer(SECRET), **parts) as gateway:  # type: ignore[arg-type] # by name
            assert await gateway.pay(asking.pay())

    assert [] == closed


async def test_close_closes_what_the_gateway_made(closed: list[str]) -> None:
    """The default transport, quota and store."""
    async with PayGateway(APP_KEY, Md5Signer(SECRET), base_url=NOBODY) as gateway:
        with pytest.raises(NotSentError):
            await gateway.pay(asking.pay(), timeout=3)

    assert ["AiohttpTransport", "LocalLimiter", "MemoryStore"] == sorted(closed)


async def test_close_closes_what_from_env_made(closed: list[str], tmp_path: Path) -> None:
    """The parts that the environment names, and none that was given beside it."""
    environ = ENVIRON | {
        "WXPAY_STORE_URL": f"sqlite:///{tmp_path}/wxpay.db",
        "WXPAY_QUOTA_URL": "redis://127.0.0.1:9/0",
        "WXPAY_PROXY": NOBODY,
    }
    async with PayGateway.from_env(environ, limiter=Unlimited()) as gateway:
        with pytest.raises(NotSentError):
            await gateway.pay(asking.pay(), timeout=3)
    assert ["AiohttpTransport", "SqlStore"] == sorted(closed)
    closed.clear()

    await PayGateway.from_env(environ, store=MemoryStore()).aclose()
    assert ["RedisLimiter"] == closed


# What it shows


def test_gateway_shows_which_one_it_is(tmp_path: Path) -> None:
    """The merchant, the platform and where requestIds are; nothing of the scheme or the store."""
    store = SqlStore(f"sqlite:///{tmp_path}/secret-path.db")
    stored = PayGateway(APP_KEY, Md5Signer(SECRET), base_url="test", store=store)
    gateway = PayGateway(APP_KEY, Md5Signer(SECRET))

    host = "https://openapi-qa.gongmall.com"
    assert f"PayGateway({APP_KEY!r}, base_url={host!r}, store=SqlStore)" == repr(stored)
    assert repr(gateway).endswith("store=MemoryStore)")
    assert SECRET not in repr(gateway)

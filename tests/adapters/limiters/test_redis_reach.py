"""The ways to the Redis of the quota, as it is sold; the rules of counting are tested elsewhere."""

from __future__ import annotations

import asyncio
import re
import uuid
from collections.abc import Iterator
from typing import cast

import pytest
import redis
from redis import asyncio as clients

from tests.support.servers import (
    Cluster,
    Sentinel,
    open_cluster,
    open_folder,
    open_redis,
    open_sentinel,
)
from tests.support.services import REDIS, require
from wxpay_async.adapters.limiters.limiter import Lane, Quota
from wxpay_async.adapters.limiters.redis import RedisLimiter
from wxpay_async.adapters.limiters.redis_scripts import ROUND, SLOW
from wxpay_async.errors import InvalidRequestError

_CALL = re.compile(r"redis\.p?call\(\s*'([A-Z]+)'\s*(?:,\s*([^,)]+))?")


async def use(limiter: RedisLimiter) -> dict[Lane, int]:
    """Take slots in all lanes, report how the calls ended, be refused; return what is held."""
    slots = [await limiter.acquire(Lane.PEOPLE, timeout=30) for _ in range(4)]
    slots += [slot for lane in Lane if (slot := await limiter.acquire_now(lane))]
    await slots.pop().unsent()
    await slots.pop().doubtful()
    await slots.pop().answered()
    await limiter.throttled()
    assert await limiter.acquire_now(Lane.BATCH) is None
    return limiter.held()


EXPECTED = dict.fromkeys(Lane, 0) | {Lane.PEOPLE: 5}
"""The second machine of the moment is refused by its pace, and the first one was not sent."""


def make(
    url: str = "", *, client: clients.Redis | clients.RedisCluster | None = None
) -> RedisLimiter:
    """Make a limiter of an appKey that no other test uses."""
    key = f"test-{uuid.uuid4().hex}"
    return RedisLimiter(url, key, client=client, quota=Quota(limit=40), idle=True)


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Run a cluster of three nodes."""
    with open_cluster() as opened:
        yield opened


@pytest.fixture(scope="module")
def sentinel() -> Iterator[Sentinel]:
    """Run a master, its replica and a Sentinel."""
    with open_sentinel() as opened:
        yield opened


async def test_cluster_keeps_the_quota(cluster: Cluster) -> None:
    """All keys of an appKey lie on one node, whichever that is."""
    for _ in range(6):
        limiter = make(cluster.url)
        assert EXPECTED == await use(limiter)
        await limiter.aclose()


async def test_quota_follows_a_failover(sentinel: Sentinel) -> None:
    """The connections of before lead to a server that only reads, and are not used again."""
    limiter = make(sentinel.url)
    assert EXPECTED == await use(limiter)
    await asyncio.to_thread(sentinel.fail_over)

    assert await limiter.acquire(Lane.PEOPLE, timeout=30) is not None
    await limiter.aclose()


async def test_unix_socket_leads_there() -> None:
    """No port is needed."""
    with open_folder() as folder, open_redis("--unixsocket", str(folder / "s")):
        limiter = make(f"unix://{folder}/s?db=3")
        assert EXPECTED == await use(limiter)
        await limiter.aclose()


@pytest.mark.parametrize("decode", [False, True])
@pytest.mark.parametrize("protocol", [2, 3])
async def test_client_that_is_handed_in_is_not_closed(*, decode: bool, protocol: int) -> None:
    """It may decode what it reads: numbers are all that a limiter reads."""
    url = require(REDIS)
    async with clients.Redis.from_url(url, decode_responses=decode, protocol=protocol) as client:
        limiter = make(client=client)
        assert EXPECTED == await use(limiter)
        await limiter.aclose()

        assert client.connection_pool._available_connections
        assert EXPECTED == await use(make(client=client))
        assert 8 >= await client.unlink(*limiter._keys)


async def test_client_of_a_cluster_may_be_handed_in(cluster: Cluster) -> None:
    """A merchant who has one needs no second."""
    async with clients.RedisCluster("127.0.0.1", cluster.nodes[1].port) as client:
        limiter = make(client=client)
        assert EXPECTED == await use(limiter)
        await limiter.aclose()


def test_either_an_address_or_a_client_is_given() -> None:
    """Neither, both, and a client that blocks are refused when the limiter is made."""
    with pytest.raises(InvalidRequestError, match="one of url and client"):
        make()
    with pytest.raises(InvalidRequestError, match="one of url and client"):
        make("redis://host", client=clients.Redis())
    with pytest.raises(InvalidRequestError, match="no client of"):
        make(client=cast("clients.Redis", redis.Redis()))
    with pytest.raises(InvalidRequestError, match="app_key"):
        RedisLimiter("redis://host")


@pytest.mark.parametrize("script", [ROUND, SLOW])
def test_scripts_name_every_key_as_proxies_want_it(script: str) -> None:
    """Aliyun's and Tencent's refuse a key that is not written `KEYS[n]` in the call."""
    calls = _CALL.findall(script)
    named = [key for name, key in calls if name != "TIME"]

    assert script.count("redis.call(") == len(calls)
    assert [] == [key for key in named if not re.fullmatch(r"KEYS\[[1-8]\]", key)]


def test_keys_share_one_hash_tag() -> None:
    """A script may reach no other node of a cluster."""
    keys = make("redis://host")._keys

    assert 8 == len(keys)
    assert 1 == len({key[key.index("{") : key.index("}")] for key in keys})

"""A link to a Redis, and a place for stores in one, as several tests open them."""

from __future__ import annotations

import contextlib
from collections.abc import Generator

from redis.asyncio import Redis, RedisCluster

from tests.contract.stores import RETENTION, Place
from tests.support.servers import open_redis
from wxpay_async.adapters.redis_clients import RedisLink, Script, open_link
from wxpay_async.adapters.stores.redis import RedisStore

ECHO = Script("return {redis.call('GET', KEYS[1]), ARGV[1]}")


def open_echo(at: str | Redis | RedisCluster, *, timeout: float = 5.0) -> RedisLink:
    """Open a link that knows the script `ECHO`."""
    return open_link(at, [ECHO], timeout=timeout, connections=2)


@contextlib.contextmanager
def private_redis(*options: str) -> Generator[str]:
    """Run a Redis that no other test uses, and give its address."""
    with open_redis(*options) as server:
        yield f"redis://127.0.0.1:{server.port}/0"


def redis_place(url: str) -> Place:
    """Return a place for stores of the appKey `k`."""
    return Place("redis", url, lambda at, _: RedisStore(at, retention=RETENTION), app_key="k")

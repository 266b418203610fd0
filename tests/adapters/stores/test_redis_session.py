"""Check how the store opens a Redis: its settings, its layout, its clock."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis

from tests.support.redis_places import private_redis, redis_place
from tests.support.servers import open_redis
from tests.support.services import REDIS, require
from wxpay_async.adapters.stores.redis import RedisStore
from wxpay_async.adapters.stores.redis_layout import (
    VERSION_KEY,
)
from wxpay_async.errors import InDoubtError, NotSentError

SAFE = ("--appendonly", "yes", "--appendfsync", "always")
HIDDEN = ("--rename-command", "CONFIG", "")


@pytest.mark.parametrize(
    ("options", "durable"),
    [
        pytest.param(SAFE, True, id="every write through"),
        pytest.param(("--appendonly", "no"), False, id="no log"),
        pytest.param((*SAFE[:3], "everysec"), False, id="a second may be lost"),
        pytest.param((*SAFE, *HIDDEN), False, id="settings hidden"),
        pytest.param(
            (*SAFE, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru"),
            False,
            id="open records may be evicted",
        ),
        pytest.param(
            (*SAFE, "--maxmemory", "100mb", "--maxmemory-policy", "noeviction"),
            True,
            id="refuses writes when full",
        ),
        *(
            pytest.param(
                (*SAFE, "--maxmemory", "100mb", "--maxmemory-policy", policy),
                False,
                id=f"{policy}: finished records may be evicted",
            )
            for policy in ("volatile-lru", "volatile-ttl")
        ),
        pytest.param(
            (*SAFE, "--maxmemory-policy", "volatile-lru"), True, id="no limit to evict for"
        ),
    ],
)
async def test_durable_is_what_redis_is_set_up_for(
    options: tuple[str, ...], *, durable: bool
) -> None:
    """False until the first call; then True only where Redis says that it keeps everything."""
    with private_redis(*options) as url:
        store = RedisStore(url)
        before = store.durable
        await store.load(("k", "r"))
        await store.aclose()

    assert (False, durable) == (before, store.durable)


async def test_clock_of_redis_is_known_once_it_is_open() -> None:
    """On one host the two clocks are the same."""
    store = RedisStore(require(REDIS))
    before = store.ahead
    await store.open()
    await store.aclose()

    assert before is None
    assert store.ahead is not None
    assert abs(store.ahead) < 10


async def test_opening_that_fails_is_told() -> None:
    """By what it means: nothing can have been sent. When Redis has come up, it is noticed."""
    with open_redis() as server:
        server.stop()
        store = RedisStore(f"redis://127.0.0.1:{server.port}")
        with pytest.raises(NotSentError):
            await store.open()
        server.start()
        await store.open()
        await store.aclose()


async def test_redis_that_hangs_from_the_beginning_costs_all_callers_one_timeout() -> None:
    """They learn from the first one's try, and make none of their own."""
    connections: list[asyncio.StreamWriter] = []
    server = await asyncio.start_server(
        lambda _, writer: connections.append(writer), "127.0.0.1", 0
    )
    store = RedisStore(f"redis://127.0.0.1:{server.sockets[0].getsockname()[1]}", timeout=0.4)

    calls = (store.load(("k", str(number))) for number in range(20))
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    await store.aclose()
    server.close()
    for writer in connections:
        writer.close()

    assert [NotSentError] * 20 == [type(outcome) for outcome in outcomes]
    assert len(connections) <= 2


async def test_layout_of_a_later_release_is_refused() -> None:
    """Neither a read nor a write touches it, and the error says what to do; ours is noted."""
    with private_redis() as url:
        place = redis_place(url)
        ours, later = place.make_store(), place.make_store()
        assert await ours.load(place.make_record().key) is None
        async with Redis.from_url(url) as client:
            noted = await client.get(VERSION_KEY)
            await client.set(VERSION_KEY, 9)

            with pytest.raises(NotSentError, match=r"version 9.* knows 2: upgrade it") as raised:
                await later.reserve(place.make_record())
            with pytest.raises(InDoubtError, match="version 9"):
                await later.record(place.make_record())
            keys = await client.keys("*")
        await place.close()

    assert (b"2", False) == (noted, raised.value.retryable)
    assert [VERSION_KEY.encode()] == keys


async def test_layout_of_an_earlier_release_is_taken_over() -> None:
    """Its operations are read as they are; from then on the earlier release is kept out."""
    with private_redis() as url:
        place = redis_place(url)
        record = await place.make_store().reserve(place.make_record())
        async with Redis.from_url(url) as client:
            await client.set(VERSION_KEY, 1)

            assert record == await place.make_store().load(record.key)
            assert b"2" == await client.get(VERSION_KEY)
        await place.close()


async def test_scripts_that_redis_forgot_are_loaded_again() -> None:
    """After a restart or a SCRIPT FLUSH nothing fails."""
    with private_redis() as url:
        place = redis_place(url)
        store = place.make_store()
        await store.reserve(place.make_record())
        async with Redis.from_url(url) as client:
            await client.script_flush()

        assert place.make_record() == await store.reserve(place.make_record())
        await place.close()

"""Check what only the Redis store does: durability, lives of keys, writes that compare, clients."""

from __future__ import annotations

import asyncio
import uuid

import attrs
import pytest
from redis.asyncio import Redis

from tests.contract.stores import RETENTION, Wire, claim_new
from tests.support.records import NOW
from tests.support.redis_places import private_redis, redis_place
from tests.support.services import REDIS, require
from wxpay_async.adapters.redis_clients import open_link
from wxpay_async.adapters.stores.inbox import INBOX_RETENTION, Entry
from wxpay_async.adapters.stores.redis import RedisStore
from wxpay_async.adapters.stores.redis_layout import (
    PUT,
    SCRIPTS,
    VERSION_KEY,
    make_inbox_key,
    make_keys,
)
from wxpay_async.adapters.stores.redis_session import Session
from wxpay_async.adapters.stores.server_clock import ServerClock
from wxpay_async.errors import InvalidRequestError, NotSentError
from wxpay_async.policy.record import LEASE, IdempotencyRecord
from wxpay_async.policy.states import State


async def test_only_what_may_be_forgotten_has_a_time_to_live() -> None:
    """A reserved or finished record dies by itself after the retention, an open one never."""
    with private_redis() as url:
        place = redis_place(url)
        store = place.make_store()
        record = place.make_record()
        lives = []
        async with Redis.from_url(url) as client:

            async def note_life() -> None:
                lives.append(await client.ttl(make_keys(record.key)[-1]))

            await store.reserve(record)
            await note_life()
            claimed = await store.claim(record.key, now=NOW, signed_at=1)
            assert claimed is not None
            await note_life()
            for state in (State.UNKNOWN, State.PENDING, State.NEEDS_REVIEW):
                await store.record(attrs.evolve(claimed, state=state))
                await note_life()
            record = place.make_record("finished")
            await store.reserve(record)
            claimed = await store.claim(record.key, now=NOW, signed_at=1)
            assert claimed is not None
            await store.record(attrs.evolve(claimed, state=State.SUCCEEDED))
            await note_life()
        await place.close()

    assert [True, False, False, False, False, True] == [life > RETENTION - 60 for life in lives]
    assert {-1} == set(lives[1:5])


async def test_what_died_by_itself_leaves_no_trace() -> None:
    """Looking clears the sets of records that are gone, and creates none of them."""
    with private_redis() as url:
        place = redis_place(url)
        store = place.make_store()
        due = place.make_record("due", state=State.UNKNOWN, next_check_at=NOW)
        for record in (due, place.make_record("sent"), place.make_record("old")):
            await store.reserve(record)
        await store.claim(place.make_record("sent").key, now=NOW, signed_at=1)
        async with Redis.from_url(url) as client:
            for name in ("due", "sent", "old"):
                await client.delete(make_keys(("k", name))[-1])

            assert [] == await store.due("k", NOW + RETENTION)
            await store.forget("k", NOW + RETENTION)
            assert [VERSION_KEY.encode()] == await client.keys("*")
        await place.close()


async def test_node_of_a_cluster_can_run_every_script() -> None:
    """All keys that a script touches are in one slot, and Redis sees no other one used."""
    with private_redis("--cluster-enabled", "yes") as url:
        async with Redis.from_url(url) as client:
            await client.execute_command("CLUSTER ADDSLOTSRANGE", 0, 16383)
            await _ready(client)
        place = redis_place(url)
        store = place.make_store()
        claimed = None
        for name in ("a", "b"):
            await store.reserve(place.make_record(name))
            claimed = await store.claim(place.make_record(name).key, now=NOW, signed_at=1)
        assert claimed is not None
        assert await store.record(attrs.evolve(claimed, state=State.SUCCEEDED))
        assert ["a"] == [e.request_id for e in await store.due("k", NOW + LEASE)]
        assert 1 == await store.forget("k", NOW + RETENTION)
        assert await store.load(claimed.key) is None
        for key in ("m", "n"):
            assert await store.swap(key, version=None, value=key, now=NOW)
        assert {"m": Entry(1, "m"), "n": Entry(1, "n")} == await store.load_entries(["m", "n"])
        await place.close()


async def _ready(client: Redis) -> None:
    for _ in range(200):
        if (await client.execute_command("CLUSTER INFO"))["cluster_state"] == "ok":
            return
        await asyncio.sleep(0.05)
    raise AssertionError("the cluster does not come up")


async def test_callbacks_are_forgotten_30_days_after_their_last_change() -> None:
    """Redis counts from each change; nothing has to tend them."""
    with private_redis() as url:
        place = redis_place(url)
        store = place.make_store()
        async with Redis.from_url(url) as client:
            for version in (None, 1):
                await store.swap("m", version=version, value="", now=NOW)
                assert INBOX_RETENTION - 60 < await client.ttl(make_inbox_key("m"))
                await client.expire(make_inbox_key("m"), 60)
            assert not await store.swap("m", version=1, value="", now=NOW)
            assert 60 >= await client.ttl(make_inbox_key("m"))
        await place.close()


@pytest.mark.parametrize("call", ["reserve", "claim", "record"])
async def test_write_whose_answer_is_lost_is_known_again(call: str) -> None:
    """It is repeated over another connection, and finds its own mark."""
    place = redis_place(require(REDIS))
    place.app_key = f"lost-{uuid.uuid4().hex}"
    claimed = await claim_new(place.make_store(), place.make_record())
    async with Wire(REDIS.address) as wire:
        store = place.make_store(url=place.make_url(wire.port))
        await store.open()
        await claim_new(store, place.make_record("warm"))  # from now on Redis knows the scripts
        wire.lose_answer_to(PUT.sha.encode())

        if call == "reserve":
            record = place.make_record("r2", state=State.SENDING, epoch=1, claim_token="t")
            assert record == await store.reserve(record)
        elif call == "claim":
            later = NOW + LEASE
            again = await store.claim(claimed.key, now=later, signed_at=1)
            assert claimed.with_claim(now=later, signed_at=1, lease=LEASE) == again
        else:
            assert await store.record(attrs.evolve(claimed, state=State.SUCCEEDED))

        assert wire.lost
        await store.forget(place.app_key, NOW + 2 * RETENTION)
        await place.close()


async def test_what_an_earlier_release_writes_is_noticed() -> None:
    """It writes no mark; while both run, what was read is not written over what it has done."""
    with private_redis() as url:
        place = redis_place(url)
        store = place.make_store()
        record = await store.reserve(place.make_record())
        name = make_keys(record.key)[-1]
        async with Redis.from_url(url) as client:
            link = open_link(client, SCRIPTS, timeout=5.0, connections=1)
            session = Session(link, ServerClock(), RETENTION)
            for change in ({"epoch": "1"}, {"state": "unknown"}, {"updated_at": "7.5"}):
                [stored] = await session.read([name])
                await client.hset(name, mapping=change)
                seen: list[IdempotencyRecord | None] = []

                def choose(
                    found: IdempotencyRecord | None,
                    seen: list[IdempotencyRecord | None] = seen,
                ) -> IdempotencyRecord | None:
                    seen.append(found)
                    return found and attrs.evolve(found, checks=found.checks + 1)

                changed = await session.change_found(stored, choose)
                assert [stored and stored.record, changed.found] == seen
                assert changed.written == await store.load(record.key)
            await session.close()
        await place.close()

    assert changed.written is not None
    assert (1, State.UNKNOWN, 7.5, 3) == (
        changed.written.epoch,
        changed.written.state,
        changed.written.updated_at,
        changed.written.checks,
    )


async def test_store_over_a_client_of_ones_own() -> None:
    """It keeps everything there, and leaves the client open."""
    with private_redis() as url:
        async with Redis.from_url(url) as client:
            store = RedisStore(client=client)
            record = redis_place(url).make_record()
            await store.reserve(record)
            await store.aclose()

            assert await client.exists(make_keys(record.key)[-1])
            assert record == await store.load(record.key)
            await store.aclose()


def test_store_is_given_an_address_or_a_client() -> None:
    """Not both, not neither, and no client that decodes what is no text."""
    for given in ({}, {"url": "redis://h", "client": Redis()}):
        with pytest.raises(InvalidRequestError, match="one of url and client"):
            RedisStore(**given)
    with pytest.raises(InvalidRequestError, match="decode_responses"):
        RedisStore(client=Redis(decode_responses=True))
    with pytest.raises(InvalidRequestError, match="option"):
        RedisStore("redis://h?nonsense=1")
    assert "s3cr3t" not in repr(RedisStore(client=Redis(password="s3cr3t")))


async def test_operations_are_found_by_number_while_they_come_and_go() -> None:
    """What one look has learned of them is not wrong for the next."""
    with private_redis() as url:
        place = redis_place(url)
        store = place.make_store()

        async def find() -> list[str]:
            return [record.request_id for record in await store.find_open("k", "O-1")]

        first = await claim_new(store, place.make_record("a", out_trade_no="O-1"))
        await claim_new(store, place.make_record("b", out_trade_no="O-2"))
        assert ["a"] == await find()
        second = await claim_new(place.make_store(), place.make_record("c", out_trade_no="O-1"))
        await store.record(attrs.evolve(first, state=State.SUCCEEDED))
        assert ["c"] == await find()
        await store.record(attrs.evolve(second, state=State.PENDING))
        assert ["c"] == await find()
        await store.record(attrs.evolve(second, state=State.FAILED))
        assert [] == await find()
        with pytest.raises(NotSentError):
            await store.find_open("k", "\ud800")
        await place.close()


async def test_old_operations_are_dropped_in_portions() -> None:
    """At most so many as are asked for, the oldest first; what was taken up again stays."""
    with private_redis() as url:
        place = redis_place(url)
        store = place.make_store()
        old = [place.make_record(f"r{n:03}", updated_at=NOW + n) for n in range(250)]
        await asyncio.gather(*map(store.reserve, old))
        taken = await store.claim(old[0].key, now=NOW, signed_at=1)
        late = NOW + RETENTION + 239

        assert [150, 89, 0] == [await store.forget("k", late, limit=150) for _ in range(3)]
        left = await store.load_many([record.key for record in old])
        await place.close()

    assert {old[0].key: taken, **{record.key: record for record in old[240:]}} == left


def test_store_shows_where_it_is_and_no_secret() -> None:
    """Its repr has the host and the database; no user, password or parameter."""
    shown = repr(RedisStore("rediss://me:s3cr3t@host/3?password=s3cr3t"))

    assert "rediss://host:6379/3" in shown
    assert "s3cr3t" not in shown


def test_another_address_is_refused() -> None:
    """A store checks its address when it is made."""
    with pytest.raises(InvalidRequestError, match="allowed: redis://"):
        RedisStore("http://h")

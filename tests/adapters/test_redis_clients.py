"""Check how a Redis is reached, in every way that it is sold, and what is done about its faults."""

from __future__ import annotations

import asyncio
import contextlib
import uuid
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
import trustme
from redis.asyncio import BlockingConnectionPool, Redis, RedisCluster
from redis.asyncio.client import Pipeline
from redis.exceptions import RedisError

from tests.contract.stores import Wire
from tests.support.redis_places import ECHO, open_echo
from tests.support.server import Listen, hang
from tests.support.servers import (
    Cluster,
    Sentinel,
    find_free_port,
    open_cluster,
    open_folder,
    open_redis,
    open_sentinel,
)
from tests.support.services import REDIS, require
from wxpay_async.adapters import redis_clients
from wxpay_async.adapters.redis_clients import (
    REDIS_FAILURES,
    RedisLink,
    check_client,
    open_link,
)
from wxpay_async.errors import InvalidRequestError


@pytest.fixture
async def link() -> AsyncIterator[RedisLink]:
    """Yield a link to the shared Redis."""
    opened = open_echo(require(REDIS))
    yield opened
    await opened.aclose()


def _name() -> str:
    return f"wxpay:test:{{{uuid.uuid4().hex}}}"


async def _exchange(link: RedisLink) -> list[object]:
    """Write something, and read it back by a script."""
    name = _name()
    await link.call(("SET", name, "there", "PX", 60_000))
    return list(await link.call(ECHO.call([name], ["said"])))


# In one pipeline


async def test_commands_of_many_tasks_get_their_own_replies(link: RedisLink) -> None:
    """They go out together; which reply is whose is not mixed up."""
    replies = await asyncio.gather(*(link.call(("ECHO", number)) for number in range(500)))

    assert [str(number).encode() for number in range(500)] == replies


async def test_command_that_fails_fails_alone(link: RedisLink) -> None:
    """One that Redis refuses, or whose value cannot be written, has neighbours that succeed."""
    calls = (
        link.call(("ECHO", "a")),
        link.call(("ECHO", "\ud800")),
        link.call(("NONE",)),
        link.call(("ECHO", "b")),
    )
    first, second, third, last = await asyncio.gather(*calls, return_exceptions=True)

    assert (b"a", b"b") == (first, last)
    assert isinstance(second, UnicodeEncodeError)
    assert isinstance(third, redis.ResponseError)


async def test_words_are_written_as_redis_py_writes_them(link: RedisLink) -> None:
    """Texts, bytes and numbers of any length, and commands with two names."""
    words = ("", "支付", b"\x00\r\n$", 0, -(2**62), "x" * 70_000)
    replies = await link.call_all(("ECHO", word) for word in words)

    written = [word if isinstance(word, bytes) else str(word).encode() for word in words]
    assert written == replies
    assert await link.call(("COMMAND COUNT",)) > 100


async def test_one_of_many_that_fails_is_raised(link: RedisLink) -> None:
    """A caller that asked for all gets none."""
    with pytest.raises(redis.ResponseError):
        await link.call_all([("ECHO", "a"), ("NONE",)])


async def test_command_whose_caller_is_gone_is_not_sent(link: RedisLink) -> None:
    """It was waiting, and its neighbour gets its reply."""
    name = _name()
    unwanted = asyncio.create_task(link.call(("SET", name, "x", "PX", 60_000)))
    wanted = asyncio.create_task(link.call(("ECHO", "b")))
    await asyncio.sleep(0)
    unwanted.cancel()

    assert b"b" == await wanted
    assert await link.call(("GET", name)) is None


async def test_script_that_redis_forgot_is_sent_again() -> None:
    """A restart or SCRIPT FLUSH is not noticed, also by many calls at once."""
    with open_redis() as server:
        link = open_echo(f"redis://127.0.0.1:{server.port}")
        await link.call(ECHO.call(["k"], ["0"]))
        await link.call(("SCRIPT FLUSH",))

        calls = (link.call(ECHO.call(["k"], [number])) for number in range(5))
        replies = await asyncio.gather(*calls)
        await link.aclose()

    assert [[None, str(number).encode()] for number in range(5)] == replies


# Sentinel, cluster, sockets, TLS


@pytest.fixture(scope="module")
def sentinel() -> Iterator[Sentinel]:
    """Yield two Redis servers and the Sentinel that watches them."""
    with open_sentinel() as opened:
        yield opened


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """Yield a cluster of three nodes."""
    with open_cluster() as opened:
        yield opened


@pytest.mark.slow
async def test_sentinel_says_where_the_master_is(sentinel: Sentinel) -> None:
    """Before a failover and after it, over the same link."""
    link = open_echo(sentinel.url)
    before = await _exchange(link)
    await asyncio.to_thread(sentinel.fail_over)
    after = await _exchange(link)
    await link.aclose()

    assert [b"there", b"said"] == before == after


@pytest.mark.slow
async def test_link_follows_the_next_master(sentinel: Sentinel) -> None:
    """When a master has died, Sentinel chooses another one, and the same link leads there."""
    link = open_echo(sentinel.url)
    await _exchange(link)
    former = sentinel.master
    former.kill()
    try:
        reply = await _exchange_at_last(link)
    finally:
        former.start()
        await link.aclose()

    assert [b"there", b"said"] == reply
    assert former is not sentinel.master


async def _exchange_at_last(link: RedisLink) -> list[object]:
    """Try until it succeeds: how long Sentinel takes is its own affair."""
    for _ in range(60):
        with contextlib.suppress(*REDIS_FAILURES):
            return await _exchange(link)
        await asyncio.sleep(0.5)
    raise AssertionError("the link leads nowhere")


async def test_cluster_is_asked_at_the_node_of_each_key(cluster: Cluster) -> None:
    """One pipeline is spread over the nodes; nothing is left to the luck of the hash."""
    link = open_echo(cluster.url)
    replies = await asyncio.gather(*(_exchange(link) for _ in range(50)))
    settings = await link.read_settings("appendonly", "maxmemory-policy")
    await link.aclose()

    assert [[b"there", b"said"]] * 50 == replies
    assert [{"appendonly": "no", "maxmemory-policy": "noeviction"}] * 3 == settings


async def test_cluster_whose_connections_are_killed_goes_on(cluster: Cluster) -> None:
    """The next commands find the nodes again."""
    link = open_echo(cluster.url)
    await asyncio.gather(*(_exchange(link) for _ in range(20)))
    for node in cluster.nodes:
        with redis.Redis(port=node.port) as client:
            client.client_kill_filter(_type="normal")
    replies = await asyncio.gather(*(_exchange(link) for _ in range(20)))
    await link.aclose()

    assert [[b"there", b"said"]] * 20 == replies


async def test_unix_socket_leads_there() -> None:
    """With a password and a database."""
    with open_folder() as folder:
        path = folder / "redis.sock"
        with open_redis("--unixsocket", str(path)):
            link = open_echo(f"unix://{path}?db=3&client_name=me")
            reply, name = await _exchange(link), await link.call(("CLIENT GETNAME",))
            await link.aclose()

    assert [b"there", b"said"] == reply
    assert name in {"me", b"me"}


@pytest.fixture(scope="module")
def certificate() -> Iterator[tuple[Path, Path]]:
    """Yield the authority of a server on loopback, and the server's key with its certificate."""
    authority = trustme.CA()
    with open_folder() as folder:
        paths = folder / "authority.pem", folder / "server.pem"
        authority.cert_pem.write_to_path(paths[0])
        authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(paths[1])
        yield paths


async def test_tls_is_checked_against_the_authority_of_the_address(
    certificate: tuple[Path, Path],
) -> None:
    """`rediss://` with the file of a private authority; without it, the server is not believed."""
    authority, server = certificate
    port = find_free_port()
    options = ("--tls-port", str(port), "--tls-ca-cert-file", str(authority))
    files = (
        "--tls-auth-clients",
        "no",
        "--tls-cert-file",
        str(server),
        "--tls-key-file",
        str(server),
    )
    with open_redis(*options, *files):
        link = open_echo(f"rediss://127.0.0.1:{port}?ssl_ca_certs={authority}")
        reply = await _exchange(link)
        await link.aclose()
        stranger = open_echo(f"rediss://127.0.0.1:{port}")
        with pytest.raises(redis.ConnectionError) as raised:
            await stranger.call(("PING",))
        await stranger.aclose()

    assert [b"there", b"said"] == reply
    assert "CERTIFICATE_VERIFY_FAILED" in str(raised.value)


# A client of one's own


@pytest.mark.parametrize("blocking", [False, True])
async def test_client_that_is_handed_in_is_not_closed(*, blocking: bool) -> None:
    """Its pool may be shared, small and of any kind; it goes on afterwards."""
    url = require(REDIS)
    named = {"client_name": uuid.uuid4().hex}  # other tests have connections of their own
    pool = BlockingConnectionPool.from_url(url, max_connections=1, **named) if blocking else None
    async with Redis.from_pool(pool) if pool else Redis.from_url(url, **named) as client:
        link = open_echo(client)
        assert [b"there", b"said"] == await _exchange(link)
        await client.set(_name(), "x", px=60_000)

        async def count() -> int:
            return [each["name"] for each in await client.client_list()].count(named["client_name"])

        connections = await count()
        await link.aclose()

        assert 0 < connections <= await count()


async def test_client_of_a_cluster_may_be_handed_in(cluster: Cluster) -> None:
    """It knows the nodes already."""
    async with RedisCluster(host="127.0.0.1", port=cluster.nodes[0].port) as client:
        link = open_echo(client)
        replies = await asyncio.gather(*(_exchange(link) for _ in range(20)))
        await link.aclose()

    assert [[b"there", b"said"]] * 20 == replies


def test_client_that_is_of_no_use_is_refused() -> None:
    """One that blocks the event loop, and one that decodes: what the store keeps is no text."""
    check_client(Redis())
    with pytest.raises(InvalidRequestError, match=r"redis\.asyncio"):
        check_client(redis.Redis())
    with pytest.raises(InvalidRequestError, match="decode_responses=False"):
        check_client(Redis(decode_responses=True))


# Options of an address


# Faults


class _QuietWire(Wire):
    """A proxy that can drop what comes over the connections of until now, as a firewall does."""

    def __init__(self, target: tuple[str, int]) -> None:
        super().__init__(target)
        self._quiet: set[asyncio.StreamWriter] = set()

    def swallow(self) -> None:
        """Keep the connections of until now, and pass nothing on there."""
        self._quiet |= self._open

    async def _pump(
        self,
        source: asyncio.StreamReader,
        sink: asyncio.StreamWriter,
        *,
        client: asyncio.StreamWriter,
    ) -> None:
        while data := await source.read(65536):
            if client not in self._quiet:
                sink.write(data)


async def test_connections_that_a_firewall_forgot_are_left_soon() -> None:
    """What gets no answer is asked once more over a new connection, within the same call."""
    async with _QuietWire(REDIS.address) as wire:
        link = open_echo(f"redis://127.0.0.1:{wire.port}/0", timeout=3.0)
        await asyncio.gather(*(_exchange(link) for _ in range(40)))
        wire.swallow()

        assert [[b"there", b"said"]] * 5 == await asyncio.gather(
            *(_exchange(link) for _ in range(5))
        )
        await link.aclose()


@pytest.mark.slow
async def test_master_of_before_a_failover_is_left() -> None:
    """It answers that it is read only for ever; a new connection leads to the master of now."""
    with open_redis() as former, open_redis() as later:
        async with Wire(("127.0.0.1", former.port)) as wire:
            link = open_echo(f"redis://127.0.0.1:{wire.port}/0")
            await asyncio.gather(*(_exchange(link) for _ in range(40)))
            with redis.Redis(port=former.port) as client:
                client.replicaof("127.0.0.1", str(later.port))
            wire.target = ("127.0.0.1", later.port)

            assert [b"there", b"said"] == await _exchange(link)
            await link.aclose()


async def test_server_that_restarts_is_waited_for(monkeypatch: pytest.MonkeyPatch) -> None:
    """It is away for a moment; what is asked meanwhile is answered when it is back."""
    monkeypatch.setattr(redis_clients, "_GRACE", 60.0)  # a busy machine starts it slowly
    with open_redis() as server:
        link = open_echo(f"redis://127.0.0.1:{server.port}", timeout=60.0)
        await _exchange(link)
        server.stop()
        call = asyncio.create_task(_exchange(link))
        await asyncio.sleep(0.3)
        server.start()

        assert [b"there", b"said"] == await call
        await link.aclose()


async def test_server_that_was_never_there_is_not_waited_for(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The time of grace is only for a Redis that was there."""
    monkeypatch.setattr(redis_clients, "_GRACE", 600.0)
    link = open_echo("redis://127.0.0.1:1/0", timeout=600.0)
    with pytest.raises(redis.ConnectionError):
        await asyncio.wait_for(link.call(("PING",)), 20.0)
    await link.aclose()


class _BrokenRedis(Redis):
    def pipeline(self, **_: object) -> Pipeline:
        raise AttributeError


async def test_mistake_of_the_driver_is_told_as_a_failure() -> None:
    """Its callers were not cancelled, and must not look so."""
    async with _BrokenRedis.from_url(require(REDIS)) as client:
        with pytest.raises(redis.RedisError) as raised:
            await open_echo(client).call(("PING",))

    assert isinstance(raised.value.__cause__, AttributeError)


async def test_pipeline_that_hangs_does_not_hold_the_others() -> None:
    """What comes later goes over another connection."""
    link = open_echo(require(REDIS))
    name = _name()
    held = asyncio.create_task(link.call(("BLPOP", name, 1)))
    await asyncio.sleep(0.01)

    reply = await link.call(("ECHO", "x"))

    assert not held.done()
    assert b"x" == reply
    await link.call(("RPUSH", name, "y"))
    await held
    await link.aclose()


async def test_silent_redis_is_named_without_its_login(listen: Listen) -> None:
    """Which one it is has to be known by who mends it."""
    port = urlsplit((await listen(hang)).url).port
    link = open_link(f"redis://user:hidden@127.0.0.1:{port}/3", [], timeout=0.2, connections=1)
    with pytest.raises(RedisError, match=rf"^redis://127\.0\.0\.1:{port}/3 does not answer$"):
        await link.call(("PING",))
    await link.aclose()

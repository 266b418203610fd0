"""Make the client of redis-py that an address names.

Its connections pack pipelines in a way of their own: redis-py looks at each word of each command
for longer than the rest of a pipeline takes.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable
from typing import Any, Final

from wxpay_async.adapters.redis_url import RedisAddress
from wxpay_async.extras import how_to_install

try:
    from redis.asyncio import ConnectionPool, Redis, RedisCluster, Sentinel
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.connection import (
        AbstractConnection,
        Connection,
        SSLConnection,
        UnixDomainSocketConnection,
        parse_url,
    )
    from redis.asyncio.retry import Retry
    from redis.asyncio.sentinel import SentinelManagedConnection, SentinelManagedSSLConnection
    from redis.backoff import NoBackoff
except ImportError as error:  # pragma: no cover - seen by a test in a process of its own
    raise ImportError(
        f"a Redis needs redis-py; install it with: {how_to_install('redis')}"
    ) from error

_SENTINEL_WAIT: Final = 0.5
"""Seconds for each Sentinel that is asked."""

_SENTINEL_LOGIN: Final = ("sentinel_username", "sentinel_password")

_NO_RETRY: Final = Retry(NoBackoff(), 0)
"""A connection does not repeat by itself what it was asked."""

_KEEPALIVE: Final = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}.items()
    if hasattr(socket, name)
}
"""Less than a firewall waits; macOS names the first one differently."""


class _Packing(AbstractConnection):
    """Packs the commands of a pipeline, whose words are texts, bytes or whole numbers."""

    def pack_commands(self, commands: Iterable[Iterable[Any]]) -> list[bytes]:
        """Return them as Redis reads them."""
        return [b"".join(map(_pack, commands))]


def _pack(command: Iterable[str | bytes | int]) -> bytes:
    name, *rest = command
    words = [*str(name).split(), *rest]  # some have two names, as in CONFIG GET
    parts = [b"*%d\r\n" % len(words)]
    for word in words:
        written = word if isinstance(word, bytes) else str(word).encode()
        parts.append(b"$%d\r\n%b\r\n" % (len(written), written))
    return b"".join(parts)


class _Plain(_Packing, Connection):
    pass


class _Secure(_Packing, SSLConnection):
    pass


class _Local(_Packing, UnixDomainSocketConnection):
    pass


class _PlainMaster(_Packing, SentinelManagedConnection):
    pass


class _SecureMaster(_Packing, SentinelManagedSSLConnection):
    pass


_KINDS: Final = {SSLConnection: _Secure, UnixDomainSocketConnection: _Local}


def make_client(
    address: RedisAddress, timeout: float
) -> tuple[Redis | RedisCluster, Sentinel | None]:
    """Make the client, and what it asks where Redis is. No I/O.

    Args:
        address: where Redis is.
        timeout: seconds for connecting.
    """
    options = _read_options(address, timeout)
    if address.by_sentinel:
        sentinel = _make_sentinel(address, options, timeout)
        master = sentinel.master_for(  # pyright: ignore[reportUnknownMemberType] - untyped
            address.service
        )
        return master, sentinel
    if address.clustered:
        return _make_cluster(address, options), None
    kind = _KINDS.get(options.pop("connection_class", Connection), _Plain)
    return Redis.from_pool(ConnectionPool(connection_class=kind, **options)), None


def try_options(address: RedisAddress) -> None:
    """Make a connection, which is not opened.

    Raises:
        TypeError: there is no such option.
        ValueError: an option has a value that it cannot have.
        RedisError: likewise.
    """
    options = _read_options(address, 1.0)
    if address.clustered:
        _make_cluster(address, options)
        return
    for name in (*_SENTINEL_LOGIN, "max_connections"):
        options.pop(name, None)
    options.pop("connection_class", Connection)(**options)


def _read_options(address: RedisAddress, timeout: float) -> dict[str, Any]:
    """Return what redis-py makes a connection with."""
    # The link's own time ends what waits for an answer, once for a pipeline. A cluster asks one
    # node after another where its nodes are.
    patience = timeout / 2 if address.clustered else None
    options: dict[str, Any] = {"socket_timeout": patience, "socket_connect_timeout": timeout}
    if address.hosts:
        options |= {"socket_keepalive": True, "socket_keepalive_options": _KEEPALIVE}
    options |= parse_url(address.single)
    options.pop("timeout", None)  # of a pool that waits
    if not address.by_sentinel:
        for name in _SENTINEL_LOGIN:
            options.pop(name, None)
    return options | {"decode_responses": False, "retry": _NO_RETRY}


def _make_sentinel(address: RedisAddress, options: dict[str, Any], timeout: float) -> Sentinel:
    tls = options.pop("connection_class", None) is SSLConnection
    login = {
        name.removeprefix("sentinel_"): options.pop(name)
        for name in _SENTINEL_LOGIN
        if name in options
    }
    for name in ("host", "port"):
        options.pop(name, None)
    secured = {name: value for name, value in options.items() if name.startswith("ssl_")}
    wait = min(_SENTINEL_WAIT, timeout / 2)
    asked = {
        "socket_timeout": wait,
        "socket_connect_timeout": wait,
        "retry": _NO_RETRY,
        "ssl": tls,
        **(secured if tls else {}),
        **login,
    }
    kind = _SecureMaster if tls else _PlainMaster
    return Sentinel(  # type: ignore[no-untyped-call] # redis-py gives it no types
        address.hosts, sentinel_kwargs=asked, connection_class=kind, **options
    )


def _make_cluster(address: RedisAddress, options: dict[str, Any]) -> RedisCluster:
    tls = options.pop("connection_class", None) is SSLConnection
    for name in ("host", "port", "db"):
        options.pop(name, None)
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    return RedisCluster(startup_nodes=nodes, ssl=tls, **options)

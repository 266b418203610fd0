"""Reach a Redis, as the store and the quota do: one server, Sentinel, a cluster, one's own client.

Commands go out in pipelines over a few connections. Every command that is run here may be repeated,
so what gets no answer soon is asked again over a new connection: a firewall that dropped the old
ones in silence costs a second, and not the whole time. A server that may not write any more (it was
the master before a failover) or cannot yet answer is left in the same way, with all connections
that are idle, for they lead to the same one.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import socket
from collections import deque
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

from attrs import Factory, define, field, frozen

from wxpay_async.adapters.event_loop import ShieldedTasks
from wxpay_async.adapters.redis_url import RedisAddress, read_redis_url
from wxpay_async.errors import InvalidRequestError

try:
    from redis.asyncio import ConnectionPool, Redis, RedisCluster, Sentinel
    from redis.asyncio.cluster import ClusterNode
    from redis.asyncio.connection import Connection, SSLConnection, parse_url
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import (
        AuthenticationError,
        AuthorizationError,
        BusyLoadingError,
        ClusterDownError,
        ConnectionError as NoConnectionError,
        DataError,
        MasterDownError,
        NoScriptError,
        ReadOnlyError,
        RedisClusterException,
        RedisError,
        TimeoutError as NoAnswerError,
        TryAgainError,
    )
except ImportError as error:  # pragma: no cover - seen by a test in a process of its own
    raise ImportError(
        "a Redis needs redis-py; install it with: pip install 'wxpay-async[redis]'"
    ) from error

Argument: TypeAlias = str | bytes | int
Command: TypeAlias = tuple[Argument, ...]

REDIS_FAILURES: Final = (RedisError, RedisClusterException, OSError)
"""What a Redis, or the way to it, raises."""

_USELESS: Final = (
    NoConnectionError,
    NoAnswerError,
    OSError,
    BusyLoadingError,
    ClusterDownError,
    MasterDownError,
    ReadOnlyError,
    TryAgainError,
    RedisClusterException,
)
"""Another connection may lead to a server that answers."""

_PATIENCE: Final = 1.0
"""Seconds for the first try."""

_PAUSES: Final = (0.0, 0.1, 0.3)
"""Seconds before each further one."""

_NO_RETRY: Final = Retry(NoBackoff(), 0)
"""A connection does not repeat by itself what it was asked."""

_KEEPALIVE: Final = {
    getattr(socket, name): value
    for name, value in {"TCP_KEEPIDLE": 15, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}.items()
    if hasattr(socket, name)
}
"""Less than a firewall waits; macOS names the first one differently."""

_MAX_GROUP: Final = 128
_ENOUGH: Final = 16
"""Commands that wait while a pipeline runs: so many are worth a second one."""

_CLOSING: Final = 0.5
_SENTINEL_WAIT: Final = 0.5
_SENTINEL_LOGIN: Final = ("sentinel_username", "sentinel_password")


class _Pipeline(Protocol):
    def execute_command(self, *words: Argument) -> object: ...

    def execute(self, *, raise_on_error: bool) -> Awaitable[list[Any]]: ...


_Waiter: TypeAlias = tuple[Command, asyncio.Future[Any]]


def _hash(text: str) -> str:
    return hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@frozen
class Script:
    """A Lua script, with the name by which Redis knows it.

    Every key stands in it as a literal `KEYS[n]`, and is passed: the proxies of clouds refuse
    others.
    """

    text: str
    sha: str = field(default=Factory(lambda self: _hash(self.text), takes_self=True), init=False)

    def call(self, keys: Sequence[str], arguments: Sequence[Argument] = ()) -> Command:
        """Return the command that runs it."""
        return ("EVALSHA", self.sha, len(keys), *keys, *arguments)


@define(eq=False)
class RedisLink:
    """Runs commands in a Redis, in the event loop that it was made in.

    Each may be executed more than once.

    Args:
        client: what leads there.
        scripts: all that may be called: a Redis that was restarted has forgotten them.
        timeout: seconds for a command, with all tries and connections.
        connections: pipelines that run at the same time.
        owned: whether the client is closed with it.
        sentinel: what the client asks where Redis is; closed with it.
    """

    client: Redis | RedisCluster
    scripts: Sequence[Script] = ()
    timeout: float = field(default=5.0, kw_only=True)
    connections: int = field(default=4, kw_only=True)
    owned: bool = field(default=True, kw_only=True)
    sentinel: Sentinel | None = field(default=None, kw_only=True)
    _tasks: ShieldedTasks = field(factory=ShieldedTasks, init=False, repr=False)
    _texts: Mapping[Argument, str] = field(init=False, repr=False)
    _waiting: deque[_Waiter] = field(factory=deque[_Waiter], init=False, repr=False)
    _running: int = field(default=0, init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._texts = {script.sha: script.text for script in self.scripts}

    async def call(self, command: Command) -> Any:  # noqa: ANN401 - each replies in its own way
        """Run a command, in one pipeline with those that other tasks want to run.

        If the caller is cancelled before it is sent, it is not; later it runs to its end.

        Raises:
            RedisError: Redis refuses it, or does not answer within the time.
            OSError: Redis cannot be reached.
            ValueError: it has a value that cannot be written.
        """
        return await self._enqueue(command)

    async def call_all(self, commands: Iterable[Command]) -> list[Any]:
        """Run many commands; raises what `call` raises, if one of them fails."""
        futures = [self._enqueue(command) for command in commands]
        results = await asyncio.gather(*futures, return_exceptions=True)
        for result in results:
            if isinstance(result, BaseException):
                raise result
        return results

    async def read_settings(self, *names: str) -> list[Mapping[str, str]]:
        """Return these settings of each node that writes.

        Raises:
            RedisError: what `call` raises; a hosted Redis may keep its settings to itself.
            OSError: likewise.
        """
        if not isinstance(self.client, RedisCluster):
            found = await self.call_all(("CONFIG GET", name) for name in names)
            return [_merge(found)]
        async with asyncio.timeout(self.timeout):
            await self.client.initialize()
            nodes = self.client.get_primaries()
            answers = [
                [await node.execute_command("CONFIG GET", name) for name in names] for node in nodes
            ]
        return [_merge(found) for found in answers]

    async def aclose(self) -> None:
        """Wait for what still runs; close the connections, but not those of a client handed in."""
        await self._tasks.finished()
        if self.owned:
            await self.client.aclose()
        if self.sentinel is not None:
            for each in self.sentinel.sentinels:
                await each.aclose()

    def _enqueue(self, command: Command) -> asyncio.Future[Any]:
        result: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self._waiting.append((command, result))
        if self._running < self.connections and (
            self._running == 0 or len(self._waiting) >= _ENOUGH
        ):
            self._running += 1
            self._tasks.start(self._run_all())
        return result

    async def _run_all(self) -> None:
        try:
            while group := self._take_group():
                await self._run(group)
        finally:
            self._running -= 1
            if not self._running:  # some wait only if the loop is shutting down
                _cancel(self._waiting)
                self._waiting.clear()

    def _take_group(self) -> list[_Waiter]:
        group: list[_Waiter] = []
        while self._waiting and len(group) < _MAX_GROUP:
            waiter = self._waiting.popleft()
            if not waiter[1].done():
                group.append(waiter)
        return group

    async def _run(self, group: list[_Waiter]) -> None:
        try:
            results = await self._repeat([command for command, _ in group])
            for (_, waiting), result in zip(group, results, strict=True):
                if waiting.done():
                    continue
                if isinstance(result, Exception):
                    waiting.set_exception(result)
                else:
                    waiting.set_result(result)
        finally:
            _cancel(group)

    async def _repeat(self, commands: list[Command]) -> list[Any]:
        """Run commands, and those again whose connection turned out to be of no use."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.timeout
        patience = min(_PATIENCE, self.timeout / 2)
        results = await self._try(commands, patience)
        for pause in _PAUSES:
            left = [place for place, result in enumerate(results) if _is_useless(result)]
            if not left or loop.time() + pause >= end:
                break
            await self._drop_idle()
            await asyncio.sleep(pause)
            again = await self._try([commands[place] for place in left], end - loop.time())
            for place, result in zip(left, again, strict=True):
                results[place] = result
        return results

    async def _try(self, commands: list[Command], patience: float) -> list[Any]:
        """Return for each command its reply, or the error by which it failed."""
        try:
            async with asyncio.timeout(patience):
                return await self._execute_all(commands)
        except TimeoutError:
            return [NoAnswerError("Redis does not answer")] * len(commands)
        except (DataError, ValueError, OverflowError) as error:
            if len(commands) == 1:
                return [error]
            # What cannot be written fails the pipeline before it is sent.
            return [(await self._try([command], patience))[0] for command in commands]
        except REDIS_FAILURES as error:
            return [error] * len(commands)

    async def _execute_all(self, commands: list[Command]) -> list[Any]:
        results = await self._execute(commands)
        forgotten = [n for n, result in enumerate(results) if isinstance(result, NoScriptError)]
        if forgotten:
            whole = [self._spell_out(commands[place]) for place in forgotten]
            for place, result in zip(forgotten, await self._execute(whole), strict=True):
                results[place] = result
        return results

    async def _execute(self, commands: list[Command]) -> list[Any]:
        pipeline = cast("_Pipeline", self.client.pipeline(transaction=False))
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    def _spell_out(self, command: Command) -> Command:
        """Return the call of a script with its text, which Redis then remembers."""
        _, sha, *rest = command
        return ("EVAL", self._texts[sha], *rest)

    async def _drop_idle(self) -> None:
        """Close idle connections: they lead where the one led that is of no use."""
        with contextlib.suppress(*REDIS_FAILURES):  # a TimeoutError is an OSError, too
            async with asyncio.timeout(_CLOSING):
                if isinstance(self.client, RedisCluster):
                    await self.client.aclose()  # the next command looks for the nodes again
                else:
                    await self.client.connection_pool.disconnect(inuse_connections=False)


def open_link(
    at: str | Redis | RedisCluster, scripts: Sequence[Script], *, timeout: float, connections: int
) -> RedisLink:
    """Make what runs commands in the Redis at an address, or over a client that is there already.

    No I/O. A client that was handed in is not closed with the link, and has to belong to the
    running event loop.

    Args:
        at: a checked address, or the client.
        scripts: all that may be called.
        timeout: seconds for a command.
        connections: pipelines that run at the same time.
    """
    if not isinstance(at, str):
        return RedisLink(at, scripts, timeout=timeout, connections=connections, owned=False)
    address = read_redis_url(at)
    options = _read_options(address, timeout)
    sentinel = None
    if address.by_sentinel:
        sentinel = _make_sentinel(address, options, timeout)
        client = sentinel.master_for(  # pyright: ignore[reportUnknownMemberType] - untyped
            address.service
        )
    elif address.clustered:
        client = _make_cluster(address, options)
    else:
        client = Redis.from_pool(ConnectionPool(**options))
    return RedisLink(client, scripts, timeout=timeout, connections=connections, sentinel=sentinel)


def check_client(client: Redis | RedisCluster) -> None:
    """Check a client that is handed in.

    Raises:
        InvalidRequestError: it decodes what it reads, and not all that is kept is a text.
    """
    if client.get_encoder().decode_responses:
        raise InvalidRequestError(
            "the client decodes what it reads", field="client", allowed="decode_responses=False"
        )


def check_options(url: str) -> None:
    """Check the options of an address, as redis-py does when it connects.

    Raises:
        InvalidRequestError: redis-py does not know one of them. It is not repeated, since it may
            be a secret at the wrong place.
    """
    try:
        options = _read_options(read_redis_url(url), 1.0)
        for name in (*_SENTINEL_LOGIN, "max_connections"):
            options.pop(name, None)
        options.pop("connection_class", Connection)(**options)
    except (TypeError, ValueError, RedisError):
        raise InvalidRequestError(
            "the address has an option that redis-py does not know, or a wrong value for one",
            field="url",
            allowed="the options of redis-py's connections",
        ) from None


def _is_useless(result: object) -> bool:
    """Tell whether another connection may lead to a server that does what was asked."""
    refused = isinstance(result, AuthenticationError | AuthorizationError)
    return isinstance(result, _USELESS) and not refused


def _merge(found: Sequence[Any]) -> Mapping[str, str]:
    return {name: value for each in found for name, value in each.items()}


def _cancel(group: Iterable[_Waiter]) -> None:
    """Let no caller wait for ever; a result that is set stays."""
    for _, result in group:
        result.cancel()


def _read_options(address: RedisAddress, timeout: float) -> dict[str, Any]:
    """Return what redis-py makes a connection with."""
    options: dict[str, Any] = {"socket_timeout": timeout, "socket_connect_timeout": timeout}
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
    return Sentinel(  # type: ignore[no-untyped-call]
        address.hosts, sentinel_kwargs=asked, ssl=tls, **options
    )


def _make_cluster(address: RedisAddress, options: dict[str, Any]) -> RedisCluster:
    tls = options.pop("connection_class", None) is SSLConnection
    for name in ("host", "port", "db"):
        options.pop(name, None)
    nodes = [ClusterNode(host, port) for host, port in address.hosts]
    return RedisCluster(startup_nodes=nodes, ssl=tls, **options)

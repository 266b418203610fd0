"""Reach a Redis, as the store and the quota do: one server, Sentinel, a cluster, a user's client.

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
import math
from collections import deque
from collections.abc import Awaitable, Iterable, Mapping, Sequence
from typing import Any, Final, Protocol, TypeAlias, cast

from attrs import Factory, define, field, frozen

from wxpay_async.adapters import redis_options  # first: it says what to install
from wxpay_async.adapters.event_loop import ShieldedTasks
from wxpay_async.adapters.redis_url import read_redis_url, redact_redis_url
from wxpay_async.errors import InvalidRequestError

# isort: split
from redis.asyncio import Redis, RedisCluster, Sentinel
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

_GRACE: Final = 2.0
"""Seconds for which a Redis that was there until now may be away, before callers are told."""

_PAUSES: Final = (0.05, 0.4)
"""Seconds between the second try and the third, and the longest: each is twice as long."""

_MAX_GROUP: Final = 128
_ENOUGH: Final = 16
"""Commands that wait while a pipeline runs: so many are worth a second one."""

_SLOW: Final = 0.02
"""Seconds that commands wait for a running pipeline before another one starts."""

_CLOSING: Final = 0.5


class _Pipeline(Protocol):
    def execute_command(self, *words: Argument) -> object: ...

    def execute(self, *, raise_on_error: bool) -> Awaitable[list[Any]]: ...


_Waiter: TypeAlias = tuple[Command, asyncio.Future[Any], float]
"""A command, the future that waits for its reply, and since when by the loop's clock."""


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
        place: the address without a login, for errors; empty where a client was handed in.
    """

    client: Redis | RedisCluster
    scripts: Sequence[Script] = ()
    timeout: float = field(default=5.0, kw_only=True)
    connections: int = field(default=4, kw_only=True)
    owned: bool = field(default=True, kw_only=True)
    sentinel: Sentinel | None = field(default=None, kw_only=True)
    place: str = field(default="", kw_only=True)
    _tasks: ShieldedTasks = field(factory=ShieldedTasks, init=False, repr=False)
    _loaded: bool = field(default=False, init=False, repr=False)
    _waiting: deque[_Waiter] = field(factory=deque[_Waiter], init=False, repr=False)
    _running: int = field(default=0, init=False, repr=False)
    _alarm: asyncio.TimerHandle | None = field(default=None, init=False, repr=False)
    _lost_at: float = field(default=-math.inf, init=False, repr=False)

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
        loop = asyncio.get_running_loop()
        result: asyncio.Future[Any] = loop.create_future()
        self._waiting.append((command, result, loop.time()))
        if not self._running or len(self._waiting) >= _ENOUGH:
            self._start()
        elif self._alarm is None:
            self._alarm = loop.call_later(_SLOW, self._start)
        return result

    def _start(self) -> None:
        """Start another pipeline, if there may be one more."""
        if self._alarm is not None:
            self._alarm.cancel()
            self._alarm = None
        if self._waiting and self._running < self.connections:
            self._running += 1
            self._tasks.start(self._run_all())

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
            results = await self._repeat([command for command, *_ in group], since=group[0][2])
            for (_, waiting, _), result in zip(group, results, strict=True):
                if waiting.done():
                    continue
                if isinstance(result, Exception):
                    waiting.set_exception(result)
                else:
                    waiting.set_result(result)
        finally:
            _cancel(group)

    async def _repeat(self, commands: list[Command], *, since: float) -> list[Any]:
        """Run commands, and those again whose connection turned out to be of no use."""
        loop = asyncio.get_running_loop()
        patience = min(_PATIENCE, self.timeout / 2)
        end = max(since + self.timeout, loop.time() + patience)
        results = await self._try(commands, patience)
        left = _find_useless(results)
        pause, until = 0.0, end
        while left and loop.time() < until:
            await self._drop_idle()
            await asyncio.sleep(min(pause, until - loop.time()))
            again = await self._try([commands[place] for place in left], end - loop.time())
            for place, result in zip(left, again, strict=True):
                results[place] = result
            left = _find_useless(results)
            pause, until = min(2 * pause or _PAUSES[0], _PAUSES[1]), self._lose_until(end)
        self._lost_at = min(self._lost_at, loop.time()) if left else math.inf
        return results

    def _lose_until(self, end: float) -> float:
        """Note that Redis may be away; return until when it is waited for."""
        self._lost_at = min(self._lost_at, asyncio.get_running_loop().time())
        return min(end, self._lost_at + _GRACE)

    async def _try(self, commands: list[Command], patience: float) -> list[Any]:
        """Return for each command its reply, or the error by which it failed."""
        try:
            async with asyncio.timeout(patience):
                return await self._execute_all(commands)
        except TimeoutError:
            return [NoAnswerError(f"{self.place or 'Redis'} does not answer")] * len(commands)
        except (DataError, ValueError, OverflowError) as error:
            if len(commands) == 1:
                return [error]
            # What cannot be written fails the pipeline before it is sent.
            return [(await self._try([command], patience))[0] for command in commands]
        except REDIS_FAILURES as error:
            return [error] * len(commands)
        except Exception as error:  # noqa: BLE001 - raised, it would cancel the callers
            failure = RedisError(f"redis-py fails ({type(error).__name__})")
            failure.__cause__ = error
            return [failure] * len(commands)

    async def _execute_all(self, commands: list[Command]) -> list[Any]:
        if not self._loaded:
            await self._load_scripts()
        results = await self._execute(commands)
        forgotten = [n for n, result in enumerate(results) if isinstance(result, NoScriptError)]
        if forgotten:  # another server, or one that was restarted
            await self._load_scripts()
            again = await self._execute([commands[place] for place in forgotten])
            for place, result in zip(forgotten, again, strict=True):
                results[place] = result
        return results

    async def _load_scripts(self) -> None:
        """Let Redis know the scripts, on every node of a cluster."""
        for script in self.scripts:
            await self.client.script_load(script.text)
        self._loaded = True

    async def _execute(self, commands: list[Command]) -> list[Any]:
        pipeline = cast("_Pipeline", self.client.pipeline(transaction=False))
        for command in commands:
            pipeline.execute_command(*command)
        return await pipeline.execute(raise_on_error=False)

    async def _drop_idle(self) -> None:
        """Close idle connections: they lead to the same server as the useless one."""
        with contextlib.suppress(*REDIS_FAILURES):  # a TimeoutError is an OSError, too
            async with asyncio.timeout(_CLOSING):
                if isinstance(self.client, RedisCluster):
                    await self.client.aclose()  # the next command looks for the nodes again
                else:
                    await self.client.connection_pool.disconnect(inuse_connections=False)


def open_link(
    at: str | Redis | RedisCluster, scripts: Sequence[Script], *, timeout: float, connections: int
) -> RedisLink:
    """Make the link to the Redis at an address, or over a client that is there already.

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
    client, sentinel = redis_options.make_client(read_redis_url(at), timeout)
    return RedisLink(
        client,
        scripts,
        timeout=timeout,
        connections=connections,
        sentinel=sentinel,
        place=redact_redis_url(at),
    )


def check_client(client: object) -> None:
    """Check a client that is handed in.

    Raises:
        InvalidRequestError: it is none of `redis.asyncio`, or it decodes what it reads, and not all
            that is kept is a text.
    """
    if not isinstance(client, Redis | RedisCluster):
        raise InvalidRequestError(
            "no client of redis.asyncio", field="client", allowed="its Redis or RedisCluster"
        )
    if client.get_encoder().decode_responses:
        raise InvalidRequestError(
            "the client decodes what it reads", field="client", allowed="decode_responses=False"
        )


def check_options(url: str) -> None:
    """Check the options of a checked address, as redis-py does when it connects.

    Raises:
        InvalidRequestError: redis-py does not know one of them. It is not repeated, since it may
            be a secret at the wrong place.
    """
    try:
        redis_options.try_options(read_redis_url(url))
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
    pairs = (pair for each in found for pair in each.items())
    return {_read(name): _read(value) for name, value in pairs}


def _read(text: str | bytes) -> str:
    return text.decode() if isinstance(text, bytes) else text


def _find_useless(results: Sequence[object]) -> list[int]:
    return [place for place, result in enumerate(results) if _is_useless(result)]


def _cancel(group: Iterable[_Waiter]) -> None:
    """Let no caller wait for ever; a result that is set stays."""
    for _, result, _ in group:
        result.cancel()

"""A store in Redis: one Lua script for each method, since only a script is atomic there.

It keeps what Redis keeps: an entry that Redis evicts, or loses in a crash, could be sent as if it
were new; `durable` says whether this Redis does neither.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Coroutine, Generator, Mapping, Sequence
from typing import Any, Final, Protocol, cast

from attrs import define, field

from wxpay_async.adapters.event_loop import LoopLocal, ShieldedTasks
from wxpay_async.adapters.redis_url import checked_redis_url, shown_redis_url
from wxpay_async.adapters.stores.inbox import INBOX_RETENTION, Receipt
from wxpay_async.adapters.stores.redis_layout import (
    SCRIPTS,
    VERSION,
    VERSION_KEY,
    Argument,
    entry_of,
    inbox_key,
    keys_of,
    milliseconds,
    written,
)
from wxpay_async.adapters.stores.store import DAY, NewerSchemaError
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.policy.record import LEASE, IdempotencyRecord

try:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError, ResponseError
except ImportError as error:  # pragma: no cover - seen by a test in a process of its own
    raise ImportError(
        "RedisStore needs redis-py; install it with: pip install 'wxpay-async[redis]'"
    ) from error

_DROPPED_AT_ONCE: Final = 1000
_FAILURES: Final = (RedisError, OSError, ValueError, OverflowError)


class _Script(Protocol):
    def __call__(
        self, keys: Sequence[str], args: Sequence[Argument]
    ) -> Coroutine[Any, Any, Any]: ...


@define(eq=False)
class _Session:
    """What belongs to one event loop."""

    client: Redis
    scripts: Mapping[str, _Script]
    errands: ShieldedTasks = field(factory=ShieldedTasks, init=False)
    _opening: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _durable: bool | None = field(default=None, init=False)

    async def durable(self) -> bool:
        """Tell whether this Redis writes every command through and never evicts an open entry."""
        async with self._opening:
            if self._durable is None:
                await self.errands.run(self._check_version())
                self._durable = await self.errands.run(self._ask())
        return self._durable

    async def _check_version(self) -> None:
        await self.client.set(VERSION_KEY, VERSION, nx=True)
        found = int(await self.client.get(VERSION_KEY) or VERSION)
        if found > VERSION:
            raise NewerSchemaError(found, VERSION)

    async def _ask(self) -> bool:
        try:
            found = await self.client.config_get(  # pyright: ignore[reportUnknownMemberType]
                "appendonly", "appendfsync", "maxmemory", "maxmemory-policy"
            )
        except ResponseError:  # a hosted Redis may keep its settings to itself
            return False
        settings = cast("Mapping[str, str]", found)
        evicts = settings.get("maxmemory") != "0" and settings.get(
            "maxmemory-policy", "allkeys"
        ).startswith("allkeys")
        written = (settings.get("appendonly"), settings.get("appendfsync"))
        return written == ("yes", "always") and not evicts

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401 - each script answers in its own way
        """Run a script to its end, even when the caller is cancelled."""
        return await self.errands.run(self.scripts[name](keys, args))

    async def close(self) -> None:
        """Wait for what is under way, then close the connections."""
        await self.errands.finished()
        await self.client.aclose()


def _open_session(url: str, *, timeout: float, connections: int) -> _Session:
    pool = BlockingConnectionPool.from_url(  # pyright: ignore[reportUnknownMemberType] - untyped
        url,
        max_connections=connections,
        timeout=timeout,
        socket_timeout=timeout,
        socket_connect_timeout=timeout,
        retry=Retry(NoBackoff(), 1),  # a pooled connection may have died; every script repeats
    )
    client = Redis.from_pool(pool)
    scripts = {name: cast("_Script", client.register_script(lua)) for name, lua in SCRIPTS.items()}
    return _Session(client, scripts)


@define(eq=False)
class RedisStore:
    """Keeps operations in a Redis that several processes may share.

    Making one does no I/O. It works in one event loop after another.

    Args:
        url: `redis://host:6379/0` or `rediss://...`; user and password are never shown.
        retention: seconds for which a finished operation is remembered; 30 days by default.
        timeout: seconds for connecting, and for one answer.
        connections: at once.

    Raises:
        InvalidRequestError: the address is none of these.
    """

    url: str = field(converter=checked_redis_url, repr=shown_redis_url)
    retention: float = field(default=30 * DAY, kw_only=True)
    timeout: float = field(default=5.0, kw_only=True)
    connections: int = field(default=20, kw_only=True)
    _durable: bool = field(default=False, init=False, repr=False)
    _sessions: LoopLocal[_Session] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._sessions = LoopLocal(self._lifetime)

    @property
    def durable(self) -> bool:
        """Whether a commit survives a crash of Redis.

        False until the first call has asked Redis: only `appendonly yes` with `appendfsync always`
        and no eviction of open entries keeps everything. A failover to a replica may still lose
        the last writes.
        """
        return self._durable

    async def reserve(self, entry: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the entry unless its key is taken; return what is there now."""
        with _mapped(NotSentError, "reserve an operation"):
            session = await self._session()
            stored = await session.run(
                "reserve", keys_of(entry.key), written(entry, retention=self.retention)
            )
            return entry_of(stored)

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> IdempotencyRecord | None:
        """Take the operation over for one attempt."""
        with _mapped(NotSentError, "claim an operation"):
            session = await self._session()
            args: list[Argument] = [key[1], repr(now), str(signed_at), repr(now + lease)]
            stored = await session.run("claim", keys_of(key), args)
            return entry_of(stored) if stored else None

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Write the entry if its epoch is still the stored one."""
        with _mapped(InDoubtError, "record an outcome"):
            session = await self._session()
            return bool(
                await session.run(
                    "record", keys_of(entry.key), written(entry, retention=self.retention)
                )
            )

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Return the entry, None if there is none."""
        with _mapped(NotSentError, "load an operation"):
            session = await self._session()
            stored = await session.run("load", keys_of(key)[3:], ())
            return entry_of(stored) if stored else None

    async def sweep(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Tend an appKey's operations; drops at most 1,000 old ones each time."""
        times = [repr(now), repr(now - self.retention), repr(now + LEASE)]
        with _mapped(NotSentError, "sweep"):
            session = await self._session()
            *sets, operation = keys_of((app_key, ""))
            args: list[Argument] = [operation, *times, limit, _DROPPED_AT_ONCE]
            return [entry_of(stored) for stored in await session.run("sweep", sets, args)]

    async def receive(self, message: str, *, now: float, lease: float = LEASE) -> Receipt:
        """Take a callback for handling, unless it is handled already or right now."""
        with _mapped(NotSentError, "receive a callback"):
            session = await self._session()
            args: list[Argument] = [repr(now), repr(now + lease), milliseconds(INBOX_RETENTION)]
            receipt = await session.run("receive", [inbox_key(message)], args)
            return Receipt(receipt.decode())

    async def handled(self, message: str, *, now: float) -> None:
        """Note that the callback's effect has happened."""
        with _mapped(InDoubtError, "note that a callback is handled"):
            session = await self._session()
            args: list[Argument] = [repr(now + INBOX_RETENTION), milliseconds(INBOX_RETENTION)]
            await session.run("handled", [inbox_key(message)], args)

    async def unhandled(self, message: str) -> None:
        """Give the callback back."""
        with _mapped(InDoubtError, "give a callback back"):
            session = await self._session()
            await session.run("unhandled", [inbox_key(message)], ())

    async def aclose(self) -> None:
        """Close the connections; the next call opens them anew."""
        await self._sessions.aclose()

    async def _session(self) -> _Session:
        session = await self._sessions.get()
        self._durable = await session.durable()
        return session

    async def _lifetime(self) -> AsyncGenerator[_Session]:
        session = _open_session(self.url, timeout=self.timeout, connections=self.connections)
        try:
            yield session
        finally:
            await session.close()


@contextlib.contextmanager
def _mapped(meaning: type[NotSentError | InDoubtError], task: str) -> Generator[None]:
    try:
        yield
    except NewerSchemaError as error:
        raise meaning(str(error), retryable=False) from error
    except _FAILURES as error:  # its text stays in the cause: it may name hosts
        raise meaning(f"the store cannot {task} ({type(error).__name__})") from error

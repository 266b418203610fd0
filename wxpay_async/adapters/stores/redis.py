"""Keep operations and callbacks in Redis: one Lua script for each method, since a script is atomic.

A record that Redis evicts, or loses in a crash, could be sent as if it were new; `durable` says
whether this Redis does neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Coroutine, Mapping, Sequence
from functools import partial
from typing import Any, Final, Protocol, cast

from attrs import define, field

from wxpay_async.adapters.event_loop import LoopLocal, ShieldedTasks
from wxpay_async.adapters.redis_url import check_redis_url, redact_redis_url
from wxpay_async.adapters.stores.failures import NewerSchemaError, map_failures
from wxpay_async.adapters.stores.inbox import INBOX_RETENTION, Entry
from wxpay_async.adapters.stores.redis_layout import (
    SCRIPTS,
    VERSION,
    VERSION_KEY,
    Argument,
    from_hash,
    make_inbox_key,
    make_keys,
    make_write_arguments,
    to_milliseconds,
)
from wxpay_async.adapters.stores.store import DAY
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

_MAX_DROPPED: Final = 1000
_map_failures = partial(map_failures, (RedisError, OSError, ValueError, OverflowError))


class _Script(Protocol):
    def __call__(
        self, keys: Sequence[str], args: Sequence[Argument]
    ) -> Coroutine[Any, Any, Any]: ...


@define(eq=False)
class _Session:
    """What belongs to one event loop."""

    client: Redis
    scripts: Mapping[str, _Script]
    tasks: ShieldedTasks = field(factory=ShieldedTasks, init=False)
    _opening: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _durable: bool | None = field(default=None, init=False)

    async def open(self) -> bool:
        """Check the version, once; tell whether Redis keeps every write and every open record."""
        async with self._opening:
            if self._durable is None:
                await self.tasks.run(self._check_version())
                self._durable = await self.tasks.run(self._check_durable())
        return self._durable

    async def _check_version(self) -> None:
        await self.client.set(VERSION_KEY, VERSION, nx=True)
        found = int(await self.client.get(VERSION_KEY) or VERSION)
        if found > VERSION:
            raise NewerSchemaError(found, VERSION)
        if found < VERSION:  # hashes and sets of earlier versions are read as they are
            await self.client.set(VERSION_KEY, VERSION)

    async def _check_durable(self) -> bool:
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
        log = (settings.get("appendonly"), settings.get("appendfsync"))
        return log == ("yes", "always") and not evicts

    async def run(self, name: str, keys: Sequence[str], args: Sequence[Argument]) -> Any:  # noqa: ANN401 - each script answers in its own way
        """Run a script to its end, even when the caller is cancelled."""
        return await self.tasks.run(self.scripts[name](keys, args))

    async def close(self) -> None:
        """Wait for the scripts that still run, then close the connections."""
        await self.tasks.finished()
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

    url: str = field(converter=check_redis_url, repr=redact_redis_url)
    retention: float = field(default=30 * DAY, kw_only=True)
    timeout: float = field(default=5.0, kw_only=True)
    connections: int = field(default=20, kw_only=True)
    _durable: bool = field(default=False, init=False, repr=False)
    _sessions: LoopLocal[_Session] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        self._sessions = LoopLocal(self._hold_session)

    @property
    def durable(self) -> bool:
        """Whether a commit survives a crash of Redis.

        False until the first call has asked Redis: only `appendonly yes` with `appendfsync always`
        and no eviction of open records keeps everything. A failover to a replica may still lose
        the last writes.
        """
        return self._durable

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the record unless its key exists; return what is stored now."""
        with _map_failures(NotSentError, "reserve an operation"):
            args = make_write_arguments(record, retention=self.retention)
            return from_hash(await self._run("reserve", make_keys(record.key), args))

    async def claim(
        self,
        key: tuple[str, str],
        *,
        now: float,
        signed_at: int,
        lease: float = LEASE,
        token: str | None = None,
    ) -> IdempotencyRecord | None:
        """Claim the operation for one attempt."""
        args = (key[1], repr(now), str(signed_at), repr(now + lease), token or "")
        with _map_failures(NotSentError, "claim an operation"):
            stored = await self._run("claim", make_keys(key), args)
            return from_hash(stored) if stored else None

    async def record(self, record: IdempotencyRecord) -> bool:
        """Write the record if its epoch is still the stored one."""
        with _map_failures(InDoubtError, "record an outcome"):
            args = make_write_arguments(record, retention=self.retention)
            return bool(await self._run("record", make_keys(record.key), args))

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Return the record, None if there is none."""
        with _map_failures(NotSentError, "load an operation"):
            stored = await self._run("load", make_keys(key)[-1:])
            return from_hash(stored) if stored else None

    async def find_open(self, app_key: str, out_trade_no: str) -> list[IdempotencyRecord]:
        """Return an appKey's open records that have this number."""
        sending, checks, *_, operation = make_keys((app_key, ""))
        with _map_failures(NotSentError, "find the operations of an order"):
            found = await self._run("find_open", [sending, checks], (operation, out_trade_no))
            return [from_hash(stored) for stored in found]

    async def sweep(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Tend an appKey's operations; drops at most 1,000 old ones each time."""
        times = (repr(now), repr(now - self.retention), repr(now + LEASE))
        *sets, operation = make_keys((app_key, ""))
        with _map_failures(NotSentError, "sweep"):
            due = await self._run("sweep", sets, (operation, *times, limit, _MAX_DROPPED))
            return [from_hash(stored) for stored in due]

    async def list_open(
        self, app_key: str, *, after: str = "", limit: int = 100
    ) -> list[IdempotencyRecord]:
        """List an appKey's operations that are under way, in doubt, or wait for a person."""
        *sets, operation = make_keys((app_key, ""))
        with _map_failures(NotSentError, "list what is open"):
            found = await self._run("list_open", sets, (operation, after, limit))
            return [from_hash(stored) for stored in found]

    async def load_entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of these keys."""
        with _map_failures(NotSentError, "load what callbacks have told"):
            found = await self._run("load_entries", [make_inbox_key(key) for key in keys])
            pairs = zip(keys, found, strict=True)
            return {key: Entry(int(of[0]), of[1].decode()) for key, of in pairs if of[0]}

    async def swap(self, key: str, *, version: int | None, value: str, now: float) -> bool:  # noqa: ARG002 - Redis counts the 30 days by itself
        """Write a document, if the stored entry is still the one that the caller knows."""
        args = (version or 0, value, to_milliseconds(INBOX_RETENTION))
        with _map_failures(InDoubtError, "note what a callback has told"):
            return bool(await self._run("swap", [make_inbox_key(key)], args))

    async def aclose(self) -> None:
        """Close the connections; the next call opens them again."""
        await self._sessions.aclose()

    async def _run(self, name: str, keys: Sequence[str], args: Sequence[Argument] = ()) -> Any:  # noqa: ANN401 - each script answers in its own way
        session = await self._sessions.get()
        self._durable = await session.open()
        return await session.run(name, keys, args)

    async def _hold_session(self) -> AsyncGenerator[_Session]:
        session = _open_session(self.url, timeout=self.timeout, connections=self.connections)
        try:
            yield session
        finally:
            await session.close()

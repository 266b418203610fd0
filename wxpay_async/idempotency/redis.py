"""A store in Redis: one Lua script for each method, since only a script is atomic there.

An operation is a hash. Three sorted sets beside it say when a sweep must look at which operation: at
a lease's end, at a query's time, or since when it could be forgotten. All keys of an appKey carry
it in braces, which keeps them on one node of a cluster.

A finished operation has a time to live as well, for a store that nobody sweeps. An open one has
none, and must not be evicted either: `durable` says whether this Redis keeps what it was told.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
from collections.abc import AsyncGenerator, Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Protocol, cast
from urllib.parse import urlsplit

import attrs
from attrs import define, field

from wxpay_async.errors import InDoubtError, InvalidRequestError, NotSentError
from wxpay_async.idempotency.per_loop import Errands, PerLoop
from wxpay_async.idempotency.store import DAY, INBOX_RETENTION, LEASE, OPEN, Entry, Receipt
from wxpay_async.policy.states import State
from wxpay_async.protocol.identity import Fingerprint

try:
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError, ResponseError
except ImportError as error:  # pragma: no cover - seen by a test in a process of its own
    raise ImportError(
        "RedisStore needs redis-py; install it with: pip install 'wxpay-async[redis]'"
    ) from error

_FAILURES: Final = (RedisError, OSError, ValueError, OverflowError)
_DROPPED_AT_ONCE: Final = 1000

# The sets, by their place in KEYS: 1 leases, 2 checks, 3 old; then 4 the operation.
_PLACE: Final = """
local function place(id, set, score)
    for i = 1, 3 do
        if i ~= set then redis.call('ZREM', KEYS[i], id) end
    end
    if set > 0 then redis.call('ZADD', KEYS[set], score, id) end
end
"""

# ARGV: id, set, score, time to live (0: for ever), then names and values of all fields.
_WRITE: Final = f"""{_PLACE}
local function write()
    redis.call('DEL', KEYS[4])
    redis.call('HSET', KEYS[4], unpack(ARGV, 5))
    place(ARGV[1], tonumber(ARGV[2]), ARGV[3])
    if ARGV[4] ~= '0' then redis.call('PEXPIRE', KEYS[4], ARGV[4]) end
end
"""

_RESERVE: Final = f"""{_WRITE}
if redis.call('EXISTS', KEYS[4]) == 0 then write() end
return redis.call('HGETALL', KEYS[4])
"""

# The epoch is the last field.
_RECORD: Final = f"""{_WRITE}
if redis.call('HGET', KEYS[4], 'epoch') ~= ARGV[#ARGV] then return 0 end
write()
return 1
"""

# What `Entry.claimable` and `Entry.claimed` say. ARGV: id, now, signed_at, lease_until.
_CLAIM: Final = f"""{_PLACE}
local op = KEYS[4]
local found = redis.call('HMGET', op, 'state', 'lease_until')
local state, now = found[1], ARGV[2]
if not state then return {{}} end
local lapsed = state == 'sending' and tonumber(found[2]) <= tonumber(now)
if not (lapsed or state == 'reserved' or state == 'unknown') then return {{}} end
if lapsed or state == 'unknown' then
    redis.call('HSET', op, 'in_doubt', 1)
    redis.call('HSETNX', op, 'doubt_since', now)
end
redis.call('HINCRBY', op, 'epoch', 1)
redis.call('HINCRBY', op, 'attempts', 1)
redis.call('HDEL', op, 'absent_at')
redis.call('HSET', op, 'state', 'sending', 'signed_at', ARGV[3], 'lease_until', ARGV[4],
    'updated_at', now)
redis.call('PERSIST', op)
place(ARGV[1], 1, ARGV[4])
return redis.call('HGETALL', op)
"""

# KEYS: the three sets. ARGV: how the operations' keys begin, now, the oldest to keep, when to look
# again, how many, how many old ones. A hash that is gone has ended by its time to live.
_SWEEP: Final = f"""{_PLACE}
local now = ARGV[2]
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[1], '-inf', now)) do
    local op = ARGV[1] .. id
    if redis.call('EXISTS', op) == 1 then
        redis.call('HINCRBY', op, 'epoch', 1)
        redis.call('HSETNX', op, 'doubt_since', now)
        redis.call('HSET', op, 'state', 'unknown', 'in_doubt', 1, 'next_check_at', now,
            'lease_until', '0.0', 'updated_at', now)
        place(id, 2, now)
    else
        place(id, 0)
    end
end
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[3], '-inf', ARGV[3], 'LIMIT', 0, ARGV[6])) do
    redis.call('DEL', ARGV[1] .. id)
    place(id, 0)
end
local due = {{}}
for _, id in ipairs(redis.call('ZRANGEBYSCORE', KEYS[2], '-inf', now, 'LIMIT', 0, ARGV[5])) do
    local op = ARGV[1] .. id
    local fields = redis.call('HGETALL', op)
    if #fields > 0 then
        due[#due + 1] = fields
        redis.call('HSET', op, 'next_check_at', ARGV[4])
        place(id, 2, ARGV[4])
    else
        place(id, 0)
    end
end
return due
"""

_LOAD: Final = "return redis.call('HGETALL', KEYS[1])"

# ARGV: now, the end of the lease, milliseconds to keep it.
_RECEIVE: Final = """
local found = redis.call('HMGET', KEYS[1], 'receipt', 'until')
if found[2] and tonumber(found[2]) > tonumber(ARGV[1]) then return found[1] end
redis.call('HSET', KEYS[1], 'receipt', 'busy', 'until', ARGV[2])
redis.call('PEXPIRE', KEYS[1], ARGV[3])
return 'yours'
"""

# ARGV: until when it is remembered, the same in milliseconds from now.
_HANDLED: Final = """
redis.call('HSET', KEYS[1], 'receipt', 'handled', 'until', ARGV[1])
redis.call('PEXPIRE', KEYS[1], ARGV[2])
return 1
"""

_UNHANDLED: Final = """
if redis.call('HGET', KEYS[1], 'receipt') == 'busy' then redis.call('DEL', KEYS[1]) end
return 1
"""

_SCRIPTS: Final[Mapping[str, str]] = {
    "reserve": _RESERVE,
    "claim": _CLAIM,
    "record": _RECORD,
    "load": _LOAD,
    "sweep": _SWEEP,
    "receive": _RECEIVE,
    "handled": _HANDLED,
    "unhandled": _UNHANDLED,
}


class _Script(Protocol):
    async def __call__(
        self, keys: Sequence[str], args: Sequence[str | bytes | int]
    ) -> object: ...


@define(eq=False)
class _Session:
    """What belongs to one event loop."""

    client: Redis
    scripts: Mapping[str, _Script]
    errands: Errands = field(factory=Errands, init=False)
    _opening: asyncio.Lock = field(factory=asyncio.Lock, init=False)
    _durable: bool | None = field(default=None, init=False)

    async def durable(self) -> bool:
        """Tell whether this Redis writes every command through and never evicts an open entry."""
        async with self._opening:
            if self._durable is None:
                self._durable = await self.errands.run(self._ask())
        return self._durable

    async def _ask(self) -> bool:
        try:
            found = await self.client.config_get(
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

    async def run(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        """Run a script to its end, even when the caller is cancelled."""
        return await self.errands.run(self._run(name, keys, args))

    async def _run(self, name: str, keys: Sequence[str], args: Sequence[str | bytes | int]) -> Any:
        return await self.scripts[name](keys, args)

    async def close(self) -> None:
        """Wait for what is under way, then close the connections."""
        await self.errands.finished()
        await self.client.aclose()

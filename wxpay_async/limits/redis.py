"""The quota of many machines: the interval log in Redis, on Redis's own clock.

The rules are those of `policy/quota.py`, one Lua script for each operation, since only a script is
atomic. A slot is written with its whole lease when it is taken, and shortened when the call ends:
a process that is killed wastes its slots for a while and never frees them early. If Redis cannot be
reached there is no slot, because a call outside the count could be the one too many.

Waiters ask again when the next slot comes free, and each second at the latest (a call that ended
unsent frees its slot early). Only the first waiter of a lane asks, so within a process it is first
come, first served. Between processes it is a race, except that batches stand back while people or
doubts anywhere wait.

What it rests on: Redis keeps its last writes, and its clock does not jump forward. A failover to a
replica can lose slots. A log that is gone altogether is treated like a restart: half of the slots
count as taken.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Sequence
from typing import Final, Protocol, cast

import attrs

from wxpay_async.errors import NotSentError
from wxpay_async.limits.limiter import Slot
from wxpay_async.policy.quota import Ending, Lane, Quota, Slowed

try:
    from redis.asyncio import Redis
    from redis.asyncio.retry import Retry
    from redis.backoff import NoBackoff
    from redis.exceptions import RedisError
except ImportError as error:  # pragma: no cover - seen by a test in a process of its own
    raise ImportError(
        "RedisLimiter needs redis-py; install it with: pip install 'wxpay-async[redis]'"
    ) from error

_MICRO: Final = 1_000_000
_POLL: Final = 1.0
_IO_TIMEOUT: Final = 2.0

_CLOCK: Final = "redis.call('TIME')"

_COUNT: Final = f"""
local clock = {_CLOCK}
local now = clock[1] * 1000000 + clock[2]
local calls, batch, state = KEYS[1], KEYS[2], KEYS[3]
local limit, recovery = tonumber(ARGV[1]), tonumber(ARGV[2])
redis.call('ZREMRANGEBYSCORE', calls, '-inf', now)
redis.call('ZREMRANGEBYSCORE', batch, '-inf', now)
local in_batch = redis.call('ZCARD', batch)
local taken = redis.call('ZCARD', calls) + in_batch
local capacity, step_at = limit, math.huge
local pace = redis.call('HMGET', state, 'pace', 'slowed')
if pace[1] then
    local minutes = math.floor((now - pace[2]) / 60000000)
    local recovered = pace[1] + minutes * recovery
    if recovered < limit then
        capacity, step_at = recovered, pace[2] + (minutes + 1) * 60000000
    end
end
"""

# Returns 0 when the slot was taken, else the microseconds until it is worth asking again.
_TAKE: Final = (
    """
if redis.call('HSETNX', KEYS[3], 'known', 1) == 1 and ARGV[7] == '0' then
    local clock = redis.call('TIME')
    local free = clock[1] * 1000000 + clock[2] + ARGV[6]
    for i = 1, math.floor(ARGV[1] / 2) do redis.call('ZADD', KEYS[1], free, 'before:' .. i) end
    redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[6] / 1000))
end
"""
    + _COUNT
    + """
local member, lease, is_batch, most = ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[8])
local yields = is_batch and now < tonumber(redis.call('HGET', state, 'waiting') or 0)
local full = is_batch and in_batch >= math.max(1, math.floor(capacity * most / limit))
if taken < capacity and not yields and not full then
    local mine = is_batch and batch or calls
    redis.call('ZADD', mine, now + lease, member)
    redis.call('PEXPIRE', mine, math.ceil(lease / 1000))
    if not is_batch then redis.call('HDEL', state, 'waiting') end
    return 0
end
local free = step_at
for _, key in ipairs({calls, batch}) do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] then free = math.min(free, tonumber(first[2])) end
end
if not is_batch then redis.call('HSET', state, 'waiting', free + 50000) end
return math.max(1, free - now)
"""
)

# A negative time gives the slot back. Otherwise it is taken from now on, even if the lease is over.
_END: Final = f"""
if tonumber(ARGV[2]) < 0 then return redis.call('ZREM', KEYS[1], ARGV[1]) end
local clock = {_CLOCK}
redis.call('ZADD', KEYS[1], clock[1] * 1000000 + clock[2] + ARGV[2], ARGV[1])
if redis.call('PTTL', KEYS[1]) < ARGV[2] / 1000 then
    redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[2] / 1000))
end
return 0
"""

_SLOW: Final = (
    _COUNT
    + """
if taken >= limit or taken > capacity then return {taken, 0} end
local calls_now = math.max(1, math.floor(taken * 7 / 10))
redis.call('HSET', state, 'pace', calls_now, 'slowed', now)
return {taken, calls_now}
"""
)

"""Keep the quota of many machines: a sliding window log in Redis, on Redis's own clock.

The rules are those of `policy/quota.py`, one Lua script for each operation, since only a script is
atomic. A slot is written with its whole lease when it is taken, and the lease is shortened when the
call ends: a process that is killed wastes its slots for a while and never frees them early. If
Redis cannot be reached there is no slot, because an uncounted call could exceed the quota.

Waiters ask again when the next slot comes free, and each second at the latest (a call that ended
unsent frees its slot early). Only the first waiter of a lane asks, so within a process it is first
come, first served. Between processes it is a race, except that batches wait while people or doubts
wait in any process.

This relies on Redis keeping its last writes, and on its clock never jumping forward. A failover to
a replica can lose slots. If the whole log is lost, half of the slots count as taken, as after a
restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import secrets
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from typing import Final, Protocol, cast

import attrs

from wxpay_async.adapters.event_loop import LoopLocal, ShieldedTasks
from wxpay_async.adapters.limiters.limiter import Slot
from wxpay_async.adapters.redis_url import check_redis_url, redact_redis_url
from wxpay_async.errors import NotSentError
from wxpay_async.policy.quota import Lane, Quota, Slowed

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

_RELEASE: Final = -1

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

# Returns 0 when the slot was taken, else the microseconds until it is worth asking again; and how
# many slots are taken now.
_TAKE: Final = (
    f"""
if redis.call('HSETNX', KEYS[3], 'known', 1) == 1 and ARGV[7] == '0' then
    local clock = {_CLOCK}
    local free = clock[1] * 1000000 + clock[2] + ARGV[6]
    for i = 1, math.floor(ARGV[1] / 2) do redis.call('ZADD', KEYS[1], free, 'before:' .. i) end
    redis.call('PEXPIRE', KEYS[1], math.ceil(ARGV[6] / 1000))
end
"""
    + _COUNT
    + """
local member, lease, is_batch, most = ARGV[3], tonumber(ARGV[4]), ARGV[5] == '1', tonumber(ARGV[8])
local waiting = tonumber(redis.call('HGET', state, 'waiting') or 0)
local yields = is_batch and now < waiting
local full = is_batch and in_batch >= math.max(1, math.floor(capacity * most / limit))
if taken < capacity and not yields and not full then
    local mine = is_batch and batch or calls
    redis.call('ZADD', mine, now + lease, member)
    redis.call('PEXPIRE', mine, math.ceil(lease / 1000))
    if not is_batch then redis.call('HDEL', state, 'waiting') end
    return {0, taken + 1}
end
local free = yields and math.min(step_at, waiting) or step_at
for _, key in ipairs({calls, batch}) do
    local first = redis.call('ZRANGE', key, 0, 0, 'WITHSCORES')
    if first[2] then free = math.min(free, tonumber(first[2])) end
end
if not is_batch then redis.call('HSET', state, 'waiting', free + 50000) end
return {math.max(1, free - now), taken}
"""
)

# A negative time releases the slot. Otherwise it is taken from now on, even if the lease is over.
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


class _Script(Protocol):
    async def __call__(self, keys: Sequence[str], args: Sequence[str | int]) -> object: ...


@attrs.define(eq=False)
class _Session:
    """What belongs to one event loop.

    Attributes:
        client: the connections.
        queue_locks: held by the first waiter of each lane, the only one that asks Redis.
        take: the script that takes a slot.
        end: the script that reports a call's end.
        slow: the script that reduces the pace.
        pending_releases: callers that were cancelled while Redis decided.
    """

    client: Redis
    queue_locks: dict[Lane, asyncio.Lock]
    take: _Script
    end: _Script
    slow: _Script
    pending_releases: ShieldedTasks = attrs.field(factory=ShieldedTasks)


def _open_session(url: str) -> _Session:
    # One retry without a pause is for a pooled connection that Redis has closed meanwhile.
    client = Redis.from_url(  # pyright: ignore[reportUnknownMemberType] - untyped keyword arguments
        url,
        socket_timeout=_IO_TIMEOUT,
        socket_connect_timeout=_IO_TIMEOUT,
        retry=Retry(NoBackoff(), 1),
    )
    return _Session(
        client=client,
        queue_locks={lane: asyncio.Lock() for lane in Lane},
        take=cast("_Script", client.register_script(_TAKE)),
        end=cast("_Script", client.register_script(_END)),
        slow=cast("_Script", client.register_script(_SLOW)),
    )


def _micros(seconds: float) -> int:
    return round(seconds * _MICRO)


@attrs.define(eq=False)
class RedisSlot:
    """A slot of a `RedisLimiter`. A report that does not reach Redis leaves the lease to end it."""

    _end: Callable[[int], Awaitable[None]] | None
    _quota: Quota

    async def answered(self) -> None:
        """Report an answer."""
        await self._report(_micros(self._quota.answered_for))

    async def doubtful(self) -> None:
        """Report that the call was given up."""
        await self._report(_micros(self._quota.doubtful_for))

    async def unsent(self) -> None:
        """Report that nothing was sent."""
        await self._report(_RELEASE)

    async def _report(self, taken_for: int) -> None:
        if self._end is not None:
            end, self._end = self._end, None
            await end(taken_for)


@attrs.define(eq=False)
class RedisLimiter:
    """Keeps the quota for an appKey that several processes or machines use.

    It can be made anywhere, also outside a running loop, and used in one loop after another.

    Args:
        url: `redis://host:6379/0` or `rediss://...`; user and password are never shown.
        app_key: whose quota it is. All who share it must pass the same `quota`.
        quota: the platform's numbers, or smaller ones.
        idle: the appKey was not used in the last 75 s. It matters only while Redis holds no log of
            the appKey: without it, half of the slots then count as taken for 60.25 s.
        on_slowed: called when another program turns out to use the appKey. It must not raise.

    Raises:
        InvalidRequestError: the address is none of these.
    """

    url: str = attrs.field(converter=check_redis_url, repr=redact_redis_url)
    app_key: str
    quota: Quota = attrs.field(default=attrs.Factory(Quota), kw_only=True)
    idle: bool = attrs.field(default=False, kw_only=True)
    on_slowed: Callable[[Slowed], None] | None = attrs.field(default=None, kw_only=True)
    _sessions: LoopLocal[_Session] = attrs.field(init=False, repr=False)
    _taken: int | None = attrs.field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._sessions = LoopLocal(self._lifetime)

    @property
    def in_use(self) -> int | None:
        """Slots that all processes held when this one last asked; None before it ever did."""
        return self._taken

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Wait for a slot.

        Raises:
            NotSentError: none came free within `timeout` seconds, or Redis cannot be reached.
        """
        session = await self._sessions.get()
        member = secrets.token_hex(8)
        try:
            async with asyncio.timeout(timeout), session.queue_locks[lane]:
                await self._take(session, lane, member)
        except TimeoutError:
            quota = f"{self.quota.limit} calls in {self.quota.period:g} s"
            raise NotSentError(
                f"no slot of the quota ({quota}) came free for {lane} within {timeout:g} s"
            ) from None
        except (RedisError, OSError) as error:
            raise NotSentError(f"the Redis of the quota fails ({type(error).__name__})") from error
        return RedisSlot(functools.partial(self._report, lane, member), self.quota)

    async def throttled(self) -> None:
        """Slow all processes down after the platform refused a call for too many calls."""
        arguments = [self.quota.limit, self.quota.recovery]
        session = await self._sessions.get()
        with contextlib.suppress(RedisError, OSError):  # without Redis no call goes anyway
            answer = await session.slow(self._keys, arguments)
            taken, pace = cast("tuple[int, int]", answer)
            self._taken = taken
            if pace and self.on_slowed is not None:
                self.on_slowed(Slowed(taken=taken, pace=pace, limit=self.quota.limit))

    async def aclose(self) -> None:
        """Close the connections. `acquire` opens new ones."""
        await self._sessions.aclose()

    async def _lifetime(self) -> AsyncGenerator[_Session]:
        session = _open_session(self.url)
        try:
            yield session
        finally:
            await session.pending_releases.finished()
            await session.client.aclose()

    @property
    def _keys(self) -> list[str]:
        # The braces keep the keys on one node of a cluster: a script may not reach further.
        return [f"wxpay:quota:{{{self.app_key}}}:{name}" for name in ("calls", "batch", "state")]

    async def _take(self, session: _Session, lane: Lane, member: str) -> None:
        arguments = self._take_arguments(lane, member)
        # What frees a slot happens in other processes: there is no event to wait for.
        while wait := await self._try_take(session, lane, arguments):  # noqa: ASYNC110 - as just said
            await asyncio.sleep(min(wait / _MICRO, _POLL))

    def _take_arguments(self, lane: Lane, member: str) -> list[str | int]:
        return [
            self.quota.limit,
            self.quota.recovery,
            member,
            _micros(self.quota.leased_for),
            int(lane is Lane.BATCH),
            _micros(self.quota.answered_for),
            int(self.idle),
            self.quota.batch,
        ]

    async def _try_take(self, session: _Session, lane: Lane, arguments: list[str | int]) -> int:
        """Ask for a slot; return the microseconds until it is worth asking again, 0 with a slot."""
        reply = asyncio.ensure_future(session.take(self._keys, arguments))
        try:
            wait, self._taken = cast("tuple[int, int]", await asyncio.shield(reply))
        except asyncio.CancelledError:
            # Redis may grant the slot yet: wait for that and release it.
            release = self._release_late(session, reply, lane, str(arguments[2]))
            session.pending_releases.start(release)
            raise
        return wait

    async def _release_late(
        self, session: _Session, reply: asyncio.Future[object], lane: Lane, member: str
    ) -> None:
        with contextlib.suppress(RedisError, OSError):
            await reply
        await self._end(session, lane, member, _RELEASE)

    async def _report(self, lane: Lane, member: str, taken_for: int) -> None:
        await self._end(await self._sessions.get(), lane, member, taken_for)

    async def _end(self, session: _Session, lane: Lane, member: str, taken_for: int) -> None:
        calls, batch, _ = self._keys
        key = batch if lane is Lane.BATCH else calls
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(_IO_TIMEOUT):
                await session.end([key], [member, taken_for])

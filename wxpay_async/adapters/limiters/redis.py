"""Keep the quota of many machines: a sliding window log in Redis, on Redis's own clock.

The rules are those of `policy/quota.py`, written once more in `redis_scripts.py`. A slot is written
with its whole lease when it is taken, and the lease is shortened when the call ends: a process that
is killed wastes its slots for a while and never frees them early. If Redis cannot be reached there
is no slot, because an uncounted call could exceed the quota.

Waiters ask again when the next slot comes free or their pace allows it, and each second at the
latest (a call of another process that ended unsent frees its slot early). Within a process it is
first come, first served. Between processes the callers of one lane race. Those of different lanes
do not: Redis records the waiting callers of each lane, and a later lane lets them go first, in
every process.

Each answer to a waiter describes the log. From that `policy/quota.py` foresees, as for one process,
which callers wait in vain, and they are told at once (`redis_waiting.py`). Callers and
reports of a process share their round trips (`redis_rounds.py`).

This relies on Redis keeping its last writes, and on its clock never jumping forward. A failover to
a replica can lose slots. If the whole log is lost, half of the slots count as taken, as after a
restart.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final, cast

import attrs

from wxpay_async.adapters import redis_clients  # first: it says what to install
from wxpay_async.adapters.event_loop import LoopLocal
from wxpay_async.adapters.limiters.limiter import Slot
from wxpay_async.adapters.limiters.redis_rounds import Rounds
from wxpay_async.adapters.limiters.redis_scripts import ROUND, SLOW
from wxpay_async.adapters.limiters.redis_waiting import MICRO, POLL, SlotCount, Waiter, WaitingRoom
from wxpay_async.adapters.redis_url import check_redis_url, redact_redis_url
from wxpay_async.errors import InvalidRequestError
from wxpay_async.policy.lanes import Lane, Quota
from wxpay_async.policy.outlook import Promises
from wxpay_async.policy.quota import Slowed

# isort: split
from redis.asyncio import Redis, RedisCluster

_IO_TIMEOUT: Final = 2.0
_CONNECTIONS: Final = 2
"""One for the rounds, and one to slow down when another program uses the appKey."""

_LONGEST_LOOK: Final = 2 * _IO_TIMEOUT
_ON_THE_WAY: Final = 0.1
"""Seconds for which a caller whose time is over waits for the answer of Redis."""

_RELEASE: Final = -1.0


def _micros(seconds: float) -> int:
    return round(seconds * MICRO)


@attrs.define(eq=False)
class _Session:
    """What belongs to one event loop.

    Attributes:
        link: leads to Redis.
        slow: the script that reduces the pace.
        room: the callers that wait.
        rounds: what is asked and reported.
    """

    link: redis_clients.RedisLink
    slow: redis_clients.Script
    room: WaitingRoom
    rounds: Rounds

    async def wait(self, waiter: Waiter) -> bool:
        """Wait for a slot; tell whether there is one."""
        took = False
        try:
            if waiter.timeout > 0:  # else Redis would answer too late
                self.rounds.wake()
                await asyncio.wait((waiter.granted,), timeout=waiter.timeout)
            if not waiter.granted.done() and waiter.asked:
                # Its slot may be on the way: better a moment late than wasted.
                waiter.looks = True
                await asyncio.wait((waiter.granted,), timeout=_ON_THE_WAY)
            took = waiter.granted.done() and waiter.granted.result()
            return took
        finally:
            self.room.leave(waiter)
            waiter.forget()
            if waiter.asked and not took:
                # Redis may have granted the slot, or may do so yet.
                self.rounds.report(waiter.lane, waiter.member, _RELEASE)


@attrs.define(eq=False)
class RedisSlot:
    """A slot of a `RedisLimiter`.

    A report goes to Redis behind its caller. If it does not arrive at all, the lease ends the slot.
    """

    _end: Callable[[float], Awaitable[None]] | None
    _quota: Quota

    async def answered(self) -> None:
        """Report an answer."""
        await self._report(self._quota.answered_for)

    async def doubtful(self) -> None:
        """Report that the call was given up."""
        await self._report(self._quota.doubtful_for)

    async def unsent(self) -> None:
        """Report that nothing was sent."""
        await self._report(_RELEASE)

    async def _report(self, taken_for: float) -> None:
        if self._end is not None:
            end, self._end = self._end, None
            await end(taken_for)


def _check_url(url: str) -> str:
    return url and check_redis_url(url)


def _check_client(client: object) -> None:
    # One that decodes will do, unlike for the store: all that a limiter reads is numbers.
    if not isinstance(client, Redis | RedisCluster):
        raise InvalidRequestError(
            "no client of redis.asyncio", field="client", allowed="its Redis or RedisCluster"
        )


@attrs.define(eq=False)
class RedisLimiter:
    """Keeps the quota for an appKey that several processes or machines use.

    It can be made anywhere, also outside a running loop, and used in one loop after another; with a
    client that is handed in, in the loop of that client alone.

    Args:
        url: `redis://host:6379/0`, `rediss://...`, `unix:///path/redis.sock?db=0`,
            `redis+sentinel://host:26379,host:26379/service/0` or
            `redis+cluster://host:6379,host:6379`; with options of redis-py, as
            `?ssl_ca_certs=ca.pem`. User and password are never shown.
        app_key: whose quota it is. All processes that share it must pass the same `quota`.
        client: a client of `redis.asyncio` in place of an address. It is not closed.
        quota: the platform's numbers, or smaller ones.
        idle: the appKey was not used in the last 75 s. It matters only while Redis holds no log of
            the appKey: without it, half of the slots then count as taken for 60.25 s.
        max_waiting: callers of this process that may wait at the same time; the next one is
            refused at once.
        on_slowed: called when another program turns out to use the appKey. It must not raise.

    Raises:
        InvalidRequestError: the address is none of these, the client is none of
            `redis.asyncio`, or the appKey is missing.
    """

    url: str = attrs.field(
        default="",
        converter=_check_url,
        repr=lambda url: repr(redact_redis_url(url) if url else ""),
    )
    app_key: str = attrs.field(default="", validator=attrs.validators.instance_of(str))
    client: Redis | RedisCluster | None = attrs.field(default=None, kw_only=True, repr=False)
    quota: Quota = attrs.field(default=attrs.Factory(Quota), kw_only=True)
    idle: bool = attrs.field(default=False, kw_only=True)
    max_waiting: int = attrs.field(default=10_000, kw_only=True, validator=attrs.validators.ge(1))
    on_slowed: Callable[[Slowed], None] | None = attrs.field(default=None, kw_only=True)
    _promises: Promises = attrs.field(factory=Promises, init=False, repr=False)
    _count: SlotCount = attrs.field(factory=SlotCount, init=False, repr=False)
    _sessions: LoopLocal[_Session] = attrs.field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if not self.app_key:
            raise InvalidRequestError("it is missing", field="app_key")
        if bool(self.url) == (self.client is not None):
            raise InvalidRequestError(
                "give either an address or a client", field="url", allowed="one of url and client"
            )
        if self.client is None:
            redis_clients.check_options(self.url)
        else:
            _check_client(self.client)
        self._sessions = LoopLocal(self._lifetime)

    @property
    def in_use(self) -> int | None:
        """Slots that all processes held when this one last asked; None before it ever did."""
        return self._count.taken

    def held(self) -> dict[Lane, int]:
        """Return how many slots each lane of all processes held when this one last asked."""
        return dict(self._count.held)

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Wait for a slot.

        Raises:
            QuotaExhaustedError: none comes free within `timeout` seconds, or too many wait already.
                It is raised as soon as that can be foreseen.
            NotSentError: Redis cannot be reached.
        """
        session = await self._sessions.get()
        waiter = session.room.join(lane, timeout)
        if not await session.wait(waiter):
            raise session.room.late(waiter)
        return self._slot(waiter)

    async def acquire_now(self, lane: Lane) -> Slot | None:
        """Take a free slot, unless callers wait for one.

        Raises:
            NotSentError: Redis cannot be reached.
        """
        session = await self._sessions.get()
        if session.room.staying:
            return None
        waiter = session.room.join(lane, _LONGEST_LOOK, looks=True)
        return self._slot(waiter) if await session.wait(waiter) else None

    async def throttled(self) -> None:
        """Slow all processes down after the platform refused a call for too many calls."""
        session = await self._sessions.get()
        command = session.slow.call(self._keys, [self.quota.limit, self.quota.recovery])
        with contextlib.suppress(*redis_clients.REDIS_FAILURES):  # without Redis no call goes
            taken, pace = cast("tuple[int, int]", await session.link.call(command))
            self._count.taken = taken
            if pace and self.on_slowed is not None:
                self.on_slowed(Slowed(taken=taken, pace=pace, limit=self.quota.limit))

    async def aclose(self) -> None:
        """Report what is still to be reported; close the connections. `acquire` opens new ones."""
        await self._sessions.aclose()

    def _slot(self, waiter: Waiter) -> RedisSlot:
        return RedisSlot(functools.partial(self._report, waiter.lane, waiter.member), self.quota)

    async def _report(self, lane: Lane, member: str, taken_for: float) -> None:
        session = await self._sessions.get()
        session.rounds.report(lane, member, taken_for)

    async def _lifetime(self) -> AsyncGenerator[_Session]:
        session = self._open_session()
        try:
            yield session
        finally:
            await session.rounds.close()
            await session.link.aclose()

    def _open_session(self) -> _Session:
        script, slow = redis_clients.Script(ROUND), redis_clients.Script(SLOW)
        link = redis_clients.open_link(
            self.url if self.client is None else self.client,
            [script, slow],
            timeout=_IO_TIMEOUT,
            connections=_CONNECTIONS,
        )
        room = WaitingRoom(self.quota, self.max_waiting, self._promises, self._count)
        rounds = Rounds(
            link=link,
            script=script,
            keys=self._keys,
            settings=self._settings(room.name),
            room=room,
            kept_for=self.quota.leased_for,
        )
        return _Session(link, slow, room, rounds)

    @property
    def _keys(self) -> list[str]:
        names = (*Lane, "before", "state", "waiting")
        # The braces keep the keys on one node of a cluster: a script may not reach further.
        return [f"wxpay:quota:{{{self.app_key}}}:{name}" for name in names]

    def _settings(self, process: str) -> list[str | int]:
        quota = self.quota
        return [
            quota.limit,
            quota.recovery,
            _micros(quota.leased_for),
            _micros(quota.answered_for),
            int(self.idle),
            quota.people_keep,
            _micros(quota.period),
            process,
            _micros(POLL),
            *(quota.share(each) for each in Lane),
        ]

"""Keep the quota of many machines: a sliding window log in Redis, on Redis's own clock.

The rules are those of `policy/quota.py`, written once more in `redis_scripts.py`. A slot is written
with its whole lease when it is taken, and the lease is shortened when the call ends: a process that
is killed wastes its slots for a while and never frees them early. If Redis cannot be reached there
is no slot, because an uncounted call could exceed the quota.

Waiters ask again when the next slot comes free or their pace allows it, and each second at the
latest (a call that ended unsent frees its slot early). Only the first waiter of a lane asks, so
within a process it is first come, first served. Between processes it is a race within a lane, but
not between lanes: the waiting callers of each lane are written down, and those of a later lane let
them go first, in every process.

Each answer to a waiter holds what the log looked like. From that `policy/quota.py` foresees who
waits in vain, here as for one process, and they are told at once.

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
from wxpay_async.adapters.limiters.redis_scripts import END, PLACES, SLOW, TAKE
from wxpay_async.adapters.redis_url import check_redis_url, redact_redis_url
from wxpay_async.errors import NotSentError, QuotaExhaustedError
from wxpay_async.policy.lanes import Lane, Quota
from wxpay_async.policy.outlook import Outlook, Promises
from wxpay_async.policy.quota import Slowed

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
_SEEN_LATELY: Final = 2 * _POLL

_RELEASE: Final = -1


class _Script(Protocol):
    async def __call__(self, keys: Sequence[str], args: Sequence[str | int]) -> object: ...


_Blocked = tuple[int, list[int], int, list[list[int]], list[int], list[int]]


@attrs.define(eq=False)
class _Line:
    """The callers of one lane: how many, and the lock of the first, the only one that asks."""

    lock: asyncio.Lock = attrs.field(factory=asyncio.Lock)
    size: int = 0


@attrs.frozen
class _Sight:
    """What the log looked like.

    Attributes:
        at: when, by the loop's clock.
        outlook: what can be foreseen.
        others: callers of each lane that wait in other processes.
    """

    at: float
    outlook: Outlook
    others: dict[Lane, int]


@attrs.define(eq=False)
class _Session:
    """What belongs to one event loop.

    Attributes:
        client: the connections.
        take: the script that takes a slot.
        end: the script that reports a call's end.
        slow: the script that reduces the pace.
        name: tells the waiters of this session from those of others.
        lines: who waits.
        sight: what the log looked like when it last had no slot.
        pending_releases: callers that were cancelled while Redis decided.
    """

    client: Redis
    take: _Script
    end: _Script
    slow: _Script
    name: str = attrs.field(factory=functools.partial(secrets.token_hex, 8))
    lines: dict[Lane, _Line] = attrs.field(factory=lambda: {lane: _Line() for lane in Lane})
    sight: _Sight | None = None
    pending_releases: ShieldedTasks = attrs.field(factory=ShieldedTasks)

    @property
    def size(self) -> int:
        return sum(line.size for line in self.lines.values())

    def before(self, sight: _Sight, lane: Lane, ahead: int) -> dict[Lane, int]:
        """Return who waits in each lane, with `ahead` callers of this process in the own one."""
        here = {each: line.size for each, line in self.lines.items()} | {lane: ahead}
        return {each: here[each] + sight.others[each] for each in Lane}


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
        take=cast("_Script", client.register_script(TAKE)),
        end=cast("_Script", client.register_script(END)),
        slow=cast("_Script", client.register_script(SLOW)),
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
        max_waiting: callers of this process that may wait at the same time; the next one is
            refused at once.
        on_slowed: called when another program turns out to use the appKey. It must not raise.

    Raises:
        InvalidRequestError: the address is none of these.
    """

    url: str = attrs.field(converter=check_redis_url, repr=redact_redis_url)
    app_key: str
    quota: Quota = attrs.field(default=attrs.Factory(Quota), kw_only=True)
    idle: bool = attrs.field(default=False, kw_only=True)
    max_waiting: int = attrs.field(default=10_000, kw_only=True, validator=attrs.validators.ge(1))
    on_slowed: Callable[[Slowed], None] | None = attrs.field(default=None, kw_only=True)
    _promises: Promises = attrs.field(factory=Promises, init=False, repr=False)
    _held: dict[Lane, int] = attrs.field(factory=lambda: dict.fromkeys(Lane, 0), init=False)
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
            QuotaExhaustedError: none comes free within `timeout` seconds, or too many wait already.
                It is raised as soon as that can be foreseen.
            NotSentError: Redis cannot be reached.
        """
        session = await self._sessions.get()
        self._check_line(session, lane, timeout)
        line, member = session.lines[lane], secrets.token_hex(8)
        line.size += 1
        try:
            async with asyncio.timeout(timeout):
                await self._take(session, lane, member, timeout)
        except QuotaExhaustedError:  # a TimeoutError, too
            raise
        except TimeoutError:
            raise self._late(session, lane, timeout, line.size - 1) from None
        except (RedisError, OSError) as error:
            raise NotSentError(f"the Redis of the quota fails ({type(error).__name__})") from error
        finally:
            line.size -= 1
        return RedisSlot(functools.partial(self._report, lane, member), self.quota)

    def held(self) -> dict[Lane, int]:
        """Return how many slots each lane of all processes held when this one last asked."""
        return dict(self._held)

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
        names = (*Lane, "before", "state", "waiting")
        # The braces keep the keys on one node of a cluster: a script may not reach further.
        return [f"wxpay:quota:{{{self.app_key}}}:{name}" for name in names]

    def _check_line(self, session: _Session, lane: Lane, timeout: float) -> None:
        """Refuse a caller that is one too many, or that would stand in line in vain."""
        line = session.lines[lane]
        if not line.size:
            return
        self._check_number(session, lane, session.size + 1, line.size)
        # The first of the line asks each second, unless it has only just come.
        lately = asyncio.get_running_loop().time() - _SEEN_LATELY
        self._check_hope(session, lane, timeout, line.size, since=lately)

    def _check_number(self, session: _Session, lane: Lane, number: int, ahead: int) -> None:
        if number > self.max_waiting:
            reason = f"{number - 1} callers wait for a slot of the quota, and no more may"
            raise self._no_slot(session, lane, reason, ahead)

    def _check_hope(
        self, session: _Session, lane: Lane, timeout: float, ahead: int, *, since: float
    ) -> None:
        """Refuse who would wait in vain, by what the log looked like if that was seen since."""
        sight = session.sight
        if sight is None or sight.at < since:
            return
        now = asyncio.get_running_loop().time()
        free_at = sight.outlook.foresee(lane, now, session.before(sight, lane, ahead))
        if free_at - now > timeout:
            raise self._late(session, lane, timeout, ahead)

    async def _take(self, session: _Session, lane: Lane, member: str, timeout: float) -> None:
        came_at = asyncio.get_running_loop().time()
        line = session.lines[lane]
        async with line.lock:
            # A crowd that came in one moment is told what its first one heard, without asking.
            self._check_hope(session, lane, timeout, 0, since=came_at)
            if not await self._try_take(session, lane, member, waiters=0):
                return
            self._check_number(session, lane, session.size, 0)
            self._check_hope(session, lane, timeout, 0, since=came_at)
            # What frees a slot happens in other processes: there is no event to wait for.
            while wait := await self._try_take(session, lane, member, waiters=line.size):  # noqa: ASYNC110 - as just said
                await asyncio.sleep(min(wait / _MICRO, _POLL))

    def _late(
        self, session: _Session, lane: Lane, timeout: float, ahead: int
    ) -> QuotaExhaustedError:
        quota = self.quota
        reason = (
            f"no slot of the quota ({quota.limit} calls in {quota.period:g} s) comes free for "
            f"{lane} within {timeout:g} s; {self._taken} are taken"
        )
        return self._no_slot(session, lane, reason, ahead)

    def _no_slot(
        self, session: _Session, lane: Lane, reason: str, ahead: int
    ) -> QuotaExhaustedError:
        if (sight := session.sight) is None:
            return QuotaExhaustedError(reason)
        now = asyncio.get_running_loop().time()
        before = session.before(sight, lane, ahead)
        back_at = self._promises.make(sight.outlook, lane, now, before)
        return QuotaExhaustedError(reason, retry_after=back_at - now)

    async def _try_take(self, session: _Session, lane: Lane, member: str, *, waiters: int) -> int:
        """Ask for a slot; return the microseconds until it is worth asking again, 0 with a slot.

        `waiters` are those of the lane in this process, the asking one among them; 0 only looks.
        """
        arguments = self._take_arguments(session, lane, member, waiters)
        reply = asyncio.ensure_future(session.take(self._keys, arguments))
        try:
            answer = await asyncio.shield(reply)
        except asyncio.CancelledError:
            # Redis may grant the slot yet: wait for that and release it.
            session.pending_releases.start(self._release_late(session, reply, lane, member))
            raise
        wait, held = cast("tuple[int, list[int]]", answer)[:2]
        self._taken, self._held = sum(held), dict(zip(Lane, held, strict=False))
        if wait:
            session.sight = self._look(cast("_Blocked", answer))
        return wait

    def _take_arguments(
        self, session: _Session, lane: Lane, member: str, waiters: int
    ) -> list[str | int]:
        quota = self.quota
        return [
            quota.limit,
            quota.recovery,
            PLACES[lane],
            member,
            _micros(quota.leased_for),
            _micros(quota.answered_for),
            int(self.idle),
            quota.people_keep,
            _micros(quota.period),
            session.name,
            waiters,
            _micros(_POLL),
            *(quota.share(each) for each in Lane),
        ]

    def _look(self, answer: _Blocked) -> _Sight:
        _, _, capacity, frees, starts, others = answer
        now = asyncio.get_running_loop().time()
        outlook = Outlook(
            quota=self.quota,
            capacity=capacity,
            frees_at={
                lane: [now + left / _MICRO for left in times]
                for lane, times in zip((*Lane, None), frees, strict=True)
            },
            next_start={lane: now + left / _MICRO for lane, left in zip(Lane, starts, strict=True)},
        )
        return _Sight(now, outlook, dict(zip(Lane, others, strict=True)))

    async def _release_late(
        self, session: _Session, reply: asyncio.Future[object], lane: Lane, member: str
    ) -> None:
        with contextlib.suppress(RedisError, OSError):
            await reply
        await self._end(session, lane, member, _RELEASE)

    async def _report(self, lane: Lane, member: str, taken_for: int) -> None:
        await self._end(await self._sessions.get(), lane, member, taken_for)

    async def _end(self, session: _Session, lane: Lane, member: str, taken_for: int) -> None:
        key = self._keys[PLACES[lane] - 1]
        with contextlib.suppress(RedisError, OSError):
            async with asyncio.timeout(_IO_TIMEOUT):
                await session.end([key], [member, taken_for])

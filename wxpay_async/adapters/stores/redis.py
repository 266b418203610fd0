"""Keep operations and callbacks in Redis.

What becomes of an operation is decided here by its record, and written if what was read, or what
the caller knows of it, is still what is stored. Most writes need no read before: a new operation is
not there, and an outcome finds the claim that it belongs to.

A record that Redis evicts, or loses in a crash, could be sent as if it were new; `durable` says
whether this Redis does neither.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Sequence
from functools import partial
from typing import Final

import attrs
from attrs import define, field

from wxpay_async.adapters import redis_clients  # first: it says what to install
from wxpay_async.adapters.event_loop import LoopLocal
from wxpay_async.adapters.redis_url import check_redis_url, redact_redis_url
from wxpay_async.adapters.stores.failures import map_failures
from wxpay_async.adapters.stores.inbox import INBOX_RETENTION, Entry
from wxpay_async.adapters.stores.redis_layout import (
    ABSENT,
    FORGET,
    SCRIPTS,
    SWAP,
    make_inbox_key,
    make_keys,
    make_sending_stamp,
    to_milliseconds,
)
from wxpay_async.adapters.stores.redis_session import (
    Changed,
    Choose,
    ContendedError,
    Guess,
    Session,
)
from wxpay_async.adapters.stores.server_clock import ServerClock
from wxpay_async.adapters.stores.store import DAY, Key
from wxpay_async.errors import InDoubtError, InvalidRequestError, NotSentError
from wxpay_async.policy.record import LEASE, OPEN, UNDER_WAY, UNFINISHED, IdempotencyRecord
from wxpay_async.policy.states import State

# isort: split
from redis.asyncio import Redis, RedisCluster

_TRIES_FOR_SOME: Final = 5
_LEASES_AT_ONCE: Final = 500
_PORTIONS_OF_LEASES: Final = 20
_DROPPED_AT_ONCE: Final = 100
"""Redis does nothing else meanwhile, for less than a millisecond."""

_map_failures = partial(
    map_failures, (*redis_clients.REDIS_FAILURES, ValueError, OverflowError, ContendedError)
)


def _check_url(url: str) -> str:
    return url and check_redis_url(url)


@define(eq=False)
class RedisStore:
    """Keeps operations in a Redis that several processes may share.

    Making one does no I/O. It works in one event loop after another.

    Args:
        url: `redis://host:6379/0`, `rediss://...`, `unix:///path/redis.sock?db=0`,
            `redis+sentinel://host:26379,host:26379/service/0` or
            `redis+cluster://host:6379,host:6379`; with options of redis-py, as
            `?ssl_ca_certs=ca.pem`. User and password are never shown.
        client: a client of redis-py in place of an address: it must not decode what it reads, and
            is not closed. It is used in the event loop that it belongs to.
        retention: seconds for which a finished operation is remembered; 30 days by default.
        timeout: seconds for an operation, connecting and a second try included.
        connections: pipelines at once.

    Raises:
        InvalidRequestError: the address is none of these, or the client decodes.
    """

    url: str = field(
        default="",
        converter=_check_url,
        repr=lambda url: repr(redact_redis_url(url) if url else ""),
    )
    client: Redis | RedisCluster | None = field(default=None, kw_only=True, repr=False)
    retention: float = field(default=30 * DAY, kw_only=True)
    timeout: float = field(default=5.0, kw_only=True)
    connections: int = field(default=4, kw_only=True)
    _durable: bool = field(default=False, init=False, repr=False)
    _clock: ServerClock = field(factory=ServerClock, init=False, repr=False)
    _sessions: LoopLocal[Session] = field(init=False, repr=False)

    def __attrs_post_init__(self) -> None:
        if bool(self.url) == (self.client is not None):
            raise InvalidRequestError(
                "give either an address or a client", field="url", allowed="one of url and client"
            )
        if self.client is None:
            redis_clients.check_options(self.url)
        else:
            redis_clients.check_client(self.client)
        self._sessions = LoopLocal(self._hold_session)

    @property
    def durable(self) -> bool:
        """Whether a commit survives a crash of Redis, and is kept as long as it should be.

        False until the first call has asked Redis: only `appendonly yes` with `appendfsync always`
        keeps every commit, and only `maxmemory 0` or `maxmemory-policy noeviction` every record. A
        policy that evicts what has a time to live could drop a finished operation, which would
        then be sent as if it were new. False also where Redis does not tell its settings. A
        failover to a replica may still lose the last writes.
        """
        return self._durable

    @property
    def ahead(self) -> float | None:
        """Seconds by which Redis's clock is ahead of this host's; None before `open`."""
        return self._clock.ahead

    async def open(self) -> None:
        """Connect, and check whether this release may use what is stored."""
        with _map_failures(NotSentError, "open"):
            await self._open_session()

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the record unless its key exists; return what is stored now."""
        with _map_failures(NotSentError, "reserve an operation"):
            session = await self._open_session()
            changed = await session.change(
                record.key, lambda found: None if found else record, Guess(record, ABSENT)
            )
        return changed.written or changed.found or record

    async def claim(
        self,
        key: Key,
        *,
        now: float,
        signed_at: int,
        lease: float = LEASE,
        token: str | None = None,
    ) -> IdempotencyRecord | None:
        """Claim the operation for one attempt."""

        def claim_found(found: IdempotencyRecord | None) -> IdempotencyRecord | None:
            if found is None:
                return None
            return found.try_claim(now=now, signed_at=signed_at, lease=lease, token=token)

        with _map_failures(NotSentError, "claim an operation"):
            session = await self._open_session()
            return (await session.change(key, claim_found)).written

    async def record(self, record: IdempotencyRecord) -> bool:
        """Write the record if its epoch is still the stored one."""

        def replace_found(found: IdempotencyRecord | None) -> IdempotencyRecord | None:
            return record if found is not None and found.can_be_replaced_by(record) else None

        sending = make_sending_stamp(record.epoch)  # may be followed by every state
        with _map_failures(InDoubtError, "record an outcome"):
            session = await self._open_session()
            changed = await session.change(record.key, replace_found, Guess(record, sending))
        return changed.written is not None

    async def load(self, key: Key) -> IdempotencyRecord | None:
        """Return the record, None if there is none."""
        return (await self.load_many([key])).get(key)

    async def load_many(self, keys: Sequence[Key]) -> dict[Key, IdempotencyRecord]:
        """Return the records of these keys; a key without one is left out."""
        with _map_failures(NotSentError, "load an operation"):
            session = await self._open_session()
            found = await session.read([make_keys(key)[-1] for key in keys])
        pairs = zip(keys, found, strict=True)
        return {key: stored.record for key, stored in pairs if stored is not None}

    async def find_open(self, app_key: str, out_trade_no: str) -> list[IdempotencyRecord]:
        """Return an appKey's open records that have this number."""
        sending, checks, *_ = make_keys((app_key, ""))
        with _map_failures(NotSentError, "find the operations of an order"):
            number = out_trade_no.encode()
            session = await self._open_session()
            ids = await session.list_ids([sending, checks])
            numbers = await session.find_numbers(app_key, ids)
            names = [name for name, of in numbers.items() if of == number]
            found = await session.read([make_keys((app_key, name))[-1] for name in names])
        records = (stored.record for stored in found if stored is not None)
        return [r for r in records if r.out_trade_no == out_trade_no and r.state in UNDER_WAY]

    async def due(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Tell what a query should be made for; what is due is handed out once."""

        def move(found: IdempotencyRecord | None) -> IdempotencyRecord | None:
            if found is None or found.state not in OPEN or (found.next_check_at or now) > now:
                return None
            return attrs.evolve(found, next_check_at=now + LEASE)

        checks = make_keys((app_key, ""))[1]
        with _map_failures(NotSentError, "find what is due"):
            session = await self._open_session()
            await self._end_leases(session, app_key, now)
            for _ in range(_TRIES_FOR_SOME):
                ids = await session.link.call(_until(checks, now, limit))
                moved = await _change_each(session, app_key, ids, move)
                due = [changed.found for changed in moved if changed.written and changed.found]
                if due or not ids:  # else another process has taken them all
                    return due
        return []

    async def forget(self, app_key: str, now: float, *, limit: int = 1000) -> int:
        """Drop old operations; Redis drops what callbacks have told by itself."""
        oldest, dropped = now - self.retention, 0
        old = make_keys((app_key, ""))[2]
        with _map_failures(NotSentError, "forget"):
            session = await self._open_session()
            while dropped < limit:
                size = min(limit - dropped, _DROPPED_AT_ONCE)
                ids = [name.decode() for name in await session.link.call(_until(old, oldest, size))]
                gone = await session.link.call_all(
                    FORGET.call(make_keys((app_key, name)), [name, repr(oldest)]) for name in ids
                )
                dropped += sum(gone)
                if not sum(gone):
                    break
        return dropped

    async def list_open(
        self, app_key: str, *, after: str = "", limit: int = 100
    ) -> list[IdempotencyRecord]:
        """List an appKey's operations that are under way, in doubt, or wait for a person."""
        sending, checks, _, reviews, _ = make_keys((app_key, ""))
        with _map_failures(NotSentError, "list what is open"):
            session = await self._open_session()
            names = sorted(set(await session.list_ids([sending, checks, reviews])))
            keys = [make_keys((app_key, name))[-1] for name in names if name > after]
            listed: list[IdempotencyRecord] = []
            while keys and len(listed) < limit:
                portion, keys = keys[:limit], keys[limit:]
                found = await session.read(portion)
                listed += [s.record for s in found if s and s.record.state in UNFINISHED]
        return listed[:limit]

    async def load_entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Return the entries of these keys."""
        with _map_failures(NotSentError, "load what callbacks have told"):
            session = await self._open_session()
            found = await session.link.call_all(
                ("HMGET", make_inbox_key(key), "version", "value") for key in keys
            )
            pairs = zip(keys, found, strict=True)
            return {key: Entry(int(of[0]), of[1].decode()) for key, of in pairs if of[0]}

    async def swap(self, key: str, *, version: int | None, value: str, now: float) -> bool:  # noqa: ARG002 - Redis counts the 30 days by itself
        """Write a document, if the stored entry is still the one that the caller knows."""
        args = (version or 0, value, to_milliseconds(INBOX_RETENTION))
        with _map_failures(InDoubtError, "note what a callback has told"):
            session = await self._open_session()
            return bool(await session.link.call(SWAP.call([make_inbox_key(key)], args)))

    async def aclose(self) -> None:
        """Close the connections, but no client that was handed in; the next call opens others."""
        await self._sessions.aclose()

    async def _end_leases(self, session: Session, app_key: str, now: float) -> None:
        """Put in doubt what is still being sent after its lease."""

        def end(found: IdempotencyRecord | None) -> IdempotencyRecord | None:
            if found is None or found.state is not State.SENDING or found.lease_until > now:
                return None
            return found.with_expired_lease(now)

        sending = make_keys((app_key, ""))[0]
        for _ in range(_PORTIONS_OF_LEASES):
            ids = await session.link.call(_until(sending, now, _LEASES_AT_ONCE))
            await _change_each(session, app_key, ids, end)
            if len(ids) < _LEASES_AT_ONCE:
                break

    async def _open_session(self) -> Session:
        session = await self._sessions.get()
        if not session.ready:
            await session.open()
        self._durable = bool(session.durable)
        return session

    async def _hold_session(self) -> AsyncGenerator[Session]:
        link = redis_clients.open_link(
            self.url if self.client is None else self.client,
            SCRIPTS,
            timeout=self.timeout,
            connections=self.connections,
        )
        session = Session(link, self._clock, self.retention)
        try:
            yield session
        finally:
            await session.close()


async def _change_each(
    session: Session, app_key: str, ids: Sequence[bytes], choose: Choose
) -> list[Changed]:
    """Write what is chosen for each; one that is gone is taken out of the sets."""
    keys = [(app_key, name.decode()) for name in ids]
    found = await session.read([make_keys(key)[-1] for key in keys])
    await session.clear([key for key, of in zip(keys, found, strict=True) if of is None])
    there = [of for of in found if of is not None]
    return await asyncio.gather(*(session.change_found(of, choose) for of in there))


def _until(of: str, score: float, limit: int) -> redis_clients.Command:
    return ("ZRANGEBYSCORE", of, "-inf", repr(score), "LIMIT", 0, limit)

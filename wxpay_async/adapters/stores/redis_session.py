"""Read and write what `RedisStore` keeps, in one event loop.

If a write finds another record than the expected one, `IdempotencyRecord` decides again about the
one that was found. So only that class knows the life of an operation.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final, TypeAlias

from attrs import define, field, frozen

from wxpay_async.adapters.event_loop import ShieldedTasks
from wxpay_async.adapters.redis_clients import REDIS_FAILURES, RedisLink
from wxpay_async.adapters.stores.failures import NewerSchemaError
from wxpay_async.adapters.stores.redis_layout import (
    ABSENT,
    CLEAR,
    LIST,
    READ,
    TIME,
    VERSION,
    VERSION_KEY,
    Stamp,
    Stored,
    make_keys,
    read_hash,
    unpack_words,
    write_hash,
)
from wxpay_async.adapters.stores.server_clock import ServerClock
from wxpay_async.policy.record import IdempotencyRecord

# isort: split
from redis.exceptions import ResponseError

Choose: TypeAlias = Callable[[IdempotencyRecord | None], IdempotencyRecord | None]

_TRIES: Final = 20
"""Each failed try means that another process has made progress."""

_PORTION: Final = 500
"""Operations that are read at once."""

_MEASURED_WITHIN: Final = 1.0
"""Seconds; a slower answer tells too little of the clock."""


class ContendedError(Exception):
    """Others have written to an operation all the time."""


@frozen
class Guess:
    """A write that needs no read before: it is right if the stamp is that of what is stored."""

    record: IdempotencyRecord
    stamp: Stamp


@frozen
class Changed:
    """What was found, and what was written in its place; None each if there is none."""

    found: IdempotencyRecord | None
    written: IdempotencyRecord | None


@define(eq=False)
class Session:
    """What belongs to one event loop.

    Args:
        link: runs commands.
        clock: the server's.
        retention: seconds for which a finished operation is remembered.
        durable: whether Redis keeps every write and every record; None before it was asked.
    """

    link: RedisLink
    clock: ServerClock
    retention: float
    durable: bool | None = None
    _tasks: ShieldedTasks = field(factory=ShieldedTasks, init=False)
    _opening: asyncio.Task[None] | None = field(default=None, init=False)
    _looking: bool = field(default=False, init=False)
    _marks: Iterator[str] = field(init=False)
    _numbers: dict[str, dict[str, bytes | None]] = field(
        factory=dict[str, dict[str, bytes | None]], init=False, repr=False
    )

    def __attrs_post_init__(self) -> None:
        name = secrets.token_hex(6)
        self._marks = (f"{name}{number:x}" for number in itertools.count())

    @property
    def ready(self) -> bool:
        """Whether it is open, and there is no need to look again."""
        return self.durable is not None and not self.clock.stale

    async def open(self) -> None:
        """Check the version, once; look again now and then at the clock and the settings.

        Callers that come meanwhile share the result of the first one: a server that hangs costs all
        of them one timeout.
        """
        if self.durable is None:
            if self._opening is None:
                self._opening = self._tasks.start(self._look())
                self._opening.add_done_callback(self._end_opening)
            await asyncio.shield(self._opening)
        elif self.clock.stale and not self._looking:
            self._looking = True
            self._tasks.start(self._look_again())

    async def change(
        self, key: tuple[str, str], choose: Choose, guess: Guess | None = None
    ) -> Changed:
        """Write what is chosen for what is stored.

        Args:
            key: of the operation.
            choose: returns what takes the place of what is stored, or None to leave that.
            guess: what it would return, if that is known before.

        Raises:
            ContendedError: others write to it all the time.
        """
        if guess is None:
            [found] = await self.read([make_keys(key)[-1]])
        else:
            written, found = await self._put(guess)
            if written:
                return Changed(None, guess.record)
        return await self.change_found(found, choose)

    async def change_found(self, found: Stored | None, choose: Choose) -> Changed:
        """Write what is chosen for what was read; for what is found instead of that, otherwise."""
        for _ in range(_TRIES):
            record = None if found is None else found.record
            chosen = choose(record)
            if chosen is None:
                return Changed(record, None)
            stamp = found.stamp if found else ABSENT
            written, found = await self._put(Guess(chosen, stamp))
            if written:
                return Changed(record, chosen)
        raise ContendedError

    async def read(self, keys: Sequence[str]) -> list[Stored | None]:
        """Read the hashes of operations, many at once."""
        found: list[Stored | None] = []
        for start in range(0, len(keys), _PORTION):
            portion = keys[start : start + _PORTION]
            replies = await self.link.call_all(READ.call([key]) for key in portion)
            found += map(read_hash, replies)
        return found

    async def list_ids(self, sets: Sequence[str]) -> list[str]:
        """Return the ids that are in these sets."""
        found = await self.link.call_all(LIST.call([of]) for of in sets)
        return [name.decode() for packed in found for name in unpack_words(packed)]

    async def find_numbers(self, app_key: str, ids: Sequence[str]) -> dict[str, bytes | None]:
        """Return the out_trade_no of each open operation of the appKey.

        An operation keeps its number. After an outage thousands are open, and each callback looks
        for its own: only those that are new since the last one are asked for.
        """
        known = self._numbers.get(app_key, {})
        new = [name for name in ids if name not in known]
        found = await self.link.call_all(
            ("HGET", make_keys((app_key, name))[-1], "out_trade_no") for name in new
        )
        numbers = known | dict(zip(new, found, strict=True))
        self._numbers[app_key] = {name: numbers[name] for name in ids}
        return self._numbers[app_key]

    async def clear(self, keys: Sequence[tuple[str, str]]) -> None:
        """Take operations out of all sets whose hash is gone."""
        await self.link.call_all(CLEAR.call(make_keys(key), [key[1]]) for key in keys)

    async def close(self) -> None:
        """Wait for what still runs, then close the connections."""
        await self._tasks.finished()
        await self.link.aclose()

    async def _put(self, guess: Guess) -> tuple[bool, Stored | None]:
        """Return whether it was written, and what was found otherwise."""
        command = write_hash(
            guess.record, guess.stamp, mark=next(self._marks), retention=self.retention
        )
        reply = await self.link.call(command)
        return (True, None) if reply == 1 else (False, read_hash(reply))

    async def _look(self) -> None:
        _, version = await self.link.call_all(
            [("SET", VERSION_KEY, VERSION, "NX"), ("GET", VERSION_KEY)]
        )
        if (found := int(version or VERSION)) > VERSION:
            raise NewerSchemaError(found, VERSION)
        if found < VERSION:  # hashes and sets of earlier versions are read as they are
            await self.link.call(("SET", VERSION_KEY, VERSION))
        await self._measure()
        self.durable = await self._check_durable()

    def _end_opening(self, task: asyncio.Task[None]) -> None:
        self._opening = None
        if not task.cancelled():
            task.exception()  # its caller may be gone

    async def _look_again(self) -> None:
        try:
            with contextlib.suppress(*REDIS_FAILURES):  # the next call tries it again
                await self._measure()
                self.durable = await self._check_durable()
        finally:
            self._looking = False

    async def _measure(self) -> None:
        before = time.monotonic()
        seconds, micros = await self.link.call(TIME.call([VERSION_KEY]))
        after = time.monotonic()
        if self.clock.ahead is None or after - before < _MEASURED_WITHIN:
            self.clock.measured(before, after, int(seconds) + int(micros) / 1_000_000)

    async def _check_durable(self) -> bool:
        """Tell whether every node writes through, and drops nothing."""
        try:
            found = await self.link.read_settings(
                "appendonly", "appendfsync", "maxmemory", "maxmemory-policy"
            )
        except ResponseError:  # a hosted Redis may keep its settings to itself
            return False
        return all(map(_keeps_everything, found))


def _keeps_everything(settings: Mapping[str, str]) -> bool:
    """Tell whether a node loses no commit, and drops no key by itself before its time."""
    # volatile-* drops what has a time to live: what is finished, and could then be sent again.
    evicts = settings.get("maxmemory") != "0" and settings.get("maxmemory-policy") != "noeviction"
    log = (settings.get("appendonly"), settings.get("appendfsync"))
    return log == ("yes", "always") and not evicts

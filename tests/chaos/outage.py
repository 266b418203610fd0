"""A store that is out of reach for a moment, while everything else goes on.

- In front of a server (PostgreSQL, MariaDB, Redis) stands a line of TCP. When it is cut, every
  connection is reset and every new one too, so the drivers fail as they do at a real outage; what
  was on its way may have been committed all the same.
- SQLite has no line. Its lock is waited for, and a file that is renamed stays open. So a file in
  the run's folder says that the store is away, and each merchant's store then raises what a dead
  one raises; every second write is made all the same, and its answer is lost.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Iterator, Sequence
from pathlib import Path
from typing import Final, Protocol, Unpack
from urllib.parse import urlsplit

from attrs import define, field

from tests.support.records import Claim
from wxpay_async.adapters.stores.store import Store
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.policy.record import IdempotencyRecord

AWAY: Final = "store-is-away"
"""The file that says so."""

DEAD_STORE: Final = "the store cannot"
"""How the errors of a dead store begin."""

_PORTS: Final = {"postgres": 5432, "postgresql": 5432, "mysql": 3306, "mariadb": 3306}
_REDIS: Final = 6379
_CHUNK: Final = 65_536


_SHORT: Final = (0.2, 0.6)


class Outage(Protocol):
    """Cuts merchants off from their store."""

    @property
    def url(self) -> str:
        """Where merchants find the store."""
        ...

    @property
    def lengths(self) -> Sequence[tuple[float, float]]:
        """How many seconds outages take: some of them between these two."""
        ...

    async def cut(self, seconds: float) -> None:
        """Let the store be out of reach for so long."""
        ...


@define(eq=False)
class FileOutage:
    """Says by a file that the store is away."""

    url: str
    folder: Path
    lengths: Sequence[tuple[float, float]] = (_SHORT,)

    async def cut(self, seconds: float) -> None:
        """Let the store be out of reach for so long."""
        file = self.folder / AWAY
        file.touch()
        await asyncio.sleep(seconds)
        file.unlink()


@define(eq=False)
class AwayStore:
    """A store that is dead while the file is there."""

    store: Store
    folder: Path
    _writes: Iterator[int] = field(factory=itertools.count, init=False)

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Insert the record, or fail."""
        if self._is_away():
            if self._is_second():
                await self.store.reserve(record)
            raise NotSentError(f"{DEAD_STORE} reserve an operation (chaos)")
        return await self.store.reserve(record)

    async def claim(self, key: tuple[str, str], **claim: Unpack[Claim]) -> IdempotencyRecord | None:
        """Claim the operation, or fail."""
        if self._is_away():
            if self._is_second():
                await self.store.claim(key, **claim)
            raise NotSentError(f"{DEAD_STORE} claim an operation (chaos)")
        return await self.store.claim(key, **claim)

    async def record(self, record: IdempotencyRecord) -> bool:
        """Write the record, or fail."""
        if self._is_away():
            if self._is_second():
                await self.store.record(record)
            raise InDoubtError(f"{DEAD_STORE} record an outcome (chaos)")
        return await self.store.record(record)

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Return the record, or fail."""
        if self._is_away():
            raise NotSentError(f"{DEAD_STORE} load an operation (chaos)")
        return await self.store.load(key)

    async def due(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Find what is due, or fail."""
        if self._is_away():
            raise NotSentError(f"{DEAD_STORE} find what is due (chaos)")
        return await self.store.due(app_key, now, limit=limit)

    def _is_away(self) -> bool:
        return (self.folder / AWAY).exists()

    def _is_second(self) -> bool:
        return next(self._writes) % 2 == 1

    def __getattr__(self, name: str) -> object:
        """Do everything else as the store does."""
        return getattr(self.store, name)


@define(eq=False)
class LineOutage:
    """A line of TCP to a server, which can be cut."""

    address: str
    lengths: Sequence[tuple[float, float]] = (
        _SHORT,
        (3.0, 5.0),
    )  # the long ones no store waits out
    _server: asyncio.Server = field(init=False)
    _down: bool = field(default=False, init=False)
    _open: set[asyncio.StreamWriter] = field(factory=set, init=False)
    _pumps: set[asyncio.Task[None]] = field(factory=set, init=False)

    @property
    def url(self) -> str:
        """The store's address at this end of the line."""
        parts = urlsplit(self.address)
        login, at, _ = parts.netloc.rpartition("@")
        port = self._server.sockets[0].getsockname()[1]
        return parts._replace(netloc=f"{login}{at}127.0.0.1:{port}").geturl()

    async def start(self) -> None:
        """Listen on loopback."""
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", 0)

    async def aclose(self) -> None:
        """End every connection."""
        self._server.close()
        self._abort()
        await asyncio.gather(*self._pumps, return_exceptions=True)
        await self._server.wait_closed()

    async def cut(self, seconds: float) -> None:
        """Let the store be out of reach for so long."""
        self._down = True
        self._abort()
        await asyncio.sleep(seconds)
        self._down = False

    def _abort(self) -> None:
        for writer in list(self._open):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if self._down:
            writer.transport.abort()
            return
        parts = urlsplit(self.address)
        port = parts.port or _PORTS.get(parts.scheme.partition("+")[0], _REDIS)
        there, back = await asyncio.open_connection(parts.hostname, port)
        self._open |= {writer, back}
        pumps = {
            asyncio.create_task(_pump(reader, back)),
            asyncio.create_task(_pump(there, writer)),
        }
        self._pumps |= pumps
        await asyncio.wait(pumps)
        self._open -= {writer, back}
        self._pumps -= pumps


async def _pump(source: asyncio.StreamReader, target: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await source.read(_CHUNK):
            target.write(data)
            await target.drain()
    target.transport.abort() if target.is_closing() else target.close()


@contextlib.asynccontextmanager
async def outage_of(address: str | None, folder: Path) -> AsyncIterator[Outage]:
    """Stand between the merchants and their store; a SQLite file of the run's own by default."""
    address = address or f"sqlite:///{folder}/store.db"
    if is_file(address):
        yield FileOutage(address, folder)
        return
    line = LineOutage(address)
    await line.start()
    try:
        yield line
    finally:
        await line.aclose()


def is_file(address: str) -> bool:
    """Tell whether the store is a file, which no line leads to."""
    return urlsplit(address).scheme == "sqlite"

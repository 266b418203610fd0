"""A platform and a merchant for batches, in the time of a virtual loop."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import AsyncIterator, Iterable
from typing import Any, Self
from urllib.parse import parse_qsl

import attrs

from tests.support import asking, replies
from tests.support.clock import LoopClock
from tests.support.platform import APP_KEY, SECRET, UNKNOWN_ORDER
from wxpay_async.adapters.limiters.limiter import Limiter, Quota
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.stores.sealed import SealedStore
from wxpay_async.adapters.stores.store import Store
from wxpay_async.adapters.transports.memory import Answer, MemoryTransport
from wxpay_async.batch.batch import Batch
from wxpay_async.batch.line import Line
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.protocol.codec import serialize
from wxpay_async.protocol.idempotency_key import fingerprint
from wxpay_async.protocol.requests import Refund
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import HttpRequest, Transport


@attrs.define(eq=False)
class LastingStore(MemoryStore):
    """A store that a test keeps when a gateway is gone, and that says so."""

    durable: bool = attrs.field(default=True, init=False)


@attrs.define(eq=False)
class Platform:
    """Answers refunds by what they ask.

    Attributes:
        down: whether no connection can be made.
        lost: how many answers get lost from now on.
        attempts: requests, queries not counted.
        executed: how often each requestId was.
    """

    down: bool = False
    lost: int = 0
    attempts: int = 0
    executed: Counter[str] = attrs.field(factory=Counter[str])

    def __call__(self, request: HttpRequest) -> Answer:
        """Answer one request."""
        if self.down:
            self.attempts += 1
            return NotSentError("connection refused")
        if request.url.endswith("/query"):
            return UNKNOWN_ORDER
        self.attempts += 1
        form = dict(parse_qsl(request.body.decode()))
        content = json.loads(form["bizContent"])
        self.executed[content["requestId"]] += 1
        if self.lost:
            self.lost -= 1
            return InDoubtError("read timeout")
        if request.url.endswith("/wxminiprogram"):
            return replies.prepay()
        return replies.refunded(requestId=content["requestId"], outTradeNo=content["outTradeNo"])


def make_gateway(
    platform: Platform,
    *,
    store: Store | None = None,
    limiter: Limiter | None = None,
    transport: Transport | None = None,
    refunds_queryable: bool = False,
) -> PayGateway:
    """Make a gateway in the loop's time, with the platform's quota unless another is given."""
    return PayGateway(
        APP_KEY,
        Md5Signer(SECRET),
        transport=transport or MemoryTransport(platform),
        store=store,
        limiter=limiter or make_limiter(),
        refunds_queryable=refunds_queryable,
        clock=LoopClock(),
    )


def make_limiter() -> LocalLimiter:
    """Make the platform's quota in the loop's time."""
    return LocalLimiter(Quota(lease=75.0), clock=LoopClock().monotonic)


def make_refunds(length: int) -> list[Line]:
    """Make lines of refunds, each of another order."""
    return [
        Line(number=n, request=asking.refund(f"refund-{n}", out_trade_no=f"R-{n}"))
        for n in range(1, length + 1)
    ]


async def reserve(gateway: PayGateway, line: Line) -> IdempotencyRecord:
    """Leave what a process leaves that dies before it claims a refund; return the record."""
    request = line.request
    assert isinstance(request, Refund)
    assert request.request_id is not None
    content = serialize(request)
    record = IdempotencyRecord.new(
        app_key=APP_KEY,
        request_id=request.request_id,
        operation="refund",
        fingerprint=fingerprint("refund", content, request.out_trade_no),
        out_trade_no=request.out_trade_no,
        content=content,
        now=LoopClock().time(),
    )
    return await gateway.store.reserve(record)


async def claim(gateway: PayGateway, line: Line) -> IdempotencyRecord:
    """Leave what a process leaves that dies between its claim and the first byte."""
    record, now = await reserve(gateway, line), LoopClock().time()
    claimed = await gateway.store.claim(record.key, now=now, signed_at=round(now * 1000))
    assert claimed is not None
    return claimed


async def iterate(lines: Iterable[Line]) -> AsyncIterator[Line]:
    """Iterate as `Batch` does."""
    for line in lines:
        yield line


@attrs.define(eq=False)
class Office:
    """Gateways of several machines over one store and one quota, and a queue between them.

    Attributes:
        platform: what all of them call.
        drop: how many of the next messages get lost.
        twice: whether every message comes twice.
        messages: those that were handed in.
        most: how many were out at once.
    """

    platform: Platform = attrs.field(factory=Platform)
    workers: int = 4
    drop: int = 0
    twice: bool = False
    messages: list[str] = attrs.field(factory=list[str])
    most: int = 0
    store: LastingStore = attrs.field(factory=LastingStore)
    limiter: LocalLimiter = attrs.field(factory=make_limiter)
    _queue: asyncio.Queue[str] = attrs.field(factory=asyncio.Queue[str])
    _tasks: list[asyncio.Task[None]] = attrs.field(factory=list[asyncio.Task[None]])
    _out: int = 0

    def open(self) -> PayGateway:
        """Open the gateway of one machine."""
        sealed = SealedStore(self.store, [b"s" * 32])
        return make_gateway(self.platform, store=sealed, limiter=self.limiter)

    async def send(self, message: str) -> None:
        """Take a message."""
        self.messages.append(message)
        if self.drop:
            self.drop -= 1
            return
        for _ in range(1 + self.twice):
            self._out += 1
            self._queue.put_nowait(message)
        self.most = max(self.most, self._out)

    async def __aenter__(self) -> Self:
        """Begin to work."""
        self._tasks = [asyncio.create_task(self._work()) for _ in range(self.workers)]
        return self

    async def __aexit__(self, *_: object) -> None:
        """Go home."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _work(self) -> None:
        async with self.open() as gateway:
            batch = Batch(gateway, concurrency=16, clock=LoopClock())
            while True:
                await batch.work(await self._queue.get())
                self._out -= 1


async def run_office(office: Office, lines: list[Line]) -> list[Outcome[Line, Any]]:
    """Coordinate the office."""
    async with office.open() as gateway:
        batch = Batch(gateway, clock=LoopClock())
        return [outcome async for outcome in batch.run(lines, send=office.send)]

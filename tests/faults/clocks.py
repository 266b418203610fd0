"""Hosts that share a store, each with a clock of its own.

As a program it is a host whose clock is wrong: `python -m tests.faults.clocks SECONDS STORE APP_KEY
[hold]`. It recovers, makes a refund, and prints what it was told and how many requests it sent.
With `hold` the platform takes the request and never answers; the host prints that and waits.
"""

from __future__ import annotations

import time

if __name__ == "__main__":  # before anything else reads the time
    import sys

    _OFFSET, _true_time = float(sys.argv[1]), time.time
    time.time = lambda: _true_time() + _OFFSET

import asyncio
import json
from typing import Any, Final

from attrs import define, field

from tests.support import asking, replies
from tests.support.platform import SECRET
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.stores.from_url import store_from_url
from wxpay_async.adapters.stores.store import Store
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import WxPayError
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import HttpRequest

SENT: Final = "sent"
"""What a host prints when the platform has its request."""


@define(eq=False)
class Host:
    """One process of a shop, which makes the same refund as all others.

    Attributes:
        store: what they share.
        app_key: whose refund.
        clock: its own.
        holds: whether the platform takes a request and does not answer.
        sent: set when the platform has taken one.
        gate: set it to let the platform answer.
    """

    store: Store
    app_key: str
    clock: Clock = field(factory=Clock)
    holds: bool = False
    sent: asyncio.Event = field(factory=asyncio.Event)
    gate: asyncio.Event = field(factory=asyncio.Event)
    transport: MemoryTransport = field(init=False)
    gateway: PayGateway = field(init=False)

    def __attrs_post_init__(self) -> None:
        self.transport = MemoryTransport(self._answer)
        self.gateway = PayGateway(
            self.app_key,
            Md5Signer(SECRET),
            transport=self.transport,
            store=self.store,
            limiter=Unlimited(),
            clock=self.clock,
        )

    async def refund(self) -> dict[str, Any]:
        """Recover, then make the refund; return what was told, and how many requests went out."""
        await self.gateway.recover()
        told = "ok"
        try:
            await self.gateway.refund(asking.refund())
        except WxPayError as error:
            told = type(error).__name__
        return {"told": told, "requests": self.transport.calls}

    async def aclose(self) -> None:
        """Close it and its store."""
        await self.gateway.aclose()
        await self.store.aclose()

    async def _answer(self, _: HttpRequest) -> Any:  # noqa: ANN401 - MemoryTransport's
        self.sent.set()
        if self.holds:
            await self.gate.wait()
        return replies.refunded()


async def _main(address: str, app_key: str, *hold: str) -> None:
    host = Host(store_from_url(address), app_key, holds=bool(hold))
    call = asyncio.create_task(host.refund())
    if hold:
        await host.sent.wait()
        print(SENT, flush=True)  # noqa: T201 - the test reads it
    print(json.dumps(await call), flush=True)  # noqa: T201 - the test reads it
    await host.aclose()


if __name__ == "__main__":
    asyncio.run(_main(*sys.argv[2:]))

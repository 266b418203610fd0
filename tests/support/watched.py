"""Callers that wait until orders are paid, in virtual time: the platform, callbacks, the store."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Sequence
from typing import Any
from urllib.parse import parse_qsl

from attrs import define, field

from tests.support import replies
from tests.support.clock import NOON, LoopClock, loop_time
from tests.support.merchant import make_shop
from tests.support.platform import APP_KEY, FORM, VERIFIER, encode_callback, sign_callback
from wxpay_async.adapters.stores.inbox import Entry
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.policy.progress import Progress, order_key
from wxpay_async.protocol.notify import Notification, Notifications
from wxpay_async.protocol.results import TradeState, TradeStatus
from wxpay_async.protocol.wire import HttpRequest


@define(eq=False)
class Platform:
    """A platform that reports each order as the test says, and records the queries.

    Attributes:
        lasting: seconds that an answer takes.
        texts: what it says of an order; 待付款 by default.
        asked: when each query arrived, by order.
        at_once: the most queries of one order that it had at the same time, by order.
    """

    lasting: float = 0.1
    texts: dict[str, Any] = field(factory=dict[str, Any])
    asked: dict[str, list[float]] = field(factory=dict[str, list[float]])
    at_once: Counter[str] = field(factory=Counter[str])
    _now: Counter[str] = field(factory=Counter[str])

    async def __call__(self, request: HttpRequest) -> Any:  # noqa: ANN401 - MemoryTransport's
        """Answer a query."""
        number = dict(parse_qsl(request.body.decode()))["outTradeNo"]
        self.asked.setdefault(number, []).append(loop_time())
        self._now[number] += 1
        self.at_once[number] = max(self.at_once[number], self._now[number])
        try:
            await asyncio.sleep(self.lasting)
        finally:
            self._now[number] -= 1
        text = self.texts.get(number, "待付款")
        return text if isinstance(text, Exception) else replies.order(text, number)

    @property
    def queries(self) -> int:
        """How many there were."""
        return sum(map(len, self.asked.values()))

    def open_gateway(self, **settings: Any) -> PayGateway:  # noqa: ANN401 - the constructor's
        """Make a gateway in the time of the event loop."""
        clock = settings.pop("clock", None) or LoopClock()
        return make_shop(self, clock, **settings).gateway


async def find_end(wait: Awaitable[TradeStatus]) -> tuple[float, str]:
    """Return when a wait ends, and how."""
    try:
        status = await wait
    except Exception as error:  # noqa: BLE001 - the test compares its name
        return loop_time(), type(error).__name__
    return loop_time(), status.state


def start(
    gateway: PayGateway,
    number: str = "O-1",
    **times: float,
) -> asyncio.Task[tuple[float, str]]:
    """Let a caller wait; the task returns when and how that ended."""
    return asyncio.create_task(find_end(gateway.wait_paid(number, **times)))


def make_fields(number: str = "O-1", **changes: str) -> dict[str, str]:
    """Make the fields of the callback of a paid order."""
    return {
        "out_trade_no": number,
        "inner_trade_no": "T-1",
        "trade_status": "TRADE_SUCCESS",
        "trade_amount": "1.00",
        **changes,
    }


def make_notification(number: str = "O-1", **changes: str) -> Notification:
    """Make the notification of a paid order, with a signature that verifies."""
    reader = Notifications(VERIFIER, app_key=APP_KEY, clock=lambda: NOON)
    return reader.parse(FORM, encode_callback(sign_callback(make_fields(number, **changes))))


@define(eq=False)
class SharedStore(MemoryStore):
    """A store that several processes share, as far as a gateway can see.

    Attributes:
        reads: when it was read, and how many orders were asked for.
        away: why it cannot be reached.
        lasting: seconds that a read takes.
    """

    reads: list[tuple[float, int]] = field(factory=list[tuple[float, int]])
    away: Exception | None = None
    lasting: float = 0.0

    async def load_entries(self, keys: Sequence[str]) -> dict[str, Entry]:
        """Note the read."""
        self.reads.append((loop_time(), len(keys)))
        if self.away is not None:
            raise self.away
        entries = await super().load_entries(keys)
        await asyncio.sleep(self.lasting)
        return entries

    async def tell(self, number: str, state: TradeState) -> None:
        """Write the state that a callback proved to another process."""
        key = order_key(APP_KEY, "trade", number)
        known = (await super().load_entries([key])).get(key)
        version = None if known is None else known.version
        assert await self.swap(key, version=version, value=Progress(told=state).encode(), now=NOON)

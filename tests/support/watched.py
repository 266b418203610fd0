"""A platform in virtual time whose orders are watched, and callers that wait for them."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any
from urllib.parse import parse_qsl

from attrs import define, field

from tests.support import replies
from tests.support.clock import LoopClock, loop_time
from tests.support.merchant import make_shop
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.protocol.results import TradeStatus
from wxpay_async.protocol.wire import HttpRequest


@define(eq=False)
class Platform:
    """Tells of each order what the test says, and notes when it is asked.

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
        return make_shop(self, clock, **settings).gateway  # type: ignore[arg-type] # a clock


async def find_end(wait: asyncio.Future[TradeStatus]) -> tuple[float, str]:
    """Return when a wait ends, and how."""
    try:
        status = await wait
    except Exception as error:  # noqa: BLE001 - whatever it is, the test names it
        return loop_time(), type(error).__name__
    return loop_time(), status.state


def start(
    gateway: PayGateway,
    number: str = "O-1",
    **times: float,
) -> asyncio.Task[tuple[float, str]]:
    """Let a caller wait; the task returns when and how that ended."""
    return asyncio.ensure_future(find_end(gateway.wait_paid(number, **times)))  # type: ignore[arg-type] # awaitable

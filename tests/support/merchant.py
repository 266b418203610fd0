"""The merchant's side: a gateway over memory, and its parts for tests to inspect."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from urllib.parse import parse_qsl

from attrs import define

from tests.support.clock import MovedClock
from tests.support.platform import APP_KEY, SECRET
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.telemetry import Event
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.signing import Md5Signer


@define(eq=False, kw_only=True)
class Shop:
    """A gateway over memory, and its parts for tests to inspect."""

    gateway: PayGateway
    transport: MemoryTransport
    store: MemoryStore
    clock: MovedClock
    events: list[Event]

    async def get_record(self, request_id: str) -> IdempotencyRecord:
        """Return what the store holds; it must be there."""
        record = await self.store.load((APP_KEY, request_id))
        assert record is not None
        return record

    async def state(self, request_id: str) -> State | None:
        """Return where an operation stands, None if the store does not have it."""
        record = await self.store.load((APP_KEY, request_id))
        return record.state if record else None

    def sent(self, path: str = "") -> list[dict[str, str]]:
        """Return the parameters of each request whose address ends like that, as they went out."""
        return [
            dict(parse_qsl(request.body.decode("ascii"), keep_blank_values=True))
            for request in self.transport.requests
            if request.url.endswith(path)
        ]


OpenShop = Callable[..., Shop]


def make_shop(answers: Any, clock: Any, **settings: Any) -> Shop:  # noqa: ANN401 - any clock
    """Make a gateway that gets these answers; the settings are the constructor's."""
    transport = MemoryTransport(answers, keep=5_000)
    store = settings.pop("store", None) or MemoryStore()
    events: list[Event] = []
    given = {
        "transport": transport,
        "store": store,
        "limiter": Unlimited(),
        "clock": clock,
        "hooks": [events.append],
    }
    gateway = PayGateway(APP_KEY, Md5Signer(SECRET), **(given | settings))
    return Shop(gateway=gateway, transport=transport, store=store, clock=clock, events=events)

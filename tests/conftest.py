"""What the tests of the gateway and its parts share: a clock to move, requests, replies, a shop."""

from __future__ import annotations

import asyncio
import importlib.util
import json
import sys
from collections.abc import AsyncIterator, Callable, Coroutine
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib.parse import parse_qsl

import pytest
from attrs import define, field

from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.telemetry import Event
from wxpay_async.errors import WxPayError
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import State
from wxpay_async.protocol.requests import InstantTrade, MiniProgramPay, PayMethod, Refund, TradeItem
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import HttpRequest

NOON = 1_763_870_400.0
APP_KEY = "gmd930ea5d5a258f4f"
SECRET = "192006250b4c09247ec02edce69f6a2d"
QUOTA_HARNESS = Path(__file__).parent / "chaos" / "quota.py"
SEED_REPLY = Path(__file__).parent / "vectors" / "seed_reply.json"

Json = dict[str, Any]
Answer = Any
"""Whatever `MemoryTransport` takes for one."""
QUERY = "/api/instant/query"
UNKNOWN_ORDER = {"success": False, "errorCode": "GM_API_BUS_000099", "errorMsg": "订单不存在"}


@define(eq=False)
class MovedClock(Clock):
    """A clock that stands still until it is moved, or slept by."""

    wall: float = NOON
    ground: float = 5_000.0
    slept: list[float] = field(factory=list)

    def time(self) -> float:
        """Return wall-clock seconds."""
        return self.wall

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return self.ground

    async def sleep(self, seconds: float) -> None:
        """Note the pause, move by it and let others run."""
        self.slept.append(seconds)
        self.move(seconds)
        await asyncio.sleep(0)

    def move(self, seconds: float) -> None:
        """Let time pass."""
        self.wall += seconds
        self.ground += seconds


class Asking:
    """Makes requests that differ only in what a test names."""

    def pay(self, request_id: str = "pay-1", **changes: Any) -> MiniProgramPay:  # noqa: ANN401 - fields
        """Make a payment without an order number, so that nothing can be queried."""
        values = {"pay_token": "token-1", "terminal_payer_id": "openid-0123456789", **changes}
        return MiniProgramPay(request_id=request_id, **values)

    def refund(self, request_id: str = "refund-1", **changes: Any) -> Refund:  # noqa: ANN401 - fields
        """Make a refund of one yuan."""
        values = {
            "out_trade_no": "R-1",
            "orig_out_trade_no": "O-1",
            "refund_amount": Decimal("1.00"),
            **changes,
        }
        return Refund(request_id=request_id, **values)

    def trade(self, request_id: str = "trade-1", **changes: Any) -> InstantTrade:  # noqa: ANN401 - fields
        """Make an order of one yuan."""
        item = TradeItem(
            out_trade_no="O-1",
            subject="商品的标题",
            price=Decimal("1.00"),
            quantity=1,
            total_amount=Decimal("1.00"),
            payee_identity="100",
        )
        method = PayMethod(
            pay_product_code="67", amount=Decimal("1.00"), app_id="wx1", open_id="openid-0123456789"
        )
        values = {"trade_info": [item], "payer_ip": "11.22.33.44", "pay_method": method, **changes}
        return InstantTrade(request_id=request_id, **values)


class Replies:
    """Says what a platform could say."""

    def prepay(self, **changes: str) -> Json:
        """Say what the user's page shows, with other fields where a test names them."""
        reply: Json = json.loads(SEED_REPLY.read_text(encoding="utf-8"))
        reply["data"]["tradeResList"] = [{"outTradeNo": "O-1", "tradeNo": "T-1", "status": "P"}]
        reply["data"].update(changes)
        return reply

    def refunded(self, status: str = "S", **changes: str) -> Json:
        """Say that a refund was accepted (S), is under way (P) or failed (F)."""
        data = {"requestId": "refund-1", "outTradeNo": "R-1", "tradeNo": "T-1", "status": status}
        return {"success": True, "data": {**data, **changes}}

    def created(self, **changes: str | None) -> Json:
        """Say that an order was created."""
        row = {"outTradeNo": "O-1", "tradeNo": "T-1", "status": "P"}
        data = {"requestId": "trade-1", "payToken": "token-1", "tradeResList": [row], **changes}
        return {"success": True, "data": {k: v for k, v in data.items() if v is not None}}

    def order(self, status: str, out_trade_no: str = "O-1", amount: str = "1.00") -> Json:
        """Say how an order stands."""
        data = {"outTradeNo": out_trade_no, "status": status, "totalAmount": amount}
        return {"success": True, "data": data}

    def no(self, code: str, message: str = "") -> Json:
        """Say no."""
        return {"success": False, "errorCode": code, "errorMsg": message}


@define(eq=False)
class Script:
    """Answers for `MemoryTransport`: operations one after another, the last one again and again.

    Attributes:
        answers: what operations are told; a callable is called.
        query: what every query is told.
        queries: how many were made.
    """

    answers: list[Answer]
    query: Answer = field(factory=lambda: dict(UNKNOWN_ORDER))
    queries: int = 0

    def __call__(self, request: HttpRequest) -> Answer:
        """Answer one request."""
        if request.url.endswith(QUERY):
            self.queries += 1
            return self.query() if callable(self.query) else self.query
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        if isinstance(answer, WxPayError):  # a fresh one each time: what is raised gets marked
            return _again(answer)
        return answer(request) if callable(answer) else answer


def _again(error: WxPayError) -> WxPayError:
    copy = type(error)(error.reason)
    copy.retryable = error.retryable
    return copy


@define(eq=False, kw_only=True)
class Shop:
    """A gateway over memory, and everything that can be looked at around it."""

    gateway: PayGateway
    transport: MemoryTransport
    store: MemoryStore
    clock: MovedClock
    events: list[Event]

    async def entry(self, request_id: str) -> IdempotencyRecord:
        """Return what the store holds; it must be there."""
        entry = await self.store.load((APP_KEY, request_id))
        assert entry is not None
        return entry

    async def state(self, request_id: str) -> State | None:
        """Return where an operation stands, None if nobody wrote it down."""
        entry = await self.store.load((APP_KEY, request_id))
        return entry.state if entry else None

    def sent(self, path: str = "") -> list[dict[str, str]]:
        """Return the parameters of each request whose address ends like that, as they went out."""
        return [
            dict(parse_qsl(request.body.decode("ascii"), keep_blank_values=True))
            for request in self.transport.requests
            if request.url.endswith(path)
        ]


OpenShop = Callable[..., Shop]
RunVirtual = Callable[[Coroutine[object, object, None]], None]


@pytest.fixture(scope="session")
def run_virtual() -> RunVirtual:
    """Return a function that runs a coroutine on a loop whose clock jumps from timer to timer."""
    spec = importlib.util.spec_from_file_location("wxpay_chaos_quota", QUOTA_HARNESS)
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module.run_virtual


@pytest.fixture
def clock() -> MovedClock:
    """Return a clock that a test moves."""
    return MovedClock()


@pytest.fixture
def asking() -> Asking:
    """Return what makes requests."""
    return Asking()


@pytest.fixture
def replies() -> Replies:
    """Return what makes replies."""
    return Replies()


@pytest.fixture
def script() -> Callable[..., Script]:
    """Return what makes scripts: `script(answer, answer, query=…)`."""

    def made(*answers: Answer, **more: Answer) -> Script:
        return Script(list(answers), **more)

    return made


@pytest.fixture
async def open_shop(clock: MovedClock) -> AsyncIterator[OpenShop]:
    """Return a function that opens a gateway over the answers given; all are closed at the end."""
    shops: list[Shop] = []

    def opened(answers: Any = (), **settings: Any) -> Shop:  # noqa: ANN401 - MemoryTransport's
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
        shop = Shop(gateway=gateway, transport=transport, store=store, clock=clock, events=events)
        shops.append(shop)
        return shop

    yield opened
    for shop in shops:
        await shop.gateway.aclose()
    left = asyncio.all_tasks() - {asyncio.current_task()}
    assert set() == left, "tasks outlive the gateways"

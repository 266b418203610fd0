"""The life of operations: random calls, networks, crashes and pauses against a platform's books.

A machine drives two processes over one store against a small model of the platform. Whatever is
drawn, what a caller was told and what a row says must agree with what the platform executed.

Assumed of the platform, and nothing else: a requestId is executed at most once; a request expires
300 s after its timestamp by the platform's clock, which the `Date` of an answer tells; a query
finds what was executed (a refund only where `refunds_queryable` says so). That clock may be 600 s
late or 400 s ahead, and ours is put wrong, and right again, at any time.
"""

from __future__ import annotations

import asyncio
import enum
import json
from collections.abc import Awaitable
from datetime import UTC, datetime
from decimal import Decimal
from email.utils import format_datetime
from typing import Any, Final
from urllib.parse import parse_qsl

import pytest
from attrs import define, field, frozen
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.support.examples import count_examples
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import (
    FailedError,
    Fate,
    IdempotencyConflictError,
    InDoubtError,
    NotExecutedError,
    NotSentError,
    PrepayExpiredError,
    WxPayError,
)
from wxpay_async.policy import resolution
from wxpay_async.policy.record import LEASE, IdempotencyRecord, evolve, unpack
from wxpay_async.policy.states import FINAL, TRANSITIONS, State
from wxpay_async.protocol.requests import (
    InstantTrade,
    MiniProgramPay,
    PayMethod,
    Refund,
    Request,
    TradeItem,
)
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

EXAMPLES: Final = count_examples(quick=20, full=100)
APP_KEY: Final = "gmd930ea5d5a258f4f"
SECRET: Final = "192006250b4c09247ec02edce69f6a2d"
NOON: Final = 1_763_870_400.0
YEAR: Final = 365 * 86_400.0
EXPIRY: Final = 300.0
EDGES: Final = frozenset((before, after) for (before, _), after in TRANSITIONS.items())
UNMOVED: Final = frozenset({State.RESERVED, State.REJECTED, State.FAILED, State.NOT_EXECUTED})


class Net(enum.Enum):
    """What becomes of one HTTP request: whether it arrives, and what is heard of it."""

    ANSWERED = enum.auto()
    PENDING = enum.auto()
    FAILED = enum.auto()
    LOST_BEFORE = enum.auto()
    LOST_AFTER = enum.auto()
    DELAYED = enum.auto()
    COPIED = enum.auto()
    DOUBLED = enum.auto()
    GARBLED_BEFORE = enum.auto()
    GARBLED_AFTER = enum.auto()
    INTERRUPTED_BEFORE = enum.auto()
    INTERRUPTED_AFTER = enum.auto()
    OTHER_ECHO = enum.auto()
    REFUSED = enum.auto()
    BAD_SIGNATURE = enum.auto()
    UNKNOWN_CODE = enum.auto()
    NOT_FOUND = enum.auto()
    LIMITED = enum.auto()
    UNSENT = enum.auto()
    CRASH_BEFORE = enum.auto()
    CRASH_AFTER = enum.auto()
    CRASH_DELAYED = enum.auto()


QUERY_NETS: Final = (Net.ANSWERED, Net.ANSWERED, Net.LOST_BEFORE, Net.LIMITED, Net.GARBLED_AFTER)
UNTOUCHED: Final = {  # what is answered without the platform's books being opened
    Net.LOST_BEFORE: InDoubtError,
    Net.GARBLED_BEFORE: HttpResponse(502, b"<html>"),
    Net.INTERRUPTED_BEFORE: "CO_MSG_000003",
    Net.BAD_SIGNATURE: "CO_MSG_000006",
    Net.UNKNOWN_CODE: "XX_1",
    Net.NOT_FOUND: HttpResponse(404, b"no"),
    Net.LIMITED: HttpResponse(429, b"slow down"),
    Net.UNSENT: NotSentError,
    Net.CRASH_BEFORE: InDoubtError,
    Net.DELAYED: InDoubtError,
    Net.CRASH_DELAYED: InDoubtError,
}
HIDDEN: Final = {  # what is heard instead of the answer, after it was executed
    Net.LOST_AFTER: InDoubtError,
    Net.CRASH_AFTER: InDoubtError,
    Net.GARBLED_AFTER: HttpResponse(200, b"<html>"),
    Net.INTERRUPTED_AFTER: "CO_MSG_000002",
}
UNDERWAY: Final = {Net.DELAYED, Net.CRASH_DELAYED, Net.COPIED}
CRASHES: Final = {Net.CRASH_BEFORE, Net.CRASH_AFTER, Net.CRASH_DELAYED}
STATUS: Final = {Net.PENDING: "P", Net.FAILED: "F"}
REFUND_TEXTS: Final = {"S": "退款成功", "P": "退款中", "F": "退款失败"}


def yes(data: dict[str, Any]) -> bytes:
    """Say yes."""
    return json.dumps({"success": True, "data": data}).encode()


def no(code: str) -> HttpResponse:
    """Say no."""
    body = {"success": False, "errorCode": code, "errorMsg": "because"}
    return HttpResponse(200, json.dumps(body).encode())


def spoken(heard: Any) -> Any:  # noqa: ANN401 - whatever `MemoryTransport` takes
    """Turn a row of the tables above into an answer; errors are made afresh, they get marked."""
    if isinstance(heard, str):
        return no(heard)
    return heard("the network") if isinstance(heard, type) else heard


@define(eq=False)
class MovedClock(Clock):
    """Stands still until it is moved, or slept by."""

    passed: float = 0.0
    wrong_by: float = 0.0

    def true_time(self) -> float:
        """Return the seconds that a right wall clock shows."""
        return NOON + self.passed

    def time(self) -> float:
        """Return wall-clock seconds."""
        return self.true_time() + self.wrong_by

    def monotonic(self) -> float:
        """Return seconds that only grow."""
        return 5_000.0 + self.passed

    async def sleep(self, seconds: float) -> None:
        """Move by it and let others run."""
        self.passed += seconds
        await asyncio.sleep(0)


@define(eq=False)
class Booking:
    """What the platform executed under one requestId: the bytes, the order, S, P or F."""

    content: str
    number: str
    status: str


@define(eq=False)
class Platform:
    """Executes each requestId once, and tells the truth to who reaches it."""

    clock: MovedClock
    skew: float = 0.0
    queryable: bool = True
    booked: dict[str, Booking] = field(factory=dict)
    orders: dict[str, str] = field(factory=dict)
    underway: list[HttpRequest] = field(factory=list)

    def take(self, request: HttpRequest, status: str = "S", refusal: str | None = None) -> Any:  # noqa: ANN401 - a reply
        """Execute a request, unless it is expired, repeated or refused."""
        params = dict(parse_qsl(request.body.decode()))
        now = self.clock.true_time() + self.skew
        if now - int(params["timestamp"]) / 1000 > EXPIRY:
            return self._dated(no("CO_MSG_000005").body)
        if "bizContent" not in params:
            return self._dated(self._found(params["outTradeNo"]))
        content = json.loads(params["bizContent"])
        if content["requestId"] in self.booked:
            return no("GM_API_BUS_0000015")
        if refusal is not None:
            return no(refusal)
        if status == "P" and "refundAmount" not in content:
            status = "S"
        self.booked[content["requestId"]] = Booking(params["bizContent"], number(content), status)
        return {"success": True, "data": _answer(content, status)}

    def _dated(self, body: bytes) -> HttpResponse:
        now = datetime.fromtimestamp(self.clock.true_time() + self.skew, UTC)
        return HttpResponse(200, body, {"date": format_datetime(now, usegmt=True)})

    def _found(self, out_trade_no: str) -> bytes:
        data = {"outTradeNo": out_trade_no}
        if out_trade_no in self.orders:
            return yes({**data, "status": self.orders[out_trade_no]})
        for booking in self.booked.values():
            content = json.loads(booking.content)
            refund = "refundAmount" in content
            if booking.number == out_trade_no and (self.queryable if refund else _is_done(booking)):
                text = REFUND_TEXTS[booking.status] if refund else "待付款"
                return yes({**data, "status": text, "totalAmount": amount(content)})
        return no("GM_API_BUS_000099").body


def _is_done(booking: Booking) -> bool:
    return booking.status != "F"


def number(content: dict[str, Any]) -> str:
    """Return what a query asks for."""
    rows = content.get("tradeInfo", [content])
    return str(rows[0].get("outTradeNo", ""))


def amount(content: dict[str, Any]) -> str:
    """Return the yuan."""
    return str(content.get("refundAmount") or content["tradeInfo"][0]["totalAmount"])


def _answer(content: dict[str, Any], status: str) -> dict[str, Any]:
    row = {"outTradeNo": number(content), "tradeNo": "T-1", "status": status}
    data: dict[str, Any] = {"requestId": content["requestId"]}
    if "refundAmount" in content:
        return data | row
    data |= {"payToken": "token-1", "tradeResList": [row] if number(content) else []}
    names = ("appId", "timeStamp", "nonceStr", "prepayId", "signType", "paySign")
    return data | dict.fromkeys(names, "wx1") | {"extPackage": "prepay_id=wx1"}


@define(eq=False)
class Ledger(MemoryStore):
    """The store that processes share; refuses to be written what can never happen."""

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Look at what is inserted."""
        if await self.load(record.key) is None:
            assert (State.RESERVED, 0) == (record.state, record.epoch)
        return await super().reserve(record)

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> IdempotencyRecord | None:
        """Look at the step that the claim makes."""
        before = await self.load(key)
        claimed = await super().claim(key, now=now, signed_at=signed_at, lease=lease)
        if before is not None and claimed is not None:
            _check_step(before, claimed)
        return claimed

    async def record(self, record: IdempotencyRecord) -> bool:
        """Look at the step that is written."""
        before = await self.load(record.key)
        written = await super().record(record)
        if before is not None and written:
            _check_step(before, record)
        return written

    async def sweep(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Look at the steps that tending makes."""
        before = {record.key: record for record in self.all_records()}
        due = await super().sweep(app_key, now, limit=limit)
        for record in self.all_records():
            if record != before[record.key]:
                _check_step(before[record.key], record)
        return due

    def all_records(self) -> list[IdempotencyRecord]:
        """Return every record."""
        return [*self._active.values(), *map(unpack, self._finished.values())]


def _check_step(before: IdempotencyRecord, after: IdempotencyRecord) -> None:
    step = (before.state, after.state)
    assert before.epoch <= after.epoch, "the fencing token fell"
    assert after.in_doubt or not before.in_doubt, "a doubt was forgotten"
    assert before.state not in FINAL or before.state is after.state, f"{step}: final is final"
    if step == (State.SENDING, State.SENDING):  # by way of UNKNOWN: the lease ran out
        assert before.epoch < after.epoch
        assert after.in_doubt
    else:
        assert before.state is after.state or step in EDGES, f"{step} is not in the table"
    if before.in_doubt:
        assert after.state not in {State.RESERVED, State.REJECTED}, "a doubt was settled by a no"
    assert after.in_doubt or after.state is not State.UNKNOWN


@define(eq=False)
class View(MemoryStore):
    """A process's connection to the ledger; once the process is dead, nothing passes."""

    ledger: Ledger = field(kw_only=True)
    alive: bool = True
    dies_of_claiming: bool = False
    deaf: bool = False

    def _check(self, kind: type[WxPayError] = NotSentError) -> None:
        if not self.alive:
            raise kind("this process is dead")

    async def reserve(self, entry: IdempotencyRecord) -> IdempotencyRecord:
        """Pass it on."""
        self._check()
        return await self.ledger.reserve(entry)

    async def claim(
        self, key: tuple[str, str], *, now: float, signed_at: int, lease: float = LEASE
    ) -> IdempotencyRecord | None:
        """Pass it on; the commit may be the last thing that this process does."""
        self._check()
        claimed = await self.ledger.claim(key, now=now, signed_at=signed_at, lease=lease)
        self.alive = self.alive and not self.dies_of_claiming
        self._check()
        return claimed

    async def record(self, entry: IdempotencyRecord) -> bool:
        """Pass it on, unless it is out of reach by now."""
        self._check(InDoubtError)
        if self.deaf:
            raise InDoubtError("the store does not answer")
        return await self.ledger.record(entry)

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Pass it on."""
        self._check()
        return await self.ledger.load(key)

    async def sweep(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Pass it on."""
        self._check()
        return await self.ledger.sweep(app_key, now, limit=limit)


@frozen(kw_only=True)
class Meanwhile:
    """What another process does while a request is out and its sender is paused."""

    seconds: float
    deed: str
    net: Net
    early: bool
    in_query: bool


@define(eq=False, kw_only=True)
class Process:
    """One gateway over the shared store, and what its network will do."""

    view: View
    gateway: PayGateway
    transport: MemoryTransport
    nets: list[Net] = field(factory=list)
    asked: Net = Net.ANSWERED
    meanwhile: Meanwhile | None = None

    def next_net(self) -> Net:
        """Return the fate of the next request; the last one drawn holds on."""
        if not self.nets:
            return Net.ANSWERED
        return self.nets.pop(0) if len(self.nets) > 1 else self.nets[0]


@define(eq=False)
class Purchase:
    """What a merchant wants done once, under one requestId after another."""

    kind: str
    name: str
    generation: int = 0

    @property
    def request_id(self) -> str:
        """The id of the generation."""
        return f"{self.name}-{self.generation}"

    @property
    def out_trade_no(self) -> str:
        """The order: another for each generation, as the last was denied for good."""
        return f"O-{self.name}" if self.kind == "pay" else f"N-{self.request_id}"

    def is_meant_by(self, request: HttpRequest) -> bool:
        """Tell whether an HTTP request, a query included, is about this purchase."""
        params = dict(parse_qsl(request.body.decode()))
        content = json.loads(params.get("bizContent", "{}"))
        about = (content.get("requestId"), params.get("outTradeNo"))
        return self.request_id == about[0] or self.out_trade_no == about[1]

    def request(self, yuan: str) -> Request:
        """Make the request."""
        given: dict[str, Any] = {"request_id": self.request_id}
        if self.kind == "pay":
            order = None if self.name == "blind" else self.out_trade_no
            token = f"token-{yuan}"
            return MiniProgramPay(
                pay_token=token, terminal_payer_id="openid-0123456789", out_trade_no=order, **given
            )
        out_trade_no, money = self.out_trade_no, Decimal(yuan)
        if self.kind == "refund":
            given |= {"out_trade_no": out_trade_no, "orig_out_trade_no": "O-1"}
            return Refund(refund_amount=money, **given)
        item = TradeItem(
            out_trade_no=out_trade_no,
            subject="商品的标题",
            price=money,
            quantity=1,
            total_amount=money,
            payee_identity="100",
        )
        method = PayMethod(
            pay_product_code="67", amount=money, app_id="wx1", open_id="openid-0123456789"
        )
        return InstantTrade(trade_info=[item], payer_ip="11.22.33.44", pay_method=method, **given)


NAMES: Final = {"refund": "refund", "again": "refund", "trade": "trade", "pay": "pay"}
PURCHASES: Final = st.sampled_from([*NAMES, "blind"])
PROCESSES: Final = st.sampled_from([0, 1])
# What is still on its way is what the quarantine is for, so it is drawn more often.
NETS: Final = st.lists(st.sampled_from([*Net, *[Net.DELAYED, Net.CRASH_DELAYED] * 3]), max_size=3)
WRONGS: Final = (0.0, -600.0, -400.0, 400.0, 600.0)
WRONG: Final = st.sampled_from(WRONGS)
ASKED: Final = st.sampled_from(QUERY_NETS)
MEANWHILE: Final = st.none() | st.builds(
    Meanwhile,
    seconds=st.sampled_from([1.0, 20.0, 50.0, 120.0, 290.0]),
    deed=st.sampled_from(["call", "recover", "resolve"]),
    net=st.sampled_from(Net),
    early=st.booleans(),
    in_query=st.booleans(),
)


class Life(RuleBasedStateMachine):
    """Two processes, five purchases, one store, one platform."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = MovedClock()
        self.platform = Platform(self.clock)
        self.ledger = Ledger(retention=YEAR)
        self.purchases = {name: Purchase(kind, name) for name, kind in NAMES.items()}
        self.purchases["blind"] = Purchase("pay", "blind")
        self.platform.orders = {"O-pay": "待付款"}
        self.yuan: dict[str, str] = {}
        self.sent: dict[str, str] = {}
        self.nonces: set[str] = set()
        self.barred: dict[str, WxPayError] = {}
        self.credentials: set[str] = set()

    @initialize(
        skew=st.sampled_from([0.0, 0.0, -250.0, -400.0, -600.0, 400.0]),
        queryable=st.booleans(),
        in_process=st.booleans(),
    )
    def begin(self, *, skew: float, queryable: bool, in_process: bool) -> None:
        """Open both processes; the platform's clock and habits are drawn once."""
        self.platform.skew, self.platform.queryable = skew, queryable
        self.in_process = in_process
        self.processes = [self.started(), self.started()]

    def started(self) -> Process:
        """Start a process."""
        view = View(ledger=self.ledger)
        transport = MemoryTransport(lambda request: self.carry(process, request))
        gateway = PayGateway(
            APP_KEY,
            Md5Signer(SECRET),
            transport=transport,
            store=view,
            limiter=Unlimited(),
            clock=self.clock,
            refunds_queryable=self.platform.queryable,
        )
        gateway._dispatcher._in_process = self.in_process
        process = Process(view=view, gateway=gateway, transport=transport)
        return process

    def teardown(self) -> None:
        """Close the loop, which must have nothing left to do."""
        self.runner.close()

    # The network

    async def carry(self, process: Process, request: HttpRequest) -> Any:  # noqa: ANN401 - an answer
        """Carry one request of a process, as was drawn."""
        if not process.view.alive:
            return NotSentError("this process is dead")
        asks = request.url.endswith("/query")
        if not asks:
            self.look_at(request)
        net = process.asked if asks else process.next_net()
        meanwhile = process.meanwhile
        if meanwhile is not None and meanwhile.in_query is not asks:
            meanwhile = None
        if meanwhile is not None:
            process.meanwhile = None
        if meanwhile and meanwhile.early:
            await self.overtake(process, request, meanwhile)
        answer = self.through(request, net)
        if meanwhile and not meanwhile.early:
            await self.overtake(process, request, meanwhile)
        process.view.alive = net not in CRASHES
        return answer

    def look_at(self, request: HttpRequest) -> None:
        """Hold a request against those before it: the same bytes, another nonce."""
        params = dict(parse_qsl(request.body.decode()))
        content = params["bizContent"]
        assert self.sent.setdefault(json.loads(content)["requestId"], content) == content
        assert params["nonce"] not in self.nonces
        self.nonces.add(params["nonce"])

    def through(self, request: HttpRequest, net: Net) -> Any:  # noqa: ANN401 - an answer
        """Take the request to the platform, or not, and return what is heard."""
        if net in UNDERWAY:
            self.platform.underway.append(request)
        if net in UNTOUCHED:
            return spoken(UNTOUCHED[net])
        refusal = "GM_API_BUS_000777" if net is Net.REFUSED else None
        answer = self.platform.take(request, STATUS.get(net, "S"), refusal)
        if net is Net.DOUBLED:
            return self.platform.take(request)
        if net is Net.OTHER_ECHO and isinstance(answer, dict):
            answer["data"]["requestId"] = "another"
        return spoken(HIDDEN.get(net, answer))

    async def overtake(self, paused: Process, request: HttpRequest, meanwhile: Meanwhile) -> None:
        """Let time pass and the other process act on the same operation."""
        self.clock.passed += meanwhile.seconds
        at = 1 - self.processes.index(paused)
        other = self.processes[at]
        mine = [p for p in self.purchases.values() if p.is_meant_by(request)]
        if not mine or other.meanwhile is not None:
            return
        other.nets, other.asked = [meanwhile.net], Net.ANSWERED
        if meanwhile.deed == "call":
            await self.calling(at, mine[0], self.yuan[mine[0].request_id])
        elif meanwhile.deed == "resolve":
            await self.resolving(at, mine[0], reissue=False)
        else:
            await other.gateway.recover()

    # What callers do

    async def calling(self, at: int, purchase: Purchase, yuan: str) -> None:
        """Make one call and judge what the caller hears; a process that died is replaced."""
        process, request_id = self.processes[at], purchase.request_id
        earlier = self.barred.get(request_id)
        if earlier is not None and not await self.is_final(request_id):
            del self.barred[request_id]
        call = getattr(process.gateway, purchase.kind)
        told = await heard(call(purchase.request(yuan)))
        if process.view.alive:
            await self.judge(request_id, told)
        else:
            self.processes[at] = self.started()

    async def resolving(self, at: int, purchase: Purchase, *, reissue: bool) -> None:
        """Resolve one operation and judge the outcome."""
        resolve = self.processes[at].gateway.resolve
        outcome = await resolve(purchase.request_id, reissue=reissue)
        request_id = purchase.request_id
        if reissue and purchase.kind == "pay":
            request_id = getattr(outcome.result, "request_id", None) or ""
        if request_id:
            await self.judge(request_id, outcome.error or outcome.result)

    async def judge(self, request_id: str, told: object) -> None:
        """Hold what a caller was told against what the platform did."""
        if not isinstance(told, WxPayError):
            assert request_id in self.platform.booked, f"{request_id}: told ok, never executed"
            assert self.sent[request_id] == self.platform.booked[request_id].content
            self.credentials.add(request_id)
            self.what_was_denied_never_happens()
        elif isinstance(told, PrepayExpiredError):
            assert request_id in self.platform.booked, f"{request_id}: expired, never made"
        elif told.fate is not Fate.IN_DOUBT:
            self.barred[request_id] = told
            self.what_was_denied_never_happens()

    async def is_final(self, request_id: str) -> bool:
        """Tell whether the row is settled for good."""
        entry = await self.ledger.load((APP_KEY, request_id))
        return entry is not None and entry.state in FINAL

    def executed(self, request_id: str) -> bool:
        """Tell whether the platform executed what we sent, and not as a failure."""
        booking = self.platform.booked.get(request_id)
        if booking is None or booking.status == "F":
            return False
        return booking.content == self.sent.get(request_id)

    def harmed(self, request_id: str, denial: WxPayError) -> bool:
        """Tell whether what a caller was denied has happened.

        A prepay moves no money. So for a payment whose order a query found closed, it is the order
        that must not be paid, and for one that was found unpaid, the credential must not be out.
        """
        handed_out = request_id in self.credentials
        if request_id == "pay-0" and isinstance(denial, FailedError):
            return handed_out and self.platform.orders["O-pay"] == "已付款"
        if request_id == "pay-0" and isinstance(denial, NotExecutedError):
            return handed_out
        return self.executed(request_id)

    @rule(
        name=PURCHASES,
        other=st.sampled_from([False, False, False, True]),
        at=PROCESSES,
        nets=NETS,
        asked=ASKED,
        meanwhile=MEANWHILE,
        deaf=st.sampled_from([False, False, True]),
    )
    def call(
        self,
        *,
        name: str,
        other: bool,
        at: int,
        nets: list[Net],
        asked: Net,
        meanwhile: Meanwhile | None,
        deaf: bool = False,
    ) -> None:
        """Call with the purchase's content, or with another one under its requestId."""
        purchase, process = self.purchases[name], self.processes[at]
        known = self.yuan.setdefault(purchase.request_id, "1.00")
        process.nets, process.asked, process.meanwhile = list(nets), asked, meanwhile
        process.view.deaf = deaf
        if not other:
            self.runner.run(self.calling(at, purchase, known))
        elif self.row(purchase.request_id) is not None:
            self.conflict(process, purchase)
        process.meanwhile, process.view.deaf = None, False

    def conflict(self, process: Process, purchase: Purchase) -> None:
        """Other content under a known requestId is refused, and nothing is sent."""
        calls = process.transport.calls
        call = getattr(process.gateway, purchase.kind)
        told = self.runner.run(heard(call(purchase.request("2.00"))))
        assert isinstance(told, IdempotencyConflictError)
        assert told.fields
        assert calls == process.transport.calls

    @rule(name=PURCHASES, at=PROCESSES, asked=ASKED, reissue=st.booleans(), meanwhile=MEANWHILE)
    def resolve(
        self, *, name: str, at: int, asked: Net, reissue: bool, meanwhile: Meanwhile | None
    ) -> None:
        """Find out what became of one operation."""
        purchase, process = self.purchases[name], self.processes[at]
        process.nets, process.asked, process.meanwhile = [], asked, meanwhile
        if self.row(purchase.request_id) is not None:
            self.runner.run(self.resolving(at, purchase, reissue=reissue))
        process.meanwhile = None

    @precondition(lambda self: self.platform.underway)
    @rule(at=PROCESSES, times=st.integers(2, 7), wrong_by=st.none() | WRONG)
    def keep_asking(self, *, at: int, times: int, wrong_by: float | None) -> None:
        """Resolve everything again and again, 61 s apart; then what was delayed arrives.

        Before that, die of sending it once more by a clock that was put wrong.
        """
        if wrong_by is not None:
            self.clock.wrong_by = wrong_by
            self.send_again(at, self.platform.underway[-1])
        self.processes[at].asked = Net.ANSWERED
        known = [p for p in self.purchases.values() if self.row(p.request_id) is not None]
        for _ in range(times):
            for purchase in known:
                self.runner.run(self.resolving(at, purchase, reissue=False))
            self.clock.passed += 61.0
        while self.platform.underway:
            self.platform.take(self.platform.underway.pop())

    def send_again(self, at: int, request: HttpRequest) -> None:
        """Die of sending a request once more, and have the lease run out."""
        for purchase in self.purchases.values():
            if purchase.is_meant_by(request):
                self.processes[at].nets = [Net.CRASH_BEFORE]
                self.runner.run(self.calling(at, purchase, self.yuan[purchase.request_id]))
        self.clock.passed += LEASE
        self.runner.run(self.processes[at].gateway.recover())

    @rule(at=PROCESSES, asked=ASKED, meanwhile=MEANWHILE)
    def recover(self, *, at: int, asked: Net, meanwhile: Meanwhile | None) -> None:
        """Look after everything that is due."""
        process = self.processes[at]
        process.asked, process.meanwhile = asked, meanwhile
        self.runner.run(process.gateway.recover())
        process.meanwhile = None

    @rule(name=PURCHASES, at=PROCESSES)
    def die_of_claiming(self, *, name: str, at: int) -> None:
        """Crash between the commit of a claim and the first byte."""
        purchase, process = self.purchases[name], self.processes[at]
        yuan = self.yuan.setdefault(purchase.request_id, "1.00")
        process.nets, process.view.dies_of_claiming = [Net.ANSWERED], True
        self.runner.run(self.calling(at, purchase, yuan))
        self.processes[at].view.dies_of_claiming = False

    @rule(name=PURCHASES)
    def start_over(self, *, name: str) -> None:
        """Take a new requestId, as a caller may that was told no for good."""
        purchase = self.purchases[name]
        row = self.row(purchase.request_id)
        final = row is not None and row.state in FINAL
        if final and purchase.kind != "pay" and purchase.request_id in self.barred:
            purchase.generation += 1

    # What the world does

    @rule(seconds=st.sampled_from([1.0, 6.0, 46.0, 61.0, 130.0, 299.0, 601.0, 3_600.0, 90_000.0]))
    def wait(self, *, seconds: float) -> None:
        """Let time pass."""
        self.clock.passed += seconds

    @rule(wrong_by=WRONG)
    def put_clock(self, *, wrong_by: float) -> None:
        """Put the machine's wall clock wrong, or right again."""
        self.clock.wrong_by = wrong_by

    @precondition(lambda self: self.platform.underway)
    @rule(last=st.booleans())
    def arrive(self, *, last: bool) -> None:
        """Deliver a request that its sender has given up."""
        self.platform.take(self.platform.underway.pop(-1 if last else 0))

    @rule(name=PURCHASES)
    def foreign(self, *, name: str) -> None:
        """Somebody else uses the requestId first, for another amount."""
        purchase = self.purchases[name]
        if purchase.kind != "pay" and self.row(purchase.request_id) is None:
            order = purchase.out_trade_no
            content: dict[str, Any] = {"requestId": purchase.request_id, "refundAmount": "9.00"}
            if purchase.kind == "trade":
                item = {"outTradeNo": order, "totalAmount": "9.00"}
                content = {"requestId": purchase.request_id, "tradeInfo": [item]}
            booking = Booking(json.dumps(content), order, "S")
            self.platform.booked.setdefault(purchase.request_id, booking)

    @precondition(lambda self: any(b.status == "P" for b in self.platform.booked.values()))
    @rule(well=st.booleans())
    def settle_refunds(self, *, well: bool) -> None:
        """End what the platform had under way."""
        for booking in self.platform.booked.values():
            if booking.status == "P":
                booking.status = "S" if well else "F"

    @precondition(lambda self: "pay-0" in self.platform.booked)
    @rule(paid=st.booleans())
    def end_order(self, *, paid: bool) -> None:
        """A person pays with a credential that was handed out, or the order is closed."""
        if self.platform.orders["O-pay"] == "待付款" and (not paid or "pay-0" in self.credentials):
            self.platform.orders["O-pay"] = "已付款" if paid else "已关闭"

    # What always holds

    def row(self, request_id: str) -> IdempotencyRecord | None:
        """Return the row."""
        return self.ledger._find((APP_KEY, request_id))

    @invariant()
    def what_was_denied_never_happens(self) -> None:
        """A caller told refused or not sent: not executed by then, and never later."""
        for request_id, denial in self.barred.items():
            assert not self.harmed(request_id, denial), f"{request_id}: told {denial!r}"

    @invariant()
    def rows_tell_the_truth(self) -> None:
        """What a row says of the money is what the platform did, whoever was told."""
        for entry in self.ledger.all_records():
            is_pay = entry.operation == "pay"
            if entry.state in UNMOVED and not (is_pay and entry.in_doubt):
                assert not self.executed(entry.request_id), f"{entry.request_id}: {entry.state}"
            if entry.state is State.SUCCEEDED and not is_pay:
                assert self.executed(entry.request_id), f"{entry.request_id}: {entry.state}"

    @invariant()
    def nothing_is_bought_twice(self) -> None:
        """However many requestIds a refund or trade has had, one of them moved money."""
        for purchase in self.purchases.values():
            ids = [f"{purchase.name}-{n}" for n in range(purchase.generation + 1)]
            assert sum(self.executed(request_id) for request_id in ids) <= 1


async def heard(call: Awaitable[object]) -> object:
    """Return what a caller gets: the result, or the error."""
    try:
        return await call
    except WxPayError as error:
        return error


TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 100,  # CI walks the same paths each time; longer runs look for new ones
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def arrives_late(operation: str, wrong_by: float | None = None) -> None:
    """Send what is delayed by minutes, ask what became of it a minute apart, and let it arrive."""
    life = Life()
    try:
        life.begin(skew=0.0, queryable=True, in_process=True)
        life.call(
            name=operation,
            other=False,
            at=0,
            nets=[Net.DELAYED],
            asked=Net.ANSWERED,
            meanwhile=None,
        )
        life.keep_asking(at=0, times=3, wrong_by=wrong_by)
        life.what_was_denied_never_happens()
        life.rows_tell_the_truth()
    finally:
        life.teardown()


@pytest.mark.parametrize("operation", ["refund", "trade"])
@pytest.mark.parametrize("wrong_by", [None, *WRONGS])
def test_what_arrives_minutes_late_was_never_denied(operation: str, wrong_by: float | None) -> None:
    """Two minutes in which a query finds nothing prove nothing: the machine need not be lucky.

    Not even where it was sent once more, by a clock that was put wrong meanwhile.
    """
    arrives_late(operation, wrong_by)


@pytest.mark.parametrize("operation", ["refund", "trade"])
@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_a_quarantine_that_is_too_short_is_caught(
    operation: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check sees the mistake of taking absence for proof, at once or after a minute."""
    monkeypatch.setattr(resolution, "QUARANTINE", seconds)

    with pytest.raises(AssertionError, match=r"told NotExecutedError|not_executed"):
        arrives_late(operation)


@pytest.mark.parametrize("operation", ["refund", "trade"])
def test_a_quarantine_from_the_last_timestamp_is_caught(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The check sees the mistake of forgetting what was signed before the clock was put back."""
    claim = MemoryStore.claim

    async def forgetful(
        self: MemoryStore, key: tuple[str, str], *, signed_at: int, **more: float
    ) -> IdempotencyRecord | None:
        claimed = await claim(self, key, signed_at=signed_at, **more)
        if claimed is not None:
            claimed = self._active[key] = evolve(claimed, signed_at=signed_at)
        return claimed

    monkeypatch.setattr(MemoryStore, "claim", forgetful)

    with pytest.raises(AssertionError, match=r"told NotExecutedError|not_executed"):
        arrives_late(operation, -600.0)


def test_the_quarantine_covers_a_platform_that_is_late_and_tells_no_time() -> None:
    """At 250 s behind us it takes a request for 550 s: a moment before, it is not over."""
    assert EXPIRY + 250.0 < resolution.QUARANTINE

"""The world of the random lives: a model of the platform, a network, processes over one store."""

from __future__ import annotations

import enum
import json
from collections import Counter
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Final, Unpack
from urllib.parse import parse_qsl

from attrs import define, field, frozen

from tests.support import asking
from tests.support.clock import MovedClock
from tests.support.records import Claim
from wxpay_async.adapters.limiters.limiter import Lane, Slot
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import InDoubtError, NotSentError, WxPayError
from wxpay_async.policy.record import IdempotencyRecord, unpack
from wxpay_async.policy.states import FINISHED, TRANSITIONS, State
from wxpay_async.protocol.requests import Request
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

NAMES: Final = {"refund": "refund", "again": "refund", "trade": "trade", "pay": "pay"}
YEAR: Final = 365 * 86_400.0
EXPIRY: Final = 300.0
EDGES: Final = frozenset((before, after) for (before, _), after in TRANSITIONS.items())
NOTHING_MOVED: Final = frozenset({State.RESERVED, State.REJECTED, State.FAILED, State.NOT_EXECUTED})


class Net(enum.Enum):
    """What becomes of one HTTP request: whether it arrives, and what comes back."""

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
    BUSY = enum.auto()
    NOT_FOUND = enum.auto()
    LIMITED = enum.auto()
    UNSENT = enum.auto()
    CRASH_BEFORE = enum.auto()
    CRASH_AFTER = enum.auto()
    CRASH_DELAYED = enum.auto()
    OTHER_AMOUNT = enum.auto()


QUERY_NETS: Final = (
    Net.ANSWERED,
    Net.ANSWERED,
    Net.LOST_BEFORE,
    Net.LIMITED,
    Net.GARBLED_AFTER,
    Net.BUSY,
    Net.OTHER_AMOUNT,
)
REFUSALS: Final = {Net.REFUSED, Net.UNKNOWN_CODE, Net.BUSY}  # of the operation itself
NOT_REACHED: Final = {  # what comes back of a request that did not reach the platform
    Net.LOST_BEFORE: InDoubtError,
    Net.GARBLED_BEFORE: HttpResponse(502, b"<html>"),
    Net.INTERRUPTED_BEFORE: "CO_MSG_000003",
    Net.BAD_SIGNATURE: "CO_MSG_000006",
    Net.UNKNOWN_CODE: "XX_1",
    Net.BUSY: "GM_API_BUS_000500",
    Net.NOT_FOUND: HttpResponse(404, b"no"),
    Net.LIMITED: HttpResponse(429, b"slow down"),
    Net.UNSENT: NotSentError,
    Net.CRASH_BEFORE: InDoubtError,
    Net.DELAYED: InDoubtError,
    Net.CRASH_DELAYED: InDoubtError,
}
LOST_ANSWERS: Final = {  # what comes back instead of the answer, after it was executed
    Net.LOST_AFTER: InDoubtError,
    Net.CRASH_AFTER: InDoubtError,
    Net.GARBLED_AFTER: HttpResponse(200, b"<html>"),
    Net.INTERRUPTED_AFTER: "CO_MSG_000002",
}
DELIVERED_LATER: Final = {Net.DELAYED, Net.CRASH_DELAYED, Net.COPIED}
CRASHES: Final = {Net.CRASH_BEFORE, Net.CRASH_AFTER, Net.CRASH_DELAYED}
STATUS: Final = {Net.PENDING: "P", Net.FAILED: "F"}
REFUND_TEXTS: Final = {"S": "退款成功", "P": "退款中", "F": "退款失败"}


def make_success(data: dict[str, Any]) -> bytes:
    """Make the body of a success."""
    return json.dumps({"success": True, "data": data}).encode()


def make_refusal(code: str, text: str = "because") -> HttpResponse:
    """Make a refusal."""
    body = {"success": False, "errorCode": code, "errorMsg": text}
    return HttpResponse(200, json.dumps(body).encode())


def make_answer(row: Any) -> Any:  # noqa: ANN401 - whatever `MemoryTransport` takes
    """Turn a row of the tables above into an answer; an error is made each time, it gets marked."""
    if isinstance(row, str):
        return make_refusal(row)
    return row("the network") if isinstance(row, type) else row


@define(eq=False)
class Execution:
    """What the platform executed under one requestId: the bytes, the order, S, P or F."""

    content: str
    number: str
    status: str


@define(eq=False)
class Platform:
    """Executes each requestId once, and answers truthfully what reaches it."""

    clock: MovedClock
    skew: float = 0.0
    queryable: bool = True
    executions: dict[str, Execution] = field(factory=dict)
    orders: dict[str, str] = field(factory=dict)
    under_way: list[HttpRequest] = field(factory=list)

    def take(self, request: HttpRequest, status: str = "S", refusal: str | None = None) -> Any:  # noqa: ANN401 - a reply
        """Execute a request, unless it is expired, repeated or refused."""
        params = dict(parse_qsl(request.body.decode()))
        now = self.clock.true_time() + self.skew
        if now - int(params["timestamp"]) / 1000 > EXPIRY:
            return self._add_date(make_refusal("CO_MSG_000005").body)
        if "bizContent" not in params:
            return self._add_date(self._answer_query(params["outTradeNo"]))
        content = json.loads(params["bizContent"])
        if content["requestId"] in self.executions:
            return make_refusal("GM_API_BUS_0000015")
        if refusal is not None:
            return make_refusal(refusal)
        if status == "P" and "refundAmount" not in content:
            status = "S"
        self.executions[content["requestId"]] = Execution(
            params["bizContent"], get_number(content), status
        )
        return {"success": True, "data": make_data(content, status)}

    def _add_date(self, body: bytes) -> HttpResponse:
        now = datetime.fromtimestamp(self.clock.true_time() + self.skew, UTC)
        return HttpResponse(200, body, {"date": format_datetime(now, usegmt=True)})

    def _answer_query(self, out_trade_no: str) -> bytes:
        data = {"outTradeNo": out_trade_no}
        if out_trade_no in self.orders:
            return make_success({**data, "status": self.orders[out_trade_no]})
        for execution in self.executions.values():
            content = json.loads(execution.content)
            refund = "refundAmount" in content
            if execution.number == out_trade_no and (
                self.queryable if refund else is_found(execution)
            ):
                text = REFUND_TEXTS[execution.status] if refund else "待付款"
                return make_success({**data, "status": text, "totalAmount": get_amount(content)})
        return make_refusal("GM_API_BUS_000099", "订单不存在").body


def is_found(execution: Execution) -> bool:
    """Tell whether a query finds an order: one that failed was never made."""
    return execution.status != "F"


def get_number(content: dict[str, Any]) -> str:
    """Return the order number of a `bizContent`."""
    rows = content.get("tradeInfo", [content])
    return str(rows[0].get("outTradeNo", ""))


def get_amount(content: dict[str, Any]) -> str:
    """Return the amount of a `bizContent`."""
    return str(content.get("refundAmount") or content["tradeInfo"][0]["totalAmount"])


def make_data(content: dict[str, Any], status: str) -> dict[str, Any]:
    """Make the data of a success."""
    row = {"outTradeNo": get_number(content), "tradeNo": "T-1", "status": status}
    data: dict[str, Any] = {"requestId": content["requestId"]}
    if "refundAmount" in content:
        return data | row
    data |= {"payToken": "token-1", "tradeResList": [row] if get_number(content) else []}
    names = ("appId", "timeStamp", "nonceStr", "prepayId", "signType", "paySign")
    return data | dict.fromkeys(names, "wx1") | {"extPackage": "prepay_id=wx1"}


def make_refund_callback(content: dict[str, Any], *, well: bool) -> dict[str, str]:
    """Make the fields of a callback that says how the refund of a `bizContent` ended."""
    return {
        "orig_outer_trade_no": str(content.get("origOutTradeNo", "O-of-another")),
        "out_trade_no": get_number(content),
        "inner_trade_no": "T-1",
        "refund_status": "REFUND_SUCCESS" if well else "REFUND_FAIL",
        "refund_amount": get_amount(content),
    }


@define(eq=False)
class CheckedStore(MemoryStore):
    """The store that processes share; it checks that each step is one of the table.

    Attributes:
        ways: how often an attempt was claimed as it was reserved, and by a commit of its own.
    """

    ways: Counter[str] = field(factory=Counter)

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Check what is inserted: a reservation, or the claim of a first attempt."""
        before = await self.load(record.key)
        stored = await super().reserve(record)
        if before is not None:
            assert before == stored, "a reservation changed what was known"
            assert before == await self.load(record.key), "a reservation changed what was known"
        elif record.claim_token is None:
            assert (State.RESERVED, 0, 0) == (record.state, record.epoch, record.attempts)
        else:
            assert (State.SENDING, 1, 1) == (record.state, record.epoch, record.attempts)
            assert record.lease_until > record.created_at
            self.ways["one commit"] += 1
        assert not record.in_doubt
        return stored

    async def claim(self, key: tuple[str, str], **claim: Unpack[Claim]) -> IdempotencyRecord | None:
        """Check the step of a claim."""
        before = await self.load(key)
        claimed = await super().claim(key, **claim)
        if before is not None and claimed is not None:
            self.ways["two commits"] += 1
            check_step(before, claimed)
            assert claimed.claim_token == claim.get("token"), "a claim of another was found"
        return claimed

    async def record(self, record: IdempotencyRecord) -> bool:
        """Check the step of an outcome."""
        before = await self.load(record.key)
        written = await super().record(record)
        if before is not None and written:
            check_step(before, record)
        return written

    async def due(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Check the steps of a sweep."""
        before = {record.key: record for record in self.list_records()}
        due = await super().due(app_key, now, limit=limit)
        for record in self.list_records():
            if record != before[record.key]:
                check_step(before[record.key], record)
        return due

    def list_records(self) -> list[IdempotencyRecord]:
        """Return every record."""
        return [*self._active.values(), *map(unpack, self._finished.values())]


def check_step(before: IdempotencyRecord, after: IdempotencyRecord) -> None:
    """Check that one write may follow another."""
    step = (before.state, after.state)
    assert before.epoch <= after.epoch, "the fencing token fell"
    assert after.in_doubt or not before.in_doubt, "a doubt was forgotten"
    # Only a payment is closed after its end, for the next credential of its order.
    stays = before.state is after.state or after.state == "reissued"
    assert before.state not in FINISHED or stays, f"{step}: final is final"
    if step == (State.SENDING, State.SENDING) and before.epoch == after.epoch:
        assert after.claim_token is not None
        assert before.claim_token == after.claim_token, "a claim of another was found"
    elif step == (State.SENDING, State.SENDING):  # by way of UNKNOWN: the lease ran out
        assert after.in_doubt
    else:
        assert before.state is after.state or step in EDGES, f"{step} is not in the table"
    if before.in_doubt:
        assert after.state not in {State.RESERVED, State.REJECTED}, (
            "a doubt was settled by a refusal"
        )
    assert after.in_doubt or after.state is not State.UNKNOWN


@define(eq=False)
class Connection(MemoryStore):
    """A process's connection to the store; once the process is dead, nothing passes."""

    store: CheckedStore = field(kw_only=True)
    alive: bool = True
    crashes_after_claiming: bool = False
    unwritable: bool = False
    lost_answers: int = 0

    def _check(self, kind: type[WxPayError] = NotSentError) -> None:
        if not self.alive:
            raise kind("this process is dead")

    async def reserve(self, record: IdempotencyRecord) -> IdempotencyRecord:
        """Pass it on; if it is a claim, too, it is treated as one."""
        self._check()
        stored = await self.store.reserve(record)
        if record.claim_token is not None:
            self._end_claim()
        return stored

    async def claim(self, key: tuple[str, str], **claim: Unpack[Claim]) -> IdempotencyRecord | None:
        """Pass it on; the commit may be the last thing that this process does."""
        self._check()
        claimed = await self.store.claim(key, **claim)
        self._end_claim()
        return claimed

    def _end_claim(self) -> None:
        self.alive = self.alive and not self.crashes_after_claiming
        self._check()
        if self.lost_answers:
            self.lost_answers -= 1
            raise NotSentError("the answer to a claim got lost")

    async def record(self, record: IdempotencyRecord) -> bool:
        """Pass it on, unless it is out of reach by now."""
        self._check(InDoubtError)
        if self.unwritable:
            raise InDoubtError("the store does not answer")
        return await self.store.record(record)

    async def load(self, key: tuple[str, str]) -> IdempotencyRecord | None:
        """Pass it on."""
        self._check()
        return await self.store.load(key)

    async def find_open(self, app_key: str, out_trade_no: str) -> list[IdempotencyRecord]:
        """Pass it on."""
        self._check()
        return await self.store.find_open(app_key, out_trade_no)

    async def due(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Pass it on."""
        self._check()
        return await self.store.due(app_key, now, limit=limit)


@define(eq=False)
class Turnstile:
    """A quota that never runs out, and counts who holds a slot of it.

    Where callers have to queue, nobody is told at once that a slot is free: then the reservation
    and the claim of a first attempt are two commits, and else they are one.
    """

    queues: bool = False
    taken: int = 0

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Take a slot."""
        del lane, timeout
        self.taken += 1
        return CountedSlot(self)

    async def acquire_now(self, lane: Lane) -> Slot | None:
        """Take a slot, if nobody has to queue."""
        return None if self.queues else await self.acquire(lane, timeout=0)

    async def throttled(self) -> None:
        """Change nothing."""

    async def aclose(self) -> None:
        """Release nothing."""


@define(eq=False)
class CountedSlot:
    """A slot that ends once, with its report."""

    turnstile: Turnstile

    async def answered(self) -> None:
        """End."""
        self.turnstile.taken -= 1

    doubtful = unsent = answered


@frozen(kw_only=True)
class Meanwhile:
    """What another process does while a request is out and its sender is paused."""

    seconds: float
    action: str
    net: Net
    early: bool
    in_query: bool


@define(eq=False, kw_only=True)
class Process:
    """One gateway over the shared store, and what its network will do."""

    connection: Connection
    turnstile: Turnstile
    gateway: PayGateway
    transport: MemoryTransport
    nets: list[Net] = field(factory=list)
    asked: Net = Net.ANSWERED
    meanwhile: Meanwhile | None = None

    def next_net(self) -> Net:
        """Return what becomes of the next request; the last one drawn stays."""
        if not self.nets:
            return Net.ANSWERED
        return self.nets.pop(0) if len(self.nets) > 1 else self.nets[0]


@define(eq=False)
class Purchase:
    """One purchase, under one requestId after another."""

    kind: str
    name: str
    generation: int = 0

    @property
    def request_id(self) -> str:
        """The id of the generation."""
        return f"{self.name}-{self.generation}"

    @property
    def out_trade_no(self) -> str:
        """The order: another for each generation, since the last was refused for good."""
        return f"O-{self.name}" if self.kind == "pay" else f"N-{self.request_id}"

    def is_concerned_by(self, request: HttpRequest) -> bool:
        """Tell whether an HTTP request, a query included, is about this purchase."""
        params = dict(parse_qsl(request.body.decode()))
        content = json.loads(params.get("bizContent", "{}"))
        about = (content.get("requestId"), params.get("outTradeNo"))
        return self.request_id == about[0] or self.out_trade_no == about[1]

    def request(self, yuan: str) -> Request:
        """Make the request."""
        number = self.out_trade_no
        if self.kind == "pay":
            order = None if self.name == "blind" else number
            return asking.pay(self.request_id, pay_token=f"token-{yuan}", out_trade_no=order)
        if self.kind == "refund":
            return asking.refund(self.request_id, out_trade_no=number, refund_amount=yuan)
        items, method = [asking.item(number, yuan)], asking.method(yuan)
        return asking.trade(self.request_id, trade_info=items, pay_method=method)

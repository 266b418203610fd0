"""Calls of two processes over a network that is drawn, and what their callers may be told."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Awaitable
from typing import Any
from urllib.parse import parse_qsl

from hypothesis.stateful import RuleBasedStateMachine, invariant

from tests.engine.life import (
    CRASHES,
    DELIVERED_LATER,
    LOST_ANSWERS,
    NAMES,
    NOT_REACHED,
    REFUSALS,
    STATUS,
    YEAR,
    CheckedStore,
    Connection,
    Meanwhile,
    Net,
    Platform,
    Process,
    Purchase,
    Turnstile,
    make_answer,
)
from tests.support.clock import MovedClock
from tests.support.platform import APP_KEY, SECRET
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.reissue import next_request_id
from wxpay_async.errors import (
    AlreadyPaidError,
    FailedError,
    Fate,
    NotExecutedError,
    NotSentError,
    PrepayExpiredError,
    WxPayError,
)
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import FINAL, State
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import HttpRequest, HttpResponse


class JudgedCalls(RuleBasedStateMachine):
    """Two processes, five purchases, one store, one platform; each answer is judged."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner()
        self.clock = MovedClock()
        self.platform = Platform(self.clock)
        self.store = CheckedStore(retention=YEAR)
        self.purchases = {name: Purchase(kind, name) for name, kind in NAMES.items()}
        self.purchases["blind"] = Purchase("pay", "blind")
        self.platform.orders = {"O-pay": "待付款"}
        self.yuan: dict[str, str] = {}
        self.sent: dict[str, str] = {}
        self.nonces: set[str] = set()
        self.denials: dict[str, WxPayError] = {}
        self.credentials: set[str] = set()
        self.refused: set[str] = set()
        self.deviated = False
        self.processes: list[Process] = []

    def start_process(self) -> Process:
        """Start a process."""
        connection = Connection(store=self.store)
        turnstile = Turnstile()
        transport = MemoryTransport(lambda request: self.carry(process, request))
        gateway = PayGateway(
            APP_KEY,
            Md5Signer(SECRET),
            transport=transport,
            store=connection,
            limiter=turnstile,
            clock=self.clock,
            refunds_queryable=self.platform.queryable,
        )
        gateway._dispatcher.in_process = self.in_process
        process = Process(
            connection=connection, turnstile=turnstile, gateway=gateway, transport=transport
        )
        return process

    def teardown(self) -> None:
        """Close the loop, which must have nothing left to do."""
        self.runner.close()

    # The network

    async def carry(self, process: Process, request: HttpRequest) -> Any:  # noqa: ANN401 - an answer
        """Carry one request of a process, as was drawn."""
        if not process.connection.alive:
            return NotSentError("this process is dead")
        asks = request.url.endswith("/query")
        if not asks:
            self.check_resend(request)
        net = process.asked if asks else process.next_net()
        meanwhile = process.meanwhile
        if meanwhile is not None and meanwhile.in_query is not asks:
            meanwhile = None
        if meanwhile is not None:
            process.meanwhile = None
        if meanwhile and meanwhile.early:
            await self.overtake(process, request, meanwhile)
        answer = self.pass_on(request, net)
        if net is Net.OTHER_AMOUNT and asks:
            answer = self.change_amount(answer)
        if meanwhile and not meanwhile.early:
            await self.overtake(process, request, meanwhile)
        process.connection.alive = net not in CRASHES
        return answer

    def check_resend(self, request: HttpRequest) -> None:
        """Compare a request with those before it: the same bytes, another nonce, and a claim."""
        params = dict(parse_qsl(request.body.decode()))
        content = params["bizContent"]
        record = self.get_record(json.loads(content)["requestId"])
        assert record is not None
        assert record.state is State.SENDING, f"what is {record.state} was sent"
        assert self.sent.setdefault(json.loads(content)["requestId"], content) == content
        assert params["nonce"] not in self.nonces
        self.nonces.add(params["nonce"])

    def pass_on(self, request: HttpRequest, net: Net) -> Any:  # noqa: ANN401 - an answer
        """Take the request to the platform, or not, and return what comes back."""
        if net in DELIVERED_LATER:
            self.platform.under_way.append(request)
        if net in REFUSALS:
            params = dict(parse_qsl(request.body.decode()))
            self.refused.add(json.loads(params.get("bizContent", "{}")).get("requestId", ""))
        if net in NOT_REACHED:
            return make_answer(NOT_REACHED[net])
        refusal = "GM_API_BUS_000777" if net is Net.REFUSED else None
        answer = self.platform.take(request, STATUS.get(net, "S"), refusal)
        if net is Net.DOUBLED:
            return self.platform.take(request)
        if net is Net.OTHER_ECHO and isinstance(answer, dict):
            answer["data"]["requestId"] = "another"
        return make_answer(LOST_ANSWERS.get(net, answer))

    def change_amount(self, answer: Any) -> Any:  # noqa: ANN401 - an answer
        """Let the answer to one query in a life name another amount."""
        if (
            self.deviated
            or not isinstance(answer, HttpResponse)
            or b"totalAmount" not in answer.body
        ):
            return answer
        self.deviated = True
        return HttpResponse(200, answer.body.replace(b'"totalAmount": "', b'"totalAmount": "98'))

    async def overtake(self, paused: Process, request: HttpRequest, meanwhile: Meanwhile) -> None:
        """Let time pass and the other process act on the same operation."""
        self.clock.move(meanwhile.seconds)
        at = 1 - self.processes.index(paused)
        other = self.processes[at]
        mine = [p for p in self.purchases.values() if p.is_concerned_by(request)]
        if not mine or other.meanwhile is not None:
            return
        other.nets, other.asked = [meanwhile.net], Net.ANSWERED
        if meanwhile.action == "call":
            await self.call_and_judge(at, mine[0], self.yuan[mine[0].request_id])
        elif meanwhile.action == "resolve":
            await self.resolve_and_judge(at, mine[0], reissue=False)
        else:
            await other.gateway.recover()

    # What callers do

    async def call_and_judge(self, at: int, purchase: Purchase, yuan: str) -> None:
        """Make one call and judge what the caller hears; replace a process that died."""
        process, request_id = self.processes[at], purchase.request_id
        earlier = self.denials.get(request_id)
        if earlier is not None and not await self.is_final(request_id):
            del self.denials[request_id]
        call = getattr(process.gateway, purchase.kind)
        outcome = await catch(call(purchase.request(yuan)))
        if process.connection.alive:
            await self.judge(request_id, outcome)
        else:
            self.processes[at] = self.start_process()

    async def resolve_and_judge(self, at: int, purchase: Purchase, *, reissue: bool) -> None:
        """Resolve one operation and judge the outcome."""
        resolve = self.processes[at].gateway.resolve
        outcome = await resolve(purchase.request_id, reissue=reissue)
        request_id = purchase.request_id
        if reissue and purchase.kind == "pay":
            request_id = getattr(outcome.result, "request_id", None) or ""
        if request_id:
            await self.judge(request_id, outcome.error or outcome.result)

    async def judge(self, request_id: str, outcome: object) -> None:
        """Compare what a caller was told with what the platform did."""
        request_id = await self.find_standing(request_id)
        if not isinstance(outcome, WxPayError):
            assert request_id in self.platform.executions, f"{request_id}: told ok, never executed"
            assert self.sent[request_id] == self.platform.executions[request_id].content
            self.credentials.add(request_id)
            self.what_was_denied_never_happens()
        elif isinstance(outcome, AlreadyPaidError):
            assert self.platform.orders["O-pay"] == "已付款", f"{request_id}: told paid, and is not"
        elif isinstance(outcome, PrepayExpiredError):
            assert request_id in self.platform.executions, f"{request_id}: expired, never made"
        elif outcome.fate is not Fate.IN_DOUBT:
            self.denials[request_id] = outcome
            self.what_was_denied_never_happens()

    async def find_standing(self, request_id: str) -> str:
        """Return the payment that a closed one answers for; any other operation itself."""
        record = await self.store.load((APP_KEY, request_id))
        while record is not None and record.state is State.REISSUED:
            request_id = next_request_id(APP_KEY, request_id)
            record = await self.store.load((APP_KEY, request_id))
        return request_id

    async def is_final(self, request_id: str) -> bool:
        """Tell whether the record is settled for good."""
        record = await self.store.load((APP_KEY, request_id))
        return record is not None and record.state in FINAL

    def is_executed(self, request_id: str) -> bool:
        """Tell whether the platform executed what we sent, and not as a failure."""
        execution = self.platform.executions.get(request_id)
        if execution is None or execution.status == "F":
            return False
        return execution.content == self.sent.get(request_id)

    def is_harmful(self, request_id: str, denial: WxPayError) -> bool:
        """Tell whether what a caller was denied has happened.

        A prepay moves no money. So for a payment whose order a query found closed, it is the order
        that must not be paid, and for one that was found unpaid, the credential must not be out.
        """
        handed_out = request_id in self.credentials
        if self.pays_order(request_id) and isinstance(denial, FailedError):
            return handed_out and self.platform.orders["O-pay"] == "已付款"
        if self.pays_order(request_id) and isinstance(denial, NotExecutedError):
            return handed_out
        return self.is_executed(request_id)

    def pays_order(self, request_id: str) -> bool:
        """Tell whether it is a payment of the order that a query finds."""
        record = self.get_record(request_id)
        return record is not None and record.out_trade_no == "O-pay"

    def get_record(self, request_id: str) -> IdempotencyRecord | None:
        """Return the record."""
        return self.store._find((APP_KEY, request_id))

    @invariant()
    def nothing_is_held_between_calls(self) -> None:
        """Whatever a call ended with, its slot of the quota and its place are free again."""
        for process in self.processes:
            held = (
                process.turnstile.taken,
                process.gateway._dispatcher._services.concurrency._under_way,
            )
            assert held == (0, 0), f"held for nothing: {held}"

    @invariant()
    def what_was_denied_never_happens(self) -> None:
        """What was reported as refused or not sent is not executed, then or later."""
        for request_id, denial in self.denials.items():
            assert not self.is_harmful(request_id, denial), f"{request_id}: told {denial!r}"


async def catch(call: Awaitable[object]) -> object:
    """Return what a caller gets: the result, or the error."""
    try:
        return await call
    except WxPayError as error:
        return error

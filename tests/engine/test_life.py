"""Random lives of operations: calls, networks, crashes and pauses against a model of the platform.

A machine drives two processes over one store against a small model of the platform. Whatever is
drawn, what a caller was told and what a record says must agree with what the platform executed.

Assumed of the platform, and nothing else: a requestId is executed at most once; a request expires
300 s after its timestamp by the platform's clock, which the `Date` of an answer tells; a query
finds what was executed (a refund only where `refunds_queryable` says so). That clock may be 600 s
late or 400 s ahead, and ours is put wrong, and right again, at any time.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import Awaitable, Iterator, Mapping
from typing import Any, Final
from urllib.parse import parse_qsl

import attrs
import pytest
from hypothesis import HealthCheck, settings, strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from tests.engine.life import (
    CRASHES,
    DELIVERED_LATER,
    EXPIRY,
    LOST_ANSWERS,
    NOT_REACHED,
    NOTHING_MOVED,
    QUERY_NETS,
    REFUSALS,
    STATUS,
    YEAR,
    CheckedStore,
    Connection,
    Execution,
    Meanwhile,
    Net,
    Platform,
    Process,
    Purchase,
    make_answer,
    make_refund_callback,
)
from tests.support.clock import MovedClock
from tests.support.examples import count_examples
from tests.support.platform import (
    APP_KEY,
    FORM,
    SECRET,
    VERIFIER,
    encode_callback,
    sign_callback,
)
from wxpay_async.adapters.limiters.limiter import Unlimited
from wxpay_async.adapters.transports.memory import MemoryTransport
from wxpay_async.engine import call, replay, resolver
from wxpay_async.engine.call import Call
from wxpay_async.engine.callbacks import CallbackReceiver
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.errors import (
    AlreadyPaidError,
    FailedError,
    Fate,
    IdempotencyConflictError,
    InvalidRequestError,
    NotExecutedError,
    NotSentError,
    PrepayExpiredError,
    WxPayError,
)
from wxpay_async.policy import resolution, review
from wxpay_async.policy.record import LEASE, OPEN, IdempotencyRecord
from wxpay_async.policy.review import ReviewVerdict
from wxpay_async.policy.states import FINAL, FINISHED, REVIEW, State, Transition
from wxpay_async.protocol.notify import ACK_HANDLED, Notification, Notifications
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

EXAMPLES: Final = count_examples(quick=20, full=100)
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
    action=st.sampled_from(["call", "recover", "resolve"]),
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
        self.spoilt = False

    @initialize(
        skew=st.sampled_from([0.0, 0.0, -250.0, -400.0, -600.0, 400.0]),
        queryable=st.booleans(),
        in_process=st.booleans(),
    )
    def begin(self, *, skew: float, queryable: bool, in_process: bool) -> None:
        """Open both processes; the platform's clock and habits are drawn once."""
        self.platform.skew, self.platform.queryable = skew, queryable
        self.in_process = in_process
        self.processes = [self.start_process(), self.start_process()]

    def start_process(self) -> Process:
        """Start a process."""
        connection = Connection(store=self.store)
        transport = MemoryTransport(lambda request: self.carry(process, request))
        gateway = PayGateway(
            APP_KEY,
            Md5Signer(SECRET),
            transport=transport,
            store=connection,
            limiter=Unlimited(),
            clock=self.clock,
            refunds_queryable=self.platform.queryable,
        )
        gateway._dispatcher._in_process = self.in_process
        process = Process(connection=connection, gateway=gateway, transport=transport)
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
            answer = self.spoil(answer)
        if meanwhile and not meanwhile.early:
            await self.overtake(process, request, meanwhile)
        process.connection.alive = net not in CRASHES
        return answer

    def check_resend(self, request: HttpRequest) -> None:
        """Compare a request with those before it: the same bytes, another nonce."""
        params = dict(parse_qsl(request.body.decode()))
        content = params["bizContent"]
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

    def spoil(self, answer: Any) -> Any:  # noqa: ANN401 - an answer
        """Let the answer to one query in a life name another amount."""
        if self.spoilt or not isinstance(answer, HttpResponse) or b"totalAmount" not in answer.body:
            return answer
        self.spoilt = True
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

    async def is_final(self, request_id: str) -> bool:
        """Tell whether the record is settled for good."""
        entry = await self.store.load((APP_KEY, request_id))
        return entry is not None and entry.state in FINAL

    def executed(self, request_id: str) -> bool:
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
        unwritable=st.sampled_from([False, False, True]),
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
        unwritable: bool = False,
    ) -> None:
        """Call with the purchase's content, or with another one under its requestId."""
        purchase, process = self.purchases[name], self.processes[at]
        known = self.yuan.setdefault(purchase.request_id, "1.00")
        process.nets, process.asked, process.meanwhile = list(nets), asked, meanwhile
        process.connection.unwritable = unwritable
        if not other:
            self.runner.run(self.call_and_judge(at, purchase, known))
        elif self.get_record(purchase.request_id) is not None:
            self.conflict(process, purchase)
        process.meanwhile, process.connection.unwritable = None, False

    def conflict(self, process: Process, purchase: Purchase) -> None:
        """Other content under a known requestId is refused, and nothing is sent."""
        calls = process.transport.calls
        call = getattr(process.gateway, purchase.kind)
        outcome = self.runner.run(catch(call(purchase.request("2.00"))))
        assert isinstance(outcome, IdempotencyConflictError)
        assert outcome.fields
        assert calls == process.transport.calls

    @rule(name=PURCHASES, at=PROCESSES, asked=ASKED, reissue=st.booleans(), meanwhile=MEANWHILE)
    def resolve(
        self, *, name: str, at: int, asked: Net, reissue: bool, meanwhile: Meanwhile | None
    ) -> None:
        """Find out what became of one operation."""
        purchase, process = self.purchases[name], self.processes[at]
        process.nets, process.asked, process.meanwhile = [], asked, meanwhile
        if self.get_record(purchase.request_id) is not None:
            self.runner.run(self.resolve_and_judge(at, purchase, reissue=reissue))
        process.meanwhile = None

    @precondition(lambda self: self.platform.under_way)
    @rule(at=PROCESSES, times=st.integers(2, 7), wrong_by=st.none() | WRONG)
    def keep_asking(self, *, at: int, times: int, wrong_by: float | None) -> None:
        """Resolve everything again and again, 61 s apart; then what was delayed arrives.

        Before that, crash while sending it once more by a clock that was put wrong.
        """
        if wrong_by is not None:
            self.clock.wrong_by = wrong_by
            self.send_again(at, self.platform.under_way[-1])
        self.processes[at].asked = Net.ANSWERED
        known = [p for p in self.purchases.values() if self.get_record(p.request_id) is not None]
        for _ in range(times):
            for purchase in known:
                self.runner.run(self.resolve_and_judge(at, purchase, reissue=False))
            self.clock.move(61.0)
        while self.platform.under_way:
            self.platform.take(self.platform.under_way.pop())

    def send_again(self, at: int, request: HttpRequest) -> None:
        """Crash while sending a request once more, and let the lease run out.

        The question that goes before gets no answer: one that says "expired" would set the clock.
        """
        self.processes[at].asked = Net.LOST_BEFORE
        for purchase in self.purchases.values():
            if purchase.is_concerned_by(request):
                self.processes[at].nets = [Net.CRASH_BEFORE]
                self.runner.run(self.call_and_judge(at, purchase, self.yuan[purchase.request_id]))
        self.clock.move(LEASE)
        self.runner.run(self.processes[at].gateway.recover())

    @rule(name=PURCHASES, at=PROCESSES, asked=ASKED)
    def judge_by_person(self, *, name: str, at: int, asked: Net) -> None:
        """Let a person say what became of an operation that no machine found out."""
        request_id = self.purchases[name].request_id
        record = self.get_record(request_id)
        if record is None:
            return
        if record.state not in REVIEW:
            self.refuse_verdict(at, request_id)
            return
        execution = self.platform.executions.get(request_id)
        if execution is not None and execution.status == "P":
            return
        verdict = ReviewVerdict(executed=self.executed(request_id), by="a person")
        self.processes[at].asked = asked
        resolve = self.processes[at].gateway.resolve
        outcome = self.runner.run(catch(resolve(request_id, verdict=verdict)))
        assert not isinstance(outcome, WxPayError)
        assert self.get_record(request_id).state in FINISHED  # type: ignore[union-attr] # it was sent, so it is there

    def refuse_verdict(self, at: int, request_id: str) -> None:
        """What goes on, or has ended, is settled by no person."""
        before = self.get_record(request_id)
        verdict = ReviewVerdict(executed=False, by="a person")
        resolve = self.processes[at].gateway.resolve
        outcome = self.runner.run(catch(resolve(request_id, verdict=verdict)))
        assert isinstance(outcome, InvalidRequestError), "a person settled what is open"
        assert before == self.get_record(request_id)

    @rule(name=st.sampled_from(["pay", "blind"]))
    def lose_key(self, *, name: str) -> None:
        """Lose the key that seals the reply of a payment: what it says is not known any more."""
        record = self.get_record(self.purchases[name].request_id)
        if record is not None and record.state is State.SUCCEEDED and record.reply is not None:
            self.store._keep(attrs.evolve(record, reply=None))

    @rule(name=st.sampled_from(["refund", "again"]), at=PROCESSES, asked=ASKED)
    def hear_of_a_refund(self, *, name: str, at: int, asked: Net) -> None:
        """Let the platform tell how a refund ended: nothing of it stays open."""
        request_id = self.purchases[name].request_id
        execution = self.platform.executions.get(request_id)
        if execution is None or execution.status == "P":
            return
        fields = make_refund_callback(json.loads(execution.content), well=execution.status == "S")
        now = self.clock.true_time() + self.platform.skew
        body = encode_callback(sign_callback(fields, at=now))
        record = self.get_record(request_id)
        heard = self.deliver(at, asked, body)
        if record is None or record.state not in OPEN or record.duplicate_at_first:
            return
        later = self.get_record(request_id)
        fresh = abs(now - self.clock.time()) <= EXPIRY
        if self.executed(request_id) and fresh and heard:
            assert later is not None
            assert later.state is State.SUCCEEDED, f"{request_id}: heard of, and left open"

    @rule(name=st.sampled_from(["refund", "again"]), at=PROCESSES, asked=ASKED, well=st.booleans())
    def hear_a_forger(self, *, name: str, at: int, asked: Net, well: bool) -> None:
        """Let anybody tell how a refund ended, signed by nobody."""
        purchase = self.purchases[name]
        content = json.loads(self.sent.get(purchase.request_id, "{}"))
        if content:
            self.deliver(at, asked, encode_callback(make_refund_callback(content, well=well)))

    def deliver(self, at: int, asked: Net, body: bytes) -> bool:
        """Deliver a callback to a process; tell whether it was taken."""
        process = self.processes[at]
        process.asked = asked
        notifications = Notifications(VERIFIER, app_key=APP_KEY, clock=self.clock.time)
        receiver = CallbackReceiver(
            process.gateway, notifications, on_refund=lambda _: None, clock=self.clock
        )
        return ACK_HANDLED == self.runner.run(receiver.receive(FORM, body))

    @rule(at=PROCESSES, asked=ASKED, meanwhile=MEANWHILE)
    def recover(self, *, at: int, asked: Net, meanwhile: Meanwhile | None) -> None:
        """Check everything that is due."""
        process = self.processes[at]
        process.asked, process.meanwhile = asked, meanwhile
        self.runner.run(process.gateway.recover())
        process.meanwhile = None

    @rule(name=PURCHASES, at=PROCESSES)
    def crash_after_claiming(self, *, name: str, at: int) -> None:
        """Crash between the commit of a claim and the first byte."""
        purchase, process = self.purchases[name], self.processes[at]
        yuan = self.yuan.setdefault(purchase.request_id, "1.00")
        process.nets, process.connection.crashes_after_claiming = [Net.ANSWERED], True
        self.runner.run(self.call_and_judge(at, purchase, yuan))
        self.processes[at].connection.crashes_after_claiming = False

    @rule(name=PURCHASES, at=PROCESSES, losses=st.integers(1, 3))
    def lose_answers_to_claims(self, *, name: str, at: int, losses: int) -> None:
        """Commit claims whose answers do not arrive: nothing is sent under them."""
        purchase, process = self.purchases[name], self.processes[at]
        yuan = self.yuan.setdefault(purchase.request_id, "1.00")
        process.nets, process.connection.lost_answers = [Net.ANSWERED], losses
        before = self.get_record(purchase.request_id)
        self.runner.run(self.call_and_judge(at, purchase, yuan))
        self.processes[at].connection.lost_answers = 0
        after = self.get_record(purchase.request_id)
        # A store in the process's own memory loses no answers, so nothing there looks for them.
        if not self.in_process and (before is None or before.state is not State.SENDING):
            assert after is None or after.state is not State.SENDING, "locked out by its own claim"

    @rule(name=PURCHASES)
    def start_over(self, *, name: str) -> None:
        """Take a new requestId, as a caller may whose operation was refused for good."""
        purchase = self.purchases[name]
        record = self.get_record(purchase.request_id)
        final = record is not None and record.state in FINAL
        if final and purchase.kind != "pay" and purchase.request_id in self.denials:
            purchase.generation += 1

    # What the world does

    @rule(seconds=st.sampled_from([1.0, 6.0, 46.0, 61.0, 130.0, 299.0, 601.0, 3_600.0, 90_000.0]))
    def wait(self, *, seconds: float) -> None:
        """Let time pass."""
        self.clock.move(seconds)

    @rule(wrong_by=WRONG)
    def put_clock(self, *, wrong_by: float) -> None:
        """Put the machine's wall clock wrong, or right again."""
        self.clock.wrong_by = wrong_by

    @precondition(lambda self: self.platform.under_way)
    @rule(last=st.booleans())
    def arrive(self, *, last: bool) -> None:
        """Deliver a request that its sender has given up."""
        self.platform.take(self.platform.under_way.pop(-1 if last else 0))

    @rule(name=PURCHASES)
    def take_request_id(self, *, name: str) -> None:
        """Let another client use the requestId first, for another amount."""
        purchase = self.purchases[name]
        if purchase.kind != "pay" and self.get_record(purchase.request_id) is None:
            order = purchase.out_trade_no
            content: dict[str, Any] = {"requestId": purchase.request_id, "refundAmount": "9.00"}
            if purchase.kind == "trade":
                item = {"outTradeNo": order, "totalAmount": "9.00"}
                content = {"requestId": purchase.request_id, "tradeInfo": [item]}
            execution = Execution(json.dumps(content), order, "S")
            self.platform.executions.setdefault(purchase.request_id, execution)

    @precondition(lambda self: any(e.status == "P" for e in self.platform.executions.values()))
    @rule(well=st.booleans())
    def settle_refunds(self, *, well: bool) -> None:
        """End what the platform had under way."""
        for execution in self.platform.executions.values():
            if execution.status == "P":
                execution.status = "S" if well else "F"

    @precondition(lambda self: "pay-0" in self.platform.executions)
    @rule(paid=st.booleans())
    def end_order(self, *, paid: bool) -> None:
        """Let a person pay with a credential that was handed out, or close the order."""
        if self.platform.orders["O-pay"] == "待付款" and (not paid or "pay-0" in self.credentials):
            self.platform.orders["O-pay"] = "已付款" if paid else "已关闭"

    # What always holds

    def get_record(self, request_id: str) -> IdempotencyRecord | None:
        """Return the record."""
        return self.store._find((APP_KEY, request_id))

    @invariant()
    def what_was_denied_never_happens(self) -> None:
        """What was reported as refused or not sent is not executed, then or later."""
        for request_id, denial in self.denials.items():
            assert not self.is_harmful(request_id, denial), f"{request_id}: told {denial!r}"

    @invariant()
    def records_agree_with_the_platform(self) -> None:
        """What a record says of the money is what the platform did."""
        for entry in self.store.list_records():
            is_pay = entry.operation == "pay"
            if entry.state in NOTHING_MOVED and not (is_pay and entry.in_doubt):
                assert not self.executed(entry.request_id), f"{entry.request_id}: {entry.state}"
            ours = self.executed(entry.request_id)
            assert entry.state is not State.CONFLICT or not ours, f"{entry.request_id}: conflict"
            rejected = entry.state is State.REJECTED
            assert not rejected or entry.request_id in self.refused, "a passing refusal sticks"
            if entry.state is State.SUCCEEDED and not is_pay:
                assert self.executed(entry.request_id), f"{entry.request_id}: {entry.state}"

    @invariant()
    def nothing_is_executed_twice(self) -> None:
        """However many requestIds a refund or trade has had, one of them moved money."""
        for purchase in self.purchases.values():
            ids = [f"{purchase.name}-{n}" for n in range(purchase.generation + 1)]
            assert sum(self.executed(request_id) for request_id in ids) <= 1


async def catch(call: Awaitable[object]) -> object:
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


def run_late_arrival(operation: str, wrong_by: float | None = None) -> None:
    """Delay a request by minutes, ask each minute what became of it, and let it arrive."""
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
        life.records_agree_with_the_platform()
    finally:
        life.teardown()


@pytest.mark.parametrize("operation", ["refund", "trade"])
@pytest.mark.parametrize("wrong_by", [None, *WRONGS])
def test_request_that_arrives_minutes_late_was_never_denied(
    operation: str, wrong_by: float | None
) -> None:
    """Two minutes in which a query finds nothing prove nothing.

    Not even where the request was sent once more, by a clock that was put wrong meanwhile.
    """
    run_late_arrival(operation, wrong_by)


@pytest.mark.parametrize("operation", ["refund", "trade"])
@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_machine_catches_a_quarantine_that_is_too_short(
    operation: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absence is taken for proof at once, or after a minute."""
    monkeypatch.setattr(resolution, "QUARANTINE", seconds)

    with pytest.raises(AssertionError, match=r"told NotExecutedError|not_executed"):
        run_late_arrival(operation)


@pytest.mark.parametrize("operation", ["refund", "trade"])
def test_machine_catches_a_quarantine_from_the_last_timestamp(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was signed before the clock was put back is forgotten."""
    claimed = IdempotencyRecord.with_claim

    def forget(
        self: IdempotencyRecord, *, now: float, signed_at: int, lease: float, token: str | None
    ) -> IdempotencyRecord:
        after = claimed(self, now=now, signed_at=signed_at, lease=lease, token=token)
        return attrs.evolve(after, signed_at=signed_at)

    monkeypatch.setattr(IdempotencyRecord, "with_claim", forget)

    with pytest.raises(AssertionError, match=r"told NotExecutedError|not_executed"):
        run_late_arrival(operation, -600.0)


@pytest.mark.parametrize("operation", ["refund", "trade"])
def test_machine_catches_a_refusal_that_is_taken_for_absence(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The platform is busy when it is asked about an operation whose answer got lost."""
    life = Life()
    try:
        life.begin(skew=0.0, queryable=True, in_process=True)
        monkeypatch.setattr(resolver, "says_absent", lambda *_: True)
        kinds = {"nets": [Net.LOST_AFTER], "asked": Net.BUSY, "meanwhile": None}
        life.call(name=operation, other=False, at=0, **kinds)
        for seconds in (601.0, 61.0):
            life.wait(seconds=seconds)
            life.processes[0].asked = Net.BUSY
            purchase = life.purchases[operation]
            outcome = life.runner.run(life.processes[0].gateway.resolve(purchase.request_id))
        assert isinstance(outcome.error, NotExecutedError)
        with pytest.raises(AssertionError, match="not_executed"):
            life.records_agree_with_the_platform()
    finally:
        life.teardown()


def test_quarantine_covers_a_platform_that_is_late_and_tells_no_time() -> None:
    """At 250 s behind us it takes a request for 550 s, and the quarantine is longer."""
    assert EXPIRY + 250.0 < resolution.QUARANTINE


@contextlib.contextmanager
def live() -> Iterator[Life]:
    """Begin a life in which nothing is random."""
    life = Life()
    try:
        life.begin(skew=0.0, queryable=True, in_process=False)
        yield life
    finally:
        life.teardown()


def send(life: Life, name: str, net: Net, asked: Net = Net.LOST_BEFORE) -> None:
    """Call once; what becomes of the request and of the queries is given."""
    life.call(name=name, other=False, at=0, nets=[net], asked=asked, meanwhile=None)


def test_machine_catches_a_claim_that_does_not_know_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The answer to a claim gets lost, and the repetition waits for the end of its own lease."""
    monkeypatch.setattr(IdempotencyRecord, "_is_held_by", lambda *_: False)
    monkeypatch.setattr(Call, "_find_lost_claim", find_nothing)

    with live() as life, pytest.raises(AssertionError, match="locked out by its own claim"):
        life.lose_answers_to_claims(name="refund", at=0, losses=1)


async def find_nothing(_: object) -> None:
    """Find no claim, as a call does that has no token to look for."""


def test_machine_catches_a_claim_of_another_that_is_taken_for_ones_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever asks gets what another process has claimed, and there are two senders."""
    monkeypatch.setattr(
        IdempotencyRecord, "_is_held_by", lambda self, *_: self.state is State.SENDING
    )

    with live() as life:
        life.crash_after_claiming(name="refund", at=0)
        with pytest.raises(AssertionError, match="a claim of another was found"):
            send(life, "refund", Net.ANSWERED)


def test_machine_catches_a_forged_callback_that_is_believed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Anybody says that a refund was made that never arrived."""
    read = Notifications.parse

    def believe(self: Notifications, headers: Mapping[str, str], body: bytes) -> Notification:
        return attrs.evolve(read(self, headers, body), authentic=True, fresh=True)

    monkeypatch.setattr(Notifications, "parse", believe)

    with live() as life:
        send(life, "refund", Net.LOST_BEFORE)
        life.hear_a_forger(name="refund", at=0, asked=Net.ANSWERED, well=True)
        with pytest.raises(AssertionError, match="succeeded"):
            life.records_agree_with_the_platform()


async def settle_nothing(*_: object) -> int:
    """Do what was done before callbacks settled anything."""
    return 0


def test_machine_catches_a_callback_that_leaves_open_what_it_tells_of(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The platform says that the refund was made, and its record waits for a query."""
    monkeypatch.setattr(PayGateway, "apply_notification", settle_nothing)

    with live() as life:
        send(life, "refund", Net.LOST_AFTER)
        with pytest.raises(AssertionError, match="heard of, and left open"):
            life.hear_of_a_refund(name="refund", at=0, asked=Net.ANSWERED)


def test_machine_catches_an_issued_payment_that_is_called_paid(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The reply with the credential does not open any more, and the order is called paid."""
    paid = AlreadyPaidError("the order is paid")
    monkeypatch.setattr(replay, "error_without_reply", lambda _: paid)

    with live() as life:
        send(life, "pay", Net.ANSWERED)
        life.lose_key(name="pay")
        with pytest.raises(AssertionError, match="told paid, and is not"):
            send(life, "pay", Net.ANSWERED)


def test_machine_catches_a_refusal_of_the_configuration_that_sticks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A bad signature is taken for the platform's word about the refund."""
    monkeypatch.setattr(call, "transition_for", lambda _: Transition.REFUSED)

    with live() as life:
        send(life, "refund", Net.BAD_SIGNATURE)
        with pytest.raises(AssertionError, match="a passing refusal sticks"):
            life.records_agree_with_the_platform()


def test_machine_catches_a_conflict_by_one_deviating_answer(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """One query names another amount, and the operation is a conflict."""
    monkeypatch.setattr(resolution, "SEEN_APART", 0.0)

    with live() as life:
        send(life, "refund", Net.LOST_AFTER, Net.OTHER_AMOUNT)
        with pytest.raises(AssertionError, match="conflict"):
            life.records_agree_with_the_platform()


def test_machine_catches_a_person_who_settles_what_is_open(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A person says "not executed" of a refund that is still on its way."""
    monkeypatch.setattr(review, "REVIEW", frozenset(State))

    with live() as life:
        send(life, "refund", Net.DELAYED)
        with pytest.raises(AssertionError, match="a person settled what is open"):
            life.judge_by_person(name="refund", at=0, asked=Net.LOST_BEFORE)

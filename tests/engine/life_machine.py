"""The machine of the random lives: what callers, crashes, the platform and people may do.

A machine drives two processes over one store against a small model of the platform. Whatever is
drawn, what a caller was told and what a record says must agree with what the platform executed.

Assumed of the platform, and nothing else: a requestId is executed at most once; a request expires
300 s after its timestamp by the platform's clock, which the `Date` of an answer tells; a query
finds what was executed (a refund only where `refunds_queryable` says so). That clock may be 600 s
late or 400 s ahead, and ours is put wrong, and right again, at any time.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from typing import Any, Final

import attrs
from hypothesis import strategies as st
from hypothesis.stateful import initialize, invariant, precondition, rule

from tests.engine.life import (
    EXPIRY,
    NAMES,
    NOTHING_MOVED,
    QUERY_NETS,
    Execution,
    Meanwhile,
    Net,
    Process,
    Purchase,
    make_refund_callback,
)
from tests.engine.life_calls import JudgedCalls, catch
from tests.support.platform import APP_KEY, FORM, VERIFIER, encode_callback, sign_callback
from wxpay_async.engine.callbacks import CallbackReceiver
from wxpay_async.errors import IdempotencyConflictError, InvalidRequestError, WxPayError
from wxpay_async.policy.record import LEASE, OPEN
from wxpay_async.policy.review import ReviewVerdict
from wxpay_async.policy.states import FINAL, FINISHED, REVIEW, State
from wxpay_async.protocol.notify import ACK_HANDLED, Notifications
from wxpay_async.protocol.wire import HttpRequest

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


class Life(JudgedCalls):
    """Everything that can happen, in any order."""

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

    # What callers do

    @rule(
        name=PURCHASES,
        other=st.sampled_from([False, False, False, True]),
        at=PROCESSES,
        nets=NETS,
        asked=ASKED,
        meanwhile=MEANWHILE,
        unwritable=st.sampled_from([False, False, True]),
        queues=st.booleans(),
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
        queues: bool = False,
    ) -> None:
        """Call with the purchase's content, or with another one under its requestId.

        Callers of both processes queue from now on, or need not: then reservation and first claim
        are one commit.
        """
        purchase, process = self.purchases[name], self.processes[at]
        for each in self.processes:
            each.turnstile.queues = queues
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
        executed = self.is_executed(request_id)
        if name == "pay":  # of a payment a person sees whether its order was paid
            executed = self.platform.orders["O-pay"] == "已付款"
        verdict = ReviewVerdict(executed=executed, by="a person")
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
        if self.is_executed(request_id) and fresh and heard:
            assert later is not None
            assert later.state is State.SUCCEEDED, f"{request_id}: heard of, and left open"

    @rule(name=st.sampled_from(["refund", "again"]), at=PROCESSES, asked=ASKED, well=st.booleans())
    def hear_a_forger(self, *, name: str, at: int, asked: Net, well: bool) -> None:
        """Deliver an unsigned callback that says how a refund ended."""
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

    @rule(name=PURCHASES, at=PROCESSES, queues=st.booleans())
    def crash_after_claiming(self, *, name: str, at: int, queues: bool = False) -> None:
        """Crash between the commit of a claim and the first byte."""
        purchase, process = self.purchases[name], self.processes[at]
        process.turnstile.queues = queues
        yuan = self.yuan.setdefault(purchase.request_id, "1.00")
        process.nets, process.connection.crashes_after_claiming = [Net.ANSWERED], True
        self.runner.run(self.call_and_judge(at, purchase, yuan))
        self.processes[at].connection.crashes_after_claiming = False

    @rule(name=PURCHASES, at=PROCESSES, losses=st.integers(1, 3), queues=st.booleans())
    def lose_answers_to_claims(
        self, *, name: str, at: int, losses: int, queues: bool = False
    ) -> None:
        """Commit claims whose answers do not arrive: nothing is sent under them."""
        purchase, process = self.purchases[name], self.processes[at]
        process.turnstile.queues = queues
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
        payable = any(map(self.pays_order, self.credentials))
        if self.platform.orders["O-pay"] == "待付款" and (not paid or payable):
            self.platform.orders["O-pay"] = "已付款" if paid else "已关闭"

    # What always holds

    @invariant()
    def records_agree_with_the_platform(self) -> None:
        """What a record says of the money is what the platform did."""
        for record in self.store.list_records():
            is_pay, what = record.operation == "pay", f"{record.request_id}: {record.state}"
            ours = self.is_executed(record.request_id)
            assert not ours or record.state not in NOTHING_MOVED or (is_pay and record.in_doubt), (
                what
            )
            assert not ours or record.state is not State.CONFLICT, what
            assert ours or is_pay or record.state is not State.SUCCEEDED, what
            rejected = record.state is State.REJECTED
            assert not rejected or record.request_id in self.refused, "a passing refusal sticks"

    @invariant()
    def nothing_is_executed_twice(self) -> None:
        """However many requestIds a refund or trade has had, one of them moved money."""
        for purchase in self.purchases.values():
            ids = [f"{purchase.name}-{n}" for n in range(purchase.generation + 1)]
            assert sum(self.is_executed(request_id) for request_id in ids) <= 1


@contextlib.contextmanager
def live(*, in_process: bool = False) -> Iterator[Life]:
    """Begin a life in which nothing is random."""
    life = Life()
    try:
        life.begin(skew=0.0, queryable=True, in_process=in_process)
        yield life
    finally:
        life.teardown()


def send(
    life: Life, name: str, net: Net, asked: Net = Net.LOST_BEFORE, *, queues: bool = False
) -> None:
    """Call once; what becomes of the request and of the queries is given."""
    life.call(name=name, other=False, at=0, nets=[net], asked=asked, meanwhile=None, queues=queues)

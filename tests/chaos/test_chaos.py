"""The short forms of the chaos checks, and the mistakes that each of them must catch.

Every check is a script that makes processes of its own, so the tests run it as people do.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import time
from decimal import Decimal

import pytest
from attrs import define, field
from Crypto.PublicKey import RSA

from tests.chaos.breaks import fenced_or_not
from tests.chaos.jobs import Job
from tests.chaos.referee import Accounts
from tests.support.clock import MovedClock
from tests.support.vectors import PRIVATE_KEY, ROOT
from wxpay_async import (
    HttpRequest,
    HttpResponse,
    InDoubtError,
    InProgressError,
    InstantTrade,
    Md5Signer,
    MemoryStore,
    PayGateway,
    PayMethod,
    RetryPolicy,
    Timeouts,
    TradeItem,
    Unlimited,
    WxPayError,
)
from wxpay_async.adapters.limiters.limiter import Lane, Slot
from wxpay_async.adapters.transports.aiohttp import AiohttpTransport
from wxpay_async.errors import Fate
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.state import LedgerEntry

OK, RED = 0, 1
UNTRUE = "unsent_but_executed:"


def options(**values: float) -> list[str]:
    """Return options as the command line takes them."""
    return [part for name, value in values.items() for part in (f"--{name}", str(value))]


FEW = options(payments=20)
STEADY = options(outages=0, rotations=0)
"""Neither the store nor the secret changes: what is looked for is something else."""
CALM = ["--short", *STEADY, *options(timeout=0, page=0, changed=0, lie=0, hidden=0)]
"""Besides, answers are as they are, or get lost."""
OFTEN = [
    *options(outages=2, rotations=1, twice=0.06, late=0.05, decline=0.06),
    *options(timeout=0.07, page=0.07, changed=0.4, lie=0.8, hidden=0.06),
]
"""So that eighty payments meet every fault."""
_TIMEOUT = 120  # seconds until a run that hangs is ended; nothing else depends on it


def play(script: str, *arguments: str) -> tuple[int, str]:
    """Run a script; return its exit status and what it printed."""
    command = [sys.executable, "-m", f"tests.chaos.{script}", *arguments]
    done = subprocess.run(  # noqa: PLW1510 - the status is what the tests look at
        command, capture_output=True, text=True, timeout=_TIMEOUT, cwd=ROOT
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
def test_a_lossy_network_loses_no_money() -> None:
    """A quarter of everything is lost: executed = succeeded, nothing double, nothing in doubt."""
    status, printed = play("lossy", "--payments", "80", "--seed", "1", *OFTEN)

    assert OK == status, printed
    assert "executed anew 0" in printed


@pytest.mark.slow
def test_lossy_catches_faults_that_did_not_happen() -> None:
    """A fault that never struck was not survived either."""
    never = ["--twice", "0.00000001", "--rotations", "0", "--outages", "0"]
    status, printed = play("lossy", "--payments", "10", "--seed", "1", *never)

    assert RED == status, printed
    assert "NEVER HAPPENED twice" in printed


@pytest.mark.slow
def test_a_copy_that_is_answered_instead_loses_no_money() -> None:
    """Of two copies the second one's answer goes back, and it never says "not executed"."""
    copies = ["--second-answers", "--twice", "0.25", *CALM]
    status, printed = play("lossy", "--payments", "40", "--seed", "1", *copies)

    assert OK == status, printed


@pytest.mark.parametrize(
    ("second_answers", "error", "state", "problems"),
    [
        (True, "DuplicateRequestError", "unknown", set()),
        (True, "DuplicateRequestError", "needs_review", set()),
        (True, "DuplicateRequestError", "rejected", {"lost"}),
        (True, "InDoubtError", "unknown", {"lost", "open"}),
        (False, "DuplicateRequestError", "unknown", {"lost", "open"}),
    ],
)
def test_only_a_refund_that_a_copy_makes_look_like_anothers_is_left_to_a_person(
    second_answers: bool,  # noqa: FBT001 - the parameter
    error: str,
    state: str,
    problems: set[str],
) -> None:
    """Nothing echoes which order it went back to; anything else that stays open is a failure."""
    yuan = Decimal("1.00")
    job = Job(app_key="app-key", index=0, number="order-1", amount=yuan, refunded=yuan)
    name = job.request_ids["refund"]
    line = {"op": "refund", "id": name}
    accounts = Accounts(
        purchases=[job],
        history=[line | {"what": "invoke"}, line | {"what": "doubt", "error": error}],
        states={name: state},
        ledger=[
            LedgerEntry(
                kind="refund",
                app_key="app-key",
                request_id=name,
                out_trade_nos=(job.refund_number,),
                amount=yuan,
                at=0.0,
            )
        ],
        second_answers=second_answers,
    )
    accounts.compare()

    assert problems == accounts.problems.keys() & {"lost", "open", "phantom"}


@pytest.mark.parametrize(
    ("shared", "executed_at", "untrue"),
    [
        (False, None, 0),
        (False, 1.5, 1),  # by this very call
        (False, 2.5, 0),  # a request that was late
        (True, 0.5, 1),
        (True, 1.5, 0),  # by another process, perhaps
    ],
)
def test_unsent_is_untrue_of_what_was_executed_before(
    *, shared: bool, executed_at: float | None, untrue: int
) -> None:
    """A word is judged by the moment at which it was said, and not by the end alone."""
    line = {"op": "trade", "id": "t", "worker": 0, "life": 0}
    said = [("invoke", 1.0), ("unsent", 2.0), ("invoke", 3.0), ("ok", 4.0)]
    accounts = Accounts(
        purchases=[],
        history=[line | {"what": what, "at": at} for what, at in said],
        states={},
        ledger=[],
        executed_at={} if executed_at is None else {"t": executed_at},
        shared=shared,
    )
    accounts.compare()

    assert untrue == accounts.figures["unsent_but_executed"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("arguments", "symptom"),
    [
        (["--break", "not-found-final", "--late", "0.25", *CALM], "lost:"),
        (["--break", "new-request-id", *CALM], "double:"),
        (["--break", "duplicate-is-success", "--decline", "0.25", *CALM], "phantom:"),
        (["--break", "timeout-is-refusal", *options(timeout=0.2), *STEADY, *FEW], UNTRUE),
        (["--break", "page-is-refusal", *options(page=0.2), *STEADY, *FEW], UNTRUE),
        (["--break", "mark-is-unreadable", *options(changed=0.6), *STEADY, *FEW], "open:"),
        (["--break", "one-answer-is-proof", *options(hidden=0.15), *STEADY], "lost:"),
        (["--break", "dead-store-means-unsent", *options(outages=3, rotations=0)], UNTRUE),
        (["--break", "one-seal-key", *options(outages=0, rotations=1, payments=80)], "taken_back:"),
    ],
    ids=lambda value: value[1] if isinstance(value, list) else "",
)
def test_lossy_catches_mistakes(arguments: list[str], symptom: str) -> None:
    """The check goes red, and for the reason that the mistake gives."""
    status, printed = play("lossy", "--payments", "40", "--seed", "1", "--short", *arguments)

    assert RED == status, printed
    assert symptom in printed


@pytest.mark.slow
def test_killed_merchants_lose_no_money() -> None:
    """Processes that die at any moment take up their work again, and the equalities hold."""
    short = ["--operations", "160", "--kills", "3", "--seed", "1"]
    # Where much else goes on, Python alone takes longer than the two seconds of the full size.
    status, printed = play("kill", *short, "--resume", "30", "--short")

    assert OK == status, printed
    assert "kills 3" in printed


@pytest.mark.slow
def test_kill_catches_a_restart_that_takes_too_long() -> None:
    """A process that needs longer than it may until its first new operation is a failure."""
    short = ["--operations", "80", "--kills", "2", "--seed", "1"]
    status, printed = play("kill", *short, "--resume", "0.001")

    assert RED == status, printed
    assert "late True" in printed


@pytest.mark.slow
def test_killed_shop_ends_with_every_order_paid_once_or_closed() -> None:
    """People tap until they can pay; nobody is charged twice, and both sides' books agree."""
    status, printed = play("shop", "--orders", "40", "--kills", "3", "--seed", "1", "--short")

    assert OK == status, printed
    assert "kills amid: 3" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    ("broken", "symptom"),
    [("random-next-id", "RED two alive:"), ("reorder-at-once", "RED two orders:")],
)
def test_killed_shop_catches_mistakes(broken: str, symptom: str) -> None:
    """Two credentials that live, or two orders that can be paid, of one purchase."""
    short = ["--orders", "20", "--kills", "1", "--short", "--break", broken]
    # One run in eight loses no answer that matters: then the shop has nothing to do wrong.
    runs = (play("shop", *short, "--seed", str(seed)) for seed in range(1, 6))
    status, printed = next((run for run in runs if run[0] == RED), (OK, "never caught"))

    assert RED == status, printed
    assert symptom in printed


@pytest.mark.slow
def test_history_catches_events_that_did_not_happen() -> None:
    """What the merchants were too quick for proves nothing."""
    few = ["--payments", "2", "--pace", "0", "--seed", "1"]
    status, printed = play("history", *few, "--events", "40", "--kinds", "pause", "--pause", "1")

    assert RED == status, printed
    assert "of 40 events happened" in printed


@pytest.mark.slow
def test_kill_catches_a_new_request_id() -> None:
    """A merchant that invents a requestId after a doubt orders twice, and is caught."""
    broken = ["--break", "new-request-id"]
    status, printed = play("kill", "--operations", "80", "--kills", "2", "--seed", "1", *broken)

    assert RED == status, printed
    assert "double:" in printed


@pytest.mark.slow
@pytest.mark.parametrize(
    "kinds",
    [
        ["kill", "pause", "partition"],
        ["store", "secret"],
        ["ahead"],
        ["behind"],
        ["ahead", "--one-sided"],
    ],
    ids=" ".join,
)
def test_history_is_true(kinds: list[str]) -> None:
    """Nothing called refused was executed and nothing called ok was not, whatever goes wrong."""
    events = sum(not kind.startswith("--") for kind in kinds)
    status, printed = _history("--events", str(events), "--kinds", *kinds)

    assert OK == status, printed


@define(eq=False)
class _SlowNetwork:
    """Gives up on the first request, and delivers it when it is told to.

    Attributes:
        late: the first request.
        loses_queries: whether queries get no answer, which would tell the platform's time.
    """

    late: HttpRequest | None = field(default=None, init=False)
    loses_queries: bool = field(default=False, init=False)
    _transport: AiohttpTransport = field(factory=AiohttpTransport, init=False)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        if self.late is None:
            self.late = request
            raise InDoubtError("nothing came back in time")
        if self.loses_queries and request.url.endswith("/query"):
            raise InDoubtError("no answer came back in time")
        return await self._transport.send(request, timeout=timeout)

    async def deliver(self) -> None:
        await self._transport.send(self.late, timeout=Timeouts())

    async def aclose(self) -> None:
        await self._transport.aclose()


@define(eq=False)
class _LosesAnswers:
    """Delivers everything and brings nothing back."""

    _transport: AiohttpTransport = field(factory=AiohttpTransport, init=False)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        await self._transport.send(request, timeout=timeout)
        raise InDoubtError("nothing came back in time")

    async def aclose(self) -> None:
        await self._transport.aclose()


def _order() -> InstantTrade:
    item = TradeItem(
        out_trade_no="order-1",
        subject="chaos",
        price="1.00",
        quantity=1,
        total_amount="1.00",
        payee_identity="1000",
    )
    return InstantTrade(
        request_id="order-1",
        trade_info=[item],
        payer_ip="127.0.0.1",
        pay_method=PayMethod(pay_product_code="65", amount="1.00"),
    )


def _pay_key() -> RSA.RsaKey:
    return RSA.import_key(PRIVATE_KEY.read_bytes())


def _gateway(sandbox: Sandbox, **parts: object) -> PayGateway:
    return PayGateway(
        sandbox.app_key,
        Md5Signer(sandbox.app_secret),
        base_url=sandbox.url,
        retry=RetryPolicy(attempts=1),
        **parts,
    )


async def _said_while_on_its_way(
    clock: MovedClock,
    *,
    future_refused: bool,
    jump: float,
    after: tuple[float, ...],
    sent_again: bool = False,
) -> list[str]:
    """Give a request up, ask what became of it, and let it arrive; return what was said."""
    network = _SlowNetwork()
    async with (
        Sandbox(pay_key=_pay_key(), clock=clock.true_time) as sandbox,
        _gateway(sandbox, transport=network, clock=clock, limiter=Unlimited()) as gateway,
    ):
        sandbox.platform.apps[sandbox.app_key].future_refused = future_refused
        with pytest.raises(InDoubtError):
            await gateway.trade(_order())
        clock.wrong_by += jump
        if sent_again:
            network.loses_queries = True  # the question before the resend would set the clock
            with pytest.raises(InDoubtError):
                await gateway.trade(_order())
            network.loses_queries = False
        said = []
        for seconds in after:
            clock.move(seconds)
            said.append((await gateway.resolve("order-1")).kind)
        await network.deliver()

        assert 1 == len(sandbox.platform.find_entries("order-1"))
        return said


@pytest.mark.parametrize("future_refused", [True, False], ids=["both sides", "only the past"])
@pytest.mark.parametrize("jump", [200.0, 290.0, 400.0, 600.0])
async def test_clock_that_jumps_ahead_does_not_end_the_quarantine(
    *, jump: float, future_refused: bool
) -> None:
    """Minutes on a wrong wall clock are no proof that a signed request has expired.

    Whether the platform refuses what is ahead of it, and so teaches the time, or answers.
    """
    after = (1, 1, 61, 61, 61, 61, 40)
    said = await _said_while_on_its_way(
        MovedClock(), future_refused=future_refused, jump=jump, after=after
    )

    assert ["in_doubt"] * len(after) == said


async def test_clock_that_is_always_ahead_does_not_end_the_quarantine() -> None:
    """A timestamp ten minutes ahead lives for fifteen, and a query's `Date` tells how long."""
    clock = MovedClock(wrong_by=600.0)
    said = await _said_while_on_its_way(clock, future_refused=False, jump=0.0, after=(605, 65))

    assert ["in_doubt"] * 2 == said


@pytest.mark.parametrize("jump", [-400.0, -600.0, -86_400.0])
async def test_clock_that_falls_behind_does_not_end_the_quarantine(jump: float) -> None:
    """A later attempt with an earlier timestamp does not make the first one die any sooner."""
    after = (1, 61, 61, 61, 61, 40)
    said = await _said_while_on_its_way(
        MovedClock(), future_refused=True, jump=jump, after=after, sent_again=True
    )

    assert ["in_doubt"] * len(after) == said


@pytest.mark.slow
def test_history_catches_absence_taken_for_proof() -> None:
    """A refusal that rests on one query is found executed when the late request arrives."""
    broken = ["--break", "not-found-final"]
    status, printed = _history("--events", "1", "--kinds", "minutes", *broken)

    assert RED == status, printed
    assert "refused_but_executed:" in printed


@define(eq=False)
class _SlowDoor:
    """Turns a request away, as soon as it is told to."""

    reached: asyncio.Event = field(factory=asyncio.Event, init=False)
    opened: asyncio.Event = field(factory=asyncio.Event, init=False)

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        del request, timeout
        self.reached.set()
        await self.opened.wait()
        refusal = {"success": False, "errorCode": "CO_MSG_000001", "errorMsg": "", "data": None}
        return HttpResponse(200, json.dumps(refusal).encode())

    async def aclose(self) -> None: ...


@pytest.mark.parametrize(("broken", "executed"), [(None, 0), ("no-fencing", 1)])
async def test_fences_keep_a_refusal_from_hiding_an_execution(
    broken: str | None, executed: int
) -> None:
    """Two senders at once: without fences the store says rejected of what was executed."""
    async with Sandbox(pay_key=_pay_key()) as sandbox:
        door, store = _SlowDoor(), fenced_or_not(MemoryStore(), broken)
        turned_away = _gateway(sandbox, store=store, transport=door)
        other = _gateway(sandbox, store=store, transport=_LosesAnswers())
        first = asyncio.ensure_future(turned_away.trade(_order()))
        await door.reached.wait()
        with pytest.raises((InDoubtError, InProgressError)):
            await other.trade(_order())
        door.opened.set()
        await asyncio.wait([first])

        assert isinstance(first.exception(), WxPayError)
        assert "rejected" == (await store.load((sandbox.app_key, "order-1"))).state
        assert executed == len(sandbox.platform.find_entries("order-1"))
        await turned_away.aclose()
        await other.aclose()


@define(eq=False)
class _Queue:
    """A limiter that lets nobody through until it is told to."""

    reached: asyncio.Event = field(factory=asyncio.Event, init=False)
    opened: asyncio.Event = field(factory=asyncio.Event, init=False)
    _limiter: Unlimited = field(factory=Unlimited, init=False)

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        self.reached.set()
        await self.opened.wait()
        return await self._limiter.acquire(lane, timeout=timeout)

    async def throttled(self) -> None:
        await self._limiter.throttled()

    async def aclose(self) -> None:
        await self._limiter.aclose()


async def test_refusal_does_not_hide_a_doubt_that_arose_while_waiting_for_quota() -> None:
    """Another process sends meanwhile and loses the answer: the refusal is not the whole truth."""
    async with Sandbox(pay_key=_pay_key()) as sandbox:
        queue, store, door = _Queue(), MemoryStore(), _SlowDoor()
        door.opened.set()
        waiting = _gateway(sandbox, store=store, limiter=queue, transport=door)
        other = _gateway(sandbox, store=store, transport=_LosesAnswers())
        first = asyncio.ensure_future(waiting.trade(_order()))
        await queue.reached.wait()
        with pytest.raises(InDoubtError):
            await other.trade(_order())
        queue.opened.set()
        await asyncio.wait([first])
        await waiting.aclose()
        await other.aclose()

        assert 1 == len(sandbox.platform.find_entries("order-1"))
        assert Fate.IN_DOUBT == first.exception().fate


async def test_refusal_that_was_fenced_off_is_no_refusal() -> None:
    """Another process took the lease for expired, and executed: the first must not say no."""
    async with Sandbox(pay_key=_pay_key()) as sandbox:
        door, store = _SlowDoor(), MemoryStore()
        turned_away = _gateway(sandbox, store=store, transport=door)
        other = _gateway(sandbox, store=store, clock=MovedClock(wall=time.time() + 60.0))
        first = asyncio.ensure_future(turned_away.trade(_order()))
        await door.reached.wait()
        await other.trade(_order())
        door.opened.set()
        await asyncio.wait([first])
        await turned_away.aclose()
        await other.aclose()

        assert 1 == len(sandbox.platform.find_entries("order-1"))
        assert Fate.IN_DOUBT == first.exception().fate


def _history(*arguments: str) -> tuple[int, str]:
    common = ["--payments", "24", "--pace", "0.02", "--pause", "2.2", "--seed", "1", "--short"]
    return play("history", *common, *arguments)


@pytest.mark.slow
@pytest.mark.parametrize(("dead", "attempts"), [("refuses", 1007), ("hangs", 1010)])
def test_dead_server_is_not_stormed(dead: str, attempts: int) -> None:
    """A thousand calls make 7 retries, and 3 queries where there is a doubt: at most 1,010."""
    status, printed = play("storm", "--dead", dead)

    assert OK == status, printed
    assert f"attempts {attempts}" in printed


@pytest.mark.slow
def test_storm_catches_a_missing_budget() -> None:
    """Without the budget every call tries three times."""
    status, printed = play("storm", "--break", "no-budget")

    assert RED == status, printed
    assert "attempts 3000" in printed

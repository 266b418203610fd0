"""Many payments in one go, without a platform: they are made, told of and given back.

Nothing is believed that the gateway says about itself: every paySign is verified, the sandbox's
ledger must hold one charge for each order, the refunds, and nothing else, and the callbacks, taken
over HTTP, must have had one effect for each line of that ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from aiohttp import web
from attrs import asdict, define, field, frozen
from Crypto.PublicKey import RSA

from wxpay_async import (
    Event,
    EventKind,
    InstantTrade,
    Md5Signer,
    Md5Verifier,
    PayGateway,
    PayMethod,
    PayResult,
    Refund,
    RsaSigner,
    RsaVerifier,
    Signer,
    TradeItem,
    TradeState,
    Unlimited,
    Verifier,
    derive_request_id,
)
from wxpay_async.engine.callbacks import CallbackEvent, CallbackReceiver, Verdict
from wxpay_async.engine.streaming import stream
from wxpay_async.integrations.answers import ACK_TYPE
from wxpay_async.protocol.notify import Notifications, RefundNotification, TradeNotification
from wxpay_async.sandbox import Sandbox

APP_ID: Final = "wx9236b1e84ffbf10a"
KEY_BITS: Final = 2048
ONE_IN: Final = 10
"""Of so many orders one is refunded."""

SCHEDULE: Final = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each delivery of a callback: one that is not taken is given up quickly."""

_WAIT: Final = 20.0  # seconds for an order that the payer has confirmed already
_OPENID: Final = "openid-of-the-demo-payer"

Movement = tuple[str, str, Decimal]
"""A line of the ledger that moves money: charge or refund, its number, yuan."""

_MOVED: Final = {TradeState.PAID: "charge", TradeState.REFUNDED: "refund"}


class Scheme(enum.StrEnum):
    """How the merchant signs."""

    RSA = "rsa"
    MD5 = "md5"


@frozen(kw_only=True)
class Order:
    """One purchase of the demo.

    Attributes:
        number: its outTradeNo.
        amount: yuan.
        refunded: whether all of it is given back in the end.
    """

    number: str
    amount: Decimal
    refunded: bool

    @property
    def refund_number(self) -> str:
        """The refund's own outTradeNo."""
        return f"{self.number}-R"

    def movements(self) -> Iterator[Movement]:
        """Yield what the ledger must hold for it."""
        yield "charge", self.number, self.amount
        if self.refunded:
            yield "refund", self.refund_number, self.amount


@frozen(kw_only=True)
class Run:
    """What the payments under one scheme came to.

    Attributes:
        scheme: how they were signed.
        payments: how many were asked for.
        paid: how many are paid, by the platform's word.
        refunded: how many were given back.
        callbacks: how many were delivered, repetitions included.
        verified: how many of them had a signature that fits.
        confirmed: how many effects a query confirmed first. By RSA it is not needed: none.
        attempts: HTTP requests of the gateway that it took.
        seconds: from the first order to the last answer or callback.
    """

    scheme: Scheme
    payments: int
    paid: int
    refunded: int
    callbacks: int
    verified: int
    confirmed: int
    attempts: int
    seconds: float

    @property
    def rate(self) -> float:
        """Payments per second."""
        return self.paid / self.seconds if self.seconds else 0.0


@frozen(kw_only=True)
class Report:
    """What the demo came to.

    Attributes:
        runs: one for each scheme.
        problems: what is off, a line each; empty when all is well.
        request_payment: the first prepay, as `wx.requestPayment` takes it.
    """

    runs: Sequence[Run]
    problems: Sequence[str]
    request_payment: Mapping[str, str] | None

    def fields(self) -> dict[str, object]:
        """Return it as JSON has it."""
        return {
            "ok": not self.problems,
            "schemes": [
                {**asdict(run), "seconds": round(run.seconds, 3), "rate": round(run.rate, 1)}
                for run in self.runs
            ],
            "problems": list(self.problems),
            "requestPayment": self.request_payment,
        }


def orders(scheme: Scheme, count: int) -> list[Order]:
    """Make up orders; the first and every tenth after it will be refunded."""
    return [
        Order(
            number=f"demo-{scheme}-{index:05d}",
            amount=Decimal(f"{1 + index % 50}.{index % 100:02d}"),
            refunded=index % ONE_IN == 0,
        )
        for index in range(count)
    ]


async def run_demo(
    counts: Mapping[Scheme, int], *, concurrency: int, advance: Callable[[], None]
) -> Report:
    """Start a sandbox with fresh keys and pay.

    Args:
        counts: payments by scheme; one scheme runs after the other.
        concurrency: payments at once.
        advance: called as each payment ends, well or not.
    """
    merchant_key, pay_key = await asyncio.gather(
        asyncio.to_thread(RSA.generate, KEY_BITS), asyncio.to_thread(RSA.generate, KEY_BITS)
    )
    # The platform's 400 calls a minute would make the demo wait: it asks for more.
    sandbox = Sandbox(
        merchant_public_key=merchant_key.public_key().export_key(),
        quota=None,
        pay_key=pay_key,
        callback_schedule=SCHEDULE,
    )
    signers: dict[Scheme, Signer] = {
        Scheme.RSA: RsaSigner(merchant_key),
        Scheme.MD5: Md5Signer(sandbox.app_secret),
    }
    async with sandbox:
        return await pay_through(
            sandbox,
            {scheme: (signers[scheme], orders(scheme, count)) for scheme, count in counts.items()},
            concurrency=concurrency,
            advance=advance,
        )


async def pay_through(
    sandbox: Sandbox,
    work: Mapping[Scheme, tuple[Signer, Sequence[Order]]],
    *,
    concurrency: int,
    advance: Callable[[], None],
) -> Report:
    """Pay for all orders through a sandbox that runs; check its ledger and callbacks afterwards."""
    verifier = RsaVerifier.from_pem(sandbox.pay_public_key)
    drills: list[_Drill] = []
    runs: list[Run] = []
    for scheme, (signer, batch) in work.items():
        drill = _Drill(scheme=scheme, sandbox=sandbox, verifier=verifier, advance=advance)
        drills.append(drill)
        runs.append(await drill.run(signer, batch, concurrency=concurrency))
    wanted = (move for _, batch in work.values() for order in batch for move in order.movements())
    moved = [*_moved(sandbox)]
    told = Counter(move for drill in drills for move in drill.desk.effects)
    samples = (drill.sample for drill in drills if drill.sample)
    return Report(
        runs=runs,
        problems=[
            *(problem for drill in drills for problem in (*drill.problems, *drill.desk.problems)),
            *_differences("the ledger holds", Counter(wanted), Counter(moved)),
            # Even what was moved twice may have one effect only.
            *_differences("the callbacks tell of", Counter({*moved}), told),
        ],
        request_payment=next(samples, None),
    )


@define(eq=False, kw_only=True)
class _Session:
    """Where the callbacks of one run arrive, and the effects that they have."""

    scheme: Scheme
    verified: int = field(default=0, init=False)
    callbacks: int = field(default=0, init=False)
    confirmed: int = field(default=0, init=False)
    effects: list[Movement] = field(factory=list[Movement], init=False)
    problems: list[str] = field(factory=list[str], init=False)

    def receiver(self, gateway: PayGateway, sandbox: Sandbox) -> CallbackReceiver:
        """Make what stands between the bytes and the effects."""
        verifier = (
            RsaVerifier.from_pem(sandbox.callback_public_key)
            if self.scheme is Scheme.RSA
            else Md5Verifier(sandbox.app_secret)
        )
        return CallbackReceiver(
            gateway,
            Notifications(verifier, app_key=gateway.app_key, allow_unsigned=False),
            on_trade=self.on_trade,
            on_refund=self.on_refund,
            hooks=[self.count],
        )

    async def on_trade(self, told: TradeNotification) -> None:
        """Note a payment."""
        self._note(told, told.trade_amount)

    async def on_refund(self, told: RefundNotification) -> None:
        """Note that money went back."""
        self._note(told, told.refund_amount)

    def _note(self, told: TradeNotification | RefundNotification, amount: Decimal) -> None:
        self.effects.append((_MOVED.get(told.state, told.state.value), told.out_trade_no, amount))
        self.confirmed += told.confirmed
        if not (told.authentic if self.scheme is Scheme.RSA else told.confirmed):
            self.problems.append(f"{told.out_trade_no}: a callback was believed without proof")

    def count(self, event: CallbackEvent) -> None:
        """Count a delivery. One that is slow is told of once more when it has ended."""
        if event.verdict is not Verdict.SLOW:
            self.callbacks += 1
            self.verified += event.notification is not None


@contextlib.asynccontextmanager
async def _callbacks(
    sandbox: Sandbox, scheme: Scheme, receiver: CallbackReceiver
) -> AsyncGenerator[None]:
    """Let the sandbox tell the receiver over HTTP; at the end wait until all is told."""

    async def take(request: web.BaseRequest) -> web.Response:
        answer = await receiver.receive(request.headers, await request.read())
        return web.Response(body=answer, content_type=ACK_TYPE)

    runner = web.ServerRunner(web.Server(take, access_log=None))
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        app = sandbox.platform.apps[sandbox.app_key]
        app.callback_scheme = "rsa" if scheme is Scheme.RSA else "md5"
        sandbox.notify_url = f"http://127.0.0.1:{runner.addresses[0][1]}/notify"
        yield
        await sandbox.callbacks_idle()
    finally:
        sandbox.notify_url = None
        await receiver.aclose()
        await runner.cleanup()


@define(eq=False, kw_only=True)
class _Drill:
    """The payments under one scheme, under way."""

    scheme: Scheme
    sandbox: Sandbox
    verifier: Verifier
    advance: Callable[[], None]
    desk: _Session = field(init=False)
    paid: int = field(default=0, init=False)
    refunded: int = field(default=0, init=False)
    attempts: int = field(default=0, init=False)
    problems: list[str] = field(factory=list[str], init=False)
    sample: Mapping[str, str] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.desk = _Session(scheme=self.scheme)

    async def run(self, signer: Signer, batch: Sequence[Order], *, concurrency: int) -> Run:
        began = time.perf_counter()
        async with PayGateway(
            self.sandbox.app_key,
            signer,
            base_url=self.sandbox.url,
            limiter=Unlimited(),
            hooks=[self._count],
            max_in_flight=concurrency,
        ) as gateway:
            receiver = self.desk.receiver(gateway, self.sandbox)
            async with _callbacks(self.sandbox, self.scheme, receiver):
                await self._pay(gateway, batch, concurrency=concurrency)
        return Run(
            scheme=self.scheme,
            payments=len(batch),
            paid=self.paid,
            refunded=self.refunded,
            callbacks=self.desk.callbacks,
            verified=self.desk.verified,
            confirmed=self.desk.confirmed,
            attempts=self.attempts,
            seconds=time.perf_counter() - began,
        )

    async def _pay(self, gateway: PayGateway, batch: Sequence[Order], *, concurrency: int) -> None:
        paying = stream(batch, lambda o: self._complete(gateway, o), concurrency=concurrency)
        async for outcome in paying:
            self.advance()
            if outcome.error is not None:
                self.problems.append(f"{outcome.request.number}: {outcome.error}")

    async def _complete(self, gateway: PayGateway, order: Order) -> Order:
        """Take one purchase from the order to the refund."""
        prepay = await _prepay(gateway, order)
        prepay.verify_pay_sign(self.verifier)
        self.sample = self.sample or prepay.jsapi_params()
        self.sandbox.confirm(order.number)
        status = await gateway.wait_paid(order.number, timeout=_WAIT)
        self.paid += 1
        if status.total_amount != order.amount:
            self.problems.append(f"{order.number}: {status.total_amount} yuan, not {order.amount}")
        if order.refunded:
            await gateway.refund(_refund(gateway.app_key, order))
            self.refunded += 1
        return order

    def _count(self, event: Event) -> None:
        self.attempts += event.kind is EventKind.ATTEMPT_STARTED


async def _prepay(gateway: PayGateway, order: Order) -> PayResult:
    item = TradeItem(
        out_trade_no=order.number,
        subject="wxpay-async demo",
        price=order.amount,
        quantity=1,
        total_amount=order.amount,
        payee_identity="1000",
    )
    method = PayMethod(pay_product_code="67", amount=order.amount, app_id=APP_ID, open_id=_OPENID)
    trade = InstantTrade(
        request_id=derive_request_id(gateway.app_key, "trade", order.number),
        trade_info=[item],
        payer_ip="127.0.0.1",
        pay_method=method,
    )
    return await gateway.checkout(trade, openid=_OPENID, app_id=APP_ID)


def _refund(app_key: str, order: Order) -> Refund:
    return Refund(
        request_id=derive_request_id(app_key, "refund", order.refund_number),
        out_trade_no=order.refund_number,
        orig_out_trade_no=order.number,
        refund_amount=order.amount,
    )


def _moved(sandbox: Sandbox) -> Iterable[Movement]:
    for entry in sandbox.platform.ledger:
        if entry.kind in {"charge", "refund"}:
            for number in entry.out_trade_nos:
                yield entry.kind, number, entry.amount


def _differences(teller: str, wanted: Counter[Movement], found: Counter[Movement]) -> Iterator[str]:
    for move in sorted({*wanted, *found}):
        if wanted[move] != found[move]:
            kind, number, amount = move
            yield f"{number}: {teller} {found[move]} × {kind} of {amount} yuan, not {wanted[move]}"

"""Make many payments against a sandbox, with callbacks and refunds, and check the result.

The check does not rely on the gateway: every paySign is verified; the sandbox's ledger must hold
one charge for each order, its refunds, and nothing else; and the callbacks, taken over HTTP, must
have had one effect for each line of that ledger.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncGenerator, Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Final

from aiohttp import web
from attrs import define, field, frozen
from Crypto.PublicKey import RSA

from wxpay_async import (
    CallbackEvent,
    CallbackReceiver,
    Event,
    EventKind,
    InstantTrade,
    Md5Signer,
    Md5Verifier,
    Notifications,
    PayGateway,
    PayMethod,
    PayResult,
    Refund,
    RefundNotification,
    RsaSigner,
    RsaVerifier,
    Signer,
    TradeItem,
    TradeNotification,
    TradeState,
    Unlimited,
    Verdict,
    Verifier,
    derive_request_id,
)
from wxpay_async.cli.demo_report import Report, Run
from wxpay_async.cli.options import Scheme
from wxpay_async.engine.streaming import stream
from wxpay_async.integrations.service import ACK_TYPE
from wxpay_async.protocol.keys import MIN_BITS
from wxpay_async.sandbox import Sandbox

APP_ID: Final = "wx9236b1e84ffbf10a"
REFUND_EVERY: Final = 10
"""One order in so many is refunded."""

SCHEDULE: Final = (0.0, 0.2, 0.5, 1.0, 2.0)
"""Seconds before each delivery of a callback: one that is not taken is given up quickly."""

_MAX_WAIT: Final = 20.0  # seconds for an order that the payer has confirmed already
_OPENID: Final = "openid-of-the-demo-payer"

Movement = tuple[str, str, Decimal]
"""A line of the ledger that moves money: charge or refund, its number, yuan."""

_MOVEMENT_KINDS: Final = {TradeState.PAID: "charge", TradeState.REFUNDED: "refund"}


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

    def iter_movements(self) -> Iterator[Movement]:
        """Yield what the ledger must hold for this order."""
        yield "charge", self.number, self.amount
        if self.refunded:
            yield "refund", self.refund_number, self.amount


def make_orders(scheme: Scheme, count: int) -> list[Order]:
    """Invent orders; the first and every tenth after it will be refunded."""
    return [
        Order(
            number=f"demo-{scheme}-{index:05d}",
            amount=Decimal(f"{1 + index % 50}.{index % 100:02d}"),
            refunded=index % REFUND_EVERY == 0,
        )
        for index in range(count)
    ]


def run_demo(
    counts: Mapping[Scheme, int], *, concurrency: int, advance: Callable[[], None]
) -> Report:
    """Run `pay_in_sandbox` in an event loop of its own."""
    return asyncio.run(pay_in_sandbox(counts, concurrency=concurrency, advance=advance))


async def pay_in_sandbox(
    counts: Mapping[Scheme, int], *, concurrency: int, advance: Callable[[], None]
) -> Report:
    """Start a sandbox with fresh keys and pay.

    Args:
        counts: payments by scheme; one scheme runs after the other.
        concurrency: payments at once.
        advance: called as each payment ends, well or not.
    """
    merchant_key, pay_key = await asyncio.gather(
        asyncio.to_thread(RSA.generate, MIN_BITS), asyncio.to_thread(RSA.generate, MIN_BITS)
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
    work = {
        scheme: (signers[scheme], make_orders(scheme, count)) for scheme, count in counts.items()
    }
    async with sandbox:
        return await pay_orders(sandbox, work, concurrency=concurrency, advance=advance)


async def pay_orders(
    sandbox: Sandbox,
    work: Mapping[Scheme, tuple[Signer, Sequence[Order]]],
    *,
    concurrency: int,
    advance: Callable[[], None],
) -> Report:
    """Pay for all orders through a running sandbox, then check its ledger and the callbacks."""
    verifier = RsaVerifier.from_pem(sandbox.pay_public_key)
    payers: list[_Payer] = []
    runs: list[Run] = []
    for scheme, (signer, orders) in work.items():
        payer = _Payer(scheme=scheme, sandbox=sandbox, verifier=verifier, advance=advance)
        payers.append(payer)
        runs.append(await payer.run(signer, orders, concurrency=concurrency))
    wanted = [move for _, orders in work.values() for o in orders for move in o.iter_movements()]
    moved = Counter(_read_ledger(sandbox))
    effects = Counter(move for payer in payers for move in payer.callbacks.effects)
    samples = (payer.sample for payer in payers if payer.sample)
    return Report(
        runs=runs,
        problems=[
            *(problem for payer in payers for problem in payer.problems),
            *_compare("the ledger holds", Counter(wanted), moved),
            # Even what was moved twice may have one effect only.
            *_compare("the callbacks report", Counter({*moved}), effects),
        ],
        request_payment=next(samples, None),
    )


@define(eq=False, kw_only=True)
class _CallbackLog:
    """Counts the callbacks under one scheme and keeps their effects."""

    scheme: Scheme
    problems: list[str]
    verified: int = field(default=0, init=False)
    delivered: int = field(default=0, init=False)
    confirmed: int = field(default=0, init=False)
    effects: list[Movement] = field(factory=list[Movement], init=False)

    def make_receiver(self, gateway: PayGateway, sandbox: Sandbox) -> CallbackReceiver:
        """Make the receiver that verifies callbacks and hands them to this log."""
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
            hooks=[self.count_delivery],
        )

    async def on_trade(self, notification: TradeNotification) -> None:
        """Record a payment."""
        self._record(notification, notification.trade_amount)

    async def on_refund(self, notification: RefundNotification) -> None:
        """Record that money went back."""
        self._record(notification, notification.refund_amount)

    def _record(
        self, notification: TradeNotification | RefundNotification, amount: Decimal
    ) -> None:
        number, state = notification.out_trade_no, notification.state
        self.effects.append((_MOVEMENT_KINDS.get(state, state.value), number, amount))
        self.confirmed += notification.confirmed
        rsa = self.scheme is Scheme.RSA
        if not (notification.authentic if rsa else notification.confirmed):
            self.problems.append(f"{number}: a callback was accepted without proof")

    def count_delivery(self, event: CallbackEvent) -> None:
        """Count a delivery. A slow one has a second event when it has ended."""
        if event.verdict is not Verdict.SLOW:
            self.delivered += 1
            self.verified += event.notification is not None


@contextlib.asynccontextmanager
async def _serve_callbacks(
    sandbox: Sandbox, scheme: Scheme, receiver: CallbackReceiver
) -> AsyncGenerator[None]:
    """Let the sandbox call the receiver over HTTP; at the end wait for the last callback."""

    async def answer(request: web.BaseRequest) -> web.Response:
        body = await receiver.receive(request.headers, await request.read())
        return web.Response(body=body, content_type=ACK_TYPE)

    runner = web.ServerRunner(web.Server(answer, access_log=None))
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
class _Payer:
    """Makes the payments under one scheme."""

    scheme: Scheme
    sandbox: Sandbox
    verifier: Verifier
    advance: Callable[[], None]
    callbacks: _CallbackLog = field(init=False)
    paid: int = field(default=0, init=False)
    refunded: int = field(default=0, init=False)
    attempts: int = field(default=0, init=False)
    problems: list[str] = field(factory=list[str], init=False)
    sample: Mapping[str, str] | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self.callbacks = _CallbackLog(scheme=self.scheme, problems=self.problems)

    async def run(self, signer: Signer, orders: Sequence[Order], *, concurrency: int) -> Run:
        began = time.perf_counter()
        async with PayGateway(
            self.sandbox.app_key,
            signer,
            base_url=self.sandbox.url,
            limiter=Unlimited(),
            hooks=[self._count_attempt],
            max_in_flight=concurrency,
        ) as gateway:
            receiver = self.callbacks.make_receiver(gateway, self.sandbox)
            async with _serve_callbacks(self.sandbox, self.scheme, receiver):
                await self._pay_all(gateway, orders, concurrency=concurrency)
        return Run(
            scheme=self.scheme,
            payments=len(orders),
            paid=self.paid,
            refunded=self.refunded,
            callbacks=self.callbacks.delivered,
            verified=self.callbacks.verified,
            confirmed=self.callbacks.confirmed,
            attempts=self.attempts,
            seconds=time.perf_counter() - began,
        )

    async def _pay_all(
        self, gateway: PayGateway, orders: Sequence[Order], *, concurrency: int
    ) -> None:
        outcomes = stream(orders, lambda o: self._buy(gateway, o), concurrency=concurrency)
        async for outcome in outcomes:
            self.advance()
            if outcome.error is not None:
                self.problems.append(f"{outcome.request.number}: {outcome.error}")

    async def _buy(self, gateway: PayGateway, order: Order) -> Order:
        """Take one purchase from the order to the refund."""
        prepay = await create_prepay(gateway, order)
        prepay.verify_pay_sign(self.verifier)
        self.sample = self.sample or prepay.jsapi_params()
        self.sandbox.confirm(order.number)
        status = await gateway.wait_paid(order.number, timeout=_MAX_WAIT)
        self.paid += 1
        if status.total_amount != order.amount:
            self.problems.append(f"{order.number}: {status.total_amount} yuan, not {order.amount}")
        if order.refunded:
            await gateway.refund(_make_refund(gateway.app_key, order))
            self.refunded += 1
        return order

    def _count_attempt(self, event: Event) -> None:
        self.attempts += event.kind is EventKind.ATTEMPT_STARTED


async def create_prepay(gateway: PayGateway, order: Order) -> PayResult:
    """Create the order at the platform, and its prepay."""
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


def _make_refund(app_key: str, order: Order) -> Refund:
    return Refund(
        request_id=derive_request_id(app_key, "refund", order.refund_number),
        out_trade_no=order.refund_number,
        orig_out_trade_no=order.number,
        refund_amount=order.amount,
    )


def _read_ledger(sandbox: Sandbox) -> Iterable[Movement]:
    for entry in sandbox.platform.ledger:
        if entry.kind in {"charge", "refund"}:
            for number in entry.out_trade_nos:
                yield entry.kind, number, entry.amount


def _compare(source: str, wanted: Counter[Movement], found: Counter[Movement]) -> Iterator[str]:
    for move in sorted({*wanted, *found}):
        if wanted[move] != found[move]:
            kind, number, amount = move
            yield f"{number}: {source} {found[move]} × {kind} of {amount} yuan, not {wanted[move]}"

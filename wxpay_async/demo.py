"""What runs without a platform: many payments in one go, and a sandbox to keep. No money moves.

Nothing is believed that the gateway says about itself: every paySign is verified, and the
sandbox's ledger must hold one charge for each order, the refunds, and nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import os
import signal
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from pathlib import Path
from typing import Final

from attrs import asdict, define, field, frozen
from Crypto.PublicKey import RSA

from wxpay_async import (
    Event,
    EventKind,
    InstantTrade,
    InvalidKeyError,
    InvalidRequestError,
    Md5Signer,
    PayGateway,
    PayMethod,
    PayResult,
    Refund,
    RsaSigner,
    RsaVerifier,
    Signer,
    TradeItem,
    Unlimited,
    Verifier,
    derive_request_id,
)
from wxpay_async.protocol.keys import load_private_key, read_key_file
from wxpay_async.sandbox import Sandbox
from wxpay_async.stream import stream

APP_ID: Final = "wx9236b1e84ffbf10a"
KEY_BITS: Final = 2048
ONE_IN: Final = 10
"""Of so many orders one is refunded."""

_WAIT: Final = 20.0  # seconds for an order that the payer has confirmed already
_OPENID: Final = "openid-of-the-demo-payer"

Movement = tuple[str, str, Decimal]
"""A line of the ledger that moves money: charge or refund, its number, yuan."""


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
        attempts: HTTP requests that it took.
        seconds: from the first order to the last answer.
    """

    scheme: Scheme
    payments: int
    paid: int
    refunded: int
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
        merchant_public_key=merchant_key.public_key().export_key(), quota=None, pay_key=pay_key
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
    """Pay for all orders through a sandbox that runs, and check its ledger afterwards."""
    verifier = RsaVerifier.from_pem(sandbox.pay_public_key)
    drills: list[_Drill] = []
    runs: list[Run] = []
    for scheme, (signer, batch) in work.items():
        drill = _Drill(sandbox=sandbox, verifier=verifier, advance=advance)
        drills.append(drill)
        runs.append(await drill.run(scheme, signer, batch, concurrency=concurrency))
    wanted = (move for _, batch in work.values() for order in batch for move in order.movements())
    samples = (drill.sample for drill in drills if drill.sample)
    return Report(
        runs=runs,
        problems=[
            *(problem for drill in drills for problem in drill.problems),
            *_differences(Counter(wanted), Counter(_moved(sandbox))),
        ],
        request_payment=next(samples, None),
    )


@define(eq=False, kw_only=True)
class _Drill:
    """The payments under one scheme, under way."""

    sandbox: Sandbox
    verifier: Verifier
    advance: Callable[[], None]
    paid: int = field(default=0, init=False)
    refunded: int = field(default=0, init=False)
    attempts: int = field(default=0, init=False)
    problems: list[str] = field(factory=list[str], init=False)
    sample: Mapping[str, str] | None = field(default=None, init=False)

    async def run(
        self, scheme: Scheme, signer: Signer, batch: Sequence[Order], *, concurrency: int
    ) -> Run:
        began = time.perf_counter()
        async with PayGateway(
            self.sandbox.app_key,
            signer,
            base_url=self.sandbox.url,
            limiter=Unlimited(),
            hooks=[self._count],
            max_in_flight=concurrency,
        ) as gateway:
            paying = stream(batch, lambda o: self._complete(gateway, o), concurrency=concurrency)
            async for outcome in paying:
                self.advance()
                if outcome.error is not None:
                    self.problems.append(f"{outcome.request.number}: {outcome.error}")
        return Run(
            scheme=scheme,
            payments=len(batch),
            paid=self.paid,
            refunded=self.refunded,
            attempts=self.attempts,
            seconds=time.perf_counter() - began,
        )

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


def _differences(wanted: Counter[Movement], found: Counter[Movement]) -> Iterator[str]:
    for move in sorted({*wanted, *found}):
        if wanted[move] != found[move]:
            kind, number, amount = move
            yield (
                f"{number}: the ledger holds {found[move]} × {kind} of {amount} yuan, "
                f"not {wanted[move]}"
            )


# A sandbox to keep


async def serve(sandbox: Sandbox, announce: Callable[[], None]) -> None:
    """Run a sandbox until the process is interrupted or told to end.

    Args:
        sandbox: what to run.
        announce: called once it listens.

    Raises:
        InvalidRequestError: it cannot listen there.
    """
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows: asyncio's own way of Ctrl-C
            loop.add_signal_handler(number, stop.set)
    try:
        await sandbox.start()
    except OSError as error:
        raise InvalidRequestError(
            f"cannot listen there ({error.strerror})",
            field="--host, --port",
            allowed="a free port of this machine",
        ) from error
    try:
        announce()
        await stop.wait()
    finally:
        await sandbox.aclose()


def merchant_key(path: Path, passphrase: str | None = None) -> str:
    """Return the public half of the key in a file, which is made when there is none.

    Raises:
        InvalidKeyError: the file cannot be used, or not be written.
    """
    if path.exists():
        key = load_private_key(read_key_file(path, private=True), passphrase)
    else:
        key = RSA.generate(KEY_BITS)
        _write_new(path, key.export_key(pkcs=8))
    return key.public_key().export_key().decode("ascii")


def _write_new(path: Path, data: bytes) -> None:
    """Write a file that only its owner can read; never over another."""
    try:
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(data)
    except OSError as error:
        raise InvalidKeyError(f"{path}: cannot be written ({error.strerror})") from error

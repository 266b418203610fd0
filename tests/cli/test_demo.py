"""The demo notices everything that goes wrong: each test breaks the sandbox in one way."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest
from attrs import evolve

from tests.cli.harness import KEY
from tests.support.vectors import KEYS
from wxpay_async import Md5Signer, RsaSigner, Signer, TradeNotification
from wxpay_async.cli.demo import (
    SCHEDULE,
    Order,
    _CallbackLog,
    make_orders,
    pay_in_sandbox,
    pay_orders,
)
from wxpay_async.cli.demo_report import Report
from wxpay_async.cli.options import Scheme
from wxpay_async.sandbox import Fault, Sandbox
from wxpay_async.sandbox.callback_payloads import Callback

FOREIGN_KEY = (KEYS / "rsa3072-public.pem").read_text()
FEW = 5


class ChargesTwice(Sandbox):
    """Takes the money of one order a second time."""

    def confirm(self, out_trade_no: str) -> None:
        """Confirm, and charge the third order again."""
        super().confirm(out_trade_no)
        if out_trade_no.endswith("00002"):
            self.platform.ledger.append(self.platform.ledger[-1])


class Declines(Sandbox):
    """Has a payer who declines the first order."""

    def confirm(self, out_trade_no: str) -> None:
        """Decline the first order and confirm the others."""
        act = self.cancel if out_trade_no.endswith("00000") else super().confirm
        act(out_trade_no)


class ForeignKey(Sandbox):
    """Publishes a key that does not belong to its paySign."""

    @property
    def pay_public_key(self) -> str:
        """Return the key of another platform."""
        return FOREIGN_KEY


async def pay_few(sandbox: Sandbox, signer: Signer | None = None) -> Report:
    """Pay a handful of orders through a sandbox, under the MD5 scheme unless a signer is given."""
    scheme = Scheme.RSA if isinstance(signer, RsaSigner) else Scheme.MD5
    async with sandbox:
        work = {scheme: (signer or Md5Signer(sandbox.app_secret), make_orders(scheme, FEW))}
        return await pay_orders(sandbox, work, concurrency=FEW, advance=lambda: None)


def make_sandbox(change: Callable[[Callback], Callback | None]) -> Sandbox:
    """Make a sandbox that says something else, or nothing, about the third order."""
    sandbox = Sandbox(
        pay_key=KEY,
        merchant_public_key=KEY.public_key().export_key(),
        callback_schedule=SCHEDULE,
    )

    def enqueue_changed(callback: Callback) -> None:
        changed = change(callback) if callback.out_trade_no.endswith("00002") else callback
        if changed:
            sandbox.callbacks.enqueue(changed)

    sandbox.platform.notify = enqueue_changed
    return sandbox


def with_fields(callback: Callback, **fields: str) -> Callback:
    """Change what a callback says."""
    return evolve(callback, fields={**callback.fields, **fields})


def test_orders_refund_one_in_ten() -> None:
    """The first of every ten orders is given back, and numbers never repeat."""
    made = make_orders(Scheme.RSA, 25)
    assert [0, 10, 20] == [index for index, order in enumerate(made) if order.refunded]
    assert 25 == len({order.number for order in made})


def test_movements_of_an_order_are_its_charge_and_its_refund() -> None:
    """An order moves money once, and once more when it is refunded."""
    kept = Order(number="a", amount=Decimal("1.00"), refunded=False)
    given_back = Order(number="b", amount=Decimal("2.00"), refunded=True)
    assert [("charge", "a", Decimal("1.00"))] == list(kept.iter_movements())
    assert [("charge", "b", Decimal("2.00")), ("refund", "b-R", Decimal("2.00"))] == list(
        given_back.iter_movements()
    )


async def test_payments_by_both_schemes_have_no_problems() -> None:
    """Every payment is paid, one in ten refunded, and nothing is off."""
    ended: list[None] = []
    report = await pay_in_sandbox(
        {Scheme.RSA: 11, Scheme.MD5: 4}, concurrency=4, advance=lambda: ended.append(None)
    )
    assert [] == list(report.problems)
    assert [(Scheme.RSA, 11, 11, 2), (Scheme.MD5, 4, 4, 1)] == [
        (run.scheme, run.payments, run.paid, run.refunded) for run in report.runs
    ]
    # By MD5 each of the five callbacks is confirmed by a query.
    assert [3 * 11 + 2, 3 * 4 + 1 + 5] == [run.attempts for run in report.runs]
    assert 15 == len(ended)


async def test_callbacks_of_both_schemes_are_counted() -> None:
    """One for each order and refund, all verified; what MD5 signs is confirmed by a query."""
    report = await pay_in_sandbox(
        {Scheme.RSA: 11, Scheme.MD5: 4}, concurrency=4, advance=lambda: None
    )
    assert [(13, 13, 0), (5, 5, 5)] == [
        (run.callbacks, run.verified, run.confirmed) for run in report.runs
    ]


@pytest.mark.parametrize("signer", [None, RsaSigner(KEY)])
async def test_missing_callback_of_a_trade_is_a_problem(signer: Signer | None) -> None:
    """An order that is paid without a callback is named."""
    report = await pay_few(make_sandbox(lambda _: None), signer)
    scheme = report.runs[0].scheme
    expected = f"demo-{scheme}-00002: the callbacks report 0 × charge of 3.02 yuan, not 1"
    assert [expected] == report.problems


async def test_missing_callback_of_a_refund_is_a_problem() -> None:
    """A missing effect of a refund is named by the refund's own number."""
    sandbox = make_sandbox(lambda callback: callback)
    notify = sandbox.platform.notify
    sandbox.platform.notify = lambda callback: (
        notify(callback) if callback.kind == "trade" else None
    )
    report = await pay_few(sandbox)
    expected = "demo-md5-00000-R: the callbacks report 0 × refund of 1.00 yuan, not 1"
    assert [expected] == report.problems


async def test_callback_with_another_amount_is_a_problem() -> None:
    """An effect of another amount is not the one that was wanted."""
    signer = RsaSigner(KEY)
    report = await pay_few(make_sandbox(lambda n: with_fields(n, trade_amount="9.99")), signer)
    assert [
        "demo-rsa-00002: the callbacks report 0 × charge of 3.02 yuan, not 1",
        "demo-rsa-00002: the callbacks report 1 × charge of 9.99 yuan, not 0",
    ] == report.problems


async def test_callback_with_an_unknown_status_is_a_problem() -> None:
    """An effect of an unknown status is not a payment."""
    sandbox = make_sandbox(lambda n: with_fields(n, trade_status="NOVELTY"))
    report = await pay_few(sandbox, RsaSigner(KEY))
    assert [
        "demo-rsa-00002: the callbacks report 0 × charge of 3.02 yuan, not 1",
        "demo-rsa-00002: the callbacks report 1 × unknown of 3.02 yuan, not 0",
    ] == report.problems


async def test_callback_with_a_second_effect_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that hands a payment on twice would be seen."""
    once = _CallbackLog.on_trade

    async def twice(log: _CallbackLog, notification: TradeNotification) -> None:
        await once(log, notification)
        if notification.out_trade_no.endswith("00002"):
            await once(log, notification)

    monkeypatch.setattr(_CallbackLog, "on_trade", twice)
    report = await pay_few(make_sandbox(lambda callback: callback))
    expected = "demo-md5-00002: the callbacks report 2 × charge of 3.02 yuan, not 1"
    assert [expected] == report.problems


async def test_repeated_callbacks_have_one_effect() -> None:
    """Repeated deliveries are counted, and nothing is off."""
    sandbox = make_sandbox(lambda callback: callback)
    sandbox.faults.inject(Fault.callback_doubled(times=2))
    report = await pay_few(sandbox)
    assert [] == report.problems
    run = report.runs[0]
    assert run.callbacks >= FEW + 1 + 2
    assert FEW + 1 == run.confirmed


async def test_late_callbacks_are_in_the_report() -> None:
    """The report is made after the last callback, also when it comes late."""
    sandbox = make_sandbox(lambda callback: callback)
    sandbox.faults.inject(Fault.callback_late(seconds=0.5, times=FEW + 1))
    report = await pay_few(sandbox)
    assert [] == report.problems
    assert FEW + 1 == report.runs[0].callbacks


async def test_forged_callback_is_counted_without_an_effect() -> None:
    """It arrives and is counted, its signature does not fit, and it has no effect."""
    sandbox = make_sandbox(lambda callback: callback)
    sandbox.faults.inject(Fault.callback_forged(forgery="signature"))
    report = await pay_few(sandbox)
    assert [] == report.problems
    run = report.runs[0]
    assert (FEW + 2, FEW + 1) == (run.callbacks, run.verified)


async def test_callbacks_signed_by_another_key_have_no_effect() -> None:
    """No callback is verified, so every effect is missing."""
    sandbox = Sandbox(
        pay_key=KEY,
        merchant_public_key=KEY.public_key().export_key(),
        callback_schedule=(0.0,),
    )
    sandbox.callbacks.sign_rsa = RsaSigner.from_pem((KEYS / "rsa3072.pem").read_bytes()).sign
    report = await pay_few(sandbox, RsaSigner(KEY))
    assert (FEW + 1, 0) == (report.runs[0].callbacks, report.runs[0].verified)
    assert FEW + 1 == len(report.problems)


@pytest.mark.parametrize(
    ("scheme", "authentic", "confirmed", "problems"),
    [
        (Scheme.RSA, True, False, 0),
        (Scheme.RSA, False, True, 1),
        (Scheme.MD5, False, True, 0),
        (Scheme.MD5, False, False, 1),
    ],
)
async def test_effect_without_proof_is_a_problem(
    scheme: Scheme, *, authentic: bool, confirmed: bool, problems: int
) -> None:
    """By RSA the signature is the proof, by MD5 only a query is."""
    notification = TradeNotification(
        out_trade_no="1",
        inner_trade_no="2",
        trade_status="TRADE_SUCCESS",
        trade_amount=Decimal(1),
        authentic=authentic,
        fresh=True,
        confirmed=confirmed,
        raw={},
    )
    log = _CallbackLog(scheme=scheme, problems=[])
    await log.on_trade(notification)
    assert problems == len(log.problems)
    assert [("charge", "1", Decimal(1))] == log.effects


async def test_sandbox_after_the_payments_sends_no_callbacks() -> None:
    """The address is gone with its server, so that nothing waits for it."""
    sandbox = make_sandbox(lambda callback: callback)
    await pay_few(sandbox)
    assert sandbox.notify_url is None
    assert 0 == sandbox.callbacks.waiting


async def test_payments_may_exceed_the_quota() -> None:
    """The demo may make more than the platform's 400 calls a minute."""
    report = await pay_in_sandbox({Scheme.MD5: 140}, concurrency=32, advance=lambda: None)
    assert [] == list(report.problems)
    assert report.runs[0].attempts > 400


async def test_second_charge_is_a_problem() -> None:
    """An order that the ledger holds twice is named with its amount."""
    report = await pay_few(ChargesTwice(pay_key=KEY))
    assert ["demo-md5-00002: the ledger holds 2 × charge of 3.02 yuan, not 1"] == report.problems
    assert False is report.to_json()["ok"]


async def test_declined_payment_is_a_problem() -> None:
    """A declined order is a problem, and so are its charge and its refund that never came."""
    report = await pay_few(Declines(pay_key=KEY))
    declined, charge, refund, effect = report.problems
    assert declined.startswith("demo-md5-00000: ")
    assert "demo-md5-00000: the ledger holds 0 × charge of 1.00 yuan, not 1" == charge
    assert "demo-md5-00000-R: the ledger holds 0 × refund of 1.00 yuan, not 1" == refund
    assert "demo-md5-00000: the callbacks report 1 × failed of 1.00 yuan, not 0" == effect
    assert FEW - 1 == report.runs[0].paid


async def test_pay_sign_by_another_key_is_a_problem() -> None:
    """No payment goes on when its paySign does not fit the platform's key."""
    report = await pay_few(ForeignKey(pay_key=KEY))
    refused = [problem for problem in report.problems if "RSA signature does not fit" in problem]
    assert FEW == len(refused)
    assert 0 == report.runs[0].paid
    assert report.request_payment is None


async def test_refused_signature_is_a_problem_without_the_secret() -> None:
    """What the platform says stands in the problem, the secret does not."""
    report = await pay_few(Sandbox(pay_key=KEY), Md5Signer("canary-secret"))
    assert "CO_MSG_000006" in report.problems[0]
    assert "canary" not in "".join(report.problems)


async def test_failed_payment_does_not_stop_the_others() -> None:
    """One platform fault ends one payment; the rest is paid all the same."""
    sandbox = Sandbox(pay_key=KEY)
    sandbox.platform.fail_next("CO_MSG_000001")
    report = await pay_few(sandbox)
    assert FEW - 1 == report.runs[0].paid
    assert any("CO_MSG_000001" in problem for problem in report.problems)

"""The demo must notice whatever goes wrong: each test breaks the sandbox in one way."""

from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from attrs import evolve
from Crypto.PublicKey import RSA

from wxpay_async import Md5Signer, RsaSigner, Signer
from wxpay_async.cli.demo import (
    SCHEDULE,
    Order,
    Report,
    Scheme,
    _Session,
    orders,
    pay_through,
    run_demo,
)
from wxpay_async.protocol.notify import TradeNotification
from wxpay_async.sandbox import Sandbox
from wxpay_async.sandbox.callback_payloads import Callback

KEYS = Path(__file__).parents[1] / "vectors" / "keys"
KEY = RSA.import_key((KEYS / "pkcs8.pem").read_bytes())
FOREIGN = (KEYS / "rsa3072-public.pem").read_text()
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
        """Return somebody else's key."""
        return FOREIGN


async def pay_few(sandbox: Sandbox, signer: Signer | None = None) -> Report:
    """Pay a handful of orders through a sandbox, under the MD5 scheme unless told otherwise."""
    scheme = Scheme.RSA if isinstance(signer, RsaSigner) else Scheme.MD5
    async with sandbox:
        work = {scheme: (signer or Md5Signer(sandbox.app_secret), orders(scheme, FEW))}
        return await pay_through(sandbox, work, concurrency=FEW, advance=lambda: None)


def telling(change: Callable[[Callback], Callback | None]) -> Sandbox:
    """Make a sandbox that tells something else, or nothing, about the third order."""
    sandbox = Sandbox(
        pay_key=KEY,
        merchant_public_key=KEY.public_key().export_key(),
        callback_schedule=SCHEDULE,
    )

    def tell(notice: Callback) -> None:
        told = change(notice) if notice.out_trade_no.endswith("00002") else notice
        if told:
            sandbox.callbacks.enqueue(told)

    sandbox.platform.notify = tell
    return sandbox


def with_fields(notice: Callback, **fields: str) -> Callback:
    """Change what a callback says."""
    return evolve(notice, fields={**notice.fields, **fields})


def test_one_order_in_ten_is_refunded() -> None:
    """The first of every ten orders is given back, and numbers never repeat."""
    made = orders(Scheme.RSA, 25)
    assert [0, 10, 20] == [index for index, order in enumerate(made) if order.refunded]
    assert 25 == len({order.number for order in made})


def test_movements_of_an_order() -> None:
    """An order moves money once, and once more when it is refunded."""
    kept = Order(number="a", amount=Decimal("1.00"), refunded=False)
    given_back = Order(number="b", amount=Decimal("2.00"), refunded=True)
    assert [("charge", "a", Decimal("1.00"))] == list(kept.movements())
    assert [("charge", "b", Decimal("2.00")), ("refund", "b-R", Decimal("2.00"))] == list(
        given_back.movements()
    )


async def test_both_schemes_come_out_well() -> None:
    """Every payment is paid, one in ten refunded, and nothing is off."""
    ended: list[None] = []
    report = await run_demo(
        {Scheme.RSA: 11, Scheme.MD5: 4}, concurrency=4, advance=lambda: ended.append(None)
    )
    assert [] == list(report.problems)
    assert [(Scheme.RSA, 11, 11, 2), (Scheme.MD5, 4, 4, 1)] == [
        (run.scheme, run.payments, run.paid, run.refunded) for run in report.runs
    ]
    # By MD5 each of the five callbacks is confirmed by a query.
    assert [3 * 11 + 2, 3 * 4 + 1 + 5] == [run.attempts for run in report.runs]
    assert 15 == len(ended)


async def test_every_callback_is_counted() -> None:
    """One for each order and refund, all verified; what MD5 signs is confirmed by a query."""
    report = await run_demo({Scheme.RSA: 11, Scheme.MD5: 4}, concurrency=4, advance=lambda: None)
    assert [(13, 13, 0), (5, 5, 5)] == [
        (run.callbacks, run.verified, run.confirmed) for run in report.runs
    ]


@pytest.mark.parametrize("signer", [None, RsaSigner(KEY)])
async def test_a_callback_that_never_comes_is_found(signer: Signer | None) -> None:
    """An order that is paid without being told of is named."""
    report = await pay_few(telling(lambda _: None), signer)
    scheme = report.runs[0].scheme
    expected = f"demo-{scheme}-00002: the callbacks tell of 0 × charge of 3.02 yuan, not 1"
    assert [expected] == report.problems


async def test_a_refund_that_is_not_told_of_is_found() -> None:
    """A missing effect of a refund is named by the refund's own number."""
    sandbox = telling(lambda notice: notice)
    tell = sandbox.platform.notify
    sandbox.platform.notify = lambda notice: tell(notice) if notice.kind == "trade" else None
    report = await pay_few(sandbox)
    expected = "demo-md5-00000-R: the callbacks tell of 0 × refund of 1.00 yuan, not 1"
    assert [expected] == report.problems


async def test_another_amount_in_a_callback_is_found() -> None:
    """An effect of another amount is not the one that was wanted."""
    signer = RsaSigner(KEY)
    report = await pay_few(telling(lambda n: with_fields(n, trade_amount="9.99")), signer)
    assert [
        "demo-rsa-00002: the callbacks tell of 0 × charge of 3.02 yuan, not 1",
        "demo-rsa-00002: the callbacks tell of 1 × charge of 9.99 yuan, not 0",
    ] == report.problems


async def test_another_status_in_a_callback_is_found() -> None:
    """An effect of a status that nobody knows is not a payment."""
    sandbox = telling(lambda n: with_fields(n, trade_status="NOVELTY"))
    report = await pay_few(sandbox, RsaSigner(KEY))
    assert [
        "demo-rsa-00002: the callbacks tell of 0 × charge of 3.02 yuan, not 1",
        "demo-rsa-00002: the callbacks tell of 1 × unknown of 3.02 yuan, not 0",
    ] == report.problems


async def test_a_second_effect_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver that hands a payment on twice would be seen."""
    once = _Session.on_trade

    async def twice(desk: _Session, told: TradeNotification) -> None:
        await once(desk, told)
        if told.out_trade_no.endswith("00002"):
            await once(desk, told)

    monkeypatch.setattr(_Session, "on_trade", twice)
    report = await pay_few(telling(lambda notice: notice))
    expected = "demo-md5-00002: the callbacks tell of 2 × charge of 3.02 yuan, not 1"
    assert [expected] == report.problems


async def test_callbacks_that_come_twice_have_one_effect() -> None:
    """Repeated deliveries are counted, and nothing is off."""
    sandbox = telling(lambda notice: notice)
    sandbox.faults.double(count=2)
    report = await pay_few(sandbox)
    assert [] == report.problems
    run = report.runs[0]
    assert run.callbacks >= FEW + 1 + 2
    assert FEW + 1 == run.confirmed


async def test_callbacks_are_waited_for() -> None:
    """The report is made after the last callback, also when it comes late."""
    sandbox = telling(lambda notice: notice)
    sandbox.faults.pause(0.5, count=FEW + 1)
    report = await pay_few(sandbox)
    assert [] == report.problems
    assert FEW + 1 == report.runs[0].callbacks


async def test_a_forged_callback_is_not_verified() -> None:
    """It arrives and is counted, its signature does not fit, and it has no effect."""
    sandbox = telling(lambda notice: notice)
    sandbox.faults.forge("signature")
    report = await pay_few(sandbox)
    assert [] == report.problems
    run = report.runs[0]
    assert (FEW + 2, FEW + 1) == (run.callbacks, run.verified)


async def test_a_sandbox_that_signs_by_another_key() -> None:
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
async def test_an_effect_without_proof(
    scheme: Scheme, *, authentic: bool, confirmed: bool, problems: int
) -> None:
    """By RSA the signature is the proof, by MD5 only a query is."""
    told = TradeNotification(
        out_trade_no="1",
        inner_trade_no="2",
        trade_status="TRADE_SUCCESS",
        trade_amount=Decimal(1),
        authentic=authentic,
        fresh=True,
        confirmed=confirmed,
        raw={},
    )
    desk = _Session(scheme=scheme)
    await desk.on_trade(told)
    assert problems == len(desk.problems)
    assert [("charge", "1", Decimal(1))] == desk.effects


async def test_afterwards_the_merchant_takes_no_callbacks() -> None:
    """The address is gone with its server, so that nothing waits for it."""
    sandbox = telling(lambda notice: notice)
    await pay_few(sandbox)
    assert sandbox.notify_url is None
    assert 0 == sandbox.callbacks.waiting


async def test_the_report_holds_one_ready_request_payment() -> None:
    """The sample has exactly the fields that wx.requestPayment takes."""
    report = await run_demo({Scheme.MD5: 1}, concurrency=1, advance=lambda: None)
    fields = {"timeStamp", "nonceStr", "package", "signType", "paySign"}
    assert report.request_payment is not None
    assert fields == set(report.request_payment)
    assert report.request_payment == report.fields()["requestPayment"]


async def test_more_calls_than_the_quota() -> None:
    """The demo may make more than the platform's 400 calls a minute."""
    report = await run_demo({Scheme.MD5: 140}, concurrency=32, advance=lambda: None)
    assert [] == list(report.problems)
    assert report.runs[0].attempts > 400


async def test_a_second_charge_is_found() -> None:
    """An order that the ledger holds twice is named with its amount."""
    report = await pay_few(ChargesTwice(pay_key=KEY))
    assert ["demo-md5-00002: the ledger holds 2 × charge of 3.02 yuan, not 1"] == report.problems
    assert False is report.fields()["ok"]


async def test_a_payment_that_fails_is_found() -> None:
    """A declined order is a problem, and so are its charge and its refund that never came."""
    report = await pay_few(Declines(pay_key=KEY))
    declined, charge, refund, told = report.problems
    assert declined.startswith("demo-md5-00000: ")
    assert "demo-md5-00000: the ledger holds 0 × charge of 1.00 yuan, not 1" == charge
    assert "demo-md5-00000-R: the ledger holds 0 × refund of 1.00 yuan, not 1" == refund
    assert "demo-md5-00000: the callbacks tell of 1 × failed of 1.00 yuan, not 0" == told
    assert FEW - 1 == report.runs[0].paid


async def test_a_wrong_pay_sign_is_found() -> None:
    """No payment goes on when its paySign does not fit the platform's key."""
    report = await pay_few(ForeignKey(pay_key=KEY))
    refused = [problem for problem in report.problems if "RSA signature does not fit" in problem]
    assert FEW == len(refused)
    assert 0 == report.runs[0].paid
    assert report.request_payment is None


async def test_a_refused_signature_is_told_with_its_code() -> None:
    """What the platform says stands in the problem, the secret does not."""
    report = await pay_few(Sandbox(pay_key=KEY), Md5Signer("canary-secret"))
    assert "CO_MSG_000006" in report.problems[0]
    assert "canary" not in "".join(report.problems)


async def test_a_payment_does_not_need_the_others() -> None:
    """One platform fault ends one payment; the rest is paid all the same."""
    sandbox = Sandbox(pay_key=KEY)
    sandbox.platform.fail_next("CO_MSG_000001")
    report = await pay_few(sandbox)
    assert FEW - 1 == report.runs[0].paid
    assert any("CO_MSG_000001" in problem for problem in report.problems)

"""The demo must notice whatever goes wrong: each test breaks the sandbox in one way."""

import asyncio
import stat
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path

import pytest
from Crypto.PublicKey import RSA

from wxpay_async import InvalidKeyError, InvalidRequestError, Md5Signer, Signer
from wxpay_async.demo import (
    Order,
    Report,
    Scheme,
    merchant_key,
    orders,
    pay_through,
    run_demo,
    serve,
)
from wxpay_async.protocol.keys import load_private_key
from wxpay_async.sandbox import Sandbox

KEYS = Path(__file__).parent / "vectors" / "keys"
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
    """Pay a handful of orders through a sandbox under the MD5 scheme."""
    async with sandbox:
        work = {
            Scheme.MD5: (signer or Md5Signer(sandbox.app_secret), orders(Scheme.MD5, FEW)),
        }
        return await pay_through(sandbox, work, concurrency=FEW, advance=lambda: None)


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
    assert [3 * 11 + 2, 3 * 4 + 1] == [run.attempts for run in report.runs]
    assert 15 == len(ended)


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
    declined, charge, refund = report.problems
    assert declined.startswith("demo-md5-00000: ")
    assert "demo-md5-00000: the ledger holds 0 × charge of 1.00 yuan, not 1" == charge
    assert "demo-md5-00000-R: the ledger holds 0 × refund of 1.00 yuan, not 1" == refund
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


async def test_serve_runs_until_it_is_cancelled() -> None:
    """The announcement comes when the sandbox listens; afterwards the port is free again."""
    sandbox, listening = Sandbox(pay_key=KEY), asyncio.Event()
    serving = asyncio.ensure_future(serve(sandbox, listening.set))
    await listening.wait()
    host, _, port = sandbox.url.removeprefix("http://").partition(":")
    _, writer = await asyncio.open_connection(host, int(port))
    writer.close()
    await writer.wait_closed()
    serving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await serving
    with pytest.raises(OSError, match=port):
        await asyncio.open_connection(host, int(port))


async def test_serve_on_a_port_that_is_taken() -> None:
    """A port in use is bad input, and nothing is announced."""
    announced: list[None] = []
    announce: Callable[[], None] = lambda: announced.append(None)  # noqa: E731 - its type
    async with Sandbox(pay_key=KEY) as first:
        port = int(first.url.rpartition(":")[2])
        with pytest.raises(InvalidRequestError, match="cannot listen there"):
            await serve(Sandbox(port=port, pay_key=KEY), announce)
    assert [] == announced


def test_merchant_key_is_made_once(tmp_path: Path) -> None:
    """A key that is not there is made for its owner only, and used again afterwards."""
    path = tmp_path / "merchant.pem"
    public = merchant_key(path)
    assert 0o600 == stat.S_IMODE(path.stat().st_mode)
    assert public == load_private_key(path.read_bytes()).public_key().export_key().decode()
    before = path.read_bytes()
    assert public == merchant_key(path)
    assert before == path.read_bytes()


def test_merchant_key_never_overwrites(tmp_path: Path) -> None:
    """A file that holds something else is refused and left alone."""
    path = tmp_path / "notes.txt"
    path.write_text("not a key")
    path.chmod(0o600)
    with pytest.raises(InvalidKeyError):
        merchant_key(path)
    assert "not a key" == path.read_text()


def test_merchant_key_through_a_dangling_link(tmp_path: Path) -> None:
    """A link to nowhere is not followed when the key is written."""
    link = tmp_path / "merchant.pem"
    link.symlink_to(tmp_path / "elsewhere.pem")
    with pytest.raises(InvalidKeyError, match="cannot be written"):
        merchant_key(link)
    assert not (tmp_path / "elsewhere.pem").exists()


def test_merchant_key_with_a_passphrase(tmp_path: Path) -> None:
    """An encrypted key is opened by its passphrase."""
    path = tmp_path / "merchant.pem"
    path.write_bytes(KEY.export_key(passphrase="pass", pkcs=8))
    path.chmod(0o600)
    assert KEY.public_key().export_key().decode() == merchant_key(path, "pass")
    with pytest.raises(InvalidKeyError, match="passphrase"):
        merchant_key(path)

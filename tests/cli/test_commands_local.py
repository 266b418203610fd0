"""The commands that start a platform on this machine, as a person meets them."""

from __future__ import annotations

import asyncio
import itertools
import json
import signal
import socket
import subprocess
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from aiohttp import web
from Crypto.PublicKey import RSA

from tests.cli.harness import Run, Start, wait_for
from wxpay_async import (
    ACK_HANDLED,
    Md5Verifier,
    Notifications,
    PayGateway,
    PayResult,
    RsaVerifier,
)
from wxpay_async.cli import demo
from wxpay_async.cli.demo import Order, create_prepay
from wxpay_async.protocol.keys import load_public_key
from wxpay_async.sandbox import Sandbox


@pytest.fixture(scope="module")
def two_keys() -> list[RSA.RsaKey]:
    """Make two keys; that takes a second."""
    return [RSA.generate(2048), RSA.generate(2048)]


@pytest.fixture(autouse=True)
def generated_keys(two_keys: list[RSA.RsaKey], monkeypatch: pytest.MonkeyPatch) -> None:
    """Give the demos of this process the same two keys by turns, instead of new ones."""
    turns = itertools.cycle(two_keys)
    monkeypatch.setattr(RSA, "generate", lambda _bits: next(turns))


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_sandbox_ends_cleanly_by_a_signal(process: Start, number: signal.Signals) -> None:
    """Ctrl-C and SIGTERM end the sandbox with exit code 0, after one line of JSON."""
    started = process("sandbox", "--port", "0", "--json")
    settings = json.loads(read_line(started))
    started.send_signal(number)
    found = wait_for(started)
    assert (0, "") == (found.code, found.out)
    assert "Traceback" not in found.err
    keys = {"WXPAY_APP_SECRET", "WXPAY_PAY_PUBLIC_KEY"}
    assert {"WXPAY_BASE_URL", "WXPAY_APP_KEY"} | keys == set(settings)


def read_line(started: subprocess.Popen[str]) -> str:
    """Read a line of a process's stdout."""
    assert started.stdout is not None
    return started.stdout.readline()


def test_sandbox_with_a_key_prints_lines_for_a_shell(
    run: Run, process: Start, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The printed lines can be pasted: a client with them is let in by its new key."""
    key = tmp_path / "a key.pem"
    started = process("sandbox", "--port", "0", "--scheme", "rsa", "--key-file", str(key))
    lines = [read_line(started)]
    while lines[-1] and "WXPAY_PLATFORM_KEY_FILE" not in lines[-1]:  # the last one
        lines.append(read_line(started))
    shell = subprocess.run(
        ["sh", "-c", f"{''.join(lines)} env"], capture_output=True, text=True, check=True, env={}
    )
    pairs = [line.split("=", 1) for line in shell.stdout.splitlines()]
    settings = {name: value for name, value in pairs if name.startswith("WXPAY_")}
    assert str(key) == settings["WXPAY_PRIVATE_KEY_FILE"]
    assert str(tmp_path / "sandbox-platform.pem") == settings["WXPAY_PLATFORM_KEY_FILE"]
    assert load_public_key(settings["WXPAY_PAY_PUBLIC_KEY"])
    for name, value in settings.items():
        monkeypatch.setenv(name, value)
    assert 0 == run("merchants", "--limit", "1").code
    started.send_signal(signal.SIGINT)
    assert 0 == wait_for(started).code


@pytest.mark.parametrize("scheme", ["md5", "rsa"])
async def test_sandbox_with_a_notify_url_sends_callbacks(
    process: Start, tmp_path: Path, scheme: str
) -> None:
    """They are signed so that the printed settings verify them."""
    taken: asyncio.Queue[tuple[dict[str, str], bytes]] = asyncio.Queue()

    async def answer(request: web.BaseRequest) -> web.Response:
        await taken.put((dict(request.headers), await request.read()))
        return web.Response(body=ACK_HANDLED)

    runner = web.ServerRunner(web.Server(answer))
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    address = f"http://127.0.0.1:{runner.addresses[0][1]}/notify"
    keys = ("--key-file", str(tmp_path / "a.pem"), "--callback-key-file", str(tmp_path / "b.pem"))
    options = ("--scheme", scheme, *(keys if scheme == "rsa" else ()))
    started = process("sandbox", "--port", "0", "--json", "--notify-url", address, *options)
    settings = json.loads(await asyncio.to_thread(read_line, started))
    prepay = await pay_order(settings)
    prepay.verify_pay_sign(settings["WXPAY_PAY_PUBLIC_KEY"])
    headers, body = await asyncio.wait_for(taken.get(), 60)
    verifier = (
        RsaVerifier.from_file(settings["WXPAY_PLATFORM_KEY_FILE"])
        if scheme == "rsa"
        else Md5Verifier(settings["WXPAY_APP_SECRET"])
    )
    read = Notifications(verifier, app_key=settings["WXPAY_APP_KEY"], allow_unsigned=False)
    notification = read.parse(headers, body)
    assert ("1", scheme == "rsa") == (notification.out_trade_no, notification.authentic)
    await runner.cleanup()


async def pay_order(settings: dict[str, str]) -> PayResult:
    """Pay order 1 at the sandbox that the settings lead to."""
    order = Order(number="1", amount=Decimal(1), refunded=False)
    async with PayGateway.from_env(settings) as gateway, aiohttp.ClientSession() as payer:
        prepay = await create_prepay(gateway, order)
        address = f"{settings['WXPAY_BASE_URL']}/sandbox/confirm"
        async with payer.post(address, data={"outTradeNo": "1"}) as answer:
            assert 200 == answer.status
    return prepay


def test_sandbox_for_other_machines_prints_a_warning(process: Start) -> None:
    """--allow-remote lets the host pass, with a warning on stderr."""
    started = process("sandbox", "--port", "0", "--host", "0.0.0.0", "--allow-remote", "--json")
    assert read_line(started).startswith('{"WXPAY_BASE_URL": "http://127.0.0.1:')
    started.send_signal(signal.SIGTERM)
    assert wait_for(started).err.startswith("warning: other machines can reach this sandbox")


def test_sandbox_on_a_port_in_use_is_bad_input(run: Run) -> None:
    """The address in use is one line and exit code 2."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        found = run("sandbox", "--port", str(taken.getsockname()[1]))
    assert 2 == found.code
    assert "cannot listen there" in found.error()


def pick(report: dict[str, Any], *names: str) -> list[tuple[Any, ...]]:
    """Return these figures of each scheme."""
    return [tuple(run[name] for name in names) for run in report["schemes"]]


def test_demo_as_a_process_prints_one_object(process: Start) -> None:
    """Twenty payments by both schemes: exit 0, one object on stdout, nothing on stderr."""
    found = wait_for(process("demo", "--payments", "20", "--json"))
    report = found.fields()
    assert "" == found.err
    assert report["ok"] is True
    payments = pick(report, "scheme", "payments", "paid", "refunded")
    assert [("rsa", 10, 10, 1), ("md5", 10, 10, 1)] == payments
    assert [(11, 11, 0), (11, 11, 11)] == pick(report, "callbacks", "verified", "confirmed")


@pytest.mark.parametrize(
    ("scheme", "payments", "counts"),
    [
        ("rsa", "3", [("rsa", 3)]),
        ("md5", "3", [("md5", 3)]),
        ("both", "3", [("rsa", 2), ("md5", 1)]),
        ("both", "1", [("rsa", 1)]),
    ],
)
def test_demo_shares_its_payments_among_the_schemes(
    run: Run, scheme: str, payments: str, counts: list[tuple[str, int]]
) -> None:
    """A scheme with none is left out."""
    report = run("demo", "--scheme", scheme, "--payments", payments, "--json").fields()
    assert counts == pick(report, "scheme", "paid")


def test_demo_prints_a_table_and_an_object_for_people(run: Run) -> None:
    """A table within 80 columns, a verdict, and an object that can be copied; no bar in a pipe."""
    shown = run("demo", "--payments", "2")
    above, brace, below = shown.out.partition("{")
    assert (0, "") == (shown.code, shown.err)
    assert max(len(line) for line in above.splitlines()) <= 80
    assert "Every order was charged once" in above
    header, *_ = [line.split() for line in above.splitlines() if "scheme" in line]
    rows = [dict(zip(header, line.split(), strict=True)) for line in above.splitlines()[3:5]]
    assert [("RSA", "2", "2", "0"), ("MD5", "2", "2", "2")] == [
        (row["scheme"], row["callbacks"], row["verified"], row["confirmed"]) for row in rows
    ]
    assert "━" not in above
    assert "paySign" in json.loads(brace + below)


class ChargesTwice(Sandbox):
    """Takes all money twice."""

    def confirm(self, out_trade_no: str) -> None:
        """Confirm, and charge again."""
        super().confirm(out_trade_no)
        self.platform.ledger.append(self.platform.ledger[-1])


class SendsNoCallbacks(Sandbox):
    """Has no callbacks."""

    async def start(self) -> None:
        """Start, and ignore what callbacks would be about."""
        await super().start()
        self.platform.notify = lambda _: None


def test_demo_without_callbacks_exits_with_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three payments and two refunds have no effect."""
    monkeypatch.setattr(demo, "Sandbox", SendsNoCallbacks)
    found = run("demo", "--payments", "3")
    assert 1 == found.code
    assert 5 == found.out.count("the callbacks report 0 × ")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_demo_with_problems_lists_them_and_exits_with_1(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: Sequence[str]
) -> None:
    """Every order that is charged twice is listed."""
    monkeypatch.setattr(demo, "Sandbox", ChargesTwice)
    found = run("demo", "--payments", "3", "--scheme", "md5", *options)
    assert 1 == found.code
    assert "error: the demo went wrong in 3 places\n" == found.err
    assert 3 == found.out.count("the ledger holds 2 × charge") + found.out.count(r"2 \u00d7 charge")
    assert "Every order was charged once" not in found.out


def test_demo_with_many_problems_prints_the_first_twenty(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how many more there are."""
    monkeypatch.setattr(demo, "Sandbox", ChargesTwice)
    found = run("demo", "--payments", "23", "--scheme", "md5")
    assert 20 == found.out.count("the ledger holds 2 × charge")
    assert "and 3 more" in found.out

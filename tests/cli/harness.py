"""Run commands, in this process or in one of their own, and hold what they print."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from typing import Any, Final, NamedTuple

import aiohttp
import typer
from Crypto.PublicKey import RSA

from tests.support.vectors import PRIVATE_KEY
from wxpay_async import PayGateway, PayResult
from wxpay_async.cli.demo import Order, create_prepay
from wxpay_async.cli.main import app

KEY: Final = RSA.import_key(PRIVATE_KEY.read_bytes())
SECRET: Final = "canary-secret-0123456789"
ORDER: Final = ("--out-trade-no", "1")
PAYER: Final = ("--openid", "openid-of-payer", "--app-id", "wx9236b1e84ffbf10a")
SALE: Final = ("--subject", "tea", "--payee", "1000", "--payer-ip", "11.22.33.44")
TRADE: Final = ("trade", *SALE, *PAYER)
PAY: Final = ("pay", *PAYER)
PROGRAM: Final = (sys.executable, "-m", "wxpay_async.cli")


class Ended(NamedTuple):
    """What a command left behind."""

    code: int
    out: str
    err: str

    def fields(self) -> dict[str, Any]:
        """Read the one line of JSON that stdout must be."""
        assert (0, 1) == (self.code, self.out.count("\n")), self
        found: dict[str, Any] = json.loads(self.out)
        return found

    def error(self) -> str:
        """Return the one line of an error: nothing on stdout, no traceback, at most a hint."""
        assert "" == self.out
        line, *more = self.err.splitlines(keepends=True)
        assert line.startswith("error: ")
        assert line.endswith("\n")
        assert all(each.startswith("hint: ") for each in more), self.err
        assert len(more) <= 1
        return line


Run = Callable[..., Ended]
Start = Callable[..., subprocess.Popen[str]]


def wait_for(process: subprocess.Popen[str]) -> Ended:
    """Wait for a process."""
    out, err = process.communicate(timeout=60)
    return Ended(process.returncode, out, err)


def run_python(code: str) -> Ended:
    """Run a few lines in an interpreter of their own."""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def create_trade(run: Run, *more: str) -> str:
    """Create order 1 of one yuan, and return its payToken."""
    token: str = run(*TRADE, *ORDER, "--amount", "1.00", *more, "--json").fields()["payToken"]
    return token


async def pay_at(settings: dict[str, str]) -> PayResult:
    """Pay order 1 at the sandbox that the settings lead to."""
    order = Order(number="1", amount=Decimal(1), refunded=False)
    async with PayGateway.from_env(settings) as gateway, aiohttp.ClientSession() as payer:
        prepay = await create_prepay(gateway, order)
        address = f"{settings['WXPAY_BASE_URL']}/sandbox/confirm"
        async with payer.post(address, data={"outTradeNo": "1"}) as answer:
            assert 200 == answer.status
    return prepay


def find_commands() -> dict[str, Any]:
    """Return every command with its parameters; one of a group has both names, as in `a b`."""
    group: Any = typer.main.get_command(app)
    found: dict[str, Any] = {}
    for name, command in group.commands.items():
        inner: dict[str, Any] = getattr(command, "commands", {})
        found |= {f"{name} {each}": inner[each] for each in inner} or {name: command}
    return found

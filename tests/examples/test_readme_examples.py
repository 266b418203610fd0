"""The four examples of the README as people run them, each as it is printed."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import signal
import socket
import sys
from pathlib import Path
from typing import Any

from attrs import define

from tests.support.pages import README, find_blocks, find_files
from tests.support.services import absent

PATIENCE = 240.0  # seconds until a stuck test fails; nothing ever asserts on it
JSAPI = {"timeStamp", "nonceStr", "package", "signType", "paySign"}
PAYER = {"openid": "o_paid"}  # confirms at once

Fixture = Any
"""A class or function of the conftest.py, which no test module can import."""


@define
class Shop:
    """The README's shop, and a sandbox with which it is registered."""

    system: Fixture

    async def pay(self, number: str, *, how: str = "json") -> tuple[int, dict[str, Any]]:
        """Tap "pay" for an order; return the answer."""
        url = f"{self.system.server.url}/orders/{number}/pay"
        async with self.system.session.post(url, **{how: PAYER}) as reply:
            return reply.status, await reply.json()

    async def run(self, name: str, *arguments: str) -> str:
        """Run a script of the README; return what it prints."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, name, *arguments),
            env=self.system.server.environment,
            cwd=self.system.folder,
            stdout=asyncio.subprocess.PIPE,
        )
        printed, _ = await process.communicate()
        assert 0 == process.returncode
        return printed.decode()

    def count(self, kind: str) -> int:
        """Count what the platform executed."""
        return sum(entry.kind == kind for entry in self.system.sandbox.platform.ledger)


def test_readme_has_four_examples() -> None:
    """None is left out below."""
    files = {"checkout.py", "callback.py", "refund.py", "nightly.py", "refunds.csv"}
    bare = [it.place for it in find_blocks(README) if it.language == "python" and not it.name]

    assert files == find_files(README).keys()
    assert [] == bare


async def test_order_is_paid_at_every_tap_once(readme_shop: Fixture) -> None:
    """The phone gets one payment; its callback is handled; the openid is in no query string."""
    async with asyncio.timeout(PATIENCE), readme_shop() as system:
        shop = Shop(system)
        refused, _ = await shop.pay("order-1", how="params")
        paid, parameters = await shop.pay("order-1")
        await system.sandbox.callbacks_idle()
        again = await shop.pay("order-1")

        assert (422, 200) == (refused, paid)
        assert JSAPI == set(parameters)
        assert (200, parameters) == again
        assert 1 == shop.count("charge")
        assert (1, 0) == (system.sandbox.callbacks.acknowledged, system.sandbox.callbacks.given_up)


async def test_refunds_of_both_scripts_are_made_once(readme_shop: Fixture) -> None:
    """However often they run; the shop acknowledges the callback of each."""
    async with asyncio.timeout(PATIENCE), readme_shop() as system:
        shop = Shop(system)
        for number in ("order-1", "order-2"):
            await shop.pay(number)
        single = [await shop.run("refund.py", "order-1", "5.00") for _ in range(2)]
        nightly = [await shop.run("nightly.py") for _ in range(2)]
        await system.sandbox.callbacks_idle()

        assert ["refund S\n"] * 2 == single
        assert ["line 2 ok\nline 3 ok\n"] * 2 == nightly
        assert 3 == shop.count("refund")
        assert 5 == system.sandbox.callbacks.acknowledged


def pick_port() -> str:
    """Return a port that is free now."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return str(free.getsockname()[1])


def write_script() -> str:
    """Join the commands of "Run the examples", on free ports and without their installation."""
    commands = [block.text for block in find_blocks(README) if block.language == "console"][2:]
    script = "".join(commands).replace("8000", shop := pick_port())
    script = re.sub(r"^(\. \.venv|pip install).*\n", "", script, flags=re.MULTILINE)
    replaced = {
        r"^wxpay-async (sandbox .*)$": rf"$PYTHON -m wxpay_async \1 --port {pick_port()} &"
        "\nuntil [ -s sandbox.env ]; do sleep 0.1; done",
        r"^uvicorn (.*)$": rf"$PYTHON -m uvicorn \1 --port {shop} &",
        r"^curl ": "curl -sSf --retry 90 --retry-connrefused --retry-delay 1 ",
    }
    for pattern, text in replaced.items():
        script, count = re.subn(pattern, text, script, flags=re.MULTILINE)
        assert count, pattern
    return f"set -e\n{script}"


async def test_commands_of_the_examples_run(tmp_path: Path) -> None:
    """A sandbox, its settings, the shop, and two payments by curl, in one shell."""
    if shutil.which("curl") is None:
        absent("no curl, with which the README pays")
    for name, text in find_files(README).items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHON": sys.executable, "PYTHONPATH": str(README.parent)}
    shell = await asyncio.create_subprocess_exec(
        *("bash", "-c", f"{write_script()}\necho; echo done\nwait"),
        env=environment,
        cwd=tmp_path,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    try:
        assert shell.stdout is not None
        printed = (await asyncio.wait_for(shell.stdout.readuntil(b"done\n"), PATIENCE)).decode()
    finally:
        os.killpg(shell.pid, signal.SIGTERM)
        await shell.wait()

    assert 2 == printed.count('"package":"prepay_id=')
    assert (tmp_path / "wxpay.db").is_file()

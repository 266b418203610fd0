"""The four examples of the README as people run them, each as it is printed."""

from __future__ import annotations

import asyncio
import sys
from typing import Any

from attrs import define

from tests.support.markdown import README, find_files

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

    assert files == find_files(README).keys()


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
        assert ["2 ok\n3 ok\n"] * 2 == nightly
        assert 3 == shop.count("refund")
        assert 5 == system.sandbox.callbacks.acknowledged

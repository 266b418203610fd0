"""The nightly refunds as cron runs them: each once, however often, and what failed is named."""

from __future__ import annotations

import asyncio
import json
import os
import sys
from collections import Counter
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import pytest
from Crypto.PublicKey import RSA

from tests.support import asking
from tests.support.vectors import PRIVATE_KEY
from wxpay_async import MiniProgramPay, PayGateway
from wxpay_async.sandbox import Sandbox

SCRIPT: Final = Path(__file__).parents[2] / "examples" / "nightly_refunds.py"

pytest.importorskip("sqlalchemy")


@pytest.fixture
async def sandbox() -> AsyncIterator[Sandbox]:
    """Open a sandbox in which order O-1, of 10 yuan, is paid."""
    trade = asking.trade(
        trade_info=[asking.item(yuan="10.00")], pay_method=asking.method(yuan="10.00")
    )
    async with (
        Sandbox(pay_key=RSA.import_key(PRIVATE_KEY.read_bytes())) as opened,
        PayGateway.from_env(opened.settings()) as gateway,
    ):
        token = (await gateway.trade(trade)).pay_token
        await gateway.pay(
            MiniProgramPay(request_id="pay-1", pay_token=token, terminal_payer_id="openid-1")
        )
        opened.confirm("O-1")
        yield opened


async def run_script(sandbox: Sandbox, folder: Path, *amounts: str) -> tuple[int | None, str]:
    """Run the script over refunds R-0, R-1 … of order O-1; return its exit code and errors."""
    lines = [
        json.dumps({"outTradeNo": f"R-{n}", "origOutTradeNo": "O-1", "refundAmount": amount})
        for n, amount in enumerate(amounts)
    ]
    (folder / "night.jsonl").write_text("".join(f"{line}\n" for line in lines))
    store = f"sqlite:///{folder / 'wxpay.db'}"
    script = await asyncio.create_subprocess_exec(
        *(sys.executable, str(SCRIPT), str(folder / "night.jsonl")),
        env={**os.environ, **sandbox.settings(), "WXPAY_STORE_URL": store},
        stderr=asyncio.subprocess.PIPE,
    )
    _, told = await asyncio.wait_for(script.communicate(), timeout=120)
    return script.returncode, told.decode()


async def test_each_line_is_refunded_once_over_two_runs(sandbox: Sandbox, tmp_path: Path) -> None:
    """The second run finds everything in the store."""
    for _ in range(2):
        assert (0, "") == await run_script(sandbox, tmp_path, "1.00", "2.00", "3.00")

    refunds = Counter(entry.amount for entry in sandbox.platform.ledger if entry.kind == "refund")
    assert {1: 1, 2: 1, 3: 1} == refunds


async def test_line_that_is_refused_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    """The others are refunded all the same; the exit code tells cron."""
    code, told = await run_script(sandbox, tmp_path, "1.00", "99.00")

    assert 1 == code
    assert told.startswith("line 2: refused: ")
    assert 1 == sum(entry.kind == "refund" for entry in sandbox.platform.ledger)

"""Batches against a sandbox: files of requests, and the program with a quota that stops no test."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Final

from tests.cli.harness import PAY, TRADE, Run
from wxpay_async.sandbox import Sandbox

REFUNDS: Final = "refunds.jsonl"
OUTCOMES: Final = "refunds.jsonl.outcomes.jsonl"

_QUICK: Final = """
from wxpay_async.adapters.limiters.limiter import Quota
from wxpay_async.engine import environment
environment.make_quota = lambda _: Quota(limit=60_000, lease=75.0)
from wxpay_async.cli import main
main()
"""
QUICK_PROGRAM: Final = (sys.executable, "-c", _QUICK)

StartBatch = Callable[..., subprocess.Popen[str]]


def pay_order(run: Run, sandbox: Sandbox) -> None:
    """Create order 1 of 100 yuan, and pay it."""
    order = ("--out-trade-no", "1")
    trade = run(*TRADE, *order, "--amount", "100.00", "--json").fields()
    run(*PAY, *order, "--pay-token", trade["payToken"], "--json").fields()
    sandbox.confirm("1")


def write_lines(path: Path, lines: Iterable[dict[str, Any]]) -> Path:
    """Write a file of JSON Lines."""
    path.write_text("".join(f"{json.dumps(line)}\n" for line in lines))
    return path


def write_refunds(path: Path, count: int, **changes: str) -> Path:
    """Write refunds of order 1, each of a cent."""
    line = {"origOutTradeNo": "1", "refundAmount": "0.01"}
    return write_lines(path, ({"outTradeNo": f"R{n}", **line, **changes} for n in range(count)))


def read_rows(path: Path) -> list[dict[str, Any]]:
    """Read a file of outcomes, its stamp first."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def read_events(out: str, event: str) -> list[dict[str, Any]]:
    """Read the JSON lines of a command that tell of one thing."""
    return [found for line in out.splitlines() if (found := json.loads(line))["event"] == event]


def list_refunds(sandbox: Sandbox) -> list[str]:
    """Return the numbers of all refunds that were executed, in their order."""
    ledger = sandbox.platform.ledger
    return [entry.out_trade_nos[0] for entry in ledger if entry.kind == "refund"]


def wait_until(condition: Callable[[], object]) -> None:
    """Wait for something that another thread or process does."""
    for _ in range(6_000):
        if condition():
            return
        time.sleep(0.01)
    raise AssertionError("it did not come")


def stop_delays(sandbox: Sandbox) -> None:
    """Let replies come at once again."""
    sandbox.faults._replies.clear()  # there is no other way to take one back

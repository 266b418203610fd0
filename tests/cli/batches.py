"""Batches against a sandbox: files of requests, and the program with a quota that stops no test."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from tests.cli.harness import PAY, TRADE, Run
from tests.support.batches import make_refunds
from tests.support.clock import MovedClock
from wxpay_async.batch.line import Line
from wxpay_async.cli.progress import Progress
from wxpay_async.engine.streaming import Outcome
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.protocol.results import RefundResult
from wxpay_async.sandbox import Sandbox

REFUNDS: Final = "refunds.jsonl"
OUTCOMES: Final = "refunds.jsonl.outcomes.jsonl"

_QUICK: Final = """
from wxpay_async.adapters.limiters.limiter import Quota
from wxpay_async.engine import environment
environment.make_quota = lambda *_, **__: Quota(limit=60_000, lease=75.0)
from wxpay_async.cli import main
main()
"""
QUICK_PROGRAM: Final = (sys.executable, "-c", _QUICK)
FULL_PROGRAM: Final = (
    sys.executable,
    "-c",
    _QUICK.replace("limit=60_000", "limit=4, period=600.0"),
)
"""Its quota lets one call go, and the next one minutes later."""

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
    sandbox.faults.clear()


LINES = make_refunds(40)


def make_ok(line: Line = LINES[0], *, replayed: bool = False, at: float | None = None) -> Any:  # noqa: ANN401 - an outcome
    """Make the outcome of a refund that succeeded."""
    settled = None if at is None else datetime.fromtimestamp(at, UTC)
    result = RefundResult(out_trade_no="R-1", status="S", replayed=replayed)
    return Outcome(kind="ok", request=line, result=result, settled_at=settled)


def hear(progress: Progress, *kinds: EventKind, **fields: Any) -> None:  # noqa: ANN401 - of an event
    """Tell of events."""
    for kind in kinds:
        progress(Event(kind=kind, operation="refund", **fields))


def call(progress: Progress, clock: MovedClock, count: int, *, every: float) -> None:
    """Make calls that succeed at once."""
    for n in range(count):
        hear(progress, EventKind.CALL_STARTED, EventKind.ATTEMPT_STARTED)
        held = {"batch": min(n + 1, 380)}
        hear(progress, EventKind.ATTEMPT_ENDED, fate="ok", quota_in_use=n + 1, quota_held=held)
        hear(progress, EventKind.OUTCOME)
        progress.add(make_ok())
        clock.move(every)

"""Write and read files of outcomes."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator, Iterable
from datetime import timedelta
from pathlib import Path
from typing import Any

from tests.support.outcomes import NOON
from wxpay_async.batch.outcome_file import write_outcomes
from wxpay_async.batch.stamp import Stamp
from wxpay_async.batch.tally import LineOutcome

DAY = 24 * 3600.0
STAMP = Stamp(
    store="postgresql://db:5432/pay",
    app_key="app-1",
    operation="refund",
    input="退款.jsonl",
    begun_at=NOON,
)
STAMP_LINE = {
    "version": 1,
    "store": "postgresql://db:5432/pay",
    "appKey": "app-1",
    "operation": "refund",
    "input": "退款.jsonl",
    "begunAt": "2026-11-27T04:00:00+00:00",
}


async def iterate(outcomes: Iterable[LineOutcome]) -> AsyncIterator[LineOutcome]:
    """Yield outcomes as a store would."""
    for outcome in outcomes:
        yield outcome


async def write(folder: Path, *outcomes: LineOutcome, as_csv: bool = False) -> Path:
    """Write outcomes; return the file."""
    path, table = folder / "out.jsonl", folder / "out.csv"
    await write_outcomes(
        path,
        iterate(outcomes),
        stamp=STAMP,
        begun_at=NOON + timedelta(days=1),
        csv_path=table if as_csv else None,
    )
    return table if as_csv else path


def read(path: Path) -> list[dict[str, Any]]:
    """Read JSON Lines."""
    return [json.loads(line) for line in path.read_text("utf-8").splitlines()]


def mode_of(path: Path) -> int:
    """Return who may do what with a file."""
    return path.stat().st_mode & 0o777


def names_in(folder: Path) -> set[str]:
    """Return the names of the files in a folder, hidden ones too."""
    return {path.name for path in folder.iterdir()}

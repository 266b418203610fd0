"""Make the table of problems of `docs/web.md` from the code.

`python -m tests.support.problem_table` prints it.
"""

from __future__ import annotations

import sys

from wxpay_async.errors import (
    OtherPayerError,
    QuotaExhaustedError,
    TradeUnusableError,
    WxPayError,
)
from wxpay_async.integrations.problems import PROBLEM_TYPES, Problem


def make_table() -> str:
    """Return the table: a row for each type, with its errors."""
    lines = [
        "| `error` | status | title | errors, and when to try again |",
        "| --- | --- | --- | --- |",
    ]
    for kind in dict.fromkeys(PROBLEM_TYPES.values()):
        errors = [error for error, its in PROBLEM_TYPES.items() if its is kind]
        told = ", ".join(f"`{error.__name__}` {_when(error)}" for error in errors)
        lines.append(f"| `{kind.word}` | {kind.status} | {kind.title} | {told} |")
    return "\n".join(lines) + "\n"


def _when(error: type[WxPayError]) -> str:
    if error in {OtherPayerError, TradeUnusableError}:
        return "at its `retry_at`"
    if error is QuotaExhaustedError:
        return "after its `retry_after`"
    seconds = Problem.of(error("")).retry_after
    return "never" if seconds is None else f"after {seconds} s"


if __name__ == "__main__":
    sys.stdout.write(make_table())

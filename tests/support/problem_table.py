"""Make the table of problems of `docs/web.md` from the code.

`python -m tests.support.problem_table` prints it, with `--zh` the Chinese one.
"""

from __future__ import annotations

import sys
from typing import Final

from wxpay_async.errors import (
    OtherPayerError,
    QuotaExhaustedError,
    TradeUnusableError,
    WxPayError,
)
from wxpay_async.integrations.problems import PROBLEM_TYPES, Problem

_HEADS: Final = (
    "| `error` | status | title | errors, and when to try again |",
    "| `error` | 状态码 | 标题 | 异常，以及何时重试 |",
)


def make_table(language: int = 0) -> str:
    """Return the table, in English or Chinese: a row for each type, with its errors."""
    lines = [_HEADS[language], "| --- | --- | --- | --- |"]
    for kind in dict.fromkeys(PROBLEM_TYPES.values()):
        errors = [error for error, its in PROBLEM_TYPES.items() if its is kind]
        told = (", ", "、")[language].join(
            f"`{error.__name__}` {_when(error)[language]}" for error in errors
        )
        lines.append(f"| `{kind.word}` | {kind.status} | {kind.title} | {told} |")
    return "\n".join(lines) + "\n"


def _when(error: type[WxPayError]) -> tuple[str, str]:
    if error in {OtherPayerError, TradeUnusableError}:
        return "at its `retry_at`", "在它的 `retry_at`"
    if error is QuotaExhaustedError:
        return "after its `retry_after`", "在它的 `retry_after` 之后"
    seconds = Problem.of(error("")).retry_after
    return ("never", "不重试") if seconds is None else (f"after {seconds} s", f"{seconds} 秒后")


if __name__ == "__main__":
    sys.stdout.write(make_table(int("--zh" in sys.argv)))

"""Make the tables of errors of `docs/errors.md` and `docs/errors.zh.md` from the code.

`python -m tests.support.error_table` prints the English one, with `--zh` the Chinese one, with
`--codes` that of the errorCodes.
"""

from __future__ import annotations

import inspect
import re
import sys
from datetime import UTC, datetime

from attrs import frozen

from wxpay_async import errors
from wxpay_async.batch.report_texts import CHINESE_ADVICE
from wxpay_async.errors import ClockSkewError, WxPayError
from wxpay_async.hints import CODES as HINTS
from wxpay_async.policy.retry import RetryPolicy
from wxpay_async.protocol.error_codes import CODES

_ADVICE = re.compile(r"^What to do: (.+?)(?:\n\n|\Z)", re.MULTILINE | re.DOTALL)


@frozen
class Row:
    """What a merchant must know of one class."""

    name: str
    fate: str
    parents: tuple[str, ...]
    retried: str
    advice: str


def make_rows() -> list[Row]:
    """Return a row for each class of `errors.py`, in the order of its drawing."""
    kinds = [kind for kind in vars(errors).values() if _is_error(kind)]
    return [
        Row(
            kind.__name__,
            str(kind.fate),
            tuple(parent.__name__ for parent in kind.__mro__[1:] if _is_parent(parent)),
            count_retries(kind("")),
            _read_advice(kind),
        )
        for kind in kinds
    ]


def make_table() -> str:
    """Return the table of `docs/errors.md`."""
    lines = [
        "| error | fate | caught by | tried again by itself | what to do |",
        "| --- | --- | --- | --- | --- |",
    ]
    for row in make_rows():
        parents = ", ".join(f"`{name}`" for name in row.parents)
        lines.append(f"| `{row.name}` | {row.fate} | {parents} | {row.retried} | {row.advice} |")
    return "\n".join(lines) + "\n"


def make_chinese_table() -> str:
    """Return the table of `docs/errors.zh.md`: the same rows in Chinese, without the parents."""
    lines = ["| 异常 | fate | 自动重试 | 怎么做 |", "| --- | --- | --- | --- |"]
    for row in make_rows():
        retried = {"no": "否", "once": "一次", "yes": "是"}[row.retried]
        lines.append(f"| `{row.name}` | {row.fate} | {retried} | {CHINESE_ADVICE[row.name]} |")
    return "\n".join(lines) + "\n"


def make_codes_table() -> str:
    """Return the table of errorCodes of `docs/errors.md`: the hints, in English."""
    lines = ["| errorCode | meaning | error | hint |", "| --- | --- | --- | --- |"]
    for code, (kind, meaning) in CODES.items():
        lines.append(f"| `{code}` | {meaning} | `{kind.__name__}` | {HINTS[code][1].en} |")
    return "\n".join(lines) + "\n"


def make_chinese_codes_table() -> str:
    """Return the table of errorCodes of `docs/errors.zh.md`: the hints, in Chinese."""
    lines = ["| errorCode | 异常 | 怎么做 |", "| --- | --- | --- |"]
    for code, (kind, _) in CODES.items():
        lines.append(f"| `{code}` | `{kind.__name__}` | {HINTS[code][1].zh} |")
    return "\n".join(lines) + "\n"


def count_retries(error: WxPayError) -> str:
    """Ask the policy how often it tries again after this error, once and twice."""
    if isinstance(error, ClockSkewError):
        error.server_time = datetime.now(UTC)
    policy = RetryPolicy(attempts=10)
    pauses = [policy.pause([error] * n, left=1e6, random=0.5) for n in (1, 2)]
    return {0: "no", 1: "once", 2: "yes"}[sum(pause is not None for pause in pauses)]


def _is_error(kind: object) -> bool:
    return isinstance(kind, type) and issubclass(kind, WxPayError)


def _is_parent(kind: type) -> bool:
    return kind in {ValueError, TimeoutError} or issubclass(kind, WxPayError)


def _read_advice(kind: type[WxPayError]) -> str:
    found = _ADVICE.search(inspect.cleandoc(kind.__doc__ or ""))
    return " ".join(found[1].split()).removesuffix(".") if found else ""


if __name__ == "__main__":
    chinese = "--zh" in sys.argv
    if "--codes" in sys.argv:
        sys.stdout.write(make_chinese_codes_table() if chinese else make_codes_table())
    else:
        sys.stdout.write(make_chinese_table() if chinese else make_table())

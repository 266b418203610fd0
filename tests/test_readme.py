"""What the README says is what the code does."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

import wxpay_async
from wxpay_async import (
    ClockSkewError,
    InDoubtError,
    MalformedResponseError,
    NotSentError,
    WxPayError,
)
from wxpay_async.policy.retry import RetryPolicy

README = Path(__file__).parents[1] / "README.md"
ROW = re.compile(r"^\| `(\w+)`(?: \(([^)]*)\))? \| (\w+) \| (\w+) \|", re.MULTILINE)
ROWS = ROW.findall(README.read_text(encoding="utf-8"))


def example(name: str, variant: str) -> WxPayError:
    """Make the error of a row."""
    kind = getattr(wxpay_async, name)
    if kind is NotSentError:
        return NotSentError("", retryable=variant == "network")
    if kind in {InDoubtError, MalformedResponseError}:
        return kind("", retryable=not variant)
    error = kind("")
    if isinstance(error, ClockSkewError):
        error.server_time = datetime.now(UTC)
    return error


def tries(error: WxPayError) -> str:
    """Ask the policy how often it tries again after this error, and this error once more."""
    policy = RetryPolicy(attempts=10)
    pauses = [policy.pause([error] * n, left=1e6, roll=0.5) for n in (1, 2)]
    return {0: "no", 1: "once", 2: "yes"}[sum(pause is not None for pause in pauses)]


@pytest.mark.parametrize(("name", "variant", "fate", "retried"), ROWS)
def test_the_table_of_errors_is_true(name: str, variant: str, fate: str, retried: str) -> None:
    """Each row's fate and retrying are those of the class and of the policy."""
    error = example(name, variant)

    assert (fate, retried) == (str(error.fate), tries(error))


def test_the_table_names_every_error_that_a_call_can_raise() -> None:
    """No error is missing from the table."""
    exported = {
        name
        for name in wxpay_async.__all__
        if isinstance(getattr(wxpay_async, name), type)
        and issubclass(getattr(wxpay_async, name), WxPayError)
    }

    assert exported - {"WxPayError", "NotificationError"} == {name for name, *_ in ROWS}

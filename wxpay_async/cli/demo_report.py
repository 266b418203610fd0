"""Hold what the demo came to, and print it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from attrs import asdict, frozen

from wxpay_async.cli.options import Scheme
from wxpay_async.cli.output import (
    make_table,
    print_request_payment,
    print_rich,
    to_safe_text,
    write_stdout,
)

_MAX_PROBLEMS: Final = 20
_COUNTS: Final = ("paid", "refunded", "callbacks", "verified", "confirmed", "attempts")
_SUCCESS: Final = (
    "Every order was charged once and called back once, every paySign verified.\n"
    "An RSA callback needs no query; an MD5 one counts once a query confirmed it."
)


@frozen(kw_only=True)
class Run:
    """The result of the payments under one scheme.

    Attributes:
        scheme: how they were signed.
        payments: how many were asked for.
        paid: how many the platform calls paid.
        refunded: how many were given back.
        callbacks: how many were delivered, repetitions included.
        verified: how many of them had a valid signature.
        confirmed: how many payments and refunds a query confirmed first; none under RSA, which
            needs no query.
        attempts: HTTP requests that the gateway made.
        seconds: from the first order to the last answer or callback.
    """

    scheme: Scheme
    payments: int
    paid: int
    refunded: int
    callbacks: int
    verified: int
    confirmed: int
    attempts: int
    seconds: float

    @property
    def rate(self) -> float:
        """Payments per second."""
        return self.paid / self.seconds if self.seconds else 0.0


@frozen(kw_only=True)
class Report:
    """The result of the demo.

    Attributes:
        runs: one for each scheme.
        problems: what went wrong, a line each; empty when all is well.
        request_payment: the first prepay, as `wx.requestPayment` takes it.
    """

    runs: Sequence[Run]
    problems: Sequence[str]
    request_payment: Mapping[str, str] | None

    def to_json(self) -> dict[str, object]:
        """Return the report as JSON has it."""
        return {
            "ok": not self.problems,
            "schemes": [
                {**asdict(run), "seconds": round(run.seconds, 3), "rate": round(run.rate, 1)}
                for run in self.runs
            ],
            "problems": list(self.problems),
            "requestPayment": self.request_payment,
        }


def print_report(report: Report) -> None:
    """Print the report for people: a table, the problems, and one object that can be copied."""
    table = make_table(padding=0)  # nine columns within 80 characters
    table.add_column("scheme")
    for name in (*_COUNTS, "seconds", "paid/s"):
        table.add_column(name, justify="right")
    for run in report.runs:
        table.add_row(*_make_row(run))
    print_rich(table)
    if not report.problems:
        print_rich(_SUCCESS, style="green")
    for problem in report.problems[:_MAX_PROBLEMS]:
        write_stdout(f"{to_safe_text(problem)}\n")
    if (left := len(report.problems) - _MAX_PROBLEMS) > 0:
        write_stdout(f"and {left} more\n")
    if report.request_payment:
        print_request_payment(report.request_payment, "one wx.requestPayment, ready to use")


def _make_row(run: Run) -> tuple[str, ...]:
    counts = (str(getattr(run, name)) for name in _COUNTS)
    return run.scheme.upper(), *counts, f"{run.seconds:.2f}", f"{run.rate:.0f}"

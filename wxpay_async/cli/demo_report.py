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
    translate,
    write_stdout,
)
from wxpay_async.language import Sentence

_MAX_PROBLEMS: Final = 20
_COUNTS: Final = {
    "paid": Sentence("paid", "已支付"),
    "refunded": Sentence("refunded", "已退款"),
    "callbacks": Sentence("callbacks", "回调"),
    "verified": Sentence("verified", "已验签"),
    "confirmed": Sentence("confirmed", "查询确认"),
    "attempts": Sentence("attempts", "请求"),
}
_SCHEME: Final = Sentence("scheme", "签名")
_SECONDS: Final = Sentence("seconds", "秒")
_RATE: Final = Sentence("paid/s", "笔/秒")
_SUCCESS: Final = Sentence(
    "Every order was charged once and called back once, every paySign verified.\n"
    "An RSA callback needs no query; an MD5 one counts once a query confirmed it.",
    "每个订单都只扣款一次、只回调一次，每个 paySign 都通过了验签。\n"
    "RSA 签名的回调无需查询；MD5 签名的回调经查询确认后才算数。",
)
_MORE: Final = Sentence("and {count} more\n", "另有 {count} 处\n")
_SAMPLE: Final = Sentence(
    "one wx.requestPayment, ready to use", "一份 wx.requestPayment 的参数，可以直接使用"
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
    table.add_column(translate(_SCHEME))
    for heading in (*_COUNTS.values(), _SECONDS, _RATE):
        table.add_column(translate(heading), justify="right")
    for run in report.runs:
        table.add_row(*_make_row(run))
    print_rich(table)
    if not report.problems:
        print_rich(translate(_SUCCESS), style="green")
    for problem in report.problems[:_MAX_PROBLEMS]:
        write_stdout(f"{to_safe_text(problem)}\n")
    if (left := len(report.problems) - _MAX_PROBLEMS) > 0:
        write_stdout(translate(_MORE, count=left))
    if report.request_payment:
        print_request_payment(report.request_payment, translate(_SAMPLE))


def _make_row(run: Run) -> tuple[str, ...]:
    counts = (str(getattr(run, name)) for name in _COUNTS)
    return run.scheme.upper(), *counts, f"{run.seconds:.2f}", f"{run.rate:.0f}"

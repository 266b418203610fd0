"""The report of the demo, as people and programs read it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import pytest
from rich.cells import cell_len

from tests.cli.harness import Run, Start, wait_for
from wxpay_async.cli import demo
from wxpay_async.cli.demo import pay_in_sandbox
from wxpay_async.cli.options import Scheme
from wxpay_async.sandbox import Sandbox

pytestmark = pytest.mark.usefixtures("generated_keys")


def pick(report: dict[str, Any], *names: str) -> list[tuple[Any, ...]]:
    """Return these figures of each scheme."""
    return [tuple(run[name] for name in names) for run in report["schemes"]]


def test_demo_as_a_process_prints_one_object(process: Start) -> None:
    """Twenty payments by both schemes: exit 0, one object on stdout, nothing on stderr."""
    found = wait_for(process("demo", "--payments", "20", "--json"))
    report = found.fields()
    assert "" == found.err
    assert report["ok"] is True
    payments = pick(report, "scheme", "payments", "paid", "refunded")
    assert [("rsa", 10, 10, 1), ("md5", 10, 10, 1)] == payments
    assert [(11, 11, 0), (11, 11, 11)] == pick(report, "callbacks", "verified", "confirmed")


@pytest.mark.parametrize(
    ("scheme", "payments", "counts"),
    [
        ("rsa", "3", [("rsa", 3)]),
        ("md5", "3", [("md5", 3)]),
        ("both", "3", [("rsa", 2), ("md5", 1)]),
        ("both", "1", [("rsa", 1)]),
    ],
)
def test_demo_shares_its_payments_among_the_schemes(
    run: Run, scheme: str, payments: str, counts: list[tuple[str, int]]
) -> None:
    """A scheme with none is left out."""
    report = run("demo", "--scheme", scheme, "--payments", payments, "--json").fields()
    assert counts == pick(report, "scheme", "paid")


def test_demo_prints_a_table_and_an_object_for_people(run: Run) -> None:
    """A table within 80 columns, a verdict, and an object that can be copied; no bar in a pipe."""
    shown = run("demo", "--payments", "2")
    above, brace, below = shown.out.partition("{")
    assert (0, "") == (shown.code, shown.err)
    assert max(len(line) for line in above.splitlines()) <= 80
    assert "Every order was charged once" in above
    header, *_ = [line.split() for line in above.splitlines() if "scheme" in line]
    rows = [dict(zip(header, line.split(), strict=True)) for line in above.splitlines()[3:5]]
    assert [("RSA", "2", "2", "0"), ("MD5", "2", "2", "2")] == [
        (row["scheme"], row["callbacks"], row["verified"], row["confirmed"]) for row in rows
    ]
    assert "━" not in above
    assert "paySign" in json.loads(brace + below)


def test_demo_speaks_chinese(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its table fits into 80 columns, and JSON keeps its names."""
    monkeypatch.setenv("WXPAY_LANG", "zh")
    shown = run("demo", "--payments", "2")
    above, _, _ = shown.out.partition("{")
    headings = ["签名", "已支付", "已退款", "回调", "已验签", "查询确认", "请求", "秒", "笔/秒"]
    assert headings in [line.split() for line in above.splitlines()]
    assert "每个订单都只扣款一次" in above
    assert max(cell_len(line) for line in above.splitlines()) <= 80
    assert run("demo", "--payments", "1", "--json").fields()["ok"] is True


def test_demo_with_problems_counts_them_in_chinese(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Those that are not shown, too."""
    monkeypatch.setenv("WXPAY_LANG", "zh")
    monkeypatch.setattr(demo, "Sandbox", ChargesTwice)
    found = run("demo", "--payments", "23", "--scheme", "md5")
    assert "错误: demo 有 23 处出错\n" == found.err
    assert "另有 3 处\n" in found.out


class ChargesTwice(Sandbox):
    """Takes all money twice."""

    def confirm(self, out_trade_no: str) -> None:
        """Confirm, and charge again."""
        super().confirm(out_trade_no)
        self.platform.ledger.append(self.platform.ledger[-1])


class SendsNoCallbacks(Sandbox):
    """Has no callbacks."""

    async def start(self) -> None:
        """Start, and ignore what callbacks would be about."""
        await super().start()
        self.platform.notify = lambda _: None


def test_demo_without_callbacks_exits_with_1(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three payments and two refunds have no effect."""
    monkeypatch.setattr(demo, "Sandbox", SendsNoCallbacks)
    found = run("demo", "--payments", "3")
    assert 1 == found.code
    assert 5 == found.out.count("the callbacks report 0 × ")


@pytest.mark.parametrize("options", [[], ["--json"]])
def test_demo_with_problems_lists_them_and_exits_with_1(
    run: Run, monkeypatch: pytest.MonkeyPatch, options: Sequence[str]
) -> None:
    """Every order that is charged twice is listed."""
    monkeypatch.setattr(demo, "Sandbox", ChargesTwice)
    found = run("demo", "--payments", "3", "--scheme", "md5", *options)
    assert 1 == found.code
    assert "error: the demo went wrong in 3 places\n" == found.err
    assert 3 == found.out.count("the ledger holds 2 × charge") + found.out.count(r"2 \u00d7 charge")
    assert "Every order was charged once" not in found.out


def test_demo_with_many_problems_prints_the_first_twenty(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says how many more there are."""
    monkeypatch.setattr(demo, "Sandbox", ChargesTwice)
    found = run("demo", "--payments", "23", "--scheme", "md5")
    assert 20 == found.out.count("the ledger holds 2 × charge")
    assert "and 3 more" in found.out


async def test_report_holds_one_request_payment() -> None:
    """The sample has exactly the fields that wx.requestPayment takes."""
    report = await pay_in_sandbox({Scheme.MD5: 1}, concurrency=1, advance=lambda: None)
    fields = {"timeStamp", "nonceStr", "package", "signType", "paySign"}
    assert report.request_payment is not None
    assert fields == set(report.request_payment)
    assert report.request_payment == report.to_json()["requestPayment"]

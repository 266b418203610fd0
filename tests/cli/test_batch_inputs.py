"""What a batch is to do, as options, environment and columns say it; nothing is sent before."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.cli.batches import OUTCOMES, REFUNDS, list_refunds, write_refunds
from tests.cli.harness import Run
from wxpay_async.cli.batch_inputs import name_settings
from wxpay_async.sandbox import Sandbox

pytest.importorskip("sqlalchemy")
pytestmark = pytest.mark.usefixtures("folder")


@pytest.mark.parametrize(
    ("text", "operation"),
    [
        ('{"outTradeNo": "R1", "origOutTradeNo": "1", "refundAmount": "1"}', "refund"),
        ("out_trade_no,orig_out_trade_no,refund_amount\nR1,1,1.00", "refund"),
        ("outTradeNo,payToken,terminalPayerId\n1,token,openid", "pay"),
        ('{"tradeInfo": []}', "trade"),
    ],
)
def test_operation_is_what_the_columns_say(
    run: Run, sandbox: Sandbox, text: str, operation: str
) -> None:
    """A refundAmount says refund, a payToken pay, tradeInfo trade."""
    del sandbox
    Path("lines").write_text(text)
    found = run("batch", "lines", "--credentials" if operation != "pay" else "--html", "x")
    expected = f"a {operation} has no credentials" if operation != "pay" else "--html"
    assert (2, True) == (found.code, expected in found.error())


def test_operation_that_the_columns_do_not_say_is_asked_for(run: Run, sandbox: Sandbox) -> None:
    """Numbers of orders alone may be anything."""
    Path("lines.csv").write_text("outTradeNo\n1\n")
    assert "error: --operation: " in run("batch", "lines.csv").error()
    assert 0 == sandbox.platform.calls.total()


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ("--check --report", "--check, --report: both given"),
        ("--html page.html", "--html: "),
        ("--check --csv", "--csv, --credentials: "),
        ("--out nowhere/outcomes", "--out: nowhere is no folder"),
        ("--out refunds.jsonl", "--out: refunds.jsonl would be written twice"),
        ("--out outcomes.csv --csv", "--out: outcomes.csv would be written twice"),
        ("--store memory://", "--store, WXPAY_STORE_URL: it forgets"),
        ("--store sqlite://", "--store, WXPAY_STORE_URL: it forgets"),
        ("--store zzz://", "WXPAY_STORE_URL: no address of a store"),
        ("--report", "--store: "),
        ("--broker amqp://127.0.0.1 --store sqlite:///x.db", "workers cannot share this store"),
        ("--broker amqp://127.0.0.1", "workers cannot share this store"),
        ("--broker amqp://127.0.0.1 --store postgresql://h/d", "--quota, WXPAY_QUOTA_URL: not set"),
        ("--concurrency 0", "--concurrency"),
        ("--share 401", "--share"),
    ],
)
def test_bad_options_send_nothing(
    run: Run, sandbox: Sandbox, folder: Path, arguments: str, named: str
) -> None:
    """Exit code 2 and one line, which names the option."""
    write_refunds(folder / REFUNDS, 3)
    found = run("batch", REFUNDS, *arguments.split())
    assert (2, 0) == (found.code, sandbox.platform.calls.total())
    assert named in found.error()
    assert not (folder / OUTCOMES).exists()


def test_store_without_its_extra_is_bad_input(
    run: Run, sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One line that says what to install."""
    monkeypatch.setitem(sys.modules, "wxpay_async.adapters.stores.sql_engines", None)
    write_refunds(folder / REFUNDS, 3)
    found = run("batch", REFUNDS)
    assert (2, 0) == (found.code, sandbox.platform.calls.total())
    assert "sql_engines" in found.error()


def test_store_that_is_gone_stops_the_run(run: Run, paid: Sandbox, folder: Path) -> None:
    """A new one would know nothing of what was executed."""
    write_refunds(folder / REFUNDS, 3)
    assert 0 == run("batch", REFUNDS).code
    (folder / "wxpay.db").unlink()
    found = run("batch", REFUNDS)
    assert (2, 3) == (found.code, len(list_refunds(paid)))
    assert "wxpay.db is gone" in found.error()


def test_options_replace_the_variables_that_they_name() -> None:
    """One that is absent leaves its variable as it is."""
    given = name_settings(store="sqlite:///x.db", quota=None, share=200)

    assert {"WXPAY_STORE_URL": "sqlite:///x.db", "WXPAY_BATCH_SHARE": "200"} == given

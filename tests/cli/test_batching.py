"""Files of requests, through the program and against a sandbox."""

from __future__ import annotations

import json
import stat
from pathlib import Path

import pytest

from tests.cli.batches import (
    OUTCOMES,
    REFUNDS,
    list_refunds,
    read_events,
    read_rows,
    write_lines,
    write_refunds,
)
from tests.cli.harness import SECRET, TRADE, Run
from wxpay_async.sandbox import Sandbox

pytest.importorskip("sqlalchemy")
pytestmark = pytest.mark.usefixtures("folder")


def test_refunds_of_a_file_are_made_once_each(run: Run, paid: Sandbox, folder: Path) -> None:
    """Their outcomes are in the order of the file; store and outcomes are the owner's only."""
    write_refunds(folder / REFUNDS, 200)
    found = run("batch", REFUNDS)
    assert 0 == found.code, found.err  # which has the progress where the machine is slow
    assert found.out.startswith(f"store sqlite:///{folder}/wxpay.db: refund of 200 lines")
    assert "outcomes: refunds.jsonl.outcomes.jsonl\nexit code 0\n" in found.out
    assert sorted(f"R{n}" for n in range(200)) == sorted(list_refunds(paid))
    stamp, *rows = read_rows(folder / OUTCOMES)
    assert ("refund", REFUNDS) == (stamp["operation"], stamp["input"])
    assert [(n + 1, f"R{n}", "ok") for n in range(200)] == [
        (row["line"], row["outTradeNo"], row["outcome"]) for row in rows
    ]
    for name in ("wxpay.db", OUTCOMES):
        assert 0o600 == stat.S_IMODE((folder / name).stat().st_mode)


def test_finished_file_makes_no_call_again(run: Run, paid: Sandbox, folder: Path) -> None:
    """It ends as before, and the first stamp stays; what was known before is called replayed."""
    write_refunds(folder / REFUNDS, 20)
    assert 0 == run("batch", REFUNDS).code
    calls = sum(paid.platform.calls.values())
    stamp, *rows = read_rows(folder / OUTCOMES)
    assert {False} == {row["replayed"] for row in rows}
    found = run("batch", REFUNDS, "--json")
    assert (0, calls) == (found.code, sum(paid.platform.calls.values()))
    assert [stamp, *({**row, "replayed": True} for row in rows)] == read_rows(folder / OUTCOMES)
    (ended,) = read_events(found.out, "ended")
    assert {"ok": 20} == ended["counts"]


def test_json_is_all_that_stdout_has(run: Run, paid: Sandbox, folder: Path) -> None:
    """Each line is an object with its event."""
    del paid
    write_refunds(folder / REFUNDS, 3)
    found = run("batch", REFUNDS, "--json", "--out", "elsewhere.jsonl", "--csv")
    assert ["begun", "ended"] == [json.loads(line)["event"] for line in found.out.splitlines()]
    (ended,) = read_events(found.out, "ended")
    assert {"outcomes": "elsewhere.jsonl", "table": "elsewhere.csv"} == ended["files"]
    assert 4 == len(read_rows(folder / "elsewhere.jsonl"))
    assert 4 == len((folder / "elsewhere.csv").read_text().splitlines())


def test_check_needs_no_secret(run: Run, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The appKey is enough, which the requestIds are derived from."""
    write_refunds(folder / REFUNDS, 3)
    assert "WXPAY_APP_KEY: not set" in run("batch", REFUNDS, "--check").error()
    monkeypatch.setenv("WXPAY_APP_KEY", "k")
    assert (0, "refunds.jsonl: 3 lines, no fault\n", "") == run("batch", REFUNDS, "--check")
    (found,) = read_events(run("batch", REFUNDS, "--check", "--json").out, "checked")
    assert (3, [], 0) == (found["lines"], found["faults"], found["more"])


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("empty.jsonl", ""),
        ("utf16.csv", "\ufeffoutTradeNo"),
        ("long.jsonl", '{"outTradeNo": "' + "9" * 10_000_000 + '"}'),
        ("header.csv", "outTradeNo,refundAmount\nR1,1.00\n"),
    ],
)
def test_file_that_is_none_is_named(run: Run, sandbox: Sandbox, name: str, text: str) -> None:
    """Exit code 2, and nothing is sent."""
    Path(name).write_bytes(text.encode("utf-16-le" if "utf16" in name else "utf-8"))
    found = run("batch", name, "--operation", "refund")
    assert (2, 0) == (found.code, sandbox.platform.calls.total())
    assert name in found.err


def test_queries_of_a_file_have_outcomes(run: Run, paid: Sandbox, folder: Path) -> None:
    """The store keeps none of them, so they are written as they come."""
    del paid
    Path("orders.csv").write_text("outTradeNo\n1\nunknown\n")
    found = run("batch", "orders.csv", "--operation", "query")
    assert 1 == found.code
    _, *rows = read_rows(folder / "orders.csv.outcomes.jsonl")
    assert {"1": "ok", "unknown": "refused"} == {row["outTradeNo"]: row["outcome"] for row in rows}
    refused = run("batch", "orders.csv", "--operation", "query", "--report").error()
    assert "--report: queries leave nothing in the store" in refused


def test_outcomes_of_another_store_stop_the_run(run: Run, paid: Sandbox, folder: Path) -> None:
    """In the second store the lines are unknown, and would be sent again."""
    write_refunds(folder / REFUNDS, 3)
    assert 0 == run("batch", REFUNDS).code
    found = run("batch", REFUNDS, "--store", f"sqlite:///{folder}/other.db")
    assert (2, 3) == (found.code, len(list_refunds(paid)))
    assert "the batch began with the store sqlite:///" in found.err


def test_store_that_forgets_is_refused_by_the_name_of_its_option(
    run: Run, sandbox: Sandbox, folder: Path
) -> None:
    """A database in memory: the same command would send the lines again."""
    write_refunds(folder / REFUNDS, 1)
    found = run("batch", REFUNDS, "--store", "sqlite:///:memory:")
    assert (2, 0) == (found.code, sandbox.platform.calls.total())
    assert "error: --store, WXPAY_STORE_URL: it forgets with the process" in found.err
    assert not (folder / OUTCOMES).exists()


def test_changed_line_is_named_and_not_sent(run: Run, paid: Sandbox, folder: Path) -> None:
    """The requestId stands for another amount."""
    write_refunds(folder / REFUNDS, 3)
    assert 0 == run("batch", REFUNDS).code
    write_refunds(folder / REFUNDS, 3, refundAmount="0.02")
    assert 3 == run("batch", REFUNDS).code
    assert 3 == len(list_refunds(paid))
    _, *rows = read_rows(folder / OUTCOMES)
    assert {"IdempotencyConflictError"} == {row["code"] for row in rows}
    assert all("refundAmount" in row["message"] for row in rows)


@pytest.mark.slow
def test_platform_that_is_away_leaves_lines_to_the_same_command(
    run: Run, sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not sent, with its reason; nothing is made of a line that was not sent."""
    from wxpay_async.batch import batch as module  # noqa: PLC0415 - its patience is an hour

    monkeypatch.setattr(module, "PATIENCE", 1.0)
    write_refunds(folder / REFUNDS, 2)
    found = run("batch", REFUNDS, "--base-url", "http://127.0.0.1:9")
    assert (3, 0) == (found.code, sandbox.platform.calls.total())
    assert "next: the same command tries again what has no end" in found.err
    _, *rows = read_rows(folder / OUTCOMES)
    assert ["not_sent", "not_sent"] == [row["outcome"] for row in rows]


def test_report_shows_the_store_and_makes_no_call(
    run: Run, paid: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What has ended and what has not; the page is the owner's only."""
    pytest.importorskip("jinja2")
    write_refunds(folder / REFUNDS, 3)
    assert 0 == run("batch", REFUNDS).code
    write_refunds(folder / REFUNDS, 5)
    calls = paid.platform.calls.total()
    monkeypatch.setenv("WXPAY_BASE_URL", "http://127.0.0.1:9")
    found = run("batch", REFUNDS, "--report", "--html", "page.html")
    assert (4, "") == (found.code, found.err)
    assert "exit code 4" in found.out
    (report,) = read_events(run("batch", REFUNDS, "--report", "--json").out, "report")
    assert ({"ok": 3, "open": 2}, calls) == (report["counts"], paid.platform.calls.total())
    assert "</html>" in (folder / "page.html").read_text()
    assert 0o600 == stat.S_IMODE((folder / "page.html").stat().st_mode)


def test_payments_leave_their_credentials_in_one_place_only(
    run: Run, sandbox: Sandbox, folder: Path
) -> None:
    """The file of credentials is the owner's; nothing else shows a payToken or an openid."""
    pytest.importorskip("jinja2")
    tokens: list[str] = []
    for n in range(3):
        order = ("--out-trade-no", f"O{n}", "--amount", "1")
        tokens.append(run(*TRADE, *order, "--json").fields()["payToken"])
    lines = (
        {"outTradeNo": f"O{n}", "payToken": token, "terminalPayerId": "openid-of-payer"}
        for n, token in enumerate(tokens)
    )
    write_lines(folder / "pays.jsonl", lines)
    found = run("batch", "pays.jsonl", "--credentials", "keys.jsonl", "--csv")
    assert (0, "") == (found.code, found.err)
    keys = read_rows(folder / "keys.jsonl")
    assert ["O0", "O1", "O2"] == sorted(key["outTradeNo"] for key in keys)
    assert all("paySign" in key["jsapi"] for key in keys)
    assert 0o600 == stat.S_IMODE((folder / "keys.jsonl").stat().st_mode)
    again = run("batch", "pays.jsonl", "--json", "--report", "--html", "page.html")
    assert 0 == again.code
    shown = [*found, *again]
    files = ("pays.jsonl.outcomes.jsonl", "pays.jsonl.outcomes.csv", "page.html")
    shown += [(folder / name).read_text() for name in files]
    canaries = [*tokens, "openid-of-payer", SECRET]
    canaries += [key["jsapi"][name] for key in keys for name in ("paySign", "package")]
    assert not [canary for canary in canaries for text in shown if canary in str(text)]
    assert 3 == sum(entry.kind == "pay" for entry in sandbox.platform.ledger)


def test_payments_without_a_place_for_credentials_warn(
    run: Run, sandbox: Sandbox, folder: Path
) -> None:
    """They live for twenty minutes; the same command with the option still writes them."""
    token = run(*TRADE, "--out-trade-no", "1", "--amount", "1", "--json").fields()["payToken"]
    line = {"outTradeNo": "1", "payToken": token, "terminalPayerId": "openid-of-payer"}
    write_lines(folder / "pays.jsonl", [line])
    found = run("batch", "pays.jsonl")
    assert (0, True) == (found.code, found.err.startswith("warning: "))
    assert 0 == run("batch", "pays.jsonl", "--credentials", "keys.jsonl").code
    assert 1 == len(read_rows(folder / "keys.jsonl"))
    assert 1 == sum(entry.kind == "pay" for entry in sandbox.platform.ledger)

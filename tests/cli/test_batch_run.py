"""Batches that are stopped, killed and looked at while they run, as processes of their own."""

from __future__ import annotations

import contextlib
import signal
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cli.batches import (
    FULL_PROGRAM,
    OUTCOMES,
    QUICK_PROGRAM,
    REFUNDS,
    StartBatch,
    list_refunds,
    pay_order,
    read_events,
    read_rows,
    stop_delays,
    wait_until,
    write_refunds,
)
from tests.cli.harness import Run, wait_for
from wxpay_async.sandbox import Fault, Sandbox

pytest.importorskip("sqlalchemy")
pytestmark = pytest.mark.usefixtures("folder")

REFUND_PATH = "/api/instant/refund"


@pytest.fixture
def slow(run: Run, sandbox: Sandbox) -> Sandbox:
    """Have an order paid, and refunds take their time."""
    pay_order(run, sandbox)
    for _ in range(400):
        sandbox.faults.inject(Fault.delay(seconds=0.1, operation="refund"))
    return sandbox


@pytest.fixture
def start(sandbox: Sandbox) -> Iterator[StartBatch]:
    """Start batches as processes of their own; each is ended with its test."""
    del sandbox  # the environment points at it
    started: list[subprocess.Popen[str]] = []

    def start_batch(
        *arguments: str, program: Sequence[str] = QUICK_PROGRAM
    ) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            [*program, "batch", *arguments],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),  # noqa: PLW1509 - it takes no lock
        )
        started.append(process)
        return process

    yield start_batch
    for each in started:
        each.kill()
        each.communicate()


@pytest.mark.slow
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_signal_lets_calls_end_and_the_same_command_goes_on(
    run: Run, slow: Sandbox, start: StartBatch, folder: Path, number: signal.Signals, code: int
) -> None:
    """What was under way has its outcome, and nothing is sent twice."""
    write_refunds(folder / REFUNDS, 200)
    started = start(REFUNDS, "--concurrency", "4")
    wait_until(lambda: len(list_refunds(slow)) >= 20)
    started.send_signal(number)
    found = wait_for(started)
    assert code == found.code
    assert "stopping: " in found.err
    assert "next: stopped; the same command goes on, and sends nothing twice\n" in found.err
    assert f"exit code {code}\n" in found.out
    done = list_refunds(slow)
    _, *rows = read_rows(folder / OUTCOMES)
    assert sorted(done) == sorted(row["outTradeNo"] for row in rows if row["outcome"] == "ok")
    assert 200 == len(rows)
    assert {"ok", "open"} == {row["outcome"] for row in rows}
    stop_delays(slow)
    assert 0 == run("batch", REFUNDS).code
    assert sorted(f"R{n}" for n in range(200)) == sorted(list_refunds(slow))


def test_signal_waits_for_no_slot_of_the_quota(
    slow: Sandbox, start: StartBatch, folder: Path
) -> None:
    """One call was sent; the others wait for minutes, and are given up unsent."""
    write_refunds(folder / REFUNDS, 4)
    started = start(REFUNDS, program=FULL_PROGRAM)
    wait_until(lambda: len(list_refunds(slow)) == 1)
    started.send_signal(signal.SIGTERM)
    found = wait_for(started)
    assert (143, 1) == (found.code, len(list_refunds(slow)))
    _, *rows = read_rows(folder / OUTCOMES)
    assert ["ok", "open", "open", "open"] == sorted(row["outcome"] for row in rows)


def test_second_signal_cancels_the_calls(slow: Sandbox, start: StartBatch, folder: Path) -> None:
    """They may have been executed; the former outcomes stay."""
    stop_delays(slow)
    for _ in range(10):
        slow.faults.inject(Fault.delay(seconds=60.0, operation="refund"))
    write_refunds(folder / REFUNDS, 10)
    started = start(REFUNDS)
    wait_until(lambda: slow.platform.calls[REFUND_PATH] == 10)
    started.send_signal(signal.SIGTERM)
    assert started.stderr is not None
    assert started.stderr.readline().startswith("stopping: ")
    started.send_signal(signal.SIGINT)
    found = wait_for(started)
    assert 143 == found.code
    assert "next: cancelled; what was under way may have been executed." in found.err
    assert 1 == len(read_rows(folder / OUTCOMES))


def test_report_looks_while_a_run_goes_on(
    run: Run,
    slow: Sandbox,
    start: StartBatch,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """From another process, and without a call: its platform cannot be reached."""
    write_refunds(folder / REFUNDS, 200)
    started = start(REFUNDS, "--concurrency", "2")
    wait_until(lambda: len(list_refunds(slow)) >= 10)
    monkeypatch.setenv("WXPAY_BASE_URL", "http://127.0.0.1:9")
    found = run("batch", REFUNDS, "--report", "--json")
    (report,) = read_events(found.out, "report")
    assert (4, 200) == (found.code, report["lines"])
    assert {"ok", "open"} == set(report["counts"])
    started.send_signal(signal.SIGTERM)
    assert 143 == wait_for(started).code


@pytest.mark.slow  # the lines of the process that was killed are leased for 45 s
def test_run_that_is_killed_is_continued_by_the_same_command(
    run: Run, slow: Sandbox, start: StartBatch, folder: Path
) -> None:
    """Each refund is made once, and every line has its outcome."""
    write_refunds(folder / REFUNDS, 200)
    started = start(REFUNDS, "--concurrency", "8")
    wait_until(lambda: len(list_refunds(slow)) >= 60)
    started.kill()
    started.communicate()
    stop_delays(slow)
    assert 1 == len(read_rows(folder / OUTCOMES))  # the stamp of the run
    with contextlib.suppress(FileNotFoundError):
        assert not [each for each in folder.iterdir() if each.name.endswith(".part")]
    found = run("batch", REFUNDS)
    assert 0 == found.code, found
    assert sorted(f"R{n}" for n in range(200)) == sorted(list_refunds(slow))
    _, *rows = read_rows(folder / OUTCOMES)
    assert {"ok"} == {row["outcome"] for row in rows}

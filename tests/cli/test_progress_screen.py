"""Where the progress of a batch is shown: on a terminal, in a log, to a program."""

from __future__ import annotations

import json
from datetime import datetime

import pytest
from rich.console import Console

from tests.cli.batches import hear, make_ok
from tests.support.clock import LoopClock, virtual
from wxpay_async.cli.progress import Progress
from wxpay_async.cli.progress_screen import render, show_progress
from wxpay_async.engine.telemetry import EventKind
from wxpay_async.policy.lanes import Quota


def test_bar_has_the_same_on_eighty_columns(waiting: Progress) -> None:
    """Four lines at most, each whole."""
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(render(waiting))
    lines = captured.get().replace("\N{NO-BREAK SPACE}", " ").splitlines()
    assert 4 == len(lines)
    assert lines[0].startswith("refund ")
    assert lines[0].rstrip().endswith("200 of 10,000 2 %")
    assert "quota 200 of 400 (batch 200)" in lines[1]
    assert ["ok 200", "waiting for the quota until 12:01:00"] == [x.rstrip() for x in lines[2:]]


def test_bar_in_chinese_fits_eighty_columns(
    waiting: Progress, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same four lines."""
    monkeypatch.setenv("WXPAY_LANG", "zh")
    console = Console(width=80, force_terminal=False)
    with console.capture() as captured:
        console.print(render(waiting))
    bar, *lines = captured.get().splitlines()
    assert bar.startswith("退款 ")
    assert "200/10,000" in bar
    assert ["成功 200", "等待配额，到 12:01:00 为止"] == [x.rstrip() for x in lines[1:]]


@virtual
async def test_plain_lines_come_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """They go to stderr."""
    clock = LoopClock()
    progress = Progress(operation="refund", total=10, clock=clock)
    async with show_progress(progress, as_json=False):
        await clock.sleep(35)
    out, err = capsys.readouterr()
    assert ("", 3) == (out, err.count("refund 0 of 10"))


@virtual
async def test_json_lines_come_every_ten_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """They go to stdout, and say when a pause ends."""
    clock = LoopClock()
    progress = Progress(operation="refund", total=10, clock=clock, quota=Quota(limit=100))
    progress.add(make_ok())
    hear(progress, EventKind.PAUSED, seconds=30)
    async with show_progress(progress, as_json=True):
        await clock.sleep(15)
    (line,) = capsys.readouterr().out.splitlines()
    found = json.loads(line)
    assert ("progress", 10, 1, {"ok": 1}) == tuple(
        found[name] for name in ("event", "lines", "done", "counts")
    )
    assert ("paused", None) == (found["activity"], found["secondsLeft"])
    assert datetime.fromisoformat(found["until"]).tzinfo is not None

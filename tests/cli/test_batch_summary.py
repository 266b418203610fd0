"""What a batch tells at its end, and of the faults of a file."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.batches import REFUNDS, list_refunds, read_events, write_refunds
from tests.cli.harness import Run
from wxpay_async.sandbox import Sandbox

pytest.importorskip("sqlalchemy")
pytestmark = pytest.mark.usefixtures("folder")


def test_refused_lines_are_told_by_code_with_what_to_do(
    run: Run, paid: Sandbox, folder: Path
) -> None:
    """The exit code is 1, and JSON has the same."""
    path = write_refunds(folder / REFUNDS, 5)
    with path.open("a") as file:
        lines = ({"outTradeNo": f"X{n}", "origOutTradeNo": "no"} for n in range(3))
        file.writelines(f"{json.dumps({**line, 'refundAmount': '1'})}\n" for line in lines)
    found = run("batch", REFUNDS)
    assert 1 == found.code
    assert "GM_API_BUS_" in found.out
    assert "6, 7, 8" in found.out
    assert 5 == len(list_refunds(paid))
    (ended,) = read_events(run("batch", REFUNDS, "--json").out, "ended")
    assert ({"ok": 5, "refused": 3}, 1) == (ended["counts"], ended["exitCode"])
    (reason,) = ended["reasons"]
    assert ("refused", 3, [6, 7, 8]) == tuple(
        reason[name] for name in ("outcome", "lines", "firstLines")
    )


def test_end_is_told_in_chinese(
    run: Run, sandbox: Sandbox, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With the words of the report; the outcomes keep their names."""
    del sandbox
    write_refunds(folder / REFUNDS, 2)
    monkeypatch.setenv("WXPAY_LANG", "zh")
    found = run("batch", REFUNDS)
    assert 1 == found.code
    rows = [line.split() for line in found.out.splitlines()]
    assert ["结果", "行数", "含义与处理"] in rows
    assert "refused" in found.out
    assert "退出码 1" in found.out


HOSTILE = (
    ('{"outTradeNo": "R1", "origOutTradeNo": "1", "refundAmount": 1e2}', "line 2: refundAmount"),
    ('{"outTradeNo": "R2", "refundAmount": "1.00"}', "line 3: origOutTradeNo"),
    ('{"outTradeNo": "R0", "origOutTradeNo": "1", "refundAmount": "9.99"}', "line 4: requestId"),
    ("\x1b[2Jnonsense", "line 5: no JSON"),
)


def write_hostile(path: Path) -> None:
    """Write a file with one good line and four that are not."""
    write_refunds(path, 1)
    with path.open("a") as file:
        file.writelines(f"{line}\n" for line, _ in HOSTILE)


@pytest.mark.parametrize("arguments", [["--check"], []])
def test_faults_of_a_file_are_listed_and_nothing_is_sent(
    run: Run, sandbox: Sandbox, folder: Path, arguments: list[str]
) -> None:
    """All of them by line and field; no file is made."""
    write_hostile(folder / REFUNDS)
    found = run("batch", REFUNDS, *arguments)
    assert 2 == found.code
    assert "error: refunds.jsonl: 4 faults; nothing was sent\n" == found.err
    assert all(text in found.out for _, text in HOSTILE)
    assert "\x1b" not in found.out
    assert ([REFUNDS], 0) == (
        [each.name for each in folder.iterdir()],
        sandbox.platform.calls.total(),
    )

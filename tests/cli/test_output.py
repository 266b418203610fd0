"""What is printed: for people, for programs, and when stdout cannot be written."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.cli.harness import ORDER, PROGRAM, TRADE, Ended, Run
from wxpay_async import TradeStatus
from wxpay_async.cli.output import print_result
from wxpay_async.sandbox import Sandbox


@pytest.mark.usefixtures("sandbox")
def test_platform_text_with_markup_is_printed_as_it_is(run: Run) -> None:
    """What looks like markup or an emoji code is text."""
    trade = [argument.replace("tea", "[bold]:tea:[/bold]") for argument in TRADE]
    run(*trade, *ORDER, "--amount", "1.00")
    assert "[bold]:tea:[/bold]" in run("query", *ORDER).out


def test_platform_text_with_control_characters_cannot_control_the_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Control characters are replaced for people and escaped in JSON."""
    status = TradeStatus(out_trade_no="1", status="\x1b[31mpaid\x9b2J")
    print_result(status, as_json=False)
    print_result(status, as_json=True)
    out = capsys.readouterr().out
    assert "\x1b" not in out
    assert "\x9b" not in out
    assert r"\u001b[31mpaid\u009b2J" in out


def test_json_with_unknown_fields_keeps_them(capsys: pytest.CaptureFixture[str]) -> None:
    """What the platform adds to an answer is printed beside what is known."""
    raw = {"outTradeNo": "1", "status": "paid", "novelty": {"list": ["x"]}}
    print_result(TradeStatus(out_trade_no="1", status="paid", raw=raw), as_json=True)
    assert {"list": ["x"]} == json.loads(capsys.readouterr().out)["novelty"]


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
@pytest.mark.parametrize("options", [(), ("--json",)])
def test_answer_on_a_full_device_is_in_doubt(sandbox: Sandbox, options: Sequence[str]) -> None:
    """The order was made, so the exit code must not say that it was refused."""
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            [*PROGRAM, *TRADE, *ORDER, "--amount", "1", *options],
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert 1 == len(sandbox.platform.ledger)
    assert 4 == done.returncode
    assert "could not be written" in Ended(4, "", done.stderr).error()

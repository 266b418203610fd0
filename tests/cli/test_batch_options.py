"""The options of the commands for files, as their help texts tell them."""

from __future__ import annotations

from typing import get_args

import pytest

from tests.cli.harness import Run
from wxpay_async.batch.line import OPERATION_NAMES
from wxpay_async.cli import batch_options
from wxpay_async.cli.batch_options import Operation

SHARED = ("--broker", "--store", "--quota", "--app-key", "--base-url", "--json")
OF_BATCH = (
    *("--operation", "--out", "--csv", "--check", "--report", "--html", "--credentials"),
    "--concurrency",
)


@pytest.mark.parametrize(
    ("command", "options"),
    [("batch", (*SHARED, *OF_BATCH)), ("worker", (*SHARED, "--processes"))],
)
def test_help_of_a_command_names_its_options(
    run: Run, command: str, options: tuple[str, ...]
) -> None:
    """Each of them, and those of every command that makes a gateway."""
    found = run(command, "--help")
    assert 0 == found.code
    assert [] == [option for option in options if option not in found.out]


def test_operations_of_the_option_are_those_of_a_batch() -> None:
    """In the same order."""
    assert OPERATION_NAMES == tuple(str(each) for each in Operation)


def test_every_option_has_a_help_text() -> None:
    """It says what happens without the option, where that is not plain."""
    options = [get_args(each)[1] for each in vars(batch_options).values() if get_args(each)]
    assert 14 == len(options)
    assert [] == [option for option in options if not option.help]

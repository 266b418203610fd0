"""The Chinese texts of options stand in the module of options, and those of commands do not."""

from __future__ import annotations

import typer

from tests.cli.test_help_texts import walk
from wxpay_async.cli.help_of_options import OPTION_TEXTS
from wxpay_async.cli.main import app
from wxpay_async.cli.output import join_lines


def test_texts_of_options_are_those_of_the_parameters() -> None:
    """A reader finds each in the module of its kind."""
    found = {
        join_lines(parameter.help)
        for _, parameters in walk(typer.main.get_command(app))
        for parameter in parameters
        if getattr(parameter, "help", None)
    }

    assert found == set(OPTION_TEXTS)

"""Make the reference of the command line, `docs/cli.md`, from the commands themselves.

`python -m tests.support.cli_page` prints what follows the page's introduction.
"""

from __future__ import annotations

import enum
import inspect
import sys
from collections.abc import Iterator
from typing import Any, Final

import typer

import wxpay_async.cli  # registers the commands
from wxpay_async.cli.main import EXIT_CODES, app

PROGRAM: Final = "wxpay-async"
# Newer versions of typer carry a click of their own, so commands and parameters have no type here.
Command = Any

__all__ = ["EXIT_CODES", "PROGRAM", "find_options", "iter_commands", "make_page"]


def iter_commands() -> Iterator[tuple[str, Command]]:
    """Yield every command with its full name, groups before what is in them."""
    assert wxpay_async.cli
    yield from _iter_below(PROGRAM, typer.main.get_command(app))


def _iter_below(name: str, command: Command) -> Iterator[tuple[str, Command]]:
    yield name, command
    for word, below in getattr(command, "commands", {}).items():
        yield from _iter_below(f"{name} {word}", below)


def find_options(command: Command) -> set[str]:
    """Return the options that a command takes, `--help` among them."""
    options = {name for param in command.params for name in (*param.opts, *param.secondary_opts)}
    return {name for name in options if name.startswith("-")} | {"--help", "-h"}


def make_page() -> str:
    """Return a section for each command, with a table of what it takes."""
    return "\n".join(_make_section(name, command) for name, command in iter_commands())


def _make_section(name: str, command: Command) -> str:
    level = "##" if name.count(" ") < 2 else "###"
    params = [param for param in command.params if not param.hidden]
    params = [param for param in params if "completion" not in param.name]
    arguments = [param for param in params if not param.opts[0].startswith("-")]
    usage = " ".join([name, *(str(param.metavar) for param in arguments)])
    lines = [f"{level} `{usage}`", "", *_paragraphs(command.help), ""]
    if params:
        lines += ["| option or argument | meaning | default |", "| --- | --- | --- |"]
        lines += [_make_row(param) for param in params] + [""]
    return "\n".join(lines)


def _paragraphs(text: str | None) -> list[str]:
    parts = inspect.cleandoc(text or "").split("\n\n")
    return [word for part in parts for word in (" ".join(part.split()), "")][:-1]


def _make_row(param: Any) -> str:  # noqa: ANN401 - see Command
    names = ", ".join(f"`{name}`" for name in (*param.opts, *param.secondary_opts))
    if param.opts[0].startswith("-"):
        metavar = f" {param.metavar}" if param.metavar else ""
    else:
        names, metavar = f"`{param.metavar}`", ""
    meaning = " ".join((param.help or "").split()).replace("|", "\\|")
    return f"| {names}{metavar} | {meaning} | {_describe_default(param)} |"


def _describe_default(param: Any) -> str:  # noqa: ANN401 - see Command
    value = param.default.value if isinstance(param.default, enum.Enum) else param.default
    if param.required:
        return "required"
    plain = isinstance(value, str | int | float) and not isinstance(value, bool)
    return f"`{value}`" if plain else ""


if __name__ == "__main__":
    sys.stdout.write(make_page())

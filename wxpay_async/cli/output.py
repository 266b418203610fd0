"""Print results: as text for people, as JSON for programs, and warnings on one line each."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Final, cast

import attrs
import typer
from rich import box
from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table

from wxpay_async import InDoubtError
from wxpay_async.language import Sentence, find_language
from wxpay_async.protocol.validators import wire_name

WARNING: Final = Sentence("warning:", "警告:")


def translate(sentence: Sentence, /, **values: object) -> str:
    """Return a sentence in the language of the environment, with these values in it."""
    return sentence.in_language(find_language(os.environ)).format(**values)


def write_stderr(label: str, text: str, *, colour: str) -> None:
    """Write a line to stderr."""
    typer.echo(f"{typer.style(label, fg=colour, bold=True)} {text}", err=True)


@contextlib.contextmanager
def print_short_warnings() -> Generator[None]:
    """Print warnings without the line of code that Python adds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in caught:
                write_stderr(translate(WARNING), join_lines(str(warning.message)), colour="yellow")


def join_lines(text: str) -> str:
    """Put a text on one line."""
    return " ".join(text.split())


def make_console() -> Console:
    """Make a console that prints the platform's texts as they are: no markup, emoji or colours."""
    return Console(markup=False, emoji=False, highlight=False)


def make_table(*, padding: int = 1) -> Table:
    """Make a table in the style of all commands; the padding is on both sides of a cell."""
    return Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, padding))


def to_json(value: object) -> object:
    """Turn a result into JSON under the platform's names, unknown fields included."""
    if isinstance(value, Decimal | datetime):
        return str(value) if isinstance(value, Decimal) else value.isoformat()
    if isinstance(value, list | tuple):
        return [to_json(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return {name: to_json(item) for name, item in members.items()}
    kind = cast("type[attrs.AttrsInstance]", type(value))
    if not attrs.has(kind):
        return value
    known = {
        wire_name(attribute): to_json(getattr(value, attribute.name))
        for attribute in attrs.fields(kind)
        if attribute.name != "raw" and getattr(value, attribute.name) is not None
    }
    raw = cast("Mapping[str, object]", to_json(getattr(value, "raw", {})))
    return {**raw, **known}


def to_safe_text(value: object) -> str:
    """Turn a value into text that cannot control a terminal."""
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value).values()
        return "  ".join(to_safe_text(item) for item in members)
    if isinstance(value, list):
        return "\n".join(to_safe_text(item) for item in cast("list[object]", value))
    text = ("no", "yes")[value] if isinstance(value, bool) else str(value)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def write_stdout(text: str) -> None:
    """Write to stdout.

    Raises:
        InDoubtError: it cannot be written; what was done is done.
    """
    with _report_write_error():
        typer.echo(text, nl=False)


@contextlib.contextmanager
def _report_write_error() -> Generator[None]:
    """Turn a failed write into doubt: the platform's answer is lost, its effect is not."""
    try:
        yield
    except OSError as error:
        # Python flushes once more when it ends, and would then change the exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise InDoubtError(f"the answer could not be written ({error.strerror})") from error


def print_json(value: object, *, indent: int | None = None) -> None:
    """Write JSON to stdout."""
    # ASCII: a reader of JSON decodes it, and no text of the platform can control a terminal.
    write_stdout(f"{json.dumps(value, indent=indent)}\n")


def print_rich(renderable: RenderableType, *, style: str = "") -> None:
    """Write a table, a rule or a text of rich to stdout."""
    console = make_console()
    with _report_write_error():
        # Captured first: on a broken pipe rich would end the process with its own exit code.
        with console.capture() as captured:
            console.print(renderable, style=style)
        typer.echo(captured.get(), nl=False)


def print_result(
    result: object, *, as_json: bool, only: Sequence[str] = (), **more: object
) -> None:
    """Print a result.

    Args:
        result: of the gateway.
        as_json: as one line of JSON.
        only: the fields that a person sees; all when empty. JSON has them all.
        **more: further fields.
    """
    fields = {**cast("Mapping[str, object]", to_json(result)), **more}
    if as_json:
        print_json(fields)
    else:
        _print_fields({name: fields.get(name) for name in only or fields})


def _print_fields(fields: Mapping[str, object]) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in fields.items():
        if value not in (None, "", []) and value is not False:
            grid.add_row(name, to_safe_text(value))
    print_rich(grid)


def print_request_payment(params: Mapping[str, str], title: str) -> None:
    """Print the object for `wx.requestPayment` so that it can be copied in one piece."""
    print_rich("")
    print_rich(Rule(title, style="dim", align="left"))
    print_json(params, indent=2)  # wrapped by the terminal only

"""How things are shown: to people on a terminal, as JSON to programs, warnings on one line."""

from __future__ import annotations

import contextlib
import json
import os
import sys
import warnings
from collections.abc import Generator, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import cast

import attrs
import typer
from rich import box
from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.table import Table

from wxpay_async import InDoubtError
from wxpay_async.protocol.validators import wire_name


def tell(label: str, text: str, *, colour: str) -> None:
    """Write a line to stderr."""
    typer.echo(f"{typer.style(label, fg=colour, bold=True)} {text}", err=True)


@contextlib.contextmanager
def warnings_on_one_line() -> Generator[None]:
    """Tell warnings without the line of code that Python adds."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            yield
        finally:
            for warning in caught:
                tell("warning:", flat(str(warning.message)), colour="yellow")


def flat(text: str) -> str:
    """Put a text on one line."""
    return " ".join(text.split())


def console() -> Console:
    """Make a console that shows texts of the platform as they are: no markup, emoji or colours."""
    return Console(markup=False, emoji=False, highlight=False)


def new_table(*, padding: int = 1) -> Table:
    """Make a table in the style of all commands; the padding is on both sides of a cell."""
    return Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False, padding=(0, padding))


def as_fields(value: object) -> object:
    """Turn a result into JSON under the platform's names, unknown fields included."""
    if isinstance(value, Decimal | datetime):
        return str(value) if isinstance(value, Decimal) else value.isoformat()
    if isinstance(value, list | tuple):
        return [as_fields(item) for item in cast("Sequence[object]", value)]
    if isinstance(value, Mapping):
        members = cast("Mapping[str, object]", value)
        return {name: as_fields(item) for name, item in members.items()}
    kind = cast("type[attrs.AttrsInstance]", type(value))
    if not attrs.has(kind):
        return value
    known = {
        wire_name(attribute): as_fields(getattr(value, attribute.name))
        for attribute in attrs.fields(kind)
        if attribute.name != "raw" and getattr(value, attribute.name) is not None
    }
    raw = cast("Mapping[str, object]", as_fields(getattr(value, "raw", {})))
    return {**raw, **known}


def print_json(value: object, *, indent: int | None = None) -> None:
    """Write JSON to stdout."""
    # ASCII: a reader of JSON decodes it, and no text of the platform can steer a terminal.
    write(f"{json.dumps(value, indent=indent)}\n")


def print_shown(shown: RenderableType, *, style: str = "") -> None:
    """Write what rich renders to stdout."""
    screen = console()
    with _writing():
        # Captured first: on a broken pipe rich would end the process with its own exit code.
        with screen.capture() as captured:
            screen.print(shown, style=style)
        typer.echo(captured.get(), nl=False)


def write(text: str) -> None:
    """Write to stdout.

    Raises:
        InDoubtError: it cannot be written; what was done is done.
    """
    with _writing():
        typer.echo(text, nl=False)


@contextlib.contextmanager
def _writing() -> Generator[None]:
    """Tell an answer that cannot be shown from one that was refused."""
    try:
        yield
    except OSError as error:
        # Python flushes once more when it ends, and would then change the exit code.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        raise InDoubtError(f"the answer could not be written ({error.strerror})") from error


def _print_fields(fields: Mapping[str, object]) -> None:
    grid = Table.grid(padding=(0, 2))
    grid.add_column(style="dim", no_wrap=True)
    grid.add_column(overflow="fold")
    for name, value in fields.items():
        if value not in (None, "", []) and value is not False:
            grid.add_row(name, as_text(value))
    print_shown(grid)


def as_text(value: object) -> str:
    """Turn a value into text that cannot steer a terminal."""
    if isinstance(value, Mapping):
        return "  ".join(as_text(item) for item in cast("Mapping[str, object]", value).values())
    if isinstance(value, list):
        return "\n".join(as_text(item) for item in cast("list[object]", value))
    text = ("no", "yes")[value] if isinstance(value, bool) else str(value)
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def show(result: object, *, as_json: bool, only: Sequence[str] = (), **more: object) -> None:
    """Print a result.

    Args:
        result: of the gateway.
        as_json: as one line of JSON.
        only: the fields that a person sees; all when empty. JSON has them all.
        **more: further fields.
    """
    fields = {**cast("Mapping[str, object]", as_fields(result)), **more}
    if as_json:
        print_json(fields)
    else:
        _print_fields({name: fields.get(name) for name in only or fields})


def show_request_payment(params: Mapping[str, str], title: str) -> None:
    """Print the object for `wx.requestPayment` so that it can be copied in one piece."""
    print_shown("")
    print_shown(Rule(title, style="dim", align="left"))
    print_json(params, indent=2)  # wrapped by the terminal only

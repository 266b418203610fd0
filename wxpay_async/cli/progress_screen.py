"""Show the progress of a batch: a bar on a terminal, a line every 10 s elsewhere, or JSON.

All of it goes to stderr, except JSON.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Callable
from typing import Final

import typer
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from wxpay_async.cli.output import print_json, translate
from wxpay_async.cli.progress import COMMA, Progress

_LINE_EVERY: Final = 10.0
_FRAME_EVERY: Final = 0.25
"""Seconds between two lines, and between two looks of the bar."""


@contextlib.asynccontextmanager
async def show_progress(progress: Progress, *, as_json: bool) -> AsyncGenerator[None]:
    """Show the progress of a run within the block.

    Raises:
        InDoubtError: JSON could not be written; it is raised at the end of the block.
    """
    console = Console(stderr=True, markup=False, emoji=False, highlight=False)
    with contextlib.ExitStack() as stack:
        if as_json:
            shown = _repeat(progress, _LINE_EVERY, lambda: print_json(progress.to_json()))
        elif console.is_terminal:
            live = Live(console=console, auto_refresh=False, transient=True)
            stack.enter_context(live)
            shown = _repeat(
                progress, _FRAME_EVERY, lambda: live.update(render(progress), refresh=True)
            )
        else:
            shown = _repeat(progress, _LINE_EVERY, lambda: _write_line(progress))
        task = asyncio.create_task(shown)
        try:
            yield
        finally:
            task.cancel()
            (ended,) = await asyncio.gather(task, return_exceptions=True)
        if isinstance(ended, Exception):
            raise ended


async def _repeat(progress: Progress, seconds: float, show: Callable[[], object]) -> None:
    while True:
        await progress.clock.sleep(seconds)
        show()


def _write_line(progress: Progress) -> None:
    with contextlib.suppress(OSError):  # stderr is closed; the run must go on
        typer.echo(progress.describe(), err=True)


def render(progress: Progress) -> RenderableType:
    """Return the bar and what stands below it."""
    bar = Table.grid(padding=(0, 1), expand=True)
    for ratio in (None, 1, None, None):
        bar.add_column(no_wrap=True, ratio=ratio)
    bar.add_row(
        progress.describe_operation(),
        ProgressBar(total=max(progress.total, 1), completed=progress.done),
        progress.describe_done(),
        f"{100 * progress.done // max(progress.total, 1)}\N{NO-BREAK SPACE}%",
    )
    first = (progress.describe_rate(), progress.describe_left(), progress.describe_quota())
    lines = [
        Text(translate(COMMA).join(part for part in first if part)),
        Text(progress.describe_counts()),
        Text(progress.status.describe(progress), style="bold"),
    ]
    return Group(bar, *(line for line in lines if line.plain))

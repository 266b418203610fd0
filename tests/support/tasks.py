"""Let the event loop run, look at the tasks in it, and choose how tasks begin."""

from __future__ import annotations

import asyncio
import functools
import inspect
import os
import sys
import time
from collections.abc import Callable
from typing import Any

import pytest


async def run_loop(iterations: int = 10) -> None:
    """Let the event loop run so many iterations."""
    for _ in range(iterations):
        await asyncio.sleep(0)


async def wait_until(
    condition: Callable[[], object], *, pause: float = 0.0, within: float = 60.0
) -> None:
    """Wait until something holds that sets no event.

    Args:
        condition: what is asked again and again; it may be asynchronous.
        pause: seconds between two questions. With 0 the event loop runs once between them, so time
            stands still on a loop whose time is virtual.
        within: seconds of the machine's time after which the test fails.

    Raises:
        AssertionError: it did not come to hold.
    """
    end = time.monotonic() + within
    while time.monotonic() < end:
        holds = condition()
        if await holds if inspect.isawaitable(holds) else holds:
            return
        await asyncio.sleep(pause)
    raise AssertionError(f"it did not come to hold within {within:g} s")


def list_operations() -> set[str]:
    """Return the names of the tasks that carry operations out."""
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("wxpay")}


def obey_environment() -> None:
    """Make the tasks of every event loop eager where WXPAY_TEST_EAGER=1 asks for it.

    An eager task runs up to its first real wait as it is created.

    Raises:
        pytest.UsageError: the variable holds something else, or Python has no eager tasks.
    """
    asked_for = os.environ.get("WXPAY_TEST_EAGER", "")
    if asked_for not in {"", "0", "1"}:
        raise pytest.UsageError(f"WXPAY_TEST_EAGER must be 0 or 1, not {asked_for!r}")
    if asked_for == "1":
        if sys.version_info < (3, 12):
            raise pytest.UsageError("WXPAY_TEST_EAGER=1 needs Python 3.12 or newer")
        _make_tasks_eager()


def _make_tasks_eager() -> None:
    # Tests make loops in many ways; what all of them have in common is this class.
    make_lazy = asyncio.BaseEventLoop.__init__

    @functools.wraps(make_lazy)
    def make_eager(self: asyncio.BaseEventLoop, *arguments: Any, **named: Any) -> None:  # noqa: ANN401 - the loop's own
        make_lazy(self, *arguments, **named)
        self.set_task_factory(asyncio.eager_task_factory)

    asyncio.BaseEventLoop.__init__ = make_eager

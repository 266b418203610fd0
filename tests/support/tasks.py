"""Let the event loop run, and look at the tasks in it."""

from __future__ import annotations

import asyncio


async def run_loop(iterations: int = 10) -> None:
    """Let the event loop run so many iterations."""
    for _ in range(iterations):
        await asyncio.sleep(0)


def list_operations() -> set[str]:
    """Return the names of the tasks that carry operations out."""
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("wxpay")}

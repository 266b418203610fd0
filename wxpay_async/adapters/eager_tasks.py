"""Start tasks at once, in every Python: up to its first wait the work runs before `start_now` ends.

What waits for nothing is over by then, and what cannot be done in time is refused at once.
"""

from __future__ import annotations

import asyncio
import contextvars
import sys
from collections.abc import Coroutine, Generator
from typing import Any, TypeVar

T = TypeVar("T")

if sys.version_info >= (3, 12):

    def start_now(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a task, and run it to its first wait."""
        loop = asyncio.get_running_loop()
        return asyncio.Task(work, loop=loop, name=name, eager_start=True)

else:
    from asyncio.tasks import (  # documented for those who extend asyncio
        _enter_task,  # pyright: ignore[reportPrivateUsage]
        _leave_task,  # pyright: ignore[reportPrivateUsage]
    )

    class _Begun(Coroutine[Any, Any, T]):
        """A coroutine whose first step was made before the task came to run it."""

        def __init__(self, work: Coroutine[Any, Any, T]) -> None:
            self._work = work
            self._waits_for: asyncio.Future[Any] | None = None
            self._ended: BaseException | None = None

        def begin(self) -> None:
            """Run to the first wait, or to the end."""
            try:
                self._waits_for = self._work.send(None)
            except BaseException as error:  # noqa: BLE001 - the task raises it, see `send`
                self._ended = error
            if self._waits_for is not None:  # others may begin to wait for it before the task does
                self._waits_for._asyncio_future_blocking = False  # noqa: SLF001 - asyncio's mark

        def send(self, value: Any) -> Any:  # noqa: ANN401 - of any coroutine
            """Go on: hand the task what the first step waits for, or how it ended."""
            if self._ended is not None:
                raise self._ended
            waits_for, self._waits_for = self._waits_for, None
            if waits_for is None:
                return self._work.send(value)
            waits_for._asyncio_future_blocking = True  # noqa: SLF001 - as when it was awaited
            return waits_for

        def throw(self, *error: Any) -> Any:  # noqa: ANN401 - of any coroutine
            """Raise an error, the cancellation for example, where the work waits."""
            if self._ended is not None:
                raise self._ended
            waits_for, self._waits_for = self._waits_for, None
            if waits_for is not None:
                waits_for.cancel()
            return self._work.throw(*error)

        def close(self) -> None:
            """End the work where it waits."""
            self._work.close()

        def __await__(self) -> Generator[Any, Any, T]:
            """Await the work, as a coroutine that has not begun; a task does not do this."""
            return self._work.__await__()

    def start_now(work: Coroutine[Any, Any, T], name: str) -> asyncio.Task[T]:
        """Start a task, and run it to its first wait.

        Only Python 3.12 knows eager tasks. Here the first step is made in the task's name and
        context, by what asyncio documents for those who extend it; the task itself, which finds
        that step done, ends in the next iteration of the loop at the earliest.
        """
        loop, context, begun = asyncio.get_running_loop(), contextvars.copy_context(), _Begun(work)
        task = asyncio.Task(begun, loop=loop, name=name, context=context)
        caller = asyncio.current_task(loop)
        if caller is not None:
            _leave_task(loop, caller)
        _enter_task(loop, task)
        try:
            context.run(begun.begin)
        finally:
            _leave_task(loop, task)
            if caller is not None:
                _enter_task(loop, caller)
        return task

"""Tools that asyncio lacks: loop-local values, shielded tasks, running to completion."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine
from typing import Any, Generic, TypeVar

from attrs import define, field

T = TypeVar("T")


@define(eq=False)
class LoopLocal(Generic[T]):
    """Keeps one thing for the running loop, so that its owner can be made anywhere.

    Args:
        lifetime: makes the thing without waiting, yields it, and releases it afterwards. It is a
            generator because a loop closes those that are open when it shuts down (`asyncio.run`
            does): what is never closed is still released in the loop that it belongs to.
    """

    lifetime: Callable[[], AsyncGenerator[T]]
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _life: AsyncGenerator[T] | None = field(default=None, init=False)
    _thing: T | None = field(default=None, init=False)

    async def get(self) -> T:
        """Return the running loop's thing; made now if this is the first call."""
        loop = asyncio.get_running_loop()
        if self._thing is None or self._loop is not loop:
            self._loop, self._life = loop, self.lifetime()
            self._thing = await anext(self._life)
        return self._thing

    async def drop(self, thing: T) -> None:
        """Release it if it is still this one, which is of no use any more."""
        if self._thing is thing:
            await self.aclose()

    async def aclose(self) -> None:
        """Release it; the next `get` makes a new one."""
        life, self._life, self._thing = self._life, None, None
        if life is not None and self._loop is asyncio.get_running_loop():
            await life.aclose()


@define(eq=False)
class LoopLocalValue(Generic[T]):
    """Keeps one value for the running loop that needs no release.

    Args:
        make: makes the value.
    """

    make: Callable[[], T]
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)
    _value: T | None = field(default=None, init=False)

    def get(self) -> T:
        """Return the running loop's value; made now if this is the first call."""
        loop = asyncio.get_running_loop()
        if self._value is None or self._loop is not loop:
            self._loop, self._value = loop, self.make()
        return self._value


@define(eq=False)
class ShieldedTasks:
    """Runs work to its end, even when the caller is cancelled meanwhile.

    A transaction that is cut off in the middle leaves it to the driver and the server when its
    locks go; one that runs on ends by itself. So what a cancelled caller asked for may still be
    committed.
    """

    _running: set[asyncio.Task[Any]] = field(factory=set[asyncio.Task[Any]], init=False)

    def start(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Begin work that need not be awaited."""
        task = asyncio.create_task(work)
        self._running.add(task)
        task.add_done_callback(self._running.discard)
        return task

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Await the work; a cancellation ends only the waiting."""
        task = self.start(work)
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            task.add_done_callback(_retrieve)  # no caller is left to hear of its error
            raise

    async def finished(self) -> None:
        """Wait until nothing runs any more."""
        while self._running:
            await asyncio.wait(self._running)


def _retrieve(task: asyncio.Task[Any]) -> None:
    if not task.cancelled():
        task.exception()


async def run_to_completion(work: Coroutine[Any, Any, None]) -> None:
    """Await work that a cancellation must not cut short; the cancellation is raised afterwards."""
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await asyncio.wait([task])
        except asyncio.CancelledError as error:
            cancelled = error
    if cancelled is not None:
        raise cancelled from (None if task.cancelled() else task.exception())
    task.result()

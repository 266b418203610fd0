"""Loop-local values, work that outlives its caller, and work that a cancellation cannot cut."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import AsyncGenerator

import pytest

from wxpay_async.adapters.event_loop import (
    LoopLocal,
    LoopLocalValue,
    ShieldedTasks,
    run_to_completion,
)

# One resource for each loop


class Resources:
    """Makes numbered resources and notes which are released, and in a live loop."""

    def __init__(self) -> None:
        self.made = 0
        self.released: list[int] = []

    async def lifetime(self) -> AsyncGenerator[int]:
        """Make one, and release it at the end."""
        self.made += 1
        number = self.made
        try:
            yield number
        finally:
            await asyncio.sleep(0)
            self.released.append(number)


def test_loop_local_of_a_loop_that_ends_is_released() -> None:
    """Each loop has its own resource, and `asyncio.run` releases what was not closed."""
    resources = Resources()
    local = LoopLocal(resources.lifetime)

    async def get_twice() -> list[int]:
        return [await local.get(), await local.get()]

    assert [1, 1] == asyncio.run(get_twice())
    assert [1] == resources.released
    assert [2, 2] == asyncio.run(get_twice())
    assert [1, 2] == resources.released


async def test_loop_local_that_is_closed_is_made_again() -> None:
    """Closing twice, or before the first use, does no harm."""
    resources = Resources()
    local = LoopLocal(resources.lifetime)
    await local.aclose()
    first = await local.get()
    await local.aclose()
    await local.aclose()

    assert [1] == resources.released
    assert (1, 2) == (first, await local.get())
    await local.aclose()


async def test_loop_local_of_another_loop_is_left_alone() -> None:
    """Closing in a second loop does not touch what the first one has released already."""
    resources = Resources()
    local = LoopLocal(resources.lifetime)

    async def get() -> int:
        return await local.get()

    await asyncio.to_thread(asyncio.run, get())
    await local.aclose()

    assert [1] == resources.released


async def test_loop_local_drops_only_the_current_resource() -> None:
    """A resource that was replaced already is not released a second time."""
    resources = Resources()
    local = LoopLocal(resources.lifetime)
    first = await local.get()
    await local.drop(first)
    second = await local.get()
    await local.drop(first)

    assert ([1], 2) == (resources.released, second)
    assert second == await local.get()
    await local.aclose()


def test_loop_local_value_is_made_once_for_each_loop() -> None:
    """A value that needs no release is made by its first use in a loop."""
    values = LoopLocalValue(object)

    async def get_twice() -> tuple[object, object]:
        return values.get(), values.get()

    first, again = asyncio.run(get_twice())
    other, _ = asyncio.run(get_twice())

    assert first is again
    assert first is not other


# Work that outlives its caller


async def test_shielded_task_outlives_its_caller() -> None:
    """Cancelling the caller ends the waiting; `finished` waits for the work itself."""
    tasks, gate, done = ShieldedTasks(), asyncio.Event(), list[bool]()

    async def work() -> None:
        await gate.wait()
        done.append(True)

    caller = asyncio.ensure_future(tasks.run(work()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert [] == done

    gate.set()
    await tasks.finished()
    assert [True] == done


async def test_shielded_task_that_fails_after_its_caller_left_is_not_logged() -> None:
    """A call whose time was over has told its own error; the log must not tell another."""
    loop, tasks, gate, logged = asyncio.get_running_loop(), ShieldedTasks(), asyncio.Event(), []

    async def fail() -> None:
        await gate.wait()
        raise LookupError("late")

    loop.set_exception_handler(lambda _, context: logged.append(context))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0):
            await tasks.run(fail())
    gate.set()
    await tasks.finished()
    gc.collect()

    assert [] == logged


async def test_shielded_task_returns_or_raises_to_its_caller() -> None:
    """The result and the error of the work are the caller's."""

    async def fail() -> None:
        raise LookupError("no")

    tasks = ShieldedTasks()
    assert 3 == await tasks.run(asyncio.sleep(0, 3))
    with pytest.raises(LookupError):
        await tasks.run(fail())


# Work that a cancellation must not cut short


async def test_run_to_completion_ends_the_work_before_the_cancellation() -> None:
    """However often the caller is cancelled, the work ends first and the cancellation follows."""
    gate, steps = asyncio.Event(), list[str]()

    async def work() -> None:
        steps.append("begun")
        await gate.wait()
        steps.append("done")

    task = asyncio.create_task(run_to_completion(work()))
    for _ in range(3):
        await asyncio.sleep(0)
        task.cancel()
    await asyncio.sleep(0)
    assert ["begun"] == steps
    gate.set()

    with pytest.raises(asyncio.CancelledError):
        await task
    assert ["begun", "done"] == steps


async def test_run_to_completion_raises_what_the_work_raises() -> None:
    """An error of the work reaches the caller."""

    async def work() -> None:
        raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        await run_to_completion(work())


async def test_run_to_completion_without_a_cancellation_raises_nothing() -> None:
    """Work that ends well ends well."""
    done = list[int]()

    async def work() -> None:
        await asyncio.sleep(0)
        done.append(1)

    await run_to_completion(work())

    assert [1] == done


async def test_run_to_completion_raises_a_cancellation_over_an_error() -> None:
    """The error of the work is the cause of the cancellation, and is not lost."""
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()
        raise ConnectionResetError

    task = asyncio.create_task(run_to_completion(work()))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.sleep(0)
    gate.set()

    with pytest.raises(asyncio.CancelledError) as caught:
        await task
    assert isinstance(caught.value.__cause__, ConnectionResetError)

"""Tasks whose first step is made before the caller goes on, in every Python."""

from __future__ import annotations

import asyncio
import contextvars

import pytest

from wxpay_async.adapters.eager_tasks import start_now


async def test_start_now_runs_to_the_first_wait_in_a_task_and_context_of_its_own() -> None:
    """What the first step sees and sets is the task's own; the caller goes on as before."""
    variable = contextvars.ContextVar("variable", default="the caller's")
    seen: list[object] = []

    async def work() -> str:
        variable.set("the task's")
        seen.append(asyncio.current_task())
        await asyncio.sleep(0.001)
        seen.append(asyncio.current_task())
        return variable.get()

    caller = asyncio.current_task()
    task = start_now(work(), "named")
    assert ([task], "named") == (seen, task.get_name())
    assert ("the caller's", caller) == (variable.get(), asyncio.current_task())
    assert ("the task's", [task, task]) == (await task, seen)


@pytest.mark.parametrize("ends_with", [None, ValueError("wrong"), asyncio.CancelledError()])
async def test_start_now_work_that_waits_for_nothing_is_over_by_then(
    ends_with: BaseException | None,
) -> None:
    """The task says the same, whichever way it ended."""
    begun: list[int] = []

    async def work() -> str:
        begun.append(1)
        if ends_with is not None:
            raise ends_with
        return "done"

    task = start_now(work(), "short")
    assert [1] == begun
    (result,) = await asyncio.gather(task, return_exceptions=True)

    assert (type(ends_with), task.cancelled()) == (
        type(None) if result == "done" else type(result),
        isinstance(ends_with, asyncio.CancelledError),
    )
    assert [1] == begun


async def test_start_now_timeout_of_the_first_step_ends_the_task_alone() -> None:
    """It belongs to the task, not to who started it."""

    async def work() -> str:
        try:
            async with asyncio.timeout(0.001):
                await asyncio.get_running_loop().create_future()
        except TimeoutError:
            return "timed out"
        return "never"

    assert "timed out" == await start_now(work(), "short")


@pytest.mark.parametrize("iterations", [0, 1, 2])
async def test_start_now_cancelled_at_any_time_can_still_record(iterations: int) -> None:
    """Also in the very iteration in which it began; what it waits for is cancelled with it."""
    recorded: list[str] = []
    waits_for = asyncio.get_running_loop().create_future()

    async def work() -> None:
        try:
            await waits_for
        except asyncio.CancelledError:
            await asyncio.sleep(0)
            recorded.append("cancelled")
            raise

    task = start_now(work(), "cancelled")
    for _ in range(iterations):
        await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])

    assert (["cancelled"], True) == (recorded, task.cancelled())
    assert waits_for.cancelled()


async def test_start_now_two_that_wait_for_one_future_both_go_on() -> None:
    """Each waits in its first step, before the loop takes either of them up."""
    shared = asyncio.get_running_loop().create_future()

    async def work() -> int:
        return int(await shared)

    tasks = [start_now(work(), "one"), start_now(work(), "two"), asyncio.create_task(work())]
    await asyncio.sleep(0)
    shared.set_result(7)

    assert [7, 7, 7] == await asyncio.gather(*tasks)


async def test_start_now_work_that_yields_to_the_loop_goes_on_in_its_next_iteration() -> None:
    """A pause of no length is a pause all the same."""
    steps: list[int] = []

    async def work() -> None:
        for step in range(3):
            steps.append(step)
            await asyncio.sleep(0)

    task = start_now(work(), "pausing")
    assert [0] == steps
    await asyncio.sleep(0)
    assert [0, 1] == steps
    await task
    assert [0, 1, 2] == steps

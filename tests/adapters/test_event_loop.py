"""What belongs to one event loop, and work that outlives its caller."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator

import pytest

from wxpay_async.adapters.event_loop import LoopLocal, LoopLocalValue, ShieldedTasks


class _Things:
    """Makes numbered things and notes which are released, and in a live loop."""

    def __init__(self) -> None:
        self.made = 0
        self.released: list[int] = []

    async def lifetime(self) -> AsyncGenerator[int]:
        self.made += 1
        number = self.made
        try:
            yield number
        finally:
            await asyncio.sleep(0)
            self.released.append(number)


def test_a_loop_that_ends_releases_what_nobody_closed() -> None:
    """Each loop has its own thing, which is released in that loop."""
    things = _Things()
    per_loop = LoopLocal(things.lifetime)

    async def twice() -> list[int]:
        return [await per_loop.get(), await per_loop.get()]

    assert [1, 1] == asyncio.run(twice())
    assert [1] == things.released
    assert [2, 2] == asyncio.run(twice())
    assert [1, 2] == things.released


async def test_closing_releases_and_the_next_call_makes_anew() -> None:
    """Closing twice, or before anything was made, does no harm."""
    things = _Things()
    per_loop = LoopLocal(things.lifetime)
    await per_loop.aclose()
    first = await per_loop.get()
    await per_loop.aclose()
    await per_loop.aclose()

    assert [1] == things.released
    assert (1, 2) == (first, await per_loop.get())
    await per_loop.aclose()


async def test_what_another_loop_made_is_left_to_it() -> None:
    """Closing in a second loop does not touch what the first one has released already."""
    things = _Things()
    per_loop = LoopLocal(things.lifetime)
    await asyncio.to_thread(asyncio.run, _got(per_loop))
    await per_loop.aclose()

    assert [1] == things.released


async def _got(per_loop: LoopLocal[int]) -> int:
    return await per_loop.get()


async def test_an_errand_outlives_its_caller() -> None:
    """Cancelling the caller ends the waiting; `finished` waits for the work itself."""
    errands, gate, done = ShieldedTasks(), asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        done.append(True)

    caller = asyncio.ensure_future(errands.run(work()))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert [] == done

    gate.set()
    await errands.finished()
    assert [True] == done


async def test_an_errand_tells_its_caller_what_happened() -> None:
    """Its result and its error are the caller's."""

    async def fails() -> None:
        raise LookupError("no")

    errands = ShieldedTasks()
    assert 3 == await errands.run(asyncio.sleep(0, 3))
    with pytest.raises(LookupError):
        await errands.run(fails())


def test_loop_local_value_is_made_once_for_each_loop() -> None:
    """A value that needs no release is made by its first use in a loop."""
    values = LoopLocalValue(object)

    async def get_twice() -> tuple[object, object]:
        return values.get(), values.get()

    first, again = asyncio.run(get_twice())
    other, _ = asyncio.run(get_twice())

    assert first is again
    assert first is not other

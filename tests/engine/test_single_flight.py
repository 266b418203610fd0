"""Which callers share an operation, how long they wait, and what cancels it."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Awaitable, Callable

import pytest
from attrs import define, field

from tests.support.tasks import list_operations, run_loop
from wxpay_async.engine.single_flight import SingleFlight
from wxpay_async.errors import IdempotencyConflictError, InDoubtError, RefusedError
from wxpay_async.protocol.idempotency_key import Fingerprint, fingerprint

ONE = fingerprint("pay", b'{"payToken":"1","appId":"x"}')
OTHER = fingerprint("pay", b'{"payToken":"2","appId":"x"}')


@define(eq=False)
class Operation:
    """An operation that ends when the test says so, and counts what happened to it."""

    begun: int = 0
    cancelled: int = 0
    gate: asyncio.Event = field(factory=asyncio.Event)
    error: Exception | None = None
    result: object = "done"
    when_cancelled: Callable[[], Awaitable[object]] | None = None

    async def run(self) -> object:
        """Wait for the gate."""
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            if self.when_cancelled:
                await self.when_cancelled()
            raise
        if self.error:
            raise self.error
        return self.result


def join(
    single_flight: SingleFlight,
    operation: Operation,
    *,
    content: Fingerprint = ONE,
    timeout: float = 60.0,
) -> asyncio.Task[tuple[object, bool]]:
    """Start a caller that asks for the operation."""

    async def run() -> tuple[object, bool]:
        return await single_flight.run("r1", content, operation.run(), timeout=timeout)

    return asyncio.ensure_future(run())


async def test_callers_of_one_key_share_the_operation() -> None:
    """One run, one result for all, and only the first did not share."""
    single_flight, operation = SingleFlight(), Operation()
    callers = [join(single_flight, operation) for _ in range(100)]
    await run_loop(5)
    operation.gate.set()
    results = await asyncio.gather(*callers)

    assert 1 == operation.begun
    assert [("done", False)] + [("done", True)] * 99 == results


async def test_operation_under_way_is_known_by_its_key_and_content() -> None:
    """A caller can tell beforehand whether it would share."""
    single_flight, operation = SingleFlight(), Operation()
    before = single_flight.has("r1", ONE)
    caller = join(single_flight, operation)
    await run_loop(5)
    during = [single_flight.has(*of) for of in (("r1", ONE), ("r1", OTHER), ("r2", ONE))]
    operation.gate.set()
    await caller

    assert (False, [True, False, False]) == (before, during)
    assert not single_flight.has("r1", ONE)


async def test_operation_that_is_cancelled_is_not_shared() -> None:
    """It still records where it stands; a new caller gets an operation of its own."""
    gate = asyncio.Event()

    async def record() -> None:
        await gate.wait()

    single_flight, operation = SingleFlight(), Operation(when_cancelled=record)
    caller = join(single_flight, operation)
    await run_loop(5)
    caller.cancel()
    await run_loop(5)
    shared = single_flight.has("r1", ONE)
    gate.set()
    await asyncio.wait([caller])

    assert not shared


async def test_caller_that_gives_up_before_its_turn_leaves_nothing_behind() -> None:
    """An operation that is never begun is closed; the interpreter would complain of it."""
    gate = asyncio.Event()
    single_flight, operation = SingleFlight(), Operation(when_cancelled=gate.wait)
    first = join(single_flight, operation)
    await run_loop(5)
    first.cancel()
    await run_loop(5)
    late = Operation()
    begun = late.run()
    second = asyncio.ensure_future(single_flight.run("r1", ONE, begun, timeout=60.0))
    await run_loop(5)
    second.cancel()
    await run_loop(5)
    gate.set()
    await asyncio.wait([first, second])

    assert second.cancelled()
    assert 0 == late.begun
    assert "CORO_CLOSED" == inspect.getcoroutinestate(begun)


async def test_caller_after_the_end_starts_another_operation() -> None:
    """Nothing is cached here: that is the store's task."""
    single_flight, operation = SingleFlight(), Operation()
    operation.gate.set()
    await join(single_flight, operation)
    await run_loop(5)
    await join(single_flight, operation)

    assert 2 == operation.begun


async def test_error_of_the_operation_reaches_every_caller() -> None:
    """Each caller hears what the platform said."""
    single_flight, operation = SingleFlight(), Operation(error=RefusedError("no"))
    callers = [join(single_flight, operation) for _ in range(3)]
    await run_loop(5)
    operation.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)

    assert [operation.error] * 3 == results


async def test_other_content_is_a_conflict_that_names_the_fields() -> None:
    """The same requestId with other content is refused and starts nothing."""
    single_flight, operation, second = SingleFlight(), Operation(), Operation()
    caller = join(single_flight, operation)
    await run_loop(5)

    with pytest.raises(IdempotencyConflictError) as caught:
        await join(single_flight, second, content=OTHER)
    assert ("payToken",) == caught.value.fields
    assert 0 == second.begun
    operation.gate.set()
    await caller


@pytest.mark.parametrize("index", [0, 1, 2], ids=["first", "middle", "last"])
async def test_one_cancellation_does_not_cancel_the_others(index: int) -> None:
    """Not even that of the caller that began the operation."""
    single_flight, operation = SingleFlight(), Operation()
    callers = [join(single_flight, operation) for _ in range(3)]
    await run_loop(5)
    callers.pop(index).cancel()
    await run_loop(5)
    assert 0 == operation.cancelled
    operation.gate.set()

    assert ["done", "done"] == [result for result, _ in await asyncio.gather(*callers)]


async def test_last_cancellation_waits_until_the_operation_has_ended() -> None:
    """The last caller waits until the operation has recorded where it stands."""
    recorded = list[str]()

    async def record() -> None:
        await run_loop(3)
        recorded.append("recorded")

    single_flight, operation = SingleFlight(), Operation(when_cancelled=record)
    callers = [join(single_flight, operation) for _ in range(3)]
    await run_loop(5)
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)

    assert ["recorded"] == recorded
    assert (1, set()) == (operation.cancelled, list_operations())


async def test_caller_cancelled_before_it_began_starts_nothing() -> None:
    """No task is left."""
    single_flight, operation = SingleFlight(), Operation()

    async def call() -> object:
        return await single_flight.run("r1", ONE, operation.run(), timeout=60.0)

    caller = asyncio.Task(call())  # begins later, even where the loop's own tasks are eager
    caller.cancel()
    await asyncio.wait([caller])

    assert (0, set()) == (operation.begun, list_operations())


async def test_later_caller_waits_only_for_its_timeout() -> None:
    """Its timeout leaves it in doubt, and the operation goes on."""
    single_flight, operation = SingleFlight(), Operation()
    first = join(single_flight, operation)
    await run_loop(5)

    with pytest.raises(InDoubtError, match="still under way"):
        await join(single_flight, operation, timeout=0.001)
    assert 0 == operation.cancelled
    operation.gate.set()
    assert ("done", False) == await first


async def test_last_timeout_cancels_the_operation() -> None:
    """A later caller that times out after the first was cancelled cancels the operation.

    Otherwise no caller would hear its error, and no cancellation could end it.
    """
    single_flight, operation = SingleFlight(), Operation(error=RefusedError("no"))
    first = join(single_flight, operation)
    await run_loop(5)
    later = join(single_flight, operation, timeout=0.01)
    await run_loop(5)
    first.cancel()
    with pytest.raises(InDoubtError):
        await later
    await run_loop(5)

    assert (1, set()) == (operation.cancelled, list_operations())


async def test_caller_during_a_cancellation_gets_its_own_operation() -> None:
    """A new caller does not inherit the cancellation of those before it."""
    gate = asyncio.Event()

    async def record() -> None:
        await gate.wait()

    single_flight, operation, second = (
        SingleFlight(),
        Operation(when_cancelled=record),
        Operation(result="second"),
    )
    second.gate.set()
    leaving = join(single_flight, operation)
    await run_loop(5)
    leaving.cancel()
    await run_loop(5)
    late = join(single_flight, second)
    await run_loop(5)
    gate.set()

    assert ("second", False) == await late


async def test_close_cancels_operations_and_leaves_their_callers_in_doubt() -> None:
    """The callers hear that the outcome is in doubt, not that they were cancelled."""
    single_flight, operation = SingleFlight(), Operation()
    callers = [join(single_flight, operation) for _ in range(3)]
    await run_loop(5)
    await single_flight.aclose()
    results = await asyncio.gather(*callers, return_exceptions=True)

    assert [InDoubtError] * 3 == [type(result) for result in results]
    assert set() == list_operations()


async def test_close_reaches_an_operation_that_has_just_begun() -> None:
    """Its callers hear of it, and its requestId is free again."""
    single_flight, operation = SingleFlight(), Operation()
    callers = [join(single_flight, operation) for _ in range(2)]
    await asyncio.sleep(0)
    await single_flight.aclose()
    results = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 5.0)

    assert [InDoubtError] * 2 == [type(result) for result in results]
    assert (1, 1) == (operation.begun, operation.cancelled)
    operation.gate.set()
    assert ("done", False) == await asyncio.wait_for(join(single_flight, operation), 5.0)

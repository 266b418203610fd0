"""Single flight: who shares, who waits, who may bring a flight down."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable

import pytest
from attrs import define, field

from wxpay_async.engine.single_flight import SingleFlight
from wxpay_async.errors import IdempotencyConflictError, InDoubtError, RefusedError
from wxpay_async.protocol.idempotency_key import Fingerprint, fingerprint

ONE = fingerprint("pay", b'{"payToken":"1","appId":"x"}')
OTHER = fingerprint("pay", b'{"payToken":"2","appId":"x"}')


@define(eq=False)
class Work:
    """An operation that ends when the test says so, and counts what happened to it."""

    begun: int = 0
    cancelled: int = 0
    gate: asyncio.Event = field(factory=asyncio.Event)
    error: Exception | None = None
    result: object = "landed"
    last_words: Callable[[], Awaitable[None]] | None = None

    async def run(self) -> object:
        """Wait for the gate."""
        self.begun += 1
        try:
            await self.gate.wait()
        except asyncio.CancelledError:
            self.cancelled += 1
            if self.last_words:
                await self.last_words()
            raise
        if self.error:
            raise self.error
        return self.result


def _join(
    flights: SingleFlight, work: Work, *, meaning: Fingerprint = ONE, timeout: float = 60.0
) -> asyncio.Task[tuple[object, bool]]:
    async def joined() -> tuple[object, bool]:
        return await flights.run("r1", meaning, work.run, timeout=timeout)

    return asyncio.ensure_future(joined())


async def _turns(number: int = 5) -> None:
    for _ in range(number):
        await asyncio.sleep(0)


def _strangers() -> set[str]:
    return {task.get_name() for task in asyncio.all_tasks() if task.get_name().startswith("wxpay")}


async def test_all_who_come_while_it_flies_share_it() -> None:
    """One run, one result for everybody, and only the first did not share."""
    flights, work = SingleFlight(), Work()
    callers = [_join(flights, work) for _ in range(100)]
    await _turns()
    work.gate.set()
    results = await asyncio.gather(*callers)

    assert 1 == work.begun
    assert [("landed", False)] + [("landed", True)] * 99 == results


async def test_who_comes_after_it_has_landed_takes_off_again() -> None:
    """A flight is no cache: that is the store's business."""
    flights, work = SingleFlight(), Work()
    work.gate.set()
    await _join(flights, work)
    await _turns()
    await _join(flights, work)

    assert 2 == work.begun


async def test_an_error_reaches_everybody() -> None:
    """Each waiter hears what the platform said."""
    flights, work = SingleFlight(), Work(error=RefusedError("no"))
    callers = [_join(flights, work) for _ in range(3)]
    await _turns()
    work.gate.set()
    results = await asyncio.gather(*callers, return_exceptions=True)

    assert [work.error] * 3 == results


async def test_other_content_is_a_conflict_that_names_the_fields() -> None:
    """The same requestId with other content is refused and starts nothing."""
    flights, work, second = SingleFlight(), Work(), Work()
    caller = _join(flights, work)
    await _turns()

    with pytest.raises(IdempotencyConflictError) as caught:
        await _join(flights, second, meaning=OTHER)
    assert ("payToken",) == caught.value.fields
    assert 0 == second.begun
    work.gate.set()
    await caller


@pytest.mark.parametrize("index", [0, 1, 2], ids=["first", "middle", "last"])
async def test_one_cancellation_does_not_cancel_the_others(index: int) -> None:
    """Not even that of the caller who began the flight."""
    flights, work = SingleFlight(), Work()
    callers = [_join(flights, work) for _ in range(3)]
    await _turns()
    callers.pop(index).cancel()
    await _turns()
    assert 0 == work.cancelled
    work.gate.set()

    assert ["landed", "landed"] == [result for result, _ in await asyncio.gather(*callers)]


async def test_when_all_are_cancelled_the_flight_comes_down_before_they_hear_of_it() -> None:
    """The last caller waits until the operation has written down where it stands."""
    said = list[str]()

    async def write_down() -> None:
        await _turns(3)
        said.append("written")

    flights, work = SingleFlight(), Work(last_words=write_down)
    callers = [_join(flights, work) for _ in range(3)]
    await _turns()
    for caller in callers:
        caller.cancel()
    await asyncio.wait(callers)

    assert ["written"] == said
    assert (1, set()) == (work.cancelled, _strangers())


async def test_a_caller_cancelled_before_its_first_step_leaves_nothing() -> None:
    """Neither a task nor a flight."""
    flights, work = SingleFlight(), Work()
    caller = _join(flights, work)
    caller.cancel()
    await asyncio.wait([caller])

    assert (0, set()) == (work.begun, _strangers())


async def test_a_guest_waits_no_longer_than_it_wants() -> None:
    """A second caller's time-out leaves it in doubt and the flight in the air."""
    flights, work = SingleFlight(), Work()
    first = _join(flights, work)
    await _turns()

    with pytest.raises(InDoubtError, match="still under way"):
        await _join(flights, work, timeout=0.001)
    assert 0 == work.cancelled
    work.gate.set()
    assert ("landed", False) == await first


async def test_closing_brings_everything_down_and_tells_the_waiters() -> None:
    """Who waits hears that the outcome is in doubt, not that it was cancelled."""
    flights, work = SingleFlight(), Work()
    callers = [_join(flights, work) for _ in range(3)]
    await _turns()
    await flights.aclose()
    results = await asyncio.gather(*callers, return_exceptions=True)

    assert [InDoubtError] * 3 == [type(result) for result in results]
    assert set() == _strangers()


async def test_closing_reaches_a_flight_that_has_not_begun() -> None:
    """It cannot tell its end itself: its callers hear of it, and its requestId is free again."""
    flights, work = SingleFlight(), Work()
    callers = [_join(flights, work) for _ in range(2)]
    await asyncio.sleep(0)
    await flights.aclose()
    results = await asyncio.wait_for(asyncio.gather(*callers, return_exceptions=True), 5.0)

    assert [InDoubtError] * 2 == [type(result) for result in results]
    assert (0 if sys.version_info < (3, 12) else 1) == work.begun  # there a task begins at once
    work.gate.set()
    assert ("landed", False) == await asyncio.wait_for(_join(flights, work), 5.0)


async def test_a_flight_that_outlives_its_last_guest_is_not_lost_sight_of() -> None:
    """A guest that times out after the first caller was cancelled takes the flight down with it.

    Otherwise nobody would hear its error, and nobody's cancellation could end it.
    """
    flights, work = SingleFlight(), Work(error=RefusedError("no"))
    first = _join(flights, work)
    await _turns()
    guest = _join(flights, work, timeout=0.01)
    await _turns()
    first.cancel()
    with pytest.raises(InDoubtError):
        await guest
    await _turns()

    assert (1, set()) == (work.cancelled, _strangers())


async def test_who_comes_while_the_flight_is_brought_down_gets_its_own() -> None:
    """A new caller does not inherit the cancellation of those who left."""
    gate = asyncio.Event()

    async def write_down() -> None:
        await gate.wait()

    flights, work, second = SingleFlight(), Work(last_words=write_down), Work(result="second")
    second.gate.set()
    leaving = _join(flights, work)
    await _turns()
    leaving.cancel()
    await _turns()
    late = _join(flights, second)
    await _turns()
    gate.set()

    assert ("second", False) == await late

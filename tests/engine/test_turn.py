"""What an attempt holds in its turn, and that nothing of it is left where it has none."""

from __future__ import annotations

import asyncio

import pytest
from attrs import define, evolve

from tests.support.clock import MovedClock
from tests.support.tasks import list_operations, wait_until
from wxpay_async.adapters.event_loop import ShieldedTasks
from wxpay_async.adapters.limiters.limiter import Limiter, Slot, find_acquire_now
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.adapters.signers.threads import SigningExecutor
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.clock import Clock, PlatformTime
from wxpay_async.engine.concurrency import ConcurrencyLimiter
from wxpay_async.engine.services import Services
from wxpay_async.engine.telemetry import Telemetry
from wxpay_async.engine.turn import Turn
from wxpay_async.errors import InDoubtError, NotSentError, NotSentTimeoutError, QuotaExhaustedError
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.lanes import Lane, Quota
from wxpay_async.protocol.signing import Md5Signer
from wxpay_async.protocol.wire import Timeouts


@pytest.fixture
def services() -> Services:
    """Return the parts of a gateway with two slots and one place."""
    clock, limiter = Clock(), LocalLimiter(Quota(limit=2, period=60.0), idle=True)
    return Services(
        timeouts=Timeouts(),
        store=MemoryStore(),
        limiter=limiter,
        acquire_now=find_acquire_now(limiter),
        concurrency=ConcurrencyLimiter(1),
        signing=SigningExecutor(Md5Signer("s")),
        clock=clock,
        time=PlatformTime(clock),
        telemetry=Telemetry("k"),
        background=ShieldedTasks(),
        in_process=True,
    )


def make_turn(services: Services, *, lane: Lane = Lane.PEOPLE, seconds: float = 30.0) -> Turn:
    """Make the turn of a call that has so many seconds."""
    return Turn(services, Deadline.after(seconds, services.clock.monotonic, attempt=0.0), lane)


def held(services: Services) -> tuple[int | None, int]:
    """Return how many slots and places are taken."""
    limiter = services.limiter
    assert isinstance(limiter, LocalLimiter)
    return limiter.in_use, services.concurrency._under_way


async def test_person_takes_what_is_free_now(services: Services) -> None:
    """A slot and a place, and both are free again when nothing was sent."""
    turn = make_turn(services)
    taken = await turn.take_now(), held(services)
    await turn.give_back()

    assert ((True, (1, 1)), (0, 0)) == (taken, held(services))


async def test_machine_takes_nothing_now(services: Services) -> None:
    """It waits for its pace."""
    assert not await make_turn(services, lane=Lane.BATCH).take_now()
    assert (0, 0) == held(services)


async def test_slot_without_a_place_is_given_back(services: Services) -> None:
    """The only place is taken, so that the turn has not come."""
    first, second = make_turn(services), make_turn(services)
    await first.take_now()

    assert not await second.take_now()
    assert (1, 1) == held(services)


async def test_slot_is_not_waited_for_now(services: Services) -> None:
    """Where none is free, nothing is held and nothing begins."""
    for _ in range(2):
        turn = make_turn(services)
        await turn.take_now()
        turn.free_place()
        await turn.free_slot(None)

    assert not await make_turn(services).take_now()
    assert (2, 0) == held(services)
    assert set() == list_operations()


async def test_wait_ends_with_the_reason(services: Services) -> None:
    """Without a slot it is the quota, without a place the connections; the slot is given back."""
    first = make_turn(services)
    await first.take_now()
    waited = list[str]()
    with pytest.raises(NotSentTimeoutError, match="no connection"):
        await make_turn(services, seconds=0.5).wait(lambda part, _: waited.append(part))
    given_back = held(services)
    services.limiter._log.take(Lane.PEOPLE, services.clock.monotonic())  # type: ignore[attr-defined]
    with pytest.raises(QuotaExhaustedError):
        await make_turn(services, seconds=0.5).wait(None)

    assert (1, 1) == given_back
    assert "connection" in waited


@pytest.mark.parametrize(
    ("error", "answered", "slots"),
    [
        (None, False, 1),
        (NotSentError("no"), False, 0),
        (NotSentError("no"), True, 1),
        (InDoubtError("?"), False, 1),
    ],
    ids=["success", "not sent", "answered", "in doubt"],
)
async def test_slot_is_free_only_by_proof(
    services: Services, error: NotSentError | InDoubtError | None, *, answered: bool, slots: int
) -> None:
    """What was sent, or may have been, keeps its slot; a second report changes nothing."""
    turn = make_turn(services)
    await turn.take_now()
    await turn.free_slot(error, answered=answered)
    await turn.free_slot(NotSentError("late"))

    assert slots == held(services)[0]


@define(eq=False)
class LateLimiter:
    """A quota whose slots come after a pause, however little time a call has."""

    limiter: Limiter
    clock: MovedClock

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Let time pass, and give a slot."""
        self.clock.move(60.0)
        return await self.limiter.acquire(lane, timeout=timeout)

    async def throttled(self) -> None:
        """Change nothing."""

    async def aclose(self) -> None:
        """Release nothing."""


async def test_turn_that_comes_too_late_is_given_back(services: Services) -> None:
    """A machine that slept has a slot, and no time that is left for an attempt."""
    clock = MovedClock()
    late = evolve(services, clock=clock, limiter=LateLimiter(services.limiter, clock))
    with pytest.raises(NotSentTimeoutError, match="too little time"):
        await make_turn(late).wait(None)

    assert (0, 0) == held(services)


@pytest.mark.parametrize("now", [True, False])
async def test_call_that_is_cancelled_before_its_place_leaves_no_slot(
    services: Services, *, now: bool
) -> None:
    """The first one still has what it has."""
    await make_turn(services).take_now()
    second = make_turn(services)
    task = asyncio.ensure_future(second.take_now() if now else second.wait(None))
    await wait_until(lambda: held(services)[0] == 2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task

    assert (1, 1) == held(services)


async def test_place_of_a_machine_is_a_machine_s_until_a_person_waits_for_the_call(
    services: Services,
) -> None:
    """So that an eighth of the places stays with people."""
    services = evolve(services, concurrency=ConcurrencyLimiter(8))
    turn = make_turn(services, lane=Lane.BATCH)
    machines = list[int]()
    await turn.wait(None)
    machines.append(services.concurrency._machines)
    await turn.give_back()
    machines.append(services.concurrency._machines)
    turn.lane = Lane.PEOPLE
    taken = await turn.take_now()
    machines.append(services.concurrency._machines)
    await turn.give_back()

    assert taken
    assert [1, 0, 0, 0] == [*machines, services.concurrency._machines]

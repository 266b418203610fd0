"""Looking after open operations: once, in the background, and through failures."""

from __future__ import annotations

import asyncio
import contextvars
import logging
from collections.abc import Awaitable, Callable

import attrs
import pytest
from attrs import define, field

from tests.support.clock import LoopClock, MovedClock, loop_time, run_virtual
from tests.support.records import make_record
from tests.support.tasks import run_loop
from wxpay_async.adapters.stores.memory import MemoryStore
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.recovery import RECOVER_EVERY, Recovery
from wxpay_async.errors import InDoubtError, NotSentError
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.resolution import Finding
from wxpay_async.policy.states import State

Found = tuple[IdempotencyRecord, Finding]
SPAN = contextvars.ContextVar[str]("span")


@define(eq=False)
class NotingStore(MemoryStore):
    """A store that notes when it is swept, and fails the first times.

    Attributes:
        errors: what the first sweeps raise.
        swept: the loop's time of each sweep.
        seen: what a context variable of the opener's holds in each sweep.
    """

    errors: list[Exception] = field(factory=list)
    swept: list[float] = field(factory=list)
    seen: list[str] = field(factory=list)

    async def due(self, app_key: str, now: float, *, limit: int = 100) -> list[IdempotencyRecord]:
        """Note, and sweep."""
        self.swept.append(loop_time())
        self.seen.append(SPAN.get("none"))
        if self.errors:
            raise self.errors.pop(0)
        return await super().due(app_key, now, limit=limit)


@define(eq=False)
class FakeResolver:
    """Settles each operation, unless the test says otherwise.

    Attributes:
        check_one: what becomes of one; None for its end.
        checked: the requestIds, in order.
        deadlines: of each check.
    """

    check_one: Callable[[IdempotencyRecord], Awaitable[Found]] | None = None
    checked: list[str] = field(factory=list)
    deadlines: list[Deadline] = field(factory=list)

    async def check(self, record: IdempotencyRecord, deadline: Deadline) -> Found:
        """Check one operation."""
        self.checked.append(record.request_id)
        self.deadlines.append(deadline)
        await asyncio.sleep(0)
        if self.check_one is not None:
            return await self.check_one(record)
        return attrs.evolve(record, state=State.SUCCEEDED), Finding.EXECUTED


def make_recovery(store: MemoryStore, clock: Clock, resolver: FakeResolver) -> Recovery:
    """Make the recovery of one appKey."""
    return Recovery(
        app_key="k",
        store=store,
        clock=clock,
        resolver=resolver,  # type: ignore[arg-type]
        timeout=30.0,
    )


async def fill(store: MemoryStore, clock: Clock, number: int) -> list[str]:
    """Put operations in doubt into a store that are due; return their requestIds."""
    ids = [f"r-{n}" for n in range(number)]
    for request_id in ids:
        due = make_record(
            request_id, state=State.UNKNOWN, in_doubt=True, next_check_at=clock.time() - 1.0
        )
        await store.reserve(due)
    return ids


# Once


async def test_run_once_checks_everything_that_is_due(clock: MovedClock) -> None:
    """A hundred at a time, until none is left; each has the same seconds."""
    store, resolver = MemoryStore(), FakeResolver()
    ids = await fill(store, clock, 250)
    settled = await make_recovery(store, clock, resolver).run_once()

    assert (250, sorted(ids)) == (settled, sorted(resolver.checked))
    assert {30.0} == {deadline.remaining() for deadline in resolver.deadlines}


async def test_run_once_counts_only_what_reached_an_end(clock: MovedClock) -> None:
    """An operation that is accepted now, or still in doubt, is not settled."""

    async def leave(record: IdempotencyRecord) -> Found:
        state = State.PENDING if record.request_id == "r-0" else State.UNKNOWN
        return attrs.evolve(record, state=state), Finding.NO_ANSWER

    store, resolver = MemoryStore(), FakeResolver(leave)
    await fill(store, clock, 2)

    assert 0 == await make_recovery(store, clock, resolver).run_once()


async def test_run_once_leaves_another_app_key_alone(clock: MovedClock) -> None:
    """One store may serve many appKeys."""
    store, resolver = MemoryStore(), FakeResolver()
    await store.reserve(make_record(app_key="another", state=State.UNKNOWN, next_check_at=1.0))

    assert 0 == await make_recovery(store, clock, resolver).run_once()
    assert [] == resolver.checked


async def test_run_once_ends_every_check_before_it_raises_the_first_error(
    clock: MovedClock,
) -> None:
    """150 are due and two cannot be recorded: the others are, a second batch included."""

    async def fail_twice(record: IdempotencyRecord) -> Found:
        if record.request_id in {"r-0", "r-7"}:
            raise InDoubtError(f"the store cannot record {record.request_id}")
        await run_loop(3)
        ended.append(record.request_id)
        return record, Finding.NO_ANSWER

    ended = list[str]()
    store = MemoryStore()
    ids = await fill(store, clock, 150)
    with pytest.raises(InDoubtError, match="cannot record r-0"):
        await make_recovery(store, clock, FakeResolver(fail_twice)).run_once()

    assert sorted({*ids} - {"r-0", "r-7"}) == sorted(ended)


# In the background


def test_recovery_runs_at_its_start_and_every_thirty_seconds() -> None:
    """What a crash left is not waited for; and starting twice changes nothing."""
    store = NotingStore()

    async def main() -> None:
        recovery = make_recovery(store, LoopClock(), FakeResolver())
        recovery.start()
        recovery.start()
        await asyncio.sleep(2 * RECOVER_EVERY + 1.0)
        await recovery.stop()

    run_virtual(main())

    assert [0.0, 30.0, 60.0] == store.swept


@pytest.mark.parametrize(
    ("error", "level"),
    [(NotSentError("the store is down"), "WARNING"), (RuntimeError("a driver's bug"), "ERROR")],
    ids=["store", "bug"],
)
def test_recovery_goes_on_after_an_error(
    error: Exception, level: str, caplog: pytest.LogCaptureFixture
) -> None:
    """It is logged, and the next look is made."""
    store = NotingStore(errors=[error])

    async def main() -> None:
        recovery = make_recovery(store, LoopClock(), FakeResolver())
        recovery.start()
        await asyncio.sleep(RECOVER_EVERY + 1.0)
        await recovery.stop()

    with caplog.at_level(logging.WARNING, logger="wxpay_async"):
        run_virtual(main())

    assert [0.0, 30.0] == store.swept
    assert [level] == [record.levelname for record in caplog.records]
    assert "recovery could not look" in caplog.text


def test_recovery_starts_in_an_empty_context() -> None:
    """It must not go on in the span of the code that opened a gateway."""
    store = NotingStore()

    async def main() -> None:
        SPAN.set("the opener's")
        recovery = make_recovery(store, LoopClock(), FakeResolver())
        recovery.start()
        await run_loop()
        await recovery.stop()

    run_virtual(main())

    assert ["none"] == store.seen


async def test_stop_ends_checks_that_are_under_way(clock: MovedClock) -> None:
    """None goes on behind a gateway that is closed; stopping twice does no harm."""

    async def hang(record: IdempotencyRecord) -> Found:
        try:
            await asyncio.Event().wait()
        finally:
            ended.append(record.request_id)
        raise AssertionError("unreachable")

    ended = list[str]()
    store, resolver = MemoryStore(), FakeResolver(hang)
    ids = await fill(store, clock, 3)
    before = asyncio.all_tasks()
    recovery = make_recovery(store, clock, resolver)
    recovery.start()
    await run_loop()
    await recovery.stop()
    await recovery.stop()

    assert (ids, before) == (sorted(ended), asyncio.all_tasks())


def test_forget_drops_the_task_of_a_loop_that_is_gone(clock: MovedClock) -> None:
    """Not every loop cancels its tasks at its end; the next one starts a task of its own."""
    store = NotingStore()
    recovery = make_recovery(store, clock, FakeResolver())

    async def start() -> None:
        recovery.start()
        await run_loop()

    async def start_again() -> None:
        recovery.forget()
        await start()
        await recovery.stop()

    loop = asyncio.new_event_loop()
    loop.run_until_complete(start())
    loop.close()
    abandoned = recovery._task
    asyncio.run(start_again())

    assert 2 == len(store.swept)
    assert abandoned is not None
    assert not abandoned.done()
    abandoned._log_destroy_pending = False  # type: ignore[attr-defined] # it was left on purpose

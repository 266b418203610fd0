"""Which calls a stop gives up, and which it lets end."""

from __future__ import annotations

import asyncio
import functools

import pytest

from tests.support.clock import loop_time, virtual
from wxpay_async.batch.watched_calls import GivenUpError, WatchedCalls, note_attempts
from wxpay_async.engine.telemetry import Event, EventKind


def tell(kind: EventKind, fate: str = "") -> None:
    """Tell the hook of something that happens to the call in whose context this runs."""
    note_attempts(Event(kind=kind, operation="refund", fate=fate))


async def wait() -> str:
    """Make a call that waits for its slot."""
    tell(EventKind.CALL_STARTED)
    await asyncio.sleep(60.0)
    return "waited"


async def attempt() -> str:
    """Make a call whose attempt takes ten seconds; a task of its own makes it."""
    tell(EventKind.CALL_STARTED)
    await asyncio.create_task(make_attempt(10.0))
    await asyncio.sleep(0.5)
    return "answered"


async def make_attempt(seconds: float, fate: str = "ok") -> None:
    """Make an attempt."""
    tell(EventKind.ATTEMPT_STARTED)
    await asyncio.sleep(seconds)
    tell(EventKind.ATTEMPT_ENDED, fate)


async def try_again(*fates: str) -> str:
    """Make a call whose attempts end so, and which waits for the next one."""
    for fate in fates:
        await make_attempt(1.0, fate)
    return await wait()


async def be_quiet() -> str:
    """Make a call of which no hook is told."""
    await asyncio.sleep(5.0)
    return "done"


async def give_up_again_and_again(calls: WatchedCalls) -> None:
    """Give up what waits, until nothing is under way."""
    while calls.under_way:
        calls.give_up()
        await asyncio.sleep(0.25)


@virtual
async def test_call_that_waits_is_given_up_and_attempt_ends() -> None:
    """Half a second after the answer is no wait: the answer is recorded then."""
    calls = WatchedCalls(loop_time)
    waiting, sending = (asyncio.create_task(calls.run(work)) for work in (wait, attempt))
    await asyncio.sleep(1.0)
    assert 2 == calls.under_way
    await give_up_again_and_again(calls)

    with pytest.raises(GivenUpError) as caught:
        await waiting
    assert not caught.value.was_sent
    assert "answered" == await sending
    assert 10.5 <= loop_time() <= 11.0


@pytest.mark.parametrize(
    ("fates", "was_sent"),
    [
        (["in_doubt"], True),
        (["in_doubt", "not_sent"], True),
        (["not_sent"], False),
        (["refused", "not_sent"], False),
    ],
)
def test_call_that_waits_for_another_attempt_is_given_up_and_says_whether_it_was_sent(
    fates: list[str], *, was_sent: bool
) -> None:
    """Its attempts may have been executed, or are proven not to be; the last has just ended."""

    @virtual
    async def run() -> None:
        calls = WatchedCalls(loop_time)
        task = asyncio.create_task(calls.run(functools.partial(try_again, *fates)))
        await asyncio.sleep(len(fates) + 0.5)
        calls.give_up()
        await asyncio.sleep(0.25)
        assert not task.done()
        await asyncio.sleep(0.25)
        calls.give_up()
        with pytest.raises(GivenUpError) as caught:
            await task
        assert was_sent == caught.value.was_sent

    run()


@virtual
async def test_no_call_is_given_up_where_no_hook_is_told() -> None:
    """An attempt may be under way. Once a hook was told of any call, it is told of all."""
    calls = WatchedCalls(loop_time)
    first = asyncio.create_task(calls.run(be_quiet))
    await asyncio.sleep(0)
    await give_up_again_and_again(calls)
    assert "done" == await first

    second = asyncio.create_task(calls.run(be_quiet))
    assert "answered" == await calls.run(attempt)
    await second
    third = asyncio.create_task(calls.run(be_quiet))
    await asyncio.sleep(0)
    calls.give_up()
    with pytest.raises(GivenUpError):
        await third


@virtual
async def test_caller_that_is_cancelled_is_cancelled_with_its_call() -> None:
    """Also one whose call was given up at the same moment; none is left under way."""
    calls = WatchedCalls(loop_time)
    for give_up in (False, True):
        task = asyncio.create_task(calls.run(wait))
        await asyncio.sleep(1.0)
        if give_up:
            calls.give_up()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert 0 == calls.under_way


async def test_events_outside_of_a_call_are_nothing_to_the_hook() -> None:
    """The gateway's other calls have the same hook."""
    tell(EventKind.ATTEMPT_STARTED)

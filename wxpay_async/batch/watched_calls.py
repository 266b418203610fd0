"""Carry out calls so that a stop can give up those that only wait, and lets attempts end.

Only the gateway knows whether a call waits for its slot of the quota or has an attempt under
way, and it tells its hooks. So this needs `note_attempts` among the hooks of the gateway. Without
it no call is known to wait, and none is given up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any, Final, TypeVar

from attrs import define, field

from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.errors import Fate

T = TypeVar("T")

_SETTLES_WITHIN: Final = 1.0
"""Seconds after its attempt in which a call may end by itself: it records and returns the answer.
One that goes on for longer waits for its next attempt."""

_UNEXECUTED: Final = (Fate.NOT_SENT, Fate.REFUSED)


class GivenUpError(Exception):
    """The call was given up while it waited.

    Attributes:
        was_sent: an attempt of it may have been executed.
    """

    def __init__(self, *, was_sent: bool) -> None:
        super().__init__("the call was given up")
        self.was_sent = was_sent


@define(eq=False)
class _Call:
    """A call in a task of its own, and what hooks were told of its attempts.

    Attributes:
        monotonic: seconds that only grow.
        task: carries it out.
        is_told: hooks were told of it.
        attempts: those under way, the queries that settle a doubt included.
        ended_at: when the last attempt ended; None before the end of the first.
        was_sent: an attempt ended otherwise than with the proof that it was not executed.
        is_given_up: it was cancelled here.
    """

    monotonic: Callable[[], float]
    task: asyncio.Task[Any] = field(init=False)
    is_told: bool = field(default=False, init=False)
    attempts: int = field(default=0, init=False)
    ended_at: float | None = field(default=None, init=False)
    was_sent: bool = field(default=False, init=False)
    is_given_up: bool = field(default=False, init=False)

    def note(self, event: Event) -> None:
        """Note what hooks are told."""
        self.is_told = True
        if event.kind is EventKind.ATTEMPT_STARTED:
            self.attempts += 1
        elif event.kind is EventKind.ATTEMPT_ENDED:
            self.attempts -= 1
            self.ended_at = self.monotonic()
            self.was_sent = self.was_sent or event.fate not in _UNEXECUTED

    @property
    def only_waits(self) -> bool:
        """Whether no attempt is under way, nor has just ended."""
        if self.attempts:
            return False
        return self.ended_at is None or self.monotonic() - self.ended_at >= _SETTLES_WITHIN

    def give_up(self) -> None:
        """Cancel it."""
        self.is_given_up = True
        self.task.cancel()


_CURRENT: Final[ContextVar[_Call | None]] = ContextVar("wxpay_async_batch_call", default=None)


def note_attempts(event: Event) -> None:
    """Note for the batch which of its calls have an attempt under way; a hook for its gateway."""
    call = _CURRENT.get()  # hooks hear of a call, and of its attempts, in the context of its caller
    if call is not None:
        call.note(event)


@define(eq=False)
class WatchedCalls:
    """The calls of one run.

    Attributes:
        monotonic: seconds that only grow.
    """

    monotonic: Callable[[], float]
    _under_way: set[_Call] = field(factory=set[_Call], init=False)
    _are_told: bool = field(default=False, init=False)

    @property
    def under_way(self) -> int:
        """How many calls are under way."""
        return len(self._under_way)

    async def run(self, work: Callable[[], Awaitable[T]]) -> T:
        """Carry a call out, and return its result.

        Args:
            work: makes the call.

        Raises:
            GivenUpError: it was given up.
        """
        call = _Call(self.monotonic)
        call.task = asyncio.create_task(_run_in_context(call, work))
        self._under_way.add(call)
        try:
            result: T = await call.task
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if call.is_given_up and not (task and task.cancelling()):
                raise GivenUpError(was_sent=call.was_sent) from None
            raise
        else:
            return result
        finally:
            self._are_told = self._are_told or call.is_told
            self._under_way.discard(call)

    def give_up(self) -> None:
        """Cancel the calls that only wait: for the quota, for a connection, for another attempt.

        What is cancelled so has no attempt under way, so that nothing comes in doubt by it.
        """
        are_told = self._are_told or any(call.is_told for call in self._under_way)
        for call in self._under_way:
            if are_told and call.only_waits and not call.is_given_up:
                call.give_up()


async def _run_in_context(call: _Call, work: Callable[[], Awaitable[T]]) -> T:
    _CURRENT.set(call)
    return await work()

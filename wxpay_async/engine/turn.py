"""Acquire an attempt's turn: a slot of the quota, then a place among the attempts under way.

No lease of the store runs while a call waits for its turn (`money-safety.md` §3).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import define, field

from wxpay_async.adapters.event_loop import run_to_completion
from wxpay_async.adapters.limiters.limiter import Lane, Slot
from wxpay_async.engine.priority import Priority
from wxpay_async.engine.services import Services
from wxpay_async.engine.waiting import measure
from wxpay_async.errors import Fate, NotSentError, NotSentTimeoutError, WxPayError
from wxpay_async.policy.deadline import Deadline

TOO_LATE: Final = "too little time was left for an attempt to be answered in"

Tell = Callable[[str, float], None]
"""Receives what a call waited for, and for how many seconds."""


@define(eq=False)
class Turn:
    """The turn of an attempt: its quota slot and its place. Each attempt of a call acquires both.

    Attributes:
        services: what all calls share.
        deadline: by when the call must be over.
        lane: which lane of the quota it takes.
        priority: may raise the lane, where there is one.
        began: when the turn was acquired, or the last wait for it ended.
    """

    services: Services
    deadline: Deadline
    lane: Lane
    priority: Priority | None = None
    began: float = field(default=0.0, init=False)
    _slot: Slot | None = field(default=None, init=False)
    _machine: bool = field(default=False, init=False)

    async def take_now(self) -> bool:
        """Take a slot of the quota and a place among the attempts, if both are free."""
        services = self.services
        if services.acquire_now is None or self.lane is not Lane.PEOPLE:
            return False
        try:
            self._slot = await services.acquire_now(self.lane)
        except NotSentError:  # a settled operation needs no quota
            return False
        if self._slot is None:
            return False
        try:
            if not services.concurrency.acquire_now():
                # In one of the next iterations, or not at all.
                await services.concurrency.acquire(0.0)
        except TimeoutError:
            await run_to_completion(self.free_slot(NotSentError("")))
            return False
        except BaseException:
            await run_to_completion(self.free_slot(NotSentError("")))
            raise
        self._machine, self.began = False, services.clock.monotonic()
        return True

    async def wait(self, tell: Tell | None) -> None:
        """Wait for a slot of the quota, and then for a place among the attempts.

        Args:
            tell: told of each wait; None where no hook would hear of it.

        Raises:
            NotSentError: neither was free early enough for an attempt.
        """
        services = self.services
        monotonic, start_by = services.clock.monotonic, self.deadline.at - self.deadline.attempt
        while True:
            began = monotonic()
            try:
                if self.priority is None:
                    self._slot = await services.limiter.acquire(self.lane, timeout=start_by - began)
                else:
                    self._slot = await self.priority.acquire(services.limiter, self.deadline)
                    self.lane = self.priority.lane
            finally:  # report the wait also when it times out
                self.began = monotonic()
                if tell is not None and self.began > began:
                    tell("quota", self.began - began)
            self._machine = self.lane is not Lane.PEOPLE
            if services.concurrency.acquire_now(machine=self._machine):
                break
            if await self._wait_for_connection(start_by - self.began, tell):
                self.began = monotonic()
                break
        if self.began > start_by:
            await run_to_completion(self.give_back())
            raise NotSentTimeoutError(TOO_LATE)

    async def _wait_for_connection(self, seconds: float, tell: Tell | None) -> bool:
        """Wait for the end of another attempt; False if a slot has to be waited for once more.

        A slot that is held for longer than its lease frees by itself, so it is given back before.
        """
        services = self.services
        longest = min(seconds, services.timeouts.call)
        acquiring = services.concurrency.acquire(longest, machine=self._machine)
        try:
            await (
                acquiring
                if tell is None
                else measure("connection", acquiring, services.clock.monotonic, tell)
            )
        except TimeoutError as error:
            await run_to_completion(self.free_slot(NotSentError("")))
            if longest < seconds:
                return False
            raise NotSentTimeoutError("no connection came free in time") from error
        except BaseException:
            await run_to_completion(self.free_slot(NotSentError("")))
            raise
        return True

    def free_place(self) -> None:
        """Let another attempt start in its place."""
        self.services.concurrency.release(machine=self._machine)

    async def free_slot(self, error: WxPayError | None, *, answered: bool = False) -> None:
        """Report what became of the attempt that the slot was for.

        Args:
            error: what it ended with, None for a success.
            answered: the platform answered, whatever it said.
        """
        slot, self._slot = self._slot, None
        if slot is None:
            return
        if error is None or answered:
            await slot.answered()
        elif error.fate is Fate.NOT_SENT:
            await slot.unsent()
        else:
            await slot.doubtful()

    async def give_back(self) -> None:
        """Give back the turn of an attempt that was not sent."""
        self.free_place()
        await self.free_slot(NotSentError(""))

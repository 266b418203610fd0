"""Deliver a call over a transport, as often as the policy allows: the one layer that retries.

What happens after a failed attempt, a timeout for example, is decided by three things and nothing
else: the error's `fate` and `retryable` (`docs/money-safety.md` §4), the table of
`policy/retry.py`, and `RetryingTransport.deliver`, which carries it out.
"""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

import attrs
from attrs import define, field

from wxpay_async.engine.clock import Clock
from wxpay_async.engine.concurrency import ConcurrencyLimiter
from wxpay_async.engine.waiting import as_timeout
from wxpay_async.errors import (
    DuplicateRequestError,
    FailedError,
    Fate,
    InDoubtError,
    NotSentError,
    QuotaExhaustedError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.deadline import Deadline
from wxpay_async.policy.retry import QuestionBudget, RetryBudget, RetryPolicy
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts, Transport

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)

_INTERRUPTED: Final = "interrupted after the request may have left"
_SHORTEST_ATTEMPT: Final = 0.001
_UNDECIDED: Final = (RefusedError, NotSentError, DuplicateRequestError)
"""What an attempt may end with that says nothing about those before it."""
_WORKING: Final = (RefusedError, DuplicateRequestError)
"""What only a platform says that works; "interrupted" under a code is said by one in trouble."""


class Delivery(Protocol[T_co]):
    """One call, as the retrying transport drives it. `engine.call.Call` is one."""

    @property
    def in_doubt(self) -> bool:
        """Whether an attempt of another call or process may have executed the request.

        Read before the first attempt, which a question goes before then, and at the end: one may
        have been sent meanwhile.
        """
        ...

    async def prepare(self, number: int) -> HttpRequest:
        """Make the request of attempt `number`, which counts from 1.

        Each attempt needs a nonce, a timestamp and a signature of its own. Where this raises,
        nothing was sent, and `complete` is not called.
        """
        ...

    def read(self, response: HttpResponse) -> T_co:
        """Return the result that a response holds, or raise what it means."""
        ...

    def complete(self, error: WxPayError | None) -> Awaitable[None]:
        """Record how a prepared attempt ended; None for a success.

        Called exactly once for each, also when the caller is cancelled meanwhile.
        """
        ...

    @property
    def can_check_outcome(self) -> bool:
        """Whether a query can tell what became of an attempt in doubt."""
        ...

    async def check_outcome(self) -> T_co | None:
        """Ask what became of an attempt in doubt, before another one may follow.

        Returns:
            The result if it is found, None if nothing is learnt. What is proven is raised.
        """
        ...


@define(eq=False)
class RetryingTransport:
    """Delivers calls over another transport, as often as the policy of each allows.

    Args:
        transport: carries a single attempt.
        policy: how often to try, and how fast, where the call has no policy of its own.
        budget: of the retries of all calls of an appKey.
        questions: of the questions of all calls of an appKey.
        timeouts: of a single attempt.
        clock: for the pauses.
        random: returns a number from 0 to 1, for the jitter.
    """

    transport: Transport
    policy: RetryPolicy = field(factory=RetryPolicy, kw_only=True)
    budget: RetryBudget = field(factory=RetryBudget, kw_only=True)
    questions: QuestionBudget = field(factory=QuestionBudget, kw_only=True)
    timeouts: Timeouts = field(factory=Timeouts, kw_only=True)
    clock: Clock = field(factory=Clock, kw_only=True, repr=False)
    random: Callable[[], float] = field(default=random.random, kw_only=True, repr=False)
    _question_limiter: ConcurrencyLimiter | None = field(default=None, init=False)
    _loop: asyncio.AbstractEventLoop | None = field(default=None, init=False)

    async def deliver(
        self, call: Delivery[T], *, deadline: Deadline, policy: RetryPolicy | None = None
    ) -> T:
        """Make attempts until one is answered or no other may follow.

        Args:
            call: makes, reads and records the attempts.
            deadline: by when all of it must be over.
            policy: in place of the transport's own.

        Raises:
            WxPayError: of the last attempt. Once any attempt is in doubt, it is an
                `InDoubtError`, whatever became of the later ones.
        """
        if call.in_doubt and call.can_check_outcome:  # by an earlier call, or another process
            found = await self._ask(call, deadline)
            if found is not None:
                return found
        errors: tuple[WxPayError, ...] = ()
        attempts = 0
        while True:
            try:
                request = await call.prepare(attempts + 1)
                attempts += 1
                try:
                    timeouts = self._timeouts(deadline)
                    result = call.read(await self.transport.send(request, timeout=timeouts))
                except WxPayError as error:
                    await call.complete(error)
                    raise
                except BaseException:
                    # Where the store is down, too, the lease ends by itself, and recovery finds it.
                    with contextlib.suppress(InDoubtError):
                        await call.complete(InDoubtError(_INTERRUPTED))
                    raise
                await call.complete(None)
            except WxPayError as error:
                error.attempts = attempts
                errors = (*errors, error)
                found = await self._after_failure(call, errors, deadline, policy or self.policy)
                if found is not None:
                    return found
            else:
                self.questions.give_back()
                if not errors:
                    self.budget.reward()
                return result

    def _timeouts(self, deadline: Deadline) -> Timeouts:
        """Return those of an attempt, which must not outlast the call."""
        left = deadline.remaining()
        if left >= self.timeouts.attempt:
            return self.timeouts
        return attrs.evolve(self.timeouts, attempt=max(left, _SHORTEST_ATTEMPT))

    async def _after_failure(
        self,
        call: Delivery[T],
        errors: Sequence[WxPayError],
        deadline: Deadline,
        policy: RetryPolicy,
    ) -> T | None:
        """Pause before the next attempt, ask what became of the last one, or raise the last word.

        Returns:
            The result if asking finds it; None if another attempt may follow.
        """
        last = errors[-1]
        if last.code is not None and isinstance(last, _WORKING):
            self.questions.give_back()
        pause = policy.pause(errors, left=deadline.remaining(), random=self.random())
        # Who refuses (the quota, the clock) has answered: that is no outage to be spared. Nor is it
        # one that our own quota was full.
        free = last.fate is Fate.REFUSED or isinstance(last, QuotaExhaustedError)
        again = pause is not None and (free or self.budget.take())
        if again and pause:
            await self.clock.sleep(pause)
        if last.fate is Fate.IN_DOUBT and call.can_check_outcome:
            found = await self._ask(call, deadline)
            if found is not None:
                return found
        if again:
            return None
        final = _final_error(errors, call)
        if deadline.remaining() <= 0:
            final = as_timeout(final)
        raise final from (last.__cause__ if final.reason == last.reason else last)

    async def _ask(self, call: Delivery[T], deadline: Deadline) -> T | None:
        """Ask what became of a doubt, after the questions before it; None if nothing is learnt."""
        left = deadline.remaining() - self.policy.min_left
        if left <= 0:
            return None
        asking = self._limit_questions()
        try:
            await asking.acquire(left)
        except TimeoutError:
            return None
        try:
            return await call.check_outcome() if self.questions.take() else None
        finally:
            asking.release()

    def _limit_questions(self) -> ConcurrencyLimiter:
        """Return what lets questions go; what waited in another event loop is gone with it."""
        loop = asyncio.get_running_loop()
        if self._question_limiter is None or self._loop is not loop:
            self._loop, self._question_limiter = loop, ConcurrencyLimiter(self.questions.capacity)
        return self._question_limiter


def _final_error(errors: Sequence[WxPayError], call: Delivery[object]) -> WxPayError:
    """Return what the caller hears: a later refusal does not undo an earlier attempt's doubt."""
    last = errors[-1]
    earlier = any(error.fate is Fate.IN_DOUBT for error in errors[:-1])
    if last.fate is not Fate.IN_DOUBT:
        earlier = earlier or call.in_doubt
    undecided = isinstance(last, _UNDECIDED) and not isinstance(last, FailedError)
    if not earlier or not undecided:
        return last
    final = InDoubtError(
        f"an earlier attempt may have been executed; the last one ended with: {last.reason}",
        retryable=False,
        code=last.code,
        message=last.message,
    )
    final.attempts = last.attempts
    return final

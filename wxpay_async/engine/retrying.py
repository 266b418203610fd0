"""The one layer that retries: every attempt is made, and so signed, afresh."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

import attrs
from attrs import define, field

from wxpay_async.engine.clock import Clock
from wxpay_async.errors import (
    FailedError,
    Fate,
    InDoubtError,
    NotSentError,
    RefusedError,
    WxPayError,
)
from wxpay_async.policy.retry import RetryBudget, RetryPolicy
from wxpay_async.protocol.wire import HttpRequest, HttpResponse, Timeouts, Transport

T = TypeVar("T")

Prepare = Callable[[int], Awaitable[HttpRequest]]
Inquire = Callable[[], Awaitable[T | None]]
Settle = Callable[[WxPayError | None], Coroutine[Any, Any, None]]

_INTERRUPTED: Final = "interrupted after the request may have left"


async def _forget(error: WxPayError | None) -> None:
    """Settle nothing: for calls whose outcome nobody keeps."""
    del error


@define(eq=False)
class RetryingTransport:
    """Delivers a request over another transport, as often as the policy allows.

    Args:
        transport: what carries a single attempt.
        policy: how often and how fast.
        budget: shared by all calls of an appKey.
        timeouts: of the single attempt.
        clock: for the deadline and the pauses.
        roll: random numbers from 0 to 1, for the jitter.
    """

    transport: Transport
    policy: RetryPolicy = field(factory=RetryPolicy, kw_only=True)
    budget: RetryBudget = field(factory=RetryBudget, kw_only=True)
    timeouts: Timeouts = field(factory=Timeouts, kw_only=True)
    clock: Clock = field(factory=Clock, kw_only=True, repr=False)
    roll: Callable[[], float] = field(default=random.random, kw_only=True, repr=False)

    async def deliver(
        self,
        prepare: Prepare,
        *,
        read: Callable[[HttpResponse], T],
        settle: Settle = _forget,
        inquire: Inquire[T] | None = None,
        deadline: float | None = None,
        in_doubt: Callable[[], bool] = lambda: False,
    ) -> T:
        """Make attempts until one is answered or no other may follow.

        Args:
            prepare: makes the request of attempt n (from 1). It is a function because each
                attempt needs its own nonce, timestamp and signature. When it raises, nothing
                was sent and nothing is settled.
            read: turns a response into the result, or raises what the reply means.
            settle: gets the error of every prepared attempt (None for a success), exactly once,
                also when the caller is cancelled meanwhile.
            inquire: asked after an attempt in doubt, before another one may follow. It returns
                the result if it finds one, None if it learns nothing, and raises what it proves.
            deadline: by the clock's `monotonic`; `timeouts.call` from now when absent.
            in_doubt: tells whether an attempt of an earlier call, or of another process, may have
                executed the request. Asked at the end: it may have been sent meanwhile.

        Raises:
            WxPayError: of the last attempt. Once any attempt is in doubt, it is an
                `InDoubtError`, whatever became of the later ones.
        """
        if deadline is None:
            deadline = self.clock.monotonic() + self.timeouts.call
        errors: list[WxPayError] = []
        begun = 0
        while True:
            try:
                request = await prepare(begun + 1)
                begun += 1
                result = await self._attempt(request, read, settle, deadline)
            except WxPayError as error:
                error.attempts = begun
                errors.append(error)
                found = await self._weigh(errors, inquire, deadline, in_doubt=in_doubt)
                if found is not None:
                    return found
            else:
                if not errors:
                    self.budget.reward()
                return result

    async def _weigh(
        self,
        errors: list[WxPayError],
        inquire: Inquire[T] | None,
        deadline: float,
        *,
        in_doubt: Callable[[], bool],
    ) -> T | None:
        """Pause before the next attempt, ask what became of the last, or have the last word."""
        last = errors[-1]
        left = deadline - self.clock.monotonic()
        pause = self.policy.pause(errors, left=left, roll=self.roll())
        again = pause is not None and self.budget.take()
        if again and pause:
            await self.clock.sleep(pause)
        # A question costs what a retry costs: in an outage it is just another call.
        if last.fate is Fate.IN_DOUBT and inquire is not None and self.budget.take():
            found = await inquire()
            if found is not None:
                return found
        if again:
            return None
        verdict = _verdict(errors, in_doubt)
        raise verdict from (last.__cause__ if verdict is last else last)

    async def _attempt(
        self,
        request: HttpRequest,
        read: Callable[[HttpResponse], T],
        settle: Settle,
        deadline: float,
    ) -> T:
        timeouts = self.timeouts
        left = deadline - self.clock.monotonic()
        if left < timeouts.attempt:
            timeouts = attrs.evolve(timeouts, attempt=max(left, 0.001))
        try:
            result = read(await self.transport.send(request, timeout=timeouts))
        except WxPayError as error:
            await settle(error)
            raise
        except BaseException:
            # Where the store is down, too, the lease ends by itself, and recovery finds the row.
            with contextlib.suppress(InDoubtError):
                await settle(InDoubtError(_INTERRUPTED))
            raise
        await settle(None)
        return result


def _verdict(errors: list[WxPayError], in_doubt: Callable[[], bool]) -> WxPayError:
    """Return what the caller hears: a later refusal does not undo an earlier attempt's doubt."""
    last = errors[-1]
    earlier = any(error.fate is Fate.IN_DOUBT for error in errors[:-1])
    if last.fate is not Fate.IN_DOUBT:
        earlier = earlier or in_doubt()
    undecided = isinstance(last, RefusedError | NotSentError) and not isinstance(last, FailedError)
    if not earlier or not undecided:
        return last
    verdict = InDoubtError(
        f"an earlier attempt may have been executed; the last one ended with: {last.reason}",
        retryable=False,
        code=last.code,
        message=last.message,
    )
    verdict.attempts = last.attempts
    return verdict

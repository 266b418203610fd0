"""Let concurrent calls with one requestId share one operation (`money-safety.md` §2)."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from attrs import define, field

from wxpay_async.adapters.eager_tasks import start_now
from wxpay_async.adapters.event_loop import ShieldedTasks, run_to_completion
from wxpay_async.adapters.limiters.limiter import Lane
from wxpay_async.engine.priority import Priority
from wxpay_async.errors import IdempotencyConflictError, InDoubtError, InDoubtTimeoutError
from wxpay_async.protocol.idempotency_key import Fingerprint

T = TypeVar("T")


@define(eq=False)
class _InFlight:
    """One operation under way, and the callers that wait for it.

    Attributes:
        key: the requestId.
        fingerprint: what the request means.
        operation: what is under way.
        in_flight: the table in which it stands until it is over.
        background: what still runs when the last caller had no more time.
        priority: of a call of machines, which a person may raise; None of a person's.
        task: carries it out. It is a task of its own, since the caller that began it may be
            cancelled while others wait for the same answer.
        waiters: one future for each caller that waits.
        cancelling: it was cancelled, and still records where it stands.
        is_over: it ended: with `result`, with `error`, or cancelled. The task may end later.
    """

    key: str
    fingerprint: Fingerprint
    operation: Coroutine[Any, Any, Any]
    in_flight: dict[str, _InFlight]
    background: ShieldedTasks
    priority: Priority | None
    task: asyncio.Task[Any] = field(init=False)
    waiters: list[asyncio.Future[None]] = field(factory=list[asyncio.Future[None]])
    cancelling: bool = False
    is_over: bool = field(default=False, init=False)
    result: Any = field(default=None, init=False)
    error: BaseException | None = field(default=None, init=False)

    async def run(self) -> None:
        """Carry the operation out, and keep how it ended for those who wait."""
        try:
            self.result = await self.operation
        except Exception as error:  # noqa: BLE001 - raised again in each caller that waits
            self.error = error
        except asyncio.CancelledError:
            self.error = InDoubtError("the gateway was closed while it was on its way")
            raise
        except BaseException as error:
            self.error = error
            raise
        finally:  # a callback of the task would come one iteration of the loop later
            self.finish()

    async def wait(self, timeout: float | None) -> Any:  # noqa: ANN401 - the result of any task
        """Wait for the outcome; cancelling the last waiter cancels the call.

        Args:
            timeout: seconds to wait at most, None for as long as it takes.

        Raises:
            InDoubtError: it was still under way by then, or the gateway was closed.
        """
        if not self.is_over:
            # A future of one's own can be cancelled without the task; `asyncio.shield` costs more.
            waiter = asyncio.get_running_loop().create_future()
            self.waiters.append(waiter)
            try:
                if timeout is None:
                    await waiter
                else:
                    async with asyncio.timeout(timeout):
                        await waiter
            except TimeoutError as error:
                if len(self.waiters) == 1:  # what it still records must not keep the caller
                    self.cancelling = True
                    self.background.start(self.cancel())
                text = "the call that sends this requestId is still under way"
                raise InDoubtTimeoutError(text) from error
            except asyncio.CancelledError:
                await self._cancel_if_last()
                raise
            finally:
                self.waiters.remove(waiter)
        if self.error is not None:
            raise self.error
        return self.result

    async def _cancel_if_last(self) -> None:
        if len(self.waiters) == 1:
            await self.cancel()

    def finish(self) -> None:
        """Wake every waiter; the next call with the requestId starts an operation of its own."""
        self.is_over = True
        if self.in_flight.get(self.key) is self:
            del self.in_flight[self.key]
        for waiter in self.waiters:
            if not waiter.done():
                waiter.set_result(None)

    async def cancel(self) -> None:
        """Cancel the operation and wait until it has recorded where it stands."""
        self.cancelling = True
        self.task.cancel()
        await run_to_completion(self._wait_until_cancelled())

    async def wait_until_recorded(self, timeout: float) -> None:
        """Wait until an operation that was cancelled has recorded where it stands.

        Raises:
            InDoubtTimeoutError: it takes too long.
        """
        await asyncio.wait([self.task], timeout=timeout)
        if not self.task.done():
            raise InDoubtTimeoutError("an earlier call with this requestId is still being recorded")

    async def _wait_until_cancelled(self) -> None:
        await asyncio.wait([self.task])
        if not self.task.cancelled():
            self.task.exception()  # retrieved, since no caller is left to hear of it


@define(eq=False)
class SingleFlight:
    """The operations under way in one event loop."""

    background: ShieldedTasks = field(factory=ShieldedTasks)
    _in_flight: dict[str, _InFlight] = field(factory=dict[str, _InFlight], init=False)

    async def run(
        self,
        key: str,
        fingerprint: Fingerprint,
        operation: Coroutine[Any, Any, T],
        *,
        timeout: float,
        own_timeout: float | None = None,
        priority: Priority | None = None,
    ) -> tuple[T, bool]:
        """Return the operation's result, and whether another caller began it.

        Args:
            key: the requestId, which makes two calls one.
            fingerprint: what the request means.
            operation: carries it out; closed if it is under way already.
            timeout: seconds to wait for an operation that another caller began.
            own_timeout: seconds to wait for one's own; None where it keeps its deadline by itself.
            priority: of the operation, where a machine asks for it; None where a person does. A
                person who asks for what a machine began raises it.

        Raises:
            IdempotencyConflictError: the operation under way has the same requestId and means
                something else.
            InDoubtError: it was still under way after `timeout`, or the gateway was closed.
        """
        try:
            while (flight := self._in_flight.get(key)) is not None and flight.cancelling:
                await flight.wait_until_recorded(timeout)
        except (asyncio.CancelledError, InDoubtTimeoutError):
            operation.close()
            raise
        if flight is None:
            flight = self._in_flight[key] = _InFlight(
                key, fingerprint, operation, self._in_flight, self.background, priority
            )
            flight.task = start_now(flight.run(), f"wxpay {key}")
            return await flight.wait(own_timeout), False
        operation.close()
        operations = flight.fingerprint.operation, fingerprint.operation
        check_same(flight.fingerprint, fingerprint, operations)
        if priority is None and flight.priority is not None:
            flight.priority.raise_lane(Lane.PEOPLE)
        return await flight.wait(timeout), True

    def has(self, key: str, fingerprint: Fingerprint) -> bool:
        """Tell whether this request is under way, so that another call would share it."""
        flight = self._in_flight.get(key)
        return flight is not None and not flight.cancelling and flight.fingerprint == fingerprint

    def is_under_way(self, key: str) -> bool:
        """Tell whether an operation with this requestId is under way, whatever it means."""
        return key in self._in_flight

    async def aclose(self) -> None:
        """Cancel everything that is under way."""
        for flight in list(self._in_flight.values()):
            await flight.cancel()


def check_same(stored: Fingerprint, asked: Fingerprint, operations: tuple[str, str]) -> None:
    """Check that a requestId is not reused with other content.

    Args:
        stored: of what the requestId stands for.
        asked: of what it is used for now.
        operations: the names of both.

    Raises:
        IdempotencyConflictError: it is; the error names the fields that differ.
    """
    if stored == asked:
        return
    first, second = operations
    fields = stored.differences(asked)
    if first == second:
        reason = (
            f"this requestId already stands for a request with other {', '.join(fields)}; "
            "use one requestId per purchase"
        )
    else:
        reason = (
            f"this requestId is shared by two operations: it stands for a {first}, and a {second} "
            f'needs its own; derive_request_id(app_key, "{second}", order) makes it'
        )
    raise IdempotencyConflictError(reason, fields=fields)

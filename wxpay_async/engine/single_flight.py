"""Single flight: concurrent calls with one requestId share one operation (`money-safety.md` §2)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from attrs import define, field

from wxpay_async.adapters.event_loop import run_to_completion
from wxpay_async.errors import IdempotencyConflictError, InDoubtError
from wxpay_async.protocol.idempotency_key import Fingerprint

T = TypeVar("T")


@define(eq=False)
class Flight:
    """One operation under way, and how many callers wait for it.

    Attributes:
        request_id: whose operation.
        fingerprint: what it means.
        others: the list on which it stands until it is over.
        task: carries it out.
        waiting: who waits.
        falling: it was cancelled, and still records where it stands.
    """

    request_id: str
    fingerprint: Fingerprint
    others: dict[str, Flight]
    task: asyncio.Task[Any] = field(init=False)
    waiting: set[asyncio.Future[None]] = field(factory=set[asyncio.Future[None]])
    falling: bool = False

    async def fly(self, start: Callable[[], Coroutine[Any, Any, T]]) -> T:
        """Carry it out."""
        try:
            return await start()
        finally:  # a callback of the task would come a turn of the loop later
            self.over()

    async def landed(self, timeout: float | None) -> Any:  # noqa: ANN401 - whatever the task gives
        """Wait for the outcome; the last waiter that is cancelled takes the flight down with it.

        Args:
            timeout: seconds to wait at most, None for as long as it takes.

        Raises:
            InDoubtError: it was still under way by then, or its gateway was closed.
        """
        # A future of one's own can be cancelled without the task; `asyncio.shield` costs more.
        landing = self.task.get_loop().create_future()
        self.waiting.add(landing)
        try:
            if timeout is None:
                await landing
            else:
                async with asyncio.timeout(timeout):
                    await landing
        except TimeoutError as error:
            await self._left_alone()
            raise InDoubtError("the call that sends this requestId is still under way") from error
        except asyncio.CancelledError:
            await self._left_alone()
            raise
        finally:
            self.waiting.discard(landing)
        if self.task.cancelled():
            raise InDoubtError("the gateway was closed while it was on its way")
        return self.task.result()

    async def _left_alone(self) -> None:
        if len(self.waiting) == 1:
            await self.brought_down()

    def over(self) -> None:
        """Wake everybody who waits; the next call with its requestId begins anew."""
        if self.others.get(self.request_id) is self:
            del self.others[self.request_id]
        for landing in self.waiting:
            if not landing.done():
                landing.set_result(None)

    async def brought_down(self) -> None:
        """Cancel the operation and wait until it has recorded where it stands."""
        self.falling = True
        self.task.cancel()
        await run_to_completion(self._down())

    async def _down(self) -> None:
        await asyncio.wait([self.task])
        self.over()  # which it cannot tell if it was cancelled before it began
        if not self.task.cancelled():
            self.task.exception()  # seen: whoever could have been told is gone


@define(eq=False)
class SingleFlight:
    """The operations under way in one event loop."""

    _open: dict[str, Flight] = field(factory=dict[str, Flight], init=False)

    async def board(
        self,
        request_id: str,
        fingerprint: Fingerprint,
        start: Callable[[], Coroutine[Any, Any, Any]],
    ) -> tuple[Flight, bool]:
        """Return the operation's flight, and whether somebody else began it.

        Args:
            request_id: what makes two calls one.
            fingerprint: what the request means.
            start: begins the operation, if nobody has.

        Raises:
            IdempotencyConflictError: the flight under way has the same requestId and means
                something else.
        """
        while (flight := self._open.get(request_id)) is not None and flight.falling:
            await asyncio.wait([flight.task])  # it still writes down where it stands
            flight.over()
        if flight is None:
            flight = self._open[request_id] = Flight(request_id, fingerprint, self._open)
            flight.task = asyncio.get_running_loop().create_task(
                flight.fly(start), name=f"wxpay {request_id}"
            )
            return flight, False
        if flight.fingerprint != fingerprint:
            raise conflict(flight.fingerprint.differences(fingerprint))
        return flight, True

    async def aclose(self) -> None:
        """Bring down whatever is under way."""
        for flight in list(self._open.values()):
            await flight.brought_down()


def conflict(fields: tuple[str, ...]) -> IdempotencyConflictError:
    """Return the error for a requestId that is reused with other content."""
    return IdempotencyConflictError(
        f"this requestId already stands for a request with other {', '.join(fields)}; "
        "use one requestId per purchase",
        fields=fields,
    )

"""Have workers settle lines: send sealed chunks, and read the outcomes from the store.

A line has ended when the store shows its end; what a worker or a queue reports does not count. A
line without an end is sent again after 15 minutes. A message may arrive twice: the second worker
gets the stored outcomes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, Final, TypeAlias

from attrs import define, field

from wxpay_async.batch.chunks import seal
from wxpay_async.batch.line import Line
from wxpay_async.batch.settling import read_windows, recall_lines
from wxpay_async.engine.clock import Clock
from wxpay_async.engine.gateway import PayGateway
from wxpay_async.engine.recall import READ_AT_ONCE
from wxpay_async.engine.streaming import Outcome
from wxpay_async.errors import InDoubtError, NotSentError

Send: TypeAlias = Callable[[str], Awaitable[object]]
"""Sends a message on its way to a worker."""

CHUNK: Final = 50
"""Lines of a message."""

WINDOW: Final = 40
"""Chunks that are out at the same time: a short queue is fair to the next file, cheap to repeat,
and soon empty after a stop."""

LOOK_EVERY: Final = 5.0
"""Seconds between two looks at the store."""

SEND_AGAIN: Final = 900.0
"""Seconds after which lines that have no end are sent again."""

SEND_WITHIN: Final = 60.0
"""Seconds in which one message must be sent: a broker that went away may never answer."""

LAST_SEND: Final = 2.0
"""Seconds in which a message that is on its way at a stop must be sent."""

MOST_SENT: Final = 3
"""How often a chunk is sent while none of its lines ends; then it is given up."""

_LOG: Final = logging.getLogger("wxpay_async")


@define(eq=False)
class _Chunk:
    """Lines that were sent to the workers.

    Attributes:
        lines: the lines that have no end yet.
        sent_at: when they were last sent, by the monotonic clock.
        sent: how often they were sent while no line of the chunk ended.
    """

    lines: list[Line]
    sent_at: float = 0.0
    sent: int = 0


@define(eq=False, kw_only=True)
class Coordinator:
    """Coordinates the workers of one run.

    Attributes:
        gateway: has the store that the workers share; this class makes no call with it.
        send: hands a message to a worker.
        keys: what messages are sealed with.
        clock: for the waits.
    """

    gateway: PayGateway
    send: Send
    keys: Sequence[bytes] = field(repr=False)
    clock: Clock
    _out: list[_Chunk] = field(factory=list[_Chunk], init=False)
    _was_sent: bool = field(default=False, init=False)
    _stopped: asyncio.Event = field(factory=asyncio.Event, init=False)
    _sending: asyncio.Timeout | None = field(default=None, init=False)

    async def run(self, lines: AsyncIterator[Line]) -> AsyncGenerator[Outcome[Line, Any]]:
        """Yield the outcome of every line from the store; `open` for lines that are given up."""
        windows = read_windows(lines)
        unsent: list[Line] = []
        has_more = True
        while not self._stopped.is_set() and (has_more or unsent or self._out):
            if len(self._out) == WINDOW or not (has_more or unsent):
                await self._pause()
                for outcome in await self._look():
                    yield outcome
                for outcome in await self._send_again():
                    yield outcome
            elif has_more and len(unsent) < CHUNK:
                window = await anext(windows, None)
                has_more = window is not None
                for line, ended in await self._recall(window or []):
                    if ended is None:
                        unsent.append(line)
                    else:
                        yield ended
            elif await self._send(chunk := _Chunk(unsent[:CHUNK])):
                self._out.append(chunk)
                del unsent[:CHUNK]
            else:
                await self._pause()

    def stop(self) -> None:
        """Send nothing more, and end `run`; workers finish the chunks that they have."""
        self._stopped.set()
        if self._sending is not None and not self._sending.expired():
            until = asyncio.get_running_loop().time() + LAST_SEND
            self._sending.reschedule(min(until, self._sending.when() or until))

    async def _look(self) -> list[Outcome[Line, Any]]:
        """Return the outcomes of lines that have ended; remove the lines from their chunks."""
        outcomes: list[Outcome[Line, Any]] = []
        out = [(chunk, line) for chunk in self._out for line in chunk.lines]
        for chunk in self._out:
            chunk.lines = []
        for start in range(0, len(out), READ_AT_ONCE):
            part = out[start : start + READ_AT_ONCE]
            recalled = await self._recall([line for _, line in part])
            for (chunk, line), (_, ended) in zip(part, recalled, strict=True):
                if ended is None:
                    chunk.lines.append(line)
                else:
                    chunk.sent = 1
                    outcomes.append(ended)
        self._out = [chunk for chunk in self._out if chunk.lines]
        return outcomes

    async def _send_again(self) -> list[Outcome[Line, Any]]:
        """Send chunks again that are out for too long; return the lines that are given up."""
        given_up: list[_Chunk] = []
        for chunk in self._out:
            if self._stopped.is_set() or self.clock.monotonic() - chunk.sent_at < SEND_AGAIN:
                continue
            if chunk.sent < MOST_SENT:
                await self._send(chunk)
            else:
                given_up.append(chunk)
        self._out = [chunk for chunk in self._out if chunk not in given_up]
        lines = [line for chunk in given_up for line in chunk.lines]
        if lines:
            _LOG.error(
                "%d lines were sent %d times, and no worker ended any", len(lines), MOST_SENT
            )
        return [Outcome(kind="open", request=line) for line in lines]

    async def _send(self, chunk: _Chunk) -> bool:
        """Hand a chunk to a worker; False if it has to be tried again.

        Raises:
            Exception: `send` failed for the first message of the run, so it may be set up wrongly.
        """
        try:
            async with asyncio.timeout(SEND_WITHIN) as self._sending:
                await self.send(seal(chunk.lines, self.keys, app_key=self.gateway.app_key))
        except Exception:
            # `send` may raise anything, and a broker that is away must not end the run.
            if self._stopped.is_set():
                return False
            if not self._was_sent:
                raise
            _LOG.warning("no message can be sent; it is tried again", exc_info=True)
            return False
        finally:
            self._sending = None
        self._was_sent = True
        chunk.sent, chunk.sent_at = chunk.sent + 1, self.clock.monotonic()
        return True

    async def _recall(self, lines: Sequence[Line]) -> list[tuple[Line, Outcome[Line, Any] | None]]:
        """Recall lines; if the store is away, wait until it is back or the run is stopped."""
        while not self._stopped.is_set():
            try:
                return list(zip(lines, await recall_lines(self.gateway, lines), strict=True))
            except (NotSentError, InDoubtError) as error:
                _LOG.warning("the store cannot be read, which is tried again: %s", error.reason)
                await self._pause()
        return [(line, None) for line in lines]

    async def _pause(self) -> None:
        """Wait for the next look, or for the end of the run."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(LOOK_EVERY):
                await self._stopped.wait()

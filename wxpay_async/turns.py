"""Fairness towards everybody else in the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from attrs import define, field

PER_TURN: Final = 4
"""Attempts that start in one turn: one or two milliseconds of work."""


@define(eq=False)
class Turns:
    """Spreads attempts that are ready at the same moment over turns of the event loop.

    Calls that are answered together go on together, and fall into step: 64 of them would hold the
    loop for as long as 64 requests take to build, again and again. First come, first served.
    """

    _begun: int = field(default=0, init=False)
    _waiting: deque[asyncio.Future[None]] = field(factory=deque[asyncio.Future[None]], init=False)

    async def take(self) -> None:
        """Begin in this turn, or in the first that has room."""
        loop = asyncio.get_running_loop()
        if self._begun < PER_TURN:
            self._begin(loop)
            return
        place = loop.create_future()
        self._waiting.append(place)
        await place

    def _begin(self, loop: asyncio.AbstractEventLoop) -> None:
        if not self._begun:
            loop.call_soon(self._next, loop)
        self._begun += 1

    def _next(self, loop: asyncio.AbstractEventLoop) -> None:
        self._begun = 0
        while self._waiting and self._begun < PER_TURN:
            place = self._waiting.popleft()
            if not place.done():  # it is when its caller was cancelled
                place.set_result(None)
                self._begin(loop)

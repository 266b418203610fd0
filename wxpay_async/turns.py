"""Who may send now: so many at once, and so many that start in one turn of the event loop."""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Final

from attrs import define, field

PER_TURN: Final = 4
"""Attempts that start in one turn: one or two milliseconds of work."""


@define(eq=False)
class Turns:
    """Lets attempts start, first come, first served.

    Calls that are answered together go on together, and fall into step: 64 of them would hold the
    loop for as long as 64 requests take to build, again and again. So what is ready at the same
    moment starts in several turns, which is fair towards everybody else in the loop.

    Args:
        at_once: attempts under way.
    """

    at_once: int
    _under_way: int = field(default=0, init=False)
    _begun: int = field(default=0, init=False)
    _waiting: deque[asyncio.Future[None]] = field(factory=deque[asyncio.Future[None]], init=False)

    async def take(self, timeout: float) -> None:
        """Begin in this turn, or in the first that has room.

        Raises:
            TimeoutError: no other attempt ended within so many seconds.
        """
        if not self._waiting and self._has_room():
            self._begin()
            return
        # A turn is over soon; only the end of somebody's attempt is worth a timer.
        soon = self._under_way + len(self._waiting) < self.at_once
        place = asyncio.get_running_loop().create_future()
        self._waiting.append(place)
        try:
            if soon:
                await place
            else:
                async with asyncio.timeout(timeout):
                    await place
        except (asyncio.CancelledError, TimeoutError):
            if place.done() and not place.cancelled():
                self.end()
            raise

    def end(self) -> None:
        """Give the place to the next."""
        self._under_way -= 1
        self._serve()

    def _has_room(self) -> bool:
        return self._begun < PER_TURN and self._under_way < self.at_once

    def _begin(self) -> None:
        if not self._begun:
            asyncio.get_running_loop().call_soon(self._turn_ends)
        self._begun += 1
        self._under_way += 1

    def _turn_ends(self) -> None:
        self._begun = 0
        self._serve()

    def _serve(self) -> None:
        while self._waiting and self._has_room():
            place = self._waiting.popleft()
            if not place.done():  # it is when its caller was cancelled
                place.set_result(None)
                self._begin()

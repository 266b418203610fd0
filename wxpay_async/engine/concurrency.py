"""Who may send now: so many at once, and so many that start in one turn of the event loop."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from collections.abc import Callable
from typing import Final

from attrs import define, field

TURN: Final = 0.002
"""Seconds that the attempts which start in one turn may take; the answers of others come on top."""

FIRST: Final = 4
"""Attempts that start in one turn before anybody knows how long they take."""


@define(eq=False)
class ConcurrencyLimiter:
    """Lets attempts start, first come, first served.

    Calls that are answered together go on together, and fall into step: 64 of them would hold the
    loop for as long as 64 requests take to build, again and again. So what is ready at the same
    moment starts in several turns, which is fair towards everybody else in the loop. How many
    start in one turn follows from how long the last one took: an RSA signature takes a hundred
    times as long as one by MD5, and a slow machine ten times as long as a fast one.

    Args:
        at_once: attempts under way.
        clock: seconds that never go back; the machine's also where a test moves time, since it is
            work that is measured here.
    """

    at_once: int
    clock: Callable[[], float] = time.monotonic
    _fit: int = field(default=FIRST, init=False)
    _begun: int = field(default=0, init=False)
    _turn_began: float = field(default=0.0, init=False)
    _under_way: int = field(default=0, init=False)
    _waiting: deque[asyncio.Future[None]] = field(factory=deque[asyncio.Future[None]], init=False)

    async def take(self, timeout: float) -> None:
        """Begin in this turn, or in the first that has room.

        Raises:
            TimeoutError: no other attempt ended within so many seconds.
        """
        if not self._waiting and self._has_room():
            if not self._begun:
                self._turn_begins()
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
        return self._begun < self._fit and self._under_way < self.at_once

    def _begin(self) -> None:
        self._begun += 1
        self._under_way += 1

    def _turn_begins(self) -> None:
        self._turn_began = self.clock()
        asyncio.get_running_loop().call_soon(self._turn_ends)

    def _turn_ends(self) -> None:
        spent = self.clock() - self._turn_began
        # At most twice as many as before: a turn may have been short by chance.
        fit = int(self._begun * TURN / spent) if spent > 0 else self.at_once
        self._fit = max(1, min(fit, 2 * self._fit))
        self._begun = 0
        self._serve()

    def _serve(self) -> None:
        is_first = not self._begun
        while self._waiting and self._has_room():
            place = self._waiting.popleft()
            if not place.done():  # it is when its caller was cancelled
                place.set_result(None)
                self._begin()
        if is_first and self._begun:  # after those who were woken, so that the turn ends with them
            self._turn_begins()

"""Misbehaviour on request, as data: what shall go wrong with the next replies and callbacks.

- Replies: one mishap for one call to an endpoint, in the order in which they were asked for.
- Callbacks: each kind of mischief queues by itself and strikes the next callbacks that arise, so
  that a callback can be late and doubled and out of order.

Errors by errorCode are `Platform.fail_next`; single forged callbacks are `Sandbox.send_forged`.
"""

from __future__ import annotations

import enum
import math
from collections import Counter, deque
from typing import Final, TypeVar

from attrs import define, field, frozen
from attrs.validators import and_, ge, lt

_T = TypeVar("_T")
_FINITE: Final = and_(ge(0.0), lt(math.inf))


class ReplyFaultKind(enum.StrEnum):
    """What happens to the reply of a call."""

    DROP = "drop"
    """The connection is closed without a reply."""
    RESET = "reset"
    """The connection is reset (RST) without a reply."""
    TRUNCATED = "truncated"
    """Half of the reply arrives, then the connection is closed."""
    HTML_502 = "html-502"
    """A proxy's page arrives instead of the reply."""
    DELAY = "delay"
    """The reply is late."""


class Forgery(enum.StrEnum):
    """What is wrong with a forged callback. None of these may be believed."""

    SIGNATURE = "signature"
    """A signature of the right shape that is none."""
    UNSIGNED = "unsigned"
    """No `sign`."""
    EMPTY_SIGN = "empty-sign"
    """An empty `sign`."""
    BARE = "bare"
    """None of appKey, nonce, timestamp, sign: at best a hint that deserves a query."""
    STATUS = "status"
    """Another status than the signed one."""
    AMOUNT = "amount"
    """A hundred times the signed amount."""
    ORDER = "order"
    """Another order than the signed one."""
    EXTRA = "extra"
    """A field that was not signed."""
    TWICE = "twice"
    """The amount stands twice: as signed, and a hundred times as much."""
    SCHEME = "scheme"
    """Properly signed, but by the scheme that the merchant's contract does not name."""
    APP_KEY = "app-key"
    """Properly signed, but for another merchant."""
    FUTURE = "future"
    """Properly signed, but an hour ahead of time."""


@frozen
class ReplyFault:
    """One mishap.

    Attributes:
        mishap: what happens.
        executed: whether the call is executed before it happens. After a `delay` it is executed
            anyway; after any other mishap it is not.
        seconds: how long the mishap waits.
        path: only a call to this path is struck; any when empty.
    """

    mishap: ReplyFaultKind = field(converter=ReplyFaultKind)
    executed: bool = True
    seconds: float = field(default=0.0, validator=_FINITE)
    path: str = ""


@frozen(kw_only=True)
class CallbackFault:
    """What happens to one callback.

    Attributes:
        copies: how many are sent at once, 1 being the rule.
        stale: seconds by which its timestamp is too old, as if it had been on its way that long.
        pause: seconds for which its first delivery really waits.
        forgery: what is sent before it, if anything.
        held: whether it waits for a later one.
        turns: whether it and what was held before it now go out, the last first.
    """

    copies: int = 1
    stale: float = 0.0
    pause: float = 0.0
    forgery: Forgery | None = None
    held: bool = False
    turns: bool = False


@define(eq=False)
class Faults:
    """Queues of what shall go wrong. Everything behaves when they are empty.

    Attributes:
        struck: how many replies were spoiled, by mishap.
    """

    struck: Counter[ReplyFaultKind] = field(init=False, factory=Counter[ReplyFaultKind])
    _replies: deque[ReplyFault] = field(init=False, factory=deque[ReplyFault])
    _copies: deque[int] = field(init=False, factory=deque[int])
    _stale: deque[float] = field(init=False, factory=deque[float])
    _pauses: deque[float] = field(init=False, factory=deque[float])
    _forgeries: deque[Forgery] = field(init=False, factory=deque[Forgery])
    _held: deque[bool] = field(init=False, factory=deque[bool])

    def spoil(
        self,
        mishap: ReplyFaultKind | str,
        *,
        executed: bool = True,
        seconds: float = 0.0,
        path: str = "",
    ) -> None:
        """Spoil the reply of one of the next calls; several queue up, one for each call.

        Args:
            mishap: what happens.
            executed: whether the call is executed before it happens, see `ReplyFault`.
            seconds: how long the mishap waits; 0 or more.
            path: strike only a call to this path.

        Raises:
            ValueError: there is no such mishap, or the seconds are none.
        """
        self._replies.append(ReplyFault(mishap, executed, seconds, path))

    def double(self, count: int = 1, *, copies: int = 2) -> None:
        """Send each of the next `count` callbacks that many times at once.

        Raises:
            ValueError: fewer than one copy.
        """
        if copies < 1:
            raise ValueError("a callback is sent once at least")
        self._copies.extend([copies] * count)

    def reorder(self, size: int = 2) -> None:
        """Hold the next callbacks back until `size` are there; they go out the last first.

        Each waits for the one before it to be answered. `Sandbox.callbacks_idle` does not wait for
        more to come.

        Raises:
            ValueError: fewer than two.
        """
        if size < 2:  # noqa: PLR2004 - one thing has no order
            raise ValueError("it takes two to change their order")
        self._held.extend([*[True] * (size - 1), False])

    def late(self, seconds: float, count: int = 1) -> None:
        """Sign each of the next `count` callbacks as of `seconds` ago; nobody has to wait.

        It has that age at each of its deliveries.

        Raises:
            ValueError: negative or not finite.
        """
        self._stale.extend([_seconds(seconds)] * count)

    def pause(self, seconds: float, count: int = 1) -> None:
        """Let the first delivery of each of the next `count` callbacks really wait.

        Raises:
            ValueError: negative or not finite.
        """
        self._pauses.extend([_seconds(seconds)] * count)

    def forge(self, kind: Forgery | str, count: int = 1) -> None:
        """Send a forgery of each of the next `count` callbacks before the genuine one.

        Raises:
            ValueError: there is no such forgery.
        """
        self._forgeries.extend([Forgery(kind)] * count)

    def next_reply(self, path: str) -> ReplyFault | None:
        """Take what shall happen to a call to a path; None to let it be."""
        for fault in self._replies:
            if fault.path in ("", path):
                self._replies.remove(fault)
                self.struck[fault.mishap] += 1
                return fault
        return None

    def next_callback(self) -> CallbackFault:
        """Take what shall happen to a callback."""
        held = _next(self._held)
        return CallbackFault(
            copies=_next(self._copies) or 1,
            stale=_next(self._stale) or 0.0,
            pause=_next(self._pauses) or 0.0,
            forgery=_next(self._forgeries),
            held=held is True,
            turns=held is False,
        )


def _next(queue: deque[_T]) -> _T | None:
    return queue.popleft() if queue else None


def _seconds(value: float) -> float:
    if not 0.0 <= value < math.inf:
        raise ValueError("seconds are 0 or more")
    return value

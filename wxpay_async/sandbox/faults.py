"""Queue faults for the next replies and callbacks of the sandbox. No I/O.

- Replies: one fault applies to one call to an endpoint, in the order in which they were queued.
- Callbacks: each kind of fault has a queue of its own and applies to the next callbacks, so that
  one callback can be late, doubled and out of order at once.

For an errorCode use `Platform.fail_next`, for a single forged callback `Sandbox.send_forged`.
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
    """The error page of a proxy arrives instead of the reply."""
    DELAY = "delay"
    """The reply is late."""


class Forgery(enum.StrEnum):
    """What is wrong with a forged callback. A merchant must accept none of these."""

    SIGNATURE = "signature"
    """A signature of the right form that does not verify."""
    UNSIGNED = "unsigned"
    """No `sign`."""
    EMPTY_SIGN = "empty-sign"
    """An empty `sign`."""
    BARE = "bare"
    """None of appKey, nonce, timestamp, sign: at best a hint to query the order."""
    STATUS = "status"
    """Another status than the signed one."""
    AMOUNT = "amount"
    """A hundred times the signed amount."""
    ORDER = "order"
    """Another order than the signed one."""
    EXTRA = "extra"
    """A field that was not signed."""
    TWICE = "twice"
    """The amount is sent twice: as signed, and a hundred times as much."""
    SCHEME = "scheme"
    """Properly signed, but by the scheme that the merchant's contract does not name."""
    APP_KEY = "app-key"
    """Properly signed, but for another merchant."""
    FUTURE = "future"
    """Properly signed, but an hour ahead of time."""


@frozen
class ReplyFault:
    """A fault of one reply.

    Attributes:
        kind: what happens.
        executed: whether the call is executed before the fault. After a `delay` it is executed in
            any case; after any other fault it is not.
        seconds: how long the fault waits.
        path: the fault applies only to a call to this path; to any call when empty.
    """

    kind: ReplyFaultKind = field(converter=ReplyFaultKind)
    executed: bool = True
    seconds: float = field(default=0.0, validator=_FINITE)
    path: str = ""


@frozen(kw_only=True)
class CallbackFault:
    """The faults of one callback.

    Attributes:
        copies: how many are sent at once; 1 is normal.
        stale: seconds by which its timestamp is too old, as if it had been on its way that long.
        pause: seconds for which its first delivery really waits.
        forgery: the forgery that is sent before it, if any.
        held: whether it waits for a later one.
        releases: whether it and the callbacks held before it are sent now, the last first.
    """

    copies: int = 1
    stale: float = 0.0
    pause: float = 0.0
    forgery: Forgery | None = None
    held: bool = False
    releases: bool = False


@define(eq=False)
class Faults:
    """Queues of faults. While they are empty, nothing goes wrong.

    Attributes:
        injected: how many replies had a fault, by its kind.
    """

    injected: Counter[ReplyFaultKind] = field(init=False, factory=Counter[ReplyFaultKind])
    _replies: deque[ReplyFault] = field(init=False, factory=deque[ReplyFault])
    _copies: deque[int] = field(init=False, factory=deque[int])
    _stale: deque[float] = field(init=False, factory=deque[float])
    _pauses: deque[float] = field(init=False, factory=deque[float])
    _forgeries: deque[Forgery] = field(init=False, factory=deque[Forgery])
    _held: deque[bool] = field(init=False, factory=deque[bool])

    def inject(
        self,
        kind: ReplyFaultKind | str,
        *,
        executed: bool = True,
        seconds: float = 0.0,
        path: str = "",
    ) -> None:
        """Inject a fault into the reply of the next call; several queue up, one for each call.

        Args:
            kind: what happens.
            executed: whether the call is executed before the fault, see `ReplyFault`.
            seconds: how long the fault waits; 0 or more.
            path: apply it only to a call to this path.

        Raises:
            ValueError: there is no such kind, or the seconds are negative or not finite.
        """
        self._replies.append(ReplyFault(kind, executed, seconds, path))

    def double(self, count: int = 1, *, copies: int = 2) -> None:
        """Send each of the next `count` callbacks that many times at once.

        Raises:
            ValueError: fewer than one copy.
        """
        if copies < 1:
            raise ValueError("a callback is sent once at least")
        self._copies.extend([copies] * count)

    def reorder(self, size: int = 2) -> None:
        """Hold the next `size` callbacks back until all are there; send them the last first.

        Each is sent after the one before it was answered. `Sandbox.callbacks_idle` does not wait
        until the number is complete.

        Raises:
            ValueError: fewer than two.
        """
        if size < 2:  # noqa: PLR2004 - one callback has no order
            raise ValueError("it takes two to change their order")
        self._held.extend([*[True] * (size - 1), False])

    def late(self, seconds: float, count: int = 1) -> None:
        """Sign each of the next `count` callbacks as of `seconds` ago, without any waiting.

        Each of its deliveries has this age.

        Raises:
            ValueError: negative or not finite.
        """
        self._stale.extend([_check_seconds(seconds)] * count)

    def pause(self, seconds: float, count: int = 1) -> None:
        """Let the first delivery of each of the next `count` callbacks really wait.

        Raises:
            ValueError: negative or not finite.
        """
        self._pauses.extend([_check_seconds(seconds)] * count)

    def forge(self, kind: Forgery | str, count: int = 1) -> None:
        """Send a forgery of each of the next `count` callbacks before the genuine one.

        Raises:
            ValueError: there is no such forgery.
        """
        self._forgeries.extend([Forgery(kind)] * count)

    def take_reply_fault(self, path: str) -> ReplyFault | None:
        """Take the fault of a call to a path off the queue; None if there is none for it."""
        for fault in self._replies:
            if fault.path in ("", path):
                self._replies.remove(fault)
                self.injected[fault.kind] += 1
                return fault
        return None

    def take_callback_fault(self) -> CallbackFault:
        """Take the faults of the next callback off the queues."""
        held = _take_first(self._held)
        return CallbackFault(
            copies=_take_first(self._copies) or 1,
            stale=_take_first(self._stale) or 0.0,
            pause=_take_first(self._pauses) or 0.0,
            forgery=_take_first(self._forgeries),
            held=held is True,
            releases=held is False,
        )


def _take_first(queue: deque[_T]) -> _T | None:
    return queue.popleft() if queue else None


def _check_seconds(value: float) -> float:
    if not 0.0 <= value < math.inf:
        raise ValueError("seconds are 0 or more")
    return value

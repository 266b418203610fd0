"""Decide when many requests pause in an outage, and for how long (`money-safety.md` §5).

| a call ended with | what it says about the next one |
| --- | --- |
| a success, a business refusal, a repeated requestId | the platform answers |
| a refusal for how it was sent (appKey, address, signature) | the next one is refused, too |
| a doubt, not sent, the quota used up, a wrong clock, a key that cannot be used | nothing works |
| its own content, another process's lease, an answer from the store | nothing |

Whose fault it is that nothing works makes no difference. Ten calls in a row that ended without an
answer because the store is down, or because no slot of our own quota came free, show the same: the
next request would be used up as well.
"""

from __future__ import annotations

import enum
from typing import Final

from attrs import define, field

from wxpay_async.errors import (
    ClockSkewError,
    ConfigurationRefusedError,
    DuplicateRequestError,
    IdempotencyConflictError,
    InDoubtError,
    InvalidRequestError,
    RateLimitedError,
    RefusedError,
    WxPayError,
)

FIRST_PAUSE: Final = 2.0
LONGEST_PAUSE: Final = 60.0
"""Seconds; a pause is twice as long as the one before it, up to this."""


class Evidence(enum.Enum):
    """What the end of a call says about the next one."""

    ANSWERED = enum.auto()
    ACCESS_REFUSED = enum.auto()
    FAILED = enum.auto()
    NONE = enum.auto()


_FAILED: Final = (ClockSkewError, RateLimitedError)
"""Refusals that have nothing to do with the request."""


def evidence_of(error: WxPayError | None, *, replayed: bool = False) -> Evidence:
    """Return what the end of a call says about the next one.

    Args:
        error: what the call ended with; None for a success.
        replayed: the result or the error came from the store, or from another caller's call.
    """
    if replayed or _is_of_one_request(error):
        return Evidence.NONE
    if isinstance(error, ConfigurationRefusedError):
        return Evidence.ACCESS_REFUSED
    if isinstance(error, _FAILED):
        return Evidence.FAILED
    if error is None or isinstance(error, RefusedError | DuplicateRequestError):
        return Evidence.ANSWERED
    return Evidence.FAILED


def _is_of_one_request(error: WxPayError | None) -> bool:
    if isinstance(error, InDoubtError) and not isinstance(error, DuplicateRequestError):
        # A kind of doubt that no other attempt can help: the lease of another process, a prepay
        # that expired. A single doubt that is not retried, as after a redirect, is not of a kind.
        return not type(error).retryable
    return isinstance(error, InvalidRequestError | IdempotencyConflictError)


@define(eq=False)
class OutageGate:
    """Closes in an outage, and lets one probe through after each pause until one is answered.

    Ask `delay` before each call and begin it with `start`; report its end with `end`. Calls that
    began before the gate closed say nothing any more: however many of them fail late, the pause
    grows by probes alone, and an answer that one gets late does not open the gate.

    Attributes:
        failures: so many calls in a row without an answer close it. Access refusals count.
        refusals: so many access refusals in a row close it.
        pause: seconds of the present pause; 0 while the gate is open.
    """

    failures: int = 10
    refusals: int = 3
    pause: float = field(default=0.0, init=False)
    _resume_at: float = field(default=0.0, init=False)
    _probing: bool = field(default=False, init=False)
    _closings: int = field(default=0, init=False)
    _failed: int = field(default=0, init=False)
    _refused: int = field(default=0, init=False)

    def delay(self, now: float) -> float | None:
        """Return the seconds until a call may start: 0 for at once.

        Args:
            now: seconds that only grow.

        Returns:
            None while a probe is under way: ask again when it has ended.
        """
        if not self.pause:
            return 0.0
        return None if self._probing else max(0.0, self._resume_at - now)

    def start(self) -> int:
        """Begin a call, which `delay` allows now; it is the probe if the gate is closed.

        Returns:
            What `end` takes: how often the gate had closed by then.
        """
        self._probing = self.pause > 0
        return self._closings

    def end(self, started: int, evidence: Evidence, now: float) -> float | None:
        """Report how a call ended; one that was cancelled says nothing, and is reported, too.

        Args:
            started: what `start` returned.
            evidence: what its end says.
            now: seconds that only grow.

        Returns:
            The seconds of the pause that begins, 0 if the gate opens; None if it stays as it is.
        """
        if started != self._closings:
            return None
        self._probing = False
        if evidence is Evidence.NONE:
            return None
        if evidence is Evidence.ANSWERED:
            return self._open()
        self._failed += 1
        self._refused = self._refused + 1 if evidence is Evidence.ACCESS_REFUSED else 0
        in_outage = self._failed >= self.failures or self._refused >= self.refusals
        return self._close(now) if self.pause or in_outage else None

    def _open(self) -> float | None:
        was_closed = self.pause > 0
        self._failed, self._refused, self.pause = 0, 0, 0.0
        return 0.0 if was_closed else None

    def _close(self, now: float) -> float:
        self.pause = min(LONGEST_PAUSE, 2 * self.pause or FIRST_PAUSE)
        self._resume_at = now + self.pause
        self._closings += 1
        return self.pause

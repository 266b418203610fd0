"""What happens inside, for those who watch: one event class, one hook."""

from __future__ import annotations

import enum
from typing import Protocol

from attrs import frozen


class EventKind(enum.StrEnum):
    """What a hook hears of."""

    ATTEMPT_STARTED = "attempt_started"
    ATTEMPT_ENDED = "attempt_ended"
    WAITED_FOR_QUOTA = "waited_for_quota"
    SLOWED_DOWN = "slowed_down"
    OUTCOME = "outcome"


@frozen(kw_only=True)
class Event:
    """One thing that happened. It holds no secret, no signature, no payToken and no openid.

    Attributes:
        kind: what happened.
        operation: pay, trade, query, refund or merchants; empty where no single one is meant
            (`SLOWED_DOWN`: somebody else uses the appKey's quota).
        request_id: the idempotency key, where there is one.
        attempt: the number of the attempt, from 1.
        fate: `ok`, or the `Fate` of the error; empty while it is open.
        code: the platform's errorCode, where there is one.
        seconds: how long it took.
        replayed: the outcome came from the store or from another caller's flight.
    """

    kind: EventKind
    operation: str
    request_id: str | None = None
    attempt: int = 0
    fate: str = ""
    code: str | None = None
    seconds: float = 0.0
    replayed: bool = False


class Hook(Protocol):
    """Called with every event, in the event loop: it must be quick and must not raise."""

    def __call__(self, event: Event, /) -> None:
        """Take note."""
        ...

"""The life of an operation, as data (`money-safety.md` §3).

The rules:

- a row exists before a byte is sent, and an attempt is committed before it is on the wire;
- only proof leads to a final state; an answer that got lost leads to UNKNOWN;
- once one attempt is in doubt, no later refusal of another attempt settles the operation: what
  would be REJECTED or RESERVED stays UNKNOWN;
- "the query finds nothing" is proof only after the quarantine, seen twice;
- what a machine cannot find out in 24 h goes to a person, and is never sent again by itself;
- what waits for a person is left by what the platform says after all, or by the person's word;
- a payment is closed for good before another credential of its order is issued.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from wxpay_async.errors import ConfigurationRefusedError, FailedError, Fate, WxPayError


class State(enum.StrEnum):
    """Where an operation stands."""

    __hash__ = str.__hash__  # Enum's is written in Python, and a payment looks states up 20 times

    RESERVED = "reserved"
    SENDING = "sending"
    UNKNOWN = "unknown"
    PENDING = "pending"
    SUCCEEDED = "succeeded"
    REJECTED = "rejected"
    FAILED = "failed"
    NOT_EXECUTED = "not_executed"
    CONFLICT = "conflict"
    NEEDS_REVIEW = "needs_review"
    REISSUED = "reissued"


class Transition(enum.StrEnum):
    """What can happen to an operation."""

    __hash__ = str.__hash__  # as above

    CLAIM = "claim"
    UNSENT = "unsent"
    REFUSED = "refused"
    DOUBT = "doubt"
    ACCEPTED = "accepted"
    SUCCESS = "success"
    FAILURE = "failure"
    ABSENT = "absent"
    MISMATCH = "mismatch"
    TOO_OLD = "too_old"
    CONFIRMED = "confirmed"
    DENIED = "denied"
    REISSUE = "reissue"


TRANSITIONS: Final[Mapping[tuple[State, Transition], State]] = MappingProxyType(
    {
        (State.RESERVED, Transition.CLAIM): State.SENDING,
        (State.UNKNOWN, Transition.CLAIM): State.SENDING,
        (State.SENDING, Transition.UNSENT): State.RESERVED,
        (State.SENDING, Transition.REFUSED): State.REJECTED,
        (State.SENDING, Transition.DOUBT): State.UNKNOWN,
        (State.SENDING, Transition.ACCEPTED): State.PENDING,
        (State.SENDING, Transition.SUCCESS): State.SUCCEEDED,
        (State.SENDING, Transition.FAILURE): State.FAILED,
        (State.SENDING, Transition.MISMATCH): State.CONFLICT,
        (State.UNKNOWN, Transition.DOUBT): State.UNKNOWN,
        (State.UNKNOWN, Transition.ACCEPTED): State.PENDING,
        (State.UNKNOWN, Transition.SUCCESS): State.SUCCEEDED,
        (State.UNKNOWN, Transition.FAILURE): State.FAILED,
        (State.UNKNOWN, Transition.ABSENT): State.NOT_EXECUTED,
        (State.UNKNOWN, Transition.MISMATCH): State.CONFLICT,
        (State.UNKNOWN, Transition.TOO_OLD): State.NEEDS_REVIEW,
        (State.PENDING, Transition.SUCCESS): State.SUCCEEDED,
        (State.PENDING, Transition.FAILURE): State.FAILED,
        (State.PENDING, Transition.TOO_OLD): State.NEEDS_REVIEW,
        (State.CONFLICT, Transition.SUCCESS): State.SUCCEEDED,
        (State.CONFLICT, Transition.FAILURE): State.FAILED,
        (State.CONFLICT, Transition.CONFIRMED): State.SUCCEEDED,
        (State.CONFLICT, Transition.DENIED): State.NOT_EXECUTED,
        (State.NEEDS_REVIEW, Transition.SUCCESS): State.SUCCEEDED,
        (State.NEEDS_REVIEW, Transition.FAILURE): State.FAILED,
        (State.NEEDS_REVIEW, Transition.ABSENT): State.NOT_EXECUTED,
        (State.NEEDS_REVIEW, Transition.CONFIRMED): State.SUCCEEDED,
        (State.NEEDS_REVIEW, Transition.DENIED): State.NOT_EXECUTED,
        (State.RESERVED, Transition.REISSUE): State.REISSUED,
        (State.UNKNOWN, Transition.REISSUE): State.REISSUED,
        (State.SUCCEEDED, Transition.REISSUE): State.REISSUED,
        (State.REJECTED, Transition.REISSUE): State.REISSUED,
        (State.NOT_EXECUTED, Transition.REISSUE): State.REISSUED,
        (State.NEEDS_REVIEW, Transition.REISSUE): State.REISSUED,
    }
)
"""Every legal step; what is not listed cannot happen."""

CLAIMABLE: Final = frozenset(s for s, event in TRANSITIONS if event is Transition.CLAIM)
FINISHED: Final = frozenset(
    {State.SUCCEEDED, State.REJECTED, State.FAILED, State.NOT_EXECUTED, State.REISSUED}
)
"""What no attempt, no answer and no person changes; only these may be evicted from a store."""

REVIEW: Final = frozenset({State.CONFLICT, State.NEEDS_REVIEW})
"""What waits for a person. Nothing is sent of it, and it is asked about only when told to."""

FINAL: Final = FINISHED | REVIEW
"""Where no attempt and no recovery goes on by itself."""

FINAL_STEPS: Final = frozenset((s, after) for (s, _), after in TRANSITIONS.items() if s in FINAL)
"""How what is final is left after all: by the end of a person's wait, or for another credential."""

REISSUABLE: Final = frozenset(s for s, event in TRANSITIONS if event is Transition.REISSUE)
"""What may be closed for another credential: payments that are not under way."""

SETTLED: Final = FINAL | {State.PENDING}
"""What needs no further attempt: it has an answer, or a person must find one."""

SENDABLE: Final = frozenset(State) - {State.SUCCEEDED, State.REJECTED, State.FAILED}
"""Whose bytes may be needed again, by a resend or by the next generation."""

ANSWERED: Final = frozenset({Transition.SUCCESS, Transition.ACCEPTED})
"""After these the record keeps the timestamp of the attempt that was answered."""

_CLEARED: Final = frozenset({Transition.UNSENT, Transition.REFUSED})
"""What clears the attempt at hand and says nothing about earlier ones."""


def next_state(state: State, event: Transition, *, in_doubt: bool = False) -> State:
    """Return where the event leads.

    Args:
        state: where the operation stands.
        event: what happened to it.
        in_doubt: whether an earlier attempt may have been executed.

    Raises:
        ValueError: the step is not in the table.
    """
    leads_to = TRANSITIONS.get((state, event))
    if leads_to is None:
        raise ValueError(f"an operation that is {state} cannot meet {event}")
    return State.UNKNOWN if in_doubt and event in _CLEARED else leads_to


def transition_for(error: WxPayError) -> Transition:
    """Return what an attempt's error means for the operation (`money-safety.md` §4)."""
    if isinstance(error, FailedError):
        return Transition.FAILURE
    if error.fate is Fate.IN_DOUBT:
        return Transition.DOUBT
    # Not for good: the quota, the clock, the configuration. The same requestId goes afterwards.
    passing = error.retryable or isinstance(error, ConfigurationRefusedError)
    if error.fate is Fate.NOT_SENT or passing:
        return Transition.UNSENT
    return Transition.REFUSED

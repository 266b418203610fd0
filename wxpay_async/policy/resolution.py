"""How a doubt ends (`money-safety.md` §1 and §3): when to ask, and what an answer proves.

- A request that was signed can still arrive until the platform rejects it as expired, 5 minutes
  after its timestamp. So "not there" proves nothing until 600 s after the latest timestamp of all
  attempts, and then only when it is seen twice, at least 60 s apart.
- "Not paid" proves nothing while a prepay may still be paid: a signed request can become one for
  5 minutes, and a prepay lives 20.
- The platform is asked 5 s, 15 s, 45 s, 2 min, 5 min and 10.5 min after the doubt arose, then
  hourly, and after 24 h a person must look.
"""

from __future__ import annotations

import enum
from typing import Final

from attrs import frozen

from wxpay_async.policy.states import State, Transition

SCHEDULE: Final = (5.0, 15.0, 45.0, 120.0, 300.0, 630.0)
HOURLY: Final = 3_600.0
GIVE_UP: Final = 86_400.0
QUARANTINE: Final = 600.0
PREPAY_QUARANTINE: Final = QUARANTINE + 20 * 60.0
SEEN_APART: Final = 60.0


class Finding(enum.StrEnum):
    """What a query says about an operation."""

    DONE = "done"
    UNDERWAY = "underway"
    FAILED = "failed"
    UNPAID = "unpaid"
    ABSENT = "absent"
    OTHER = "other"
    SILENT = "silent"


@frozen(kw_only=True)
class InDoubtCall:
    """An operation that nobody knows the outcome of.

    Times are seconds since the epoch by the platform's clock: it is the one that lets a signed
    request expire.

    Attributes:
        state: UNKNOWN or PENDING.
        since: when it arose.
        signed_at: the latest timestamp of all attempts.
        absent_at: when a query after the quarantine first found nothing.
        absence_proves: whether the platform's query would find the operation if it existed.
    """

    state: State
    since: float
    signed_at: float
    absent_at: float | None = None
    absence_proves: bool = True


@frozen(kw_only=True)
class Decision:
    """What follows from a finding.

    Attributes:
        event: what it means for the operation, None for nothing yet.
        absent_at: carried to the next judgement.
        next_check_at: when to ask again, None for never.
    """

    event: Transition | None
    absent_at: float | None = None
    next_check_at: float | None = None


_CLEAR: Final = {
    Finding.DONE: Transition.SUCCESS,
    Finding.FAILED: Transition.FAILURE,
    Finding.OTHER: Transition.MISMATCH,
}


def decide(
    doubt: InDoubtCall, finding: Finding, now: float, *, seen_at: float | None = None
) -> Decision:
    """Return what a finding proves.

    Args:
        doubt: what is not known.
        finding: what a query said.
        now: by the platform's clock as far as it is known. The platform need not refuse a query
            that is ahead of it, so an answer teaches nothing about a clock that is fast.
        seen_at: what the answer gave for the time. It moves no clock (it may be a cache's), but
            absence counts from the earlier of both.
    """
    seen = now if seen_at is None else min(now, seen_at)
    if finding in _CLEAR and (doubt.state is State.UNKNOWN or finding is not Finding.OTHER):
        return Decision(event=_CLEAR[finding])
    if finding is Finding.UNDERWAY and doubt.state is State.UNKNOWN:
        return Decision(event=Transition.ACCEPTED, next_check_at=next_check(doubt, now))
    absent_at = _absence(doubt, finding, seen)
    if absent_at is not None and seen - absent_at >= SEEN_APART:
        return Decision(event=Transition.ABSENT)
    if now - doubt.since >= GIVE_UP:
        return Decision(event=Transition.TOO_OLD)
    at = next_check(doubt, now)
    if absent_at is not None:
        at = min(at, absent_at + SEEN_APART + now - seen)
    return Decision(event=None, absent_at=absent_at, next_check_at=at)


def _absence(doubt: InDoubtCall, finding: Finding, now: float) -> float | None:
    """Return since when it counts as absent. UNPAID is the absence of a payment."""
    if finding is Finding.SILENT:
        return doubt.absent_at
    absent = finding in {Finding.ABSENT, Finding.UNPAID}
    final = doubt.state is State.UNKNOWN and doubt.absence_proves
    quarantine = PREPAY_QUARANTINE if finding is Finding.UNPAID else QUARANTINE
    if not absent or not final or now < doubt.signed_at + quarantine:
        return None
    return now if doubt.absent_at is None else doubt.absent_at


def next_check(doubt: InDoubtCall, now: float) -> float:
    """Return when to ask next."""
    for offset in SCHEDULE:
        if doubt.since + offset > now:
            return doubt.since + offset
    return min(now + HOURLY, max(doubt.since + GIVE_UP, now + SEEN_APART))

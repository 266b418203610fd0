"""Decide how a doubt ends (`money-safety.md` §1 and §3): when to ask, and what an answer proves.

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
from collections.abc import Collection
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

    EXECUTED = "executed"
    PENDING = "pending"
    FAILED = "failed"
    UNPAID = "unpaid"
    NOT_FOUND = "not_found"
    MISMATCH = "mismatch"
    NO_ANSWER = "no_answer"


@frozen(kw_only=True)
class InDoubtCall:
    """An operation whose outcome is not known.

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
        transition: what it means for the operation, None for nothing yet.
        absent_at: carried to the next judgement.
        next_check_at: when to ask again, None for never.
    """

    transition: Transition | None
    absent_at: float | None = None
    next_check_at: float | None = None


_CLEAR: Final = {
    Finding.EXECUTED: Transition.SUCCESS,
    Finding.FAILED: Transition.FAILURE,
    Finding.MISMATCH: Transition.MISMATCH,
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
    if finding in _CLEAR and (doubt.state is State.UNKNOWN or finding is not Finding.MISMATCH):
        return Decision(transition=_CLEAR[finding])
    if finding is Finding.PENDING and doubt.state is State.UNKNOWN:
        return Decision(transition=Transition.ACCEPTED, next_check_at=next_check(doubt, now))
    absent_at = _absence(doubt, finding, seen)
    if absent_at is not None and seen - absent_at >= SEEN_APART:
        return Decision(transition=Transition.ABSENT)
    if now - doubt.since >= GIVE_UP:
        return Decision(transition=Transition.TOO_OLD)
    at = next_check(doubt, now)
    if absent_at is not None:
        at = min(at, absent_at + SEEN_APART + now - seen)
    return Decision(transition=None, absent_at=absent_at, next_check_at=at)


def _absence(doubt: InDoubtCall, finding: Finding, now: float) -> float | None:
    """Return since when it counts as absent. UNPAID is the absence of a payment."""
    if finding is Finding.NO_ANSWER:
        return doubt.absent_at
    absent = finding in {Finding.NOT_FOUND, Finding.UNPAID}
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


def combine(findings: Collection[Finding]) -> Finding:
    """Return what is found of an operation by what is found of its orders."""
    found = set(findings)
    for alone in (Finding.MISMATCH, Finding.NO_ANSWER):
        if alone in found:
            return alone
    if len(found) == 1:
        return found.pop()
    # Some orders are there and some are not: nothing documented says what that means.
    both = found == {Finding.EXECUTED, Finding.FAILED}
    return Finding.EXECUTED if both else Finding.NO_ANSWER

"""Decide how a doubt ends (`money-safety.md` §1 and §3): when to ask, and what an answer proves.

- A request that was signed can still arrive until the platform rejects it as expired, 5 minutes
  after its timestamp. So "not there" proves nothing until 600 s after the latest timestamp of all
  attempts, and then only when it is seen twice, at least 60 s apart.
- "Not there" is what an answer says: a business code that is none of the documented ones, with a
  text that says so, or a code that the merchant named. Busy, or a word about the requestId, is no
  answer.
- "Not paid" proves nothing while a prepay may still be paid: a signed request can become one for
  5 minutes, and a prepay lives 20.
- "Other content" is seen twice as well, the same one, at least 60 s apart.
- What waits for a person is asked about when a person wants to know: a clear answer settles it.
- The platform is asked 5 s, 15 s, 45 s, 2 min, 5 min and 10.5 min after the doubt arose, then
  hourly, and after 24 h a person must look.
"""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Final

from attrs import frozen

from wxpay_async.errors import InvalidRequestError, RefusedError
from wxpay_async.policy.states import REVIEW, State, Transition
from wxpay_async.protocol.error_codes import CODES, is_business_code

SCHEDULE: Final = (5.0, 15.0, 45.0, 120.0, 300.0, 630.0)
HOURLY: Final = 3_600.0
GIVE_UP: Final = 86_400.0
QUARANTINE: Final = 600.0
PREPAY_QUARANTINE: Final = QUARANTINE + 20 * 60.0
SEEN_APART: Final = 60.0

_ABSENT_TEXTS: Final = ("不存在", "未找到", "查无", "not found", "not exist")


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
        state: UNKNOWN or PENDING, or what waits for a person.
        since: when it arose.
        signed_at: the latest timestamp of all attempts.
        absent_at: when a query after the quarantine first found nothing.
        deviates_at: when a query first found the content that this one finds in place of ours.
        absence_proves: whether the platform's query would find the operation if it existed.
    """

    state: State
    since: float
    signed_at: float
    absent_at: float | None = None
    deviates_at: float | None = None
    absence_proves: bool = True


@frozen(kw_only=True)
class Decision:
    """What follows from a finding.

    Attributes:
        transition: what it means for the operation, None for nothing yet.
        absent_at: carried to the next judgement.
        deviates_at: the same.
        next_check_at: when to ask again, None for never.
    """

    transition: Transition | None
    absent_at: float | None = None
    deviates_at: float | None = None
    next_check_at: float | None = None


_CLEAR: Final = {
    Finding.EXECUTED: Transition.SUCCESS,
    Finding.FAILED: Transition.FAILURE,
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
    if finding in _CLEAR:
        return Decision(transition=_CLEAR[finding])
    if finding is Finding.PENDING and doubt.state is State.UNKNOWN:
        return Decision(transition=Transition.ACCEPTED, next_check_at=next_check(doubt, now))
    absent_at, deviates_at = _absence(doubt, finding, seen), _deviation(doubt, finding, seen)
    first = absent_at if deviates_at is None else deviates_at
    # Seen twice means by two answers: a query without one repeats nothing.
    if finding is not Finding.NO_ANSWER and first is not None and seen - first >= SEEN_APART:
        return Decision(
            transition=Transition.ABSENT if deviates_at is None else Transition.MISMATCH
        )
    if doubt.state in REVIEW:
        return Decision(transition=None, absent_at=absent_at)
    if now - doubt.since >= GIVE_UP:
        return Decision(transition=Transition.TOO_OLD)
    at = next_check(doubt, now)
    if first is not None:
        at = max(now, min(at, first + SEEN_APART + now - seen))
    return Decision(transition=None, absent_at=absent_at, deviates_at=deviates_at, next_check_at=at)


def _absence(doubt: InDoubtCall, finding: Finding, now: float) -> float | None:
    """Return since when it counts as absent. UNPAID is the absence of a payment."""
    if finding is Finding.NO_ANSWER:
        return doubt.absent_at
    absent = finding in {Finding.NOT_FOUND, Finding.UNPAID}
    final = doubt.state in {State.UNKNOWN, State.NEEDS_REVIEW} and doubt.absence_proves
    quarantine = PREPAY_QUARANTINE if finding is Finding.UNPAID else QUARANTINE
    if not absent or not final or now < doubt.signed_at + quarantine:
        return None
    return now if doubt.absent_at is None else doubt.absent_at


def _deviation(doubt: InDoubtCall, finding: Finding, now: float) -> float | None:
    """Return since when other content is seen. What was accepted is ours, whatever a query says."""
    if finding is Finding.NO_ANSWER:
        return doubt.deviates_at
    if finding is not Finding.MISMATCH or doubt.state is not State.UNKNOWN:
        return None
    return now if doubt.deviates_at is None else doubt.deviates_at


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


def says_absent(refusal: RefusedError, absent_codes: Collection[str] = ()) -> bool:
    """Tell whether the refusal of a query says that the order does not exist.

    Args:
        refusal: of a well-formed query.
        absent_codes: codes of which the merchant knows that they say so.
    """
    code, text = refusal.code, (refusal.message or "").casefold()
    if code in absent_codes:
        return True
    if code in CODES or not is_business_code(code):
        return False
    return any(absent in text for absent in _ABSENT_TEXTS)


def check_absent_codes(codes: Collection[str]) -> frozenset[str]:
    """Return the codes that a merchant named, if each can say that an order does not exist.

    Raises:
        InvalidRequestError: one is no code, or is documented to say something else.
    """
    named: list[object] = [codes] if isinstance(codes, str) else list(codes)
    texts = [code for code in named if isinstance(code, str) and code]
    wrong = isinstance(codes, str) or texts != named
    if wrong or any(CODES.get(code, (RefusedError,))[0] is not RefusedError for code in texts):
        raise InvalidRequestError(
            f"{named!r:.100}",
            field="absent_codes",
            allowed="a collection of codes that the platform answers for an order it does not "
            "know; none that is documented as the quota's, the access's or the system's",
        )
    return frozenset(texts)

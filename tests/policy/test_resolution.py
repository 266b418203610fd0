"""How long the absence of something must be seen before it proves anything."""

from __future__ import annotations

import pytest

from wxpay_async.policy.resolution import (
    PREPAY_QUARANTINE,
    QUARANTINE,
    SEEN_APART,
    Finding,
    InDoubtCall,
    decide,
)
from wxpay_async.policy.states import State, Transition


@pytest.mark.parametrize(
    ("finding", "quarantine"),
    [(Finding.NOT_FOUND, QUARANTINE), (Finding.UNPAID, PREPAY_QUARANTINE)],
)
def test_absence_proves_nothing_before_its_quarantine(finding: Finding, quarantine: float) -> None:
    """A moment before, it does not even begin to count; then twice, a minute apart."""
    doubt = InDoubtCall(state=State.UNKNOWN, since=0.0, signed_at=0.0)
    early = decide(doubt, finding, quarantine - 0.1)
    first = decide(doubt, finding, quarantine)
    seen = InDoubtCall(state=State.UNKNOWN, since=0.0, signed_at=0.0, absent_at=first.absent_at)

    assert (None, None) == (early.transition, early.absent_at)
    assert (None, quarantine) == (first.transition, first.absent_at)
    assert decide(seen, finding, quarantine + SEEN_APART - 0.1).transition is None
    assert Transition.ABSENT is decide(seen, finding, quarantine + SEEN_APART).transition


def test_an_unpaid_order_outlives_every_prepay() -> None:
    """Signed, on its way for 5 minutes, then payable for 20: all of it is over by then."""
    assert PREPAY_QUARANTINE >= (5 + 20) * 60


@pytest.mark.parametrize(
    ("finding", "quarantine"),
    [(Finding.NOT_FOUND, QUARANTINE), (Finding.UNPAID, PREPAY_QUARANTINE)],
)
def test_absence_counts_from_the_earlier_clock(finding: Finding, quarantine: float) -> None:
    """An answer's own time holds back a clock that is fast, and pushes none that is slow."""
    doubt = InDoubtCall(state=State.UNKNOWN, since=0.0, signed_at=0.0)
    fast = decide(doubt, finding, quarantine + 600.0, seen_at=quarantine - 1.0)
    first = decide(doubt, finding, quarantine + 600.0, seen_at=quarantine)
    seen = InDoubtCall(state=State.UNKNOWN, since=0.0, signed_at=0.0, absent_at=first.absent_at)
    soon = decide(seen, finding, quarantine + 2_000.0, seen_at=quarantine + SEEN_APART - 1.0)
    slow = decide(doubt, finding, quarantine - 1.0, seen_at=quarantine + 600.0)

    assert (None, None) == (fast.transition, fast.absent_at)
    assert (None, quarantine) == (first.transition, first.absent_at)
    assert soon.transition is None
    assert (None, None) == (slow.transition, slow.absent_at)


def test_a_clock_that_is_fast_does_not_ask_without_end() -> None:
    """What counts from the answer's time is asked for by ours: not at once, and not in an hour."""
    doubt = InDoubtCall(state=State.UNKNOWN, since=0.0, signed_at=0.0)
    verdict = decide(doubt, Finding.NOT_FOUND, QUARANTINE + 600.0, seen_at=QUARANTINE)

    assert QUARANTINE + 600.0 + SEEN_APART == verdict.next_check_at

"""How a doubt ends: what a finding proves, and when the next query comes."""

from __future__ import annotations

import itertools

import pytest

from wxpay_async.errors import InvalidRequestError, RefusedError
from wxpay_async.policy.resolution import (
    GIVE_UP,
    HOURLY,
    PREPAY_QUARANTINE,
    QUARANTINE,
    SCHEDULE,
    SEEN_APART,
    Decision,
    Finding,
    InDoubtCall,
    check_absent_codes,
    combine,
    decide,
    next_check,
    says_absent,
)
from wxpay_async.policy.states import State, Transition
from wxpay_async.protocol.error_codes import CODES

ABSENCES = pytest.mark.parametrize(
    ("finding", "quarantine"),
    [(Finding.NOT_FOUND, QUARANTINE), (Finding.UNPAID, PREPAY_QUARANTINE)],
)


def make_doubt(state: State = State.UNKNOWN, **changes: object) -> InDoubtCall:
    """Make a doubt that arose at 0 from a request that was signed at 0."""
    return InDoubtCall(state=state, **({"since": 0.0, "signed_at": 0.0} | changes))  # type: ignore[arg-type]


# What is proof at once


@pytest.mark.parametrize(
    ("finding", "transition"),
    [
        (Finding.EXECUTED, Transition.SUCCESS),
        (Finding.FAILED, Transition.FAILURE),
    ],
)
def test_clear_finding_ends_a_doubt_at_once(finding: Finding, transition: Transition) -> None:
    """Whatever time has passed; nothing more is asked."""
    for now in (1.0, GIVE_UP + 1.0):
        assert Decision(transition=transition) == decide(make_doubt(), finding, now)


def test_accepted_operation_is_asked_about_on_schedule() -> None:
    """It is no doubt any more, and not at its end."""
    expected = Decision(transition=Transition.ACCEPTED, next_check_at=15.0)

    assert expected == decide(make_doubt(), Finding.PENDING, 6.0)


def test_pending_operation_that_is_still_pending_waits() -> None:
    """It moves nowhere, and is asked about again."""
    expected = Decision(transition=None, next_check_at=15.0)

    assert expected == decide(make_doubt(State.PENDING), Finding.PENDING, 6.0)


@pytest.mark.parametrize("state", [State.CONFLICT, State.NEEDS_REVIEW])
def test_clear_finding_settles_what_waits_for_a_person(state: State) -> None:
    """When a person asks again; anything else changes nothing, and nothing is asked by itself."""
    late = GIVE_UP * 9

    assert Transition.SUCCESS is decide(make_doubt(state), Finding.EXECUTED, late).transition
    for finding in (Finding.PENDING, Finding.MISMATCH, Finding.NO_ANSWER):
        doubt = make_doubt(state, deviates_at=0.0)
        assert Decision(transition=None) == decide(doubt, finding, late)


def test_absence_settles_what_was_given_up_and_no_conflict() -> None:
    """Seen twice, as before; content that was there does not go away by itself."""
    late = GIVE_UP * 9
    seen = {"absent_at": late - SEEN_APART}
    given_up = decide(make_doubt(State.NEEDS_REVIEW, **seen), Finding.NOT_FOUND, late)
    conflict = decide(make_doubt(State.CONFLICT, **seen), Finding.NOT_FOUND, late)

    assert (Transition.ABSENT, None) == (given_up.transition, conflict.transition)


def test_other_content_is_proven_when_the_same_is_seen_twice() -> None:
    """A minute apart; the second look is not left to the hourly schedule."""
    now = SCHEDULE[-1] + 10.0
    first = decide(make_doubt(), Finding.MISMATCH, now)
    seen = make_doubt(deviates_at=first.deviates_at)

    assert (None, now, now + SEEN_APART) == (
        first.transition,
        first.deviates_at,
        first.next_check_at,
    )
    soon = decide(seen, Finding.MISMATCH, now + SEEN_APART - 0.1)
    assert (None, now) == (soon.transition, soon.deviates_at)
    assert Transition.MISMATCH is decide(seen, Finding.MISMATCH, now + SEEN_APART).transition


def test_other_content_counts_from_the_earlier_clock() -> None:
    """An answer that a cache repeats is one answer."""
    seen = make_doubt(deviates_at=100.0)

    assert decide(seen, Finding.MISMATCH, 1_000.0, seen_at=100.0).transition is None


def test_other_content_is_forgotten_after_another_answer() -> None:
    """And kept while none comes, which repeats nothing however long it takes."""
    seen = make_doubt(deviates_at=100.0)
    silent = decide(seen, Finding.NO_ANSWER, 100.0 + 2 * SEEN_APART)

    assert decide(seen, Finding.NOT_FOUND, 200.0).deviates_at is None
    assert (None, 100.0) == (silent.transition, silent.deviates_at)


def test_absence_is_not_seen_again_by_a_query_without_an_answer() -> None:
    """However long after the first: the platform was asked twice, and said it once."""
    seen = make_doubt(absent_at=QUARANTINE)
    now = QUARANTINE + 2 * SEEN_APART
    decision = decide(seen, Finding.NO_ANSWER, now)

    assert (None, QUARANTINE) == (decision.transition, decision.absent_at)
    assert now <= decision.next_check_at


@pytest.mark.parametrize("finding", [Finding.NOT_FOUND, Finding.UNPAID, Finding.MISMATCH])
def test_pending_operation_is_never_absent_or_a_mismatch(finding: Finding) -> None:
    """The platform has accepted it: an answer that says otherwise proves nothing."""
    late = PREPAY_QUARANTINE + SEEN_APART
    decision = decide(make_doubt(State.PENDING, absent_at=1.0), finding, late)

    assert (None, None) == (decision.transition, decision.absent_at)


# Absence


@ABSENCES
def test_absence_proves_nothing_before_its_quarantine(finding: Finding, quarantine: float) -> None:
    """A moment before, it does not even begin to count; then twice, a minute apart."""
    early = decide(make_doubt(), finding, quarantine - 0.1)
    first = decide(make_doubt(), finding, quarantine)
    seen = make_doubt(absent_at=first.absent_at)

    assert (None, None) == (early.transition, early.absent_at)
    assert (None, quarantine) == (first.transition, first.absent_at)
    assert decide(seen, finding, quarantine + SEEN_APART - 0.1).transition is None
    assert Transition.ABSENT is decide(seen, finding, quarantine + SEEN_APART).transition


@ABSENCES
def test_absence_counts_from_the_earlier_clock(finding: Finding, quarantine: float) -> None:
    """An answer's own time holds back a clock that is fast, and moves none that is slow."""
    fast = decide(make_doubt(), finding, quarantine + 600.0, seen_at=quarantine - 1.0)
    first = decide(make_doubt(), finding, quarantine + 600.0, seen_at=quarantine)
    seen = make_doubt(absent_at=first.absent_at)
    soon = decide(seen, finding, quarantine + 2_000.0, seen_at=quarantine + SEEN_APART - 1.0)
    slow = decide(make_doubt(), finding, quarantine - 1.0, seen_at=quarantine + 600.0)

    assert (None, None) == (fast.transition, fast.absent_at)
    assert (None, quarantine) == (first.transition, first.absent_at)
    assert soon.transition is None
    assert (None, None) == (slow.transition, slow.absent_at)


def test_absence_of_what_no_query_finds_proves_nothing() -> None:
    """A refund may be there all the same, unless the merchant says that queries find refunds."""
    doubt = make_doubt(absence_proves=False, absent_at=QUARANTINE)
    decision = decide(doubt, Finding.NOT_FOUND, QUARANTINE + SEEN_APART)

    assert (None, None) == (decision.transition, decision.absent_at)


def test_absence_that_was_seen_is_kept_while_no_answer_comes() -> None:
    """A query that fails proves nothing, for or against it."""
    decision = decide(make_doubt(absent_at=QUARANTINE), Finding.NO_ANSWER, QUARANTINE + 10.0)

    assert (None, QUARANTINE) == (decision.transition, decision.absent_at)


def test_absence_is_looked_at_again_after_a_minute() -> None:
    """The second look is not left to the hourly schedule."""
    now = SCHEDULE[-1] + 10.0

    assert now + SEEN_APART == decide(make_doubt(), Finding.NOT_FOUND, now).next_check_at


def test_absence_by_a_fast_clock_is_not_asked_about_without_end() -> None:
    """What counts from the answer's time is asked for by ours: not at once, nor in an hour."""
    now = QUARANTINE + 600.0
    decision = decide(make_doubt(), Finding.NOT_FOUND, now, seen_at=QUARANTINE)

    assert now + SEEN_APART == decision.next_check_at


def test_quarantine_of_an_unpaid_order_covers_every_prepay() -> None:
    """Signed, on its way for 5 minutes, then payable for 20: all of it is over by then."""
    assert PREPAY_QUARANTINE >= (5 + 20) * 60


# The schedule, and its end


def test_next_check_follows_the_schedule_and_then_the_hour() -> None:
    """5 s, 15 s, 45 s, 2 min, 5 min and 10.5 min after the doubt arose, then every hour."""
    asked, now = list[float](), 0.0
    while now < 2 * HOURLY:
        now = next_check(make_doubt(), now)
        asked.append(now)

    assert [*SCHEDULE, SCHEDULE[-1] + HOURLY, SCHEDULE[-1] + 2 * HOURLY] == asked


def test_next_check_counts_from_the_doubt() -> None:
    """Not from the last query, which may have been late."""
    assert 1_045.0 == next_check(make_doubt(since=1_000.0), 1_044.0)


def test_next_check_comes_when_the_day_is_over() -> None:
    """Not up to an hour later; and never at once."""
    assert GIVE_UP == next_check(make_doubt(), GIVE_UP - 100.0)
    assert GIVE_UP + SEEN_APART - 10.0 == next_check(make_doubt(), GIVE_UP - 10.0)


@pytest.mark.parametrize("state", [State.UNKNOWN, State.PENDING])
def test_doubt_that_is_a_day_old_needs_a_person(state: State) -> None:
    """Only then, and only without an answer that settles it."""
    for now, transition in ((GIVE_UP - 0.1, None), (GIVE_UP, Transition.TOO_OLD)):
        assert transition is decide(make_doubt(state), Finding.NO_ANSWER, now).transition


def test_doubt_that_is_a_day_old_is_absent_if_that_is_proven() -> None:
    """The proof goes before the age."""
    doubt = make_doubt(absent_at=GIVE_UP - SEEN_APART)

    assert Transition.ABSENT is decide(doubt, Finding.NOT_FOUND, GIVE_UP).transition


# Several orders in one operation


@pytest.mark.parametrize("finding", Finding)
def test_combine_of_equal_findings_is_that_finding(finding: Finding) -> None:
    """One order, or several that stand alike."""
    assert finding is combine([finding])
    assert finding is combine([finding, finding])


@pytest.mark.parametrize(("one", "other"), list(itertools.permutations(Finding, 2)))
def test_combine_of_two_findings_is_the_more_careful_one(one: Finding, other: Finding) -> None:
    """A mismatch or silence decides alone; some there and some not is documented nowhere."""
    if Finding.MISMATCH in {one, other}:
        expected = Finding.MISMATCH
    elif {one, other} == {Finding.EXECUTED, Finding.FAILED}:
        expected = Finding.EXECUTED  # both were made, and one of them ended unpaid
    else:
        expected = Finding.NO_ANSWER

    assert expected is combine([one, other])


def test_combine_of_no_findings_is_no_answer() -> None:
    """There was no order to ask for."""
    assert Finding.NO_ANSWER is combine([])


# What a refused query says

UNDOCUMENTED = "GM_API_BUS_000099"


@pytest.mark.parametrize(
    "text",
    ["订单不存在", "未找到该订单", "查无此单", "Order Not Found", "the order does not exist"],
)
def test_undocumented_business_code_with_a_text_of_absence_says_absent(text: str) -> None:
    """In Chinese or English, whatever the case."""
    assert says_absent(RefusedError("no", code=UNDOCUMENTED, message=text))


@pytest.mark.parametrize("text", [None, "", "系统繁忙，请稍后再试", "busy", "order status unknown"])
def test_undocumented_business_code_without_such_a_text_says_nothing(text: str | None) -> None:
    """Busy is no answer."""
    assert not says_absent(RefusedError("no", code=UNDOCUMENTED, message=text))


@pytest.mark.parametrize("code", [*CODES, None, "ORDER_NOT_EXIST"])
def test_documented_or_foreign_code_never_says_absent(code: str | None) -> None:
    """What it means is written down, or nobody knows whose it is: the text does not matter."""
    assert not says_absent(RefusedError("no", code=code, message="订单不存在"))


@pytest.mark.parametrize("code", ["CO_MSG_000001", "ORDER_404", UNDOCUMENTED])
def test_code_that_the_merchant_named_says_absent(code: str) -> None:
    """Whatever its text; and no other code because of it."""
    named = check_absent_codes([code])

    assert says_absent(RefusedError("no", code=code), named)
    assert not says_absent(RefusedError("no", code="GM_API_BUS_000500"), named)


@pytest.mark.parametrize(
    "codes",
    [
        "GM_API_BUS_000099",
        [""],
        [404],
        ["CO_MSG_000003"],
        ["CO_MSG_000007"],
        ["GM_API_BUS_0000015"],
    ],
)
def test_absent_codes_that_cannot_mean_it_are_refused(codes: object) -> None:
    """A text in place of a list, an empty code, a system error, the quota, a repeated requestId."""
    with pytest.raises(InvalidRequestError) as caught:
        check_absent_codes(codes)  # type: ignore[arg-type] # wrong on purpose

    assert "absent_codes" == caught.value.field
    assert caught.value.allowed

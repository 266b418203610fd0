"""When many requests pause in an outage: what counts, the pauses, one probe at a time."""

from __future__ import annotations

import pytest
from hypothesis import given, strategies as st

from wxpay_async import errors
from wxpay_async.errors import InDoubtError, NotSentError, WxPayError
from wxpay_async.policy.outage_gate import Evidence, OutageGate, evidence_of

ANSWERED, FAILED, REFUSED, NONE = (
    Evidence.ANSWERED,
    Evidence.FAILED,
    Evidence.ACCESS_REFUSED,
    Evidence.NONE,
)
SAYS: dict[str, Evidence] = {
    "WxPayError": FAILED,
    "InvalidRequestError": NONE,
    "InvalidKeyError": FAILED,
    "IdempotencyConflictError": NONE,
    "NotSentError": FAILED,
    "NotSentTimeoutError": FAILED,
    "QuotaExhaustedError": FAILED,
    "NotificationError": FAILED,
    "InDoubtError": FAILED,
    "InDoubtTimeoutError": FAILED,
    "AlreadyPaidError": NONE,
    "DuplicateRequestError": ANSWERED,
    "InProgressError": NONE,
    "MalformedResponseError": FAILED,
    "OtherPayerError": NONE,
    "PlatformConflictError": NONE,
    "PrepayExpiredError": NONE,
    "TradeUnusableError": NONE,
    "RefusedError": ANSWERED,
    "ClockSkewError": FAILED,
    "ConfigurationRefusedError": REFUSED,
    "AccessDeniedError": REFUSED,
    "SignatureRefusedError": REFUSED,
    "FailedError": ANSWERED,
    "NotExecutedError": ANSWERED,
    "NotPaidError": ANSWERED,
    "RateLimitedError": FAILED,
}


CLASSES = [
    thing
    for thing in vars(errors).values()
    if isinstance(thing, type) and issubclass(thing, WxPayError)
]


def end_calls(gate: OutageGate, *evidence: Evidence, now: float = 0.0) -> list[float | None]:
    """Begin and end a call for each, one after another."""
    return [gate.end(gate.start(), each, now) for each in evidence]


def make_closed_gate() -> OutageGate:
    """Return a gate that closed at 0 s."""
    gate = OutageGate()
    end_calls(gate, *[FAILED] * 10)
    return gate


# What counts


@pytest.mark.parametrize("kind", CLASSES, ids=lambda kind: kind.__name__)
def test_error_says_what_is_decided_of_its_class(kind: type[WxPayError]) -> None:
    """Every class has its word; a new subclass needs a decision."""
    assert SAYS[kind.__name__] is evidence_of(kind("because"))


@pytest.mark.parametrize("kind", [InDoubtError, NotSentError])
def test_failure_that_is_not_retried_counts(kind: type[InDoubtError | NotSentError]) -> None:
    """A redirect, or a wrong certificate, awaits the next request, too."""
    assert FAILED is evidence_of(kind("because", retryable=False))


def test_success_says_that_the_platform_answers() -> None:
    """There is no error."""
    assert ANSWERED is evidence_of(None)


@pytest.mark.parametrize("kind", [None, *CLASSES], ids=lambda kind: getattr(kind, "__name__", "ok"))
def test_replay_says_nothing(kind: type[WxPayError] | None) -> None:
    """What the store answers says nothing of the platform."""
    assert NONE is evidence_of(kind and kind("because"), replayed=True)


# Closing


def test_ten_failures_in_a_row_close_the_gate() -> None:
    """Nine do not, and the tenth begins a pause of 2 s."""
    gate = OutageGate()

    assert [*[None] * 9, 2.0] == end_calls(gate, *[FAILED] * 10)
    assert 2.0 == gate.delay(0.0)


def test_three_access_refusals_in_a_row_close_the_gate() -> None:
    """Two do not, and the third begins a pause of 2 s."""
    assert [None, None, 2.0] == end_calls(OutageGate(), *[REFUSED] * 3)


def test_access_refusals_count_as_failures_too() -> None:
    """Refused and lost by turns: ten in a row, though never three refusals."""
    assert [*[None] * 9, 2.0] == end_calls(OutageGate(), *[REFUSED, FAILED] * 5)


@given(st.lists(st.sampled_from([*[FAILED] * 9, ANSWERED]), max_size=60))
def test_answer_breaks_the_row(ends: list[Evidence]) -> None:
    """The gate closes by ten in a row, and by nothing less."""
    gate, row = OutageGate(), 0
    for evidence in ends:
        row = row + 1 if evidence is FAILED else 0
        (pause,) = end_calls(gate, evidence)
        assert (2.0 if row == 10 else None) == pause
        if row == 10:
            break


def test_what_says_nothing_leaves_the_row_as_it_is() -> None:
    """Replays and invalid requests among failures neither break the row nor lengthen it."""
    ends = end_calls(OutageGate(), *[FAILED, NONE] * 10)

    assert [2.0] == [pause for pause in ends if pause is not None]
    assert 18 == ends.index(2.0)


def test_answer_between_access_refusals_breaks_their_row() -> None:
    """An address that is refused now and then is no outage."""
    assert {None} == set(end_calls(OutageGate(), *[REFUSED, REFUSED, ANSWERED] * 5))


# While it is closed


def test_pause_doubles_with_each_probe_that_fails_up_to_a_minute() -> None:
    """2, 4, 8, 16, 32, 60, 60 s; a probe may start when the pause is over, not before."""
    gate, now, pauses = make_closed_gate(), 0.0, list[float]()
    for probe in [FAILED, REFUSED] * 3:
        pauses.append(gate.pause)
        assert gate.pause == gate.delay(now)
        assert 0.5 == gate.delay(now + gate.pause - 0.5)
        now += gate.pause
        assert 0.0 == gate.delay(now)
        end_calls(gate, probe, now=now)

    assert [2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0] == [*pauses, gate.pause]


def test_second_probe_waits_for_the_end_of_the_first() -> None:
    """However long it takes."""
    gate = make_closed_gate()
    assert 0.0 == gate.delay(2.0)
    gate.start()

    assert gate.delay(2.0) is None
    assert gate.delay(1_000.0) is None


def test_answered_probe_opens_the_gate() -> None:
    """Any number may start; it takes ten failures to close again, and the first pause is 2 s."""
    gate = make_closed_gate()
    end_calls(gate, FAILED, now=2.0)

    assert [0.0, None] == end_calls(gate, ANSWERED, ANSWERED, now=6.0)
    for _ in range(64):
        assert 0.0 == gate.delay(6.0)
        gate.start()
    assert [*[None] * 9, 2.0] == end_calls(gate, *[FAILED] * 10, now=7.0)


def test_answered_probe_ends_the_row_of_access_refusals() -> None:
    """After the allow-list was mended, one refusal alone closes nothing."""
    gate = OutageGate()
    end_calls(gate, REFUSED, REFUSED, REFUSED)
    end_calls(gate, ANSWERED, now=2.0)

    assert [None, None, 2.0] == end_calls(gate, REFUSED, REFUSED, REFUSED, now=3.0)


def test_failed_probe_doubles_the_pause_after_access_refusals_too() -> None:
    """Three refusals closed it; one failure of another kind is enough while it is closed."""
    gate = OutageGate()
    end_calls(gate, *[REFUSED] * 3)

    assert [4.0] == end_calls(gate, FAILED, now=2.0)


def test_probe_that_says_nothing_is_followed_by_the_next_at_once() -> None:
    """A replay, or a call that was cancelled, is no probe of the platform."""
    gate = make_closed_gate()

    assert [None] == end_calls(gate, NONE, now=2.0)
    assert 0.0 == gate.delay(2.0)
    assert 2.0 == gate.pause


@pytest.mark.parametrize("late", Evidence)
def test_call_that_began_before_the_gate_closed_changes_nothing(late: Evidence) -> None:
    """54 of 64 end after the tenth: the pause stays 2 s, the probe alone decides."""
    gate = OutageGate()
    started = [gate.start() for _ in range(64)]
    for start in started[:10]:
        gate.end(start, FAILED, 0.0)

    assert {None} == {gate.end(start, late, 1.0) for start in started[10:40]}
    assert (2.0, 1.0) == (gate.pause, gate.delay(1.0))
    probe = gate.start()
    assert {None} == {gate.end(start, late, 2.0) for start in started[40:50]}
    assert gate.delay(2.0) is None
    assert 0.0 == gate.end(probe, ANSWERED, 2.5)
    assert {None} == {gate.end(start, late, 3.0) for start in started[50:]}
    assert 0.0 == gate.delay(3.0)


def test_thresholds_can_be_set() -> None:
    """A batch may be less patient."""
    gate = OutageGate(failures=2, refusals=1)

    assert [None, 2.0] == end_calls(gate, FAILED, FAILED)
    assert [2.0] == end_calls(OutageGate(failures=2, refusals=1), REFUSED)

"""The life of an operation, cell by cell."""

from __future__ import annotations

import itertools

import pytest

from wxpay_async import errors
from wxpay_async.errors import WxPayError
from wxpay_async.policy.states import (
    ANSWERED,
    CLAIMABLE,
    FINAL,
    FINAL_STEPS,
    FINISHED,
    REISSUABLE,
    REVIEW,
    SENDABLE,
    SETTLED,
    TRANSITIONS,
    State,
    Transition,
    next_state,
    transition_for,
)

# Written a second time, as a person reads it in `money-safety.md` §3.
TABLE = """
             claim    unsent    refused   doubt    accepted  success    failure  absent        mismatch  too_old       confirmed  denied          reissue
reserved     sending  -         -         -        -         -          -        -             -         -             -          -               reissued
sending      -        reserved  rejected  unknown  pending   succeeded  failed   -             conflict  -             -          -               -
unknown      sending  -         -         unknown  pending   succeeded  failed   not_executed  conflict  needs_review  -          -               reissued
pending      -        -         -         -        -         succeeded  failed   -             -         needs_review  -          -               -
succeeded    -        -         -         -        -         -          -        -             -         -             -          -               reissued
rejected     -        -         -         -        -         -          -        -             -         -             -          -               reissued
failed       -        -         -         -        -         -          -        -             -         -             -          -               -
not_executed -        -         -         -        -         -          -        -             -         -             -          -               reissued
conflict     -        -         -         -        -         succeeded  failed   -             -         -             succeeded  not_executed    -
needs_review -        -         -         -        -         succeeded  failed   not_executed  -         -             succeeded  not_executed    reissued
reissued     -        -         -         -        -         -          -        -             -         -             -          -               -
"""  # noqa: E501 - a table


def read_table() -> dict[tuple[State, Transition], str]:
    """Read the table above."""
    header, *rows = (line.split() for line in TABLE.strip().splitlines())
    return {
        (State(state), Transition(event)): after
        for state, *afters in rows
        for event, after in zip(header, afters, strict=True)
    }


CELLS = read_table()

CLEARED = frozenset({Transition.UNSENT, Transition.REFUSED})


def test_table_of_this_file_is_complete() -> None:
    """No state and no transition is left out."""
    assert set(itertools.product(State, Transition)) == set(CELLS)


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_step_leads_where_the_table_says(cell: tuple[State, Transition]) -> None:
    """A step that is not in the table cannot happen."""
    state, event = cell
    if CELLS[cell] == "-":
        with pytest.raises(ValueError, match="cannot meet"):
            next_state(state, event)
    else:
        assert State(CELLS[cell]) is next_state(state, event)


@pytest.mark.parametrize("cell", TRANSITIONS, ids="-".join)
def test_doubt_of_an_earlier_attempt_outlives_what_clears_a_later_one(
    cell: tuple[State, Transition],
) -> None:
    """A refusal, or proof of not sent, then leads to UNKNOWN; nothing else changes."""
    expected = State.UNKNOWN if cell[1] in CLEARED else TRANSITIONS[cell]

    assert expected is next_state(*cell, in_doubt=True)


def test_impossible_step_stays_impossible_in_doubt() -> None:
    """A doubt does not allow a step that is not in the table."""
    with pytest.raises(ValueError, match="rejected cannot meet claim"):
        next_state(State.REJECTED, Transition.CLAIM, in_doubt=True)


def test_table_cannot_be_changed() -> None:
    """No step can be added at run time."""
    with pytest.raises(TypeError):
        TRANSITIONS[State.REJECTED, Transition.CLAIM] = State.SENDING  # type: ignore[index]


def test_finished_states_are_left_only_for_another_credential() -> None:
    """What may be evicted goes nowhere else any more; what else is final waits for a person."""
    left = {(state, event) for state, event in TRANSITIONS if state in FINISHED}

    assert {
        (State.SUCCEEDED, Transition.REISSUE),
        (State.REJECTED, Transition.REISSUE),
        (State.NOT_EXECUTED, Transition.REISSUE),
    } == left
    assert FINAL - FINISHED == REVIEW == {State.CONFLICT, State.NEEDS_REVIEW}


def test_final_states_are_left_only_for_an_end() -> None:
    """Nothing of them is sent again, and what waits for a person does not become the other."""
    steps = {(state, after) for (state, _), after in TRANSITIONS.items() if state in FINAL}

    assert steps == FINAL_STEPS
    assert {after for _, after in FINAL_STEPS} <= FINISHED


def test_reissuable_states_are_those_under_which_nothing_is_on_its_way() -> None:
    """What is being sent may still bring a credential; a failed order gets none."""
    assert set(State) - REISSUABLE == {
        State.SENDING,
        State.PENDING,
        State.FAILED,
        State.CONFLICT,
        State.REISSUED,
    }


def test_claimable_states_are_those_never_sent_or_unknown() -> None:
    """Neither an accepted operation nor one that waits for a person is ever sent again."""
    assert {State.RESERVED, State.UNKNOWN} == CLAIMABLE


def test_settled_states_need_no_further_attempt() -> None:
    """They have an answer, or a person must find one."""
    assert FINAL | {State.PENDING} == SETTLED


def test_sendable_states_are_those_whose_bytes_may_be_needed() -> None:
    """By a resend, or by the next generation of the requestId; no other keeps an openid."""
    finished = {State.SUCCEEDED, State.REJECTED, State.FAILED}

    assert set(State) - finished == SENDABLE


def test_answered_transitions_are_those_with_an_answer() -> None:
    """Only such an answer dates a prepay."""
    assert {Transition.SUCCESS, Transition.ACCEPTED} == ANSWERED


def test_every_state_can_be_reached() -> None:
    """Each state is the end of some step; proof of not sent leads back to RESERVED."""
    assert set(State) == set(TRANSITIONS.values())


TRANSITION_OF = {
    errors.InvalidRequestError: Transition.UNSENT,
    errors.InvalidKeyError: Transition.UNSENT,
    errors.IdempotencyConflictError: Transition.UNSENT,
    errors.NotSentError: Transition.UNSENT,
    errors.NotSentTimeoutError: Transition.UNSENT,
    errors.QuotaExhaustedError: Transition.UNSENT,
    errors.NotificationError: Transition.UNSENT,
    errors.InProgressError: Transition.DOUBT,
    errors.InDoubtError: Transition.DOUBT,
    errors.InDoubtTimeoutError: Transition.DOUBT,
    errors.MalformedResponseError: Transition.DOUBT,
    errors.DuplicateRequestError: Transition.DOUBT,
    errors.RefusedError: Transition.REFUSED,
    errors.ConfigurationRefusedError: Transition.UNSENT,
    errors.AccessDeniedError: Transition.UNSENT,
    errors.AlreadyPaidError: Transition.DOUBT,
    errors.NotExecutedError: Transition.REFUSED,
    errors.NotPaidError: Transition.REFUSED,
    errors.OtherPayerError: Transition.DOUBT,
    errors.PlatformConflictError: Transition.DOUBT,
    errors.PrepayExpiredError: Transition.DOUBT,
    errors.SignatureRefusedError: Transition.UNSENT,
    errors.TradeUnusableError: Transition.DOUBT,
    errors.ClockSkewError: Transition.UNSENT,
    errors.RateLimitedError: Transition.UNSENT,
    errors.FailedError: Transition.FAILURE,
    errors.WxPayError: Transition.DOUBT,
}


def list_errors(root: type[WxPayError]) -> set[type[WxPayError]]:
    """Return an error class and all below it."""
    return {root}.union(*map(list_errors, root.__subclasses__()))


def test_errors_of_this_file_are_complete() -> None:
    """A new error class must say where it leads."""
    ours = {kind for kind in list_errors(WxPayError) if kind.__module__.startswith("wxpay_async")}

    assert set(TRANSITION_OF) == ours


@pytest.mark.parametrize("kind", TRANSITION_OF, ids=lambda kind: kind.__name__)
def test_error_leads_to_its_transition(kind: type[WxPayError]) -> None:
    """Each error class leads to one transition."""
    assert TRANSITION_OF[kind] is transition_for(kind("because"))


class PluginError(WxPayError):
    """An error of a part that a merchant wrote, who did not say what it means."""


def test_error_of_others_leaves_the_attempt_in_doubt() -> None:
    """It takes a proof to say that nothing was sent, and an unknown class has none."""
    assert Transition.DOUBT is transition_for(PluginError("because"))


def test_refusal_that_may_be_tried_again_clears_the_attempt() -> None:
    """Whatever its class: the platform only said "not now"."""
    error = errors.RefusedError("because")
    error.retryable = True

    assert Transition.UNSENT is transition_for(error)

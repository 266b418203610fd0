"""The life of an operation, cell by cell."""

from __future__ import annotations

import itertools

import pytest

from wxpay_async import errors
from wxpay_async.errors import WxPayError
from wxpay_async.policy.states import (
    CLAIMABLE,
    FINAL,
    FINISHED,
    TRANSITIONS,
    State,
    Transition,
    next_state,
    transition_for,
)

# Written down a second time, as a person reads it off `money-safety.md` §3.
TABLE = """
             claim    unsent    refused   doubt    accepted  success    failure  absent        mismatch  too_old
reserved     sending  -         -         -        -         -          -        -             -         -
sending      -        reserved  rejected  unknown  pending   succeeded  failed   -             conflict  -
unknown      sending  -         -         unknown  pending   succeeded  failed   not_executed  conflict  needs_review
pending      -        -         -         -        -         succeeded  failed   -             -         needs_review
succeeded    -        -         -         -        -         -          -        -             -         -
rejected     -        -         -         -        -         -          -        -             -         -
failed       -        -         -         -        -         -          -        -             -         -
not_executed -        -         -         -        -         -          -        -             -         -
conflict     -        -         -         -        -         -          -        -             -         -
needs_review -        -         -         -        -         -          -        -             -         -
"""  # noqa: E501 - a table


def _cells() -> dict[tuple[State, Transition], str]:
    header, *rows = (line.split() for line in TABLE.strip().splitlines())
    return {
        (State(state), Transition(event)): after
        for state, *afters in rows
        for event, after in zip(header, afters, strict=True)
    }


CELLS = _cells()

CLEARED = frozenset({Transition.UNSENT, Transition.REFUSED})


def test_the_table_knows_every_state_and_event() -> None:
    """No state and no event is left out of the table that the tests read."""
    assert set(itertools.product(State, Transition)) == set(CELLS)


@pytest.mark.parametrize("cell", CELLS, ids="-".join)
def test_every_cell(cell: tuple[State, Transition]) -> None:
    """A step leads where the table says, and one that is not in it cannot happen."""
    state, event = cell
    if CELLS[cell] == "-":
        with pytest.raises(ValueError, match="cannot meet"):
            next_state(state, event)
    else:
        assert State(CELLS[cell]) is next_state(state, event)


@pytest.mark.parametrize("cell", TRANSITIONS, ids="-".join)
def test_an_earlier_doubt_outlives_what_clears_the_attempt(cell: tuple[State, Transition]) -> None:
    """With an earlier attempt in doubt a refusal or proof of not sent stays UNKNOWN, only that."""
    expected = State.UNKNOWN if cell[1] in CLEARED else TRANSITIONS[cell]

    assert expected is next_state(*cell, in_doubt=True)


def test_an_impossible_step_stays_impossible_in_doubt() -> None:
    """A doubt does not open a cell that is not there."""
    with pytest.raises(ValueError, match="rejected cannot meet claim"):
        next_state(State.REJECTED, Transition.CLAIM, in_doubt=True)


def test_the_table_cannot_be_changed() -> None:
    """Nobody adds a step at run time."""
    with pytest.raises(TypeError):
        TRANSITIONS[State.REJECTED, Transition.CLAIM] = State.SENDING  # type: ignore[index]


def test_final_states_have_no_way_out_and_all_others_have() -> None:
    """FINAL is what the table says it is, and what may be evicted needs no person."""
    assert set(State) - {state for state, _ in TRANSITIONS} == FINAL
    assert FINAL - FINISHED == {State.CONFLICT, State.NEEDS_REVIEW}


def test_only_what_was_never_sent_or_is_unknown_may_be_sent() -> None:
    """Neither an accepted operation nor one that waits for a person is ever sent again."""
    assert {State.RESERVED, State.UNKNOWN} == CLAIMABLE


def test_every_state_can_be_reached() -> None:
    """Each state is some step's end; RESERVED is where proof of not sent leads back to."""
    assert set(State) == set(TRANSITIONS.values())


MEANINGS = {
    errors.InvalidRequestError: Transition.UNSENT,
    errors.InvalidKeyError: Transition.UNSENT,
    errors.IdempotencyConflictError: Transition.UNSENT,
    errors.NotSentError: Transition.UNSENT,
    errors.NotificationError: Transition.UNSENT,
    errors.InProgressError: Transition.DOUBT,
    errors.InDoubtError: Transition.DOUBT,
    errors.MalformedResponseError: Transition.DOUBT,
    errors.DuplicateRequestError: Transition.DOUBT,
    errors.RefusedError: Transition.REFUSED,
    errors.AccessDeniedError: Transition.REFUSED,
    errors.AlreadyPaidError: Transition.DOUBT,
    errors.NotExecutedError: Transition.REFUSED,
    errors.NotPaidError: Transition.REFUSED,
    errors.PrepayExpiredError: Transition.REFUSED,
    errors.SignatureRefusedError: Transition.REFUSED,
    errors.ClockSkewError: Transition.UNSENT,
    errors.RateLimitedError: Transition.UNSENT,
    errors.FailedError: Transition.FAILURE,
    errors.WxPayError: Transition.UNSENT,
}


def _tree(root: type[WxPayError]) -> set[type[WxPayError]]:
    return {root}.union(*map(_tree, root.__subclasses__()))


def test_the_meanings_cover_the_error_tree() -> None:
    """A new error class must say what it means for an operation."""
    ours = {kind for kind in _tree(WxPayError) if kind.__module__.startswith("wxpay_async")}

    assert set(MEANINGS) == ours


@pytest.mark.parametrize("kind", MEANINGS, ids=lambda kind: kind.__name__)
def test_meaning(kind: type[WxPayError]) -> None:
    """Each error class means one event."""
    assert MEANINGS[kind] is transition_for(kind("because"))


@pytest.mark.parametrize(
    "kind",
    [kind for kind in MEANINGS if kind is not errors.FailedError],
    ids=lambda kind: kind.__name__,
)
def test_an_error_in_doubt_never_clears_an_attempt(kind: type[WxPayError]) -> None:
    """Whatever its class, an error whose fate is in_doubt leads to UNKNOWN."""
    error = kind("because")
    error.fate = errors.Fate.IN_DOUBT

    assert Transition.DOUBT is transition_for(error)

"""A person's word: who may say it of what, and how it is written down."""

from __future__ import annotations

import json

import pytest

from wxpay_async.errors import InvalidRequestError
from wxpay_async.policy.review import ReviewVerdict, check_reviewable
from wxpay_async.policy.states import REVIEW, State


def test_verdict_is_written_with_who_and_when() -> None:
    """As JSON that a person can read, in UTC."""
    verdict = ReviewVerdict(executed=True, by="小王", note="case 4711")

    assert {
        "executed": True,
        "by": "小王",
        "note": "case 4711",
        "at": "2025-11-23T04:00:00+00:00",
    } == json.loads(verdict.to_text(1_763_870_400.5))


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"executed": "no", "by": "x"}, "executed"),
        ({"executed": 1, "by": "x"}, "executed"),
        ({"executed": True, "by": ""}, "by"),
        ({"executed": True, "by": " "}, "by"),
        ({"executed": True, "by": "x" * 65}, "by"),
        ({"executed": True, "by": None}, "by"),
        ({"executed": True, "by": "x\ny"}, "by"),
        ({"executed": True, "by": "x", "note": "y" * 501}, "note"),
    ],
)
def test_verdict_that_is_not_clear_is_refused(values: dict[str, object], field: str) -> None:
    """A text would be taken for yes, and no person stands for an empty name."""
    with pytest.raises(InvalidRequestError) as caught:
        ReviewVerdict(**values)  # type: ignore[arg-type] # wrong on purpose

    assert field == caught.value.field
    assert caught.value.allowed


@pytest.mark.parametrize("state", State)
def test_only_what_waits_for_a_person_takes_a_verdict(state: State) -> None:
    """What is open may still be executed after the person looked."""
    if state in REVIEW:
        check_reviewable(state)
    else:
        with pytest.raises(InvalidRequestError, match=f"verdict: the operation is {state}"):
            check_reviewable(state)

"""What is open, as a person sees it: words for every state, and times in one unit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import attrs
import pytest

from wxpay_async.cli.doubts_screen import ADVICE, MEANINGS, describe, print_doubt
from wxpay_async.engine.open_operations import LastAnswer, OpenOperation
from wxpay_async.policy.record import UNFINISHED


def make_operation(
    state: Any = "unknown",  # noqa: ANN401 - also what is none
    *,
    age: float = 0.0,
    wait: float | None = None,
    order: str = "A-1",
) -> OpenOperation:
    """Make an operation that is open for so many seconds, and is asked for in so many."""
    now = datetime.now(UTC)
    return OpenOperation(
        request_id="r-1",
        operation="refund",
        state=state,
        needs_review=wait is None,
        out_trade_no=order,
        since=now - timedelta(seconds=age),
        attempts=1,
        checks=0,
        next_check_at=None if wait is None else now + timedelta(seconds=wait),
    )


def test_every_state_that_is_open_has_its_words() -> None:
    """None is listed without what it means and what to do."""
    assert {state.value for state in UNFINISHED} == set(MEANINGS) == set(ADVICE)


@pytest.mark.parametrize("state", sorted(MEANINGS))
def test_advice_names_the_operation(state: str) -> None:
    """What is to be copied can be copied."""
    told = describe(make_operation(state))

    assert MEANINGS[state].en == told["meaning"]
    assert "REQUEST_ID" not in str(told["todo"])
    assert ("doubts resolve r-1" in str(told["todo"])) is (state in {"conflict", "needs_review"})


@pytest.mark.parametrize(
    ("age", "shown"),
    [(-5, "0 s ago"), (119, "119 s ago"), (125, "2 min ago"), (7_300, "2 h ago"), (2e5, "2 d ago")],
)
def test_age_is_shown_in_one_unit(
    age: float, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A host whose clock is behind sees no negative age."""
    print_doubt(make_operation(age=age))

    assert f"({shown})" in capsys.readouterr().out


@pytest.mark.parametrize(("wait", "shown"), [(600, "(in 10 min)"), (-1, "(due)"), (None, "")])
def test_next_query_is_shown_unless_there_is_none(
    wait: float | None, shown: str, capsys: pytest.CaptureFixture[str]
) -> None:
    """A person is waited for in place of it."""
    print_doubt(make_operation(wait=wait))

    printed = capsys.readouterr().out
    assert shown in printed
    assert ("next query" in printed) is bool(shown)


def test_order_number_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """It came from a request once."""
    print_doubt(make_operation(order="A\x1b[2J"))

    assert "\x1b" not in capsys.readouterr().out


def test_last_answer_is_shown_with_what_the_platform_said(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """The code and the message for a person; its text cannot control the terminal."""
    answer = LastAnswer(code="GM_API_BUS_0000015", message="重复\x1b[2J")
    print_doubt(attrs.evolve(make_operation(), last_answer=answer, amount=Decimal("12.30")))

    printed = capsys.readouterr().out
    assert "12.30" in printed
    assert "GM_API_BUS_0000015  重复" in printed
    assert "\x1b" not in printed

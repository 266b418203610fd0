"""What a payer is told of an error: a problem by RFC 9457, without secrets."""

from __future__ import annotations

import inspect
import json
import logging
import re
from datetime import UTC, datetime
from pathlib import Path

import pytest

import wxpay_async
from tests.support.problem_table import make_table
from wxpay_async import errors
from wxpay_async.errors import (
    AccessDeniedError,
    AlreadyPaidError,
    DuplicateRequestError,
    FailedError,
    IdempotencyConflictError,
    InDoubtError,
    InProgressError,
    InvalidRequestError,
    NotSentError,
    OtherPayerError,
    QuotaExhaustedError,
    RateLimitedError,
    RefusedError,
    TradeUnusableError,
    WxPayError,
)
from wxpay_async.integrations.problems import PROBLEM_TYPES, Problem, answer_to

PAGE = Path(__file__).parents[2] / "docs" / "web.md"
LATER = datetime(2026, 11, 27, 8, 9, 10, 500_000, UTC)
KINDS = [
    kind for kind in vars(errors).values() if inspect.isclass(kind) and issubclass(kind, WxPayError)
]


# The table


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_every_class_has_a_row_of_its_own(kind: type[WxPayError]) -> None:
    """A new class must be decided on, not fall to its parent's row."""
    assert kind in PROBLEM_TYPES
    assert PROBLEM_TYPES[kind] is Problem.of(kind("x")).kind


def test_table_has_the_public_errors_and_no_more() -> None:
    """What a merchant may catch is what a payer may be told of."""
    public = {name for name in wxpay_async.__all__ if name.endswith("Error")}

    assert public == {kind.__name__ for kind in PROBLEM_TYPES}


def test_types_are_distinct_and_well_formed() -> None:
    """A URN of one word each, a status of HTTP, two sentences."""
    kinds = set(PROBLEM_TYPES.values())

    assert len(kinds) == len({kind.uri for kind in kinds})
    for kind in kinds:
        assert re.fullmatch(r"urn:problem-type:wxpay-async:[a-z_]+", kind.uri)
        assert 400 <= kind.status <= 504
        assert kind.title.endswith(".")
        assert kind.detail.endswith(".")


def test_class_of_an_application_is_answered_as_its_parent() -> None:
    """An error that was derived from one of these."""

    class OutOfReachError(NotSentError):
        """One of the application's."""

    assert PROBLEM_TYPES[NotSentError] is Problem.of(OutOfReachError("x")).kind


def test_page_has_the_table_that_the_code_makes() -> None:
    """`python -m tests.support.problem_table` prints it, with `--zh` the Chinese one."""
    assert make_table() in PAGE.read_text(encoding="utf-8")
    assert make_table(1) in PAGE.with_name("web.zh.md").read_text(encoding="utf-8")


def test_example_of_the_page_is_what_the_code_makes() -> None:
    """Member for member, with the requestId."""
    [example] = re.findall(r"```json\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)
    error = InProgressError("another process is sending this requestId")
    error.request_id = "trade-4711"

    assert json.loads(example) == json.loads(Problem.of(error).body)


# Again in a second, or never

UNFIT = NotSentError("the certificate is not trusted", retryable=False)
REDIRECTED = InDoubtError("a redirect", retryable=False)


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (InProgressError("x"), "1"),
        (NotSentError("x"), "5"),
        (InDoubtError("x"), "5"),
        (RateLimitedError("x"), "60"),
        (QuotaExhaustedError("x", retry_after=0.0), "1"),
        (QuotaExhaustedError("x", retry_after=41.2), "42"),
        (OtherPayerError("x", retry_at=LATER), "Fri, 27 Nov 2026 08:09:11 GMT"),
        (TradeUnusableError("x", retry_at=LATER), "Fri, 27 Nov 2026 08:09:11 GMT"),
        (OtherPayerError("x"), None),
        (TradeUnusableError("x"), None),
        (UNFIT, None),
        (REDIRECTED, None),
        (DuplicateRequestError("x"), None),
        (InvalidRequestError("x"), None),
        (RefusedError("x"), None),
        (FailedError("x"), None),
        (AlreadyPaidError("x"), None),
    ],
)
def test_retry_after_says_when_and_its_absence_never(error: WxPayError, told: str | None) -> None:
    """Whole seconds or a date, none too early; body and header agree."""
    problem = Problem.of(error)

    assert told == problem.headers.get("Retry-After")
    assert (told is not None) is json.loads(problem.body)["retryable"]
    assert "application/problem+json" == problem.headers["Content-Type"]


# Without secrets


def test_body_has_requestid_and_known_code_and_nothing_of_the_text() -> None:
    """The platform's words and the error's own text are for the merchant."""
    error = RefusedError("reason-canary", code="GM_API_BUS_000099", message="message-canary")
    error.request_id = "pay-1"
    body = Problem.of(error).body

    told = json.loads(body)
    assert ("pay-1", "GM_API_BUS_000099") == (told["requestId"], told["code"])
    assert b"canary" not in body


@pytest.mark.parametrize("code", ["canary", "CO_MSG_1\nX", "<b>canary</b>"])
def test_code_of_another_shape_is_not_repeated(code: str) -> None:
    """It is what the other side wrote, whatever it may be."""
    told = json.loads(Problem.of(RefusedError("x", code=code)).body)

    assert "other" == told["code"]


def test_what_is_not_known_is_left_out() -> None:
    """No member is null."""
    told = Problem.of(InDoubtError("x")).to_dict()

    assert {"type", "status", "title", "detail", "retryable", "error"} == told.keys()


# The log


@pytest.mark.parametrize(
    ("error", "level"),
    [
        (AlreadyPaidError("x"), logging.INFO),
        (InProgressError("x"), logging.INFO),
        (InvalidRequestError("x"), logging.INFO),
        (RefusedError("x"), logging.INFO),
        (AccessDeniedError("x"), logging.WARNING),
        (IdempotencyConflictError("x"), logging.WARNING),
        (NotSentError("x"), logging.WARNING),
        (InDoubtError("x"), logging.WARNING),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, WxPayError) else "",
)
def test_log_warns_of_what_needs_a_person_or_is_an_outage(
    error: WxPayError, level: int, caplog: pytest.LogCaptureFixture
) -> None:
    """A payer's ordinary day is INFO."""
    caplog.set_level(logging.INFO, "wxpay_async")
    answer_to(error)

    assert [level] == [record.levelno for record in caplog.records]


def test_log_line_names_request_order_and_attempt(caplog: pytest.LogCaptureFixture) -> None:
    """The merchant finds by it what the payer's page shows."""
    error = NotSentError("no route to the platform")
    error.request_id, error.out_trade_no, error.attempts = "pay-1", "O-1", 3
    answer_to(error)
    [record] = caplog.records

    assert (
        "answered 503 unavailable: no route to the platform (requestId pay-1, not_sent)"
        " order=O-1 attempt=3"
    ) == record.getMessage()
    fields = {name: value for name, value in vars(record).items() if name.startswith("wxpay_")}
    assert {
        "wxpay_request_id": "pay-1",
        "wxpay_out_trade_no": "O-1",
        "wxpay_attempt": 3,
        "wxpay_fate": "not_sent",
        "wxpay_code": None,
    } == fields

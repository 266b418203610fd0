"""How the lines of a batch ended: labels, counts, reasons, times and the exit code."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support import asking
from tests.support.outcomes import NOON, ended, prepaid, refunded, refusal
from wxpay_async.batch.measures import SPANS_KEPT
from wxpay_async.batch.tally import (
    EXAMPLES_KEPT,
    LABELS,
    OTHER_CODES,
    PERSON_LINES_KEPT,
    REASONS_KEPT,
    Label,
    Tally,
    code_of,
    is_replayed,
    label_of,
)
from wxpay_async.cli.main import EXIT_BY_FATE
from wxpay_async.errors import (
    AlreadyPaidError,
    Fate,
    IdempotencyConflictError,
    InDoubtError,
    NotSentError,
    PlatformConflictError,
    PrepayExpiredError,
    RefusedError,
    WxPayError,
)
from wxpay_async.protocol.requests import TradeQuery
from wxpay_async.protocol.results import TradeStatus

ENDS: dict[Label, Any] = {
    "ok": refunded(),
    "pending": refunded(status="P"),
    "issued_earlier": PrepayExpiredError("too old"),
    "already_paid": AlreadyPaidError("the order is paid"),
    "refused": RefusedError("no", code="GM_API_BUS_000001"),
    "not_sent": NotSentError("no connection"),
    "in_doubt": InDoubtError("no answer"),
    "open": None,
}


def tally_of(*ends: object) -> Tally:
    """Count refunds that ended so, a line each."""
    tally = Tally()
    for number, end in enumerate(ends, start=1):
        tally.add(ended(number, end, settled=60.0 * number))
    return tally


def read_again(error: WxPayError) -> WxPayError:
    """Return an error as the store replays it."""
    error.replayed = True
    return error


@pytest.mark.parametrize("label", LABELS)
def test_label_of_an_outcome_says_how_the_line_ended(label: Label) -> None:
    """Each label has an end that leads to it, and is counted under it."""
    outcome = ended(1, ENDS[label])
    tally = Tally()
    tally.add(outcome)

    assert label == label_of(outcome)
    assert {label: 1} == tally.counts
    assert 1 == tally.total


@pytest.mark.parametrize("result", [prepaid(), TradeStatus(out_trade_no="O-1", status="已付款")])
def test_label_of_a_result_that_is_no_refund_is_ok(result: object) -> None:
    """Only a refund can be accepted without being done."""
    assert "ok" == label_of(ended(1, result))


@pytest.mark.parametrize(
    ("ends", "code"),
    [
        ([], 0),
        (["ok", "pending", "issued_earlier", "already_paid"], 0),
        (["ok", "refused"], EXIT_BY_FATE[Fate.REFUSED][1]),
        (["refused", "not_sent"], EXIT_BY_FATE[Fate.NOT_SENT][1]),
        (["not_sent", "in_doubt", "refused"], EXIT_BY_FATE[Fate.IN_DOUBT][1]),
        (["ok", "open"], EXIT_BY_FATE[Fate.IN_DOUBT][1]),
    ],
)
def test_exit_code_is_that_of_the_worst_line(ends: list[Label], code: int) -> None:
    """The codes are those of the single commands."""
    assert code == tally_of(*(ENDS[label] for label in ends)).exit_code


def test_refusals_are_counted_by_code_with_their_first_lines() -> None:
    """The most frequent comes first; a refusal without a code goes by its class."""
    broke = refusal(RefusedError, "GM_API_BUS_000009", "余额不足")
    tally = tally_of(*[broke] * 7, RefusedError("no"), refunded(), InDoubtError("no answer"))

    first, second = tally.refusals
    assert ("GM_API_BUS_000009", 7, RefusedError) == (first.code, first.count, first.error)
    assert list(range(1, EXAMPLES_KEPT + 1)) == [line.number for line in first.examples]
    assert ("refund-1", "R-1", "余额不足") == (
        first.examples[0].request_id,
        first.examples[0].out_trade_no,
        first.examples[0].text,
    )
    assert ("RefusedError", 1) == (second.code, second.count)


def test_reasons_of_other_ends_are_counted_apart() -> None:
    """The same code may be a refusal of one line and a doubt about another."""
    tally = tally_of(refusal(RefusedError, "C"), refusal(InDoubtError, "C"), NotSentError("down"))

    assert [1] == [reason.count for reason in tally.list_reasons("in_doubt")]
    assert ["NotSentError"] == [reason.code for reason in tally.list_reasons("not_sent")]


@pytest.mark.parametrize(
    ("error", "needed"),
    [
        (InDoubtError("24 h passed without proof"), True),
        (PlatformConflictError("other content"), True),
        (IdempotencyConflictError("other content", fields=["refundAmount"]), True),
        (NotSentError("a bad certificate", retryable=False), True),
        (NotSentError("no connection"), False),
        (RefusedError("no"), False),
        (PrepayExpiredError("too old"), False),
        (AlreadyPaidError("the order is paid"), False),
    ],
)
def test_a_person_is_needed_where_another_run_alone_does_not_help(
    error: WxPayError, *, needed: bool
) -> None:
    """A doubt, and what is wrong with the line itself; refusals have a table of their own."""
    tally = tally_of(error)

    assert needed == bool(tally.person_total) == bool(tally.person_lines)


def test_lines_of_one_code_that_need_a_person_are_counted_apart() -> None:
    """A certificate must be corrected, a broken connection only tried again."""
    tally = tally_of(NotSentError("down"), NotSentError("certificate", retryable=False))

    assert {True: 1, False: 1} == {
        reason.needs_person: reason.count for reason in tally.list_reasons("not_sent")
    }
    assert [2] == [line.number for line in tally.person_lines]


def test_memory_of_a_tally_is_bounded() -> None:
    """However many lines, codes and minutes there are; what is not kept is counted."""
    tally, lines = Tally(), 3 * SPANS_KEPT
    for number in range(lines):
        error = refusal(InDoubtError, f"CODE_{number}", "x" * 10_000)
        tally.add(ended(number, error, settled=60.0 * number, took=number))

    assert PERSON_LINES_KEPT == len(tally.person_lines)
    assert lines == tally.person_total
    assert REASONS_KEPT + 1 == len(tally.reasons)
    assert lines - REASONS_KEPT == tally.reasons["in_doubt", OTHER_CODES, True].count
    assert SPANS_KEPT >= len(tally.timeline.spans)
    assert lines == sum(counts.total() for counts in tally.timeline.spans.values())
    assert 1000 > max(len(line.text) for line in tally.person_lines)


@pytest.mark.parametrize(
    ("end", "settled", "expected"),
    [
        (refunded(replayed=True), -1, True),
        (refunded(replayed=True), 0, False),
        (refunded(replayed=True), None, True),
        (read_again(RefusedError("no")), -1, True),
        (read_again(RefusedError("no")), 1, False),
        (refunded(), -1, False),
        (RefusedError("no"), None, False),
        (None, None, False),
    ],
)
def test_outcome_is_replayed_where_the_line_had_ended_before_the_run(
    end: object, settled: float | None, *, expected: bool
) -> None:
    """What the run itself did is no replay, though it is read back; results and errors alike."""
    assert expected == is_replayed(ended(1, end, settled=settled), begun_at=NOON)


def test_timeline_counts_by_minute_of_the_end() -> None:
    """Two in one minute, one in the next; an outcome that no store told has no time."""
    tally = Tally()
    for settled, end in [(0, refunded()), (59, ENDS["refused"]), (60, refunded())]:
        tally.add(ended(1, end, settled=settled))
    tally.add(ended(2, refunded()))
    tally.add(ended(3, None))

    start = int(NOON.timestamp()) // 60
    assert 60 == tally.timeline.width
    assert {start: {"ok": 1, "refused": 1}, start + 1: {"ok": 1}} == tally.timeline.spans
    assert 1 == tally.untimed


def test_latencies_run_from_the_reservation_to_the_end() -> None:
    """A clock that went back makes no negative duration."""
    tally = Tally()
    for took in (2.0, 3.0, -5.0):
        tally.add(ended(1, refunded(), settled=100.0, took=took))

    assert 3 == tally.latencies.count
    assert 3.0 == tally.latencies.longest
    assert 3.0 == tally.latencies.quantile(1.0)
    assert 0.001 == tally.latencies.quantile(0.1)


def test_code_and_text_of_an_error_are_one_line_that_shows() -> None:
    """The platform's words are bounded, and hold nothing that could write lines of its own."""
    tally = tally_of(
        refusal(RefusedError, "C\x1b[31m" + "x" * 200, "a\nb\u202ec\ud800" + "y" * 999)
    )

    [line] = tally.refusals[0].examples
    assert "C\ufffd[31m" == line.reason.code[:6]
    assert 64 == len(line.reason.code)
    assert "a b\ufffdc\ufffd" == line.text[:6]
    assert 300 == len(line.text)


def test_text_of_an_error_repeats_no_credential_of_its_request() -> None:
    """The platform may quote what it was sent."""
    request = asking.pay(pay_token="secret-token-77", terminal_payer_id="openid-canary-1")
    error = refusal(RefusedError, "C", "payToken secret-token-77 of openid-canary-1 is bad")
    tally = Tally()
    tally.add(ended(1, error, request=request))

    assert "payToken *** of *** is bad" == tally.refusals[0].examples[0].text


def test_a_query_is_named_by_its_order() -> None:
    """It has no requestId."""
    tally = Tally()
    tally.add(ended(1, NotSentError("down"), request=TradeQuery(out_trade_no="O-7")))

    [line] = tally.list_reasons("not_sent")[0].examples
    assert (None, "O-7") == (line.request_id, line.out_trade_no)


def test_code_of_an_error_without_a_code_is_its_class() -> None:
    """So that each can be looked up in `errors.md`."""
    assert "PrepayExpiredError" == code_of(PrepayExpiredError("too old"))

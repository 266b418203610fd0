"""Show what is open to a person: as a table, or one operation with what can be done about it."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from wxpay_async.cli.main import EXIT_BY_FATE
from wxpay_async.cli.output import (
    make_table,
    print_json,
    print_result,
    print_rich,
    to_json,
    to_safe_text,
    write_stderr,
)

if TYPE_CHECKING:
    from wxpay_async import Outcome
    from wxpay_async.engine.open_operations import OpenOperation

_PAGE: Final = 1_000
"""Operations in a table; what is more goes into the next one."""

_NOTHING_OPEN: Final = "nothing is open"

MEANINGS: Final = {
    "sending": "an attempt is under way, or its process ended in the middle",
    "unknown": "the answer got lost; the platform may have executed the operation",
    "pending": "the platform accepted it, and has not finished it yet",
    "conflict": "the platform holds this requestId with other content",
    "needs_review": "24 h passed without proof",
}
ADVICE: Final = {
    "sending": "Nothing: it ends by itself, or is taken up again when its lease is over.",
    "unknown": "Nothing yet: a running gateway asks the platform. "
    "Do not pay or refund the order again.",
    "pending": "Nothing yet: a running gateway asks the platform until it is finished.",
    "conflict": "Look the order up in the platform's console, then: "
    "wxpay-async doubts resolve REQUEST_ID --verdict ... --by ... --why ...",
    "needs_review": "Ask the platform's support what became of it, then: "
    "wxpay-async doubts resolve REQUEST_ID --verdict ... --by ... --why ...",
}


def describe(one: OpenOperation) -> dict[str, object]:
    """Return an operation as JSON under the platform's names, with what it means."""
    return {
        "requestId": one.request_id,
        "operation": one.operation,
        "outTradeNo": one.out_trade_no,
        "amount": to_json(one.amount),
        "state": one.state,
        "needsReview": one.needs_review,
        "since": to_json(one.since),
        "attempts": one.attempts,
        "queries": one.checks,
        "nextQuery": to_json(one.next_check_at),
        "lastAnswer": None if one.last_answer is None else to_json(one.last_answer),
        "meaning": MEANINGS[one.state],
        "todo": ADVICE[one.state].replace("REQUEST_ID", one.request_id),
    }


async def print_doubts(found: AsyncIterator[OpenOperation]) -> int:
    """Print tables of what is open as it is read; return how many operations there are."""
    page: list[OpenOperation] = []
    count = 0
    async for one in found:
        page.append(one)
        count += 1
        if len(page) == _PAGE:
            _print_table(page)
            page.clear()
    if page:
        _print_table(page)
    write_stderr("open:", str(count) if count else _NOTHING_OPEN, colour="yellow" if count else "")
    return count


def _print_table(page: list[OpenOperation]) -> None:
    table = make_table()
    table.add_column("requestId\norder", no_wrap=True)  # they are copied
    table.add_column("operation\nstate", no_wrap=True)
    table.add_column("amount\nanswer", justify="right")
    table.add_column("open for\nnext query", no_wrap=True)
    table.add_column("sent\nasked", justify="right")
    for one in page:
        waits = "a person" if one.needs_review else _show_wait(one.next_check_at)
        table.add_row(
            f"{one.request_id}\n{to_safe_text(one.out_trade_no or '')}",
            f"{one.operation}\n{one.state}",
            f"{one.amount or ''}\n{_show_answer(one)}",
            f"{_age(one.since)}\n{waits}",
            f"{one.attempts}\n{one.checks}",
        )
    print_rich(table)


def _show_answer(one: OpenOperation) -> str:
    """Return the code of the last answer, or the status in it."""
    answer = one.last_answer
    return "" if answer is None else to_safe_text(answer.code or answer.status or "")


def print_doubt(one: OpenOperation) -> None:
    """Print an operation, what its state means, and what can be done."""
    fields = describe(one)
    since, following = one.since, one.next_check_at
    fields["since"] = f"{_show_moment(since)} ({_age(since)} ago)"
    if following is not None:
        fields["nextQuery"] = f"{_show_moment(following)} ({_show_wait(following)})"
    print_result(fields, as_json=False)


def print_resolved(outcome: Outcome[str, Any], *, as_json: bool) -> None:
    """Print what became of an operation; an error goes to stderr unless JSON is asked for.

    The result is not shown, since it may hold credentials: who repeats the request gets it.
    """
    error = outcome.error
    fields: dict[str, object] = {"requestId": outcome.request, "kind": outcome.kind}
    if error is not None:
        told = f"{EXIT_BY_FATE[error.fate][0]}: {error}"
        if not as_json:
            write_stderr("resolved:", told, colour="yellow")
            return
        fields |= {"error": type(error).__name__, "code": error.code, "message": str(error)}
    if as_json:
        print_json(fields)
    else:
        print_result(fields, as_json=False)


def _show_moment(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _age(moment: datetime) -> str:
    return _show_span(datetime.now(UTC) - moment)


def _show_wait(moment: datetime | None) -> str:
    if moment is None:
        return ""
    wait = moment - datetime.now(UTC)
    return f"in {_show_span(wait)}" if wait > timedelta() else "due"


def _show_span(span: timedelta) -> str:
    """Return a time in one unit."""
    seconds = max(span.total_seconds(), 0)
    for unit, length in (("d", 86_400), ("h", 3_600), ("min", 60)):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {unit}"
    return f"{seconds:.0f} s"

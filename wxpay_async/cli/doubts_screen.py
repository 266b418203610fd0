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
    translate,
    write_stderr,
)
from wxpay_async.language import Sentence

if TYPE_CHECKING:
    from wxpay_async import Outcome
    from wxpay_async.engine.open_operations import OpenOperation

_PAGE: Final = 1_000
"""Operations in a table; what is more goes into the next one."""

_VERDICT: Final = "wxpay-async doubts resolve REQUEST_ID --verdict ... --by ... --why ..."

MEANINGS: Final = {
    "sending": Sentence(
        "an attempt is under way, or its process ended in the middle",
        "正在发送，或发送它的进程中途退出",
    ),
    "unknown": Sentence(
        "the answer got lost; the platform may have executed the operation",
        "应答丢失，平台可能已经执行",
    ),
    "pending": Sentence(
        "the platform accepted it, and has not finished it yet", "平台已受理，尚未处理完成"
    ),
    "conflict": Sentence(
        "the platform holds this requestId with other content",
        "平台上同一 requestId 对应的内容不同",
    ),
    "needs_review": Sentence("24 h passed without proof", "24 小时后仍无法确认结果"),
}
ADVICE: Final = {
    "sending": Sentence(
        "Nothing: it ends by itself, or is taken up again when its lease is over.",
        "无需处理：它会自行结束，或在租约到期后被接管。",
    ),
    "unknown": Sentence(
        "Nothing yet: a running gateway asks the platform. Do not pay or refund the order again.",
        "暂时无需处理：运行中的网关会向平台查询。不要对该订单再次支付或退款。",
    ),
    "pending": Sentence(
        "Nothing yet: a running gateway asks the platform until it is finished.",
        "暂时无需处理：运行中的网关会一直查询，直到平台处理完成。",
    ),
    "conflict": Sentence(
        f"Look the order up in the platform's console, then: {_VERDICT}",
        f"先在平台后台查明该订单的结果，然后运行：{_VERDICT}",
    ),
    "needs_review": Sentence(
        f"Ask the platform's support what became of it, then: {_VERDICT}",
        f"先向平台客服查明结果，然后运行：{_VERDICT}",
    ),
}
_COLUMNS: Final = (
    Sentence("requestId\norder", "requestId\n订单号"),
    Sentence("operation\nstate", "操作\n状态"),
    Sentence("amount\nanswer", "金额\n最近应答"),
    Sentence("open for\nnext query", "已持续\n下次查询"),
    Sentence("sent\nasked", "发送\n查询"),
)
_LABELS: Final = {
    "requestId": Sentence("requestId", "requestId"),
    "operation": Sentence("operation", "操作"),
    "outTradeNo": Sentence("order", "订单号"),
    "amount": Sentence("amount", "金额"),
    "state": Sentence("state", "状态"),
    "since": Sentence("open since", "开始时间"),
    "attempts": Sentence("times sent", "发送次数"),
    "queries": Sentence("times asked", "查询次数"),
    "nextQuery": Sentence("next query", "下次查询"),
    "lastAnswer": Sentence("last answer", "最近应答"),
    "meaning": Sentence("meaning", "含义"),
    "todo": Sentence("what to do", "怎么做"),
}
_WORDS: Final = {
    "open": Sentence("open:", "未了结:"),
    "nothing": Sentence("nothing is open", "没有"),
    "resolved": Sentence("outcome:", "查询结果:"),
    "person": Sentence("a person", "需人工介入"),
    "due": Sentence("due", "已到时间"),
    "in": Sentence("in {span}", "{span}后"),
    "ago": Sentence("{span} ago", "{span}前"),
}
_UNITS: Final = (
    (86_400, Sentence("d", "天")),
    (3_600, Sentence("h", "小时")),
    (60, Sentence("min", "分钟")),
)
_SECOND: Final = Sentence("s", "秒")


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
        "meaning": translate(MEANINGS[one.state]),
        "todo": translate(ADVICE[one.state]).replace("REQUEST_ID", one.request_id),
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
    told = str(count) if count else _say("nothing")
    write_stderr(_say("open"), told, colour="yellow" if count else "")
    return count


def _print_table(page: list[OpenOperation]) -> None:
    table = make_table()
    request, operation, amount, age, attempts = map(translate, _COLUMNS)
    table.add_column(request, no_wrap=True)  # they are copied
    table.add_column(operation, no_wrap=True)
    table.add_column(amount, justify="right", overflow="fold")
    table.add_column(age, no_wrap=True)
    table.add_column(attempts, justify="right")
    for one in page:
        waits = _say("person") if one.needs_review else _show_wait(one.next_check_at)
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
    fields["since"] = f"{_show_moment(since)} ({_say('ago', span=_age(since))})"
    if following is not None:
        fields["nextQuery"] = f"{_show_moment(following)} ({_show_wait(following)})"
    shown = {translate(label): fields[name] for name, label in _LABELS.items()}
    print_result(shown, as_json=False)


def print_resolved(outcome: Outcome[str, Any], *, as_json: bool) -> None:
    """Print what became of an operation; an error goes to stderr unless JSON is asked for.

    The result is not shown, since it may hold credentials: who repeats the request gets it.
    """
    error = outcome.error
    fields: dict[str, object] = {"requestId": outcome.request, "kind": outcome.kind}
    if error is not None:
        told = f"{translate(EXIT_BY_FATE[error.fate][0])}{error}"
        if not as_json:
            write_stderr(_say("resolved"), told, colour="yellow")
            return
        fields |= {"error": type(error).__name__, "code": error.code, "message": str(error)}
    if as_json:
        print_json(fields)
    else:
        print_result(fields, as_json=False)


def _say(word: str, **values: str) -> str:
    return translate(_WORDS[word], **values)


def _show_moment(moment: datetime) -> str:
    return moment.astimezone().strftime("%Y-%m-%d %H:%M:%S")


def _age(moment: datetime) -> str:
    return _show_span(datetime.now(UTC) - moment)


def _show_wait(moment: datetime | None) -> str:
    if moment is None:
        return ""
    wait = moment - datetime.now(UTC)
    return _say("in", span=_show_span(wait)) if wait > timedelta() else _say("due")


def _show_span(span: timedelta) -> str:
    """Return a time in one unit."""
    seconds = max(span.total_seconds(), 0)
    for length, unit in _UNITS:
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {translate(unit)}"
    return f"{seconds:.0f} {translate(_SECOND)}"

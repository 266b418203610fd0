"""One line for each thing that happens in a sandbox: calls, refusals, callbacks, faults."""

from __future__ import annotations

from datetime import datetime
from typing import Final

import typer

from wxpay_async.cli.output import to_safe_text, translate
from wxpay_async.language import Sentence
from wxpay_async.sandbox.callback_payloads import Callback
from wxpay_async.sandbox.callbacks import Delivery
from wxpay_async.sandbox.console.journal import SeenCall
from wxpay_async.sandbox.fault_queue import CallbackFault
from wxpay_async.sandbox.platform import PATHS
from wxpay_async.sandbox.server import SandboxEvent

_STATUS = ("trade_status", "refund_status")

_OK: Final = Sentence("{call} ok", "{call} 成功")
_REFUSED: Final = Sentence("{call} refused {code} {message}", "{call} 拒绝 {code} {message}")
_FAULT: Final = Sentence("fault {fault}: {name}, {message}", "故障 {fault}：{name}，{message}")
_CALLBACK: Final = Sentence(
    "callback {order} {status} #{number}", "回调 {order} {status} #{number}"
)
_FORGED: Final = Sentence("forged ({forgery})", "伪造（{forgery}）")
_NO_ANSWER: Final = Sentence("no answer: {problem}", "没有应答：{problem}")
_TAKEN: Final = Sentence("acknowledged", "已确认收到")
_NOT_TAKEN: Final = Sentence("not acknowledged", "未确认收到")
_CALLBACK_FAULT: Final = Sentence("fault callback {order}: {words}", "故障 回调 {order}：{words}")
_COMMA: Final = Sentence(", ", "，")
_LOST: Final = Sentence("lost", "丢失")
_COPIES: Final = Sentence("{copies} copies", "发送 {copies} 份")
_LATE: Final = Sentence("{seconds:g} s late", "推迟 {seconds:g} 秒")
_STALE: Final = Sentence("signed {seconds:g} s ago", "签名于 {seconds:g} 秒前")
_FORGED_BEFORE: Final = Sentence("forged before ({forgery})", "先发一份伪造的（{forgery}）")
_OUT_OF_ORDER: Final = Sentence("out of order", "顺序打乱")


def print_line(event: SandboxEvent) -> None:
    """Write the line of an event to stderr."""
    text, colour = describe_event(event)
    typer.secho(f"{datetime.now().astimezone():%H:%M:%S} {text}", fg=colour, err=True)


def describe_event(event: SandboxEvent) -> tuple[str, str | None]:
    """Return the text of an event on one line, and its colour. No secret, payToken or openid."""
    if isinstance(event, SeenCall):
        text, colour = _describe_call(event)
    elif isinstance(event, Delivery):
        text, colour = _describe_delivery(event)
    else:
        text, colour = _describe_fault(*event)
    return " ".join(to_safe_text(text).split()), colour


def _describe_call(call: SeenCall) -> tuple[str, str | None]:
    name = str(PATHS.get(call.path, f"{call.method} {call.path}"))
    subject = f"{name} {call.order or '-'} {call.request_id}"
    if call.fault:
        return translate(_FAULT, fault=call.fault, name=name, message=call.message), "yellow"
    if call.code:
        return translate(_REFUSED, call=subject, code=call.code, message=call.message), "red"
    return translate(_OK, call=subject), None


def _describe_delivery(delivery: Delivery) -> tuple[str, str | None]:
    fields = delivery.callback.fields
    status = next((fields[name] for name in _STATUS if name in fields), "")
    order, number = delivery.callback.out_trade_no, delivery.attempt
    what = translate(_CALLBACK, order=order, status=status, number=number)
    if delivery.forgery:
        what += f" {translate(_FORGED, forgery=delivery.forgery)}"
    if delivery.status is None:
        return f"{what} {translate(_NO_ANSWER, problem=delivery.problem)}", "red"
    word = translate(_TAKEN if delivery.acknowledged else _NOT_TAKEN)
    wrong = delivery.acknowledged is bool(delivery.forgery)
    return f"{what} HTTP {delivery.status} {word}", "red" if wrong else None


def _describe_fault(callback: Callback, fault: CallbackFault) -> tuple[str, str | None]:
    words = [
        *([translate(_LOST)] if fault.lost else []),
        *([translate(_COPIES, copies=fault.copies)] if fault.copies > 1 else []),
        *([translate(_LATE, seconds=fault.pause)] if fault.pause else []),
        *([translate(_STALE, seconds=fault.stale)] if fault.stale else []),
        *([translate(_FORGED_BEFORE, forgery=fault.forgery)] if fault.forgery else []),
        *([translate(_OUT_OF_ORDER)] if fault.held or fault.releases else []),
    ]
    joined = translate(_COMMA).join(words)
    return translate(_CALLBACK_FAULT, order=callback.out_trade_no, words=joined), "yellow"

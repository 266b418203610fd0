"""One line for each thing that happens in a sandbox: calls, refusals, callbacks, faults."""

from __future__ import annotations

from datetime import datetime

import typer

from wxpay_async.cli.output import to_safe_text
from wxpay_async.sandbox.callback_payloads import Callback
from wxpay_async.sandbox.callbacks import Delivery
from wxpay_async.sandbox.console.journal import SeenCall
from wxpay_async.sandbox.fault_queue import CallbackFault
from wxpay_async.sandbox.platform import PATHS
from wxpay_async.sandbox.server import SandboxEvent

_STATUS = ("trade_status", "refund_status")


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
    subject = f"{name:<9} {call.order or '-'} {call.request_id}"
    if call.fault:
        return f"fault     {call.fault}: {name}, {call.message}", "yellow"
    if call.code:
        return f"{subject} refused {call.code} {call.message}", "red"
    return f"{subject} ok", None


def _describe_delivery(delivery: Delivery) -> tuple[str, str | None]:
    fields = delivery.callback.fields
    status = next((fields[name] for name in _STATUS if name in fields), "")
    what = f"callback  {delivery.callback.out_trade_no} {status} #{delivery.attempt}"
    if delivery.forgery:
        what += f" forged ({delivery.forgery})"
    if delivery.status is None:
        return f"{what} no answer: {delivery.problem}", "red"
    word = "acknowledged" if delivery.acknowledged else "not acknowledged"
    wrong = delivery.acknowledged is bool(delivery.forgery)
    return f"{what} HTTP {delivery.status} {word}", "red" if wrong else None


def _describe_fault(callback: Callback, fault: CallbackFault) -> tuple[str, str | None]:
    words = [
        *(["lost"] if fault.lost else []),
        *([f"{fault.copies} copies"] if fault.copies > 1 else []),
        *([f"{fault.pause:g} s late"] if fault.pause else []),
        *([f"signed {fault.stale:g} s ago"] if fault.stale else []),
        *([f"forged before ({fault.forgery})"] if fault.forgery else []),
        *(["out of order"] if fault.held or fault.releases else []),
    ]
    return f"fault     callback {callback.out_trade_no}: {', '.join(words)}", "yellow"

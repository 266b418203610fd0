"""The lines of a sandbox's terminal: what happened, on one line, without secrets."""

from __future__ import annotations

import pytest

from wxpay_async.cli.sandbox_lines import describe_event, print_line
from wxpay_async.sandbox.callback_payloads import Callback
from wxpay_async.sandbox.callbacks import Delivery
from wxpay_async.sandbox.console.journal import SeenCall
from wxpay_async.sandbox.fault_kinds import Forgery
from wxpay_async.sandbox.fault_queue import CallbackFault
from wxpay_async.sandbox.server import SandboxEvent

PAY = "/api/instant/pay/wxminiprogram"
CALLBACK = Callback(
    app_key="app", kind="trade", out_trade_no="A1", fields={"trade_status": "TRADE_SUCCESS"}
)
DONE = b'{"status": 1}'


def make_call(**changes: str) -> SeenCall:
    """Make a call of a pay."""
    return SeenCall(number=1, at=0.0, address="127.0.0.1", **{"path": PAY, **changes})


def deliver(answer: bytes = DONE, **changes: object) -> Delivery:
    """Make a delivery that was answered."""
    values = {"callback": CALLBACK, "attempt": 1, "pairs": (("sign", "SECRET"),), "status": 200}
    return Delivery(**{**values, "answer": answer, **changes})


@pytest.mark.parametrize(
    ("event", "text", "colour"),
    [
        (make_call(order="A1", request_id="p1"), "pay A1 p1 ok", None),
        (make_call(request_id="p1"), "pay - p1 ok", None),
        (
            make_call(request_id="p1", code="CO_MSG_000006", message="bad signature"),
            "pay - p1 refused CO_MSG_000006 bad signature",
            "red",
        ),
        (
            make_call(fault="drop_after_commit", message="executed"),
            "fault drop_after_commit: pay, executed",
            "yellow",
        ),
        (
            make_call(path="/api/pay", code="404", message="there is nothing here"),
            "POST /api/pay - refused 404 there is nothing here",
            "red",
        ),
        (deliver(), "callback A1 TRADE_SUCCESS #1 HTTP 200 acknowledged", None),
        (
            deliver(b"no", attempt=2, status=500),
            "callback A1 TRADE_SUCCESS #2 HTTP 500 not acknowledged",
            "red",
        ),
        (
            deliver(status=None, problem="TimeoutError"),
            "callback A1 TRADE_SUCCESS #1 no answer: TimeoutError",
            "red",
        ),
        (
            deliver(b"no", forgery=Forgery.AMOUNT),
            "callback A1 TRADE_SUCCESS #1 forged (amount) HTTP 200 not acknowledged",
            None,
        ),
        (
            deliver(forgery=Forgery.AMOUNT),
            "callback A1 TRADE_SUCCESS #1 forged (amount) HTTP 200 acknowledged",
            "red",
        ),
        ((CALLBACK, CallbackFault(lost=True)), "fault callback A1: lost", "yellow"),
        (
            (CALLBACK, CallbackFault(copies=2, pause=5, stale=60, forgery=Forgery.BARE, held=True)),
            (
                "fault callback A1: 2 copies, 5 s late, signed 60 s ago, forged before (bare), "
                "out of order"
            ),
            "yellow",
        ),
    ],
)
def test_event_is_one_line(event: SandboxEvent, text: str, colour: str | None) -> None:
    """What went wrong is red, what was ordered is yellow."""
    assert describe_event(event) == (text, colour)


@pytest.mark.parametrize(
    ("event", "text"),
    [
        (make_call(order="A1", request_id="p1"), "pay A1 p1 成功"),
        (
            make_call(request_id="p1", code="CO_MSG_000006", message="bad signature"),
            "pay - p1 拒绝 CO_MSG_000006 bad signature",
        ),
        (
            make_call(fault="drop_after_commit", message="executed"),
            "故障 drop_after_commit：pay，executed",
        ),
        (deliver(), "回调 A1 TRADE_SUCCESS #1 HTTP 200 已确认收到"),
        (
            deliver(b"no", forgery=Forgery.AMOUNT),
            "回调 A1 TRADE_SUCCESS #1 伪造（amount） HTTP 200 未确认收到",
        ),
        (
            deliver(status=None, problem="TimeoutError"),
            "回调 A1 TRADE_SUCCESS #1 没有应答：TimeoutError",
        ),
        ((CALLBACK, CallbackFault(lost=True)), "故障 回调 A1：丢失"),
        (
            (CALLBACK, CallbackFault(copies=2, pause=5, stale=60, forgery=Forgery.BARE, held=True)),
            "故障 回调 A1：发送 2 份，推迟 5 秒，签名于 60 秒前，先发一份伪造的（bare），顺序打乱",
        ),
    ],
)
def test_event_is_one_line_in_chinese(
    event: SandboxEvent, text: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Names and codes are the same in both languages."""
    monkeypatch.setenv("WXPAY_LANG", "zh")
    assert text == describe_event(event)[0]


def test_text_of_a_caller_cannot_control_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """Nor begin a line of its own."""
    print_line(make_call(order="A1\x1b[2J\nok", request_id="p\u202e1"))
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "\x1b" not in err
    assert "\u202e" not in err

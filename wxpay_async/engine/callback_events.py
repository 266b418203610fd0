"""Tell hooks and the log what became of each callback."""

from __future__ import annotations

import enum
import logging
from collections.abc import Callable, Sequence
from typing import Final, TypeAlias

from attrs import define, frozen

from wxpay_async.engine.telemetry import Event, EventKind, Telemetry
from wxpay_async.protocol.notify import Notification

_LOG: Final = logging.getLogger("wxpay_async.engine.callbacks")


class Verdict(enum.StrEnum):
    """The result of one delivery of a callback."""

    HANDLED = "handled"
    DUPLICATE = "duplicate"
    LATE = "late"
    REFUSED = "refused"
    BUSY = "busy"
    UNCONFIRMED = "unconfirmed"
    UNWANTED = "unwanted"
    FAILED = "failed"
    SLOW = "slow"


ACKNOWLEDGED: Final = frozenset({Verdict.HANDLED, Verdict.DUPLICATE, Verdict.LATE})
"""These are answered as handled; the platform repeats all others."""

_QUIET: Final = frozenset({Verdict.HANDLED, Verdict.DUPLICATE, Verdict.BUSY})


@frozen(kw_only=True)
class CallbackEvent:
    """One delivery, for hooks. After SLOW a second event follows when the handler has ended.

    Attributes:
        verdict: its result.
        notification: the notification; None if it was refused.
        reason: the cause, without the value of any field.
    """

    verdict: Verdict
    notification: Notification | None = None
    reason: str = ""


CallbackHook: TypeAlias = Callable[[CallbackEvent], None]


@define(eq=False)
class CallbackReports:
    """Reports for one receiver.

    Attributes:
        telemetry: tells the gateway's hooks when a callback begins and ends.
        hooks: called with every `CallbackEvent`.
    """

    telemetry: Telemetry
    hooks: Sequence[CallbackHook]

    def emit(self, event: CallbackEvent) -> None:
        """Write the line of one delivery, and call the hooks."""
        level = logging.INFO if event.verdict in _QUIET else logging.WARNING
        number = number_of(event.notification)
        extra = {"wxpay_out_trade_no": number, "wxpay_verdict": str(event.verdict)}
        line = "callback %s: %s %s"
        _LOG.log(level, line, number or "-", event.verdict, event.reason, extra=extra)
        for hook in self.hooks:
            try:
                hook(event)
            except Exception as error:  # noqa: BLE001 - the answer must not depend on a hook
                _LOG.error("a hook failed on callback %s", number or "-", exc_info=error)

    def started(self, notification: Notification) -> None:
        """Tell the gateway's hooks that a callback is being looked into."""
        self._tell(EventKind.CALLBACK_STARTED, notification)

    def ended(
        self, notification: Notification | None, verdict: Verdict, seconds: float = 0.0
    ) -> None:
        """Tell the gateway's hooks what became of it; None for one that could not be read."""
        self._tell(EventKind.CALLBACK_ENDED, notification, verdict, seconds)

    def _tell(
        self,
        kind: EventKind,
        notification: Notification | None,
        verdict: str = "",
        seconds: float = 0.0,
    ) -> None:
        if self.telemetry.hooks:
            self.telemetry.emit(
                Event(
                    kind=kind,
                    operation="callback",
                    app_key=self.telemetry.app_key,
                    out_trade_no=number_of(notification),
                    verdict=str(verdict),
                    seconds=seconds,
                )
            )


def number_of(notification: Notification | None) -> str | None:
    """Return the number of the order, or of the refund, that a callback names."""
    return None if notification is None else notification.out_trade_no

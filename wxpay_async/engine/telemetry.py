"""Tell hooks what happens inside: one event class, the hooks of a gateway, and one that logs.

An event names operations, codes and numbers. It never holds a secret, a signature, a payToken, a
prepay or an openid, so whatever a hook does with it, none of them can leak.
"""

from __future__ import annotations

import enum
import logging
import re
from collections.abc import Callable, Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final, Protocol
from urllib.parse import urlsplit

from attrs import define, frozen

from wxpay_async.errors import (
    ClockSkewError,
    ConfigurationRefusedError,
    Fate,
    IdempotencyConflictError,
    InvalidKeyError,
    PlatformConflictError,
    WxPayError,
)
from wxpay_async.policy.record import IdempotencyRecord
from wxpay_async.policy.states import REVIEW, State

_LOG: Final = logging.getLogger("wxpay_async")
_PORTS: Final[Mapping[str, int]] = MappingProxyType({"http": 80, "https": 443})
_NOTHING: Final[Mapping[str, int]] = MappingProxyType({})
_FOR_A_PERSON: Final = (
    ClockSkewError,
    ConfigurationRefusedError,
    IdempotencyConflictError,
    InvalidKeyError,
    PlatformConflictError,
)
_CODE: Final = re.compile(r"[A-Z]{2,8}(?:_[A-Z]{2,8}){1,3}_[0-9]{1,10}", re.ASCII)


class EventKind(enum.StrEnum):
    """What a hook hears of.

    `CALL_STARTED` and `OUTCOME` are told once each for every call, in the caller's own context
    (`contextvars`); attempts in a copy of it. `WAITED` tells for how many `seconds` a call waited
    for one thing, see `waited_for`; it comes as often as the call waited. `SETTLED` tells that an
    operation which the platform had accepted came to its end. `REVIEW_NEEDED` tells of an operation
    that only a person can settle: ask the platform's support about it, and see
    `PayGateway.open_operations`. `PAUSED` tells that `pay_many` or its like starts no call for so
    many `seconds`, since those before it failed in a row; it comes again with each probe that
    fails, and `RESUMED` once one is answered. `CALLBACK_STARTED` and `CALLBACK_ENDED` are told of a
    callback, in the context in which its query and its handler run; of one that was refused at
    once, only its end.
    """

    CALL_STARTED = "call_started"
    ATTEMPT_STARTED = "attempt_started"
    ATTEMPT_ENDED = "attempt_ended"
    WAITED = "waited"
    SLOWED_DOWN = "slowed_down"
    DOUBT_OPENED = "doubt_opened"
    DOUBT_CLOSED = "doubt_closed"
    SETTLED = "settled"
    REVIEW_NEEDED = "review_needed"
    PAUSED = "paused"
    RESUMED = "resumed"
    OUTCOME = "outcome"
    CALLBACK_STARTED = "callback_started"
    CALLBACK_ENDED = "callback_ended"


@frozen(kw_only=True)
class Event:
    """One thing that happened.

    Attributes:
        kind: what happened.
        operation: pay, trade, query, refund, merchants, call or callback; empty where no single one
            is meant (`SLOWED_DOWN`: another program uses the appKey's quota).
        app_key: whose operation. An id, no secret; one process has few of them.
        request_id: the idempotency key, where there is one.
        out_trade_no: the merchant's number of the order or refund, where it is known.
        attempt: the number of the attempt, from 1.
        fate: `ok`, or the `Fate` of the error; of an outcome also `cancelled`, the caller gave up,
            and `broken`, something raised that is no error of the SDK's; empty while it is open.
        code: the platform's errorCode, where there is one.
        needs_person: the error is one that only a person can put right: keys, settings, the clock,
            or a requestId that is used twice.
        seconds: how long it took; of `PAUSED`, how long it will take.
        replayed: the outcome came from the store or from another caller's flight.
        shared: the outcome came from another caller's flight.
        url: where an attempt went; without a query, which may be signed.
        status: the HTTP status that an attempt got, None for no answer.
        state: where the operation stands, of `SETTLED` and `REVIEW_NEEDED`, and of a doubt that was
            closed by a query or a person.
        waited_for: what a call waited for, of `WAITED`: `quota`, `connection`, `signer` or `store`.
        verdict: what became of a callback, see `Verdict`.
        quota_in_use: slots of the quota that are taken, where that is known without asking: now
            with the limiter of one process, when a slot was last asked for with the one in Redis.
        quota_held: how many of them each lane of the quota holds; empty where it is not known.
    """

    kind: EventKind
    operation: str
    app_key: str = ""
    request_id: str | None = None
    out_trade_no: str | None = None
    attempt: int = 0
    fate: str = ""
    code: str | None = None
    needs_person: bool = False
    seconds: float = 0.0
    replayed: bool = False
    shared: bool = False
    url: str = ""
    status: int | None = None
    state: str = ""
    waited_for: str = ""
    verdict: str = ""
    quota_in_use: int | None = None
    quota_held: Mapping[str, int] = _NOTHING

    @property
    def host(self) -> str:
        """Whose host an attempt went to; empty where there was none."""
        return urlsplit(self.url).hostname or ""

    @property
    def port(self) -> int:
        """The port an attempt went to, which its scheme may imply; 0 where there was none."""
        address = urlsplit(self.url)
        return address.port or _PORTS.get(address.scheme, 0)

    @property
    def known_code(self) -> str | None:
        """The code if it has the shape of the platform's, else `other`; None where there is none.

        An errorCode is what the other side wrote: a label of a metric, or a line of a log, must
        not hold whatever that may be.
        """
        return known_code(self.code)


def known_code(code: str | None) -> str | None:
    """Return a code if it has the shape of the platform's; see `Event.known_code`."""
    if not code:
        return None
    return code if _CODE.fullmatch(code) else "other"


def needs_person(error: BaseException | None) -> bool:
    """Tell whether only a person can put it right: see `Event.needs_person`."""
    return isinstance(error, _FOR_A_PERSON)


def fate_of(error: BaseException | None) -> str:
    """Return what an outcome's event says of the error that a call ended with."""
    if error is None:
        return "ok"
    if isinstance(error, WxPayError):
        return error.fate
    # What is no Exception asks to stop: a cancellation, or the end of the process.
    return "broken" if isinstance(error, Exception) else "cancelled"


_WARNINGS: Final = {
    EventKind.DOUBT_OPENED,
    EventKind.SLOWED_DOWN,
    EventKind.REVIEW_NEEDED,
    EventKind.PAUSED,
}
_ENDS: Final = {EventKind.DOUBT_CLOSED, EventKind.SETTLED, EventKind.RESUMED}
_TIMED: Final = {
    EventKind.ATTEMPT_ENDED,
    EventKind.OUTCOME,
    EventKind.WAITED,
    EventKind.PAUSED,
    EventKind.CALLBACK_ENDED,
}


class Hook(Protocol):
    """Called with every event, in the event loop: it must be quick and must not raise."""

    def __call__(self, event: Event, /) -> None:
        """Take note."""
        ...


@define(eq=False)
class Telemetry:
    """Tells the hooks of one gateway.

    Attributes:
        app_key: whose gateway.
        hooks: called in turn with every event.
    """

    app_key: str
    hooks: Sequence[Hook] = ()

    def emit(self, event: Event) -> None:
        """Call every hook; one that breaks its promise not to raise must lose no answer."""
        for hook in self.hooks:
            try:
                hook(event)
            except Exception:  # noqa: BLE001 - code of others, see above
                _LOG.exception("a hook raised on %s", _line(event))

    def call_started(
        self, operation: str, request_id: str | None, out_trade_no: str | None = None
    ) -> None:
        """Tell of a call that begins."""
        if self.hooks:
            self.emit(
                Event(
                    kind=EventKind.CALL_STARTED,
                    operation=operation,
                    app_key=self.app_key,
                    request_id=request_id,
                    out_trade_no=out_trade_no,
                )
            )

    def waited(
        self, operation: str, asked: object, waited_for: str, seconds: float, *, attempt: int
    ) -> None:
        """Tell for how long a call waited, and for what.

        Args:
            operation: its name.
            asked: what has its requestId and order number: a record, or a query.
            waited_for: see `Event`.
            seconds: how long.
            attempt: the number of the attempt that waited, 0 before the first one.
        """
        self.emit(
            Event(
                kind=EventKind.WAITED,
                operation=operation,
                app_key=self.app_key,
                request_id=getattr(asked, "request_id", None),
                out_trade_no=getattr(asked, "out_trade_no", None),
                attempt=attempt,
                seconds=seconds,
                waited_for=waited_for,
            )
        )

    def call_ended(
        self,
        operation: str,
        request_id: str | None,
        seconds: float,
        *,
        out_trade_no: str | None = None,
        error: BaseException | None = None,
        result: Any = None,  # noqa: ANN401 - any of the results
        shared: bool = False,
    ) -> None:
        """Tell of a call's end: its error, or its result."""
        if not self.hooks:
            return
        outcome = error if isinstance(error, WxPayError) else result
        self.emit(
            Event(
                kind=EventKind.OUTCOME,
                operation=operation,
                app_key=self.app_key,
                request_id=request_id,
                out_trade_no=out_trade_no,
                attempt=outcome.attempts if outcome else 0,
                fate=fate_of(error),
                code=error.code if isinstance(error, WxPayError) else None,
                needs_person=needs_person(error),
                seconds=seconds,
                replayed=shared or (outcome is not None and outcome.replayed),
                shared=shared,
            )
        )

    def state_changed(self, before: State, after: IdempotencyRecord) -> None:
        """Tell what became of an operation by a query, or by a person's word."""
        kind = EventKind.SETTLED if before is State.PENDING else EventKind.DOUBT_CLOSED
        self.emit(
            Event(
                kind=EventKind.REVIEW_NEEDED if after.state in REVIEW else kind,
                operation=after.operation,
                app_key=self.app_key,
                request_id=after.request_id,
                out_trade_no=after.out_trade_no,
                attempt=after.attempts,
                state=after.state.value,
            )
        )

    def pause_changed(self, operation: str, seconds: float) -> None:
        """Tell that many requests pause for so many seconds; 0 for the end of the pauses."""
        self.emit(
            Event(
                kind=EventKind.PAUSED if seconds else EventKind.RESUMED,
                operation=operation,
                app_key=self.app_key,
                seconds=seconds,
            )
        )


def read_held(limiter: object) -> Mapping[str, int]:
    """Return how many slots each lane of a limiter holds; nothing if it does not tell."""
    held: Callable[[], Mapping[str, int]] | None = getattr(limiter, "held", None)
    return {} if held is None else held()


def logging_hook(logger: logging.Logger | None = None) -> Hook:
    """Make a hook that writes a line for each attempt, doubt, review, slow-down and pause.

    The fields of the event stand in `extra` under `wxpay_` names, for structured handlers. What
    went well and what the platform refused as such is INFO. What got no answer, and what needs a
    person, is WARNING. What only repeats another line is DEBUG, such as an outcome.

    Args:
        logger: where to; `wxpay_async` by default.
    """
    log = logger or logging.getLogger("wxpay_async")

    def hook(event: Event) -> None:
        level = _level(event)
        if not log.isEnabledFor(level):
            return
        extra = {
            "wxpay_event": str(event.kind),
            "wxpay_operation": event.operation,
            "wxpay_request_id": event.request_id,
            "wxpay_out_trade_no": event.out_trade_no,
            "wxpay_attempt": event.attempt,
            "wxpay_fate": event.fate,
            "wxpay_code": event.known_code,
            "wxpay_status": event.status,
            "wxpay_state": event.state,
            "wxpay_waited_for": event.waited_for,
            "wxpay_verdict": event.verdict,
            "wxpay_seconds": round(event.seconds, 6),
        }
        log.log(level, "%s", _line(event), extra=extra)

    return hook


def _level(event: Event) -> int:
    if event.kind is EventKind.ATTEMPT_ENDED:
        calm = event.fate == "ok" or (event.fate == Fate.REFUSED and not event.needs_person)
        return logging.INFO if calm else logging.WARNING
    if event.kind is EventKind.OUTCOME and event.needs_person and not event.attempt:
        return logging.WARNING  # no line of an attempt tells of it
    if event.kind in _WARNINGS:
        return logging.WARNING
    return logging.INFO if event.kind in _ENDS else logging.DEBUG


def _line(event: Event) -> str:
    parts = [str(event.kind), event.operation]
    if event.request_id:
        parts.append(f"requestId={event.request_id}")
    if event.out_trade_no:
        parts.append(f"order={event.out_trade_no}")
    if event.waited_for:
        parts.append(f"for={event.waited_for}")
    if event.attempt:
        parts.append(f"attempt={event.attempt}")
    if event.state:
        parts.append(f"state={event.state}")
    if event.verdict:
        parts.append(f"verdict={event.verdict}")
    if event.fate:
        parts.append(f"fate={event.fate}")
    if event.code:
        parts.append(f"code={event.known_code}")
    if event.kind in _TIMED:
        parts.append(f"{event.seconds * 1000:.1f} ms")
    return " ".join(part for part in parts if part)

"""Report spans and metrics to OpenTelemetry (extra `otel`), and to Prometheus by its exporter.

`wxpay <operation>` is the span of a call, a child of the caller's span. `POST`, by the HTTP
conventions, is the span of an attempt, a child of its call. `wxpay callback` is the span of a
callback, a child of the web server's; its query and the spans of its handler are its children. The
trace context is not sent to the platform. A requestId and an order's number stand in spans only,
since metrics must have few names and labels. A code that does not look like one of the platform's
becomes `other`.

`wxpay.in_doubt.open` counts the doubts that this process opened and has not seen closed.
`wxpay.reviews.needed` counts the operations that only a person can settle: alert on it.

`docs/monitoring.md` has a dashboard and rules for alerts that are made of these:

| metric | kind | labels |
| --- | --- | --- |
| `wxpay.attempts` | counter | operation, fate, code |
| `wxpay.outcomes` | counter | operation, fate, code |
| `wxpay.calls.shared` | counter | operation |
| `http.client.request.duration` | histogram, s | the HTTP conventions' |
| `wxpay.call.duration` | histogram, s | operation, fate, code |
| `wxpay.wait.duration` | histogram, s | operation, waited_for |
| `wxpay.quota.in_use` | gauge, as of the last attempt | app_key |
| `wxpay.quota.held` | gauge, as of the last attempt | app_key, lane |
| `wxpay.in_doubt.open` | up-down counter | operation |
| `wxpay.reviews.needed` | counter | operation |
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token
from typing import Final

from attrs import define, field, frozen

from wxpay_async import __version__
from wxpay_async.engine.callback_events import Verdict
from wxpay_async.engine.telemetry import Event, EventKind
from wxpay_async.extras import how_to_install

try:
    from opentelemetry import context, metrics, trace
except ImportError as error:
    raise ImportError(f"OpenTelemetry is missing: {how_to_install('otel')}") from error

_NANOSECONDS: Final = 1_000_000_000

_SCOPE: Final = ("wxpay_async", __version__)
_SCHEMA: Final = "https://opentelemetry.io/schemas/1.26.0"
"""Of the HTTP conventions that names and attributes follow."""

# The buckets of the HTTP conventions, and the 30 s that a call may last. The SDK's own buckets are
# made for milliseconds, and every call would fall into the first one.
_SECONDS: Final = (
    *(0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 30.0),
)

Labels = dict[str, str | int]
DoubtKey = tuple[str, str, str | None]
"""appKey, operation and requestId: two merchants of one process may choose the same requestId."""


@frozen(eq=False)
class _CallSpan:
    """The span of a call that has not ended, its start, and the call that made this one."""

    span: trace.Span
    began: int
    outer: _CallSpan | None


@frozen(eq=False)
class _CallbackSpan:
    """The span of a callback, its start, and what takes it back as the handler's current span."""

    span: trace.Span
    began: int
    token: Token[context.Context]


def _make_variable() -> ContextVar[_CallSpan | None]:
    return ContextVar("wxpay_call", default=None)


def _make_callback_variable() -> ContextVar[_CallbackSpan | None]:
    return ContextVar("wxpay_callback", default=None)


@define(eq=False)
class OpenTelemetryHook:
    """Reports every event to OpenTelemetry.

    Args:
        tracer: where spans go; the global provider's by default.
        meter: where metrics go; the global provider's by default.
    """

    tracer: trace.Tracer = field(factory=lambda: trace.get_tracer(*_SCOPE, schema_url=_SCHEMA))
    meter: metrics.Meter = field(factory=lambda: metrics.get_meter(*_SCOPE, schema_url=_SCHEMA))
    _attempts: metrics.Counter = field(init=False)
    _outcomes: metrics.Counter = field(init=False)
    _shared: metrics.Counter = field(init=False)
    _requests: metrics.Histogram = field(init=False)
    _calls: metrics.Histogram = field(init=False)
    _waits: metrics.Histogram = field(init=False)
    _doubts: metrics.UpDownCounter = field(init=False)
    _reviews: metrics.Counter = field(init=False)
    _set_in_use: Callable[[int, Labels], None] = field(init=False)
    _set_held: Callable[[int, Labels], None] = field(init=False)
    _open: set[DoubtKey] = field(factory=set[DoubtKey], init=False)
    # One for each hook, since each has its own spans. A hook lives as long as the process.
    _call: ContextVar[_CallSpan | None] = field(factory=_make_variable, init=False)
    _callback: ContextVar[_CallbackSpan | None] = field(factory=_make_callback_variable, init=False)

    def __attrs_post_init__(self) -> None:
        meter = self.meter
        self._attempts = meter.create_counter(
            "wxpay.attempts", "{attempt}", "Attempts, by how they ended."
        )
        self._outcomes = meter.create_counter(
            "wxpay.outcomes", "{call}", "Calls, by how they ended."
        )
        self._shared = meter.create_counter(
            "wxpay.calls.shared", "{call}", "Calls that got the outcome of another one."
        )
        self._requests = _histogram(
            meter, "http.client.request.duration", "Duration of HTTP client requests."
        )
        self._calls = _histogram(
            meter, "wxpay.call.duration", "Duration of calls, with waiting and retries."
        )
        self._waits = _histogram(
            meter, "wxpay.wait.duration", "How long calls waited for one thing."
        )
        self._reviews = meter.create_counter(
            "wxpay.reviews.needed", "{operation}", "Operations that only a person can settle."
        )
        self._set_in_use = meter.create_gauge(
            "wxpay.quota.in_use", "{slot}", "Slots of the quota that are taken."
        ).set
        self._set_held = meter.create_gauge(
            "wxpay.quota.held", "{slot}", "Slots of the quota that a lane holds."
        ).set
        self._doubts = meter.create_up_down_counter(
            "wxpay.in_doubt.open", "{operation}", "Doubts opened here and not seen closed."
        )

    def __call__(self, event: Event, /) -> None:
        """Record an event."""
        operation: Labels = {"wxpay.operation": event.operation}
        if event.kind is EventKind.CALL_STARTED:
            self._call.set(self._start_call(event))
        elif event.kind is EventKind.ATTEMPT_ENDED:
            self._record_attempt(event)
        elif event.kind is EventKind.OUTCOME:
            self._record_outcome(event)
        elif event.kind is EventKind.CALLBACK_STARTED:
            self._start_callback(event)
        elif event.kind is EventKind.CALLBACK_ENDED:
            self._end_callback(event)
        elif event.kind is EventKind.WAITED:
            self._waits.record(event.seconds, {**operation, "wxpay.waited_for": event.waited_for})
        elif event.kind in {EventKind.DOUBT_OPENED, EventKind.DOUBT_CLOSED}:
            self._record_doubt(event, operation)
        elif event.kind is EventKind.REVIEW_NEEDED:
            self._reviews.add(1, operation)
        self._record_quota(event)

    def _record_quota(self, event: Event) -> None:
        if event.quota_in_use is not None:
            self._set_in_use(event.quota_in_use, {"wxpay.app_key": event.app_key})
        for lane, slots in event.quota_held.items():
            self._set_held(slots, {"wxpay.app_key": event.app_key, "wxpay.lane": lane})

    def _record_doubt(self, event: Event, operation: Labels) -> None:
        # A doubt that another process opened may be closed here; the count must not go below zero.
        doubt = (event.app_key, event.operation, event.request_id)
        before = len(self._open)
        if event.kind is EventKind.DOUBT_OPENED:
            self._open.add(doubt)
        else:
            self._open.discard(doubt)
        if len(self._open) != before:
            self._doubts.add(len(self._open) - before, operation)

    def _record_attempt(self, event: Event) -> None:
        self._attempts.add(1, _labels(event))
        http: Labels = {
            "http.request.method": "POST",
            "server.address": event.host,
            "server.port": event.port,
        }
        if event.status is not None:
            http["http.response.status_code"] = event.status
        if event.fate != "ok":
            http["error.type"] = event.known_code or event.fate
        self._requests.record(event.seconds, http)
        attributes = {**http, "url.full": event.url, "wxpay.operation": event.operation}
        if event.attempt > 1:
            attributes["http.request.resend_count"] = event.attempt - 1
        span, began = self._open_span("POST", trace.SpanKind.CLIENT, event)
        _end(span, began, event, attributes)

    def _record_outcome(self, event: Event) -> None:
        labels = _labels(event)
        self._outcomes.add(1, labels)
        self._calls.record(event.seconds, labels)
        if event.shared:
            self._shared.add(1, {"wxpay.operation": event.operation})
        labels = {**labels, "wxpay.replayed": event.replayed}
        call = self._call.get()
        if call is None:  # the hook was added after its start
            call = self._start_call(event)
        self._call.set(call.outer)
        _end(call.span, call.began, event, labels)

    def _start_callback(self, event: Event) -> _CallbackSpan:
        span, began = self._open_span("wxpay callback", trace.SpanKind.INTERNAL, event)
        token = context.attach(trace.set_span_in_context(span))
        callback = _CallbackSpan(span, began, token)
        self._callback.set(callback)
        return callback

    def _end_callback(self, event: Event) -> None:
        # One that was turned away at once has no start.
        callback = self._callback.get() or self._start_callback(event)
        context.detach(callback.token)
        self._callback.set(None)
        callback.span.set_attribute("wxpay.verdict", event.verdict)
        if event.verdict == Verdict.FAILED:
            callback.span.set_status(trace.StatusCode.ERROR, event.verdict)
        callback.span.end(callback.began + round(event.seconds * _NANOSECONDS))

    def _start_call(self, event: Event) -> _CallSpan:
        span, began = self._open_span(f"wxpay {event.operation}", trace.SpanKind.INTERNAL, event)
        return _CallSpan(span, began, self._call.get())

    def _open_span(self, name: str, kind: trace.SpanKind, event: Event) -> tuple[trace.Span, int]:
        """Start a span as a child of the current call, else of the caller's span."""
        call = self._call.get()
        began = time.time_ns() - round(event.seconds * _NANOSECONDS)
        span = self.tracer.start_span(
            name,
            context=trace.set_span_in_context(call.span) if call else None,
            kind=kind,
            start_time=began,
            attributes=_names(event),
        )
        return span, began


def _end(span: trace.Span, began: int, event: Event, labels: Mapping[str, str | int]) -> None:
    span.set_attributes({**labels, "wxpay.attempt": event.attempt})
    if event.fate != "ok":
        span.set_status(trace.StatusCode.ERROR, event.known_code or event.fate)
    span.end(began + round(event.seconds * _NANOSECONDS))


def _histogram(meter: metrics.Meter, name: str, description: str) -> metrics.Histogram:
    return meter.create_histogram(
        name, "s", description, explicit_bucket_boundaries_advisory=_SECONDS
    )


def _names(event: Event) -> Labels:
    names = {"request_id": event.request_id, "out_trade_no": event.out_trade_no}
    known = {f"wxpay.{name}": value for name, value in names.items() if value is not None}
    return {"wxpay.operation": event.operation, **known}


def _labels(event: Event) -> Labels:
    labels: Labels = {"wxpay.operation": event.operation, "wxpay.fate": event.fate}
    return {**labels, "wxpay.code": event.known_code} if event.known_code else labels

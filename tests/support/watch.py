"""Spans and metrics of OpenTelemetry, as an exporter reads them."""

from __future__ import annotations

from collections.abc import Callable

from attrs import define, field
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import (
    HistogramDataPoint,
    InMemoryMetricReader,
    NumberDataPoint,
)
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from tests.support.clock import MovedClock
from wxpay_async.integrations.opentelemetry import OpenTelemetryHook

Labels = tuple[tuple[str, object], ...]


@define(eq=False)
class Watch:
    """A hook, and the spans and metrics that it made."""

    spans: InMemorySpanExporter = field(factory=InMemorySpanExporter)
    reader: InMemoryMetricReader = field(factory=InMemoryMetricReader)
    tracer: trace.Tracer = field(init=False)
    meters: MeterProvider = field(init=False)
    hook: OpenTelemetryHook = field(init=False)

    def __attrs_post_init__(self) -> None:
        tracers = TracerProvider()
        tracers.add_span_processor(SimpleSpanProcessor(self.spans))
        self.meters = MeterProvider(metric_readers=[self.reader])
        self.tracer = tracers.get_tracer("test")
        self.hook = OpenTelemetryHook(self.tracer, self.meters.get_meter("test"))

    def list_spans(self, name: str | None = None) -> list[ReadableSpan]:
        """Return the finished spans, all or those of a name."""
        return [s for s in self.spans.get_finished_spans() if name in (None, s.name)]

    def points(self) -> dict[str, list[NumberDataPoint | HistogramDataPoint]]:
        """Return the data points of each metric."""
        data = self.reader.get_metrics_data()
        return {
            metric.name: list(metric.data.data_points)
            for resource in (data.resource_metrics if data else ())
            for scope in resource.scope_metrics
            for metric in scope.metrics
        }

    def values(self, name: str) -> dict[Labels, float]:
        """Return a metric's value, or a histogram's sum, for each set of labels."""
        return {
            tuple(sorted((point.attributes or {}).items())): (
                point.sum if isinstance(point, HistogramDataPoint) else point.value
            )
            for point in self.points().get(name, [])
        }


def answer_slowly(clock: MovedClock, reply: object, *seconds: float) -> Callable[..., object]:
    """Return a handler that moves the clock before each reply."""
    pauses = iter(seconds)

    async def answer(_: object) -> object:
        clock.move(next(pauses))
        return reply

    return answer

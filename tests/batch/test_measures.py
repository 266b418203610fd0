"""Histograms and timelines: many outcomes, and few counters."""

from __future__ import annotations

import sys
from datetime import timedelta

from hypothesis import given, strategies as st

from tests.support.outcomes import NOON
from wxpay_async.batch.measures import SPANS_KEPT, Histogram, Timeline


def test_timeline_takes_longer_spans_where_there_are_too_many() -> None:
    """No outcome is lost, and each stays within its span."""
    timeline = Timeline[str]()
    for minute in range(2 * SPANS_KEPT + 1):
        timeline.add(NOON + timedelta(minutes=minute), "ok")

    assert 240 == timeline.width
    assert int(NOON.timestamp()) // 240 in timeline.spans
    assert {4} == {counts["ok"] for counts in list(timeline.spans.values())[1:-1]}


@given(st.lists(st.floats(0.001, 1e7), min_size=1, max_size=300), st.floats(0.01, 1.0))
def test_quantile_is_exact_to_two_percent_and_never_too_low(
    durations: list[float], share: float
) -> None:
    """Against the sorted list."""
    histogram = Histogram()
    for seconds in durations:
        histogram.add(seconds)

    rank = next(n for n in range(1, len(durations) + 1) if n >= share * len(durations))
    exact = sorted(durations)[rank - 1]
    found = histogram.quantile(share)
    assert found is not None
    assert exact * 0.999999 <= found <= exact * 1.020001
    assert found <= histogram.longest == max(durations)


def test_quantile_of_nothing_is_none() -> None:
    """There is no latency of no line."""
    assert Histogram().quantile(0.5) is None


def test_histogram_of_any_duration_has_a_bounded_number_of_steps() -> None:
    """From zero to what no store keeps."""
    histogram = Histogram()
    for exponent in range(-400, 1000):
        histogram.add(min(1.1**exponent, sys.float_info.max))

    assert 1300 > max(histogram._steps)
    assert 0 == min(histogram._steps)

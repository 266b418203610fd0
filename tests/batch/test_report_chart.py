"""Bars of outcomes by minute."""

from __future__ import annotations

from datetime import UTC, timedelta

import pytest

from tests.support.outcomes import NOON
from wxpay_async.batch.measures import Timeline
from wxpay_async.batch.report_chart import BARS, HEIGHT, LOWEST, Chart, draw_chart
from wxpay_async.batch.tally import LABELS, Label


def chart_of(*moments: float) -> Chart:
    """Draw outcomes at these minutes after noon."""
    timeline = Timeline[Label]()
    for minutes in moments:
        timeline.add(NOON + timedelta(minutes=minutes), "ok")
    chart = draw_chart(timeline, UTC)
    assert chart is not None
    return chart


def test_bars_are_as_high_as_their_numbers() -> None:
    """The highest one fills the height; minutes without an outcome are there."""
    chart = chart_of(0, 0, 0, 0, 2, 2)

    assert [4, 0, 2] == [sum(bar.counts.values()) for bar in chart.bars]
    assert [[HEIGHT], [], [HEIGHT / 2]] == [[p.height for p in bar.parts] for bar in chart.bars]
    assert [0.1, 1.1, 2.1] == pytest.approx([bar.x for bar in chart.bars])
    assert NOON + timedelta(minutes=3) == chart.end


def test_one_refusal_among_thousands_can_be_seen_and_stays_on_the_canvas() -> None:
    """Also on the highest bar."""
    timeline = Timeline[Label]()
    for label in LABELS:
        for _ in range(5000 if label == "ok" else 1):
            timeline.add(NOON, label)

    chart = draw_chart(timeline, UTC)

    assert chart is not None
    [bar] = chart.bars
    assert list(LABELS) == [part.label for part in bar.parts]
    assert min(part.height for part in bar.parts) > 0.9 * LOWEST * HEIGHT
    assert 0 <= min(part.top for part in bar.parts)
    assert HEIGHT == pytest.approx(bar.parts[-1].top + sum(p.height for p in bar.parts), abs=0.1)


@pytest.mark.parametrize("minutes", [1, BARS - 1, BARS, 1000, 44 * 60, 50_000, 600_000])
def test_bars_are_few_however_long_the_batch_took(minutes: int) -> None:
    """Each lasts a round time, and none is lost."""
    chart = chart_of(0, minutes / 2, minutes)

    assert 1 < len(chart.bars) <= BARS
    assert 3 == sum(sum(bar.counts.values()) for bar in chart.bars)
    assert chart.bars[0].start <= NOON < chart.bars[0].start + chart.span
    assert chart.end - chart.span <= NOON + timedelta(minutes=minutes) < chart.end


def test_bars_of_a_batch_of_days_last_half_an_hour() -> None:
    """A million lines at the quota take 44 hours."""
    assert timedelta(minutes=30) == chart_of(0, 44 * 60).span


def test_nothing_is_drawn_of_no_outcome() -> None:
    """There is no time to begin with."""
    assert draw_chart(Timeline[Label](), UTC) is None

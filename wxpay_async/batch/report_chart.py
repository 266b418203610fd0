"""Draw outcomes by minute as stacked bars, on a canvas that is 100 high and a bar 1 wide."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from datetime import datetime, timedelta, tzinfo
from typing import Final

from attrs import frozen

from wxpay_async.batch.measures import Timeline
from wxpay_async.batch.tally import LABELS, Label

BARS: Final = 120
"""At most so many bars: on a phone each is 3 pixels wide."""

HEIGHT: Final = 100.0
LOWEST: Final = 0.015
"""Of the highest bar: a single refusal among hundreds must be seen."""

_GAP: Final = 0.2
_MOST_WITH_GAPS: Final = 60
_MINUTE: Final = 60
_MINUTES: Final = (1, 2, 5, 10, 15, 30, 60, 120, 180, 360, 720, 1440)


@frozen(kw_only=True)
class Part:
    """The outcomes of one label in a bar: where it begins from the top, and how high it is."""

    label: Label
    top: float
    height: float


@frozen(kw_only=True)
class Bar:
    """The outcomes of one span of time.

    Attributes:
        start: when it began.
        x: where its left edge is.
        counts: lines by how they ended.
        parts: what is drawn, from the bottom up.
    """

    start: datetime
    x: float
    counts: Mapping[Label, int]
    parts: list[Part]


@frozen(kw_only=True)
class Chart:
    """Bars from the first outcome to the last.

    Attributes:
        span: how long each bar lasts.
        most: lines of the highest bar.
        end: when the last bar ended.
        bars: in the order of time, empty ones included.
        width: of a bar; the rest is a gap, unless bars are many.
    """

    span: timedelta
    most: int
    end: datetime
    bars: list[Bar]
    width: float

    @property
    def labels(self) -> set[Label]:
        """What is drawn."""
        return {part.label for bar in self.bars for part in bar.parts}


def draw_chart(timeline: Timeline[Label], zone: tzinfo) -> Chart | None:
    """Draw the bars; None where no outcome has a time."""
    if not timeline.spans:
        return None
    factor = _choose_factor(timeline)
    counted, width = timeline.merge(factor), timeline.width * factor
    starts = range(min(counted), max(counted) + 1)
    gap = _GAP if len(starts) <= _MOST_WITH_GAPS else 0.0
    most = max(counts.total() for counts in counted.values())
    highest = max(sum(_measure(counts, most).values()) for counts in counted.values())
    bars = [
        Bar(
            start=datetime.fromtimestamp(start * width, zone),
            x=start - starts.start + gap / 2,
            counts=counted.get(start, {}),
            parts=list(_stack(_measure(counted.get(start, {}), most), highest)),
        )
        for start in starts
    ]
    return Chart(
        span=timedelta(seconds=width),
        most=most,
        end=datetime.fromtimestamp(starts.stop * width, zone),
        bars=bars,
        width=1 - gap,
    )


def _choose_factor(timeline: Timeline[Label]) -> int:
    """Return how many spans make a bar, so that the bars are few and last a round time."""
    first, last = min(timeline.spans), max(timeline.spans)
    rounds = _MINUTES if timeline.width == _MINUTE else ()
    doubled = (1 << power for power in itertools.count())
    return next(
        factor
        for factor in itertools.chain(rounds, doubled)
        if last // factor - first // factor < BARS
    )


def _measure(counts: Mapping[Label, int], most: int) -> dict[Label, float]:
    """Return how high each part is beside a bar of `most` lines that is 1 high."""
    return {label: max(counts[label] / most, LOWEST) for label in LABELS if counts.get(label)}


def _stack(heights: Mapping[Label, float], highest: float) -> Iterator[Part]:
    top = HEIGHT
    for label, share in heights.items():
        height = HEIGHT * share / highest
        top -= height
        yield Part(label=label, top=round(max(top, 0.0), 2), height=round(height, 2))

"""Measure a million outcomes with a bounded number of counters."""

from __future__ import annotations

import math
from collections import Counter
from datetime import datetime
from typing import Final, Generic, TypeVar

from attrs import define, field

K = TypeVar("K")

SPANS_KEPT: Final = 4096
"""Spans of time that are counted one by one."""

_STEP: Final = 1.02  # of the histogram: a quantile is at most 2 % too high
_SHORTEST: Final = 0.001
_LONGEST: Final = 400 * 24 * 3600.0  # above the retention of any store


@define(eq=False)
class Histogram:
    """Durations, counted in steps of 2 %: about 1,200 counters, however many durations.

    Attributes:
        count: how many.
        longest: the longest of them in seconds, exactly.
    """

    count: int = field(default=0, init=False)
    longest: float = field(default=0.0, init=False)
    _steps: Counter[int] = field(factory=Counter[int], init=False)

    def add(self, seconds: float) -> None:
        """Count a duration; a negative one counts as 0, since two machines' clocks may differ."""
        self.count += 1
        self.longest = max(self.longest, seconds)
        bounded = min(max(seconds, _SHORTEST), _LONGEST)
        self._steps[math.ceil(math.log(bounded / _SHORTEST, _STEP))] += 1

    def quantile(self, share: float) -> float | None:
        """Return the duration that this share does not exceed; None if nothing was counted."""
        wanted = share * self.count
        seen = 0
        for step in sorted(self._steps):
            seen += self._steps[step]
            if seen >= wanted:
                return min(float(_SHORTEST * _STEP**step), self.longest)
        return None


@define(eq=False)
class Timeline(Generic[K]):
    """Outcomes by minute; by two, four, eight minutes where there would be too many counters.

    Attributes:
        width: seconds that a span lasts.
        spans: the counts of each span, by its start in seconds since the epoch, divided by `width`.
    """

    width: int = field(default=60, init=False)
    spans: dict[int, Counter[K]] = field(factory=dict[int, "Counter[K]"], init=False)

    def add(self, moment: datetime, label: K) -> None:
        """Count an outcome."""
        start = int(moment.timestamp()) // self.width
        counts = self.spans.get(start)
        if counts is None:
            counts = self.spans[start] = Counter()
        counts[label] += 1
        while len(self.spans) > SPANS_KEPT:
            self.width, self.spans = 2 * self.width, self.merge(2)

    def merge(self, factor: int) -> dict[int, Counter[K]]:
        """Return the counts in spans that are so many times as long."""
        merged: dict[int, Counter[K]] = {}
        for start, counts in self.spans.items():
            merged.setdefault(start // factor, Counter()).update(counts)
        return merged

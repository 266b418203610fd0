"""What a measurement yields, and how large it is: the two values that every section shares."""

from __future__ import annotations

import statistics
from collections.abc import Iterator
from typing import Protocol

from attrs import frozen


@frozen(kw_only=True)
class Size:
    """How long to measure.

    Attributes:
        rounds: how often each figure is taken; every round takes them all, one after another.
        seconds: how long one rate is measured in one round.
        requests: the most requests that one run of growth makes.
        in_flight: calls at once, where rates are compared.
        rows: in the tables that are full.
    """

    rounds: int
    seconds: float
    requests: int
    in_flight: int = 64
    rows: int = 1_000_000


FULL = Size(rounds=5, seconds=0.5, requests=1_000_000)
SHORT = Size(rounds=1, seconds=0.05, requests=1_000, in_flight=8, rows=1_000)


@frozen(kw_only=True)
class Figure:
    """One quantity, measured once in every round.

    Attributes:
        section: which part of the benchmarks took it.
        name: what was measured, unique in its section.
        unit: such as "/s", "ms" or "MB".
        samples: one for each round.
    """

    section: str
    name: str
    unit: str
    samples: tuple[float, ...]

    @property
    def median(self) -> float:
        """The figure to compare."""
        return statistics.median(self.samples)

    @property
    def low(self) -> float:
        """The least of all rounds."""
        return min(self.samples)

    @property
    def high(self) -> float:
        """The most of all rounds."""
        return max(self.samples)


class Section(Protocol):
    """A module of this folder that measures."""

    def run(self, size: Size) -> Iterator[Figure]:
        """Measure, and yield each figure once it is complete."""
        ...

"""What the figures should come to, as data; nothing fails when they do not.

A comparison is the median of the ratios of its rounds: what slowed one round down slowed both of
its sides down.
"""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from attrs import frozen

from benchmarks.figures import Figure

Key = tuple[str, str]
"""Section and name."""
Figures = Mapping[Key, Figure]
Measure = Callable[[Figures], float | None]
"""Returns None where one of its figures was not taken."""


@frozen(kw_only=True)
class Target:
    """A limit for what some figures come to.

    Attributes:
        name: what is compared.
        unit: of the limit, `times` for a comparison.
        limit: the least or the most it should be.
        at_most: it is the most.
        measure: takes the figures.
        less: takes what something that does less of the job comes to in the same run.
    """

    name: str
    unit: str
    limit: float
    at_most: bool = False
    measure: Measure
    less: Measure = lambda _: None

    def is_met_by(self, measured: float) -> bool:
        """Tell whether the limit is kept."""
        return measured <= self.limit if self.at_most else measured >= self.limit


@frozen(kw_only=True)
class Result:
    """A target, and what was measured."""

    target: Target
    measured: float
    less: float | None = None

    @property
    def met(self) -> bool:
        """Whether the limit is kept."""
        return self.target.is_met_by(self.measured)


def results(figures: Iterable[Figure]) -> Iterator[Result]:
    """Yield a result for each target whose figures are all at hand."""
    found = {(figure.section, figure.name): figure for figure in figures}
    for target in TARGETS:
        measured = target.measure(found)
        if measured is not None:
            yield Result(target=target, measured=measured, less=target.less(found))


def median(section: str, name: str) -> Measure:
    """Measure one figure by itself."""
    return lambda figures: figures[section, name].median if (section, name) in figures else None


def ratio(section: str, name: str, other: str) -> Measure:
    """Measure one figure by another one of its section."""

    def measure(figures: Figures) -> float | None:
        if (section, name) not in figures or (section, other) not in figures:
            return None
        pairs = zip(figures[section, name].samples, figures[section, other].samples, strict=True)
        return statistics.median(sample / beside for sample, beside in pairs)

    return measure


def added(section: str, name: str, other: str) -> Measure:
    """Measure the microseconds that one rate takes more than another one of its section."""

    def measure(figures: Figures) -> float | None:
        if (section, name) not in figures or (section, other) not in figures:
            return None
        pairs = zip(figures[section, name].samples, figures[section, other].samples, strict=True)
        return statistics.median(1e6 / sample - 1e6 / beside for sample, beside in pairs)

    return measure


def difference(section: str, name: str, other: str) -> Measure:
    """Measure by how much one figure is more than another one of its section."""

    def measure(figures: Figures) -> float | None:
        if (section, name) not in figures or (section, other) not in figures:
            return None
        pairs = zip(figures[section, name].samples, figures[section, other].samples, strict=True)
        return statistics.median(sample - beside for sample, beside in pairs)

    return measure


_DATABASES: Final = ("SQLite", "PostgreSQL", "MariaDB")
_AIOHTTP: Final = "aiohttp, asyncio, 64 in flight"
_ALONE: Final = "aiohttp, asyncio, 1 in flight"
_REQWEST: Final = "reqwest, uvloop, 64 in flight"

TARGETS: Final = (
    *(
        Target(
            name=f"pay by MD5, to the least ({way})",
            unit="times",
            limit=0.85,
            measure=ratio("pay", f"pay, MD5, {way}", f"the least, MD5, {way}"),
        )
        for way in (_AIOHTTP, _REQWEST)
    ),
    Target(
        name="pay by MD5, to its transport alone (aiohttp, asyncio)",
        unit="times",
        limit=0.5,
        measure=ratio("pay", f"pay, MD5, {_AIOHTTP}", f"transport alone, {_AIOHTTP}"),
        less=ratio("pay", f"the least, MD5, {_AIOHTTP}", f"transport alone, {_AIOHTTP}"),
    ),
    Target(
        name="pay by RSA in OpenSSL, to its floor (aiohttp, asyncio)",
        unit="times",
        limit=0.75,
        measure=ratio(
            "pay", f"pay, RSA by OpenSSL, {_AIOHTTP}", f"floor, RSA by OpenSSL, {_AIOHTTP}"
        ),
        less=ratio(
            "pay", f"the least, RSA by OpenSSL, {_AIOHTTP}", f"floor, RSA by OpenSSL, {_AIOHTTP}"
        ),
    ),
    Target(
        name="pay by MD5 alone, to its transport: added (aiohttp, asyncio)",
        unit="µs",
        limit=90,
        at_most=True,
        measure=added("pay", f"pay, MD5, {_ALONE}", f"transport alone, {_ALONE}"),
    ),
    Target(
        name="instructions of one pay by MD5, no transport",
        unit="",
        limit=340_000,
        at_most=True,
        measure=median("instructions", "pay, MD5, no transport"),
    ),
    *(
        Target(
            name=f"objects that the collector watches {what}",
            unit="objects",
            limit=limit,
            at_most=True,
            measure=median("collector", f"objects {what}"),
        )
        for what, limit in (("for each payment in flight", 36), ("for each finished payment", 0.1))
    ),
    Target(
        name="a full collection with a full store, to one with an empty store",
        unit="times",
        limit=2,
        at_most=True,
        measure=ratio(
            "collector", "a full collection, full store", "a full collection, empty store"
        ),
    ),
    *(
        Target(
            name=f"pay by MD5 ({way}), to {peer} on {loop}",
            unit="times",
            limit=limit,
            measure=ratio("peers", f"pay, MD5, {way}", f"{peer}, {loop}, 64 in flight"),
            less=ratio("peers", f"floor, MD5, {way}", f"{peer}, {loop}, 64 in flight"),
        )
        for peer, limit in (("stripe with httpx", 10.0), ("stripe with aiohttp", 1.4))
        for way, loop in ((_AIOHTTP, "asyncio"), (_REQWEST, "uvloop"))
    ),
    *(
        Target(
            name=f"pay by MD5 with {store}, to the memory store ({_AIOHTTP})",
            unit="times",
            limit=limit,
            measure=ratio("stores", f"pay, {store}, {_AIOHTTP}", f"pay, memory, {_AIOHTTP}"),
        )
        for store, limit in (
            ("SQLite", 0.45),
            ("PostgreSQL", 0.30),
            ("MariaDB", 0.25),
            ("Redis", 0.40),
        )
    ),
    *(
        Target(
            name=f"what a store adds to its two commits, alone ({store})",
            unit="µs",
            limit=1000,
            at_most=True,
            measure=added(
                "stores", f"pay, {store}, {_ALONE}", f"pay, two commits to {store}, {_ALONE}"
            ),
        )
        for store in _DATABASES
    ),
    *(
        Target(
            name=f"operations read at once, 500 together ({store})",
            unit="/s",
            limit=limit / 500,
            measure=median("stores", f"500 operations in one read, {store}"),
        )
        for store, limit in (("SQLite", 20_000), ("PostgreSQL", 8_000), ("Redis", 5_000))
    ),
    *(
        Target(
            name=f"payments with a full table, to an empty one ({store})",
            unit="times",
            limit=0.9,
            measure=ratio("full_tables", f"{store}: rate", f"{store}: rate when empty"),
        )
        for store in _DATABASES
    ),
    *(
        Target(
            name=f"`due` with a full table ({store})",
            unit="ms",
            limit=20,
            at_most=True,
            measure=median("full_tables", f"{store}: due"),
        )
        for store in _DATABASES
    ),
    *(
        Target(
            name=f"what forgetting adds to the longest payment ({store})",
            unit="ms",
            limit=50,
            at_most=True,
            measure=difference(
                "full_tables",
                f"{store}: pay, while rows are forgotten: longest",
                f"{store}: pay, alone: longest",
            ),
        )
        for store in _DATABASES
    ),
    *(
        Target(
            name=f"lag of the event loop, p99 ({scheme}, asyncio)",
            unit="ms",
            limit=10,
            at_most=True,
            measure=median("latency", f"{scheme}, asyncio: lag p99"),
        )
        for scheme in (
            "MD5",
            "RSA by OpenSSL",
            "RSA by OpenSSL in a process",
            "RSA by pycryptodome",
        )
    ),
    Target(
        name="memory that 1,000,000 requests add",
        unit="MB",
        limit=40,
        at_most=True,
        measure=median("growth", "1,000,000 requests: added"),
    ),
    Target(
        name="the last tenth of 1,000,000 requests, to the first",
        unit="times",
        limit=1.1,
        at_most=True,
        measure=ratio(
            "growth",
            "1,000,000 requests: each of the last tenth",
            "1,000,000 requests: each of the first tenth",
        ),
    ),
    *(
        Target(
            name=f"the first open operation beside 100,000 ended ones ({store})",
            unit="ms",
            limit=200,
            at_most=True,
            measure=median("doubts", f"{store}: first operation"),
        )
        for store in (*_DATABASES, "Redis")
    ),
    Target(
        name="import wxpay_async, to import stripe",
        unit="times",
        limit=0.5,
        at_most=True,
        measure=ratio("start", "import wxpay_async", "import stripe"),
    ),
)

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


_AIOHTTP: Final = "aiohttp, asyncio, 64 in flight"
_AIOHTTP_UVLOOP: Final = "aiohttp, uvloop, 64 in flight"
_REQWEST: Final = "reqwest, uvloop, 64 in flight"

TARGETS: Final = (
    Target(
        name="pay by MD5, to its transport alone (aiohttp, asyncio)",
        unit="times",
        limit=0.8,
        measure=ratio("pay", f"pay, MD5, {_AIOHTTP}", f"transport alone, {_AIOHTTP}"),
        less=ratio("pay", f"the least, MD5, {_AIOHTTP}", f"transport alone, {_AIOHTTP}"),
    ),
    Target(
        name="pay by RSA in OpenSSL, to its floor (aiohttp, asyncio)",
        unit="times",
        limit=0.9,
        measure=ratio(
            "pay", f"pay, RSA by OpenSSL, {_AIOHTTP}", f"floor, RSA by OpenSSL, {_AIOHTTP}"
        ),
        less=ratio(
            "pay", f"the least, RSA by OpenSSL, {_AIOHTTP}", f"floor, RSA by OpenSSL, {_AIOHTTP}"
        ),
    ),
    Target(
        name="pay by RSA in OpenSSL in a process, to that floor (aiohttp, asyncio)",
        unit="times",
        limit=0.9,
        measure=ratio(
            "pay",
            f"pay, RSA by OpenSSL in a process, {_AIOHTTP}",
            f"floor, RSA by OpenSSL, {_AIOHTTP}",
        ),
    ),
    Target(
        name="pay by MD5 over reqwest on uvloop, to aiohttp on asyncio",
        unit="times",
        limit=1.5,
        measure=ratio("pay", f"pay, MD5, {_REQWEST}", f"pay, MD5, {_AIOHTTP}"),
        less=ratio("pay", f"transport alone, {_REQWEST}", f"transport alone, {_AIOHTTP}"),
    ),
    Target(
        name="pay by MD5 over reqwest on uvloop, to aiohttp on uvloop",
        unit="times",
        limit=1.5,
        measure=ratio("pay", f"pay, MD5, {_REQWEST}", f"pay, MD5, {_AIOHTTP_UVLOOP}"),
        less=ratio("pay", f"transport alone, {_REQWEST}", f"transport alone, {_AIOHTTP_UVLOOP}"),
    ),
    Target(
        name="memory store, to none (aiohttp, asyncio)",
        unit="times",
        limit=0.95,
        measure=ratio("stores", f"pay, memory, {_AIOHTTP}", f"pay, no store, {_AIOHTTP}"),
    ),
    Target(
        name="SQLite with full sync (aiohttp, asyncio)",
        unit="/s",
        limit=1000,
        measure=median("stores", f"pay, SQLite, {_AIOHTTP}"),
    ),
    *(
        Target(
            name=f"pay by {scheme} ({way}), to {peer} on {loop}",
            unit="times",
            limit=limit,
            measure=ratio("peers", f"pay, {scheme}, {way}", f"{peer}, {loop}, 64 in flight"),
            less=ratio("peers", f"floor, {scheme}, {way}", f"{peer}, {loop}, 64 in flight"),
        )
        for peer, scheme, limit in (
            ("wechatpayv3", "MD5", 10.0),
            ("wechatpayv3", "RSA by OpenSSL", 10.0),
            ("wechatpayv3", "RSA by OpenSSL in a process", 10.0),
            ("stripe with httpx", "MD5", 10.0),
            ("stripe with aiohttp", "MD5", 1.0),
        )
        for way, loop in ((_AIOHTTP, "asyncio"), (_REQWEST, "uvloop"))
    ),
    *(
        Target(
            name=f"lag of the event loop, p99 ({scheme}, asyncio)",
            unit="ms",
            limit=10,
            at_most=True,
            measure=median("latency", f"{scheme}, asyncio: lag p99"),
        )
        for scheme in ("RSA by OpenSSL", "RSA by OpenSSL in a process", "RSA by pycryptodome")
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
    Target(
        name="import wxpay_async, to import stripe",
        unit="times",
        limit=0.5,
        at_most=True,
        measure=ratio("start", "import wxpay_async", "import stripe"),
    ),
)

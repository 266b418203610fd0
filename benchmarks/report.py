"""How figures are told: as tables for people, as JSON, and as a plot."""

from __future__ import annotations

import importlib.metadata
import itertools
import json
import os
import platform
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import attrs

from benchmarks.figures import Figure, Size
from benchmarks.targets import results

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_PACKAGES: Final = (
    "wxpay-async",
    "aiohttp",
    "asyncpg",
    "cryptography",
    "httpx",
    "httpx2",
    "pycryptodome",
    "pyreqwest",
    "redis",
    "sqlalchemy",
    "stripe",
    "uvloop",
    "wechatpayv3",
)
_WIDTH: Final = 11.0
_BAR: Final = 0.17
_EDGES: Final = 0.75


def table(figures: Iterable[Figure]) -> str:
    """Return a line for each figure: its median, its lowest and highest sample, its unit."""
    rows: list[tuple[str, ...]] = [("figure", "median", "low", "high", "unit")]
    for section, members in itertools.groupby(figures, lambda figure: figure.section):
        rows.append((f"[{section}]", "", "", "", ""))
        rows.extend(
            (figure.name, *map(number, (figure.median, figure.low, figure.high)), figure.unit)
            for figure in members
        )
    return _aligned(rows)


def target_table(figures: Iterable[Figure]) -> str:
    """Return a line for each target that the figures at hand allow."""
    rows = [("target", "limit", "measured", "less", "unit", "")]
    rows.extend(
        (
            result.target.name,
            f"{'≤' if result.target.at_most else '≥'} {number(result.target.limit)}",
            number(result.measured),
            "" if result.less is None else number(result.less),
            result.target.unit,
            "met" if result.met else "missed",
        )
        for result in results(figures)
    )
    return _aligned(rows)


def number(value: float) -> str:
    """Return at least three digits, and no more than one needs to compare."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def _aligned(rows: Sequence[tuple[str, ...]]) -> str:
    """Lay out columns: names and units to the left, numbers to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    to_the_left = {0, *(i for i, title in enumerate(rows[0]) if title in {"unit", ""})}
    lines = (
        "  ".join(
            cell.ljust(width) if i in to_the_left else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        for row in rows
    )
    return "\n".join(line.rstrip() for line in lines)


def as_json(figures: Sequence[Figure], size: Size) -> str:
    """Return everything: on what it ran, how long, every sample, every target."""
    report: dict[str, Any] = {
        "machine": dict(_machine()),
        "size": attrs.asdict(size),
        "figures": [{**attrs.asdict(figure), "median": figure.median} for figure in figures],
        "targets": [
            {
                "name": result.target.name,
                "unit": result.target.unit,
                "limit": result.target.limit,
                "at_most": result.target.at_most,
                "measured": result.measured,
                "with_less": result.less,
                "met": result.met,
            }
            for result in results(figures)
        ],
    }
    return json.dumps(report, indent=2, ensure_ascii=False) + "\n"


def _machine() -> Iterator[tuple[str, object]]:
    yield "python", f"{platform.python_implementation()} {platform.python_version()}"
    yield "system", f"{platform.system()} {platform.machine()}"
    yield "cpus", os.cpu_count()
    yield "packages", dict(_versions())


def _versions() -> Iterator[tuple[str, str | None]]:
    for package in _PACKAGES:
        try:
            yield package, importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            yield package, None


def plot(figures: Sequence[Figure], path: Path) -> None:
    """Draw the medians as bars, the spread as a line on each; a panel for each section and unit.

    The axes are logarithmic: a signature by MD5 and a payment through PostgreSQL share one. Shares
    of a core, a single figure in most sections, are left to the table.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure as Sheet  # noqa: PLC0415 - an extra, and slow to import

    kinds = dict.fromkeys((figure.section, figure.unit) for figure in figures if figure.unit != "%")
    panels = {kind: [f for f in figures if (f.section, f.unit) == kind] for kind in kinds}
    heights = [len(members) * _BAR + _EDGES for members in panels.values()]
    sheet = Sheet(figsize=(_WIDTH, sum(heights)), layout="constrained")
    axes = sheet.subplots(len(panels), squeeze=False, height_ratios=heights)
    for (panel,), ((section, unit), members) in zip(axes, panels.items(), strict=True):
        panel.set_title(f"{section} ({unit})", loc="left", fontsize=9, fontweight="bold")
        _draw(panel, members)
    sheet.savefig(path, dpi=110)


def _draw(panel: Axes, figures: Sequence[Figure]) -> None:
    names = [figure.name for figure in figures]
    kinds = list(dict.fromkeys(name.partition(",")[0] for name in names))
    medians = [figure.median for figure in figures]
    bars = panel.barh(
        names,
        medians,
        color=[f"C{kinds.index(name.partition(',')[0]) % 10}" for name in names],
        alpha=0.75,
        xerr=[
            [figure.median - figure.low for figure in figures],
            [figure.high - figure.median for figure in figures],
        ],
        error_kw={"elinewidth": 1},
    )
    panel.set_xscale("log")
    shown = [end for figure in figures for end in (figure.low, figure.high) if end > 0]
    panel.set_xlim(min(shown, default=1) / 2, max(shown, default=1) * 3)
    panel.bar_label(bars, labels=[f" {number(m)}" for m in medians], fontsize=7)
    panel.invert_yaxis()
    panel.margins(y=0.01)
    panel.tick_params(labelsize=7)
    panel.grid(axis="x", alpha=0.3)

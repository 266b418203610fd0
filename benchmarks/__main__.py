"""Run the benchmarks: `python -m benchmarks [SECTION ...]`; see the README beside this file."""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final, cast

import attrs

from benchmarks import report
from benchmarks.figures import FULL, SHORT, Figure, Section, Size

SECTIONS: Final = (
    *("pay", "stores", "peers", "growth", "full_tables", "scale", "latency"),
    *("start", "callbacks", "instructions", "collector", "doubts"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure, print the tables, and write JSON and plot."""
    options = _parser().parse_args(arguments)
    size = _size(options)
    figures: list[Figure] = []
    for name in options.sections or SECTIONS:
        section = cast("Section", importlib.import_module(f"benchmarks.{name}"))
        for figure in section.run(size):
            figures.append(figure)
            print(
                f"{name}: {figure.name}: {report.number(figure.median)} {figure.unit}",
                file=sys.stderr,
            )
    print(report.table(figures), report.target_table(figures), sep="\n\n")
    for path in (options.json, options.plot):
        path.parent.mkdir(parents=True, exist_ok=True)
    options.json.write_text(report.as_json(figures, size), encoding="utf-8")
    try:
        report.plot(figures, options.plot)
    except ImportError as error:
        print(f"left out: the plot ({error})", file=sys.stderr)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument(
        "sections",
        metavar="SECTION",
        nargs="*",
        type=_section,  # `choices` refuses none at all before Python 3.12
        help=f"of {', '.join(SECTIONS)}; all by default",
    )
    parser.add_argument("--short", action="store_true", help="see that it runs; no figure counts")
    parser.add_argument("--rounds", type=int, help="how often each figure is taken")
    parser.add_argument("--seconds", type=float, help="how long one rate is measured in a round")
    parser.add_argument("--rows", type=int, help="in the tables of full_tables")
    parser.add_argument("--json", type=Path, default=Path("benchmarks/results.json"))
    parser.add_argument("--plot", type=Path, default=Path("benchmarks/results.png"))
    return parser


def _section(name: str) -> str:
    if name not in SECTIONS:
        raise argparse.ArgumentTypeError(f"invalid choice: {name!r}; one of {', '.join(SECTIONS)}")
    return name


def _size(options: argparse.Namespace) -> Size:
    given = {name: getattr(options, name) for name in ("rounds", "seconds", "rows")}
    changes = {name: value for name, value in given.items() if value is not None}
    return attrs.evolve(SHORT if options.short else FULL, **changes)


if __name__ == "__main__":
    main()

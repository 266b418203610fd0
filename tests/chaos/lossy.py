# ruff: noqa: T201 - a script that prints its figures
"""Payments and refunds through a network that loses a quarter of everything.

    python -m tests.chaos.lossy --payments 10000 --store postgresql://...

Executed at the platform = succeeded at the merchant: nothing double, nothing lost, every outcome
classified, nothing unknown after recovery. Exit status 1 means that it is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence

from tests.chaos.proxy import Weather
from tests.chaos.stage import parsed, parser, staged


def _weather(options: argparse.Namespace) -> Weather:
    return Weather(
        before=options.before,
        after=options.after,
        twice=options.twice,
        late=options.late,
        decline=options.decline,
        second_answers=options.second_answers,
    )


async def run(options: argparse.Namespace) -> bool:
    """Let one merchant make its purchases, close the run, and compare."""
    async with staged(options, _weather(options), concurrency=options.concurrency) as stage:
        began = time.monotonic()
        await stage.act(0, "work", "settle", "replay")
        print(f"{time.monotonic() - began:.1f} s")
        return await stage.verdict()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; the status is the verdict."""
    made = parser("Lose a quarter of everything.", payments=10_000)
    made.add_argument("--before", type=float, default=0.05)
    made.add_argument("--after", type=float, default=0.20)
    made.add_argument("--twice", type=float, default=0.02)
    made.add_argument("--late", type=float, default=0.01)
    made.add_argument("--decline", type=float, default=0.01)
    made.add_argument("--second-answers", action="store_true", help="of two copies")
    made.add_argument("--concurrency", type=int, default=32)
    return int(not asyncio.run(run(parsed(made, arguments))))


if __name__ == "__main__":
    sys.exit(main())

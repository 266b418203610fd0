# ruff: noqa: T201 - a script that prints its figures
"""Payments and refunds through a network that loses a quarter of everything.

    python -m tests.chaos.lossy --payments 10000 --store postgresql://...

Besides: a proxy answers 408 or with a page of its own after execution; answers have a byte order
mark or other changes that mean nothing; queries lie once; the store is out of reach for a moment
just after a doubt; the secret is changed amid the run.

Executed at the platform = succeeded at the merchant: nothing double, nothing lost, every outcome
classified, nothing unknown after recovery. Exit status 1 means that it is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections.abc import Sequence
from typing import Final

from tests.chaos.proxy import Weather
from tests.chaos.stage import Stage, parsed, parser, staged

_ENTRIES: Final = 0.8  # of the ledger for each payment, at least, well before all is done


def _weather(options: argparse.Namespace) -> Weather:
    return Weather(
        before=options.before,
        after=options.after,
        twice=options.twice,
        late=options.late,
        decline=options.decline,
        timeout=options.timeout,
        page=options.page,
        changed=options.changed,
        lie=options.lie,
        hidden=options.hidden,
        second_answers=options.second_answers,
    )


async def _disturb(stage: Stage, options: argparse.Namespace) -> None:
    """Cut the store and change the secret at random moments, until the merchant is through."""
    names = ["store"] * options.outages + ["secret"] * options.rotations
    stage.dice.shuffle(names)
    last = options.payments * _ENTRIES
    moments = sorted(stage.dice.uniform(0, last) for _ in names)
    coming = list(zip(names, moments, strict=True))
    while await stage.at_work():
        if coming and len(stage.sandbox.platform.ledger) >= coming[0][1]:
            name, _ = coming[0]
            if await (stage.cut_store() if name == "store" else stage.rotate()):
                stage.happened[name] += 1
                del coming[0]  # else nothing was in doubt just then: once more
        await asyncio.sleep(0.01)


async def run(options: argparse.Namespace) -> bool:
    """Let one merchant make its purchases, close the run, and compare."""
    async with staged(options, _weather(options), concurrency=options.concurrency) as stage:
        began = time.monotonic()
        await stage.spawn(0, "work")
        await _disturb(stage, options)
        await stage.act(0, "settle", "replay")
        happened = dict(sorted(stage.happened.items()))
        print(f"{time.monotonic() - began:.1f} s  events {happened}")
        well = await stage.verdict()
        wanted = {"store": options.outages, "secret": options.rotations}
        fewer = [name for name, count in wanted.items() if stage.happened[name] < count]
        if fewer:
            print(f"verdict: RED  (too few: {', '.join(fewer)}, of {wanted})")
        return well and not fewer


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; the status is the verdict."""
    made = parser("Lose a quarter of everything.", payments=10_000)
    made.add_argument("--before", type=float, default=0.05)
    made.add_argument("--after", type=float, default=0.20)
    made.add_argument("--twice", type=float, default=0.02)
    made.add_argument("--late", type=float, default=0.01)
    made.add_argument("--decline", type=float, default=0.01)
    made.add_argument("--timeout", type=float, default=0.02, help="408 after execution")
    made.add_argument("--page", type=float, default=0.02, help="a proxy's page after execution")
    made.add_argument("--changed", type=float, default=0.15, help="of the orders")
    made.add_argument("--lie", type=float, default=0.25, help="of queries about a doubt, once")
    made.add_argument("--hidden", type=float, default=0.02, help="of the orders, until quarantine")
    made.add_argument("--outages", type=int, default=8, help="of the store, after a doubt")
    made.add_argument("--rotations", type=int, default=2, help="of the secret")
    made.add_argument("--second-answers", action="store_true", help="of two copies")
    made.add_argument("--concurrency", type=int, default=32)
    return int(not asyncio.run(run(parsed(made, arguments))))


if __name__ == "__main__":
    sys.exit(main())

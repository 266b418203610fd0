# ruff: noqa: T201 - a script that prints its figures
"""Merchants that are killed amid their calls, again and again.

    python -m tests.chaos.kill --operations 20000 --kills 200 --store mysql://...

Two processes work through one list over one store; every tenth purchase belongs to both. At random
moments of the run one of them gets `kill -9` and is started again. The equalities are those of
`lossy.py`; printed besides is how long a new process takes until its first new operation.
Exit status 1 means that an equality is broken.
"""

from __future__ import annotations

import argparse
import asyncio
import statistics
import sys
import time
from collections.abc import Sequence
from typing import Final

from tests.chaos.notebook import read_history
from tests.chaos.proxy import Weather
from tests.chaos.stage import Stage, parsed, parser, staged

WORKERS: Final = 2
_MADE: Final = 2.4  # operations that one payment comes to: trade, pay, and a refund for some
_LEDGER: Final = 0.85  # the part of them that is in the ledger when the first merchant is through
_WEATHER: Final = Weather(before=0.01, after=0.03, twice=0.01, late=0.01, refuse=0, decline=0)


async def _kill_at_random(stage: Stage, operations: int, kills: int) -> int:
    """Kill a merchant whenever the ledger has grown to one of the moments; return how often."""
    last = operations * _LEDGER
    moments = sorted(stage.dice.uniform(0, last) for _ in range(kills))
    done = 0
    while running := await stage.at_work():
        if done < kills and len(stage.sandbox.platform.ledger) >= moments[done]:
            await asyncio.sleep(stage.dice.uniform(0, 0.05))
            done += await stage.kill(stage.dice.choice(running))
        await asyncio.sleep(0.005)
    return done


def resumed(stage: Stage) -> list[float]:
    """Return the seconds from each later start of a process to its first new operation."""
    first: dict[tuple[int, int], float] = {}
    for line in read_history(stage.folder):
        if line["what"] == "invoke":
            first.setdefault((line["worker"], line["life"]), line["at"])
    return sorted(at - stage.spawned[which] for which, at in first.items() if which[1] > 0)


async def run(options: argparse.Namespace) -> bool:
    """Let the merchants work, kill them, close the run, and compare."""
    options.payments = round(options.operations / _MADE)
    more = {"workers": WORKERS, "shared": 10, "concurrency": options.concurrency}
    async with staged(options, _WEATHER, **more) as stage:
        began = time.monotonic()
        for worker in range(WORKERS):
            await stage.spawn(worker, "work")
        done = await _kill_at_random(stage, options.operations, options.kills)
        restarts = resumed(stage)
        await stage.act(0, "settle", "replay")
        print(f"{time.monotonic() - began:.1f} s  kills {done}  restarts {len(restarts)}")
        if restarts:
            print(
                f"first new operation after a start: median {statistics.median(restarts):.2f} s, "
                f"worst {restarts[-1]:.2f} s"
            )
        well = await stage.verdict()
        late = not restarts or restarts[-1] > options.resume
        if late or done < options.kills:
            print(f"verdict: RED  (kills {done} of {options.kills}, late {late})")
        return well and not late and done == options.kills


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; the status is the verdict."""
    made = parser("Kill merchants amid their calls.", payments=0)
    made.add_argument("--operations", type=int, default=20_000, help="instead of --payments")
    made.add_argument("--kills", type=int, default=200)
    made.add_argument("--concurrency", type=int, default=16)
    made.add_argument("--resume", type=float, default=2.0, help="seconds, at most, after a start")
    return int(not asyncio.run(run(parsed(made, arguments))))


if __name__ == "__main__":
    sys.exit(main())

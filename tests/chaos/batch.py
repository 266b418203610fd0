# ruff: noqa: T201 - a script that prints its figures
"""Batches of refunds whose processes are killed, stopped and cut off.

`kills` is one machine: the run is killed by `kill -9` again and again, and begun again, while the
network drops replies. `two` runs one file twice at the same time. `machines` has four workers of
taskiq over RabbitMQ and a coordinator, with the platform's quota: one worker is killed and one is
stopped for 30 s, the way to the broker is cut for 10 s (every connection is reset, and every new
one), and the coordinator is killed and begun again. With `--free` there is no quota, only the two
workers are struck, and what is looked at is how soon their lines end. `again` writes a store in
which every line has ended, and runs the file once more. `memory` checks a file and runs it.

    python -m tests.chaos.batch kills --lines 100000 --kills 30
    python -m tests.chaos.batch kills --lines 20000 --kills 30 \
        --store postgresql://postgres@127.0.0.1/test
    python -m tests.chaos.batch kills --lines 20000 --kills 30 --store redis
    python -m tests.chaos.batch two --lines 5000      # and with each --store as above
    python -m tests.chaos.batch machines --lines 5000 --store postgresql://postgres@127.0.0.1/test
    python -m tests.chaos.batch machines --lines 5000 --free --store postgresql://…/test
    python -m tests.chaos.batch again --lines 1000000      # and with each --store as above
    python -m tests.chaos.batch memory --lines 1000000

The store is a SQLite file of the run's own, or with `--store redis` a Redis of its own that writes
every commit to disk, since a batch refuses any other. `machines` needs RabbitMQ, and Redis for the
quota. Exit status 1 means that a refund was executed twice or never, that an outcome differs from
the ledger, that a line ended too late, or that a blow hit nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import time
from asyncio.subprocess import Process
from collections.abc import Callable, Coroutine, Mapping, Sequence
from typing import Any, Final

from attrs import define, field

from tests.chaos.batch_again import run_again
from tests.chaos.batch_machines import run_machines
from tests.chaos.batch_memory import run_memory
from tests.chaos.batch_stage import BatchStage, Referee, kill, staged
from tests.chaos.batch_worker import FREE
from tests.chaos.proxy import Weather

_STRUCK: Final = 0.85  # the part of the lines amid which runs are killed
_SOON: Final = 120.0  # seconds from the last line's execution to the end of the run
_PATIENCE: Final = 7_200.0


@define(eq=False)
class Verdict:
    """What a check found."""

    stage: BatchStage
    wrong: list[str] = field(factory=list[str], init=False)

    def expect(self, well: object, what: str) -> None:
        """Note what is wrong, if it is."""
        if not well:
            self.fail(what)

    def fail(self, what: str) -> None:
        """Note what is wrong."""
        self.wrong.append(what)

    def tell(self, figures: Mapping[str, object], *outcomes: str) -> bool:
        """Compare with the ledger, print all figures; tell whether all is well."""
        referee = Referee(self.stage)
        compared = referee.compare(*outcomes)
        for name, value in list(compared.items())[1:]:
            self.expect(value == 0, name)
        shown = {"lines": self.stage.lines, **figures, **compared}
        print("  ".join(f"{name} {value}" for name, value in shown.items()))
        for line in referee.show():
            print(line)
        print(f"verdict: RED ({', '.join(self.wrong)})" if self.wrong else "verdict: ok")
        return not self.wrong


async def run_kills(options: argparse.Namespace) -> bool:
    """Kill the run again and again, and let the last one end."""
    weather = Weather(before=0, after=options.drop, twice=0, late=0, refuse=0, decline=0)
    async with staged(options, weather, told={FREE: "1"}) as stage, asyncio.timeout(_PATIENCE):
        verdict, began = Verdict(stage), time.monotonic()
        process, kills = await _kill_at_random(stage, options.kills)
        verdict.expect(await process.wait() == 0, f"crashed: {stage.printed('run')}")
        last = [e.at for e in stage.refunds if e.out_trade_nos == (f"R-{options.lines}",)]
        late = time.time() - last[-1] if last else float("inf")
        verdict.expect(late <= _SOON or not options.timed, "late")
        verdict.expect(kills == options.kills, f"{kills} kills of {options.kills}")
        took = time.monotonic() - began
        dropped = stage.proxy.seen["after"]
        figures = {"seconds": f"{took:.1f}", "kills": kills, "dropped": dropped}
        return verdict.tell(figures | {"after_last_line": f"{late:.1f}"}, "run")


async def _kill_at_random(stage: BatchStage, times: int) -> tuple[Process, int]:
    """Kill the run whenever enough was executed; return the last one, and how many were hit."""
    last = stage.lines * _STRUCK
    moments = sorted(stage.dice.uniform(0, last) for _ in range(times))
    process, kills = await stage.run_file("run"), 0
    for moment in moments:
        # At least one line was executed by this very process, so the kill hits it at work.
        if not await stage.wait_for(max(moment, stage.executed + 1), process):
            break
        await asyncio.sleep(stage.dice.uniform(0, 0.05))
        kills += await kill(process)
        process = await stage.run_file("run")
    return process, kills


async def run_two(options: argparse.Namespace) -> bool:
    """Run the file twice at the same time, over one store."""
    names = ("one", "other")
    async with staged(options, told={FREE: "1"}) as stage, asyncio.timeout(_PATIENCE):
        verdict, began = Verdict(stage), time.monotonic()
        processes = [await stage.run_file(name) for name in names]
        for name, process in zip(names, processes, strict=True):
            verdict.expect(await process.wait() == 0, f"crashed: {stage.printed(name)}")
        return verdict.tell({"seconds": f"{time.monotonic() - began:.1f}"}, *names)


async def _run_machines(options: argparse.Namespace) -> bool:
    """Strike workers, the broker and the coordinator."""
    async with run_machines(options) as (stage, found):
        verdict = Verdict(stage)
        for name in found.wrong:
            verdict.fail(name)
        return verdict.tell(found.figures, "coordinator")


RUNS: Final[Mapping[str, Callable[[argparse.Namespace], Coroutine[Any, Any, bool]]]] = {
    "kills": run_kills,
    "two": run_two,
    "machines": _run_machines,
    "again": run_again,
    "memory": run_memory,
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; the status is the verdict."""
    made = argparse.ArgumentParser(description="Strike the processes of a batch.")
    made.add_argument("check", choices=RUNS)
    made.add_argument("--lines", type=int, default=5_000)
    made.add_argument("--kills", type=int, default=30)
    made.add_argument("--drop", type=float, default=0.05, help="the part of replies that get lost")
    made.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    made.add_argument("--store", help="its address, or redis; a SQLite file when absent")
    made.add_argument("--workers", type=int, default=4)
    made.add_argument("--least", type=float, help="again: requests recalled in a second")
    made.add_argument("--free", action="store_true", help="machines: without the quota")
    untimed = "show how long it took, but do not judge it: for a machine that others keep busy"
    made.add_argument("--untimed", dest="timed", action="store_false", help=untimed)
    options = made.parse_args(arguments)
    store = (options.store or "sqlite").partition(":")[0]
    print(f"{options.check}  seed {options.seed}  store {store}", flush=True)
    return int(not asyncio.run(RUNS[options.check](options)))


if __name__ == "__main__":
    sys.exit(main())

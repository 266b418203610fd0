# ruff: noqa: T201 - a script that prints its figures
"""What merchants heard against what the platform did, while everything goes wrong at once.

    python -m tests.chaos.history --payments 4000 --pace 1 --events 60

Two processes make the same purchases over one store. One after the other, at random: a merchant is
killed; it is paused by SIGSTOP; the network is cut; the store is out of reach just after a doubt;
the secret is changed, at the platform and at one merchant after the other; its clock is ten minutes
off, either way, and back, or right, while requests that were given up are on their way for another
two minutes.

The history that the merchants wrote is then checked against the ledger: nothing that was called
refused was executed, and nothing that was called ok was not. Exit status 1 means that it is not so.
"""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Final

from tests.chaos.proxy import Weather
from tests.chaos.stage import Stage, parsed, parser, staged
from tests.support.tasks import wait_until

WORKERS: Final = 2
SHIFT: Final = 600.0
_PASSING: Final = (31.0, 61.0)
_GLANCE: Final = 0.02  # seconds between two looks at the processes
_PATIENCE: Final = 7_200.0


async def _kill(stage: Stage, worker: int, _: float) -> bool:
    return await stage.kill(worker)


async def _pause(stage: Stage, worker: int, pause: float) -> bool:
    return await stage.pause(worker, pause)


async def _partition(stage: Stage, _: int, pause: float) -> bool:
    stage.proxy.partitioned = True
    await asyncio.sleep(pause / 5)
    stage.proxy.partitioned = False
    return True


async def _store(stage: Stage, _: int, __: float) -> bool:
    return await stage.cut_store()


async def _secret(stage: Stage, _: int, __: float) -> bool:
    return await stage.rotate()


async def _ahead(stage: Stage, worker: int, _: float) -> bool:
    return await _late(stage, worker, SHIFT)


async def _behind(stage: Stage, worker: int, _: float) -> bool:
    return await _late(stage, worker, -SHIFT)


async def _minutes(stage: Stage, worker: int, _: float) -> bool:
    return await _late(stage, worker, 0.0)


async def _late(stage: Stage, worker: int, shift: float) -> bool:
    """Keep requests on their way while two minutes pass, and let them arrive in the end.

    That is less than the five minutes for which the platform takes them, and long enough for a
    merchant to look twice, a minute apart, and find nothing.
    """
    stage.proxy.stalling = stage.proxy.holding = True
    await asyncio.sleep(1.5)
    stage.timepiece.shift(worker, shift)
    for seconds in _PASSING:
        await asyncio.sleep(1.0)
        stage.timepiece.advance(seconds)
    await asyncio.sleep(1.0)
    await stage.proxy.release()
    stage.timepiece.shift(worker, 0.0)
    return True


EVENTS: Final[Mapping[str, Callable[[Stage, int, float], Awaitable[bool]]]] = {
    "kill": _kill,
    "pause": _pause,
    "partition": _partition,
    "store": _store,
    "secret": _secret,
    "ahead": _ahead,
    "behind": _behind,
    "minutes": _minutes,
}


async def _go_wrong(stage: Stage, options: argparse.Namespace) -> None:
    """Let everything go wrong, each kind as often, in random order.

    What found nothing to happen to (a cut of the store needs a doubt) is tried again at the end.
    """
    names = deque(options.kinds[i % len(options.kinds)] for i in range(options.events))
    stage.dice.shuffle(names)

    async def has_begun() -> bool:
        return bool(stage.sandbox.platform.ledger) or await has_ended()

    async def has_ended() -> bool:
        return not await stage.at_work()

    await wait_until(has_begun, pause=_GLANCE, within=_PATIENCE)
    while names and (running := await stage.at_work()):
        name = names.popleft()
        if await EVENTS[name](stage, stage.dice.choice(running), options.pause):
            stage.happened[name] += 1
        else:
            names.append(name)
        await asyncio.sleep(stage.dice.uniform(0.05, 0.3))
    await wait_until(has_ended, pause=_GLANCE, within=_PATIENCE)


def _weather(options: argparse.Namespace) -> Weather:
    return Weather(
        before=0.03,
        after=options.after,
        twice=0.02,
        late=0.06,
        refuse=options.refuse,
        decline=0.02,
        timeout=0.02,
        page=0.02,
        changed=0.15,
        lie=0.25,
    )


async def run(options: argparse.Namespace) -> bool:
    """Let the merchants work amid the trouble, close the run, and compare."""
    more = {"workers": WORKERS, "shared": 1, "concurrency": 8, "tend": 0.4, "pace": options.pace}
    async with staged(options, _weather(options), **more) as stage:
        stage.proxy.latency = options.latency
        stage.sandbox.platform.apps[stage.sandbox.app_key].future_refused = not options.one_sided
        began = time.monotonic()
        for worker in range(WORKERS):
            await stage.spawn(worker, "work")
        await _go_wrong(stage, options)
        happened = stage.happened
        await stage.act(0, "settle", "replay")
        print(f"{time.monotonic() - began:.1f} s  events {dict(sorted(happened.items()))}")
        well = await stage.verdict()
        if sum(happened.values()) < options.events:  # the merchants were through before
            print(f"verdict: RED  ({sum(happened.values())} of {options.events} events happened)")
        return well and sum(happened.values()) == options.events


def main(arguments: Sequence[str] | None = None) -> int:
    """Run what the arguments ask for; the status is the verdict."""
    made = parser("Check what merchants heard against the ledger.", payments=2000)
    made.add_argument("--events", type=int, default=60)
    made.add_argument(
        "--one-sided", action="store_true", help="only a timestamp of the past is refused"
    )
    made.add_argument("--kinds", nargs="+", choices=EVENTS, default=list(EVENTS))
    made.add_argument("--after", type=float, default=0.08)
    made.add_argument("--refuse", type=float, default=0.02)
    made.add_argument("--latency", type=float, default=0.0, help="seconds at most")
    made.add_argument("--pause", type=float, default=5.0, help="seconds of a SIGSTOP")
    made.add_argument("--pace", type=float, default=0.5, help="seconds before each purchase")
    return int(not asyncio.run(run(parsed(made, arguments))))


if __name__ == "__main__":
    sys.exit(main())

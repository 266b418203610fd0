# ruff: noqa: T201 - a script that prints its figures
"""A thousand people tap "pay" at once on a process that has just begun.

    python -m tests.chaos.taps

It takes half of the quota for used, so 200 taps are paid at once. Each of the others is refused by
a call that took no 50 ms by itself, with the moment to come again at, and comes then: nobody who
does waits for over 2 s, and 2 s before there was no slot to be had. In real time, two minutes of
it, and over a transport that answers after 50 ms. Exit status 1 means that one of these does not
hold.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import time
from collections.abc import Callable, Sequence
from typing import Final

from attrs import define, field

from tests.support import asking, replies
from tests.support.clock import LoopClock
from wxpay_async import Md5Signer, PayGateway, QuotaExhaustedError, Timeouts
from wxpay_async.adapters.limiters.limiter import Lane
from wxpay_async.adapters.limiters.local import LocalLimiter
from wxpay_async.protocol.wire import HttpRequest, HttpResponse

_TAPS: Final = 1_000
_AT_ONCE: Final = 200  # half of the quota
_TIMEOUT: Final = 5.0  # seconds that a person has
_REFUSED_WITHIN: Final = 0.05  # seconds
_RIGHT_WITHIN: Final = 2.0  # seconds
_LATENCY: Final = 0.05  # seconds


class _Transport:
    """Answers each payment after a while."""

    async def send(self, request: HttpRequest, *, timeout: Timeouts) -> HttpResponse:
        """Answer."""
        del request, timeout
        await asyncio.sleep(_LATENCY)
        return HttpResponse(200, json.dumps(replies.prepay()).encode())

    async def aclose(self) -> None:
        """Release nothing."""


@define(eq=False)
class Taps:
    """What became of them.

    Attributes:
        gateway: who is asked to pay.
        limiter: its quota.
        time: seconds that only grow; the loop's.
        paid: how long each payment took that was made at once, in seconds.
        refused: how long each refusal took, from the first step of its call, in seconds.
        waited: how long each waited who came again when it was told to, its call included.
        early: how many would have got a slot 2 s before they were told to come.
        failed: how many got none when they came again.
    """

    gateway: PayGateway
    limiter: LocalLimiter
    time: Callable[[], float]
    paid: list[float] = field(factory=list[float], init=False)
    refused: list[float] = field(factory=list[float], init=False)
    waited: list[float] = field(factory=list[float], init=False)
    early: int = field(default=0, init=False)
    failed: int = field(default=0, init=False)

    async def tap(self, number: int) -> None:
        """Pay; if that is refused, come again when it was told."""
        began = time.perf_counter()
        try:
            await self._pay(number)
        except QuotaExhaustedError as error:
            self.refused.append(time.perf_counter() - began)
            await self._come_again(number, error.retry_after)
        else:
            self.paid.append(time.perf_counter() - began)

    async def _pay(self, number: int) -> None:
        await self.gateway.pay(asking.pay(f"tap-{number}"), timeout=_TIMEOUT)

    async def _come_again(self, number: int, seconds: float) -> None:
        back_at = self.time() + seconds
        await asyncio.sleep(seconds - _RIGHT_WITHIN)
        slot = await self.limiter.acquire_now(Lane.PEOPLE)
        if slot is not None:
            self.early += 1
            await slot.unsent()
        await asyncio.sleep(back_at - self.time())
        try:
            await self._pay(number)
        except QuotaExhaustedError:
            self.failed += 1
        else:
            self.waited.append(self.time() - back_at)

    def show(self) -> str:
        """Return the figures as two lines."""
        return (
            f"paid at once {len(self.paid)}, the slowest after {max(self.paid):.3f} s; "
            f"refused {len(self.refused)}, the slowest took {max(self.refused) * 1000:.1f} ms\n"
            f"came again {len(self.waited)}, the latest {max(self.waited):.2f} s after it was told "
            f"to; failed {self.failed}; could have come 2 s earlier {self.early}"
        )

    def are_right(self) -> bool:
        """Tell whether each tap was paid, at once or when it was told to come again."""
        return (
            len(self.paid) == _AT_ONCE
            and len(self.waited) == _TAPS - _AT_ONCE
            and max(self.waited) <= _RIGHT_WITHIN
            and not self.early
        )


async def run(clock: Callable[[], float] = time.monotonic) -> Taps:
    """Let all of them tap, and come again."""
    limiter = LocalLimiter(clock=clock)
    async with PayGateway(
        "chaos-taps",
        Md5Signer("secret"),
        transport=_Transport(),
        limiter=limiter,
        max_in_flight=_TAPS,
        clock=LoopClock(),
    ) as gateway:
        taps = Taps(gateway, limiter, clock)
        async with asyncio.TaskGroup() as group:
            for number in range(_TAPS):
                group.create_task(taps.tap(number))
    return taps


def main(arguments: Sequence[str] | None = None) -> int:
    """Run it; the status is the verdict."""
    parser = argparse.ArgumentParser(description='A thousand people tap "pay" at once.')
    parser.parse_args(arguments)
    taps = asyncio.run(run())
    print(taps.show())
    well = taps.are_right() and max(taps.refused) <= _REFUSED_WITHIN
    print("verdict: ok" if well else "verdict: RED")
    return int(not well)


if __name__ == "__main__":
    sys.exit(main())

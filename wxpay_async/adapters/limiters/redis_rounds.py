"""Ask for slots of the quota in Redis, and report how calls ended: in rounds, one after another.

What comes while a round is on its way goes into the next one, so that many callers cost one round
trip. In a round the reports go first: a caller that asks after a report sees it. A caller does not
wait for its report. The report stays here until Redis has it, and a round may come twice, since
each slot has a name of its own; a report that cannot be delivered for as long as a lease lasts is
dropped, for then the slot is free anyway.

A round that fails is an outage, of which all waiting callers are told at once. The next caller asks
again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from itertools import islice, takewhile
from typing import Final, cast

import attrs

from wxpay_async.adapters.causes import describe_cause
from wxpay_async.adapters.event_loop import ShieldedTasks
from wxpay_async.adapters.limiters.redis_scripts import PLACES
from wxpay_async.adapters.limiters.redis_waiting import MICRO, Ask, Refusal, WaitingRoom
from wxpay_async.adapters.redis_clients import REDIS_FAILURES, RedisLink, Script
from wxpay_async.policy.lanes import Lane

_MOST_ASKS: Final = 32
"""Callers that ask in a round: no process takes all slots that come free in one moment."""

_MOST_REPORTS: Final = 256

_GATHER: Final = 0.001
"""Seconds between rounds while many callers come."""

_BEHIND: Final = 0.02
"""Seconds for which a report waits for a caller that asks, unless its slot is free at once."""

_RETRY: Final = 0.5
"""Seconds until reports that could not be delivered are sent again."""

_PROMPT: Final = 0.9
"""A round that took longer may have come twice; a report that is older is timed from its call."""

_RELEASE: Final = -1

_Answer = tuple[()] | tuple[Sequence[int], Sequence[int]]


@attrs.frozen
class _Report:
    """How a call ended.

    Attributes:
        lane: the call's.
        taken_for: seconds for which its slot is still taken; negative if it is free.
        at: when it ended, by the loop's clock.
    """

    lane: Lane
    taken_for: float
    at: float

    def micros(self, now: float) -> int:
        """Return for how long the slot is taken from now on."""
        late = now - self.at
        left = self.taken_for if late < _PROMPT else self.taken_for - late
        return round(left * MICRO) if left > 0 else _RELEASE


@attrs.define(eq=False)
class Rounds:
    """The requests and reports of one event loop to the Redis of the quota.

    Args:
        link: leads there.
        script: that of a round.
        keys: those of the appKey.
        settings: the arguments of the script that stay.
        room: the callers that wait.
        kept_for: how long a report is worth repeating, in seconds: a lease.
    """

    link: RedisLink
    script: Script
    keys: Sequence[str]
    settings: Sequence[str | int]
    room: WaitingRoom
    kept_for: float
    _reports: dict[str, _Report] = attrs.field(factory=dict[str, _Report], init=False)
    _report_at: float = attrs.field(default=float("inf"), init=False)
    _retry_at: float = attrs.field(default=0.0, init=False)
    _crowded: bool = attrs.field(default=False, init=False)
    _paused: bool = attrs.field(default=False, init=False)
    _running: bool = attrs.field(default=False, init=False)
    _timer: asyncio.TimerHandle | None = attrs.field(default=None, init=False)
    _tasks: ShieldedTasks = attrs.field(factory=ShieldedTasks, init=False)

    def report(self, lane: Lane, member: str, taken_for: float) -> None:
        """Report with the next round how a call ended.

        Args:
            lane: the call's.
            member: its slot's name.
            taken_for: seconds for which the slot is taken from now on; negative if it is free.
        """
        now = asyncio.get_running_loop().time()
        self._reports[member] = _Report(lane, taken_for, now)
        if taken_for < 0:
            self.room.ask_again()
        self._report_at = min(self._report_at, now if taken_for < 0 else now + _BEHIND)
        self.wake()

    def wake(self) -> None:
        """Begin with a round if one is due now, else when the next is."""
        if self._running or self._paused:
            return
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        loop = asyncio.get_running_loop()
        due_at = self._due_at()
        if due_at <= loop.time():
            self._running = True
            self._tasks.start(self._run())
        elif due_at < float("inf"):
            self._timer = loop.call_at(due_at, self.wake)

    async def flush(self) -> None:
        """Report what is still to be reported, as far as Redis can be reached."""
        self._paused = True
        try:
            await self._deliver()
        finally:
            self._paused = False
            self.wake()

    async def close(self) -> None:
        """Report the rest, refuse the callers that wait, and begin no other round.

        What cannot be reported is dropped, and its leases end those slots.
        """
        self._paused = True
        await self._deliver()
        self._reports.clear()
        self.room.fail("the quota was closed while the call waited for a slot")
        if self._timer is not None:
            self._timer.cancel()

    async def _deliver(self) -> None:
        reports = set(self._reports)
        await self._tasks.finished()
        while not reports.isdisjoint(self._reports) and await self._round():
            pass

    def _due_at(self) -> float:
        reports_at = max(self._report_at, self._retry_at) if self._reports else float("inf")
        return min(self.room.due_at, reports_at)

    async def _run(self) -> None:
        loop, ended = asyncio.get_running_loop(), False
        try:
            while not self._paused and self._due_at() <= loop.time():
                await self._round()
                if self._crowded:
                    await asyncio.sleep(_GATHER)
            ended = True
        finally:
            self._running = False
            if ended:
                self.wake()
            else:
                self.room.abandon()

    async def _round(self) -> bool:
        """Ask and report once; tell whether Redis could be reached."""
        began = asyncio.get_running_loop().time()
        reports = self._take_reports(began)
        # No caller asks before all is reported.
        asks = self.room.ask(_MOST_ASKS) if len(reports) == len(self._reports) else []
        self._crowded = max(len(reports), sum(len(ask.waiters) for ask in asks)) > 1
        return await self._exchange(reports, asks, began) if reports or asks else True

    async def _exchange(
        self, reports: dict[str, _Report], asks: Sequence[Ask], began: float
    ) -> bool:
        try:
            answer = await self.link.call(
                self.script.call(self.keys, self._arguments(reports, asks, began))
            )
        except REDIS_FAILURES as error:
            self._retry_at = asyncio.get_running_loop().time() + _RETRY
            self.room.fail(self._describe(error), error)
            return False
        self._retry_at = 0.0
        for member in reports:
            self._reports.pop(member, None)
        if not self._reports:
            self._report_at = float("inf")
        if asks:
            held, answers, *rest = cast("tuple[list[int], list[int], int]", answer)
            took = asyncio.get_running_loop().time() - began
            self.room.count.update(held)
            refusal = cast("Refusal", rest) if rest else None
            self.room.answer(asks, answers, refusal, repeated=took > _PROMPT)
        return True

    def _describe(self, error: Exception) -> str:
        name, said, place = type(error).__name__, describe_cause(error), self.link.place
        where = "" if place in said else f" at {place}"
        return f"the Redis of the quota{where} fails ({name}){said}"

    def _take_reports(self, now: float) -> dict[str, _Report]:
        over = now - self.kept_for
        late = takewhile(lambda each: each[1].at < over, self._reports.items())
        for member in [member for member, _ in late]:
            del self._reports[member]
        return dict(islice(self._reports.items(), _MOST_REPORTS))

    def _arguments(
        self, reports: dict[str, _Report], asks: Sequence[Ask], now: float
    ) -> list[str | int]:
        arguments = [*self.settings, len(reports)]
        for member, report in reports.items():
            arguments += (PLACES[report.lane], member, report.micros(now))
        for ask in asks:
            arguments += (PLACES[ask.lane], ask.staying, len(ask.waiters))
            arguments += (waiter.member for waiter in ask.waiters)
        return arguments

"""Keep the callers of this process that wait for a slot in Redis; refuse those that wait in vain.

Callers of a lane ask together, in their order. A caller that Redis refuses stays in line if it can
expect a slot in time, by the log that Redis showed; otherwise it gets an error at once. A caller
that stays is counted in Redis, and goes before every later lane, in any process.
"""

from __future__ import annotations

import asyncio
import itertools
import secrets
from collections.abc import Iterator, Sequence
from typing import Final

import attrs

from wxpay_async.errors import NotSentError, QuotaExhaustedError
from wxpay_async.policy.lanes import Lane, Quota
from wxpay_async.policy.outlook import Outlook, Promises

MICRO: Final = 1_000_000
POLL: Final = 1.0
"""Seconds after which the waiters of a lane ask again at the latest."""

_SEEN_LATELY: Final = 2 * POLL
_SHORTEST_WAIT: Final = 0.001

Refusal = tuple[int, Sequence[Sequence[int]], Sequence[int], Sequence[int]]
"""The capacity, when slots come free, when lanes may start, and how many callers wait elsewhere."""


def _now() -> float:
    return asyncio.get_running_loop().time()


@attrs.define(eq=False)
class Waiter:
    """A caller that waits for a slot.

    Attributes:
        member: its slot's name in Redis.
        lane: its lane.
        timeout: how long it may wait, in seconds.
        looks: it takes a slot that is free now, and does not stay in line, or no longer.
        granted: whether it has its slot; False only for one that looks.
        stays: Redis refused it, and it waits on.
        asked: Redis may have given it a slot that it does not know of.
    """

    member: str
    lane: Lane
    timeout: float
    looks: bool
    granted: asyncio.Future[bool]
    stays: bool = False
    asked: bool = False

    def forget(self) -> None:
        """Drop its future, whatever it holds: a cancelled caller reads it no more."""
        if not self.granted.cancel() and not self.granted.cancelled():
            self.granted.exception()


@attrs.define(eq=False)
class _Line:
    """The waiters of one lane, in their order, and when they ask next, by the loop's clock."""

    waiters: dict[Waiter, None] = attrs.field(factory=dict[Waiter, None])
    due_at: float = 0.0
    staying: int = 0


@attrs.frozen
class Ask:
    """The callers of a lane that ask in one round, and how many of the lane wait for longer."""

    lane: Lane
    staying: int
    waiters: Sequence[Waiter]


@attrs.frozen
class _Sight:
    """What the log looked like.

    Attributes:
        at: when, by the loop's clock.
        outlook: what can be foreseen.
        others: callers of each lane that wait in other processes.
    """

    at: float
    outlook: Outlook
    others: dict[Lane, int]


@attrs.define(eq=False)
class SlotCount:
    """How many slots all processes held when Redis last told, and each lane; None before."""

    taken: int | None = None
    held: dict[Lane, int] = attrs.field(factory=lambda: dict.fromkeys(Lane, 0))

    def update(self, held: Sequence[int]) -> None:
        """Note the slots of each lane, and those of an earlier process after them."""
        self.taken, self.held = sum(held), dict(zip(Lane, held, strict=False))


@attrs.define(eq=False)
class WaitingRoom:
    """The callers of one event loop that wait for a slot.

    Args:
        quota: the numbers.
        most: callers that may wait at the same time.
        promises: the times that refused callers were told.
        count: how many slots are taken.
    """

    quota: Quota
    most: int
    promises: Promises
    count: SlotCount
    name: str = attrs.field(factory=lambda: secrets.token_hex(8), init=False)
    sight: _Sight | None = attrs.field(default=None, init=False)
    _lines: dict[Lane, _Line] = attrs.field(
        factory=lambda: {lane: _Line() for lane in Lane}, init=False
    )
    _numbers: Iterator[int] = attrs.field(factory=itertools.count, init=False)

    @property
    def staying(self) -> int:
        """How many waiters Redis has refused already."""
        return sum(line.staying for line in self._lines.values())

    @property
    def size(self) -> int:
        """How many callers wait."""
        return sum(len(line.waiters) for line in self._lines.values())

    @property
    def due_at(self) -> float:
        """When a caller asks next, by the loop's clock."""
        lines = self._lines.values()
        return min((line.due_at for line in lines if line.waiters), default=float("inf"))

    def join(self, lane: Lane, timeout: float, *, looks: bool = False) -> Waiter:
        """Let a caller stand in line; callers that stand there already ask before it.

        Raises:
            QuotaExhaustedError: it is one too many, or would stand in line in vain.
        """
        line = self._lines[lane]
        waiter = Waiter(
            f"{self.name}:{next(self._numbers)}",
            lane,
            timeout,
            looks,
            asyncio.get_running_loop().create_future(),
        )
        if line.staying:
            # The line asks each second, unless it has only just formed.
            self._check(waiter, self.size + 1, len(line.waiters), since=_now() - _SEEN_LATELY)
            self._stay(line, waiter)
        else:
            line.due_at = 0.0
        line.waiters[waiter] = None
        return waiter

    def leave(self, waiter: Waiter) -> None:
        """Take a caller out of its line, if it is still there."""
        line = self._lines[waiter.lane]
        if waiter in line.waiters:
            del line.waiters[waiter]
            line.staying -= waiter.stays

    def ask(self, most: int) -> list[Ask]:
        """Return the callers that ask now, at most `most`: a lane only after all of the earlier."""
        now, asks = _now(), list[Ask]()
        for lane, line in self._lines.items():
            if not line.waiters or line.due_at > now:
                continue
            if not most:
                break
            asking = tuple(itertools.islice(line.waiters, most))
            asks.append(Ask(lane, line.staying, asking))
            for waiter in asking:
                waiter.asked = True
            most -= len(asking)
            if len(asking) < len(line.waiters):
                break
        return asks

    def ask_again(self) -> None:
        """Let all ask in the next round: a slot may have come free."""
        for line in self._lines.values():
            line.due_at = 0.0

    def answer(
        self,
        asks: Sequence[Ask],
        answers: Sequence[int],
        refusal: Refusal | None,
        *,
        repeated: bool = False,
    ) -> None:
        """Give the granted slots; let the refused callers stay, or tell them when to come back.

        Args:
            asks: the callers that asked.
            answers: for each lane how many were granted, and the microseconds until it is worth
                asking again, 0 if all were.
            refusal: what the log looked like if a caller was refused.
            repeated: they may have asked twice, so that a slot may yet be granted.
        """
        if refusal is not None:
            self.sight = self._look(*refusal)
        for ask, granted in zip(asks, answers[::2], strict=True):
            for waiter in ask.waiters[:granted]:
                self.leave(waiter)
                if not waiter.granted.done():
                    waiter.granted.set_result(True)
            for waiter in ask.waiters[granted:]:
                waiter.asked = repeated
                if waiter.looks:
                    self._send_off(waiter)
        for ask, wait in zip(asks, answers[1::2], strict=True):
            line = self._lines[ask.lane]
            if not wait or self._refuse(line):
                line.due_at = 0.0  # those that stay ask once more, so that other processes know
            else:
                line.due_at = _now() + min(max(wait / MICRO, _SHORTEST_WAIT), POLL)

    def fail(self, reason: str, cause: Exception | None = None) -> None:
        """Tell all waiting callers why there is no slot now."""
        for line in self._lines.values():
            for waiter in list(line.waiters):
                error = NotSentError(reason)
                error.__cause__ = cause
                self._turn_away(waiter, error)

    def abandon(self) -> None:
        """Let no caller wait for ever after the rounds have ended."""
        for line in self._lines.values():
            for waiter in list(line.waiters):
                waiter.granted.cancel()

    def late(self, waiter: Waiter) -> QuotaExhaustedError:
        """Return what a caller is told that left its line because its time was over."""
        return self._late(waiter, len(self._lines[waiter.lane].waiters))

    def _refuse(self, line: _Line) -> bool:
        """Turn away new callers that would wait in vain; tell whether some stay."""
        number, ahead, some_stay = self.staying, 0, False
        for waiter in list(line.waiters):
            if not waiter.stays and not waiter.granted.done():
                if waiter.looks:
                    self._send_off(waiter)
                    continue
                try:
                    self._check(waiter, number + 1, ahead, since=0.0)
                except QuotaExhaustedError as error:
                    self._turn_away(waiter, error)
                    continue
                self._stay(line, waiter)
                number, some_stay = number + 1, True
            ahead += 1
        return some_stay

    def _stay(self, line: _Line, waiter: Waiter) -> None:
        waiter.stays = True
        line.staying += 1

    def _send_off(self, waiter: Waiter) -> None:
        self.leave(waiter)
        if not waiter.granted.done():
            waiter.granted.set_result(False)

    def _turn_away(self, waiter: Waiter, error: NotSentError) -> None:
        self.leave(waiter)
        if not waiter.granted.done():
            waiter.granted.set_exception(error)

    def _check(self, waiter: Waiter, number: int, ahead: int, *, since: float) -> None:
        """Refuse a caller that is one too many, or waits in vain by a log seen after `since`."""
        if number > self.most:
            reason = f"{number - 1} callers wait for a slot of the quota, and no more may"
            raise self._no_slot(waiter.lane, reason, ahead)
        sight = self.sight
        if sight is None or sight.at < since:
            return
        now = _now()
        free_at = sight.outlook.foresee(waiter.lane, now, self._before(sight, waiter.lane, ahead))
        if free_at - now > waiter.timeout:
            raise self._late(waiter, ahead)

    def _late(self, waiter: Waiter, ahead: int) -> QuotaExhaustedError:
        quota = self.quota
        reason = (
            f"no slot of the quota ({quota.limit} calls in {quota.period:g} s) comes free for "
            f"{waiter.lane} within {waiter.timeout:g} s; {self.count.taken} are taken"
        )
        return self._no_slot(waiter.lane, reason, ahead)

    def _no_slot(self, lane: Lane, reason: str, ahead: int) -> QuotaExhaustedError:
        if (sight := self.sight) is None:
            return QuotaExhaustedError(reason)
        now = _now()
        before = self._before(sight, lane, ahead)
        back_at = self.promises.make(sight.outlook, lane, now, before)
        return QuotaExhaustedError(reason, retry_after=back_at - now)

    def _before(self, sight: _Sight, lane: Lane, ahead: int) -> dict[Lane, int]:
        """Return how many wait in each lane, with `ahead` of this process in the own one."""
        here = {each: line.staying for each, line in self._lines.items()} | {lane: ahead}
        return {each: here[each] + sight.others[each] for each in Lane}

    def _look(
        self,
        capacity: int,
        frees: Sequence[Sequence[int]],
        starts: Sequence[int],
        others: Sequence[int],
    ) -> _Sight:
        now = _now()
        outlook = Outlook(
            quota=self.quota,
            capacity=capacity,
            frees_at={
                lane: [now + left / MICRO for left in times]
                for lane, times in zip((*Lane, None), frees, strict=True)
            },
            next_start={lane: now + left / MICRO for lane, left in zip(Lane, starts, strict=True)},
        )
        return _Sight(now, outlook, dict(zip(Lane, others, strict=True)))

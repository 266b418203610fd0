"""Logs of the quota, filled as a test needs them."""

from __future__ import annotations

from collections.abc import Sequence

from wxpay_async.policy.lanes import Lane, Quota
from wxpay_async.policy.quota import Lease, SlidingWindowLog, SlotOutcome

TICK = 1e-6
MACHINES = [lane for lane in Lane if lane is not Lane.PEOPLE]

LONG = Quota(lease=9000.0)
"""A quota whose slots stay taken while a test fills them at their pace."""
LATER = 5000.0


def take_many(
    log: SlidingWindowLog, count: int, now: float, lane: Lane = Lane.PEOPLE
) -> list[Lease]:
    """Take slots until refused, `count` at most."""
    leases = (log.take(lane, now) for _ in range(count))
    return [lease for lease in leases if lease is not None]


def take_evenly(log: SlidingWindowLog, count: int, lane: Lane, since: float = 0.0) -> list[Lease]:
    """Take slots at the pace of the lane until refused, `count` at most."""
    step = log.quota.interval(lane, log.quota.limit) + TICK
    leases = (log.take(lane, since + number * step) for number in range(count))
    return [lease for lease in leases if lease is not None]


def end_all(log: SlidingWindowLog, leases: Sequence[Lease], now: float) -> None:
    """Report all calls as answered."""
    for lease in leases:
        log.end(lease, SlotOutcome.ANSWERED, now)


def full_log(now: float = 0.0) -> SlidingWindowLog:
    """Return a log whose 400 slots were all answered at `now`."""
    log = SlidingWindowLog()
    end_all(log, take_many(log, 400, now), now)
    return log

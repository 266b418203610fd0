"""The platform's quota in numbers, and the lanes of those who share it (`money-safety.md` §6)."""

from __future__ import annotations

import enum
from typing import Final, cast

import attrs

from wxpay_async.errors import InvalidRequestError
from wxpay_async.protocol.validators import check_number, number


class Lane(enum.StrEnum):
    """What kind of caller waits for the call, in the order in which they get a free slot.

    Attributes:
        PEOPLE: a person with a phone in hand; the call is worthless after half a minute.
        RESOLVING: doubts, and verified callbacks.
        POLLING: watching whether an order is paid.
        BATCH: what has a day.
        UNVERIFIED: the query behind a callback without a signature.
    """

    __hash__ = str.__hash__  # Enum's is written in Python, and every call looks its lane up

    PEOPLE = "people"
    RESOLVING = "resolving"
    POLLING = "polling"
    BATCH = "batch"
    UNVERIFIED = "unverified"

    @property
    def earlier(self) -> tuple[Lane, ...]:
        """The lanes that get a free slot before this one."""
        return _EARLIER[self]


_EARLIER: Final = {lane: tuple(Lane)[:place] for place, lane in enumerate(Lane)}
_ABOVE_0: Final = number("seconds, above 0", above=True)
_FROM_0: Final = number("seconds, 0 or above")
MACHINES: Final = tuple(lane for lane in Lane if lane is not Lane.PEOPLE)


def _default_batch(quota: Quota) -> int:
    # What is no number is refused by the limit's own check, which comes after this.
    return max(1, quota.limit * 95 // 100) if isinstance(cast("object", quota.limit), int) else 1


def _check_batch(quota: Quota, _: object, batch: int) -> None:
    check_number(batch, "batch", f"1 to {quota.limit} calls", least=1, whole=True)
    if batch > quota.limit:
        raise InvalidRequestError(
            f"{batch} of {quota.limit} calls", field="batch", allowed=f"1 to {quota.limit}"
        )


@attrs.frozen(kw_only=True)
class Quota:
    """The numbers of the platform's quota and of our distance to it. Times are seconds.

    Attributes:
        limit: calls in any period.
        batch: how many of them a batch may use, and all lanes but people's together; the rest is
            for people.
        period: the window in which the platform counts.
        margin: held longer than the period, for clocks of different speed.
        doubt: how long a call that was given up may still take to arrive.
        lease: after this a call whose end was not reported counts as given up. It must outlast all
            that holds a slot, or the quota does not hold: with the default `Timeouts` a call may
            wait 30 s for a connection, and the lease of its claim ends 45 s later.
    """

    limit: int = attrs.field(
        default=400, validator=number("a whole number, 1 or above", least=1, whole=True)
    )
    batch: int = attrs.field(
        default=attrs.Factory(_default_batch, takes_self=True), validator=_check_batch
    )
    period: float = attrs.field(default=60.0, validator=_ABOVE_0)
    margin: float = attrs.field(default=0.25, validator=_FROM_0)
    doubt: float = attrs.field(default=15.0, validator=_FROM_0)
    lease: float = attrs.field(default=75.0, validator=_ABOVE_0)

    @property
    def answered_for(self) -> float:
        """Seconds for which a slot stays taken after the answer."""
        return self.period + self.margin

    @property
    def doubtful_for(self) -> float:
        """Seconds for which a slot stays taken after the call was given up."""
        return self.answered_for + self.doubt

    @property
    def leased_for(self) -> float:
        """Seconds for which a slot is taken from the start, unless its end is reported."""
        return self.doubtful_for + self.lease

    @property
    def recovery(self) -> int:
        """Calls by which the pace grows each minute after it was slowed."""
        return max(1, self.limit * 5 // 100)

    @property
    def people_keep(self) -> int:
        """Slots that people may hold however slow the pace is, while the quota has a free one."""
        return max(1, self.limit // 2)

    def share(self, lane: Lane) -> int:
        """Return how many slots a lane may hold, where the pace is not reduced."""
        if lane is Lane.PEOPLE:
            return self.limit
        if lane is Lane.BATCH:
            return self.batch
        part = self.limit // 20 if lane is Lane.UNVERIFIED else self.limit // 4
        return max(1, min(part, self.batch))

    def share_of(self, lane: Lane, capacity: int) -> int:
        """Return how many of the slots that can be taken now a lane may hold."""
        return max(1, capacity * self.share(lane) // self.limit)

    def room(self, lane: Lane, capacity: int, *, others: int) -> int:
        """Return how many slots must not be taken yet for a call of the lane to go.

        Args:
            lane: the call's.
            capacity: how many slots can be taken now.
            others: how many are taken, those of people left out.
        """
        if lane is not Lane.PEOPLE:
            return capacity
        return max(capacity, min(self.limit, others + self.people_keep))

    def interval(self, lane: Lane, capacity: int) -> float:
        """Return the seconds between two starts of a lane, 0 for people."""
        return 0.0 if lane is Lane.PEOPLE else self.period / self.share_of(lane, capacity)

    def interval_of_machines(self, capacity: int, *, people: int) -> float:
        """Return the seconds between two starts of machines of whatever lane.

        They leave alone what people hold, whose slots go to the next people. Else both together
        fill the quota before the minute is over, and then no caller finds a slot until it is. A few
        slots are not left alone, so that the quota is used; nor is more than half of it.

        Args:
            capacity: how many slots can be taken now.
            people: how many of them people hold.
        """
        left = max(capacity - people + self.limit // 20, capacity // 2)
        return self.period / min(self.share_of(Lane.BATCH, capacity), max(1, left))


def next_due(due: float, now: float, interval: float, calls: int = 1) -> float:
    """Return when a call is due that is so many behind one that starts now, and was due before.

    What starts late by less than an interval does not delay those behind it: else each wait on the
    way would slow the pace. After a longer pause nothing is caught up.
    """
    return (due if now - due < interval else now) + calls * interval

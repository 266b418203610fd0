"""Decide which call and which callback meets which fault. No I/O.

The rules are in `faults`. Callbacks differ in one thing: the faults of several kinds combine, so
that one callback can be late, doubled and out of order at once.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from attrs import define, field, frozen

from wxpay_async.errors import InvalidRequestError
from wxpay_async.sandbox.fault_kinds import FaultKind, Forgery, Operation, Place
from wxpay_async.sandbox.faults import Fault


@frozen(kw_only=True)
class CallbackFault:
    """The faults of one callback.

    Attributes:
        lost: whether it is never sent.
        copies: how many are sent at once; 1 is normal.
        stale: seconds by which its timestamp is too old, as if it had been on its way that long.
        pause: seconds for which its first delivery really waits.
        forgery: the forgery that is sent before it, if any.
        held: whether it waits for a later one.
        releases: whether it and the callbacks held before it are sent now, the last first.
    """

    lost: bool = False
    copies: int = 1
    stale: float = 0.0
    pause: float = 0.0
    forgery: Forgery | None = None
    held: bool = False
    releases: bool = False


@define(eq=False)
class OrderedFault:
    """A fault that was ordered, and how often it met something.

    Attributes:
        number: counts from 1, in the order in which they were ordered.
        fault: what happens.
        seen: how many calls or callbacks reached it.
        happened: to how many of them it happened.
    """

    number: int
    fault: Fault
    _random: random.Random = field(repr=False)
    seen: int = field(init=False, default=0)
    happened: int = field(init=False, default=0)

    @property
    def is_over(self) -> bool:
        """Whether it will not happen again."""
        return self.fault.times is not None and self.happened >= self.fault.times

    def meet(self, operation: str) -> bool:
        """Tell whether it happens to a call of an operation; a callback's is empty."""
        fault = self.fault
        if fault.operation not in ("", operation):
            return False
        self.seen += 1
        number = self.seen - fault.after
        happens = (
            number > 0
            and number % fault.every == 0
            and (fault.chance >= 1.0 or self._random.random() < fault.chance)
        )
        self.happened += happens
        return happens


@define(eq=False)
class Faults:
    """The faults that are ordered. While there is none, nothing goes wrong.

    Attributes:
        seed: what chance is drawn from.
        injected: how many faults happened, by kind.
    """

    seed: int = 0
    injected: Counter[FaultKind] = field(init=False, factory=Counter[FaultKind])
    _ordered: dict[int, OrderedFault] = field(init=False, factory=dict[int, OrderedFault])
    _last_number: int = field(init=False, default=0)
    _group: int = field(init=False, default=0)  # callbacks that complete a reordered group

    def inject(self, fault: Fault) -> int:
        """Order a fault; several are tried in their order.

        Returns:
            Its number, for `clear`.
        """
        self._last_number += 1
        number = self._last_number
        # Each draws for itself, so that another fault does not change when this one happens.
        drawn = random.Random(f"{self.seed}/{number}")  # noqa: S311 - repeatable, not secret
        self._ordered[number] = OrderedFault(number, fault, drawn)
        return number

    def inject_all(self, faults: Iterable[Fault]) -> None:
        """Order several faults."""
        for fault in faults:
            self.inject(fault)

    def list_ordered(self) -> list[OrderedFault]:
        """Return the faults that may still happen, in their order."""
        return list(self._ordered.values())

    def clear(self, number: int | None = None) -> None:
        """Take a fault back, or all of them.

        Raises:
            InvalidRequestError: there is no fault of this number.
        """
        if number is None:
            self._ordered.clear()
        elif self._ordered.pop(number, None) is None:
            numbers = ", ".join(map(str, self._ordered)) or "none: no fault is ordered"
            raise InvalidRequestError(f"{number}", field="number", allowed=numbers)

    def take(self, place: Place, operation: Operation) -> Fault | None:
        """Return the fault that a call meets at a place; None if it meets none."""
        for ordered in self.list_ordered():
            if ordered.fault.place is place and self._meet(ordered, operation):
                return ordered.fault
        return None

    def take_callback_fault(self, own: Fault | None = None) -> CallbackFault:
        """Return the faults of the next callback: of each kind the first that happens.

        Args:
            own: a fault of this callback alone, which wins over others of its kind.
        """
        found: dict[FaultKind, Fault] = {own.kind: own} if own else {}
        for ordered in self.list_ordered():
            kind = ordered.fault.kind
            if ordered.fault.place is not Place.CALLBACK or kind in found:
                continue
            if kind is FaultKind.CALLBACK_REORDERED and self._group:
                continue  # it joins the group that is not complete yet
            if self._meet(ordered, ""):
                found[kind] = ordered.fault
        return CallbackFault(**{**_combine(found), **self._join_group(found)})

    def _meet(self, ordered: OrderedFault, operation: str) -> bool:
        happens = ordered.meet(operation)
        if happens:
            self.injected[ordered.fault.kind] += 1
        if ordered.is_over:
            self._ordered.pop(ordered.number, None)  # another thread may have cleared it
        return happens

    def _join_group(self, found: Mapping[FaultKind, Fault]) -> dict[str, Any]:
        if FaultKind.CALLBACK_LOST in found:
            return {}
        if self._group:
            self._group -= 1
            return {"releases": True} if self._group == 0 else {"held": True}
        if FaultKind.CALLBACK_REORDERED in found:
            self._group = found[FaultKind.CALLBACK_REORDERED].size - 1
            return {"held": True}
        return {}


def _combine(found: Mapping[FaultKind, Fault]) -> dict[str, Any]:
    """Return the attributes of `CallbackFault` that the faults change."""
    changes: dict[str, Any] = {}
    for kind, fault in found.items():
        match kind:
            case FaultKind.CALLBACK_LOST:
                changes["lost"] = True
            case FaultKind.CALLBACK_DOUBLED:
                changes["copies"] = fault.copies
            case FaultKind.CALLBACK_STALE:
                changes["stale"] = fault.seconds
            case FaultKind.CALLBACK_LATE:
                changes["pause"] = fault.seconds
            case FaultKind.CALLBACK_FORGED:
                changes["forgery"] = fault.forgery
            case _:  # reordered, or none of a callback
                pass
    return changes

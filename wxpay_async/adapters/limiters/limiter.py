"""The protocol of a limiter, which gives each call a slot of the platform's quota.

Usage, once for each attempt. Only the first report counts: the last line covers what no other line
reported.

    slot = await limiter.acquire(Lane.PEOPLE, timeout=remaining)
    try:
        response = await transport.send(request, timeout=timeouts)
        await slot.answered()
    except NotSentError:
        await slot.unsent()
        raise
    finally:
        await slot.doubtful()
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Final, Protocol

import attrs

from wxpay_async.policy.lanes import Lane, Quota
from wxpay_async.policy.quota import Slowed

__all__ = ["Lane", "Limiter", "Quota", "Slot", "Slowed", "Unlimited"]


class Slot(Protocol):
    """One call's permission to go. It ends once; a report after the first changes nothing.

    No report raises: a payment must not fail because its slot could not be given back. A slot that
    is never reported stays taken until its lease is over.
    """

    async def answered(self) -> None:
        """Report that the platform answered, whatever it said: taken for 60.25 s from now."""
        ...

    async def doubtful(self) -> None:
        """Report that the call was given up and may still arrive: taken for 75.25 s from now."""
        ...

    async def unsent(self) -> None:
        """Report proof that no byte of the call arrived: free at once."""
        ...


class Limiter(Protocol):
    """Keeps the calls of one appKey within the platform's quota. Wrap one to add behaviour.

    Within a lane, slots are given first come, first served; a free slot goes to the lanes in their
    order. All lanes but people's have a share and an even pace, so that no crowd of machines keeps
    people out: see `policy/quota.py`.

    If a limiter has an attribute `in_use` (the slots that are taken, or None), hooks get its value.
    The limiters of this package also tell with `held()` how many slots each lane holds, and give
    with `acquire_now(lane)` a slot that is free already, or None.
    """

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:
        """Wait for a slot. A caller that is cancelled takes none.

        Args:
            lane: what kind of caller waits.
            timeout: the longest wait in seconds.

        Raises:
            QuotaExhaustedError: no slot comes free in time, or too many callers wait. It is raised
                as soon as that can be foreseen, and tells when to come back.
            NotSentError: the quota's store cannot be reached.
        """
        ...

    async def throttled(self) -> None:
        """Slow down: the platform refused a call for too many calls (CO_MSG_000007, HTTP 429).

        Report the call's slot as answered too. Machines pause until enough of the window is free.
        """
        ...

    async def aclose(self) -> None:
        """Release connections. May be called twice; `acquire` opens new ones."""
        ...


AcquireNow = Callable[[Lane], Awaitable[Slot | None]]


def find_acquire_now(limiter: Limiter) -> AcquireNow | None:
    """Return the limiter's way to take a slot that is free now.

    Returns:
        None if it has none, or if a subclass changed `acquire` alone: what it adds must not be
        passed by.
    """
    for kind in type(limiter).__mro__:
        if "acquire_now" in vars(kind):
            known: AcquireNow | None = getattr(limiter, "acquire_now", None)
            return known
        if "acquire" in vars(kind):
            break
    return None


@attrs.frozen
class _NoSlot:
    async def answered(self) -> None: ...

    async def doubtful(self) -> None: ...

    async def unsent(self) -> None: ...


_NO_SLOT: Final = _NoSlot()


@attrs.frozen
class Unlimited:
    """Lets every call go at once: for a sandbox, or where something else keeps the quota."""

    async def acquire(self, lane: Lane, *, timeout: float) -> Slot:  # noqa: ARG002 - the protocol's
        """Return the slot that all calls share."""
        return _NO_SLOT

    async def acquire_now(self, lane: Lane) -> Slot:  # noqa: ARG002 - the protocol's
        """Return the slot that all calls share."""
        return _NO_SLOT

    async def throttled(self) -> None:
        """Change nothing; the retry policy waits."""

    async def aclose(self) -> None:
        """Release nothing."""

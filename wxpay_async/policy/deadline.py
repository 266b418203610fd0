"""The time that a call has left, as one value that is handed to everything that waits."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from attrs import field, frozen

_ON_THE_WAY: Final = 0.5
"""Seconds that may pass between the caller's `timeout=` and the first attempt of the call."""


@frozen
class Deadline:
    """A moment by which something must be over.

    Attributes:
        at: seconds by `monotonic`.
        monotonic: the clock, whose seconds only grow.
        attempt: seconds that must be left for an attempt to start.
    """

    at: float
    monotonic: Callable[[], float] = field(repr=False)
    attempt: float = 0.0

    @classmethod
    def after(
        cls, seconds: float, monotonic: Callable[[], float], *, attempt: float = 0.0
    ) -> Deadline:
        """Return the moment so many seconds from now.

        Args:
            seconds: how long, from now.
            monotonic: the clock.
            attempt: seconds that one attempt needs. Where the whole call has hardly more, the first
                attempt may start although a moment of it has passed.
        """
        return cls(monotonic() + seconds, monotonic, min(attempt, seconds - _ON_THE_WAY))

    def remaining(self) -> float:
        """Return the seconds that are left; negative when it is over."""
        return self.at - self.monotonic()

    def until_start(self) -> float:
        """Return the seconds until the last moment at which an attempt may start."""
        return self.at - self.monotonic() - self.attempt

    def capped(self, seconds: float) -> Deadline:
        """Return this moment, or the one so many seconds from now if that comes first."""
        return Deadline(min(self.at, self.monotonic() + seconds), self.monotonic, self.attempt)

    def allows_attempt(self, pause: float = 0.0) -> bool:
        """Tell whether an attempt may start after a pause of so many seconds."""
        return self.until_start() >= pause

"""Check that the time of a store's server is known, whatever this host's clock does."""

from __future__ import annotations

import pytest
from attrs import define

from wxpay_async.adapters.stores.server_clock import MEASURED_FOR, ServerClock


@define
class Host:
    """The clocks of a host."""

    wall: float = 1000.0
    monotonic: float = 50.0

    def clock(self) -> ServerClock:
        """Return what knows the server's time from this host."""
        return ServerClock(wall=lambda: self.wall, monotonic=lambda: self.monotonic)

    def pass_time(self, seconds: float) -> None:
        """Let time go by."""
        self.wall += seconds
        self.monotonic += seconds


def test_nothing_is_known_before_the_server_was_asked() -> None:
    """Neither the difference, nor how old it is."""
    clock = Host().clock()

    assert (None, True) == (clock.ahead, clock.stale)


def test_answer_counts_for_the_middle_of_its_round_trip() -> None:
    """The way there and the way back take the same time, as far as one knows."""
    host = Host()
    clock = host.clock()
    host.pass_time(2.0)
    clock.measured(50.0, 52.0, server=1031.0)

    assert pytest.approx(30.0) == clock.ahead


def test_step_of_the_host_changes_nothing() -> None:
    """A host that is put forward by a minute still knows what the server's clock shows."""
    host = Host()
    clock = host.clock()
    clock.measured(50.0, 50.0, server=1000.0)
    host.pass_time(10.0)
    host.wall += 60.0

    assert clock.ahead is not None
    assert pytest.approx(1010.0) == host.wall + clock.ahead


def test_measurement_is_repeated_now_and_then() -> None:
    """Clocks part by a little."""
    host = Host()
    clock = host.clock()
    clock.measured(50.0, 50.0, server=1000.0)
    assert not clock.stale
    host.pass_time(MEASURED_FOR + 1.0)

    assert clock.stale

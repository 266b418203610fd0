"""A thousand taps at once, in virtual time, and a limiter that promises too much."""

from __future__ import annotations

import pytest

from tests.chaos import taps
from tests.support.clock import loop_time, run_virtual
from wxpay_async import QuotaExhaustedError


def test_taps_are_paid_at_once_or_when_they_were_told_to_come_again() -> None:
    """Half of the quota goes at once; nobody is told a moment that is 2 s wrong."""
    figures = run_virtual(taps.run(loop_time))

    assert figures.are_right(), figures.show()


@pytest.mark.parametrize("wrong_by", [-3.0, 3.0])
def test_taps_that_were_told_a_wrong_moment_are_caught(
    wrong_by: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Too early or too late by 3 s."""
    told = QuotaExhaustedError.__init__

    def tell(self: QuotaExhaustedError, reason: str, *, retry_after: float = 0.0) -> None:
        told(self, reason, retry_after=retry_after + wrong_by)

    monkeypatch.setattr(QuotaExhaustedError, "__init__", tell)

    assert not run_virtual(taps.run(loop_time)).are_right()

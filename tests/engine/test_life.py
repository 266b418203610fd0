"""Random lives of operations over networks, crashes and pauses, against a model of the platform."""

from __future__ import annotations

from typing import Final

import attrs
import pytest
from hypothesis import HealthCheck, settings

from tests.engine.life import EXPIRY, Net
from tests.engine.life_machine import WRONGS, Life, live, send
from tests.support.examples import count_examples
from wxpay_async.policy import resolution
from wxpay_async.policy.record import IdempotencyRecord

EXAMPLES: Final = count_examples(quick=20, full=100)

TestLife = Life.TestCase
TestLife.settings = settings(
    max_examples=EXAMPLES,
    derandomize=EXAMPLES <= 100,  # CI walks the same paths each time; longer runs look for new ones
    stateful_step_count=30,
    deadline=None,
    suppress_health_check=list(HealthCheck),
)


def test_lives_claim_both_ways() -> None:
    """Where a slot is free at once, the first attempt is claimed as it is reserved."""
    with live() as life:
        send(life, "refund", Net.ANSWERED)
        send(life, "trade", Net.ANSWERED, queues=True)
        assert {"one commit": 1, "two commits": 1} == life.store.ways
        send(life, "again", Net.UNSENT)
        assert {"one commit": 2, "two commits": 3} == life.store.ways


def run_late_arrival(operation: str, wrong_by: float | None = None) -> None:
    """Delay a request by minutes, ask each minute what became of it, and let it arrive."""
    with live(in_process=True) as life:
        send(life, operation, Net.DELAYED, Net.ANSWERED)
        life.keep_asking(at=0, times=3, wrong_by=wrong_by)
        life.what_was_denied_never_happens()
        life.records_agree_with_the_platform()


@pytest.mark.parametrize("operation", ["refund", "trade"])
@pytest.mark.parametrize("wrong_by", [None, *WRONGS])
def test_request_that_arrives_minutes_late_was_never_denied(
    operation: str, wrong_by: float | None
) -> None:
    """Two minutes in which a query finds nothing prove nothing.

    Not even where the request was sent once more, by a clock that was put wrong meanwhile.
    """
    run_late_arrival(operation, wrong_by)


@pytest.mark.parametrize("operation", ["refund", "trade"])
@pytest.mark.parametrize("seconds", [0.0, 60.0])
def test_machine_catches_a_quarantine_that_is_too_short(
    operation: str, seconds: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Absence is taken for proof at once, or after a minute."""
    monkeypatch.setattr(resolution, "QUARANTINE", seconds)

    with pytest.raises(AssertionError, match=r"told NotExecutedError|not_executed"):
        run_late_arrival(operation)


@pytest.mark.parametrize("operation", ["refund", "trade"])
def test_machine_catches_a_quarantine_from_the_last_timestamp(
    operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was signed before the clock was put back is forgotten."""
    claimed = IdempotencyRecord.with_claim

    def forget(
        self: IdempotencyRecord, *, now: float, signed_at: int, lease: float, token: str | None
    ) -> IdempotencyRecord:
        after = claimed(self, now=now, signed_at=signed_at, lease=lease, token=token)
        return attrs.evolve(after, signed_at=signed_at)

    monkeypatch.setattr(IdempotencyRecord, "with_claim", forget)

    with pytest.raises(AssertionError, match=r"told NotExecutedError|not_executed"):
        run_late_arrival(operation, -600.0)


def test_quarantine_covers_a_platform_that_is_late_and_tells_no_time() -> None:
    """At 250 s behind us it takes a request for 550 s, and the quarantine is longer."""
    assert EXPIRY + 250.0 < resolution.QUARANTINE

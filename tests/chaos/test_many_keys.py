"""The short form of the simulation of many appKeys, and what it must catch."""

from __future__ import annotations

from typing import Any

import attrs
import pytest

from tests.chaos import many_keys
from tests.chaos.many_keys import Figures, Plan

FEW = Plan(keys=12, busy=4, batches=2, processes=1)


def run(plan: Plan, minutes: float = 3.0) -> Figures:
    """Run the first process of a plan."""
    return plan.run_process(0, minutes=minutes, seed=1)


def test_each_app_key_has_a_quota_of_its_own() -> None:
    """No appKey makes over 400 calls in any 60 s, all together make more; no person fails."""
    figures = run(FEW)

    assert 400 == figures.peak
    assert figures.calls > 2 * 380 * 3
    assert 0 == figures.failures
    assert {"busy, batch", "busy", "quiet, batch", "quiet"} == set(figures.waits)


def test_people_wait_where_a_process_has_more_to_do_than_it_can() -> None:
    """The waits count the time until the core is free, not only that until there is a slot."""
    quick = run(attrs.evolve(FEW, batches=0))
    slow = run(attrs.evolve(FEW, batches=0, cpu=300_000.0))

    assert max(quick.everybody) < 0.1
    assert max(slow.everybody) > 5.0
    assert slow.busiest > 0.99
    assert not slow.held


async def test_processes_share_the_app_keys_evenly() -> None:
    """Two processes have every appKey between them, half of each kind each."""
    plan = attrs.evolve(FEW, processes=2)
    halves = [[each.kind for each in plan.app_keys_of(number, 1)] for number in range(2)]

    assert [6, 6] == [len(half) for half in halves]
    assert [2, 2] == [sum(kind.startswith("busy") for kind in half) for half in halves]


def test_limiter_that_exceeds_one_quota_is_caught() -> None:
    """The peak is that of the worst appKey."""
    figures = run(attrs.evolve(FEW, limiter="sending-log", latency="heavy-tail"))

    assert figures.peak > 400
    assert not figures.held


@pytest.mark.parametrize(
    ("change", "held"),
    [
        ({}, True),
        ({"failures": 1}, False),
        ({"peak": 401}, False),
        ({"least_use": 0.91}, False),
        ({"waits": {"busy": [0.0] * 94, "quiet": [2.5] * 6}}, False),
        ({"waits": {"busy": [0.0] * 98, "quiet": [5.5] * 2}}, False),
    ],
)
def test_figures_hold_or_not(change: dict[str, Any], *, held: bool) -> None:
    """One failure, one call too many, a slow twentieth of all people is red."""
    fine = Figures(
        waits={"busy": [0.0] * 94, "quiet": [1.9] * 4 + [4.0] * 2},
        failures=0,
        calls=100,
        peak=400,
        least_use=0.92,
        busiest=0.5,
    )

    assert held == attrs.evolve(fine, **change).held


def test_figures_of_processes_are_added() -> None:
    """People, failures and calls are added; of the rest the worst counts."""
    first = Figures(waits={"busy": [1.0]}, failures=1, calls=10, peak=3, least_use=0.9, busiest=0.2)
    second = Figures(
        waits={"busy": [2.0], "quiet": [3.0]},
        failures=2,
        calls=20,
        peak=4,
        least_use=0.8,
        busiest=0.3,
    )

    assert Figures(
        waits={"busy": [1.0, 2.0], "quiet": [3.0]},
        failures=3,
        calls=30,
        peak=4,
        least_use=0.8,
        busiest=0.3,
    ) == Figures.add([first, second])


@pytest.mark.slow
@pytest.mark.parametrize(("cpu", "status"), [("1000", 0), ("250000", 1)])
def test_exit_status_is_the_verdict(
    cpu: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script tells a machine what it shows to people."""
    few = ["--keys", "12", "--busy", "8", "--batches", "0", "--processes", "2", "--minutes", "4"]

    assert status == many_keys.main([*few, "--cpu", cpu, "--seed", "5"])
    assert "seed 5" in capsys.readouterr().out

"""The short form of the quota harness, virtual and real, and the limiters that it must catch."""

from __future__ import annotations

import argparse
import random
import subprocess
import sys
from collections import Counter
from typing import Any

import attrs
import pytest

from tests.chaos import people, people_real, quota, quota_real
from tests.support.services import REDIS, require
from tests.support.vectors import ROOT
from wxpay_async.policy.lanes import Lane, Quota


@pytest.mark.parametrize(
    ("profile", "hours"),
    [
        ("uniform", 0.25),
        *(pytest.param(each, 0.5, marks=pytest.mark.slow) for each in quota.PROFILES),
    ],
)
def test_interval_log_keeps_and_uses_the_quota(profile: str, hours: float) -> None:
    """No platform can count over 400 in any 60 s, and 98.5 % of the quota is used."""
    figures = quota.simulate("interval", profile, hours=hours, seed=1)

    assert 400 == figures.peak
    assert figures.use >= 0.985


@pytest.mark.parametrize("profile", quota.PROFILES)
@pytest.mark.parametrize("limiter", ["sending-log", "token-bucket", "gcra"])
def test_other_limiters_are_caught(limiter: str, profile: str) -> None:
    """The harness sees that they exceed the quota; the first is our own with its rule broken."""
    figures = quota.simulate(limiter, profile, hours=0.1, seed=1)

    assert figures.peak > 400
    assert not figures.held


@pytest.mark.parametrize(("limiter", "status"), [("interval", 0), ("sending-log", 1)])
def test_exit_status_is_the_verdict(
    limiter: str, status: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """The script tells a machine what it shows to people."""
    arguments = ["--hours", "0.2", "--profile", "constant", "--limiter", limiter, "--seed", "5"]

    assert status == quota.main(arguments)
    assert "seed 5" in capsys.readouterr().out


@pytest.mark.slow
@pytest.mark.parametrize("beside", people.CROWDS)
def test_people_never_wait_behind_machines(beside: str) -> None:
    """Beside any crowd nobody who pays fails, and 95 of 100 wait 2 s at most."""
    figures = people.simulate(beside, "uniform", minutes=6, seed=1)

    assert 0 == figures.failures
    assert figures.p95 <= 2.0
    assert figures.p99 <= 5.0
    assert figures.peak <= 400


@pytest.mark.slow
@pytest.mark.parametrize("beside", people.FULL)
def test_even_pace_uses_the_quota(beside: str) -> None:
    """People and a batch that has work use 97 % together, in the worst of the latencies."""
    assert people.simulate(beside, "heavy-tail", minutes=10, seed=2).use >= 0.97


def test_receiver_counts_calls_after_the_first_minute_and_failures_always(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """All calls count for the peak; a person who failed counts from the first second on."""
    now, receiver = 1000.0, people_real.Receiver(random.Random(1))
    monkeypatch.setattr(people_real.time, "monotonic", lambda: now)
    for line in ("batch 0.0 0", "people 9.0 0", "failed"):
        receiver.note(line)
    now += 60.0
    for line in ("batch 0.5 7", "people 0.25 2", "failed"):
        receiver.note(line)
    figures = people_real._figures(receiver, "batch", 120.0)

    assert (4, 2) == (figures.peak, figures.failures)
    assert ([0.25], 9) == (figures.waits, figures.refused)
    assert {Lane.BATCH: 1, Lane.PEOPLE: 1} == figures.lanes
    assert figures.use == pytest.approx(2 / 400)


@pytest.mark.parametrize(
    ("change", "held"),
    [
        ({}, True),
        ({"failures": 1}, False),
        ({"use": 0.969}, False),
        ({"use": 0.5, "beside": "polls"}, True),
        ({"peak": 401}, False),
        ({"waits": [0.0] * 94 + [2.5] * 6}, False),
        ({"waits": [0.0] * 98 + [5.5] * 2}, False),
    ],
)
def test_people_figures_hold_or_not(change: dict[str, Any], *, held: bool) -> None:
    """One failure, one call too many, or a slow twentieth is red; a crowd of pages uses little."""
    fine = people.Figures(
        waits=[0.0] * 94 + [1.9] * 4 + [4.0] * 2,
        failures=0,
        use=0.97,
        peak=400,
        lanes=Counter(),
        refused=0,
        beside="batch",
    )

    assert held == attrs.evolve(fine, **change).held


def test_crowd_without_a_pace_is_caught(monkeypatch: pytest.MonkeyPatch) -> None:
    """The harness sees what people went through when a batch took its share in one burst."""
    monkeypatch.setattr(Quota, "interval", lambda *_: 0.0)
    monkeypatch.setattr(Quota, "interval_of_machines", lambda *_, **__: 0.0)
    figures = people.simulate("batch", "uniform", minutes=6, seed=1)

    assert figures.p95 > 20.0
    assert not figures.held


def test_peak_counts_both_ends_of_the_window() -> None:
    """Two calls exactly 60 s apart share a window; the slightest bit more, and they do not."""
    assert 2 == quota.peak([(0.0, 0.0), (60.0, 60.0)])
    assert 1 == quota.peak([(0.0, 0.0), (60.001, 60.001)])
    assert 2 == quota.peak([(0.0, 0.002), (60.001, 61.0)])
    assert 0 == quota.peak([])


def _real_quota(*arguments: str) -> tuple[int, str]:
    """Count for five seconds, in windows of two; the full size takes minutes."""
    redis = ["--redis", require(REDIS)]
    # On a busy machine only the first rush fits into so short a time.
    short = ["--seconds", "5", "--period", "2", "--least-use", "0.4", "--seed", "1"]
    command = [sys.executable, "-m", "tests.chaos.quota", "--real", *redis, *short, *arguments]
    done = subprocess.run(  # noqa: PLW1510 - the status is what the tests look at
        command, capture_output=True, text=True, timeout=120, cwd=ROOT
    )
    return done.returncode, done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("processes", [["1"], ["3", "--kill-one"]], ids=" ".join)
def test_processes_share_the_quota(processes: list[str]) -> None:
    """The receiver never counts over 400 calls in a window, and counts the first 400."""
    status, printed = _real_quota("--processes", *processes)

    assert 0 == status, printed


@pytest.mark.slow
@pytest.mark.parametrize("limiter", ["token-bucket", "sending-log"])
def test_the_receiver_catches_other_limiters(limiter: str) -> None:
    """What 400 calls a window means to a bucket, or to a log of sending times, is too many.

    On a slow machine so few calls may be late that a short run shows nothing: there are five.
    """
    for seed in range(1, 6):
        status, printed = _real_quota("--processes", "1", "--limiter", limiter, "--seed", str(seed))
        if status:
            break

    assert 1 == status, printed
    assert "RED" in printed


@pytest.mark.parametrize(
    ("processes", "use", "held"), [(1, 0.98, False), (1, 0.985, True), (4, 0.97, True)]
)
def test_one_process_must_use_more_of_the_quota_than_several(
    processes: int, use: float, *, held: bool
) -> None:
    """98.5 % in one process, 97 % in several."""
    moments = [float(n // 400 * 61) for n in range(round(400 * 3 * use) + 1)]
    options = argparse.Namespace(seconds=180.0, period=60.0, processes=processes, least_use=None)

    assert held == quota_real._figures(moments, options).held
